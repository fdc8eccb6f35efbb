//! The git history behind a build, as far as advisories are named in it.

use super::make;
use super::origin::{git, resolved};
use crate::error::XenError;
use regex::Regex;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use xenlab_model::xsa::{Claim, log};

/// More than the messages of all commits that name an advisory: they are some 3 MB.
const MOST: usize = 64 << 20;

/// A commit's history.
#[derive(Debug, Clone)]
pub struct History {
    /// The commit.
    pub commit: String,
    /// The clone lacks what is older, so what it does not name may be there all the same.
    pub shallow: bool,
    claims: BTreeMap<u32, Claim>,
}

impl History {
    /// Reads it. None where the repository has no such commit.
    ///
    /// # Errors
    /// It is no repository, or git is not there.
    pub fn read(name: &str, repo: &Path, rev: &str) -> Result<Option<History>, XenError> {
        let failed = |said: String| XenError::Git { spec: name.to_owned(), path: repo.to_owned(), said };
        let commit = match resolved(repo, rev)? {
            Ok(commit) => commit,
            Err(said) if said.is_empty() => return Ok(None),
            Err(said) => return Err(failed(said)),
        };
        let asked = git(repo).args(["log", "-E", &format!("--format={}", log::FORMAT)]);
        let asked =
            asked.args(log::GREPS.map(|grep| format!("--grep={grep}"))).arg(&commit).stdout_limit(MOST);
        let output = asked.output().map_err(make::child)?;
        if !output.ended.ok() {
            return Err(failed(output.stderr.text().trim().to_owned()));
        }
        let shallow =
            git(repo).args(["rev-parse", "--is-shallow-repository"]).output().map_err(make::child)?;
        Ok(Some(History {
            commit,
            shallow: shallow.stdout.text().trim() == "true",
            claims: log::read(&output.stdout.text()),
        }))
    }

    /// What it has of an advisory; nothing is something, too.
    pub fn of(&self, xsa: u32) -> Claim {
        self.claims.get(&xsa).cloned().unwrap_or_default()
    }
}

/// The commit in a version as `git describe` and distributions write it (`4.17.7+13-g2445b30a44-0`), or in a changeset
/// (`Tue Sep 2 2025 git:2445b30a44`).
pub fn commit_in(text: &str) -> Option<&str> {
    static COMMIT: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"(?:[+-]\d+-g|git:)([0-9a-f]{7,40})\b").ok());
    COMMIT.as_ref()?.captures(text)?.get(1).map(|m| m.as_str())
}

#[cfg(test)]
mod tests {
    use super::commit_in;

    #[test]
    fn commits_in_versions() {
        assert_eq!(commit_in("4.17.7+13-g2445b30a44-0+deb12u1"), Some("2445b30a44"));
        assert_eq!(commit_in("Wed Sep 3 12:00:00 2025 +0200 git:0123456789-dirty"), Some("0123456789"));
        assert_eq!(commit_in("4.17.5-1"), None);
        assert_eq!(commit_in("4.17.5-gnu"), None);
    }
}
