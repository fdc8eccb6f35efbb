//! Workspaces: folders that are kept from one making to the next, so that what changed little is made quickly.
//!
//! Unlike an entry, a workspace has no digest and is trusted for nothing: what counts is published as an entry. It belongs to one
//! process at a time.

use crate::key::KeyId;
use crate::{Collected, Key, Store, StoreError, lock};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// A folder that only this process uses, for as long as this lives.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    _held: lock::Held,
}

/// What people call it, in the folder.
const LABEL: &str = "label";

impl Workspace {
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes everything in it.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn clear(&self) -> Result<(), StoreError> {
        let io = |e| StoreError::io("empty", &self.path, e);
        for item in fs::read_dir(&self.path).map_err(io)? {
            let item = item.map_err(io)?;
            if item.file_name() == LABEL {
                continue;
            }
            let path = item.path();
            let is_dir = item.file_type().map_err(io)?.is_dir();
            let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| StoreError::io("remove", &path, e))?;
        }
        Ok(())
    }
}

impl Store {
    /// The workspace of this key, made when there is none. Of two processes one waits for the other, saying so.
    ///
    /// # Errors
    /// The folder cannot be made, or the user interrupted the wait.
    pub fn workspace(&self, key: &Key, label: &str) -> Result<Workspace, StoreError> {
        let id = key.id();
        let held = lock::exclusive(&self.lock_of(&id), label, self.sink())?;
        let path = self.path(&["builds", id.as_str()]);
        fs::create_dir_all(&path).map_err(|e| StoreError::io("make", &path, e))?;
        // Written each time: its own time is the last use.
        let name = path.join(LABEL);
        fs::write(&name, label).map_err(|e| StoreError::io("write", &name, e))?;
        Ok(Workspace { path, _held: held })
    }

    /// Every workspace: what people call it, bytes, and when it was last used, in seconds since 1970.
    ///
    /// # Errors
    /// The store's folder cannot be read.
    pub fn workspaces(&self) -> Result<Vec<(String, u64, u64)>, StoreError> {
        let base = self.path(&["builds"]);
        let items = fs::read_dir(&base).map_err(|e| StoreError::io("read", &base, e))?;
        let one = |path: PathBuf| {
            let label = path.join(LABEL);
            let used = fs::metadata(&label).and_then(|m| m.modified()).map_or(0, crate::gc::seconds);
            let name = fs::read_to_string(&label).unwrap_or_else(|_| path.display().to_string());
            (name, size_below(&path), used)
        };
        Ok(items.flatten().map(|item| one(item.path())).collect())
    }

    fn lock_of(&self, id: &KeyId) -> PathBuf {
        self.path(&["locks", &format!("build-{id}")])
    }

    /// Removes workspaces that were not used for so long, or only counts them.
    pub(crate) fn gc_workspaces(
        &self,
        older_than: Option<Duration>,
        result: &mut Collected,
    ) -> Result<(), StoreError> {
        let Some(limit) = older_than else { return Ok(()) };
        let base = self.path(&["builds"]);
        for item in fs::read_dir(&base).map_err(|e| StoreError::io("read", &base, e))?.flatten() {
            let path = item.path();
            let label = path.join(LABEL);
            let used = fs::metadata(&label).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            if used.elapsed().unwrap_or_default() < limit {
                continue;
            }
            let lock = self.path(&["locks", &format!("build-{}", item.file_name().to_string_lossy())]);
            // Somebody at work in it holds its lock.
            let Some(_held) = lock::try_exclusive(&lock)? else { continue };
            result.freed += size_below(&path);
            result.removed.push(fs::read_to_string(&label).unwrap_or_else(|_| path.display().to_string()));
            self.put_aside(&path)?;
        }
        Ok(())
    }
}

fn size_below(path: &Path) -> u64 {
    walkdir::WalkDir::new(path)
        .into_iter()
        .filter_map(|e| e.ok()?.metadata().ok())
        .filter(|m| m.is_file())
        .map(|m| m.len())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn it_is_kept_and_collected() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Options { root: Some(dir.path().to_owned()), ..Options::default() }).unwrap();
        let key = Key::new("build").part("tree", "x");
        let space = store.workspace(&key, "a tree").unwrap();
        fs::create_dir(space.path().join("src")).unwrap();
        fs::write(space.path().join("src/f"), "1234").unwrap();
        // Somebody is at work in it.
        store.gc(Some(Duration::ZERO), None).unwrap();
        assert!(space.path().join("src/f").is_file());
        drop(space);
        let all = store.workspaces().unwrap();
        assert!(all.len() == 1 && all[0].0 == "a tree" && all[0].1 >= 4 && all[0].2 > 0, "{all:?}");
        let space = store.workspace(&key, "a tree").unwrap();
        assert!(space.path().join("src/f").is_file());
        space.clear().unwrap();
        assert!(!space.path().join("src").exists());
        fs::write(space.path().join("f"), "1234").unwrap();
        let path = space.path().to_owned();
        drop(space);
        store.gc(Some(Duration::from_secs(3600)), None).unwrap();
        assert!(path.exists());
        let collected = store.gc(Some(Duration::ZERO), None).unwrap();
        assert_eq!((collected.removed, path.exists()), (vec!["a tree".to_owned()], false));
        assert!(collected.freed >= 4);
    }
}
