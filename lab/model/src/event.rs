//! Events: one order of what happens in a run, from which every reporter makes its own.

use crate::case::Planned;
use crate::exit::Exit;
use crate::verdict::{CaseVerdict, StepVerdict};
use serde::{Deserialize, Serialize};

/// Something that happened, with when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since the run began.
    pub at: f64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// The run began.
    RunStarted {
        /// Identifies the run.
        run: String,
        /// The lab's version.
        version: String,
        /// Start, as RFC 3339 in UTC.
        started: String,
        /// `id @ subject` of every case, with what is planned.
        cases: Vec<(String, Planned)>,
    },
    /// Work that is not a case's own: fetching, building, probing. One `task` is one line of a display.
    Progress {
        /// Identifies the piece of work.
        task: String,
        /// What is being done now.
        message: String,
        /// So much done, of `total`; bytes or pieces as `unit` says.
        done: u64,
        /// 0 when not known.
        total: u64,
        /// `bytes`, or what the pieces are called.
        unit: String,
    },
    /// A piece of work ended; `error` says how when not well.
    ProgressEnded {
        /// As in `Progress`.
        task: String,
        /// Seconds it took.
        seconds: f64,
        /// How it failed.
        error: Option<String>,
    },
    /// Something the user should know that is no verdict: KVM not used and why, a lock that moved.
    Note {
        /// The case it concerns, if one.
        case: Option<String>,
        /// One or more sentences.
        message: String,
    },
    /// A case began.
    CaseStarted {
        /// `id @ subject`.
        case: String,
        /// Its bundle.
        bundle: String,
    },
    /// A boot phase was reached.
    Phase {
        /// `id @ subject`.
        case: String,
        /// The phase's name.
        phase: String,
        /// Seconds since power-on.
        seconds: f64,
    },
    /// A part of a case's work ended: `wait` (for its turn; not part of what it took), `prepare`, `boot`, `connect`, `checks`, `teardown`.
    Stage {
        /// `id @ subject`.
        case: String,
        /// Which.
        stage: String,
        /// Seconds it took; for `boot` seconds since power-on.
        seconds: f64,
        /// Seconds of processor time that the lab itself took meanwhile, for all its cases.
        #[serde(default)]
        cpu_seconds: f64,
    },
    /// A step began.
    StepStarted {
        /// `id @ subject`.
        case: String,
        /// The step's path.
        step: String,
        /// Its title.
        title: String,
    },
    /// A step was judged.
    StepFinished {
        /// `id @ subject`.
        case: String,
        /// Its verdict.
        verdict: StepVerdict,
    },
    /// A case was judged.
    CaseFinished {
        /// `id @ subject`.
        case: String,
        /// Its bundle; empty when it was skipped before it had one.
        bundle: String,
        /// Its verdict.
        verdict: Box<CaseVerdict>,
        /// The command that does it again.
        reproduce: String,
    },
    /// The run ended.
    RunFinished {
        /// The exit code.
        exit: Exit,
        /// Seconds, all told.
        seconds: f64,
        /// It was interrupted.
        interrupted: bool,
        /// What the lab itself used.
        lab: LabUse,
    },
}

/// What the lab's own process used, QEMU and helpers not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct LabUse {
    /// Most memory at once, in bytes (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// Processor time, user and system, in seconds.
    pub cpu_seconds: f64,
}

/// Where events go. A sink never blocks for long and never fails the run.
pub trait Sink: Send + Sync {
    /// Takes an event.
    fn emit(&self, what: What);
}

/// A sink that drops everything.
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _what: What) {}
}
