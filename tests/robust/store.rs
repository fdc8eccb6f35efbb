//! The store: two at once, full disks, damage, archives that misbehave.

use crate::bench::{Bench, boots, entries, fake, user_store};
use serde_json::json;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Kinds of entries that are made of packages, none of which is a package.
const MADE: &[&str] = &["userland", "kernel", "tools", "xen-image", "xen-debian", "xen-facts"];

const READY: &str = "  - phase: dom0-ready\n";

#[test]
fn two_labs_on_one_store_that_lacks_everything() {
    let bench = Bench::with_store();
    let store = bench.store.clone().expect("a store of its own");
    for kind in MADE {
        for (record, _) in entries(&store, kind) {
            fs::remove_file(record).expect("a record can be removed");
        }
    }
    let qemu = bench.qemu("qemu", boots().into());
    let file = bench.file("two.yaml", &fake(READY));
    let children: Vec<_> = (0..2)
        .map(|n| {
            let report = bench.path(&format!("report{n}")).display().to_string();
            let mut command =
                bench.command(["run", &file, "--qemu", &qemu, "--offline", "--report", &report]);
            let log = File::create(bench.path(&format!("log{n}"))).expect("a log");
            command.stdout(log.try_clone().expect("a log")).stderr(log).spawn().expect("xenlab starts")
        })
        .collect();
    let mut said = String::new();
    for (n, mut child) in children.into_iter().enumerate() {
        let status = child.wait().expect("a child of ours");
        let log = fs::read_to_string(bench.path(&format!("log{n}"))).unwrap_or_default();
        assert_eq!(status.code(), Some(0), "{log}");
        said.push_str(&log);
    }
    assert!(said.contains("another xenlab") && said.contains("waiting for it"), "{said}");
    bench.clean();
}

/// Runs a shell script in a mount namespace of its own; None where this host allows none.
pub fn with_mounts(bench: &Bench, script: &str) -> Option<(i32, String)> {
    let mut words = vec!["--mount"];
    if !rustix::process::geteuid().is_root() {
        words.extend(["--user", "--map-root-user"]);
    }
    let allowed = Command::new("unshare").args(&words).arg("true").status().is_ok_and(|s| s.success());
    if !allowed {
        eprintln!("this host allows no mount namespaces: left out");
        return None;
    }
    let mut command = Command::new("unshare");
    let lab = bench.command([""; 0]);
    for (key, value) in lab.get_envs() {
        if let Some(value) = value {
            command.env(key, value);
        }
    }
    let output = command
        .args(&words)
        .args(["sh", "-c", script])
        .env("LAB", lab.get_program())
        .current_dir(xenlab_tests::root())
        .output()
        .expect("unshare starts");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.code().unwrap_or(-1), text))
}

/// A list of the files of the user's store that are packages, and of hardly more.
pub fn packages(bench: &Bench) -> String {
    let from = user_store();
    let mut list = String::new();
    for (record, entry) in entries(from, "deb") {
        let digest = entry["digest"].as_str().expect("a digest");
        list.push_str(&format!("{}\n", record.strip_prefix(from).expect("below the store").display()));
        list.push_str(&format!("content/{digest}\ncontent/{digest}.json\n"));
    }
    bench.file("list", &list)
}

#[test]
fn a_full_disk_below_the_store_and_room_again() {
    let bench = Bench::new();
    let (from, list) = (user_store(), packages(&bench));
    fs::create_dir(bench.path("full")).expect("a folder");
    let qemu = bench.qemu("qemu", boots().into());
    let file = bench.file("s.yaml", &fake(READY));
    let (full, from) = (bench.path("full").display().to_string(), from.display().to_string());
    let script = format!(
        "mount -t tmpfs -o size=2g none {full} && mkdir {full}/store && cd {from} && tar c -T {list} format | tar x -C {full}/store && cd / && \
         used=$(du -sm {full} | cut -f1) && mount -o remount,size=$((used + 12))m {full} || exit 99
         $LAB run {file} --qemu {qemu} --store {full}/store --offline --report {full}/../r1; echo first=$?
         ls {full}/store/tmp; mount -o remount,size=2g {full}
         $LAB run {file} --qemu {qemu} --store {full}/store --offline; echo second=$?"
    );
    let Some((_, said)) = with_mounts(&bench, &script) else { return };
    assert!(said.contains("first=3"), "{said}");
    assert!(
        said.contains("host.disk-full") && said.contains("no space is left on the device that holds"),
        "{said}"
    );
    assert!(said.contains("second=0"), "{said}");
    assert!(!said.contains("damaged"), "{said}");
}

#[test]
fn a_full_disk_below_the_report() {
    let bench = Bench::new();
    let mut then = boots();
    then.insert(2, json!({"flood-of": {"text": "[    1.000000] nothing of note\r\n", "bytes": 3 << 20}}));
    let qemu = bench.qemu("qemu", then.into());
    let file = bench.file("s.yaml", &fake(READY));
    fs::create_dir(bench.path("full")).expect("a folder");
    let full = bench.path("full").display().to_string();
    let script = format!(
        "mount -t tmpfs -o size=1m none {full} && $LAB run {file} --qemu {qemu} --report {full}/report; echo code=$?"
    );
    let Some((_, said)) = with_mounts(&bench, &script) else { return };
    assert!(said.contains("code=3") && said.contains("host.disk-full"), "{said}");
}

/// The images of the userland that the fake scenario uses, no longer shared with any other store: one for each recipe and lock
/// that this store has seen, of which the scenario uses one.
fn own_userlands(store: &Path) -> Vec<PathBuf> {
    let found = entries(store, "userland").into_iter().filter(|(_, record)| {
        let label = record["label"].as_str().unwrap_or_default();
        label.contains("minimal") && label.contains("bookworm") && label.contains("x86_64")
    });
    let own = found.map(|(_, record)| {
        let dir = store.join("content").join(record["digest"].as_str().expect("a digest"));
        let files = crate::bench::below(&dir).into_iter();
        let image = files.max_by_key(|p| fs::metadata(p).map_or(0, |m| m.len())).expect("an image");
        let copy = image.with_extension("copy");
        fs::copy(&image, &copy).expect("copied");
        fs::rename(&copy, &image).expect("renamed");
        image
    });
    let own: Vec<_> = own.collect();
    assert!(!own.is_empty(), "the userland minimal of bookworm for x86_64");
    own
}

/// Flips a byte in the middle of a read-only file; its time stays when asked for.
fn flip(path: &Path, keep_time: bool) {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::metadata(path).expect("it is there");
    let time = meta.modified().expect("a time");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).expect("permissions");
    let mut file = File::options().read(true).write(true).open(path).expect("it opens");
    let mut byte = [0];
    file.seek(SeekFrom::Start(meta.len() / 2)).expect("sought");
    file.read_exact(&mut byte).expect("read");
    file.seek(SeekFrom::Start(meta.len() / 2)).expect("sought");
    file.write_all(&[byte[0] ^ 0x40]).expect("written");
    if keep_time {
        file.set_modified(time).expect("a time");
    }
    fs::set_permissions(path, meta.permissions()).expect("permissions");
}

#[test]
fn a_damaged_entry_is_noticed_by_its_stamp_and_made_again() {
    let bench = Bench::with_store();
    let images = own_userlands(&bench.store.clone().expect("a store of its own"));
    let qemu = bench.qemu("qemu", boots().into());
    images.iter().for_each(|image| flip(image, false));
    let did = bench.run(&fake(READY), &["--qemu", &qemu, "--offline"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stderr.contains("was damaged") && did.stderr.contains("made again"), "{}", did.stderr);
    let did = bench.run(&fake(READY), &["--qemu", &qemu, "--offline"]);
    assert!(did.code == Some(0) && !did.stderr.contains("damaged"), "{}", did.stderr);
}

#[test]
fn an_entry_damaged_behind_its_stamp_is_never_blamed_on_dom0_and_made_again() {
    let bench = Bench::with_store();
    let images = own_userlands(&bench.store.clone().expect("a store of its own"));
    let good = bench.qemu("good", boots().into());
    // The copy's own stamp becomes the known one.
    let did = bench.run(&fake(READY), &["--qemu", &good, "--offline"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    images.iter().for_each(|image| flip(image, true));
    let mut fails = boots();
    fails.truncate(3);
    fails.push(json!({"say": "failed no-root"}));
    let bad = bench.qemu("bad", fails.into());
    let did = bench.run(&fake(READY), &["--qemu", &bad, "--offline", "--no-control"]);
    assert_eq!(did.code, Some(3), "{}", did.stderr);
    let verdict = bench.verdict("fake");
    assert_eq!(verdict["cause"], "lab.input-changed", "{verdict}");
    // Known to be damaged, it is not used again.
    let did = bench.run(&fake(READY), &["--qemu", &good, "--offline"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let sound = bench.run(&fake(READY), &["--qemu", &bad, "--offline", "--no-control"]);
    assert_eq!(sound.code, Some(1), "with whole inputs the same machine is dom0's failure: {}", sound.stderr);
}

/// A web server that gives every request to `answer`.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    let url = format!("http://{}/debian", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            let _ = stream.set_read_timeout(Some(Duration::from_secs(5)));
            while !request.windows(4).any(|w| w == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(n @ 1..) => request.extend_from_slice(&buffer[..n]),
                    _ => break,
                }
            }
            let text = String::from_utf8_lossy(&request).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = stream.write_all(&answer(&path));
        }
    });
    url
}

/// A run on an empty store with packages from this archive; what it says.
fn fetched_from(archive: &str) -> (Option<i32>, String) {
    let bench = Bench::new();
    let store = bench.path("store").display().to_string();
    let mut command = bench.run_command(&fake(READY), &["--store", &store]);
    command
        .env("XENLAB_DEBIAN_ARCHIVE", archive)
        .env("no_proxy", "*")
        .env("NO_PROXY", "*")
        .env_remove("http_proxy");
    let did = xenlab_tests::finish(command);
    assert_eq!(crate::bench::below(&bench.path("store/tmp")), Vec::<PathBuf>::new());
    bench.clean();
    (did.code, did.stderr)
}

const NOT_FOUND: &[u8] = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[test]
fn an_archive_that_has_nothing() {
    let (code, said) = fetched_from(&serve(|_| NOT_FOUND.to_vec()));
    assert_eq!(code, Some(3), "{said}");
    // The lock's files are gone, and no index says what came in their place.
    assert!(said.contains("the archive no longer has") && said.contains("resolving again"), "{said}");
    assert!(said.contains("suite `bookworm`") || said.contains("404"), "{said}");
}

#[test]
fn downloads_that_break_off() {
    let (code, said) = fetched_from(&serve(|_| {
        b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\nConnection: close\r\n\r\nonly so much".to_vec()
    }));
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("host.network") || said.contains("network") || said.contains("broke off"),
        "{said}"
    );
}

#[test]
fn an_archive_that_nobody_is_at() {
    let (code, said) = fetched_from("http://127.0.0.1:9/debian");
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("127.0.0.1") || said.contains("network"), "{said}");
}
