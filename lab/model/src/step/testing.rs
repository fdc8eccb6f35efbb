//! What the judges' tests share: command results, facts, and checks as short lines.

use super::{JudgeContext, StepKind};
use crate::arch::Arch;
use crate::evidence::{Captured, CommandEnd, CommandResult, Transport};
use crate::fact::{FactValue, Facts};
use crate::place::{Place, Places};
use crate::verdict::{Check, Verdict};

/// A command over SSH.
pub fn ran(script: &str, status: i32, stdout: &str, stderr: &str) -> CommandResult {
    ended(script, CommandEnd::Exit(status), stdout, stderr)
}

/// A command over SSH that ended in some way.
pub fn ended(script: &str, end: CommandEnd, stdout: &str, stderr: &str) -> CommandResult {
    let kept = |s: &str| Captured { text: s.into(), total: s.len() as u64, cut: false };
    CommandResult {
        via: Transport::Ssh,
        script: script.into(),
        end,
        stdout: kept(stdout),
        stderr: kept(stderr),
        seconds: 0.1,
    }
}

/// The same over the serial console.
pub fn over_serial(mut result: CommandResult) -> CommandResult {
    result.via = Transport::Serial;
    result
}

/// The same with its standard output cut.
pub fn cut(mut result: CommandResult) -> CommandResult {
    result.stdout.cut = true;
    result.stdout.total = 1 << 24;
    result
}

/// Facts of a Debian 4.17.7 on x86_64, as its packages are.
pub fn facts() -> Facts {
    let mut f = Facts::default();
    let version = |s: &str| FactValue::Version(s.into());
    f.set("build.declared-version", version("4.17.7"));
    f.set("build.declared-by", FactValue::text("the command line"));
    f.set("build.image-version", version("4.17.7"));
    f.set("build.branch", version("4.17"));
    f.set("build.tools-branch", version("4.17"));
    f.set("build.build-id", FactValue::text("151b373fd64b321593bf987fd923cd10dabadac4"));
    f
}

/// Judges; x86_64, step `steps[0]`, whose keys were written in `t.yaml`.
pub fn judge<K: StepKind>(kind: &K, evidence: &K::Evidence, facts: &Facts) -> Vec<Check> {
    judge_for(Arch::X86_64, kind, evidence, facts)
}

/// The same for an architecture.
pub fn judge_for<K: StepKind>(arch: Arch, kind: &K, evidence: &K::Evidence, facts: &Facts) -> Vec<Check> {
    let mut places = Places::new();
    places.insert(format!("steps[0].{}", K::NAME), Place::File { file: "t.yaml".into(), line: 7, column: 5 });
    let checks = kind.judge(evidence, &JudgeContext { facts, places: &places, step: "steps[0]", arch });
    for check in &checks {
        let bad = matches!(check.verdict, Verdict::Fail | Verdict::Error);
        assert_eq!(
            check.cause.is_some(),
            bad,
            "each Fail and Error has a cause, nothing else has: {check:?}"
        );
        assert!(check.place.is_some(), "each check says where it was asked for: {check:?}");
        assert!(!check.message.is_empty(), "{check:?}");
    }
    checks
}

/// Reads a body as a scenario's JSON.
pub fn body<K: StepKind>(json: &str) -> K {
    serde_json::from_str(json).unwrap()
}

/// `name verdict cause`, a line for each check that is no pass.
pub fn bad(checks: &[Check]) -> Vec<String> {
    let bad = checks.iter().filter(|c| c.verdict != Verdict::Pass);
    bad.map(|c| match c.cause {
        Some(cause) => format!("{} {} {cause}", c.name, c.verdict.word()),
        None => format!("{} {}", c.name, c.verdict.word()),
    })
    .collect()
}

/// The message of the check of that name.
pub fn said<'a>(checks: &'a [Check], name: &str) -> &'a str {
    &checks.iter().find(|c| c.name == name).unwrap_or_else(|| panic!("no check {name}: {checks:?}")).message
}
