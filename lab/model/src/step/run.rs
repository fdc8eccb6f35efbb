//! `run`: a command in dom0, its status, standard output and standard error judged apart.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many, say};
use crate::cause::Cause;
use crate::evidence::{CommandEnd, CommandResult, Transport};
use crate::matcher::{Matcher, quote};
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

    fn judge(&self, evidence: &RunEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let mut checks: Vec<Check> =
            evidence.results.iter().flat_map(|result| self.judge_one(result, evidence, cx)).collect();
        for via in self.via.iter().filter(|via| !evidence.results.iter().any(|r| r.via == **via)) {
            let name = format!("exit over {}", via.name());
            let message = format!("{name}: the command was to be run over {} and was not", via.name());
            checks.push(Check::error(name, Cause::LabInternal, message).at(cx.place(Self::NAME, "via")));
        }
        checks
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
        wrong.extend(self.wanted().mistakes());
        wrong
    }
}

impl Run {
    fn wanted(&self) -> say::Wanted<'_> {
        say::Wanted { exit: self.exit.as_ref(), stdout: self.stdout.as_ref(), stderr: self.stderr.as_ref() }
    }

    /// Status, standard output and standard error apart.
    fn judge_one(&self, result: &CommandResult, all: &RunEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let via = result.via.name();
        let name = format!("exit over {via}");
        let what = self.argv.first().map_or_else(|| "the script".to_owned(), |program| quote(program));
        let status = match say::exited(&name, &what, result) {
            Ok(status) => status,
            Err(check) => return vec![said_by_others(check, result, all).at(cx.place(Self::NAME, "via"))],
        };
        let whence = format!("over {via}");
        self.wanted().judge((Self::NAME, &whence), status, [&result.stdout, &result.stderr], cx)
    }
}

/// A lost way in means something else where another one lives, and where none does.
fn said_by_others(mut check: Check, result: &CommandResult, all: &RunEvidence) -> Check {
    if !matches!(result.end, CommandEnd::Lost(_)) {
        return check;
    }
    let mut others = all.results.iter().filter(|r| r.via != result.via).peekable();
    if others.peek().is_none() {
        return check;
    }
    match others.find(|r| !matches!(r.end, CommandEnd::Lost(_))) {
        Some(alive) => {
            check.message.push_str(&format!("; over {} it does", alive.via.name()));
        }
        // The lab's own way is the lab's own fault, whatever becomes of the others.
        None if result.via == Transport::Port => check.message.push_str("; nor by any other way"),
        None => {
            check.cause = Some(Cause::Dom0Unreachable);
            check.message.push_str("; nor by any other way");
        }
    }
    check
}

#[cfg(test)]
mod tests;
