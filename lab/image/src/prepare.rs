//! From what is asked for to what a machine is given.

use crate::guest::{self, DomainFiles, GuestFiles};
use crate::system::SystemDom0;
use crate::tools::ToolsTree;
use crate::{ImageError, Layout, device_model, initramfs, tools, userland};
use std::collections::BTreeSet;
use std::path::PathBuf;
use xenlab_model::Arch;
use xenlab_model::spec::{DeviceModelSpec, KernelSpec, UserlandSpec};
use xenlab_store::{Entry, Store, StoreError};

/// What dom0 is to be.
#[derive(Debug, Clone)]
pub struct Dom0Request {
    /// dom0's architecture.
    pub arch: Arch,
    /// The userland.
    pub userland: UserlandSpec,
    /// The kernel; none: that of the userland's suite.
    pub kernel: Option<KernelSpec>,
    /// The device model of HVM guests; it is for x86_64 only.
    pub device_model: DeviceModelSpec,
    /// What guests boot.
    pub guests: Vec<GuestFiles>,
    /// Xen's tools; none: dom0 has only what the userland brings.
    pub tools: Option<ToolsTree>,
    /// The suite, where userland or kernel name none: that of the Xen build.
    pub suite: String,
}

/// dom0, as files for a machine.
#[derive(Debug, Clone)]
pub struct Dom0 {
    /// `vmlinux` (x86_64; a bzImage where it cannot be decoded) or `Image` (AArch64).
    pub kernel: PathBuf,
    /// The initramfs without a case's layer; see [`write_initrd`](crate::write_initrd).
    pub initrd: PathBuf,
    /// Read-only squashfs images, to be attached in this order as `vda`, `vdb`, …; later ones lie over earlier ones.
    pub disks: Vec<PathBuf>,
    /// What it looks like from inside.
    pub layout: Layout,
    /// The kernel's release (`uname -r`), where it is known.
    pub release: Option<String>,
    /// Sonames that the tools or the device model need and nothing in dom0 has.
    pub lacks: Vec<String>,
    /// The device model of HVM guests: `build PATH` for the build's own, `debian:SUITE VERSION` for one that was laid beside
    /// it; none: there is none.
    pub device_model: Option<String>,
    /// What domains boot that Xen makes by itself.
    pub domains: Vec<DomainFiles>,
    /// What it is made of, for `inputs.json` and for hashing again before something is blamed.
    pub parts: Vec<Part>,
    /// What is particular of it where it is a system of its own.
    pub system: Option<SystemDom0>,
    /// The program that the initramfs hands over to.
    pub(crate) init: String,
}

/// A file that a machine uses.
#[derive(Debug, Clone)]
pub struct Part {
    /// `kernel`, `initrd`, `userland`, `device-model`, `guests`, `domain` (what a domain boots that Xen makes), `tools`,
    /// or `system`, which is a system's disk.
    pub role: &'static str,
    /// The file.
    pub path: PathBuf,
    /// The entry it belongs to.
    pub entry: Entry,
}

impl Dom0 {
    /// Hashes everything it is made of again.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names what changed.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.parts.iter().try_for_each(|p| p.entry.verify())
    }
}

/// Makes, or finds in the store, everything of dom0 but the case's layer. When nothing changed this takes some
/// milliseconds: entries are trusted by their stamps, nothing is hashed.
///
/// # Errors
/// [`ImageError::is_bad_input`] tells what the user named wrongly from what the lab could not do.
pub fn prepare(request: &Dom0Request, store: &Store) -> Result<Dom0, ImageError> {
    let suite = match &request.userland {
        UserlandSpec::Minimal { suite: Some(s) } | UserlandSpec::Systemd { suite: Some(s) } => s.clone(),
        _ => request.suite.clone(),
    };
    let spec = request.kernel.clone().unwrap_or_else(|| KernelSpec::Debian { suite: suite.clone() });
    let kernel = initramfs::kernel(store, &spec, &suite, request.arch)?;
    let userland = userland::userland(store, &request.userland, &suite, request.arch)?;
    let mut disks = vec![userland.image.clone()];
    let mut parts = vec![
        Part { role: "kernel", path: kernel.file("kernel"), entry: kernel.clone() },
        Part { role: "initrd", path: kernel.file("initramfs"), entry: kernel.clone() },
        Part { role: "userland", path: userland.image.clone(), entry: userland.entry.clone() },
    ];
    let mut layout = userland.layout;
    let libraries = std::fs::read_to_string(userland.entry.file(userland::LIBRARIES)).unwrap_or_default();
    let mut there: BTreeSet<String> = libraries.lines().map(str::to_owned).collect();
    // Under the tools: what a build brings of it wins.
    let layer = match &request.device_model {
        DeviceModelSpec::Debian { suite: of } if request.arch == Arch::X86_64 => {
            let of = of.as_ref().unwrap_or(&suite);
            Some(device_model::layer(store, of, request.arch, request.tools.as_ref())?)
        }
        _ => None,
    };
    if let Some(layer) = &layer {
        there.extend(layer.libraries().lines().map(str::to_owned));
        disks.push(layer.image.clone());
        parts.push(Part { role: "device-model", path: layer.image.clone(), entry: layer.entry.clone() });
    }
    if let Some(entry) = guest::layer(store, &request.guests, &suite, request.arch)? {
        let path = guest::image(&entry);
        disks.push(path.clone());
        parts.push(Part { role: "guests", path, entry });
    }
    let (domains, entries) = guest::domains(store, &request.guests, &suite, request.arch)?;
    for (path, entry) in entries {
        // Several domains may boot the same.
        if !parts.iter().any(|p| p.path == path) {
            parts.push(Part { role: "domain", path, entry });
        }
    }
    let own = request.tools.as_ref().filter(|t| t.own_device_model).and_then(|t| t.device_model.as_ref());
    let device_model = match own {
        Some(path) => Some(format!("build {path}")),
        None => layer.as_ref().map(|l| l.shown.clone()),
    };
    let mut lacks: Vec<String> = layer.map_or_else(Vec::new, |layer| layer.lacks(&there));
    if let Some(tree) = &request.tools {
        lacks.extend(tree.needs.iter().filter(|n| !there.contains(*n)).cloned());
        let entry = tools::image(store, tree, request.arch)?;
        layout.path = tree.bin_dirs.clone();
        if matches!(request.userland, UserlandSpec::Systemd { .. }) {
            layout.xen_services = tools::services(tree).0;
        }
        disks.push(entry.file("tools.squashfs"));
        parts.push(Part { role: "tools", path: entry.file("tools.squashfs"), entry });
    }
    let release = std::fs::read_to_string(kernel.file("release")).ok().map(|r| r.trim().to_owned());
    Ok(Dom0 {
        kernel: kernel.file("kernel"),
        initrd: kernel.file("initramfs"),
        disks,
        layout,
        lacks,
        device_model,
        domains,
        release: release.filter(|r| !r.is_empty()),
        parts,
        system: None,
        init: userland.init,
    })
}
