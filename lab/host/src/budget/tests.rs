use super::folder::Folder;
use super::queue::{Limits, STALE, Seen, Turn, YOUNG, turn};
use super::*;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

const GIB: u64 = 1 << 30;
const ONE: Need = Need { cores: 1, memory: GIB };
const OWN: u32 = 7;

fn limits(cores: u64) -> Limits {
    Limits { cores, memory: None, available: None }
}

/// A ticket of this user.
fn seen(lab: &str, arrived: u64, running: bool) -> Seen {
    Seen {
        name: format!("{lab}{arrived}"),
        own: true,
        user: OWN,
        lab: lab.to_owned(),
        running,
        cores: 1,
        memory: GIB,
        arrived,
        touched: Duration::ZERO,
    }
}

fn now(all: &[Seen], me: &Seen, limits: &Limits) -> bool {
    turn(all, me, limits, false) == Turn::Now
}

fn waits(all: &[Seen], me: &Seen, limits: &Limits) -> Waiting {
    match turn(all, me, limits, false) {
        Turn::Wait(waiting) => waiting,
        Turn::Now => panic!("{} is let in", me.name),
    }
}

#[test]
fn a_machine_is_let_in_when_cores_and_memory_are_there() {
    let all = [seen("a", 1, true), seen("a", 2, false)];
    assert!(now(&all, &all[1], &limits(2)));
    let waiting = waits(&all, &all[1], &limits(1));
    assert_eq!((waiting.running, waiting.elsewhere, waiting.before), (1, 0, 0));
    assert!(waiting.to_string().contains("waits for 1 other machine on this host (1 of 1 cores taken"));
    let memory = |memory| Limits { cores: 9, memory: Some(memory), available: None };
    assert!(now(&all, &all[1], &memory(2 * GIB)));
    assert!(!now(&all, &all[1], &memory(2 * GIB - 1)));
}

#[test]
fn memory_that_others_have_is_not_there_and_what_comes_is_reckoned() {
    let free = |available| Limits { cores: 9, memory: Some(64 * GIB), available: Some(available) };
    let mut all = [seen("a", 1, true), seen("a", 2, false)];
    assert!(!now(&all, &all[1], &free(GIB)), "the one that just began has not taken its own yet");
    assert!(waits(&all, &all[1], &free(GIB)).to_string().contains("0.0 GiB free of the 1.0"));
    assert!(now(&all, &all[1], &free(2 * GIB)));
    all[0].touched = YOUNG;
    assert!(now(&all, &all[1], &free(GIB)), "what it has is no longer free");
    assert!(!now(&all, &all[1], &free(GIB - 1)));
}

#[test]
fn what_is_larger_than_everything_runs_alone() {
    let mut large = seen("a", 1, false);
    large.cores = 99;
    large.memory = 99 * GIB;
    let has = Limits { cores: 2, memory: Some(GIB), available: Some(0) };
    assert!(now(std::slice::from_ref(&large), &large, &has));
    let other = seen("b", 2, true);
    assert!(!now(&[large.clone(), other], &large, &has));
    // And nobody else is let in beside it, nor while it waits for that.
    let small = seen("b", 3, false);
    let mut runs = large.clone();
    runs.running = true;
    assert!(!now(&[runs, small.clone()], &small, &has));
    let all = [seen("c", 0, true), large, small.clone()];
    let waiting = waits(&all, &small, &limits(3));
    assert_eq!((waiting.before, waiting.elsewhere), (1, 1));
}

#[test]
fn who_came_first_is_first_and_both_are_let_in_where_both_fit() {
    let (a, b) = (seen("a", 1, false), seen("b", 2, false));
    let all = [b.clone(), a.clone()];
    assert!(now(&all, &a, &limits(1)) && !now(&all, &b, &limits(1)));
    assert!(now(&all, &b, &limits(2)));
}

/// Two labs, one with forty cases that came first: the other's single case is let in when the next machine ends.
#[test]
fn many_cases_do_not_keep_a_single_one_waiting() {
    let mut all: Vec<Seen> = (1..=40).map(|n| seen("many", n, n <= 2)).collect();
    let single = seen("single", 41, false);
    all.push(single.clone());
    assert!(!now(&all, &single, &limits(2)));
    all.remove(0);
    assert!(now(&all, &single, &limits(2)));
    let next = all[1].clone();
    assert!(!now(&all, &next, &limits(2)), "only one is let in");
    // Nor is the lab with many kept waiting by labs with one that keep coming.
    let waits = seen("many", 1, false);
    let come: Vec<Seen> = (2..9).map(|n| seen(&format!("new{n}"), n, n == 2)).collect();
    let all: Vec<Seen> = come.into_iter().chain([waits.clone()]).collect();
    assert!(now(&all, &waits, &limits(2)));
}

#[test]
fn one_that_was_stopped_while_it_waited_is_passed_over() {
    let (mut a, b) = (seen("a", 1, false), seen("b", 2, false));
    a.touched = STALE;
    assert!(now(&[a.clone(), b.clone()], &b, &limits(1)));
    assert!(now(&[a.clone(), b], &a, &limits(1)), "and when it goes on its turn has not passed");
    a.running = true;
    let late = seen("c", 3, false);
    assert!(!now(&[a, late.clone()], &late, &limits(1)), "a machine that runs is never passed over");
}

/// Whatever stands in others' tickets.
#[test]
fn other_users_keep_nobody_waiting_for_ever() {
    let mut other = seen("x", 0, true);
    (other.own, other.user, other.cores, other.memory) = (false, 8, u64::MAX, u64::MAX);
    let mut more = other.clone();
    more.name = "y".to_owned();
    let me = seen("a", 1, false);
    let all = [other.clone(), more, me.clone()];
    assert!(!now(&all, &me, &limits(2)));
    assert_eq!(turn(&all, &me, &limits(2), true), Turn::Now);
    let all = [other, seen("b", 0, true), me.clone()];
    assert_ne!(turn(&all, &me, &limits(2), true), Turn::Now, "one machine, not as many as one likes");
}

#[test]
fn one_whose_ticket_was_taken_away_still_waits_its_turn() {
    let (a, b) = (seen("a", 1, true), seen("b", 2, false));
    assert!(!now(std::slice::from_ref(&a), &b, &limits(1)));
    assert!(now(&[], &b, &limits(1)));
}

fn folder(place: &Path) -> Folder {
    Folder::open(place).unwrap()
}

fn own(place: &Path) -> PathBuf {
    folder(place).own().to_owned()
}

#[test]
fn a_ticket_is_seen_as_long_as_it_is_held() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    assert_eq!(folder.look(), []);
    let mut held = folder.issue("me", ONE).unwrap();
    let all = folder.look();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].lab.as_str(), all[0].running, all[0].cores, all[0].memory), ("me", false, 1, GIB));
    assert_eq!((&all[0].name, all[0].arrived), (&held.seen().name, held.seen().arrived));
    held.run();
    assert!(folder.look()[0].running);
    drop(held);
    assert_eq!(folder.look(), []);
    assert_eq!(fs::read_dir(folder.own()).unwrap().count(), 0, "nothing lies about");
}

/// As one that a lab left which was killed: nobody holds the lock.
#[test]
fn what_nobody_holds_counts_nothing_and_goes() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    let held = folder.issue("me", ONE).unwrap();
    let copy = folder.own().join("left");
    fs::copy(folder.own().join(&held.seen().name), &copy).unwrap();
    fs::write(folder.own().join("garbage"), [0xff; 9000]).unwrap();
    assert_eq!(folder.look().len(), 1);
    assert!(!copy.exists());
    assert_eq!(fs::read_dir(folder.own()).unwrap().count(), 1);
    // What was never finished goes when it is old enough not to be somebody's who is just at it.
    let unborn = folder.own().join(".1-x");
    fs::write(&unborn, "").unwrap();
    folder.look();
    assert!(unborn.exists());
    let old = std::time::SystemTime::now() - Duration::from_secs(3600);
    File::options().write(true).open(&unborn).unwrap().set_modified(old).unwrap();
    assert_eq!(folder.look().len(), 1);
    assert!(!unborn.exists());
}

#[test]
fn what_is_held_and_cannot_be_read_is_one_machine() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    let texts: [&[u8]; 4] = [b"", b"\xff\xfe garbage", &[b'['; 1 << 20], br#"{"format": 99, "cores": 50}"#];
    let files: Vec<File> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| {
            let path = folder.own().join(n.to_string());
            fs::write(&path, text).unwrap();
            let file = File::open(&path).unwrap();
            flock(&file, FlockOperation::LockExclusive).unwrap();
            file
        })
        .collect();
    let all = folder.look();
    assert_eq!(all.len(), files.len());
    assert!(all.iter().all(|t| t.running && t.cores == 1 && t.memory == 0), "{all:?}");
}

/// Links, pipes and folders in the place of tickets, and one that must not be read: none is followed, waited on or counted.
#[test]
fn what_is_no_file_is_no_ticket() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    let secret = place.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let held = File::open(&secret).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    std::os::unix::fs::symlink(&secret, folder.own().join("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, folder.own().join("pipe"), 0o600.into()).unwrap();
    fs::create_dir(folder.own().join("folder")).unwrap();
    let closed = folder.own().join("closed");
    fs::write(&closed, "x").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(folder.look(), []);
    assert!(secret.exists());
    assert_eq!(fs::read_to_string(&secret).unwrap(), "x");
}

/// A folder under another user's name, and one that others can write: nobody's word is taken for his.
#[test]
fn a_folder_that_is_not_its_users_is_not_looked_at() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    let mut locks = Vec::new();
    let mut forge = |dir: &Path| {
        let path = dir.join("forged");
        fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        locks.push(file);
    };
    let other = place.path().join("xenlab-budget-4242");
    fs::create_dir(&other).unwrap();
    forge(&other);
    assert_eq!(folder.look(), []);
    forge(folder.own());
    assert_eq!(folder.look().len(), 1);
    fs::set_permissions(folder.own(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(folder.look(), []);
    assert!(Folder::open(place.path()).is_err());
    // A link is none either, wherever it leads.
    fs::remove_dir_all(&other).unwrap();
    fs::remove_dir_all(folder.own()).unwrap();
    let real = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(real.path(), folder.own()).unwrap();
    assert!(Folder::open(place.path()).is_err());
    assert_eq!(folder.look(), []);
}

#[test]
fn the_lock_is_held_by_one_and_is_never_a_link() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    let lock = folder.lock().unwrap().unwrap();
    assert!(folder.lock().unwrap().is_none());
    drop(lock);
    assert!(folder.lock().unwrap().is_some());
    let path = place.path().join("xenlab-budget.lock");
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(place.path().join("elsewhere"), &path).unwrap();
    assert!(folder.lock().is_err());
    assert!(!place.path().join("elsewhere").exists());
}

fn budget(place: &Path, cores: usize) -> Budget {
    let said = Said { cores: Some(cores), dir: Some(place.to_owned()), ..Said::default() };
    Budget::open(Said { memory: Some(64 * GIB), ..said }).unwrap()
}

fn quiet(_: &Waiting) {}

#[tokio::test]
async fn one_waits_until_there_is_room_and_hears_for_what() {
    let place = tempfile::tempdir().unwrap();
    let (a, b) = (budget(place.path(), 1), Arc::new(budget(place.path(), 1)));
    let first = a.admit(ONE, &quiet).await.unwrap();
    assert!(first.counts() && first.waited() < TOLD);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let second = tokio::spawn({
        let (b, told) = (b.clone(), told.clone());
        async move { b.admit(ONE, &|w| told.lock().unwrap().push(w.to_string())).await.unwrap() }
    });
    tokio::time::sleep(TOLD + Duration::from_millis(300)).await;
    assert!(!second.is_finished());
    drop(first);
    let second = second.await.unwrap();
    assert!(second.waited() > TOLD);
    let told = told.lock().unwrap();
    assert!(told[0].contains("waits for 1 other machine") && told[0].contains("another xenlab"), "{told:?}");
    drop(second);
    assert_eq!(fs::read_dir(own(place.path())).unwrap().count(), 0);
}

#[tokio::test]
async fn one_that_gives_up_waiting_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let budget = budget(place.path(), 1);
    let first = budget.admit(ONE, &quiet).await.unwrap();
    let late = budget.admit(ONE, &quiet);
    assert!(tokio::time::timeout(Duration::from_millis(150), late).await.is_err());
    drop(first);
    assert_eq!(fs::read_dir(own(place.path())).unwrap().count(), 0);
}

/// Somebody who is stopped while he counts stops nobody.
#[tokio::test]
async fn a_lock_that_is_never_given_back() {
    let place = tempfile::tempdir().unwrap();
    let budget = budget(place.path(), 1);
    let _lock = folder(place.path()).lock().unwrap().unwrap();
    let ticket = budget.admit(ONE, &quiet).await.unwrap();
    assert!(ticket.counts() && ticket.waited() >= LOCK);
}

/// The folder goes while a lab runs: it is made again; what stands in its place is told once, and every machine runs.
#[tokio::test]
async fn a_folder_that_goes_away() {
    let place = tempfile::tempdir().unwrap();
    let budget = budget(place.path(), 1);
    let folder = own(place.path());
    fs::remove_dir_all(&folder).unwrap();
    assert!(budget.admit(ONE, &quiet).await.unwrap().counts());
    fs::remove_dir_all(&folder).unwrap();
    fs::write(&folder, "").unwrap();
    let mut ticket = budget.admit(ONE, &quiet).await.unwrap();
    assert!(!ticket.counts());
    assert!(ticket.take_unknown().is_some_and(|why| why.contains("xenlab-budget-")));
    assert_eq!(budget.admit(ONE, &quiet).await.unwrap().take_unknown(), None);
}

#[test]
fn a_place_that_cannot_be_used_is_said() {
    let said = Said { dir: Some("/proc/nowhere".into()), ..Said::default() };
    assert!(Budget::open(said).unwrap_err().contains("/proc/nowhere"));
}

#[test]
fn what_the_user_says() {
    let said = Said::parse("cores=3, memory=2G,dir=/x").unwrap();
    assert_eq!(
        said,
        Said { off: false, cores: Some(3), memory: Some(2 * GIB), dir: Some(PathBuf::from("/x")) }
    );
    assert!(Said::parse("off").unwrap().off);
    assert_eq!(Said::parse("").unwrap(), Said::default());
    for wrong in ["cores=0", "cores=x", "core=1", "3", "memory=2GB", "dir=x", "off,cores=1"] {
        let error = Said::parse(wrong).unwrap_err().to_string();
        assert!(error.contains("XENLAB_BUDGET") && error.contains("cores=4,memory=8G"), "{error}");
    }
}

/// What a program that was started has of a lab's files: nothing, so nothing is held for longer than the lab lives.
#[test]
fn no_child_has_a_ticket() {
    let place = tempfile::tempdir().unwrap();
    let folder = folder(place.path());
    let held = folder.issue("me", ONE).unwrap();
    let output = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("0 ->") && !text.contains("xenlab-budget"), "{text}");
    drop(held);
}
