//! A machine's process: a child of this lab's, or one that another process runs and lends.

use super::lease::Lease;
use xenlab_host::ChildError;
use xenlab_host::child::{Child, Ended};

/// See the module.
pub(super) enum Process {
    /// A child of this process.
    Own(Child),
    /// A child of a pool's.
    Leased(Lease),
}

/// How it came to an end.
pub(super) enum Over {
    /// As the process that runs it saw it.
    Ended(Result<Ended, ChildError>),
    /// Who lent it is gone, and QEMU with it.
    LeaseLost,
}

impl Process {
    pub(super) fn pid(&self) -> u32 {
        match self {
            Process::Own(child) => child.pid(),
            Process::Leased(lease) => lease.pid(),
        }
    }

    pub(super) async fn wait(&self) -> Over {
        match self {
            Process::Own(child) => Over::Ended(child.wait().await),
            Process::Leased(lease) => lease.wait().await,
        }
    }

    pub(super) fn kill(&self) {
        match self {
            Process::Own(child) => child.kill(),
            Process::Leased(lease) => lease.give_back(),
        }
    }

    pub(super) fn stderr_tail(&self) -> String {
        match self {
            Process::Own(child) => child.stderr_tail(),
            Process::Leased(lease) => lease.stderr(),
        }
    }

    /// Who lent it is gone.
    pub(super) fn lease_lost(&self) -> bool {
        matches!(self, Process::Leased(lease) if lease.lost())
    }
}
