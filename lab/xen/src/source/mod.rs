//! Building Xen from source, with the tree's own build system: the hypervisor, and beside it the tools ([`tools`]).
//!
//! The user's tree is only read. What is to be built is laid into a workspace of the store ([`lay`]), one for each source,
//! architecture, set of options and compiler, where it stays with its objects: the next build of it writes the files that changed
//! and make does the rest. What is built is published as an entry under a key of everything that went in: the source's content,
//! patches, options, compiler.

mod advisory;
mod history;
mod lay;
mod log;
mod make;
mod options;
mod origin;
mod patch;
mod run;
#[cfg(test)]
mod tests;
pub(crate) mod tools;

pub use advisory::{Fix, SourceTree};
pub use history::{History, commit_in};
pub(crate) use origin::{Origin, SourceFiles};
pub use tools::sysroot_request;

use crate::build::Declared;
use crate::declared;
use crate::error::XenError;
use crate::provider::{read_json, write_json};
use lay::{Changed, Listing};
use make::Toolchain;
use options::Wanted;
use run::Runner;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::Path;
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_model::version::XenVersion;
use xenlab_store::{Entry, Key, Store, StoreError, Workspace};

/// Changes when the same inputs would be built otherwise.
const FORMAT: u32 = 2;

/// What was built.
pub(crate) struct Built {
    /// `root/` is what `make install` left.
    pub(crate) entry: Entry,
    /// The tree's own word on its version, with the extra version that was asked for.
    pub(crate) declared: Option<Declared>,
    /// What the tree has and this host or architecture could not build, each with the reason.
    pub(crate) left_out: Vec<String>,
}

/// Kept beside what was installed.
#[derive(Serialize, Deserialize)]
struct Record {
    declared: Option<Declared>,
    #[serde(default)]
    left_out: Vec<String>,
}

/// Set in a workspace while something is changed in it. A lab that was killed there leaves objects that are cut off and look new.
const UNFINISHED: &str = "unfinished";

/// What a configure runs to know the machine by.
const AUXILIARY: &[&str] = &["config.sub", "config.guess"];

/// Files that differ from what a workspace was built from: with more than anybody edits between two builds, even the compiler's word on a file
/// may be due to what make did not make anew.
const FEW: usize = 20;

/// A part of a source that is built by itself: its own files of the tree, its own workspace, its own key. So a change that
/// concerns only one leaves the other as it is.
trait Part: Sync {
    /// What people call it, before "of NAME": nothing for the hypervisor, which is what a Xen is.
    fn noun(&self) -> &'static str;
    /// A path of the tree is part of what it is built from.
    fn takes(&self, path: &str) -> bool;
    /// Files of the lab's own that are put over the tree.
    fn over(&self) -> Changed;
    /// Builds and installs into `root`; what had to be left out.
    fn build(&self, run: &Runner<'_>, root: &Path, differs: &BTreeSet<String>) -> Result<(), XenError>;
    /// What goes into the record.
    fn record(&self, src: &Path) -> Record;
}

/// The hypervisor of a source, from the store or built now. `name` is what the user calls it.
pub(crate) fn build(
    name: &str,
    origin: &Origin,
    recipe: &Recipe,
    arch: Arch,
    store: &Store,
) -> Result<Built, XenError> {
    let tools = Toolchain::find(arch)?;
    let wanted = Wanted::of(name, &recipe.options, arch)?;
    let patches = patch::read(name, &recipe.patches)?;
    let label = format!("{name}{recipe} for {arch}");
    let changeset = recipe.options.changeset.clone().unwrap_or_else(|| origin.changeset());
    let at = Key::new("xen-build")
        .part("source", origin.place())
        .part("arch", arch)
        .part("options", wanted.canonical())
        .part("compiler", &tools.versions);
    let mut key = Key::new("xen-hypervisor")
        .part("arch", arch)
        .part("options", wanted.canonical())
        .part("changeset", &changeset)
        .part("compiler", &tools.versions)
        .part("format", FORMAT);
    // All of them, the tools' too: each has to apply.
    for (at, patch) in patches.iter().enumerate() {
        key = key.part(&format!("patch-{at}"), xenlab_store::hash_bytes(&patch.bytes));
    }
    let part = make::Hypervisor { name, arch, tools: &tools, wanted: &wanted, changeset };
    let content = |_: &dyn Part| Ok(origin.identity());
    let built = Work { name, origin, arch, store, part: &part, patches: &patches }
        .built(&at, key, &label, &content)?;
    if recipe.options.flask == Some(true) && !make::has_checkpolicy() {
        store.note(format!(
            "{name}: built with Flask and without a policy, since checkpolicy is not installed: such a Xen panics unless `xen.args` has flask=permissive or flask=disabled; {}",
            xenlab_host::packages::hint("checkpolicy")
        ));
    }
    Ok(built)
}

/// An error of a making, so that what the store says becomes one too.
struct Failed(XenError);

impl From<StoreError> for Failed {
    fn from(source: StoreError) -> Failed {
        Failed(XenError::Store { spec: String::new(), source })
    }
}

/// A part about to be built.
struct Work<'a> {
    name: &'a str,
    origin: &'a Origin,
    arch: Arch,
    store: &'a Store,
    part: &'a dyn Part,
    patches: &'a [patch::Patch],
}

impl Work<'_> {
    /// From the store, or built in the workspace `at`. `content` says what changes with the source where it is no folder.
    fn built(
        &self,
        at: &Key,
        key: Key,
        label: &str,
        content: &dyn Fn(&dyn Part) -> Result<String, XenError>,
    ) -> Result<Built, XenError> {
        let (name, store) = (self.name, self.store);
        let wrap = XenError::store(name);
        let what = match self.part.noun() {
            "" => format!("Xen of {label}"),
            noun => format!("{noun}{label}"),
        };
        let space = store.workspace(at, &format!("the build of {what}")).map_err(&wrap)?;
        // What lies in a folder is read each time; what is told of a revision or an archive needs no reading.
        let listing = match self.origin.folder() {
            Some(folder) => {
                Some(lay::list(name, folder, &space.path().join("stamps.json"), &|p| self.part.takes(p))?)
            }
            None => None,
        };
        let content = match &listing {
            Some(listing) => lay::digest(listing),
            None => content(self.part)?,
        };
        let key = key.part("source", content);
        let entry = store
            .get_or_make::<Failed>(&key, &what, |dir| self.make(&space, dir, listing).map_err(Failed))
            .map_err(|Failed(e)| match e {
                // What the store said of itself has no name yet.
                XenError::Store { source, .. } => XenError::Store { spec: name.to_owned(), source },
                e => e,
            })?;
        let record: Record = read_json(&entry, "build.json").map_err(&wrap)?;
        Ok(Built { entry, declared: record.declared, left_out: record.left_out })
    }

    fn make(&self, space: &Workspace, dir: &Path, listing: Option<Listing>) -> Result<(), XenError> {
        let what = format!("building {}{} for {}", self.part.noun(), self.name, self.arch);
        let task = self.store.task(
            &format!("build:{}{}:{}", self.part.noun(), self.name, self.arch),
            &format!("{what}: reading the source"),
            0,
            "objects",
        );
        if space.path().join(UNFINISHED).exists() {
            space.clear().map_err(XenError::store(self.name))?;
        }
        let (name, arch, store) = (self.name, self.arch, self.store);
        let run = Runner { name, arch, store, space, task: &task, noun: self.part.noun(), what: &what };
        let result = self.laid(&run, dir, listing);
        // The compiler's words are for the one place where the failure is told in full.
        let brief = result
            .as_ref()
            .map(drop)
            .map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned());
        let _ = task.end(brief);
        result
    }

    /// Sets or takes away the mark.
    fn mark(&self, space: &Workspace, set: bool) -> Result<(), XenError> {
        let path = space.path().join(UNFINISHED);
        let done = if set { std::fs::write(&path, "") } else { std::fs::remove_file(&path) };
        done.map_err(|e| io(self.name, "write", &path, e))
    }

    /// Empties a workspace that was built in from another version: hardly an object would be kept, and what make does not know to be old
    /// (generated headers, files that were moved) makes such a build fail, or pass, for no reason of the tree's.
    fn make_room(&self, space: &Workspace, folder: &Path) -> Result<(), XenError> {
        match (branch(&space.path().join("src")), branch(folder)) {
            (Some(was), Some(is)) if was != is => space.clear().map_err(XenError::store(self.name)),
            _ => Ok(()),
        }
    }

    fn laid(&self, run: &Runner<'_>, dir: &Path, listing: Option<Listing>) -> Result<(), XenError> {
        let (space, takes) = (run.space, |p: &str| self.part.takes(p));
        let unpacked;
        let (folder, mut listing) = match (self.origin.folder(), listing) {
            (Some(folder), Some(listing)) => (folder.to_owned(), listing),
            _ => {
                unpacked = self.origin.unpack(self.name, self.store)?;
                let memory = unpacked.root().join("../stamps.json");
                let listing = lay::list(self.name, unpacked.root(), &memory, &takes)?;
                (unpacked.root().to_owned(), listing)
            }
        };
        origin::is_xen(self.name, &folder)?;
        // A distribution's own patches come first.
        let mut all = self.origin.series(self.name, &folder)?;
        all.extend_from_slice(self.patches);
        let mut changed = patch::apply(self.name, &folder, &all, self.store)?;
        changed.retain(|path, to| {
            // A distribution that deletes these puts newer ones of its own in their place, which is no part of its source.
            let aside =
                to.is_none() && matches!(self.origin, Origin::Package(_)) && AUXILIARY.contains(&&**path);
            takes(path) && !aside
        });
        changed.extend(self.part.over());
        lay::over(&mut listing, &changed);
        self.make_room(space, &folder)?;
        run.say("laying out the source");
        let lay = || {
            self.mark(space, true)?;
            lay::lay(self.name, &folder, &listing, &changed, space.path())
        };
        let differs = lay()?;
        let before = run.log().exists();
        let root = dir.join("root");
        let mut result = run.begin().and_then(|()| self.part.build(run, &root, &differs));
        if before
            && matches!(&result, Err(XenError::Compile { of_source, .. }) if !of_source || differs.len() > FEW)
        {
            // What an older tree left behind may be to blame, so this is not believed; the compiler's word on a file of a tree that is
            // much the same is.
            self.store.note(format!(
                "{}: make failed on what was built before; building all of it anew (why it failed stays in {})",
                self.name,
                run.log_before().display()
            ));
            // Why that one failed is worth as much as how this one goes.
            let failed = std::fs::read(run.log()).unwrap_or_default();
            space.clear().map_err(XenError::store(self.name))?;
            std::fs::write(run.log(), failed).map_err(|e| io(self.name, "write", &run.log(), e))?;
            if root.exists() {
                std::fs::remove_dir_all(&root)
                    .map_err(|e| XenError::store(self.name)(StoreError::io("remove", &root, e)))?;
            }
            result = lay().and_then(|differs| {
                run.begin()?;
                self.part.build(run, &root, &differs)
            });
        }
        // A make that ended by itself, well or not, left nothing half written.
        if !matches!(result, Err(XenError::Child(_) | XenError::Store { .. })) {
            self.mark(space, false)?;
        }
        result?;
        let record = self.part.record(&run.src());
        write_json(&dir.join("build.json"), &record).map_err(XenError::store(self.name))
    }
}

/// A tree's major.minor. A workspace that was only begun has none.
fn branch(tree: &Path) -> Option<String> {
    let version = declared::makefile(&tree.join("xen/Makefile"))?.version;
    version.parse::<XenVersion>().ok().map(|v| v.branch())
}

/// `NAME: what cannot be done to PATH`.
fn io(name: &str, what: &str, path: &Path, e: std::io::Error) -> XenError {
    XenError::Store { spec: name.to_owned(), source: StoreError::io(what, path, e) }
}
