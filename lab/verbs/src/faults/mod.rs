//! Faults, as data: what is broken, in which artefact, and what the lab must say of it. And as many runs that are unusual and
//! good, of which nothing bad may be said.
//!
//! A [`Row`] is planted into real artefacts: copies are changed while a case is got ready ([`Planted`]), and from there on
//! nothing knows of it. `xenlab run --plant ROW` runs one; `xenlab selftest` runs them all, and so does tests/real.rs.

mod guest;
mod image;
mod plant;
mod qemu;
mod rows;
mod tree;

pub use guest::{Liar, Shell};
pub use image::{Break, Cut};
pub use plant::Planted;
pub use qemu::Wrapper;
pub use rows::ROWS;
pub use tree::{Dev, ToolsFault};

use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// One fault, or one unusual run that is good.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What the command line calls it.
    pub name: &'static str,
    /// What is broken, or unusual, in one sentence.
    pub what: &'static str,
    /// The artefact that it is in.
    pub artefact: &'static str,
    /// Where it exists.
    pub archs: &'static [Arch],
    /// The scenario.
    pub scenario: &'static str,
    /// `PATH=VALUE` beside it, as with `--set`.
    pub sets: &'static [&'static str],
    /// What is planted.
    pub mutations: &'static [Mutation],
    /// It is planted in the cases whose id has this part; all others must pass.
    pub only: Option<&'static str>,
    /// Its scenario fails even with nothing planted: it is only there for what is.
    pub fails_without: bool,
    /// What the lab must say of a case in which it is planted.
    pub expect: Expect,
}

impl Row {
    /// With nothing planted it is a good run. A fault that is in the scenario or in what is set cannot be left out of it.
    pub fn good_without(&self) -> bool {
        !self.mutations.is_empty() && !self.fails_without
    }

    /// Whether what catches it is other code on another architecture: what is broken is what processors run before dom0's first program.
    /// Of good runs, ways of booting, builds and guests are.
    pub fn differs_by_arch(&self) -> bool {
        let differs = |mutation: &Mutation| match mutation {
            Mutation::Image(_)
            | Mutation::Efi(_)
            | Mutation::Swapped(_)
            | Mutation::NoInitramfs
            | Mutation::CutInitramfs
            | Mutation::NoXen => true,
            Mutation::Development(_)
            | Mutation::Tools(_)
            | Mutation::NoDisks
            | Mutation::Init(_)
            | Mutation::Shell(_)
            | Mutation::File(..)
            | Mutation::Tree(_)
            | Mutation::Qemu(_)
            | Mutation::StoreEntry
            | Mutation::ChangedMeanwhile => false,
        };
        if self.expect.verdict == Verdict::Pass {
            let otherwise = |set: &&str| set.starts_with("boot=") || set.starts_with("xen.build=");
            return self.sets.iter().any(otherwise) || self.scenario.contains("guests:");
        }
        self.mutations.iter().any(differs)
    }
}

/// What must be said.
#[derive(Debug, Clone, Copy)]
pub struct Expect {
    /// The case's verdict.
    pub verdict: Verdict,
    /// Its cause; none where it passes.
    pub cause: Option<Cause>,
    /// Whose fault; none where it passes.
    pub blame: Option<Blame>,
    /// What its verdict says somewhere, each of them.
    pub says: &'static [&'static str],
    /// Verdicts of single steps, by title: what else is fine stays so.
    pub steps: &'static [(&'static str, Verdict)],
}

/// What is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// The hypervisor's image, as the build has it.
    Image(Break),
    /// Its EFI image.
    Efi(Break),
    /// The machine is given another image than the one that was looked at.
    Swapped(Break),
    /// The development files.
    Development(Dev),
    /// The tools.
    Tools(ToolsFault),
    /// Nothing is left of dom0's initramfs.
    NoInitramfs,
    /// dom0's initramfs ends in its middle.
    CutInitramfs,
    /// The machine has no disks.
    NoDisks,
    /// dom0's kernel runs on the bare machine.
    NoXen,
    /// dom0's init does something else.
    Init(Liar),
    /// dom0's shells are not as they should be.
    Shell(Shell),
    /// A file of dom0, laid over its root: path, permissions, content.
    File(&'static str, u32, &'static str),
    /// The device tree says something else of a domain that Xen is to make.
    Tree(Tree),
    /// QEMU is behind a program that breaks it.
    Qemu(Wrapper),
    /// The entry of dom0's userland in the store has other bytes than it was published with.
    StoreEntry,
    /// The hypervisor's file is written again while its machine runs.
    ChangedMeanwhile,
}

/// What the device tree says of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// That the first one's kernel is where nothing is.
    KernelElsewhere,
    /// Nothing: the last one has no node.
    NoNode,
}

/// The row of this name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use xenlab_model::fact::Facts;
    use xenlab_model::scenario::{self, Set, Settings};

    #[test]
    fn every_row_is_whole() {
        let mut names = HashSet::new();
        for row in ROWS {
            assert!(names.insert(row.name), "{}: twice", row.name);
            assert!(
                row.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                row.name
            );
            assert!(
                !row.archs.is_empty() && !row.what.is_empty() && !row.artefact.is_empty(),
                "{}",
                row.name
            );
            let good = row.expect.verdict == Verdict::Pass;
            assert_eq!(row.expect.cause.is_none(), good, "{}", row.name);
            assert_eq!(row.expect.blame, row.expect.cause.map(Cause::blame), "{}: blame", row.name);
            if let Some(cause) = row.expect.cause {
                assert_eq!(cause.verdict(), row.expect.verdict, "{}: verdict", row.name);
            }
        }
        let good = ROWS.iter().filter(|r| r.expect.verdict == Verdict::Pass).count();
        assert!(good >= 10, "{good} rows are of good runs");
    }

    #[test]
    fn every_scenario_can_be_run() {
        for row in ROWS {
            for arch in row.archs {
                let set = |text: &str| {
                    let (path, value) = text.split_once('=').expect("PATH=VALUE");
                    Set { path: path.to_owned(), value: value.to_owned(), argument: 0 }
                };
                let arch_set = format!("arch={arch}");
                let sets = row.sets.iter().copied().chain([arch_set.as_str()]).map(set).collect();
                let settings = Settings { sets, seed: 1, ..Settings::default() };
                let cases = scenario::load(row.scenario, row.name, &settings, &Facts::default())
                    .unwrap_or_else(|e| panic!("{}: {}", row.name, scenario::render(&e, false)));
                let planted =
                    cases.iter().filter(|c| row.only.is_none_or(|part| c.id.contains(part))).count();
                assert!(planted > 0, "{}: planted nowhere", row.name);
                assert_eq!(planted < cases.len(), row.only.is_some(), "{}: planted everywhere", row.name);
                for (title, _) in row.expect.steps {
                    let known = cases.iter().all(|c| c.steps.iter().any(|s| s.title() == *title));
                    assert!(known, "{}: there is no step `{title}`", row.name);
                }
            }
        }
    }

    #[test]
    fn rows_are_found_by_name() {
        assert!(ROWS.iter().all(|r| find(r.name).is_some_and(|f| f.name == r.name)));
        assert!(find("nothing-like-it").is_none());
    }
}
