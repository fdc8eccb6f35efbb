//! `xenlab bump`: the checklist of a version bump on two builds, and the two compared.

use crate::args::{Bump, Global, Run, Scenarios};
use crate::failure::Failure;
use crate::select::{self, Shipped};
use crate::{diff, history, run};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;
use xenlab_engine::facts;
use xenlab_model::Arch;
use xenlab_model::cause::Cause;
use xenlab_model::compare::{self, Side};
use xenlab_model::event::Sink;
use xenlab_model::exit::Exit;
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_report::{Fan, Terminal};
use xenlab_xen::Description;

/// The scenario.
const SHIPPED: Shipped =
    Shipped { file: "scenarios/bump.yaml", text: include_str!("../../../scenarios/bump.yaml") };

/// One of the two builds, as its files are.
struct Build {
    spec: String,
    tools: Option<String>,
    subject: Subject,
    /// By architecture; those that it is not for, with the reason.
    of: Vec<(Arch, Result<Box<Description>, String>)>,
}

impl Build {
    fn on(&self, arch: Arch) -> Option<&Description> {
        let (_, found) = self.of.iter().find(|(a, _)| *a == arch)?;
        found.as_ref().ok().map(Box::as_ref)
    }

    fn why_not(&self, arch: Arch) -> Option<&str> {
        let (_, found) = self.of.iter().find(|(a, _)| *a == arch)?;
        found.as_ref().err().map(String::as_str)
    }
}

/// Exits 1 where something got worse, and where the new build does not hold what it must.
pub fn bump(args: &Bump, global: &Global, started: Instant) -> Result<Exit, Failure> {
    let wanted: Vec<Arch> = if args.arch.is_empty() {
        Arch::ALL.to_vec()
    } else {
        args.arch.iter().map(|a| a.parse()).collect::<Result<_, String>>().map_err(Failure::bad_input)?
    };
    let new =
        build(&args.new, args.new_tools.as_deref(), args.expect_version.as_deref(), &wanted, args, global)?;
    let old = build(&args.old, args.old_tools.as_deref(), None, &wanted, args, global)?;
    let archs: Vec<Arch> = wanted.iter().copied().filter(|a| new.on(*a).is_some()).collect();
    if archs.is_empty() {
        let why = wanted.iter().find_map(|a| new.why_not(*a)).unwrap_or("it is for no architecture");
        return Err(Failure::bad_input(why.to_owned()));
    }
    let report = folder(args, global)?;
    let mut sides = Vec::new();
    for (name, build) in [("old", &old), ("new", &new)] {
        let dir = report.join(name);
        let on: Vec<Arch> = archs.iter().copied().filter(|a| build.on(*a).is_some()).collect();
        let side = recorded(args, global, build, name == "new", &on, &dir, started)?;
        match side {
            Ok(side) => sides.push(side),
            Err(exit) => return Ok(exit),
        }
    }
    let [old_side, new_side] = sides.as_slice() else { return Err(Failure::lab("a side was not recorded")) };
    let mut comparison = compare::compare(old_side, new_side, &history::past(global, [old_side, new_side]));
    for arch in &archs {
        if let (Some(a), Some(b)) = (old.on(*arch), new.on(*arch)) {
            comparison.add(xenlab_xen::differ(a, b));
        }
    }
    let names = |archs: &[Arch]| archs.iter().map(|a| a.name().to_owned()).collect::<Vec<_>>();
    let mut without: Vec<(String, String)> = Vec::new();
    for arch in &wanted {
        if let Some(why) = new.why_not(*arch) {
            without.push((arch.name().to_owned(), why.to_owned()));
        } else if let Some(why) = old.why_not(*arch) {
            without.push((arch.name().to_owned(), format!("only the new build was run there: {why}")));
        }
    }
    let bump = compare::Bump::new(old_side, new_side, comparison, names(&archs), without);
    let markdown = xenlab_report::bump(&bump);
    let json = format!("{}\n", serde_json::to_string_pretty(&bump).map_err(anyhow::Error::from)?);
    write(&report.join("bump.md"), &markdown)?;
    write(&report.join("bump.json"), &json)?;
    crate::print(if args.json { &json } else { &markdown })?;
    eprintln!("xenlab: everything recorded is in {}", report.display());
    Ok(bump.exit())
}

/// A build's files, read for each architecture. That it is not for one is no failure; that it cannot be had is.
fn build(
    spec: &str,
    tools: Option<&str>,
    expect_version: Option<&str>,
    archs: &[Arch],
    args: &Bump,
    global: &Global,
) -> Result<Build, Failure> {
    let subject = Subject {
        hypervisor: spec.parse::<XenSpec>().map_err(Failure::bad_input)?,
        tools: tools.map(str::parse::<XenSpec>).transpose().map_err(Failure::bad_input)?,
        expect_version: expect_version.map(str::to_owned),
    };
    let fan = Arc::new(Fan::start(vec![Box::new(Terminal::stderr())]));
    let sink: Arc<dyn Sink> = fan.clone();
    let store = run::open_store(global, sink)?;
    let mut of = Vec::new();
    for arch in archs {
        let found = match xenlab_xen::provide(&subject, *arch, &store) {
            Ok(build) => match &build.hypervisor.damage {
                Some(damage) if damage.cause == Cause::WrongArchitecture && args.arch.is_empty() => {
                    Err(format!("{spec}: {}", damage.text))
                }
                // Whatever else is wrong with it is for the run to judge.
                _ => Ok(Box::new(build.describe())),
            },
            Err(e) if e.is_bad_input() && args.arch.is_empty() => Err(e.to_string()),
            Err(e) if e.is_bad_input() => return Err(Failure::bad_input(e.to_string())),
            Err(e) => return Err(Failure::of(e.cause(), e)),
        };
        of.push((*arch, found));
    }
    let _ = fan.finish();
    Ok(Build { spec: spec.to_owned(), tools: tools.map(str::to_owned), subject, of })
}

/// Runs the scenario on one build and reads what was recorded; or says how the run ended, where it was not let come to its end.
fn recorded(
    args: &Bump,
    global: &Global,
    build: &Build,
    is_new: bool,
    archs: &[Arch],
    dir: &Path,
    started: Instant,
) -> Result<Result<Side, Exit>, Failure> {
    let name = build.subject.to_string();
    if archs.is_empty() {
        return Ok(Ok(Side { name, samples: Vec::new() }));
    }
    let select = Scenarios {
        scenarios: args.scenario.iter().cloned().collect(),
        xen: vec![build.spec.clone()],
        tools: build.tools.clone(),
        expect_version: args.expect_version.clone().filter(|_| is_new),
        arch: archs.iter().map(|a| a.name().to_owned()).collect(),
        sets: args.sets.clone(),
        qemu: args.qemu.clone(),
        expectations: args.expectations.clone(),
        ..Scenarios::default()
    };
    if args.recorded {
        let side = diff::side(dir, Some(&name), "--report")?;
        return Ok(Ok(side));
    }
    let cases = select::cases_of(&select, &SHIPPED, &facts::host())?;
    eprintln!(
        "xenlab: {} cases on {}, {name}",
        cases.len(),
        if is_new { "the new build" } else { "the old build" }
    );
    let run = Run {
        select,
        jobs: args.jobs,
        report: Some(dir.to_owned()),
        no_control: args.no_control,
        ..Run::default()
    };
    let exit = run::cases(&run, global, cases, &[], started)?;
    if exit == Exit::Interrupted {
        return Ok(Err(exit));
    }
    diff::side(dir, Some(&name), "--report").map(Ok)
}

/// Where everything is recorded: where the user said, else among the runs that the store keeps a while.
fn folder(args: &Bump, global: &Global) -> Result<PathBuf, Failure> {
    let dir = match &args.report {
        Some(dir) => dir.clone(),
        None => {
            let fan = Arc::new(Fan::start(Vec::new()));
            let store = run::open_store(global, fan)?;
            let now = xenlab_engine::now_rfc3339().replace([':', '-'], "");
            store.root().join("runs").join(format!("{now}-bump-{}", xenlab_engine::random_hex(2)))
        }
    };
    std::fs::create_dir_all(&dir).map_err(|e| Failure::lab(format!("{}: {e}", dir.display())))?;
    std::path::absolute(&dir).map_err(|e| Failure::bad_input(format!("{}: {e}", dir.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::lab(format!("{}: {e}", path.display())))
}
