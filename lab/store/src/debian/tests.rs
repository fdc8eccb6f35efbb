//! Fetching from a tiny archive that the tests make themselves: over `file:`, and over a server that can misbehave.

use super::archive::Archive;
use super::*;
use crate::{Options, hash_file};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use xenlab_model::cause::Cause;
use xenlab_model::event::{Sink, What};

const SUITE: &str = "tiny";

#[derive(Default)]
struct Seen(Mutex<Vec<What>>);

impl Sink for Seen {
    fn emit(&self, what: What) {
        self.0.lock().unwrap().push(what);
    }
}

impl Seen {
    fn notes(&self) -> String {
        let seen = self.0.lock().unwrap();
        seen.iter()
            .filter_map(|w| if let What::Note { message, .. } = w { Some(message.as_str()) } else { None })
            .collect::<Vec<_>>()
            .join("\n")
    }
}

/// An archive in a folder: pockets of packages, each (name, version, source, depends).
struct Tiny {
    dir: tempfile::TempDir,
    pockets: BTreeMap<String, Vec<(String, String, String, String)>>,
}

impl Tiny {
    fn new() -> Tiny {
        let mut tiny = Tiny { dir: tempfile::tempdir().unwrap(), pockets: BTreeMap::new() };
        for pocket in ["tiny", "tiny-updates", "tiny-security"] {
            tiny.pockets.insert(pocket.into(), Vec::new());
        }
        tiny
    }

    fn with(mut self, pocket: &str, packages: &[(&str, &str, &str, &str)]) -> Tiny {
        let list = packages.iter().map(|p| (p.0.into(), p.1.into(), p.2.into(), p.3.into())).collect();
        self.pockets.insert(pocket.into(), list);
        self.publish("2037-01-01");
        self
    }

    fn pool(&self, name: &str, version: &str) -> std::path::PathBuf {
        self.dir.path().join(format!("pool/main/{name}_{version}_amd64.deb"))
    }

    /// Builds what is not built yet and writes all indexes.
    fn publish(&self, valid_until: &str) {
        for (pocket, packages) in &self.pockets {
            let mut index = String::new();
            for (name, version, source, depends) in packages {
                let deb = self.pool(name, version);
                if !deb.exists() {
                    let tree = self.dir.path().join("build");
                    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
                    fs::create_dir_all(tree.join("usr/share/x")).unwrap();
                    fs::create_dir_all(deb.parent().unwrap()).unwrap();
                    fs::write(tree.join("usr/share/x").join(name), format!("{name} {version}\n")).unwrap();
                    let control = format!(
                        "Package: {name}\nVersion: {version}\nSource: {source}\nArchitecture: amd64\nMaintainer: x <x@x.invalid>\nDepends: {depends}\nDescription: x\n"
                    );
                    fs::write(tree.join("DEBIAN/control"), control.replace("Depends: \n", "")).unwrap();
                    let status = Command::new("dpkg-deb")
                        .args(["-Znone", "--root-owner-group", "-b"])
                        .arg(&tree)
                        .arg(&deb)
                        .output()
                        .unwrap();
                    assert!(status.status.success(), "{status:?}");
                    fs::remove_dir_all(&tree).unwrap();
                }
                index.push_str(&format!(
                    "Package: {name}\nVersion: {version}\nSource: {source}\nArchitecture: amd64\nDepends: {depends}\nFilename: pool/main/{}\nSize: {}\nSHA256: {}\n\n",
                    deb.file_name().unwrap().to_str().unwrap(), fs::metadata(&deb).unwrap().len(), hash_file(&deb).unwrap()).replace("Depends: \n", ""));
            }
            let dist = self.dir.path().join("dists").join(pocket);
            fs::create_dir_all(dist.join("main/binary-amd64")).unwrap();
            fs::write(dist.join("main/binary-amd64/Packages"), &index).unwrap();
            fs::write(dist.join("Release"), format!(
                "Origin: Tiny\nSuite: {pocket}\nCodename: {pocket}\nDate: Thu, 01 Jan 2015 00:00:00 UTC\nValid-Until: {valid_until}\nArchitectures: amd64\nComponents: main\nSHA256:\n {} {} main/binary-amd64/Packages\n",
                hash_bytes_of(&index), index.len()).replace("2037-01-01", "Thu, 01 Jan 2037 00:00:00 UTC").replace("2016-01-01", "Fri, 01 Jan 2016 00:00:00 UTC")).unwrap();
        }
    }

    fn archive(&self) -> Archive {
        at(&format!("file:{}/", self.dir.path().display()))
    }
}

fn hash_bytes_of(text: &str) -> String {
    crate::hash_bytes(text.as_bytes())
}

fn at(base: &str) -> Archive {
    Archive { main: base.to_owned(), security: Some(base.to_owned()), keyring: None, trusted: true }
}

fn open(dir: &Path, offline: bool, locked: bool) -> (Store, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    (Store::open(Options { root: Some(dir.to_owned()), offline, locked, sink: seen.clone() }).unwrap(), seen)
}

fn request() -> Request {
    Request {
        suite: SUITE.into(),
        arch: xenlab_model::Arch::X86_64,
        set: "test".into(),
        include: vec!["app".into()],
        exclude: Vec::new(),
        keep: Keep::All,
        pins: Vec::new(),
        backports: false,
    }
}

fn versions(r: &Resolved) -> Vec<String> {
    r.debs.iter().map(|d| format!("{} {} {}", d.package, d.version, d.pocket)).collect()
}

fn base() -> Tiny {
    Tiny::new().with(
        "tiny",
        &[("app", "1", "app", "lib (>= 1)"), ("lib", "1", "lib", ""), ("other", "1", "other", "")],
    )
}

/// Two servers' worth of misbehaviour on 127.0.0.1.
fn serve(root: &Path, cut: &'static str, lie: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/", listener.local_addr().unwrap());
    let root = root.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let root = root.clone();
            std::thread::spawn(move || answer(stream, &root, cut, lie));
        }
    });
    base
}

fn answer(stream: TcpStream, root: &Path, cut: &str, lie: &str) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?);
    let mut out = stream;
    loop {
        let mut first = String::new();
        lines.read_line(&mut first).ok().filter(|n| *n > 0)?;
        let mut line = first.clone();
        while line.trim() != "" {
            line.clear();
            lines.read_line(&mut line).ok().filter(|n| *n > 0)?;
        }
        let path = first.split(' ').nth(1)?.trim_start_matches('/').to_owned();
        let mut body = Vec::new();
        match fs::File::open(root.join(&path)).and_then(|mut f| f.read_to_end(&mut body)) {
            Err(_) => write!(out, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").ok()?,
            Ok(_) => {
                if !lie.is_empty() && path.contains(lie) {
                    body.iter_mut().for_each(|b| *b ^= 1);
                }
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).ok()?;
                if !cut.is_empty() && path.contains(cut) {
                    out.write_all(&body[..body.len() / 2]).ok()?;
                    return None;
                }
                out.write_all(&body).ok()?;
            }
        }
    }
}

#[test]
fn resolved_fetched_and_then_nothing_is_needed() {
    let (tiny, dir) = (base(), tempfile::tempdir().unwrap());
    let (s, seen) = open(dir.path(), false, false);
    let got = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap();
    assert_eq!(versions(&got), ["app 1 main", "lib 1 main"]);
    assert!(got.moved.is_empty());
    let mut names = Vec::new();
    for deb in &got.debs {
        assert_eq!(hash_file(&deb.path).unwrap(), deb.sha256);
        for_each_file(deb, |e| {
            names.push(e.path().unwrap().display().to_string());
            Ok::<(), StoreError>(())
        })
        .unwrap();
    }
    assert!(names.iter().any(|n| n == "./usr/share/x/lib"), "{names:?}");
    assert!(
        seen.0
            .lock()
            .unwrap()
            .iter()
            .any(|w| matches!(w, What::Progress { unit, total, .. } if unit == "bytes" && *total > 0))
    );
    drop(tiny);
    let (off, _) = open(dir.path(), true, true);
    assert_eq!(versions(&packages(&off, &request(), None).unwrap()), versions(&got));
}

#[test]
fn packages_that_lie_in_a_folder_by_their_hashes() {
    let (tiny, dir) = (base(), tempfile::tempdir().unwrap());
    let (s, _) = open(&dir.path().join("a"), false, false);
    let lock = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap().lock;
    let given = dir.path().join("given");
    fs::create_dir(&given).unwrap();
    for p in &lock.packages {
        fs::copy(tiny.dir.path().join(&p.file), given.join(&p.sha256)).unwrap();
    }
    let (off, _) = open(&dir.path().join("b"), true, true);
    assert!(matches!(packages(&off, &request(), Some(&lock)), Err(StoreError::Offline { .. })));
    fetch::from_folder(&off, &lock, &given).unwrap();
    assert_eq!(versions(&packages(&off, &request(), Some(&lock)).unwrap()), ["app 1 main", "lib 1 main"]);
    // What is not what its name says is taken for nothing.
    fs::write(given.join(&lock.packages[0].sha256), "something else").unwrap();
    let (other, _) = open(&dir.path().join("c"), true, true);
    let e = fetch::from_folder(&other, &lock, &given).unwrap_err();
    assert!(matches!(e, StoreError::WrongHash { .. }) && e.to_string().contains("is named"), "{e}");
    assert!(packages(&other, &request(), Some(&lock)).is_err());
}

#[test]
fn an_archive_that_moved_on() {
    let (tiny, dir) = (base(), tempfile::tempdir().unwrap());
    let (s, _) = open(&dir.path().join("a"), false, false);
    let lock = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap().lock;
    fs::remove_file(tiny.pool("lib", "1")).unwrap();
    let tiny = tiny.with("tiny", &[("app", "1", "app", "lib (>= 1)"), ("lib", "2", "lib", "")]);
    let (locked, _) = open(&dir.path().join("b"), false, true);
    let e = packages_from(&locked, &request(), Some(&lock), Some(&tiny.archive())).unwrap_err();
    assert!(matches!(e, StoreError::Moved { .. }) && e.to_string().contains("lib 1"), "{e}");
    assert_eq!(e.cause(), Cause::ArchiveMoved);
    let (s, seen) = open(&dir.path().join("b"), false, false);
    let got = packages_from(&s, &request(), Some(&lock), Some(&tiny.archive())).unwrap();
    assert_eq!(versions(&got), ["app 1 main", "lib 2 main"]);
    assert_eq!(got.moved, ["lib 1 → 2 (main)"]);
    assert!(seen.notes().contains("lib 1 → 2"));
    // The newer lock is kept, and preferred to the one that was shipped.
    assert_eq!(
        known_lock(&s, &request(), Some(&Lock { made: 1, ..lock })).unwrap().package("lib").unwrap().version,
        "2"
    );
}

#[test]
fn an_index_that_names_files_which_are_not_there() {
    let tiny = base().with("tiny-security", &[("lib", "2", "lib", ""), ("app", "1.1", "app", "lib")]);
    fs::remove_file(tiny.pool("lib", "2")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (s, seen) = open(dir.path(), false, false);
    let got = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap();
    assert_eq!(versions(&got), ["app 1.1 security", "lib 1 main"]);
    assert!(seen.notes().contains("names lib 2 (security), but its file is not there"), "{}", seen.notes());
    // Without anything older there is nothing to fall back to.
    fs::remove_file(tiny.pool("lib", "1")).unwrap();
    let (s, _) = open(&dir.path().join("b"), false, false);
    let e = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap_err();
    assert!(matches!(e, StoreError::Unresolvable { .. }), "{e}");
}

#[test]
fn pockets_that_are_lacking_expired_or_unknown() {
    let (tiny, dir) = (base(), tempfile::tempdir().unwrap());
    fs::remove_dir_all(tiny.dir.path().join("dists/tiny-updates")).unwrap();
    let (s, seen) = open(dir.path(), false, false);
    packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap();
    assert!(seen.notes().contains("no index for tiny-updates"), "{}", seen.notes());
    let unknown = Request { suite: "trixi".into(), ..request() };
    let e = packages_from(&s, &unknown, None, Some(&tiny.archive())).unwrap_err();
    assert!(
        matches!(e, StoreError::UnknownSuite { .. })
            && e.is_bad_input()
            && e.to_string().contains("did you mean `trixie`"),
        "{e}"
    );
    tiny.publish("2016-01-01");
    let (s, _) = open(&dir.path().join("b"), false, false);
    let e = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap_err();
    assert!(matches!(e, StoreError::ArchiveExpired { .. }), "{e}");
    assert_eq!(e.cause(), Cause::ArchiveExpired);
}

#[test]
fn versions_asked_for() {
    let tiny = base().with("tiny-security", &[("lib", "2", "lib", "")]);
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = open(dir.path(), false, false);
    let pinned = |v: &str| Request { pins: vec![("lib".into(), v.into())], ..request() };
    let got = packages_from(&s, &pinned("1"), None, Some(&tiny.archive())).unwrap();
    assert_eq!(versions(&got), ["app 1 main", "lib 1 main"]);
    assert_eq!(
        versions(&packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap())[1],
        "lib 2 security"
    );
    let e = packages_from(&s, &pinned("3"), None, Some(&tiny.archive())).unwrap_err();
    assert!(
        matches!(e, StoreError::NoSuchVersion { .. }) && e.to_string().contains("1 (main), 2 (security)"),
        "{e}"
    );
}

#[test]
fn downloads_that_go_wrong() {
    let (tiny, dir) = (base(), tempfile::tempdir().unwrap());
    let (s, _) = open(&dir.path().join("a"), false, false);
    let lock = packages_from(&s, &request(), None, Some(&tiny.archive())).unwrap().lock;
    let try_with = |name: &str, archive: &Archive| {
        let (s, _) = open(&dir.path().join(name), false, false);
        packages_from(&s, &request(), Some(&lock), Some(archive)).unwrap_err()
    };
    let e = try_with("cut", &at(&serve(tiny.dir.path(), "lib_1", "")));
    assert!(matches!(e, StoreError::CutOff { .. }) && e.cause() == Cause::HostNetwork, "{e}");
    let e = try_with("lie", &at(&serve(tiny.dir.path(), "", "lib_1")));
    assert!(matches!(e, StoreError::WrongHash { .. }), "{e}");
    // A port that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let e = try_with("none", &at(&format!("http://127.0.0.1:{port}/")));
    assert!(matches!(e, StoreError::Network { .. }), "{e}");
    let (off, _) = open(&dir.path().join("off"), true, false);
    let e = packages_from(&off, &request(), Some(&lock), None).unwrap_err();
    assert!(matches!(e, StoreError::Offline { .. }) && e.to_string().contains("app 1, lib 1"), "{e}");
    // What had been fetched whole before the cut is there; the rest comes from a server that behaves.
    let (s, _) = open(&dir.path().join("cut"), false, false);
    let got = packages_from(&s, &request(), Some(&lock), Some(&at(&serve(tiny.dir.path(), "", "")))).unwrap();
    assert_eq!(got.debs.len(), 2);
}

#[test]
fn locks_that_cannot_be_right_are_refused() {
    let lock = |file: &str, sha: &str| {
        let package = serde_json::json!({"name": "x", "version": "1", "arch": "all", "source": "x", "pocket": "main", "file": file, "size": 1, "sha256": sha});
        serde_json::json!({"format": 1, "made": 0, "request": request(), "packages": [package]}).to_string()
    };
    let good = "0".repeat(64);
    assert!(Lock::parse("l", &lock("pool/x.deb", &good)).is_ok());
    for (file, sha) in
        [("/etc/x", good.as_str()), ("pool/../../x", &good), ("pool/x", "00"), ("pool//x", &good)]
    {
        assert!(matches!(Lock::parse("l", &lock(file, sha)), Err(StoreError::BadLock { .. })), "{file}");
    }
    assert!(Lock::parse("l", "{").is_err());
}
