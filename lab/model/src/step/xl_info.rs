//! `xl-info`: what `xl info` says, field by field, and the version rule.

use super::{At, JudgeContext, StepKind};
use crate::evidence::CommandResult;
use crate::matcher::Matcher;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `xl-info: {FIELD: matcher}`. Without a field the version and build-id rules still apply.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
pub struct XlInfo {
    /// Field of `xl info` → what it must be.
    pub fields: BTreeMap<String, Matcher>,
}

/// `xl info`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XlInfoEvidence {
    /// The command.
    pub command: CommandResult,
}

impl StepKind for XlInfo {
    const NAME: &'static str = "xl-info";
    const AT: At = At::Dom0;
    type Evidence = XlInfoEvidence;

    fn judge(&self, _evidence: &XlInfoEvidence, _cx: &JudgeContext<'_>) -> Vec<Check> {
        Vec::new()
    }
}
