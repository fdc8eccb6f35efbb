//! The table of a run's XTF instances: how many of each category and environment ended how.

use crate::run::{CaseState, Run};
use std::collections::{BTreeMap, BTreeSet};
use xenlab_model::verdict::{CaseVerdict, Verdict};
use xenlab_model::xtf::{Ended, Outcome};

/// How an instance ended, for counting. In the order of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Column {
    /// XTF's words.
    Ended(Outcome),
    /// This Xen or this machine cannot run it.
    NotHere,
    /// It was not reached, or the lab could not say.
    NoWord,
}

impl Column {
    fn of(verdict: &CaseVerdict, ended: &Ended) -> Column {
        match (ended.outcome, verdict.verdict) {
            (Some(outcome), _) => Column::Ended(outcome),
            (None, Verdict::Skip) => Column::NotHere,
            (None, _) => Column::NoWord,
        }
    }

    /// Its head.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Column::Ended(outcome) => outcome.word(),
            Column::NotHere => "not here",
            Column::NoWord => "no word",
        }
    }
}

/// The instances of one Xen build.
pub(crate) struct Table {
    /// The build.
    pub subject: String,
    /// What at least one instance came to.
    pub columns: Vec<Column>,
    /// Category, environment, and how many of each column.
    pub rows: Vec<(String, String, Vec<Count>)>,
    /// What is neither good nor expected, by name, with XTF's word.
    pub unexplained: Vec<(String, &'static str)>,
}

/// Instances that came to the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// How many.
    pub all: usize,
    /// Of which so many were expected to.
    pub expected: usize,
}

impl Count {
    /// `9, 7 expected`; nothing where there is none.
    pub fn shown(self) -> String {
        match self {
            Count { all: 0, .. } => String::new(),
            Count { all, expected: 0 } => all.to_string(),
            Count { all, expected } if all == expected => format!("{all}, expected"),
            Count { all, expected } => format!("{all}, {expected} expected"),
        }
    }
}

impl Table {
    /// The sums of the columns.
    pub fn totals(&self) -> Vec<Count> {
        let sum = |i: usize| {
            let counts = self.rows.iter().map(|(_, _, counts)| counts[i]);
            counts.fold(Count::default(), |a, b| Count {
                all: a.all + b.all,
                expected: a.expected + b.expected,
            })
        };
        (0..self.columns.len()).map(sum).collect()
    }
}

/// A table for each build that instances were run on, in the order of the run.
pub(crate) fn tables(run: &Run) -> Vec<Table> {
    let mut subjects: Vec<&str> = Vec::new();
    for (case, ..) in instances(run) {
        let subject = case.id_and_subject().1;
        if !subjects.contains(&subject) {
            subjects.push(subject);
        }
    }
    subjects.into_iter().map(|subject| table(run, subject)).collect()
}

fn instances(run: &Run) -> impl Iterator<Item = (&CaseState, &CaseVerdict, &Ended)> {
    run.cases.iter().filter_map(|case| {
        let verdict = case.verdict.as_ref()?;
        Some((case, verdict, verdict.xtf.as_ref()?))
    })
}

fn table(run: &Run, subject: &str) -> Table {
    let of = instances(run).filter(|(case, ..)| case.id_and_subject().1 == subject);
    let mut counts: BTreeMap<(&str, &str), BTreeMap<Column, Count>> = BTreeMap::new();
    let mut columns = BTreeSet::new();
    let mut unexplained = Vec::new();
    for (_, verdict, ended) in of {
        let column = Column::of(verdict, ended);
        columns.insert(column);
        let row = counts.entry((&ended.category, &ended.environment)).or_default();
        let count = row.entry(column).or_default();
        count.all += 1;
        if verdict.as_expected().is_some() {
            count.expected += 1;
        } else if let Some(outcome) = ended.outcome
            && verdict.verdict == Verdict::Fail
        {
            unexplained.push((ended.instance.clone(), outcome.word()));
        }
    }
    let columns: Vec<Column> = columns.into_iter().collect();
    let row = |counts: &BTreeMap<Column, Count>| {
        columns.iter().map(|column| counts.get(column).copied().unwrap_or_default()).collect()
    };
    let rows = counts.iter().map(|((c, e), n)| ((*c).to_owned(), (*e).to_owned(), row(n))).collect();
    Table { subject: subject.to_owned(), rows, columns, unexplained }
}
