//! A build's tree of tools and development files, broken: a copy of the real one with something in it changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What is wrong with the development files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dev {
    /// This module's `.pc` file is not there.
    NoModule(&'static str),
    /// This module's `.pc` file, with a text in it replaced.
    Edited {
        /// The module.
        module: &'static str,
        /// What is there.
        from: &'static str,
        /// What comes in its place.
        to: &'static str,
    },
    /// The files that `-lNAME` finds are the other architecture's.
    OtherArchitecture(&'static str),
    /// The shared object that the link `libNAME.so` leads to is not there.
    DanglingLink(&'static str),
}

/// What is wrong with the tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolsFault {
    /// Every program of this name is missing.
    Without(&'static [&'static str]),
    /// They are the other architecture's, all of them.
    OtherArchitecture,
    /// The files of this library are the other architecture's.
    LibraryOfOtherArchitecture(&'static str),
}

/// Copies a tree: files with their permissions, links as they are.
pub(super) fn copy(from: &Path, to: &Path) -> Result<(), String> {
    for item in walkdir::WalkDir::new(from).sort_by_file_name() {
        let item = item.map_err(|e| e.to_string())?;
        let relative = item.path().strip_prefix(from).map_err(|e| e.to_string())?;
        let target = to.join(relative);
        let done = again(&item, &target, |item, target| {
            // The store's files are read-only; these are to be changed.
            fs::copy(item.path(), target)?;
            let mode = item.metadata()?.permissions().mode() | 0o200;
            fs::set_permissions(target, fs::Permissions::from_mode(mode))
        });
        done.map_err(|e| format!("{}: {e}", target.display()))?;
    }
    Ok(())
}

/// Makes what a walk found once more, as `target`: a folder, a link with the same words, a file as `file` does it.
fn again(
    item: &walkdir::DirEntry,
    target: &Path,
    file: impl FnOnce(&walkdir::DirEntry, &Path) -> std::io::Result<()>,
) -> std::io::Result<()> {
    if item.file_type().is_dir() {
        fs::create_dir_all(target)
    } else if item.file_type().is_symlink() {
        symlink(fs::read_link(item.path())?, target)
    } else {
        file(item, target)
    }
}

/// A store's parts again, each file a hard link where the file system can.
pub(super) fn link(from: &Path, to: &Path, parts: &[&str]) -> Result<(), String> {
    fs::create_dir_all(to).map_err(|e| format!("{}: {e}", to.display()))?;
    for part in parts {
        for item in walkdir::WalkDir::new(from.join(part)) {
            let item = match item {
                Ok(item) => item,
                // What others remove while it is read is nothing that is needed here.
                Err(e) if e.io_error().is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound) => continue,
                Err(e) => return Err(e.to_string()),
            };
            let relative = item.path().strip_prefix(from).map_err(|e| e.to_string())?;
            let target = to.join(relative);
            let done = again(&item, &target, |item, target| {
                fs::hard_link(item.path(), target).or_else(|_| fs::copy(item.path(), target).map(drop))
            });
            match done {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {e}", target.display()));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Changes a byte in every file of this name. The file becomes one of its own: what it was a link to stays as it is.
pub(super) fn damage(dir: &Path, name: &str) -> Result<(), String> {
    let found = named(dir, |f| f == name)?;
    if found.is_empty() {
        return Err(format!("{}: there is no {name}", dir.display()));
    }
    for path in found {
        let io = |e: std::io::Error| format!("{}: {e}", path.display());
        let mut bytes = fs::read(&path).map_err(io)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::remove_file(&path).and_then(|()| fs::write(&path, bytes)).map_err(io)?;
    }
    Ok(())
}

/// Files and links below `root` whose name `wanted` says yes to.
fn named(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for item in walkdir::WalkDir::new(root).sort_by_file_name() {
        let item = item.map_err(|e| e.to_string())?;
        if !item.file_type().is_dir() && item.file_name().to_str().is_some_and(&wanted) {
            found.push(item.into_path());
        }
    }
    Ok(found)
}

fn remove(paths: &[PathBuf], what: &str) -> Result<(), String> {
    if paths.is_empty() {
        return Err(format!("there is no {what} to take away"));
    }
    paths.iter().try_for_each(|p| fs::remove_file(p).map_err(|e| format!("{}: {e}", p.display())))
}

/// `libNAME.so`, `libNAME.so.4.17`, `libNAME.a`.
fn library(file: &str, name: &str) -> bool {
    file.strip_prefix("lib")
        .and_then(|f| f.strip_prefix(name))
        .is_some_and(|rest| rest == ".a" || rest == ".so" || rest.starts_with(".so."))
}

/// Changes what is in every regular file of a library for the same file of `other`, the other architecture's tree.
fn exchange(root: &Path, other: &Path, name: &str) -> Result<(), String> {
    let real = |root: &Path| -> Result<Vec<PathBuf>, String> {
        let files = named(root, |f| library(f, name))?;
        Ok(files.into_iter().filter(|p| p.symlink_metadata().is_ok_and(|m| m.is_file())).collect())
    };
    let (here, there) = (real(root)?, real(other)?);
    if here.is_empty() {
        return Err(format!("there is no lib{name}"));
    }
    for path in here {
        let same = there.iter().find(|p| p.file_name() == path.file_name());
        let from = same.ok_or_else(|| format!("{}: the other architecture has none", path.display()))?;
        fs::copy(from, &path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

/// Breaks the development files of a copy.
pub(super) fn break_development(
    how: Dev,
    root: &Path,
    other: impl FnOnce() -> Result<PathBuf, String>,
) -> Result<(), String> {
    match how {
        Dev::NoModule(module) => {
            let pc = format!("{module}.pc");
            remove(&named(root, |f| f == pc)?, &pc)
        }
        Dev::Edited { module, from, to } => {
            let pc = format!("{module}.pc");
            let mut edited = false;
            for path in named(root, |f| f == pc)? {
                let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
                let new = text.replace(from, to);
                edited |= new != text;
                fs::write(&path, new).map_err(|e| format!("{}: {e}", path.display()))?;
            }
            if edited { Ok(()) } else { Err(format!("{pc} has no `{from}`")) }
        }
        Dev::OtherArchitecture(name) => exchange(root, &other()?, name),
        Dev::DanglingLink(name) => {
            let behind = named(root, |f| library(f, name) && f.contains(".so."))?;
            remove(&behind, &format!("lib{name}.so.*"))
        }
    }
}

/// Breaks the tools of a copy.
pub(super) fn break_tools(
    how: ToolsFault,
    root: &Path,
    other: impl FnOnce() -> Result<PathBuf, String>,
) -> Result<(), String> {
    match how {
        ToolsFault::Without(programs) => {
            let found = named(root, |f| programs.contains(&f))?;
            // Links that would name the removed files go with them.
            remove(&found, &programs.join(" or "))
        }
        ToolsFault::OtherArchitecture => {
            fs::remove_dir_all(root).map_err(|e| format!("{}: {e}", root.display()))?;
            copy(&other()?, root)
        }
        ToolsFault::LibraryOfOtherArchitecture(name) => exchange(root, &other()?, name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_libraries() {
        for file in ["libxenctrl.so", "libxenctrl.so.4.17", "libxenctrl.a"] {
            assert!(library(file, "xenctrl"), "{file}");
        }
        for file in ["libxenctrlx.so", "libxenctrl.la", "xenctrl.so", "libxen.so"] {
            assert!(!library(file, "xenctrl"), "{file}");
        }
    }

    #[test]
    fn a_copy_can_be_changed_and_the_original_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to, other) = (dir.path().join("a"), dir.path().join("b"), dir.path().join("c"));
        for (root, text) in [(&from, "mine"), (&other, "theirs")] {
            fs::create_dir_all(root.join("usr/lib")).unwrap();
            fs::write(root.join("usr/lib/libx.so.1.0"), text).unwrap();
        }
        symlink("libx.so.1.0", from.join("usr/lib/libx.so")).unwrap();
        fs::write(from.join("usr/lib/x.pc"), "Version: 4.17\n").unwrap();
        fs::set_permissions(from.join("usr/lib/x.pc"), fs::Permissions::from_mode(0o444)).unwrap();
        copy(&from, &to).unwrap();
        let none = || Err("not asked for".to_owned());
        break_development(Dev::Edited { module: "x", from: "4.17", to: "4.18" }, &to, none).unwrap();
        assert_eq!(fs::read_to_string(to.join("usr/lib/x.pc")).unwrap(), "Version: 4.18\n");
        assert_eq!(fs::read_to_string(from.join("usr/lib/x.pc")).unwrap(), "Version: 4.17\n");
        break_development(Dev::OtherArchitecture("x"), &to, || Ok(other.clone())).unwrap();
        assert_eq!(fs::read_to_string(to.join("usr/lib/libx.so")).unwrap(), "theirs");
        break_development(Dev::NoModule("x"), &to, none).unwrap();
        assert!(!to.join("usr/lib/x.pc").exists());
        // What cannot be broken is said, so that no row passes by having broken nothing.
        assert!(break_development(Dev::NoModule("x"), &to, none).is_err());
        assert!(break_development(Dev::DanglingLink("y"), &to, none).is_err());
        assert!(break_tools(ToolsFault::Without(&["xenstored"]), &to, none).is_err());
    }
}
