//! Resolving a set of packages, with an apt of our own: its own folders, no root, nothing of the host's packages.

use super::Request;
use super::archive::Archive;
use super::index::{self, Stanza};
use super::lockfile::{Lock, Package};
use crate::run;
use crate::{Store, StoreError};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xenlab_host::child::Command;

/// What apt and its downloader say, in small letters, when the network is at fault and not the archive.
pub(super) const NETWORK: &[&str] = &[
    "could not resolve",
    "could not connect",
    "cannot initiate",
    "unable to connect",
    "temporary failure",
    "network is unreachable",
    "connection refused",
    "connection timed out",
    "connection failed",
];

/// A configuration for apt that reads nothing of the host's but how to reach the network. `arch` is Debian's name.
///
/// The host's own configuration is left out because it may have hooks, may hide an expired index (Check-Valid-Until) and
/// may name folders that belong to root.
pub(super) fn apt_config(dir: &Path, arch: Option<&str>) -> Result<PathBuf, StoreError> {
    let mut text = String::new();
    for sub in ["parts", "prefs", "lists/partial", "cache/archives/partial", "log"] {
        let path = dir.join(sub);
        std::fs::create_dir_all(&path).map_err(|e| StoreError::io("make", &path, e))?;
    }
    let status = dir.join("status");
    std::fs::write(&status, "").map_err(|e| StoreError::io("write", &status, e))?;
    let d = dir.display();
    let _ = write!(
        text,
        "Dir::Etc::Parts \"{d}/parts\";\nDir::Etc::Main \"{d}/main\";\nDir::Etc::SourceList \"{d}/sources.list\";\n\
         Dir::Etc::SourceParts \"{d}/parts\";\nDir::Etc::Preferences \"{d}/preferences\";\nDir::Etc::PreferencesParts \"{d}/prefs\";\n\
         Dir::State \"{d}\";\nDir::State::Lists \"{d}/lists\";\nDir::State::status \"{d}/status\";\nDir::Cache \"{d}/cache\";\nDir::Log \"{d}/log\";\n\
         APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Check-Valid-Until \"true\";\nAcquire::Check-Date \"true\";\n\
         APT::Install-Recommends \"false\";\nAPT::Get::AllowUnauthenticated \"false\";\nAcquire::Retries \"2\";\n\
         Acquire::PDiffs \"false\";\n",
    );
    if let Some(arch) = arch {
        let _ = write!(text, "APT::Architecture \"{arch}\";\nAPT::Architectures {{ \"{arch}\"; }};\n");
    }
    // Proxies and the like are the host's to say.
    let dump = Command::new("apt-config").args(["dump", "--format", "%F \"%v\";%n"]);
    if let Ok(output) = run::output(dump) {
        for line in output.stdout.text().lines() {
            let low = line.to_ascii_lowercase();
            if (low.starts_with("acquire::http") || low.starts_with("acquire::https"))
                && !low.contains("::verify-")
            {
                let _ = writeln!(text, "{line}");
            }
        }
    }
    let path = dir.join("apt.conf");
    std::fs::write(&path, text).map_err(|e| StoreError::io("write", &path, e))?;
    Ok(path)
}

/// Suites that have pockets; the others (sid) are one alone.
fn pockets(request: &Request, archive: &Archive) -> Vec<(&'static str, String)> {
    let s = &request.suite;
    if s == "sid" || s == "unstable" {
        return vec![("main", s.clone())];
    }
    let mut list = vec![("main", s.clone()), ("updates", format!("{s}-updates"))];
    if archive.security.is_some() {
        list.push(("security", format!("{s}-security")));
    }
    if request.backports {
        list.push(("backports", format!("{s}-backports")));
    }
    list
}

/// Resolves a request to a lock. `bad` are sources and versions whose files the archive names and does not have.
pub(super) fn resolve(
    store: &Store,
    request: &Request,
    archive: &Archive,
    bad: &[(String, String)],
) -> Result<Lock, StoreError> {
    let message = format!("resolving packages `{}` of {} for {}", request.set, request.suite, request.arch);
    let task =
        store.task(&format!("resolve:{}-{}-{}", request.suite, request.arch, request.set), &message, 0, "");
    let result = Resolver::new(store, request, archive, bad).and_then(|r| r.lock());
    task.end(result)
}

/// The indexes of a suite, fetched by an apt of our own.
pub(super) struct Indexes {
    pub(super) tmp: crate::entry::Temporary,
    pub(super) config: PathBuf,
    /// Pockets that the archive has, and what it calls them.
    pub(super) wanted: Vec<(&'static str, String)>,
}

impl Indexes {
    /// Of packages (`deb`) or of sources (`deb-src`).
    pub(super) fn fetch(
        store: &Store,
        request: &Request,
        archive: &Archive,
        kind: &str,
    ) -> Result<Indexes, StoreError> {
        let tmp = store.temporary("apt")?;
        let config = apt_config(tmp.path(), Some(request.arch.debian()))?;
        let mut wanted = pockets(request, archive);
        let sources = tmp.path().join("sources.list");
        // A pocket that the archive does not have is done without, and said; each is left out once at most.
        loop {
            let options = match (&archive.keyring, archive.trusted) {
                (_, true) => " [trusted=yes]".to_owned(),
                (Some(keyring), false) => format!(" [signed-by={}]", keyring.display()),
                (None, false) => String::new(),
            };
            let list: String = wanted
                .iter()
                .map(|(pocket, suite)| format!("{kind}{options} {} {suite} main\n", archive.base(pocket)))
                .collect();
            std::fs::write(&sources, list).map_err(|e| StoreError::io("write", &sources, e))?;
            let update = Command::new("apt-get").args(["-q", "update"]).env("APT_CONFIG", &config);
            let output = run::output(update)?;
            let text = output.stderr.text();
            if output.ended.ok() && !text.contains("Failed to fetch") {
                break;
            }
            let lacking = judge_update(&text, &wanted, request, tmp.path())?;
            let name = &wanted[lacking].1;
            store.note(format!("the archive has no index for {name}: it is done without"));
            wanted.remove(lacking);
        }
        Ok(Indexes { tmp, config, wanted })
    }
}

/// Reads every index of a kind, with the pocket that it is of.
pub(super) fn read_indexes(
    dir: &Path,
    config: &Path,
    wanted: &[(&'static str, String)],
    of: &str,
    mut each: impl FnMut(&str, &str),
) -> Result<(), StoreError> {
    let targets = Command::new("apt-get")
        .args(["indextargets", "--format", "$(RELEASE)|$(FILENAME)", &format!("Created-By: {of}")])
        .env("APT_CONFIG", config);
    let output = run::output(targets)?;
    for line in output.stdout.text().lines() {
        let Some((release, file)) = line.split_once('|') else { continue };
        let Some((pocket, _)) = wanted.iter().find(|(_, s)| s == release) else { continue };
        let cat = Command::new("/usr/lib/apt/apt-helper")
            .stdout_limit(512 << 20)
            .args(["cat-file", file])
            .env("APT_CONFIG", config);
        let output = run::output(cat)?;
        if !output.ended.ok() {
            let stderr = output.stderr.text();
            return Err(StoreError::tool("apt-helper", &output.ended.to_string(), &stderr, dir));
        }
        each(pocket, &output.stdout.text());
    }
    Ok(())
}

struct Resolver<'a> {
    request: &'a Request,
    tmp: crate::entry::Temporary,
    config: PathBuf,
    stanzas: Vec<Stanza>,
}

impl<'a> Resolver<'a> {
    /// Sets the private apt up and fetches its indexes.
    fn new(
        store: &Store,
        request: &'a Request,
        archive: &Archive,
        bad: &[(String, String)],
    ) -> Result<Resolver<'a>, StoreError> {
        let indexes = Indexes::fetch(store, request, archive, "deb")?;
        let mut me = Resolver { request, tmp: indexes.tmp, config: indexes.config, stanzas: Vec::new() };
        let read = |pocket: &str, text: &str| me.stanzas.extend(index::parse(text, pocket));
        read_indexes(me.tmp.path(), &me.config, &indexes.wanted, "Packages", read)?;
        let prefs = me.preferences(bad)?;
        let path = me.tmp.path().join("preferences");
        std::fs::write(&path, prefs).map_err(|e| StoreError::io("write", &path, e))?;
        Ok(me)
    }

    /// Pins: versions asked for, versions that cannot be had, packages that must not come.
    fn preferences(&self, bad: &[(String, String)]) -> Result<String, StoreError> {
        let mut text = String::new();
        for (source, version) in &self.request.pins {
            let of_source: Vec<&Stanza> = self.stanzas.iter().filter(|s| s.source == *source).collect();
            let version_of = |s: &Stanza| s.source_version.clone().unwrap_or_else(|| s.version.clone());
            if !of_source.iter().any(|s| s.version == *version || version_of(s) == *version) {
                let mut available: Vec<String> =
                    of_source.iter().map(|s| format!("{} ({})", s.version, s.pocket)).collect();
                available.sort();
                available.dedup();
                return Err(StoreError::NoSuchVersion {
                    package: source.clone(),
                    version: version.clone(),
                    suite: self.request.suite.clone(),
                    available: if available.is_empty() { "none at all".into() } else { available.join(", ") },
                });
            }
            for s in of_source.iter().filter(|s| s.version == *version || version_of(s) == *version) {
                let _ =
                    write!(text, "Package: {}\nPin: version {}\nPin-Priority: 1001\n\n", s.name, s.version);
            }
        }
        for (source, version) in bad {
            for s in self.stanzas.iter().filter(|s| s.source == *source) {
                if s.source_version.as_ref().unwrap_or(&s.version) == version {
                    let _ =
                        write!(text, "Package: {}\nPin: version {}\nPin-Priority: -1\n\n", s.name, s.version);
                }
            }
        }
        Ok(text)
    }

    /// Asks apt what it would install, and takes of it what the request wants.
    fn lock(self) -> Result<Lock, StoreError> {
        let mut simulate = Command::new("apt-get")
            .args(["-qq", "--print-uris", "-y", "install"])
            .args(&self.request.include)
            .env("APT_CONFIG", &self.config);
        if self.request.backports {
            simulate = simulate.args(["-t", &format!("{}-backports", self.request.suite)]);
        }
        let output = run::output(simulate)?;
        if !output.ended.ok() {
            let mut said = output.stdout.text();
            said.push_str(&output.stderr.text());
            let lines: Vec<&str> =
                said.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('\'')).collect();
            return Err(StoreError::Unresolvable {
                suite: self.request.suite.clone(),
                arch: self.request.arch.debian().to_owned(),
                detail: lines[lines.len().saturating_sub(6)..].join(" / "),
            });
        }
        let mut known: BTreeMap<(&str, &str, &str), &Stanza> = BTreeMap::new();
        for s in &self.stanzas {
            // The pocket that a version came from first: main before updates before security.
            known.entry((&s.name, &s.version, &s.arch)).or_insert(s);
        }
        let mut chosen = Vec::new();
        for line in output.stdout.text().lines() {
            let Some((name, version, arch)) = parse_uri_line(line) else { continue };
            match known.get(&(name.as_str(), version.as_str(), arch.as_str())) {
                Some(s) => chosen.push((*s).clone()),
                None => {
                    return Err(StoreError::Other(format!(
                        "apt chose {name} {version} {arch}, which no index has"
                    )));
                }
            }
        }
        let mut packages: Vec<Package> = index::reached(self.request, chosen)
            .into_iter()
            .map(|s| Package {
                name: s.name,
                version: s.version,
                arch: s.arch,
                source: s.source,
                source_version: s.source_version,
                pocket: s.pocket,
                file: s.file,
                size: s.size,
                sha256: s.sha256,
            })
            .collect();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        if packages.is_empty() {
            return Err(StoreError::Unresolvable {
                suite: self.request.suite.clone(),
                arch: self.request.arch.debian().to_owned(),
                detail: format!("no package is left of {}", self.request.include.join(", ")),
            });
        }
        let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
        Ok(Lock { format: 1, made, request: self.request.clone(), packages })
    }
}

/// `'URI' NAME_VERSION_ARCH.deb SIZE HASH`: name, version and architecture, `%3a` undone.
fn parse_uri_line(line: &str) -> Option<(String, String, String)> {
    let file = line.strip_prefix('\'')?.split_once("' ")?.1.split(' ').next()?;
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
    Some((
        name.to_owned(),
        version.replace("%3a", ":").replace("%7e", "~").replace("%2b", "+"),
        arch.to_owned(),
    ))
}

/// What a failed `apt-get update` means: which pocket is lacking (its index in `wanted`), or an error.
fn judge_update(
    stderr: &str,
    wanted: &[(&'static str, String)],
    request: &Request,
    near: &Path,
) -> Result<usize, StoreError> {
    let lines = || stderr.lines().filter(|l| l.starts_with("E:") || l.starts_with("W:"));
    let low = stderr.to_ascii_lowercase();
    let pocket_of = |line: &str| {
        // The longest suite that the line names: `trixie` is part of `trixie-security`.
        (0..wanted.len()).filter(|&i| line.contains(&wanted[i].1)).max_by_key(|&i| wanted[i].1.len())
    };
    if let Some(line) = lines().find(|l| l.contains("is expired") || l.contains("is not valid yet")) {
        let pocket = pocket_of(line).map_or_else(|| request.suite.clone(), |i| wanted[i].1.clone());
        let detail = line
            .split_once("is expired")
            .or_else(|| line.split_once("is not valid yet"))
            .map_or(line, |(_, rest)| rest.split(". ").next().unwrap_or(rest).trim())
            .trim_matches(['(', ')'])
            .to_owned();
        return Err(StoreError::ArchiveExpired { pocket, detail });
    }
    if let Some(line) = lines().find(|l| NETWORK.iter().any(|n| l.to_ascii_lowercase().contains(n))) {
        return Err(StoreError::Network { detail: line[2..].trim().to_owned() });
    }
    if low.contains("no space left on device") {
        return Err(StoreError::DiskFull { path: near.to_owned() });
    }
    let unsigned = [
        "no_pubkey",
        "is not signed",
        "signatures couldn't be verified",
        "signatures were invalid",
        "badsig",
        "gpg error",
    ];
    if let Some(line) = lines().find(|l| unsigned.iter().any(|n| l.to_ascii_lowercase().contains(n))) {
        let pocket = pocket_of(line).map_or_else(|| request.suite.clone(), |i| wanted[i].1.clone());
        return Err(StoreError::Untrusted { pocket, detail: line[2..].trim().to_owned() });
    }
    let lacking = |l: &&str| {
        l.contains("does not have a Release file")
            || l.contains("404")
            || l.contains("No such file or directory")
    };
    if let Some(line) = lines().find(lacking) {
        match pocket_of(line) {
            Some(i) if wanted[i].0 != "main" => return Ok(i),
            _ => {
                return Err(StoreError::UnknownSuite {
                    suite: request.suite.clone(),
                    hint: nearest(&request.suite),
                });
            }
        }
    }
    if let Some(line) = lines().find(|l| l.contains("Failed to fetch")) {
        return Err(StoreError::CutOff { detail: line[2..].trim().to_owned() });
    }
    Err(StoreError::tool("apt-get update", "failed", stderr, near))
}

/// `, did you mean …`, from Debian's own table of suites where it is installed.
fn nearest(suite: &str) -> String {
    let table = std::fs::read_to_string("/usr/share/distro-info/debian.csv").unwrap_or_default();
    let mut known: Vec<String> =
        table.lines().skip(1).filter_map(|l| Some(l.split(',').nth(2)?.to_owned())).collect();
    known.extend(["bookworm", "trixie", "forky", "duke", "sid", "bullseye"].map(String::from));
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(k, suite), k)).min();
    match near {
        Some((distance, k)) if distance <= 2 && k != suite => format!(", did you mean `{k}`?"),
        _ => "; expected the code name of a suite it has, such as bookworm or trixie".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_print_uris() {
        let (n, v, a) =
            parse_uri_line("'http://m.invalid/pool/x_1.0_arm64.deb' x_1%3a1.0%2b2_arm64.deb 10 SHA256:00")
                .unwrap();
        assert_eq!((n.as_str(), v.as_str(), a.as_str()), ("x", "1:1.0+2", "arm64"));
        assert!(parse_uri_line("Reading package lists...").is_none());
    }

    #[test]
    fn near_suites() {
        assert_eq!(nearest("trixi"), ", did you mean `trixie`?");
        assert!(nearest("ubuntu-noble").contains("expected"));
    }
}
