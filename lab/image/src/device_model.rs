//! The layer with the device model of HVM guests: Debian's, and the firmware that it and Xen's hvmloader read.
//!
//! It lies between the userland and Xen's tools: what a build brings of it wins, and it uses the build's own libraries.

use crate::recipe;
use crate::tree::{Squash, merged};
use crate::userland::{LIBRARIES, dropped};
use crate::{ImageError, ToolsTree};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_store::debian::{Deb, Lock, for_each_file};
use xenlab_store::{Entry, Key, Store};

/// The recipe, and the name of its set of packages.
const SET: &str = "device-model";
/// The package whose version is that of the device model.
const PACKAGE: &str = "qemu-system-xen";
/// Where Debian puts the program (from bookworm on), and where its libxl looks for it.
const PROGRAM: &str = "usr/libexec/xen-qemu-system-i386";
/// The file in each entry.
const IMAGE: &str = "root.squashfs";
/// Sonames that the userland or the tools must bring, beside it.
const NEEDS: &str = "needs";

/// The layer, made.
pub(crate) struct Layer {
    pub(crate) entry: Entry,
    pub(crate) image: PathBuf,
    /// `debian:SUITE VERSION`.
    pub(crate) shown: String,
}

impl Layer {
    /// Sonames that are neither in it nor among `there`.
    pub(crate) fn lacks(&self, there: &BTreeSet<String>) -> Vec<String> {
        let needs = std::fs::read_to_string(self.entry.file(NEEDS)).unwrap_or_default();
        needs.lines().filter(|n| !there.contains(*n)).map(str::to_owned).collect()
    }

    /// Names of the libraries in it.
    pub(crate) fn libraries(&self) -> String {
        std::fs::read_to_string(self.entry.file(LIBRARIES)).unwrap_or_default()
    }
}

/// Where a link to the program must lie for these tools to find it; none: they look where it is, or have their own.
fn link(tools: Option<&ToolsTree>) -> Option<String> {
    let tools = tools?;
    if tools.own_device_model {
        return None;
    }
    let path = merged(tools.device_model.as_deref()?);
    (path != PROGRAM).then_some(path)
}

/// The layer, made when the store does not have it. Only x86_64 has HVM guests, so only there is one.
pub(crate) fn layer(
    store: &Store,
    suite: &str,
    arch: Arch,
    tools: Option<&ToolsTree>,
) -> Result<Layer, ImageError> {
    let recipe = recipe::recipe(SET)?;
    let request = recipe.request(SET, suite, arch);
    let link = link(tools);
    let key = |lock: &Lock| {
        let key = Key::new("device-model")
            .part("format", 2)
            .part("recipe", recipe::digest(SET))
            .part("lock", lock.digest());
        match &link {
            Some(path) => key.part("link", path),
            None => key,
        }
    };
    let lock = recipe::lock(store, &request)?;
    if let Some(entry) = store.get(&key(&lock))? {
        return Ok(made(entry, suite, &lock));
    }
    let resolved = recipe::packages(store, &request)?;
    let what = format!("device model of {suite} for {arch}");
    let entry = store.get_or_make(&key(&resolved.lock), &what, |dir| {
        let task = store.task(
            &format!("{SET}:{suite}"),
            &format!("making the {what}"),
            resolved.debs.len() as u64,
            "packages",
        );
        let result = write(&recipe, &resolved.debs, suite, link.as_deref(), dir, &task);
        task.end(result)
    })?;
    Ok(made(entry, suite, &resolved.lock))
}

fn made(entry: Entry, suite: &str, lock: &Lock) -> Layer {
    let version = lock
        .packages
        .iter()
        .find(|p| p.name == PACKAGE)
        .map_or("of no known version", |p| p.version.as_str());
    Layer { image: entry.file(IMAGE), shown: format!("debian:{suite} {version}"), entry }
}

fn write(
    recipe: &recipe::Recipe,
    debs: &[Deb],
    suite: &str,
    link: Option<&str>,
    dir: &Path,
    task: &xenlab_store::Task,
) -> Result<(), ImageError> {
    let mut squash = Squash::new(&dir.join(IMAGE))?;
    let mut needs = BTreeSet::new();
    for deb in debs {
        for_each_file(deb, |entry| {
            let bad = |e| ImageError::io("unpack", &deb.path, e);
            let path = merged(&entry.path().map_err(bad)?.to_string_lossy());
            if dropped(recipe, &path) {
                return Ok(());
            }
            if entry.header().entry_type() != tar::EntryType::Regular
                || !(path == PROGRAM || path.contains(".so"))
            {
                return squash.entry(entry);
            }
            let mode = entry.header().mode().map_err(bad)? & 0o7777;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(bad)?;
            needs.extend(xenlab_xen::read_elf(&bytes).unwrap_or_default().needed);
            squash.file(&path, mode, &bytes)
        })?;
        task.add(1);
    }
    if !squash.has(PROGRAM) {
        return Err(ImageError::PackageLacks { suite: suite.to_owned(), what: format!("/{PROGRAM}") });
    }
    if let Some(path) = link {
        squash.link(path, &format!("/{PROGRAM}"))?;
    }
    let libraries = dir.join(LIBRARIES);
    squash.list_libraries(&libraries)?;
    let has = std::fs::read_to_string(&libraries).map_err(|e| ImageError::io("read", &libraries, e))?;
    for name in has.lines() {
        needs.remove(name);
    }
    let needs: Vec<String> = needs.into_iter().collect();
    let path = dir.join(NEEDS);
    std::fs::write(&path, needs.join("\n") + "\n").map_err(|e| ImageError::io("write", &path, e))?;
    squash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_lies_where_tools_look_that_have_none() {
        let tools = |path: Option<&str>, own: bool| ToolsTree {
            root: "/".into(),
            mount: "/".into(),
            key: "k".into(),
            bin_dirs: Vec::new(),
            lib_dirs: Vec::new(),
            files: None,
            empty_dirs: Vec::new(),
            needs: Vec::new(),
            device_model: path.map(str::to_owned),
            own_device_model: own,
        };
        let upstream = "/usr/local/lib/xen/bin/qemu-system-i386";
        for (path, own, wanted) in [
            (Some("/usr/libexec/xen-qemu-system-i386"), false, None),
            (Some(upstream), false, Some("usr/local/lib/xen/bin/qemu-system-i386")),
            (Some("/bin/qemu-system-i386"), false, Some("usr/bin/qemu-system-i386")),
            (Some(upstream), true, None),
            (None, false, None),
        ] {
            assert_eq!(link(Some(&tools(path, own))).as_deref(), wanted, "{path:?}");
        }
        assert_eq!(link(None), None);
    }

    #[test]
    fn each_suite_with_a_userland_has_its_lock_and_brings_no_library_that_the_userland_has() {
        for suite in ["bookworm", "trixie"] {
            let lock = |set: &str| {
                let request = recipe::recipe(set).unwrap().request(set, suite, Arch::X86_64);
                recipe::shipped(&request).unwrap_or_else(|| panic!("no lock of {set} for {suite}"))
            };
            let (userland, layer) = (lock("minimal"), lock(SET));
            let names = |l: &Lock| l.packages.iter().map(|p| p.name.clone()).collect::<BTreeSet<String>>();
            let mut twice: Vec<_> = names(&userland).intersection(&names(&layer)).cloned().collect();
            // The userlands of one suite only have it.
            twice.retain(|n| n != "liblz4-1");
            assert!(twice.is_empty(), "{suite}: {twice:?}");
            for name in [PACKAGE, "seabios", "ipxe-qemu"] {
                assert!(names(&layer).contains(name), "{suite}: {name}");
            }
            // The C library of another version than the userland's would take its place.
            assert!(!names(&layer).contains("libc6"), "{suite}");
        }
    }
}
