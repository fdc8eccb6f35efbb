//! How fast a console is read: what the engine does with every byte of one, and nothing else.

use crate::demux::Demux;
use crate::phase::{Phase, PhaseTracker};
use crate::signs::SignTracker;
use crate::tail::Tail;
use std::time::Duration;

/// Bytes of a chunk: what a read of the console's socket gives at most.
const CHUNK: usize = 64 * 1024;

/// What [`bench`] measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bench {
    /// Bytes read.
    pub bytes: u64,
    /// Bytes read in a second.
    pub bytes_per_second: f64,
    /// Lines they were.
    pub lines: u64,
    /// Signs found; the same for the same bytes.
    pub signs: u64,
    /// The last phase seen.
    pub phase: Phase,
}

/// Reads `sample` (a recorded console) again and again until at least `bytes` bytes are read: lines, phases, every sign, tails. `now` is
/// the caller's clock, since this crate has none.
pub fn bench(sample: &[u8], bytes: u64, now: impl Fn() -> Duration) -> Bench {
    // Repeated so often that chunks are full and their ends fall anywhere in the sample.
    let copies = (1 << 20) / sample.len().max(1) + 1;
    let data = sample.repeat(copies);
    let (mut demux, mut phases) = (Demux::new(), PhaseTracker::new("0123456789abcdef"));
    let (mut signs, mut tail) = (SignTracker::new("0123456789abcdef"), Tail::new(20));
    let (mut read, mut lines, mut found) = (0u64, 0u64, 0u64);
    let begin = now();
    while read < bytes && !data.is_empty() {
        for chunk in data.chunks(CHUNK) {
            demux.feed(chunk, |line| {
                lines += 1;
                phases.push(&line);
                found += u64::from(signs.push(&line).is_some());
                tail.push(&line);
            });
            read += chunk.len() as u64;
        }
    }
    let seconds = (now() - begin).as_secs_f64();
    let bytes_per_second = if seconds > 0.0 { read as f64 / seconds } else { 0.0 };
    Bench { bytes: read, bytes_per_second, lines, signs: found, phase: phases.current() }
}
