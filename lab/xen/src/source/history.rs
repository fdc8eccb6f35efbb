//! The git history behind a build, as far as advisories are named in it.

use super::Fix;
use super::make;
use super::origin::{git, resolved};
use crate::error::XenError;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};
use xenlab_model::xsa::change::Change;
use xenlab_model::xsa::series::{self, Patch, Series, Titles};
use xenlab_model::xsa::{Claim, log};

/// More than the messages of all commits that name an advisory, which are some 3 MB, and than the titles of all commits, some 5 MB.
const MOST: usize = 64 << 20;

/// A commit's history.
#[derive(Debug, Clone)]
pub struct History {
    /// The commit.
    pub commit: String,
    /// The clone lacks what is older, so what it does not name may be there all the same.
    pub shallow: bool,
    name: String,
    repo: PathBuf,
    said: log::Said,
    /// Read when they are first asked for: that takes a second.
    titles: OnceLock<Titles>,
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
            name: name.to_owned(),
            repo: repo.to_owned(),
            said: log::read(&output.stdout.text()),
            titles: OnceLock::new(),
        }))
    }

    /// What it has of an advisory; nothing is something, too.
    pub fn of(&self, xsa: u32) -> Claim {
        self.said.claims.get(&xsa).cloned().unwrap_or_default()
    }

    /// The patches of an advisory as commits.
    ///
    /// # Errors
    /// git is not there, or cannot read the repository.
    pub fn series(&self, xsa: u32, fixes: &[Fix]) -> Result<Series, XenError> {
        let patches: Vec<Patch> = fixes.iter().map(|f| Patch::read(&f.name, &f.bytes)).collect();
        let titles = self.titles()?;
        let changes = self.changes(&titles.asked(&patches))?;
        Ok(Series::find(&patches, titles, &self.said, &self.of(xsa), &changes))
    }

    fn titles(&self) -> Result<&Titles, XenError> {
        if let Some(titles) = self.titles.get() {
            return Ok(titles);
        }
        // All of them: git looks for a hundred titles no faster than for none, and finds none that a message breaks.
        let format = format!("--format={}", series::FORMAT);
        let text =
            self.ask(&["log", "--topo-order", "--no-show-signature", &format, &self.commit], Vec::new())?;
        let read = Titles::read(&String::from_utf8_lossy(&text));
        Ok(self.titles.get_or_init(|| read))
    }

    /// What commits change; nothing of those with several parents or none.
    fn changes(&self, commits: &BTreeSet<String>) -> Result<BTreeMap<String, Change>, XenError> {
        if commits.is_empty() {
            return Ok(BTreeMap::new());
        }
        let list: String = commits.iter().map(|c| format!("{c}\n")).collect();
        let args = [
            "diff-tree",
            "--stdin",
            "-r",
            "--patch",
            "-U0",
            "--no-renames",
            "--no-ext-diff",
            "--no-textconv",
        ];
        Ok(Change::of_commits(&self.ask(&args, list.into_bytes())?))
    }

    /// Which of these files are not in a tree as the commit has them.
    ///
    /// # Errors
    /// git is not there, or cannot read the repository.
    pub(super) fn differ(&self, root: &Path, files: &BTreeSet<String>) -> Result<Vec<String>, XenError> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let names = files.iter().map(String::as_str);
        let args: Vec<&str> =
            ["ls-tree", "-z", "--full-tree", &self.commit, "--"].into_iter().chain(names).collect();
        let listed = String::from_utf8_lossy(&self.ask(&args, Vec::new())?).into_owned();
        // MODE TYPE HASH, a tab and the file.
        let entries = listed.split('\0').filter_map(|l| l.split_once('\t'));
        let has: BTreeMap<&str, &str> =
            entries.filter_map(|(of, file)| Some((file, of.rsplit_once(' ')?.1))).collect();
        let mut other = Vec::new();
        let mut there: Vec<(&str, String)> = Vec::new();
        for file in files {
            let path = root.join(file);
            match path.symlink_metadata() {
                Ok(m) if m.is_file() => there.push((file, path.to_string_lossy().into_owned())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && !has.contains_key(file.as_str()) => {}
                _ => other.push(file.clone()),
            }
        }
        if there.is_empty() {
            return Ok(other);
        }
        let paths = there.iter().map(|(_, path)| path.as_str());
        let args: Vec<&str> = ["hash-object", "--no-filters", "--"].into_iter().chain(paths).collect();
        let hashes = String::from_utf8_lossy(&self.ask(&args, Vec::new())?).into_owned();
        let mut hashes = hashes.lines();
        let differing = there.iter().filter(|(file, _)| hashes.next() != has.get(file).copied());
        other.extend(differing.map(|(file, _)| (*file).to_owned()));
        Ok(other)
    }

    fn ask(&self, args: &[&str], input: Vec<u8>) -> Result<Vec<u8>, XenError> {
        let asked = git(&self.repo).args(args).stdin_bytes(input).stdout_limit(MOST);
        let output = asked.output().map_err(make::child)?;
        if !output.ended.ok() {
            let (spec, path) = (self.name.clone(), self.repo.clone());
            return Err(XenError::Git { spec, path, said: output.stderr.text().trim().to_owned() });
        }
        Ok(output.stdout.bytes)
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
