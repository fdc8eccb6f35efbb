//! Verdicts: of a check, a step, a case.

use crate::cause::{Blame, Cause};
use crate::evidence::Origin;
use crate::exit::Exit;
use crate::expectation::{Expectation, Expected, Kind};
use crate::place::Place;
use serde::{Deserialize, Serialize};

/// What something was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Judged, and good.
    Pass,
    /// Judged, and bad.
    Fail,
    /// The lab could not judge it: no word about the subject.
    Error,
    /// Not tried or not judged, with a reason; never a pass.
    Skip,
    /// An earlier loss prevented it.
    NotReached,
}

impl Verdict {
    /// The word reports show.
    pub fn word(self) -> &'static str {
        match self {
            Verdict::Pass => "PASS",
            Verdict::Fail => "FAIL",
            Verdict::Error => "ERROR",
            Verdict::Skip => "SKIP",
            Verdict::NotReached => "NOT REACHED",
        }
    }

    /// Of several verdicts the one that speaks for all: Fail, Error, Not reached, Pass, Skip.
    pub fn worst(all: impl IntoIterator<Item = Verdict>) -> Verdict {
        let rank = |v: Verdict| match v {
            Verdict::Fail => 4,
            Verdict::Error => 3,
            Verdict::NotReached => 2,
            Verdict::Pass => 1,
            Verdict::Skip => 0,
        };
        all.into_iter().max_by_key(|&v| rank(v)).unwrap_or(Verdict::Skip)
    }
}

/// One thing a step looked at. A step may have many; each says what was expected and what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was looked at: `xen_version`, `xenlight.pc`, `stdout over ssh`.
    pub name: String,
    /// Pass, Fail, Error or Skip ("not judged").
    pub verdict: Verdict,
    /// Set on every Fail and Error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// One sentence; on a Fail it says what was expected, what was seen, and where possible what to do.
    pub message: String,
    /// Labelled values shown side by side: declared, carried, seen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shown: Vec<(String, String)>,
    /// Where in the scenario the expectation was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

impl Check {
    /// A check that holds.
    pub fn pass(name: impl Into<String>, message: impl Into<String>) -> Self {
        Check::new(name, Verdict::Pass, None, message)
    }
    /// A check that does not.
    pub fn fail(name: impl Into<String>, cause: Cause, message: impl Into<String>) -> Self {
        Check::new(name, Verdict::Fail, Some(cause), message)
    }
    /// A check the lab could not do.
    pub fn error(name: impl Into<String>, cause: Cause, message: impl Into<String>) -> Self {
        Check::new(name, Verdict::Error, Some(cause), message)
    }
    /// A check there is nothing to judge by.
    pub fn not_judged(name: impl Into<String>, why: impl Into<String>) -> Self {
        Check::new(name, Verdict::Skip, None, why)
    }
    fn new(
        name: impl Into<String>,
        verdict: Verdict,
        cause: Option<Cause>,
        message: impl Into<String>,
    ) -> Self {
        Check { name: name.into(), verdict, cause, message: message.into(), shown: Vec::new(), place: None }
    }
    /// With a labelled value.
    #[must_use]
    pub fn show(mut self, label: impl Into<String>, value: impl Into<String>) -> Self {
        self.shown.push((label.into(), value.into()));
        self
    }
    /// With the place of its expectation.
    #[must_use]
    pub fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }
}

/// A step's verdict: the worst of its checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepVerdict {
    /// `steps[3]`.
    pub step: String,
    /// The step's name, or its kind.
    pub title: String,
    /// The kind.
    pub kind: String,
    /// The worst of the checks.
    pub verdict: Verdict,
    /// What was looked at.
    pub checks: Vec<Check>,
    /// Seconds of wall time.
    pub seconds: f64,
    /// What was looked at: the case's own boot, its template's, or a clone.
    #[serde(default, skip_serializing_if = "Origin::is_power_on")]
    pub origin: Origin,
}

/// A control boot's outcome, or why there was none, beside a verdict that depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The Xen that was booted.
    pub subject: String,
    /// Why that one: the last that passed here, or the locked one.
    pub because: String,
    /// Whether it booted in this very machine.
    pub passed: bool,
    /// Why it was not booted at all (it could not be fetched, say): then nothing is known of whose fault it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
}

impl Control {
    /// How it ended, in words that follow its name.
    pub fn outcome(&self) -> String {
        match (&self.unavailable, self.passed) {
            (Some(why), _) => format!("could not be had: {why}"),
            (None, true) => "booted in the same machine".to_owned(),
            (None, false) => "did not boot in the same machine either".to_owned(),
        }
    }
}

/// A case's verdict.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseVerdict {
    /// 1.
    pub format: u32,
    /// `scenario[axis=value,…]`.
    pub case: String,
    /// The Xen build.
    pub subject: String,
    /// The worst of the steps, or Skip.
    pub verdict: Verdict,
    /// Of the first thing that decided it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Whose fault; differs from the cause's own where a control boot said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blame: Option<Blame>,
    /// One sentence, or the reason of a skip.
    pub message: String,
    /// The XTF instance that the case runs, and how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xtf: Option<crate::xtf::Ended>,
    /// The boot and each step, in order.
    pub steps: Vec<StepVerdict>,
    /// The control boot, where one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<Control>,
    /// Seconds of wall time, all told.
    pub seconds: f64,
    /// How it stands to what was expected, where something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
}

impl CaseVerdict {
    /// The entry that it is as expected by.
    pub fn as_expected(&self) -> Option<&Expectation> {
        self.expected.as_ref().filter(|e| e.kind == Kind::AsExpected).map(|e| &e.entry)
    }

    /// What this case contributes to the exit code; a skip contributes nothing. A Fail that was expected was judged, and is what it
    /// should be; an Error that was expected has judged nothing.
    pub fn exit(&self) -> Option<Exit> {
        match self.verdict {
            Verdict::Fail if self.as_expected().is_some() => Some(Exit::Passed),
            Verdict::Error if self.as_expected().is_some() => None,
            Verdict::Pass => Some(Exit::Passed),
            Verdict::Fail => Some(Exit::Failed),
            Verdict::Error | Verdict::NotReached => Some(Exit::Lab),
            Verdict::Skip => None,
        }
    }
}

/// The exit code of a run: 130 when it was interrupted, 2 when it selected nothing, 1 when something failed, 3 when the lab could
/// not do something or judged nothing at all (every case skipped), else 0, which needs at least one that passed or failed as expected.
pub fn run_exit(cases: &[CaseVerdict], interrupted: bool) -> Exit {
    let stopped = cases.iter().any(|c| c.verdict == Verdict::Error && c.cause == Some(Cause::Interrupted));
    if interrupted || stopped {
        return Exit::Interrupted;
    }
    if cases.is_empty() {
        return Exit::BadInput;
    }
    cases.iter().filter_map(CaseVerdict::exit).reduce(Exit::worse).unwrap_or(Exit::Lab)
}
