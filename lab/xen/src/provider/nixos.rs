//! `nixos:TOPLEVEL`: a NixOS system as a subject. Its `boot.json` says which Xen, kernel, initrd and command lines boot, and which version
//! the Xen is; dom0 is the system itself, from a disk that has its closure. Tools and development files are read off the outputs of the Xen
//! package that are in the closure.

use super::nix::{Asked, At, relative};
use super::{Provided, Provider, efi_image, from_trees, hypervisor, not_there};
use crate::bootspec::{self, Bootspec};
use crate::build::{Declared, RootDisk, System};
use crate::error::XenError;
use crate::scan::Scan;
use crate::tree::Tree;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::{Store, StoreError};

/// See the module.
pub struct Nixos;

const EXPECTED: &str = "a NixOS system in a Nix store (/nix/store/HASH-nixos-system-…, /run/current-system) or a link to one, as \
                        `nixos-rebuild build` leaves it (./result)";

/// A file of the lab's module in a system that has it, and what is in it: its version.
const MODULE: &str = "etc/xenlab/module";
const MODULE_VERSION: &str = "1";

impl Provider for Nixos {
    fn scheme(&self) -> &'static str {
        "nixos"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::Nixos(_))
    }

    fn provide(&self, spec: &XenSpec, _: &Recipe, arch: Arch, store: &Store) -> Result<Provided, XenError> {
        let name = spec.to_string();
        let XenSpec::Nixos(given) = spec else {
            return Err(XenError::Store { spec: name, source: StoreError::Other("no system".into()) });
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
        let of = Of { spec: &name, at: &at };
        let (boot_json, boot) = of.boot_json(arch)?;
        let nix = Asked { spec: &name, at: &at };
        let closure = nix.closure(std::slice::from_ref(&at.object))?;
        of.named_paths(&boot_json, &boot, &closure)?;
        let system = System {
            toplevel: at.object.clone(),
            root: at.root.clone(),
            store: at.store.clone(),
            label: boot.label.clone(),
            kernel: boot.kernel.clone(),
            initrd: boot.initrd.clone(),
            init: boot.init.clone(),
            kernel_params: boot.kernel_params.clone(),
            xen_params: boot.xen.params.clone(),
            closure: closure.iter().cloned().collect(),
            disk: of.root_disk()?,
            module: of.module()?,
        };
        let image = |path: &Path| of.resolve(path).map_err(|e| XenError::io(&name, &at.physical(path), e));
        let efi = image(&boot.xen.efi)?;
        let mut h = match &boot.xen.multiboot {
            Some(path) => hypervisor(&name, &image(path)?, arch, store)?,
            None => hypervisor(&name, &efi, arch, store)?,
        };
        if boot.xen.multiboot.is_some() {
            h.efi = Some(efi_image(&name, &efi, arch, store)?);
        }
        let found =
            of.package(&nix, boot.xen.multiboot.as_ref().unwrap_or(&boot.xen.efi), &closure, arch, store)?;
        if let Some(same) = found.hypervisor.filter(|other| other.digest == h.digest) {
            h.config = same.config.or(h.config);
        }
        let by = format!("{} of {}", boot.xen.extension, boot_json.display());
        Ok(Provided {
            root: at.physical(&at.object),
            hypervisor: Some(h),
            tools: found.tools,
            development: found.development,
            boot: found.boot,
            declared: boot.xen.version.map(|version| Declared { version, by }),
            system: Some(system),
            left_out: Vec::new(),
        })
    }
}

/// A system in a store.
struct Of<'a> {
    spec: &'a str,
    at: &'a At,
}

impl Of<'_> {
    fn wrong(&self, path: &Path, why: impl Into<String>) -> XenError {
        XenError::Bootspec { spec: self.spec.to_owned(), path: path.to_owned(), why: why.into() }
    }

    /// Its `boot.json`, with where that is.
    fn boot_json(&self, arch: Arch) -> Result<(PathBuf, Bootspec), XenError> {
        let path = self.at.physical(&self.at.object.join("boot.json"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let why = if self.at.physical(&self.at.object.join("init")).exists() {
                    "there is none: it is written since NixOS 23.05, unless `boot.bootspec.enable` is off"
                } else {
                    "there is none, nor an `init` beside it: this is no NixOS system. What a package was built to is nix:PATH"
                };
                return Err(self.wrong(&path, why));
            }
            Err(e) => return Err(XenError::io(self.spec, &path, e)),
        };
        let boot = bootspec::parse(&text).map_err(|why| self.wrong(&path, why))?;
        if boot.toplevel != self.at.object {
            let why = format!("it is that of another system, {}", boot.toplevel.display());
            return Err(self.wrong(&path, why));
        }
        if boot.arch != arch {
            let why = format!("this system is for {}, and {arch} is to be booted", boot.arch);
            return Err(self.wrong(&path, why));
        }
        Ok((path, boot))
    }

    /// What it names is there, and comes with the system wherever that goes.
    fn named_paths(
        &self,
        boot_json: &Path,
        boot: &Bootspec,
        closure: &BTreeSet<PathBuf>,
    ) -> Result<(), XenError> {
        let mut wrong = Vec::new();
        for (field, path) in boot.paths() {
            let shown = path.display();
            if !closure.iter().any(|member| path.starts_with(member)) {
                wrong.push(format!("`{field}` names {shown}, which is not in the closure of the system"));
            } else if !self.resolve(path).is_ok_and(|real| real.is_file()) {
                wrong.push(format!("`{field}` names {shown}, and there is no such file"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(self.wrong(boot_json, wrong.join("; "))) }
    }

    fn root_disk(&self) -> Result<RootDisk, XenError> {
        let path = self.at.object.join("etc/fstab");
        let text = self.read(&path)?;
        let text = text.ok_or_else(|| {
            self.wrong(&self.at.physical(&path), "there is none, so where its root is cannot be known")
        })?;
        bootspec::root_disk(&text).map_err(|why| self.wrong(&self.at.physical(&path), why))
    }

    fn module(&self) -> Result<bool, XenError> {
        let path = self.at.object.join(MODULE);
        match self.read(&path)?.as_deref().map(str::trim) {
            None => Ok(false),
            Some(MODULE_VERSION) => Ok(true),
            Some(other) => Err(self.wrong(
                &self.at.physical(&path),
                format!(
                    "this system was built with version `{other}` of xenlab's NixOS module, and this xenlab works with version \
                     {MODULE_VERSION}: build it with the nix/nixos.nix that came with this xenlab"
                ),
            )),
        }
    }

    /// The content of a file of the system; none where there is none.
    fn read(&self, path: &Path) -> Result<Option<String>, XenError> {
        let io = |e| XenError::io(self.spec, &self.at.physical(path), e);
        match self.resolve(path).and_then(std::fs::read_to_string) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(io(e)),
        }
    }

    /// Where a path of the system leads to on this machine: its links are followed as the system would follow them.
    fn resolve(&self, path: &Path) -> std::io::Result<PathBuf> {
        let mut todo: Vec<PathBuf> = vec![relative(path)];
        let mut here = PathBuf::new();
        // As many as Linux follows (include/linux/namei.h, MAXSYMLINKS).
        let mut links = 0;
        while let Some(next) = todo.pop() {
            let mut parts = next.components();
            let Some(first) = parts.next() else { continue };
            todo.push(parts.as_path().to_owned());
            match first {
                Component::Normal(name) => here.push(name),
                Component::ParentDir => {
                    here.pop();
                }
                Component::RootDir | Component::Prefix(_) => here = PathBuf::new(),
                Component::CurDir => {}
            }
            let physical = self.at.root.join(&here);
            if physical.symlink_metadata()?.is_symlink() {
                links += 1;
                if links > 40 {
                    return Err(std::io::Error::other("a loop of links"));
                }
                here.pop();
                todo.push(std::fs::read_link(&physical)?);
            }
        }
        Ok(self.at.root.join(here))
    }

    /// What the outputs of the Xen package have that are in the closure.
    fn package(
        &self,
        nix: &Asked<'_>,
        image: &Path,
        closure: &BTreeSet<PathBuf>,
        arch: Arch,
        store: &Store,
    ) -> Result<Provided, XenError> {
        let object = closure.iter().find(|member| image.starts_with(member)).cloned().unwrap_or_default();
        let of = At { root: self.at.root.clone(), store: self.at.store.clone(), object: object.clone() };
        let asked = Asked { spec: nix.spec, at: &of };
        let mut outputs = asked.outputs(&of.physical(&object))?;
        outputs.retain(|path| closure.contains(path));
        outputs.sort();
        let tops: Vec<PathBuf> = outputs.iter().map(|path| relative(path)).collect();
        let mut tree = Tree::default();
        for (output, top) in outputs.iter().zip(&tops) {
            let physical = of.physical(output);
            let (inside, _) = Tree::walk(&physical).map_err(|e| XenError::io(self.spec, &physical, e))?;
            tree.nodes.extend(inside.nodes.into_iter().map(|(path, node)| (top.join(path), node)));
        }
        // A store path's name says what is in it.
        let identity = xenlab_store::hash_bytes(format!("system {outputs:?} {closure:?}").as_bytes());
        from_trees(self.spec, &of.root, &tops, &identity, Some(&tree), arch, store, &|found: &mut Scan| {
            let Some(tools) = &mut found.tools else { return Ok(()) };
            // What they need and another package of the closure has.
            let mut needs: BTreeSet<String> = std::mem::take(&mut tools.needs).into_iter().collect();
            for entry in closure.iter().flat_map(|path| walkdir::WalkDir::new(of.physical(path))) {
                let entry = entry.map_err(|e| StoreError::Other(e.to_string()))?;
                if let Some(name) = entry.file_name().to_str() {
                    needs.remove(name);
                }
            }
            tools.needs = needs.into_iter().collect();
            Ok(())
        })
    }
}
