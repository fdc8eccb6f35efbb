//! `xl-info`: what `xl info` says, field by field, and the version rule.

use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::fact::FactType;
use crate::matcher::{Matcher, quote};
use crate::scenario::config::BootWay;
use crate::verdict::Check;
use crate::version::XenVersion;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `xl-info: {FIELD: matcher}`. Without a field the version and build-id rules still apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct XlInfo {
    /// Field of `xl info` → what it must be.
    pub fields: BTreeMap<String, Matcher>,
}

/// `xl info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XlInfoEvidence {
    /// The command.
    pub command: CommandResult,
}

/// The fields of `xl info` that are not text, with their types. Memory is in MiB (tools/xl/xl_info.c, output_physinfo(),
/// output_xeninfo()); `xen_pagesize` is in bytes.
const FIELDS: &[(&str, FactType)] = {
    use FactType::{Integer, Set, Text, Version};
    &[
        ("host", Text),
        ("release", Text),
        ("version", Text),
        ("machine", Text),
        ("nr_cpus", Integer),
        ("max_cpu_id", Integer),
        ("nr_nodes", Integer),
        ("cores_per_socket", Integer),
        ("threads_per_core", Integer),
        ("cpu_mhz", Text),
        ("hw_caps", Text),
        ("virt_caps", Set),
        ("arm_sve_vector_length", Integer),
        ("total_memory", Integer),
        ("free_memory", Integer),
        ("sharing_freed_memory", Integer),
        ("sharing_used_memory", Integer),
        ("outstanding_claims", Integer),
        ("free_cpus", Integer),
        ("xen_major", Integer),
        ("xen_minor", Integer),
        ("xen_extra", Text),
        ("xen_version", Version),
        ("xen_caps", Set),
        ("xen_scheduler", Text),
        ("xen_pagesize", Integer),
        ("platform_params", Text),
        ("xen_changeset", Text),
        ("xen_commandline", Text),
        ("cc_compiler", Text),
        ("cc_compile_by", Text),
        ("cc_compile_domain", Text),
        ("cc_compile_date", Text),
        ("build_id", Text),
        ("xend_config_format", Integer),
    ]
};

/// The type of a field's value; a field that is not known is text.
pub fn field_type(field: &str) -> FactType {
    FIELDS.iter().find(|(name, _)| *name == field).map_or(FactType::Text, |(_, kind)| *kind)
}

/// Reads `xl info`: lines `FIELD   : VALUE`. The first of two lines with the same name counts; what is no such line is passed
/// over.
pub fn parse(stdout: &str) -> BTreeMap<&str, &str> {
    let mut fields = BTreeMap::new();
    for line in stdout.lines() {
        if let Some((name, value)) = line.split_once(':') {
            let name = name.trim_end();
            if !name.is_empty() && !name.contains(char::is_whitespace) {
                fields.entry(name).or_insert(value.trim());
            }
        }
    }
    fields
}

impl StepKind for XlInfo {
    const NAME: &'static str = "xl-info";
    const AT: At = At::Dom0;
    type Evidence = XlInfoEvidence;

    fn judge(&self, evidence: &XlInfoEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let command = &evidence.command;
        let body = cx.place(Self::NAME, "");
        if !command.ok() {
            return vec![say::xl_failed("xl info", "`xl info`", command, cx).at(body)];
        }
        if command.stdout.cut {
            return vec![say::cut("xl info", "all of its fields", command.stdout.total).at(body)];
        }
        let fields = parse(&command.stdout.text);
        if fields.is_empty() {
            let said = quote(command.stdout.text.trim_end());
            let message = format!("xl info: expected lines `FIELD : VALUE`, saw {said}");
            return vec![Check::fail("xl info", Cause::ToolsFailed, message).at(body)];
        }
        let mut checks =
            vec![version(&fields, cx), parts(&fields, cx), build_id(&fields, cx), tools(&fields, cx)];
        checks.extend(self.fields.iter().map(|(name, matcher)| field(name, matcher, &fields, cx)));
        checks
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        for (name, matcher) in &self.fields {
            for message in matcher.check(field_type(name)).err().into_iter().flatten() {
                wrong.push(Complaint { path: name.clone(), message, expected: None });
            }
        }
        wrong
    }
}

/// The three versions, side by side.
struct Versions<'a> {
    declared: Option<String>,
    by: String,
    carried: Option<String>,
    seen: Option<&'a str>,
}

impl<'a> Versions<'a> {
    fn of(fields: &BTreeMap<&'a str, &'a str>, cx: &JudgeContext<'_>) -> Self {
        Versions {
            declared: say::fact(cx, "build.declared-version"),
            by: say::fact(cx, "build.declared-by").unwrap_or_else(|| "an unnamed source".to_owned()),
            carried: say::fact(cx, "build.image-version"),
            seen: fields.get("xen_version").copied().filter(|v| !v.is_empty()),
        }
    }

    fn show(&self, check: Check) -> Check {
        let declared = self.declared.as_ref().map(|v| format!("{v} (by {})", self.by));
        check
            .show("declared", declared.unwrap_or_else(|| "nothing".to_owned()))
            .show("carried", self.carried.clone().unwrap_or_else(|| "unknown".to_owned()))
            .show("seen", self.seen.unwrap_or("nothing"))
    }

    /// `declared 4.17.6 (by the command line), carried 4.17.7, seen 4.17.7`
    fn sentence(&self) -> String {
        let declared = self
            .declared
            .as_ref()
            .map_or_else(|| "declared nothing".to_owned(), |v| format!("declared {v} (by {})", self.by));
        let carried = self.carried.as_ref().map_or_else(
            || "carried unknown (no version can be read from the image)".to_owned(),
            |v| format!("carried {v}"),
        );
        format!("{declared}, {carried}, seen {}", self.seen.unwrap_or("nothing"))
    }
}

/// What the image carries may be no more than major.minor, which are integers in its code: the full version is text that only the
/// EFI loader has. As far as it goes it must agree.
fn carries(carried: &str, whole: &str) -> bool {
    if carried == whole {
        return true;
    }
    match (carried.parse::<XenVersion>(), whole.parse::<XenVersion>()) {
        (Ok(c), Ok(w)) => c.extra.is_empty() && c.branch() == w.branch(),
        _ => false,
    }
}

/// The version rule: what was declared, what the image carries and what runs agree.
fn version(fields: &BTreeMap<&str, &str>, cx: &JudgeContext<'_>) -> Check {
    const NAME: &str = "version";
    let all = Versions::of(fields, cx);
    let declared_at = cx.places.get("xen.expect-version").cloned();
    let place = declared_at.or_else(|| cx.place(XlInfo::NAME, "xen_version"));
    let Some(seen) = all.seen else {
        let message = format!("version: `xl info` has no xen_version: {}", all.sentence());
        return all.show(Check::fail(NAME, Cause::VersionMismatch, message)).at(place);
    };
    let declared_wrong = all.declared.as_ref().is_some_and(|d| d != seen);
    let carried_wrong = all
        .carried
        .as_ref()
        .is_some_and(|c| !carries(c, seen) || all.declared.as_ref().is_some_and(|d| !carries(c, d)));
    let check = if declared_wrong || carried_wrong {
        let message = format!("version: expected all to agree: {}", all.sentence());
        Check::fail(NAME, Cause::VersionMismatch, message)
    } else if all.declared.is_none() {
        Check::not_judged(NAME, format!("not judged: no expected version ({})", all.sentence()))
    } else {
        Check::pass(NAME, format!("version: all agree: {}", all.sentence()))
    };
    all.show(check).at(place)
}

/// `xen_major`, `xen_minor` and `xen_extra` compose to `xen_version`.
fn parts(fields: &BTreeMap<&str, &str>, cx: &JudgeContext<'_>) -> Check {
    const NAME: &str = "version parts";
    let get = |name: &str| fields.get(name).copied();
    let place = cx.place(XlInfo::NAME, "xen_version");
    let (Some(major), Some(minor), Some(extra), Some(version)) =
        (get("xen_major"), get("xen_minor"), get("xen_extra"), get("xen_version"))
    else {
        let absent: Vec<_> = ["xen_major", "xen_minor", "xen_extra", "xen_version"]
            .into_iter()
            .filter(|n| !fields.contains_key(n))
            .collect();
        let message = format!("version parts: `xl info` lacks {}", absent.join(", "));
        return Check::fail(NAME, Cause::VersionMismatch, message).at(place);
    };
    let composed = format!("{major}.{minor}{extra}");
    if composed == version {
        Check::pass(NAME, format!("xen_major, xen_minor and xen_extra make {version}")).at(place)
    } else {
        let message = format!(
            "version parts: expected xen_major, xen_minor and xen_extra to make xen_version {}, they make {}",
            quote(version),
            quote(&composed)
        );
        Check::fail(NAME, Cause::VersionMismatch, message).at(place)
    }
}

/// The running Xen is the artefact: proved by its build-id, not by a version string.
fn build_id(fields: &BTreeMap<&str, &str>, cx: &JudgeContext<'_>) -> Check {
    const NAME: &str = "build-id";
    let place = cx.place(XlInfo::NAME, "build_id");
    let seen = fields.get("build_id").copied().filter(|id| !id.is_empty());
    // On x86 the EFI image is linked apart, and has its own.
    let way = say::fact(cx, "boot.way").and_then(|way| BootWay::named(&way));
    let image = if way.is_some_and(BootWay::is_efi) { "build.efi-build-id" } else { "build.build-id" };
    let Some(expected) = say::fact(cx, image) else {
        let running = seen.map_or_else(|| "none".to_owned(), quote);
        let message =
            format!("not judged: the image's build-id is not known (the running Xen's is {running})");
        return Check::not_judged(NAME, message).at(place);
    };
    match seen {
        Some(seen) if seen.eq_ignore_ascii_case(&expected) => {
            Check::pass(NAME, format!("the running Xen is the image under test: build-id {expected}"))
        }
        seen => {
            let running = seen.map_or_else(|| "none".to_owned(), quote);
            let message = format!(
                "build-id: expected `{expected}`, which the image carries, saw {running}: another Xen runs than the one under test"
            );
            Check::fail(NAME, Cause::BuildIdMismatch, message)
        }
    }
    .show("image", expected)
    .show("running", seen.unwrap_or("none"))
    .at(place)
}

/// The tools are of the hypervisor's own major.minor. `xl` may well work on another one's, and say nothing.
fn tools(fields: &BTreeMap<&str, &str>, cx: &JudgeContext<'_>) -> Check {
    const NAME: &str = "tools";
    let place = cx.places.get("xen.tools").cloned().or_else(|| cx.place(XlInfo::NAME, ""));
    let Some(tools) = say::fact(cx, "build.tools-branch") else {
        return Check::not_judged(NAME, "not judged: the tools' own version is not known").at(place);
    };
    let running = match (fields.get("xen_major"), fields.get("xen_minor")) {
        (Some(major), Some(minor)) => format!("{major}.{minor}"),
        _ => "unknown".to_owned(),
    };
    if running == tools {
        Check::pass(NAME, format!("tools and hypervisor are both {tools}")).at(place)
    } else {
        let message =
            format!("tools: expected those of the running Xen {running}, dom0 has those of {tools}");
        Check::fail(NAME, Cause::ToolsMismatch, message)
            .show("tools", tools)
            .show("running", running)
            .at(place)
    }
}

fn field(name: &str, matcher: &Matcher, fields: &BTreeMap<&str, &str>, cx: &JudgeContext<'_>) -> Check {
    let cause = match name {
        "xen_version" | "xen_major" | "xen_minor" | "xen_extra" => Cause::VersionMismatch,
        "build_id" => Cause::BuildIdMismatch,
        _ => Cause::CheckFailed,
    };
    let seen = fields.get(name).map(|text| (*text, field_type(name)));
    let mut check = say::value(name, cause, matcher, seen, cx, cx.place(XlInfo::NAME, name));
    if seen.is_none() && check.verdict == crate::verdict::Verdict::Fail {
        let near = fields.keys().min_by_key(|k| strsim::damerau_levenshtein(k, name));
        let near = near.filter(|k| strsim::damerau_levenshtein(k, name) <= 3);
        let hint = near.map(|k| format!("; did you mean {k}?")).unwrap_or_default();
        check.message =
            format!("{name}: expected {}, `xl info` has no such field{hint}", matcher.expected(cx.facts));
    }
    if name == "xen_version" && check.verdict == crate::verdict::Verdict::Fail {
        let all = Versions::of(fields, cx);
        check.message = format!("{} ({})", check.message, all.sentence());
        check = all.show(check);
    }
    check
}

#[cfg(test)]
mod tests;
