//! One case, from its plan to its verdict.
//!
//! The order: what it is made of is got ready (once for all cases that share it) → facts are complete, so what was undecided
//! is decided → steps on the build's files begin beside the boot → the machine boots → steps → the machine ends → where
//! something failed, the inputs are hashed again and, if Xen never got far, a control is booted → everything is judged.

use crate::EngineError;
use crate::boot::{self, Booted};
use crate::bundle::{Bundle, folder_name};
use crate::control;
use crate::perform;
use crate::prepare::{Prepared, Preparer};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xenlab_model::bundle::Inputs;
use xenlab_model::case::{Case, Planned};
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::condition::{Absent, Condition, Truth};
use xenlab_model::event::{Sink, What};
use xenlab_model::evidence::{Evidence, Loss, Origin};
use xenlab_model::fact::Facts;
use xenlab_model::judge::{self, BOOT};
use xenlab_model::scenario::config::Config;
use xenlab_model::step::{At, Step};
use xenlab_model::units::Size;
use xenlab_model::verdict::{CaseVerdict, Control, Verdict};

/// What runs cases: shared by all of them.
pub struct Lab {
    /// What several cases need is made once.
    pub preparer: Preparer,
    /// Where events go.
    pub sink: Arc<dyn Sink>,
    /// Boot a control where Xen never got far.
    pub control: bool,
    /// Where bundles go, a folder each.
    pub bundles: PathBuf,
    /// The command line's own words that a reproducing command repeats.
    pub repeat: Vec<String>,
    /// Controls of this run, one for each machine they were booted in.
    pub controls: crate::shared::Shared<String, Control, EngineError>,
}

impl Lab {
    /// The command that runs this case again.
    pub fn reproduce(&self, case: &Case) -> String {
        let mut words = vec!["xenlab".to_owned(), "run".to_owned()];
        // What is planted brings its own scenario.
        if self.preparer.plant.is_none() {
            words.push(perform::scripts::quote(&case.file));
        }
        words.extend(self.repeat.iter().map(|w| perform::scripts::quote(w)));
        words.push("--case".into());
        words.push(perform::scripts::quote(&case.shown()));
        words.join(" ")
    }
}

/// Memory of a case's machine: what the scenario says, else dom0's and what Xen needs beside it.
pub fn machine_memory(config: &Config) -> Size {
    // Xen's own heap, page tables and the frame table take well under this on machines of a few GiB.
    config.machine.memory.unwrap_or(Size(config.dom0.memory.0 + (512 << 20)))
}

/// Runs a case and tells its verdict. Never fails: what goes wrong in the lab is an Error.
pub async fn case(lab: &Lab, mut case: Case) -> CaseVerdict {
    let begun = Instant::now();
    let shown = case.shown();
    if let Planned::Skip(_) = &case.plan {
        let verdict = judge::case(&case, &[], &case.facts, None);
        finished(lab, &case, String::new(), &verdict);
        return verdict;
    }
    let dir = lab.bundles.join(folder_name(&shown));
    let bundle = match Bundle::create(dir, &case, &crate::now_rfc3339()) {
        Ok(bundle) => Arc::new(bundle),
        Err(error) => {
            let verdict = broken(&case, &error);
            finished(lab, &case, String::new(), &verdict);
            return verdict;
        }
    };
    lab.sink.emit(What::CaseStarted { case: shown.clone(), bundle: bundle.dir().display().to_string() });

    let mut done = Done { facts: case.facts.clone(), ..Done::default() };
    if let Err(error) = go(lab, &mut case, &bundle, &mut done, begun).await {
        // Whatever had been seen by then stays; what could not be done is said at the first step that saw nothing.
        done.evidence.retain(|e| e.step != BOOT || e.seen.is_ok());
        let loss = Loss::Lab { code: error.cause().code().to_owned(), message: error.to_string() };
        let steps = case.setup.iter().chain(&case.steps);
        let unseen = std::iter::once(BOOT)
            .chain(steps.map(|step| step.path.as_str()))
            .find(|path| !done.evidence.iter().any(|e| e.step == *path))
            .map(str::to_owned);
        match unseen {
            Some(path) => {
                done.evidence.push(nothing(&path, loss));
                sort_by_plan(&case, &mut done.evidence);
            }
            // Everything was seen; what was to be done about it (a control, hashing again) was not.
            None => lab.sink.emit(What::Note { case: Some(shown.clone()), message: error.to_string() }),
        }
    }
    let mut verdict = judge::case(&case, &done.evidence, &done.facts, done.control.as_ref());
    verdict.seconds = begun.elapsed().as_secs_f64();
    if let Err(error) = write_end(&bundle, &case, &done, &verdict) {
        verdict = broken(&case, &error);
        verdict.seconds = begun.elapsed().as_secs_f64();
    }
    finished(lab, &case, bundle.dir().display().to_string(), &verdict);
    verdict
}

/// What a case has left so far.
#[derive(Default)]
struct Done {
    evidence: Vec<Evidence>,
    facts: Facts,
    control: Option<Control>,
}

/// Evidence of a step that saw nothing.
fn nothing(step: &str, loss: Loss) -> Evidence {
    Evidence { step: step.to_owned(), origin: Origin::PowerOn, from: 0.0, to: 0.0, seen: Err(loss) }
}

fn write_end(bundle: &Bundle, case: &Case, done: &Done, verdict: &CaseVerdict) -> Result<(), EngineError> {
    bundle.plan(case)?;
    bundle.evidence(&done.evidence)?;
    if let Some(control) = &done.control {
        bundle.control(control)?;
    }
    bundle.verdict(verdict)
}

fn finished(lab: &Lab, case: &Case, bundle: String, verdict: &CaseVerdict) {
    lab.sink.emit(What::CaseFinished {
        case: case.shown(),
        bundle,
        verdict: Box::new(verdict.clone()),
        reproduce: lab.reproduce(case),
    });
}

/// The verdict of a case that the lab could not run at all.
pub fn broken(case: &Case, error: &EngineError) -> CaseVerdict {
    let loss = Loss::Lab { code: error.cause().code().to_owned(), message: error.to_string() };
    judge::case(case, &[nothing(BOOT, loss)], &case.facts, None)
}

async fn go(
    lab: &Lab,
    case: &mut Case,
    bundle: &Arc<Bundle>,
    done: &mut Done,
    begun: Instant,
) -> Result<(), EngineError> {
    let preparing = Stage::begin();
    let prepared = lab.preparer.prepare(case).await?;
    done.facts.extend(&prepared.facts);
    // Before anything is decided by them: a replay has the facts from there.
    let inputs = prepared.inputs(&lab.preparer.store, &done.facts)?;
    bundle.inputs(&inputs)?;
    decide(case, &done.facts);
    if matches!(case.plan, Planned::Skip(_)) {
        return Ok(());
    }
    preparing.end_after(lab, case, "prepare", begun.elapsed());

    // Steps on the build's own files need no machine, and what they find is worth knowing if nothing boots.
    let on_build = perform::build::start(case, &prepared);

    let ended = machine(lab, case, &prepared, bundle, done, inputs).await;
    for evidence in on_build.await {
        judged(lab, case, &evidence, &done.facts);
        done.evidence.push(evidence);
    }
    sort_by_plan(case, &mut done.evidence);
    ended?;
    blame_carefully(lab, case, &prepared, bundle, done).await
}

/// Boots and does the steps that need a machine.
async fn machine(
    lab: &Lab,
    case: &Case,
    prepared: &Arc<Prepared>,
    bundle: &Arc<Bundle>,
    done: &mut Done,
    mut inputs: Inputs,
) -> Result<(), EngineError> {
    let on_machine: Vec<&Step> =
        case.setup.iter().chain(&case.steps).filter(|s| s.body.at() != At::Build).collect();
    if on_machine.is_empty() {
        return Ok(());
    }
    let target = boot::target(&on_machine);
    let shown = case.shown();
    let on_phase = |phase: xenlab_console::Phase, seconds: f64| {
        lab.sink.emit(What::Phase { case: shown.clone(), phase: phase.name().to_owned(), seconds });
    };
    let booting = Stage::begin();
    let Booted { evidence, machine } =
        boot::boot(case, prepared, bundle, target, &mut inputs, &on_phase).await?;
    bundle.inputs(&inputs)?;
    let reached = matches!(&evidence.seen, Ok(seen) if boot::came_far_enough(seen));
    judged(lab, case, &evidence, &done.facts);
    done.evidence.push(evidence);
    let Some(mut machine) = machine else { return Ok(()) };
    booting.end_after(lab, case, "boot", machine.wall());
    if let Some(plant) = &prepared.plant {
        plant.booted(prepared)?;
    }
    let mut checking = Stage::begin();
    if reached {
        let connecting = Stage::begin();
        let ended = machine.machine.clone();
        if on_machine.iter().any(|step| step.body.at() == At::Dom0) {
            tokio::select! {
                () = xenlab_host::interrupt::wait() => {}
                _ = ended.ended() => {}
                () = machine.ways.connect() => {}
            }
            connecting.end(lab, case, "connect");
        }
        checking = Stage::begin();
        let limit = case.config.limits.case.map_or(crate::limits::CASE, |l| l.0);
        for step in on_machine {
            lab.sink.emit(What::StepStarted {
                case: case.shown(),
                step: step.path.clone(),
                title: step.title().to_owned(),
            });
            let mut evidence = perform::on_machine(case, step, prepared, &mut machine, limit).await;
            let lost = evidence.seen.is_err();
            if let Ok(xenlab_model::step::Observation::Console(_)) = evidence.seen {
                crate::bundle::fill_console(bundle.dir(), std::slice::from_mut(&mut evidence))?;
            }
            let verdict = judged(lab, case, &evidence, &done.facts);
            done.evidence.push(evidence);
            // A lost machine ends the case; so does an action that failed. What was only observed does not.
            if lost || (step.body.acts() && verdict != Verdict::Pass) {
                break;
            }
        }
    }
    if reached {
        checking.end(lab, case, "checks");
        // What was seen was seen of a machine that lived; it must also have lived until nobody looked any more.
        if !done.evidence.iter().any(|e| e.seen.is_err())
            && let Some(loss) = perform::lost_by_now(&mut machine).await
        {
            let evidence = nothing(judge::END, loss);
            judged(lab, case, &evidence, &done.facts);
            done.evidence.push(evidence);
        }
    }
    let teardown = Stage::begin();
    machine.stop().await;
    teardown.end(lab, case, "teardown");
    Ok(())
}

/// A part of a case's work, from its begin.
struct Stage {
    begun: Instant,
    cpu: f64,
}

impl Stage {
    fn begin() -> Stage {
        Stage { begun: Instant::now(), cpu: crate::cpu_seconds() }
    }

    /// It is over and took this long by the wall clock.
    fn end(&self, lab: &Lab, case: &Case, name: &str) {
        self.end_after(lab, case, name, self.begun.elapsed());
    }

    /// The same for one whose time is counted from elsewhere.
    fn end_after(&self, lab: &Lab, case: &Case, name: &str, took: Duration) {
        lab.sink.emit(What::Stage {
            case: case.shown(),
            stage: name.to_owned(),
            seconds: took.as_secs_f64(),
            cpu_seconds: crate::cpu_seconds() - self.cpu,
        });
    }
}

/// Judges a step's evidence at once, for those who watch; the verdict that counts is made of all evidence at the end.
fn judged(lab: &Lab, case: &Case, evidence: &Evidence, facts: &Facts) -> Verdict {
    let verdict = judge::step(case, evidence, facts);
    let outcome = verdict.verdict;
    lab.sink.emit(What::StepFinished { case: case.shown(), verdict });
    outcome
}

/// Decides what planning could not: needs and steps whose conditions named facts of the build. Whatever is not known
/// by now has no value.
fn decide(case: &mut Case, facts: &Facts) {
    let holds = |c: &Condition| c.evaluate(facts, Absent::Nothing);
    case.plan = Planned::Run;
    for need in &case.needs {
        if need.when.as_ref().is_some_and(|when| holds(when) != Truth::Holds) {
            continue;
        }
        if let Truth::Fails(why) = holds(&need.require) {
            case.plan = Planned::Skip(format!("{} ({why})", need.because));
            return;
        }
    }
    let mut part_of_case = |step: &mut Step| match step.when.take() {
        None => true,
        Some(condition) => holds(&condition) == Truth::Holds,
    };
    case.setup.retain_mut(&mut part_of_case);
    case.steps.retain_mut(&mut part_of_case);
}

/// Evidence in the order of the plan: the boot, then the steps as the scenario has them.
fn sort_by_plan(case: &Case, evidence: &mut [Evidence]) {
    let order: Vec<&str> = case.setup.iter().chain(&case.steps).map(|s| s.path.as_str()).collect();
    evidence.sort_by_key(|e| {
        if e.step == BOOT { 0 } else { order.iter().position(|p| *p == e.step).map_or(usize::MAX, |n| n + 1) }
    });
}

/// Before a Fail is blamed on Xen or dom0: were the inputs what they were said to be, and does a Xen known to be good get
/// further in this very machine?
async fn blame_carefully(
    lab: &Lab,
    case: &Case,
    prepared: &Arc<Prepared>,
    bundle: &Arc<Bundle>,
    done: &mut Done,
) -> Result<(), EngineError> {
    let verdict = judge::case(case, &done.evidence, &done.facts, None);
    if verdict.verdict == Verdict::Pass {
        // Only what booted is known to boot: a case of steps on files alone says nothing of its machine.
        if control::booted(&done.evidence) {
            control::remember(lab, case, prepared);
        }
        return Ok(());
    }
    if verdict.verdict != Verdict::Fail || xenlab_host::interrupt::requested() {
        return Ok(());
    }
    let blames_subject = verdict.blame.is_some_and(|b| matches!(b, Blame::Xen | Blame::Build | Blame::Dom0));
    if blames_subject {
        let (prepared, store) = (prepared.clone(), lab.preparer.store.clone());
        let changed = crate::blocking(move || Ok(prepared.changed_inputs(&store))).await?;
        if !changed.is_empty() {
            // Whatever failed, it failed with files that are not what they were said to be: no word about Xen or dom0.
            let loss = Loss::Lab { code: Cause::InputChanged.code().to_owned(), message: changed.join("; ") };
            done.evidence.push(nothing(judge::INPUTS, loss));
            return Ok(());
        }
    }
    if lab.control && control::wanted(&verdict, &done.evidence) {
        done.control = Some(control::boot(lab, case, prepared, bundle).await);
    }
    Ok(())
}

/// A limit for a wait that belongs to no step.
pub const TEARDOWN: Duration = Duration::from_secs(2);

/// A cause's Error for what a case cannot do without.
pub fn missing(cause: Cause, message: impl Into<String>) -> EngineError {
    EngineError::Part { cause, message: message.into() }
}
