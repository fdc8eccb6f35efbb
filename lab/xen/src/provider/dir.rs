//! `dir:PREFIX`: what `make install` leaves. A DESTDIR (`boot/`, `usr/local/…`), an install prefix (`bin/`, `lib/`, `boot/`), or
//! Xen's own source tree after a build; which of them is told by looking.

use super::{Provided, Provider, from_tree, hypervisor};
use crate::declared;
use crate::error::XenError;
use crate::tree::Tree;
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_store::{Store, StoreError};

/// See the module.
pub struct Dir;

const LOOKED_FOR: &str = "boot/xen*.gz or boot/xen* (hypervisor), {usr/,usr/local/,}lib*/efi/xen*.efi, {usr/,usr/local/,}{s,}bin/xl (tools), \
     libxenctrl.so.* (libraries), pkgconfig/*.pc (development files), dist/install or xen/xen (a source tree that was built)";

impl Provider for Dir {
    fn scheme(&self) -> &'static str {
        "dir"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::Dir(_))
    }

    fn provide(&self, spec: &XenSpec, _: &Recipe, arch: Arch, store: &Store) -> Result<Provided, XenError> {
        let name = spec.to_string();
        let XenSpec::Dir(path) = spec else {
            return Err(XenError::Store { spec: name, source: StoreError::Other("not a folder".into()) });
        };
        let path = folder(&name, path)?;
        let source = path.join("xen/Makefile").is_file();
        let installed = path.join("dist/install");
        let root = if source && installed.is_dir() { &installed } else { &path };
        let declared =
            [path.join("xen/Makefile"), path.join("Makefile")].iter().find_map(|m| declared::makefile(m));
        let built = if source && !installed.is_dir() { built_image(&path) } else { None };
        if let Some(image) = built {
            let mut h = hypervisor(&name, &image, arch, store)?;
            super::file::beside(&name, &mut h, arch, store)?;
            return Ok(Provided {
                root: path,
                boot: super::file::bare(&h),
                hypervisor: Some(h),
                tools: None,
                development: None,
                declared,
                system: None,
                left_out: Vec::new(),
            });
        }
        // A source tree that was not built is only its sources: walking them finds nothing.
        let (tree, stamps) = Tree::walk(root).map_err(|e| XenError::io(&name, root, e))?;
        let provided = from_tree(&name, root, &stamps, Some(&tree), arch, store)?;
        let nothing =
            provided.hypervisor.is_none() && provided.tools.is_none() && provided.development.is_none();
        if nothing {
            return Err(XenError::NotABuild { spec: name, path, looked_for: LOOKED_FOR.into() });
        }
        Ok(Provided { declared, ..provided })
    }
}

/// What [`Dir`] looks for, for a message.
pub(crate) fn looked_for() -> &'static str {
    LOOKED_FOR
}

/// The folder, its links and relative parts resolved.
fn folder(spec: &str, path: &Path) -> Result<PathBuf, XenError> {
    let real = std::fs::canonicalize(path).map_err(|e| super::file::not_there(spec, path, e))?;
    let m = std::fs::metadata(&real).map_err(|e| XenError::io(spec, path, e))?;
    if !m.is_dir() {
        return Err(XenError::WrongKind {
            spec: spec.to_owned(),
            path: real,
            found: "a file",
            expected: "a folder: an install prefix or DESTDIR (a single image is file:PATH)",
        });
    }
    std::fs::read_dir(&real).map_err(|e| XenError::io(spec, path, e))?;
    Ok(real)
}

/// `xen/xen`, or what there is in its place.
fn built_image(source: &Path) -> Option<PathBuf> {
    ["xen/xen", "xen/xen.gz", "xen/xen.efi"].iter().map(|n| source.join(n)).find(|p| p.is_file())
}
