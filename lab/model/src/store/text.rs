//! Payloads as text: `|` is a zero byte, as docs/misc/xenstore.txt writes it; `\xNN` is any other byte that cannot be shown.

/// Bytes, as text that [`bytes`] reads back.
pub fn show(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            0 => text.push('|'),
            b'|' | b'\\' | b'{' | b'}' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            0x20..=0x7e => text.push(char::from(byte)),
            _ => text.push_str(&format!("\\x{byte:02x}")),
        }
    }
    text
}

/// The bytes that a text stands for. `{C*N}` is N times the character C.
///
/// # Errors
/// What cannot be read, in words.
pub fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '|' => bytes.push(0),
            '\\' => match rest.as_bytes() {
                [b'x', ..] => {
                    let digits = rest.get(1..3).ok_or("a `\\x` without its two digits")?;
                    bytes.push(
                        u8::from_str_radix(digits, 16)
                            .map_err(|_| format!("`\\x{digits}`, which is no number"))?,
                    );
                    rest = &rest[3..];
                }
                [c @ (b'|' | b'\\' | b'{' | b'}'), ..] => {
                    bytes.push(*c);
                    rest = &rest[1..];
                }
                _ => return Err("a `\\` before something else than x, |, {, } or \\".to_owned()),
            },
            '{' => {
                let (inside, after) = rest.split_once('}').ok_or("a `{` that is not closed")?;
                let (what, times) = inside.split_once('*').ok_or("`{C*N}` without a `*`")?;
                let times: usize = times.parse().map_err(|_| format!("`{times}`, which is no number"))?;
                bytes.extend(what.bytes().cycle().take(what.len() * times));
                rest = after;
            }
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written() {
        assert_eq!(bytes("~/x|one").unwrap(), b"~/x\0one");
        assert_eq!(bytes(r"a\x01\|\\{0*3}{ab*2}").unwrap(), b"a\x01|\\000abab");
        for wrong in [r"\", r"\y", r"\x1", r"\xzz", "{", "{0}", "{0*x}"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(all in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(bytes(&show(&all)).unwrap(), all);
        }
    }
}
