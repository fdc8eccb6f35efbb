//! Tests of templates.

use super::*;
use crate::Options;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Mutex;
use std::time::Duration;
use xenlab_model::event::{Sink, What};

const MEMORY: u64 = 8 << 20;

#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Sink for Notes {
    fn emit(&self, what: What) {
        if let What::Note { message, .. } = what {
            self.0.lock().unwrap().push(message);
        }
    }
}

impl Notes {
    fn have(&self, words: &str) -> bool {
        self.0.lock().unwrap().iter().any(|n| n.contains(words))
    }
}

fn store(root: &Path) -> (Store, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let options = Options { root: Some(root.to_owned()), sink: notes.clone(), ..Options::default() };
    (Store::open(options).unwrap(), notes)
}

fn key(kernel: &str) -> Key {
    Key::new("template").part("xen", "4.17").part("kernel", kernel).part("accel", "tcg")
}

fn building(store: &Store, key: &Key) -> Building {
    match store.begin_template("dom0-boot", key).unwrap() {
        Begun::Build(building) => building,
        Begun::Ready(_) => panic!("it is there"),
    }
}

/// Memory as a guest leaves it: written to here and there, and much of that cleared.
fn guest() -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(MEMORY).unwrap();
    file.write_all(&vec![0; 2 << 20]).unwrap();
    file.seek(std::io::SeekFrom::Start(3 << 20)).unwrap();
    file.write_all(b"what the guest wrote").unwrap();
    file
}

fn make(store: &Store, key: &Key) -> Template {
    let building = building(store, key);
    building.memory(&guest()).unwrap();
    fs::write(building.state(), "registers").unwrap();
    fs::write(building.path().join("console"), "(XEN) hello").unwrap();
    building.publish("a test").unwrap()
}

#[test]
fn what_is_made_is_found_and_is_mostly_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    assert!(store.template(&key("1")).unwrap().is_none());
    let made = make(&store, &key("1"));
    assert_eq!(fs::read(made.file("console")).unwrap(), b"(XEN) hello");
    let found = store.template(&key("1")).unwrap().unwrap();
    assert_eq!(found.state().unwrap(), b"registers");
    assert_eq!((found.name(), found.made_by(), found.key()), ("dom0-boot", "a test", &key("1").id()));
    let names: Vec<&str> = found.parts().iter().map(|p| p.0.as_str()).collect();
    assert_eq!(names, ["xen", "kernel", "accel"], "in the order in which they were given");
    let ram = fs::metadata(found.ram()).unwrap();
    assert_eq!(ram.len(), MEMORY);
    assert!(ram.blocks() * 512 < MEMORY / 2, "{} blocks", ram.blocks());
    assert!(matches!(store.begin_template("dom0-boot", &key("1")).unwrap(), Begun::Ready(_)));
}

#[test]
fn the_hash_of_memory_does_not_depend_on_its_holes() {
    let dir = tempfile::tempdir().unwrap();
    let (sparse, full) = (dir.path().join("sparse"), dir.path().join("full"));
    let mut bytes = vec![0; (3 << 20) + 100];
    bytes[70_000] = 1;
    bytes[2 << 20] = 2;
    let last = bytes.len() - 1;
    bytes[last] = 3;
    fs::write(&full, &bytes).unwrap();
    let mut file = fs::File::create(&sparse).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for at in [70_000, 2 << 20, last] {
        file.seek(std::io::SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&bytes[at..=at]).unwrap();
    }
    let hash = hash_memory(&sparse).unwrap();
    assert_eq!(hash, hash_memory(&full).unwrap());
    // Neither another value, nor another place, nor another length.
    let changes: [fn(&mut Vec<u8>); 3] = [
        |b: &mut Vec<u8>| b[70_000] = 4,
        |b: &mut Vec<u8>| b.swap(2 << 20, (2 << 20) + (64 << 10)),
        |b: &mut Vec<u8>| b.push(0),
    ];
    for change in changes {
        let mut other = bytes.clone();
        change(&mut other);
        fs::write(&full, &other).unwrap();
        assert_ne!(hash, hash_memory(&full).unwrap());
    }
}

#[test]
fn damage_is_noticed_and_put_aside() {
    type Damage = fn(&Template);
    let damages: [(&str, Damage); 5] = [
        ("bytes long", |t| fs::OpenOptions::new().write(true).open(t.ram()).unwrap().set_len(4096).unwrap()),
        ("the time or inode of ram changed", |t| {
            let mut ram = fs::OpenOptions::new().write(true).open(t.ram()).unwrap();
            ram.write_all(b"x").unwrap();
        }),
        ("state is missing", |t| fs::remove_file(t.file(STATE)).unwrap()),
        ("its record is gone", |t| fs::write(t.file(RECORD), "{").unwrap()),
        ("restarted", |t| {
            let text = fs::read_to_string(t.file(RECORD)).unwrap().replace(&host_start(), "another");
            fs::write(t.file(RECORD), text).unwrap();
        }),
    ];
    for (says, damage) in damages {
        let dir = tempfile::tempdir().unwrap();
        let (store, notes) = store(dir.path());
        damage(&make(&store, &key("1")));
        assert!(store.template(&key("1")).unwrap().is_none(), "{says}");
        assert!(notes.have(says), "{says}: {:?}", notes.0.lock().unwrap());
        make(&store, &key("1"));
        assert!(store.template(&key("1")).unwrap().is_some());
    }
}

/// A bit flipped so that no stamp tells it, as a disk does it.
fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
    let before = fs::metadata(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
}

#[test]
fn a_flipped_bit_that_no_stamp_tells_is_found_by_hashing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let template = make(&store, &key("1"));
    assert_eq!(template.verify().unwrap(), Verified::MemoryUnknown);
    template.settle().unwrap();
    assert_eq!(template.verify().unwrap(), Verified::Whole);
    flip(&template.file(STATE), 3);
    assert!(matches!(template.state(), Err(StoreError::Damaged { .. })), "each time it is read");
    flip(&template.file(STATE), 3);
    flip(&template.ram(), 3 << 20);
    let found = store.template(&key("1")).unwrap().expect("trusted by its stamp");
    let error = found.verify().unwrap_err();
    assert!(
        matches!(&error, StoreError::Damaged { reason, .. } if reason.contains("ram has SHA-256")),
        "{error}"
    );
    store.put_template_aside(&found, &error.to_string());
    assert!(store.template(&key("1")).unwrap().is_none());
}

#[test]
fn a_settled_one_outlives_a_restart_and_a_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let template = make(&store, &key("1"));
    template.settle().unwrap();
    template.settle().unwrap();
    let record = template.file(RECORD);
    fs::write(&record, fs::read_to_string(&record).unwrap().replace(&host_start(), "another")).unwrap();
    assert!(store.template(&key("1")).unwrap().is_some());
    // Another inode and time, the same bytes.
    let copy = dir.path().join("copy");
    fs::copy(template.ram(), &copy).unwrap();
    fs::rename(copy, template.ram()).unwrap();
    assert!(store.template(&key("1")).unwrap().is_some());
    assert_eq!(store.template(&key("1")).unwrap().unwrap().verify().unwrap(), Verified::Whole);
}

#[test]
fn what_is_half_made_is_not_there_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let half = building(&store, &key("1"));
    let path = half.path().to_owned();
    half.memory(&guest()).unwrap();
    let error = half.publish("a test").unwrap_err();
    assert!(error.to_string().contains("there is no state"), "{error}");
    assert!(!path.exists() && store.template(&key("1")).unwrap().is_none());
    // A process that died: a folder without anybody who holds its lock.
    let left = dir.path().join("tmp/template-1-0-0");
    fs::create_dir(&left).unwrap();
    fs::write(left.join(RAM), "x").unwrap();
    let _again = self::store(dir.path());
    assert!(!left.exists());
}

#[test]
fn of_two_makers_one_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (one, _) = store(dir.path());
    let (two, notes) = store(dir.path());
    let first = building(&one, &key("1"));
    let (tx, rx) = std::sync::mpsc::channel();
    let waiting = std::thread::spawn(move || {
        tx.send(two.begin_template("dom0-boot", &key("1")).unwrap()).unwrap();
    });
    while !notes.have("is making template dom0-boot; waiting for it") {
        assert!(rx.try_recv().is_err(), "it did not wait");
        std::thread::yield_now();
    }
    first.memory(&guest()).unwrap();
    fs::write(first.state(), "registers").unwrap();
    first.publish("the first").unwrap();
    match rx.recv_timeout(Duration::from_secs(20)).unwrap() {
        Begun::Ready(template) => assert_eq!(template.made_by(), "the first"),
        Begun::Build(_) => panic!("made twice"),
    }
    waiting.join().unwrap();
}

#[test]
fn one_that_is_given_up_is_the_next_ones_to_make() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    drop(building(&store, &key("1")));
    make(&store, &key("1"));
}

#[test]
fn no_room_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let half = building(&store, &key("1"));
    // More than any disk has.
    let error = half.room(1 << 60).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    assert_eq!(error.cause().code(), "host.disk-full");
}

#[test]
fn why_one_was_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    assert_eq!(store.why_rebuilt("dom0-boot", &key("1")).unwrap(), None);
    let first = make(&store, &key("1"));
    let now = key("2").part("tsc", "2.1 GHz");
    let why = store.why_rebuilt("dom0-boot", &now).unwrap().unwrap();
    let shown: Vec<_> =
        why.differences.iter().map(|d| (d.name.as_str(), d.was.as_deref(), d.is.as_deref())).collect();
    assert_eq!(shown, [("kernel", Some("1"), Some("2")), ("tsc", None, Some("2.1 GHz"))]);
    assert_eq!(why.other, *first.key());
    assert_eq!(why.to_string(), "kernel was `1`, is `2`; tsc was not there, is `2.1 GHz`");
    assert_eq!(store.why_rebuilt("another", &now).unwrap(), None);
    assert_eq!(store.why_rebuilt("dom0-boot", &key("1")).unwrap(), None, "it is that one");
}

#[test]
fn what_somebody_uses_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = store(dir.path());
    let used = make(&store, &key("1"));
    drop(make(&store, &key("2")));
    let in_use = |key: &Key| store.templates().unwrap().iter().find(|t| t.key == key.id()).map(|t| t.in_use);
    assert_eq!((in_use(&key("1")), in_use(&key("2"))), (Some(true), Some(false)));
    assert!(store.gc_templates(Some(Duration::from_secs(3600)), None).unwrap().removed.is_empty());
    let done = store.gc_templates(Some(Duration::ZERO), None).unwrap();
    assert_eq!((done.removed.len(), in_use(&key("1")), in_use(&key("2"))), (1, Some(true), None));
    assert!(done.freed > 0);
    drop(used);
    assert_eq!(store.gc_templates(None, Some(0)).unwrap().left, 0);
    assert!(store.templates().unwrap().is_empty());
}
