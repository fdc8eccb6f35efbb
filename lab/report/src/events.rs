//! `events.jsonl`: every event, one JSON object a line.

use crate::{ReportError, Reporter};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use xenlab_model::event::Event;

/// Writes each event at once, so that a run that is killed leaves all but perhaps its last line.
pub struct Events {
    path: PathBuf,
    file: File,
}

impl Events {
    /// Begins the file anew.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn create(path: &Path) -> Result<Self, ReportError> {
        let file =
            File::create(path).map_err(|source| ReportError::File { path: path.to_owned(), source })?;
        Ok(Events { path: path.to_owned(), file })
    }
}

impl Reporter for Events {
    fn name(&self) -> String {
        "events.jsonl".into()
    }

    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        let mut line = serde_json::to_vec(event)
            .map_err(|e| ReportError::Format { name: "events.jsonl", message: e.to_string() })?;
        line.push(b'\n');
        // One write for each line, nothing buffered in the process.
        self.file.write_all(&line).map_err(|source| ReportError::File { path: self.path.clone(), source })
    }
}
