//! Making a guest's text safe to show on a terminal.

use std::fmt::Write;

/// The text with every character that a terminal would act on, or that would change how its neighbours are shown, written
/// as an escape: controls (line feeds too) as `\n`, `\t`, `\x1b`; C1, bidirectional marks and other invisible formatting
/// as `\u{202e}`; a backslash as two, so that nothing is ambiguous.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 || c == '\x7f' => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c if invisible(c) => {
                let _ = write!(out, "\\u{{{:x}}}", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

/// As [`escape`], line by line: line feeds stay, tabs become spaces, backslashes stay single. For blocks that people read.
pub fn escape_lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\\' => out.push(c),
            '\t' => out.push_str("    "),
            c => out.push_str(&escape(c.encode_utf8(&mut [0; 4]))),
        }
    }
    out
}

/// C1 controls, and the format characters (general category Cf) that reorder or hide text.
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shown_as_escapes() {
        assert_eq!(
            escape("a\x1b[31mb\r\n\tc\\ \u{9b} \u{202e}é"),
            "a\\x1b[31mb\\r\\n\\tc\\\\ \\u{9b} \\u{202e}é"
        );
        assert_eq!(escape_lines("a\tb\n\x1b[2Jc\\"), "a    b\n\\x1b[2Jc\\");
    }

    proptest! {
        #[test]
        fn nothing_a_terminal_acts_on_is_left(text in any::<String>()) {
            prop_assert!(!escape(&text).chars().any(char::is_control));
            prop_assert!(!escape_lines(&text).chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
