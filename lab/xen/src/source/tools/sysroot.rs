//! The libraries that Xen's tools link with, for an architecture that is not the host's: Debian's development packages, unpacked.
//! The C library is the cross compiler's own.

use crate::error::XenError;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_store::debian::{self, Keep, Lock, Request};
use xenlab_store::{Key, Store, StoreError};

/// The oldest suite with a userland, so that what is linked runs in all of them.
const SUITE: &str = "bookworm";

/// Locks that ship, made by `cargo run -p xenlab-xen --example xen-locks lab/xen/locks`.
const LOCKS: &[(&str, &str)] =
    &[("sysroot-bookworm-arm64", include_str!("../../../locks/sysroot-bookworm-arm64.json"))];

/// The packages that Xen's tools are linked with when they are cross-compiled. Userlands have the libraries in them (images/minimal/recipe.yaml).
pub fn request(arch: Arch) -> Request {
    let text = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
    Request {
        suite: SUITE.to_owned(),
        arch,
        set: "xen-sysroot".to_owned(),
        include: text(&[
            "libbz2-dev",
            "libfdt-dev",
            "liblzma-dev",
            "libncurses-dev",
            "libyajl-dev",
            "libzstd-dev",
            "uuid-dev",
            "zlib1g-dev",
        ]),
        // What compiles brings its own.
        exclude: text(&["libc6", "libc6-dev", "linux-libc-dev", "libcrypt-dev", "libcrypt1", "libc-dev-bin"]),
        keep: Keep::All,
        pins: Vec::new(),
        backports: false,
    }
}

fn shipped(request: &Request) -> Option<Lock> {
    LOCKS.iter().filter_map(|(name, text)| Lock::parse(name, text).ok()).find(|l| l.is_for(request))
}

/// Where they lie.
pub(super) struct Sysroot {
    root: PathBuf,
    triplet: &'static str,
    pub(super) digest: String,
}

impl Sysroot {
    pub(super) fn get(arch: Arch, store: &Store) -> Result<Sysroot, XenError> {
        let wrap = |source: StoreError| XenError::NoSysroot { arch, source };
        let request = request(arch);
        let resolved = debian::packages(store, &request, shipped(&request).as_ref()).map_err(wrap)?;
        let mut key = Key::new("xen-sysroot").part("arch", arch).part("format", 1);
        for deb in &resolved.debs {
            key = key.part("deb", format!("{} {}", deb.package, deb.sha256));
        }
        let label = format!("libraries of {SUITE} for {arch} to link Xen's tools with");
        let entry = store.get_or_make::<StoreError>(&key, &label, |dir| {
            let root = dir.join("root");
            std::fs::create_dir(&root).map_err(|e| StoreError::io("make", &root, e))?;
            debian::extract(store, &resolved.debs, &root)?;
            relative(&root).map_err(|e| StoreError::io("link in", &root, e))
        });
        let entry = entry.map_err(wrap)?;
        Ok(Sysroot { root: entry.file("root"), triplet: arch.triplet(), digest: entry.digest.clone() })
    }

    fn libraries(&self) -> [PathBuf; 2] {
        ["usr/lib", "lib"].map(|dir| self.root.join(dir).join(self.triplet))
    }

    /// What configure is told: folders for the compiler, and pkg-config's.
    pub(super) fn configure(&self) -> Vec<String> {
        let include = self.root.join("usr/include");
        let [usr, lib] = self.libraries();
        vec![
            format!("PREPEND_INCLUDES={} {}", include.display(), include.join(self.triplet).display()),
            format!("PREPEND_LIB={} {}", usr.display(), lib.display()),
            format!("PKG_CONFIG_LIBDIR={}", usr.join("pkgconfig").display()),
        ]
    }

    /// A linker for another machine looks for what libraries need in no folder but these.
    pub(super) fn environment(&self) -> Vec<(&'static str, OsString)> {
        let [usr, lib] = self.libraries();
        let flags = format!("-Wl,-rpath-link={} -Wl,-rpath-link={}", usr.display(), lib.display());
        vec![("APPEND_LDFLAGS", flags.into()), ("PKG_CONFIG_SYSROOT_DIR", self.root.clone().into())]
    }
}

/// Links that name a place of their system (`/lib/…/libz.so.1`) are made to name it here.
fn relative(root: &Path) -> std::io::Result<()> {
    for item in walkdir::WalkDir::new(root) {
        let item = item?;
        if !item.path_is_symlink() {
            continue;
        }
        let to = std::fs::read_link(item.path())?;
        let Ok(inside) = to.strip_prefix("/") else { continue };
        let up: PathBuf = (1..item.depth()).map(|_| "..").collect();
        std::fs::remove_file(item.path())?;
        std::os::unix::fs::symlink(up.join(inside), item.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_that_ships_is_for_the_request_that_is_made() {
        let lock = shipped(&request(Arch::Aarch64)).expect("a lock for arm64");
        for name in ["uuid-dev", "libuuid1", "libyajl2", "libfdt1", "zlib1g", "libncurses6", "libtinfo6"] {
            assert!(lock.package(name).is_some(), "{name}");
        }
        for name in ["libc6", "libc6-dev"] {
            assert!(lock.package(name).is_none(), "{name}: the cross compiler has its own");
        }
    }

    #[test]
    fn links_stay_inside() {
        let dir = tempfile::tempdir().expect("a folder");
        let at = dir.path().join("usr/lib/aarch64-linux-gnu");
        std::fs::create_dir_all(&at).expect("made");
        std::os::unix::fs::symlink("/lib/aarch64-linux-gnu/libz.so.1", at.join("libz.so")).expect("linked");
        std::os::unix::fs::symlink("libz.so", at.join("other.so")).expect("linked");
        relative(dir.path()).expect("rewritten");
        let to = |name: &str| std::fs::read_link(at.join(name)).expect("a link");
        assert_eq!(to("libz.so"), Path::new("../../../lib/aarch64-linux-gnu/libz.so.1"));
        assert_eq!(to("other.so"), Path::new("libz.so"));
    }
}
