//! The layer of dom0 that is each boot's own: its nonce, its keys, its settings.

use crate::EngineError;
use crate::prepare::Prepared;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xenlab_guest::serial;
use xenlab_host::rundir::RunDir;
use xenlab_image::{CaseLayer, Dom0, HostKey, UserKey};
use xenlab_machine::{Disk, Payload};
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;

/// The keys of one boot, and of the clones of it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Keys {
    /// Who may log in.
    pub user: UserKey,
    /// dom0's own.
    pub host: HostKey,
}

impl Keys {
    /// New ones.
    ///
    /// # Errors
    /// There are no random numbers to be had.
    pub fn generate() -> Result<Keys, EngineError> {
        let key = || HostKey::generate().map_err(|e| EngineError::part(e.cause(), &e));
        Ok(Keys { user: key()?, host: key()? })
    }
}

/// What a case's dom0 is given besides its images.
fn layer(case: &Case, prepared: &Prepared, keys: &Keys, nonce: &str) -> CaseLayer {
    CaseLayer {
        nonce: nonce.to_owned(),
        authorized_keys: vec![keys.user.public.clone()],
        host_key: keys.host.clone(),
        store: case.config.dom0.xenstored,
        settings: prepared.settings.clone(),
        files: vec![(serial::AGENT_PATH.to_owned(), 0o644, serial::AGENT.as_bytes().to_vec())],
    }
}

/// What the case's layer says, but for what is drawn anew for each boot.
pub fn digest(case: &Case, prepared: &Prepared) -> String {
    let none = HostKey {
        openssh: String::new(),
        dropbear: Vec::new(),
        public: String::new(),
        public_blob: Vec::new(),
    };
    let keys = Keys { user: none.clone(), host: none };
    crate::digest_hex(&xenlab_image::case_layer(&layer(case, prepared, &keys, ""), &prepared.dom0))
}

/// In a run folder, the disk by which a system is told what others find in their initramfs.
const SEED: &str = "seed";
/// That disk's serial number, by which the system finds it (`nix/nixos.nix`).
const SERIAL: &str = "xenlab";

/// That disk; none where dom0 has the lab's own initramfs.
pub fn seed(dom0: &Dom0, dir: &RunDir) -> Option<Disk> {
    let serial = Some(SERIAL.to_owned());
    dom0.system.as_ref().map(|_| Disk { serial, ..Disk::read_only(dir.path().join(SEED)) })
}

/// dom0's initramfs with the case's own layer, in the run folder.
pub async fn initrd(
    case: &Case,
    prepared: &Arc<Prepared>,
    keys: &Keys,
    nonce: &str,
    dir: &RunDir,
) -> Result<Payload, EngineError> {
    let mut layer = layer(case, prepared, keys, nonce);
    if let Some(plant) = &prepared.plant {
        plant.layer(&mut layer)?;
    }
    if let Some(system) = prepared.dom0.system.clone() {
        // Its initramfs is its own; what it is told lies on a disk beside.
        let (arch, to) = (case.config.arch, dir.path().join(SEED));
        crate::blocking(move || {
            xenlab_image::write_seed(&system, &layer, arch, &to).map_err(|e| EngineError::part(e.cause(), &e))
        })
        .await?;
        return Payload::of(&prepared.dom0.initrd).map_err(|e| EngineError::part(Cause::LabInternal, e));
    }
    let path = dir.path().join("initrd");
    let (dom0, to) = (prepared.dom0.clone(), path.clone());
    crate::blocking(move || {
        xenlab_image::write_initrd(&dom0, &layer, &to).map_err(|e| EngineError::part(e.cause(), &e))
    })
    .await?;
    Payload::of(&path).map_err(|e| EngineError::part(Cause::LabInternal, e))
}
