//! The files of a bundle: a case's folder, everything needed to judge it again.
//!
//! `started` (written first) · `plan.json` (a [`Case`](crate::case::Case)) · `inputs.json` · `timeline.jsonl` · `console/NAME.raw` ·
//! `evidence.jsonl` · `verdict.json`.

use crate::fact::Facts;
use serde::{Deserialize, Serialize};

/// The version of the format.
pub const FORMAT: u32 = 1;

/// `inputs.json`: what the machine was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// [`FORMAT`].
    pub format: u32,
    /// The lab's version.
    pub lab: String,
    /// QEMU's command line.
    pub argv: Vec<String>,
    /// Who had restored and warmed the machine before the case asked for it, where somebody had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm: Option<String>,
    /// QEMU's version as it says it.
    pub qemu: String,
    /// The accelerator, and why it is that one.
    pub accel: (String, String),
    /// Every file the machine used.
    pub artefacts: Vec<Artefact>,
    /// All facts known when the case was judged.
    pub facts: Facts,
}

/// A file the machine used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// `xen`, `kernel`, `initrd`, `userland`, `device-model`, `tools`.
    pub role: String,
    /// Where it was.
    pub path: String,
    /// SHA-256.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A line of `timeline.jsonl`; `t` is seconds since power-on on one monotonic clock, `g` the guest time by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tick {
    /// Seconds since power-on.
    pub t: f64,
    /// Seconds of guest time.
    pub g: f64,
    /// What.
    #[serde(flatten)]
    pub what: TickWhat,
}

/// What a line of the timeline says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum TickWhat {
    /// Bytes arrived on a console: `console/STREAM.raw[offset..offset+length]`; `kept` less than `length` past the cap.
    Console {
        /// The stream.
        stream: String,
        /// Where, counted over everything the stream wrote.
        offset: u64,
        /// Bytes.
        length: u64,
        /// Bytes of them that are in the record.
        kept: u64,
    },
    /// A QMP message, to or from QEMU.
    Qmp {
        /// `sent` or `got`.
        direction: String,
        /// The message.
        message: serde_json::Value,
    },
    /// A phase was reached.
    Phase {
        /// Its name.
        phase: String,
    },
    /// A step began.
    StepStarted {
        /// Its path.
        step: String,
    },
    /// A step ended.
    StepEnded {
        /// Its path.
        step: String,
    },
    /// Anything else worth knowing.
    Note {
        /// In words.
        message: String,
    },
}
