//! `xenlab selftest`: would the lab notice?

use crate::args::{Global, Selftest};
use crate::failure::Failure;
use crate::{host_packages, print, repeat, run};
use std::fmt::Write as _;
use xenlab_model::Arch;
use xenlab_model::exit::Exit;
use xenlab_verbs::selftest::{self, Harness, Kind, Outcome, Told, Trial};

/// Exits 1 where a fault was not caught or a good run was blamed.
pub fn selftest(args: &Selftest, global: &Global) -> Result<Exit, Failure> {
    if args.jobs == Some(0) {
        return Err(Failure::bad_input("--jobs 0 runs nothing; expected 1 or more"));
    }
    let trials = trials(args)?;
    if args.list {
        return print(&listed(&trials, args.json)?);
    }
    if global.install {
        host_packages::install(false)?;
    }
    let dir = repeat::folder("selftest", args.report.as_deref(), global)?;
    let jobs = args.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let harness = Harness {
        program: std::env::current_exe()
            .map_err(|e| Failure::lab(format!("cannot find xenlab itself: {e}")))?,
        arguments: arguments(args, global),
        unplanted: args.unplanted,
        jobs,
        dir: dir.clone(),
    };
    let all = trials.len();
    // Progress on stderr: stdout is the score's.
    let width = all.to_string().len();
    let told = |told: Told<'_>| match told {
        // After an interrupt the rest is not worth a line each.
        Told::Ended(_, tried) if tried.outcome == Outcome::Interrupted => {}
        Told::Ended(n, tried) => eprintln!("[{n:>width$}/{all}] {}", tried.line()),
        Told::Waiting(names) => {
            eprintln!("{:width$}  still at, or waiting for room on this host: {}", "", names.join(", "));
        }
    };
    eprintln!("{all} trials, {jobs} at a time");
    let score = run::runtime()?
        .block_on(selftest::run(harness, trials, &told))
        .map_err(|e| Failure::lab(format!("{}: {e}", dir.display())))?;
    let json = serde_json::to_string_pretty(&score).map_err(anyhow::Error::from)?;
    match &args.report {
        Some(dir) => {
            let path = dir.join("selftest.json");
            std::fs::write(&path, format!("{json}\n"))
                .map_err(|e| Failure::lab(format!("{}: {e}", path.display())))?;
        }
        // Empty unless something is there to look at.
        None => {
            let _ = std::fs::remove_dir(&dir);
        }
    }
    print(&if args.json { format!("{json}\n") } else { score.text() })?;
    Ok(score.exit())
}

fn trials(args: &Selftest) -> Result<Vec<Trial>, Failure> {
    let mut all = selftest::trials();
    if !args.arch.is_empty() {
        let archs = args.arch.iter().map(|a| a.parse().map_err(Failure::bad_input));
        let archs: Vec<Arch> = archs.collect::<Result<_, _>>()?;
        all.retain(|t| archs.contains(&t.arch));
    }
    for word in &args.only {
        if selftest::chosen(all.clone(), std::slice::from_ref(word)).is_empty() {
            return Err(Failure::bad_input(format!(
                "--only {word}: no trial has this name or this part in it; `xenlab selftest --list` prints them"
            )));
        }
    }
    Ok(selftest::chosen(all, &args.only))
}

fn arguments(args: &Selftest, global: &Global) -> Vec<String> {
    let mut words = Vec::new();
    let paths = [("--qemu", &args.qemu), ("--store", &global.store)];
    for (flag, path) in paths {
        if let Some(path) = path {
            words.extend([flag.to_owned(), path.display().to_string()]);
        }
    }
    for (flag, on) in [("--offline", global.offline), ("--locked", global.locked)] {
        if on {
            words.push(flag.to_owned());
        }
    }
    words
}

fn listed(trials: &[Trial], json: bool) -> Result<String, Failure> {
    let what = |t: &Trial| if t.without { "nothing is wrong" } else { t.row.what };
    let expected = |t: &Trial| if t.without { None } else { t.row.expect.cause };
    if json {
        let all: Vec<serde_json::Value> = trials
            .iter()
            .map(|t| {
                serde_json::json!({"name": t.name(), "kind": t.kind(), "arch": t.arch.name(), "what": what(t),
                                   "expected": expected(t)})
            })
            .collect();
        return Ok(format!("{}\n", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?));
    }
    let mut text = String::new();
    for trial in trials {
        let cause = expected(trial).map_or("pass", |c| c.code());
        let _ = writeln!(text, "{:<48} {cause:<26} {}", trial.name(), what(trial));
    }
    for arch in Arch::ALL {
        let count = |kind| trials.iter().filter(|t| t.arch == arch && t.kind() == kind).count();
        let _ = writeln!(text, "{arch}: {} faults, {} good runs", count(Kind::Fault), count(Kind::Good));
    }
    Ok(text)
}
