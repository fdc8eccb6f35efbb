//! `console`: what must and must not appear on a console.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many};
use crate::evidence::WaitEnd;
use crate::verdict::Check;
use regex::Regex;
use serde::{Deserialize, Serialize};
use xenlab_console::Catalogue;

/// `console: {of: xen, has: [PATTERN], lacks: [panic, PATTERN]}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Console {
    /// Whose lines: `xen`, `dom0` or `all`.
    #[serde(default)]
    pub of: Of,
    /// Patterns each of which must appear; the step waits for them within its limit.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<String>,
    /// Patterns, or the catalogues `panic` and `warning`, none of which may appear.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// From where on.
    #[serde(default)]
    pub since: Since,
}

/// Whose lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// The hypervisor's.
    Xen,
    /// dom0's.
    Dom0,
    /// Everything on the machine's console.
    #[default]
    All,
}

/// From where on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Since {
    /// The machine's power-on.
    #[default]
    PowerOn,
    /// The case's start.
    Case,
}

/// The console from `from` to `to`, as raw bytes of the record; `text` is filled from the record when it is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsoleEvidence {
    /// First byte, counted over everything the console wrote.
    pub from: u64,
    /// One past the last byte.
    pub to: u64,
    /// Some of it was not kept: nothing can be said to be absent.
    pub cut: bool,
    /// How the wait for `has` ended.
    pub end: WaitEnd,
    /// The bytes kept, invalid UTF-8 replaced; not written to evidence.jsonl, read from `console/*.raw`.
    #[serde(skip)]
    pub text: String,
}

impl StepKind for Console {
    const NAME: &'static str = "console";
    const AT: At = At::Boot;
    type Evidence = ConsoleEvidence;

    fn judge(&self, _evidence: &ConsoleEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if self.has.is_empty() && self.lacks.is_empty() {
            wrong.push(Complaint::new("", "this looks for nothing", "`has` or `lacks`"));
        }
        for (key, patterns) in [("has", &self.has), ("lacks", &self.lacks)] {
            for (i, pattern) in patterns.iter().enumerate() {
                let catalogue = Catalogue::named(pattern).is_some();
                if key == "has" && catalogue {
                    let message = format!("`{pattern}` names a catalogue of what must not appear");
                    wrong.push(Complaint::new(
                        format!("{key}[{i}]"),
                        message,
                        "a regular expression; for the word itself, `[p]anic`",
                    ));
                }
                if catalogue {
                    continue;
                }
                let path = format!("{key}[{i}]");
                match Regex::new(pattern) {
                    Err(e) => {
                        let said = e.to_string();
                        let said =
                            said.lines().last().unwrap_or_default().trim_start_matches("error: ").trim();
                        let message = format!("this regular expression cannot be read: {said}");
                        wrong.push(Complaint::new(
                            path,
                            message,
                            "a regular expression, or the catalogue panic or warning",
                        ));
                    }
                    Ok(regex) if regex.is_match("") => {
                        wrong.push(Complaint::new(
                            path,
                            "this pattern is found in every line",
                            "a pattern that can be missing",
                        ));
                    }
                    Ok(_) => {}
                }
            }
        }
        wrong
    }
}
