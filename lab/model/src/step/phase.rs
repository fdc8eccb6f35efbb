//! `phase`: the machine reaches a boot phase.

use super::{At, JudgeContext, StepKind};
use crate::evidence::WaitEnd;
use crate::verdict::Check;
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
}

impl StepKind for Phase {
    const NAME: &'static str = "phase";
    const AT: At = At::Boot;
    const PRIMARY: Option<&'static str> = Some("reach");
    type Evidence = PhaseEvidence;

    fn judge(&self, _evidence: &PhaseEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }
}
