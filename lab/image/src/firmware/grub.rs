//! GRUB for BIOS machines, Debian's: an image of its kernel and the modules that it takes to boot Xen by multiboot2.

use super::{BootFiles, Firmware, Kind, shown};
use crate::prepare::Part;
use crate::{ImageError, recipe};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use xenlab_host::child::Command;
use xenlab_model::Arch;
use xenlab_model::scenario::config::BootWay;
use xenlab_store::debian::{Lock, extract};
use xenlab_store::{Key, Store, hash_bytes};

/// Names on the disk.
pub(super) const XEN: &str = "xen";
pub(super) const KERNEL: &str = "kernel";
pub(super) const INITRD: &str = "initrd";

/// What is in the image: the disk and its file system, what reads its configuration, and the loader. `gzio` for a Xen that is
/// compressed, as distributions install it.
const MODULES: [&str; 9] =
    ["biosdisk", "part_msdos", "fat", "normal", "multiboot2", "gzio", "serial", "terminal", "halt"];
/// Where it finds its configuration.
const PREFIX: &str = "(hd0,msdos1)/grub";

const BOOT: &str = "boot.img";
const CORE: &str = "core.img";

pub(super) fn firmware(store: &Store) -> Result<Firmware, ImageError> {
    let arch = Arch::X86_64;
    let of = |set: &str, arch| -> Result<_, ImageError> {
        let request = recipe::recipe(set)?.request(set, recipe::FIRMWARE_SUITE, arch);
        let lock = recipe::lock(store, &request)?;
        Ok((request, lock))
    };
    // The program that makes it runs here.
    let (tools_request, tools) = of("grub-mkimage", Arch::host().unwrap_or(arch))?;
    let (request, mut lock) = of("grub", arch)?;
    let how = hash_bytes(format!("{MODULES:?} {PREFIX}").as_bytes());
    let key = |lock: &Lock, tools: &Lock| {
        Key::new("grub")
            .part("format", 1)
            .part("modules", &how)
            .part("lock", lock.digest())
            .part("tools", tools.digest())
    };
    let entry = match store.get(&key(&lock, &tools))? {
        Some(entry) => entry,
        None => {
            let (grub, tools) =
                (recipe::packages(store, &request)?, recipe::packages(store, &tools_request)?);
            lock = grub.lock;
            store.get_or_make(&key(&lock, &tools.lock), "GRUB for BIOS", |dir| {
                let task = store.task("grub", "making GRUB's image", 0, "");
                let make = || {
                    let all = store.temporary("grub")?;
                    extract(store, &grub.debs, all.path())?;
                    extract(store, &tools.debs, all.path())?;
                    image(all.path(), dir)
                };
                task.end(make())
            })?
        }
    };
    let (boot, core) = (entry.file(BOOT), entry.file(CORE));
    let part = |role, path: &Path| Part { role, path: path.to_owned(), entry: entry.clone() };
    Ok(Firmware {
        way: BootWay::Bios,
        arch,
        shown: shown("GRUB", "grub-pc-bin", &lock),
        parts: vec![part("boot-sector", &boot), part("boot-loader", &core)],
        kind: Kind::Grub { boot, core },
    })
}

/// Makes the image of what was unpacked below `all`.
fn image(all: &Path, dir: &Path) -> Result<(), ImageError> {
    let lacks = |what: &str| ImageError::PackageLacks {
        suite: recipe::FIRMWARE_SUITE.to_owned(),
        what: what.to_owned(),
    };
    let grub = all.join("usr/lib/grub/i386-pc");
    let program = all.join("usr/bin/grub-mkimage");
    let (mut libraries, mut loader) = (Vec::<PathBuf>::new(), None);
    for item in walkdir::WalkDir::new(all).sort_by_file_name().into_iter().flatten() {
        let name = item.file_name().to_string_lossy().into_owned();
        if name.contains(".so.")
            && let Some(of) = item.path().parent()
        {
            if !libraries.iter().any(|l| l == of) {
                libraries.push(of.to_owned());
            }
            if name.starts_with("ld-linux-") && item.file_type().is_file() {
                loader = Some(item.path().to_owned());
            }
        }
    }
    let loader = loader.ok_or_else(|| lacks("the C library's loader (ld-linux-*)"))?;
    if !program.is_file() {
        return Err(lacks("grub-mkimage"));
    }
    let path: Vec<_> = libraries.iter().map(|l| l.display().to_string()).collect();
    Command::new(&loader)
        .arg("--library-path")
        .arg(path.join(":"))
        .arg(&program)
        .arg("-d")
        .arg(&grub)
        .args(["-O", "i386-pc", "-p", PREFIX, "-o"])
        .arg(dir.join(CORE))
        .args(MODULES)
        .checked()?;
    let from = grub.join(BOOT);
    std::fs::copy(&from, dir.join(BOOT)).map_err(|e| ImageError::io("copy", &from, e))?;
    Ok(())
}

/// `grub.cfg`. As distributions have it, a word stands where GRUB's first version put the file's name: Xen takes the first word off what a
/// loader hands it (Debian, /etc/grub.d/20_linux_xen).
pub(super) fn config(files: &BootFiles<'_>) -> String {
    let mut text =
        String::from("serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n");
    let _ = writeln!(text, "multiboot2 /{XEN} placeholder{}", words(files.xen_args));
    let _ = writeln!(text, "module2 /{KERNEL} placeholder{}", words(files.kernel_args));
    if files.initrd.is_some() {
        let _ = writeln!(text, "module2 --nounzip /{INITRD}");
    }
    text.push_str("boot\n");
    text
}

/// Each word of a command line, so that nothing in it means anything to GRUB.
fn words(line: &str) -> String {
    line.split_whitespace().map(|word| format!(" '{}'", word.replace('\'', r"'\''"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_command_line_mean_nothing_to_grub() {
        let text = config(&BootFiles {
            xen: Path::new("/x/xen.gz"),
            xen_args: "console=com1  com1=115200,8n1 a;b",
            kernel: Path::new("/x/vmlinux"),
            kernel_args: "it's=$x",
            initrd: None,
            names: None,
        });
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert_eq!(
            lines,
            [
                "multiboot2 /xen placeholder 'console=com1' 'com1=115200,8n1' 'a;b'",
                r"module2 /kernel placeholder 'it'\''s=$x'",
                "boot"
            ]
        );
    }
}
