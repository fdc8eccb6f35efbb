//! `run`: what boots.

use crate::args::{self, Global, Run, Scenarios};
use crate::failure::Failure;
use crate::{history, host_packages, select};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use xenlab_engine::budget::{self, Admission};
use xenlab_engine::{EngineError, Keep, Lab, facts, prepare::Preparer};
use xenlab_host::budget::Budget;
use xenlab_model::case::{Case, Planned};
use xenlab_model::event::{Sink, What};
use xenlab_model::exit::Exit;
use xenlab_report::{Fan, Reporter, Terminal};
use xenlab_store::{Options, Store};
use xenlab_verbs::faults::{self, Planted, Row};

/// Runs whose bundles are kept in the store when no report folder was named; older ones go.
const RUNS_KEPT: usize = 20;

/// Opens the store as the command line says.
pub fn open_store(global: &Global, sink: Arc<dyn Sink>) -> Result<Arc<Store>, Failure> {
    let options =
        Options { root: global.store.clone(), offline: global.offline, locked: global.locked, sink };
    Store::open(options).map(Arc::new).map_err(|e| Failure::of(e.cause(), e))
}

/// What lets machines in, as the environment says. That they are nobody else's business, where they should be, is told.
pub fn admission(sink: &dyn Sink) -> Result<Admission, Failure> {
    let (budget, why_not) = Budget::from_env().map_err(|e| Failure::bad_input(e.to_string()))?;
    if let Some(why) = why_not {
        sink.emit(What::Note { case: None, message: budget::unknown(&why) });
    }
    Ok(Admission::new(budget))
}

/// A runtime for the async crates. Two threads suffice: everything heavy is QEMU's or `spawn_blocking`'s.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        // A case waits for its template, which waits for the one below it: futures within futures, polled on one stack. Only what is
        // touched is taken.
        .thread_stack_size(8 << 20)
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::lab(format!("cannot start threads: {e}")))
}

/// `xenlab run`
pub fn run(args: &Run, global: &Global, started: Instant) -> Result<Exit, Failure> {
    ready(args, global)?;
    let row = args.plant.as_deref().map(row).transpose()?;
    let dir = tempfile::tempdir().map_err(|e| Failure::lab(format!("no temporary folder: {e}")))?;
    let select = match row {
        Some(row) => of_row(row, args, dir.path())?,
        None => args.select.clone(),
    };
    let cases = select::cases(&select, &facts::host())?;
    judged(args, global, row, cases, &[], started)
}

/// What comes before anything is chosen or run.
fn ready(args: &Run, global: &Global) -> Result<(), Failure> {
    if global.install {
        host_packages::install(false)?;
    }
    if args.jobs == Some(0) {
        return Err(Failure::bad_input("--jobs 0 runs nothing; expected 1 or more"));
    }
    Ok(())
}

/// Runs cases; `command` are the words of the command that chose them.
pub fn cases(
    args: &Run,
    global: &Global,
    cases: Vec<Case>,
    command: &[String],
    started: Instant,
) -> Result<Exit, Failure> {
    ready(args, global)?;
    judged(args, global, None, cases, command, started)
}

fn judged(
    args: &Run,
    global: &Global,
    row: Option<&'static Row>,
    cases: Vec<Case>,
    command: &[String],
    started: Instant,
) -> Result<Exit, Failure> {
    let mut reporters: Vec<Box<dyn Reporter>> = vec![Box::new(Terminal::stderr())];
    if let Some(dir) = &args.report {
        reporters.extend(xenlab_report::files(dir).map_err(|e| Failure::of(e.cause(), e))?);
    }
    // What breaks on purpose is no run of its case.
    if row.is_none() {
        reporters.extend(history::recorder(global));
    }
    let fan = Arc::new(Fan::start(reporters));
    let planted = row.filter(|_| !args.unplanted);
    let outcome = inner(args, global, planted, cases, command, started, &fan);
    let unwritten = fan.finish();
    let exit = outcome?;
    if unwritten.is_empty() {
        return Ok(exit);
    }
    for error in &unwritten {
        crate::complain(&error.to_string());
    }
    Ok(exit.worse(Exit::Lab))
}

/// The row that `--plant` names.
fn row(name: &str) -> Result<&'static Row, Failure> {
    faults::find(name).ok_or_else(|| {
        let names: Vec<&str> = faults::ROWS.iter().map(|row| row.name).collect();
        Failure::bad_input(format!(
            "--plant {name}: there is no such row; the rows are:\n  {}",
            names.join("\n  ")
        ))
    })
}

/// The command line with a row's own scenario, written to a file in `dir`, and what the row sets.
fn of_row(row: &Row, args: &Run, dir: &Path) -> Result<Scenarios, Failure> {
    let file = dir.join(format!("{}.yaml", row.name));
    std::fs::write(&file, row.scenario).map_err(|e| Failure::lab(format!("{}: {e}", file.display())))?;
    let mut select = args.select.clone();
    select.scenarios = vec![file];
    // What the user sets as well counts.
    let own = row.sets.iter().filter(|set| {
        let path = set.split_once('=').map(|(path, _)| path);
        let short = args.unplanted && path.is_some_and(|path| path.starts_with("limits."));
        !short && !select.sets.iter().any(|s| s.split_once('=').map(|(path, _)| path) == path)
    });
    let mut sets: Vec<String> = own.map(|set| (*set).to_owned()).collect();
    sets.append(&mut select.sets);
    select.sets = sets;
    if select.arch.is_empty() {
        select.arch = row.archs.iter().map(|arch| arch.name().to_owned()).collect();
    }
    if let Some(arch) = select.arch.iter().find(|arch| !row.archs.iter().any(|a| a.name() == **arch)) {
        return Err(Failure::bad_input(format!("--plant {}: there is no such fault on {arch}", row.name)));
    }
    Ok(select)
}

fn inner(
    args: &Run,
    global: &Global,
    row: Option<&'static Row>,
    cases: Vec<Case>,
    command: &[String],
    started: Instant,
    fan: &Arc<Fan>,
) -> Result<Exit, Failure> {
    let sink: Arc<dyn Sink> = fan.clone();
    // What a run that was killed left behind goes before anything new is started.
    if let Err(e) = xenlab_host::rundir::sweep() {
        sink.emit(What::Note { case: None, message: format!("cannot look for what earlier runs left: {e}") });
    }
    let admission = admission(&*sink)?;
    let mut store = open_store(global, sink.clone())?;
    let failed = |e: EngineError| Failure::of(e.cause(), e);
    let runs = store.root().join("runs");
    let copied = row.map(|row| Planted::store_for(row, &store)).transpose().map_err(failed)?.flatten();
    if let Some((_kept, root)) = &copied {
        let options = Options {
            root: Some(root.clone()),
            offline: global.offline,
            locked: global.locked,
            sink: sink.clone(),
        };
        store = Store::open(options).map(Arc::new).map_err(|e| Failure::of(e.cause(), e))?;
    }
    let run_id =
        format!("{}-{}", xenlab_engine::now_rfc3339().replace([':', '-'], ""), xenlab_engine::random_hex(2));
    let bundles = match &args.report {
        Some(dir) => {
            let bundles = absolute(dir)?.join("bundles");
            clear(&bundles)?;
            bundles
        }
        None => {
            prune(&runs);
            runs.join(&run_id)
        }
    };
    sink.emit(What::RunStarted {
        run: run_id,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: xenlab_engine::now_rfc3339(),
        cases: cases.iter().map(|c| (c.shown(), c.plan.clone())).collect(),
    });
    let mut preparer = Preparer::new(store.clone(), sink.clone());
    preparer.admission = admission;
    if let Some(row) = row {
        preparer.plant = Some(Arc::new(Planted::new(row, &store).map_err(failed)?));
    }
    let lab = Arc::new(Lab {
        control: !args.no_control,
        // What is kept is what failed: not a clone of which a boot from power-on is still to be asked.
        cold: args.cold || args.keep != args::Keep::None,
        pool: xenlab_engine::pool::Pool::of_run(),
        command: command.to_vec(),
        usual: history::usual(global),
        repeat: args
            .plant
            .iter()
            .flat_map(|row| ["--plant".to_owned(), row.clone()])
            .chain(args.unplanted.then(|| "--unplanted".to_owned()))
            .chain(repeat(&args.select, global))
            .chain(args.cold.then(|| "--cold".to_owned()))
            .collect(),
        keep: match args.keep {
            args::Keep::None => Keep::None,
            args::Keep::Failed => Keep::Failed,
            args::Keep::All => Keep::All,
        },
        ..Lab::new(preparer, sink, bundles)
    });
    runtime()?.block_on(async {
        named_rightly(&lab, &cases).await?;
        let outcome = xenlab_engine::run::run(lab, cases, args.jobs, started).await;
        Ok(outcome.exit)
    })
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::bad_input(format!("{}: {e}", path.display())))
}

/// Every build that was named must be one before anything boots: a wrong name is the user's to mend, not a verdict.
/// Whatever else goes wrong is each case's own Error.
async fn named_rightly(lab: &Lab, cases: &[Case]) -> Result<(), Failure> {
    let mut problems: Vec<String> = Vec::new();
    for case in cases {
        if matches!(case.plan, Planned::Skip(_)) || xenlab_host::interrupt::requested() {
            continue;
        }
        if let Err(EngineError::BadInput { message, .. }) =
            lab.preparer.build(&case.subject, case.config.arch).await
        {
            let place = ["xen.build", "xen"].iter().find_map(|key| case.places.get(*key));
            let line = match place {
                Some(place) => format!("{place}: {message}"),
                None => message,
            };
            if !problems.contains(&line) {
                problems.push(line);
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::bad_input(problems.join("\n"))) }
}

/// The words of the command line that a reproducing command needs besides scenario and case.
pub fn repeat(select: &Scenarios, global: &Global) -> Vec<String> {
    let mut words = select.recipe.repeat();
    let mut flag = |name: &str, value: &str| words.extend([name.to_owned(), value.to_owned()]);
    for xen in &select.xen {
        flag("--xen", xen);
    }
    if let Some(tools) = &select.tools {
        flag("--tools", tools);
    }
    if let Some(version) = &select.expect_version {
        flag("--expect-version", version);
    }
    for arch in &select.arch {
        flag("--arch", arch);
    }
    if let Some(qemu) = &select.qemu {
        flag("--qemu", &qemu.display().to_string());
    }
    for set in &select.sets {
        flag("--set", set);
    }
    for file in &select.expectations {
        flag("--expectations", &file.display().to_string());
    }
    if let Some(store) = &global.store {
        flag("--store", &store.display().to_string());
    }
    if global.offline {
        words.push("--offline".into());
    }
    if global.locked {
        words.push("--locked".into());
    }
    words
}

/// Removes the bundles of an earlier run: the report beside them is this run's, and an old verdict must not pass for a new one.
/// Only what is a bundle goes.
pub fn clear(bundles: &Path) -> Result<(), Failure> {
    let Ok(entries) = std::fs::read_dir(bundles) else { return Ok(()) };
    for old in entries.flatten().map(|e| e.path()).filter(|p| p.join("started").is_file()) {
        std::fs::remove_dir_all(&old).map_err(|e| {
            Failure::lab(format!("{}: a bundle of an earlier run cannot be removed: {e}", old.display()))
        })?;
    }
    Ok(())
}

/// Removes the oldest runs' bundles. Names sort by time.
fn prune(runs: &Path) {
    let Ok(entries) = std::fs::read_dir(runs) else { return };
    let mut names: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    names.sort();
    for old in names.iter().rev().skip(RUNS_KEPT) {
        let _ = std::fs::remove_dir_all(old);
    }
}

/// `doctor --deep`: each architecture's accelerator, found out by booting Debian's Xen on it.
pub fn probe_accelerators(global: &Global) -> Result<Vec<(xenlab_model::Arch, String, String)>, Failure> {
    let select = Scenarios::default();
    let cases = select::cases(&select, &facts::host())?;
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let mut preparer = Preparer::new(open_store(global, sink.clone())?, sink.clone());
    preparer.admission = admission(&*sink)?;
    let found = runtime()?.block_on(async {
        let mut all = Vec::new();
        for case in &cases {
            let row = match preparer.prepare(case).await {
                Ok(prepared) => (prepared.accel.accel.name().to_owned(), prepared.accel.reason.clone()),
                Err(error) => ("not known".to_owned(), error.to_string()),
            };
            all.push((case.config.arch, row.0, row.1));
        }
        all
    });
    let _ = fan.finish();
    Ok(found)
}
