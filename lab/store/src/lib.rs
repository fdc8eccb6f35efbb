//! The store: what was made or fetched once, found again by its key.
//!
//! A [`Key`] (SHA-256 of named inputs) leads to a digest (SHA-256 of what was made), the digest to a folder. Folders are
//! published by rename, so there is never half an entry; their files are read-only. On the fast path an entry is trusted
//! by the stamps (size, modification time, inode) of its files; [`Entry::verify`] hashes them.
//!
//! ```text
//! ROOT/format                  the format's number
//!      keys/KEY.json           what it is, its parts, its digest; its own mtime is the last use
//!      content/DIGEST/         the files
//!      content/DIGEST.json     their names, sizes, hashes and stamps
//!      locks/KEY               held while KEY is made
//!      tmp/NAME, tmp/NAME.lock being made; swept when nobody holds the lock
//!      files/                  SHA-256 of files outside the store, by stamp
//!      templates/KEY/          frozen machines, see [`templates`]
//!      builds/KEY/             kept from one making to the next, see [`Workspace`]
//!      debian/                 locks of Debian packages newer than those shipped
//! ```

pub mod debian;
mod digest;
mod entry;
mod error;
mod gc;
mod key;
mod lock;
mod progress;
mod root;
mod run;
pub mod templates;
mod workspace;

pub use digest::{Stamp, hash_bytes, hash_file};
pub use entry::{Entry, Temporary};
pub use error::{StoreError, is_full};
pub use gc::{Collected, Listed};
pub use key::{Key, KeyId, hex};
pub use progress::Task;
pub use root::Options;
pub use workspace::Workspace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use xenlab_model::event::{Sink, What};

/// The format of the store's folder.
pub const FORMAT: u32 = 1;

/// An open store. Cheap to clone; safe to use from many threads and processes at once.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    offline: bool,
    locked: bool,
    sink: Arc<dyn Sink>,
    /// Tells `gc` of another process that somebody is at work here.
    _in_use: lock::Held,
}

impl Store {
    /// Opens the store, making its folder when there is none, and sweeps what dead processes left half made.
    ///
    /// # Errors
    /// `Root` when the folder cannot be written, `Format` when it is another program's or a later format's.
    pub fn open(options: Options) -> Result<Store, StoreError> {
        let root = root::choose(&options)?;
        let in_use = lock::shared(&root.join("in-use"))?;
        let inner = Inner {
            root,
            offline: options.offline,
            locked: options.locked,
            sink: options.sink,
            _in_use: in_use,
        };
        let store = Store { inner: Arc::new(inner) };
        store.sweep();
        Ok(store)
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Nothing may be downloaded.
    pub fn offline(&self) -> bool {
        self.inner.offline
    }

    /// Locks are to be kept: an archive that moved on is an error.
    pub fn locked(&self) -> bool {
        self.inner.locked
    }

    /// Where events go.
    pub fn sink(&self) -> &dyn Sink {
        &*self.inner.sink
    }

    /// Says something the user should know.
    pub fn note(&self, message: impl Into<String>) {
        self.sink().emit(What::Note { case: None, message: message.into() });
    }

    /// Begins a piece of work that is shown to the user.
    pub fn task(&self, name: &str, message: &str, total: u64, unit: &str) -> Task {
        Task::new(self.inner.sink.clone(), name, message, total, unit)
    }

    fn path(&self, parts: &[&str]) -> PathBuf {
        parts.iter().fold(self.inner.root.clone(), |p, s| p.join(s))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.inner.root).finish_non_exhaustive()
    }
}
