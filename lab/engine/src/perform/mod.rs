//! One place a kind of step is performed: what is done in dom0, on the consoles or on the build, and what is seen.

mod agent;
pub mod build;
mod console;
mod device;
mod dom0;
mod domain;
pub mod scripts;
mod store;
mod vchan;
mod xtf;

use crate::boot::Running;
use crate::limits;
use crate::prepare::Prepared;
use crate::wait::{Allowed, Phases, Watch};
use std::sync::Arc;
use std::time::Duration;
use xenlab_console::Phase;
use xenlab_model::case::Case;
use xenlab_model::evidence::{CommandEnd, Evidence, Loss, MachineEnd, Origin, WaitEnd};
use xenlab_model::step::freeze::FreezeEvidence;
use xenlab_model::step::phase::{Phase as PhaseStep, PhaseEvidence};
use xenlab_model::step::xtf::RunAs;
use xenlab_model::step::{At, Body, Observation, Step};

/// Performs a step that needs the machine; `case_limit` is what the whole case may take, in guest time since power-on.
pub async fn on_machine(
    case: &Case,
    step: &Step,
    prepared: &Arc<Prepared>,
    running: &mut Running,
    case_limit: Duration,
) -> Evidence {
    let from = running.wall().as_secs_f64();
    let own = step.within.or(case.config.limits.step).map_or(limits::STEP, |l| l.0);
    let limit = own.min(case_limit.saturating_sub(running.guest()));
    let machine = running.machine.clone();
    let hub = running.hub.clone();
    let seen = tokio::select! {
        biased;
        () = xenlab_host::interrupt::wait() => Err(Loss::Interrupted),
        // A machine that is gone, or a Xen that has panicked, answers nothing any more; no use in waiting for the limit.
        loss = lost(&hub, &machine), if step.body.at() == At::Dom0 => Err(loss),
        seen = observe(step, prepared, running, limit, &case.nonce) => seen,
    };
    Evidence {
        step: step.path.clone(),
        origin: match (&step.body, running.origin) {
            // What a clone's console had said by then, its template said.
            (Body::Phase(_), Origin::Clone) => Origin::Template,
            (_, origin) => origin,
        },
        from,
        to: running.wall().as_secs_f64(),
        seen,
    }
}

/// Whether the machine has ended or its console has said that Xen or dom0 died, by now. What only looks like the beginning of a
/// panic may be dom0's own words: it is none while dom0 answers.
pub async fn lost_by_now(running: &mut Running) -> Option<Loss> {
    let of = |sign: &xenlab_console::Sign| Loss::Guest {
        code: sign.code.to_owned(),
        line: sign.text.clone(),
        told: Vec::new(),
    };
    let suspected = {
        let mut state = running.hub.state();
        let certain = state.fatal().map(of);
        if certain.is_some() {
            return certain;
        }
        state.settle();
        state.fatal().map(of)
    };
    if let Some(end) = running.machine.end() {
        return Some(suspected.unwrap_or(Loss::Machine(end)));
    }
    suspected.as_ref()?;
    let machine = running.machine.clone();
    let ask = xenlab_guest::Script::new(":");
    let alive = tokio::select! {
        () = xenlab_host::interrupt::wait() => return None,
        _ = machine.ended() => false,
        answer = running.ways.run(&ask, ALIVE) => answer.end == CommandEnd::Exit(0),
    };
    if alive { None } else { suspected }
}

/// How long dom0 may take to show that it lives, guest time.
const ALIVE: Duration = Duration::from_secs(20);

/// Returns when the machine has ended or its console has said that Xen or dom0 died.
async fn lost(hub: &crate::hub::Hub, machine: &xenlab_machine::Machine) -> Loss {
    let mut changes = hub.changes();
    let died = async {
        loop {
            let sign = hub.state().fatal().map(|s| (s.code.to_owned(), s.text.clone()));
            if let Some((code, line)) = sign {
                return (code, line);
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        (code, line) = died => Loss::Guest { code, line, told: Vec::new() },
        end = machine.ended() => Loss::Machine(end),
    }
}

async fn observe(
    step: &Step,
    prepared: &Arc<Prepared>,
    running: &mut Running,
    limit: Duration,
    nonce: &str,
) -> Result<Observation, Loss> {
    let machine = running.machine.clone();
    let hub = running.hub.clone();
    let clock = running.clock();
    let guest = move || clock().1;
    let watch = Watch { hub: &hub, guest: &guest, kvm: running.kvm };
    match &step.body {
        Body::Phase(phase) => Ok(Observation::Phase(reach(phase, &watch, limit, machine.ended()).await)),
        Body::Console(step) => {
            Ok(console::console(step, &watch, limit, running.case_start, &running.record, machine.ended())
                .await)
        }
        Body::Xtf(step) if step.run_as == RunAs::Dom0 => {
            let image = running.test.clone().unwrap_or_default();
            xtf::as_dom0(image, &watch, limit, &running.record, machine.ended()).await
        }
        // Its machine is frozen when the case of its template has passed.
        Body::Freeze(_) => Ok(Observation::Freeze(FreezeEvidence {})),
        body => {
            let env = environment(&prepared.dom0.layout);
            let until = running.ways.of_steps() + limit;
            let mut dom0 =
                dom0::Dom0 { ways: &mut running.ways, layout: &prepared.dom0.layout, env: &env, until };
            Ok(match body {
                Body::UnderXen(_) => dom0.under_xen().await,
                Body::XlInfo(_) => dom0.xl_info().await,
                Body::Xenstored(step) => dom0.xenstored(step).await,
                Body::Run(step) => dom0.run(step).await,
                Body::Service(step) => dom0.service(step).await,
                Body::Process(_) => dom0.process().await,
                Body::File(step) => dom0.file(step).await,
                Body::Xtf(step) => dom0.xtf(step, &prepared.facts, &hub, limit).await?,
                Body::Domain(step) => dom0.domain(step, &prepared.facts, &hub, nonce).await?,
                Body::Device(step) => dom0.device(step, &hub).await?,
                Body::Vchan(step) => dom0.vchan(step, &hub, limit).await?,
                Body::Leaks(_) => dom0.leaks().await,
                Body::Store(step) => dom0.store(step).await,
                Body::Agent(step) => dom0.agent(step).await,
                Body::Phase(_)
                | Body::Console(_)
                | Body::PkgConfig(_)
                | Body::BootFiles(_)
                | Body::Freeze(_) => {
                    return Err(Loss::Lab {
                        code: xenlab_model::cause::Cause::LabInternal.code().to_owned(),
                        message: format!("a `{}` step is not performed in dom0", body.kind()),
                    });
                }
            })
        }
    }
}

async fn reach(
    step: &PhaseStep,
    watch: &Watch<'_>,
    limit: Duration,
    ended: impl Future<Output = MachineEnd>,
) -> PhaseEvidence {
    let reach: Phase = step.reach;
    let end =
        watch.until(Allowed { limit, phases: Phases::None }, ended, |state| state.phase() >= reach).await;
    let end = match end {
        // Already there: what the machine did later is not this step's to say.
        WaitEnd::Ended(_) | WaitEnd::Failed { .. } if watch.hub.state().phase() >= reach => WaitEnd::Reached,
        end => end,
    };
    watch.hub.state().phase_evidence(end)
}

/// What every script finds: this build's own tools first, then what any shell has.
fn environment(layout: &xenlab_image::Layout) -> Vec<(String, String)> {
    let mut path = layout.path.clone();
    path.extend(["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(str::to_owned));
    vec![("PATH".to_owned(), path.join(":"))]
}
