//! Lock files: the packages of a set, each with version and hash.

use super::Request;
use crate::StoreError;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The packages of a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// 1.
    pub format: u32,
    /// When it was resolved, in seconds since 1970; the newer of two locks is used.
    pub made: u64,
    /// What it is the answer to: a lock of another request is not used.
    pub request: Request,
    /// The packages, by name.
    pub packages: Vec<Package>,
}

/// A package of a lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture: Debian's name, or `all`.
    pub arch: String,
    /// The source package it was built from.
    pub source: String,
    /// The source's version where it is another than the package's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    /// `main`, `security`, `updates` or `backports`.
    pub pocket: String,
    /// Path below the archive's base (`pool/main/…`).
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// Of the file.
    pub sha256: String,
}

impl Package {
    /// The version of the source package it was built from.
    pub fn source_version(&self) -> &str {
        self.source_version.as_deref().unwrap_or(&self.version)
    }
}

impl Lock {
    /// Reads a lock's text; `name` is for messages.
    pub fn parse(name: &str, text: &str) -> Result<Lock, StoreError> {
        let bad = |detail: String| StoreError::BadLock { name: name.to_owned(), detail };
        let lock: Lock = serde_json::from_str(text).map_err(|e| bad(e.to_string()))?;
        if lock.format != 1 {
            return Err(bad(format!("its format is {}, expected 1", lock.format)));
        }
        for p in &lock.packages {
            let hash_ok = p.sha256.len() == 64 && p.sha256.bytes().all(|b| b.is_ascii_hexdigit());
            let path_ok =
                !p.file.starts_with('/') && !p.file.split('/').any(|part| part == ".." || part.is_empty());
            let plain = |s: &str| !s.is_empty() && !s.contains(['/', '\n', ' ']);
            if !hash_ok || !path_ok || !plain(&p.name) || !plain(&p.version) {
                return Err(bad(format!(
                    "package `{}` has a name, file or SHA-256 that cannot be right",
                    p.name
                )));
            }
        }
        Ok(lock)
    }

    /// Reads a lock file.
    pub fn read(path: &Path) -> Result<Lock, StoreError> {
        let text = std::fs::read_to_string(path).map_err(|e| StoreError::io("read", path, e))?;
        Lock::parse(&path.display().to_string(), &text)
    }

    /// `SUITE-ARCH-SET`.
    pub fn name(&self) -> String {
        format!("{}-{}-{}", self.request.suite, self.request.arch.debian(), self.request.set)
    }

    /// It answers this very request.
    pub fn is_for(&self, request: &Request) -> bool {
        self.request == *request
    }

    /// A package of it.
    pub fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|p| p.name == name)
    }

    /// A hash over names, versions and hashes of its packages: what an image made of them depends on.
    pub fn digest(&self) -> String {
        let text: Vec<String> = self
            .packages
            .iter()
            .map(|p| format!("{} {} {} {}", p.name, p.version, p.arch, p.sha256))
            .collect();
        crate::hash_bytes(text.join("\n").as_bytes())
    }

    /// What differs in a newer lock, a line each.
    pub(super) fn moved_to(&self, new: &Lock) -> Vec<String> {
        let mut lines = Vec::new();
        for p in &new.packages {
            match self.package(&p.name) {
                Some(old) if old.version == p.version && old.sha256 == p.sha256 => {}
                Some(old) if old.version == p.version => {
                    lines.push(format!("{} {} was built anew", p.name, p.version))
                }
                Some(old) => lines.push(format!("{} {} → {} ({})", p.name, old.version, p.version, p.pocket)),
                None => lines.push(format!("{} {} is new", p.name, p.version)),
            }
        }
        for p in &self.packages {
            if new.package(&p.name).is_none() {
                lines.push(format!("{} {} is gone", p.name, p.version));
            }
        }
        lines
    }
}
