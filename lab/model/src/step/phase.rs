//! `phase`: the machine reaches a boot phase.

mod story;

use super::{At, JudgeContext, StepKind};
use crate::cause::Cause;
use crate::evidence::{MachineEnd, WaitEnd};
use crate::matcher::quote;
use crate::verdict::{Check, Verdict};
use regex::Regex;
use serde::{Deserialize, Serialize};
use xenlab_console::Phase as BootPhase;

/// `phase: dom0-ready`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Phase {
    /// The phase to reach.
    #[schemars(with = "String")]
    pub reach: BootPhase,
}

/// When each phase was reached, and how the wait for the one asked for ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseEvidence {
    /// In order, with seconds since power-on.
    pub reached: Vec<(BootPhase, f64)>,
    /// How the wait ended.
    pub end: WaitEnd,
    /// Bytes the consoles had written by then.
    pub console_bytes: u64,
    /// The last lines of each console, by name, for the message.
    pub tails: Vec<(String, Vec<String>)>,
    /// Lines that explain a bad end, as the console crate recognised them: cause code and line.
    #[serde(default)]
    pub signs: Vec<(String, String)>,
    /// The last line of each speaker, the latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub heard: Vec<Heard>,
    /// Seconds since power-on when the wait ended; 0 where nobody looked.
    #[serde(default)]
    pub ended: f64,
    /// How long the phase that the boot stopped in takes as a rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual: Option<Usual>,
    /// What the dump of a crash tells, by label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<(String, String)>,
}

/// What was heard last of somebody.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// `firmware`, `xen`, `dom0`.
    pub from: String,
    /// The line.
    pub line: String,
    /// Seconds since power-on when it came.
    pub at: f64,
}

/// How long a phase takes as a rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Usual {
    /// By earlier boots of the same case.
    Boots {
        /// How many there are.
        boots: u32,
        /// Seconds, the median of them.
        seconds: f64,
        /// Seconds, the longest.
        longest: f64,
    },
    /// There are none: what the lab gives any boot, seconds of guest time.
    Limit(f64),
}

impl StepKind for Phase {
    const NAME: &'static str = "phase";
    const AT: At = At::Boot;
    const PRIMARY: Option<&'static str> = Some("reach");
    type Evidence = PhaseEvidence;

    fn judge(&self, evidence: &PhaseEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        vec![judge(self.reach, evidence).at(cx.place(Self::NAME, "reach"))]
    }
}

/// The wait for a phase; the boot's own wait too.
pub fn judge(reach: BootPhase, evidence: &PhaseEvidence) -> Check {
    let name = reach.name();
    // A phase that showed itself by nothing is passed over: a later one says that it was reached.
    let reached = evidence.reached.iter().find(|(phase, _)| *phase >= reach);
    if evidence.end == WaitEnd::Reached {
        return match reached {
            Some((_, seconds)) => Check::pass(name, format!("{name} after {seconds:.2} s")),
            None => {
                let message =
                    format!("{name}: the wait ended well, and the phase is not among those reached");
                Check::error(name, Cause::LabInternal, message)
            }
        };
    }
    let (cause, because) = cause(evidence);
    let last = evidence.reached.last().map_or(BootPhase::PowerOn, |(phase, _)| *phase);
    let because = because.map(|line| format!(" ({})", quote(&line))).unwrap_or_default();
    let message = if evidence.reached.is_empty() {
        format!("{name}: nothing was booted: {}{because}", cause.meaning())
    } else {
        format!(
            "{name}: the boot stopped in phase {last}{}; likely cause: {}{because}",
            end_words(&evidence.end),
            cause.meaning()
        )
    };
    let mut check = match cause.verdict() {
        Verdict::Error => Check::error(name, cause, message),
        _ => Check::fail(name, cause, message),
    };
    check = check.show("phase", last.name());
    for (label, value) in story::told(evidence) {
        check = check.show(label, value);
    }
    for (console, lines) in &evidence.tails {
        check = check.show(format!("last lines of {console}"), lines.join("\n"));
    }
    check
}

/// How a wait ended badly, in words that go on a sentence; empty when it did not.
pub(super) fn end_words(end: &WaitEnd) -> String {
    match end {
        WaitEnd::Reached => String::new(),
        WaitEnd::Failed { .. } => ": a line there says that it failed".to_owned(),
        WaitEnd::Stalled { seconds } => format!(": nothing new for {seconds:.0} s of guest time"),
        WaitEnd::TimedOut { limit } => format!(": the limit of {limit:.0} s of guest time passed"),
        WaitEnd::Ended(end) => format!(": {}", machine_words(end)),
        WaitEnd::Interrupted => ": the run was interrupted".to_owned(),
    }
}

/// How the machine ended, as a clause.
pub(crate) fn machine_words(end: &MachineEnd) -> String {
    let said = |stderr: &str| match stderr.trim() {
        "" => String::new(),
        said => format!(" ({})", quote(said)),
    };
    match end {
        MachineEnd::QemuExited { status, stderr } => {
            format!("QEMU exited with status {status}{}", said(stderr))
        }
        MachineEnd::QemuKilled { signal, stderr } => {
            format!("QEMU was killed by signal {signal}{}", said(stderr))
        }
        MachineEnd::InternalError => "QEMU stopped with an internal error".to_owned(),
        MachineEnd::Protocol(what) => format!("QEMU's monitor failed ({what})"),
        MachineEnd::GuestReset => "the guest reset the machine".to_owned(),
        MachineEnd::GuestPowerOff => "the guest powered the machine off".to_owned(),
        MachineEnd::GuestPanicked => "the guest reported a panic".to_owned(),
    }
}

/// The cause of a wait's end where it says it by itself, without a look at the boot.
pub(super) fn end_cause(end: &WaitEnd) -> Option<Cause> {
    match end {
        WaitEnd::Ended(end) => Some(machine_cause(end, BootPhase::Dom0Ready)),
        WaitEnd::Interrupted => Some(Cause::Interrupted),
        _ => None,
    }
}

/// Whose doing it is that the machine ended in this phase.
pub(crate) fn machine_cause(end: &MachineEnd, phase: BootPhase) -> Cause {
    // Until its kernel runs nothing that happens is dom0's doing.
    let dom0 = phase >= BootPhase::Dom0Kernel;
    match end {
        MachineEnd::QemuExited { .. } => Cause::QemuExited,
        MachineEnd::QemuKilled { .. } => Cause::QemuKilled,
        MachineEnd::InternalError => Cause::QemuInternalError,
        MachineEnd::Protocol(_) => Cause::QemuProtocol,
        MachineEnd::GuestReset => {
            if dom0 {
                Cause::Dom0Reset
            } else {
                Cause::XenReset
            }
        }
        MachineEnd::GuestPowerOff => {
            if dom0 {
                Cause::Dom0PowerOff
            } else {
                Cause::XenPowerOff
            }
        }
        MachineEnd::GuestPanicked => {
            if dom0 {
                Cause::Dom0Panic
            } else {
                Cause::XenPanic
            }
        }
    }
}

/// The likely cause of a bad end, and the line that shows it.
fn cause(evidence: &PhaseEvidence) -> (Cause, Option<String>) {
    let last = evidence.reached.last().map_or(BootPhase::PowerOn, |(phase, _)| *phase);
    let sign = best_sign(evidence);
    let explained = |otherwise: Cause| match &sign {
        Some((cause, line)) => (*cause, Some(line.clone())),
        None => (otherwise, None),
    };
    match &evidence.end {
        WaitEnd::Interrupted => (Cause::Interrupted, None),
        WaitEnd::Failed { code, line } => {
            let own = Cause::from_code(code).unwrap_or(Cause::LabInternal);
            // The line that ended the wait may be the general one (`Panic on CPU 0:`), and another the one that says why.
            match &sign {
                Some((cause, said)) if sign_weight(*cause, said) > sign_weight(own, line) => {
                    (*cause, Some(said.clone()))
                }
                _ => (own, Some(line.clone())),
            }
        }
        WaitEnd::Ended(end) => {
            let own = machine_cause(end, last);
            match end {
                // Refused: it never ran the machine.
                MachineEnd::QemuExited { status, .. } if *status != 0 && nothing_ran(evidence) => {
                    (Cause::QemuRefused, None)
                }
                _ if own.verdict() == Verdict::Error => (own, None),
                _ => explained(own),
            }
        }
        WaitEnd::Stalled { .. } => explained(stopped(last, evidence, true)),
        WaitEnd::TimedOut { .. } => explained(stopped(last, evidence, false)),
        // Asked only of waits that ended badly.
        WaitEnd::Reached => (Cause::LabInternal, None),
    }
}

fn nothing_ran(evidence: &PhaseEvidence) -> bool {
    evidence.console_bytes == 0 && evidence.reached.iter().all(|(phase, _)| *phase == BootPhase::PowerOn)
}

/// No line explains why the boot went no further than `last`; silence, or a limit that passed while it wrote.
fn stopped(last: BootPhase, evidence: &PhaseEvidence, silent: bool) -> Cause {
    let xen_spoke =
        evidence.reached.iter().any(|(phase, _)| matches!(phase, BootPhase::Xen | BootPhase::Dom0Build));
    match last {
        BootPhase::PowerOn | BootPhase::Firmware => Cause::XenSilent,
        BootPhase::Xen => Cause::XenHung,
        BootPhase::Dom0Build => Cause::Dom0Silent,
        // A Linux whose console has not a word of Xen is no dom0.
        _ if !xen_spoke => Cause::Dom0NotUnderXen,
        _ if silent => Cause::Dom0Hung,
        _ => Cause::Dom0NotReady,
    }
}

/// The most specific of the lines that explain the end; of equals the first.
fn best_sign(evidence: &PhaseEvidence) -> Option<(Cause, String)> {
    let known = evidence.signs.iter().filter_map(|(code, line)| Some((Cause::from_code(code)?, line)));
    known
        .rev()
        .max_by_key(|(cause, line)| sign_weight(*cause, line))
        .map(|(cause, line)| (cause, line.clone()))
}

/// How specific a sign is, by the rules of the console crate that recognise it.
fn sign_weight(cause: Cause, line: &str) -> u8 {
    let rules = xenlab_console::RULES.iter().filter(|rule| rule.code == cause.code());
    let matching = rules.filter(|rule| Regex::new(rule.pattern).is_ok_and(|regex| regex.is_match(line)));
    match matching.map(|rule| rule.weight).max() {
        Some(weight) => weight,
        // dom0's init says it in its own words, with the case's nonce: nothing is more specific.
        None if line.contains("xenlab: failed ") => u8::MAX,
        None => 0,
    }
}

#[cfg(test)]
mod tests;
