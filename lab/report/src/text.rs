//! Text for people: widths, wrapping, columns, numbers.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};
use xenlab_model::cause::Blame;

/// Columns that a text takes on a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// At most `columns` wide: the middle gives way, since both ends of a case's name tell it from others.
pub(crate) fn shorten(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let room = columns.saturating_sub(1);
    let (mut head, mut tail) = (String::new(), Vec::new());
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w > room.div_ceil(2) {
            break;
        }
        used += w;
        head.push(c);
    }
    for c in text.chars().rev() {
        let w = c.width().unwrap_or(0);
        if used + w > room {
            break;
        }
        used += w;
        tail.push(c);
    }
    if columns == 0 { String::new() } else { head + "…" + &tail.into_iter().rev().collect::<String>() }
}

/// The text followed by spaces up to `columns`.
pub(crate) fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Lines no wider than `columns`, each with `indent` before it, broken at spaces where there are some.
pub(crate) fn wrap(text: &str, indent: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(width(indent)).max(20);
    let mut out = Vec::new();
    for line in text.lines() {
        let mut current = String::new();
        for word in line.split(' ') {
            if !current.is_empty() && width(&current) + 1 + width(word) > room {
                out.push(format!("{indent}{current}"));
                current = String::new();
            }
            if !current.is_empty() {
                current.push(' ');
            }
            current.push_str(word);
        }
        out.push(format!("{indent}{current}"));
    }
    out
}

/// So much of so much, in the words of its unit.
pub(crate) fn amount(done: u64, total: u64, unit: &str) -> String {
    let one = |n: u64| match unit {
        "bytes" => size(n),
        _ => n.to_string(),
    };
    let unit = if unit == "bytes" || unit.is_empty() { String::new() } else { format!(" {unit}") };
    match (done, total) {
        (0, 0) => String::new(),
        (_, 0) => format!("{}{unit}", one(done)),
        _ => format!("{} of {}{unit}", one(done), one(total)),
    }
}

/// Bytes as people read them, powers of ten as download tools show them.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{} kB", bytes / 1_000),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// Whose fault, in words; none where nothing could tell.
pub(crate) fn fault(blame: Option<Blame>) -> &'static str {
    match blame {
        Some(Blame::Xen) => "this Xen",
        Some(Blame::Build) => "this Xen build",
        Some(Blame::Dom0) => "dom0",
        Some(Blame::Scenario) => "the scenario",
        Some(Blame::Qemu) => "QEMU",
        Some(Blame::Host) => "this host",
        Some(Blame::Lab) => "xenlab itself",
        None => "not known",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortened_in_the_middle() {
        assert_eq!(shorten("dom0-boot[arch=x86_64] @ debian:bookworm", 20), "dom0-boot[…:bookworm");
        assert_eq!(shorten("short", 5), "short");
        for columns in 0..12 {
            assert!(width(&shorten("日本語のテスト文字列", columns)) <= columns);
        }
    }

    #[test]
    fn wrapped_at_spaces() {
        assert_eq!(
            wrap("one two three four five six seven\nnext", "  ", 22),
            ["  one two three four", "  five six seven", "  next"]
        );
    }

    #[test]
    fn amounts() {
        assert_eq!(amount(1_234_567, 45_000_000, "bytes"), "1.2 MB of 45.0 MB");
        assert_eq!(amount(3, 7, "packages"), "3 of 7 packages");
        assert_eq!(amount(0, 0, "bytes"), "");
        assert_eq!(amount(12, 0, "bytes"), "12 B");
    }
}
