//! A NixOS system as dom0: its own kernel and initrd, and a disk with its closure, labelled as it expects. Nothing of it is changed; what the lab
//! tells it, it tells on a small disk of its own (`seed`), which the lab's NixOS module reads (`nix/nixos.nix`).

mod disk;
mod seed;

use crate::kernel::{self, Bad};
use crate::prepare::{Dom0, Part};
use crate::{Console, Dance, ImageError, Init, Layout, initramfs, recipe};
use disk::{Closure, Contents};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_store::{Key, Store, hash_bytes};
use xenlab_xen::System;

pub use seed::write_seed;

/// The suite whose busybox serves the lab's port; it is static, so it runs in any dom0.
const BUSYBOX_SUITE: &str = "bookworm";

/// Xen's units, as nixpkgs' module enables them (nixos/modules/virtualisation/xen-dom0.nix).
const UNITS: [&str; 7] = [
    "proc-xen.mount",
    "xenstored",
    "xenconsoled",
    "xen-init-dom0",
    "xen-qemu-dom0-disk-backend",
    "xendomains",
    "xen-watchdog",
];

/// What is particular of a dom0 that is a system of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemDom0 {
    /// Xen's command line, which follows the lab's own words.
    pub xen_args: Vec<String>,
    /// The kernel's, likewise.
    pub kernel_args: Vec<String>,
    /// What its boot loader calls the kernel beside Xen's EFI image.
    pub kernel_name: String,
    /// What it calls the initrd there.
    pub initrd_name: String,
    /// It reads the lab's disk and says that it is ready.
    pub module: bool,
    /// Where it is, for people.
    pub toplevel: PathBuf,
    pub(crate) busybox: PathBuf,
}

const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";
const DISK: &str = "root";

/// Makes, or finds in the store, what a machine needs to boot a system.
///
/// # Errors
/// [`ImageError::is_bad_input`] tells what is wrong with the system from what the lab could not do.
pub fn system(store: &Store, system: &System, arch: Arch) -> Result<Dom0, ImageError> {
    let busybox = initramfs::busybox(store, &recipe::recipe("initramfs")?, BUSYBOX_SUITE, arch)?;
    // A store path's name says what is in it.
    let closure: Vec<String> = system.closure.iter().map(|p| p.display().to_string()).collect();
    let identity = hash_bytes(format!("{} {closure:?}", system.toplevel.display()).as_bytes());
    let key = Key::new("system")
        .part("format", 1)
        .part("toplevel", system.toplevel.display())
        .part("closure", &identity)
        .part("at", system.root.display())
        .part("disk", format!("{:?}", system.disk));
    let label = format!("disk of {}", system.toplevel.display());
    let entry = store.get_or_make(&key, &label, |dir| {
        let message = format!("making a disk of {}", system.toplevel.display());
        let task = store.task("system", &message, 0, "files");
        let made = make(store, system, arch, &identity, dir, &task);
        task.end(made)
    })?;
    let part = |role, name: &str| Part { role, path: entry.file(name), entry: entry.clone() };
    Ok(Dom0 {
        kernel: entry.file(KERNEL),
        initrd: entry.file(INITRD),
        disks: vec![entry.file(DISK)],
        layout: layout(system.module),
        release: None,
        lacks: Vec::new(),
        device_model: None,
        domains: Vec::new(),
        parts: vec![part("kernel", KERNEL), part("initrd", INITRD), part("system", DISK)],
        init: system.init.display().to_string(),
        system: Some(SystemDom0 {
            xen_args: system.xen_params.clone(),
            kernel_args: std::iter::once(format!("init={}", system.init.display()))
                .chain(system.kernel_params.iter().cloned())
                .collect(),
            kernel_name: loader_name(system, &system.kernel, "bzImage"),
            initrd_name: loader_name(system, &system.initrd, "initrd"),
            module: system.module,
            toplevel: system.toplevel.clone(),
            busybox,
        }),
    })
}

/// What nixpkgs' builder of Xen's boot entries calls a file in the ESP: its path in the store, flattened (xen-boot-builder.sh, whose `sub` does this).
fn loader_name(system: &System, path: &Path, last: &str) -> String {
    let inside = path.strip_prefix(&system.store).unwrap_or(path).display().to_string();
    let inside = inside.replacen(&format!("/{last}"), &format!("-{last}.efi"), 1);
    inside.trim_start_matches('/').replace('/', "-")
}

fn make(
    store: &Store,
    system: &System,
    arch: Arch,
    identity: &str,
    dir: &Path,
    task: &xenlab_store::Task,
) -> Result<(), ImageError> {
    for (from, to) in [(&system.kernel, KERNEL), (&system.initrd, INITRD)] {
        let from = system.physical(from);
        let bytes = std::fs::read(&from).map_err(|e| ImageError::io("read", &from, e))?;
        // Booted as it is; looked into only to see that it is one.
        if to == KERNEL {
            check_kernel(bytes.clone(), arch, &from)?;
        }
        let to = dir.join(to);
        std::fs::write(&to, &bytes).map_err(|e| ImageError::io("write", &to, e))?;
    }
    let contents = Contents::read(&Closure {
        root: &system.root,
        store: &system.store,
        toplevel: &system.toplevel,
        paths: &system.closure,
    })?;
    task.say(&format!(
        "writing a disk of {} ({} files, {} MB)",
        system.toplevel.display(),
        contents.count,
        contents.bytes / 1_000_000
    ));
    let scratch = store.temporary("system")?;
    disk::write(&contents, &system.disk, identity, &dir.join(DISK), scratch.path())
}

fn check_kernel(bytes: Vec<u8>, arch: Arch, path: &Path) -> Result<(), ImageError> {
    match kernel::decode(bytes, arch) {
        Ok(_) => Ok(()),
        Err(Bad::Arch(found)) => Err(ImageError::KernelArch {
            path: path.to_owned(),
            found: found.into(),
            wanted: arch.to_string(),
        }),
        Err(Bad::Damaged(reason)) => Err(ImageError::KernelDamaged { path: path.to_owned(), reason }),
    }
}

fn layout(module: bool) -> Layout {
    Layout {
        userland: "nixos".into(),
        init: Init::Systemd,
        marks_ready: module,
        xen_services: UNITS.map(String::from).into(),
        user: "root".into(),
        ssh_port: 22,
        // The module has agetty log root in, with a prompt that is known.
        login: vec![Dance::Write("\r".into()), Dance::Wait(r"root@xenlab:[^\r\n]*# $".into())],
        console: Console::Terminal,
        path: ["/run/wrappers/bin", "/run/current-system/sw/bin"].map(String::from).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_esp_are_those_of_nixos() {
        let system = System {
            toplevel: "/nix/store/t-nixos".into(),
            root: "/".into(),
            store: "/nix/store".into(),
            label: String::new(),
            kernel: "/nix/store/k-linux-6.12.58/bzImage".into(),
            initrd: "/nix/store/i-initrd-linux-6.12.58/initrd".into(),
            init: "/nix/store/t-nixos/init".into(),
            kernel_params: Vec::new(),
            xen_params: Vec::new(),
            closure: Vec::new(),
            disk: xenlab_xen::RootDisk { label: None, uuid: None, fs: "ext4".into() },
            module: true,
        };
        assert_eq!(loader_name(&system, &system.kernel, "bzImage"), "k-linux-6.12.58-bzImage.efi");
        // `sub` replaces the first it finds, as the script does.
        assert_eq!(loader_name(&system, &system.initrd, "initrd"), "i-initrd-linux-6.12.58-initrd.efi");
    }
}
