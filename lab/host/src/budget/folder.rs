//! The tickets' files.

use super::queue::Seen;
use super::{Need, forget, remember};
use rustix::fs::{Dir, FlockOperation, Mode, OFlags, flock, fstat, open, openat};
use rustix::io::Errno;
use rustix::process::getuid;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

const PREFIX: &str = "xenlab-budget-";
const LOCK: &str = "xenlab-budget.lock";
/// Of a ticket that is being written; nobody counts it yet.
const UNBORN: &str = ".";
const FORMAT: u32 = 1;
/// No ticket is longer; what is longer is none of ours.
const LONGEST: u64 = 4096;
/// Tickets of one user, and users, that are looked at: more than any host has, and few enough to be looked at often.
const MOST: usize = 1024;
/// A ticket is written as so many bytes at once, so that nobody finds half of one.
const WRITTEN: usize = 512;
/// One that was never finished and is so old was left by a lab that was killed.
const LEFT: Duration = Duration::from_secs(60);

/// What stands in a ticket.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Text {
    format: u32,
    lab: String,
    running: bool,
    cores: u64,
    memory: u64,
    arrived: u64,
    /// Of the lab, for people.
    pid: u32,
}

impl Text {
    fn seen(self, name: &str, user: u32, own: bool, touched: Duration) -> Seen {
        let Text { lab, running, cores, memory, arrived, .. } = self;
        Seen { name: name.to_owned(), own, user, lab, running, cores, memory, arrived, touched }
    }
}

/// The folders of all users, as one user sees them.
#[derive(Debug)]
pub(super) struct Folder {
    place: PathBuf,
    own: PathBuf,
    user: u32,
}

/// A ticket of ours; removed when dropped.
#[derive(Debug)]
pub(super) struct Held {
    path: PathBuf,
    /// Holds the lock. Close-on-exec, as all that is opened here.
    file: File,
    text: Text,
    seen: Seen,
}

/// A word that no other lab has.
pub(super) fn word() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(now()))
}

fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec)
        .unwrap_or(0)
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(now.tv_nsec).unwrap_or(0))
}

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

fn is_regular(file: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::FileType::from_raw_mode(fstat(file)?.st_mode).is_file())
}

impl Folder {
    /// Makes this user's folder below `place`, or sees that the one there is a folder, ours, and nobody else's to write.
    pub(super) fn open(place: &Path) -> io::Result<Folder> {
        let user = getuid().as_raw();
        let folder = Folder { place: place.to_owned(), own: place.join(format!("{PREFIX}{user}")), user };
        folder.make()?;
        // Locks work here, and there is room for a ticket.
        drop(folder.issue("a try", Need { cores: 0, memory: 0 })?);
        Ok(folder)
    }

    pub(super) fn own(&self) -> &Path {
        &self.own
    }

    fn make(&self) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o755).create(&self.own) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            made => {
                let meta = fs::symlink_metadata(&self.own)?;
                let ours = meta.is_dir() && meta.uid() == self.user;
                // Whatever the umask is: others must see what this user's machines take.
                if made.is_ok() && ours {
                    fs::set_permissions(&self.own, fs::Permissions::from_mode(0o755))?;
                } else if !ours || meta.permissions().mode() & 0o022 != 0 {
                    return Err(io::Error::other(format!(
                        "{} is not a folder that only this user can write",
                        self.own.display()
                    )));
                }
            }
        }
        Ok(())
    }

    /// The lock under which tickets are counted, if nobody has it. Any user's lab makes the file, and none writes to it.
    pub(super) fn lock(&self) -> io::Result<Option<File>> {
        let path = self.place.join(LOCK);
        let file = match open(&path, READ, Mode::empty()) {
            Err(Errno::NOENT) => {
                let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
                match made {
                    Ok(file) => {
                        file.set_permissions(fs::Permissions::from_mode(0o644))?;
                        OwnedFd::from(file)
                    }
                    Err(e) if e.kind() == io::ErrorKind::AlreadyExists => open(&path, READ, Mode::empty())?,
                    Err(e) => return Err(e),
                }
            }
            opened => opened?,
        };
        if !is_regular(&file)? {
            return Err(io::Error::other(format!("{} is no file", path.display())));
        }
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(file.into())),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new ticket, of a machine that waits.
    pub(super) fn issue(&self, lab: &str, need: Need) -> io::Result<Held> {
        let unborn = match self.unborn() {
            // Somebody cleaned up.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make()?;
                self.unborn()?
            }
            unborn => unborn?,
        };
        let (file, path) = unborn.into_parts();
        // Locked before anybody can take it for one.
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        let text = Text {
            format: FORMAT,
            lab: lab.to_owned(),
            running: false,
            cores: need.cores,
            memory: need.memory,
            arrived: now(),
            pid: std::process::id(),
        };
        write(&file, &text)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let born = self.own.join(name.trim_start_matches(UNBORN));
        path.persist(&born).map_err(|e| e.error)?;
        remember(&born);
        let name = name.trim_start_matches(UNBORN);
        let seen = text.clone().seen(name, self.user, true, Duration::ZERO);
        Ok(Held { path: born, file, text, seen })
    }

    fn unborn(&self) -> io::Result<tempfile::NamedTempFile> {
        let prefix = format!("{UNBORN}{}-", std::process::id());
        let mut builder = tempfile::Builder::new();
        let file = builder.prefix(&prefix).rand_bytes(8).tempfile_in(&self.own)?;
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        Ok(file)
    }

    /// Every ticket whose lab lives. Those of this user whose lab does not are removed.
    pub(super) fn look(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        let mut users = 0;
        for entry in fs::read_dir(&self.place).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let user = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.parse::<u32>().ok());
            let Some(user) = user else { continue };
            users += 1;
            if users > MOST && user != self.user {
                continue;
            }
            if let Err(error) = self.look_at(&entry.path(), user, &mut seen) {
                tracing::debug!("{}: {error}", entry.path().display());
            }
        }
        seen
    }

    fn look_at(&self, path: &Path, user: u32, seen: &mut Vec<Seen>) -> io::Result<()> {
        let dir = open(path, READ | OFlags::DIRECTORY, Mode::empty())?;
        let meta = fstat(&dir)?;
        if meta.st_uid != user || meta.st_mode & 0o022 != 0 {
            return Err(io::Error::other("it is not a folder that only its user can write"));
        }
        let own = user == self.user;
        for entry in Dir::read_from(&dir)?.take(MOST) {
            let name = entry?.file_name().to_owned();
            let Ok(text) = name.to_str() else { continue };
            if text.starts_with(UNBORN) {
                if own && text != "." && text != ".." {
                    clean_up(&path.join(text));
                }
                continue;
            }
            let Ok(file) = openat(&dir, &name, READ, Mode::empty()) else { continue };
            match ticket(&file, text, user, own) {
                Some(ticket) => seen.push(ticket),
                None if own => drop(fs::remove_file(path.join(text))),
                None => {}
            }
        }
        Ok(())
    }
}

/// The ticket in this file; None when nobody holds it, or it is none.
fn ticket(file: &OwnedFd, name: &str, user: u32, own: bool) -> Option<Seen> {
    let meta = fstat(file).ok()?;
    if !rustix::fs::FileType::from_raw_mode(meta.st_mode).is_file() || meta.st_uid != user {
        return None;
    }
    match flock(file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => {}
        // Free: its lab is gone. Or locks do not work, and then it says nothing.
        _ => return None,
    }
    let mut text = Vec::new();
    let file: File = file.try_clone().ok()?.into();
    let _ = (&file).take(LONGEST).read_to_end(&mut text);
    let modified = file.metadata().and_then(|m| m.modified()).ok()?;
    // A time that is still to come is none that is long past.
    let touched = SystemTime::now().duration_since(modified).unwrap_or_default();
    let read = serde_json::from_slice::<Text>(&text).ok().filter(|t| t.format == FORMAT);
    // Held, and not to be read: of another version, perhaps. It is some machine.
    let unreadable =
        Text { format: FORMAT, lab: name.to_owned(), running: true, cores: 1, memory: 0, arrived: 0, pid: 0 };
    Some(read.unwrap_or(unreadable).seen(name, user, own, touched))
}

/// Removes what a lab that was killed had not finished.
fn clean_up(path: &Path) {
    let old = fs::symlink_metadata(path).and_then(|m| m.modified()).ok();
    if old.and_then(|t| t.elapsed().ok()).is_some_and(|age| age > LEFT) {
        let _ = fs::remove_file(path);
    }
}

fn write(file: &File, text: &Text) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(text)?;
    bytes.resize(bytes.len().max(WRITTEN), b' ');
    file.write_all_at(&bytes, 0)
}

impl Held {
    /// It still waits.
    pub(super) fn beat(&self) {
        // A disk that is full leaves what stands there, and at worst it is passed over.
        let _ = write(&self.file, &self.text);
    }

    /// It runs from now on.
    pub(super) fn run(&mut self) {
        self.text.running = true;
        self.seen.running = true;
        self.beat();
    }

    pub(super) fn seen(&self) -> &Seen {
        &self.seen
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Removed first: nobody then finds one that nobody holds.
        let _ = fs::remove_file(&self.path);
        forget(&self.path);
    }
}
