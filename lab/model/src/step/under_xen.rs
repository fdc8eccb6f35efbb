//! `under-xen`: dom0 is really the control domain of a Xen, not a bare Linux that booted as well.

use super::{At, JudgeContext, StepKind};
use crate::evidence::CommandResult;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `under-xen: {}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnderXen {}

/// `/sys/hypervisor/type`, `/proc/xen/capabilities` and `xl list`, each as a command's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnderXenEvidence {
    /// `cat /sys/hypervisor/type`
    pub hypervisor_type: CommandResult,
    /// `cat /proc/xen/capabilities`
    pub capabilities: CommandResult,
    /// `xl list`
    pub list: CommandResult,
}

impl StepKind for UnderXen {
    const NAME: &'static str = "under-xen";
    const AT: At = At::Dom0;
    type Evidence = UnderXenEvidence;

    fn judge(&self, _evidence: &UnderXenEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }
}
