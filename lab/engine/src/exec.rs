//! One case, from its plan to its verdict.
//!
//! The order: what it is made of is got ready (once for all cases that share it) → facts are complete, so what was undecided
//! is decided → steps on the build's files begin beside the boot → the machine boots → steps → the machine ends → where
//! something failed, the inputs are hashed again and, if Xen never got far, a control is booted → everything is judged.

use crate::EngineError;
use crate::bundle::{Bundle, folder_name, write_verdict};
use crate::keep::Keep;
use crate::perform;
use crate::pool::Pool;
use crate::prepare::Preparer;
use crate::template::{Built, Ready, Taken, Templates};
use crate::work::{Meter, Work};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use xenlab_machine::Memory;
use xenlab_model::case::{Case, Planned};
use xenlab_model::cause::Cause;
use xenlab_model::condition::{Absent, Condition, Truth};
use xenlab_model::date::Date;
use xenlab_model::event::{Sink, What};
use xenlab_model::evidence::{Evidence, Loss, Origin};
use xenlab_model::fact::Facts;
use xenlab_model::guest::GuestConfig;
use xenlab_model::judge::{self, BOOT};
use xenlab_model::scenario::config::Config;
use xenlab_model::step::Step;
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
    /// The words of the command that chose the cases, where it was not `run` with a scenario.
    pub command: Vec<String>,
    /// The command line's own words that a reproducing command repeats.
    pub repeat: Vec<String>,
    /// Boot every case, and take no templates.
    pub cold: bool,
    /// Which machines stay when their case is over.
    pub keep: Keep,
    /// What cases start from.
    pub templates: Templates,
    /// Machines that wait for cases.
    pub pool: Pool,
    /// What is known of good boots from before.
    pub usual: Option<crate::trace::Known>,
    /// Controls of this run, one for each machine they were booted in.
    pub controls: crate::shared::Shared<String, Control, EngineError>,
}

impl Lab {
    /// One that boots a control where that tells something, takes templates, keeps no machine and has none waiting.
    pub fn new(preparer: Preparer, sink: Arc<dyn Sink>, bundles: PathBuf) -> Lab {
        Lab {
            preparer,
            sink,
            bundles,
            control: true,
            command: Vec::new(),
            repeat: Vec::new(),
            cold: false,
            keep: Keep::None,
            templates: Templates::default(),
            pool: Pool::default(),
            usual: None,
            controls: Default::default(),
        }
    }

    /// The command that runs this case again.
    pub fn reproduce(&self, case: &Case) -> String {
        let mut words = vec!["xenlab".to_owned()];
        if self.command.is_empty() {
            words.push("run".to_owned());
            // What is planted brings its own scenario.
            if self.preparer.plant.is_none() {
                words.push(perform::scripts::quote(&case.file));
            }
        }
        words.extend(self.command.iter().map(|w| perform::scripts::quote(w)));
        words.extend(self.repeat.iter().map(|w| perform::scripts::quote(w)));
        words.push("--case".into());
        words.push(perform::scripts::quote(&case.shown()));
        words.join(" ")
    }
}

/// Memory of a case's machine: what the scenario says, else dom0's and what Xen needs beside it.
pub fn machine_memory(config: &Config) -> Size {
    // Xen's own heap, page tables and the frame table take well under this on machines of a few GiB.
    config.machine.memory.unwrap_or(Size(config.dom0.memory.0 + (512 << 20) + guests(config)))
}

/// Memory of all guests that a case may create, and what Xen keeps for each.
fn guests(config: &Config) -> u64 {
    let each = |g: &GuestConfig| u64::from(g.copies) * (g.memory.0 + (8 << 20));
    config.guests.values().map(each).sum()
}

/// Where in a bundle that of the same case once more, from power-on, is.
pub const POWER_ON: &str = "power-on";

/// How a case is run.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    /// On a clone where there can be one.
    Usual,
    /// From power-on, because what it came to is not believed yet.
    Again,
    /// As a template, to be frozen, over this memory, while the case of that name waits; from the template below it, if there is one.
    Template(&'a Arc<Memory>, &'a str, Option<&'a Arc<Ready>>),
}

/// Runs a case and tells its verdict. Never fails: what goes wrong in the lab is an Error.
pub async fn case(lab: &Lab, case: Case) -> CaseVerdict {
    let begun = Instant::now();
    if let Planned::Skip(_) = &case.plan {
        let verdict = judge::case(&case, &[], &case.facts, None);
        let verdict = judge::against(&case, &case.facts, Date::of_time(&crate::now_rfc3339()), verdict);
        finished(lab, &case, String::new(), &verdict);
        return verdict;
    }
    let dir = lab.bundles.join(folder_name(&case.shown()));
    let (mut verdict, done) = attempt(lab, case.clone(), &dir, Way::Usual).await;
    if not_yet_believed(&verdict, &done) {
        let was = (verdict, &done);
        (verdict, _) = from_power_on(lab, &case, &case.shown(), &dir, was, Way::Again, ONCE_MORE).await;
        verdict.seconds = took(lab, begun, &case.shown(), Duration::ZERO);
    }
    finished(lab, &case, dir.display().to_string(), &verdict);
    verdict
}

/// How often a case is run again that may have failed by emulation's fault alone: what does the same three times is believed.
const ONCE_MORE: u32 = 2;

/// Runs a case that failed on a clone, or by what emulation can be the cause of, once more, from power-on, and settles which of the two
/// counts.
async fn from_power_on(
    lab: &Lab,
    case: &Case,
    shown: &str,
    dir: &Path,
    (first, was): (CaseVerdict, &Done),
    way: Way<'_>,
    times: u32,
) -> (CaseVerdict, Done) {
    let message = if judge::may_be_emulated(&first, &was.facts) {
        "a guest ended by a triple fault, which QEMU's emulation can be the cause of; once more from power-on, to see whether it is Xen's fault"
    } else {
        "failed on a clone; once more from power-on, to see whether it is Xen's fault"
    };
    lab.sink.emit(What::Note { case: Some(shown.to_owned()), message: message.to_owned() });
    let again = dir.join(POWER_ON);
    let (mut power_on, mut done) = attempt(lab, case.clone(), &again, way).await;
    if times > 1 && not_yet_believed(&power_on, &done) {
        let was = (power_on, &done);
        (power_on, done) = Box::pin(from_power_on(lab, case, shown, &again, was, way, times - 1)).await;
    }
    // As a replay does it, which has the facts and the day of the first bundle.
    let verdict = judge::settle(first, &power_on, POWER_ON, &was.facts);
    let verdict = judge::against(case, &was.facts, was.on, verdict);
    match write_verdict(dir, &verdict) {
        Ok(()) => (verdict, done),
        Err(error) => (broken(case, &error), done),
    }
}

/// What is said of a clone is put on Xen only when a cold boot says it too. What was read off the build's files needs no machine, and
/// stands as it is; and a Fail that was expected is put on nobody. Nor is Xen blamed at once for what emulation can be the cause of.
fn not_yet_believed(verdict: &CaseVerdict, done: &Done) -> bool {
    let failed = verdict.verdict == Verdict::Fail && verdict.as_expected().is_none();
    let on_clone = || verdict.steps.iter().any(|s| s.verdict == Verdict::Fail && s.origin != Origin::PowerOn);
    let clones = || verdict.cause == Some(Cause::TemplateUnusable) || failed && on_clone();
    !xenlab_host::interrupt::requested()
        && (done.cloned_from.is_some() && clones() || failed && judge::may_be_emulated(verdict, &done.facts))
}

/// Brings a template's case to where its machine is frozen over `memory`; progress is told of the case `shown`, which waits for it.
pub async fn template(
    lab: &Lab,
    case: Case,
    memory: &Arc<Memory>,
    shown: &str,
    from: Option<&Arc<Ready>>,
) -> Built {
    let bundle = lab.bundles.join(folder_name(&case.shown()));
    let mut taken_in = bundle.clone();
    let way = Way::Template(memory, shown, from);
    let (mut verdict, mut done) = attempt(lab, case.clone(), &bundle, way).await;
    if not_yet_believed(&verdict, &done) {
        taken_in.push(POWER_ON);
        let way = Way::Template(memory, shown, None);
        let was = (verdict, &done);
        (verdict, done) = from_power_on(lab, &case, shown, &bundle, was, way, 1).await;
    }
    let (taken, why_not) = match done.taken {
        Some(Ok(taken)) if verdict.verdict == Verdict::Pass => (Some(taken), None),
        Some(Err(why)) => (None, Some(why)),
        _ => (None, None),
    };
    Built { verdict, bundle, taken_in, taken, why_not }
}

/// Runs a case once and judges it.
async fn attempt(lab: &Lab, mut case: Case, dir: &Path, way: Way<'_>) -> (CaseVerdict, Done) {
    let begun = Instant::now();
    let shown = match way {
        Way::Template(_, of, _) => of.to_owned(),
        _ => case.shown(),
    };
    let before = lab.preparer.admission.waited(&shown);
    let mut done = Done { facts: case.facts.clone(), ..Done::default() };
    let started = crate::now_rfc3339();
    done.on = Date::of_time(&started);
    let bundle = match Bundle::create(dir.to_owned(), &case, &started) {
        Ok(bundle) => Arc::new(bundle),
        Err(error) => return (broken(&case, &error), done),
    };
    if matches!(way, Way::Usual) {
        lab.sink.emit(What::CaseStarted { case: shown.clone(), bundle: bundle.dir().display().to_string() });
    }
    // On the heap: a case may have to boot its template first, and futures within futures do not fit a thread's stack.
    if let Err(error) = Box::pin(go(lab, &mut case, &shown, &bundle, &mut done, begun, way)).await {
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
    let verdict = judge::case(&case, &done.evidence, &done.facts, done.control.as_ref());
    let mut verdict = judge::against(&case, &done.facts, done.on, verdict);
    verdict.seconds = took(lab, begun, &shown, before);
    if let Err(error) = write_end(&bundle, &case, &done, &verdict) {
        verdict = broken(&case, &error);
        verdict.seconds = took(lab, begun, &shown, before);
    }
    (verdict, done)
}

/// Seconds since then, without what was waited for a turn; `before` is what had been waited by then.
fn took(lab: &Lab, begun: Instant, shown: &str, before: Duration) -> f64 {
    let waited = lab.preparer.admission.waited(shown).saturating_sub(before);
    begun.elapsed().saturating_sub(waited).as_secs_f64()
}

/// What a case has left so far.
#[derive(Default)]
pub struct Done {
    /// What was seen.
    pub evidence: Vec<Evidence>,
    /// What is known.
    pub facts: Facts,
    /// The day it began, by the bundle.
    pub on: Option<Date>,
    /// The control, if one was asked for.
    pub control: Option<Control>,
    /// It ran on a clone of this.
    pub cloned_from: Option<Arc<Ready>>,
    /// A template's: what came of freezing it.
    pub taken: Option<Result<Taken, String>>,
}

/// Evidence of a step that saw nothing.
pub fn nothing(step: &str, loss: Loss) -> Evidence {
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
    shown: &str,
    bundle: &Arc<Bundle>,
    done: &mut Done,
    begun: Instant,
    way: Way<'_>,
) -> Result<(), EngineError> {
    let preparing = Meter::begin();
    let before = lab.preparer.admission.waited(shown);
    let prepared = lab.preparer.prepare(case).await?;
    done.facts.extend(&prepared.facts);
    // Before anything is decided by them: a replay has the facts from there.
    let inputs = prepared.inputs(&lab.preparer.store, &done.facts)?;
    bundle.inputs(&inputs)?;
    decide(case, &done.facts);
    if matches!(case.plan, Planned::Skip(_)) {
        return Ok(());
    }
    let work = Work { lab, case, shown, prepared: &prepared, bundle };
    // It may have begun with a wait for the turn of the accelerator's probe.
    let probe = lab.preparer.admission.waited(shown).saturating_sub(before);
    work.stage("prepare", &preparing, begun.elapsed().saturating_sub(probe));

    // Steps on the build's own files need no machine, and what they find is worth knowing if nothing boots.
    let on_build = perform::build::start(work.case, &prepared);

    let ended = Box::pin(work.machine(done, inputs, way)).await;
    for evidence in on_build.await {
        work.judged(&evidence, &done.facts);
        done.evidence.push(evidence);
    }
    sort_by_plan(work.case, &mut done.evidence);
    let kvm = prepared.accel.accel == xenlab_machine::Accel::Kvm;
    let usual = (lab.usual.as_ref(), work.case.id.as_str(), kvm);
    crate::trace::place(&mut done.evidence, &prepared.build, bundle, usual).await;
    ended?;
    work.blame_carefully(done).await
}

/// Decides what planning could not: needs and steps whose conditions named facts of the build. Whatever is not known
/// by now has no value.
pub fn decide(case: &mut Case, facts: &Facts) {
    case.plan = case.plan(facts, Absent::Nothing);
    if matches!(case.plan, Planned::Skip(_)) {
        return;
    }
    let holds = |c: &Condition| c.evaluate(facts, Absent::Nothing);
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

/// A limit for a wait that belongs to no step.
pub const TEARDOWN: Duration = Duration::from_secs(2);

/// A cause's Error for what a case cannot do without.
pub fn missing(cause: Cause, message: impl Into<String>) -> EngineError {
    EngineError::Part { cause, message: message.into() }
}
