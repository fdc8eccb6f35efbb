//! Making a template.

use super::{File, RAM, RECORD, Record, STATE, Template, host_start, sparse};
use crate::digest::Stamp;
use crate::entry::Temporary;
use crate::{FORMAT, Key, Store, StoreError, hash_file, lock};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// What [`Store::begin_template`] found.
#[derive(Debug)]
pub enum Begun {
    /// It is there: perhaps another process just made it.
    Ready(Template),
    /// It is this process's to make; others wait.
    Build(Building),
}

/// A template being made. Dropped, everything of it goes; a process that dies leaves it to be swept.
#[derive(Debug)]
pub struct Building {
    store: Store,
    name: String,
    key: Key,
    folder: Temporary,
    _lock: lock::Held,
}

impl Store {
    /// The template with this key, or the right to make it. Waits, saying so, while another process makes it. Blocks: to be
    /// called where that is allowed.
    ///
    /// # Errors
    /// What the store cannot do, and an interrupt while waiting.
    pub fn begin_template(&self, name: &str, key: &Key) -> Result<Begun, StoreError> {
        if let Some(template) = self.template(key)? {
            return Ok(Begun::Ready(template));
        }
        let label = format!("template {name}");
        let lock = lock::exclusive(&self.path(&["locks", key.id().as_str()]), &label, self.sink())?;
        // Whoever had the lock may have made it.
        if let Some(template) = self.template(key)? {
            return Ok(Begun::Ready(template));
        }
        let folder = self.temporary("template")?;
        let name = name.to_owned();
        Ok(Begun::Build(Building { store: self.clone(), name, key: key.clone(), folder, _lock: lock }))
    }
}

impl Building {
    /// The folder; what lies in it when it is published is the template's.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// That there is room for a machine's memory, before any time is spent on the machine.
    ///
    /// # Errors
    /// `DiskFull` when there is not that much room: no template can be kept.
    pub fn room(&self, memory: u64) -> Result<(), StoreError> {
        sparse::room(self.path(), memory)
    }

    /// Puts the machine's memory, which nobody writes to any more, into the folder, without its zeroes.
    ///
    /// # Errors
    /// What the store cannot do.
    pub fn memory(&self, from: &fs::File) -> Result<(), StoreError> {
        let path = self.path().join(RAM);
        let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let to = made.map_err(|e| StoreError::io("make", &path, e))?;
        sparse::copy_memory(from, &to).map_err(|e| StoreError::io("copy a machine's memory to", &path, e))
    }

    /// Where the machine's state goes.
    pub fn state(&self) -> PathBuf {
        self.path().join(STATE)
    }

    /// Publishes it, once the machine it was taken of has ended: nobody may write to its memory any more.
    ///
    /// # Errors
    /// When memory or state are missing, and what the store cannot do; nothing is published then.
    pub fn publish(self, made_by: &str) -> Result<Template, StoreError> {
        let dir = self.path();
        for name in [RAM, STATE] {
            if !dir.join(name).is_file() {
                return Err(StoreError::Other(format!("template {}: there is no {name} in it", self.name)));
            }
        }
        let mut files = BTreeMap::new();
        for item in fs::read_dir(dir).map_err(|e| StoreError::io("read", dir, e))? {
            let path = item.map_err(|e| StoreError::io("read", dir, e))?.path();
            let io = |e| StoreError::io("look at", &path, e);
            let meta = path.symlink_metadata().map_err(io)?;
            let name = path.file_name().and_then(|n| n.to_str()).filter(|n| meta.is_file() && *n != RECORD);
            let Some(name) = name else {
                return Err(StoreError::Other(format!("{} cannot be part of a template", path.display())));
            };
            // QEMU before 8.2 opens the memory for writing even where it only copies.
            let mode = if name == RAM { 0o600 } else { 0o400 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(io)?;
            let sha256 = if name == RAM { None } else { Some(hash_file(&path)?) };
            files.insert(name.to_owned(), File { stamp: Stamp::of(&meta), sha256 });
        }
        let record = Record {
            format: FORMAT,
            name: self.name.clone(),
            parts: self.key.given().to_vec(),
            made: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs()),
            made_by: made_by.to_owned(),
            host_start: host_start(),
            settled: false,
            files,
        };
        let text = serde_json::to_vec_pretty(&record).map_err(|e| StoreError::Other(e.to_string()))?;
        fs::write(dir.join(RECORD), text).map_err(|e| StoreError::io("write", &dir.join(RECORD), e))?;
        let to = self.store.template_dir(&self.key.id());
        if to.symlink_metadata().is_ok() {
            self.store.put_aside(&to)?;
        }
        fs::rename(dir, &to).map_err(|e| StoreError::io("publish", &to, e))?;
        let published = self.store.template(&self.key)?;
        published
            .ok_or_else(|| StoreError::Other(format!("template {} vanished as it was published", self.name)))
    }
}
