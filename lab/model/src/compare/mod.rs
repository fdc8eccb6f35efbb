//! Comparing two runs: what got worse, what got better, what was never looked at.
//!
//! [`compare`] is one pure function over what two runs recorded; `xenlab diff`, `bump` and `history` are views of what it says.
//! Things are matched by what they are, not where they stand: a case by its id (which leaves the subject out), a step by its title,
//! a check by its name, with the versions, nonces and addresses of either side folded away.
//!
//! What is judged (cases, steps, checks) is compared by verdict; what is only seen (facts, `xl info`, consoles, times) is compared by
//! value, and says `regression` only where something that people rely on is gone.

mod along;
mod bump;
mod console;
mod fold;
mod judged;
mod points;
mod seen;

pub use along::{values_of, with_value};
pub use bump::Bump;
pub use console::{Remark, remarks};
pub use fold::{Folder, fold};
pub use points::{MUST_HOLD, MustHold, POINTS, Point, Standing, must_hold, points};
pub use seen::{BOOT, line, members, phase_order};

use crate::evidence::Evidence;
use crate::exit::Exit;
use crate::fact::Facts;
use crate::verdict::CaseVerdict;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// A case as it was recorded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample {
    /// Its id, without the subject.
    pub id: String,
    /// The Xen build.
    pub subject: String,
    /// Its nonce: what is in no other run.
    pub nonce: String,
    /// The architecture.
    pub arch: String,
    /// Its steps as planned: key path and title.
    pub planned: Vec<(String, String)>,
    /// Everything known when it was judged.
    pub facts: Facts,
    /// What its steps observed.
    pub evidence: Vec<Evidence>,
    /// Its verdict; none where the run was killed.
    pub verdict: Option<CaseVerdict>,
    /// What was on its machine's console.
    pub console: Vec<u8>,
    /// Boot phases with the guest time at which each was reached.
    pub phases: Vec<(String, f64)>,
    /// Where it is recorded.
    pub bundle: String,
}

/// One side of a comparison: the recorded cases of one subject. A case that was run several times is there several times.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// What it is called: the subject.
    pub name: String,
    /// Its cases.
    pub samples: Vec<Sample>,
}

/// What is known of a thing from runs before both sides: how often it passed, how often it failed.
pub type Past = BTreeMap<Key, (u32, u32)>;

/// What is compared by its verdict: a case, a step of it, a check of that.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The case's id.
    pub case: String,
    /// The step's title; a second one of that title has `#2` behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// The check's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<String>,
}

/// How one thing stands on two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// It held and does not any more, or what people rely on is gone.
    Regression,
    /// It came out now one way, now the other, within one side.
    Flaky,
    /// It fails, and nobody knows whether it did before: it was there and could not be judged.
    NoBaseline,
    /// It is there for the first time.
    New,
    /// It did not hold and does now.
    Fixed,
    /// It failed before too.
    FailedBefore,
    /// It fails on both sides, and in no run that is known did it pass.
    NeverPassed,
    /// It was seen with another value; that alone is neither good nor bad.
    Changed,
    /// It was not judged in the new run, for a reason that is told; never counted with what passes.
    NotChecked,
    /// As before, and good.
    Same,
}

impl Class {
    /// Every class, in the order in which reports have them.
    pub const ALL: [Class; 10] = [
        Class::Regression,
        Class::Flaky,
        Class::NoBaseline,
        Class::New,
        Class::Fixed,
        Class::FailedBefore,
        Class::NeverPassed,
        Class::Changed,
        Class::NotChecked,
        Class::Same,
    ];

    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Class::Regression => "regression",
            Class::Flaky => "flaky",
            Class::NoBaseline => "no baseline",
            Class::New => "new",
            Class::Fixed => "fixed",
            Class::FailedBefore => "failed before too",
            Class::NeverPassed => "never passed",
            Class::Changed => "changed",
            Class::NotChecked => "not checked",
            Class::Same => "same",
        }
    }
}

/// How something was judged on one side, over every time it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// So often it passed.
    pub passed: u32,
    /// So often it failed.
    pub failed: u32,
    /// So often it was there and could not be judged.
    pub not_judged: u32,
    /// Of `failed`, so often as an expectation says.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub expected: u32,
    /// The lab could not do it, of `not_judged`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub errors: u32,
    /// What was said: of the first failure, else of the first time it was not judged, else of the first time.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Cause of the first failure, or of the first error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<crate::cause::Cause>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Something judged, on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    #[serde(flatten)]
    pub key: Key,
    /// How it stands.
    pub class: Class,
    /// On the old side; none where there was no such thing.
    pub old: Option<Judged>,
    /// On the new side.
    pub new: Option<Judged>,
}

impl Item {
    /// It fails on the new side, every time it was judged there, is not known to have failed before, and no expectation says that it
    /// does. What is flaky is told and does not count: that a run failed once says little of this Xen.
    pub fn counts(&self) -> bool {
        let fails = self.new.as_ref().is_some_and(|new| new.failed > new.expected);
        fails && matches!(self.class, Class::Regression | Class::NoBaseline | Class::New)
    }
}

/// What was seen and is not judged, on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What it is about: `xl info`, `Kconfig`, `console of Xen`.
    pub topic: String,
    /// What of it.
    pub name: String,
    /// On the old side; none where there was no such thing.
    pub old: Option<String>,
    /// On the new side.
    pub new: Option<String>,
    /// How it stands.
    pub class: Class,
    /// Why it stands so, where that does not go without saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// In which cases, or for which architecture.
    #[serde(default)]
    pub of: BTreeSet<String>,
}

/// What came of comparing two runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// 1.
    pub format: u32,
    /// The old side's name.
    pub old: String,
    /// The new side's.
    pub new: String,
    /// Every case, each followed by its steps and their checks.
    pub items: Vec<Item>,
    /// What was seen.
    pub lines: Vec<Line>,
    /// The cases of each architecture, of either side: what is so in all of them is said of the architecture.
    #[serde(default)]
    pub archs: BTreeMap<String, BTreeSet<String>>,
}

impl Comparison {
    /// The cases alone.
    pub fn cases(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|i| i.key.step.is_none())
    }

    /// The checks alone: the smallest things that are judged.
    pub fn checks(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|i| i.key.check.is_some())
    }

    /// Of what a line is, in words: architectures where it is so in all their cases, else cases; nothing where it is so everywhere.
    pub fn of(&self, line: &Line) -> Vec<String> {
        let whole = |arch: &str, cases: &BTreeSet<String>| {
            line.of.contains(arch) || (!cases.is_empty() && cases.is_subset(&line.of))
        };
        let archs: Vec<&String> = self.archs.iter().filter(|(a, c)| whole(a, c)).map(|(a, _)| a).collect();
        if archs.len() == self.archs.len() || line.of.is_empty() {
            return Vec::new();
        }
        let in_one = |of: &String| archs.iter().any(|a| *a == of || self.archs[*a].contains(of));
        let rest = line.of.iter().filter(|of| !in_one(of));
        archs.iter().map(|a| (*a).clone()).chain(rest.cloned()).collect()
    }

    /// The cases that came to different ends: those that got worse, and those that got better.
    pub fn worse_and_better(&self) -> (Vec<String>, Vec<String>) {
        let of = |class| self.cases().filter(move |i| i.class == class).map(|i| i.key.case.clone()).collect();
        (of(Class::Regression), of(Class::Fixed))
    }

    /// Adds lines, those that say the same as one.
    pub fn add(&mut self, lines: impl IntoIterator<Item = Line>) {
        seen::merge(&mut self.lines, lines);
    }

    /// 1 where something got worse, or fails and is not known to have failed before; 3 where the lab could not judge what it should
    /// have on the new side, or judged nothing; else 0.
    pub fn exit(&self) -> Exit {
        let worse = self.items.iter().any(Item::counts)
            || self.lines.iter().any(|line| line.class == Class::Regression);
        if worse {
            return Exit::Failed;
        }
        let judged = |i: &Item| i.new.as_ref().is_some_and(|new| new.passed + new.failed > 0);
        let lost = self.cases().any(|i| i.new.as_ref().is_some_and(|new| new.errors > 0));
        if lost || !self.cases().any(judged) { Exit::Lab } else { Exit::Passed }
    }
}

/// Compares two runs; `past` is what is known of runs before them.
pub fn compare(old: &Side, new: &Side, past: &Past) -> Comparison {
    let mut comparison = Comparison {
        format: crate::bundle::FORMAT,
        old: old.name.clone(),
        new: new.name.clone(),
        items: judged::items(old, new, past),
        lines: Vec::new(),
        archs: BTreeMap::new(),
    };
    for sample in old.samples.iter().chain(&new.samples) {
        comparison.archs.entry(sample.arch.clone()).or_default().insert(sample.id.clone());
    }
    let ids: Vec<&str> = comparison.cases().map(|i| i.key.case.as_str()).collect();
    let mut lines = Vec::new();
    for id in ids {
        lines.extend(seen::lines(id, &of_case(old, id), &of_case(new, id)));
    }
    comparison.add(lines);
    comparison
}

/// Everything that was judged of one recorded case: itself, its steps, their checks.
pub fn judged(sample: &Sample) -> Vec<(Key, Judged)> {
    judged::of(sample)
}

fn of_case<'a>(side: &'a Side, id: &str) -> Vec<&'a Sample> {
    side.samples.iter().filter(|s| s.id == id).collect()
}

#[cfg(test)]
mod tests;
