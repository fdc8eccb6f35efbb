//! Tests of the language, by concern.

use super::{Set, Settings, Trees, load, render};
use crate::case::Case;
use crate::fact::Facts;
use crate::xtf::{Test, Tree};
use std::sync::Arc;

mod expectations;
mod mistakes;
mod planning;
mod precedence;
mod properties;
mod shipped;
mod values;
mod xtf;

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
    Settings { sets, seed: 7, trees: Trees(tree) }
}

/// The one tree there is, in /a/tree.
fn tree(path: &str) -> Result<Arc<Tree>, String> {
    if path != "/a/tree" {
        return Err(format!("{path} is no XTF tree"));
    }
    let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    let test = |name: &str, category: &str, environments: &[&str], variations: &[&str]| Test {
        name: name.to_owned(),
        category: category.to_owned(),
        environments: words(environments),
        variations: words(variations),
    };
    let tests = vec![
        test("example", "special", &["pv64", "hvm64"], &[]),
        test("invlpg", "functional", &["hvm64"], &["hap", "shadow"]),
        test("xsa-7", "xsa", &["pv64"], &[]),
    ];
    Ok(Arc::new(Tree { tests }))
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
