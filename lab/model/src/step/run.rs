//! `run`: a command in dom0, its status, standard output and standard error judged apart.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many};
use crate::evidence::{CommandResult, Transport};
use crate::fact::FactType;
use crate::matcher::Matcher;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `run: {script: xl list, via: [ssh, serial], exit: 0, stdout: matcher, stderr: matcher}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    /// A script for dom0's `/bin/sh`; variables of the scenario arrive as environment. Either this or `argv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// A program and its arguments, no shell between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub argv: Vec<String>,
    /// Ways in to run it by, once each; none named: the fastest.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<Transport>,
    /// Exit status expected; 0 when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Matcher>,
    /// What standard output must be, its last line end taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Matcher>,
    /// What standard error must be, its last line end taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Matcher>,
    /// Environment given to the script: the scenario's variables. Filled when the case is planned.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    #[schemars(skip)]
    pub env: std::collections::BTreeMap<String, String>,
}

/// One result for each way in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEvidence {
    /// In the order of `via`.
    pub results: Vec<CommandResult>,
}

impl StepKind for Run {
    const NAME: &'static str = "run";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("script");
    type Evidence = RunEvidence;

    fn judge(&self, _evidence: &RunEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        match (&self.script, self.argv.as_slice()) {
            (Some(_), [_, ..]) => {
                wrong.push(Complaint::new("argv", "both `script` and `argv` are given", "one of the two"));
            }
            (None, []) => wrong.push(Complaint::new("", "nothing to run is given", "`script` or `argv`")),
            (Some(script), []) if script.trim().is_empty() => {
                wrong.push(Complaint::new("script", "the script is empty", "commands for /bin/sh"));
            }
            (None, [program, ..]) if program.is_empty() => {
                wrong.push(Complaint::new("argv[0]", "the program has no name", "a program"));
            }
            _ => {}
        }
        for (i, way) in self.via.iter().enumerate() {
            if self.via[..i].contains(way) {
                wrong.push(Complaint::new(format!("via[{i}]"), "this way in is here twice", "each way once"));
            }
        }
        for (path, matcher, kind) in [
            ("exit", &self.exit, FactType::Integer),
            ("stdout", &self.stdout, FactType::Text),
            ("stderr", &self.stderr, FactType::Text),
        ] {
            for message in matcher.iter().filter_map(|m| m.check(kind).err()).flatten() {
                wrong.push(Complaint { path: path.into(), message, expected: None });
            }
        }
        wrong
    }
}
