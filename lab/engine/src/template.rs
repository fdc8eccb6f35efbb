//! Templates: a machine that has booted once is frozen, and cases start from copies of it.
//!
//! A template is the boot of a case of its own: the machine that others need, brought to "dom0 ready" and through their `setup`, judged
//! like any other. Where it passes it is frozen and kept in the store under a key of everything its state depends on; where
//! it does not, that is told once, and of the cases that were to start from it nothing is known.

use crate::boot::{self, Kept};
use crate::exec::{self, Lab};
use crate::prepare::Prepared;
use crate::shared::Shared;
use crate::{EngineError, bundle};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xenlab_console::Phase;
use xenlab_machine::{Backing, MachineSpec, Payload};
use xenlab_model::bundle::Inputs;
use xenlab_model::case::{Case, Planned};
use xenlab_model::cause::Cause;
use xenlab_model::event::What;
use xenlab_model::evidence::{Evidence, Origin};
use xenlab_model::judge::{self, BOOT};
use xenlab_model::scenario::config::Start;
use xenlab_model::step::{Body, Observation, Step, phase};
use xenlab_model::verdict::{CaseVerdict, Verdict};
use xenlab_store::templates::{Found, Template};

/// How long freezing may take, wall time: it takes hundredths of a second.
pub const FREEZE: Duration = Duration::from_secs(30);

/// A template that clones can be made of.
pub struct Ready {
    /// The machine, its memory a copy of the template's.
    pub spec: MachineSpec,
    /// What its processors and devices held.
    pub state: Vec<u8>,
    /// What its dom0 and the lab know.
    pub kept: Kept,
    /// What its console had said.
    pub console: Vec<u8>,
    evidence: Vec<Evidence>,
    held: Template,
}

impl Ready {
    /// When it reached each phase.
    pub fn phases(&self) -> Vec<(Phase, f64)> {
        match self.evidence.iter().find(|e| e.step == BOOT).map(|e| &e.seen) {
            Some(Ok(Observation::Phase(seen))) => seen.reached.clone(),
            _ => vec![(Phase::PowerOn, 0.0)],
        }
    }

    /// The evidence of its boot and set-up, as a case that starts from it has it.
    pub fn evidence(&self) -> impl Iterator<Item = Evidence> {
        self.evidence.iter().map(|e| Evidence { origin: Origin::Template, ..e.clone() })
    }

    /// Hashes its files; what is no longer what it was, in words. It is put aside then.
    pub fn changed(&self) -> Option<String> {
        self.held.verify().err().map(|e| e.to_string())
    }

    /// It is not used again.
    pub fn put_aside(&self) {
        self.held.put_aside();
    }
}

/// What a case starts from.
#[derive(Clone)]
pub enum Given {
    /// A clone of this.
    Clone(Arc<Ready>),
    /// A cold boot; why, where one would have expected something else.
    Cold(Option<String>),
    /// Nothing: the template of this name did not boot, for this reason.
    Nothing(String, String),
}

/// The templates of a run.
#[derive(Default)]
pub struct Templates {
    made: Shared<String, Given, EngineError>,
    /// Verdicts of those that did not boot.
    failed: Mutex<Vec<CaseVerdict>>,
}

/// What lies beside memory and state, for clones to go on with.
#[derive(Serialize, Deserialize)]
struct Beside {
    kept: Kept,
}

const BESIDE: &str = "kept.json";
const BUNDLE: &str = "bundle";
const INITRD: &str = "initrd";

impl Templates {
    /// The verdicts of templates that did not boot, once.
    pub fn take_failed(&self) -> Vec<CaseVerdict> {
        std::mem::take(&mut self.failed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What `case` starts from; its template is made if there is none.
    ///
    /// # Errors
    /// The lab's own. What kept a template from being taken is no error: the case boots cold then.
    pub async fn of(
        &self,
        lab: &Lab,
        case: &Case,
        prepared: &Arc<Prepared>,
        inputs: &Inputs,
    ) -> Result<Given, EngineError> {
        let steps = case.setup.iter().chain(&case.steps);
        let asked = !lab.cold
            && case.config.machine.start == Start::Template
            && prepared.plant.is_none()
            && lab.preparer.plant.is_none()
            && prepared.damage.is_none()
            && judge::target(steps) >= Phase::Dom0Ready;
        if !asked {
            return Ok(Given::Cold(None));
        }
        let initrd = Payload::of(&prepared.dom0.initrd)
            .map_err(|e| EngineError::part(Cause::LabInternal, e))?;
        let mut spec = boot::spec(case, &prepared.parts, prepared.accel.accel, initrd)?;
        // The case's layer is part of the initramfs, and is told apart by what it is made of.
        spec.backing = Backing::Build(PathBuf::from("ram"));
        if let Some(why) = spec.cannot_freeze() {
            return Ok(Given::Cold(Some(why)));
        }
        let parts = parts(case, prepared, inputs, &spec)?;
        let id = format!("{parts:?}");
        let given = self
            .made
            .get(id, || async { self.find_or_make(lab, case, prepared, parts).await })
            .await
            .map_err(|e| EngineError::part(e.cause(), e))?;
        Ok((*given).clone())
    }

    async fn find_or_make(
        &self,
        lab: &Lab,
        case: &Case,
        prepared: &Arc<Prepared>,
        parts: Vec<(String, String)>,
    ) -> Result<Given, EngineError> {
        let of = template_case(case);
        let name = of.shown();
        let (store, wanted) = (lab.preparer.store.clone(), name.clone());
        let found = crate::blocking(move || {
            store.template(&wanted, &parts).map_err(|e| EngineError::part(e.cause(), e))
        })
        .await;
        let building = match found {
            Ok(Found::There(template)) => match load(&of, prepared, template) {
                Ok(ready) => return Ok(Given::Clone(Arc::new(ready))),
                Err(why) => return Ok(Given::Cold(Some(why))),
            },
            Ok(Found::ToMake(building)) => building,
            Err(EngineError::Interrupted) => return Err(EngineError::Interrupted),
            Err(error) => return Ok(Given::Cold(Some(format!("no template can be kept: {error}")))),
        };
        if let Some(why) = building.why() {
            let message = format!("a template is taken of this machine: {why}");
            lab.sink.emit(What::Note { case: Some(case.shown()), message });
        }
        let dir = building.dir().to_owned();
        let done = Box::pin(exec::template(lab, of.clone(), &dir, &case.shown())).await;
        match done.taken {
            None if done.verdict.verdict == Verdict::Pass => Ok(Given::Cold(Some(
                done.why_not.unwrap_or_else(|| "no template was taken".to_owned()),
            ))),
            None => {
                let message = done.verdict.message.clone();
                lab.sink.emit(What::CaseFinished {
                    case: name.clone(),
                    bundle: done.bundle.display().to_string(),
                    verdict: Box::new(done.verdict.clone()),
                    reproduce: lab.reproduce(case),
                });
                if xenlab_host::interrupt::requested() {
                    return Err(EngineError::Interrupted);
                }
                self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(done.verdict);
                Ok(Given::Nothing(name, message))
            }
            Some(taken) => {
                let written = write_beside(&dir, &taken, &done.bundle);
                let published = crate::blocking(move || {
                    written.map_err(|e| EngineError::part(Cause::LabInternal, e))?;
                    building.publish().map_err(|e| EngineError::part(e.cause(), e))
                })
                .await;
                match published.map_err(|e| e.to_string()).and_then(|t| load(&of, prepared, t)) {
                    Ok(ready) => Ok(Given::Clone(Arc::new(ready))),
                    Err(why) => Ok(Given::Cold(Some(format!("the template cannot be kept: {why}")))),
                }
            }
        }
    }
}

/// What is known when a machine was frozen.
pub struct Taken {
    /// What its dom0 and the lab know.
    pub kept: Kept,
    /// What it was made of.
    pub spec: MachineSpec,
    /// How long freezing took.
    pub took: Duration,
}

/// What came of a template's boot.
pub struct Built {
    /// Of its case.
    pub verdict: CaseVerdict,
    /// Its bundle.
    pub bundle: PathBuf,
    /// It was frozen.
    pub taken: Option<Taken>,
    /// Why it was not, though it had passed.
    pub why_not: Option<String>,
}

/// The file of its memory, in a template's folder.
pub fn ram(dir: &Path) -> PathBuf {
    dir.join("ram")
}

/// The file of its state.
pub fn state(dir: &Path) -> PathBuf {
    dir.join("state")
}

/// Everything the state depends on, by name.
fn parts(
    case: &Case,
    prepared: &Prepared,
    inputs: &Inputs,
    spec: &MachineSpec,
) -> Result<Vec<(String, String)>, EngineError> {
    let mut parts = vec![("lab".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    for artefact in &inputs.artefacts {
        parts.push((artefact.role.clone(), artefact.digest.clone()));
    }
    if let Some(digest) = &prepared.xen_digest {
        parts.push(("xen, unpacked".to_owned(), digest.clone()));
    }
    parts.push(("settings".to_owned(), format!("{:?}", prepared.settings)));
    parts.push(("store daemon".to_owned(), format!("{:?}", case.config.dom0.xenstored)));
    let setup = serde_json::to_vec(&case.setup).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    parts.push(("setup".to_owned(), crate::digest_hex(&setup)));
    parts.push(("dom0's layer".to_owned(), boot::layer_digest(case, prepared)));
    parts.extend(
        xenlab_machine::template_parts(spec).map_err(|e| EngineError::part(Cause::LabInternal, e))?,
    );
    Ok(parts)
}

/// The template's own case: the same machine, brought to "dom0 ready" and through the set-up.
fn template_case(case: &Case) -> Case {
    let ready = Step {
        path: "steps[0]".to_owned(),
        name: None,
        when: None,
        within: None,
        body: Body::Phase(phase::Phase { reach: Phase::Dom0Ready }),
    };
    Case { id: format!("{} (template)", case.id), steps: vec![ready], plan: Planned::Run, ..case.clone() }
}

/// Reads a template that is in the store.
fn load(of: &Case, prepared: &Prepared, template: Template) -> Result<Ready, String> {
    let dir = template.dir();
    let text = std::fs::read(dir.join(BESIDE)).map_err(|e| format!("{BESIDE}: {e}"))?;
    let Beside { kept } = serde_json::from_slice(&text).map_err(|e| format!("{BESIDE}: {e}"))?;
    let recorded = bundle::read(&dir.join(BUNDLE)).map_err(|e| e.to_string())?;
    let console = bundle::console(&dir.join(BUNDLE)).map_err(|e| e.to_string())?;
    let state = std::fs::read(template.state()).map_err(|e| format!("its state: {e}"))?;
    let initrd = Payload::of(dir.join(INITRD)).map_err(|e| format!("its initramfs: {e}"))?;
    let mut spec = boot::spec(of, &prepared.parts, prepared.accel.accel, initrd).map_err(|e| e.to_string())?;
    spec.backing = Backing::CopyOf(template.ram());
    // Its own steps are not the case's.
    let evidence = recorded.evidence.into_iter().filter(|e| e.step == BOOT || e.step.starts_with("setup")).collect();
    Ok(Ready { spec, state, kept, console, evidence, held: template })
}

/// Puts beside memory and state what clones need besides.
fn write_beside(dir: &Path, taken: &Taken, bundle: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    // A private key is in it.
    let file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(dir.join(BESIDE))?;
    serde_json::to_writer(file, &Beside { kept: taken.kept.clone() })?;
    std::fs::copy(&taken.spec.initrd.path, dir.join(INITRD))?;
    let to = dir.join(BUNDLE);
    std::fs::create_dir_all(to.join("console"))?;
    for entry in ["started", "plan.json", "inputs.json", "evidence.jsonl", "verdict.json", bundle::CONSOLE] {
        std::fs::copy(bundle.join(entry), to.join(entry))?;
    }
    Ok(())
}
