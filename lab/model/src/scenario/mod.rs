//! The scenario language: text → tree with places → checked against the schema → cases.
//!
//! See docs/SCENARIO.md for the grammar. Three passes, each collecting what is wrong rather than stopping at it:
//! [`tree`] reads the text, `walk` checks it against the schema made from the types, `expand` makes the cases.

mod conditions;
pub mod config;
mod de;
pub mod diagnostic;
mod expand;
mod expectations;
pub mod file;
mod generator;
mod guests;
mod interpolate;
mod known;
mod parts;
mod read;
mod schema;
mod semantic;
pub mod tree;
mod walk;

pub(crate) use walk::last_line;

#[cfg(test)]
mod tests;

use crate::case::Case;
use crate::fact::Facts;
use crate::place::Place;
use crate::xtf::Tree;
pub use config::Config;
pub use diagnostic::{Diagnostic, render};
pub use expectations::{ExpectationsFile, expectation_files, is_expectations, load_expectations};
pub use schema::{PathInfo, expectations_schema, schema};
use std::sync::Arc;

/// A value that the command line puts at a PATH: `--set PATH=VALUE`, `--xen X` (`xen=X`), `--arch A` (`arch=A`), ….
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// The PATH.
    pub path: String,
    /// The value; text, or a list or mapping in YAML's flow style when it begins with `[` or `{`.
    pub value: String,
    /// Position on the command line, from 1.
    pub argument: usize,
}

/// Reads built XTF trees: by it the language, which knows no file system, learns what a generator's values are.
#[derive(Clone, Copy)]
pub struct Trees(pub fn(&str) -> Result<Arc<Tree>, String>);

impl Trees {
    /// The tree that a file names at this place; that there is none is a diagnostic.
    fn read(self, tree: &str, at: &tree::Origin, diagnostics: &mut Vec<Diagnostic>) -> Option<Arc<Tree>> {
        let bad = |message| {
            diagnostics.push(
                Diagnostic::new(at, message)
                    .expected("the folder of a built XTF tree, with tests/NAME/info.json"),
            );
        };
        (self.0)(tree).map_err(bad).ok()
    }
}

impl Default for Trees {
    fn default() -> Self {
        Trees(|tree| Err(format!("{tree}: no XTF tree can be read here")))
    }
}

impl std::fmt::Debug for Trees {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trees")
    }
}

/// What the command line says.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// In the order given. Several for one PATH make an axis.
    pub sets: Vec<Set>,
    /// What nonces are made from: different in every run, so that no guest can know one beforehand.
    pub seed: u64,
    /// Reads the trees that a scenario names.
    pub trees: Trees,
}

/// Reads a scenario and makes its cases, in the order of its matrix, the last axis turning fastest.
///
/// `facts` are those known already and the same for every case (`host.*`). What depends on the case, as `qemu.version` on
/// its architecture and `build.*` on its subject, comes later: [`Case::plan`] for `needs`, and for a step's `when`
/// [`Condition::evaluate`](crate::condition::Condition::evaluate), each with the case's own facts and the new ones.
/// `file` is the name that messages and places use.
///
/// # Errors
/// Every mistake found, in the order of the text.
pub fn load(
    text: &str,
    file: &str,
    settings: &Settings,
    facts: &Facts,
) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let (scenario, sources, mut diagnostics) = read::read(text, file, settings);
    let cases = match &scenario {
        Some(scenario) => expand::cases(scenario, settings, facts, &mut diagnostics),
        None => Vec::new(),
    };
    if diagnostics.is_empty() {
        return Ok(cases);
    }
    diagnostics.sort_by_key(|d| match &d.place {
        Place::File { line, column, .. } => (0, *line, *column),
        Place::CommandLine { argument } => (1, u32::try_from(*argument).unwrap_or(u32::MAX), 0),
        Place::Default => (2, 0, 0),
    });
    // Each case says it again, and so does the walk of the file as written.
    let mut told: Vec<Diagnostic> = Vec::new();
    for mut diagnostic in diagnostics {
        sources.attach(&mut diagnostic);
        if !told.iter().any(|d| d.place == diagnostic.place && d.message == diagnostic.message) {
            told.push(diagnostic);
        }
    }
    Err(told)
}

/// Every PATH that an axis, an override and `--set` can set (`vars.NAME` aside), with its type and help, in the order
/// of the schema; for `xenlab facts`.
pub fn paths() -> &'static [PathInfo] {
    schema::Schemas::get().paths()
}
