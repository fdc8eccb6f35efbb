//! `pkg-config`: the build's development files, asked of the real pkg-config.

use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::arch::Arch;
use crate::cause::Cause;
use crate::matcher::quote;
use crate::verdict::{Check, Verdict};
use crate::version::XenVersion;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

mod table;

pub use table::{Expected, ExpectedModule, expected};

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
    /// Whose tools stand in for those that the build has not: their development files say nothing of this build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub borrowed: Option<String>,
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

    fn judge(&self, evidence: &PkgConfigEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let body = cx.place(Self::NAME, "");
        if let Some(why) = &evidence.absent {
            let message = format!("development files: expected the build to have them, it has none: {why}");
            return vec![Check::fail("development files", Cause::PartMissing, message).at(body)];
        }
        if let Some(lender) = &evidence.borrowed {
            let message = format!("not from this build: it is a hypervisor alone, its tools are {lender}'s");
            return vec![Check::not_judged("development files", message).at(body)];
        }
        let known = Some(evidence.branch.clone()).filter(|b| b.parse::<XenVersion>().is_ok());
        let Some(branch) = known.or_else(|| say::fact(cx, "build.branch")) else {
            let message = "not judged: the Xen branch of the build is not known, so neither are its modules";
            return vec![Check::not_judged("branch", message).at(body)];
        };
        let table = expected(&branch);
        let mut checks = Vec::new();
        if table.by != branch {
            let message = format!(
                "not judged: nothing is known of Xen {}; what follows is judged as Xen {}'s, `versions` can say otherwise",
                quote(&branch),
                table.by
            );
            checks.push(Check::not_judged("branch", message).at(body));
        }
        for name in self.names(&table) {
            let known = table.modules.iter().find(|m| m.name == name);
            checks.extend(self.module(&name, known, evidence, cx));
        }
        checks
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

impl PkgConfig {
    /// The modules to judge, each once.
    fn names(&self, table: &Expected) -> Vec<String> {
        let mut names: Vec<String> = match &self.modules {
            Modules::All => table.modules.iter().map(|m| m.name.to_owned()).collect(),
            Modules::These(list) => list.clone(),
        };
        names.extend(self.versions.keys().cloned());
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }

    /// One check when all of a module is right; else one for each thing that is not.
    fn module(
        &self,
        name: &str,
        known: Option<&ExpectedModule>,
        evidence: &PkgConfigEvidence,
        cx: &JudgeContext<'_>,
    ) -> Vec<Check> {
        let title = format!("{name}.pc");
        let position = match &self.modules {
            Modules::These(list) => list.iter().position(|m| m == name),
            Modules::All => None,
        };
        let place =
            cx.place(Self::NAME, &position.map_or_else(|| "modules".to_owned(), |i| format!("modules[{i}]")));
        let seen = evidence.modules.iter().find(|m| m.name == name && m.file.is_some());
        let Some(seen) = seen else {
            let source = known.map(|k| format!(" ({})", k.source)).unwrap_or_default();
            let message =
                format!("{title}: expected Xen {} to have it{source}, the build does not", evidence.branch);
            return vec![Check::fail(title, Cause::PkgConfigMissing, message).at(place)];
        };
        let version = self.version(&title, known, seen).at(cx.place(Self::NAME, &format!("versions.{name}")));
        let mut checks = vec![version];
        checks.push(libs(&title, known, seen).at(place.clone()));
        checks.extend(seen.libraries.iter().map(|l| library(&title, l, seen, cx.arch).at(place.clone())));
        checks.push(requires(&title, seen).at(place.clone()));
        if self.compile {
            checks.push(compile(&title, seen).at(cx.place(Self::NAME, "compile")));
        }
        let wrong: Vec<Check> = checks.iter().filter(|c| c.verdict != Verdict::Pass).cloned().collect();
        if !wrong.is_empty() {
            return wrong;
        }
        let all =
            checks.into_iter().map(|c| c.message).filter(|m| !m.is_empty()).collect::<Vec<_>>().join(", ");
        vec![Check::pass(title, all).at(place)]
    }

    fn version(&self, title: &str, known: Option<&ExpectedModule>, seen: &ModuleSeen) -> Check {
        let said = match &seen.version {
            Outcome::Said(version) => version,
            Outcome::Failed(why) => {
                let message =
                    format!("{title}: expected pkg-config to read it, it says {}", quote(why.trim()));
                return Check::fail(title, Cause::PkgConfigInvalid, message);
            }
        };
        let (expected, source) = match (self.versions.get(&seen.name), known) {
            (Some(asked), _) => (asked.clone(), "the scenario".to_owned()),
            (None, Some(known)) => (known.version.clone(), known.source.to_owned()),
            (None, None) => {
                let message = format!("{title} has version {said}; not judged: no expected version");
                return Check::not_judged(title, message);
            }
        };
        if *said == expected {
            Check::pass(title, format!("version {said}"))
        } else {
            let message = format!("{title}: expected version {expected} ({source}), saw {said}");
            Check::fail(title, Cause::PkgConfigVersion, message).show("expected", expected).show("seen", said)
        }
    }
}

/// `Libs` can be read and names the library that the module is for.
fn libs(title: &str, known: Option<&ExpectedModule>, seen: &ModuleSeen) -> Check {
    if let Outcome::Failed(why) = &seen.libs {
        let message = format!("{title}: expected pkg-config to give its Libs, it says {}", quote(why.trim()));
        // What pkg-config says of a module that requires another one that is not there is judged by that.
        let cause = if seen.requires.iter().any(|(_, there)| !there) {
            Cause::PkgConfigRequires
        } else {
            Cause::PkgConfigInvalid
        };
        return Check::fail(title, cause, message);
    }
    let names: Vec<&str> = seen.libraries.iter().map(|l| l.name.as_str()).collect();
    let wanted = known.map(|k| k.library);
    let right = wanted.map_or(!names.is_empty(), |wanted| names.contains(&wanted));
    if right {
        return Check::pass(title, "");
    }
    let expected = wanted.unwrap_or("a library");
    let saw = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let message = format!("{title}: expected Libs to name {expected}, it names {saw}");
    Check::fail(title, Cause::PkgConfigLibrary, message)
}

/// A library of `Libs` is a file of this build, for this architecture, with a soname that its version and its file name agree
/// with.
fn library(title: &str, library: &LibrarySeen, module: &ModuleSeen, arch: Arch) -> Check {
    let wrong = |what: String| Check::fail(title, Cause::PkgConfigLibrary, format!("{title}: {what}"));
    let name = &library.name;
    let Some(file) = &library.file else {
        return wrong(format!("expected lib{name} in the build's own library directories, it is not there"));
    };
    match library.arch.as_deref() {
        Some(seen) if seen == arch.name() => {}
        seen => {
            let saw = seen.unwrap_or("one that cannot be told");
            return wrong(format!("expected {file} to be for {arch}, it is for {saw}"));
        }
    }
    let Some(soname) = &library.soname else {
        return wrong(format!("expected {file} to have a soname, it has none"));
    };
    // lib*.so.MAJOR; the libraries without a stable ABI have the whole branch for their major (tools/libs/libs.mk).
    let major = match &module.version {
        Outcome::Said(version) => version.rsplit_once('.').map_or(version.as_str(), |(major, _)| major),
        Outcome::Failed(_) => "",
    };
    let expected = format!("lib{name}.so.{major}");
    if !major.is_empty() && *soname != expected {
        return wrong(format!("expected the soname of {file} to be {expected}, it is {}", quote(soname)));
    }
    if !library.soname_present {
        return wrong(format!(
            "expected a file {soname} in the build's library directories, it is not there"
        ));
    }
    Check::pass(title, soname.clone())
}

/// Every module that this one requires is in the build.
fn requires(title: &str, seen: &ModuleSeen) -> Check {
    let missing: Vec<&str> =
        seen.requires.iter().filter(|(_, there)| !there).map(|(m, _)| m.as_str()).collect();
    if missing.is_empty() {
        return Check::pass(title, format!("{} required modules are there", seen.requires.len()));
    }
    let message =
        format!("{title}: expected all that it requires in the build, it lacks {}", missing.join(", "));
    Check::fail(title, Cause::PkgConfigRequires, message)
}

fn compile(title: &str, seen: &ModuleSeen) -> Check {
    match (&seen.compile, &seen.compile_skipped) {
        (Some(Ok(())), _) => Check::pass(title, "a program compiles and links"),
        (Some(Err(why)), _) => {
            let message =
                format!("{title}: expected a program to compile and link with it: {}", quote(why.trim()));
            Check::fail(title, Cause::PkgConfigCompile, message).show("compiler", why.trim())
        }
        (None, Some(why)) => {
            Check::not_judged(title, format!("{title}: not judged whether a program compiles: {why}"))
        }
        (None, None) => {
            let message = format!("{title}: a program was to be compiled and was not");
            Check::error(title, Cause::LabInternal, message)
        }
    }
}

#[cfg(test)]
mod tests;
