//! What can go wrong in the store, and whose fault it is.

use std::io;
use std::path::{Path, PathBuf};
use xenlab_model::cause::Cause;

/// An error of the store or of fetching packages for it.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is and what its fields are")]
pub enum StoreError {
    #[error(
        "no space is left on the device that holds {}: free some, run `xenlab image gc`, or put the store elsewhere with XENLAB_STORE",
        .path.display()
    )]
    DiskFull { path: PathBuf },
    #[error("cannot {action} {}: {source}", .path.display())]
    Io { action: String, path: PathBuf, source: io::Error },
    #[error("the store at {} cannot be used: {reason}; give a folder that this user can write with XENLAB_STORE", .root.display())]
    Root { root: PathBuf, reason: String },
    #[error("the store at {} is of format {found}, this xenlab reads format {}: use another folder with XENLAB_STORE", .root.display(), crate::FORMAT)]
    Format { root: PathBuf, found: String },
    #[error("store entry {label} is damaged: {reason}")]
    Damaged { label: String, reason: String },
    #[error("`{program}` is needed and not installed; {hint}")]
    ToolMissing { program: String, hint: String },
    #[error("`{program}` failed ({status}): {stderr}")]
    Tool { program: String, status: String, stderr: String },
    #[error(
        "could not reach the package archive: {detail}; check the network and the proxy settings, or use --offline with what is in the store"
    )]
    Network { detail: String },
    #[error(
        "a download was cut off: {detail}; running the same command again takes it up where complete files ended"
    )]
    CutOff { detail: String },
    #[error(
        "what was downloaded is not what was asked for: {detail}; a proxy or mirror on the way may be broken"
    )]
    WrongHash { detail: String },
    #[error("--offline, and the store lacks {what}; run the same command once without --offline")]
    Offline { what: String },
    #[error(
        "the archive no longer has what the lock {lock} names ({what}); without --locked newer versions are taken and said"
    )]
    Moved { lock: String, what: String },
    #[error(
        "the archive's index for {pocket} has expired ({detail}): the mirror is out of date or this machine's clock is wrong; wait for it to be refreshed, correct the clock, or name another archive with XENLAB_DEBIAN_ARCHIVE"
    )]
    ArchiveExpired { pocket: String, detail: String },
    #[error("the archive has no Debian suite `{suite}`{hint}")]
    UnknownSuite { suite: String, hint: String },
    #[error("cannot resolve packages for {suite} on {arch}: {detail}")]
    Unresolvable { suite: String, arch: String, detail: String },
    #[error("{package} {version} is not in {suite}; the archive has {available}")]
    NoSuchVersion { package: String, version: String, suite: String, available: String },
    #[error("no Debian archive is known here: {detail}; name one with XENLAB_DEBIAN_ARCHIVE=URL")]
    NoArchive { detail: String },
    #[error(
        "the archive's index for {pocket} cannot be trusted: {detail}; install debian-archive-keyring, or name the archive's key with XENLAB_DEBIAN_KEYRING"
    )]
    Untrusted { pocket: String, detail: String },
    #[error("the lock {name} is not one: {detail}")]
    BadLock { name: String, detail: String },
    #[error("interrupted")]
    Interrupted,
    #[error("{0}")]
    Other(String),
}

impl StoreError {
    /// An I/O error while doing `action` to `path`; a full disk is recognised.
    pub fn io(action: &str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            StoreError::DiskFull { path: path.to_owned() }
        } else {
            StoreError::Io { action: action.to_owned(), path: path.to_owned(), source }
        }
    }

    /// A program that failed, judged by what it wrote to stderr; a full disk is recognised. `near` is where it wrote.
    pub fn tool(program: &str, status: &str, stderr: &str, near: &Path) -> Self {
        let low = stderr.to_ascii_lowercase();
        if low.contains("no space left on device")
            || low.contains("disk quota exceeded")
            || low.contains("enospc")
        {
            return StoreError::DiskFull { path: near.to_owned() };
        }
        StoreError::Tool { program: program.to_owned(), status: status.to_owned(), stderr: tail(stderr) }
    }

    /// The cause a verdict carries for it.
    pub fn cause(&self) -> Cause {
        match self {
            StoreError::DiskFull { .. } => Cause::HostDisk,
            StoreError::ToolMissing { .. } | StoreError::Tool { .. } => Cause::HostTool,
            StoreError::Network { .. }
            | StoreError::CutOff { .. }
            | StoreError::WrongHash { .. }
            | StoreError::Offline { .. }
            | StoreError::NoArchive { .. }
            | StoreError::Untrusted { .. } => Cause::HostNetwork,
            StoreError::Moved { .. } => Cause::ArchiveMoved,
            StoreError::ArchiveExpired { .. } => Cause::ArchiveExpired,
            StoreError::Interrupted => Cause::Interrupted,
            StoreError::Damaged { .. } => Cause::InputChanged,
            _ => Cause::LabInternal,
        }
    }

    /// It is what the user named that is wrong (exit 2), not the lab (exit 3).
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            StoreError::UnknownSuite { .. } | StoreError::NoSuchVersion { .. } | StoreError::BadLock { .. }
        )
    }
}

/// The error means that a file system (or a quota) is full.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        || e.raw_os_error() == Some(rustix::io::Errno::NOSPC.raw_os_error())
}

/// The last few lines of a program's stderr.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_recognised_wherever_it_comes_from() {
        let p = Path::new("/x");
        let e = StoreError::io("write", p, io::Error::from_raw_os_error(28));
        assert!(matches!(e, StoreError::DiskFull { .. }));
        assert_eq!(e.cause(), Cause::HostDisk);
        let e = StoreError::tool(
            "sqfstar",
            "exit status 1",
            "FATAL ERROR: Failed to write: No space left on device\n",
            p,
        );
        assert!(matches!(e, StoreError::DiskFull { .. }));
        let e = StoreError::tool("sqfstar", "exit status 1", "a\nb\n", p);
        assert_eq!(e.to_string(), "`sqfstar` failed (exit status 1): a\nb");
    }
}
