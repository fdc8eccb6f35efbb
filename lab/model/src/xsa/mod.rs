//! Xen security advisories (XSAs): how each stands to one build of Xen.
//!
//! Everything is decided here, by [`judge`], from what was read elsewhere: the feed ([`feed`]), what its patches do on the build's source
//! ([`OnSource`]), what a git history says ([`log`]), and what is known of releases ([`known`]). What cannot be told is [`Standing::Unknown`]
//! and never counts as contained.

pub mod change;
pub mod feed;
pub mod known;
pub mod log;
pub mod series;
#[cfg(test)]
mod tests;

pub use feed::{Advisory, FeedError, Meta};
pub use known::Known;
pub use log::Claim;
pub use series::Series;

use crate::date::Date;
use crate::exit::Exit;
use crate::version::XenVersion;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Xen's own repository, as recipes call it; others are those of QEMU, Linux and firmware.
pub const XEN: &str = "xen";

/// How an advisory stands to a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its fix is not in the build.
    Open,
    /// Nothing at hand tells.
    Unknown,
    /// A patch of the distribution's or the user's has its fix.
    Patched,
    /// Its fix is in the source.
    Contained,
    /// It has no patch for this branch, which was in security support when it became public.
    NotAffected,
    /// It is about another repository than Xen's.
    Elsewhere,
    /// It became public before the branch's first release and has no patch for it: the branch began with the fix, or nobody can tell from here.
    Older,
}

impl Standing {
    /// Every one, the worst first.
    pub const ALL: [Standing; 7] = [
        Standing::Open,
        Standing::Unknown,
        Standing::Patched,
        Standing::Contained,
        Standing::NotAffected,
        Standing::Elsewhere,
        Standing::Older,
    ];

    /// In words, for tables and counts.
    pub fn words(self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Unknown => "unknown",
            Standing::Patched => "patched",
            Standing::Contained => "contained",
            Standing::NotAffected => "not for this branch",
            Standing::Elsewhere => "not Xen's own",
            Standing::Older => "older than the branch",
        }
    }

    /// It is of the advisories that touch the branch.
    pub fn touches(self) -> bool {
        matches!(self, Standing::Open | Standing::Unknown | Standing::Patched | Standing::Contained)
    }
}

/// What an advisory's patches do on the build's source. Patches apply without fuzz, all of a series in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnSource {
    /// All of them can be taken back from the source as it comes, before any patch: it has them.
    Contained,
    /// They can be taken back after these patches, and not before.
    PatchedBy(Vec<String>),
    /// The source as it comes has them, and these patches undo them.
    UndoneBy(Vec<String>),
    /// They apply: the source has none of them.
    Applies,
    /// Some of them apply, and others do not.
    Partly {
        /// Those that it has.
        there: Vec<String>,
        /// Those that it has not.
        missing: Vec<String>,
    },
    /// They apply and can be taken back as well, so they say nothing.
    BothWays,
    /// Neither: the code is not what they were made for.
    Neither {
        /// The patch that shows it.
        patch: String,
    },
    /// They could not be tried.
    NotTried {
        /// What is missing.
        why: String,
    },
}

/// What is known of one advisory and one build.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// None where the build's source is not at hand.
    pub source: Option<OnSource>,
    /// How many patches the recipe means; none where that could not be counted.
    pub patches: Option<usize>,
    /// What the history of the build's source says; none where there is none at hand.
    pub history: Option<Claim>,
    /// Its patches as commits of that history; none where they were not looked for.
    pub series: Option<Series>,
}

impl Seen {
    /// Its patches are there to be looked for in a history, and the source itself does not tell. Whether anything else does is to be
    /// judged first.
    pub fn asks_history(&self) -> bool {
        let silent = matches!(self.source, None | Some(OnSource::BothWays | OnSource::Neither { .. }));
        silent && self.patches.is_some() && self.history.is_some()
    }
}

/// The build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// As it was named.
    pub spec: String,
    /// Its version, as declared or read.
    pub version: String,
    /// Who says so.
    pub by: String,
    /// The branch whose recipes are for it: `4.20`, or `master`.
    pub branch: String,
}

impl Subject {
    /// By its version.
    pub fn new(spec: &str, version: &XenVersion, by: &str) -> Subject {
        let branch = if version.extra.contains("unstable") { "master".to_owned() } else { version.branch() };
        Subject { spec: spec.to_owned(), version: version.to_string(), by: by.to_owned(), branch }
    }
}

/// How an advisory stands, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number.
    pub xsa: u32,
    /// Its title.
    pub title: String,
    /// Its CVEs.
    pub cve: Vec<String>,
    /// When it became public.
    pub public: Option<Date>,
    /// How it stands.
    pub standing: Standing,
    /// Why that is said, and by what.
    pub why: String,
}

/// How one advisory stands.
pub fn judge(advisory: &Advisory, subject: &Subject, seen: &Seen, known: &Known) -> Line {
    let (standing, why) = standing(advisory, subject, seen, known);
    Line {
        xsa: advisory.xsa,
        title: advisory.title.clone(),
        cve: advisory.cve.clone(),
        public: advisory.public,
        standing,
        why,
    }
}

fn standing(advisory: &Advisory, subject: &Subject, seen: &Seen, known: &Known) -> (Standing, String) {
    let branch = &subject.branch;
    if advisory.meta.as_ref().is_some_and(|m| m.touches(branch)) {
        return by_source(advisory, subject, seen, known);
    }
    // It has no patch for this branch. What is recorded of it comes before any guess why that may be.
    let recorded = recorded(advisory, subject, seen, known);
    if let Some(older) = older(advisory, subject, known) {
        let or = || match named(seen) {
            Some(claim) => format!("the history has parts of it, {}", claim.told()),
            None => "no history at hand names it".to_owned(),
        };
        return (Standing::Older, format!("{older}; {}", recorded.unwrap_or_else(or)));
    }
    if let Some(why) = recorded {
        return (Standing::Contained, why);
    }
    let Some(meta) = &advisory.meta else {
        let why =
            format!("the feed has no xsa{}.meta, so which branches it is for is not known", advisory.xsa);
        return (Standing::Unknown, why);
    };
    let trees = meta.trees();
    if !trees.is_empty() && !trees.contains(XEN) {
        let of = trees.iter().copied().collect::<Vec<_>>().join(", ");
        return (Standing::Elsewhere, format!("its patches are for {of}"));
    }
    if trees.is_empty() {
        return (Standing::Unknown, "its xsaN.meta names no patches at all".to_owned());
    }
    // A feed that is not whole: with all recipes, nothing is a part of what the branch has no patch for.
    if let Some(claim) = named(seen) {
        let why =
            format!("it has no patch for {branch}, and yet the history has parts of it, {}", claim.told());
        return (Standing::Unknown, why);
    }
    let Some(public) = advisory.public else {
        return (
            Standing::Unknown,
            format!("it has no patch for {branch}, and the feed does not say when it became public"),
        );
    };
    match known.branch(branch) {
        Some(of) if public <= of.security_support_until => (
            Standing::NotAffected,
            format!(
                "it has patches for other branches and none for {branch}, which was in security support on {public}"
            ),
        ),
        Some(of) => (
            Standing::Unknown,
            format!(
                "it has no patch for {branch}, whose security support ended on {} ({}): nobody looked",
                of.security_support_until, of.source
            ),
        ),
        None => (
            Standing::Unknown,
            format!(
                "it has no patch for {branch}, and whether that was in security support on {public} is not known"
            ),
        ),
    }
}

/// What the history has, of which nobody can tell here whether it is all.
fn named(seen: &Seen) -> Option<&Claim> {
    seen.history.as_ref().filter(|claim| !claim.commits.is_empty())
}

/// Of an advisory from before the branch: that it is.
fn older(advisory: &Advisory, subject: &Subject, known: &Known) -> Option<String> {
    let of = known.branch(&subject.branch)?;
    let public = advisory.public.filter(|p| *p < of.initial_release)?;
    Some(format!("public on {public}, before {} was first released ({})", subject.branch, of.initial_release))
}

/// An advisory that has patches for the build's branch.
fn by_source(advisory: &Advisory, subject: &Subject, seen: &Seen, known: &Known) -> (Standing, String) {
    let recorded = recorded(advisory, subject, seen, known);
    let all = match seen.patches {
        Some(1) => "its patch".to_owned(),
        Some(n) => format!("its {n} patches"),
        None => "its patches".to_owned(),
    };
    let stood = match seen.source.as_ref() {
        Some(OnSource::Contained) => {
            return (Standing::Contained, format!("the source has {all}, which can be taken back from it"));
        }
        Some(OnSource::PatchedBy(by)) => return (Standing::Patched, format!("by {}", by.join(", "))),
        Some(OnSource::UndoneBy(by)) => {
            return (Standing::Open, format!("the source has {all}, and {} undoes that", by.join(", ")));
        }
        Some(OnSource::Applies) => {
            let but = recorded.map(|r| format!("; and yet {r}")).unwrap_or_default();
            return (
                Standing::Open,
                format!("{all} would still apply to the source, so the fix is not in it{but}"),
            );
        }
        Some(OnSource::Partly { there, missing }) => {
            let has = if there.is_empty() {
                String::new()
            } else {
                format!("the source has {}, but ", there.join(", "))
            };
            return (Standing::Open, format!("{has}{} would still apply to it", missing.join(", ")));
        }
        Some(OnSource::BothWays) => {
            format!("{all} can be applied to the source and taken back from it as well")
        }
        Some(OnSource::Neither { patch }) => {
            format!("{patch} can neither be applied to the source nor taken back from it")
        }
        Some(OnSource::NotTried { why }) => why.clone(),
        None => "the build's source is not at hand".to_owned(),
    };
    match recorded {
        Some(why) => (Standing::Contained, why),
        None => match &seen.series {
            Some(series) if seen.asks_history() && seen.patches.is_some_and(|n| series.covers(n)) => {
                (Standing::Contained, series.told())
            }
            Some(series) => (Standing::Unknown, format!("{stood}{}; {}", unrecorded(seen), series.told())),
            None => (Standing::Unknown, stood + &unrecorded(seen)),
        },
    }
}

/// What history or releases say for it.
fn recorded(advisory: &Advisory, subject: &Subject, seen: &Seen, known: &Known) -> Option<String> {
    let wanted = seen.patches.unwrap_or(1);
    let enough = |claim: &Claim| claim.covers(wanted, seen.patches.is_some());
    if let Some(claim) = seen.history.as_ref().filter(|c| enough(c)) {
        return Some(format!("the history has {}", claim.told()));
    }
    // A history at hand that says less than it should outweighs a list of releases: it is that of this very source.
    if seen.history.as_ref().is_some_and(|c| !c.reverted.is_empty()) {
        return None;
    }
    let (release, claim) = known.release_with(advisory.xsa, subject)?;
    enough(claim).then(|| format!("{release} has it: {} ({})", claim.told(), known.source))
}

/// What a history at hand lacks.
fn unrecorded(seen: &Seen) -> String {
    match &seen.history {
        None => String::new(),
        Some(claim) if !claim.reverted.is_empty() => {
            format!("; the history has {}, reverted since", claim.reverted.join(", "))
        }
        Some(claim) if claim.commits.is_empty() => "; the history does not name it".to_owned(),
        Some(claim) => format!(
            "; the history has {} of {} commits: {}",
            claim.commits.len(),
            seen.patches.map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string()),
            claim.told()
        ),
    }
}

/// How the advisories of a feed stand to a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// 1.
    pub format: u32,
    /// The build.
    pub subject: Subject,
    /// The branch's support, with where that is from; none where nothing is known.
    pub support: Option<known::Support>,
    /// The day of the report.
    pub today: Option<Date>,
    /// How many advisories the feed has, and the number and day of its latest.
    pub feed: FeedIs,
    /// By number, the latest first.
    pub lines: Vec<Line>,
    /// Unknown ones that were allowed.
    pub allowed: Vec<u32>,
}

/// What a feed is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedIs {
    /// How many advisories.
    pub advisories: usize,
    /// The number of its latest.
    pub latest: u32,
    /// When that became public.
    pub public: Option<Date>,
}

/// What is let pass although nothing tells how it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allowed {
    /// Nothing.
    None,
    /// Whatever it is.
    All,
    /// These.
    These(Vec<u32>),
}

impl Report {
    /// The lines of a standing.
    pub fn of(&self, standing: Standing) -> impl Iterator<Item = &Line> {
        self.lines.iter().filter(move |l| l.standing == standing)
    }

    /// How many there are of each standing, those that there are.
    pub fn counts(&self) -> BTreeMap<Standing, usize> {
        let mut counts = BTreeMap::new();
        for line in &self.lines {
            *counts.entry(line.standing).or_default() += 1;
        }
        counts
    }

    /// Unknown, and not allowed.
    pub fn unanswered(&self) -> impl Iterator<Item = &Line> {
        self.of(Standing::Unknown).filter(|l| !self.allowed.contains(&l.xsa))
    }

    /// 1 where one is open, and where one is unknown and not allowed.
    pub fn exit(&self) -> Exit {
        let bad = self.of(Standing::Open).next().is_some() || self.unanswered().next().is_some();
        if bad { Exit::Failed } else { Exit::Passed }
    }

    /// Lets unknown ones pass.
    pub fn allow(&mut self, allowed: &Allowed) {
        let let_pass = |xsa: u32| match allowed {
            Allowed::None => false,
            Allowed::All => true,
            Allowed::These(these) => these.contains(&xsa),
        };
        self.allowed = self.of(Standing::Unknown).map(|l| l.xsa).filter(|x| let_pass(*x)).collect();
    }
}
