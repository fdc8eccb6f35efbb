//! The tools of a tree: where xl, the store daemons and the libraries are, and what dom0 has to have for them.

use crate::build::{DeviceModel, Tools};
use crate::elf::{self, ElfInfo};
use crate::scan::wrong_architecture;
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;

/// Programs that the lab asks for by name.
const PROGRAMS: &[&str] = &[
    "xl",
    "xenstored",
    "oxenstored",
    "xenconsoled",
    "xen-init-dom0",
    "test-xenstore",
    "test-resource",
    "test-cpu-policy",
    "test-tsx",
    "test-paging-mempool",
    "xenstore-read",
    "xenstore-write",
    "xenstore-ls",
    "xenstore-control",
    "xen-livepatch",
    "xenhypfs",
    "xen-diag",
    "xen-ucode",
    "xenpm",
    "xentop",
    "init-dom0less",
    "vchan-socket-proxy",
];

/// The tools of a tree, if it has any.
pub(crate) fn find(root: &Path, tree: &Tree, mount: &Path, arch: Arch, from: &str) -> Option<Tools> {
    let mut programs = BTreeMap::new();
    let mut wrappers = BTreeMap::new();
    let mut infos: Vec<(PathBuf, ElfInfo)> = Vec::new();
    for name in PROGRAMS {
        let mut real = None;
        for (path, _) in tree.named(name) {
            let in_bin = path
                .parent()
                .and_then(Path::file_name)
                .is_some_and(|d| d == "bin" || d == "sbin" || d == "tests");
            let Some(target) =
                tree.resolve(path, mount).filter(|t| in_bin && tree.nodes[t].mode & 0o111 != 0)
            else {
                continue;
            };
            match elf::read_file(&root.join(&target)) {
                Some(info) if real.is_none() => {
                    real = Some(path.clone());
                    infos.push((target, info));
                }
                Some(_) => {}
                None => {
                    wrappers.insert((*name).to_owned(), mount.join(path));
                }
            }
        }
        if let Some(real) = real {
            programs.insert((*name).to_owned(), real);
        }
    }
    // A name that is a script everywhere is that script.
    for (name, path) in &wrappers {
        if !programs.contains_key(name) {
            programs.insert(name.clone(), path.strip_prefix(mount).unwrap_or(path).to_owned());
        }
    }
    wrappers.retain(|name, path| programs.get(name).is_some_and(|p| mount.join(p) != *path));
    let libraries = libraries(tree);
    if programs.is_empty() && libraries.is_empty() {
        return None;
    }
    let branch = libraries.keys().find_map(|n| {
        n.strip_prefix("libxenctrl.so.").filter(|v| v.matches('.').count() == 1).map(str::to_owned)
    });
    for path in libraries.values() {
        if let Some(target) = tree.resolve(path, mount)
            && let Some(info) = elf::read_file(&root.join(&target))
        {
            infos.push((target, info));
        }
    }
    let device_model = device_model(root, tree, &libraries, mount);
    let has: BTreeSet<&str> =
        tree.nodes.keys().filter_map(|p| p.file_name()?.to_str()).filter(|n| n.contains(".so")).collect();
    let needs: BTreeSet<String> = infos
        .iter()
        .flat_map(|(_, i)| i.needed.iter())
        .filter(|n| !has.contains(n.as_str()))
        .cloned()
        .collect();
    let damage = infos
        .iter()
        .find_map(|(p, i)| wrong_architecture(&p.display().to_string(), &i.machine, i.arch, arch));
    let dirs = |paths: &mut dyn Iterator<Item = &PathBuf>| {
        let mut dirs: Vec<PathBuf> = Vec::new();
        for d in paths.filter_map(|p| p.parent()) {
            let d = mount.join(d);
            if !dirs.contains(&d) {
                dirs.push(d);
            }
        }
        dirs
    };
    let mut bin_dirs = dirs(&mut programs.values());
    for d in dirs(&mut wrappers.values()) {
        if !bin_dirs.contains(&d) {
            bin_dirs.push(d);
        }
    }
    let lib_dirs = dirs(&mut libraries.values());
    Some(Tools {
        from: from.to_owned(),
        root: root.to_owned(),
        mount: mount.to_owned(),
        key: String::new(),
        files: files(tree),
        empty_dirs: tree.empty_dirs().filter(|p| wanted(p) && !of_running(p)).cloned().collect(),
        branch,
        bin_dirs,
        lib_dirs,
        daemons: ["xenstored", "oxenstored"]
            .iter()
            .filter(|d| programs.contains_key(**d))
            .map(|d| (*d).to_owned())
            .collect(),
        device_model,
        interpreter: infos.iter().find_map(|(_, i)| i.interpreter.as_ref().map(PathBuf::from)),
        programs: programs.into_iter().map(|(n, p)| (n, mount.join(p))).collect(),
        wrappers,
        needs: needs.into_iter().collect(),
        damage,
    })
}

/// The device model that libxl starts, by the path compiled into it, and whether the tree has it.
fn device_model(
    root: &Path,
    tree: &Tree,
    libraries: &BTreeMap<String, PathBuf>,
    mount: &Path,
) -> Option<DeviceModel> {
    let library = libraries.iter().find(|(name, _)| name.starts_with("libxenlight.so."))?.1;
    let bytes = std::fs::read(root.join(tree.resolve(library, mount)?)).ok()?;
    let path = compiled_in(&bytes)?;
    let inside = path.strip_prefix(mount).ok();
    let own = inside
        .and_then(|inside| tree.resolve(inside, mount))
        .is_some_and(|there| tree.nodes.get(&there).is_some_and(|n| n.mode & 0o111 != 0));
    Some(DeviceModel { path, own })
}

/// `QEMU_XEN_PATH` of a libxenlight: the only string in it that names a QEMU. A name alone is searched in `PATH`.
fn compiled_in(bytes: &[u8]) -> Option<PathBuf> {
    const NAME: &[u8] = b"qemu-system-";
    let mut at = 0;
    while let Some(found) = bytes[at..].windows(NAME.len()).position(|w| w == NAME) {
        let found = at + found;
        let begin = bytes[..found].iter().rposition(|b| *b == 0).map_or(0, |n| n + 1);
        let end = bytes[found..].iter().position(|b| *b == 0).map_or(bytes.len(), |n| found + n);
        at = end;
        let Ok(text) = std::str::from_utf8(&bytes[begin..end]) else { continue };
        // Not a message that names a package, as Debian's has one, nor the package's own name.
        let architecture = text.rsplit_once('-').map_or("", |(_, a)| a);
        if text.contains(char::is_whitespace) || !["i386", "x86_64", "aarch64"].contains(&architecture) {
            continue;
        }
        return Some(if text.starts_with('/') { text.into() } else { Path::new("/usr/bin").join(text) });
    }
    None
}

/// Xen's shared libraries by soname-like name (`libxenctrl.so.4.17`): versioned names in a folder that libraries are in.
fn libraries(tree: &Tree) -> BTreeMap<String, PathBuf> {
    let name = |p: &PathBuf| Some((p.file_name()?.to_str()?.to_owned(), p.clone()));
    tree.nodes
        .iter()
        .filter(|(p, n)| !n.dir && !p.components().any(|c| c.as_os_str() == "debug"))
        .filter_map(|(p, _)| name(p))
        .filter(|(n, _)| (n.starts_with("libxen") || n.starts_with("libxl")) && n.contains(".so."))
        .collect()
}

/// What dom0 gets of a tree.
fn files(tree: &Tree) -> Vec<PathBuf> {
    tree.nodes.iter().filter(|(p, n)| !n.dir && wanted(p)).map(|(p, _)| p.clone()).collect()
}

/// It is of a system that runs, which makes it when it starts: trees until 4.17 install `/var/run/xen`, which would lie over dom0's link to `/run`, and
/// whoever looks for a daemon's socket in the one would not find it in the other.
fn of_running(path: &Path) -> bool {
    ["run", "tmp", "var/run", "var/lock", "var/tmp"].iter().any(|dir| path.starts_with(dir))
}

/// Not documentation, not for compiling, not for the boot loader.
fn wanted(path: &Path) -> bool {
    let parts: Vec<&str> = path.components().filter_map(|c| c.as_os_str().to_str()).collect();
    let Some((name, dirs)) = parts.split_last() else { return false };
    let share = |w: &str| dirs.windows(2).any(|d| d == ["share", w]);
    // Of a tree in a Nix store what leads to it does not count.
    let top = dirs.iter().position(|d| crate::provider::is_store_name(d)).map_or(0, |at| at + 1);
    let unwanted = dirs.get(top) == Some(&"boot")
        || ["doc", "man", "info", "bug", "lintian", "gtk-doc"].iter().any(|w| share(w))
        || dirs.iter().any(|d| matches!(*d, "include" | "pkgconfig" | "debug" | "__pycache__" | "efi"))
        || name.ends_with(".a")
        || name.ends_with(".la")
        || name.ends_with(".h")
        // For linking OCaml programs; what one loads when it runs is a `.cmxs`.
        || [".cma", ".cmi", ".cmo", ".cmt", ".cmti", ".cmx", ".cmxa", ".mli"].iter().any(|s| name.ends_with(s))
        // The name a linker looks for, of a library that has a version; plugins have none and stay.
        || (name.starts_with("libx") && name.ends_with(".so"));
    !unwanted
}

#[cfg(test)]
mod tests {
    use super::{compiled_in, wanted};
    use std::path::Path;

    #[test]
    fn the_device_model_is_read_off_libxl() {
        let debian = b"\0%s/hvmloader\0Please install the qemu-system-xen package for this domain to work\0\
                       /usr/libexec/xen-qemu-system-i386\0qemu-xen\0";
        for (bytes, path) in [
            (&debian[..], Some("/usr/libexec/xen-qemu-system-i386")),
            (
                b"x\0/usr/local/lib/xen/bin/qemu-system-i386\0",
                Some("/usr/local/lib/xen/bin/qemu-system-i386"),
            ),
            (
                b"\0/nix/store/x-qemu-xen/bin/qemu-system-i386",
                Some("/nix/store/x-qemu-xen/bin/qemu-system-i386"),
            ),
            (b"\0qemu-system-i386\0", Some("/usr/bin/qemu-system-i386")),
            (b"\0install qemu-system-i386\0qemu-system-xen\0", None),
            (b"", None),
        ] {
            assert_eq!(compiled_in(bytes).as_deref(), path.map(Path::new));
        }
    }

    #[test]
    fn dom0_gets_what_runs() {
        for p in [
            "usr/lib/xen-4.17/bin/xl",
            "etc/xen/xl.conf",
            "usr/lib/xen-4.17/boot/hvmloader",
            "usr/local/lib/libxenctrl.so.4.20",
            "usr/lib/xen-4.17/lib/x86_64-linux-gnu/xenfsimage/zfs/fsimage.so",
            "etc/init.d/xencommons",
            "usr/local/lib/xen/ocaml/xsd_glue/xenctrl_plugin/domain_getinfo_v1.cmxs",
        ] {
            assert!(wanted(Path::new(p)), "{p}");
        }
        for p in [
            "boot/xen.gz",
            "usr/share/doc/xen/README",
            "usr/share/man/man1/xl.1.gz",
            "usr/include/xenctrl.h",
            "usr/local/lib/ocaml/4.13.1/xenctrl/xenctrl.cmxa",
            "usr/lib/libxenctrl.a",
            "usr/lib/libxenctrl.so",
            "usr/lib/pkgconfig/xenlight.pc",
            "usr/lib/debug/xen-syms",
            "usr/lib64/efi/xen.efi",
        ] {
            assert!(!wanted(Path::new(p)), "{p}");
        }
    }
}
