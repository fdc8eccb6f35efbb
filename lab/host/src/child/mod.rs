//! Child processes: the one way to start, watch and end them.
//!
//! What a child started here is promised:
//!
//! - **It does not outlive the lab.** It is started through the program's own hidden sub-command (see [`intercept`]),
//!   which sets the parent-death signal to SIGKILL, checks that its parent still lives, and `exec`s. That signal
//!   follows the *thread* that spawned, so one thread that lives as long as the process does all the spawning.
//!   What children of children do is watched by the guard (see [`guard`]).
//! - **It is in a process group of its own**, so the terminal's Ctrl-C does not reach it, and it is ended with
//!   everything it started in that group. When it exits, what is left of its group is killed.
//! - **Its output cannot fill memory**: standard output keeps its first bytes, standard error its last, each up to a
//!   limit, and both say how much there was.
//!
//! In a program that did not call [`intercept`] first thing (a test binary of `cargo test`), children are spawned
//! directly: everything above holds except that a child survives a `kill -9` of that program.

mod command;
mod exec;
mod guard;
mod process;
mod registry;
mod spawner;

pub use command::{Command, Output};
pub use exec::{EXEC, intercept, set_helper};
pub use guard::GUARD;
pub use process::{Captured, Child, Ended};
pub(crate) use registry::{kill_all, wake_all};

use std::path::PathBuf;
use std::time::Duration;
use xenlab_model::cause::Cause;

/// Why a child could not be started or did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The program is not installed.
    #[error("{program}: no such program; {hint}")]
    NotFound {
        /// As it was asked for.
        program: String,
        /// How to install it on this system.
        hint: String,
    },
    /// The program is there and cannot be executed.
    #[error("{}: cannot be executed: {error}", program.display())]
    Exec {
        /// Its path.
        program: PathBuf,
        /// What the kernel said.
        error: String,
    },
    /// The host refused a process, a pipe or a thread.
    #[error("{program}: could not be started: {error}")]
    Spawn {
        /// As it was asked for.
        program: String,
        /// What the host said.
        error: std::io::Error,
    },
    /// It did not end within its limit and was killed.
    #[error("{program}: did not end within {} s and was killed", limit.as_secs_f64())]
    TimedOut {
        /// As it was asked for.
        program: String,
        /// Wall time.
        limit: Duration,
    },
    /// The user interrupted the run; the child was killed.
    #[error("interrupted while {program} ran")]
    Interrupted {
        /// As it was asked for.
        program: String,
    },
    /// It ended with a status other than 0 (only from [`Command::checked`]).
    #[error("{program}: {ended}{}", if stderr.is_empty() { String::new() } else { format!("; it said:\n{}", stderr.trim_end()) })]
    Failed {
        /// As it was asked for.
        program: String,
        /// How it ended.
        ended: Ended,
        /// The last of what it wrote to standard error.
        stderr: String,
    },
}

impl ChildError {
    /// The cause a verdict carries when this is what ended a case.
    pub fn cause(&self) -> Cause {
        match self {
            ChildError::NotFound { .. } => Cause::HostTool,
            ChildError::Interrupted { .. } => Cause::Interrupted,
            ChildError::Spawn { error, .. } if error.kind() == std::io::ErrorKind::StorageFull => {
                Cause::HostDisk
            }
            ChildError::Failed { stderr, .. } if stderr.contains("No space left on device") => {
                Cause::HostDisk
            }
            ChildError::Exec { .. }
            | ChildError::Spawn { .. }
            | ChildError::TimedOut { .. }
            | ChildError::Failed { .. } => Cause::LabInternal,
        }
    }
}
