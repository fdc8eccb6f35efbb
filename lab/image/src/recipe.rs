//! Recipes and locks, which come with the program.

use crate::ImageError;
use include_dir::{Dir, include_dir};
use serde::Deserialize;
use std::collections::BTreeMap;
use xenlab_model::Arch;
use xenlab_store::debian::{Keep, Lock, Request, Resolved};
use xenlab_store::{Store, hash_bytes};

/// `images/`, as it was when the program was built.
static IMAGES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../images");

/// `images/NAME/recipe.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Which packages.
    pub packages: Packages,
    /// Paths left out of them.
    #[serde(default)]
    pub drop: Vec<String>,
    /// Names that get a link to busybox where no package has them.
    #[serde(default)]
    pub applets: Vec<String>,
    /// systemd units that are masked.
    #[serde(default)]
    pub mask: Vec<String>,
    /// Kernel modules.
    #[serde(default)]
    pub modules: Modules,
}

/// Packages of a recipe; `@DEBIAN_ARCH@` stands for Debian's name of the architecture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Packages {
    /// With their dependencies.
    pub include: Vec<String>,
    /// Not these, nor what only they need.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Only packages of these sources are kept.
    #[serde(default)]
    pub only: Vec<String>,
    /// Packages of these sources are not kept, what they need is.
    #[serde(default)]
    pub except: Vec<String>,
    /// Of these packages only these files.
    #[serde(default)]
    pub only_files: BTreeMap<String, Vec<String>>,
}

/// Modules of a recipe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Modules {
    /// Loaded in the initramfs.
    pub early: Vec<String>,
    /// Brought along for dom0.
    pub late: Vec<String>,
    /// For the small guest.
    #[serde(default)]
    pub guest: Vec<String>,
}

/// The suite of firmware and boot loaders, which are of the machine and of nothing that is under test.
pub const FIRMWARE_SUITE: &str = "trixie";

/// Reads a recipe that comes with the program.
pub fn recipe(name: &str) -> Result<Recipe, ImageError> {
    let text = String::from_utf8_lossy(file(&format!("{name}/recipe.yaml"))?).into_owned();
    serde_saphyr::from_str(&text)
        .map_err(|e| ImageError::Recipe { name: format!("images/{name}/recipe.yaml"), detail: e.to_string() })
}

/// A file of `images/`.
pub fn file(path: &str) -> Result<&'static [u8], ImageError> {
    IMAGES.get_file(path).map(|f| f.contents()).ok_or_else(|| ImageError::Recipe {
        name: format!("images/{path}"),
        detail: "it is not in this program".into(),
    })
}

/// Every file of `images/NAME`, as (path below it, content), sorted.
pub fn files(name: &str) -> Vec<(String, &'static [u8])> {
    fn walk(dir: &'static Dir<'static>, out: &mut Vec<(String, &'static [u8])>) {
        for f in dir.files() {
            out.push((f.path().to_string_lossy().into_owned(), f.contents()));
        }
        dir.dirs().for_each(|d| walk(d, out));
    }
    let mut out = Vec::new();
    if let Some(dir) = IMAGES.get_dir(name) {
        walk(dir, &mut out);
    }
    let prefix = format!("{name}/");
    let mut out: Vec<_> =
        out.into_iter().filter_map(|(p, c)| Some((p.strip_prefix(&prefix)?.to_owned(), c))).collect();
    out.sort();
    out
}

/// SHA-256 over a recipe and all its files: part of the key of what is made by it.
pub fn digest(name: &str) -> String {
    let all: Vec<String> = files(name).iter().map(|(p, c)| format!("{p} {}", hash_bytes(c))).collect();
    hash_bytes(all.join("\n").as_bytes())
}

impl Recipe {
    /// The packages it asks for.
    pub fn request(&self, set: &str, suite: &str, arch: Arch) -> Request {
        let p = &self.packages;
        let keep = if !p.only.is_empty() {
            Keep::Only(p.only.clone())
        } else if !p.except.is_empty() {
            Keep::Except(p.except.clone())
        } else {
            Keep::All
        };
        Request {
            suite: suite.to_owned(),
            arch,
            set: set.to_owned(),
            include: p.include.iter().map(|n| n.replace("@DEBIAN_ARCH@", arch.debian())).collect(),
            exclude: p.exclude.clone(),
            keep,
            pins: Vec::new(),
            backports: false,
        }
    }
}

/// The lock that comes with the program for a request, if one does.
pub fn shipped(request: &Request) -> Option<Lock> {
    let name = format!("{}-{}-{}.json", request.suite, request.arch.debian(), request.set);
    let file = IMAGES.get_file(format!("locks/{name}"))?;
    Lock::parse(&name, file.contents_utf8()?).inspect_err(|e| tracing::warn!("{e}")).ok()
}

/// Packages of a request with the lock that comes with the program.
pub fn packages(store: &Store, request: &Request) -> Result<Resolved, ImageError> {
    Ok(xenlab_store::debian::packages(store, request, shipped(request).as_ref())?)
}

/// The lock that holds for a request, resolving it when there is none: what a key is made of. The packages themselves
/// are not looked at.
pub fn lock(store: &Store, request: &Request) -> Result<Lock, ImageError> {
    match xenlab_store::debian::known_lock(store, request, shipped(request).as_ref()) {
        Some(lock) => Ok(lock),
        None => Ok(packages(store, request)?.lock),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_reads_and_every_lock_belongs_to_one() {
        for name in [
            "minimal",
            "initramfs",
            "systemd",
            "device-model",
            "efi-x86_64",
            "efi-aarch64",
            "grub",
            "grub-mkimage",
        ] {
            let r = recipe(name).unwrap();
            assert!(!r.packages.include.is_empty(), "{name}");
        }
        for f in IMAGES.get_dir("locks").unwrap().files() {
            let name = f.path().file_name().unwrap().to_str().unwrap();
            let lock = Lock::parse(name, f.contents_utf8().unwrap()).unwrap();
            assert_eq!(format!("{}.json", lock.name()), name);
            if let Ok(r) = recipe(&lock.request.set) {
                assert_eq!(
                    lock.request,
                    r.request(&lock.request.set, &lock.request.suite, lock.request.arch),
                    "{name}"
                );
            }
        }
    }
}
