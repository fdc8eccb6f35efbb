//! What is known of Xen's branches and releases (`lab/model/src/xsa/known.json`), read from a clone of Xen's repository.

use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use xenlab_model::date::Date;
use xenlab_model::version::compare;
use xenlab_model::xsa::known::{Branch, Known, Support};
use xenlab_model::xsa::{Claim, log};

/// Where it goes, from the top of the repository.
const FILE: &str = "lab/model/src/xsa/known.json";

#[derive(Args)]
pub struct KnownReleases {
    /// A clone with all tags and stable branches, bare or not
    git: PathBuf,
    /// The address that it is a clone of
    #[arg(long)]
    from: String,
    /// The day on which it was fetched
    #[arg(long)]
    read: String,
    /// Branches, the oldest first
    #[arg(required = true)]
    branches: Vec<String>,
}

impl KnownReleases {
    pub fn run(&self) -> Result<()> {
        let read: Date = self.read.parse().map_err(anyhow::Error::msg)?;
        let mut known = Known { source: self.from.clone(), read, branches: BTreeMap::new() };
        for branch in &self.branches {
            let head = format!("stable-{branch}");
            let rev = git(&self.git, &["rev-parse", "--short=12", &head])?;
            let text = git(&self.git, &["show", &format!("{head}:SUPPORT.md")])?;
            let source = format!("SUPPORT.md of {head} at {}", rev.trim());
            let support =
                Support::read(&text, source).with_context(|| format!("{head}: SUPPORT.md says nothing"))?;
            let tags = git(&self.git, &["tag", "--list", &format!("RELEASE-{branch}.*")])?;
            let mut releases: Vec<&str> = tags.lines().filter_map(|t| t.strip_prefix("RELEASE-")).collect();
            releases.sort_by(|a, b| compare(a, b));
            let mut first: BTreeMap<u32, (String, Claim)> = BTreeMap::new();
            for release in &releases {
                let mut claims = claims(&self.git, &format!("RELEASE-{release}"))?;
                claims.retain(|_, c| !c.commits.is_empty());
                // Reverted in a later release, or completed by one: it is that one which has it, or none.
                first.retain(|xsa, (_, was)| claims.get(xsa).is_some_and(|c| c.commits == was.commits));
                for (xsa, claim) in claims {
                    first.entry(xsa).or_insert_with(|| ((*release).to_owned(), claim));
                }
            }
            let mut by_release: BTreeMap<String, BTreeMap<u32, Claim>> = BTreeMap::new();
            for (xsa, (release, mut claim)) in first {
                claim.reverted.clear();
                for commit in &mut claim.commits {
                    commit.truncate(12);
                }
                by_release.entry(release).or_default().insert(xsa, claim);
            }
            eprintln!("xtask: {branch}: {} releases", releases.len());
            known.branches.insert(branch.clone(), Branch { support, releases: by_release });
        }
        // A release a line, so that a difference can be read.
        let text =
            serde_json::to_string(&known)?.replace(r#","4."#, ",\n\"4.").replace(r#":{"4."#, ":{\n\"4.");
        std::fs::write(FILE, text + "\n").context(FILE)?;
        Ok(())
    }
}

fn claims(repo: &Path, tag: &str) -> Result<BTreeMap<u32, Claim>> {
    let format = format!("--format={}", log::FORMAT);
    let mut args = vec!["log", "-E", &format];
    let greps: Vec<String> = log::GREPS.iter().map(|g| format!("--grep={g}")).collect();
    args.extend(greps.iter().map(String::as_str));
    args.push(tag);
    Ok(log::read(&git(repo, &args)?).claims)
}

fn git(repo: &Path, args: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(repo).args(args).output().context("git")?;
    if !output.status.success() {
        bail!("git {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
