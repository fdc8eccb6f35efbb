//! `xtf`: one instance of the Xen Test Framework, and how it ends.

use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::{Captured, CommandEnd, CommandResult, Loss, MachineEnd};
use crate::fact::Facts;
use crate::matcher::quote;
use crate::verdict::{Check, Verdict};
use crate::xtf::{self, Instance, Outcome};
use serde::{Deserialize, Serialize};

/// `xtf: {tree: DIR, test: test-pv64-example, run-as: auto}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Xtf {
    /// A built tree.
    pub tree: String,
    /// The instance: `test-ENVIRONMENT-NAME`, and `~VARIATION` where the test has some.
    pub test: String,
    /// As what it runs; never `auto` in a case.
    #[serde(default)]
    pub run_as: RunAs,
    /// What the tree says of it; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub known: Option<Known>,
}

/// As what an instance runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum RunAs {
    /// As dom0 straight on Xen where it was measured to be the same test, else as a domain that dom0 makes.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// As a domain that dom0 makes.
    #[serde(rename = "domU")]
    DomU,
    /// As dom0, straight on Xen; PV instances only.
    #[serde(rename = "dom0")]
    Dom0,
}

/// What a tree says of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The instance, taken apart.
    pub instance: Instance,
    /// The test's category.
    pub category: String,
}

/// What was seen of an instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XtfEvidence {
    /// It ran as this; never `auto`.
    pub run_as: RunAs,
    /// SHA-256 of its kernel, as it is in the tree.
    pub image: String,
    /// Its configuration as it was given to `xl`; empty where it ran as dom0.
    pub config: String,
    /// `xl info`'s `virt_caps` and `xen_caps`, a line each; none where it needs nothing of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caps: Option<CommandResult>,
    /// Putting it into dom0 and creating it; none where Xen's caps have not what it needs, and where it ran as dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<CommandResult>,
    /// It had not ended within so much guest time, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<f64>,
    /// What it wrote to its console.
    pub console: Captured,
    /// What Xen wrote to its own while it ran.
    pub xen: Vec<String>,
}

impl StepKind for Xtf {
    const NAME: &'static str = "xtf";
    const AT: At = At::Dom0;
    type Evidence = XtfEvidence;

    fn at(&self) -> At {
        if self.run_as == RunAs::Dom0 { At::Boot } else { At::Dom0 }
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if self.tree.is_empty() {
            wrong.push(Complaint::new("tree", "`tree` is empty", "the folder of a built XTF tree"));
        }
        if self.run_as == RunAs::Dom0 && !self.test.starts_with("test-pv") {
            let message = format!("{} cannot run as dom0", quote(&self.test));
            wrong.push(Complaint::new("run-as", message, "domU or auto: only PV instances can be dom0"));
        }
        wrong
    }

    fn judge(&self, evidence: &XtfEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "test");
        vec![self.decide(evidence, cx.facts).at(place)]
    }
}

impl Xtf {
    /// As what it runs where that is not said; `alone` when the case has nothing else that needs a machine, and `cpus` the processors that
    /// the machine was said to have.
    pub fn settled(&self, alone: bool, cpus: Option<u32>) -> RunAs {
        let same = || xtf::same_as_dom0(&self.test).is_some_and(|need| cpus.is_none_or(|has| has >= need));
        match self.run_as {
            RunAs::Auto if alone && same() => RunAs::Dom0,
            RunAs::Auto => RunAs::DomU,
            said => said,
        }
    }

    /// Why it cannot run in a case, by what is known before its machine starts.
    pub fn cannot(&self, arch: crate::Arch, facts: &crate::fact::Facts) -> Option<String> {
        self.known.as_ref()?.instance.cannot(arch, facts)
    }

    /// The case with this step was lost while it ran: what took Xen or dom0 down is the test, until something else is known.
    pub fn lost(&self, check: Check, loss: &Loss) -> Check {
        let host = match loss {
            Loss::Guest { code, .. } => code.starts_with("xen.") || code.starts_with("dom0."),
            Loss::Machine(end) => {
                matches!(end, MachineEnd::GuestReset | MachineEnd::GuestPowerOff | MachineEnd::GuestPanicked)
            }
            _ => false,
        };
        if host && check.verdict == Verdict::Fail { self.said(check, Outcome::HostCrash) } else { check }
    }

    /// How it ended, if that is known: read off a check of this kind.
    pub fn outcome(check: &Check) -> Option<Outcome> {
        let word = &check.shown.iter().find(|(label, _)| label == LABEL)?.1;
        Outcome::ALL.into_iter().find(|o| o.word() == word)
    }

    fn said(&self, mut check: Check, outcome: Outcome) -> Check {
        let rest = check.message.strip_prefix("xtf: ").unwrap_or(&check.message);
        check.message = format!("{}: {rest}", outcome.word());
        check.show(LABEL, outcome.word())
    }

    fn decide(&self, evidence: &XtfEvidence, facts: &Facts) -> Check {
        let name = self.test.as_str();
        if let Some(caps) = &evidence.caps {
            match self.lacks(caps, facts) {
                Err(check) => return *check,
                Ok(Some(lacks)) => return Check::not_judged(name, lacks),
                Ok(None) => {}
            }
        }
        let said = evidence.console.text.as_str();
        let last = said.lines().map(str::trim).rfind(|l| !l.is_empty());
        let last_words = || match last {
            Some(line) => format!("its last line is {}", quote(line)),
            None => "it wrote nothing to its console".to_owned(),
        };
        if let Some(limit) = evidence.timed_out {
            let result = said.lines().rev().find_map(Outcome::of_line);
            let more = result.map_or_else(last_words, |r| format!("it said {} and did not end", r.word()));
            let message =
                format!("it did not end within {limit:.0} s of guest time; {more}{}", of_xen(evidence));
            return self.said(Check::fail(name, Cause::XtfTimeout, message), Outcome::Timeout);
        }
        if let Some(run) = &evidence.run {
            match &run.end {
                CommandEnd::Exit(0) => {}
                CommandEnd::Exit(status) if last.is_none() => {
                    let message = format!(
                        "the domain could not be made: `xl create` exited with {status}{}{}",
                        say::stderr_tail(run),
                        of_xen(evidence)
                    );
                    return self.said(Check::fail(name, Cause::XtfNoDomain, message), Outcome::Crash);
                }
                CommandEnd::Exit(_) => {}
                _ => {
                    return match say::exited(name, "the instance", run) {
                        Err(check) => check,
                        Ok(_) => Check::error(name, Cause::LabInternal, "a command's end has no meaning"),
                    };
                }
            }
        }
        if evidence.console.cut && Outcome::of_console(said) == Outcome::Crash {
            return say::cut(name, "a result on its last line", evidence.console.total);
        }
        let outcome = Outcome::of_console(said);
        // What it complained of stands before its result.
        let lines = || said.lines().map(str::trim).filter(|l| !l.is_empty());
        let complaint = lines()
            .find(|l| ["Fail", "Error", "Skip", "Warning", "Expected"].iter().any(|w| l.starts_with(w)))
            .or_else(|| if outcome == Outcome::Skip { lines().find(|l| l.starts_with("FEP ")) } else { None })
            .or_else(|| if outcome == Outcome::Skip { lines().rev().nth(1) } else { None })
            .map_or_else(String::new, |l| format!(": {}", quote(l)));
        // XTF's own panic is framed by lines of stars.
        let panic = said.lines().map(str::trim).rev().find(|l| l.starts_with("PANIC: "));
        let check = match outcome {
            Outcome::Success => Check::pass(name, "it says so"),
            Outcome::SuccessWithWarnings => Check::pass(name, format!("it says so{complaint}")),
            Outcome::Skip => Check::not_judged(name, format!("it cannot be done here{complaint}")),
            Outcome::Error => Check::fail(
                name,
                Cause::XtfError,
                format!("something is wrong with the test itself{complaint}"),
            ),
            Outcome::Failure => Check::fail(
                name,
                Cause::XtfFailure,
                format!("what it tests is not as it should be{complaint}{}", of_xen(evidence)),
            ),
            Outcome::Crash | Outcome::HostCrash | Outcome::Timeout => {
                let last = panic.map_or_else(last_words, |line| format!("it said {}", quote(line)));
                let message = format!("it ended without a result; {last}{}", of_xen(evidence));
                Check::fail(name, Cause::XtfCrash, message)
            }
        };
        self.said(check, outcome)
    }

    /// What Xen's caps have not that the instance needs.
    pub fn lacks(&self, caps: &CommandResult, facts: &Facts) -> Result<Option<String>, Box<Check>> {
        let name = self.test.as_str();
        say::succeeded(name, "`xl info`", caps, Cause::ToolsFailed).map_err(Box::new)?;
        let mut lines = caps.stdout.text.lines();
        let (virt, xen) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let has = xtf::caps(virt, xen);
        let Some(known) = &self.known else { return Ok(None) };
        if known.instance.without_hap(facts) && !has.contains("shadow") {
            return Ok(Some(format!("{}, which this Xen has not", xtf::WITHOUT_HAP)));
        }
        let lacks: Vec<&str> =
            known.instance.needs().into_iter().filter(|need| !has.contains(need)).collect();
        if lacks.is_empty() {
            return Ok(None);
        }
        let has: Vec<&str> = has.into_iter().collect();
        Ok(Some(format!("needs {}, and this Xen has on this machine {}", lacks.join(", "), has.join(", "))))
    }
}

/// Memory of an instance that is dom0: what XTF's own configurations give it as a domain.
pub const DOM0_MEMORY: crate::units::Size = crate::units::Size::mib(128);

/// The label under which a check shows how an instance ended.
pub const LABEL: &str = "XTF";

/// What Xen said while it ran, for the end of a message: why the domain ended, which stands before its registers and stack, else the last.
fn of_xen(evidence: &XtfEvidence) -> String {
    let lines: Vec<&str> = evidence.xen.iter().map(|l| l.trim()).filter(|l| !l.is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let why = |line: &&&str| ["crash", "Unhandled", "fault", "FATAL"].iter().any(|word| line.contains(word));
    let mut told: Vec<&str> = lines.iter().filter(why).take(3).copied().collect();
    if told.is_empty() {
        told = lines[lines.len().saturating_sub(3)..].to_vec();
    }
    format!("; Xen said {}", quote(&told.join(" / ")))
}

#[cfg(test)]
mod tests;
