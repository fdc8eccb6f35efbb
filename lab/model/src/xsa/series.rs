//! Each patch of an advisory as a commit of a history. A title alone proves nothing, since titles are used again: the commit makes the very
//! same change, or says that it is part of the advisory.

use super::change::Change;
use super::log::{Claim, Said, short};
use std::collections::{BTreeMap, BTreeSet};

/// The format for `git log --format`, a commit a line: its hash and its title.
pub const FORMAT: &str = "%H%x1f%s";

/// So many patches that were not found are named.
const NAMED: usize = 3;

/// A patch of an advisory, as far as commits are compared with it.
#[derive(Debug, Clone)]
pub struct Patch {
    name: String,
    title: Option<String>,
    change: Option<Change>,
}

impl Patch {
    /// Reads one, of this name in messages.
    pub fn read(name: &str, bytes: &[u8]) -> Patch {
        Patch { name: name.to_owned(), title: title(bytes), change: Change::read(bytes) }
    }
}

/// The `Subject:` of a patch, without what mail put before it and where mail broke it.
fn title(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.lines().take_while(|l| !l.starts_with("diff --git ") && !l.starts_with("--- "));
    let mut subject = lines.find_map(|l| l.strip_prefix("Subject:"))?.to_owned();
    for folded in lines.take_while(|l| l.starts_with([' ', '\t'])) {
        subject.push_str(folded);
    }
    let mut title = subject.trim();
    while let Some((tag, rest)) = title.strip_prefix('[').and_then(|t| t.split_once(']')) {
        if !tag.split_whitespace().any(|word| word == "PATCH") {
            break;
        }
        title = rest.trim_start();
    }
    let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

/// The titles of a history's commits.
#[derive(Debug, Clone)]
pub struct Titles {
    /// Hash and title, the latest first.
    commits: Vec<(String, String)>,
}

impl Titles {
    /// Reads what `git log` printed in [`FORMAT`], no commit before one that was made upon it.
    pub fn read(text: &str) -> Titles {
        let pairs = text.lines().filter_map(|l| l.split_once('\u{1f}'));
        Titles { commits: pairs.map(|(hash, title)| (hash.to_owned(), title.to_owned())).collect() }
    }

    /// The commits that have a patch's title, by their place.
    fn titled<'a>(&'a self, patch: &'a Patch) -> impl Iterator<Item = usize> + 'a {
        let same = move |title: &String| patch.title.as_ref() == Some(title);
        self.commits.iter().enumerate().filter(move |(_, (_, title))| same(title)).map(|(at, _)| at)
    }

    /// The commits whose changes are to be compared with the patches.
    pub fn asked(&self, patches: &[Patch]) -> BTreeSet<String> {
        let places = patches.iter().flat_map(|p| self.titled(p));
        places.map(|at| self.commits[at].0.clone()).collect()
    }

    /// It was reverted, by what a later commit says, or by its title alone: a revert that was taken from another branch names the commit there.
    fn undone(&self, at: usize, said: &Said) -> bool {
        let (hash, title) = &self.commits[at];
        let revert = format!("Revert \"{title}\"");
        let later = self.commits[..at].iter().enumerate();
        said.undone(hash) || later.into_iter().any(|(j, (_, t))| *t == revert && !self.undone(j, said))
    }
}

/// Patches found in a history.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// The commits of those that were found, in the patches' order.
    pub commits: Vec<String>,
    /// Those of them whose commit makes another change, and says that it is part of the advisory.
    pub by_word: Vec<String>,
    /// Those that were not found, each with why.
    pub missing: Vec<(String, String)>,
    /// Patches put on the build that change files which these change, too: they may undo them.
    pub over: Vec<String>,
    /// Such files that are not in the source as the history has them.
    pub differ: Vec<String>,
}

impl Series {
    /// Looks for each patch. `said` and `claim` are what the history's commits say, of reverts and of the advisory; `changes` what those that
    /// were [asked](Titles::asked) change.
    pub fn find(
        patches: &[Patch],
        titles: &Titles,
        said: &Said,
        claim: &Claim,
        changes: &BTreeMap<String, Change>,
    ) -> Series {
        let mut series = Series::default();
        let mut taken: BTreeSet<usize> = BTreeSet::new();
        for patch in patches {
            let (undone, there): (Vec<usize>, Vec<usize>) = titles
                .titled(patch)
                .filter(|at| !taken.contains(at))
                .partition(|at| titles.undone(*at, said));
            let hash = |at: &usize| &titles.commits[*at].0;
            let same = |at: &&usize| patch.change.is_some() && changes.get(hash(at)) == patch.change.as_ref();
            let says = |at: &&usize| claim.commits.contains(hash(at));
            let by_change = there.iter().find(same);
            if let Some(at) = by_change.or_else(|| there.iter().find(says)) {
                if by_change.is_none() {
                    series.by_word.push(patch.name.clone());
                }
                taken.insert(*at);
                series.commits.push(hash(at).clone());
                continue;
            }
            let why = match (&patch.title, there.first(), undone.first()) {
                (None, ..) => "it has no title".to_owned(),
                (_, Some(_), _) if patch.change.is_none() => "its change cannot be compared".to_owned(),
                (_, Some(at), _) => format!("commit {} has its title and another change", short(hash(at))),
                (_, None, Some(at)) => format!("commit {} has its title and was reverted", short(hash(at))),
                (_, None, None) if titles.titled(patch).next().is_some() => {
                    "no other commit has its title".to_owned()
                }
                (_, None, None) => "no commit has its title".to_owned(),
            };
            series.missing.push((patch.name.clone(), why));
        }
        series
    }

    /// All of so many patches are in the history, and nothing speaks against their being in the source.
    pub fn covers(&self, patches: usize) -> bool {
        let found = self.missing.is_empty() && self.commits.len() == patches && patches > 0;
        found && self.over.is_empty() && self.differ.is_empty()
    }

    /// What of it was found, and what is missing.
    pub fn told(&self) -> String {
        let all = self.commits.len() + self.missing.len();
        let missing = some(&self.missing, |(name, why)| format!("{name} ({why})"));
        let mut told = match (self.commits.as_slice(), self.missing.as_slice()) {
            ([], [(name, why)]) => format!("{name} is no commit of the history ({why})"),
            ([], _) => format!("the history has none of its {all} patches as commits: {missing}"),
            ([one], []) => format!("the history has its patch as commit {}", short(one)),
            ([first, .., last], []) => {
                let (first, last) = (short(first), short(last));
                format!(
                    "the history has each of its {all} patches as a commit: {all} commits, {first} to {last}"
                )
            }
            (found, _) => {
                format!("the history has {} of its {all} patches as commits, not {missing}", found.len())
            }
        };
        if self.missing.is_empty() && !self.by_word.is_empty() {
            told += &format!(
                "; for {} the commit's change is another, but it says that it is part of the advisory",
                some(&self.by_word, |n| n.clone())
            );
        }
        if !self.over.is_empty() {
            told += &format!(", but their files are changed by {}", some(&self.over, |n| n.clone()));
        }
        if !self.differ.is_empty() {
            told += &format!(", but not as the history has it is {}", some(&self.differ, |n| n.clone()));
        }
        told
    }
}

/// The first few of a list.
fn some<T>(list: &[T], word: impl Fn(&T) -> String) -> String {
    let first = list.iter().take(NAMED).map(word).collect::<Vec<_>>().join(", ");
    match list.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
