//! Fetching `.deb` files from an archive's pool, with apt's own downloader.

use super::archive::Archive;
use super::lockfile::{Lock, Package};
use super::resolve::NETWORK;
use super::{Deb, resolve};
use crate::{Entry, Key, Store, StoreError, hash_file};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use xenlab_host::child::Command;

/// apt's downloader: proxies, redirects, retries and hashes as the host's apt does them.
const HELPER: &str = "/usr/lib/apt/apt-helper";

fn key(p: &Package) -> Key {
    Key::new("deb").part("sha256", &p.sha256)
}

fn present(store: &Store, p: &Package) -> Result<Option<Entry>, StoreError> {
    store.get(&key(p))
}

fn deb_name(p: &Package) -> String {
    p.file.rsplit('/').next().unwrap_or("package.deb").to_owned()
}

/// Every package of the lock, if all of them are in the store.
pub(super) fn all_present(store: &Store, lock: &Lock) -> Result<Option<Vec<Deb>>, StoreError> {
    let mut debs = Vec::new();
    for p in &lock.packages {
        let Some(entry) = present(store, p)? else { return Ok(None) };
        debs.push(Deb {
            package: p.name.clone(),
            version: p.version.clone(),
            source: p.source.clone(),
            pocket: p.pocket.clone(),
            path: entry.file(&deb_name(p)),
            sha256: p.sha256.clone(),
        });
    }
    Ok(Some(debs))
}

/// Takes what the store lacks of a lock from a folder, as far as it has it: each file under its SHA-256. So a build that may not reach any
/// network is given its packages as inputs of its own.
pub(super) fn from_folder(store: &Store, lock: &Lock, dir: &Path) -> Result<(), StoreError> {
    for p in &lock.packages {
        let file = dir.join(&p.sha256);
        if !file.is_file() || present(store, p)?.is_some() {
            continue;
        }
        store.get_or_make(&key(p), &format!("{} {} {}", p.name, p.version, p.arch), |to| {
            let to = to.join(deb_name(p));
            std::fs::copy(&file, &to).map_err(|e| StoreError::io("copy", &file, e))?;
            let got = hash_file(&to)?;
            if got != p.sha256 {
                let detail = format!("{} has SHA-256 {got}, and is named {}", file.display(), p.sha256);
                return Err(StoreError::WrongHash { detail });
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// What the store lacks of a lock, for a message.
pub(super) fn missing(store: &Store, lock: &Lock) -> Result<String, StoreError> {
    let mut names = Vec::new();
    for p in &lock.packages {
        if present(store, p)?.is_none() {
            names.push(format!("{} {}", p.name, p.version));
        }
    }
    Ok(format!("{} packages of {}: {}", names.len(), lock.name(), super::shortened(&names)))
}

/// Fetches what is missing; the packages whose files the archive does not have are returned.
pub(super) fn fetch(store: &Store, lock: &Lock, archive: &Archive) -> Result<Vec<Package>, StoreError> {
    let mut wanted = Vec::new();
    for p in &lock.packages {
        if present(store, p)?.is_none() {
            wanted.push(p.clone());
        }
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let tmp = store.temporary("fetch")?;
    let total = wanted.iter().map(|p| p.size).sum();
    let message =
        format!("fetching {} packages of {} for {}", wanted.len(), lock.request.suite, lock.request.arch);
    let task = store.task(&format!("fetch:{}", lock.name()), &message, total, "bytes");
    let result = download(store, &wanted, archive, tmp.path(), &|bytes| task.done(bytes));
    task.end(result)
}

fn download(
    store: &Store,
    wanted: &[Package],
    archive: &Archive,
    dir: &Path,
    progress: &dyn Fn(u64),
) -> Result<Vec<Package>, StoreError> {
    let config = resolve::apt_config(dir, None)?;
    let mut jobs: BTreeMap<String, &Package> = BTreeMap::new();
    let mut commands = Vec::new();
    // A few downloaders side by side: each has one connection to a host.
    let parts = wanted.len().min(3);
    for part in 0..parts {
        let mut command = Command::new(HELPER)
            .arg("download-file")
            .stderr_limit(1 << 20)
            .env("APT_CONFIG", &config)
            .env("LC_ALL", "C");
        for p in wanted.iter().skip(part).step_by(parts) {
            // The file: method makes links, copy: copies.
            let uri =
                format!("{}{}", archive.base(&p.pocket), encoded(&p.file)).replacen("file:", "copy:", 1);
            command = command
                .arg(&uri)
                .arg(dir.join(format!("{}.deb", p.sha256)))
                .arg(format!("SHA256:{}", p.sha256));
            jobs.insert(uri, p);
        }
        commands.push(command);
    }
    let text = run_all(commands, dir, progress)?;
    let mut lost = Vec::new();
    for p in wanted {
        let file = dir.join(format!("{}.deb", p.sha256));
        let size = |path: &Path| std::fs::metadata(path).ok().map(|m| m.len());
        if size(&file) != Some(p.size) {
            // A whole file of another size is another file of that name: the archive was changed in place. A part of
            // one stays where the download broke off.
            if size(&file.with_extension("deb.FAILED")).is_some_and(|n| n != p.size) {
                lost.push(p.clone());
                continue;
            }
            let uri = jobs.iter().find(|(_, q)| q.sha256 == p.sha256).map_or("", |(u, _)| u.as_str());
            match why(&text, uri) {
                Why::NotThere => lost.push(p.clone()),
                Why::Error(e) => return Err(e),
            }
            continue;
        }
        store.get_or_make(&key(p), &format!("{} {} {}", p.name, p.version, p.arch), |to| {
            let got = hash_file(&file)?;
            if got != p.sha256 {
                let detail = format!("{} has SHA-256 {got}, expected {}", p.file, p.sha256);
                return Err(StoreError::WrongHash { detail });
            }
            let to = to.join(deb_name(p));
            std::fs::rename(&file, &to).map_err(|e| StoreError::io("move", &to, e))
        })?;
    }
    Ok(lost)
}

/// Runs downloaders side by side until all have ended; their outputs together.
fn run_all(commands: Vec<Command>, dir: &Path, progress: &dyn Fn(u64)) -> Result<String, StoreError> {
    let mut children = Vec::new();
    for command in commands {
        children.push(command.spawn()?);
    }
    loop {
        progress(bytes_in(dir));
        // Dropping the children kills them.
        crate::run::check_interrupted()?;
        if children.iter().all(|c| c.ended().is_some()) {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut text = String::new();
    for child in &children {
        child.wait_blocking()?;
        text.push_str(&child.stderr().text());
        text.push('\n');
    }
    Ok(text)
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(items) = std::fs::read_dir(dir) else { return 0 };
    items
        .filter_map(Result::ok)
        .filter(|i| i.file_name().to_string_lossy().contains(".deb"))
        .filter_map(|i| Some(i.metadata().ok()?.len()))
        .sum()
}

/// Characters that a URI cannot have as they are; Debian's file names have `~`, `+` and `%3a`.
fn encoded(path: &str) -> String {
    path.replace('%', "%25").replace(' ', "%20")
}

/// The same with `%XX` replaced: apt's messages escape more than what it was given (`+` and `~`, which most versions have).
fn decoded(uri: &str) -> Vec<u8> {
    let bytes = uri.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let byte = (bytes[at] == b'%')
            .then(|| uri.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(hex, 16).ok()))
            .flatten();
        out.push(byte.unwrap_or(bytes[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

enum Why {
    NotThere,
    Error(StoreError),
}

/// Why a file was not fetched, by what the downloader wrote: `E: Failed to fetch URI  REASON`.
fn why(text: &str, uri: &str) -> Why {
    let line = text
        .lines()
        .filter_map(|l| l.strip_prefix("E: Failed to fetch "))
        .filter_map(|l| l.trim_start().split_once(char::is_whitespace))
        .find(|(said, _)| decoded(said) == decoded(uri))
        .map(|(_, reason)| reason.trim())
        .unwrap_or_default();
    let low = line.to_ascii_lowercase();
    let name = uri.rsplit('/').next().unwrap_or(uri);
    let detail = format!("{name}: {}", if line.is_empty() { "the downloader did not say why" } else { line });
    if low.starts_with("404") || low.starts_with("410") || low.contains("(2: no such file or directory)") {
        return Why::NotThere;
    }
    Why::Error(if low.contains("hash sum mismatch") {
        StoreError::WrongHash { detail }
    } else if text.to_ascii_lowercase().contains("no space left on device") {
        StoreError::DiskFull { path: std::env::temp_dir() }
    } else if NETWORK.iter().any(|s| low.contains(s)) {
        StoreError::Network { detail }
    } else {
        StoreError::CutOff { detail }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_found_however_the_address_is_escaped() {
        let said = "W: Download is performed unsandboxed\n\
                    E: Failed to fetch http://m.invalid/x_1%2b2%7e3_amd64.deb  404  Not Found [IP: 192.0.2.1 80]\n\
                    E: Failed to fetch http://m.invalid/y.deb  Connection refused\nE: Download Failed\n";
        for uri in ["http://m.invalid/x_1+2~3_amd64.deb", "http://m.invalid/x_1%2b2~3_amd64.deb"] {
            assert!(matches!(why(said, uri), Why::NotThere), "{uri}");
        }
        assert!(matches!(why(said, "http://m.invalid/y.deb"), Why::Error(StoreError::Network { .. })));
        let Why::Error(other) = why(said, "http://m.invalid/z.deb") else { panic!("it is not there") };
        assert!(other.to_string().contains("did not say why"), "{other}");
    }
}
