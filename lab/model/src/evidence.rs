//! Evidence: what a step observed, complete enough to be judged again without the machine.

use crate::step::Observation;
use serde::{Deserialize, Serialize};

/// From which start of the machine something was observed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The case's own cold boot.
    #[default]
    PowerOn,
    /// The template's boot.
    Template,
    /// A clone of a template.
    Clone,
}

impl Origin {
    /// What goes without saying.
    pub fn is_power_on(&self) -> bool {
        *self == Origin::PowerOn
    }

    /// On what something was seen, in words; none where it is the case's own boot.
    pub fn words(self) -> Option<&'static str> {
        match self {
            Origin::PowerOn => None,
            Origin::Template => Some("on its template"),
            Origin::Clone => Some("on a clone"),
        }
    }
}

/// A way into dom0.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// OpenSSH's protocol, by TCP.
    Ssh,
    /// dom0's real console.
    Serial,
    /// A virtio-serial port of the lab's own.
    Port,
}

impl Transport {
    /// As scenarios write it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Ssh => "ssh",
            Transport::Serial => "serial",
            Transport::Port => "port",
        }
    }
}

/// Some output, kept up to a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Captured {
    /// What was kept, invalid UTF-8 replaced.
    pub text: String,
    /// Bytes there were in all.
    pub total: u64,
    /// There was more than was kept: its absence proves nothing.
    pub cut: bool,
}

/// How a command in dom0 ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandEnd {
    /// Exit status.
    Exit(i32),
    /// Killed by this signal (name without `SIG`, or its number).
    Signal(String),
    /// Not ended within the limit; seconds of guest time.
    TimedOut(u64),
    /// The way in failed before the command's end was known.
    Lost(String),
}

/// One command in dom0 and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommandResult {
    /// By which way.
    pub via: Transport,
    /// As it was run, a shell script.
    pub script: String,
    /// How it ended.
    pub end: CommandEnd,
    /// Standard output alone.
    pub stdout: Captured,
    /// Standard error alone.
    pub stderr: Captured,
    /// Wall time.
    pub seconds: f64,
}

impl CommandResult {
    /// It exited with 0.
    pub fn ok(&self) -> bool {
        self.end == CommandEnd::Exit(0)
    }
}

/// How the machine ended, if it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineEnd {
    /// QEMU exited by itself with this status and these last lines on stderr.
    QemuExited {
        /// Exit status.
        status: i32,
        /// Last lines it wrote to stderr.
        stderr: String,
    },
    /// QEMU was killed by a signal.
    QemuKilled {
        /// Signal number.
        signal: i32,
        /// Last lines it wrote to stderr.
        stderr: String,
    },
    /// QMP reported run state `internal-error`.
    InternalError,
    /// QEMU's monitor went away or broke the protocol.
    Protocol(String),
    /// The guest reset the machine.
    GuestReset,
    /// The guest powered the machine off.
    GuestPowerOff,
    /// The guest reported a panic to QEMU.
    GuestPanicked,
}

/// How a wait ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitEnd {
    /// What was waited for is there.
    Reached,
    /// A line that means failure; `code` is a cause's code.
    Failed {
        /// Code of the cause.
        code: String,
        /// The line.
        line: String,
    },
    /// Nothing new for so long (seconds of guest time).
    Stalled {
        /// Seconds of guest time without a byte, phase or event.
        seconds: f64,
    },
    /// The limit passed (seconds of guest time).
    TimedOut {
        /// The limit.
        limit: f64,
    },
    /// The machine ended.
    Ended(MachineEnd),
    /// The user interrupted the run.
    Interrupted,
}

/// Why a step has nothing to show.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// An earlier loss: the step was not tried.
    NotReached,
    /// The template that the case was to start from did not boot; that is told of it, and of this case nothing is known.
    NoTemplate {
        /// What the template is called in the report.
        template: String,
        /// Why it did not boot.
        message: String,
    },
    /// The machine was lost while the step ran.
    Machine(MachineEnd),
    /// Xen or dom0 died while the step ran; the console said so.
    Guest {
        /// Code of the cause.
        code: String,
        /// The line that says it.
        line: String,
        /// What its dump tells besides, by label.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        told: Vec<(String, String)>,
    },
    /// The user interrupted the run.
    Interrupted,
    /// The lab could not do it; a cause's code and a sentence.
    Lab {
        /// Code of the cause.
        code: String,
        /// What happened.
        message: String,
    },
}

/// What a step observed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// `steps[3]`, `setup[0]`; the boot itself is `boot`.
    pub step: String,
    /// From which start of the machine.
    pub origin: Origin,
    /// Seconds since power-on when it began (wall time).
    pub from: f64,
    /// Seconds since power-on when it ended.
    pub to: f64,
    /// What was seen, or why nothing was.
    pub seen: Result<Observation, Loss>,
}
