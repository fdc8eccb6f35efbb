//! Laying out sources: what is a part of one, and that only what differs is written.

use super::lay::{self, Changed, digest, lay, list, over};
use crate::error::XenError;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

fn tree(dir: &Path) {
    for (path, text) in [
        ("xen/Makefile", "all:\n"),
        ("xen/a.c", "a\n"),
        ("xen/a.o", "object\n"),
        ("xen/.config", "CONFIG_X=y\n"),
        ("tools/a.opic", "object\n"),
        ("config/Tools.mk", "CONFIG_X=y\n"),
        ("xen/include/generated/autoconf.h", "x\n"),
        ("run.sh", "#!/bin/sh\n"),
    ] {
        fs::create_dir_all(dir.join(path).parent().expect("below the folder")).expect("made");
        fs::write(dir.join(path), text).expect("written");
    }
    fs::set_permissions(dir.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("set");
    std::os::unix::fs::symlink("a.c", dir.join("xen/b.c")).expect("linked");
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn only_what_differs_is_written() {
    let dir = tempfile::tempdir().expect("a folder");
    let (from, space) = (dir.path().join("tree"), dir.path().join("space"));
    tree(&from);
    fs::create_dir(&space).expect("made");
    let memory = space.join("stamps.json");
    let mut listing = list("x", &from, &memory, &|_| true).expect("listed");
    let names: Vec<&str> = listing.keys().map(String::as_str).collect();
    assert_eq!(names, ["run.sh", "xen/Makefile", "xen/a.c", "xen/b.c"], "what a build left is no source");
    let first = digest(&listing);
    let none = Changed::new();
    assert_eq!(lay("x", &from, &listing, &none, &space).expect("laid").len(), 4);
    assert_eq!(fs::read_link(space.join("src/xen/b.c")).expect("a link"), Path::new("a.c"));
    assert_eq!(fs::metadata(space.join("src/run.sh")).expect("there").permissions().mode() & 0o777, 0o755);
    // A build leaves something, and it stays.
    fs::write(space.join("src/xen/a.o"), "made").expect("written");
    let old = SystemTime::UNIX_EPOCH;
    let touch =
        |p: &str| fs::File::open(space.join("src").join(p)).and_then(|f| f.set_modified(old)).expect("set");
    touch("xen/Makefile");
    assert_eq!(lay("x", &from, &listing, &none, &space).expect("laid"), set(&[]));
    // Changed, gone, patched, new by a patch.
    fs::write(from.join("xen/a.c"), "changed\n").expect("written");
    fs::remove_file(from.join("run.sh")).expect("removed");
    listing = list("x", &from, &memory, &|_| true).expect("listed");
    assert_ne!(digest(&listing), first);
    let changed: Changed = [("xen/new.h".to_owned(), Some((b"new\n".to_vec(), false)))].into();
    over(&mut listing, &changed);
    assert_eq!(
        lay("x", &from, &listing, &changed, &space).expect("laid"),
        set(&["run.sh", "xen/a.c", "xen/new.h"])
    );
    assert!(!space.join("src/run.sh").exists() && space.join("src/xen/a.o").exists());
    assert_eq!(fs::read_to_string(space.join("src/xen/new.h")).expect("there"), "new\n");
    let kept = fs::metadata(space.join("src/xen/Makefile")).and_then(|m| m.modified()).expect("there");
    assert_eq!(kept, old, "what did not change keeps its time");
    // Without the patch its file goes.
    let listing = list("x", &from, &memory, &|_| true).expect("listed");
    assert_eq!(lay("x", &from, &listing, &none, &space).expect("laid"), set(&["xen/new.h"]));
}

#[test]
fn a_tree_that_changes_under_the_lab_is_an_error() {
    let dir = tempfile::tempdir().expect("a folder");
    tree(dir.path());
    let space = tempfile::tempdir().expect("a folder");
    let listing = list("x", dir.path(), &space.path().join("stamps.json"), &|_| true).expect("listed");
    fs::write(dir.path().join("xen/a.c"), "another\n").expect("written");
    let e = lay("x", dir.path(), &listing, &Changed::new(), space.path()).expect_err("not what was listed");
    assert!(matches!(e, XenError::SourceChanged { .. }) && !e.is_bad_input(), "{e}");
    assert_eq!(e.cause().code(), "lab.input-changed");
}

#[test]
fn a_digest_is_of_names_modes_and_bytes() {
    let dir = tempfile::tempdir().expect("a folder");
    tree(dir.path());
    let memory = dir.path().join("../none/stamps.json");
    let now = || lay::digest(&list("x", dir.path(), &memory, &|_| true).expect("listed"));
    let first = now();
    assert_eq!(now(), first);
    fs::set_permissions(dir.path().join("xen/a.c"), fs::Permissions::from_mode(0o755)).expect("set");
    let exec = now();
    assert_ne!(exec, first);
    fs::rename(dir.path().join("xen/a.c"), dir.path().join("xen/c.c")).expect("renamed");
    assert_ne!(now(), exec);
}
