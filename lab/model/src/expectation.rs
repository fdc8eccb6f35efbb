//! Expectations: what a case is known to come to, and why. Accepted skips, expected failures and faults of an emulator in one format.
//!
//! An expectation never changes a verdict: a Fail stays one. It says whether the verdict is the one that was expected, and by that
//! whether it counts.

use crate::case::Case;
use crate::cause::Cause;
use crate::condition::{Absent, Condition, Truth};
use crate::date::Date;
use crate::fact::Facts;
use crate::place::Place;
use crate::verdict::{CaseVerdict, Verdict};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// One entry of `expect:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Expectation {
    /// The id of the case, or `ID @ SUBJECT`, whole; `*` stands for any text, every other character for itself.
    pub case: String,
    /// Under which facts; where one of them is unknown the entry does not apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// What the case comes to.
    #[schemars(with = "Expectable")]
    pub verdict: Verdict,
    /// By which cause; required unless it is a skip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<CauseCode>")]
    pub cause: Option<Cause>,
    /// Why, and how that is known.
    pub because: String,
    /// Where it is followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Link>")]
    pub tracker: Option<String>,
    /// The last day on which it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// Whose fault it is; needs `machine.accel` and `qemu.version` in `when`, and `source` or `measured`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Link>")]
    pub source: Option<String>,
    /// Where the same was seen to pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<Measured>,
    /// Where the entry was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub place: Option<Place>,
}

/// Whose fault an expected verdict is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// QEMU's, and not Xen's.
    Emulator,
}

impl Fault {
    /// As files write it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Emulator => "emulator",
        }
    }
}

/// A measured pair: one case on one Xen, passing on one emulator and failing on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Measured {
    /// The Xen build, as `--xen` names it or by its version; the same for both.
    pub xen: String,
    /// Where the case passed.
    pub passes_on: Emulator,
    /// Where it came to what is expected.
    pub fails_on: Emulator,
    /// When that was seen.
    pub on: Date,
}

/// What a machine was emulated by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(deny_unknown_fields)]
pub struct Emulator {
    /// QEMU's version.
    pub qemu: String,
    /// The accelerator.
    pub accel: Accelerator,
    /// The CPU model, where it was not the lab's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
}

/// What runs a machine's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// QEMU's own translation.
    Tcg,
    /// The host's.
    Kvm,
}

impl Accelerator {
    /// As the fact `machine.accel` has it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Tcg => "tcg",
            Accelerator::Kvm => "kvm",
        }
    }
}

impl Emulator {
    /// In words.
    pub fn shown(&self) -> String {
        let cpu = self.cpu.as_ref().map(|cpu| format!(" with the CPU model {cpu}")).unwrap_or_default();
        format!("QEMU {} ({}){cpu}", self.qemu, self.accel.name())
    }
}

/// A verdict that can be expected; for the schema.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "kebab-case")]
#[expect(dead_code, reason = "the words of the schema; the verdict itself is read")]
enum Expectable {
    /// Judged, and bad.
    Fail,
    /// The lab could not judge it.
    Error,
    /// Not tried or not judged.
    Skip,
}

/// A cause's code; for the schema.
#[derive(Debug)]
struct CauseCode;

impl JsonSchema for CauseCode {
    fn schema_name() -> Cow<'static, str> {
        "Cause".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let codes: Vec<&str> = Cause::ALL.iter().map(|c| c.code()).collect();
        json_schema!({"type": "string", "enum": codes})
    }
}

/// A link; for the schema.
#[derive(Debug)]
struct Link;

impl JsonSchema for Link {
    fn schema_name() -> Cow<'static, str> {
        "Link".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^https?://[^\\s/]+\\S*$"})
    }
}

/// Whether a text is a link that can be followed.
pub fn is_link(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/') && !text.contains(char::is_whitespace))
}

/// How a verdict stands to the expectation of its case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It is what was expected.
    AsExpected,
    /// Something bad was expected, and the case passed.
    UnexpectedPass,
    /// Something else came out: another verdict, or another cause.
    Differs,
    /// The expectation's last day is over: the verdict counts as if there were none.
    Expired,
}

impl Kind {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Kind::AsExpected => "as expected",
            Kind::UnexpectedPass => "passed unexpectedly",
            Kind::Differs => "not what was expected",
            Kind::Expired => "expected no longer",
        }
    }
}

/// The expectation that a verdict was compared with, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expected {
    /// How the verdict stands to it.
    pub kind: Kind,
    /// The entry.
    pub entry: Expectation,
}

impl Expectation {
    /// Whether it is about this case, by its name alone.
    pub fn names(&self, case: &Case) -> bool {
        glob(&self.case, &case.id) || glob(&self.case, &case.shown())
    }

    /// Whether it applies under these facts. What is not known is never assumed: an entry that asks for it is undecided.
    pub fn applies(&self, facts: &Facts) -> Truth {
        self.when.as_ref().map_or(Truth::Holds, |when| when.evaluate(facts, Absent::Unknown))
    }

    /// Whether its last day is over. Where the day is not known, an entry with a last day is not relied on.
    fn is_over(&self, on: Option<Date>) -> bool {
        self.until.is_some_and(|until| on.is_none_or(|on| on > until))
    }

    fn is(&self, verdict: &CaseVerdict) -> bool {
        (self.verdict, self.cause) == (verdict.verdict, verdict.cause)
    }

    /// `FAIL xtf.failure`.
    pub fn expects(&self) -> String {
        match self.cause {
            Some(cause) => format!("{} {cause}", self.verdict.word()),
            None => self.verdict.word().to_owned(),
        }
    }

    /// Why, in one sentence for reports: whose fault it is said to be, how that is known, where it is followed, until when.
    pub fn reason(&self) -> String {
        let mut text = match self.fault {
            Some(Fault::Emulator) => format!("the emulator's fault: {}", self.because),
            None => self.because.clone(),
        };
        let mut more: Vec<String> = Vec::new();
        more.extend(self.source.as_ref().map(|source| format!("source {source}")));
        more.extend(self.measured.as_ref().map(|m| {
            format!(
                "{} measured on {}: passes on {}, not on {}",
                m.xen,
                m.on,
                m.passes_on.shown(),
                m.fails_on.shown()
            )
        }));
        more.extend(self.tracker.as_ref().map(|tracker| format!("tracked at {tracker}")));
        more.extend(self.until.map(|until| format!("until {until}")));
        if !more.is_empty() {
            text.push_str(&format!(" ({})", more.join("; ")));
        }
        text
    }
}

impl Expected {
    /// What there is to say of a verdict that is not simply the expected one, in a sentence that follows the case's name.
    pub fn said(&self, verdict: &CaseVerdict) -> String {
        let place = self.entry.place.as_ref().map(|p| format!(", {p}")).unwrap_or_default();
        let came = match verdict.cause {
            Some(cause) => format!("{} {cause}", verdict.verdict.word()),
            None => verdict.verdict.word().to_owned(),
        };
        let (expects, reason) = (self.entry.expects(), self.entry.reason());
        match self.kind {
            Kind::AsExpected => format!("{came}, expected{place}: {reason}"),
            Kind::UnexpectedPass => format!("passed unexpectedly: {expects} was expected{place}: {reason}"),
            Kind::Differs => format!("{came}, where {expects} was expected{place}: {reason}"),
            Kind::Expired => {
                let until = self.entry.until.map(|u| u.to_string()).unwrap_or_default();
                format!(
                    "{came}; that {expects} was expected held until {until} and counts no more{place}: {reason}"
                )
            }
        }
    }
}

/// Gives each case the entries that name it.
pub fn attach(cases: &mut [Case], entries: &[Expectation]) {
    for case in cases {
        let own: Vec<Expectation> = entries.iter().filter(|e| e.names(case)).cloned().collect();
        case.expectations.extend(own);
    }
}

/// How a verdict stands to its case's expectations; `facts` are all that is known, `on` is the day of the run.
pub fn compare(case: &Case, facts: &Facts, on: Option<Date>, verdict: &CaseVerdict) -> Option<Expected> {
    // What never ran, or was broken off, came to nothing that could be compared.
    if verdict.verdict == Verdict::NotReached || verdict.cause == Some(Cause::Interrupted) {
        return None;
    }
    let applying: Vec<&Expectation> =
        case.expectations.iter().filter(|e| e.applies(facts) == Truth::Holds).collect();
    let (over, counts): (Vec<&Expectation>, Vec<&Expectation>) =
        applying.into_iter().partition(|e| e.is_over(on));
    let of = |kind, entry: &Expectation| Some(Expected { kind, entry: entry.clone() });
    if let Some(entry) = counts.iter().find(|e| e.is(verdict)) {
        return of(Kind::AsExpected, entry);
    }
    // Of what is over, first what would have been right: that is what has to be looked at again.
    if let Some(entry) = over.iter().find(|e| e.is(verdict)) {
        return of(Kind::Expired, entry);
    }
    let kind = if verdict.verdict == Verdict::Pass { Kind::UnexpectedPass } else { Kind::Differs };
    match (counts.first(), over.first()) {
        (Some(entry), _) => of(kind, entry),
        (None, Some(entry)) => of(Kind::Expired, entry),
        (None, None) => None,
    }
}

/// Whether `text` is what `pattern` says, whole: `*` stands for any text, everything else for itself.
fn glob(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests;
