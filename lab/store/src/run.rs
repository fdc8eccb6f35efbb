//! Running the programs that the store needs: everything through [`xenlab_host::child`].

use crate::StoreError;
use std::path::Path;
use xenlab_host::child::{ChildError, Command, Output};

/// `Interrupted` once the user has asked for an end.
pub(crate) fn check_interrupted() -> Result<(), StoreError> {
    if xenlab_host::interrupt::requested() { Err(StoreError::Interrupted) } else { Ok(()) }
}

/// Runs a program to its end, both outputs captured. The exit status is for the caller to judge.
pub(crate) fn output(command: Command) -> Result<Output, StoreError> {
    Ok(command.env("LC_ALL", "C.UTF-8").output()?)
}

impl From<ChildError> for StoreError {
    fn from(e: ChildError) -> Self {
        match e {
            ChildError::NotFound { program, hint } => StoreError::ToolMissing { program, hint },
            ChildError::Interrupted { .. } => StoreError::Interrupted,
            ChildError::Failed { program, ended, stderr } => {
                StoreError::tool(&program, &ended.to_string(), &stderr, Path::new(&program))
            }
            e => StoreError::Other(e.to_string()),
        }
    }
}
