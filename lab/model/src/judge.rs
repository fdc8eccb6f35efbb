//! From a case, its evidence and the facts to its verdict. Pure: live runs and replays share it.

use crate::case::{Case, Planned};
use crate::cause::Cause;
use crate::evidence::{Evidence, Loss};
use crate::fact::Facts;
use crate::step::JudgeContext;
use crate::verdict::{CaseVerdict, Check, Control, StepVerdict, Verdict};

/// Judges one step.
pub fn step(case: &Case, evidence: &Evidence, facts: &Facts) -> StepVerdict {
    let boot = crate::step::Body::Phase(crate::step::phase::Phase { reach: xenlab_console::Phase::Dom0Ready });
    let found = case.setup.iter().chain(&case.steps).find(|s| s.path == evidence.step);
    let body = found.map_or(&boot, |s| &s.body);
    let cx = JudgeContext { facts, places: &case.places, step: &evidence.step };
    let checks = match &evidence.seen {
        Ok(seen) => body.judge(seen, &cx).unwrap_or_default(),
        Err(Loss::Lab { code, message }) => vec![Check::error("lab", code_of(code), message.clone())],
        Err(loss) => vec![Check::error("lab", Cause::LabInternal, format!("{loss:?}"))],
    };
    StepVerdict {
        step: evidence.step.clone(),
        title: found.map_or("boot", |s| s.title()).to_owned(),
        kind: body.kind().to_owned(),
        verdict: Verdict::worst(checks.iter().map(|c| c.verdict)),
        checks,
        seconds: evidence.to - evidence.from,
    }
}

fn code_of(code: &str) -> Cause {
    Cause::ALL.iter().copied().find(|c| c.code() == code).unwrap_or(Cause::LabInternal)
}

/// Judges a whole case.
pub fn case(case: &Case, evidence: &[Evidence], facts: &Facts, control: Option<&Control>) -> CaseVerdict {
    let steps: Vec<StepVerdict> = evidence.iter().map(|e| step(case, e, facts)).collect();
    let verdict = match &case.plan {
        Planned::Skip(_) => Verdict::Skip,
        _ => Verdict::worst(steps.iter().map(|s| s.verdict)),
    };
    let first = steps.iter().flat_map(|s| &s.checks).find(|c| c.verdict == verdict && c.cause.is_some());
    CaseVerdict {
        format: 1,
        case: case.id.clone(),
        subject: case.subject.to_string(),
        verdict,
        cause: first.and_then(|c| c.cause),
        blame: first.and_then(|c| c.cause).map(Cause::blame),
        message: first.map_or(String::new(), |c| c.message.clone()),
        steps,
        control: control.cloned(),
        seconds: 0.0,
    }
}
