//! A version bump: the checklist, what must hold, and what differs, in one.

use super::{Comparison, MustHold, Point, Side, Standing, must_hold, points};
use crate::exit::Exit;
use serde::{Deserialize, Serialize};

/// What is known of a version bump.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bump {
    /// 1.
    pub format: u32,
    /// The build it was.
    pub old: String,
    /// The build it is to be.
    pub new: String,
    /// Architectures that were looked at.
    pub archs: Vec<String>,
    /// Architectures that were not, each with the reason.
    pub without: Vec<(String, String)>,
    /// The checklist, of the new build.
    pub points: Vec<Point>,
    /// What must hold of the new build, whatever the old one did.
    pub must_hold: Vec<MustHold>,
    /// The two compared.
    pub comparison: Comparison,
}

impl Bump {
    /// By the cases of both sides and their comparison.
    pub fn new(
        old: &Side,
        new: &Side,
        comparison: Comparison,
        archs: Vec<String>,
        without: Vec<(String, String)>,
    ) -> Bump {
        Bump {
            format: crate::bundle::FORMAT,
            old: old.name.clone(),
            new: new.name.clone(),
            archs,
            without,
            points: points(&new.samples),
            must_hold: must_hold(&new.samples),
            comparison,
        }
    }

    /// How many points stand so.
    pub fn count(&self, standing: Standing) -> usize {
        self.points.iter().filter(|p| p.standing == standing).count()
    }

    /// 1 where something got worse or the new build does not hold what it must; 3 where the lab could not find that out; else 0.
    pub fn exit(&self) -> Exit {
        let fails = |standing: Standing| standing == Standing::Fails;
        if self.must_hold.iter().any(|m| fails(m.standing)) {
            return Exit::Failed;
        }
        self.comparison.exit()
    }
}
