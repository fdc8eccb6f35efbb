//! `pkg-config`: the build's development files, asked of the real pkg-config.

use super::{At, Complaint, JudgeContext, StepKind};
use crate::verdict::Check;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// `pkg-config: {modules: all, versions: {xencall: 1.3}, compile: true}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PkgConfig {
    /// `all` those expected of this Xen branch, or a list.
    #[serde(default)]
    pub modules: Modules,
    /// Versions in place of the table's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub versions: BTreeMap<String, String>,
    /// Compile and link a C program with each module.
    #[serde(default)]
    pub compile: bool,
}

/// Which modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Modules {
    /// Those that the table has for this branch.
    #[default]
    All,
    /// These.
    These(Vec<String>),
}

impl Serialize for Modules {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Modules::All => s.serialize_str("all"),
            Modules::These(l) => l.serialize(s),
        }
    }
}

impl<'de> Deserialize<'de> for Modules {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let list: Vec<String> = super::one_or_many(d)?;
        Ok(if list == ["all"] { Modules::All } else { Modules::These(list) })
    }
}

impl schemars::JsonSchema for Modules {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Modules".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})
    }
}

/// What pkg-config and the files say; gathered by the xen crate.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PkgConfigEvidence {
    /// `None`: the build has development files; else why it has none.
    pub absent: Option<String>,
    /// `pkg-config --version`.
    pub tool: String,
    /// major.minor of the hypervisor's branch.
    pub branch: String,
    /// Every module looked at.
    pub modules: Vec<ModuleSeen>,
    /// Names of all `.pc` files of the build.
    pub present: Vec<String>,
}

/// One module.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ModuleSeen {
    /// Its name.
    pub name: String,
    /// The `.pc` file, relative to the build, if there is one.
    pub file: Option<String>,
    /// `--modversion`.
    pub version: Outcome,
    /// `--libs`.
    pub libs: Outcome,
    /// `--print-requires` and `--print-requires-private`, names alone, each with whether the build has it.
    pub requires: Vec<(String, bool)>,
    /// What each `-l` resolved to.
    pub libraries: Vec<LibrarySeen>,
    /// Compiling and linking; none when not asked for or not possible.
    pub compile: Option<Result<(), String>>,
    /// Why compiling was not possible here (no compiler), if it was not.
    pub compile_skipped: Option<String>,
}

/// One library named by `Libs:`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LibrarySeen {
    /// As named: `xenlight`.
    pub name: String,
    /// The file in the build that `-L` and `-l` find, relative to the build.
    pub file: Option<String>,
    /// Its ELF machine, as an architecture's name.
    pub arch: Option<String>,
    /// Its `DT_SONAME`.
    pub soname: Option<String>,
    /// A file of that soname is in the build's library directories.
    pub soname_present: bool,
}

impl StepKind for PkgConfig {
    const NAME: &'static str = "pkg-config";
    const AT: At = At::Build;
    const PRIMARY: Option<&'static str> = Some("modules");
    type Evidence = PkgConfigEvidence;

    fn judge(&self, _evidence: &PkgConfigEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if let Modules::These(names) = &self.modules {
            if names.is_empty() {
                wrong.push(Complaint::new("modules", "no module is named", "`all`, or at least one module"));
            }
            if names.iter().any(|n| n == "all") {
                wrong.push(Complaint::new(
                    "modules",
                    "`all` is listed beside other modules",
                    "`all` alone, or a list of modules",
                ));
            }
            for name in self.versions.keys().filter(|name| !names.contains(name)) {
                let message = format!("a version of `{name}` is expected, which is not among `modules`");
                wrong.push(Complaint::new(format!("versions.{name}"), message, "a module that is looked at"));
            }
        }
        wrong
    }
}

/// What a query of pkg-config gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Its standard output, trimmed.
    Said(String),
    /// It failed; its standard error.
    Failed(String),
}

impl Default for Outcome {
    fn default() -> Self {
        Outcome::Failed("not asked".into())
    }
}
