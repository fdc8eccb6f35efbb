//! Debian packages by lock.
//!
//! A [`Lock`] names every package of a set with version, pool file and SHA-256; with it the files come straight from the
//! archive's pool and no index is fetched. When the archive has moved on, the set is resolved again with a private apt
//! root, what moved is said, and the new lock is kept in the store, where it is preferred to the one that was shipped.
//! Which archive is found at run time ([`archive`]); its host is written nowhere.

pub mod archive;
mod deb;
mod fetch;
mod index;
mod lockfile;
mod resolve;
mod source;

pub use deb::{extract, for_each_file};
pub use lockfile::{Lock, Package};
pub use source::{Source, source};

use crate::{Store, StoreError};
use archive::Archive;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;

/// Which packages are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// `bookworm`, `trixie`, …
    pub suite: String,
    /// The packages' architecture; nothing of it is run.
    pub arch: Arch,
    /// A name for the set, which is part of its lock's name: `minimal`, `xen`.
    pub set: String,
    /// Packages asked for, whose dependencies (not recommendations) come along.
    pub include: Vec<String>,
    /// Packages left out, and what only they depend on.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Which of the packages found are kept.
    #[serde(default)]
    pub keep: Keep,
    /// Versions asked for: (source package, version).
    #[serde(default)]
    pub pins: Vec<(String, String)>,
    /// The backports pocket may be used for what is included.
    #[serde(default)]
    pub backports: bool,
}

/// Which of the packages found are kept, by the source package they were built from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// All.
    #[default]
    All,
    /// Those of these sources only: Xen's own packages without what they depend on.
    Only(Vec<String>),
    /// All but those of these sources, though what those depend on stays: Xen's dependencies without Xen.
    Except(Vec<String>),
}

/// The packages of a request, as files.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// Their `.deb` files, in the lock's order (by name).
    pub debs: Vec<Deb>,
    /// What moved since the lock, a line each; empty when the lock held.
    pub moved: Vec<String>,
    /// The lock that holds now.
    pub lock: Lock,
}

/// A package's file in the store.
#[derive(Debug, Clone)]
pub struct Deb {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// The source package it was built from.
    pub source: String,
    /// `main`, `security`, `updates` or `backports`.
    pub pocket: String,
    /// The `.deb`.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
}

/// The variable that names a folder of packages, which are taken before any archive is looked at.
const FILES: &str = "XENLAB_DEBIAN_FILES";

/// The lock that would be used for this request, without looking at any archive: the newer of the one shipped and the
/// one kept in the store, as far as they are locks of this very request.
pub fn known_lock(store: &Store, request: &Request, shipped: Option<&Lock>) -> Option<Lock> {
    let kept = Lock::read(&lock_path(store, request)).ok();
    let mut known: Vec<Lock> =
        shipped.cloned().into_iter().chain(kept).filter(|l| l.is_for(request)).collect();
    known.sort_by_key(|l| l.made);
    known.pop()
}

/// The packages of a request: by its lock where there is one, resolved else.
///
/// # Errors
/// Each way it can go wrong is a variant of [`StoreError`] of its own; see there.
pub fn packages(store: &Store, request: &Request, shipped: Option<&Lock>) -> Result<Resolved, StoreError> {
    packages_from(store, request, shipped, None)
}

/// As [`packages`], from this archive in place of the one found.
pub fn packages_from(
    store: &Store,
    request: &Request,
    shipped: Option<&Lock>,
    archive: Option<&Archive>,
) -> Result<Resolved, StoreError> {
    let known = known_lock(store, request, shipped);
    if let Some(lock) = &known
        && let Some(dir) = std::env::var_os(FILES).filter(|dir| !dir.is_empty())
    {
        fetch::from_folder(store, lock, Path::new(&dir))?;
    }
    // What is all there needs neither network nor apt.
    if let Some(lock) = &known
        && let Some(debs) = fetch::all_present(store, lock)?
    {
        return Ok(Resolved { debs, moved: Vec::new(), lock: lock.clone() });
    }
    if store.offline() {
        let what = match &known {
            Some(lock) => fetch::missing(store, lock)?,
            None => format!("the packages `{}` of {} for {}", request.set, request.suite, request.arch),
        };
        return Err(StoreError::Offline { what });
    }
    let found;
    let archive = match archive {
        Some(a) => a,
        None => {
            found = archive::find(store, &request.suite)?;
            &found
        }
    };
    let mut bad = Vec::new();
    if let Some(lock) = &known {
        let lost = fetch::fetch(store, lock, archive)?;
        if lost.is_empty() {
            return finished(store, lock.clone(), Vec::new());
        }
        let what: Vec<String> = lost.iter().map(|p| format!("{} {}", p.name, p.version)).collect();
        if store.locked() {
            return Err(StoreError::Moved { lock: lock.name(), what: what.join(", ") });
        }
        store.note(format!(
            "the archive no longer has {} of what the lock {} names ({}): resolving again",
            what.len(),
            lock.name(),
            shortened(&what)
        ));
    } else if store.locked() {
        return Err(StoreError::Moved {
            lock: format!("{}-{}-{}", request.suite, request.arch, request.set),
            what: "there is no lock for this set".into(),
        });
    }
    // An index can name versions whose files are not there: those are left out, source by source, until all is had.
    for _ in 0..8 {
        let lock = resolve::resolve(store, request, archive, &bad).map_err(|e| match (e, &known) {
            // There is a lock for this suite, so it is the archive that is wrong and not the name.
            (StoreError::UnknownSuite { suite, .. }, Some(lock)) => StoreError::Moved {
                lock: lock.name(),
                what: format!("its files, and any index of the suite `{suite}`"),
            },
            (e, _) => e,
        })?;
        let lost = fetch::fetch(store, &lock, archive)?;
        if lost.is_empty() {
            let mut moved = known.as_ref().map(|old| old.moved_to(&lock)).unwrap_or_default();
            for (source, version) in &bad {
                moved.push(format!(
                    "{source} {version}: named by the archive's index, but its files are not there"
                ));
            }
            if !moved.is_empty() {
                store.note(format!(
                    "the archive moved on since the lock {}: {}",
                    lock.name(),
                    moved.join("; ")
                ));
            }
            store.write_json(&lock_path(store, request), &lock)?;
            return finished(store, lock, moved);
        }
        let before = bad.len();
        for p in lost {
            let it = (p.source.clone(), p.source_version().to_owned());
            if !bad.contains(&it) {
                store.note(format!(
                    "the archive's index names {} {} ({}), but its file is not there: taking an older version",
                    p.name, p.version, p.pocket
                ));
                bad.push(it);
            }
        }
        if bad.len() == before {
            break;
        }
    }
    let what = bad.iter().map(|(s, v)| format!("{s} {v}")).collect::<Vec<_>>().join(", ");
    Err(StoreError::Unresolvable {
        suite: request.suite.clone(),
        arch: request.arch.debian().into(),
        detail: format!("the archive's index names files that are not there: {what}"),
    })
}

fn finished(store: &Store, lock: Lock, moved: Vec<String>) -> Result<Resolved, StoreError> {
    match fetch::all_present(store, &lock)? {
        Some(debs) => Ok(Resolved { debs, moved, lock }),
        None => Err(StoreError::Other(format!("a package of {} vanished from the store", lock.name()))),
    }
}

fn lock_path(store: &Store, request: &Request) -> PathBuf {
    store.path(&[
        "debian",
        &format!("{}-{}-{}.json", request.suite, request.arch.debian(), request.file_part()),
    ])
}

fn shortened(what: &[String]) -> String {
    match what {
        [a, b, c, rest @ ..] if !rest.is_empty() => format!("{a}, {b}, {c} and {} more", rest.len()),
        _ => what.join(", "),
    }
}

impl Request {
    /// The set's name, and for versions asked for outright a mark of them: those have locks of their own.
    fn file_part(&self) -> String {
        let mut name = self.set.clone();
        for (source, version) in &self.pins {
            name.push_str(&format!("-{source}@{}", version.replace(['/', ':'], "_")));
        }
        name
    }
}

#[cfg(test)]
mod tests;
