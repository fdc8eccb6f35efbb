//! Report files that are whole at every moment.

use crate::ReportError;
use std::io::Write;
use std::path::Path;

/// Writes a file anew: readers, and whoever comes after an interruption, see the old content or the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), ReportError> {
    let error = |source| ReportError::File { path: path.to_owned(), source };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = std::fs::File::create(&temporary)
        .and_then(|mut f| f.write_all(content))
        .and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        error(source)
    })
}
