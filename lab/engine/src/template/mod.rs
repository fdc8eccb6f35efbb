//! Templates: a machine that has booted once is frozen, and cases start from copies of it.
//!
//! A template is the boot of a case of its own: the machine that others need, brought to "dom0 ready" and through their `setup`, judged
//! like any other. Where it passes it is frozen and kept in the store under a key of everything its state depends on; where
//! it does not, that is told once, and of the cases that were to start from it nothing is known.
//!
//! A case with a `setup` starts from a template on a template: dom0 is ready, which others share, and on it each part of the
//! set-up up to the next `freeze`.

mod ready;

pub use ready::{Ground, Ready};

use crate::EngineError;
use crate::boot::{self, Kept};
use crate::exec::{self, Lab};
use crate::prepare::Prepared;
use crate::shared::Shared;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use xenlab_console::Phase;
use xenlab_machine::{Backing, MachineSpec, Memory, Payload};
use xenlab_model::bundle::Inputs;
use xenlab_model::case::{Case, Planned};
use xenlab_model::cause::Cause;
use xenlab_model::event::What;
use xenlab_model::evidence::{Evidence, Origin};
use xenlab_model::judge::{self, BOOT};
use xenlab_model::scenario::config::Start;
use xenlab_model::step::{Body, Step};
use xenlab_model::verdict::{CaseVerdict, Verdict};
use xenlab_store::templates::{self, Building, Template};
use xenlab_store::{Key, Store};

/// How long freezing may take, wall time: it takes hundredths of a second.
pub const FREEZE: Duration = Duration::from_secs(30);

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
    /// What is still on its way into the store.
    settling: Mutex<Vec<tokio::task::JoinHandle<Result<(), String>>>>,
}

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
        let layers = layers(&case.setup);
        let wanted = Wanted { lab, case, prepared, inputs, spec: &spec, layers: &layers };
        Box::pin(self.layer(&wanted)).await
    }

    /// The template of the last layer that is wanted.
    async fn layer(&self, wanted: &Wanted<'_>) -> Result<Given, EngineError> {
        let key = key(wanted)?;
        let given = self
            .made
            .get(key.id().to_string(), || Box::pin(self.find_or_make(wanted, key)))
            .await
            .map_err(|e| EngineError::part(e.cause(), e))?;
        // What another case found out about it while it ran.
        if let Given::Clone(ready) = &*given
            && let Some(why) = ready.aside()
        {
            return Ok(Given::Cold(Some(format!("its template was put aside: {why}"))));
        }
        Ok((*given).clone())
    }

    async fn find_or_make(&self, wanted: &Wanted<'_>, key: Key) -> Result<Given, EngineError> {
        let Wanted { lab, case, prepared, .. } = *wanted;
        let of = wanted.template_case();
        let name = of.shown();
        let memory = exec::machine_memory(&case.config);
        let begin = || {
            let (store, name, key) = (lab.preparer.store.clone(), name.clone(), key.clone());
            crate::blocking(move || begin(&store, &name, &key, memory.0))
        };
        let mut begun = begin().await;
        if let Ok(Begun::Ready(template)) = begun {
            match Ready::load(lab, &of, prepared, template.clone()) {
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
                return Ok(match Ready::load(lab, &of, prepared, template) {
                    Ok(ready) => Given::Clone(Arc::new(ready)),
                    Err(why) => Given::Cold(Some(why)),
                });
            }
            Ok(Begun::Build(building, why)) => (building, why),
            Err(EngineError::Interrupted) => return Err(EngineError::Interrupted),
            Err(error) => return Ok(Given::Cold(Some(format!("no template can be kept: {error}")))),
        };
        // What it stands on is looked for first: the lock of a layer is taken before that of the one below by everybody.
        let from = match wanted.below() {
            None => None,
            Some(below) => match Box::pin(self.layer(&below)).await? {
                Given::Clone(ready) => Some(ready),
                Given::Cold(_) => None,
                nothing @ Given::Nothing(..) => return Ok(nothing),
            },
        };
        let after = match wanted.setup().last() {
            None => String::new(),
            Some(Step { body: Body::Freeze(freeze), .. }) => format!(" at `{}`", freeze.name),
            Some(_) => " after its set-up".to_owned(),
        };
        lab.sink.emit(What::Note {
            case: Some(case.shown()),
            message: format!("a template is taken of this machine{after}: {why}"),
        });
        let memory = match Memory::new(memory) {
            Ok(memory) => Arc::new(memory),
            Err(error) => return Ok(Given::Cold(Some(format!("no template can be taken: {error}")))),
        };
        // A case boots its template, whose boot is that of a case.
        let mut built =
            Box::pin(exec::template(lab, of.clone(), &memory, &case.shown(), from.as_ref())).await;
        let Some(taken) = built.taken.take() else { return self.not_taken(lab, case, &name, built) };
        let ready = Ready::fresh(lab, &of, &key, taken, memory, &built.taken_in);
        Ok(match ready {
            Ok(ready) => {
                let ready = Arc::new(ready);
                self.keep(ready.clone(), building);
                Given::Clone(ready)
            }
            Err(why) => Given::Cold(Some(format!("no template can be taken: {why}"))),
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

    /// Puts what was just frozen into the store and has it reach the disk, beside whatever else goes on; a run that ends before that
    /// waits for it in [`Templates::settled`].
    fn keep(&self, ready: Arc<Ready>, building: Building) {
        let task = tokio::task::spawn_blocking(move || ready.keep(building));
        self.settling.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    }

    /// Waits until everything that was frozen is in the store and can be used after a restart of this host; what is not, in words.
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
    building.room(memory).map_err(failed)?;
    Ok(Begun::Build(building, why))
}

/// What is known when a machine was frozen.
pub struct Taken {
    /// What its dom0 and the lab know.
    pub kept: Kept,
    /// What it was made of.
    pub spec: MachineSpec,
    /// What its processors and devices held.
    pub state: Vec<u8>,
    /// What was seen of its boot and set-up.
    pub evidence: Vec<Evidence>,
}

/// What came of a template's boot.
pub struct Built {
    /// Of its case.
    pub verdict: CaseVerdict,
    /// Its bundle.
    pub bundle: PathBuf,
    /// The bundle of the attempt that was frozen.
    pub taken_in: PathBuf,
    /// It was frozen.
    pub taken: Option<Taken>,
    /// Why it was not, though it had passed.
    pub why_not: Option<String>,
}

/// A layer that a case wants to start from, the last of `layers`.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    lab: &'a Lab,
    case: &'a Case,
    prepared: &'a Arc<Prepared>,
    inputs: &'a Inputs,
    /// The machine, its memory in a file.
    spec: &'a MachineSpec,
    /// How many steps of the set-up each has behind it, the lowest first.
    layers: &'a [usize],
}

/// The layers of a set-up: dom0 is ready, each `freeze`, and the end. Each is how many steps it has behind it.
fn layers(setup: &[Step]) -> Vec<usize> {
    let marks =
        setup.iter().enumerate().filter(|(_, s)| matches!(s.body, Body::Freeze(_))).map(|(n, _)| n + 1);
    let mut layers: Vec<usize> = std::iter::once(0).chain(marks).chain([setup.len()]).collect();
    layers.dedup();
    layers
}

impl Wanted<'_> {
    /// The part of the set-up that it has behind it.
    fn setup(&self) -> &[Step] {
        &self.case.setup[..self.layers.last().copied().unwrap_or_default()]
    }

    /// The layer that it stands on.
    fn below(&self) -> Option<Self> {
        let (_, layers) = self.layers.split_last()?;
        (!layers.is_empty()).then_some(Wanted { layers, ..*self })
    }

    /// The template's own case: the same machine, brought to "dom0 ready" and through this part of the set-up.
    fn template_case(&self) -> Case {
        let what = match self.setup().last() {
            None => "template".to_owned(),
            Some(Step { body: Body::Freeze(freeze), .. }) => format!("template {}", freeze.name),
            Some(_) => "template after setup".to_owned(),
        };
        let id = format!("{} ({what})", self.case.id);
        let setup = self.setup().to_vec();
        // What is expected of the case is not expected of what it starts from.
        Case {
            id,
            setup,
            steps: vec![Step::dom0_ready()],
            plan: Planned::Run,
            expectations: Vec::new(),
            ..self.case.clone()
        }
    }
}

/// Everything the state depends on, by name.
fn key(wanted: &Wanted<'_>) -> Result<Key, EngineError> {
    let Wanted { case, prepared, inputs, spec, .. } = *wanted;
    let mut artefacts: Vec<(String, String)> =
        inputs.artefacts.iter().map(|a| (a.role.clone(), a.digest.clone())).collect();
    if let Some(digest) = &prepared.xen_digest {
        artefacts.push(("xen, unpacked".to_owned(), digest.clone()));
    }
    let mut setup = wanted.setup().to_vec();
    for step in &mut setup {
        // Drawn anew for each case: in a set-up it is the template's.
        if let Body::Run(run) = &mut step.body {
            run.env.remove("RUN_NONCE");
        }
    }
    let setup = serde_json::to_vec(&setup).map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    artefacts.push(("setup".to_owned(), crate::digest_hex(&setup)));
    artefacts.push(("layer of the case".to_owned(), crate::layer::digest(case, prepared)));
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
