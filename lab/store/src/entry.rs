//! Entries: found by key, made in a folder of their own, published by rename.

use crate::digest::Stamp;
use crate::key::{Key, KeyId};
use crate::{FORMAT, Store, StoreError, hash_bytes, hash_file, lock};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Something in the store.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its folder; the files in it are read-only and stay as they are.
    pub dir: PathBuf,
    /// What it was found by.
    pub key: KeyId,
    /// SHA-256 over names, modes and hashes of its files.
    pub digest: String,
    /// What people call it.
    pub label: String,
}

impl Entry {
    /// A file of it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Hashes every file and compares. Slow, and done before a Fail is blamed on what a machine was made of.
    ///
    /// # Errors
    /// `Damaged` says which file differs.
    pub fn verify(&self) -> Result<(), StoreError> {
        let manifest = Manifest::read(&manifest_path(&self.dir)).ok_or_else(|| StoreError::Damaged {
            label: self.label.clone(),
            reason: "its list of files is gone".into(),
        })?;
        match manifest.compare(&self.dir, true)? {
            None => Ok(()),
            Some(reason) => Err(StoreError::Damaged { label: self.label.clone(), reason }),
        }
    }
}

/// `keys/KEY.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) kind: String,
    pub(crate) label: String,
    pub(crate) parts: Vec<(String, String)>,
    pub(crate) uses: Vec<KeyId>,
    pub(crate) digest: String,
    /// Seconds since 1970.
    pub(crate) made: u64,
}

/// `content/DIGEST.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) files: Vec<Item>,
}

/// A file, link or folder of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Relative to the entry.
    path: String,
    /// Permission bits; 0 for links.
    mode: u32,
    /// What the link says, for a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    /// SHA-256, for a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// For a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<Stamp>,
}

impl Manifest {
    /// `None` when it is absent or not one: then there is no entry.
    pub(crate) fn read(path: &Path) -> Option<Manifest> {
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Reads a folder; every file in it is made read-only, and written to the disk when `sync`.
    fn of(dir: &Path, sync: bool) -> Result<Manifest, StoreError> {
        let mut files = Vec::new();
        for item in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
            let item = item.map_err(|e| StoreError::Other(format!("cannot read {}: {e}", dir.display())))?;
            let path = item.path();
            let name = path.strip_prefix(dir).unwrap_or(path).to_str().ok_or_else(|| {
                StoreError::Other(format!(
                    "the name {} is not UTF-8, which the store cannot keep",
                    path.display()
                ))
            })?;
            let meta = item.path().symlink_metadata().map_err(|e| StoreError::io("look at", path, e))?;
            let mut it = Item { path: name.to_owned(), mode: 0, link: None, sha256: None, stamp: None };
            if meta.is_symlink() {
                let to = fs::read_link(path).map_err(|e| StoreError::io("read", path, e))?;
                it.link = Some(to.to_string_lossy().into_owned());
            } else if meta.is_file() {
                it.sha256 = Some(hash_file(path)?);
                it.mode = meta.permissions().mode() & 0o7555;
                if sync {
                    fs::File::open(path)
                        .and_then(|f| f.sync_all())
                        .map_err(|e| StoreError::io("sync", path, e))?;
                }
                fs::set_permissions(path, fs::Permissions::from_mode(it.mode))
                    .map_err(|e| StoreError::io("make read-only", path, e))?;
                it.stamp = Some(Stamp::of(&meta));
            } else if !meta.is_dir() {
                return Err(StoreError::Other(format!(
                    "{} is neither file, folder nor link",
                    path.display()
                )));
            }
            files.push(it);
        }
        Ok(Manifest { files })
    }

    /// The digest of what it lists: everything but the stamps.
    fn digest(&self) -> String {
        let mut text = String::new();
        for f in &self.files {
            use std::fmt::Write as _;
            let _ = writeln!(text, "{:?} {:o} {:?} {:?}", f.path, f.mode, f.link, f.sha256);
        }
        hash_bytes(text.as_bytes())
    }

    /// How the folder differs from this list, by stamps, or by hashing everything.
    fn compare(&self, dir: &Path, hash: bool) -> Result<Option<String>, StoreError> {
        for f in &self.files {
            let path = dir.join(&f.path);
            let Ok(meta) = path.symlink_metadata() else { return Ok(Some(format!("{} is missing", f.path))) };
            if f.link.is_some() != meta.is_symlink() || f.sha256.is_some() != meta.is_file() {
                return Ok(Some(format!("{} is of another kind", f.path)));
            }
            if let Some(link) = &f.link
                && fs::read_link(&path).ok().is_none_or(|to| to.to_string_lossy() != **link)
            {
                return Ok(Some(format!("the link {} leads elsewhere", f.path)));
            }
            if hash {
                if let Some(want) = &f.sha256 {
                    let got = hash_file(&path)?;
                    if got != *want {
                        return Ok(Some(format!("{} has SHA-256 {got}, expected {want}", f.path)));
                    }
                }
            } else if let Some(stamp) = &f.stamp
                && Stamp::of(&meta) != *stamp
            {
                return Ok(Some(format!("the size, time or inode of {} changed", f.path)));
            }
        }
        Ok(None)
    }

    /// Bytes of all files.
    pub(crate) fn size(&self) -> u64 {
        self.files.iter().filter_map(|f| f.stamp).map(|s| s.size).sum()
    }
}

/// `content/DIGEST.json` of `content/DIGEST`.
pub(crate) fn manifest_path(dir: &Path) -> PathBuf {
    dir.with_extension("json")
}

impl Store {
    /// What is there under this key and unchanged. An entry found damaged is put aside, said, and not there.
    pub fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        let id = key.id();
        let path = self.path(&["keys", &format!("{id}.json")]);
        let Some(record) = read_record(&path) else { return Ok(None) };
        let dir = self.path(&["content", &record.digest]);
        let entry = Entry { dir, key: id, digest: record.digest, label: record.label };
        let manifest_file = manifest_path(&entry.dir);
        let Some(mut manifest) = Manifest::read(&manifest_file) else {
            self.quarantine(&entry, "its list of files is gone or unreadable");
            return Ok(None);
        };
        if let Some(changed) = manifest.compare(&entry.dir, false)? {
            // Changed stamps are suspicious, no more: a store that was copied has other inodes.
            if let Some(reason) = manifest.compare(&entry.dir, true)? {
                self.quarantine(&entry, &reason);
                return Ok(None);
            }
            tracing::info!("{}: {changed}, but its content is right", entry.label);
            for f in &mut manifest.files {
                if let Some(stamp) = &mut f.stamp
                    && let Ok(meta) = entry.dir.join(&f.path).symlink_metadata()
                {
                    *stamp = Stamp::of(&meta);
                }
            }
            self.write_json(&manifest_file, &manifest)?;
        }
        // The record's own time is the last use; not being able to set it only makes gc guess worse.
        let _ = fs::File::open(&path).and_then(|f| f.set_modified(SystemTime::now()));
        Ok(Some(entry))
    }

    /// What is there under this key, or else what `make` puts into the empty folder it is given. Of two processes that
    /// make the same, one waits for the other, saying so. `label` is what people call it.
    ///
    /// # Errors
    /// What `make` returned, and what the store itself cannot do; nothing is published then.
    pub fn get_or_make<E: From<StoreError>>(
        &self,
        key: &Key,
        label: &str,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Entry, E> {
        if let Some(entry) = self.get(key)? {
            return Ok(entry);
        }
        let id = key.id();
        let _lock = lock::exclusive(&self.path(&["locks", id.as_str()]), label, self.sink())?;
        // Whoever had the lock may have made it.
        if let Some(entry) = self.get(key)? {
            return Ok(entry);
        }
        let tmp = self.temporary(key.kind())?;
        make(tmp.path())?;
        Ok(self.publish(key, label, &tmp)?)
    }

    /// Moves a finished folder into place and records it.
    fn publish(&self, key: &Key, label: &str, tmp: &Temporary) -> Result<Entry, StoreError> {
        // Images are few and large; a tree of thousands of small files is left to the kernel: after a power cut the
        // stamps tell the files that never reached the disk.
        let few = walkdir::WalkDir::new(tmp.path()).into_iter().take(33).count() <= 32;
        let manifest = Manifest::of(tmp.path(), few)?;
        let digest = manifest.digest();
        let dir = self.path(&["content", &digest]);
        // The same content can be there under another key, and then it stays, if it is whole.
        let _lock = lock::exclusive(&self.path(&["locks", &digest]), label, self.sink())?;
        let there = Manifest::read(&manifest_path(&dir)).map(|m| m.compare(&dir, false)).transpose()?;
        if !matches!(there, Some(None)) {
            if dir.symlink_metadata().is_ok() {
                self.put_aside(&dir)?;
            }
            fs::rename(tmp.path(), &dir).map_err(|e| StoreError::io("publish", &dir, e))?;
            self.write_json(&manifest_path(&dir), &manifest)?;
        }
        let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let record = Record {
            format: FORMAT,
            kind: key.kind().to_owned(),
            label: label.to_owned(),
            parts: key.parts(),
            uses: key.uses().to_vec(),
            digest: digest.clone(),
            made,
        };
        let id = key.id();
        self.write_json(&self.path(&["keys", &format!("{id}.json")]), &record)?;
        Ok(Entry { dir, key: id, digest, label: label.to_owned() })
    }

    /// A folder of this process, removed when dropped and swept when the process dies.
    pub fn temporary(&self, what: &str) -> Result<Temporary, StoreError> {
        let base = self.path(&["tmp"]);
        loop {
            static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
            let n = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
            let path = base.join(format!("{what}-{}-{n}-{now:x}", std::process::id()));
            let lock_path = path.with_extension("lock");
            let Some(held) = lock::try_exclusive(&lock_path)? else { continue };
            // A sweeper may have removed the file between its making and its locking: then it holds nothing.
            if lock_path.symlink_metadata().is_err() {
                continue;
            }
            fs::create_dir(&path).map_err(|e| StoreError::io("make", &path, e))?;
            return Ok(Temporary { path, lock_path, _lock: held });
        }
    }

    /// Writes JSON so that it is there whole or not at all.
    pub(crate) fn write_json(&self, path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
        let io = |e| StoreError::io("write", path, e);
        let tmp = self.temporary("json")?;
        let file = tmp.path().join("json");
        let text = serde_json::to_vec(value).map_err(|e| StoreError::Other(e.to_string()))?;
        let mut f = fs::File::create(&file).map_err(io)?;
        f.write_all(&text).and_then(|()| f.sync_data()).map_err(io)?;
        fs::rename(&file, path).map_err(io)
    }

    /// As [`Entry::verify`], and an entry found damaged is put aside: its stamps hide the damage, so nothing else would notice, and
    /// every later run would use it again.
    ///
    /// # Errors
    /// `Damaged` says which file differs.
    pub fn verify(&self, entry: &Entry) -> Result<(), StoreError> {
        let verified = entry.verify();
        if let Err(StoreError::Damaged { reason, .. }) = &verified {
            self.quarantine(entry, reason);
        }
        verified
    }

    /// A damaged entry: says so, and moves it out of the way.
    fn quarantine(&self, entry: &Entry, reason: &str) {
        self.note(format!(
            "store entry {} was damaged ({reason}): it is put aside and made again",
            entry.label
        ));
        let _ = fs::remove_file(self.path(&["keys", &format!("{}.json", entry.key)]));
        if let Ok(_lock) = lock::exclusive(&self.path(&["locks", &entry.digest]), &entry.label, self.sink()) {
            let _ = fs::remove_file(manifest_path(&entry.dir));
            let _ = self.put_aside(&entry.dir);
        }
    }

    /// Moves a folder to where the next sweep removes it.
    pub(crate) fn put_aside(&self, dir: &Path) -> Result<(), StoreError> {
        let tmp = self.temporary("aside")?;
        match fs::rename(dir, tmp.path().join("it")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("move", dir, e)),
            _ => Ok(()),
        }
    }

    /// Removes what dead processes left half made.
    pub(crate) fn sweep(&self) {
        let Ok(items) = fs::read_dir(self.path(&["tmp"])) else { return };
        for path in items.filter_map(|i| Some(i.ok()?.path())) {
            let is_lock = path.extension().is_some_and(|e| e == "lock");
            let lock_path = path.with_extension("lock");
            // A folder always has a lock beside it that was there first; without one it is a leftover.
            let free = match lock_path.symlink_metadata() {
                Ok(_) => lock::try_exclusive(&lock_path).ok().flatten(),
                Err(_) if is_lock => continue,
                Err(_) => lock::try_exclusive(&lock_path).ok().flatten(),
            };
            if free.is_some() {
                remove(&lock_path.with_extension(""));
                let _ = fs::remove_file(&lock_path);
            }
        }
    }
}

/// A folder that goes away when it is dropped.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: lock::Held,
}

impl Temporary {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

/// Removes a file or tree, even one whose folders were made unwritable; errors leave it to the next sweep.
pub(crate) fn remove(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if !meta.is_dir() {
        let _ = fs::remove_file(path);
        return;
    }
    if fs::remove_dir_all(path).is_err() {
        for dir in
            walkdir::WalkDir::new(path).into_iter().filter_map(Result::ok).filter(|d| d.file_type().is_dir())
        {
            let _ = fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700));
        }
        let _ = fs::remove_dir_all(path);
    }
}

/// A record that is whole and of this format.
pub(crate) fn read_record(path: &Path) -> Option<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (record.format == FORMAT).then_some(record)
}

impl Store {
    /// SHA-256 of a file outside the store, in hexadecimal; a stamp seen before is not read again.
    pub fn digest_file(&self, path: &Path) -> Result<String, StoreError> {
        #[derive(Serialize, Deserialize)]
        struct Known {
            path: PathBuf,
            stamp: Stamp,
            sha256: String,
        }
        let path = fs::canonicalize(path).map_err(|e| StoreError::io("find", path, e))?;
        let stamp = |path: &Path| {
            fs::metadata(path).map(|m| Stamp::of(&m)).map_err(|e| StoreError::io("look at", path, e))
        };
        let before = stamp(&path)?;
        let name = hash_bytes(path.as_os_str().as_encoded_bytes());
        let cache = self.path(&["files", &name]);
        if let Ok(bytes) = fs::read(&cache)
            && let Ok(known) = serde_json::from_slice::<Known>(&bytes)
            && known.path == path
            && known.stamp == before
        {
            return Ok(known.sha256);
        }
        let sha256 = hash_file(&path)?;
        // A file written in the last moments could change again without a new time: that stamp proves nothing yet.
        let age =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_nanos() as i128);
        if stamp(&path)? == before && age - before.mtime_ns > 50_000_000 {
            self.write_json(&cache, &Known { path, stamp: before, sha256: sha256.clone() })?;
        }
        Ok(sha256)
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
