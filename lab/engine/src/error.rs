//! What can go wrong in the engine itself, each with its cause.

use std::io;
use std::path::PathBuf;
use xenlab_model::cause::Cause;

/// An error of the lab; never a word about the subject.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A file of a bundle could not be written or read.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of a bundle is not what it should be.
    #[error("{}:{line}: {source}; the bundle was cut off or changed by hand", path.display())]
    BundleText {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// The folder is not a bundle.
    #[error("{} is not a bundle: it has no file `started`; a bundle is a folder below `bundles/` of a report", path.display())]
    NotABundle {
        /// Which folder.
        path: PathBuf,
    },
    /// There is no bundle in the folder.
    #[error("{}: no case is recorded there; expected the folder that `--report` wrote, one of bundles, or a bundle", path.display())]
    NoBundles {
        /// Which folder.
        path: PathBuf,
    },
    /// Written by another version of the lab.
    #[error(
        "{} has format {found}, this xenlab reads format {}; replay it with the version that wrote it",
        path.display(),
        xenlab_model::bundle::FORMAT
    )]
    BundleFormat {
        /// Which folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// Something behind the engine failed; the cause says what kind of thing.
    #[error("{message}")]
    Part {
        /// The cause.
        cause: Cause,
        /// What happened.
        message: String,
    },
    /// What the user named is not there or not what it should be.
    #[error("{message}")]
    BadInput {
        /// The cause.
        cause: Cause,
        /// What is wrong with it.
        message: String,
    },
    /// The user interrupted the run.
    #[error("interrupted")]
    Interrupted,
}

impl EngineError {
    /// A failure of a part, by its own error and cause.
    pub fn part(cause: Cause, error: impl std::fmt::Display) -> Self {
        EngineError::Part { cause, message: error.to_string() }
    }

    /// The cause that reaches a verdict.
    pub fn cause(&self) -> Cause {
        match self {
            EngineError::Bundle { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                Cause::HostDisk
            }
            EngineError::Bundle { .. }
            | EngineError::BundleText { .. }
            | EngineError::NotABundle { .. }
            | EngineError::NoBundles { .. }
            | EngineError::BundleFormat { .. } => Cause::LabInternal,
            EngineError::Part { cause, .. } | EngineError::BadInput { cause, .. } => *cause,
            EngineError::Interrupted => Cause::Interrupted,
        }
    }
}
