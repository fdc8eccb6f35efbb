//! What is known of Xen's branches and releases without a network: how long each branch has security support, and which release was the
//! first to have an advisory's fix.
//!
//! Both are facts of Xen's repository, and the file says of which state: support from each stable branch's own `SUPPORT.md`, fixes from the
//! messages of the commits of each tag `RELEASE-*`. `cargo xtask known-releases GITDIR` writes it anew from a clone.

use super::{Claim, Subject};
use crate::date::Date;
use crate::version::{XenVersion, compare};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// The file.
const SHIPPED: &str = include_str!("known.json");

/// Branches and releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The repository that it was read from.
    pub source: String,
    /// The day.
    pub read: Date,
    /// By branch.
    pub branches: BTreeMap<String, Branch>,
}

/// A stable branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Branch {
    /// See [`Support`].
    #[serde(flatten)]
    pub support: Support,
    /// By release: the advisories that it is the first of its branch to have.
    pub releases: BTreeMap<String, BTreeMap<u32, Claim>>,
}

/// How long a branch is supported, by its `SUPPORT.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Support {
    /// `Initial-Release`.
    pub initial_release: Date,
    /// `Supported-Until`.
    pub supported_until: Date,
    /// `Security-Support-Until`.
    pub security_support_until: Date,
    /// The file and the commit.
    pub source: String,
}

impl Support {
    /// Reads the lines of `SUPPORT.md`.
    pub fn read(text: &str, source: String) -> Option<Support> {
        let of =
            |key: &str| text.lines().find_map(|l| l.trim().strip_prefix(key)?.trim().parse::<Date>().ok());
        Some(Support {
            initial_release: of("Initial-Release:")?,
            supported_until: of("Supported-Until:")?,
            security_support_until: of("Security-Support-Until:")?,
            source,
        })
    }

    /// In a sentence, as of a day.
    pub fn told(&self, today: Date) -> String {
        let until = if today <= self.security_support_until { "until" } else { "ended on" };
        let full = match today <= self.supported_until {
            true => format!("full support until {}, ", self.supported_until),
            false => String::new(),
        };
        format!("{full}security support {until} {} ({})", self.security_support_until, self.source)
    }
}

impl Known {
    /// What ships with the lab.
    ///
    /// # Errors
    /// The file is not what it should be, which a test excludes.
    pub fn shipped() -> Result<Known, String> {
        serde_json::from_str(SHIPPED).map_err(|e| format!("known.json: {e}"))
    }

    /// A branch's support.
    pub fn branch(&self, branch: &str) -> Option<&Support> {
        self.branches.get(branch).map(|b| &b.support)
    }

    /// The first release of the build's branch that has an advisory's fix, if the build is that release or one after it.
    pub fn release_with(&self, xsa: u32, subject: &Subject) -> Option<(&str, &Claim)> {
        let branch = self.branches.get(&subject.branch)?;
        let (release, claim) = branch.releases.iter().find_map(|(r, of)| Some((r, of.get(&xsa)?)))?;
        has_all_of(&subject.version, release).then_some((release.as_str(), claim))
    }
}

/// A build of this version has everything of that release. Between two releases a stable branch calls itself the next one's `-pre`, so
/// `4.17.6-pre` has all of 4.17.5; `4.20-rc` has none.
fn has_all_of(version: &str, release: &str) -> bool {
    let Ok(version) = version.parse::<XenVersion>() else { return false };
    let number = |extra: &str| {
        extra.strip_prefix('.')?.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u32>().ok()
    };
    let Some(minor) = number(&version.extra) else { return false };
    let rest = version.extra.trim_start_matches('.').trim_start_matches(|c: char| c.is_ascii_digit());
    let whole = match (rest.starts_with("-pre") || rest.starts_with("-rc"), minor) {
        (true, 0) => return false,
        (true, n) => n - 1,
        (false, n) => n,
    };
    let has = format!("{}.{whole}", version.branch());
    compare(&has, release) != Ordering::Less
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_version_has() {
        assert!(has_all_of("4.17.5", "4.17.5") && has_all_of("4.17.10", "4.17.9"));
        assert!(has_all_of("4.17.6-pre", "4.17.5"), "a branch on its way to 4.17.6 has all of 4.17.5");
        assert!(!has_all_of("4.17.6-pre", "4.17.6"));
        assert!(!has_all_of("4.17.4", "4.17.5"));
        assert!(
            has_all_of("4.17.5-vendor", "4.17.5"),
            "what a distribution adds to a release's name takes nothing away"
        );
        assert!(
            !has_all_of("4.20-rc", "4.20.0")
                && !has_all_of("4.20.0-rc4", "4.20.0")
                && !has_all_of("4.20-unstable", "4.20.0")
        );
    }

    #[test]
    fn the_shipped_file_is_whole() {
        let known = Known::shipped().expect("it is read");
        assert!(known.branches.len() >= 5 && known.source.starts_with("https://"));
        for (name, branch) in &known.branches {
            let s = &branch.support;
            assert!(
                s.initial_release < s.supported_until && s.supported_until <= s.security_support_until,
                "{name}"
            );
            assert!(s.source.contains("SUPPORT.md"), "{name}");
            for (release, of) in &branch.releases {
                assert!(release.starts_with(&format!("{name}.")), "{release} is of {name}");
                for (xsa, claim) in of {
                    assert!(!claim.commits.is_empty() && claim.reverted.is_empty(), "XSA-{xsa} in {release}");
                    let again = branch.releases.iter().filter(|(_, o)| o.contains_key(xsa)).count();
                    assert_eq!(again, 1, "XSA-{xsa} is first in one release of {name}");
                }
            }
        }
    }
}
