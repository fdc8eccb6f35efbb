//! `boot-files`: the hypervisor, its links, EFI image and configuration in the build's `boot/`.

use super::{At, JudgeContext, StepKind};
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `boot-files: {layout: auto}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BootFiles {
    /// Whose layout to judge by; `auto` takes the one the build's files are like.
    #[serde(default)]
    pub layout: Layout,
    /// Whether an EFI image must be there; not said: judged if the layout always has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub efi: Option<bool>,
}

/// Who lays boot files out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// Told by the files.
    #[default]
    Auto,
    /// `make install` of upstream's tree, and nixpkgs, which uses it.
    Upstream,
    /// Debian's packages.
    Debian,
}

/// What is in `boot/`; gathered by the xen crate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootFilesEvidence {
    /// Why there is no `boot/`, if there is none.
    pub absent: Option<String>,
    /// `auto` resolved: `upstream`, `debian` or `bare` (a single file).
    pub layout: String,
    /// The hypervisor's version as the image carries it.
    pub version: Option<String>,
    /// Every file and link.
    pub files: Vec<BootFile>,
}

/// A file of `boot/`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BootFile {
    /// Relative to the build's root: `boot/xen-4.20.gz`.
    pub path: String,
    /// What a link says, if it is one.
    pub link: Option<String>,
    /// The link leads to a file of the build.
    pub resolves: bool,
    /// `elf32`, `elf64`, `arm64-image`, `pe`, `gzip(elf32)`, `config`, `flask-policy`, `other`.
    pub kind: String,
    /// Architecture, where the file has one.
    pub arch: Option<String>,
    /// Build-id, where the file has one.
    pub build_id: Option<String>,
    /// What is wrong with it, for a file that is damaged.
    pub damage: Option<String>,
    /// Sections of a PE.
    #[serde(default)]
    pub sections: Vec<String>,
}

impl StepKind for BootFiles {
    const NAME: &'static str = "boot-files";
    const AT: At = At::Build;
    const PRIMARY: Option<&'static str> = Some("layout");
    type Evidence = BootFilesEvidence;

    fn judge(&self, _evidence: &BootFilesEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }
}
