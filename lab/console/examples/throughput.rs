//! `cargo run --release -p xenlab-console --example throughput RECORD…`: bytes of a console read in a second on one core.

use std::time::{Duration, Instant};

fn main() -> std::io::Result<()> {
    for path in std::env::args().skip(1) {
        let sample = std::fs::read(&path)?;
        let begin = Instant::now();
        let now = || -> Duration { begin.elapsed() };
        let result = xenlab_console::bench(&sample, 1 << 30, now);
        println!(
            "{path}: {:.0} MB/s, {} lines, {} signs",
            result.bytes_per_second / 1e6,
            result.lines,
            result.signs
        );
    }
    Ok(())
}
