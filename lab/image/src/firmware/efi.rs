//! EFI firmware, Debian's: OVMF and AAVMF. And what lies in the ESP: Xen's EFI image as the removable medium's loader, with its
//! configuration file beside it (Xen, docs/misc/efi.pandoc).

use super::disk::Files;
use super::{BootFiles, Firmware, Kind, copy_sparse, shown, unified};
use crate::prepare::Part;
use crate::{ImageError, recipe};
use std::path::Path;
use xenlab_model::Arch;
use xenlab_model::scenario::config::BootWay;
use xenlab_store::debian::{Lock, extract};
use xenlab_store::{Key, Store};

/// Of an architecture: the firmware's name, its package, its code and its variables in that, and what it looks for on a disk that nobody
/// told it of (UEFI specification, 3.5.1.1).
struct Names {
    name: &'static str,
    package: &'static str,
    code: &'static str,
    vars: &'static str,
    loader: &'static str,
}

fn names(arch: Arch) -> Names {
    match arch {
        Arch::X86_64 => Names {
            name: "OVMF",
            package: "ovmf",
            code: "usr/share/OVMF/OVMF_CODE_4M.fd",
            vars: "usr/share/OVMF/OVMF_VARS_4M.fd",
            loader: "BOOTX64",
        },
        Arch::Aarch64 => Names {
            name: "AAVMF",
            package: "qemu-efi-aarch64",
            code: "usr/share/AAVMF/AAVMF_CODE.fd",
            vars: "usr/share/AAVMF/AAVMF_VARS.fd",
            loader: "BOOTAA64",
        },
    }
}

const CODE: &str = "code.fd";
const VARS: &str = "vars.fd";

pub(super) fn firmware(store: &Store, way: BootWay, arch: Arch) -> Result<Firmware, ImageError> {
    let set = format!("efi-{arch}");
    let recipe = recipe::recipe(&set)?;
    let request = recipe.request(&set, recipe::FIRMWARE_SUITE, arch);
    let key = |lock: &Lock| Key::new("efi").part("format", 1).part("lock", lock.digest());
    let names = names(arch);
    let mut lock = recipe::lock(store, &request)?;
    let entry = match store.get(&key(&lock))? {
        Some(entry) => entry,
        None => {
            let resolved = recipe::packages(store, &request)?;
            lock = resolved.lock;
            store.get_or_make(&key(&lock), &format!("EFI firmware for {arch}"), |dir| {
                let task = store.task(&set, &format!("unpacking EFI firmware for {arch}"), 0, "");
                let unpack = || {
                    let all = store.temporary("efi")?;
                    extract(store, &resolved.debs, all.path())?;
                    for (from, to) in [(names.code, CODE), (names.vars, VARS)] {
                        let from = all.path().join(from);
                        if !from.is_file() {
                            return Err(ImageError::PackageLacks {
                                suite: recipe::FIRMWARE_SUITE.to_owned(),
                                what: from.display().to_string(),
                            });
                        }
                        copy_sparse(&from, &dir.join(to))?;
                    }
                    Ok(())
                };
                task.end(unpack())
            })?
        }
    };
    let (code, vars) = (entry.file(CODE), entry.file(VARS));
    let part = |role, path: &Path| Part { role, path: path.to_owned(), entry: entry.clone() };
    Ok(Firmware {
        way,
        arch,
        shown: shown(names.name, names.package, &lock),
        parts: vec![part("firmware", &code), part("firmware-variables", &vars)],
        kind: Kind::Efi { code, vars },
    })
}

/// What lies in the ESP.
pub(super) fn files<'a>(files: &BootFiles<'a>, way: BootWay, arch: Arch) -> Result<Files<'a>, ImageError> {
    let loader = names(arch).loader;
    let mut on = Files::default();
    let image = format!("EFI/BOOT/{loader}.EFI");
    if way == BootWay::UefiUnified {
        on.pieces(&image, unified::image(files)?);
        if files.names.is_none() {
            return Ok(on);
        }
    } else {
        on.file(&image, files.xen);
        on.bytes(&format!("EFI/BOOT/{loader}.CFG"), config(files).into_bytes());
    }
    let (kernel, ramdisk) = files.names();
    on.file(&format!("EFI/BOOT/{kernel}"), files.kernel);
    if let Some(initrd) = files.initrd {
        on.file(&format!("EFI/BOOT/{ramdisk}"), initrd);
    }
    Ok(on)
}

/// Xen's configuration file. In a unified image it is the section `.config`, and the files named in it are sections, too.
pub(super) fn config(files: &BootFiles<'_>) -> String {
    let (kernel, ramdisk) = files.names();
    let mut text = format!(
        "[global]\ndefault=xen\n\n[xen]\noptions={}\nkernel={kernel} {}\n",
        files.xen_args, files.kernel_args
    );
    if files.initrd.is_some() {
        text.push_str(&format!("ramdisk={ramdisk}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_what_lies_beside_it() {
        let mut of = BootFiles {
            xen: Path::new("/x/xen.efi"),
            xen_args: "console=com1 loglvl=all",
            kernel: Path::new("/x/vmlinux"),
            kernel_args: "console=hvc0",
            initrd: Some(Path::new("/x/initrd")),
            names: None,
        };
        let text = config(&of);
        assert!(
            text.ends_with("options=console=com1 loglvl=all\nkernel=kernel console=hvc0\nramdisk=initrd\n"),
            "{text}"
        );
        let names = |of: &BootFiles<'_>| {
            files(of, BootWay::Uefi, Arch::Aarch64).unwrap().names().map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(
            names(&of),
            ["EFI/BOOT/BOOTAA64.EFI", "EFI/BOOT/BOOTAA64.CFG", "EFI/BOOT/kernel", "EFI/BOOT/initrd"]
        );
        of.names = Some(("h-linux-6.12-bzImage.efi", "h-initrd-linux-6.12-initrd.efi"));
        // As nixpkgs' xen-boot-builder.sh writes it.
        assert!(config(&of).ends_with(
            "\n[xen]\noptions=console=com1 loglvl=all\nkernel=h-linux-6.12-bzImage.efi console=hvc0\nramdisk=h-initrd-linux-6.12-initrd.efi\n"
        ));
        assert_eq!(
            names(&of)[2..],
            ["EFI/BOOT/h-linux-6.12-bzImage.efi", "EFI/BOOT/h-initrd-linux-6.12-initrd.efi"]
        );
        of.names = None;
        of.initrd = None;
        assert!(!config(&of).contains("ramdisk"));
        assert_eq!(names(&of).len(), 3);
    }
}
