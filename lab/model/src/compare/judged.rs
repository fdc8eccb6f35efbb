//! What is judged, compared by verdict.

use super::{Class, Folder, Item, Judged, Key, Past, Sample, Side};
use crate::cause::Cause;
use crate::verdict::Verdict;
use std::collections::BTreeMap;

/// Every case of either side in the order of the new one, each followed by its steps and their checks.
pub(super) fn items(old: &Side, new: &Side, past: &Past) -> Vec<Item> {
    let (olds, news) = (judged(old), judged(new));
    let mut keys: Vec<&Key> = news.order.iter().collect();
    // What is gone comes where it was: behind what was before it.
    for (i, key) in olds.order.iter().enumerate() {
        if news.by_key.contains_key(key) {
            continue;
        }
        let before = olds.order[..i].iter().rev().find_map(|k| keys.iter().position(|have| *have == k));
        keys.insert(before.map_or(0, |at| at + 1), key);
    }
    let item = |key: &Key| {
        let (old, new) = (olds.by_key.get(key), news.by_key.get(key));
        let class = class(old, new, past.get(key).copied());
        Item { key: key.clone(), class, old: old.cloned(), new: new.cloned() }
    };
    keys.into_iter().map(item).collect()
}

/// How something stands that was judged so on the one side and so on the other; `past` is how often it passed and failed before.
pub(super) fn class(old: Option<&Judged>, new: Option<&Judged>, past: Option<(u32, u32)>) -> Class {
    let before = old.map(Judged::stand);
    let Some(now) = new.map(Judged::stand) else {
        return Class::NotChecked;
    };
    match (before, now) {
        (_, Stand::NotJudged) => Class::NotChecked,
        (_, Stand::Both) | (Some(Stand::Both), _) => Class::Flaky,
        (None, _) => Class::New,
        (Some(Stand::NotJudged), _) => Class::NoBaseline,
        (Some(Stand::Passed), Stand::Passed) => Class::Same,
        (Some(Stand::Passed), Stand::Failed) => Class::Regression,
        (Some(Stand::Failed), Stand::Passed) => Class::Fixed,
        (Some(Stand::Failed), Stand::Failed) => match past {
            Some((0, failed)) if failed > 0 => Class::NeverPassed,
            _ => Class::FailedBefore,
        },
    }
}

/// How something stands on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Passed,
    Failed,
    Both,
    NotJudged,
}

impl Judged {
    pub(super) fn stand(&self) -> Stand {
        match (self.passed, self.failed) {
            (0, 0) => Stand::NotJudged,
            (_, 0) => Stand::Passed,
            (0, _) => Stand::Failed,
            _ => Stand::Both,
        }
    }

    fn take(&mut self, verdict: Verdict, expected: bool, message: &str, cause: Option<Cause>) {
        let first = match verdict {
            Verdict::Pass => {
                self.passed += 1;
                self.passed + self.failed + self.not_judged == 1
            }
            Verdict::Fail => {
                self.failed += 1;
                self.expected += u32::from(expected);
                self.failed == 1
            }
            Verdict::Error | Verdict::Skip | Verdict::NotReached => {
                self.not_judged += 1;
                self.errors += u32::from(verdict != Verdict::Skip && !expected);
                self.failed == 0 && self.not_judged == 1
            }
        };
        if first {
            message.clone_into(&mut self.message);
            self.cause = cause;
        }
    }
}

#[derive(Default)]
struct All {
    order: Vec<Key>,
    by_key: BTreeMap<Key, Judged>,
}

impl All {
    fn of(&mut self, key: Key) -> &mut Judged {
        if !self.by_key.contains_key(&key) {
            self.order.push(key.clone());
        }
        self.by_key.entry(key).or_default()
    }
}

/// Everything judged of one sample.
pub(super) fn of(sample: &Sample) -> Vec<(Key, Judged)> {
    let mut all = judged(&Side { name: String::new(), samples: vec![sample.clone()] });
    all.order.into_iter().filter_map(|key| all.by_key.remove_entry(&key)).collect()
}

/// Everything judged on a side.
fn judged(side: &Side) -> All {
    let mut all = All::default();
    let mut ids: Vec<&str> = Vec::new();
    for sample in &side.samples {
        if !ids.contains(&sample.id.as_str()) {
            ids.push(&sample.id);
        }
    }
    // A case's samples one after the other, whatever order they ran in.
    for sample in ids.iter().flat_map(|id| side.samples.iter().filter(|s| s.id == **id)) {
        let case = Key { case: sample.id.clone(), ..Key::default() };
        let folder = Folder::of(sample);
        let Some(verdict) = &sample.verdict else {
            let message = "no verdict was recorded: the run did not come to its end";
            all.of(case).take(Verdict::NotReached, false, message, None);
            continue;
        };
        let expected = verdict.as_expected().is_some();
        all.of(case.clone()).take(verdict.verdict, expected, &verdict.message, verdict.cause);
        let mut titles = Counted::default();
        for step in &verdict.steps {
            let step_key = Key { step: Some(titles.name(folder.fold(&step.title))), ..case.clone() };
            let first = step.checks.iter().find(|c| c.verdict == step.verdict);
            let nothing = if step.verdict == Verdict::NotReached { "not reached" } else { "" };
            let message = first.map_or(nothing, |c| c.message.as_str());
            all.of(step_key.clone()).take(step.verdict, expected, message, first.and_then(|c| c.cause));
            let mut names = Counted::default();
            for check in &step.checks {
                let key = Key { check: Some(names.name(folder.fold(&check.name))), ..step_key.clone() };
                all.of(key).take(check.verdict, expected, &check.message, check.cause);
            }
        }
    }
    all
}

/// Tells the second of a name from the first.
#[derive(Default)]
struct Counted(BTreeMap<String, u32>);

impl Counted {
    fn name(&mut self, name: String) -> String {
        let n = self.0.entry(name.clone()).or_default();
        *n += 1;
        if *n == 1 { name } else { format!("{name} #{n}") }
    }
}
