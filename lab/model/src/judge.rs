//! From a case, its evidence and the facts to its verdict. Pure: live runs and replays share it.

use crate::case::{Case, Planned};
use crate::cause::{Blame, Cause};
use crate::condition::{Absent, Truth};
use crate::date::Date;
use crate::evidence::{Evidence, Loss, Origin};
use crate::expectation;
use crate::fact::{FactValue, Facts};
use crate::matcher::quote;
use crate::step::xtf::RunAs;
use crate::step::{At, Body, JudgeContext, Observation, Step, phase};
use crate::verdict::{CaseVerdict, Check, Control, StepVerdict, Verdict};
use xenlab_console::Phase;

/// The key path of the wait for dom0 that every boot begins with; its evidence is a
/// [`PhaseEvidence`](phase::PhaseEvidence).
pub const BOOT: &str = "boot";

/// The key path under which a lost input is told: a [`Loss::Lab`] with `lab.input-changed`, when the machine's inputs, hashed again
/// before a Fail is blamed on anybody, were not what they had been. It outweighs every Fail.
pub const INPUTS: &str = "inputs";

/// The key path under which is told that the machine or its guest was lost after the last step had seen what it waited for: a
/// [`Loss`]. A Xen that dies a moment after it was looked at has not passed.
pub const END: &str = "end";

/// Judges one step by its evidence; `facts` are what is known besides the case's own.
pub fn step(case: &Case, evidence: &Evidence, facts: &Facts) -> StepVerdict {
    let facts = known(case, facts);
    let verdict = match find(case, &evidence.step) {
        Some(step) => judge_step(case, step, evidence, &facts),
        None if evidence.step == BOOT => judge_boot(case, evidence, &facts),
        None if evidence.step == END => judge_end(case, evidence),
        None => {
            let message =
                format!("{}: there is evidence of a step that the case does not have", evidence.step);
            let check = Check::error(&evidence.step, Cause::LabInternal, message);
            verdict(&evidence.step, &evidence.step, "", vec![check], evidence.to - evidence.from)
        }
    };
    StepVerdict { origin: evidence.origin, ..verdict }
}

/// Judges a whole case. Always gives a verdict: what there is no evidence of was not reached.
pub fn case(case: &Case, evidence: &[Evidence], facts: &Facts, control: Option<&Control>) -> CaseVerdict {
    let facts = known(case, facts);
    let seconds = evidence.iter().map(|e| e.to).fold(0.0, f64::max);
    // A case lost before its build was known has not shown that a need is unmet: what is unknown then is no reason to skip.
    let lost = evidence.iter().any(|e| e.step == BOOT && e.seen.is_err());
    let absent = if lost { Absent::Unknown } else { Absent::Nothing };
    if let Planned::Skip(because) = case.plan(&facts, absent) {
        return CaseVerdict {
            format: crate::bundle::FORMAT,
            case: case.id.clone(),
            subject: case.subject.to_string(),
            verdict: Verdict::Skip,
            cause: None,
            blame: None,
            message: because,
            xtf: xtf(case, &[], Verdict::Skip),
            steps: Vec::new(),
            control: None,
            seconds,
            expected: None,
        };
    }
    let mut steps = steps(case, evidence, &facts);
    let changed = evidence.iter().find(|e| changed_input(e).is_some());
    if let Some(evidence) = changed.filter(|e| !steps.iter().any(|s| s.step == e.step)) {
        steps.push(changed_inputs(evidence));
    }
    let decided = match changed.and_then(changed_input) {
        Some((cause, message)) => Decided {
            verdict: Verdict::Error,
            cause: Some(cause),
            blame: Some(cause.blame()),
            message: message.to_owned(),
        },
        None => decide(case, &steps, control),
    };
    // Nothing was reached for a reason that lies elsewhere.
    let without = evidence.iter().find_map(|e| match &e.seen {
        Err(Loss::NoTemplate { template, message }) if decided.verdict == Verdict::NotReached => {
            Some(format!("`{template}`, which this case starts from, failed: {message}"))
        }
        _ => None,
    });
    let decided = Decided { message: without.unwrap_or(decided.message), ..decided };
    CaseVerdict {
        format: crate::bundle::FORMAT,
        case: case.id.clone(),
        subject: case.subject.to_string(),
        verdict: decided.verdict,
        cause: decided.cause,
        blame: decided.blame,
        message: decided.message,
        xtf: xtf(case, &steps, decided.verdict),
        steps,
        control: control.cloned(),
        seconds,
        expected: None,
    }
}

/// A verdict with how it stands to what was expected of its case; `facts` are what is known besides the case's own, `on` is the day of
/// the run. The verdict itself stays what it is.
pub fn against(case: &Case, facts: &Facts, on: Option<Date>, verdict: CaseVerdict) -> CaseVerdict {
    let expected = expectation::compare(case, &known(case, facts), on, &verdict);
    CaseVerdict { expected, ..verdict }
}

/// The XTF instance that a case runs and how it ended; without an outcome where it was not run, and where the lab could not say.
fn xtf(case: &Case, steps: &[StepVerdict], verdict: Verdict) -> Option<crate::xtf::Ended> {
    let (path, known) = case.steps.iter().find_map(|step| match &step.body {
        Body::Xtf(xtf) => Some((&step.path, xtf.known.as_ref()?)),
        _ => None,
    })?;
    let checks = steps.iter().find(|s| s.step == *path).map_or(&[][..], |s| &s.checks);
    let outcome = checks.iter().find_map(crate::step::xtf::Xtf::outcome);
    Some(crate::xtf::Ended {
        instance: known.instance.to_string(),
        environment: known.instance.environment.clone(),
        category: known.category.clone(),
        outcome: outcome.filter(|_| !matches!(verdict, Verdict::Error | Verdict::NotReached)),
    })
}

/// A guest of this case ended as QEMU's emulated processors can make it end: they can lose a guest's registers when it leaves to Xen, which
/// then finds its own in the guest's saved state (7.2.22 measured: RIP is the instruction behind Xen's VMRUN), and the guest cannot go on.
pub fn may_be_emulated(verdict: &CaseVerdict, facts: &Facts) -> bool {
    let emulated = || facts.get("machine.accel") == Some(&FactValue::Text("tcg".to_owned()));
    verdict.verdict == Verdict::Fail && verdict.cause == Some(Cause::GuestTripleFault) && emulated()
}

/// The verdict of a case that failed on a clone and was run once more from power-on. Where both say the same it stands; where they do
/// not, one of the two machines was not what it should have been, which says nothing of Xen. Where that is known to be the clone, its
/// template being damaged, or emulation that lost a guest, the boot's word stands. `place` is where the other bundle is.
pub fn settle(clone: CaseVerdict, power_on: &CaseVerdict, place: &str, facts: &Facts) -> CaseVerdict {
    if may_be_emulated(&clone, facts) && power_on.cause != clone.cause {
        let message = match power_on.message.as_str() {
            "" => String::new(),
            message => format!("{message}; "),
        };
        let message = format!(
            "{message}this is the case once more ({place}): the time before {}, which QEMU's emulation can be the cause of",
            clone.message
        );
        return CaseVerdict { message, ..power_on.clone() };
    }
    if clone.cause == Some(Cause::TemplateUnusable) {
        let message = format!("{} (from power-on, {place}, since {})", power_on.message, clone.message);
        return CaseVerdict { message, ..power_on.clone() };
    }
    if (clone.verdict, clone.cause) == (power_on.verdict, power_on.cause) {
        let message = format!("{}; the same from power-on ({place})", clone.message);
        return CaseVerdict { message, ..clone };
    }
    if power_on.verdict == Verdict::Error {
        // What could not be done again is not known to differ, and what is not known to be Xen's is not put on it.
        let message = format!(
            "{}; from power-on: {} ({place}); on a clone: {}",
            Cause::CloneDiffers.meaning(),
            power_on.message,
            clone.message
        );
        return CaseVerdict {
            verdict: Verdict::Error,
            cause: power_on.cause,
            blame: power_on.blame,
            message,
            ..clone
        };
    }
    let word = |v: &CaseVerdict| format!("{}: {}", v.verdict.word(), v.message);
    CaseVerdict {
        verdict: Verdict::Error,
        cause: Some(Cause::CloneDiffers),
        blame: Some(Cause::CloneDiffers.blame()),
        message: format!(
            "{}: on a clone {}; from power-on {} ({place})",
            Cause::CloneDiffers.meaning(),
            word(&clone),
            word(power_on)
        ),
        ..clone
    }
}

/// What is said of an input or a template that changed, if this evidence says that one did.
fn changed_input(evidence: &Evidence) -> Option<(Cause, &str)> {
    let Err(Loss::Lab { code, message }) = &evidence.seen else { return None };
    let mut causes = [Cause::InputChanged, Cause::TemplateUnusable].into_iter();
    // A template that could not be restored is no input that changed.
    let cause = causes.find(|c| c.code() == code)?;
    (cause == Cause::InputChanged || evidence.step == INPUTS).then_some((cause, message))
}

fn changed_inputs(evidence: &Evidence) -> StepVerdict {
    let (cause, message) = changed_input(evidence).unwrap_or((Cause::InputChanged, ""));
    let check = Check::error(INPUTS, cause, format!("{INPUTS}: {message}"));
    verdict(&evidence.step, INPUTS, INPUTS, vec![check], evidence.to - evidence.from)
}

/// What planning knew and what came to be known since.
fn known(case: &Case, facts: &Facts) -> Facts {
    let mut all = case.facts.clone();
    all.extend(facts);
    all
}

fn find<'a>(case: &'a Case, path: &str) -> Option<&'a Step> {
    case.setup.iter().chain(&case.steps).find(|step| step.path == path)
}

/// The boot, the set-up and the steps, in order; a step whose `when` does not hold is not part of the case.
fn steps(case: &Case, evidence: &[Evidence], facts: &Facts) -> Vec<StepVerdict> {
    let seen = |path: &str| evidence.iter().rev().find(|e| e.step == path);
    let all = || case.setup.iter().chain(&case.steps);
    let mut verdicts = Vec::new();
    match seen(BOOT) {
        Some(boot) => {
            verdicts.push(StepVerdict { origin: boot.origin, ..judge_boot(case, boot, facts) });
        }
        // A case of `build` steps alone needs no machine.
        None if all().all(|s| s.body.at() == At::Build) => {}
        None => verdicts.push(not_reached(BOOT, BOOT, phase_kind(), 0.0)),
    }
    for step in all() {
        let part = step
            .when
            .as_ref()
            .is_none_or(|when| !matches!(when.evaluate(facts, Absent::Nothing), Truth::Fails(_)));
        if !part {
            continue;
        }
        verdicts.push(match seen(&step.path) {
            Some(evidence) => {
                StepVerdict { origin: evidence.origin, ..judge_step(case, step, evidence, facts) }
            }
            None => not_reached(&step.path, step.title(), step.body.kind(), 0.0),
        });
    }
    verdicts.extend(seen(END).map(|end| judge_end(case, end)));
    verdicts
}

fn judge_end(case: &Case, evidence: &Evidence) -> StepVerdict {
    let checks = match &evidence.seen {
        Ok(_) => vec![Check::error(END, Cause::LabInternal, "end: its evidence is of a step")],
        Err(loss) => vec![lost(END, loss, target(case.setup.iter().chain(&case.steps)))],
    };
    verdict(END, "after the last step", END, checks, evidence.to - evidence.from)
}

fn phase_kind() -> &'static str {
    <phase::Phase as crate::step::StepKind>::NAME
}

/// How far the boot must come before the first of these steps: as far as the furthest of them needs. What works in dom0 needs
/// all of it, and so does a console: what it lacks must have had its chance to appear.
pub fn target<'a>(steps: impl IntoIterator<Item = &'a Step>) -> Phase {
    let furthest =
        steps.into_iter().filter(|step| step.body.at() != At::Build).map(|step| match &step.body {
            Body::Phase(phase) => phase.reach,
            // It is what Xen builds in dom0's place.
            Body::Xtf(xtf) if xtf.run_as == RunAs::Dom0 => Phase::Dom0Build,
            _ => Phase::Dom0Ready,
        });
    furthest.max().unwrap_or(Phase::PowerOn)
}

fn judge_boot(case: &Case, evidence: &Evidence, facts: &Facts) -> StepVerdict {
    let seconds = evidence.to - evidence.from;
    let checks = match &evidence.seen {
        Ok(Observation::Phase(seen)) => {
            let reach = target(case.setup.iter().chain(&case.steps));
            vec![mixed_tools(phase::judge(reach, seen), facts)]
        }
        Ok(_) => {
            vec![Check::error(BOOT, Cause::LabInternal, "boot: its evidence is of another kind of step")]
        }
        Err(Loss::NotReached | Loss::NoTemplate { .. }) => {
            return not_reached(BOOT, BOOT, phase_kind(), seconds);
        }
        Err(loss) => vec![lost(BOOT, loss, Phase::PowerOn)],
    };
    verdict(BOOT, BOOT, phase_kind(), checks, seconds)
}

/// Tools work only on the Xen they are of: where they are another one's and dom0 got as far as to use them, that is why it did
/// not become ready.
fn mixed_tools(mut check: Check, facts: &Facts) -> Check {
    let by_tools = [Cause::ToolsFailed, Cause::StoreAbsent, Cause::Dom0NotReady, Cause::Dom0Hung]
        .map(Some)
        .contains(&check.cause);
    let text = |name: &str| facts.get(name).map(ToString::to_string);
    let in_init =
        check.shown.iter().any(|(label, phase)| label == "phase" && phase == Phase::Dom0Init.name());
    if let (true, true, Some(hypervisor), Some(tools)) =
        (by_tools, in_init, text("build.branch"), text("build.tools-branch"))
        && hypervisor != tools
    {
        check.cause = Some(Cause::ToolsMismatch);
        check.message =
            format!("{}; the tools are those of Xen {tools}, the hypervisor is {hypervisor}", check.message);
    }
    check
}

fn judge_step(case: &Case, step: &Step, evidence: &Evidence, facts: &Facts) -> StepVerdict {
    let (title, kind) = (step.title(), step.body.kind());
    let seconds = evidence.to - evidence.from;
    let cx = JudgeContext { facts, places: &case.places, step: &step.path, arch: case.config.arch };
    let checks = match &evidence.seen {
        Ok(seen) => step.body.judge(seen, &cx).unwrap_or_else(|| {
            vec![Check::error(
                kind,
                Cause::LabInternal,
                format!("{kind}: its evidence is of another kind of step"),
            )]
        }),
        Err(Loss::NotReached | Loss::NoTemplate { .. }) => {
            return not_reached(&step.path, title, kind, seconds);
        }
        // Steps come after the boot: dom0 ran.
        Err(loss) => {
            // Where dom0 is a test, what resets the machine is Xen: of its dom0's end it would have told.
            let dom0_is_a_test = matches!(&step.body, Body::Xtf(xtf) if xtf.run_as == RunAs::Dom0);
            let phase = if dom0_is_a_test { Phase::Dom0Build } else { Phase::Dom0Ready };
            let check = lost(kind, loss, phase).at(cx.place(kind, ""));
            vec![match &step.body {
                Body::Xtf(xtf) => xtf.lost(check, loss),
                _ => check,
            }]
        }
    };
    verdict(&step.path, title, kind, checks, seconds)
}

/// The machine, the run or the lab was lost while a step ran.
fn lost(name: &str, loss: &Loss, phase: Phase) -> Check {
    let (cause, message) = match loss {
        Loss::NotReached | Loss::NoTemplate { .. } => return Check::not_judged(name, "not reached"),
        Loss::Machine(end) => (phase::machine_cause(end, phase), phase::machine_words(end)),
        Loss::Guest { code, line, .. } => {
            let cause = Cause::from_code(code).unwrap_or(Cause::LabInternal);
            (cause, format!("{}: {}", cause.meaning(), quote(line)))
        }
        Loss::Interrupted => (Cause::Interrupted, "the run was interrupted".to_owned()),
        Loss::Lab { code, message } => match Cause::from_code(code) {
            Some(cause) => (cause, message.clone()),
            None => (Cause::LabInternal, format!("{message} ({code})")),
        },
    };
    let message = format!("{name}: {message}");
    let check = match cause.verdict() {
        Verdict::Error => Check::error(name, cause, message),
        _ => Check::fail(name, cause, message),
    };
    match loss {
        Loss::Guest { told, .. } => told.iter().fold(check, |c, (label, value)| c.show(label, value)),
        _ => check,
    }
}

fn not_reached(step: &str, title: &str, kind: &str, seconds: f64) -> StepVerdict {
    StepVerdict {
        step: step.to_owned(),
        title: title.to_owned(),
        kind: kind.to_owned(),
        verdict: Verdict::NotReached,
        checks: Vec::new(),
        seconds,
        origin: Origin::PowerOn,
    }
}

fn verdict(step: &str, title: &str, kind: &str, checks: Vec<Check>, seconds: f64) -> StepVerdict {
    StepVerdict {
        step: step.to_owned(),
        title: title.to_owned(),
        kind: kind.to_owned(),
        // Nothing was judged: a Skip.
        verdict: Verdict::worst(checks.iter().map(|c| c.verdict)),
        checks,
        seconds: seconds.max(0.0),
        origin: Origin::PowerOn,
    }
}

/// What a case comes to.
struct Decided {
    verdict: Verdict,
    cause: Option<Cause>,
    blame: Option<Blame>,
    message: String,
}

fn decide(case: &Case, steps: &[StepVerdict], control: Option<&Control>) -> Decided {
    let decided = decide_by(steps.iter());
    // That the machine booted is what a case begins with; where nothing that the scenario asks for was judged, nothing was.
    let mut asked = steps.iter().filter(|s| find(case, &s.step).is_some());
    if decided.verdict == Verdict::Pass
        && let Some(first) = asked.clone().next()
        && asked.all(|s| s.verdict == Verdict::Skip)
    {
        let why = first.checks.iter().find(|c| c.verdict == Verdict::Skip).map(|c| c.message.clone());
        let message = why.unwrap_or_else(|| "nothing was judged".to_owned());
        return Decided { verdict: Verdict::Skip, cause: None, blame: None, message };
    }
    let Some(control) = control else { return decided };
    if let Some(why) = &control.unavailable {
        let message = format!(
            "{}; whether this build or this host is at fault is not known: {} could not be booted to compare ({why})",
            decided.message, control.subject
        );
        return Decided { message, blame: None, ..decided };
    }
    if control.passed {
        // The same machine boots another Xen: what is said of this one stands.
        let message = format!("{}; {} boots in this very machine", decided.message, control.subject);
        return Decided { message, ..decided };
    }
    // Nothing that came of this machine says anything of the subject; what was read off the build's files still does.
    let by_files =
        decide_by(steps.iter().filter(|s| find(case, &s.step).is_some_and(|s| s.body.at() == At::Build)));
    let host = format!(
        "{}, known to be good, does not boot in this machine either: this host, QEMU or machine is at fault, not the build",
        control.subject
    );
    if by_files.verdict == Verdict::Fail {
        return Decided { message: format!("{}; beside that, {host}", by_files.message), ..by_files };
    }
    Decided {
        verdict: Verdict::Error,
        cause: Some(Cause::ControlFailed),
        blame: Some(Cause::ControlFailed.blame()),
        message: host,
    }
}

/// The worst of the steps, and the first check that made it so.
fn decide_by<'a>(steps: impl Iterator<Item = &'a StepVerdict> + Clone) -> Decided {
    let verdict = Verdict::worst(steps.clone().map(|s| s.verdict));
    let count = |v: Verdict| steps.clone().filter(|s| s.verdict == v).count();
    let first = steps.clone().find(|s| s.verdict == verdict);
    let check = first.and_then(|s| s.checks.iter().find(|c| c.verdict == verdict));
    let cause = check.and_then(|c| c.cause);
    let message = match (verdict, first) {
        (Verdict::Fail | Verdict::Error, Some(step)) => {
            let said = check.map_or("", |c| c.message.as_str());
            let more = match count(verdict) {
                0 | 1 => String::new(),
                n => format!(" (and {} more of the steps)", n - 1),
            };
            let said = said.strip_prefix(&format!("{}: ", step.title)).unwrap_or(said);
            format!("{}: {said}{more}", step.title)
        }
        (Verdict::NotReached, Some(step)) => {
            format!(
                "{} of the steps were not reached, the first is {}",
                count(Verdict::NotReached),
                step.title
            )
        }
        (Verdict::Pass, _) => {
            let skipped = match count(Verdict::Skip) {
                0 => String::new(),
                n => format!(", {n} not judged"),
            };
            format!("{} steps passed{skipped}", count(Verdict::Pass))
        }
        _ => "nothing was judged".to_owned(),
    };
    let cause = cause.filter(|_| matches!(verdict, Verdict::Fail | Verdict::Error));
    Decided { verdict, cause, blame: cause.map(Cause::blame), message }
}

#[cfg(test)]
mod tests;
