//! The executor of one case, the scheduler of many, deadlines, events and bundles.

pub mod boot;
pub mod budget;
pub mod bundle;
pub mod control;
pub mod door;
pub mod error;
pub mod exec;
pub mod facts;
pub mod hub;
pub mod keep;
pub mod layer;
pub mod limits;
pub mod perform;
pub mod plant;
pub mod pool;
pub mod prepare;
pub mod replay;
pub mod run;
pub mod samples;
pub mod shared;
mod suite;
mod system;
pub mod template;
pub mod trace;
pub mod turn;
pub mod wait;
pub mod ways;
pub mod work;
pub mod xtf;

pub use error::EngineError;
pub use exec::Lab;
pub use keep::Keep;
pub use run::Outcome;

use std::fmt::Write;
use xenlab_model::cause::Cause;
use xenlab_model::event::LabUse;

/// SHA-256 in lower-case hexadecimal.
pub fn digest_hex(bytes: &[u8]) -> String {
    xenlab_store::hash_bytes(bytes)
}

/// 64 random bits from the kernel.
pub fn random() -> u64 {
    getrandom::u64().unwrap_or_else(|_| {
        // A kernel without random numbers: the clock and the process still tell two runs apart.
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |t| t.subsec_nanos());
        (u64::from(std::process::id()) << 32) | u64::from(now)
    })
}

/// So many random bytes in hexadecimal.
pub fn random_hex(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes * 2);
    while text.len() < bytes * 2 {
        let _ = write!(text, "{:016x}", random());
    }
    text.truncate(bytes * 2);
    text
}

/// Now, in UTC, as RFC 3339 writes it.
pub fn now_rfc3339() -> String {
    humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

/// Runs blocking work beside the async one; its panic is the lab's own error.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EngineError> + Send + 'static,
) -> Result<T, EngineError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(EngineError::part(Cause::LabPanic, format!("xenlab panicked: {error}"))),
    }
}

/// What this process has used so far: `VmHWM` of /proc/self/status, and `getrusage`.
pub fn lab_use() -> LabUse {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0);
    LabUse { peak_rss_bytes: kib << 10, cpu_seconds: cpu_seconds() }
}

/// Processor time of this process so far.
pub fn cpu_seconds() -> f64 {
    let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9
}
