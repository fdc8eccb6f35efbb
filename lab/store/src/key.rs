//! Keys: the SHA-256 of the canonical list of inputs that made something.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The inputs of something made, each a named part, so that "why was it made again" has an answer.
///
/// The order in which parts are given does not matter; a name given twice keeps both values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    kind: String,
    parts: Vec<(String, String)>,
    uses: Vec<KeyId>,
}

/// The SHA-256 of a [`Key`], in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KeyId(String);

impl KeyId {
    /// 64 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Key {
    /// A key for something of this kind (`userland`, `kernel`, `deb`); kinds are what `image ls` groups by.
    pub fn new(kind: &str) -> Self {
        Key { kind: kind.to_owned(), parts: Vec::new(), uses: Vec::new() }
    }

    /// Adds an input.
    #[must_use]
    pub fn part(mut self, name: &str, value: impl fmt::Display) -> Self {
        self.parts.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds another entry as an input: its digest becomes a part, and `image ls` shows that it is used.
    #[must_use]
    pub fn entry(mut self, name: &str, entry: &crate::Entry) -> Self {
        self.uses.push(entry.key.clone());
        self.part(name, &entry.digest)
    }

    /// What kind of thing it is the key of.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its parts, sorted.
    pub fn parts(&self) -> Vec<(String, String)> {
        let mut parts = self.parts.clone();
        parts.sort();
        parts
    }

    /// Its parts in the order in which they were given.
    pub fn given(&self) -> &[(String, String)] {
        &self.parts
    }

    /// Keys of the entries it was made from.
    pub fn uses(&self) -> &[KeyId] {
        &self.uses
    }

    /// The SHA-256 of kind and sorted parts, each length-prefixed so that no two lists look the same.
    pub fn id(&self) -> KeyId {
        let mut hash = Sha256::new();
        let mut put = |s: &str| {
            hash.update((s.len() as u64).to_le_bytes());
            hash.update(s.as_bytes());
        };
        put("xenlab-key-1");
        put(&self.kind);
        for (name, value) in self.parts() {
            put(&name);
            put(&value);
        }
        KeyId(hex(&hash.finalize()))
    }

    /// Names of the parts in which two keys differ.
    pub fn differs_in(&self, other: &Key) -> Vec<String> {
        let (a, b) = (self.parts(), other.parts());
        let mut names: Vec<String> = a
            .iter()
            .filter(|p| !b.contains(p))
            .chain(b.iter().filter(|p| !a.contains(p)))
            .map(|p| p.0.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    }
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_nothing_runs_together() {
        let a = Key::new("k").part("a", "1").part("b", "2");
        assert_eq!(a.id(), Key::new("k").part("b", "2").part("a", "1").id());
        assert_ne!(a.id(), Key::new("k").part("a", "12").part("b", "").id());
        assert_ne!(a.id(), Key::new("k").part("a", "1b2").id());
        assert_ne!(a.id(), Key::new("ka").part("", "1").part("b", "2").id());
        assert_eq!(a.differs_in(&Key::new("k").part("a", "1").part("b", "3").part("c", "")), ["b", "c"]);
    }
}
