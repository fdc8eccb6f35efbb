//! Running the programs that the store needs.

use crate::StoreError;
use std::process::{Command, Output, Stdio};

/// `Interrupted` once the user has asked for an end.
pub(crate) fn check_interrupted() -> Result<(), StoreError> {
    Ok(())
}

/// Runs a program to its end, both outputs captured. The exit status is for the caller to judge.
pub(crate) fn output(command: &mut Command, package: &'static str) -> Result<Output, StoreError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").output().map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => StoreError::ToolMissing { program, package },
        _ => StoreError::io("start", program.as_ref(), e),
    })
}
