//! Patches: applied by `patch -p1` to copies of the files they name, never to the user's tree.

use super::lay::Changed;
use super::{io, make};
use crate::error::XenError;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};
use xenlab_host::Command;
use xenlab_store::Store;

/// A patch, read.
#[derive(Clone)]
pub(super) struct Patch {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

impl Patch {
    /// Its file, without folders.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }
}

/// Reads patches.
pub(super) fn read(name: &str, paths: &[PathBuf]) -> Result<Vec<Patch>, XenError> {
    paths
        .iter()
        .map(|path| {
            let bytes = std::fs::read(path).map_err(|e| match e.kind() {
                std::io::ErrorKind::NotFound => crate::provider::not_there(name, path, e),
                _ => XenError::io(name, path, e),
            })?;
            if touched(&bytes).is_empty() {
                return Err(XenError::WrongKind {
                    spec: name.to_owned(),
                    path: path.clone(),
                    found: "no patch: it has no `--- a/FILE` and `+++ b/FILE`",
                    expected: "a unified diff, as git and quilt write them",
                });
            }
            Ok(Patch { path: path.clone(), bytes })
        })
        .collect()
}

/// The files that a patch names, without the first folder of each (`-p1`).
pub(super) fn touched(bytes: &[u8]) -> BTreeSet<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut files = BTreeSet::new();
    for line in text.lines() {
        let stripped = line.strip_prefix("--- ").or_else(|| line.strip_prefix("+++ ")).and_then(|file| {
            let file = file.split('\t').next().unwrap_or(file).trim();
            file.split_once('/').filter(|_| file != "/dev/null").map(|(_, rest)| rest)
        });
        let whole = line.strip_prefix("rename from ").or_else(|| line.strip_prefix("rename to "));
        if let Some(file) = stripped.or(whole) {
            let inside = Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
            if inside && !file.is_empty() {
                files.insert(file.to_owned());
            }
        }
    }
    files
}

/// What the patches, one after the other, make of a tree.
pub(super) fn apply(name: &str, tree: &Path, patches: &[Patch], store: &Store) -> Result<Changed, XenError> {
    let mut changed = Changed::new();
    if patches.is_empty() {
        return Ok(changed);
    }
    let tmp = store.temporary("patch").map_err(XenError::store(name))?;
    let stage = tmp.path().join("tree");
    std::fs::create_dir(&stage).map_err(|e| io(name, "make", &stage, e))?;
    let mut staged = BTreeSet::new();
    for patch in patches {
        for file in touched(&patch.bytes) {
            if staged.insert(file.clone()) {
                copy(name, &tree.join(&file), &stage.join(&file))?;
            }
        }
        let output = Command::new("patch")
            .args([
                "-p1",
                "--batch",
                "--forward",
                "--no-backup-if-mismatch",
                "--reject-file=-",
                "--directory",
            ])
            .arg(&stage)
            .env("LC_ALL", "C")
            .env_remove("POSIXLY_CORRECT")
            .stdin_bytes(patch.bytes.clone())
            .output()
            .map_err(make::child)?;
        if !output.ended.ok() {
            let said = format!("{}\n{}", output.stdout.text(), output.stderr.text());
            return Err(XenError::PatchFails {
                spec: name.to_owned(),
                patch: patch.path.clone(),
                what: failed(&said, &String::from_utf8_lossy(&patch.bytes)),
            });
        }
    }
    for file in staged {
        let at = stage.join(&file);
        let to = match at.symlink_metadata() {
            Ok(m) if m.is_file() => {
                let bytes = std::fs::read(&at).map_err(|e| io(name, "read", &at, e))?;
                Some((bytes, m.permissions().mode() & 0o100 != 0))
            }
            _ => None,
        };
        changed.insert(file, to);
    }
    Ok(changed)
}

pub(super) fn copy(name: &str, from: &Path, to: &Path) -> Result<(), XenError> {
    // A file that the patch makes is not there yet.
    if !from.is_file() {
        return Ok(());
    }
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(|e| io(name, "make", dir, e))?;
    }
    std::fs::copy(from, to).map(drop).map_err(|e| XenError::io(name, from, e))?;
    // The store's own files are read-only, and copies of them too.
    let mode = std::fs::metadata(to).map_or(0o644, |m| m.permissions().mode());
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode | 0o200))
        .map_err(|e| io(name, "write", to, e))
}

/// The first thing that `patch` could not do, in words: the file, the hunk, and what the hunk is about.
fn failed(said: &str, patch: &str) -> String {
    let mut file = "";
    for line in said.lines().map(str::trim) {
        if let Some(rest) =
            ["checking file ", "patching file "].iter().find_map(|start| line.strip_prefix(start))
        {
            file = rest.split(" (").next().unwrap_or(rest).trim_matches('\'');
        } else if let Some(hunk) = line.strip_prefix("Hunk #").filter(|h| h.contains("FAILED")) {
            let number = hunk.split(' ').next().unwrap_or_default();
            let header = number.parse().ok().and_then(|n| hunk_header(patch, file, n)).unwrap_or_default();
            return format!("{file}: hunk #{number} does not apply{header}");
        } else if line.starts_with("can't find file to patch") || line.starts_with("No file to patch") {
            let gone = touched_line(said).unwrap_or("a file it names");
            return format!("{gone}: the tree has no such file");
        } else if line.contains("previously applied") || line.contains("already exists!") {
            return format!(
                "{file}{}it seems to be in this tree already",
                if file.is_empty() { "" } else { ": " }
            );
        } else if line.contains("malformed patch") || line.contains("Only garbage") {
            return format!(
                "it is damaged: {}",
                line.trim_start_matches("patch: ").trim_start_matches("**** ")
            );
        }
    }
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    lines.last().copied().unwrap_or("patch did not say why").to_owned()
}

/// `patch` quotes the header of what it cannot find as `|--- a/FILE`.
fn touched_line(said: &str) -> Option<&str> {
    let line = said.lines().find_map(|l| l.strip_prefix("|+++ ").or_else(|| l.strip_prefix("|--- ")))?;
    line.split('\t').next()?.split_once('/').map(|(_, file)| file.trim())
}

/// ` (@@ -1,2 +1,3 @@ function, line 17 of the patch)` of the n-th hunk of a file.
fn hunk_header(patch: &str, file: &str, n: usize) -> Option<String> {
    let mut inside = false;
    let mut seen = 0;
    for (at, line) in patch.lines().enumerate() {
        if line.starts_with("+++ ") || line.starts_with("--- ") && !line.starts_with("--- /dev/null") {
            inside = line.split('\t').next().unwrap_or(line).trim_end().ends_with(file);
        } else if inside && line.starts_with("@@ ") {
            seen += 1;
            if seen == n {
                return Some(format!(" ({line}, line {} of the patch)", at + 1));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "From: x\n\n--- a/xen/common/kernel.c\t2020\n+++ b/xen/common/kernel.c\n@@ -1,3 +1,3 @@ int a(void)\n a\n-b\n+c\n d\n\
        @@ -20,1 +20,1 @@ int b(void)\n-x\n+y\n--- /dev/null\n+++ b/xen/new.c\n@@ -0,0 +1 @@\n+x\n--- a/../../etc/passwd\n+++ b/../../etc/passwd\n";

    #[test]
    fn files_that_a_patch_names() {
        let files: Vec<String> = touched(PATCH.as_bytes()).into_iter().collect();
        assert_eq!(files, ["xen/common/kernel.c", "xen/new.c"], "and nothing outside the tree");
    }

    #[test]
    fn what_fails_is_named() {
        let said = "patching file xen/common/kernel.c\nHunk #2 FAILED at 20.\n1 out of 2 hunks FAILED\n";
        assert_eq!(
            failed(said, PATCH),
            "xen/common/kernel.c: hunk #2 does not apply (@@ -20,1 +20,1 @@ int b(void), line 10 of the patch)"
        );
        let said = "can't find file to patch at input line 5\n|--- a/xen/gone.c\n|+++ b/xen/gone.c\nNo file to patch.  Skipping patch.\n";
        assert_eq!(failed(said, PATCH), "xen/gone.c: the tree has no such file");
        assert!(
            failed("patch: **** malformed patch at line 3: x\n", PATCH).contains("malformed patch at line 3")
        );
    }
}
