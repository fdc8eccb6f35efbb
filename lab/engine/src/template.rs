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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
use xenlab_store::templates::{self, Building, RAM, Template};
use xenlab_store::{Key, Store};

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
    store: Arc<Store>,
    digest: OnceLock<String>,
    /// Why it is not used again, once that is so.
    aside: OnceLock<String>,
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
        self.evidence.iter().cloned()
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        self.held.name()
    }

    /// SHA-256 of its state: one that was made again has another, whatever its key.
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| crate::digest_hex(&self.state))
    }

    /// What it was found by.
    pub fn key(&self) -> &str {
        self.held.key().as_str()
    }

    /// Hashes its files; what is no longer what it was, in words. It is put aside then.
    pub fn changed(&self) -> Option<String> {
        let error = self.held.verify().err()?;
        self.put_aside(&error.to_string());
        Some(error.to_string())
    }

    /// Removes it: it was made to see what that costs, and nothing else will start from it.
    ///
    /// # Errors
    /// What the store cannot do.
    pub fn remove(&self) -> Result<(), EngineError> {
        self.store.remove_template(&self.held).map_err(|e| EngineError::part(e.cause(), e))
    }

    /// It is not used again, by this run or any other.
    pub fn put_aside(&self, reason: &str) {
        if self.aside.set(reason.to_owned()).is_ok() {
            self.store.put_template_aside(&self.held, reason);
        }
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
    /// What is still being hashed.
    settling: Mutex<Vec<tokio::task::JoinHandle<Result<(), String>>>>,
}

/// What lies beside memory and state, for clones to go on with.
#[derive(Serialize, Deserialize)]
struct Beside {
    kept: Kept,
    /// Of boot and set-up.
    evidence: Vec<Evidence>,
    /// Size of its initramfs.
    initrd_bytes: u64,
}

const BESIDE: &str = "kept.json";
const CONSOLE: &str = "console.raw";
const MADE_BY: &str = concat!("xenlab ", env!("CARGO_PKG_VERSION"));

impl Templates {
    /// The verdicts of templates that did not boot, once.
    pub fn take_failed(&self) -> Vec<CaseVerdict> {
        std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner))
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
        let initrd =
            Payload::of(&prepared.dom0.initrd).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
        let mut spec = boot::spec(case, &prepared.parts, prepared.accel.accel, initrd)?;
        // The case's layer is part of the initramfs, and is told apart by what it is made of.
        spec.backing = Backing::Build(PathBuf::from("ram"));
        if let Some(why) = spec.cannot_freeze() {
            return Ok(Given::Cold(Some(why)));
        }
        let key = key(case, prepared, inputs, &spec)?;
        let given = self
            .made
            .get(key.id().to_string(), || async { self.find_or_make(lab, case, prepared, key).await })
            .await
            .map_err(|e| EngineError::part(e.cause(), e))?;
        // What another case found out about it while it ran.
        if let Given::Clone(ready) = &*given
            && let Some(why) = ready.aside.get()
        {
            return Ok(Given::Cold(Some(format!("its template was put aside: {why}"))));
        }
        Ok((*given).clone())
    }

    async fn find_or_make(
        &self,
        lab: &Lab,
        case: &Case,
        prepared: &Arc<Prepared>,
        key: Key,
    ) -> Result<Given, EngineError> {
        let of = template_case(case);
        let name = of.shown();
        let (store, wanted, memory) =
            (lab.preparer.store.clone(), name.clone(), exec::machine_memory(&case.config));
        let begin = || {
            let (store, wanted, key) = (store.clone(), wanted.clone(), key.clone());
            crate::blocking(move || begin(&store, &wanted, &key, memory.0))
        };
        let mut begun = begin().await;
        if let Ok(Begun::Ready(template)) = begun {
            match load(lab, &of, prepared, template.clone()) {
                Ok(ready) => return Ok(Given::Clone(Arc::new(ready))),
                // Damage that its stamps do not show: with that out of the way it is made again.
                Err(why) => {
                    lab.preparer.store.put_template_aside(&template, &why);
                    drop(template);
                    begun = begin().await;
                }
            }
        }
        let (building, why) = match begun {
            Ok(Begun::Ready(template)) => {
                // Another process was faster.
                return Ok(match load(lab, &of, prepared, template) {
                    Ok(ready) => Given::Clone(Arc::new(ready)),
                    Err(why) => Given::Cold(Some(why)),
                });
            }
            Ok(Begun::Build(building, why)) => (building, why),
            Err(EngineError::Interrupted) => return Err(EngineError::Interrupted),
            Err(error) => return Ok(Given::Cold(Some(format!("no template can be kept: {error}")))),
        };
        lab.sink.emit(What::Note {
            case: Some(case.shown()),
            message: format!("a template is taken of this machine: {why}"),
        });
        let folder = Folder { ram: building.path().join(RAM), state: building.state() };
        // A case boots its template, whose boot is that of a case.
        let mut built = Box::pin(exec::template(lab, of.clone(), &folder, &case.shown())).await;
        let Some(taken) = built.taken.take() else { return self.not_taken(lab, case, &name, built) };
        let bundle = built.bundle.clone();
        let published = crate::blocking(move || {
            write_beside(building.path(), &taken, &bundle)
                .map_err(|e| EngineError::part(Cause::LabInternal, e))?;
            building.publish(MADE_BY).map_err(|e| EngineError::part(e.cause(), e))
        })
        .await;
        let ready = match published {
            Ok(template) => load(lab, &of, prepared, template),
            Err(error) => Err(error.to_string()),
        };
        Ok(match ready {
            Ok(ready) => {
                self.settle(&ready);
                Given::Clone(Arc::new(ready))
            }
            Err(why) => Given::Cold(Some(format!("the template cannot be kept: {why}"))),
        })
    }

    /// No template came of its boot: it is a verdict of its own when it did not pass.
    fn not_taken(&self, lab: &Lab, case: &Case, name: &str, built: Built) -> Result<Given, EngineError> {
        if xenlab_host::interrupt::requested() {
            return Err(EngineError::Interrupted);
        }
        let verdict = built.verdict;
        if verdict.verdict == Verdict::Pass {
            let why = built.why_not.unwrap_or_else(|| "no template was taken".to_owned());
            return Ok(Given::Cold(Some(why)));
        }
        let message = verdict.message.clone();
        lab.sink.emit(What::CaseFinished {
            case: name.to_owned(),
            bundle: built.bundle.display().to_string(),
            verdict: Box::new(verdict.clone()),
            reproduce: lab.reproduce(case),
        });
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push(verdict);
        Ok(Given::Nothing(name.to_owned(), message))
    }

    /// Hashes what was just published and has it reach the disk, beside whatever else goes on; a run that ends before that waits
    /// for it in [`Templates::settled`].
    fn settle(&self, ready: &Ready) {
        let template = ready.held.clone();
        let task = tokio::task::spawn_blocking(move || template.settle().map_err(|e| e.to_string()));
        self.settling.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Waits until everything that was published can be used after a restart of this host; what could not, in words.
    pub async fn settled(&self) -> Vec<String> {
        let tasks = std::mem::take(&mut *self.settling.lock().unwrap_or_else(PoisonError::into_inner));
        let mut wrong = Vec::new();
        for task in tasks {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => wrong.push(why),
                Err(error) => wrong.push(error.to_string()),
            }
        }
        wrong
    }
}

/// A template's files while it is made.
pub struct Folder {
    /// The machine's memory.
    pub ram: PathBuf,
    /// What its processors and devices hold.
    pub state: PathBuf,
}

/// What there is of a template.
enum Begun {
    Ready(Template),
    /// It is to be made; why.
    Build(Building, String),
}

fn begin(store: &Store, name: &str, key: &Key, memory: u64) -> Result<Begun, EngineError> {
    let failed = |e: xenlab_store::StoreError| match e.cause() {
        Cause::Interrupted => EngineError::Interrupted,
        cause => EngineError::part(cause, e),
    };
    let building = match store.begin_template(name, key).map_err(failed)? {
        templates::Begun::Ready(template) => return Ok(Begun::Ready(template)),
        templates::Begun::Build(building) => building,
    };
    let why = match store.why_rebuilt(name, key).map_err(failed)? {
        Some(rebuilt) => rebuilt.to_string(),
        None => "it is the first of its kind".to_owned(),
    };
    building.reserve(memory).map_err(failed)?;
    Ok(Begun::Build(building, why))
}

/// What is known when a machine was frozen.
pub struct Taken {
    /// What its dom0 and the lab know.
    pub kept: Kept,
    /// What it was made of.
    pub spec: MachineSpec,
    /// What was seen of its boot and set-up.
    pub evidence: Vec<Evidence>,
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

/// Everything the state depends on, by name.
fn key(case: &Case, prepared: &Prepared, inputs: &Inputs, spec: &MachineSpec) -> Result<Key, EngineError> {
    let mut artefacts: Vec<(String, String)> =
        inputs.artefacts.iter().map(|a| (a.role.clone(), a.digest.clone())).collect();
    if let Some(digest) = &prepared.xen_digest {
        artefacts.push(("xen, unpacked".to_owned(), digest.clone()));
    }
    let setup = serde_json::to_vec(&case.setup).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    artefacts.push(("setup".to_owned(), crate::digest_hex(&setup)));
    artefacts.push(("layer of the case".to_owned(), boot::layer_digest(case, prepared)));
    let parts = xenlab_machine::template_parts(spec, &artefacts)
        .map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    let key = Key::new("template").part("lab", env!("CARGO_PKG_VERSION"));
    Ok(parts.into_iter().fold(key, |key, (name, value)| key.part(&name, value)))
}

/// What a case has of its template's evidence: not the template's own steps.
pub fn inherited(evidence: &[Evidence]) -> Vec<Evidence> {
    let inherited = evidence.iter().filter(|e| e.step == BOOT || e.step.starts_with("setup["));
    inherited.map(|e| Evidence { origin: Origin::Template, ..e.clone() }).collect()
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
fn load(lab: &Lab, of: &Case, prepared: &Prepared, template: Template) -> Result<Ready, String> {
    let read = |name: &str| template.read(name).map_err(|e| e.to_string());
    let beside: Beside = serde_json::from_slice(&read(BESIDE)?).map_err(|e| format!("{BESIDE}: {e}"))?;
    let console = read(CONSOLE)?;
    let state = template.state().map_err(|e| e.to_string())?;
    // No clone reads it; where it lay follows from its size.
    let initrd = Payload { path: PathBuf::from("initrd"), size: beside.initrd_bytes };
    let mut spec =
        boot::spec(of, &prepared.parts, prepared.accel.accel, initrd).map_err(|e| e.to_string())?;
    spec.backing = Backing::CopyOf(template.ram());
    let Beside { kept, evidence, .. } = beside;
    let store = lab.preparer.store.clone();
    Ok(Ready {
        spec,
        state,
        kept,
        console,
        evidence,
        held: template,
        store,
        digest: OnceLock::new(),
        aside: OnceLock::new(),
    })
}

/// Puts beside memory and state what clones need besides.
fn write_beside(dir: &Path, taken: &Taken, bundle: &Path) -> Result<(), EngineError> {
    let io = |e: std::io::Error| EngineError::part(Cause::LabInternal, e);
    std::fs::write(dir.join(CONSOLE), bundle::console(bundle)?).map_err(io)?;
    let initrd_bytes = taken.spec.initrd.size;
    let beside = Beside { kept: taken.kept.clone(), evidence: taken.evidence.clone(), initrd_bytes };
    let text = serde_json::to_vec_pretty(&beside).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    // The store makes it readable by nobody else: a private key is in it.
    std::fs::write(dir.join(BESIDE), text).map_err(io)
}
