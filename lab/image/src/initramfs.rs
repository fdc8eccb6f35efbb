//! The kernel and its initramfs: one entry, since the modules are the kernel's.

use crate::cpio::Cpio;
use crate::kernel::{self, Bad};
use crate::recipe::{self, Recipe};
use crate::{ImageError, modules};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_model::spec::KernelSpec;
use xenlab_store::debian::{Deb, for_each_file};
use xenlab_store::{Entry, Key, Store, hash_bytes};

/// What is appended to the small guest's initramfs: modules for this kernel.
pub(crate) const GUEST_MODULES: &str = "guest-modules";

/// The entry with files `kernel`, `initramfs`, `release` and [`GUEST_MODULES`].
pub(crate) fn kernel(store: &Store, spec: &KernelSpec, suite: &str, arch: Arch) -> Result<Entry, ImageError> {
    let recipe = recipe::recipe("initramfs")?;
    match spec {
        KernelSpec::Debian { suite } => from_debian(store, &recipe, suite, arch),
        KernelSpec::File { image, modules } => {
            from_file(store, &recipe, image, modules.as_deref(), suite, arch)
        }
    }
}

fn base_key(arch: Arch) -> Key {
    Key::new("kernel").part("format", 5).part("arch", arch).part("recipe", recipe::digest("initramfs"))
}

fn from_debian(store: &Store, recipe: &Recipe, suite: &str, arch: Arch) -> Result<Entry, ImageError> {
    let request = recipe.request("initramfs", suite, arch);
    let lock = recipe::lock(store, &request)?;
    let key = |lock: &xenlab_store::debian::Lock| base_key(arch).part("lock", lock.digest());
    if let Some(entry) = store.get(&key(&lock))? {
        return Ok(entry);
    }
    // The lock may turn out to be outdated: the key is that of what was really fetched.
    let resolved = recipe::packages(store, &request)?;
    store.get_or_make(&key(&resolved.lock), &format!("kernel of {suite} for {arch}"), |dir| {
        let task = store.task(
            &format!("kernel:{suite}-{arch}"),
            &format!("unpacking the kernel of {suite} for {arch}"),
            0,
            "",
        );
        let result = unpack_debian(recipe, &resolved.debs, suite, arch, dir);
        task.end(result)
    })
}

/// The files of a kernel package that are needed, compressed as they are.
#[derive(Default)]
struct Unpacked {
    vmlinuz: Option<(String, Vec<u8>)>,
    busybox: Option<Vec<u8>>,
    modules: BTreeMap<String, Vec<u8>>,
    builtin: String,
}

fn unpack_debian(
    recipe: &Recipe,
    debs: &[Deb],
    suite: &str,
    arch: Arch,
    dir: &Path,
) -> Result<(), ImageError> {
    let mut got = Unpacked::default();
    for deb in debs {
        for_each_file(deb, |entry| {
            let bad = |e| ImageError::io("unpack", &deb.path, e);
            let path = entry.path().map_err(bad)?.to_string_lossy().trim_start_matches("./").to_owned();
            let mut take = || {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).map(|_| bytes).map_err(bad)
            };
            if let Some(release) = path.strip_prefix("boot/vmlinuz-") {
                got.vmlinuz = Some((release.to_owned(), take()?));
            } else if modules::is_module(&path) {
                got.modules.insert(modules::name(&path), take()?);
            } else if path == "bin/busybox" || path == "usr/bin/busybox" {
                got.busybox = Some(take()?);
            } else if path.ends_with("/modules.builtin") {
                got.builtin = String::from_utf8_lossy(&take()?).into_owned();
            }
            Ok::<(), ImageError>(())
        })?;
    }
    let lacks = |what: &str| ImageError::PackageLacks { suite: suite.to_owned(), what: what.to_owned() };
    let (release, vmlinuz) = got.vmlinuz.ok_or_else(|| lacks("a kernel (boot/vmlinuz-*)"))?;
    let busybox = got.busybox.ok_or_else(|| lacks("busybox"))?;
    let image = decode(vmlinuz, arch, &PathBuf::from(format!("vmlinuz-{release} of {suite}")))?;
    let read = |name: &str| Ok(got.modules.get(name).cloned());
    let of = Kernel { arch, image: &image, release: &release, builtin: &got.builtin };
    write(recipe, dir, &of, &busybox, read)
}

fn from_file(
    store: &Store,
    recipe: &Recipe,
    image: &Path,
    modules_dir: Option<&Path>,
    suite: &str,
    arch: Arch,
) -> Result<Entry, ImageError> {
    let input = |what, path: &Path, reason: String| ImageError::Input { what, path: path.to_owned(), reason };
    if !image.is_file() {
        return Err(input("the kernel", image, "there is no such file".into()));
    }
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let mut listing = String::new();
    if let Some(dir) = modules_dir {
        for item in walkdir::WalkDir::new(dir).sort_by_file_name() {
            let item = item.map_err(|e| input("the modules' folder", dir, e.to_string()))?;
            let path = item.path().to_string_lossy().into_owned();
            if item.file_type().is_file() && modules::is_module(&path) {
                let stamp = item.metadata().map_err(|e| input("the modules' folder", dir, e.to_string()))?;
                listing.push_str(&format!("{path} {:?}\n", xenlab_store::Stamp::of(&stamp)));
                found.insert(modules::name(&path), item.into_path());
            }
        }
        if found.is_empty() {
            return Err(input("the modules' folder", dir, "it has no modules (*.ko)".into()));
        }
    }
    let busybox = busybox(store, recipe, suite, arch)?;
    let release =
        modules_dir.and_then(|d| d.file_name()).map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let key = base_key(arch)
        .part("image", store.digest_file(image)?)
        .part("modules", hash_bytes(listing.as_bytes()))
        .part("release", &release)
        .part("busybox", store.digest_file(&busybox)?);
    store.get_or_make(&key, &format!("kernel {}", image.display()), |dir| {
        let read_all = |path: &Path| std::fs::read(path).map_err(|e| ImageError::io("read", path, e));
        let decoded = decode(read_all(image)?, arch, image)?;
        let builtin = modules_dir
            .and_then(|d| std::fs::read_to_string(d.join("modules.builtin")).ok())
            .unwrap_or_default();
        let read = |name: &str| found.get(name).map(std::fs::read).transpose();
        let of = Kernel { arch, image: &decoded, release: &release, builtin: &builtin };
        write(recipe, dir, &of, &read_all(&busybox)?, read)
    })
}

/// A static busybox: the one named, Debian's, or without either the host's own if it is of that architecture.
pub(crate) fn busybox(
    store: &Store,
    recipe: &Recipe,
    suite: &str,
    arch: Arch,
) -> Result<PathBuf, ImageError> {
    if let Some(path) = std::env::var_os("XENLAB_BUSYBOX").map(PathBuf::from) {
        return if path.is_file() {
            Ok(path)
        } else {
            Err(ImageError::Input { what: "XENLAB_BUSYBOX", path, reason: "there is no such file".into() })
        };
    }
    let mut request = recipe.request("busybox", suite, arch);
    request.include = vec!["busybox-static".into()];
    request.keep = xenlab_store::debian::Keep::Only(vec!["busybox".into()]);
    let lock = xenlab_store::debian::known_lock(store, &request, recipe::shipped(&request).as_ref());
    if store.offline() || lock.is_none() {
        let own =
            ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(PathBuf::from).find(|p| is_static(p, arch));
        if let Some(own) = own {
            return Ok(own);
        }
        if store.offline() && lock.is_none() {
            return Err(ImageError::NoBusybox { arch: arch.to_string() });
        }
    }
    let resolved = recipe::packages(store, &request)?;
    let key = Key::new("busybox").part("lock", resolved.lock.digest());
    let entry = store.get_or_make(&key, &format!("busybox for {arch}"), |dir| {
        xenlab_store::debian::extract(store, &resolved.debs, dir)
    })?;
    ["bin/busybox", "usr/bin/busybox"]
        .into_iter()
        .map(|p| entry.file(p))
        .find(|p| p.is_file())
        .ok_or_else(|| ImageError::PackageLacks { suite: suite.to_owned(), what: "busybox".into() })
}

/// An ELF file of this architecture that needs no interpreter.
fn is_static(path: &Path, arch: Arch) -> bool {
    let Ok(d) = std::fs::read(path) else { return false };
    let machine = match arch {
        Arch::X86_64 => 62,
        Arch::Aarch64 => 183,
    };
    let u16_at = |at: usize| d.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let u32_at = |at: usize| d.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    // PT_INTERP is 3; program headers begin at 64 in a 64-bit file that was linked in the ordinary way.
    d.starts_with(b"\x7fELF\x02\x01")
        && u16_at(18) == Some(machine)
        && (0..usize::from(u16_at(56).unwrap_or(0))).all(|i| u32_at(64 + i * 56) != Some(3))
}

fn decode(bytes: Vec<u8>, arch: Arch, path: &Path) -> Result<kernel::Decoded, ImageError> {
    kernel::decode(bytes, arch).map_err(|bad| match bad {
        Bad::Arch(found) => {
            ImageError::KernelArch { path: path.to_owned(), found: found.into(), wanted: arch.to_string() }
        }
        Bad::Damaged(_) if xenlab_host::interrupt::requested() => {
            xenlab_store::StoreError::Interrupted.into()
        }
        Bad::Damaged(reason) => ImageError::KernelDamaged { path: path.to_owned(), reason },
    })
}

/// A kernel, without its modules.
struct Kernel<'a> {
    arch: Arch,
    image: &'a kernel::Decoded,
    /// As `uname -r` says it.
    release: &'a str,
    /// `modules.builtin`.
    builtin: &'a str,
}

/// Writes the files of the entry.
fn write(
    recipe: &Recipe,
    dir: &Path,
    kernel: &Kernel<'_>,
    busybox: &[u8],
    mut read: impl FnMut(&str) -> std::io::Result<Option<Vec<u8>>>,
) -> Result<(), ImageError> {
    let Kernel { arch, image, release, builtin } = *kernel;
    let io = |e| ImageError::io("unpack the modules into", dir, e);
    let wanted: Vec<String> = recipe.modules.early.iter().chain(&recipe.modules.late).cloned().collect();
    let chosen = modules::choose(&wanted, &mut read).map_err(io)?;
    for absent in &chosen.absent {
        if !builtin.lines().any(|l| modules::name(l) == *absent) {
            tracing::debug!("the kernel {release} has no module {absent}");
        }
    }
    let mut cpio = Cpio::new();
    for d in ["dev", "proc", "sys", "layer", "rw", "newroot", "xenlab"] {
        cpio.dir(d, 0o755);
    }
    cpio.file("bin/busybox", 0o755, busybox);
    cpio.link("bin/sh", "busybox");
    cpio.file("init", 0o755, recipe::file("initramfs/init")?);
    // The shell on the lab's ports; the case's layer lays its own files beside it, and all goes to the userland's /xenlab.
    cpio.file("xenlab/port", 0o644, recipe::file("initramfs/port")?);
    cpio.file("xenlab/port.agent", 0o644, recipe::file("initramfs/port.agent")?);
    cpio.file("xenlab/port.first", 0o755, &crate::first::program(arch));
    let there = |names: &[String]| {
        let names: Vec<String> =
            names.iter().map(|n| modules::name(n)).filter(|n| chosen.depends.contains_key(n)).collect();
        names.join(" ")
    };
    cpio.file("early", 0o644, there(&recipe.modules.early).as_bytes());
    cpio.file("late", 0o644, there(&recipe.modules.late).as_bytes());
    // Under the release that `uname -r` says: there modprobe looks.
    let base = format!("lib/modules/{release}");
    cpio.file(&format!("{base}/modules.dep"), 0o644, chosen.modules_dep().as_bytes());
    for (name, bytes) in &chosen.modules {
        cpio.file(&format!("{base}/{name}.ko"), 0o644, bytes);
    }
    let guest = modules::choose(&recipe.modules.guest, &mut read).map_err(io)?;
    let mut of_guest = Cpio::new();
    of_guest.file(&format!("{base}/modules.dep"), 0o644, guest.modules_dep().as_bytes());
    for (name, bytes) in &guest.modules {
        of_guest.file(&format!("{base}/{name}.ko"), 0o644, bytes);
    }
    for (name, bytes) in [
        ("kernel", &image.image[..]),
        ("initramfs", &cpio.finish()),
        ("release", release.as_bytes()),
        (GUEST_MODULES, &of_guest.finish()),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, bytes).map_err(|e| ImageError::io("write", &path, e))?;
    }
    tracing::debug!("kernel {release} as {}", image.kind);
    Ok(())
}
