//! From what is asked for to what a machine is given.

use crate::tools::ToolsTree;
use crate::{ImageError, Layout, initramfs, tools, userland};
use std::path::PathBuf;
use xenlab_model::Arch;
use xenlab_model::spec::{KernelSpec, UserlandSpec};
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
    /// Sonames that the tools need and the userland does not have.
    pub lacks: Vec<String>,
    /// What it is made of, for `inputs.json` and for hashing again before something is blamed.
    pub parts: Vec<Part>,
    /// The program that the initramfs hands over to.
    pub(crate) init: String,
}

/// A file that a machine uses.
#[derive(Debug, Clone)]
pub struct Part {
    /// `kernel`, `initrd`, `userland` or `tools`.
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
    let mut lacks = Vec::new();
    if let Some(tree) = &request.tools {
        let there = std::fs::read_to_string(userland.entry.file(userland::LIBRARIES)).unwrap_or_default();
        lacks = tree.needs.iter().filter(|n| !there.lines().any(|l| l == n.as_str())).cloned().collect();
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
        release: release.filter(|r| !r.is_empty()),
        parts,
        init: userland.init,
    })
}
