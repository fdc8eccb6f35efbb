//! Which files a source tree has, and laying them into a workspace: only what differs is written, so that make sees what changed.

use super::io;
use crate::error::XenError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use xenlab_host::Command;
use xenlab_store::{Stamp, hash_bytes};

/// A file of a tree, as far as a build can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    /// It may be executed.
    exec: bool,
    /// SHA-256 of its bytes; of a link, of where it leads.
    sha256: String,
    link: bool,
}

/// The files of a tree by relative path.
pub(super) type Listing = BTreeMap<String, File>;

/// What is put over a tree: bytes and whether they may be executed; none for a file that goes.
pub(super) type Changed = BTreeMap<String, Option<(Vec<u8>, bool)>>;

/// What builds leave behind in a tree that git does not watch over: suffixes of files, and whole names.
const LEFT: &[&str] = &[
    ".o", ".a", ".d", ".d2", ".cmd", ".tmp", ".orig", ".rej", ".pyc", ".opic", ".so", ".cma", ".cmi", ".cmo",
    ".cmx", ".cmxa", ".cmxs",
];
const LEFT_NAMES: &[&str] = &[
    ".git",
    ".hg",
    ".pc",
    "Paths.mk",
    "Tools.mk",
    "Toplevel.mk",
    "config.log",
    "config.status",
    ".config",
    ".config.old",
    "__pycache__",
    "autoconf.h",
    "auto.conf",
    "compile.h",
    "dist",
    "generated",
    "xen-syms",
    "xen.efi",
    "xen.gz",
];

/// More than any Xen tree has, with all it downloads.
const MOST: usize = 100_000;

/// The files of a folder that are wanted. Hashes are kept in `memory` by the files' stamps.
pub(super) fn list(
    name: &str,
    folder: &Path,
    memory: &Path,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Listing, XenError> {
    let mut known: BTreeMap<String, (Stamp, String)> =
        std::fs::read(memory).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let names = match folder.join(".git").exists() {
        true => by_git(name, folder)?,
        false => by_walk(name, folder)?,
    };
    let mut listing = Listing::new();
    let mut seen = BTreeMap::new();
    for path in names.into_iter().filter(|p| wanted(p)) {
        let at = folder.join(&path);
        // What git knows and is gone is gone.
        let Ok(meta) = at.symlink_metadata() else { continue };
        if meta.is_symlink() {
            let to = std::fs::read_link(&at).map_err(|e| io(name, "read", &at, e))?;
            let sha256 = hash_bytes(to.as_os_str().as_encoded_bytes());
            listing.insert(path, File { exec: false, sha256, link: true });
        } else if meta.is_file() {
            let stamp = Stamp::of(&meta);
            let sha256 = match known.remove(&path) {
                Some((was, sha256)) if was == stamp => sha256,
                _ => {
                    let bytes = std::fs::read(&at).map_err(|e| XenError::io(name, &at, e))?;
                    hash_bytes(&bytes)
                }
            };
            seen.insert(path.clone(), (stamp, sha256.clone()));
            let exec = meta.permissions().mode() & 0o100 != 0;
            listing.insert(path, File { exec, sha256, link: false });
        }
    }
    // Only a memory: without it everything is read again.
    if let Ok(bytes) = serde_json::to_vec(&seen) {
        let _ = std::fs::write(memory, bytes);
    }
    Ok(listing)
}

/// What git watches over, and what it does not but would.
fn by_git(name: &str, folder: &Path) -> Result<Vec<String>, XenError> {
    let output = Command::new("git")
        .args(["--no-optional-locks", "-C"])
        .arg(folder)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"])
        .env("LC_ALL", "C")
        .output()
        .map_err(super::make::child)?;
    if !output.ended.ok() {
        let said = output.stderr.text();
        return Err(XenError::Git {
            spec: name.to_owned(),
            path: folder.to_owned(),
            said: said.trim().to_owned(),
        });
    }
    Ok(output.stdout.text().split('\0').filter(|p| !p.is_empty()).map(str::to_owned).collect())
}

fn by_walk(name: &str, folder: &Path) -> Result<Vec<String>, XenError> {
    let left = |e: &walkdir::DirEntry| {
        let file = e.file_name().to_string_lossy();
        e.depth() == 0
            || !(LEFT_NAMES.contains(&&*file)
                || !e.file_type().is_dir() && LEFT.iter().any(|l| file.ends_with(l)))
    };
    let mut names = Vec::new();
    for entry in walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().filter_entry(left) {
        let entry = entry.map_err(|e| XenError::io(name, folder, e.into()))?;
        if entry.file_type().is_dir() {
            continue;
        }
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        names.push(
            path.to_str().map(str::to_owned).ok_or_else(|| {
                io(name, "read", entry.path(), std::io::Error::other("its name is not UTF-8"))
            })?,
        );
        if names.len() > MOST {
            let e = std::io::Error::other(format!("more than {MOST} files: this is no source of Xen"));
            return Err(XenError::io(name, folder, e));
        }
    }
    Ok(names)
}

/// The SHA-256 of a listing.
pub(super) fn digest(listing: &Listing) -> String {
    let mut text = String::new();
    for (path, f) in listing {
        let _ = writeln!(text, "{path:?} {} {} {}", f.exec, f.link, f.sha256);
    }
    hash_bytes(text.as_bytes())
}

/// Puts changes over a listing.
pub(super) fn over(listing: &mut Listing, changed: &Changed) {
    for (path, to) in changed {
        match to {
            Some((bytes, exec)) => {
                let file = File { exec: *exec, sha256: hash_bytes(bytes), link: false };
                listing.insert(path.clone(), file);
            }
            None => {
                listing.remove(path);
            }
        }
    }
}

/// Makes `space/src` be this listing, and whatever a build left there beside; tells which paths are not what they were.
pub(super) fn lay(
    name: &str,
    folder: &Path,
    listing: &Listing,
    changed: &Changed,
    space: &Path,
) -> Result<BTreeSet<String>, XenError> {
    let src = space.join("src");
    let memory = space.join("have.json");
    let have: Listing =
        std::fs::read(&memory).ok().and_then(|b| serde_json::from_slice(&b).ok()).unwrap_or_default();
    let mut differs = BTreeSet::new();
    for path in have.keys().filter(|p| !listing.contains_key(*p)) {
        let _ = std::fs::remove_file(src.join(path));
        differs.insert(path.clone());
    }
    for (path, file) in listing {
        if have.get(path) == Some(file) {
            continue;
        }
        let to = src.join(path);
        put(name, &folder.join(path), file, changed.get(path).and_then(Option::as_ref), &to)?;
        differs.insert(path.clone());
    }
    let bytes = serde_json::to_vec(listing).unwrap_or_default();
    std::fs::write(&memory, bytes).map_err(|e| io(name, "write", &memory, e))?;
    Ok(differs)
}

fn put(
    name: &str,
    from: &Path,
    file: &File,
    changed: Option<&(Vec<u8>, bool)>,
    to: &PathBuf,
) -> Result<(), XenError> {
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(|e| io(name, "make", dir, e))?;
    }
    // A link in its place would be written through.
    if to.symlink_metadata().is_ok() {
        std::fs::remove_file(to).map_err(|e| io(name, "replace", to, e))?;
    }
    if file.link {
        let target = std::fs::read_link(from).map_err(|e| XenError::io(name, from, e))?;
        return std::os::unix::fs::symlink(target, to).map_err(|e| io(name, "link", to, e));
    }
    let read;
    let bytes = match changed {
        Some((bytes, _)) => bytes,
        None => {
            read = std::fs::read(from).map_err(|e| XenError::io(name, from, e))?;
            // The key says what it was when the tree was read.
            if hash_bytes(&read) != file.sha256 {
                return Err(XenError::SourceChanged { spec: name.to_owned(), path: from.to_owned() });
            }
            &read
        }
    };
    std::fs::write(to, bytes).map_err(|e| io(name, "write", to, e))?;
    let mode = if file.exec { 0o755 } else { 0o644 };
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode)).map_err(|e| io(name, "write", to, e))
}
