//! Source packages: found by their own index, fetched and locked as packages are.

use super::archive::{self, Archive};
use super::lockfile::{Lock, Package};
use super::resolve::{Indexes, read_indexes};
use super::{Deb, Keep, Request, fetch, finished, known_lock, lock_path, shortened};
use crate::{Store, StoreError, run};
use std::time::SystemTime;
use xenlab_host::child::Command;
use xenlab_model::Arch;

/// A source package's files in the store.
#[derive(Debug, Clone)]
pub struct Source {
    /// The package.
    pub package: String,
    /// Its version.
    pub version: String,
    /// `main`, `security` or `updates`.
    pub pocket: String,
    /// Its files, each with its name in the archive at the end of its path.
    pub files: Vec<Deb>,
}

/// A version of a source package, by the index.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    version: String,
    pocket: String,
    /// Path in the pool, size and SHA-256 of each file.
    files: Vec<(String, u64, String)>,
}

/// The source package of a suite: that version, or the newest whose files are there.
///
/// # Errors
/// As [`super::packages`]; `NoSuchVersion` lists what the archive has.
pub fn source(
    store: &Store,
    suite: &str,
    package: &str,
    version: Option<&str>,
) -> Result<Source, StoreError> {
    let request = Request {
        suite: suite.to_owned(),
        // The same for every architecture.
        arch: Arch::X86_64,
        set: format!("{package}-source"),
        include: vec![package.to_owned()],
        exclude: Vec::new(),
        keep: Keep::All,
        pins: version.map(|v| (package.to_owned(), v.to_owned())).into_iter().collect(),
        backports: false,
    };
    let known = known_lock(store, &request, None);
    if let Some(lock) = &known
        && let Some(files) = fetch::all_present(store, lock)?
    {
        return Ok(of(package, lock, files));
    }
    if store.offline() {
        let what = format!("the source package {package} of {suite}");
        return Err(StoreError::Offline { what });
    }
    let archive = archive::find(store, suite)?;
    if let Some(lock) = &known {
        let lost = fetch::fetch(store, lock, &archive)?;
        if lost.is_empty() {
            let found = finished(store, lock.clone(), Vec::new())?;
            return Ok(of(package, lock, found.debs));
        }
        let what: Vec<String> = lost.iter().map(|p| p.name.clone()).collect();
        if store.locked() {
            return Err(StoreError::Moved { lock: lock.name(), what: what.join(", ") });
        }
        store.note(format!("the archive no longer has {}: looking for a newer {package}", shortened(&what)));
    } else if store.locked() {
        let lock = format!("{suite}-{package}-source");
        return Err(StoreError::Moved { lock, what: "there is no lock for this source package".into() });
    }
    let task = store.task(
        &format!("resolve:{suite}-{package}-source"),
        &format!("looking for the source package {package} of {suite}"),
        0,
        "",
    );
    let offers = task.end(offers(store, &request, &archive, package))?;
    let mut left = chosen(offers, suite, package, version)?;
    while let Some(offer) = left.pop() {
        let lock = lock_of(&request, package, &offer);
        let lost = fetch::fetch(store, &lock, &archive)?;
        if lost.is_empty() {
            store.write_json(&lock_path(store, &request), &lock)?;
            let found = finished(store, lock, Vec::new())?;
            return Ok(of(package, &found.lock, found.debs));
        }
        let next = if left.is_empty() { "and there is no older one" } else { "taking an older version" };
        store.note(format!(
            "the archive's index names {package} {} ({}), but its files are not there: {next}",
            offer.version, offer.pocket
        ));
    }
    Err(StoreError::Unresolvable {
        suite: suite.to_owned(),
        arch: "source".into(),
        detail: format!("the archive has the files of no version of {package}"),
    })
}

fn of(package: &str, lock: &Lock, files: Vec<Deb>) -> Source {
    let first = lock.packages.first();
    let text = |field: fn(&Package) -> &String| first.map(field).cloned().unwrap_or_default();
    Source { package: package.to_owned(), version: text(|p| &p.version), pocket: text(|p| &p.pocket), files }
}

fn lock_of(request: &Request, package: &str, offer: &Offer) -> Lock {
    let made = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let packages = offer.files.iter().map(|(file, size, sha256)| Package {
        name: file.rsplit('/').next().unwrap_or(file).to_owned(),
        version: offer.version.clone(),
        arch: "source".into(),
        source: package.to_owned(),
        source_version: None,
        pocket: offer.pocket.clone(),
        file: file.clone(),
        size: *size,
        sha256: sha256.clone(),
    });
    Lock { format: 1, made, request: request.clone(), packages: packages.collect() }
}

/// Every version that the indexes of a suite name.
fn offers(
    store: &Store,
    request: &Request,
    archive: &Archive,
    package: &str,
) -> Result<Vec<Offer>, StoreError> {
    let indexes = Indexes::fetch(store, request, archive, "deb-src")?;
    let mut found = Vec::new();
    read_indexes(indexes.tmp.path(), &indexes.config, &indexes.wanted, "Sources", |pocket, text| {
        found.extend(text.split("\n\n").filter_map(|s| stanza(s, package, pocket)));
    })?;
    Ok(found)
}

/// A stanza of a `Sources` file, if it is this package's.
fn stanza(text: &str, package: &str, pocket: &str) -> Option<Offer> {
    let field =
        |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    if field("Package") != Some(package) {
        return None;
    }
    let directory = field("Directory")?;
    let sums = text.split("\nChecksums-Sha256:").nth(1)?;
    let files = sums
        .lines()
        .skip(1)
        .take_while(|l| l.starts_with(' '))
        .map(|l| {
            let mut words = l.split_whitespace();
            let (sha256, size, name) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
            let plain = !name.contains('/') && sha256.len() == 64;
            plain.then(|| (format!("{directory}/{name}"), size, sha256.to_owned()))
        })
        .collect::<Option<Vec<_>>>()?;
    (!files.is_empty()).then(|| Offer {
        version: field("Version").unwrap_or_default().to_owned(),
        pocket: pocket.to_owned(),
        files,
    })
}

/// What may be taken, the newest last.
fn chosen(
    mut offers: Vec<Offer>,
    suite: &str,
    package: &str,
    version: Option<&str>,
) -> Result<Vec<Offer>, StoreError> {
    let all: Vec<String> = offers.iter().map(|o| format!("{} ({})", o.version, o.pocket)).collect();
    if let Some(version) = version {
        offers.retain(|o| o.version == version);
    }
    if offers.is_empty() {
        return Err(StoreError::NoSuchVersion {
            package: package.to_owned(),
            version: version.unwrap_or("source package").to_owned(),
            suite: suite.to_owned(),
            available: if all.is_empty() { "none at all".into() } else { all.join(", ") },
        });
    }
    // A few: insertion, with dpkg's own word on which is newer.
    let mut sorted: Vec<Offer> = Vec::new();
    for offer in offers {
        let mut at = sorted.len();
        while at > 0 && newer(&sorted[at - 1].version, &offer.version)? {
            at -= 1;
        }
        sorted.insert(at, offer);
    }
    Ok(sorted)
}

fn newer(a: &str, b: &str) -> Result<bool, StoreError> {
    Ok(run::output(Command::new("dpkg").args(["--compare-versions", a, "gt", b]))?.ended.ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(version: &str) -> String {
        let sum = "a".repeat(64);
        format!(
            "Package: xen\nBinary: libxen-dev,\n xen-utils\nVersion: {version}\nDirectory: pool/main/x/xen\nChecksums-Sha256:\n \
             {sum} 12 xen_{version}.dsc\n {sum} 34 xen_{version}.orig.tar.xz\nHomepage: x\n"
        )
    }

    #[test]
    fn an_index_of_sources() {
        let o = stanza(&text("4.17.5-1"), "xen", "main").unwrap();
        assert_eq!((o.version.as_str(), o.pocket.as_str(), o.files.len()), ("4.17.5-1", "main", 2));
        assert_eq!(o.files[1].0, "pool/main/x/xen/xen_4.17.5-1.orig.tar.xz");
        assert_eq!(stanza(&text("1").replace("Package: xen", "Package: xen-tools"), "xen", "main"), None);
        assert_eq!(stanza(&text("1").replace("xen_1.dsc", "../x"), "xen", "main"), None);
    }

    #[test]
    fn the_newest_is_taken_first_or_the_one_asked_for() {
        let offers: Vec<Offer> = ["4.17.10-1", "4.17.9-1", "4.17.9-1~deb1"]
            .iter()
            .filter_map(|v| stanza(&text(v), "xen", "main"))
            .collect();
        let order: Vec<String> =
            chosen(offers.clone(), "s", "xen", None).unwrap().into_iter().map(|o| o.version).collect();
        assert_eq!(order, ["4.17.9-1~deb1", "4.17.9-1", "4.17.10-1"]);
        assert_eq!(chosen(offers.clone(), "s", "xen", Some("4.17.9-1")).unwrap().len(), 1);
        let e = chosen(offers, "s", "xen", Some("5")).unwrap_err();
        assert!(e.is_bad_input() && e.to_string().contains("4.17.10-1 (main)"), "{e}");
    }
}
