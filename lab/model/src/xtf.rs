//! The Xen Test Framework: what a built tree holds, which of its instances are asked for, and what an instance's console says.
//!
//! Words and rules are those of XTF's own `xtf-runner`: an *instance* is `test-ENVIRONMENT-NAME[~VARIATION]`, a test says in its
//! `info.json` in which environments and variations there are instances of it, and its last line of output is `Test result: …`.

use crate::arch::Arch;
use crate::fact::{FactValue, Facts};
use crate::scenario::diagnostic::nearest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// `tests/NAME/info.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// The folder's name.
    pub name: String,
    /// `functional`, `xsa`, `utility`, `special`, `in-development`.
    pub category: String,
    /// `pv64`, `hvm32pae`, ….
    pub environments: Vec<String>,
    /// `hap`, `shadow`, …; without any there is one instance in each environment.
    pub variations: Vec<String>,
}

/// A built tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// Sorted by name.
    pub tests: Vec<Test>,
}

/// A test in an environment, in a variation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Instance {
    /// The test.
    pub name: String,
    /// Where it runs.
    pub environment: String,
    /// How it differs from the test's others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<String>,
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.image())?;
        match &self.variation {
            Some(variation) => write!(f, "~{variation}"),
            None => Ok(()),
        }
    }
}

impl Instance {
    /// The file name of its kernel, which its variations share.
    pub fn image(&self) -> String {
        format!("test-{}-{}", self.environment, self.name)
    }

    /// The architecture its environment is of; none where the lab does not know such an environment.
    pub fn arch(&self) -> Option<Arch> {
        match self.environment.as_str() {
            e if e.starts_with("pv") || e.starts_with("hvm") => Some(Arch::X86_64),
            // As Xen's own CI calls the one for Arm (automation/scripts/include/xtf-arm64).
            e if e.starts_with("mmu") || e.starts_with("mpu") => Some(Arch::Aarch64),
            _ => None,
        }
    }

    /// It is a paravirtualised guest.
    pub fn is_pv(&self) -> bool {
        self.environment.starts_with("pv")
    }

    /// Words of `virt_caps` that Xen must have for it, and `pv32`, as `xtf-runner --host` has it.
    pub fn needs(&self) -> BTreeSet<&'static str> {
        let mut needs = BTreeSet::new();
        if self.is_pv() {
            needs.insert("pv");
            if self.environment.starts_with("pv32") {
                needs.insert("pv32");
            }
        } else if self.environment.starts_with("hvm") {
            needs.insert("hvm");
        }
        match self.variation.as_deref() {
            Some("hap") => drop(needs.insert("hap")),
            Some("shadow") => drop(needs.insert("shadow")),
            _ => {}
        }
        needs
    }

    /// It runs with shadow paging, because of what is known of the emulator: nested paging spoils a PAE guest's page tables.
    pub fn without_hap(&self, facts: &Facts) -> bool {
        let Some(FactValue::Set(faults)) = facts.get("machine.emulator-faults") else { return false };
        self.environment == "hvm32pae" && faults.contains(NO_PAE)
    }

    /// Why it cannot run in a case, by what is known before its machine starts; the first of the reasons.
    pub fn cannot(&self, arch: Arch, facts: &Facts) -> Option<String> {
        match self.arch() {
            Some(own) if own == arch => {}
            Some(own) => {
                return Some(format!(
                    "{} is an environment of {own}, the machine is {arch}",
                    self.environment
                ));
            }
            None => return Some(format!("the environment {} is not known to this xenlab", self.environment)),
        }
        if self.without_hap(facts) && self.variation.as_deref() == Some("hap") {
            return Some(format!("{WITHOUT_HAP}, and it tests nested paging"));
        }
        let Some(FactValue::Set(options)) = facts.get("build.config") else { return None };
        let option = |need: &str| match need {
            "pv" => Some("PV"),
            "pv32" => Some("PV32"),
            "hvm" => Some("HVM"),
            "shadow" => Some("SHADOW_PAGING"),
            _ => None,
        };
        let lacks = |need: &&str| option(need).filter(|o| !options.contains(*o));
        if self.without_hap(facts) && lacks(&"shadow").is_some() {
            return Some(format!("{WITHOUT_HAP}, and this Xen is built without SHADOW_PAGING"));
        }
        let missing = self.needs().into_iter().find_map(|need| lacks(&need));
        missing.map(|option| format!("this Xen is built without {option}"))
    }
}

/// The fault of emulators that keeps a PAE guest from nested paging, as `machine.emulator-faults` has it.
const NO_PAE: &str = "npt-pae-accessed";

/// What that fault means, for a sentence.
pub const WITHOUT_HAP: &str =
    "this QEMU spoils the page tables of a PAE guest under nested paging, so it needs shadow paging";

/// What Xen says it can do, as `xtf-runner --host` reads it from `xl info`'s `virt_caps` and `xen_caps`.
pub fn caps(virt_caps: &str, xen_caps: &str) -> BTreeSet<&'static str> {
    let mut caps: BTreeSet<&'static str> = ["pv", "hvm", "hap", "shadow"]
        .into_iter()
        .filter(|cap| virt_caps.split_whitespace().any(|w| w == *cap))
        .collect();
    if caps.contains("pv") && xen_caps.split_whitespace().any(|w| w == "xen-3.0-x86_32p") {
        caps.insert("pv32");
    }
    caps
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The test says so.
    Success,
    /// The test says so.
    SuccessWithWarnings,
    /// The test says that it cannot be done here.
    Skip,
    /// The test says that something is wrong with itself.
    Error,
    /// The test says that what it tests is wrong.
    Failure,
    /// It ended without a result.
    Crash,
    /// Xen or dom0 died of it.
    HostCrash,
    /// It had no result when its limit passed.
    Timeout,
}

impl Outcome {
    /// Every outcome, in the order of tables.
    pub const ALL: [Outcome; 8] = [
        Outcome::Success,
        Outcome::SuccessWithWarnings,
        Outcome::Skip,
        Outcome::Error,
        Outcome::Failure,
        Outcome::Crash,
        Outcome::HostCrash,
        Outcome::Timeout,
    ];

    /// XTF's word for it; those that a hung or dying host makes are the lab's.
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Success => "SUCCESS",
            Outcome::SuccessWithWarnings => "SUCCESS with warnings",
            Outcome::Skip => "SKIP",
            Outcome::Error => "ERROR",
            Outcome::Failure => "FAILURE",
            Outcome::Crash => "CRASH",
            Outcome::HostCrash => "HOST CRASH",
            Outcome::Timeout => "TIMEOUT",
        }
    }

    /// What the console of a test that has ended says: its result, where that is the last thing it says. `xtf-runner` looks at the last
    /// line, too: what goes on after its result has not ended as a test does.
    pub fn of_console(text: &str) -> Outcome {
        let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        Outcome::of_line(last).unwrap_or(Outcome::Crash)
    }

    /// What a line says, if it is a result.
    pub fn of_line(line: &str) -> Option<Outcome> {
        match line.trim().strip_prefix("Test result: ")? {
            "SUCCESS" => Some(Outcome::Success),
            "SUCCESS with warnings" => Some(Outcome::SuccessWithWarnings),
            "SKIP" => Some(Outcome::Skip),
            "ERROR" => Some(Outcome::Error),
            "FAILURE" => Some(Outcome::Failure),
            _ => None,
        }
    }
}

/// Which instances are meant. What is empty does not narrow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Selection {
    /// A built tree.
    pub tree: String,
    /// Categories; `functional` and `xsa` when neither these nor tests are named.
    #[serde(default, deserialize_with = "crate::step::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub category: Vec<String>,
    /// Environments; `pv` and `hvm` stand for all that begin so.
    #[serde(default, deserialize_with = "crate::step::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Tests or instances: `NAME`, `ENVIRONMENT-NAME`, `test-ENVIRONMENT-NAME`, each with `~VARIATION` or without.
    #[serde(default, deserialize_with = "crate::step::one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
}

/// The categories that `xtf-runner --all` runs.
pub const DEFAULT_CATEGORIES: [&str; 2] = ["functional", "xsa"];

/// A word of a selection that the tree does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The key of the selection: `category`, `environment`, `test`.
    pub key: &'static str,
    /// Its place in that list.
    pub index: usize,
    /// What is wrong.
    pub message: String,
    /// What there is.
    pub known: Vec<String>,
    /// What may have been meant.
    pub near: Option<String>,
}

impl Unknown {
    fn new(key: &'static str, index: usize, word: &str, message: String, known: Vec<String>) -> Self {
        let near = nearest(word, known.iter().map(String::as_str)).map(str::to_owned);
        Unknown { key, index, message, known, near }
    }
}

impl Tree {
    /// Every category that some test is of.
    pub fn categories(&self) -> BTreeSet<&str> {
        self.tests.iter().map(|t| t.category.as_str()).collect()
    }

    /// Every environment that some test has.
    pub fn environments(&self) -> BTreeSet<&str> {
        self.tests.iter().flat_map(|t| t.environments.iter().map(String::as_str)).collect()
    }

    /// Every instance with its test, sorted by name, environment, variation.
    pub fn instances(&self) -> Vec<(Instance, &Test)> {
        let mut all = Vec::new();
        for test in &self.tests {
            for environment in &test.environments {
                let of = |variation: Option<&String>| Instance {
                    name: test.name.clone(),
                    environment: environment.clone(),
                    variation: variation.cloned(),
                };
                match test.variations.as_slice() {
                    [] => all.push((of(None), test)),
                    some => all.extend(some.iter().map(|v| (of(Some(v)), test))),
                }
            }
        }
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        all
    }

    /// The instance of exactly this name.
    pub fn find(&self, name: &str) -> Option<(Instance, &Test)> {
        self.instances().into_iter().find(|(i, _)| i.to_string() == name)
    }

    /// The instances that a selection means; or every word of it that means nothing here.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Instance>, Vec<Unknown>> {
        let owned = |set: BTreeSet<&str>| set.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let all = self.instances();
        let mut unknown = Vec::new();
        for (index, word) in selection.category.iter().enumerate() {
            if word != "all" && !self.categories().contains(word.as_str()) {
                let message = format!("no test of this tree is of the category `{word}`");
                let mut known = owned(self.categories());
                known.push("all".into());
                unknown.push(Unknown::new("category", index, word, message, known));
            }
        }
        for (index, word) in selection.environment.iter().enumerate() {
            if !self.environments().iter().any(|e| is_environment(word, e)) {
                let message = format!("no test of this tree has the environment `{word}`");
                unknown.push(Unknown::new("environment", index, word, message, owned(self.environments())));
            }
        }
        for (index, word) in selection.test.iter().enumerate() {
            if !all.iter().any(|(instance, _)| is_test(word, instance)) {
                let message = format!("this tree has no test or instance `{word}`");
                let known = self.tests.iter().map(|t| t.name.clone());
                let known = known.chain(all.iter().map(|(i, _)| i.to_string())).collect();
                unknown.push(Unknown::new("test", index, word, message, known));
            }
        }
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let category = |test: &Test| {
            let named = |c: &String| c == "all" || *c == test.category;
            match (selection.category.as_slice(), selection.test.as_slice()) {
                ([], []) => DEFAULT_CATEGORIES.contains(&test.category.as_str()),
                ([], _) => true,
                (categories, _) => categories.iter().any(named),
            }
        };
        let environment = |instance: &Instance| {
            selection.environment.is_empty()
                || selection.environment.iter().any(|e| is_environment(e, &instance.environment))
        };
        let test = |instance: &Instance| {
            selection.test.is_empty() || selection.test.iter().any(|t| is_test(t, instance))
        };
        let chosen = all.into_iter().filter(|(i, t)| category(t) && environment(i) && test(i));
        Ok(chosen.map(|(i, _)| i).collect())
    }
}

fn is_environment(word: &str, environment: &str) -> bool {
    word == environment || matches!(word, "pv" | "hvm") && environment.starts_with(word)
}

fn is_test(word: &str, instance: &Instance) -> bool {
    let (name, variation) = match word.split_once('~') {
        Some((name, variation)) => (name, Some(variation)),
        None => (word, None),
    };
    if variation.is_some() && variation != instance.variation.as_deref() {
        return false;
    }
    let image = instance.image();
    name == instance.name || name == image || image.strip_prefix("test-") == Some(name)
}

/// An instance and how it ended: what a table of XTF's results is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// `test-pv64-example`.
    pub instance: String,
    /// Its environment.
    pub environment: String,
    /// Its category.
    pub category: String,
    /// None: it was not run, or the lab could not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// PV instances that were measured to be the same test as dom0 straight on Xen as they are as a domain that dom0 makes; how is said in the
/// file.
const AS_DOM0: &str = include_str!("xtf/as-dom0.txt");

/// How many processors an instance of this name needs to be the same test as dom0; none where it is not.
pub fn same_as_dom0(instance: &str) -> Option<u32> {
    let lines = AS_DOM0.lines().filter(|line| !line.starts_with('#'));
    let mut rows = lines.map(|line| line.split_whitespace());
    rows.find_map(|mut words| (words.next() == Some(instance)).then(|| words.next()?.parse().ok()))?
}

#[cfg(test)]
mod tests;
