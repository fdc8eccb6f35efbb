//! `list`, `validate`, `facts`: what scenarios say, without doing anything.

use crate::args::{List, Scenarios};
use crate::failure::Failure;
use crate::{print, select};
use serde_json::json;
use std::fmt::Write;
use xenlab_model::case::{Case, Planned};
use xenlab_model::exit::Exit;
use xenlab_model::fact;

/// `xenlab list`
pub fn list(args: &List) -> Result<Exit, Failure> {
    let cases = select::cases(&args.select, &xenlab_engine::facts::host())?;
    if args.json {
        let all: Vec<_> = cases.iter().map(as_json).collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?));
    }
    let mut text = String::new();
    for case in &cases {
        let _ = writeln!(text, "{}{}", case.shown(), planned(&case.plan));
    }
    print(&text)
}

/// The plan of a case in words, empty when it simply runs.
pub fn planned(plan: &Planned) -> String {
    match plan {
        Planned::Run => String::new(),
        Planned::Skip(because) => format!("\n    skipped: {because}"),
        Planned::Unknown(facts) => format!("\n    decided once known: {}", facts.join(", ")),
    }
}

fn as_json(case: &Case) -> serde_json::Value {
    json!({
        "id": case.id,
        "subject": case.subject.to_string(),
        "scenario": case.scenario,
        "file": case.file,
        "tags": case.tags,
        "axes": case.axes.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "plan": case.plan,
        "steps": case.steps.iter().map(|s| json!({"path": s.path, "kind": s.body.kind(), "title": s.title()})).collect::<Vec<_>>(),
    })
}

/// `xenlab validate`
pub fn validate(args: &Scenarios) -> Result<Exit, Failure> {
    let (files, scenarios): (Vec<_>, Vec<_>) =
        args.scenarios.iter().cloned().partition(|path| select::is_expectations(path));
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (mut good, mut problems) = (Vec::new(), Vec::new());
    // Files of expectations alone are no reason to look at the scenario that ships.
    if files.is_empty() || !scenarios.is_empty() {
        match select::cases(&Scenarios { scenarios, ..args.clone() }, &xenlab_engine::facts::host()) {
            Ok(cases) => {
                let named: std::collections::BTreeSet<&str> = cases.iter().map(|c| c.file.as_str()).collect();
                good.push(count(named.len(), "scenario"));
                good.push(count(cases.len(), "case"));
            }
            Err(failure) => problems.push(failure.message),
        }
    }
    let mut entries = 0;
    for file in &files {
        match select::expectations(file) {
            Ok(more) => entries += more.len(),
            Err(problem) => problems.push(problem),
        }
    }
    if !problems.is_empty() {
        return Err(Failure::bad_input(problems.join("\n")));
    }
    if entries > 0 {
        good.push(count(entries, "expectation"));
    }
    print(&format!("{}: all good\n", good.join(", ")))
}

/// `xenlab facts`
pub fn facts(json: bool) -> Result<Exit, Failure> {
    let paths = xenlab_model::scenario::paths();
    if json {
        let all = json!({"facts": fact::FACTS, "paths": paths});
        return print(&format!("{}\n", serde_json::to_string_pretty(&all).map_err(anyhow::Error::from)?));
    }
    let mut text = String::from("Facts, for conditions and matchers:\n");
    for f in fact::FACTS {
        let _ = writeln!(text, "  {:<24} {:<8} {}", f.name, kind(f.kind), f.help);
    }
    text.push_str("\nKey paths, for the matrix, overrides and --set; facts too:\n");
    for p in paths {
        let _ = writeln!(text, "  {:<24} {:<8} {}", p.path, kind(p.kind), p.help);
    }
    print(&text)
}

fn kind(kind: fact::FactType) -> String {
    serde_json::to_value(kind).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}
