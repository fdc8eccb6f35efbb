//! `xenstored`: which store daemon really runs, and whether it works.

use super::{At, JudgeContext, StepKind};
use crate::evidence::CommandResult;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `xenstored: {daemon: oxenstored, self-test: true}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Xenstored {
    /// The daemon that must run.
    pub daemon: Daemon,
    /// Run `test-xenstore`.
    #[serde(default)]
    pub self_test: bool,
}

/// A store daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// Whichever; one must run.
    Any,
    /// The C daemon.
    Xenstored,
    /// The OCaml daemon.
    Oxenstored,
}

/// What runs, by pid file and by the process table, and what it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XenstoredEvidence {
    /// Lines `pid=N exe=PATH comm=NAME from=pidfile:FILE|proc`, one for each candidate process found.
    pub found: CommandResult,
    /// `xenstore-read /local/domain/0/domid` or `xenstore-ls`: the store answers.
    pub answers: CommandResult,
    /// `test-xenstore`; none when it was not asked for.
    pub self_test: Option<CommandResult>,
}

impl StepKind for Xenstored {
    const NAME: &'static str = "xenstored";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("daemon");
    type Evidence = XenstoredEvidence;

    fn judge(&self, _evidence: &XenstoredEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }
}
