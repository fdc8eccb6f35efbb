//! Several report folders, from the shards of one run, to one.

use crate::{ReportError, Run, files};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xenlab_model::event::{Event, LabUse, What};
use xenlab_model::exit::Exit;

/// What [`merge`] made.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The run that all shards together are.
    pub run: Run,
    /// How many cases it has.
    pub cases: usize,
    /// The exit code that its verdicts make.
    pub exit: Exit,
}

/// Reports cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// No folder was named.
    #[error("nothing to merge; name at least one folder that `--report` wrote")]
    Nothing,
    /// A folder has no report.
    #[error("{}: cannot read a report's events: {source}; expected a folder that `--report` wrote", path.display())]
    Unreadable {
        /// Its `events.jsonl`.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A line is no event.
    #[error("{}:{line}: not an event of this version of xenlab: {message}", path.display())]
    NotAnEvent {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// No run begins in it.
    #[error("{}: no run begins in it; the run was stopped before it had planned its cases", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Two shards judged the same case.
    #[error("case `{case}` is in two reports, {} and {}: are they shards of one run?", first.display(), second.display())]
    Twice {
        /// `id @ subject`.
        case: String,
        /// One.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// The folder to write is one of those to read.
    #[error("{}: is to be written and read; name another folder first", path.display())]
    SameFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The merged report cannot be written.
    #[error(transparent)]
    Write(#[from] ReportError),
}

impl MergeError {
    /// The exit code: what was asked for is wrong, or it could not be done.
    pub fn exit(&self) -> Exit {
        if matches!(self, MergeError::Write(_)) { Exit::Lab } else { Exit::BadInput }
    }
}

/// Reads `events.jsonl` of each folder and writes `out` as if it had been one run: events, JUnit, summary. A shard that was killed
/// is taken as far as it came; its cases without a verdict are the lab's loss.
///
/// # Errors
/// A folder is no report, the same case has a verdict in two, or `out` cannot be written.
pub fn merge(dirs: &[PathBuf], out: &Path) -> Result<Merged, MergeError> {
    if dirs.is_empty() {
        return Err(MergeError::Nothing);
    }
    if let Ok(real) = out.canonicalize()
        && dirs.iter().any(|d| d.canonicalize().is_ok_and(|d| d == real))
    {
        return Err(MergeError::SameFolder { path: out.to_owned() });
    }
    let mut shards = Vec::new();
    for dir in dirs {
        shards.push(read(&dir.join("events.jsonl"))?);
    }
    once(dirs, &shards)?;
    let mut reporters = files(out)?;
    let mut run = Run::default();
    for event in combine(&shards) {
        run.apply(&event);
        for reporter in &mut reporters {
            reporter.event(&event)?;
        }
    }
    let exit = run.exit();
    Ok(Merged { cases: run.cases.len(), run, exit })
}

/// The events of one folder. A last line without its end is what a killed run leaves, and is left out.
fn read(path: &Path) -> Result<Vec<Event>, MergeError> {
    let text =
        std::fs::read(path).map_err(|source| MergeError::Unreadable { path: path.to_owned(), source })?;
    let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |n| n + 1);
    let mut events: Vec<Event> = Vec::new();
    for (n, line) in text[..whole].split(|&b| b == b'\n').enumerate() {
        if line.is_empty() {
            continue;
        }
        let event = serde_json::from_slice(line).map_err(|e| MergeError::NotAnEvent {
            path: path.to_owned(),
            line: n + 1,
            message: e.to_string(),
        })?;
        events.push(event);
    }
    if !events.iter().any(|e| matches!(e.what, What::RunStarted { .. })) {
        return Err(MergeError::Empty { path: path.to_owned() });
    }
    Ok(events)
}

fn once(dirs: &[PathBuf], shards: &[Vec<Event>]) -> Result<(), MergeError> {
    let mut seen: BTreeMap<&str, &Path> = BTreeMap::new();
    for (dir, events) in dirs.iter().zip(shards) {
        // A template that did not boot is no case of the plan, and the same one can fail in every shard.
        let planned = |case: &str| {
            events.iter().any(|e| {
                matches!(&e.what, What::RunStarted { cases, .. } if cases.iter().any(|(shown, _)| shown == case))
            })
        };
        for event in events {
            if let What::CaseFinished { case, .. } = &event.what
                && planned(case)
                && let Some(first) = seen.insert(case, dir)
            {
                let (case, first, second) = (case.clone(), first.to_owned(), dir.clone());
                return Err(MergeError::Twice { case, first, second });
            }
        }
    }
    Ok(())
}

/// One run's events: one beginning with every shard's cases, what happened in the order of time, one end.
fn combine(shards: &[Vec<Event>]) -> Vec<Event> {
    let (mut ids, mut versions, mut begins, mut cases) =
        (Vec::new(), BTreeSet::new(), Vec::new(), Vec::new());
    let mut middle = Vec::new();
    let (mut seconds, mut interrupted) = (0.0f64, false);
    for event in shards.iter().flatten() {
        match &event.what {
            What::RunStarted { run, version, started, cases: planned } => {
                ids.push(run.clone());
                versions.insert(version.clone());
                begins.push(started.clone());
                for case in planned {
                    if !cases.iter().any(|(shown, _)| *shown == case.0) {
                        cases.push(case.clone());
                    }
                }
            }
            What::RunFinished { seconds: s, interrupted: i, .. } => {
                seconds = seconds.max(*s);
                interrupted |= i;
            }
            _ => {
                seconds = seconds.max(event.at);
                middle.push(event.clone());
            }
        }
    }
    // Stable: a shard's own events stay in their order.
    middle.sort_by(|a, b| a.at.total_cmp(&b.at));
    let started = What::RunStarted {
        run: ids.join("+"),
        version: versions.into_iter().collect::<Vec<_>>().join(", "),
        started: begins.into_iter().min().unwrap_or_default(),
        cases,
    };
    let mut all = vec![Event { at: 0.0, what: started }];
    all.extend(middle);
    let mut run = Run { interrupted, ..Run::default() };
    all.iter().for_each(|e| run.apply(e));
    all.push(Event {
        at: seconds,
        what: What::RunFinished { exit: run.exit(), seconds, interrupted, lab: LabUse::default() },
    });
    all
}
