//! The control: before a Xen that never got far is blamed, one known to be good is booted in the same machine.
//!
//! Known to be good is the last that passed in this very machine (its name, digest and where it lies are remembered in the
//! store), else Debian's of the locked suite.

use crate::EngineError;
use crate::boot;
use crate::bundle::Bundle;
use crate::exec::Lab;
use crate::prepare::Prepared;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use xenlab_console::Phase;
use xenlab_model::case::Case;
use xenlab_model::cause::Blame;
use xenlab_model::event::What;
use xenlab_model::evidence::Evidence;
use xenlab_model::guest::GuestStart;
use xenlab_model::judge::BOOT;
use xenlab_model::spec::{Subject, XenSpec};
use xenlab_model::step::Observation;
use xenlab_model::verdict::{CaseVerdict, Control, Verdict};

/// The suite whose Xen is the control where nothing has passed yet.
const LOCKED: &str = "bookworm";

/// A Xen that passed, as the store remembers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Good {
    subject: Subject,
    image: PathBuf,
    digest: String,
}

/// What makes a machine this very machine, apart from the Xen in it.
fn machine_key(case: &Case, prepared: &Prepared) -> String {
    let config = &case.config;
    let mut parts = format!(
        "{} {} {} {} {:?} {:?} {:?} {:?}",
        config.arch,
        prepared.qemu.stamp,
        prepared.accel.accel,
        config.machine.cpus,
        config.machine.memory,
        config.machine.cpu,
        config.machine.devices,
        config.boot.way
    );
    // Another machine to Xen, which may not be good at making them.
    for (name, guest) in config.guests.iter().filter(|(_, g)| g.start == GuestStart::Xen) {
        parts.push_str(&format!(" {name} {guest:?}"));
    }
    crate::digest_hex(parts.as_bytes())
}

fn file(lab: &Lab, key: &str) -> PathBuf {
    lab.preparer.store.root().join("good").join(format!("{key}.json"))
}

/// Remembers that this case's Xen is good in its machine. Best effort: what is not remembered costs a control nothing but time.
pub fn remember(lab: &Lab, case: &Case, prepared: &Prepared) {
    // What was changed on purpose is good for nothing else.
    if prepared.plant.is_some() {
        return;
    }
    let good = Good {
        subject: case.subject.clone(),
        image: prepared.xen.clone(),
        digest: match xenlab_store::hash_file(&prepared.xen) {
            Ok(digest) => digest,
            Err(_) => return,
        },
    };
    let path = file(lab, &machine_key(case, prepared));
    let known = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Good>(&text).ok());
    if known.as_ref() == Some(&good) {
        return;
    }
    let Ok(text) = serde_json::to_vec_pretty(&good) else { return };
    let Some(dir) = path.parent() else { return };
    let part = dir.join(format!(".{}", crate::random_hex(8)));
    if std::fs::create_dir_all(dir)
        .and_then(|()| std::fs::write(&part, text))
        .and_then(|()| std::fs::rename(&part, &path))
        .is_err()
    {
        let _ = std::fs::remove_file(&part);
    }
}

/// The machine brought dom0's kernel to life, which is what a control is asked to do.
pub fn booted(evidence: &[Evidence]) -> bool {
    evidence.iter().filter(|e| e.step == BOOT).any(|e| match &e.seen {
        Ok(Observation::Phase(seen)) => seen.reached.iter().any(|(phase, _)| *phase >= Phase::Dom0Kernel),
        _ => false,
    })
}

/// A control is worth its boot where Xen would be blamed for not bringing dom0's kernel to life in a machine that ran.
pub fn wanted(verdict: &CaseVerdict, evidence: &[Evidence]) -> bool {
    let boot = evidence.iter().find(|e| e.step == BOOT);
    let Some(Ok(Observation::Phase(seen))) = boot.map(|e| &e.seen) else { return false };
    let furthest = seen.reached.iter().map(|(p, _)| *p).max();
    // Without a single phase no machine was started: the image itself was refused.
    furthest.is_some_and(|p| p < Phase::Dom0Kernel)
        && verdict.steps.iter().any(|s| s.step == BOOT && s.verdict == Verdict::Fail)
        && verdict.blame == Some(Blame::Xen)
}

/// Boots the control to where dom0's kernel lives; once a run for each machine. One that cannot be had says so.
pub async fn boot(lab: &Lab, case: &Case, prepared: &Arc<Prepared>, bundle: &Arc<Bundle>) -> Control {
    let key = machine_key(case, prepared);
    let control = lab
        .controls
        .get(format!("{key} {:?}", case.config.xen.args), || async {
            once(lab, case, prepared, bundle, &key).await
        })
        .await;
    match control {
        Ok(control) => (*control).clone(),
        Err(error) => Control {
            subject: locked().to_string(),
            because: "a Xen known to be good".to_owned(),
            passed: false,
            unavailable: Some(error.to_string()),
        },
    }
}

/// The Xen that is the control where nothing has passed yet.
fn locked() -> Subject {
    Subject {
        hypervisor: XenSpec::Debian { suite: LOCKED.to_owned(), version: None },
        tools: None,
        expect_version: None,
        recipe: Default::default(),
    }
}

async fn once(
    lab: &Lab,
    case: &Case,
    prepared: &Arc<Prepared>,
    bundle: &Arc<Bundle>,
    key: &str,
) -> Result<Control, EngineError> {
    let remembered =
        std::fs::read(file(lab, key)).ok().and_then(|text| serde_json::from_slice::<Good>(&text).ok());
    let usable = remembered.filter(|good| {
        good.digest != prepared.xen_original.1
            && xenlab_store::hash_file(&good.image).is_ok_and(|now| now == good.digest)
            && good.image != prepared.xen
    });
    let (subject, image, digest, because) = match usable {
        Some(good) => (
            good.subject.to_string(),
            good.image,
            good.digest,
            "the last Xen that passed in this very machine".to_owned(),
        ),
        None => {
            let subject = locked();
            let build = lab.preparer.build(&subject, case.config.arch).await?;
            let way = case.config.boot.way;
            let image = crate::prepare::image(&build.hypervisor, way);
            if let Some((cause, why)) = image.damage {
                return Err(crate::exec::missing(
                    cause,
                    format!("{subject} has no image that boots {way}: {why}"),
                ));
            }
            let image = image.path;
            let digest = xenlab_store::hash_file(&image).map_err(|e| EngineError::part(e.cause(), &e))?;
            (
                subject.to_string(),
                image,
                digest,
                "none is known to have passed in this machine, so Debian's".to_owned(),
            )
        }
    };
    lab.sink.emit(What::Note {
        case: Some(case.shown()),
        message: format!("Xen did not bring up dom0's kernel; booting {subject} in the same machine to see whose fault that is"),
    });
    let machine = prepared.with_xen(image, digest);
    let dir = bundle.dir().join("control");
    let record = Arc::new(Bundle::create(dir, case, &crate::now_rfc3339())?);
    let mut inputs = machine.inputs(&lab.preparer.store, &machine.facts)?;
    let _ticket = lab.preparer.admission.machine(&*lab.sink, &case.shown(), &case.config).await?;
    let booted = boot::boot(
        case,
        &Arc::new(machine),
        &record,
        Phase::Dom0Kernel,
        &mut inputs,
        boot::Start::default(),
        &|_, _| {},
    )
    .await?;
    record.inputs(&inputs)?;
    let passed = matches!(&booted.evidence.seen, Ok(seen) if boot::came_far_enough(seen));
    record.evidence(std::slice::from_ref(&booted.evidence))?;
    if let Some(running) = booted.machine {
        running.stop().await;
    }
    Ok(Control { subject, because, passed, unavailable: None })
}
