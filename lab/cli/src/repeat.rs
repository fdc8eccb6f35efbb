//! `--repeat`: the same cases several times over, and how often each came to what.

use crate::args::{Global, Run};
use crate::failure::Failure;
use crate::{print, run};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_engine::samples;
use xenlab_model::compare::{self, Class, Past, Side};
use xenlab_model::exit::Exit;
use xenlab_report::Fan;

/// A folder for what is recorded where the user named none: among the runs that the store keeps a while.
pub fn folder(of: &str, report: Option<&Path>, global: &Global) -> Result<PathBuf, Failure> {
    let dir = match report {
        Some(dir) => dir.to_owned(),
        None => {
            let store = run::open_store(global, Arc::new(Fan::start(Vec::new())))?;
            let now = xenlab_engine::now_rfc3339().replace([':', '-'], "");
            store.root().join("runs").join(format!("{now}-{of}-{}", xenlab_engine::random_hex(2)))
        }
    };
    std::fs::create_dir_all(&dir).map_err(|e| Failure::lab(format!("{}: {e}", dir.display())))?;
    std::path::absolute(&dir).map_err(|e| Failure::bad_input(format!("{}: {e}", dir.display())))
}

/// Does `once` so often, each time with a report of its own in a folder `1`, `2`, … of `dir`. Of the exit codes the one that speaks
/// for all; an interrupt ends it.
pub fn each(
    times: usize,
    dir: &Path,
    mut once: impl FnMut(&Path) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    clear(dir)?;
    let mut exit: Option<Exit> = None;
    for n in 1..=times {
        if times > 1 {
            eprintln!("xenlab: {n} of {times}");
        }
        let this = once(&if times > 1 { dir.join(n.to_string()) } else { dir.to_owned() })?;
        exit = Some(exit.map_or(this, |all| all.worse(this)));
        if this == Exit::Interrupted {
            break;
        }
    }
    exit.ok_or_else(|| Failure::bad_input("--repeat 0 runs nothing; expected 1 or more"))
}

/// Removes what an earlier run left in `dir`, so that it is not taken for this one's: bundles, and reports of single runs. Nothing else
/// goes.
pub fn clear(dir: &Path) -> Result<(), Failure> {
    run::clear(&dir.join("bundles"))?;
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for old in entries.flatten().map(|e| e.path()) {
        let name = old.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let ours = name == "again" || name.parse::<usize>().is_ok();
        if ours && old.join("bundles").is_dir() {
            std::fs::remove_dir_all(&old).map_err(|e| {
                Failure::lab(format!("{}: what an earlier run left cannot be removed: {e}", old.display()))
            })?;
        }
    }
    // An empty one would be taken for a run's.
    let _ = std::fs::remove_dir(dir.join("bundles"));
    Ok(())
}

/// Runs what a command runs so often as it says, and tells how often what passed.
pub fn repeated(
    args: &Run,
    global: &Global,
    mut once: impl FnMut(&Run) -> Result<Exit, Failure>,
) -> Result<Exit, Failure> {
    if args.repeat == 1 {
        return once(args);
    }
    let dir = folder("repeat", args.report.as_deref(), global)?;
    let exit = each(args.repeat, &dir, |report| {
        once(&Run { repeat: 1, report: Some(report.to_owned()), ..args.clone() })
    })?;
    let sides = samples::sides(&dir).map_err(|e| Failure::lab(e.to_string()))?;
    let mut text = String::new();
    for side in &sides {
        text.push_str(&counted(side));
    }
    print(&text)?;
    eprintln!("xenlab: everything recorded is in {}", dir.display());
    Ok(exit)
}

/// How often each case of a side passed, and which of its checks came out now one way, now the other.
fn counted(side: &Side) -> String {
    // Against itself: flaky is what differs within it.
    let compared = compare::compare(side, side, &Past::new());
    let mut text = String::new();
    for item in &compared.items {
        let Some(now) = &item.new else { continue };
        let all = now.passed + now.failed + now.not_judged;
        if item.key.step.is_none() {
            let flaky = if item.class == Class::Flaky { ": flaky" } else { "" };
            let not =
                if now.not_judged > 0 { format!(", {} not judged", now.not_judged) } else { String::new() };
            let _ = writeln!(
                text,
                "{} @ {}: passed {} of {all}, failed {}{not}{flaky}",
                item.key.case, side.name, now.passed, now.failed
            );
        } else if let (Some(step), Some(check)) = (&item.key.step, &item.key.check)
            && now.failed > 0
        {
            let _ = writeln!(
                text,
                "  {step}: {check}: failed {} of {all}: {}",
                now.failed,
                xenlab_model::escape_lines(&now.message)
            );
        }
    }
    text
}
