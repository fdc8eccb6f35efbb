//! From a line's bytes to its text: escape sequences taken out, invalid UTF-8 replaced, control characters dropped.

use std::borrow::Cow;

/// The text of one line. The bytes hold no line feed.
///
/// A fresh parser for each line: an escape sequence that a guest leaves open ends with its line and hides nothing after it.
pub(crate) fn clean(bytes: &[u8]) -> Cow<'_, str> {
    // One pass without an early exit, which the compiler turns into vector instructions; nearly every line ends here.
    let control = bytes.iter().fold(false, |any, &b| any | ((b < 0x20) & (b != b'\t')) | (b == 0x7f));
    if !control
        && let Ok(text) = std::str::from_utf8(bytes)
        && (text.is_ascii() || !text.chars().any(|c| c.is_control() && c != '\t'))
    {
        return Cow::Borrowed(text);
    }
    let mut text = Text(String::with_capacity(bytes.len()));
    let mut parser = vte::Parser::new();
    parser.advance(&mut text, bytes);
    // A sequence cut off by the line's end (a lone ESC, half a character) is only pending in the parser; feed what
    // ends it, so that half a character is seen as one that is invalid.
    parser.advance(&mut text, b"\n");
    Cow::Owned(text.0)
}

/// The longest beginning of a text that has at most `bytes` bytes.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Text(String);

impl vte::Perform for Text {
    fn print(&mut self, c: char) {
        // C1 controls that arrive as UTF-8 are "printed" by vte.
        if !c.is_control() {
            self.0.push(c);
        }
    }
    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => self.0.push('\t'),
            // What a terminal would show: the character before is gone.
            0x08 => {
                self.0.pop();
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::clean;
    use std::borrow::Cow;

    #[test]
    fn plain_text_is_borrowed() {
        assert!(matches!(clean(b"plain\ttext \xc3\xa9"), Cow::Borrowed("plain\ttext \u{e9}")));
    }

    #[test]
    fn escapes_and_controls_go() {
        for (raw, want) in [
            (&b"\x1b[0;32m  OK  \x1b[0m done"[..], "  OK   done"),
            (b"\x1b[2J\x1b[01;01Hhello", "hello"),
            (b"\x1b]0;title\x07text", "text"),
            (b"ab\x08c\x7f\x00d\x07", "acd"),
            (b"bad \xff\xfe utf8", "bad \u{fffd}\u{fffd} utf8"),
            (b"half \xc3", "half \u{fffd}"),
            (b"open \x1b[3", "open "),
            (b"osc left open \x1b]0;everything", "osc left open "),
            (b"c1 \xc2\x9b31m", "c1 31m"),
        ] {
            assert_eq!(clean(raw), want, "{raw:?}");
        }
    }
}
