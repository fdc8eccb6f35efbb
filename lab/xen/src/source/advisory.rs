//! What the patches of a security advisory do on a source: are they in it, would they apply, neither.
//!
//! Everything is tried on copies of the files that the patches name, without fuzz: a hunk whose surroundings are not what the patch says is
//! no proof of anything.

use super::lay::Changed;
use super::origin::Unpacked;
use super::{History, Origin, io, make, origin, patch};
use crate::build::Declared;
use crate::declared;
use crate::error::XenError;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use xenlab_host::Command;
use xenlab_model::recipe::Recipe;
use xenlab_model::xsa::{OnSource, Series};
use xenlab_store::Store;

/// A patch of an advisory.
#[derive(Debug, Clone)]
pub struct Fix {
    /// Its file, for messages.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// A build's source, as it comes and with the patches that are put on it.
pub struct SourceTree {
    name: String,
    root: PathBuf,
    unpacked: Option<Unpacked>,
    /// The distribution's and then the user's, in order.
    patches: Vec<patch::Patch>,
    patched: Changed,
    /// Its own word on its version.
    pub declared: Option<Declared>,
    /// The repository and the commit that it was taken from.
    pub revision: Option<(PathBuf, String)>,
}

/// Which state of the source.
#[derive(Clone, Copy, PartialEq, Eq)]
enum As {
    Comes,
    Built,
}

impl SourceTree {
    /// Lays open a source; what is packed is unpacked for as long as this lives.
    ///
    /// # Errors
    /// It cannot be read, or one of the patches to be put on it does not apply.
    pub(crate) fn open(
        name: &str,
        origin: &Origin,
        recipe: &Recipe,
        store: &Store,
    ) -> Result<SourceTree, XenError> {
        let own = patch::read(name, &recipe.patches)?;
        let (unpacked, root) = match origin.folder() {
            Some(folder) => (None, folder.to_owned()),
            None => {
                let unpacked = origin.unpack(name, store)?;
                let root = unpacked.root().to_owned();
                (Some(unpacked), root)
            }
        };
        origin::is_xen(name, &root)?;
        let mut patches = origin.series(name, &root)?;
        patches.extend(own);
        let patched = patch::apply(name, &root, &patches, store)?;
        Ok(SourceTree {
            name: name.to_owned(),
            declared: declared::makefile(&root.join("xen/Makefile"))
                .map(|d| Declared { by: "xen/Makefile".to_owned(), ..d }),
            revision: origin.revision()?,
            root,
            unpacked,
            patches,
            patched,
        })
    }

    /// What an advisory's patches, a series in this order, do on it. `before` are the patches that they are to come after and that the source
    /// has not.
    ///
    /// # Errors
    /// Only the lab's own: files that cannot be copied, no `patch`.
    pub fn look(&self, fixes: &[Fix], before: &[Fix], store: &Store) -> Result<OnSource, XenError> {
        let on = Trial { tree: self, store };
        let there = on.holds(fixes, As::Built, self.patches.len())?;
        let apply = on.applies(before, fixes)?;
        Ok(match (there, apply) {
            (true, true) => OnSource::BothWays,
            (true, false) if on.holds(fixes, As::Comes, 0)? => OnSource::Contained,
            (true, false) => OnSource::PatchedBy(on.by(fixes, true)?),
            (false, true) if !self.patches.is_empty() && on.holds(fixes, As::Comes, 0)? => {
                OnSource::UndoneBy(on.by(fixes, false)?)
            }
            (false, true) => OnSource::Applies,
            (false, false) => on.piecewise(fixes)?,
        })
    }

    /// An advisory's patches as commits of a history, with what there is in this source that may speak against their being in it.
    ///
    /// # Errors
    /// Only the lab's own: git is not there, or cannot read the repository.
    pub fn found_in(&self, history: &History, xsa: u32, fixes: &[Fix]) -> Result<Series, XenError> {
        let mut series = history.series(xsa, fixes)?;
        if !series.missing.is_empty() {
            return Ok(series);
        }
        let files: BTreeSet<String> = fixes.iter().flat_map(|f| patch::touched(&f.bytes)).collect();
        let over = self.patches.iter().filter(|p| !patch::touched(&p.bytes).is_disjoint(&files));
        series.over = over.map(patch::Patch::name).collect();
        // What was taken from that very commit is as it has it.
        let taken =
            self.unpacked.is_some() && self.revision.as_ref().is_some_and(|(_, c)| *c == history.commit);
        if !taken {
            series.differ = history.differ(&self.root, &files)?;
        }
        Ok(series)
    }
}

/// Trying patches on a tree.
struct Trial<'a> {
    tree: &'a SourceTree,
    store: &'a Store,
}

impl Trial<'_> {
    /// The first of the tree's patches with which the fixes are in it, or with which they no longer are, by name.
    fn by(&self, fixes: &[Fix], there: bool) -> Result<Vec<String>, XenError> {
        let touched: BTreeSet<String> = fixes.iter().flat_map(|f| patch::touched(&f.bytes)).collect();
        for (at, one) in self.tree.patches.iter().enumerate() {
            if patch::touched(&one.bytes).is_disjoint(&touched) {
                continue;
            }
            if self.holds(fixes, As::Built, at + 1)? == there {
                return Ok(vec![one.name()]);
            }
        }
        Ok(vec!["all patches together".to_owned()])
    }

    /// Every fix can be taken back, the last first, from the source with so many of its patches.
    fn holds(&self, fixes: &[Fix], state: As, patches: usize) -> Result<bool, XenError> {
        let backwards: Vec<&Fix> = fixes.iter().rev().collect();
        self.all(&backwards, true, state, patches)
    }

    fn applies(&self, before: &[Fix], fixes: &[Fix]) -> Result<bool, XenError> {
        let all: Vec<&Fix> = before.iter().chain(fixes).collect();
        self.all(&all, false, As::Built, self.tree.patches.len())
    }

    /// Which of a series are in and which apply, where they are not all one or the other: the first so many of them, or each for itself.
    fn piecewise(&self, fixes: &[Fix]) -> Result<OnSource, XenError> {
        let name = |fixes: &[Fix]| fixes.iter().map(|f| f.name.clone()).collect();
        let whole = self.tree.patches.len();
        for (head, tail) in (1..fixes.len()).map(|n| fixes.split_at(n)) {
            if self.holds(head, As::Built, whole)? && self.applies(&[], tail)? {
                return Ok(OnSource::Partly { there: name(head), missing: name(tail) });
            }
        }
        let (mut there, mut missing, mut untold) = (Vec::new(), Vec::new(), Vec::new());
        for fix in fixes {
            let holds = self.all(&[fix], true, As::Built, whole)?;
            let applies = self.all(&[fix], false, As::Built, whole)?;
            match (holds, applies) {
                (true, false) => there.push(fix.name.clone()),
                (false, true) => missing.push(fix.name.clone()),
                // What others of the series change again can neither be put on nor taken back alone: this tells nothing.
                _ => untold.push(fix.name.clone()),
            }
        }
        Ok(match missing.is_empty() {
            true => OnSource::Neither { patch: untold.join(", ") },
            false => OnSource::Partly { there, missing },
        })
    }

    /// Applies patches one after the other to copies of the files that they name.
    fn all(&self, fixes: &[&Fix], reverse: bool, state: As, patches: usize) -> Result<bool, XenError> {
        let name = &self.tree.name;
        let tmp = self.store.temporary("advisory").map_err(XenError::store(name))?;
        let stage = tmp.path().join("tree");
        std::fs::create_dir(&stage).map_err(|e| io(name, "make", &stage, e))?;
        let touched: BTreeSet<String> = fixes.iter().flat_map(|f| patch::touched(&f.bytes)).collect();
        if touched.is_empty() {
            return Ok(false);
        }
        // With some of the tree's patches only, what they make of it is made anew.
        let partly;
        let changed = match state {
            As::Comes => None,
            As::Built if patches == self.tree.patches.len() => Some(&self.tree.patched),
            As::Built => {
                partly = patch::apply(name, &self.tree.root, &self.tree.patches[..patches], self.store)?;
                Some(&partly)
            }
        };
        for file in &touched {
            let to = stage.join(file);
            match changed.and_then(|c| c.get(file)) {
                Some(None) => {}
                Some(Some((bytes, _))) => {
                    if let Some(dir) = to.parent() {
                        std::fs::create_dir_all(dir).map_err(|e| io(name, "make", dir, e))?;
                    }
                    std::fs::write(&to, bytes).map_err(|e| io(name, "write", &to, e))?;
                }
                None => patch::copy(name, &self.tree.root.join(file), &to)?,
            }
        }
        for fix in fixes {
            if !one(&stage, fix, reverse)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Applies a patch to the copies, or takes it back from them; false where any of it does not fit.
fn one(stage: &Path, fix: &Fix, reverse: bool) -> Result<bool, XenError> {
    let mut command = Command::new("patch").args([
        // `--force`: a patch that seems to be the other way round is not turned.
        "-p1",
        "--force",
        "--fuzz=0",
        "--silent",
        "--no-backup-if-mismatch",
        "--reject-file=-",
    ]);
    if reverse {
        command = command.arg("--reverse");
    }
    let output = command
        .arg("--directory")
        .arg(stage)
        .env("LC_ALL", "C")
        .env_remove("POSIXLY_CORRECT")
        .stdin_bytes(fix.bytes.clone())
        .output()
        .map_err(make::child)?;
    Ok(output.ended.ok())
}
