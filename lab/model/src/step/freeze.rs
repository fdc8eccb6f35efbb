//! `freeze`: a place in `setup` at which a template is taken.

use super::{At, Complaint, JudgeContext, StepKind};
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `freeze: guest-running`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Freeze {
    /// What reports call the template: letters, digits and `-`.
    pub name: String,
}

/// That the set-up came here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FreezeEvidence {}

impl StepKind for Freeze {
    const NAME: &'static str = "freeze";
    const AT: At = At::Boot;
    const PRIMARY: Option<&'static str> = Some("name");
    type Evidence = FreezeEvidence;

    fn check(&self) -> Vec<Complaint> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !self.name.is_empty() && self.name.chars().all(plain) {
            return Vec::new();
        }
        let message = format!("`{}` cannot be the name of a template", self.name);
        vec![Complaint::new("name", message, "letters, digits and `-`, as in guest-running")]
    }

    fn judge(&self, _: &FreezeEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        // What came before has verdicts of its own.
        let message = format!("the set-up came to `{}`", self.name);
        vec![Check::pass("freeze", message).at(cx.place(Self::NAME, "name"))]
    }
}
