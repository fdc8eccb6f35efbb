//! `xenlab history`: what earlier runs came to; and the recording of every run.

use crate::args::{Global, History as Args};
use crate::failure::Failure;
use crate::{print, run};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_engine::samples;
use xenlab_history::{Entry, History, HistoryError, RunOf};
use xenlab_model::compare::{Past, Sample, Side};
use xenlab_model::event::{Event, What};
use xenlab_model::exit::Exit;
use xenlab_report::{Fan, ReportError, Reporter};

/// Says where the history lies, or `off`.
const ENV: &str = "XENLAB_HISTORY";

/// Where it lies; nothing where there is to be none.
fn path(store: &Path) -> Option<PathBuf> {
    match std::env::var_os(ENV) {
        Some(value) if value == "off" => None,
        Some(value) if !value.is_empty() => Some(value.into()),
        _ => Some(store.join("history.sqlite3")),
    }
}

/// Opens the history as the command line says; nothing where there is to be none.
fn open(global: &Global) -> Result<Option<(PathBuf, History)>, Failure> {
    let store = run::open_store(global, Arc::new(Fan::start(Vec::new())))?;
    let Some(path) = path(store.root()) else { return Ok(None) };
    let history = History::open(&path).map_err(|e| Failure::lab(e.to_string()))?;
    Ok(Some((path, history)))
}

/// What is known from before these two sides; nothing where there is no history, which is said.
pub fn past(global: &Global, sides: [&Side; 2]) -> Past {
    let without: Vec<&str> = sides.iter().flat_map(|s| &s.samples).map(|s| s.nonce.as_str()).collect();
    let read = || -> Result<Past, Failure> {
        let Some((_, history)) = open(global)? else { return Ok(Past::new()) };
        history.past(&without).map_err(|e| Failure::lab(e.to_string()))
    };
    read().unwrap_or_else(|failure| {
        crate::complain(&format!(
            "what failed before and what never passed cannot be told apart: {}",
            failure.message
        ));
        Past::new()
    })
}

/// How long phases took in good boots from before; nothing where there is no history. That it cannot be read is no reason for a run to fail.
pub fn usual(global: &Global) -> Option<xenlab_engine::trace::Known> {
    let (_, history) = open(global).ok().flatten()?;
    let history = std::sync::Mutex::new(history);
    Some(Arc::new(move |case, arch, phase| {
        let history = history.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lasted = history.lasted(case, arch, phase.name()).ok()?;
        let boots = u32::try_from(lasted.len()).ok()?;
        Some((boots, *lasted.get(lasted.len() / 2)?, *lasted.last()?))
    }))
}

/// Records what a run comes to. That it cannot is said once, and is no reason for a run to fail.
struct Recorder {
    path: PathBuf,
    history: Option<History>,
    of: Option<RunOf>,
    /// What is planned; a template that did not boot is told as a case and is none.
    planned: BTreeSet<String>,
}

/// What records a run, as the command line says. Where the store cannot be opened the run itself says so.
pub fn recorder(global: &Global) -> Option<Box<dyn Reporter>> {
    let store = run::open_store(global, Arc::new(Fan::start(Vec::new()))).ok()?;
    Recorder::of(store.root()).map(|recorder| Box::new(recorder) as Box<dyn Reporter>)
}

impl Recorder {
    /// Into the history of this store; nothing where there is to be none.
    fn of(store: &Path) -> Option<Recorder> {
        Some(Recorder { path: path(store)?, history: None, of: None, planned: BTreeSet::new() })
    }

    fn record(&mut self, sample: &Sample) -> Result<(), HistoryError> {
        let Some(of) = &self.of else { return Ok(()) };
        let history = match &mut self.history {
            Some(history) => history,
            none => none.insert(History::open(&self.path)?),
        };
        history.record(of, sample)
    }
}

impl Reporter for Recorder {
    fn name(&self) -> String {
        "history".into()
    }

    fn event(&mut self, event: &Event) -> Result<(), ReportError> {
        match &event.what {
            What::RunStarted { run, version, started, cases } => {
                self.planned = cases.iter().map(|(shown, _)| shown.clone()).collect();
                self.of = Some(RunOf { run: run.clone(), started: started.clone(), lab: version.clone() });
            }
            What::CaseFinished { case, bundle, verdict, .. } => {
                if !self.planned.contains(case) {
                    return Ok(());
                }
                let recorded = samples::read(Path::new(bundle)).ok().and_then(|mut all| all.pop());
                let id = verdict.case.clone();
                let bare = || Sample {
                    id,
                    subject: verdict.subject.clone(),
                    bundle: bundle.clone(),
                    ..Sample::default()
                };
                let mut sample = recorded.unwrap_or_else(bare);
                sample.verdict = Some((**verdict).clone());
                if let Err(error) = self.record(&sample) {
                    crate::complain(&format!("this run is not in the history: {error}"));
                    self.of = None;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Exits 0 where there is something to show.
pub fn history(args: &Args, global: &Global) -> Result<Exit, Failure> {
    let Some((path, history)) = open(global)? else {
        return Err(Failure::bad_input(format!("{ENV} is off: there is no history")));
    };
    let wrong = |e: HistoryError| Failure::lab(e.to_string());
    let Some(case) = &args.case else {
        let all = history.cases().map_err(wrong)?;
        if args.json {
            return json(serde_json::to_string_pretty(&all));
        }
        let mut text = String::new();
        for one in &all {
            let rate = match (one.passed, one.failed) {
                (passed, 0) => format!("{passed} passed"),
                (0, failed) => format!("{failed} failed, never passed"),
                (passed, failed) => format!("{passed} passed, {failed} failed"),
            };
            let others = one.runs - one.passed - one.failed;
            let others = if others == 0 { String::new() } else { format!(", {others} not judged") };
            let _ = writeln!(text, "{}  {} @ {}: {rate}{others}", one.last, one.case, one.subject);
        }
        if text.is_empty() {
            let _ = writeln!(text, "nothing is recorded in {}", path.display());
        }
        return print(&text);
    };
    let mut all = history.case(case).map_err(wrong)?;
    if all.is_empty() {
        return Err(Failure::bad_input(format!(
            "no case called `{case}`, or with that in its name, was run; `xenlab history` lists all"
        )));
    }
    if let Some(limit) = args.limit {
        all.truncate(limit);
    }
    if args.json { json(serde_json::to_string_pretty(&all)) } else { print(&shown(&all)) }
}

fn json(text: serde_json::Result<String>) -> Result<Exit, Failure> {
    print(&format!("{}\n", text.map_err(anyhow::Error::from)?))
}

/// A block for each case, a line for each time, and how often it passed on each subject.
fn shown(all: &[Entry]) -> String {
    let mut cases: Vec<&str> = Vec::new();
    for entry in all {
        if !cases.contains(&entry.case.as_str()) {
            cases.push(&entry.case);
        }
    }
    let mut text = String::new();
    for case in cases {
        let _ = writeln!(text, "{case}");
        let of: Vec<&Entry> = all.iter().filter(|e| e.case == case).collect();
        let mut counts: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
        for entry in &of {
            let count = counts.entry(&entry.subject).or_default();
            count.0 += u32::from(entry.verdict == "pass");
            count.1 += u32::from(entry.verdict == "pass" || entry.verdict == "fail");
            let version = entry.version.as_ref().map(|v| format!(" ({v})")).unwrap_or_default();
            let cause = entry.cause.as_ref().map(|c| format!(" [{c}]")).unwrap_or_default();
            let expected = if entry.expected { ", expected" } else { "" };
            let message =
                if entry.verdict == "pass" { String::new() } else { format!(": {}", entry.message) };
            let _ = writeln!(
                text,
                "  {}  {:<11} {}{version} {:.1} s{cause}{expected}{}",
                entry.started,
                entry.verdict,
                entry.subject,
                entry.seconds,
                xenlab_model::escape_lines(&message),
            );
        }
        for (subject, (passed, judged)) in counts {
            let flaky = if passed > 0 && passed < judged { ": flaky" } else { "" };
            let _ = writeln!(text, "  {subject}: passed {passed} of {judged} judged{flaky}");
        }
    }
    text
}
