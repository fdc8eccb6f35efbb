//! Getting ready what machines are made of: the Xen build, dom0, QEMU, the accelerator; each once for all cases that share it.

use crate::EngineError;
use crate::budget::Admission;
use crate::plant::Plant;
use crate::shared::Shared;
use crate::suite::{libc_too_old, suite, too_new};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_image::{Dom0, Dom0Request, Firmware, GuestFiles, ToolsTree};
use xenlab_machine::accel::Chosen;
use xenlab_machine::{Accel, Payload, QemuInfo, accel, quirks};
use xenlab_model::Arch;
use xenlab_model::bundle::{Artefact, FORMAT, Inputs};
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::event::{Sink, What};
use xenlab_model::fact::{FactValue, Facts};
use xenlab_model::guest::{GuestConfig, GuestStart};
use xenlab_model::scenario::config::{AccelChoice, BootWay};
use xenlab_model::spec::Subject;
use xenlab_store::Store;
use xenlab_xen::{Hypervisor, XenBuild};

/// Makes what cases need.
pub struct Preparer {
    /// The store.
    pub store: Arc<Store>,
    /// Where progress and notes go.
    pub sink: Arc<dyn Sink>,
    /// What is broken on purpose.
    pub plant: Option<Arc<dyn Plant>>,
    /// What lets machines in; all of them where nothing else is set.
    pub admission: Admission,
    builds: Shared<(Subject, Arch), XenBuild, EngineError>,
    dom0s: Shared<String, Dom0, EngineError>,
    firmwares: Shared<(BootWay, Arch), Option<Firmware>, EngineError>,
    qemus: Shared<(Arch, Option<String>), QemuInfo, EngineError>,
    accels: Shared<String, Chosen, EngineError>,
}

/// What a machine is made of, whatever runs its processors.
#[derive(Clone)]
pub struct Parts {
    /// The Xen build.
    pub build: Arc<XenBuild>,
    /// The image that boots: what QEMU's `-kernel` takes, or what firmware or a boot loader reads.
    pub xen: PathBuf,
    /// SHA-256 of that, where it was made of another file.
    pub xen_digest: Option<String>,
    /// The file that was made of, and its digest.
    pub xen_original: (PathBuf, String),
    /// What loads it; none: QEMU does.
    pub firmware: Option<Arc<Firmware>>,
    /// dom0.
    pub dom0: Arc<Dom0>,
    /// QEMU.
    pub qemu: Arc<QemuInfo>,
}

/// Everything a case's machine is made of.
#[derive(Clone)]
pub struct Prepared {
    /// The files and programs.
    pub parts: Parts,
    /// What is wrong with the hypervisor, so that it is not booted.
    pub damage: Option<(Cause, String)>,
    /// What runs the processors, and why.
    pub accel: Arc<Chosen>,
    /// Settings for dom0's init, in the case's layer.
    pub settings: BTreeMap<String, String>,
    /// Everything that is known by now.
    pub facts: Facts,
    /// What is broken on purpose when it boots.
    pub plant: Option<Arc<dyn Plant>>,
}

impl std::ops::Deref for Prepared {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Preparer {
    /// With this store.
    pub fn new(store: Arc<Store>, sink: Arc<dyn Sink>) -> Preparer {
        Preparer {
            store,
            sink,
            plant: None,
            admission: Admission::new(xenlab_host::budget::Budget::none()),
            builds: Shared::default(),
            dom0s: Shared::default(),
            firmwares: Shared::default(),
            qemus: Shared::default(),
            accels: Shared::default(),
        }
    }

    /// The Xen build of a subject.
    pub async fn build(&self, subject: &Subject, arch: Arch) -> Result<Arc<XenBuild>, EngineError> {
        let (store, wanted) = (self.store.clone(), subject.clone());
        self.builds
            .get((subject.clone(), arch), || async move {
                crate::blocking(move || {
                    xenlab_xen::provide(&wanted, arch, &store)
                        .map_err(|e| of_input(e.is_bad_input(), e.cause(), &e))
                })
                .await
            })
            .await
            .map_err(|e| again(&e))
    }

    /// QEMU for an architecture.
    pub async fn qemu(&self, arch: Arch, path: Option<&str>) -> Result<Arc<QemuInfo>, EngineError> {
        let path = path.map(str::to_owned);
        self.qemus
            .get((arch, path.clone()), || async move {
                crate::blocking(move || {
                    xenlab_machine::qemu::find(arch, path.as_deref().map(Path::new))
                        .map_err(|e| EngineError::part(e.cause(), &e))
                })
                .await
            })
            .await
            .map_err(|e| again(&e))
    }

    /// Everything for a case.
    pub async fn prepare(&self, case: &Case) -> Result<Arc<Prepared>, EngineError> {
        let config = &case.config;
        let arch = config.arch;
        let plant = self.plant.clone().filter(|p| p.is_for(case));
        let mut qemu = self.qemu(arch, config.machine.qemu.as_deref()).await?;
        let mut build = self.build(&case.subject, arch).await?;
        if let Some(plant) = plant.clone() {
            if let Some(broken) = plant.qemu(&qemu)? {
                qemu = self.qemu(arch, broken.to_str()).await?;
            }
            let whole = build.clone();
            build = Arc::new(crate::blocking(move || plant.build((*whole).clone())).await?);
        }
        let request = Dom0Request {
            arch,
            userland: config.dom0.userland.clone(),
            kernel: config.dom0.kernel.clone(),
            device_model: config.dom0.device_model.clone(),
            guests: guests(case),
            tools: build.tools.as_ref().map(ToolsTree::from),
            suite: suite(&case.subject, &build),
        };
        // A system brings what it needs, whatever the scenario says of a userland.
        let apart = || too_new(&request).or_else(|| libc_too_old(&request, &build));
        if let Some(message) = build.system.is_none().then(apart).flatten() {
            return Err(EngineError::BadInput { cause: Cause::Dom0TooOld, message });
        }
        if let Some(system) = &build.system {
            crate::system::can_do(case, system)?;
            if let Some(message) = crate::system::not_used(&config.dom0) {
                self.sink.emit(What::Note { case: Some(case.shown()), message });
            }
        }
        let system = build.system.clone();
        let key = format!("{request:?} {:?}", system.as_ref().map(|s| &s.toplevel));
        let store = self.store.clone();
        let dom0 = self
            .dom0s
            .get(key, || async move {
                crate::blocking(move || {
                    let made = match &system {
                        Some(system) => xenlab_image::system(&store, system, request.arch),
                        None => xenlab_image::prepare(&request, &store),
                    };
                    made.map_err(|e| of_input(e.is_bad_input(), e.cause(), &e))
                })
                .await
            })
            .await
            .map_err(|e| again(&e))?;
        if !dom0.lacks.is_empty() {
            // Not an error: what needs them may never be run. What is run and does not start is then explained.
            let message = format!(
                "this userland has no {}, which tools of this build or the device model need; what needs them will not start",
                dom0.lacks.join(", ")
            );
            self.sink.emit(What::Note { case: Some(case.shown()), message });
        }
        let hypervisor = &build.hypervisor;
        let way = config.boot.way;
        let image = image(hypervisor, way);
        let damage = image
            .damage
            // Programs that dom0 cannot run would show as a store that never answers.
            .or_else(|| build.tools.as_ref()?.damage.as_ref().map(|d| (d.cause, d.text.clone())));
        let unified = match way {
            BootWay::UefiUnified if hypervisor.efi.is_some() => {
                xenlab_image::no_unified(&image.path).map_err(|e| of_input(false, e.cause(), &e))?
            }
            _ => None,
        };
        let firmware = self.firmware(way, arch).await?;
        let Image { path: xen, made, original: xen_original, .. } = image;
        let parts = Parts { build, xen, xen_digest: made, xen_original, firmware, dom0, qemu };
        let accel = self.accel(case, &parts, damage.is_some()).await?;
        let mut facts = parts.build.facts();
        facts.set("qemu.version", FactValue::Version(parts.qemu.version.to_string()));
        facts.set("qemu.path", FactValue::text(parts.qemu.path.display().to_string()));
        facts.set("machine.accel", FactValue::text(accel.accel.name()));
        let faults = quirks::faults(case.config.arch, accel.accel, parts.qemu.version);
        facts
            .set("machine.emulator-faults", FactValue::Set(faults.map(|row| row.value.to_owned()).collect()));
        if arch == Arch::X86_64 && facts.get("build.config").is_some() {
            let pvh = xenlab_model::guest::no_pvh(&facts).is_none();
            facts.set("machine.pvh-guests", FactValue::Flag(pvh));
        }
        if let Some(firmware) = &parts.firmware {
            facts.set("boot.firmware", FactValue::text(&firmware.shown));
        }
        if let Some(why) = unified {
            facts.set("build.no-unified-image", FactValue::text(why));
        }
        if let Some(device_model) = &parts.dom0.device_model {
            facts.set("machine.device-model", FactValue::text(device_model));
        }
        let mut prepared = Prepared { parts, damage, accel, settings: BTreeMap::new(), facts, plant: None };
        if let Some(plant) = plant {
            let broken = plant.clone();
            prepared = crate::blocking(move || broken.prepared(prepared)).await?;
            prepared.plant = Some(plant);
        }
        Ok(Arc::new(prepared))
    }

    /// What loads Xen in this way, made once; none where QEMU does.
    async fn firmware(&self, way: BootWay, arch: Arch) -> Result<Option<Arc<Firmware>>, EngineError> {
        let store = self.store.clone();
        let made = self
            .firmwares
            .get((way, arch), || async move {
                crate::blocking(move || {
                    // An AArch64 board has no BIOS, and the case is skipped for that.
                    let way =
                        if way == BootWay::Bios && arch != Arch::X86_64 { BootWay::Direct } else { way };
                    xenlab_image::firmware(&store, way, arch)
                        .map_err(|e| of_input(e.is_bad_input(), e.cause(), &e))
                })
                .await
            })
            .await
            .map_err(|e| again(&e))?;
        Ok((*made).clone().map(Arc::new))
    }

    async fn accel(&self, case: &Case, parts: &Parts, damaged: bool) -> Result<Arc<Chosen>, EngineError> {
        let asked = case.config.machine.accel;
        // It is tried with what QEMU loads itself, however the case boots.
        let direct = image(&parts.build.hypervisor, BootWay::Direct);
        let parts = &Parts { xen: direct.path, firmware: None, ..parts.clone() };
        // A Xen that is not going to be booted cannot show what it runs on.
        let choice = if damaged || direct.damage.is_some() { AccelChoice::Tcg } else { asked };
        let digest = parts.build.hypervisor.digest.clone();
        let machine = &case.config.machine;
        let key = format!(
            "{choice:?} {} {digest} {:?} {:?}",
            parts.qemu.path.display(),
            machine.cpu,
            machine.devices
        );
        let initrd = Payload::of(&parts.dom0.initrd).map_err(|e| {
            EngineError::part(Cause::LabInternal, format!("{}: {e}", parts.dom0.initrd.display()))
        })?;
        let spec = crate::boot::spec(case, parts, Accel::Tcg, initrd)?;
        let memory = self.store.root().join("accelerators.json");
        let sink = self.sink.clone();
        let shown = case.shown();
        self.accels
            .get(key, || async move {
                // Waited for only if the Xen has to be booted to find out.
                let turn = self.admission.machine(&*sink, &shown, &case.config);
                let chosen = accel::choose(choice, &spec, &digest, Some(&memory), Box::pin(turn))
                    .await
                    .map_err(|e| EngineError::part(e.cause(), &e))?;
                if asked == AccelChoice::Auto && Arch::host() == Some(spec.arch) {
                    let message = format!("accelerator {}: {}", chosen.accel, chosen.reason);
                    sink.emit(What::Note { case: Some(shown), message });
                }
                Ok(chosen)
            })
            .await
            .map_err(|e| again(&e))
    }
}

/// The image of a hypervisor that boots in one way.
pub(crate) struct Image {
    /// The file.
    pub path: PathBuf,
    /// Its digest, where it was made of another file.
    pub made: Option<String>,
    /// The build's own file, and its digest.
    pub original: (PathBuf, String),
    /// What is wrong with it, so that it is not booted.
    pub damage: Option<(Cause, String)>,
}

/// That image. Where the build has none for this way, whoever boots in it skips its case before the image is looked at.
pub(crate) fn image(hypervisor: &Hypervisor, way: BootWay) -> Image {
    let of = |d: &xenlab_xen::image::Damage| (d.cause, d.text.clone());
    let original = (hypervisor.original.clone(), hypervisor.digest.clone());
    match (&hypervisor.efi, way) {
        (Some(efi), BootWay::Uefi | BootWay::UefiUnified) => Image {
            path: efi.path.clone(),
            made: None,
            original: (efi.path.clone(), efi.digest.clone()),
            damage: efi.damage.as_ref().map(of),
        },
        _ => {
            let no_image = || hypervisor.no_image.as_ref().map(|why| (Cause::ImageInvalid, why.clone()));
            let damage = hypervisor.damage.as_ref().map(of).or_else(no_image);
            match (&hypervisor.image, way) {
                // What a loader reads is the file as it is installed.
                (Some(image), BootWay::Direct) => {
                    Image { path: image.clone(), made: hypervisor.image_digest.clone(), original, damage }
                }
                _ => Image { path: original.0.clone(), made: None, original, damage },
            }
        }
    }
}

/// A failure that several cases share, told to each.
fn again(error: &Arc<EngineError>) -> EngineError {
    of_input(matches!(**error, EngineError::BadInput { .. }), error.cause(), error)
}

fn of_input(bad: bool, cause: Cause, error: impl std::fmt::Display) -> EngineError {
    let message = error.to_string();
    if bad { EngineError::BadInput { cause, message } } else { EngineError::Part { cause, message } }
}

impl Prepared {
    /// `inputs.json`, but for the command line, which is known when the machine starts.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn inputs(&self, store: &Store, facts: &Facts) -> Result<Inputs, EngineError> {
        let mut artefacts = vec![artefact("xen", &self.xen_original.0, self.xen_original.1.clone())];
        let of_firmware = self.firmware.iter().flat_map(|f| &f.parts);
        for part in self.dom0.parts.iter().chain(of_firmware) {
            let digest = store.digest_file(&part.path).map_err(|e| EngineError::part(e.cause(), &e))?;
            artefacts.push(artefact(part.role, &part.path, digest));
        }
        Ok(Inputs {
            format: FORMAT,
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            warm: None,
            argv: Vec::new(),
            qemu: self.qemu.shown(),
            accel: (self.accel.accel.name().to_owned(), self.accel.reason.clone()),
            artefacts,
            facts: facts.clone(),
        })
    }

    /// The same with another hypervisor, which is not damaged.
    pub fn with_xen(&self, xen: PathBuf, digest: String) -> Prepared {
        let mut other = self.clone();
        other.parts.xen_original = (xen.clone(), digest.clone());
        other.parts.xen_digest = Some(digest);
        other.parts.xen = xen;
        other.damage = None;
        other
    }

    /// Hashes every input again; what is no longer what it was, in words. What the store made is put aside then.
    pub fn changed_inputs(&self, store: &Store) -> Vec<String> {
        let mut changed = Vec::new();
        let (original, digest) = &self.xen_original;
        // What it was unpacked to is what the machine was given.
        let unpacked =
            self.xen_digest.as_ref().map(|digest| (&self.xen, digest)).filter(|(path, _)| *path != original);
        for (path, digest) in std::iter::once((original, digest)).chain(unpacked) {
            match xenlab_store::hash_file(path) {
                Ok(now) if now == *digest => {}
                Ok(now) => changed.push(format!("xen {}: was {digest}, is {now}", path.display())),
                Err(e) => changed.push(format!("xen {}: was {digest}, cannot be read: {e}", path.display())),
            }
        }
        let of_firmware = self.firmware.iter().flat_map(|f| &f.parts);
        let mut seen = BTreeSet::new();
        for part in self.dom0.parts.iter().chain(of_firmware) {
            // An entry of several parts is hashed as a whole.
            if !seen.insert(&part.entry.dir) {
                continue;
            }
            if let Err(e) = store.verify(&part.entry) {
                changed.push(format!("{}: {e}", part.role));
            }
        }
        changed
    }
}

fn artefact(role: &str, path: &Path, digest: String) -> Artefact {
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    Artefact { role: role.to_owned(), path: path.display().to_string(), digest, size }
}

/// What the guests of a case boot, whichever of them its steps create: a template has no steps, and the same disks.
fn guests(case: &Case) -> Vec<GuestFiles> {
    let of = |(name, guest): (&String, &GuestConfig)| GuestFiles {
        name: name.clone(),
        kernel: guest.kernel.clone(),
        initrd: guest.initrd.clone(),
        by_xen: guest.start == GuestStart::Xen,
    };
    case.config.guests.iter().map(of).collect()
}
