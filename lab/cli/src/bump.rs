//! `xenlab bump`: the checklist of a version bump on two builds, and the two compared.

use crate::args::{Bump, Global, Run, Scenarios, Xtf, XtfOf};
use crate::failure::Failure;
use crate::select::{self, Shipped};
use crate::{diff, history, repeat, run, xsa, xtf};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use xenlab_engine::facts;
use xenlab_model::Arch;
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::compare::{self, Side};
use xenlab_model::event::Sink;
use xenlab_model::exit::Exit;
use xenlab_model::metadata::{self, Built, Found};
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_model::xsa::Allowed;
use xenlab_report::{Fan, Terminal};
use xenlab_verbs::metadata::{MetadataError, evaluate};
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

    /// Those of these that it is for.
    fn of_these(&self, archs: &[Arch]) -> Vec<Arch> {
        archs.iter().copied().filter(|a| self.on(*a).is_some()).collect()
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
    let new = Subject {
        tools: spec_of(args.new_tools.as_deref())?,
        expect_version: args.expect_version.clone(),
        recipe: args.recipe.recipe()?,
        ..Subject::of(args.new.parse().map_err(Failure::bad_input)?)
    };
    let old = Subject {
        tools: spec_of(args.old_tools.as_deref())?,
        ..Subject::of(args.old.parse().map_err(Failure::bad_input)?)
    };
    let new = build(&args.new, args.new_tools.as_deref(), new, &wanted, args, global)?;
    let old = build(&args.old, args.old_tools.as_deref(), old, &wanted, args, global)?;
    let archs = new.of_these(&wanted);
    if archs.is_empty() {
        let why = wanted.iter().find_map(|a| new.why_not(*a)).unwrap_or("it is for no architecture");
        return Err(Failure::bad_input(why.to_owned()));
    }
    // Before anything boots: it takes seconds, and a feed that cannot be read is told at once.
    let metadata = metadata(args, &new, &archs)?;
    let advisories = match &args.feed {
        Some(feed) => {
            let history = args.history.as_deref();
            Some(xsa::report(feed, history, &new.subject, &archs, &Allowed::None, global)?)
        }
        None => None,
    };
    let mut sides = Vec::new();
    // Before anything is made or cleared: it may be bad input.
    if let Some(dir) = &args.old_run {
        sides.push(recorded_before(dir, args.report.as_deref(), &old, &old.of_these(&archs))?);
    }
    let report = repeat::folder("bump", args.report.as_deref(), global)?;
    if args.old_run.is_some() {
        repeat::clear(&report.join("old"))?;
    }
    for (name, build) in [("old", &old), ("new", &new)].into_iter().skip(sides.len()) {
        let of = Of { args, global, build, is_new: name == "new", archs: build.of_these(&archs), started };
        match of.recorded(&report.join(name), args.repeat, &[])? {
            Ok(side) => sides.push(side),
            Err(exit) => return Ok(exit),
        }
    }
    let [old_side, new_side] = sides.as_mut_slice() else {
        return Err(Failure::lab("a side was not recorded"));
    };
    let mut comparison = compare::compare(old_side, new_side, &history::past(global, [old_side, new_side]));
    // What came to another end is looked at once more: a busy host makes one boot fail, another Xen makes two.
    let (worse, better) = comparison.worse_and_better();
    for (side, build, ids) in [(&mut *old_side, &old, &better), (&mut *new_side, &new, &worse)] {
        if ids.is_empty() {
            continue;
        }
        let is_new = std::ptr::eq(build, &new);
        let of = Of { args, global, build, is_new, archs: build.of_these(&archs), started };
        let dir = report.join(if is_new { "new" } else { "old" }).join("again");
        match of.recorded(&dir, 1, ids)? {
            Ok(more) => side.samples.extend(more.samples),
            Err(exit) => return Ok(exit),
        }
    }
    if !worse.is_empty() || !better.is_empty() {
        comparison = compare::compare(old_side, new_side, &history::past(global, [old_side, new_side]));
    }
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
    let mut bump = compare::Bump::new(old_side, new_side, comparison, names(&archs), without);
    if let Some(found) = metadata {
        bump.add_metadata(found);
    }
    if let Some(advisories) = advisories {
        bump.add_advisories(advisories);
    }
    let markdown = xenlab_report::bump(&bump);
    let json = format!("{}\n", serde_json::to_string_pretty(&bump).map_err(anyhow::Error::from)?);
    write(&report.join("bump.md"), &markdown)?;
    write(&report.join("bump.json"), &json)?;
    crate::print(if args.json { &json } else { &markdown })?;
    eprintln!("xenlab: everything recorded is in {}", report.display());
    Ok(bump.exit())
}

/// What the package of a checkout of nixpkgs says, against the new build. That this host has no Nix keeps nothing else from being checked.
fn metadata(args: &Bump, new: &Build, archs: &[Arch]) -> Result<Option<Found>, Failure> {
    let (Some(checkout), Some(arch)) = (&args.nixpkgs, archs.first()) else { return Ok(None) };
    let meta = match evaluate(checkout, &args.nixpkgs_attr, *arch) {
        Ok(meta) => meta,
        Err(MetadataError::Host(why)) => {
            return Ok(Some(Found { not_judged: vec![why], ..Found::default() }));
        }
        Err(e) => return Err(Failure::bad_input(e.to_string())),
    };
    let built = new.on(*arch).map(|build| {
        let declared = build.declared.as_ref().map(|d| d.version.clone());
        let names = build.boot.iter().filter_map(|f| f.path.rsplit('/').next()).map(str::to_owned);
        Built { version: declared.or_else(|| build.hypervisor.version.clone()), boot: names.collect() }
    });
    Ok(Some(metadata::judge(&meta, &built.unwrap_or_default())))
}

fn spec_of(tools: Option<&str>) -> Result<Option<XenSpec>, Failure> {
    tools.map(str::parse).transpose().map_err(Failure::bad_input)
}

/// A build's files, read for each architecture. That it is not for one is no failure; that it cannot be had is.
fn build(
    spec: &str,
    tools: Option<&str>,
    subject: Subject,
    archs: &[Arch],
    args: &Bump,
    global: &Global,
) -> Result<Build, Failure> {
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

/// One side of the bump, to be run.
struct Of<'a> {
    args: &'a Bump,
    global: &'a Global,
    build: &'a Build,
    is_new: bool,
    archs: Vec<Arch>,
    started: Instant,
}

impl Of<'_> {
    /// Runs the scenario, or these cases of it, and reads what was recorded; or says how the run ended, where it was not let come to
    /// its end.
    fn recorded(&self, dir: &Path, times: usize, only: &[String]) -> Result<Result<Side, Exit>, Failure> {
        let Of { args, global, build, is_new, .. } = *self;
        let name = build.subject.to_string();
        if self.archs.is_empty() {
            return Ok(Ok(Side { name, samples: Vec::new() }));
        }
        if args.recorded {
            // What was not looked at again then is not now.
            if !only.is_empty() && !dir.is_dir() {
                return Ok(Ok(Side { name, samples: Vec::new() }));
            }
            return diff::side(dir, Some(&name), "--report").map(Ok);
        }
        let select = Scenarios {
            scenarios: args.scenario.iter().cloned().collect(),
            xen: vec![build.spec.clone()],
            tools: build.tools.clone(),
            expect_version: args.expect_version.clone().filter(|_| is_new),
            recipe: if is_new { args.recipe.clone() } else { Default::default() },
            arch: self.archs.iter().map(|a| a.name().to_owned()).collect(),
            sets: args.sets.clone(),
            qemu: args.qemu.clone(),
            expectations: args.expectations.clone(),
            ..Scenarios::default()
        };
        let side = if is_new { "the new build" } else { "the old build" };
        let again = if only.is_empty() { "" } else { " once more" };
        let exit = repeat::each(times, dir, |report| {
            let mut cases = select::cases_of(&select, &SHIPPED, &facts::host())?;
            cases.extend(self.instances(&select)?);
            cases.retain(|case| only.is_empty() || only.contains(&case.id));
            eprintln!("xenlab: {} cases on {side}, {name}{again}", cases.len());
            let run = Run {
                select: select.clone(),
                jobs: args.jobs,
                report: Some(report.to_owned()),
                no_control: args.no_control,
                repeat: 1,
                ..Run::default()
            };
            run::cases(&run, global, cases, &[], self.started)
        })?;
        if exit == Exit::Interrupted {
            return Ok(Err(exit));
        }
        diff::side(dir, Some(&name), "--report").map(Ok)
    }

    /// The instances of the XTF tree that was named, if one was; there are none for AArch64.
    fn instances(&self, select: &Scenarios) -> Result<Vec<Case>, Failure> {
        let Some(tree) = self.args.xtf.clone().filter(|_| self.archs.contains(&Arch::X86_64)) else {
            return Ok(Vec::new());
        };
        let of = XtfOf { tree, category: Vec::new(), environment: Vec::new(), test: Vec::new() };
        let select = Scenarios {
            scenarios: Vec::new(),
            arch: vec![Arch::X86_64.name().to_owned()],
            sets: Vec::new(),
            ..select.clone()
        };
        let run = Run { select, ..Run::default() };
        xtf::cases(&Xtf { of, run_as: None, list: false, run })
    }
}

/// What was recorded of the old build in an earlier run: by its build-id of the same hypervisor, on each of these architectures.
fn recorded_before(
    dir: &Path,
    report: Option<&Path>,
    build: &Build,
    archs: &[Arch],
) -> Result<Side, Failure> {
    let flag = format!("--old-run {}", dir.display());
    if let (Ok(is), Some(Ok(report))) = (dir.canonicalize(), report.map(Path::canonicalize))
        && is.starts_with(&report)
    {
        return Err(Failure::bad_input(format!(
            "{flag}: it is in {}, which this bump writes anew; name another folder with --report",
            report.display()
        )));
    }
    let name = build.subject.to_string();
    let mut side = diff::side(dir, Some(&name), "--old-run")?;
    side.samples.retain(|s| archs.iter().any(|a| s.arch == a.name()));
    for arch in archs {
        let is = build.on(*arch).and_then(|d| d.hypervisor.build_id.clone());
        let Some(sample) = side.samples.iter().find(|s| s.arch == arch.name()) else {
            return Err(Failure::bad_input(format!(
                "{flag}: it has no case of {name} on {arch}; say --arch, or leave --old-run out"
            )));
        };
        let was = sample.facts.get("build.build-id").map(ToString::to_string);
        if was != is {
            let or = |id: Option<String>| id.unwrap_or_else(|| "none".to_owned());
            return Err(Failure::bad_input(format!(
                "{flag}: what was run there as {name} on {arch} is another build than it is now: build-id {}, now {}; leave --old-run out",
                or(was),
                or(is)
            )));
        }
    }
    eprintln!(
        "xenlab: {} cases on the old build, {name}, were run before, into {}",
        side.samples.len(),
        dir.display()
    );
    Ok(side)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::lab(format!("{}: {e}", path.display())))
}
