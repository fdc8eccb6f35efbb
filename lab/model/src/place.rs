//! Where in a scenario (or on the command line) a value was written.

use std::fmt;

/// The origin of a value: what an error or a failed check points at.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A scenario file; `line` and `column` count from 1, `column` in characters.
    File {
        /// As the user named it.
        file: String,
        /// From 1.
        line: u32,
        /// From 1.
        column: u32,
    },
    /// `--set`, `--xen` and the like; `argument` counts the command line's arguments from 1.
    CommandLine {
        /// Position, from 1, the program's name not counted.
        argument: usize,
    },
    /// A default of the language or of an architecture.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, line, column } => write!(f, "{file}:{line}:{column}"),
            Place::CommandLine { argument } => write!(f, "command line, argument {argument}"),
            Place::Default => write!(f, "default"),
        }
    }
}

/// Key path (`steps[3].xl-info.xen_version`) → where it was written.
pub type Places = std::collections::BTreeMap<String, Place>;
