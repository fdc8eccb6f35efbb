//! Which templates there are, why one was made again, and making them fewer.

use super::Record;
use crate::gc::{Collected, seconds};
use crate::{Key, KeyId, Store, StoreError, lock};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A template, as `template ls` shows it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ListedTemplate {
    /// Its key.
    pub key: KeyId,
    /// What people call it.
    pub name: String,
    /// Parts of its key, in the order in which they were given.
    pub parts: Vec<(String, String)>,
    /// Bytes its files take on the disk, holes left out.
    pub size: u64,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// What made it.
    pub made_by: String,
    /// When it was last used, in seconds since 1970.
    pub used: u64,
    /// Somebody has a clone of it, or is about to.
    pub in_use: bool,
    /// Why it was made although there was an older one of that name, if that is still there.
    pub rebuilt: Option<Rebuilt>,
}

/// A part of a key that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The part's name.
    pub name: String,
    /// What it was in the other template; none: it had no such part.
    pub was: Option<String>,
    /// What it is now; none: it has no such part.
    pub is: Option<String>,
}

/// Why a template had to be made although there is another of that name.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rebuilt {
    /// The newest other one.
    pub other: KeyId,
    /// When that was made, in seconds since 1970.
    pub made: u64,
    /// What differs, in the order of the key's parts.
    pub differences: Vec<Difference>,
}

impl fmt::Display for Rebuilt {
    /// What differs, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            return f.write_str("the last one is gone");
        }
        let value = |value: &Option<String>| match value {
            None => "not there".to_owned(),
            // A digest says nothing to people.
            Some(text) if text.len() > 60 => "another".to_owned(),
            Some(text) => format!("`{text}`"),
        };
        for (n, d) in self.differences.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            match (value(&d.was), value(&d.is)) {
                (was, is) if was == is => write!(f, "{separator}{} is another", d.name)?,
                (was, is) => write!(f, "{separator}{} was {was}, is {is}", d.name)?,
            }
        }
        Ok(())
    }
}

impl Rebuilt {
    fn than(other: &ListedTemplate, parts: &[(String, String)]) -> Rebuilt {
        Rebuilt { other: other.key.clone(), made: other.made, differences: differences(&other.parts, parts) }
    }
}

impl Store {
    /// Every template, the last used first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn templates(&self) -> Result<Vec<ListedTemplate>, StoreError> {
        let base = self.path(&["templates"]);
        let mut list = Vec::new();
        for item in fs::read_dir(&base).map_err(|e| StoreError::io("read", &base, e))?.filter_map(Result::ok)
        {
            let dir = item.path();
            let key =
                dir.file_name().and_then(|n| n.to_str()).map(|n| serde_json::from_value::<KeyId>(n.into()));
            let (Some(record), Some(Ok(key))) = (Record::read(&dir), key) else { continue };
            let used =
                dir.join(super::RECORD).metadata().and_then(|m| m.modified()).map_or(record.made, seconds);
            let in_use = lock::try_exclusive(&self.use_lock(&key))?.is_none();
            list.push(ListedTemplate {
                key,
                name: record.name,
                parts: record.parts,
                size: size(&dir),
                made: record.made,
                made_by: record.made_by,
                used,
                in_use,
                rebuilt: None,
            });
        }
        let rebuilt: Vec<Option<Rebuilt>> = list
            .iter()
            .map(|t| {
                let older = list.iter().filter(|o| o.name == t.name && o.made < t.made);
                older.max_by_key(|o| o.made).map(|o| Rebuilt::than(o, &t.parts))
            })
            .collect();
        for (template, rebuilt) in list.iter_mut().zip(rebuilt) {
            template.rebuilt = rebuilt;
        }
        list.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.name.cmp(&b.name)));
        Ok(list)
    }

    /// In what a template of this name and key differs from the newest other of that name; none when there is no other.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn why_rebuilt(&self, name: &str, key: &Key) -> Result<Option<Rebuilt>, StoreError> {
        let id = key.id();
        let others = self.templates()?.into_iter().filter(|t| t.name == name && t.key != id);
        Ok(others.max_by_key(|t| t.made).map(|other| Rebuilt::than(&other, key.given())))
    }

    /// Removes one that was made for one purpose only and is done with, and says nothing of it.
    ///
    /// # Errors
    /// What the store cannot do.
    pub fn remove_template(&self, template: &super::Template) -> Result<(), StoreError> {
        self.put_aside(&template.dir)
    }

    /// Removes, the longest unused first, templates that nobody uses and that were not used for `older_than`, and more until
    /// they take at most `max_bytes` when that is said.
    ///
    /// # Errors
    /// What the store cannot do.
    pub fn gc_templates(
        &self,
        older_than: Option<Duration>,
        max_bytes: Option<u64>,
    ) -> Result<Collected, StoreError> {
        let mut list = self.templates()?;
        list.reverse();
        let mut result = Collected { left: list.iter().map(|t| t.size).sum(), ..Collected::default() };
        let now = seconds(SystemTime::now());
        for t in list {
            let age = Duration::from_secs(now.saturating_sub(t.used));
            let old = older_than.is_some_and(|limit| age >= limit);
            let too_much = max_bytes.is_some_and(|max| result.left > max);
            if !(old || too_much) {
                continue;
            }
            let Some(_unused) = lock::try_exclusive(&self.use_lock(&t.key))? else { continue };
            self.put_aside(&self.template_dir(&t.key))?;
            result.removed.push(t.name);
            result.freed += t.size;
            result.left = result.left.saturating_sub(t.size);
        }
        Ok(result)
    }
}

/// Bytes that the files in a folder take on the disk.
fn size(dir: &Path) -> u64 {
    let items = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    items.filter_map(|i| i.metadata().ok()).map(|m| m.blocks() * 512).sum()
}

/// A name given twice keeps both values: they are compared in their order.
fn differences(was: &[(String, String)], is: &[(String, String)]) -> Vec<Difference> {
    let values = |list: &[(String, String)], name: &str| -> Option<String> {
        let all: Vec<&str> = list.iter().filter(|p| p.0 == name).map(|p| p.1.as_str()).collect();
        (!all.is_empty()).then(|| all.join(", "))
    };
    let mut names: Vec<&String> = Vec::new();
    for (name, _) in is.iter().chain(was) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let both = names.into_iter().map(|name| (name, values(was, name), values(is, name)));
    both.filter(|(_, was, is)| was != is)
        .map(|(name, was, is)| Difference { name: name.clone(), was, is })
        .collect()
}
