//! `nix:PATH`: a Xen in a Nix store. Its outputs are found by what `nix-store` knows of their derivation, and everything that they need to
//! run, their closure, comes into dom0 under the very paths that are compiled into them.
//!
//! A store is asked of the real `nix-store`: which paths belong together is in its database and nowhere else. A path of a store is never
//! written again, so its name says what is in it.

use super::{Provided, Provider, from_trees, not_there};
use crate::build::Declared;
use crate::error::XenError;
use crate::scan::Scan;
use crate::tree::{Node, Tree};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use xenlab_host::child::{ChildError, Command};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::{Store, StoreError};

/// See the module.
pub struct Nix;

const EXPECTED: &str = "a path in a Nix store (/nix/store/HASH-xen-VERSION) or a link to one, as `nix-build` leaves it (./result)";

/// Outputs without anything that a machine or a developer needs.
const LEFT_OUT: [&str; 4] = ["man", "doc", "info", "debug"];

impl Provider for Nix {
    fn scheme(&self) -> &'static str {
        "nix"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::Nix(_))
    }

    fn provide(&self, spec: &XenSpec, _: &Recipe, arch: Arch, store: &Store) -> Result<Provided, XenError> {
        let name = spec.to_string();
        let XenSpec::Nix(given) = spec else {
            return Err(XenError::Store { spec: name, source: StoreError::Other("no store path".into()) });
        };
        let real = std::fs::canonicalize(given).map_err(|e| not_there(&name, given, e))?;
        let Some(at) = At::of(&real) else {
            return Err(XenError::WrongKind {
                spec: name,
                path: real,
                found: "a path elsewhere",
                expected: EXPECTED,
            });
        };
        let nix = Asked { spec: &name, at: &at };
        let mut outputs = nix.outputs(given)?;
        outputs.sort();
        let closure = nix.closure(&outputs)?;
        let tops: Vec<PathBuf> = outputs.iter().map(|path| relative(path)).collect();
        let io = |path: &Path| {
            let path = path.to_owned();
            let name = name.clone();
            move |e| XenError::io(&name, &path, e)
        };
        let mut tree = Tree::default();
        for (output, top) in outputs.iter().zip(&tops) {
            let physical = at.physical(output);
            // The folder itself, so that what leads to its files is there.
            let (inside, _) = Tree::walk(&physical).map_err(io(&physical))?;
            tree.nodes.extend(inside.nodes.into_iter().map(|(path, node)| (top.join(path), node)));
        }
        let identity = closure.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join("\n");
        let identity = xenlab_store::hash_bytes(format!("{identity}\n{tops:?}").as_bytes());
        let rest: Vec<&PathBuf> = closure.iter().filter(|path| !outputs.contains(path)).collect();
        let mut whole = tree.clone();
        for path in &rest {
            let physical = at.physical(path);
            everything(&physical, &relative(path), &mut whole.nodes).map_err(io(&physical))?;
        }
        let provided =
            from_trees(&name, &at.root, &tops, &identity, Some(&tree), arch, store, &|found: &mut Scan| {
                complete(found, &tree, &whole);
                Ok(())
            })?;
        if provided.hypervisor.is_none() && provided.tools.is_none() && provided.development.is_none() {
            return Err(XenError::NotABuild { spec: name, path: real, looked_for: super::looked_for() });
        }
        Ok(Provided { declared: declared(&outputs), root: at.physical(&at.object), ..provided })
    }
}

/// What else dom0 gets: the files of the closure that are no output's, and what they bring that its programs need.
fn complete(found: &mut Scan, tree: &Tree, whole: &Tree) {
    let Some(tools) = &mut found.tools else { return };
    let more = whole.nodes.iter().filter(|(path, node)| !node.dir && !tree.nodes.contains_key(*path));
    let mut there = BTreeSet::new();
    for (path, _) in more {
        if let Some(name) = path.file_name().and_then(|n| n.to_str()) {
            there.insert(name.to_owned());
        }
        tools.files.push(path.clone());
    }
    tools.needs.retain(|soname| !there.contains(soname));
}

/// Every file, link and folder at `physical`, which may be one itself, under its path relative to the root.
fn everything(physical: &Path, top: &Path, nodes: &mut BTreeMap<PathBuf, Node>) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in walkdir::WalkDir::new(physical).sort_by_file_name() {
        let entry = entry.map_err(std::io::Error::from)?;
        let meta = entry.metadata().map_err(std::io::Error::from)?;
        let inside = entry.path().strip_prefix(physical).unwrap_or(entry.path());
        let path = if inside.as_os_str().is_empty() { top.to_owned() } else { top.join(inside) };
        let link = entry.path_is_symlink().then(|| std::fs::read_link(entry.path())).transpose()?;
        let size = if meta.is_dir() { 0 } else { meta.len() };
        nodes.insert(path, Node { link, dir: meta.is_dir(), mode: meta.permissions().mode() & 0o7777, size });
    }
    Ok(())
}

/// `HASH-NAME`: 32 digits of Nix's base 32 (nix, src/libstore/store-api.cc, `StorePath`).
pub(crate) fn is_store_name(name: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b.is_ascii_lowercase() && !b"eotu".contains(&b));
    name.len() > 33 && name.as_bytes()[..32].iter().all(|b| digit(*b)) && name.as_bytes()[32] == b'-'
}

/// The store path that this path, as the store names it, is or lies in.
pub fn store_path(path: &Path) -> Option<PathBuf> {
    let named = |p: &&Path| p.file_name().and_then(|n| n.to_str()).is_some_and(is_store_name);
    path.ancestors().find(named).map(Path::to_owned)
}

pub(super) fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

/// Where a store path is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct At {
    /// What every path of the store is below, on this machine: `/`, or the folder of a store that lies elsewhere and believes itself to
    /// be `/nix/store` (`nix --store DIR`).
    pub(super) root: PathBuf,
    /// The store's folder, as its paths name it.
    pub(super) store: PathBuf,
    /// The store path that was named, as the store names it.
    pub(super) object: PathBuf,
}

impl At {
    /// The store path that this path is or lies in.
    pub(super) fn of(path: &Path) -> Option<At> {
        let mut before = PathBuf::new();
        for part in path.components() {
            if let Component::Normal(name) = part
                && is_store_name(name.to_str()?)
            {
                let root = before.ancestors().nth(2).filter(|root| {
                    before.ends_with("nix/store")
                        && *root != Path::new("/")
                        && root.join("nix/var/nix").is_dir()
                });
                let (root, store) = match root {
                    Some(root) => (root.to_owned(), PathBuf::from("/nix/store")),
                    None => (PathBuf::from("/"), before),
                };
                return Some(At { root, object: store.join(name), store });
            }
            before.push(part);
        }
        None
    }

    pub(super) fn physical(&self, path: &Path) -> PathBuf {
        self.root.join(relative(path))
    }
}

/// The store, asked.
pub(super) struct Asked<'a> {
    pub(super) spec: &'a str,
    pub(super) at: &'a At,
}

impl Asked<'_> {
    /// What `nix-store --query` answers, a line each.
    fn query(&self, what: &str, paths: &[PathBuf]) -> Result<Vec<String>, XenError> {
        let mut command = Command::new("nix-store");
        if self.at.root != Path::new("/") {
            // It is wherever it is, whatever the user's own is called.
            command = command.env_remove("NIX_STORE_DIR").env_remove("NIX_STATE_DIR");
            command = command.arg("--store").arg(&self.at.root);
        } else if self.at.store != Path::new("/nix/store") {
            command = command.env("NIX_STORE_DIR", &self.at.store);
        }
        let output = command.arg("--query").arg(what).args(paths).checked();
        let text = output.map_err(|e| self.failed(e))?.stdout.text();
        Ok(text.lines().map(str::to_owned).filter(|line| !line.is_empty()).collect())
    }

    fn failed(&self, error: ChildError) -> XenError {
        let (spec, path) = (self.spec.to_owned(), self.at.object.clone());
        match error {
            ChildError::Failed { stderr, .. } => {
                XenError::NotInStore { spec, path, said: stderr.trim().to_owned() }
            }
            ChildError::NotFound { program, hint } => XenError::ToolMissing { program, hint },
            other => XenError::Child(other),
        }
    }

    /// Everything that these need, themselves included.
    pub(super) fn closure(&self, paths: &[PathBuf]) -> Result<BTreeSet<PathBuf>, XenError> {
        Ok(self.query("--requisites", paths)?.into_iter().map(PathBuf::from).collect())
    }

    /// The outputs of the derivation that the path is of, as far as they are there: the derivation knows them; where only its name is
    /// known, what has the same; and the links that `nix-build` makes beside the one that was given.
    pub(super) fn outputs(&self, given: &Path) -> Result<Vec<PathBuf>, XenError> {
        let object = &self.at.object;
        let mut found = BTreeSet::from([object.clone()]);
        let deriver = self.query("--deriver", std::slice::from_ref(object))?.pop().map(PathBuf::from);
        let deriver = deriver.filter(|drv| drv.starts_with(&self.at.store));
        if let Some(drv) = &deriver {
            if self.at.physical(drv).is_file() {
                found.extend(
                    self.query("--outputs", std::slice::from_ref(drv))?.into_iter().map(PathBuf::from),
                );
            } else {
                let like: Vec<PathBuf> = self.siblings();
                let known = if like.is_empty() { Vec::new() } else { self.query("--deriver", &like)? };
                let same = like.into_iter().zip(known).filter(|(_, of)| Path::new(of) == drv);
                found.extend(same.map(|(path, _)| path));
            }
        }
        if let Some(name) = given.file_name().and_then(|n| n.to_str())
            && given.is_symlink()
            && let Ok(beside) = std::fs::read_dir(given.parent().unwrap_or(Path::new(".")))
        {
            let base = name.split_once('-').map_or(name, |(base, _)| base);
            for entry in beside.flatten() {
                let of = entry.file_name().to_string_lossy().into_owned();
                let of = of == base || of.strip_prefix(base).is_some_and(|rest| rest.starts_with('-'));
                let there = std::fs::canonicalize(entry.path()).ok().and_then(|path| At::of(&path));
                if of && let Some(at) = there.filter(|at| at.root == self.at.root) {
                    found.insert(at.object);
                }
            }
        }
        let wanted = |path: &PathBuf| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let output = name.rsplit_once('-').map_or("", |(_, output)| output);
            path == object || (!LEFT_OUT.contains(&output) && self.at.physical(path).exists())
        };
        Ok(found.into_iter().filter(wanted).collect())
    }

    /// Paths of the store whose names say that they may be outputs of the same derivation.
    fn siblings(&self) -> Vec<PathBuf> {
        let name = |path: &Path| {
            path.file_name().and_then(|n| n.to_str()).and_then(|n| n.get(33..)).map(str::to_owned)
        };
        let own = name(&self.at.object).unwrap_or_default();
        let base = |name: &str| {
            let output =
                ["bin", "boot", "dev", "lib"].iter().find_map(|o| name.strip_suffix(&format!("-{o}")));
            output.unwrap_or(name).to_owned()
        };
        let entries = std::fs::read_dir(self.at.physical(&self.at.store)).into_iter().flatten().flatten();
        let mut like: Vec<PathBuf> = entries
            .map(|entry| self.at.store.join(entry.file_name()))
            .filter(|path| name(path).is_some_and(|n| !n.ends_with(".drv") && base(&n) == base(&own)))
            .collect();
        like.sort();
        like
    }
}

/// The version in an output's name, which is what the package says it is: `HASH-xen-4.20.1`, `HASH-xen-4.20.1-boot`.
fn declared(outputs: &[PathBuf]) -> Option<Declared> {
    outputs.iter().find_map(|path| {
        let name = path.file_name()?.to_str()?.get(33..)?;
        let (_, rest) = name.split_once("-").filter(|(package, _)| *package == "xen")?;
        let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let parts: Vec<&str> = version.split('.').collect();
        let whole = parts.len() >= 2 && parts.iter().all(|p| !p.is_empty());
        // What stands behind it is an output's name; of anything else it is not known what the version is.
        let output = &rest[version.len()..];
        let known = output.is_empty() || ["-bin", "-boot", "-dev", "-lib", "-out"].contains(&output);
        (whole && known).then(|| Declared { version, by: format!("the name of {}", path.display()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0c1f6qg1kzszkhqfc7dqrq3c8sk4b9m5";

    #[test]
    fn store_paths() {
        assert!(is_store_name(&format!("{HASH}-xen-4.20.1")));
        for name in ["xen-4.20.1", HASH, &format!("{HASH}-"), &format!("{}-xen", HASH.replace('0', "e"))] {
            assert!(!is_store_name(name), "{name}");
        }
        let object = PathBuf::from(format!("/nix/store/{HASH}-xen"));
        let at = At::of(&object.join("bin/xl")).unwrap();
        assert_eq!(at, At { root: "/".into(), store: "/nix/store".into(), object: object.clone() });
        assert_eq!(at.physical(&object), object);
        let elsewhere = At::of(Path::new(&format!("/tmp/x/store/{HASH}-xen"))).unwrap();
        assert_eq!((elsewhere.root, elsewhere.store), ("/".into(), "/tmp/x/store".into()));
        assert_eq!(At::of(Path::new("/opt/xen")), None);
        // A store that believes itself elsewhere has its database beside it.
        let dir = tempfile::tempdir().unwrap();
        let physical = dir.path().join(format!("nix/store/{HASH}-xen"));
        assert_eq!(At::of(&physical).unwrap().root, Path::new("/"));
        std::fs::create_dir_all(dir.path().join("nix/var/nix")).unwrap();
        let at = At::of(&physical).unwrap();
        assert_eq!((at.root.as_path(), &at.object), (dir.path(), &object));
        assert_eq!(at.physical(&at.object), physical);
    }

    #[test]
    fn versions_in_names() {
        let of =
            |name: &str| declared(&[PathBuf::from(format!("/nix/store/{HASH}-{name}"))]).map(|d| d.version);
        for (name, version) in [
            ("xen-4.20.1", Some("4.20.1")),
            ("xen-4.20.1-boot", Some("4.20.1")),
            ("xen-4.20", Some("4.20")),
            ("xen-4.20.0-rc2", None),
            ("xen-unstable-2026-01-01", None),
            ("xen-4.", None),
            ("qemu-10.0", None),
        ] {
            assert_eq!(of(name).as_deref(), version, "{name}");
        }
    }
}
