//! What a git history says of advisories. Xen's commits end in `This is XSA-504 / CVE-2026-62431.` or `This is part of XSA-492.`

use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// The format for `git log --format`: a commit's hash, its message, and what cannot be in either.
pub const FORMAT: &str = "%H%x1f%B%x1e";

/// What commits [`read`] cannot do without, for `git log -E --grep`.
pub const GREPS: [&str; 2] = ["XSA-[0-9]", "This reverts commit [0-9a-f]"];

/// What a history has of an advisory.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Claim {
    /// Commits that say they are it, or part of it; the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commits: Vec<String>,
    /// One of them says that it is only a part.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub parts: bool,
    /// Commits that said so and were reverted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reverted: Vec<String>,
}

impl Claim {
    /// It is the whole fix, of so many patches; where their number is not known, a commit that calls itself a part says nothing.
    pub fn covers(&self, patches: usize, counted: bool) -> bool {
        let enough = !self.commits.is_empty() && self.commits.len() >= patches;
        enough && (counted || !self.parts)
    }

    /// `commit 0123456789ab`, or several.
    pub fn told(&self) -> String {
        let short: Vec<&str> = self.commits.iter().map(|c| short(c)).collect();
        match short.as_slice() {
            [one] => format!("commit {one}"),
            [first, .., last] => format!("{} commits, {last} to {first}", short.len()),
            [] => "no commit".to_owned(),
        }
    }
}

/// A commit's hash, for people.
pub(super) fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

/// What the commits of a history say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// By advisory.
    pub claims: BTreeMap<u32, Claim>,
    /// Beginnings of the hashes of what was reverted, by commits that were not reverted themselves.
    pub reverted: BTreeSet<String>,
}

impl Said {
    /// A commit was reverted, as a later one says that names it.
    pub fn undone(&self, hash: &str) -> bool {
        self.reverted.iter().any(|r| hash.starts_with(r.as_str()))
    }
}

/// A statement that the commit is the fix: nothing may stand between `This is` and the number but `part of` and names of the same thing, so
/// that a commit that only speaks of an advisory is none.
static SAYS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let name = r"(?:CVE-\d+-\d+|XSA-\d+)";
    Regex::new(&format!(
        r"(?i)\b(?:this|everything together)\s+is\s+((?:(?:also|part\s+of|{name})[\s/,]*(?:and\s+)?)*XSA-\d+)\b"
    ))
    .ok()
});
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(?i)XSA-(\d+)").ok());
static REVERTS: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"This reverts commit ([0-9a-f]{7,40})").ok());

/// Reads what `git log` printed in [`FORMAT`], the latest commit first.
pub fn read(text: &str) -> Said {
    // A revert comes before what it reverts.
    let mut history = Said::default();
    let (Some(says), Some(number), Some(reverts)) = (&*SAYS, &*NUMBER, &*REVERTS) else { return history };
    for record in text.split('\u{1e}') {
        let Some((hash, message)) = record.trim_start().split_once('\u{1f}') else { continue };
        let is_undone = history.undone(hash);
        let mut reverting = false;
        for found in reverts.captures_iter(message) {
            reverting = true;
            if !is_undone {
                history.reverted.insert(found[1].to_owned());
            }
        }
        if reverting {
            continue;
        }
        let mut said: BTreeMap<u32, bool> = BTreeMap::new();
        for found in says.captures_iter(message) {
            let whole = &found[0];
            let lower = whole.to_ascii_lowercase();
            let part = lower.contains("part") || lower.contains("together");
            for n in number.captures_iter(&found[1]) {
                if let Ok(n) = n[1].parse() {
                    *said.entry(n).or_default() |= part;
                }
            }
        }
        for (xsa, part) in said {
            let claim = history.claims.entry(xsa).or_default();
            if is_undone {
                claim.reverted.push(hash.to_owned());
            } else {
                claim.commits.push(hash.to_owned());
                claim.parts |= part;
            }
        }
    }
    history
}
