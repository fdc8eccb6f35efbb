//! `file:PATH`: a bare `xen`, `xen.gz`, `xen.efi` or arm64 `Image`; tools come from another build.

use super::{Provided, Provider, efi_image, hypervisor};
use crate::build::{BootFiles, Hypervisor};
use crate::declared;
use crate::error::XenError;
use crate::image::Image;
use crate::kconfig::Kconfig;
use std::path::{Path, PathBuf};
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::spec::XenSpec;
use xenlab_model::step::boot_files::BootFile;
use xenlab_store::{Store, StoreError};

/// See the module.
pub struct File;

impl Provider for File {
    fn scheme(&self) -> &'static str {
        "file"
    }

    fn handles(&self, spec: &XenSpec) -> bool {
        matches!(spec, XenSpec::File(_))
    }

    fn provide(&self, spec: &XenSpec, _: &Recipe, arch: Arch, store: &Store) -> Result<Provided, XenError> {
        let name = spec.to_string();
        let XenSpec::File(path) = spec else {
            return Err(XenError::Store { spec: name, source: StoreError::Other("not a file".into()) });
        };
        let path = image_file(&name, path)?;
        let mut h = hypervisor(&name, &path, arch, store)?;
        beside(&name, &mut h, arch, store)?;
        let declared = path.parent().and_then(|dir| declared::makefile(&dir.join("Makefile")));
        let boot = bare(&h);
        Ok(Provided {
            root: path,
            hypervisor: Some(h),
            tools: None,
            development: None,
            boot,
            declared,
            system: None,
            left_out: Vec::new(),
        })
    }
}

/// The file, its links and relative parts resolved.
fn image_file(spec: &str, path: &Path) -> Result<PathBuf, XenError> {
    let real = std::fs::canonicalize(path).map_err(|e| not_there(spec, path, e))?;
    let m = std::fs::metadata(&real).map_err(|e| XenError::io(spec, path, e))?;
    if m.is_dir() {
        return Err(XenError::WrongKind {
            spec: spec.to_owned(),
            path: real,
            found: "a folder",
            expected: "a hypervisor image: xen, xen.gz, xen.efi or an arm64 Image (an install tree is dir:PREFIX)",
        });
    }
    if !m.is_file() {
        return Err(XenError::WrongKind {
            spec: spec.to_owned(),
            path: real,
            found: "no regular file",
            expected: "a hypervisor image",
        });
    }
    Ok(real)
}

/// A path that cannot be found: says how far it exists, and where it was taken to begin.
pub(crate) fn not_there(spec: &str, path: &Path, e: std::io::Error) -> XenError {
    if e.kind() != std::io::ErrorKind::NotFound {
        return XenError::io(spec, path, e);
    }
    let full = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let there = full.ancestors().skip(1).find(|a| a.exists());
    let hint =
        there.map(|a| format!(" ({} is the last part of it that exists)", a.display())).unwrap_or_default();
    XenError::Missing { spec: spec.to_owned(), path: full, hint }
}

/// What lies beside an image and belongs to it: in a source tree `.config` and `xen.efi`, in a `boot/` folder `NAME.config`.
pub(super) fn beside(spec: &str, h: &mut Hypervisor, arch: Arch, store: &Store) -> Result<(), XenError> {
    let Some(dir) = h.original.parent().map(Path::to_owned) else { return Ok(()) };
    let name = h.original.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".efi")).unwrap_or(&name).to_owned();
    let source_tree = declared::makefile(&dir.join("Makefile")).is_some();
    let config = if source_tree { dir.join(".config") } else { dir.join(format!("{stem}.config")) };
    if let Ok(text) = std::fs::read_to_string(&config) {
        h.config = Kconfig::parse(&text, config.display().to_string()).or(h.config.take());
    }
    let efi = dir.join("xen.efi");
    if source_tree && h.efi.is_none() && efi.is_file() {
        h.efi = Some(efi_image(spec, &efi, arch, store)?);
    }
    Ok(())
}

/// Boot files of a build that has no `boot/`: the image itself, and the EFI image beside it.
pub(super) fn bare(h: &Hypervisor) -> BootFiles {
    let file = |path: &Path, facts: &Image| BootFile {
        path: path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default(),
        link: None,
        resolves: true,
        kind: facts.kind_name(),
        arch: facts.arch.map(|a| a.name().to_owned()),
        build_id: facts.build_id.clone(),
        damage: facts.damage.as_ref().map(|d| d.text.clone()),
        sections: facts
            .pe
            .as_ref()
            .map(|p| p.sections.iter().map(|s| s.name.clone()).collect())
            .unwrap_or_default(),
    };
    let mut files = vec![file(&h.original, &h.facts)];
    files.extend(h.efi.as_ref().filter(|e| e.path != h.original).map(|e| file(&e.path, &e.facts)));
    BootFiles { absent: None, layout: "bare".into(), files }
}
