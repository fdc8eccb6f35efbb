//! Keeping the beginning of an output and counting the rest.

use xenlab_model::evidence::Captured;

/// Bytes kept of each of a command's two outputs. What comes after is read, counted and dropped.
pub const CAPTURE_LIMIT: usize = 256 * 1024;

/// An output while it arrives; holds at most [`CAPTURE_LIMIT`] bytes.
#[derive(Debug, Default)]
pub(crate) struct Capture {
    kept: Vec<u8>,
    total: u64,
}

impl Capture {
    /// Takes what arrived.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = CAPTURE_LIMIT.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(&bytes[..room]);
        self.total += bytes.len() as u64;
    }

    /// The bytes kept so far.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Takes off the first `n` bytes, as if they had never arrived; `n` is at most what was kept.
    pub(crate) fn drop_front(&mut self, n: usize) {
        self.kept.drain(..n);
        self.total -= n as u64;
    }

    /// As evidence holds it.
    pub(crate) fn finish(self) -> Captured {
        captured(&self.kept, self.total)
    }
}

/// `kept` of `total` bytes, as evidence holds it.
pub(crate) fn captured(kept: &[u8], total: u64) -> Captured {
    Captured { text: String::from_utf8_lossy(kept).into_owned(), total, cut: total > kept.len() as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_kept_and_the_rest_counted() {
        let mut c = Capture::default();
        c.push(b"note\n");
        c.drop_front(5);
        for _ in 0..100 {
            c.push(&[b'y'; 7000]);
        }
        assert!(c.kept.capacity() <= 2 * CAPTURE_LIMIT);
        let done = c.finish();
        assert_eq!((done.text.len(), done.total, done.cut), (CAPTURE_LIMIT, 700_000, true));
        assert!(!captured(b"ab", 2).cut);
    }
}
