//! Tests of the language, by concern.

use super::{Set, Settings, load, render};
use crate::case::Case;
use crate::fact::Facts;

mod mistakes;
mod planning;
mod precedence;
mod properties;
mod shipped;
mod values;

/// `PATH=VALUE`s as the command line's arguments.
fn settings(sets: &[&str]) -> Settings {
    let sets = sets
        .iter()
        .enumerate()
        .map(|(i, s)| {
            let (path, value) = s.split_once('=').unwrap();
            Set { path: path.to_owned(), value: value.to_owned(), argument: i + 2 }
        })
        .collect();
    Settings { sets, seed: 7, ..Settings::default() }
}

/// The cases of a text that has no mistakes.
fn cases(text: &str, sets: &[&str]) -> Vec<Case> {
    load(text, "t.yaml", &settings(sets), &Facts::default())
        .unwrap_or_else(|d| panic!("{}", render(&d, false)))
}

/// What a user is shown for a text that has some.
fn shown(text: &str, sets: &[&str]) -> String {
    match load(text, "t.yaml", &settings(sets), &Facts::default()) {
        Ok(cases) => panic!("no mistake was found, but {} cases were made", cases.len()),
        Err(d) => render(&d, false),
    }
}
