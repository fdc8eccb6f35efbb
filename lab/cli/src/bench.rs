//! `xenlab bench`: the lab, measured.

use crate::args::{BenchOf, Global, Scenarios, Xtf};
use crate::failure::Failure;
use crate::run::{admission, open_store, repeat, runtime};
use crate::select;
use std::path::PathBuf;
use std::sync::Arc;
use xenlab_engine::{EngineError, facts, prepare::Preparer};
use xenlab_model::case::Case;
use xenlab_model::event::{Sink, What};
use xenlab_model::exit::Exit;
use xenlab_report::{Fan, Terminal};
use xenlab_verbs::bench::{self, BootBench, WarmBench, XtfBench};

/// The bench's scenario: dom0 becomes ready, and `xl info` is judged.
const SCENARIO: &str = include_str!("../../../scenarios/xl-info.yaml");

/// What is measured.
struct Chosen {
    scenario: PathBuf,
    select: Scenarios,
    cases: Vec<Case>,
    // The scenario is in it.
    _dir: tempfile::TempDir,
}

fn choose(of: &BenchOf, n: usize) -> Result<Chosen, Failure> {
    if n == 0 {
        return Err(Failure::bad_input("-n 0 measures nothing; expected 1 or more"));
    }
    let dir = tempfile::tempdir().map_err(|e| Failure::lab(format!("no temporary folder: {e}")))?;
    let scenario = dir.path().join("xl-info.yaml");
    std::fs::write(&scenario, SCENARIO).map_err(|e| Failure::lab(format!("{}: {e}", scenario.display())))?;
    let arch = if of.arch.is_empty() { vec!["x86_64".into(), "aarch64".into()] } else { of.arch.clone() };
    let select = Scenarios {
        scenarios: vec![scenario.clone()],
        xen: vec![of.xen.clone()],
        arch,
        qemu: of.qemu.clone(),
        sets: of.cpus.iter().map(|n| format!("machine.cpus={n}")).collect(),
        ..Scenarios::default()
    };
    let cases = select::cases(&select, &facts::host())?;
    Ok(Chosen { scenario, select, cases, _dir: dir })
}

/// Everything else that a bench says goes to stderr.
fn progress(line: String) {
    eprintln!("{line}");
}

fn show(
    outcome: Result<(serde_json::Value, usize), EngineError>,
    json: bool,
    table: fn(&serde_json::Value) -> String,
) -> Result<Exit, Failure> {
    let (value, failed) = outcome.map_err(|e| match e {
        EngineError::BadInput { message, .. } => Failure::bad_input(message),
        e => Failure::of(e.cause(), &e),
    })?;
    crate::print(&if json { format!("{value:#}\n") } else { table(&value) })?;
    Ok(if failed > 0 { Exit::Failed } else { Exit::Passed })
}

/// `xenlab bench boot`
pub fn boot(of: &BenchOf, n: usize, global: &Global) -> Result<Exit, Failure> {
    let chosen = choose(of, n)?;
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let mut preparer = Preparer::new(open_store(global, sink.clone())?, sink.clone());
    preparer.admission = admission(&*sink)?;
    let mut arguments = vec![chosen.scenario.display().to_string(), "--cold".to_owned()];
    arguments.extend(repeat(&chosen.select, global));
    let program =
        std::env::current_exe().map_err(|e| Failure::lab(format!("cannot find xenlab itself: {e}")))?;
    let bench = BootBench { preparer, cases: chosen.cases, n, program, arguments, progress: &progress };
    let outcome = runtime()?.block_on(bench::boot(bench));
    let _ = fan.finish();
    show(outcome, of.json, bench::table)
}

/// `xenlab bench warm`
pub fn warm(of: &BenchOf, n: usize, global: &Global) -> Result<Exit, Failure> {
    // What a run that was killed left behind goes before anything new is started.
    if let Err(e) = xenlab_host::rundir::sweep() {
        progress(format!("cannot look for what earlier runs left: {e}"));
    }
    let chosen = choose(of, n)?;
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let store = open_store(global, sink.clone())?;
    let notes = sink.clone();
    // Through the display, which would otherwise write over it.
    let progress = |message| notes.emit(What::Note { case: None, message });
    let admission = admission(&*sink)?;
    let bench = WarmBench { store, sink, admission, cases: chosen.cases, n, progress: &progress };
    let outcome = runtime()?.block_on(bench::warm(bench));
    let _ = fan.finish();
    show(outcome, of.json, bench::warm_table)
}

/// `xenlab bench xtf`
pub fn xtf(args: &Xtf, json: bool, global: &Global) -> Result<Exit, Failure> {
    // What a run that was killed left behind goes before anything new is started.
    if let Err(e) = xenlab_host::rundir::sweep() {
        progress(format!("cannot look for what earlier runs left: {e}"));
    }
    let cases = crate::xtf::cases(args)?;
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let store = open_store(global, sink.clone())?;
    let admission = admission(&*sink)?;
    let bench = XtfBench { store, sink, admission, cases, jobs: args.run.jobs };
    let outcome = runtime()?.block_on(bench::xtf(bench));
    let _ = fan.finish();
    show(outcome, json, bench::xtf_table)
}

/// `xenlab bench console`
pub fn console(json: bool) -> Result<Exit, Failure> {
    let value = bench::console();
    if json {
        return crate::print(&format!("{value:#}\n"));
    }
    let rate = value["results"]["bytes_per_second"].as_f64().unwrap_or(0.0);
    crate::print(&format!("console: {:.0} MB/s through lines, phases and signs\n", rate / 1e6))
}
