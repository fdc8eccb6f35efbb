//! Conditions: several facts and what each must be. Three-valued, since a fact may not be known yet.

use crate::matcher::Matcher;
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
