//! The advisories' feed as the Xen project publishes it: `xsa.json`, and beside it an `xsaN.meta` for each advisory with patches.
//!
//! Neither has a published schema. Read at: for `xsa.json` (a list whose first item has `xsas`, each with `xsa`, `title`, `cve`,
//! `public_time`) the importers of <https://github.com/aboutcode-org/vulnerablecode>; for `xsaN.meta` (`Recipes` by branch, in each `Recipes`
//! by repository with `StableRef`, `Prereqs`, `Patches`) <https://xenbits.xen.org/xsa/xsa237.meta> as a public reader of it quotes it.
//! Keys that are not known are let pass: the format is not ours.

use crate::date::Date;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// An advisory, with its recipes where the feed has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advisory {
    /// Its number.
    pub xsa: u32,
    /// Its title; empty where the feed has none, as for one that is under embargo.
    pub title: String,
    /// Its CVEs.
    pub cve: Vec<String>,
    /// When it became public; none where the feed does not say or says it in words.
    pub public: Option<Date>,
    /// What `xsaN.meta` says.
    pub meta: Option<Meta>,
}

/// `xsaN.meta`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Meta {
    /// By branch: `4.20`, `master`.
    #[serde(rename = "Recipes")]
    pub recipes: BTreeMap<String, Branch>,
}

/// What an advisory has for a branch.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Branch {
    /// By repository.
    #[serde(rename = "Recipes", default)]
    pub trees: BTreeMap<String, Recipe>,
}

/// The patches for a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Recipe {
    /// The commit that they were made for.
    #[serde(rename = "StableRef", default)]
    pub stable_ref: Option<String>,
    /// Advisories whose patches come before.
    #[serde(rename = "Prereqs", default)]
    pub prereqs: Vec<u32>,
    /// Files beside the feed, or patterns of their names, in order.
    #[serde(rename = "Patches", default)]
    pub patches: Vec<String>,
}

impl Meta {
    /// Reads `xsaN.meta`. The error is the line, column and reason.
    ///
    /// # Errors
    /// It is no JSON, or not of this shape.
    pub fn read(text: &str) -> Result<Meta, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    /// It has patches of Xen's own for the branch.
    pub fn touches(&self, branch: &str) -> bool {
        self.recipe(branch, super::XEN).is_some_and(|r| !r.patches.is_empty())
    }

    /// The recipe for a repository on a branch.
    pub fn recipe(&self, branch: &str, tree: &str) -> Option<&Recipe> {
        self.recipes.get(branch)?.trees.get(tree)
    }

    /// Every repository that it has patches for, on whatever branch.
    pub fn trees(&self) -> BTreeSet<&str> {
        let trees = self.recipes.values().flat_map(|branch| &branch.trees);
        trees.filter(|(_, recipe)| !recipe.patches.is_empty()).map(|(tree, _)| tree.as_str()).collect()
    }
}

/// Why a feed cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    Json(String),
    /// It is JSON of another shape.
    #[error(
        "{at}: {what}; expected what https://xenbits.xen.org/xsa/xsa.json is: a list with one item that has `xsas`, each with `xsa`, its number"
    )]
    Shape {
        /// Where.
        at: String,
        /// What is there.
        what: String,
    },
}

/// Reads `xsa.json`; the recipes come later.
///
/// # Errors
/// See [`FeedError`]. A number that is there twice is one: nobody could say which of them counts.
pub fn read(text: &str) -> Result<Vec<Advisory>, FeedError> {
    let shape = |at: &str, what: &str| FeedError::Shape { at: at.to_owned(), what: what.to_owned() };
    let value: Value = serde_json::from_str(text).map_err(|e| FeedError::Json(e.to_string()))?;
    let lists: Vec<&Value> = match &value {
        Value::Array(items) => items.iter().collect(),
        item => vec![item],
    };
    let mut advisories: BTreeMap<u32, Advisory> = BTreeMap::new();
    for (n, item) in lists.iter().enumerate() {
        let xsas = item.get("xsas").and_then(Value::as_array);
        let xsas = xsas.ok_or_else(|| shape(&format!("[{n}]"), "there is no list `xsas`"))?;
        for (m, xsa) in xsas.iter().enumerate() {
            let at = format!("[{n}].xsas[{m}]");
            let number = match xsa.get("xsa") {
                Some(Value::Number(number)) => number.as_u64().and_then(|x| u32::try_from(x).ok()),
                Some(Value::String(text)) => text.trim_start_matches("XSA-").parse().ok(),
                _ => None,
            };
            let number = number.ok_or_else(|| shape(&at, "`xsa` is no number"))?;
            let text = |key: &str| xsa.get(key).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
            let cve = xsa.get("cve").and_then(Value::as_array).into_iter().flatten();
            let advisory = Advisory {
                xsa: number,
                title: text("title"),
                cve: cve.filter_map(Value::as_str).map(str::to_owned).collect(),
                public: Date::of_time(&text("public_time")),
                meta: None,
            };
            if advisories.insert(number, advisory).is_some() {
                return Err(shape(&at, &format!("XSA-{number} is there twice")));
            }
        }
    }
    if advisories.is_empty() {
        return Err(shape("[0].xsas", "there are no advisories"));
    }
    Ok(advisories.into_values().collect())
}
