//! Markers: what dom0's init writes for the lab to read, `xenlab: WORD NONCE REST`.
//!
//! The words alone, or with another nonce, are nothing: anybody can write those, and a shell's echo does.

use crate::demux::{Line, Speaker, kernel_stamp};
use crate::signs::known_reason;
use memchr::memmem::Finder;
use std::ops::Range;
use std::sync::LazyLock;

const BEGINNING: &str = "xenlab: ";
/// The word of a failure, whose rest is the reason.
pub(crate) const FAILED: &str = "failed";
static FIND: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(BEGINNING));

/// Finds the markers of one boot.
#[derive(Debug, Clone)]
pub(crate) struct Markers {
    nonce: String,
    /// What may be the first half of a marker that a line of dom0's kernel cut. A program's writes and the kernel's own reach
    /// dom0's console side by side (drivers/tty/hvc/hvc_console.c), and nothing keeps the one out of the other's lines.
    half: Option<String>,
    /// A failure whose reason may have been cut in this way: what stands before the kernel's line. Whether the reason ended there, what comes
    /// behind that line tells.
    reason: Option<(String, Range<u64>)>,
}

impl Markers {
    /// An empty nonce means that there are no markers.
    pub(crate) fn new(nonce: String) -> Self {
        Markers { nonce, half: None, reason: None }
    }

    /// The marker that this line has or completes: its word and the rest.
    pub(crate) fn find(&mut self, line: &Line<'_>) -> Option<(String, String)> {
        if line.speaker != Speaker::Dom0 || self.nonce.is_empty() {
            return None;
        }
        if let Some((word, rest)) = marker(&line.text, &self.nonce) {
            self.half = None;
            let (word, rest) = (word.to_owned(), rest.to_owned());
            return self.unless_cut(word, rest, line);
        }
        if !line.complete {
            return None;
        }
        if self.reason.is_some() && kernel_stamp(&line.text) {
            return None;
        }
        if let Some((head, _)) = self.reason.take() {
            let joined = format!("{head}{}", line.text);
            let whole = if known_reason(&joined) { joined } else { head };
            return Some((FAILED.to_owned(), whole.trim().to_owned()));
        }
        if let Some(half) = self.half.take() {
            let joined = half + &line.text;
            if let Some((word, rest)) = marker(&joined, &self.nonce) {
                let (word, rest) = (word.to_owned(), rest.to_owned());
                return self.unless_cut(word, rest, line);
            }
        }
        self.half = half(&line.text).map(str::to_owned);
        None
    }

    /// The console ended or fell silent: the reason of which no more came, and where it stands.
    pub(crate) fn finish(&mut self) -> Option<(String, Range<u64>)> {
        self.reason.take().map(|(head, at)| (head.trim().to_owned(), at))
    }

    /// The marker, but where a line of the kernel goes on in a failure's reason: there it is what the next line makes it.
    fn unless_cut(&mut self, word: String, rest: String, line: &Line<'_>) -> Option<(String, String)> {
        match kernel_line(&rest) {
            Some(at) if word == FAILED => {
                self.reason = Some((rest[..at].to_owned(), line.start..line.end));
                None
            }
            Some(at) => Some((word, rest[..at].trim().to_owned())),
            None => Some((word, rest)),
        }
    }
}

/// Where in this text a line of the kernel begins.
fn kernel_line(text: &str) -> Option<usize> {
    text.match_indices('[').map(|(at, _)| at).find(|at| kernel_stamp(&text[*at..]))
}

/// What stands before a kernel's line that begins in the middle of this one, if it may be the beginning of a marker.
fn half(text: &str) -> Option<&str> {
    let head = &text[..kernel_line(text).filter(|at| *at > 0)?];
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
        // A reason, too: whole before the kernel's line, or in two.
        let whole = "xenlab: failed abc123 store-absent no socket\r\n";
        for at in "xenlab: failed abc123 ".len()..whole.len() - 1 {
            let kernel = "[    4.401452] random: crng init done\r\r\n[    4.500000] another\r\n";
            let cut = format!("{}{kernel}{}", &whole[..at], &whole[at..]);
            let found = found(&cut);
            assert!(found.len() == 1 && found[0].starts_with("failed|store"), "cut at {at}: {found:?}");
            assert!(!found[0].contains('['), "cut at {at}: {found:?}");
        }
        // Or have it in its own middle.
        let within = "[    7.680473] sxenlab: init abc123ystemd[1]: sys-kernel-config.mount - Kernel\r\r\n";
        assert_eq!(found(within), ["init|"]);
    }
}
