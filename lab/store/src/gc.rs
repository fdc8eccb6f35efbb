//! What is in the store, and making it smaller.

use crate::entry::{self, Manifest};
use crate::{KeyId, Store, StoreError, lock};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

/// An entry, as `image ls` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Listed {
    /// Its key.
    pub key: KeyId,
    /// What kind of thing it is.
    pub kind: String,
    /// What people call it.
    pub label: String,
    /// SHA-256 of its content.
    pub digest: String,
    /// Bytes of its files.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
    /// The inputs it was made from, by name.
    pub parts: Vec<(String, String)>,
    /// Labels of the entries it was made from.
    pub uses: Vec<String>,
    /// Labels of the entries made from it.
    pub used_by: Vec<String>,
}

/// What a collection did.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Collected {
    /// Labels of what was removed.
    pub removed: Vec<String>,
    /// Bytes freed.
    pub freed: u64,
    /// Bytes left.
    pub left: u64,
    /// Other processes had the store open, so what was used within the last day was kept.
    pub others: bool,
}

impl Store {
    /// Everything in the store, the last used first.
    pub fn ls(&self) -> Result<Vec<Listed>, StoreError> {
        let keys = self.path(&["keys"]);
        let mut list = Vec::new();
        let mut links: Vec<(String, Vec<KeyId>)> = Vec::new();
        for item in fs::read_dir(&keys).map_err(|e| StoreError::io("read", &keys, e))?.filter_map(Result::ok)
        {
            let path = item.path();
            let (Some(record), Some(stem)) =
                (entry::read_record(&path), path.file_stem().and_then(|s| s.to_str()))
            else {
                continue;
            };
            let Ok(key) = serde_json::from_value::<KeyId>(stem.into()) else { continue };
            let manifest = Manifest::read(&entry::manifest_path(&self.path(&["content", &record.digest])));
            let used = item.metadata().and_then(|m| m.modified()).map_or(record.made, seconds);
            links.push((record.label.clone(), record.uses));
            list.push(Listed {
                key,
                kind: record.kind,
                label: record.label,
                digest: record.digest,
                size: manifest.map_or(0, |m| m.size()),
                made: record.made,
                used,
                parts: record.parts,
                uses: Vec::new(),
                used_by: Vec::new(),
            });
        }
        let labels: BTreeMap<KeyId, String> = list.iter().map(|l| (l.key.clone(), l.label.clone())).collect();
        for (listed, (_, uses)) in list.iter_mut().zip(&links) {
            listed.uses = uses.iter().filter_map(|k| labels.get(k).cloned()).collect();
        }
        let used_by: Vec<Vec<String>> = list
            .iter()
            .map(|l| {
                links
                    .iter()
                    .filter(|(_, uses)| uses.contains(&l.key))
                    .map(|(label, _)| label.clone())
                    .collect()
            })
            .collect();
        for (listed, by) in list.iter_mut().zip(used_by) {
            listed.used_by = by;
        }
        list.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.label.cmp(&b.label)));
        Ok(list)
    }

    /// Removes, the longest unused first, what was not used for `older_than`, and more until at most `max_bytes` are
    /// left when that is said. What is needed again is made or fetched again.
    pub fn gc(&self, older_than: Option<Duration>, max_bytes: Option<u64>) -> Result<Collected, StoreError> {
        let mut list = self.ls()?;
        list.reverse();
        let mut result =
            Collected { left: content_size(&list), others: self.others_at_work()?, ..Collected::default() };
        let now = seconds(SystemTime::now());
        let mut keep: BTreeMap<String, usize> = BTreeMap::new();
        for l in &list {
            *keep.entry(l.digest.clone()).or_default() += 1;
        }
        for l in &list {
            let age = Duration::from_secs(now.saturating_sub(l.used));
            let old = older_than.is_some_and(|limit| age >= limit);
            let too_much = max_bytes.is_some_and(|max| result.left > max);
            if !(old || too_much) || (result.others && age < Duration::from_secs(86_400)) {
                continue;
            }
            // Somebody making this very thing holds its lock.
            let Some(_lock) = lock::try_exclusive(&self.path(&["locks", l.key.as_str()]))? else { continue };
            let record = self.path(&["keys", &format!("{}.json", l.key)]);
            fs::remove_file(&record).map_err(|e| StoreError::io("remove", &record, e))?;
            result.removed.push(l.label.clone());
            if let Some(n) = keep.get_mut(&l.digest) {
                *n -= 1;
                if *n == 0 {
                    let dir = self.path(&["content", &l.digest]);
                    let _ = fs::remove_file(entry::manifest_path(&dir));
                    self.put_aside(&dir)?;
                    result.freed += l.size;
                    result.left -= l.size;
                }
            }
        }
        self.gc_workspaces(older_than, &mut result)?;
        if !result.others {
            self.remove_orphans()?;
        }
        Ok(result)
    }

    /// Removes content that no key leads to: a process died between the two steps of publishing.
    fn remove_orphans(&self) -> Result<(), StoreError> {
        let known: BTreeSet<String> = self.ls()?.into_iter().map(|l| l.digest).collect();
        let content = self.path(&["content"]);
        for item in
            fs::read_dir(&content).map_err(|e| StoreError::io("read", &content, e))?.filter_map(Result::ok)
        {
            let path = item.path();
            let Some(digest) = path.file_stem().and_then(|s| s.to_str()) else { continue };
            if known.contains(digest) {
                continue;
            }
            // Held while somebody publishes it right now.
            if let Some(_lock) = lock::try_exclusive(&self.path(&["locks", digest]))? {
                entry::remove(&path);
            }
        }
        Ok(())
    }

    /// Whether another process has the store open.
    fn others_at_work(&self) -> Result<bool, StoreError> {
        use rustix::fs::{FlockOperation, flock};
        let path = self.path(&["in-use"]);
        let file = lock::open(&path)?;
        // Our own shared lock is on another open file, so an exclusive one is refused because of it too: count holders
        // by the kernel's table instead.
        let _ = flock(&file, FlockOperation::NonBlockingLockShared);
        let meta = file.metadata().map_err(|e| StoreError::io("look at", &path, e))?;
        let inode = std::os::unix::fs::MetadataExt::ino(&meta).to_string();
        let table = fs::read_to_string("/proc/locks").unwrap_or_default();
        let me = std::process::id().to_string();
        // `1: FLOCK  ADVISORY  READ  PID MAJ:MIN:INODE 0 EOF` (proc(5)).
        Ok(table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).any(|f| {
            f.len() > 5 && f[1] == "FLOCK" && f[4] != me && f[5].rsplit(':').next() == Some(inode.as_str())
        }))
    }
}

fn content_size(list: &[Listed]) -> u64 {
    let mut seen = BTreeSet::new();
    list.iter().filter(|l| seen.insert(l.digest.clone())).map(|l| l.size).sum()
}

pub(crate) fn seconds(t: SystemTime) -> u64 {
    t.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
