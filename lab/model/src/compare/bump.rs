//! A version bump: the checklist, what must hold, and what differs, in one.

use super::{Comparison, MustHold, POINTS, Point, Side, Standing, must_hold, points};
use crate::exit::Exit;
use crate::metadata::Found;
use crate::xsa;
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
    /// How each advisory stands to the new build, where a feed was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advisories: Option<xsa::Report>,
}

/// The point about the package's metadata.
const METADATA: usize = 12;
/// The point about advisories.
const XSAS: usize = 13;

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
            advisories: None,
        }
    }

    /// Adds what the package's metadata came to.
    pub fn add_metadata(&mut self, found: Found) {
        self.settle(METADATA, found.holds, found.fails, found.not_judged);
    }

    /// Adds how the advisories of a feed stand.
    pub fn add_advisories(&mut self, report: xsa::Report) {
        let said = |line: &xsa::Line| format!("XSA-{} ({}): {}", line.xsa, line.title, line.why);
        let counts = report.counts();
        let holds = [xsa::Standing::Patched, xsa::Standing::Contained]
            .into_iter()
            .filter_map(|s| counts.get(&s).map(|n| format!("{n} advisories of the feed are {}", s.words())));
        let holds = holds.chain([format!("the feed goes up to XSA-{}", report.feed.latest)]).collect();
        let open = report.of(xsa::Standing::Open).map(said).collect();
        let unknown = report.unanswered().map(|l| format!("unknown: {}", said(l))).collect();
        self.settle(XSAS, holds, open, unknown);
        self.advisories = Some(report);
    }

    /// A point that no step of a scenario is for.
    fn settle(&mut self, number: usize, evidence: Vec<String>, fails: Vec<String>, not_checked: Vec<String>) {
        let standing = Standing::of(&fails, &not_checked);
        let title = POINTS[number - 1].0.to_owned();
        self.points[number - 1] = Point { number, title, standing, evidence, fails, not_checked };
    }

    /// Points that fail and are no matter of comparing: what is said of the new build alone, by its package and by advisories.
    pub fn alone(&self) -> impl Iterator<Item = &Point> {
        self.points.iter().filter(|p| [METADATA, XSAS].contains(&p.number) && p.standing == Standing::Fails)
    }

    /// How many points stand so.
    pub fn count(&self, standing: Standing) -> usize {
        self.points.iter().filter(|p| p.standing == standing).count()
    }

    /// 1 where something got worse or the new build does not hold what it must; 3 where the lab could not find that out; else 0.
    pub fn exit(&self) -> Exit {
        let fails = |standing: Standing| standing == Standing::Fails;
        if self.must_hold.iter().any(|m| fails(m.standing)) || self.alone().next().is_some() {
            return Exit::Failed;
        }
        self.comparison.exit()
    }
}
