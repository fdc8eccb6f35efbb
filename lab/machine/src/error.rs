//! Why a machine could not be described or started.

use crate::qmp::QmpError;
use std::path::PathBuf;
use std::time::Duration;
use xenlab_host::ChildError;
use xenlab_host::child::Ended;
use xenlab_model::cause::Cause;

/// A machine that cannot be put into a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Kernel and initramfs do not fit.
    #[error(
        "the machine has {memory} MiB of memory; Xen, dom0's kernel and its initramfs end at {needed} MiB. Give it more \
         (machine.memory)"
    )]
    TooSmall {
        /// MiB it has.
        memory: u64,
        /// MiB it would need to hold them.
        needed: u64,
    },
    /// QEMU's multiboot loader ends a module's file name at the first space.
    #[error("{}: QEMU cannot load a boot module whose path has a space in it", .0.display())]
    Space(PathBuf),
}

/// Why a machine did not start. None of these says anything about Xen.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no QEMU, or no process could be made of it.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// The description cannot be made a command line.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// QEMU exited before the machine was there.
    #[error("QEMU refused to start (exit status {status}): {}", said(stderr))]
    Refused {
        /// Its exit status.
        status: i32,
        /// The last it wrote to standard error.
        stderr: String,
    },
    /// QEMU died before the machine was there.
    #[error("QEMU was killed by signal {signal} while it started: {}", said(stderr))]
    Killed {
        /// The signal's number.
        signal: i32,
        /// The last it wrote to standard error.
        stderr: String,
    },
    /// QEMU ran and could not make a machine of a template. The template is to be taken for damaged, or for another QEMU's.
    #[error("the template cannot be used: {why}")]
    Template {
        /// What is wrong with it, in QEMU's words where it said it.
        why: String,
    },
    /// QEMU runs and did not connect to the lab's sockets.
    #[error("QEMU did not connect to the lab within {} s: {}", limit.as_secs_f64(), said(stderr))]
    NotConnected {
        /// Wall time it was given.
        limit: Duration,
        /// The last it wrote to standard error.
        stderr: String,
    },
    /// Its monitor does not speak as it should.
    #[error("while QEMU started: {0}")]
    Qmp(#[from] QmpError),
    /// The host refused a socket or a file.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the host said.
        error: std::io::Error,
    },
    /// The user interrupted the run.
    #[error("interrupted while QEMU started")]
    Interrupted,
}

pub(crate) fn said(stderr: &str) -> &str {
    if stderr.trim().is_empty() { "it said nothing" } else { stderr.trim_end() }
}

impl StartError {
    /// QEMU ended before the machine was there.
    pub(crate) fn ended(ended: Ended, stderr: String) -> StartError {
        match ended {
            Ended::Exit(status) => StartError::Refused { status, stderr },
            Ended::Signal(signal) => StartError::Killed { signal, stderr },
        }
    }

    /// The cause a verdict carries.
    pub fn cause(&self) -> Cause {
        match self {
            StartError::Child(ChildError::NotFound { .. } | ChildError::Exec { .. }) => Cause::QemuMissing,
            StartError::Child(error) => error.cause(),
            StartError::Spec(SpecError::TooSmall { .. }) => Cause::Dom0Memory,
            StartError::Spec(SpecError::Space(_)) => Cause::LabInternal,
            StartError::Refused { stderr, .. } => {
                xenlab_model::cause::of_qemu(stderr).unwrap_or(Cause::QemuRefused)
            }
            StartError::Killed { .. } => Cause::QemuKilled,
            StartError::Template { .. } => Cause::TemplateUnusable,
            StartError::NotConnected { .. } | StartError::Qmp(_) => Cause::QemuProtocol,
            StartError::Io { error, .. } if error.kind() == std::io::ErrorKind::StorageFull => {
                Cause::HostDisk
            }
            StartError::Io { .. } => Cause::LabInternal,
            StartError::Interrupted => Cause::Interrupted,
        }
    }
}
