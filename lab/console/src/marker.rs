//! Markers: what dom0's init writes for the lab to read, `xenlab: WORD NONCE REST`.
//!
//! The words alone, or with another nonce, are nothing: anybody can write those, and a shell's echo does.

use crate::demux::{Line, Speaker, kernel_stamp};
use memchr::memmem::Finder;
use std::sync::LazyLock;

const BEGINNING: &str = "xenlab: ";
static FIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(BEGINNING));

/// Finds the markers of one boot.
#[derive(Debug, Clone)]
pub(crate) struct Markers {
    nonce: String,
    /// What may be the first half of a marker that a line of dom0's kernel cut. A program's writes and the kernel's own reach
    /// dom0's console side by side (drivers/tty/hvc/hvc_console.c), and nothing keeps the one out of the other's lines.
    half: Option<String>,
}

impl Markers {
    /// An empty nonce means that there are no markers.
    pub(crate) fn new(nonce: String) -> Self {
        Markers { nonce, half: None }
    }

    /// The marker that this line has or completes: its word and the rest.
    pub(crate) fn find(&mut self, line: &Line<'_>) -> Option<(String, String)> {
        if line.speaker != Speaker::Dom0 || self.nonce.is_empty() {
            return None;
        }
        if let Some((word, rest)) = marker(&line.text, &self.nonce) {
            self.half = None;
            return Some((word.to_owned(), rest.to_owned()));
        }
        if !line.complete {
            return None;
        }
        if let Some(half) = self.half.take() {
            let joined = half + &line.text;
            if let Some((word, rest)) = marker(&joined, &self.nonce) {
                return Some((word.to_owned(), rest.to_owned()));
            }
        }
        self.half = half(&line.text).map(str::to_owned);
        None
    }
}

/// What stands before a kernel's line that begins in the middle of this one, if it may be the beginning of a marker.
fn half(text: &str) -> Option<&str> {
    let (at, _) = text.match_indices('[').find(|(at, _)| *at > 0 && kernel_stamp(&text[*at..]))?;
    let head = &text[..at];
    let begun = (1..BEGINNING.len()).any(|n| head.ends_with(&BEGINNING[..n]));
    (begun || FIND.find(head.as_bytes()).is_some()).then_some(head)
}

/// The marker in a text, anywhere in it.
fn marker<'a>(text: &'a str, nonce: &str) -> Option<(&'a str, &'a str)> {
    let mut rest = text;
    loop {
        let at = FIND.find(rest.as_bytes())?;
        rest = &rest[at + BEGINNING.len()..];
        let (word, after) = rest.split_once(' ')?;
        // A line of the kernel that the marker stands in goes on right behind it; what goes on with a digit is another nonce.
        if let Some(after) = after.strip_prefix(nonce)
            && !after.starts_with(|c: char| c.is_ascii_hexdigit())
        {
            return Some((word, if after.starts_with(' ') { after.trim() } else { "" }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::lines;

    fn found(record: &str) -> Vec<String> {
        let mut markers = Markers::new("abc123".into());
        lines(format!("(XEN) Xen\n{record}").as_bytes())
            .iter()
            .filter_map(|l| markers.find(l))
            .map(|(word, rest)| format!("{word}|{rest}"))
            .collect()
    }

    #[test]
    fn with_the_nonce_only() {
        assert_eq!(found("xenlab: ready abc123\n"), ["ready|"]);
        assert_eq!(found("xenlab: failed abc123 store did not answer\n"), ["failed|store did not answer"]);
        // A quotation before it does not hide the real one.
        assert_eq!(found("xenlab: xenlab: ready abc123\n"), ["ready|"]);
        for lie in [
            "xenlab: ready",
            "xenlab: ready abc1234",
            "xenlab: ready ABC123",
            "xenlab: ready $NONCE",
            "xenlab:ready abc123",
            "(XEN) xenlab: ready abc123",
            "(d1) xenlab: ready abc123",
        ] {
            assert_eq!(found(&format!("{lie}\n")), [""; 0], "{lie}");
        }
        assert!(Markers::new(String::new()).find(&lines(b"(XEN) a\nxenlab: ready \n")[1]).is_none());
    }

    #[test]
    fn a_line_of_dom0s_kernel_may_cut_it_anywhere() {
        let whole = "xenlab: ready abc123\r\r\n";
        for at in 1.."xenlab: ready abc123".len() {
            let cut = format!("{}[    5.123456] pci 0000:00:01.0: cut\r\r\n{}", &whole[..at], &whole[at..]);
            assert_eq!(found(&cut), ["ready|"], "cut at {at}");
        }
        assert_eq!(found("xenlab: rea[    5.123456] cut\nother\ndy abc123\n"), [""; 0]);
        // Or have it in its own middle.
        let within = "[    7.680473] sxenlab: init abc123ystemd[1]: sys-kernel-config.mount - Kernel\r\r\n";
        assert_eq!(found(within), ["init|"]);
    }
}
