//! A template that clones can be made of: as it was found in the store, or as it was just frozen.

use super::Taken;
use crate::boot::{self, Kept};
use crate::exec::Lab;
use crate::prepare::Prepared;
use crate::{EngineError, bundle};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use xenlab_console::Phase;
use xenlab_machine::{Backing, Boot, MachineSpec, Memory, Payload};
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::Evidence;
use xenlab_model::judge::BOOT;
use xenlab_model::step::Observation;
use xenlab_store::templates::{Building, STATE, Template};
use xenlab_store::{Key, Store};

/// A template that clones can be made of.
pub struct Ready {
    name: String,
    key: String,
    digest: OnceLock<String>,
    spec: MachineSpec,
    /// What its processors and devices held.
    pub state: Vec<u8>,
    /// What its dom0 and the lab know.
    pub kept: Kept,
    /// What its console had said.
    pub console: Vec<u8>,
    evidence: Vec<Evidence>,
    /// Its memory, where it was just frozen: sealed, and clones start from it until it is in the store.
    memory: Mutex<Option<Arc<Memory>>>,
    /// In the store, once it is there.
    held: OnceLock<Template>,
    store: Arc<Store>,
    /// Why it is not used again, once that is so.
    aside: OnceLock<String>,
}

/// What lies beside memory and state, for clones to go on with.
#[derive(Serialize, Deserialize)]
struct Beside {
    kept: Kept,
    /// Of boot and set-up.
    evidence: Vec<Evidence>,
    /// Size of its initramfs.
    initrd_bytes: u64,
    /// Size of the disk that firmware booted.
    #[serde(default)]
    boot_disk_bytes: u64,
}

/// A template's machine, its memory a copy of the template's, which stays where this says as long as this lives: until a clone is
/// restored.
pub struct Ground {
    /// The machine.
    pub spec: MachineSpec,
    _memory: Option<Arc<Memory>>,
}

const BESIDE: &str = "kept.json";
const CONSOLE: &str = "console.raw";
const MADE_BY: &str = concat!("xenlab ", env!("CARGO_PKG_VERSION"));

impl Ready {
    /// Reads one that is in the store.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(super) fn load(
        lab: &Lab,
        of: &Case,
        prepared: &Prepared,
        template: Template,
    ) -> Result<Ready, String> {
        let read = |name: &str| template.read(name).map_err(|e| e.to_string());
        let beside: Beside = serde_json::from_slice(&read(BESIDE)?).map_err(|e| format!("{BESIDE}: {e}"))?;
        let console = read(CONSOLE)?;
        let state = template.state().map_err(|e| e.to_string())?;
        // No clone reads it; where it lay follows from its size.
        let initrd = Payload { path: PathBuf::from("initrd"), size: beside.initrd_bytes };
        let mut spec =
            boot::spec(of, &prepared.parts, prepared.accel.accel, initrd).map_err(|e| e.to_string())?;
        let Beside { kept, evidence, boot_disk_bytes, .. } = beside;
        if let Boot::Firmware(disk) = &mut spec.boot {
            disk.bytes = boot_disk_bytes;
        }
        Ok(Ready {
            name: of.shown(),
            key: template.key().as_str().to_owned(),
            digest: OnceLock::new(),
            spec,
            state,
            kept,
            console,
            evidence,
            memory: Mutex::default(),
            held: OnceLock::from(template),
            store: lab.preparer.store.clone(),
            aside: OnceLock::new(),
        })
    }

    /// One that was just frozen, of its machine, which has ended.
    ///
    /// # Errors
    /// What keeps clones from being made of it, in words.
    pub(super) fn fresh(
        lab: &Lab,
        of: &Case,
        key: &Key,
        taken: Taken,
        memory: Arc<Memory>,
        bundle: &Path,
    ) -> Result<Ready, String> {
        memory.seal().map_err(|e| format!("something still has its memory after its machine ended: {e}"))?;
        let console = bundle::console(bundle).map_err(|e| e.to_string())?;
        let Taken { kept, spec, state, evidence } = taken;
        Ok(Ready {
            name: of.shown(),
            key: key.id().as_str().to_owned(),
            digest: OnceLock::new(),
            spec,
            state,
            kept,
            console,
            evidence,
            memory: Mutex::new(Some(memory)),
            held: OnceLock::new(),
            store: lab.preparer.store.clone(),
            aside: OnceLock::new(),
        })
    }

    /// Puts one that was just frozen into the store, and has it outlive a restart of the host. Blocks.
    ///
    /// # Errors
    /// Why later runs will not find it, in words.
    pub(super) fn keep(&self, building: Building) -> Result<(), String> {
        let Some(memory) = self.fresh_memory().clone() else { return Ok(()) };
        let published = || {
            building.memory(memory.file()).map_err(|e| e.to_string())?;
            self.write_beside(building.path()).map_err(|e| e.to_string())?;
            building.publish(MADE_BY).map_err(|e| e.to_string())
        };
        let template = published().map_err(|e| format!("{} is not kept for later runs: {e}", self.name))?;
        let template = self.held.get_or_init(|| template);
        // What starts from now on starts from there; many templates would fill this host's memory.
        *self.fresh_memory() = None;
        // It may have been found wanting while it was on its way.
        if let Some(reason) = self.aside.get() {
            self.store.put_template_aside(template, reason);
            return Ok(());
        }
        template.settle().map_err(|e| format!("{} may not outlive a restart of this host: {e}", self.name))
    }

    /// Puts beside the memory what clones need besides.
    fn write_beside(&self, dir: &Path) -> std::io::Result<()> {
        std::fs::write(dir.join(STATE), &self.state)?;
        std::fs::write(dir.join(CONSOLE), &self.console)?;
        let (kept, evidence) = (self.kept.clone(), self.evidence.clone());
        let boot_disk_bytes = match &self.spec.boot {
            Boot::Firmware(disk) => disk.bytes,
            Boot::Direct => 0,
        };
        let beside = Beside { kept, evidence, initrd_bytes: self.spec.initrd.size, boot_disk_bytes };
        // The store makes it readable by nobody else: a private key is in it.
        std::fs::write(dir.join(BESIDE), serde_json::to_vec_pretty(&beside)?)
    }

    fn fresh_memory(&self) -> MutexGuard<'_, Option<Arc<Memory>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a clone is made of.
    pub fn ground(&self) -> Ground {
        let mut spec = self.spec.clone();
        let memory = self.fresh_memory().clone();
        match (&memory, self.held.get()) {
            (Some(memory), _) => spec.backing = Backing::CopyOf(memory.path()),
            (None, Some(held)) => spec.backing = Backing::CopyOf(held.ram()),
            (None, None) => {}
        }
        Ground { spec, _memory: memory }
    }

    /// Its case: what people call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is found by.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// SHA-256 of its state: one that was made again has another, whatever its key.
    pub fn digest(&self) -> &str {
        self.digest.get_or_init(|| crate::digest_hex(&self.state))
    }

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

    /// Hashes its files; what is no longer what it was, in words. It is put aside then.
    pub fn changed(&self) -> Option<String> {
        // What is sealed is what it was, and the state was read once.
        if self.fresh_memory().is_some() {
            return None;
        }
        let error = self.held.get()?.verify().err()?;
        self.put_aside(&error.to_string());
        Some(error.to_string())
    }

    /// Removes it from the store: it was made to see what that costs, and nothing else will start from it.
    ///
    /// # Errors
    /// What the store cannot do.
    pub fn remove(&self) -> Result<(), EngineError> {
        let Some(held) = self.held.get() else { return Ok(()) };
        self.store.remove_template(held).map_err(|e| EngineError::part(e.cause(), e))
    }

    /// It is not used again, by this run or any other.
    pub fn put_aside(&self, reason: &str) {
        if self.aside.set(reason.to_owned()).is_ok()
            && let Some(held) = self.held.get()
        {
            self.store.put_template_aside(held, reason);
        }
    }

    /// Why it is not used again, if that is so.
    pub fn aside(&self) -> Option<&str> {
        self.aside.get().map(String::as_str)
    }

    /// Memory for a machine that begins as a clone of it and becomes a template in its turn. Blocks.
    ///
    /// # Errors
    /// When its memory cannot be read.
    pub fn fill(&self, memory: &Memory) -> Result<(), EngineError> {
        let ground = self.ground();
        let Backing::CopyOf(path) = &ground.spec.backing else { return Ok(()) };
        let wrong = |e: std::io::Error| {
            EngineError::part(Cause::TemplateUnusable, format!("{}: {e}", path.display()))
        };
        let from = std::fs::File::open(path).map_err(wrong)?;
        xenlab_store::templates::copy_memory(&from, memory.file()).map_err(wrong)
    }
}
