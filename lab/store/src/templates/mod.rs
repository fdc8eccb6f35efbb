//! Templates: frozen machines, which any number of clones start from.
//!
//! ```text
//! templates/KEY/template.json  name, parts of the key, when and by what it was made, its files; its own mtime is the last use
//!               ram            the machine's memory, as long as that and full of holes; clones map it, nobody writes to it
//!               state          what processors and devices held
//!               …              what its maker adds: the console's record, evidence of the boot
//! locks/KEY                    held while it is made
//! locks/KEY.use                shared by whoever has a clone of it; `gc` takes what nobody shares
//! ```
//!
//! Made in a folder of its own and published by rename, as entries are; a killed maker's folder is swept. Unlike an entry's,
//! the large file is neither hashed nor written to the disk before it is used, since that would take longer than the boot it
//! saves: it is trusted by its stamp, and after a restart of the host only if [`Template::settle`] had been there before.

mod build;
mod list;
mod sparse;

pub use build::{Begun, Building};
pub use list::{Difference, ListedTemplate, Rebuilt};
pub use sparse::{copy_memory, hash_memory};

use crate::digest::Stamp;
use crate::{FORMAT, Key, KeyId, Store, StoreError, hash_bytes, hash_file, lock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// The machine's memory.
pub const RAM: &str = "ram";
/// What processors and devices held.
pub const STATE: &str = "state";
const RECORD: &str = "template.json";

/// `template.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    format: u32,
    name: String,
    /// In the order in which the key was given them.
    parts: Vec<(String, String)>,
    /// Seconds since 1970.
    made: u64,
    made_by: String,
    /// The host's start in which it was made (`/proc/sys/kernel/random/boot_id`).
    host_start: String,
    /// Its files have reached the disk.
    settled: bool,
    files: BTreeMap<String, File>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    stamp: Stamp,
    /// SHA-256; of the memory as [`hash_memory`] has it, and absent until that was done.
    sha256: Option<String>,
}

impl Record {
    fn read(dir: &Path) -> Option<Record> {
        let record: Record = serde_json::from_slice(&fs::read(dir.join(RECORD)).ok()?).ok()?;
        (record.format == FORMAT).then_some(record)
    }

    /// Why its files are not those it was published with; `hash` reads all of them.
    fn differs(&self, dir: &Path, hash: bool) -> Result<Option<String>, StoreError> {
        for (name, file) in &self.files {
            let path = dir.join(name);
            let Ok(meta) = path.symlink_metadata() else { return Ok(Some(format!("{name} is missing"))) };
            if meta.len() != file.stamp.size {
                return Ok(Some(format!("{name} is {} bytes long, was {}", meta.len(), file.stamp.size)));
            }
            if !hash && Stamp::of(&meta) != file.stamp {
                return Ok(Some(format!("the time or inode of {name} changed")));
            }
            if hash && let Some(want) = &file.sha256 {
                let got = digest(&path, name)?;
                if got != *want {
                    return Ok(Some(format!("{name} has SHA-256 {got}, expected {want}")));
                }
            }
        }
        Ok(None)
    }

    fn hashed(&self) -> bool {
        self.files.values().all(|f| f.sha256.is_some())
    }
}

fn digest(path: &Path, name: &str) -> Result<String, StoreError> {
    if name == RAM { hash_memory(path) } else { hash_file(path) }
}

fn host_start() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What [`Template::verify`] could compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verified {
    /// Every byte is what it was.
    Whole,
    /// All but the memory: it was not hashed yet ([`Template::settle`]), so that it is what it was cannot be shown.
    MemoryUnknown,
}

/// A template, in use as long as this lives: whoever runs a clone keeps it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template {
    store: Store,
    dir: PathBuf,
    key: KeyId,
    record: Arc<Record>,
    _in_use: Arc<lock::Held>,
}

impl Template {
    /// What it was found by.
    pub fn key(&self) -> &KeyId {
        &self.key
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Parts of its key, in the order in which they were given.
    pub fn parts(&self) -> &[(String, String)] {
        &self.record.parts
    }

    /// When it was made, in seconds since 1970.
    pub fn made(&self) -> u64 {
        self.record.made
    }

    /// What made it.
    pub fn made_by(&self) -> &str {
        &self.record.made_by
    }

    /// The file of the machine's memory.
    pub fn ram(&self) -> PathBuf {
        self.dir.join(RAM)
    }

    /// A file its maker added.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// What processors and devices held: QEMU would take a flipped bit for the guest's own.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn state(&self) -> Result<Vec<u8>, StoreError> {
        self.read(STATE)
    }

    /// A file of the template but its memory, compared with its digest: they are small, and verdicts are made of them.
    ///
    /// # Errors
    /// `Damaged`; the template is then to be put aside ([`Store::put_template_aside`]).
    pub fn read(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.dir.join(name);
        let bytes = fs::read(&path).map_err(|e| StoreError::io("read", &path, e))?;
        let want = self.record.files.get(name).and_then(|f| f.sha256.as_deref()).unwrap_or_default();
        let got = hash_bytes(&bytes);
        if got == want {
            Ok(bytes)
        } else {
            Err(self.damaged(format!("{name} has SHA-256 {got}, expected {want}")))
        }
    }

    /// Hashes everything and compares. Takes a second and more; done before a Fail on a clone is blamed on Xen.
    ///
    /// # Errors
    /// `Damaged` says which file differs.
    pub fn verify(&self) -> Result<Verified, StoreError> {
        // Another process may have hashed the memory since this one looked.
        let newest = Record::read(&self.dir).filter(|r| r.parts == self.record.parts);
        let record = newest.as_ref().unwrap_or(&self.record);
        match record.differs(&self.dir, true)? {
            Some(reason) => Err(self.damaged(reason)),
            None if record.hashed() => Ok(Verified::Whole),
            None => Ok(Verified::MemoryUnknown),
        }
    }

    /// Hashes the memory and has the files reach the disk, so that the template outlives a restart of the host and can be
    /// verified. To be done beside other work, once clones run.
    ///
    /// # Errors
    /// What the store cannot do; `Damaged` when the memory is no longer what was published.
    pub fn settle(&self) -> Result<(), StoreError> {
        if self.record.settled && self.record.hashed() {
            return Ok(());
        }
        let mut record = (*self.record).clone();
        for (name, file) in &mut record.files {
            let path = self.dir.join(name);
            let io = |e| StoreError::io("sync", &path, e);
            if file.sha256.is_none() {
                file.sha256 = Some(digest(&path, name)?);
            }
            let handle = fs::File::open(&path).map_err(io)?;
            handle.sync_all().map_err(io)?;
            if Stamp::of(&handle.metadata().map_err(io)?) != file.stamp {
                return Err(self.damaged(format!("{name} changed after it was published")));
            }
        }
        record.settled = true;
        self.store.write_json(&self.dir.join(RECORD), &record)
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { label: format!("template {}", self.record.name), reason }
    }
}

impl Store {
    fn template_dir(&self, key: &KeyId) -> PathBuf {
        self.path(&["templates", key.as_str()])
    }

    fn use_lock(&self, key: &KeyId) -> PathBuf {
        self.path(&["locks", &format!("{key}.use")])
    }

    /// The template with this key, in use from now on. One that is not as it was published is put aside, said, and not there.
    ///
    /// # Errors
    /// What the store cannot do.
    pub fn template(&self, key: &Key) -> Result<Option<Template>, StoreError> {
        let id = key.id();
        let in_use = lock::shared(&self.use_lock(&id))?;
        let dir = self.template_dir(&id);
        if dir.symlink_metadata().is_err() {
            return Ok(None);
        }
        let Some(record) = Record::read(&dir) else {
            self.template_aside(&dir, "without a name", "its record is gone or unreadable");
            return Ok(None);
        };
        if !record.settled && record.host_start != host_start() {
            // Not damage that can be seen: lengths and times can be right and the memory full of zeroes.
            self.template_aside(&dir, &record.name, "the host was restarted before it had reached the disk");
            return Ok(None);
        }
        let mut record = record;
        if let Some(changed) = record.differs(&dir, false)? {
            // A store that was copied has other inodes; where everything was hashed that can be told from damage.
            let reason = if record.hashed() { record.differs(&dir, true)? } else { Some(changed) };
            if let Some(reason) = reason {
                self.template_aside(&dir, &record.name, &reason);
                return Ok(None);
            }
            for (name, file) in &mut record.files {
                if let Ok(meta) = dir.join(name).symlink_metadata() {
                    file.stamp = Stamp::of(&meta);
                }
            }
            self.write_json(&dir.join(RECORD), &record)?;
        }
        // Not being able to set it only makes gc guess worse.
        let _ = fs::File::open(dir.join(RECORD)).and_then(|f| f.set_modified(SystemTime::now()));
        let record = Arc::new(record);
        Ok(Some(Template { store: self.clone(), dir, key: id, record, _in_use: Arc::new(in_use) }))
    }

    /// Moves a template out of the way because it cannot be used. Clones that run keep what they have mapped. If somebody did that
    /// before, and perhaps made it again, nothing is done.
    pub fn put_template_aside(&self, template: &Template, reason: &str) {
        let memory = template.record.files.get(RAM).map(|f| f.stamp.inode);
        let now = template.ram().symlink_metadata().ok().map(|meta| Stamp::of(&meta).inode);
        if now.is_some() && now != memory || !template.dir.exists() {
            return;
        }
        self.template_aside(&template.dir, &template.record.name, reason);
    }

    fn template_aside(&self, dir: &Path, name: &str, reason: &str) {
        self.note(format!("template {name} cannot be used ({reason}): it is put aside and made again"));
        if let Err(error) = self.put_aside(dir) {
            self.note(format!("template {name} could not be moved: {error}"));
        }
    }
}

#[cfg(test)]
mod tests;
