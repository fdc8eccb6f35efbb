//! `xenlab xsa`: how the advisories of a feed stand to a Xen build.
//!
//! Here is what is read: the feed's files, the build's source or its version, git histories. What it means is decided by
//! [`xenlab_model::xsa::judge`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;
use xenlab_model::date::Date;
use xenlab_model::spec::Subject;
use xenlab_model::version::XenVersion;
use xenlab_model::xsa::{
    self, Advisory, Allowed, Known, Meta, OnSource, Report, Seen, Series, Standing, feed,
};
use xenlab_store::Store;
use xenlab_xen::{Fix, History, SourceTree, XenError, commit_in};

/// What is asked.
pub struct Asked<'a> {
    /// The folder with `xsa.json`.
    pub feed: &'a Path,
    /// The build.
    pub subject: &'a Subject,
    /// Architectures that a build which is not made here may be for; the first that it is for serves.
    pub archs: &'a [Arch],
    /// A clone of Xen's repository.
    pub history: Option<&'a Path>,
    /// What may be unknown.
    pub allowed: &'a Allowed,
    /// The day.
    pub today: Option<Date>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum XsaError {
    /// What the user named is not what it should be.
    #[error("{0}")]
    Input(String),
    /// The build cannot be had.
    #[error(transparent)]
    Xen(#[from] XenError),
    /// The lab's own.
    #[error("{0}")]
    Lab(String),
}

/// Says how each advisory stands. Blocking: sources are unpacked, patches tried.
///
/// # Errors
/// See [`XsaError`].
pub fn report(asked: &Asked, store: &Store) -> Result<Report, XsaError> {
    let known = Known::shipped().map_err(XsaError::Lab)?;
    let advisories = read_feed(asked.feed)?;
    let build = Build::open(asked, store)?;
    let mut looking =
        Looking { feed: asked.feed, advisories: &advisories, build: &build, store, seen: BTreeMap::new() };
    let task = store.task("xsa", "security advisories", advisories.len() as u64, "advisories");
    let mut lines = Vec::new();
    for advisory in advisories.values().rev() {
        let mut seen = looking.seen(advisory)?;
        let mut line = xsa::judge(advisory, &build.subject, &seen, &known);
        // Only where nothing else tells: it takes a walk through the whole history.
        if line.standing == Standing::Unknown && seen.asks_history() {
            seen.series = looking.series(advisory)?;
            line = xsa::judge(advisory, &build.subject, &seen, &known);
        }
        lines.push(line);
        task.add(1);
    }
    drop(task);
    let latest = advisories.values().next_back();
    let mut report = Report {
        format: 1,
        support: known.branch(&build.subject.branch).cloned(),
        subject: build.subject,
        today: asked.today,
        feed: xsa::FeedIs {
            advisories: advisories.len(),
            latest: latest.map_or(0, |a| a.xsa),
            public: advisories.values().filter_map(|a| a.public).max(),
        },
        lines,
        allowed: Vec::new(),
    };
    report.allow(asked.allowed);
    Ok(report)
}

/// The feed, by number.
fn read_feed(dir: &Path) -> Result<BTreeMap<u32, Advisory>, XsaError> {
    let list = dir.join("xsa.json");
    let text = std::fs::read_to_string(&list).map_err(|e| {
        XsaError::Input(format!(
            "--feed {}: {e}; it is to be a folder with xsa.json, and with xsaN.meta and patches beside it, as https://xenbits.xen.org/xsa/ has them",
            list.display()
        ))
    })?;
    let mut advisories = BTreeMap::new();
    for mut advisory in feed::read(&text).map_err(|e| XsaError::Input(format!("{}: {e}", list.display())))? {
        let path = dir.join(format!("xsa{}.meta", advisory.xsa));
        advisory.meta = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let wrong = |e: String| {
                    XsaError::Input(format!(
                        "{}: {e}; expected what the Xen project publishes",
                        path.display()
                    ))
                };
                Some(Meta::read(&text).map_err(wrong)?)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(XsaError::Input(format!("{}: {e}", path.display()))),
        };
        advisories.insert(advisory.xsa, advisory);
    }
    Ok(advisories)
}

/// The build, as far as advisories are concerned.
struct Build {
    subject: xsa::Subject,
    source: Option<SourceTree>,
    history: Option<History>,
}

impl Build {
    fn open(asked: &Asked, store: &Store) -> Result<Build, XsaError> {
        let spec = asked.subject.hypervisor.to_string();
        let found = xenlab_xen::source_tree(asked.subject, store)?;
        let (source, version, by, package, changeset) = match found {
            Some((tree, package)) => {
                let declared = tree.declared.clone();
                let (version, by) = declared.map_or_else(Default::default, |d| (d.version, d.by));
                (Some(tree), version, by, package, None)
            }
            None => {
                let build = built(asked, store)?;
                let declared = build.declared.clone().map(|d| (d.version, d.by));
                let read = build.hypervisor.version().map(|v| (v.to_owned(), "the image".to_owned()));
                let (version, by) = declared.or(read).unwrap_or_default();
                let changeset = build.hypervisor.facts.compile.changeset.clone();
                (None, version, by, build.hypervisor.package_version.clone(), changeset)
            }
        };
        let parsed: XenVersion = version.parse().map_err(|_| {
            XsaError::Input(format!(
                "{spec}: its version is not known, so neither is its branch; say it with --expect-version"
            ))
        })?;
        let subject = xsa::Subject::new(&spec, &parsed, &by);
        let history = history(asked, source.as_ref(), &subject, [package, changeset])?;
        if let Some(history) = history.as_ref().filter(|h| h.shallow) {
            store.note(format!(
                "the history of {} is that of a shallow clone: what is older than it is not found there",
                history.commit
            ));
        }
        Ok(Build { subject, source, history })
    }
}

/// A build that is not made here, on the first architecture that it is for.
fn built(asked: &Asked, store: &Store) -> Result<xenlab_xen::XenBuild, XsaError> {
    let mut last = None;
    for arch in asked.archs {
        match xenlab_xen::provide(asked.subject, *arch, store) {
            Ok(build) => return Ok(build),
            Err(e) if e.is_bad_input() => last = Some(e),
            Err(e) => return Err(e.into()),
        }
    }
    Err(last.map_or_else(|| XsaError::Input("no architecture was named".into()), XsaError::Xen))
}

/// The history of what the build was made from: the repository that it lies in, or the one that was named, at the commit in its version or
/// changeset, or at its release.
fn history(
    asked: &Asked,
    source: Option<&SourceTree>,
    subject: &xsa::Subject,
    says: [Option<String>; 2],
) -> Result<Option<History>, XsaError> {
    let spec = &subject.spec;
    if let Some((repo, commit)) = source.and_then(|s| s.revision.as_ref()) {
        return Ok(History::read(spec, repo, commit)?);
    }
    let Some(repo) = asked.history else { return Ok(None) };
    let mut revs: Vec<String> =
        says.iter().flatten().filter_map(|text| commit_in(text)).map(str::to_owned).collect();
    if revs.is_empty() {
        revs.push(format!("RELEASE-{}", subject.version));
    }
    for rev in &revs {
        if let Some(history) = History::read(spec, repo, rev)? {
            return Ok(Some(history));
        }
    }
    Err(XsaError::Input(format!(
        "--history {}: it has no {}, which {spec} is made from; fetch its branch there, or leave the option away",
        repo.display(),
        revs.join(" and no ")
    )))
}

/// Looking at one advisory after the other; what was found is kept for those that come after it.
struct Looking<'a> {
    feed: &'a Path,
    advisories: &'a BTreeMap<u32, Advisory>,
    build: &'a Build,
    store: &'a Store,
    seen: BTreeMap<u32, Seen>,
}

impl Looking<'_> {
    fn seen(&mut self, advisory: &Advisory) -> Result<Seen, XsaError> {
        self.after(advisory, &mut BTreeSet::new())
    }

    fn after(&mut self, advisory: &Advisory, on_the_way: &mut BTreeSet<u32>) -> Result<Seen, XsaError> {
        if let Some(seen) = self.seen.get(&advisory.xsa) {
            return Ok(seen.clone());
        }
        on_the_way.insert(advisory.xsa);
        let mut seen =
            Seen { history: self.build.history.as_ref().map(|h| h.of(advisory.xsa)), ..Seen::default() };
        let branch = &self.build.subject.branch;
        let recipe = advisory.meta.as_ref().and_then(|m| m.recipe(branch, xsa::XEN));
        if let Some(recipe) = recipe.filter(|r| !r.patches.is_empty()) {
            match fixes(self.feed, &recipe.patches)? {
                Ok(fixes) => {
                    seen.patches = Some(fixes.len());
                    if let Some(tree) = &self.build.source {
                        let before = self.before(&recipe.prereqs, on_the_way)?;
                        seen.source = Some(tree.look(&fixes, &before, self.store)?);
                    }
                }
                Err(why) => {
                    seen.source = self.build.source.as_ref().map(|_| OnSource::NotTried { why });
                }
            }
        }
        on_the_way.remove(&advisory.xsa);
        self.seen.insert(advisory.xsa, seen.clone());
        Ok(seen)
    }

    /// An advisory's patches as commits of the build's history.
    fn series(&self, advisory: &Advisory) -> Result<Option<Series>, XsaError> {
        let recipe = advisory.meta.as_ref().and_then(|m| m.recipe(&self.build.subject.branch, xsa::XEN));
        let (Some(recipe), Some(history)) = (recipe, &self.build.history) else { return Ok(None) };
        let Ok(fixes) = fixes(self.feed, &recipe.patches)? else { return Ok(None) };
        Ok(Some(match &self.build.source {
            Some(tree) => tree.found_in(history, advisory.xsa, &fixes)?,
            None => history.series(advisory.xsa, &fixes)?,
        }))
    }

    /// The patches of advisories that come before one and that the source has not.
    fn before(&mut self, prereqs: &[u32], on_the_way: &mut BTreeSet<u32>) -> Result<Vec<Fix>, XsaError> {
        let mut before = Vec::new();
        for prereq in prereqs {
            // Not in the feed, or one that waits for this one: then it is tried without.
            let Some(advisory) = self.advisories.get(prereq).filter(|a| !on_the_way.contains(&a.xsa)) else {
                continue;
            };
            let open = self.after(advisory, on_the_way)?.source == Some(OnSource::Applies);
            let recipe = advisory.meta.as_ref().and_then(|m| m.recipe(&self.build.subject.branch, xsa::XEN));
            if let (true, Some(recipe)) = (open, recipe)
                && let Ok(fixes) = fixes(self.feed, &recipe.patches)?
            {
                before.extend(fixes);
            }
        }
        Ok(before)
    }
}

/// The patches that a recipe names, in order; or which of them the feed has not. `xsa237-4.5/*` names a folder's files by name.
fn fixes(feed: &Path, patterns: &[String]) -> Result<Result<Vec<Fix>, String>, XsaError> {
    let mut fixes = Vec::new();
    for pattern in patterns {
        let files = files(feed, pattern)?;
        if files.is_empty() {
            return Ok(Err(format!("the feed has no {pattern}")));
        }
        for path in files {
            let bytes =
                std::fs::read(&path).map_err(|e| XsaError::Input(format!("{}: {e}", path.display())))?;
            let name = path.strip_prefix(feed).unwrap_or(&path).display().to_string();
            fixes.push(Fix { name, bytes });
        }
    }
    Ok(Ok(fixes))
}

fn files(feed: &Path, pattern: &str) -> Result<Vec<PathBuf>, XsaError> {
    // A feed is data from elsewhere: it names nothing outside itself.
    let inside = Path::new(pattern).components().all(|c| matches!(c, std::path::Component::Normal(_)));
    if !inside {
        return Err(XsaError::Input(format!(
            "{}: a recipe names {pattern}, which is not in the feed",
            feed.display()
        )));
    }
    let dir = glob::Pattern::escape(&feed.to_string_lossy());
    let found = glob::glob(&format!("{dir}/{pattern}"))
        .map_err(|e| XsaError::Input(format!("{}: a recipe names {pattern}: {e}", feed.display())))?;
    Ok(found.flatten().filter(|p| p.is_file()).collect())
}
