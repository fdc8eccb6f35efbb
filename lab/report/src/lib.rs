//! Reports of a run: everybody is fed the same events in the same order, and makes its own of them.
//!
//! - [`Fan`] is the sink that the rest of the lab emits into. It stamps each event and hands it to every [`Reporter`], on one thread
//!   of its own, so that a slow terminal holds nobody up.
//! - [`Terminal`]: what the user sees while it goes on and at the end.
//! - [`JUnit`], [`Events`], [`Summary`]: `junit.xml`, `events.jsonl`, `summary.md` under `--report DIR`.
//! - [`merge`]: several such folders, from the shards of one run, to one.
//!
//! To add a reporter: implement [`Reporter`], over [`Run`] if the state of the run is what it shows, and name it in [`files`].

mod bump;
pub mod compare;
mod events;
mod fan;
mod file;
mod junit;
mod merge;
mod run;
mod summary;
pub mod terminal;
mod text;
pub mod xsa;
mod xtf;

pub use bump::bump;
pub use events::Events;
pub use fan::Fan;
pub use junit::JUnit;
pub use merge::{MergeError, Merged, merge};
pub use run::{CaseState, Run, Task};
pub use summary::Summary;
pub use terminal::{Style, Terminal, replayed};

use std::path::{Path, PathBuf};
use xenlab_model::event::Event;

/// Makes something of a run's events.
pub trait Reporter: Send {
    /// What it is called in messages: `junit.xml`, `terminal`.
    fn name(&self) -> String;

    /// Takes the next event.
    ///
    /// # Errors
    /// It cannot be written. The reporter is given no further events, and the user is told.
    fn event(&mut self, event: &Event) -> Result<(), ReportError>;

    /// Called several times a second while nothing happens; `at` is seconds since the run began.
    ///
    /// # Errors
    /// As for [`Reporter::event`].
    fn tick(&mut self, at: f64) -> Result<(), ReportError> {
        let _ = at;
        Ok(())
    }
}

/// A report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file or folder of the report.
    #[error("{}: cannot write this report: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The terminal, or what stands in its place, is gone.
    #[error("cannot write to the terminal: {0}")]
    Terminal(std::io::Error),
    /// Something of the run cannot be put into this format.
    #[error("{name}: {message}")]
    Format {
        /// The report.
        name: &'static str,
        /// What does not fit.
        message: String,
    },
}

impl ReportError {
    /// The cause, for a verdict or an exit code: a full disk is told apart.
    pub fn cause(&self) -> xenlab_model::cause::Cause {
        use xenlab_model::cause::Cause;
        match self {
            ReportError::File { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Cause::HostDisk
            }
            _ => Cause::LabInternal,
        }
    }
}

/// The reporters of `--report DIR`, the folder made if need be.
///
/// # Errors
/// The folder or `events.jsonl` cannot be made.
pub fn files(dir: &Path) -> Result<Vec<Box<dyn Reporter>>, ReportError> {
    std::fs::create_dir_all(dir).map_err(|source| ReportError::File { path: dir.to_owned(), source })?;
    Ok(vec![
        Box::new(Events::create(&dir.join("events.jsonl"))?),
        Box::new(JUnit::new(dir.join("junit.xml"))),
        Box::new(Summary::new(dir.join("summary.md"))),
    ])
}
