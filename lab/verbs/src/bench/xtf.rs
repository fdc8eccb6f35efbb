//! `bench xtf`: XTF instances a minute, as a run of them does it: side by side, each in a machine of its own, judged and recorded.

use super::{host, lab};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use xenlab_engine::budget::Admission;
use xenlab_engine::prepare::Preparer;
use xenlab_engine::{EngineError, Lab, run};
use xenlab_model::case::{Case, Planned};
use xenlab_model::event::{Sink, What};
use xenlab_model::verdict::Verdict;
use xenlab_model::xtf::Outcome;
use xenlab_store::Store;

/// What `bench xtf` is asked for.
pub struct XtfBench {
    /// Where artefacts and templates are.
    pub store: Arc<Store>,
    /// Where the run's events go.
    pub sink: Arc<dyn Sink>,
    /// Lets machines in.
    pub admission: Admission,
    /// One for each instance.
    pub cases: Vec<Case>,
    /// How many side by side at most.
    pub jobs: Option<usize>,
}

/// Runs them all, once one of each way has run: what the first one makes for all later ones (downloads, images, a template) is there then.
///
/// # Errors
/// The lab's own, where nothing can be measured at all.
pub async fn xtf(bench: XtfBench) -> Result<(Value, usize), EngineError> {
    let dir = tempfile::tempdir().map_err(|e| {
        EngineError::part(xenlab_model::cause::Cause::LabInternal, format!("no temporary folder: {e}"))
    })?;
    let Some(first) = bench.cases.iter().find(|c| !matches!(c.plan, Planned::Skip(_))).cloned() else {
        return Err(EngineError::part(
            xenlab_model::cause::Cause::LabInternal,
            "no instance can run: nothing can be measured",
        ));
    };
    // Whatever way the instances run: what they start from is there once one of each way has run.
    let mut ready: Vec<Case> = vec![first.clone()];
    let way = |case: &Case| xenlab_model::case::as_dom0(&case.steps).is_some();
    ready.extend(
        bench.cases.iter().find(|c| !matches!(c.plan, Planned::Skip(_)) && way(c) != way(&first)).cloned(),
    );
    let shown =
        Arc::new(Shown { sink: bench.sink.clone(), ended: AtomicU64::new(0), of: bench.cases.len() as u64 });
    let mut preparer = Preparer::new(bench.store.clone(), shown.clone());
    preparer.admission = bench.admission;
    let prepared = preparer.prepare(&first).await?;
    let of_all = Arc::new(Lab {
        control: false,
        pool: xenlab_engine::pool::Pool::of_run(),
        ..Lab::new(preparer, shown.clone(), dir.path().to_owned())
    });
    run::run(of_all.clone(), ready, Some(1), Instant::now()).await;
    if xenlab_host::interrupt::requested() {
        return Err(EngineError::Interrupted);
    }
    shown.ended.store(0, Ordering::Relaxed);
    let begun = Instant::now();
    let verdicts = run::run(of_all, bench.cases.clone(), bench.jobs, Instant::now()).await.verdicts;
    let seconds = begun.elapsed().as_secs_f64();
    shown.sink.emit(What::ProgressEnded { task: TASK.to_owned(), seconds, error: None });
    if xenlab_host::interrupt::requested() {
        return Err(EngineError::Interrupted);
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut ran = 0;
    let mut no_result = 0;
    for verdict in &verdicts {
        let outcome = verdict.xtf.as_ref().and_then(|x| x.outcome);
        match outcome {
            None if verdict.verdict == Verdict::Skip => continue,
            None | Some(Outcome::Crash | Outcome::HostCrash | Outcome::Timeout) => no_result += 1,
            Some(_) => {}
        }
        ran += 1;
        *counts.entry(outcome.map_or("no word", Outcome::word)).or_default() += 1;
    }
    let as_dom0 = bench.cases.iter().filter(|c| way(c)).count();
    let arch = first.config.arch.name();
    let value = json!({"bench": "xtf", "format": 1, "host": host(), "lab": lab(), "results": {arch: {
        "qemu": prepared.qemu.version.to_string(), "accel": prepared.accel.accel.name(), "xen": first.subject.to_string(),
        "instances": ran, "as_dom0": as_dom0, "seconds": seconds,
        "instances_per_minute": {"value": f64::from(u32::try_from(ran).unwrap_or(u32::MAX)) * 60.0 / seconds},
        "no_result": {"value": no_result}, "outcomes": counts,
    }}});
    // What the lab could not say is no measurement; what a test says is none of the bench's business.
    let failed =
        verdicts.iter().filter(|v| matches!(v.verdict, Verdict::Error | Verdict::NotReached)).count();
    Ok((value, failed))
}

/// The bench's line of the display.
const TASK: &str = "measuring";

/// What the user sees of the run: how far it is.
struct Shown {
    sink: Arc<dyn Sink>,
    ended: AtomicU64,
    of: u64,
}

impl Sink for Shown {
    fn emit(&self, what: What) {
        match what {
            What::CaseFinished { case, .. } => {
                let done = self.ended.fetch_add(1, Ordering::Relaxed) + 1;
                let (task, unit) = (TASK.to_owned(), "instances".to_owned());
                self.sink.emit(What::Progress { task, message: case, done, total: self.of, unit });
            }
            What::Progress { .. } | What::ProgressEnded { .. } => self.sink.emit(what),
            _ => {}
        }
    }
}

/// For people.
pub fn xtf_table(value: &Value) -> String {
    let mut out = String::new();
    for (arch, result) in value["results"].as_object().into_iter().flatten() {
        let of = |key: &str| result[key]["value"].as_f64().unwrap_or(0.0);
        out.push_str(&format!(
            "{arch}: {:.0} instances a minute ({} in {:.1} s, {} of them as dom0), {} without a result\n",
            of("instances_per_minute"),
            result["instances"],
            result["seconds"].as_f64().unwrap_or(0.0),
            result["as_dom0"],
            of("no_result"),
        ));
        for (word, count) in result["outcomes"].as_object().into_iter().flatten() {
            out.push_str(&format!("  {word}: {count}\n"));
        }
    }
    out
}
