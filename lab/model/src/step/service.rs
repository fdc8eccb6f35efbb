//! `service`: services of dom0's init system. A service that must run and does not exist is a failure.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many};
use crate::evidence::CommandResult;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `service: {active: [xen, ssh], failed: []}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// Services that must exist and be active, or have ended well if they are one-shot. `xen` stands for the Xen
    /// services of this userland's layout.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// The services that may have failed; any other that failed is a Fail. Not said: none is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<String>>,
}

/// What the init system says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceEvidence {
    /// `systemd`, `xenlab` (the small init), or another name.
    pub init: String,
    /// For each service asked about (names of the layout in place of `xen`): `systemctl show` or the small init's own
    /// state, as `Key=Value` lines (LoadState, ActiveState, SubState, Result, Type).
    pub services: Vec<(String, CommandResult)>,
    /// Names of failed services, one a line; none when not asked for.
    pub failed: Option<CommandResult>,
}

impl StepKind for Service {
    const NAME: &'static str = "service";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("active");
    type Evidence = ServiceEvidence;

    fn judge(&self, _evidence: &ServiceEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }

    fn check(&self) -> Vec<Complaint> {
        match (self.active.as_slice(), &self.failed) {
            ([], None) => vec![Complaint::new(
                "",
                "no service is named: this would pass on anything",
                "`active` or `failed`",
            )],
            _ => Vec::new(),
        }
    }
}
