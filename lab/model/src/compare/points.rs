//! The checklist of a version bump: what has to be shown of a new Xen, point by point, and what must hold whatever the old one did.
//!
//! Which steps are evidence for which point the scenario says: a step whose name begins with `3. ` is for point 3. A point is done where
//! every step that is for it was judged, in every case of the run; else it is not checked, and says why.

use super::Sample;
use crate::verdict::{Check, StepVerdict, Verdict};
use serde::{Deserialize, Serialize};

/// The points: what each is about, and what keeps it from being checked where no step of the scenario is for it.
pub const POINTS: [(&str, &str); 14] = [
    ("pkg-config", "no step of the scenario asks for the development files"),
    ("Boot files", "no step of the scenario looks at them"),
    ("Console", "no step of the scenario looks at Xen's console"),
    ("`xl info`", "no step of the scenario asks `xl info`"),
    ("Really under Xen", "no step of the scenario asks dom0"),
    ("Units", "no case of the run has systemd in dom0"),
    ("Which xenstored runs", "no step of the scenario looks at it"),
    ("HVM firmware", "no case of the run starts an HVM guest with firmware"),
    ("Hotplug", "no step of the scenario attaches a device to a guest"),
    ("EFI and BIOS boots", "no case of the run boots by firmware"),
    ("XTF", "no built XTF tree was named; `--xtf DIR` runs one on both"),
    ("Metadata", "no checkout of nixpkgs was named; `--nixpkgs DIR` evaluates its package"),
    ("XSAs", "no feed of advisories was named; `--feed DIR` holds each against the new build"),
    ("Dependents", "this version of xenlab builds nothing against the new Xen but the programs of point 1"),
];

/// How a point stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Everything that is for it was judged, and holds.
    Holds,
    /// Something that is for it was judged, and fails.
    Fails,
    /// Nothing, or not all of it, was judged.
    NotChecked,
}

impl Standing {
    /// By what fails and what was not checked.
    pub(super) fn of(fails: &[String], not_checked: &[String]) -> Standing {
        match (fails.is_empty(), not_checked.is_empty()) {
            (false, _) => Standing::Fails,
            (true, false) => Standing::NotChecked,
            (true, true) => Standing::Holds,
        }
    }
}

/// A point of the checklist.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// From 1.
    pub number: usize,
    /// What it is about.
    pub title: String,
    /// How it stands.
    pub standing: Standing,
    /// What was seen, with where.
    pub evidence: Vec<String>,
    /// What fails.
    pub fails: Vec<String>,
    /// Why it was not checked, or what of it.
    pub not_checked: Vec<String>,
}

/// The point that a step of this title is evidence for.
fn number(title: &str) -> Option<usize> {
    let (number, rest) = title.split_once(". ")?;
    let number: usize = number.parse().ok()?;
    (!rest.is_empty() && (1..=POINTS.len()).contains(&number)).then_some(number)
}

/// Every point, by the cases of the new side.
pub fn points(samples: &[Sample]) -> Vec<Point> {
    (1..=POINTS.len()).map(|number| point(number, samples)).collect()
}

/// What is said of steps, the same of several cases once.
#[derive(Default)]
struct Said(Vec<(String, Vec<String>)>);

impl Said {
    fn add(&mut self, text: String, sample: &Sample) {
        let at = match self.0.iter().position(|(t, _)| *t == text) {
            Some(at) => at,
            None => {
                self.0.push((text, Vec::new()));
                self.0.len() - 1
            }
        };
        if !self.0[at].1.contains(&sample.id) {
            self.0[at].1.push(sample.id.clone());
        }
    }

    fn told(self) -> Vec<String> {
        let of = |(text, cases): (String, Vec<String>)| match cases.as_slice() {
            [one] => format!("{text} ({one})"),
            many => format!("{text} (in {} cases)", many.len()),
        };
        self.0.into_iter().map(of).collect()
    }
}

/// The steps of a case that are for a point: as planned, with what they came to.
fn of_point(number: usize, sample: &Sample) -> impl Iterator<Item = (&str, Option<&StepVerdict>)> {
    let planned = sample.planned.iter().filter(move |(_, title)| self::number(title) == Some(number));
    planned.map(|(path, title)| {
        let verdict = sample.verdict.as_ref();
        let step = verdict.and_then(|v| v.steps.iter().find(|s| s.step == *path));
        (title.split_once(". ").map_or(title.as_str(), |(_, rest)| rest), step)
    })
}

/// The point about firmware of HVM guests, and what each of its steps is named after that starts one.
const FIRMWARE: (usize, [&str; 3]) = (8, ["SeaBIOS", "iPXE", "OVMF"]);

/// The point that instances of XTF are evidence for.
const XTF: usize = 11;

/// What instances of XTF came to, in numbers: those that passed or came to what is known of them are evidence, those that fail and that
/// nobody expected are named, and what was skipped without being on a list of known skips was not checked.
fn instances(samples: &[Sample], evidence: &mut Said, fails: &mut Said, unjudged: &mut Said) {
    for sample in samples {
        let Some(verdict) = &sample.verdict else { continue };
        let Some(xtf) = &verdict.xtf else { continue };
        if let Some(entry) = verdict.as_expected() {
            evidence.add(format!("as expected ({})", entry.expects()), sample);
            continue;
        }
        match verdict.verdict {
            Verdict::Pass => evidence.add("SUCCESS".to_owned(), sample),
            Verdict::Fail => fails.add(format!("{}: {}", xtf.instance, verdict.message), sample),
            Verdict::Skip | Verdict::Error | Verdict::NotReached => {
                unjudged.add(format!("{}: {}", verdict.verdict.word(), verdict.message), sample);
            }
        }
    }
}

fn point(number: usize, samples: &[Sample]) -> Point {
    let (title, otherwise) = POINTS[number - 1];
    let (mut evidence, mut fails, mut unjudged) = (Said::default(), Said::default(), Said::default());
    if number == XTF {
        instances(samples, &mut evidence, &mut fails, &mut unjudged);
    }
    for sample in samples {
        for (title, step) in of_point(number, sample) {
            let Some(step) = step else {
                let why = match &sample.verdict {
                    Some(verdict) => verdict.message.clone(),
                    None => "the run did not come to its end".to_owned(),
                };
                unjudged.add(format!("{title}: {why}"), sample);
                continue;
            };
            let of = |wanted: &[Verdict]| -> Vec<&Check> {
                step.checks.iter().filter(|c| wanted.contains(&c.verdict)).collect()
            };
            let messages = |checks: &[&Check]| -> String {
                let messages: Vec<&str> = checks.iter().map(|c| c.message.as_str()).collect();
                format!("{title}: {}", messages.join("; "))
            };
            let failed = of(&[Verdict::Fail]);
            // Run once more it held: that is told, and is not taken for this Xen's failing.
            let held_once = samples.iter().filter(|s| s.id == sample.id).any(|s| {
                of_point(number, s)
                    .any(|(t, step)| t == title && step.is_some_and(|s| s.verdict == Verdict::Pass))
            });
            match (failed.is_empty(), held_once) {
                (true, _) => {}
                (false, false) => fails.add(messages(&failed), sample),
                (false, true) => {
                    evidence.add(format!("flaky, failed and held: {}", messages(&failed)), sample)
                }
            }
            let mut left = of(&[Verdict::Error, Verdict::NotReached]);
            // What one case had nothing to judge by, and another of the same architecture judged, was judged.
            let elsewhere = |check: &&Check| {
                let others = samples.iter().filter(|s| s.arch == sample.arch);
                others.flat_map(|s| of_point(number, s)).any(|(t, step)| {
                    let mut checks = step.into_iter().flat_map(|s| &s.checks);
                    t == title && checks.any(|c| c.name == check.name && c.verdict == Verdict::Pass)
                })
            };
            left.extend(of(&[Verdict::Skip]).into_iter().filter(|check| !elsewhere(check)));
            if !left.is_empty() {
                unjudged.add(messages(&left), sample);
            } else if step.checks.is_empty() {
                let why = sample.verdict.as_ref().map_or("", |v| v.message.as_str());
                unjudged.add(format!("{title}: not reached: {why}"), sample);
            }
            let held = of(&[Verdict::Pass]);
            match held.as_slice() {
                [] => {}
                // Of many the number says more than their list, which is in the bundle.
                many if many.len() > 4 => {
                    evidence.add(format!("{title}: {} checks hold", many.len()), sample)
                }
                few => evidence.add(messages(few), sample),
            }
        }
    }
    let (evidence, fails, mut not_checked) = (evidence.told(), fails.told(), unjudged.told());
    if evidence.is_empty() && fails.is_empty() && not_checked.is_empty() {
        not_checked.push(otherwise.to_owned());
    }
    if number == FIRMWARE.0 && !evidence.is_empty() {
        let planned: Vec<&str> = samples.iter().flat_map(|s| of_point(number, s)).map(|(t, _)| t).collect();
        let unseen = FIRMWARE.1.into_iter().filter(|of| !planned.iter().any(|title| title.contains(of)));
        let unseen: Vec<&str> = unseen.collect();
        if !unseen.is_empty() {
            let all = unseen.join(" and ");
            not_checked.push(format!(
                "{all}: no step of the scenario starts it; `xenlab run scenarios/hvm.yaml` does"
            ));
        }
    }
    let standing = Standing::of(&fails, &not_checked);
    Point { number, title: title.to_owned(), standing, evidence, fails, not_checked }
}

fn push(list: &mut Vec<String>, text: String) {
    if !list.contains(&text) {
        list.push(text);
    }
}

/// What must hold of a new Xen, whatever the old one did: name, kind of step and, where not all of the step counts, the check.
pub const MUST_HOLD: [(&str, &str, Option<&str>); 6] = [
    ("dom0 boots", "boot", None),
    ("it is really under Xen", "under-xen", None),
    ("the version is the one declared", "xl-info", Some("version")),
    ("the running Xen is this build (build-id)", "xl-info", Some("build-id")),
    ("pkg-config", "pkg-config", None),
    ("the store daemon asked for runs", "xenstored", Some("daemon")),
];

/// Whether one of them holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MustHold {
    /// What.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// By architecture or case: what fails, or why it could not be judged; what was seen where it holds.
    pub because: Vec<String>,
}

/// Whether the new side holds what it must, by its cases. What no case asked for is not checked.
pub fn must_hold(samples: &[Sample]) -> Vec<MustHold> {
    MUST_HOLD.iter().map(|(name, kind, check)| one(name, kind, *check, samples)).collect()
}

fn one(name: &str, kind: &str, check: Option<&str>, samples: &[Sample]) -> MustHold {
    let (mut passes, mut fails, mut unjudged) = (Vec::new(), Vec::new(), Vec::new());
    // An instance of XTF may be dom0 itself: that it dies is a verdict of its own.
    let instance = |s: &&Sample| s.verdict.as_ref().is_some_and(|v| v.xtf.is_some());
    for sample in samples.iter().filter(|s| !instance(s)) {
        let Some(verdict) = &sample.verdict else {
            push(&mut unjudged, format!("{}: the run did not come to its end", sample.id));
            continue;
        };
        let is = |step: &StepVerdict| if kind == "boot" { step.step == "boot" } else { step.kind == kind };
        let steps: Vec<&StepVerdict> = verdict.steps.iter().filter(|s| is(s)).collect();
        if steps.is_empty() {
            // A case that was skipped or lost before its steps.
            if verdict.verdict != Verdict::Pass && verdict.verdict != Verdict::Fail {
                push(&mut unjudged, format!("{}: {}", sample.id, verdict.message));
            }
            continue;
        }
        for step in steps {
            let of: Vec<&Check> =
                step.checks.iter().filter(|c| check.is_none_or(|name| c.name == name)).collect();
            if of.is_empty() {
                let message =
                    step.checks.iter().find(|c| c.verdict != Verdict::Pass).map(|c| c.message.clone());
                let message = message.unwrap_or_else(|| match step.verdict {
                    Verdict::NotReached => format!("not reached: {}", verdict.message),
                    _ => "it was not looked at".to_owned(),
                });
                let list = if step.verdict == Verdict::Fail { &mut fails } else { &mut unjudged };
                push(list, format!("{}: {message}", sample.id));
            }
            for c in of {
                let list = match c.verdict {
                    Verdict::Pass => &mut passes,
                    Verdict::Fail => &mut fails,
                    Verdict::Error | Verdict::Skip | Verdict::NotReached => &mut unjudged,
                };
                push(list, format!("{}: {}", sample.id, c.message));
            }
        }
    }
    let (standing, because) = match (fails.is_empty(), passes.is_empty(), unjudged.is_empty()) {
        (false, _, _) => (Standing::Fails, fails),
        (true, true, true) => (Standing::NotChecked, vec!["no case of the run asked".to_owned()]),
        (true, _, false) => (Standing::NotChecked, unjudged),
        (true, false, true) => (Standing::Holds, passes),
    };
    MustHold { name: name.to_owned(), standing, because }
}
