//! Building Xen's hypervisor from source, with the tree's own build system.
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
#[cfg(test)]
mod tests;

pub use advisory::{Fix, SourceTree};
pub use history::{History, commit_in};
pub(crate) use origin::{Origin, SourceFiles};

use crate::build::Declared;
use crate::declared;
use crate::error::XenError;
use crate::provider::{read_json, write_json};
use lay::Listing;
use make::Toolchain;
use options::Wanted;
use serde::{Deserialize, Serialize};
use std::path::Path;
use xenlab_model::arch::Arch;
use xenlab_model::recipe::Recipe;
use xenlab_store::{Entry, Key, Store, StoreError, Workspace};

/// Changes when the same inputs would be built otherwise.
const FORMAT: u32 = 1;

/// What was built.
pub(crate) struct Built {
    /// `root/` is what `make install` left.
    pub(crate) entry: Entry,
    /// The tree's own word on its version, with the extra version that was asked for.
    pub(crate) declared: Option<Declared>,
}

/// Kept beside what was installed.
#[derive(Serialize, Deserialize)]
struct Record {
    declared: Option<Declared>,
}

/// Set in a workspace while something is changed in it. A lab that was killed there leaves objects that are cut off and look new.
const UNFINISHED: &str = "unfinished";

/// The hypervisor of a source, from the store or built now. `name` is what the user calls it.
pub(crate) fn build(
    name: &str,
    origin: &Origin,
    recipe: &Recipe,
    arch: Arch,
    store: &Store,
) -> Result<Built, XenError> {
    let wrap = XenError::store(name);
    let tools = Toolchain::find(arch)?;
    let wanted = Wanted::of(name, &recipe.options, arch)?;
    let patches = patch::read(name, &recipe.patches)?;
    let label = format!("{name}{recipe} for {arch}");
    let at = Key::new("xen-build")
        .part("source", origin.place())
        .part("arch", arch)
        .part("options", wanted.canonical())
        .part("compiler", &tools.versions);
    let space = store.workspace(&at, &format!("the build of {label}")).map_err(&wrap)?;
    // What lies in a folder is read each time; what is told of a revision or an archive needs no reading.
    let listing = match origin.folder() {
        Some(folder) => Some(lay::list(name, folder, &space.path().join("stamps.json"))?),
        None => None,
    };
    let content = match &listing {
        Some(listing) => lay::digest(listing),
        None => origin.identity(),
    };
    let changeset = recipe.options.changeset.clone().unwrap_or_else(|| origin.changeset());
    let mut key = Key::new("xen-hypervisor")
        .part("source", content)
        .part("arch", arch)
        .part("options", wanted.canonical())
        .part("changeset", &changeset)
        .part("compiler", &tools.versions)
        .part("format", FORMAT);
    for (at, patch) in patches.iter().enumerate() {
        key = key.part(&format!("patch-{at}"), xenlab_store::hash_bytes(&patch.bytes));
    }
    let work = Work { name, origin, space: &space, arch, store, tools: &tools, wanted: &wanted };
    let entry = store
        .get_or_make::<Failed>(&key, &format!("Xen of {label}"), |dir| {
            work.make(dir, listing, &patches, &changeset).map_err(Failed)
        })
        .map_err(|Failed(e)| match e {
            // What the store said of itself has no name yet.
            XenError::Store { source, .. } => XenError::Store { spec: name.to_owned(), source },
            e => e,
        })?;
    if recipe.options.flask == Some(true) && !make::has_checkpolicy() {
        store.note(format!(
            "{name}: built with Flask and without a policy, since checkpolicy is not installed: such a Xen panics unless `xen.args` has flask=permissive or flask=disabled; {}",
            xenlab_host::packages::hint("checkpolicy")
        ));
    }
    let record: Record = read_json(&entry, "build.json").map_err(&wrap)?;
    Ok(Built { entry, declared: record.declared })
}

/// An error of a making, so that what the store says becomes one too.
struct Failed(XenError);

impl From<StoreError> for Failed {
    fn from(source: StoreError) -> Failed {
        Failed(XenError::Store { spec: String::new(), source })
    }
}

/// A build about to be done.
struct Work<'a> {
    name: &'a str,
    origin: &'a Origin,
    space: &'a Workspace,
    arch: Arch,
    store: &'a Store,
    tools: &'a Toolchain,
    wanted: &'a Wanted,
}

impl Work<'_> {
    fn make(
        &self,
        dir: &Path,
        listing: Option<Listing>,
        patches: &[patch::Patch],
        changeset: &str,
    ) -> Result<(), XenError> {
        let store = XenError::store(self.name);
        let task = self.store.task(
            &format!("build:{}:{}", self.name, self.arch),
            &format!("building {} for {}: reading the source", self.name, self.arch),
            0,
            "objects",
        );
        if self.space.path().join(UNFINISHED).exists() {
            self.space.clear().map_err(&store)?;
        }
        let result = self.laid(dir, listing, patches, changeset, &task);
        // The compiler's words are for the one place where the failure is told in full.
        let brief = result
            .as_ref()
            .map(drop)
            .map_err(|e| e.to_string().lines().next().unwrap_or_default().to_owned());
        let _ = task.end(brief);
        result
    }

    /// Sets or takes away the mark.
    fn mark(&self, set: bool) -> Result<(), XenError> {
        let path = self.space.path().join(UNFINISHED);
        let done = if set { std::fs::write(&path, "") } else { std::fs::remove_file(&path) };
        done.map_err(|e| io(self.name, "write", &path, e))
    }

    fn laid(
        &self,
        dir: &Path,
        listing: Option<Listing>,
        patches: &[patch::Patch],
        changeset: &str,
        task: &xenlab_store::Task,
    ) -> Result<(), XenError> {
        let src = self.space.path().join("src");
        let unpacked;
        let (folder, mut listing) = match (self.origin.folder(), listing) {
            (Some(folder), Some(listing)) => (folder.to_owned(), listing),
            _ => {
                unpacked = self.origin.unpack(self.name, self.store)?;
                let listing = lay::list(self.name, unpacked.root(), &unpacked.root().join("../stamps.json"))?;
                (unpacked.root().to_owned(), listing)
            }
        };
        origin::is_xen(self.name, &folder)?;
        // A distribution's own patches come first.
        let mut all = self.origin.series(self.name, &folder)?;
        all.extend_from_slice(patches);
        let mut changed = patch::apply(self.name, &folder, &all, self.store)?;
        changed.insert(".scmversion".to_owned(), Some((format!("{changeset}\n").into_bytes(), false)));
        lay::over(&mut listing, &changed);
        task.say(&format!("building {} for {}: laying out the source", self.name, self.arch));
        let lay = || {
            self.mark(true)?;
            lay::lay(self.name, &folder, &listing, &changed, self.space.path())
        };
        let differs = lay()?;
        let make = make::Make { work: self, src: &src, task };
        let before = self.space.path().join("build.log").exists();
        let mut result = make.all(&dir.join("root"), &differs);
        if before && matches!(&result, Err(XenError::Compile { of_source: false, .. })) {
            // Not the compiler's word on a file: what an older tree left behind may be to blame, so this is not believed.
            self.store.note(format!(
                "{}: make failed on what was built before; building all of it anew",
                self.name
            ));
            self.space.clear().map_err(XenError::store(self.name))?;
            let root = dir.join("root");
            if root.exists() {
                std::fs::remove_dir_all(&root)
                    .map_err(|e| XenError::store(self.name)(StoreError::io("remove", &root, e)))?;
            }
            result = make.all(&root, &lay()?);
        }
        // A make that ended by itself, well or not, left nothing half written.
        if !matches!(result, Err(XenError::Child(_) | XenError::Store { .. })) {
            self.mark(false)?;
        }
        result?;
        let declared = declared::makefile(&src.join("xen/Makefile")).map(|d| Declared {
            version: self.wanted.version(&src.join("xen/Makefile")).unwrap_or(d.version),
            by: format!("xen/Makefile of {}", self.name),
        });
        write_json(&dir.join("build.json"), &Record { declared }).map_err(XenError::store(self.name))
    }
}

/// `NAME: what cannot be done to PATH`.
fn io(name: &str, what: &str, path: &Path, e: std::io::Error) -> XenError {
    XenError::Store { spec: name.to_owned(), source: StoreError::io(what, path, e) }
}
