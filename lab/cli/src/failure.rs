//! What ends a command without a verdict: a message for stderr and one of the five exit codes.

use xenlab_model::cause::{Blame, Cause};
use xenlab_model::exit::Exit;

/// A command's failure.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What is printed after `xenlab: `; empty when everything has been said.
    pub message: String,
}

impl Failure {
    /// The command line, a scenario or a recipe is wrong.
    pub fn bad_input(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::BadInput, message: message.into() }
    }

    /// The lab could not do it.
    pub fn lab(message: impl Into<String>) -> Failure {
        Failure { exit: Exit::Lab, message: message.into() }
    }

    /// By the cause of an error.
    pub fn of(cause: Cause, message: impl std::fmt::Display) -> Failure {
        let exit = match (cause, cause.blame()) {
            (Cause::Interrupted, _) => Exit::Interrupted,
            (_, Blame::Scenario) => Exit::BadInput,
            // The one thing that a command without a verdict can say of a build: there is none to look at.
            (Cause::BuildFailed, _) => Exit::Failed,
            _ => Exit::Lab,
        };
        Failure { exit, message: format!("{message} [{cause}]") }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(e: anyhow::Error) -> Failure {
        Failure::lab(format!("{e:#}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Failure {
        Failure::lab(e.to_string())
    }
}
