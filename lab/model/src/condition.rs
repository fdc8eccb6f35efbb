//! Conditions: several facts and what each must be. Three-valued, since a fact may not be known yet.

use crate::fact::{self, FactValue, Facts};
use crate::matcher::{Matcher, Outcome};
use serde::{Deserialize, Serialize};

/// `{FACT: matcher, …}`: all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct Condition(pub std::collections::BTreeMap<String, Matcher>);

/// The value of a condition while some facts are unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Truth {
    /// Every fact is known and matches.
    Holds,
    /// One that is known does not match; the text says which, what it is and what was expected.
    Fails(String),
    /// Not yet to be said: these facts are unknown.
    Unknown(Vec<String>),
}

/// What a fact that is not there means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It may become known. Only for the facts of [`fact::FACTS`]: whether a key of the scenario is set is always known.
    Unknown,
    /// Everything that can be known is: there is no such value, which only `present: false` expects.
    Nothing,
}

impl Condition {
    /// Whether it holds. A fact that is known and does not match decides, whatever else is unknown.
    pub fn evaluate(&self, facts: &Facts, absent: Absent) -> Truth {
        let mut unknown = Vec::new();
        for (name, matcher) in &self.0 {
            let value = facts.get(name);
            let missing = value.is_none() && absent == Absent::Unknown && fact::info(name).is_some();
            if missing {
                unknown.push(name.clone());
                continue;
            }
            match matcher.test(value, facts) {
                Outcome::Holds => {}
                Outcome::Fails { expected, seen } => {
                    return Truth::Fails(format!(
                        "{name}: expected {expected}, {}",
                        seen_words(value, &seen)
                    ));
                }
                Outcome::Unknown { facts: names } if absent == Absent::Unknown => unknown.extend(names),
                Outcome::Unknown { facts: names } => {
                    return Truth::Fails(format!("{name}: nothing is known of {}", names.join(", ")));
                }
            }
        }
        unknown.sort();
        unknown.dedup();
        if unknown.is_empty() { Truth::Holds } else { Truth::Unknown(unknown) }
    }

    /// The names of the facts it is about.
    pub fn facts(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

fn seen_words(value: Option<&FactValue>, seen: &str) -> String {
    match value {
        Some(_) => format!("it is {seen}"),
        None => "it has no value".to_owned(),
    }
}
