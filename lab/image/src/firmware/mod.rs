//! What firmware boots: EFI firmware and GRUB, each made once, and the disk with Xen and dom0 on it, made for each boot.
//!
//! Neither is under test, so both are of one suite whatever Xen and dom0 are of.

mod disk;
mod efi;
mod grub;
mod unified;

use crate::prepare::Part;
use crate::{ImageError, recipe};
use disk::{Fat, Files};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_model::scenario::config::BootWay;
use xenlab_store::Store;

pub use unified::{Refused, no_unified};

/// What loads Xen in one way of booting, made.
#[derive(Debug, Clone)]
pub struct Firmware {
    way: BootWay,
    arch: Arch,
    kind: Kind,
    /// What it is, for people: `OVMF 2025.02-8 (debian:trixie)`.
    pub shown: String,
    /// Its files, as [`Dom0::parts`](crate::Dom0::parts).
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone)]
enum Kind {
    Grub { boot: PathBuf, core: PathBuf },
    Efi { code: PathBuf, vars: PathBuf },
}

/// What is to lie on the disk.
#[derive(Debug, Clone)]
pub struct BootFiles<'a> {
    /// The hypervisor: what GRUB reads, or an EFI image.
    pub xen: &'a Path,
    /// Its command line.
    pub xen_args: &'a str,
    /// dom0's kernel.
    pub kernel: &'a Path,
    /// Its command line.
    pub kernel_args: &'a str,
    /// dom0's initramfs.
    pub initrd: Option<&'a Path>,
    /// What a boot loader of the system's own would call kernel and initramfs beside Xen's EFI image; none: names of the lab's. Its unified
    /// image has no more than the configuration in it (nixpkgs, xen-boot-builder.sh).
    pub names: Option<(&'a str, &'a str)>,
}

impl BootFiles<'_> {
    /// Names beside Xen's EFI image.
    pub(crate) fn names(&self) -> (&str, &str) {
        self.names.unwrap_or(("kernel", "initrd"))
    }
}

/// What a machine needs to boot in this way; made when the store does not have it. None where QEMU loads everything itself.
///
/// # Errors
/// Packages cannot be had, or GRUB's image cannot be made of them.
pub fn firmware(store: &Store, way: BootWay, arch: Arch) -> Result<Option<Firmware>, ImageError> {
    Ok(match way {
        BootWay::Direct => None,
        BootWay::Bios => Some(grub::firmware(store)?),
        BootWay::Uefi | BootWay::UefiUnified => Some(efi::firmware(store, way, arch)?),
    })
}

impl Firmware {
    /// EFI firmware's code, and how many bytes its variables are.
    ///
    /// # Errors
    /// They cannot be looked at.
    pub fn efi(&self) -> Result<Option<(PathBuf, u64)>, ImageError> {
        match &self.kind {
            Kind::Grub { .. } => Ok(None),
            Kind::Efi { code, vars } => {
                let vars = std::fs::metadata(vars).map_err(|e| ImageError::io("read", vars, e))?;
                Ok(Some((code.clone(), vars.len())))
            }
        }
    }

    /// Writes the disk to `disk` and this machine's variables, if it has any, to `vars`. Returns the disk's size.
    ///
    /// # Errors
    /// The files cannot be read or written; of a unified image also [`ImageError::Unified`].
    pub fn write(&self, files: &BootFiles<'_>, disk: &Path, vars: &Path) -> Result<u64, ImageError> {
        match &self.kind {
            Kind::Grub { boot, core } => {
                let read = |path: &Path| std::fs::read(path).map_err(|e| ImageError::io("read", path, e));
                let (loader, core) = (read(boot)?, read(core)?);
                let mut on = Files::default();
                on.bytes("grub/grub.cfg", grub::config(files).into_bytes());
                on.file(grub::XEN, files.xen);
                on.file(grub::KERNEL, files.kernel);
                if let Some(initrd) = files.initrd {
                    on.file(grub::INITRD, initrd);
                }
                on.write(disk, Fat::Bios { boot: &loader, core: &core })
            }
            Kind::Efi { vars: of, .. } => {
                copy_sparse(of, vars)?;
                efi::files(files, self.way, self.arch)?.write(disk, Fat::Efi)
            }
        }
    }
}

/// Copies a file without writing its zeroes, of which flash images are full. Returns its size.
fn copy_sparse(from: &Path, to: &Path) -> Result<u64, ImageError> {
    let mut chunk = vec![0; 1 << 16];
    let mut copy = || {
        let (mut input, mut output) = (File::open(from)?, File::create(to)?);
        let size = input.metadata()?.len();
        loop {
            let read = input.read(&mut chunk)?;
            match &chunk[..read] {
                [] => break,
                zeroes if zeroes.iter().all(|&b| b == 0) => {
                    output.seek(SeekFrom::Current(i64::try_from(read).unwrap_or_default()))?;
                }
                data => output.write_all(data)?,
            }
        }
        output.set_len(size)?;
        Ok(size)
    };
    copy().map_err(|e| ImageError::io("copy", from, e))
}

/// The version of a package in a lock, with where it is from.
fn shown(name: &str, package: &str, lock: &xenlab_store::debian::Lock) -> String {
    let version = lock.package(package).map_or("of no known version", |p| p.version.as_str());
    format!("{name} {version} (debian:{})", recipe::FIRMWARE_SUITE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroes_are_copied_as_holes() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let mut all = vec![0; 3 << 16];
        all[70_000] = 1;
        all.extend([7; 10]);
        std::fs::write(&from, &all).unwrap();
        assert_eq!(copy_sparse(&from, &to).unwrap(), all.len() as u64);
        assert_eq!(std::fs::read(&to).unwrap(), all);
        std::fs::write(&from, vec![0; 1 << 17]).unwrap();
        assert_eq!(copy_sparse(&from, &to).unwrap(), 1 << 17);
        assert_eq!(std::fs::read(&to).unwrap(), vec![0; 1 << 17], "what was there is gone");
    }
}
