//! Xen's shared libraries: sonames, and what the stable ones export.

use crate::build::XenBuild;
use crate::elf;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Libraries whose interface upstream keeps (tools/libs/*/Makefile: those with versions of their own); programs of others link to
/// them, so what one of them exports may not go while its soname stays.
const STABLE: &[&str] = &[
    "libxencall",
    "libxendevicemodel",
    "libxenevtchn",
    "libxenforeignmemory",
    "libxengnttab",
    "libxenhypfs",
    "libxenmanage",
    "libxenstore",
    "libxentoolcore",
    "libxentoollog",
];

/// A shared library.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Library {
    /// Relative to the build's root.
    pub file: String,
    /// `DT_SONAME`.
    pub soname: String,
    /// Bytes.
    pub size: u64,
    /// What it exports; of stable libraries only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exports: Option<BTreeSet<String>>,
}

/// Every shared library of the build's tools by its name without version: `libxenlight`.
pub fn libraries(build: &XenBuild) -> BTreeMap<String, Library> {
    let mut found: BTreeMap<String, Library> = BTreeMap::new();
    let Some(tools) = &build.tools else { return found };
    for path in &tools.files {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some((stem, _)) = name.split_once(".so.") else { continue };
        if !stem.starts_with("libx") {
            continue;
        }
        let whole = tools.root.join(path);
        // Links lead to a file that is in the list itself.
        if whole.is_symlink() {
            continue;
        }
        let Ok(data) = std::fs::read(&whole) else { continue };
        let Some(soname) = elf::read(&data).and_then(|info| info.soname) else { continue };
        let library = Library {
            file: path.display().to_string(),
            size: data.len() as u64,
            exports: STABLE.contains(&stem).then(|| elf::exports(&data)).flatten(),
            soname,
        };
        found.entry(stem.to_owned()).or_insert(library);
    }
    found
}
