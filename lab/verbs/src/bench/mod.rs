//! `bench`: the lab, measured: over a bare boot, on clones, and its console matcher alone. The JSON's shape is documented in
//! docs/PERFORMANCE.md.

mod boot;
mod warm;
mod warm_table;
mod xtf;

pub use boot::{BootBench, boot, table};
pub use warm::{WarmBench, warm};
pub use warm_table::warm_table;
pub use xtf::{XtfBench, xtf, xtf_table};

use serde_json::{Value, json};
use std::time::Instant;

/// A sample's summary, in seconds.
pub fn summary(samples: &[f64], failed: usize) -> Value {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    json!({
        "median": quantile(&sorted, 0.5), "p95": quantile(&sorted, 0.95), "min": quantile(&sorted, 0.0),
        "max": quantile(&sorted, 1.0), "n": samples.len() + failed, "failed": failed, "samples": samples,
    })
}

fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    if sorted.is_empty() {
        return None;
    }
    let at = q * (sorted.len() - 1) as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    let value = sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor());
    Some((value * 10_000.0).round() / 10_000.0)
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

fn host() -> Value {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|l| l.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load1: Option<f64> = load.split(' ').next().and_then(|l| l.parse().ok());
    json!({
        "cores": xenlab_host::resources::cores(),
        "memory_bytes": xenlab_host::resources::memory().map(|m| m.total),
        "cpu": model.unwrap_or_default(), "load1": load1,
    })
}

fn lab() -> Value {
    json!({"version": env!("CARGO_PKG_VERSION"), "commit": option_env!("XENLAB_COMMIT").unwrap_or("")})
}

/// `bench console`: bytes a second through the console's own work: lines, phases, signs.
pub fn console() -> Value {
    const SAMPLE: &[u8] = include_bytes!("../../../../fixtures/console/x86_64-good.raw");
    let begun = Instant::now();
    let result = xenlab_console::bench(SAMPLE, 1 << 30, || begun.elapsed());
    json!({"bench": "console", "format": 1, "host": host(), "lab": lab(),
           "results": {"bytes": result.bytes, "lines": result.lines, "bytes_per_second": result.bytes_per_second}})
}
