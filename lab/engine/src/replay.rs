//! Judging a recorded case again, without a machine.

use crate::EngineError;
use crate::bundle::{self, Recorded};
use crate::exec;
use std::path::Path;
use xenlab_model::cause::Cause;
use xenlab_model::judge;
use xenlab_model::verdict::{CaseVerdict, Check};

/// A bundle judged again.
#[derive(Debug)]
pub struct Replayed {
    /// What was read.
    pub recorded: Recorded,
    /// The verdict now.
    pub now: CaseVerdict,
    /// What differs from the recorded verdict, one line each; empty when they agree or none was recorded.
    pub differences: Vec<String>,
}

/// Reads the bundle in `dir` and judges it.
pub fn replay(dir: &Path) -> Result<Replayed, EngineError> {
    let recorded = bundle::read(dir)?;
    let facts = match &recorded.inputs {
        Some(inputs) => inputs.facts.clone(),
        None => recorded.case.facts.clone(),
    };
    let mut now = judge::case(&recorded.case, &recorded.evidence, &facts, recorded.control.as_ref());
    // It had failed on a clone, or where emulation may be the cause.
    let again = dir.join(exec::POWER_ON);
    if again.join("started").is_file() {
        now = judge::settle(now, &replay(&again)?.now, exec::POWER_ON, &facts);
    }
    now = judge::against(&recorded.case, &facts, recorded.on, now);
    let mut differences = Vec::new();
    if let Some(then) = &recorded.verdict {
        // How long it all took is measured once, live; judging again does not change it.
        now.seconds = then.seconds;
        differences = differ(then, &now);
    }
    Ok(Replayed { recorded, now, differences })
}

fn differ(then: &CaseVerdict, now: &CaseVerdict) -> Vec<String> {
    let mut lines = Vec::new();
    let mut note = |what: &str, a: String, b: String| {
        if a != b {
            lines.push(format!("{what}: recorded {a}, now {b}"));
        }
    };
    note("verdict", then.verdict.word().into(), now.verdict.word().into());
    let code = |c: Option<Cause>| c.map_or("none".to_owned(), |c| c.code().to_owned());
    note("cause", code(then.cause), code(now.cause));
    let expected = |v: &CaseVerdict| match &v.expected {
        Some(e) => format!("{} (by {})", e.kind.words(), e.entry.expects()),
        None => "nothing".to_owned(),
    };
    note("expectation", expected(then), expected(now));
    note("message", then.message.clone(), now.message.clone());
    note("number of steps", then.steps.len().to_string(), now.steps.len().to_string());
    for (a, b) in then.steps.iter().zip(&now.steps) {
        note(&a.step, a.verdict.word().into(), b.verdict.word().into());
        note(
            &format!("{}, number of checks", a.step),
            a.checks.len().to_string(),
            b.checks.len().to_string(),
        );
        for (x, y) in a.checks.iter().zip(&b.checks) {
            let text = |c: &Check| format!("{} {} ({})", c.verdict.word(), code(c.cause), c.message);
            note(&format!("{}, {}", a.step, x.name), text(x), text(y));
        }
    }
    if lines.is_empty() && then != now {
        lines.push("the verdicts differ in a detail".into());
    }
    lines
}
