//! Tests of entries.

use super::*;
use crate::Options;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xenlab_model::event::{Sink, What};

/// Keeps what was noted.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Sink for Notes {
    fn emit(&self, what: What) {
        if let What::Note { message, .. } = what {
            self.0.lock().unwrap().push(message);
        }
    }
}

fn store(root: &Path) -> (Store, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    let options = Options { root: Some(root.to_owned()), sink: notes.clone(), ..Options::default() };
    (Store::open(options).unwrap(), notes)
}

fn hello(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir(dir.join("sub")).unwrap();
    fs::write(dir.join("sub/file"), "hello").unwrap();
    std::os::unix::fs::symlink("sub/file", dir.join("link")).unwrap();
    Ok(())
}

#[test]
fn made_once_found_again_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = store(dir.path());
    let key = Key::new("test").part("a", 1);
    assert!(s.get(&key).unwrap().is_none());
    let e = s.get_or_make(&key, "it", hello).unwrap();
    assert_eq!(fs::read(e.file("link")).unwrap(), b"hello");
    assert_eq!(fs::metadata(e.file("sub/file")).unwrap().permissions().mode() & 0o222, 0);
    let again = s.get_or_make(&key, "it", |_| -> Result<(), StoreError> { panic!("made twice") }).unwrap();
    assert_eq!((again.dir, again.digest), (e.dir.clone(), e.digest.clone()));
    e.verify().unwrap();
    // Another key with the same content shares it.
    let other = s.get_or_make(&Key::new("test").part("a", 2), "other", hello).unwrap();
    assert_eq!(other.dir, e.dir);
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = store(dir.path());
    let key = Key::new("test");
    let r = s.get_or_make(&key, "it", |d| {
        hello(d)?;
        Err(StoreError::io("write", d, std::io::Error::from_raw_os_error(28)))
    });
    assert!(matches!(r, Err(StoreError::DiskFull { .. })));
    assert!(s.get(&key).unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(dir.path().join("content")).unwrap().count(), 0);
}

#[test]
fn damage_is_noticed_said_and_made_good() {
    let dir = tempfile::tempdir().unwrap();
    let (s, notes) = store(dir.path());
    let key = Key::new("test");
    let e = s.get_or_make(&key, "it", hello).unwrap();
    let file = e.file("sub/file");
    let stamp = fs::metadata(&file).unwrap().modified().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "HELLO").unwrap();
    let err = e.verify().unwrap_err();
    assert!(matches!(err, StoreError::Damaged { .. }) && err.to_string().contains("sub/file"), "{err}");
    assert_eq!(err.cause(), xenlab_model::cause::Cause::InputChanged);
    let e = s.get_or_make(&key, "it", hello).unwrap();
    assert_eq!(fs::read(e.file("sub/file")).unwrap(), b"hello");
    assert!(notes.0.lock().unwrap().iter().any(|n| n.contains("it was damaged") && n.contains("made again")));
    // The same size and time written over it: the fast path cannot see it, verify does.
    let file = e.file("sub/file");
    let stamp_now = fs::metadata(&file).unwrap().modified().unwrap();
    assert_ne!(stamp, stamp_now);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, "HELLO").unwrap();
    fs::File::open(&file).unwrap().set_modified(stamp_now).unwrap();
    assert!(s.get(&key).unwrap().is_some());
    assert!(e.verify().is_err());
    // A missing file, a missing list.
    fs::remove_file(&file).unwrap();
    assert!(s.get(&key).unwrap().is_none());
    let e = s.get_or_make(&key, "it", hello).unwrap();
    fs::write(manifest_path(&e.dir), "{").unwrap();
    assert!(s.get(&key).unwrap().is_none());
}

#[test]
fn touched_but_equal_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (s, notes) = store(dir.path());
    let key = Key::new("test");
    let e = s.get_or_make(&key, "it", hello).unwrap();
    fs::File::open(e.file("sub/file")).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    assert!(s.get(&key).unwrap().is_some());
    assert!(notes.0.lock().unwrap().is_empty());
}

#[test]
fn two_makers_one_waits_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let made = Mutex::new(0);
    let slow = |d: &Path| {
        *made.lock().unwrap() += 1;
        std::thread::sleep(Duration::from_millis(200));
        hello(d)
    };
    // Two stores of one process stand for two processes: flock belongs to the open file.
    let ((a, na), (b, nb)) = (store(dir.path()), store(dir.path()));
    let key = Key::new("test");
    std::thread::scope(|t| {
        let one = t.spawn(|| a.get_or_make(&key, "it", slow).unwrap());
        let two = t.spawn(|| b.get_or_make(&key, "it", slow).unwrap());
        assert_eq!(one.join().unwrap().dir, two.join().unwrap().dir);
    });
    assert_eq!(*made.lock().unwrap(), 1);
    let notes = [na.0.lock().unwrap().clone(), nb.0.lock().unwrap().clone()].concat();
    assert!(notes.iter().any(|n| n.contains("is making it; waiting")), "{notes:?}");
}

#[test]
fn leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = store(dir.path());
    let mine = s.temporary("mine").unwrap();
    let dead = dir.path().join("tmp/dead-0");
    fs::create_dir_all(dead.join("x")).unwrap();
    fs::write(dir.path().join("tmp/dead-0.lock"), "1").unwrap();
    let (_other, _) = store(dir.path());
    assert!(mine.path().exists());
    assert!(!dead.exists() && !dir.path().join("tmp/dead-0.lock").exists());
}

#[test]
fn listing_and_collecting() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = store(dir.path());
    let base = s.get_or_make(&Key::new("base"), "base", hello).unwrap();
    let top_key = Key::new("top").entry("base", &base);
    s.get_or_make(&top_key, "top", |d| {
        fs::write(d.join("x"), "0123456789").map_err(|e| StoreError::io("write", d, e))
    })
    .unwrap();
    let list = s.ls().unwrap();
    let get = |label: &str| list.iter().find(|l| l.label == label).unwrap();
    assert_eq!((get("base").size, get("base").used_by.clone()), (5, vec!["top".to_owned()]));
    assert_eq!((get("top").size, get("top").uses.clone()), (10, vec!["base".to_owned()]));
    assert!(s.gc(Some(Duration::from_secs(60)), None).unwrap().removed.is_empty());
    let base_record = dir.path().join(format!("keys/{}.json", base.key));
    fs::File::open(&base_record)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(1000))
        .unwrap();
    let done = s.gc(Some(Duration::from_secs(60)), None).unwrap();
    assert_eq!((done.removed, done.freed, done.left), (vec!["base".to_owned()], 5, 10));
    assert!(s.gc(None, Some(0)).unwrap().left == 0 && s.ls().unwrap().is_empty());
    assert_eq!(fs::read_dir(dir.path().join("content")).unwrap().count(), 0);
}

#[test]
fn digests_of_outside_files_follow_their_stamps() {
    let dir = tempfile::tempdir().unwrap();
    let (s, _) = store(&dir.path().join("store"));
    let file = dir.path().join("f");
    fs::write(&file, "one").unwrap();
    let past = SystemTime::now() - Duration::from_secs(10);
    fs::File::open(&file).unwrap().set_modified(past).unwrap();
    let began = Instant::now();
    let one = s.digest_file(&file).unwrap();
    assert_eq!(one, hash_bytes(b"one"));
    assert_eq!(s.digest_file(&file).unwrap(), one, "{:?}", began.elapsed());
    fs::write(&file, "two").unwrap();
    assert_eq!(s.digest_file(&file).unwrap(), hash_bytes(b"two"));
}
