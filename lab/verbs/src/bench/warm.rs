//! `bench warm`: what a clone of a machine that has booted once saves over booting it, and what taking its template costs.
//!
//! All in one lab, one machine at a time: for each sample a bare restore, a clone's first command, and a case judged on a clone by either
//! way in, in turn, so that a host that is slow for a while is slow for all of them. Then boots, in pairs: a case from power-on, and the
//! same machine with a template being taken of it, which has to be one that was never seen.

use super::{host, lab, median, summary};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use xenlab_engine::budget::Admission;
use xenlab_engine::bundle::Bundle;
use xenlab_engine::pool::{ROUNDS, Warm as Waiting};
use xenlab_engine::prepare::{Prepared, Preparer};
use xenlab_engine::template::{Given, Ready};
use xenlab_engine::{EngineError, Lab, boot, exec};
use xenlab_guest::Script;
use xenlab_host::{interrupt, rundir::RunDir};
use xenlab_machine::qmp::Direction;
use xenlab_machine::{Machine, StartOptions};
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::event::{Sink, What};
use xenlab_model::evidence::{Origin, Transport};
use xenlab_model::verdict::{CaseVerdict, Verdict};
use xenlab_store::Store;

/// What `bench warm` is asked for.
pub struct WarmBench<'a> {
    /// Where artefacts and templates are.
    pub store: Arc<Store>,
    /// Where the progress of getting ready goes.
    pub sink: Arc<dyn Sink>,
    /// Lets the bench's machine in.
    pub admission: Admission,
    /// One case for each architecture.
    pub cases: Vec<Case>,
    /// Clones of each kind.
    pub n: usize,
    /// Where progress goes.
    pub progress: &'a (dyn Fn(String) + Sync),
}

/// The bench's line of the display.
const TASK: &str = "measuring";

/// How long a clone may take to answer its first command, guest time.
const ANSWER: Duration = Duration::from_secs(20);

/// Runs the bench.
///
/// # Errors
/// The lab's own, where nothing can be measured at all. What failed once is counted.
pub async fn warm(bench: WarmBench<'_>) -> Result<(Value, usize), EngineError> {
    let mut results = serde_json::Map::new();
    let mut failed = 0;
    for case in &bench.cases {
        let (value, wrong) = one(&bench, case).await?;
        failed += wrong;
        results.insert(case.config.arch.name().to_owned(), value);
    }
    Ok((json!({"bench": "warm", "format": 1, "host": host(), "lab": lab(), "results": results}), failed))
}

/// So many cases on one template, and how often.
const MANY: usize = 40;
const ROUNDS_OF_MANY: usize = 3;

/// Keeps what the engine says of cases, with when; what it says of getting ready goes on.
struct Recorder {
    sink: Arc<dyn Sink>,
    seen: Mutex<Vec<(Instant, What)>>,
}

impl Sink for Recorder {
    fn emit(&self, what: What) {
        let at = Instant::now();
        match what {
            What::Progress { .. } | What::ProgressEnded { .. } | What::Note { case: None, .. } => {
                self.sink.emit(what)
            }
            what => self.seen.lock().unwrap_or_else(PoisonError::into_inner).push((at, what)),
        }
    }
}

impl Recorder {
    fn take(&self) -> Vec<(Instant, What)> {
        std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A piece of work that came to a good end.
struct Judged {
    /// All of it.
    seconds: f64,
    stages: Stages,
}

/// The parts of some work, as the engine measured them.
struct Stages(Vec<(String, f64)>);

impl Stages {
    fn of(seen: &[(Instant, What)]) -> Stages {
        let stages = seen.iter().filter_map(|(_, what)| match what {
            What::Stage { stage, seconds, .. } => Some((stage.clone(), *seconds)),
            _ => None,
        });
        Stages(stages.collect())
    }

    fn seconds(&self, name: &str) -> f64 {
        self.0.iter().filter(|(n, _)| n == name).map(|(_, s)| s).sum()
    }

    /// The median of each of these parts.
    fn medians(all: &[Stages], names: &[&str]) -> Value {
        let of = |name: &&str| {
            let seconds: Vec<f64> = all.iter().map(|stages| stages.seconds(name)).collect();
            ((*name).to_owned(), json!({"median": median(&seconds)}))
        };
        Value::Object(names.iter().map(of).collect())
    }
}

/// Samples of one kind, and how many there are not.
#[derive(Default)]
struct Samples {
    seconds: Vec<f64>,
    failed: usize,
}

impl Samples {
    /// Takes a sample; what kept it from being one goes to `progress`. An interrupt ends everything.
    fn take<T>(
        &mut self,
        what: &str,
        got: Result<T, EngineError>,
        seconds: impl Fn(&T) -> f64,
        progress: &dyn Fn(String),
    ) -> Result<Option<T>, EngineError> {
        match got {
            Ok(got) => {
                self.seconds.push(seconds(&got));
                Ok(Some(got))
            }
            Err(EngineError::Interrupted) => Err(EngineError::Interrupted),
            Err(error) => {
                self.failed += 1;
                progress(format!("{what}: {error}"));
                Ok(None)
            }
        }
    }

    fn summary(&self) -> Value {
        summary(&self.seconds, self.failed)
    }

    fn shown(&self) -> String {
        median(&self.seconds).map_or("-".to_owned(), |s| format!("{s:.3} s"))
    }
}

/// What the display shows meanwhile.
fn doing(bench: &WarmBench<'_>, message: String, n: usize, total: usize) {
    let (done, total) = (n.saturating_sub(1) as u64, total as u64);
    bench.sink.emit(What::Progress {
        task: TASK.to_owned(),
        message,
        done,
        total,
        unit: "samples".to_owned(),
    });
}

fn wrong(error: impl std::fmt::Display) -> EngineError {
    EngineError::part(Cause::LabInternal, error)
}

/// One architecture's machine.
struct Warm {
    case: Case,
    prepared: Arc<Prepared>,
    recorder: Arc<Recorder>,
    /// What starts cases on clones.
    lab: Arc<Lab>,
    /// What boots them.
    cold: Lab,
    ready: Arc<Ready>,
    // The bundles are in it.
    dir: tempfile::TempDir,
}

async fn one(bench: &WarmBench<'_>, case: &Case) -> Result<(Value, usize), EngineError> {
    // For all of it, one machine at a time: no sample has a wait in it, and the labs below let in what comes.
    let _ticket = bench.admission.machine(&*bench.sink, &case.shown(), &case.config).await?;
    let warm = Warm::begin(bench, case).await?;
    let since = Instant::now();
    let (arch, progress) = (case.config.arch, bench.progress);
    let via = |way| {
        let mut case = case.clone();
        case.config.dom0.via = Some(way);
        case
    };
    let (port, ssh) = (via(Transport::Port), via(Transport::Ssh));
    // The first of each finds nothing in the host's caches, and is not what is asked for.
    for case in [&port, &ssh] {
        warm.judged(&warm.lab, case, "first", Origin::Clone).await?;
    }
    let mut many = Samples::default();
    let [mut restores, mut firsts, mut pooled, mut by_port, mut by_ssh, mut cold, mut cost, mut freezes] =
        std::array::from_fn(|_| Samples::default());
    let (mut pss, mut of_clones, mut of_boots, mut of_templates) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for n in 1..=bench.n {
        doing(bench, format!("{arch}: clones"), n, bench.n);
        restores.take("bare restore", warm.bare_restore().await, |s| *s, &progress)?;
        let first = warm.first_command(n, true).await;
        pooled.take("first command of one that waited", first, |f| f.0, &progress)?;
        let first = warm.first_command(n, false).await;
        if let Some((_, Some(bytes))) = firsts.take("first command", first, |f| f.0, &progress)? {
            pss.push(bytes);
        }
        let one = warm.judged(&warm.lab, &port, &format!("port {n}"), Origin::Clone).await;
        let one = by_port.take("judged over the port", one, |j| j.seconds, &progress)?;
        of_clones.extend(one.map(|j| j.stages));
        let one = warm.judged(&warm.lab, &ssh, &format!("ssh {n}"), Origin::Clone).await;
        by_ssh.take("judged over SSH", one, |j| j.seconds, &progress)?;
        progress(format!(
            "{arch} {n}/{}: medians so far: bare restore {}, first command {} (of one that waited {}), judged over the port {}, over SSH {}",
            bench.n,
            restores.shown(),
            firsts.shown(),
            pooled.shown(),
            by_port.shown(),
            by_ssh.shown(),
        ));
    }
    for n in 1..=ROUNDS_OF_MANY {
        doing(bench, format!("{arch}: {MANY} cases on clones"), n, ROUNDS_OF_MANY);
        many.take("many cases", warm.many(&port, n).await, |s| *s, &progress)?;
        progress(format!("{arch} {MANY} cases {n}/{ROUNDS_OF_MANY}: median so far {}", many.shown()));
    }
    let pairs = (bench.n / 4).max(3);
    for n in 1..=pairs {
        doing(bench, format!("{arch}: boots, and as many templates"), n, pairs);
        let one = warm.judged(&warm.cold, &port, &format!("cold {n}"), Origin::PowerOn).await;
        let booted = cold.take("judged from power-on", one, |j| j.seconds, &progress)?;
        // Up to where dom0 is ready and its machine gone again they did the same.
        let without =
            booted.as_ref().map(|j| j.seconds - j.stages.seconds("connect") - j.stages.seconds("checks"));
        of_boots.extend(booted.map(|j| j.stages));
        let taken = warm.take_template().await;
        let taken = freezes.take("a template", taken, |t| t.stages.seconds("freeze"), &progress)?;
        match (&taken, without) {
            (Some(taken), Some(without)) => cost.seconds.push(taken.seconds - without),
            _ => cost.failed += 1,
        }
        of_templates.extend(taken.map(|t| t.stages));
        progress(format!(
            "{arch} boots {n}/{pairs}: medians so far: judged from power-on {}, a template costs {}",
            cold.shown(),
            cost.shown()
        ));
    }
    bench.sink.emit(What::ProgressEnded {
        task: TASK.to_owned(),
        seconds: since.elapsed().as_secs_f64(),
        error: None,
    });
    let ratio = median(&cold.seconds)
        .zip(median(&by_port.seconds))
        .map(|(cold, clone)| (cold / clone * 100.0).round() / 100.0);
    // What they would take if nothing but the processors were shared.
    let ideal =
        median(&by_port.seconds).map(|one| one * MANY as f64 / xenlab_host::resources::cores() as f64);
    let over = median(&many.seconds).zip(ideal).map(|(many, ideal)| (many / ideal * 100.0).round() / 100.0);
    let prepared = &warm.prepared;
    let value = json!({
        "qemu": prepared.qemu.version.to_string(), "accel": prepared.accel.accel.name(),
        "xen": case.subject.to_string(), "userland": case.config.dom0.userland.to_string(),
        "cpus": case.config.machine.cpus,
        "bare_restore": restores.summary(), "clone_first_command": firsts.summary(),
        "pool_first_command": pooled.summary(),
        "clone_judged": by_port.summary(), "clone_judged_ssh": by_ssh.summary(), "clone_stages": Stages::medians(&of_clones, &["prepare", "clone", "connect", "checks", "teardown"]),
        "cold_judged": cold.summary(),
        "cold_stages": Stages::medians(&of_boots, &["prepare", "boot", "connect", "checks", "teardown"]),
        "template_cost": cost.summary(), "template_freeze": freezes.summary(),
        "template_stages": Stages::medians(&of_templates, &["prepare", "boot", "freeze", "teardown", "keep"]),
        "cases_40": many.summary(), "cases_40_over_ideal": {"value": over},
        "clone_pss_bytes": {"value": median(&pss)}, "cold_over_clone": {"value": ratio},
    });
    // A cost is missing only where one of its pair is, which was counted.
    let failed = [&restores, &firsts, &pooled, &by_port, &by_ssh, &many, &cold, &freezes]
        .map(|s| s.failed)
        .iter()
        .sum();
    Ok((value, failed))
}

impl Warm {
    async fn begin(bench: &WarmBench<'_>, case: &Case) -> Result<Warm, EngineError> {
        let dir = tempfile::tempdir().map_err(wrong)?;
        let recorder = Arc::new(Recorder { sink: bench.sink.clone(), seen: Mutex::default() });
        let lab = |cold| {
            let preparer = Preparer::new(bench.store.clone(), recorder.clone());
            Lab { control: false, cold, ..Lab::new(preparer, recorder.clone(), dir.path().to_owned()) }
        };
        let (cold, lab) = (lab(true), Arc::new(lab(false)));
        // Both have everything ready before anything is measured.
        cold.preparer.prepare(case).await?;
        let prepared = lab.preparer.prepare(case).await?;
        (bench.progress)(format!("{}: the machine's template, if there is none", case.config.arch));
        let ready = given(&lab, case, &prepared).await?;
        Ok(Warm { case: case.clone(), prepared, recorder, lab, cold, ready, dir })
    }

    /// Seconds from QEMU's exec to its word that it has taken the whole state.
    async fn bare_restore(&self) -> Result<f64, EngineError> {
        let taken: Arc<Mutex<Option<Instant>>> = Arc::default();
        let tap = {
            let taken = taken.clone();
            move |_: Direction, message: &Value| {
                if message["event"] == "MIGRATION" && message["data"]["status"] == "completed" {
                    taken.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
                }
            }
        };
        let dir = Arc::new(RunDir::create("bench").map_err(wrong)?);
        let options = StartOptions { tap: Arc::new(tap), ..Default::default() };
        let ground = self.ready.ground();
        let machine = match Machine::restore(&ground.spec, &self.ready.state, dir, options).await {
            Ok(machine) => machine,
            Err(_) if interrupt::requested() => return Err(EngineError::Interrupted),
            Err(error) => return Err(EngineError::part(error.cause(), &error)),
        };
        let spawned = machine.spawned();
        machine.stop().await;
        let at = *taken.lock().unwrap_or_else(PoisonError::into_inner);
        let at = at.ok_or_else(|| wrong("QEMU never said that it was restored"))?;
        Ok(at.duration_since(spawned).as_secs_f64())
    }

    /// Seconds from asking for a clone, or for a machine that waits, to the answer to its first command over the port, and what it takes of
    /// the host's memory then.
    async fn first_command(&self, n: usize, waits: bool) -> Result<(f64, Option<f64>), EngineError> {
        let dir = self.dir.path().join(format!("first-{n}-{waits}"));
        let bundle = Arc::new(Bundle::create(dir, &self.case, &xenlab_engine::now_rfc3339())?);
        let mut inputs = self.prepared.inputs(&self.lab.preparer.store, &self.prepared.facts)?;
        let word = xenlab_engine::random_hex(8);
        let work = async {
            let warm = match waits {
                true => Some(
                    Box::pin(Waiting::make(&self.ready, "warmed for the bench".to_owned(), ROUNDS)).await?,
                ),
                false => None,
            };
            let begun = Instant::now();
            let waited = match warm {
                Some(warm) => Some(Box::pin(warm.start()).await?),
                None => None,
            };
            let (ready, bundle) = (&self.ready, &bundle);
            let ground = ready.ground();
            let cloned =
                boot::clone(&self.case, &self.prepared, bundle, ready, &ground.spec, waited, &mut inputs);
            let mut running = Box::pin(cloned).await?;
            let script = Script::new(format!("echo {word}"));
            let answer = running.ways.run_via(Transport::Port, &script, ANSWER).await;
            let seconds = begun.elapsed().as_secs_f64();
            let pss = pss(running.machine.pid());
            running.stop().await;
            if answer.ok() && answer.stdout.text.trim() == word {
                Ok((seconds, pss))
            } else {
                Err(wrong(format!("the clone's answer: {:?} `{}`", answer.end, answer.stdout.text)))
            }
        };
        tokio::select! {
            done = work => done,
            () = interrupt::wait() => Err(EngineError::Interrupted),
        }
    }

    /// One case from its begin to its verdict; it counts if it passed and ran on what it was to run on.
    async fn judged(&self, lab: &Lab, case: &Case, name: &str, on: Origin) -> Result<Judged, EngineError> {
        let case = Case { id: format!("{} {name}", case.id), ..case.clone() };
        self.recorder.take();
        let verdict = Box::pin(exec::case(lab, case)).await;
        let seen = self.recorder.take();
        if interrupt::requested() {
            return Err(EngineError::Interrupted);
        }
        let notes = || {
            let notes = seen.iter().filter_map(|(_, what)| match what {
                What::Note { message, .. } => Some(message.as_str()),
                _ => None,
            });
            notes.collect::<Vec<_>>().join("; ")
        };
        if verdict.verdict != Verdict::Pass {
            return Err(wrong(format!("{}: {} ({})", verdict.verdict.word(), verdict.message, notes())));
        }
        if verdict.steps.last().is_none_or(|step| step.origin != on) {
            return Err(wrong(format!("it did not run on what it was to run on: {}", notes())));
        }
        let at = |is: fn(&What) -> bool| seen.iter().find(|(_, what)| is(what)).map(|(at, _)| *at);
        let (Some(begun), Some(ended)) = (
            at(|what| matches!(what, What::CaseStarted { .. })),
            at(|what| matches!(what, What::CaseFinished { .. })),
        ) else {
            return Err(wrong("the engine did not say when the case began and ended"));
        };
        Ok(Judged { seconds: ended.duration_since(begun).as_secs_f64(), stages: Stages::of(&seen) })
    }

    /// Seconds for so many cases on clones, side by side as a run has them.
    async fn many(&self, case: &Case, round: usize) -> Result<f64, EngineError> {
        let cases: Vec<Case> = (1..=MANY)
            .map(|n| Case { id: format!("{} many {round} {n}", case.id), ..case.clone() })
            .collect();
        self.recorder.take();
        let begun = Instant::now();
        let outcome = xenlab_engine::run::run(self.lab.clone(), cases, None, begun).await;
        let seconds = begun.elapsed().as_secs_f64();
        self.recorder.take();
        if outcome.interrupted {
            return Err(EngineError::Interrupted);
        }
        let on_clone = |v: &CaseVerdict| v.steps.last().is_some_and(|step| step.origin == Origin::Clone);
        let bad = outcome.verdicts.iter().find(|v| v.verdict != Verdict::Pass || !on_clone(v));
        match bad {
            Some(verdict) => {
                Err(wrong(format!("{}: {}: {}", verdict.case, verdict.verdict.word(), verdict.message)))
            }
            None => Ok(seconds),
        }
    }

    /// Boots the machine once more and takes a template of it, which is then removed: how long all that took until a clone could have
    /// started. What the engine's own stages leave is `keep`: making room for it, putting it into the store, and reading it.
    async fn take_template(&self) -> Result<Judged, EngineError> {
        let mut case = self.case.clone();
        // dom0's kernel leaves alone what names a module that is not there; the machine is none that was seen before.
        case.config.dom0.args.push(format!("xenlab.bench={}", xenlab_engine::random_hex(8)));
        self.recorder.take();
        let begun = Instant::now();
        let inputs = self.prepared.inputs(&self.lab.preparer.store, &self.prepared.facts)?;
        let given = Box::pin(self.lab.templates.of(&self.lab, &case, &self.prepared, &inputs)).await;
        let seconds = begun.elapsed().as_secs_f64();
        let mut stages = Stages::of(&self.recorder.take());
        let told: f64 = ["prepare", "boot", "connect", "checks", "freeze", "teardown"]
            .map(|n| stages.seconds(n))
            .iter()
            .sum();
        stages.0.push(("keep".to_owned(), seconds - told));
        let ready = clone_of(given?)?;
        // It is hashed in the background, which is not to slow down what is measured next.
        let unsettled = self.lab.templates.settled().await;
        ready.remove()?;
        if interrupt::requested() {
            return Err(EngineError::Interrupted);
        }
        match unsettled.first() {
            Some(why) => Err(wrong(why)),
            None => Ok(Judged { seconds, stages }),
        }
    }
}

/// The template of the case's machine; made, hashed and on the disk.
async fn given(lab: &Lab, case: &Case, prepared: &Arc<Prepared>) -> Result<Arc<Ready>, EngineError> {
    let inputs = prepared.inputs(&lab.preparer.store, &prepared.facts)?;
    let given = Box::pin(lab.templates.of(lab, case, prepared, &inputs)).await?;
    let unsettled = lab.templates.settled().await;
    if interrupt::requested() {
        return Err(EngineError::Interrupted);
    }
    match unsettled.first() {
        Some(why) => Err(wrong(why)),
        None => clone_of(given),
    }
}

fn clone_of(given: Given) -> Result<Arc<Ready>, EngineError> {
    match given {
        Given::Clone(ready) => Ok(ready),
        Given::Cold(Some(why)) => Err(wrong(format!("there is no template to start from: {why}"))),
        Given::Cold(None) => Err(wrong("there is no template to start from")),
        Given::Nothing(template, why) => Err(wrong(format!("{template}: {why}"))),
    }
}

/// Bytes that a process takes of the host's memory, what it shares counted in parts (`smaps_rollup` of proc(5)).
fn pss(pid: u32) -> Option<f64> {
    let path = Path::new("/proc").join(pid.to_string()).join("smaps_rollup");
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("Pss:"))?;
    let kib: f64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_counted_and_an_interrupt_ends_it() {
        let mut samples = Samples::default();
        let said = Mutex::new(Vec::new());
        let progress = |line: String| said.lock().unwrap().push(line);
        assert!(samples.take("x", Ok(2.0), |s| *s, &progress).unwrap().is_some());
        assert!(samples.take("x", Err::<f64, _>(wrong("gone")), |s| *s, &progress).unwrap().is_none());
        assert!(samples.take("x", Err::<f64, _>(EngineError::Interrupted), |s| *s, &progress).is_err());
        let value = samples.summary();
        assert_eq!((&value["n"], &value["failed"], &value["median"]), (&json!(2), &json!(1), &json!(2.0)));
        assert!(said.lock().unwrap().iter().any(|line| line.contains("gone")));
    }
}
