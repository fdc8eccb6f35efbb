//! The last lines of each speaker, for messages.

use crate::clean::head;
use crate::demux::{Line, Speaker};
use std::collections::{BTreeMap, VecDeque};

/// Guests remembered; a machine with more keeps those that spoke first.
const MAX_GUESTS: usize = 16;
/// Bytes of a line that are kept.
const MAX_TEXT: usize = 512;

/// The last `n` lines of each speaker. Memory is bounded: at most `n` lines of 512 bytes for each of at most 19 speakers.
#[derive(Debug, Clone)]
pub struct Tail {
    keep: usize,
    lines: BTreeMap<Speaker, VecDeque<String>>,
}

impl Tail {
    /// Keeps the last `n` lines of each.
    pub fn new(n: usize) -> Self {
        Tail { keep: n, lines: BTreeMap::new() }
    }

    /// Takes a line; blank ones are left out.
    pub fn push(&mut self, line: &Line<'_>) {
        let text = line.text.trim_end();
        let known = self.lines.contains_key(&line.speaker);
        if self.keep == 0 || text.is_empty() || (!known && self.lines.len() >= MAX_GUESTS + 3) {
            return;
        }
        let lines = self.lines.entry(line.speaker).or_default();
        // A flood costs no allocations: the oldest line's room is the newest's.
        let mut room =
            if lines.len() == self.keep { lines.pop_front().unwrap_or_default() } else { String::new() };
        room.clear();
        let kept = head(text, MAX_TEXT);
        room.push_str(kept);
        if kept.len() < text.len() {
            room.push('…');
        }
        lines.push_back(room);
    }

    /// One speaker's last lines, the oldest first.
    pub fn of(&self, speaker: Speaker) -> impl Iterator<Item = &str> {
        self.lines.get(&speaker).into_iter().flatten().map(String::as_str)
    }

    /// Everybody's, by name (`firmware`, `xen`, `dom0`, `d1`): the shape that `PhaseEvidence.tails` has.
    pub fn all(&self) -> Vec<(String, Vec<String>)> {
        self.lines.iter().map(|(s, l)| (s.to_string(), l.iter().cloned().collect())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::lines;

    #[test]
    fn the_last_of_each() {
        let mut tail = Tail::new(2);
        for line in lines(b"(XEN) 1\n(XEN) 2\na\n\n(XEN) 3\nb\nc\n(d7) guest\n") {
            tail.push(&line);
        }
        let want: Vec<(String, Vec<String>)> =
            [("xen", vec!["2", "3"]), ("dom0", vec!["b", "c"]), ("d7", vec!["guest"])]
                .map(|(s, l)| (s.into(), l.into_iter().map(Into::into).collect()))
                .into();
        assert_eq!(tail.all(), want);
        assert_eq!(tail.of(Speaker::Xen).collect::<Vec<_>>(), ["2", "3"]);
    }

    #[test]
    fn bounded() {
        let mut tail = Tail::new(3);
        for n in 1..200 {
            let text = format!("(d{n}) {}\n", "é".repeat(2000));
            for line in lines(text.as_bytes()) {
                tail.push(&line);
            }
        }
        assert!(tail.all().len() <= MAX_GUESTS + 3);
        assert!(tail.all().iter().flat_map(|(_, l)| l).all(|l| l.len() <= MAX_TEXT + 4));
    }
}
