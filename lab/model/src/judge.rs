//! From a case, its evidence and the facts to its verdict. Pure: live runs and replays share it.

use crate::case::Case;
use crate::evidence::Evidence;
use crate::fact::Facts;
use crate::verdict::{CaseVerdict, Control, StepVerdict};

/// Judges one step.
pub fn step(_case: &Case, _evidence: &Evidence, _facts: &Facts) -> StepVerdict {
    StepVerdict {
        step: String::new(),
        title: String::new(),
        kind: String::new(),
        verdict: crate::verdict::Verdict::Skip,
        checks: Vec::new(),
        seconds: 0.0,
    }
}

/// Judges a whole case.
pub fn case(
    _case: &Case,
    _evidence: &[Evidence],
    _facts: &Facts,
    _control: Option<&Control>,
) -> Option<CaseVerdict> {
    None
}
