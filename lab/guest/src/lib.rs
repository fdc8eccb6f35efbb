//! A shell in dom0, by three transports, each able to do the whole job alone: [`ssh`], the [`serial`] console, and the lab's own
//! [`port`], the fastest.
//!
//! Each runs a [`Script`] by dom0's `/bin/sh -c` with empty standard input and hands back a
//! [`CommandResult`]: how it ended, standard output and standard error apart, each kept up to [`CAPTURE_LIMIT`]. Each ends a command
//! that outlives its [`Deadline`] and can be used again afterwards; each makes its connection anew when it was lost.

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;
use xenlab_model::evidence::{Captured, CommandEnd, CommandResult, Transport};

mod capture;
mod deadline;
pub mod port;
mod script;
pub mod serial;
mod signal;
pub mod ssh;

pub use capture::CAPTURE_LIMIT;
pub use deadline::{Clock, Deadline, wall_clock};
pub use script::{SCRIPT_LIMIT, Script, ScriptError, quote};

/// A boxed future, so that [`Shell`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A shell in dom0.
pub trait Shell: Send {
    /// The way in it uses.
    fn transport(&self) -> Transport;

    /// Runs a script and waits for its end, at most until the deadline. What goes wrong is part of the result:
    /// [`CommandEnd::TimedOut`] when the script did not end in time (it has then been killed),
    /// [`CommandEnd::Lost`] when the way in failed. Dropping the future gives the script up; it is killed, at the latest before
    /// the next one runs.
    fn run<'a>(&'a mut self, script: &'a Script, deadline: Deadline) -> BoxFuture<'a, CommandResult>;
}

/// A result without output, for what failed before anything ran.
pub(crate) fn nothing_ran(via: Transport, script: &Script, end: CommandEnd, since: Instant) -> CommandResult {
    CommandResult {
        via,
        script: script.text.clone(),
        end,
        stdout: Captured::default(),
        stderr: Captured::default(),
        seconds: since.elapsed().as_secs_f64(),
    }
}

/// A name no one else uses: 64 random bits in hexadecimal.
pub(crate) fn nonce() -> String {
    let mut bits = [0; 8];
    if getrandom::fill(&mut bits).is_err() {
        // Without the kernel's random numbers the clock and a counter still make it unique on this host.
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let t = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |t| t.as_nanos() as u64);
        bits = (t ^ n.rotate_left(48)).to_le_bytes();
    }
    bits.iter().map(|b| format!("{b:02x}")).collect()
}
