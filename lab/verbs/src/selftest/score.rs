//! What trials came to, counted.

use super::{Kind, Trial};
use serde::Serialize;
use std::fmt::Write as _;
use xenlab_model::exit::Exit;

/// What one trial came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "why")]
pub enum Outcome {
    /// The fault was caught and rightly blamed; the good run passed.
    Right,
    /// Not so.
    Wrong(String),
    /// This host has not what it takes.
    HostLacks(String),
    /// It could not be run to its end, for a reason that may be gone next time.
    CouldNot(String),
    /// The user ended it.
    Interrupted,
}

/// A trial that is over.
#[derive(Debug, Clone, Serialize)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub kind: Kind,
    /// Where.
    pub arch: String,
    /// What is planted, in one sentence.
    pub what: &'static str,
    /// The cause that must be named.
    pub expected: Option<&'static str>,
    /// What it came to.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// How long it took.
    pub seconds: f64,
    /// Where what it left lies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundles: Option<String>,
}

impl Tried {
    /// A trial and what it came to.
    pub fn of(trial: &Trial, outcome: Outcome, seconds: f64) -> Tried {
        let expected =
            if trial.without { None } else { trial.row.expect.cause.map(xenlab_model::cause::Cause::code) };
        Tried {
            name: trial.name(),
            kind: trial.kind(),
            arch: trial.arch.to_string(),
            what: if trial.without { "nothing is wrong" } else { trial.row.what },
            expected,
            outcome,
            seconds,
            bundles: None,
        }
    }

    /// One line, as trials end.
    pub fn line(&self) -> String {
        let (word, why) = match (&self.outcome, self.kind) {
            (Outcome::Right, Kind::Fault) => ("caught", self.expected.unwrap_or_default()),
            (Outcome::Right, Kind::Good) => ("passed", ""),
            (Outcome::Wrong(why), Kind::Fault) => ("NOT CAUGHT", why.as_str()),
            (Outcome::Wrong(why), Kind::Good) => ("BLAMED", why.as_str()),
            (Outcome::HostLacks(why) | Outcome::CouldNot(why), _) => ("not tried", why.as_str()),
            (Outcome::Interrupted, _) => ("interrupted", ""),
        };
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        format!("{word:<10} {}{} ({:.1} s)", self.name, xenlab_model::escape_lines(&why), self.seconds)
    }
}

/// All trials of a selftest.
#[derive(Debug, Clone, Serialize)]
pub struct Score {
    /// The shape of this.
    pub format: u32,
    /// All of them, in the order in which they ended.
    pub trials: Vec<Tried>,
    /// From the first to the last.
    pub seconds: f64,
}

impl Score {
    fn count(&self, arch: &str, kind: Kind, right: bool) -> usize {
        let fits = |t: &&Tried| match t.outcome {
            Outcome::Right => true,
            Outcome::Wrong(_) => !right,
            _ => false,
        };
        self.trials.iter().filter(|t| t.arch == arch && t.kind == kind).filter(fits).count()
    }

    /// How the command ends: nothing that was tried went wrong, and something was tried. A host that lacks QEMU for an architecture
    /// says so and is no failure, as a skipped case is none.
    pub fn exit(&self) -> Exit {
        let any = |test: fn(&Outcome) -> bool| self.trials.iter().any(|t| test(&t.outcome));
        if any(|o| *o == Outcome::Interrupted) {
            Exit::Interrupted
        } else if any(|o| matches!(o, Outcome::Wrong(_))) {
            Exit::Failed
        } else if any(|o| matches!(o, Outcome::CouldNot(_))) || !any(|o| *o == Outcome::Right) {
            Exit::Lab
        } else {
            Exit::Passed
        }
    }

    /// The score for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut archs: Vec<&str> = Vec::new();
        for tried in &self.trials {
            if !archs.contains(&tried.arch.as_str()) {
                archs.push(&tried.arch);
            }
        }
        for arch in archs {
            let of = |kind, right| self.count(arch, kind, right);
            let _ = writeln!(
                text,
                "{arch}: {} of {} faults caught, {} of {} good runs passed",
                of(Kind::Fault, true),
                of(Kind::Fault, false),
                of(Kind::Good, true),
                of(Kind::Good, false),
            );
        }
        self.list(&mut text, "What went wrong", |o| matches!(o, Outcome::Wrong(_)));
        self.list(&mut text, "Could not be tried on this host", |o| {
            matches!(o, Outcome::HostLacks(_) | Outcome::CouldNot(_))
        });
        let over = self.trials.iter().filter(|t| t.outcome != Outcome::Interrupted).count();
        let cut = if over < self.trials.len() { ", interrupted" } else { "" };
        let _ = writeln!(text, "{over} of {} trials in {:.0} s{cut}", self.trials.len(), self.seconds);
        text
    }

    fn list(&self, text: &mut String, title: &str, fits: fn(&Outcome) -> bool) {
        let mut begun = false;
        for tried in self.trials.iter().filter(|t| fits(&t.outcome)) {
            if !begun {
                let _ = writeln!(text, "\n{title}:");
            }
            begun = true;
            let _ = writeln!(text, "  {}", tried.line());
            let _ = writeln!(text, "    planted: {}", tried.what);
            if let Some(at) = &tried.bundles {
                let _ = writeln!(text, "    look at: {at}");
            }
        }
        if begun {
            text.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trials;
    use super::*;

    fn score(outcomes: &[Outcome]) -> Score {
        let all = trials();
        let trials = outcomes
            .iter()
            .zip(&all)
            .map(|(outcome, trial)| Tried::of(trial, outcome.clone(), 1.0))
            .collect();
        Score { format: 1, trials, seconds: 1.0 }
    }

    #[test]
    fn what_decides_the_exit_code() {
        let wrong = || Outcome::Wrong("it is not".to_owned());
        let lacks = || Outcome::HostLacks("no QEMU".to_owned());
        let could_not = || Outcome::CouldNot("no network".to_owned());
        for (outcomes, exit) in [
            (vec![Outcome::Right, Outcome::Right], Exit::Passed),
            (vec![Outcome::Right, lacks()], Exit::Passed),
            (vec![lacks(), lacks()], Exit::Lab),
            (vec![], Exit::Lab),
            (vec![Outcome::Right, could_not()], Exit::Lab),
            (vec![could_not(), wrong(), Outcome::Right], Exit::Failed),
            (vec![wrong(), Outcome::Interrupted], Exit::Interrupted),
        ] {
            assert_eq!(score(&outcomes).exit(), exit, "{outcomes:?}");
        }
    }

    #[test]
    fn a_miss_is_counted_and_named() {
        let text = score(&[Outcome::Right, Outcome::Wrong("it passed".to_owned())]).text();
        let all = trials();
        assert!(text.contains("1 of 1 faults caught") || text.contains("1 of 2 faults caught"), "{text}");
        assert!(text.contains(&format!("NOT CAUGHT {}: it passed", all[1].name())), "{text}");
    }
}
