//! `xenlab selftest`: would the lab notice? Every row of [`faults`](crate::faults) is planted in good artefacts and must be caught, with
//! the right cause and blame; and as many runs in which nothing is wrong must pass.
//!
//! A trial is a run of the program itself, as a user would start it, and is judged by what that left: exit code, bundles, and the same
//! verdicts again when its bundles are replayed. tests/real.rs is a view of it.

mod attempt;
mod judge;
mod score;

pub use attempt::{Harness, Told, run};
pub use score::{Outcome, Score, Tried};

use crate::faults::{ROWS, Row};
use xenlab_model::Arch;
use xenlab_model::verdict::Verdict;

/// What a trial shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A fault is planted, and must be caught.
    Fault,
    /// Something unusual is planted, or nothing, and nothing bad may be said.
    Good,
}

/// A row on one architecture.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// The row.
    pub row: &'static Row,
    /// Where.
    pub arch: Arch,
    /// The row's scenario alone: what is planted is left out, and with it the limits that are short because of it.
    pub without: bool,
}

impl Trial {
    /// What it is called: `ROW::ARCH`, with `::without` where nothing is planted.
    pub fn name(&self) -> String {
        let without = if self.without { "::without" } else { "" };
        format!("{}::{}{without}", self.row.name, self.arch)
    }

    /// What it shows.
    pub fn kind(&self) -> Kind {
        if self.without || self.row.expect.verdict == Verdict::Pass { Kind::Good } else { Kind::Fault }
    }
}

/// Every trial: each row, and beside each fault the same run without it, where that is a good one.
pub fn trials() -> Vec<Trial> {
    let of = |row: &'static Row, without| row.archs.iter().map(move |&arch| Trial { row, arch, without });
    let fault = |row: &&Row| row.expect.verdict != Verdict::Pass;
    let planted = ROWS.iter().flat_map(|row| of(row, false));
    let without = ROWS.iter().filter(fault).filter(|row| row.good_without()).flat_map(|row| of(row, true));
    planted.chain(without).collect()
}

/// The trials with this name, else those with this part in theirs; of several, any of them.
pub fn chosen(all: Vec<Trial>, only: &[String]) -> Vec<Trial> {
    if only.is_empty() {
        return all;
    }
    let is = |t: &Trial, word: &String| t.name() == *word || t.row.name == word && !t.without;
    let whole: Vec<&String> = only.iter().filter(|word| all.iter().any(|t| is(t, word))).collect();
    let parts: Vec<&String> = only.iter().filter(|word| !whole.contains(word)).collect();
    all.iter()
        .filter(|t| {
            whole.iter().any(|word| is(t, word)) || parts.iter().any(|word| t.name().contains(word.as_str()))
        })
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_good_runs_as_faults() {
        let all = trials();
        let count = |kind| all.iter().filter(|t| t.kind() == kind).count();
        let (faults, good) = (count(Kind::Fault), count(Kind::Good));
        assert!(faults >= 60, "{faults} faults");
        assert!(good >= faults, "{faults} faults and {good} good runs");
    }

    #[test]
    fn chosen_by_whole_name_else_by_part() {
        let named = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            chosen(trials(), &words).iter().map(Trial::name).collect::<Vec<_>>()
        };
        assert_eq!(named(&["xen-truncated::aarch64"]), ["xen-truncated::aarch64"]);
        assert_eq!(named(&["xen-truncated"]), ["xen-truncated::x86_64", "xen-truncated::aarch64"]);
        assert!(named(&["truncated"]).len() > 4);
        assert!(named(&["no-such-row"]).is_empty());
        assert_eq!(named(&["guest-panics::x86_64", "xen-panics::x86_64"]).len(), 2);
    }
}
