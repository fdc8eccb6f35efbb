//! `console`: what must and must not appear on a console.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many, phase, say};
use crate::cause::Cause;
use crate::evidence::WaitEnd;
use crate::matcher::quote;
use crate::verdict::Check;
use regex::Regex;
use serde::{Deserialize, Serialize};
use xenlab_console::{Catalogue, Demux, Line, Speaker};

mod emulator;

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

    fn judge(&self, evidence: &ConsoleEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        // A record with fewer bytes than the console wrote was cut, whatever it says of itself.
        let wrote = evidence.to.saturating_sub(evidence.from);
        let cut = evidence.cut || (evidence.text.len() as u64) < wrote;
        if evidence.text.is_empty() && wrote > 0 && !evidence.cut {
            let message = format!("console: the record of its {wrote} bytes is not there");
            return vec![Check::error("console", Cause::LabInternal, message).at(cx.place(Self::NAME, ""))];
        }
        let lines = lines(evidence);
        let of: Vec<&Line<'_>> = lines.iter().filter(|line| self.of.is(line.speaker)).collect();
        let mut checks = Vec::new();
        for (i, pattern) in self.has.iter().enumerate() {
            let place = cx.place(Self::NAME, &format!("has[{i}]"));
            checks.push(self.has_one(pattern, &of, cut, evidence).at(place));
        }
        for (i, pattern) in self.lacks.iter().enumerate() {
            let place = cx.place(Self::NAME, &format!("lacks[{i}]"));
            checks.push(self.lacks_one(pattern, &lines, &of, cut.then_some(wrote), cx).at(place));
        }
        checks
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

impl Of {
    fn is(self, speaker: Speaker) -> bool {
        match self {
            Of::Xen => speaker == Speaker::Xen,
            Of::Dom0 => speaker == Speaker::Dom0,
            Of::All => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Of::Xen => "Xen",
            Of::Dom0 => "dom0",
            Of::All => "the machine",
        }
    }
}

/// The record's lines, each with whose it is. A record that begins later has no boot in it from which that could be told.
fn lines(evidence: &ConsoleEvidence) -> Vec<Line<'static>> {
    let mut demux = if evidence.from == 0 { Demux::new() } else { Demux::after_boot(evidence.from) };
    let mut all = Vec::new();
    demux.feed(evidence.text.as_bytes(), |line| all.push(line.into_owned()));
    demux.finish(|line| all.push(line.into_owned()));
    all
}

impl Console {
    /// A line's text; of everything on the console also with the prefix that stands there.
    fn found(&self, regex: &Regex, line: &Line<'_>) -> bool {
        regex.is_match(&line.text) || (self.of == Of::All && regex.is_match(&line.shown()))
    }

    fn has_one(&self, pattern: &str, of: &[&Line<'_>], cut: bool, evidence: &ConsoleEvidence) -> Check {
        let name = format!("has {pattern}");
        let regex = match Regex::new(pattern) {
            Ok(regex) => regex,
            Err(e) => return Check::error(name, Cause::LabInternal, format!("{}: {e}", quote(pattern))),
        };
        if let Some(line) = of.iter().find(|line| self.found(&regex, line)) {
            return Check::pass(name, format!("{} wrote {}", self.of.name(), quote(&line.text)));
        }
        let expected = format!("a line of {} that matches {}", self.of.name(), quote(pattern));
        if cut {
            return say::cut(&name, &expected, evidence.to.saturating_sub(evidence.from));
        }
        let how = phase::end_words(&evidence.end);
        let message = match of.last() {
            Some(last) => format!(
                "console: expected {expected}, saw none in {} lines{how}; the last is {}",
                of.len(),
                quote(&last.text)
            ),
            None => format!("console: expected {expected}, it wrote nothing{how}"),
        };
        // What ended the wait may be no fault of what was waited for.
        match phase::end_cause(&evidence.end) {
            Some(cause) if cause.verdict() == crate::verdict::Verdict::Error => {
                Check::error(name, cause, message)
            }
            _ => Check::fail(name, Cause::ConsoleLacks, message),
        }
    }

    fn lacks_one(
        &self,
        pattern: &str,
        all: &[Line<'_>],
        of: &[&Line<'_>],
        cut: Option<u64>,
        cx: &JudgeContext<'_>,
    ) -> Check {
        let name = format!("lacks {pattern}");
        let mut of_emulator: Vec<&str> = Vec::new();
        let found: Vec<(Cause, String)> = match Catalogue::named(pattern) {
            Some(catalogue) => catalogue
                .scan(all)
                .into_iter()
                .filter(|finding| self.of.is(finding.speaker))
                .filter(|finding| match emulator::fault(cx.facts, all, &finding.text, finding.start) {
                    Some(fault) => {
                        of_emulator.push(fault);
                        false
                    }
                    None => true,
                })
                .map(|finding| (Cause::from_code(finding.code).unwrap_or(Cause::ConsoleHas), finding.text))
                .collect(),
            None => match Regex::new(pattern) {
                Ok(regex) => of
                    .iter()
                    .filter(|line| self.found(&regex, line))
                    .map(|line| (Cause::ConsoleHas, line.text.to_string()))
                    .collect(),
                Err(e) => return Check::error(name, Cause::LabInternal, format!("{}: {e}", quote(pattern))),
            },
        };
        let what = match Catalogue::named(pattern) {
            Some(_) => format!("no {pattern} of {}", self.of.name()),
            None => format!("no line of {} that matches {}", self.of.name(), quote(pattern)),
        };
        if let Some((cause, text)) = found.first() {
            let more = match found.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            let message = format!("console: expected {what}, saw {}{more}", quote(text));
            let mut check = Check::fail(name, *cause, message);
            for (cause, text) in found.iter().take(MOST_SHOWN) {
                check = check.show(cause.code(), text.clone());
            }
            return check;
        }
        if let Some(total) = cut {
            return say::cut(&name, &what, total);
        }
        if of.is_empty() {
            // A silent console has no panic either; that is no good sign.
            let message =
                format!("not judged: {} wrote nothing in which {what} could be shown", self.of.name());
            return Check::not_judged(name, message);
        }
        let but = match of_emulator.as_slice() {
            [] => String::new(),
            faults => format!(", but for what this emulator's faults bring about ({})", faults.join(", ")),
        };
        Check::pass(name, format!("{what} in {} lines{but}", of.len()))
    }
}

/// Findings shown with a check; the message says how many there are.
const MOST_SHOWN: usize = 20;

#[cfg(test)]
mod tests;
