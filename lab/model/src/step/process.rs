//! `process`: processes that must run in dom0, by the executable they really run.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many};
use crate::evidence::CommandResult;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `process: {running: [xenconsoled]}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Process {
    /// Base names or full paths of executables.
    #[serde(deserialize_with = "one_or_many")]
    pub running: Vec<String>,
}

/// The process table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessEvidence {
    /// Lines `PID EXE COMM`, the executable as `/proc/PID/exe` has it, `-` where there is none.
    pub table: CommandResult,
}

impl StepKind for Process {
    const NAME: &'static str = "process";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("running");
    type Evidence = ProcessEvidence;

    fn judge(&self, _evidence: &ProcessEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        if self.running.is_empty() {
            wrong.push(Complaint::new(
                "",
                "no process is named: this would pass on anything",
                "at least one executable",
            ));
        }
        for (i, name) in self.running.iter().enumerate() {
            if name.is_empty() || (name.contains('/') && !name.starts_with('/')) {
                let message = format!("`{name}` names no executable");
                wrong.push(Complaint::new(
                    format!("running[{i}]"),
                    message,
                    "a base name or an absolute path",
                ));
            }
        }
        wrong
    }
}
