//! One output of a command: what it wrote, and the line that ends it.

use super::{Capture, Captured};

/// Digits of the status at the end of the line that ends an output, at most.
const DIGITS: usize = 3;

/// An output while it arrives. Holds little more than what is kept of it.
#[derive(Default)]
pub(super) struct Flow {
    /// What the ending line begins with; empty where no command is expected to write.
    mark: Vec<u8>,
    /// Bytes that may be the beginning of the ending line.
    tail: Vec<u8>,
    kept: Capture,
    /// It has ended; true when that was not by itself.
    ended: Option<bool>,
}

impl Flow {
    /// The output of this command, ended by the server with this key.
    pub(super) fn new(key: &str, id: &str) -> Self {
        Flow { mark: format!("{key} {id} ").into_bytes(), ..Flow::default() }
    }

    /// Takes what arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if self.ended.is_some() || self.mark.is_empty() {
            return;
        }
        self.tail.extend_from_slice(bytes);
        let mut from = 0;
        while let Some(at) = memchr::memmem::find(&self.tail[from..], &self.mark) {
            let (start, status) = (from + at, from + at + self.mark.len());
            let rest = &self.tail[status..];
            match rest.iter().position(|b| !b.is_ascii_digit()) {
                Some(end @ 1..=DIGITS) if rest[end] == b'\n' => {
                    self.ended = Some(&rest[..end] != b"0");
                    self.kept.push(&self.tail[..start]);
                    self.tail = Vec::new();
                    return;
                }
                None if rest.len() <= DIGITS => {
                    self.settle(start);
                    return;
                }
                _ => from = start + 1,
            }
        }
        self.settle(self.tail.len().saturating_sub(self.mark.len() - 1).max(from));
    }

    /// The first `n` bytes of the tail are the command's.
    fn settle(&mut self, n: usize) {
        self.kept.push(&self.tail[..n]);
        self.tail.drain(..n);
    }

    /// Its end has arrived.
    pub(super) fn ended(&self) -> bool {
        self.ended.is_some()
    }

    /// As evidence holds it. What was cut off while something still held it may have had more to say.
    pub(super) fn finish(self) -> Captured {
        let mut captured = self.kept.finish();
        if self.ended != Some(false) {
            captured.cut = true;
            captured.total += 1;
        }
        captured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_its_own_end_ends_it() {
        let mut f = Flow::new("key", "1");
        f.push(b"key 2 0\nkey 1 x\nkey 1 \nkey 1 123456789123\nkey ");
        assert!(!f.ended());
        f.push(b"1 0\nkey 1 0\n");
        let text = f.finish();
        assert_eq!(text.text, "key 2 0\nkey 1 x\nkey 1 \nkey 1 123456789123\n");
        assert!(!text.cut);
        let mut f = Flow::new("key", "1");
        f.push(b"some\nkey 1 137\n");
        assert_eq!(f.finish(), Captured { text: "some\n".into(), total: 6, cut: true });
    }

    #[test]
    fn a_flood_does_not_pile_up() {
        let mut f = Flow::new("key", "1");
        for _ in 0..1000 {
            f.push(&[b'y'; 10_000]);
            assert!(f.tail.len() < 100);
        }
        f.push(b"key 1 0\n");
        let text = f.finish();
        assert_eq!((text.total, text.cut, text.text.len()), (10_000_000, true, crate::CAPTURE_LIMIT));
    }

    proptest! {
        #[test]
        fn chopping_changes_nothing(cuts in prop::collection::vec(1usize..9, 0..40)) {
            let text = b"ab\0\xffkey key 1 key 1 0key 1 1234\nkey 1 0\n";
            let mut f = Flow::new("key", "1");
            let mut at = 0;
            for c in cuts {
                let end = (at + c).min(text.len());
                f.push(&text[at..end]);
                at = end;
            }
            f.push(&text[at..]);
            prop_assert!(f.ended());
            prop_assert_eq!(f.finish().total, text.len() as u64 - 8);
        }
    }
}
