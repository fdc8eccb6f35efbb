//! A case at work: its machine, from what it starts from to its end, and who is to blame when something failed.

use crate::EngineError;
use crate::boot::{self, Booted, Running};
use crate::bundle::Bundle;
use crate::control;
use crate::exec::{Done, Lab, Way, nothing};
use crate::keep::Staying;
use crate::perform;
use crate::prepare::Prepared;
use crate::template::{self, Given, Ready};
use crate::turn::Turn;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xenlab_machine::{Backing, Machine, Memory};
use xenlab_model::bundle::Inputs;
use xenlab_model::case::{Case, as_dom0};
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::event::What;
use xenlab_model::evidence::{Evidence, Loss};
use xenlab_model::fact::Facts;
use xenlab_model::judge::{self, BOOT};
use xenlab_model::step::{At, Observation, Step};
use xenlab_model::verdict::Verdict;

/// A case, what it is made of, and where its record goes.
pub struct Work<'a> {
    /// What runs it.
    pub lab: &'a Lab,
    /// The case.
    pub case: &'a Case,
    /// What its progress is told of: itself, or the case that waits for it.
    pub shown: &'a str,
    /// What its machine is made of.
    pub prepared: &'a Arc<Prepared>,
    /// Its record.
    pub bundle: &'a Arc<Bundle>,
}

/// How long after a machine's end the end of the pool that ran it may be heard of, wall time; twice what the machine's own end is given.
const LEASE: Duration = Duration::from_secs(4);

/// Measures a part of the work, from its begin.
pub struct Meter {
    begun: Instant,
    cpu: f64,
}

impl Meter {
    /// It begins now.
    pub fn begin() -> Meter {
        Meter { begun: Instant::now(), cpu: crate::cpu_seconds() }
    }
}

impl Work<'_> {
    /// A part of the work is over and took this long.
    pub fn stage(&self, name: &str, meter: &Meter, took: Duration) {
        self.lab.sink.emit(What::Stage {
            case: self.shown.to_owned(),
            stage: name.to_owned(),
            seconds: took.as_secs_f64(),
            cpu_seconds: crate::cpu_seconds() - meter.cpu,
        });
    }

    fn ended(&self, name: &str, meter: &Meter) {
        self.stage(name, meter, meter.begun.elapsed());
    }

    fn note(&self, message: String) {
        self.lab.sink.emit(What::Note { case: Some(self.shown.to_owned()), message });
    }

    /// It is a template that another case waits for: its steps are none of that case's, which has those of the set-up when it starts
    /// on the clone.
    fn is_template(&self) -> bool {
        self.shown != self.case.shown()
    }

    /// Judges a step's evidence at once, for those who watch; the verdict that counts is made of all evidence at the end.
    pub fn judged(&self, evidence: &Evidence, facts: &Facts) -> Verdict {
        let verdict = judge::step(self.case, evidence, facts);
        let outcome = verdict.verdict;
        if !self.is_template() {
            self.lab.sink.emit(What::StepFinished { case: self.shown.to_owned(), verdict });
        }
        outcome
    }

    /// Starts the machine and does the steps that need one.
    ///
    /// # Errors
    /// The lab's own.
    pub async fn machine(
        &self,
        done: &mut Done,
        mut inputs: Inputs,
        way: Way<'_>,
    ) -> Result<(), EngineError> {
        let steps = self.case.setup.iter().chain(&self.case.steps);
        let on_machine: Vec<&Step> = steps.filter(|s| s.body.at() != At::Build).collect();
        if on_machine.is_empty() {
            return Ok(());
        }
        let started = Box::pin(self.start(&on_machine, done, &mut inputs, way)).await?;
        let Some(started) = started else { return Ok(()) };
        let (mut machine, kept) = started;
        let mut seen = done.evidence.iter();
        let reached =
            seen.any(|e| e.step == BOOT && matches!(&e.seen, Ok(seen) if boot::came_far_enough(seen)));
        if let Some(plant) = &self.prepared.plant {
            plant.booted(self.prepared)?;
        }
        if reached {
            Box::pin(self.steps(&on_machine, done, &mut machine)).await?;
            if let (Way::Template(..), Some(kept)) = (way, kept) {
                done.taken = Some(self.freeze(done, &mut machine, kept).await);
            }
        }
        if machine.machine.is_leased() {
            not_of_a_lost_pool(done, &machine.machine).await;
        }
        if !self.is_template() {
            // Not all of what runs can be shared with who may come to it from another thread.
            let of = Staying::of(&machine);
            Box::pin(self.keep(done, &of)).await;
        }
        let teardown = Meter::begin();
        machine.stop().await;
        self.ended("teardown", &teardown);
        Ok(())
    }

    /// What the case starts from, running; none when there is no machine to do anything in.
    async fn start(
        &self,
        steps: &[&Step],
        done: &mut Done,
        inputs: &mut Inputs,
        way: Way<'_>,
    ) -> Result<Option<(Running, Option<boot::Made>)>, EngineError> {
        let given = match way {
            Way::Usual => self.lab.templates.of(self.lab, self.case, self.prepared, inputs).await?,
            Way::Template(_, _, Some(below)) => Given::Clone(below.clone()),
            Way::Again | Way::Template(_, _, None) => Given::Cold(None),
        };
        if let Given::Nothing(template, message) = given {
            let loss = Loss::NoTemplate { template, message };
            done.evidence.push(nothing(BOOT, loss));
            return Ok(None);
        }
        let (sink, config) = (&*self.lab.sink, &self.case.config);
        let admission = &self.lab.preparer.admission;
        let turn = admission.machine(sink, self.shown, config);
        // A machine that is nothing but a test stands ready, paused, until it is its turn.
        let (ticket, turn) = match as_dom0(&self.case.steps) {
            Some(_) => (None, Some(Turn { of: Box::pin(turn), ready: admission.ready().await? })),
            None => (Some(turn.await?), None),
        };
        let memory = match way {
            Way::Template(memory, ..) => Some(memory.clone()),
            _ => None,
        };
        match &given {
            Given::Clone(ready) => match self.clone(ready, memory.as_ref(), done, inputs).await {
                Ok((mut running, made)) => {
                    running.ticket = ticket;
                    return Ok(Some((running, made)));
                }
                Err(error) if error.cause() == Cause::TemplateUnusable => {
                    ready.put_aside(&error.to_string());
                    self.note(format!("boots from power-on: {error}"));
                }
                Err(error) => return Err(error),
            },
            Given::Cold(Some(why)) => self.note(format!("boots from power-on: {why}")),
            Given::Cold(None) | Given::Nothing(..) => {}
        }
        let ram = match &memory {
            // What an attempt on a clone left in it.
            Some(memory) => {
                memory.clear().map_err(|e| EngineError::part(Cause::LabInternal, e))?;
                Some(memory.path())
            }
            None => None,
        };
        let on_phase = |phase: xenlab_console::Phase, seconds: f64| {
            let phase = phase.name().to_owned();
            self.lab.sink.emit(What::Phase { case: self.shown.to_owned(), phase, seconds });
        };
        let target = boot::target(steps);
        let Booted { evidence, machine, kept } = Box::pin(boot::boot(
            self.case,
            self.prepared,
            self.bundle,
            target,
            inputs,
            boot::Start { ram: ram.as_deref(), stays: self.lab.keep.frozen(), turn },
            &on_phase,
        ))
        .await?;
        self.bundle.inputs(inputs)?;
        self.judged(&evidence, &done.facts);
        done.evidence.push(evidence);
        let Some(mut machine) = machine else { return Ok(None) };
        machine.ticket = machine.ticket.or(ticket);
        self.stage("boot", &machine.meter, machine.wall());
        Ok(Some((machine, kept)))
    }

    /// Starts a clone; what its template showed is then the case's, too. With `memory` it is no clone that others share their pages
    /// with, but can be frozen in its turn.
    async fn clone(
        &self,
        ready: &Arc<Ready>,
        memory: Option<&Arc<Memory>>,
        done: &mut Done,
        inputs: &mut Inputs,
    ) -> Result<(Running, Option<boot::Made>), EngineError> {
        let cloning = Meter::begin();
        let mut ground = ready.ground();
        let (made, waited) = match memory {
            None => (None, Box::pin(self.lab.pool.take(ready)).await),
            Some(memory) => {
                let (from, to) = (ready.clone(), memory.clone());
                crate::blocking(move || from.fill(&to)).await?;
                ground.spec.backing = Backing::Build(memory.path());
                (Some((ready.kept.clone(), ground.spec.clone())), None)
            }
        };
        let (case, prepared) = (self.case, self.prepared);
        let running =
            Box::pin(boot::clone(case, prepared, self.bundle, ready, &ground.spec, waited, inputs)).await?;
        if memory.is_none() {
            self.lab.pool.look_ahead(ready);
        }
        if running.machine.is_leased()
            && let Some(from) = &inputs.warm
        {
            self.note(format!("its machine is {from}"));
        }
        self.bundle.inputs(inputs)?;
        done.cloned_from = Some(ready.clone());
        for evidence in ready.evidence() {
            self.judged(&evidence, &done.facts);
            done.evidence.push(evidence);
        }
        self.ended("clone", &cloning);
        Ok((running, made))
    }

    /// Does the steps that are still to be done.
    async fn steps(
        &self,
        steps: &[&Step],
        done: &mut Done,
        machine: &mut Running,
    ) -> Result<(), EngineError> {
        let connecting = Meter::begin();
        let ended = machine.machine.clone();
        if steps.iter().any(|step| step.body.at() == At::Dom0) {
            tokio::select! {
                () = xenlab_host::interrupt::wait() => {}
                _ = ended.ended() => {}
                () = machine.ways.connect_for(steps) => {}
            }
            self.ended("connect", &connecting);
        }
        let checking = Meter::begin();
        let limit = self.case.config.limits.case.map_or(crate::limits::CASE, |l| l.0);
        for step in steps {
            if done.evidence.iter().any(|e| e.step == step.path) {
                continue;
            }
            if !self.is_template() {
                self.lab.sink.emit(What::StepStarted {
                    case: self.shown.to_owned(),
                    step: step.path.clone(),
                    title: step.title().to_owned(),
                });
            }
            let mut evidence = perform::on_machine(self.case, step, self.prepared, machine, limit).await;
            let lost = evidence.seen.is_err();
            if let Ok(Observation::Console(_)) = evidence.seen {
                crate::bundle::fill_console(self.bundle.dir(), std::slice::from_mut(&mut evidence))?;
            }
            let verdict = self.judged(&evidence, &done.facts);
            done.evidence.push(evidence);
            for note in machine.ways.take_notes() {
                self.note(note);
            }
            // A lost machine ends the case; so does an action that failed. What was only observed does not.
            if lost || (step.body.acts() && verdict != Verdict::Pass) {
                break;
            }
        }
        self.ended("checks", &checking);
        // What was seen was seen of a machine that lived; it must also have lived until nobody looked any more.
        // A test that was dom0 has ended, and Xen with it.
        if !done.evidence.iter().any(|e| e.seen.is_err())
            && xenlab_model::case::as_dom0(&self.case.steps).is_none()
            && let Some(loss) = perform::lost_by_now(machine).await
        {
            let evidence = Evidence { origin: machine.origin, ..nothing(judge::END, loss) };
            self.judged(&evidence, &done.facts);
            done.evidence.push(evidence);
        }
        Ok(())
    }

    /// Before a Fail is blamed on Xen or dom0: were the inputs what they were said to be, and does a Xen known to be good get
    /// further in this very machine?
    ///
    /// # Errors
    /// The lab's own.
    pub async fn blame_carefully(&self, done: &mut Done) -> Result<(), EngineError> {
        let Work { lab, case, prepared, bundle, .. } = *self;
        let verdict = judge::case(case, &done.evidence, &done.facts, None);
        let verdict = judge::against(case, &done.facts, done.on, verdict);
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
        let blames_subject =
            verdict.blame.is_some_and(|b| matches!(b, Blame::Xen | Blame::Build | Blame::Dom0));
        if blames_subject {
            let (prepared, store, ready) =
                (prepared.clone(), lab.preparer.store.clone(), done.cloned_from.clone());
            let (changed, template) = crate::blocking(move || {
                Ok((prepared.changed_inputs(&store), ready.and_then(|ready| ready.changed())))
            })
            .await?;
            if !changed.is_empty() {
                // Whatever failed, it failed with files that are not what they were said to be: no word about Xen or dom0.
                let loss =
                    Loss::Lab { code: Cause::InputChanged.code().to_owned(), message: changed.join("; ") };
                done.evidence.push(nothing(judge::INPUTS, loss));
                return Ok(());
            }
            if let Some(message) = template {
                // Nor with a template that is not. A boot does without it, so a boot says what there is to say.
                let loss = Loss::Lab { code: Cause::TemplateUnusable.code().to_owned(), message };
                done.evidence.push(nothing(judge::INPUTS, loss));
                return Ok(());
            }
        }
        // What was expected blames nobody: there is no need to know whether another Xen does better.
        if lab.control && verdict.as_expected().is_none() && control::wanted(&verdict, &done.evidence) {
            done.control = Some(control::boot(lab, case, prepared, bundle).await);
        }
        Ok(())
    }

    /// Freezes a template's machine, if everything passed.
    async fn freeze(
        &self,
        done: &Done,
        machine: &mut Running,
        kept: boot::Made,
    ) -> Result<template::Taken, String> {
        let verdict = judge::case(self.case, &done.evidence, &done.facts, None);
        if verdict.verdict != Verdict::Pass {
            return Err("it did not pass".to_owned());
        }
        let freezing = Meter::begin();
        machine.ways.rest().await?;
        let frozen = machine.machine.freeze(template::FREEZE).await;
        let frozen = frozen.map_err(|e| e.to_string())?;
        self.ended("freeze", &freezing);
        let (kept, spec) = kept;
        let evidence = template::inherited(&done.evidence);
        Ok(template::Taken { kept, spec, state: frozen.state, evidence })
    }
}

/// What was seen of a machine whose pool went away under it says nothing: its QEMU was killed. The case is run again then, as one
/// whose template has changed.
async fn not_of_a_lost_pool(done: &mut Done, machine: &Machine) {
    if done.evidence.iter().any(|e| e.seen.is_err()) {
        // The pool's end may be heard of a moment after QEMU's.
        let _ = tokio::time::timeout(LEASE, machine.ended()).await;
    }
    if machine.lease_lost() {
        let message = "the pool that ran the machine is gone".to_owned();
        let loss = Loss::Lab { code: Cause::TemplateUnusable.code().to_owned(), message };
        done.evidence.push(nothing(judge::INPUTS, loss));
    }
}
