//! What the user says of the budget.

use super::VARIABLE;
use std::path::PathBuf;
use xenlab_model::units::Size;

/// What was said; what was not is as the host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// There is to be none.
    pub off: bool,
    pub cores: Option<usize>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Where the labs that share it look.
    pub dir: Option<PathBuf>,
}

/// The variable does not say a budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{VARIABLE}: {what}; expected `off`, or any of cores=N, memory=SIZE and dir=PATH with commas between, as cores=4,memory=8G"
)]
pub struct SaidError {
    what: String,
}

impl Said {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Said, SaidError> {
        let wrong = |what: String| SaidError { what };
        let mut said = Said::default();
        if text.trim() == "off" {
            said.off = true;
            return Ok(said);
        }
        for word in text.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            match word.split_once('=') {
                Some(("cores", n)) => {
                    let cores = n.parse().ok().filter(|n| *n > 0);
                    said.cores = Some(cores.ok_or_else(|| wrong(format!("`{n}` is no number of cores")))?);
                }
                Some(("memory", size)) => {
                    let size: Size = size.parse().map_err(wrong)?;
                    said.memory = Some(size.0);
                }
                Some(("dir", path)) if PathBuf::from(path).is_absolute() => said.dir = Some(path.into()),
                Some(("dir", path)) => return Err(wrong(format!("`{path}` is no absolute path"))),
                _ => return Err(wrong(format!("`{word}` is not known"))),
            }
        }
        Ok(said)
    }
}
