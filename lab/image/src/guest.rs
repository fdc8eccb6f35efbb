//! The layer with what guests boot: kernel and initramfs of each, where `xl` in dom0 finds them.

use crate::cpio::Cpio;
use crate::tree::Squash;
use crate::{ImageError, initramfs, recipe};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_model::guest::{GuestKernel, files};
use xenlab_model::spec::KernelSpec;
use xenlab_store::{Entry, Key, Store};

/// The folder of `images/` with the small guest's init and the names that busybox has in it.
const TINY: &str = "guest";
/// The one file in an entry that keeps a guest's.
const FILE: &str = "file";
/// The file in each entry.
const IMAGE: &str = "root.squashfs";

/// A guest's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestFiles {
    /// Its name in the scenario.
    pub name: String,
    /// What it boots.
    pub kernel: GuestKernel,
    /// Its initramfs; none: the small guest's own, or none for a kernel of the user's.
    pub initrd: Option<PathBuf>,
    /// Xen makes it when it boots, from files of the machine's, and not `xl`, from files in dom0.
    pub by_xen: bool,
}

/// What a domain boots that Xen makes by itself, on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainFiles {
    /// Its name in the scenario.
    pub name: String,
    /// Its kernel.
    pub kernel: PathBuf,
    /// Its initramfs.
    pub initrd: Option<PathBuf>,
}

/// Files, each with the entry that it is of.
type Kept = Vec<(PathBuf, Entry)>;

/// The files of the domains that Xen makes, and the entries that they are of: what a machine is given lies in the store, whoever's it is.
pub(crate) fn domains(
    store: &Store,
    guests: &[GuestFiles],
    suite: &str,
    arch: Arch,
) -> Result<(Vec<DomainFiles>, Kept), ImageError> {
    let (mut domains, mut entries) = (Vec::new(), Vec::new());
    for guest in guests.iter().filter(|g| g.by_xen) {
        let Found { name, kernel, initrd, of } = find(store, guest, suite, arch)?;
        let mut keep = |path: &Path| {
            let (path, entry) = match of.iter().find(|entry| path.starts_with(&entry.dir)) {
                Some(entry) => (path.to_owned(), entry.clone()),
                None => kept(store, path)?,
            };
            entries.push((path.clone(), entry));
            Ok::<_, ImageError>(path)
        };
        let initrd = initrd.as_deref().map(&mut keep).transpose()?;
        domains.push(DomainFiles { name, kernel: keep(&kernel)?, initrd });
    }
    Ok((domains, entries))
}

/// A file of the user's, as the store keeps it.
fn kept(store: &Store, path: &Path) -> Result<(PathBuf, Entry), ImageError> {
    let key = Key::new("guest-file").part("format", 1).part("file", store.digest_file(path)?);
    let entry = store.get_or_make(&key, &format!("a guest's {}", path.display()), |dir| {
        std::fs::copy(path, dir.join(FILE)).map(|_| ()).map_err(|e| ImageError::io("copy", path, e))
    })?;
    Ok((entry.file(FILE), entry))
}

/// Where the parts of a guest lie on this host.
struct Found {
    name: String,
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    /// The entries that its files are of which the lab made.
    of: Vec<Entry>,
}

/// The layer, made when the store does not have it; none where there are no guests.
pub(crate) fn layer(
    store: &Store,
    guests: &[GuestFiles],
    suite: &str,
    arch: Arch,
) -> Result<Option<Entry>, ImageError> {
    let found: Vec<Found> =
        guests.iter().filter(|g| !g.by_xen).map(|g| find(store, g, suite, arch)).collect::<Result<_, _>>()?;
    if found.is_empty() {
        return Ok(None);
    }
    let mut key = Key::new("guests").part("format", 1);
    for (at, guest) in found.iter().enumerate() {
        key = key.part(&format!("name-{at}"), &guest.name);
        key = key.part(&format!("kernel-{at}"), store.digest_file(&guest.kernel)?);
        if let Some(initrd) = &guest.initrd {
            key = key.part(&format!("initrd-{at}"), store.digest_file(initrd)?);
        }
    }
    let what = format!("guests for {arch}");
    let entry = store.get_or_make(&key, &what, |dir| {
        let task = store.task("guests", &format!("making the {what}"), 0, "");
        task.end(write(&found, &dir.join(IMAGE)))
    })?;
    Ok(Some(entry))
}

/// The layer's file.
pub(crate) fn image(entry: &Entry) -> PathBuf {
    entry.file(IMAGE)
}

fn write(guests: &[Found], to: &Path) -> Result<(), ImageError> {
    let mut squash = Squash::new(to)?;
    let mut put = |path: &str, from: &Path| {
        let bytes = std::fs::read(from).map_err(|e| ImageError::io("read", from, e))?;
        squash.file(path.trim_start_matches('/'), 0o644, &bytes)
    };
    for guest in guests {
        let (kernel, initrd) = files(&guest.name);
        put(&kernel, &guest.kernel)?;
        if let Some(from) = &guest.initrd {
            put(&initrd, from)?;
        }
    }
    squash.finish()
}

fn find(store: &Store, guest: &GuestFiles, suite: &str, arch: Arch) -> Result<Found, ImageError> {
    let input = |what, path: &Path| ImageError::Input {
        what,
        path: path.to_owned(),
        reason: "there is no such file".into(),
    };
    if let Some(initrd) = guest.initrd.as_ref().filter(|p| !p.is_file()) {
        return Err(input("a guest's initramfs", initrd));
    }
    let name = guest.name.clone();
    match &guest.kernel {
        GuestKernel::Tiny => {
            let spec = KernelSpec::Debian { suite: suite.to_owned() };
            let kernel = initramfs::kernel(store, &spec, suite, arch)?;
            let mut of = vec![kernel.clone()];
            let own = match &guest.initrd {
                Some(path) => path.clone(),
                None => {
                    of.push(tiny(store, &kernel, suite, arch)?);
                    of[1].file("initrd")
                }
            };
            Ok(Found { name, kernel: kernel.file("kernel"), initrd: Some(own), of })
        }
        GuestKernel::File(kernel) => {
            if !kernel.is_file() {
                return Err(input("a guest's kernel", kernel));
            }
            Ok(Found { name, kernel: kernel.clone(), initrd: guest.initrd.clone(), of: Vec::new() })
        }
    }
}

/// The small guest's initramfs, with modules for this kernel.
fn tiny(store: &Store, kernel: &Entry, suite: &str, arch: Arch) -> Result<Entry, ImageError> {
    let busybox = initramfs::busybox(store, &recipe::recipe("initramfs")?, suite, arch)?;
    let modules = kernel.file(initramfs::GUEST_MODULES);
    let key = Key::new("guest-initramfs")
        .part("format", 2)
        .part("modules", store.digest_file(&modules)?)
        .part("recipe", recipe::digest(TINY))
        .part("busybox", store.digest_file(&busybox)?);
    store.get_or_make(&key, &format!("the small guest for {arch}"), |dir| {
        let mut cpio = Cpio::new();
        for name in ["dev", "proc", "sys", "tmp", "sbin"] {
            cpio.dir(name, 0o755);
        }
        let bytes = std::fs::read(&busybox).map_err(|e| ImageError::io("read", &busybox, e))?;
        cpio.file("bin/busybox", 0o755, &bytes);
        for applet in String::from_utf8_lossy(recipe::file("guest/applets")?).lines() {
            cpio.link(&format!("bin/{applet}"), "busybox");
        }
        // Xen's wish that a guest ends goes from its kernel to these.
        for name in ["poweroff", "reboot"] {
            let text = format!("#!/bin/sh\nexec /bin/busybox {name} -f\n");
            cpio.file(&format!("sbin/{name}"), 0o755, text.as_bytes());
        }
        cpio.file("init", 0o755, recipe::file("guest/init")?);
        cpio.file("bin/store", 0o755, recipe::file("guest/store")?);
        let path = dir.join("initrd");
        let mut bytes = cpio.finish();
        bytes.extend(std::fs::read(&modules).map_err(|e| ImageError::io("read", &modules, e))?);
        std::fs::write(&path, bytes).map_err(|e| ImageError::io("write", &path, e))
    })
}
