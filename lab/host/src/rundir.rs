//! Run folders: where a machine's sockets are while it runs, and what tells the next `xenlab` that a run was lost.
//!
//! A run folder is short (a socket's path ends at 107 bytes) and private to the user. `entry.json` in it is locked
//! (`flock`) as long as its owner lives, and names the processes that belong to it. [`sweep`] removes the folders whose
//! lock is free and kills what is left of them.

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

/// Set, to the folder's path, for every process started for a run folder with [`RunDir::mark`].
pub const VARIABLE: &str = "XENLAB_RUN";

const ENTRY: &str = "entry.json";
const BASE_LOCK: &str = ".lock";
/// Leaves room for `/XXXXXX/console.sock` and the like below 107.
const LONGEST_BASE: usize = 70;

/// Folders of this process that are there.
static MINE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn mine() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    MINE.lock().unwrap_or_else(|e| e.into_inner())
}

/// A run folder could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("run folder {}: {error}", path.display())]
pub struct RunDirError {
    /// Where.
    pub path: PathBuf,
    /// What the host said.
    pub error: io::Error,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Entry {
    format: u32,
    /// The lab's own process number.
    lab: u32,
    /// What the folder is for, in words.
    label: String,
    /// Processes that belong to it.
    pids: BTreeSet<u32>,
}

/// A run folder, removed with everything in it when dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    /// Holds the lock.
    file: Mutex<File>,
    entry: Mutex<Entry>,
}

impl RunDir {
    /// Makes one; `label` is for people who look into it.
    ///
    /// # Errors
    /// When no private folder can be made under `XDG_RUNTIME_DIR` or `/tmp`.
    pub fn create(label: &str) -> Result<RunDir, RunDirError> {
        RunDir::create_in(&base()?, label)
    }

    fn create_in(base: &Path, label: &str) -> Result<RunDir, RunDirError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| RunDirError { path, error }
        };
        // Held while the folder has no lock of its own yet, so that nobody sweeps it.
        let _held = lock_base(base).map_err(at(base))?;
        let dir = tempfile::Builder::new()
            .prefix("")
            .rand_bytes(6)
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(base)
            .map_err(at(base))?;
        let path = dir.path().join(ENTRY);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(at(&path))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|e| at(&path)(e.into()))?;
        let entry =
            Entry { format: 1, lab: std::process::id(), label: label.to_owned(), pids: BTreeSet::new() };
        let run = RunDir { path: dir.keep(), file: Mutex::new(file), entry: Mutex::new(entry) };
        mine().insert(run.path.clone());
        run.save().map_err(at(&path))?;
        Ok(run)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Marks a process, and so what it starts, as belonging to this folder, before it is started.
    #[must_use]
    pub fn mark(&self, command: crate::Command) -> crate::Command {
        command.env(VARIABLE, &self.path)
    }

    /// Writes down that this process, marked before, belongs to the folder.
    ///
    /// # Errors
    /// When the entry cannot be written.
    pub fn add_pid(&self, pid: u32) -> io::Result<()> {
        self.entry.lock().unwrap_or_else(|e| e.into_inner()).pids.insert(pid);
        self.save()
    }

    fn save(&self) -> io::Result<()> {
        let text = serde_json::to_vec(&*self.entry.lock().unwrap_or_else(|e| e.into_inner()))?;
        // In place and not by rename: the lock is on this very file. Who reads a torn one still finds marked processes.
        let mut file = self.file.lock().unwrap_or_else(|e| e.into_inner());
        file.rewind()?;
        file.set_len(0)?;
        file.write_all(&text)
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!("run folder {} could not be removed: {error}", self.path.display());
        }
        mine().remove(&self.path);
    }
}

/// Removes every run folder of this process, on the way out.
pub(crate) fn remove_all() {
    let all = std::mem::take(&mut *mine());
    for path in all {
        // What stays is swept by the next run.
        let _ = fs::remove_dir_all(path);
    }
}

/// Files of this name in the run folders of everybody there is; [`RunDir::path`] is where one puts one's own.
pub fn find(name: &str) -> Vec<PathBuf> {
    let Ok(base) = base() else { return Vec::new() };
    let dirs = fs::read_dir(base).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = dirs.map(|dir| dir.path().join(name)).filter(|p| p.exists()).collect();
    found.sort();
    found
}

/// What [`sweep`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Folders removed.
    pub folders: Vec<PathBuf>,
    /// Processes killed.
    pub killed: Vec<u32>,
}

/// Removes the folders of runs that were lost and kills the processes they left. Called when a `xenlab` starts.
///
/// # Errors
/// When the place where run folders are cannot be used at all.
pub fn sweep() -> Result<Swept, RunDirError> {
    let base = base()?;
    sweep_in(&base).map_err(|error| RunDirError { path: base, error })
}

fn sweep_in(base: &Path) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let _held = lock_base(base)?;
    for dir in fs::read_dir(base)?.filter_map(Result::ok).filter(|d| d.file_type().is_ok_and(|t| t.is_dir()))
    {
        let path = dir.path();
        let mut named = BTreeSet::new();
        // Without an entry it was lost before it had one: the lock of the base says nobody is at it now.
        let lock = File::open(path.join(ENTRY)).ok();
        if let Some(file) = &lock {
            if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
                continue;
            }
            if let Ok(entry) = serde_json::from_reader::<_, Entry>(file) {
                named = entry.pids;
            }
        }
        let ours: Vec<u32> = processes().filter(|pid| belongs(*pid, &path, named.contains(pid))).collect();
        for pid in ours {
            if let Some(p) = Pid::from_raw(pid.cast_signed())
                && kill_process(p, Signal::KILL).is_ok()
            {
                swept.killed.push(pid);
            }
        }
        match fs::remove_dir_all(&path) {
            Ok(()) => swept.folders.push(path),
            Err(error) => tracing::warn!("run folder {} could not be removed: {error}", path.display()),
        }
    }
    Ok(swept)
}

fn processes() -> impl Iterator<Item = u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .filter(move |p| *p != own)
}

/// A process number alone proves nothing, it may have been given again: the folder has to be in the process's
/// environment, or, for one that is named, on its command line.
fn belongs(pid: u32, dir: &Path, named: bool) -> bool {
    let dir = dir.as_os_str().as_encoded_bytes();
    let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let marked = [VARIABLE.as_bytes(), b"=", dir].concat();
    read("environ").split(|b| *b == 0).any(|v| v == marked)
        || (named && read("cmdline").windows(dir.len()).any(|w| w == dir))
}

fn lock_base(base: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(base.join(BASE_LOCK))?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

/// `XDG_RUNTIME_DIR/xenlab`, else `/tmp/xenlab-UID`: private, and short enough for sockets.
fn base() -> Result<PathBuf, RunDirError> {
    let xdg = std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|p| p.is_absolute())
        .map(|p| p.join("xenlab"));
    let tmp = PathBuf::from(format!("/tmp/xenlab-{}", getuid().as_raw()));
    if let Some(path) = xdg
        && path.as_os_str().len() <= LONGEST_BASE
        && private_dir(&path).is_ok()
    {
        return Ok(path);
    }
    private_dir(&tmp).map_err(|error| RunDirError { path: tmp.clone(), error })?;
    Ok(tmp)
}

/// Makes the folder, or sees that the one there is a folder, ours, and nobody else's to write.
fn private_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let meta = fs::symlink_metadata(path)?;
    let safe = meta.is_dir() && meta.uid() == getuid().as_raw() && meta.permissions().mode() & 0o022 == 0;
    if !safe {
        return Err(io::Error::other(
            "it is not a folder that only this user can write; remove it, or set XDG_RUNTIME_DIR",
        ));
    }
    // It may be on a file system that is mounted read-only or full.
    tempfile::tempfile_in(path).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;

    #[test]
    fn a_folder_is_private_locked_and_removed() {
        let base = tempfile::tempdir().unwrap();
        let run = RunDir::create_in(base.path(), "a test").unwrap();
        let path = run.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join("x"), "x").unwrap();
        assert_eq!(sweep_in(base.path()).unwrap(), Swept::default(), "a folder in use is left alone");
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_lost_run_left_is_swept() {
        let base = tempfile::tempdir().unwrap();
        let run = RunDir::create_in(base.path(), "lost").unwrap();
        let bystander = Command::new("sleep").arg("60").spawn().unwrap();
        let child = run.mark(Command::new("sleep").arg("60")).spawn().unwrap();
        run.add_pid(child.pid()).unwrap();
        run.add_pid(bystander.pid()).unwrap();
        let path = run.path().to_owned();
        // As if the process had died: the lock is free, the folder stays.
        std::mem::drop(std::mem::replace(&mut *run.file.lock().unwrap(), tempfile::tempfile().unwrap()));
        // A process that another test starts in this moment holds what was open, the lock as well, until it is its own program.
        let begun = std::time::Instant::now();
        let swept = loop {
            let swept = sweep_in(base.path()).unwrap();
            if swept != Swept::default() || begun.elapsed() > std::time::Duration::from_secs(10) {
                break swept;
            }
        };
        assert_eq!(swept, Swept { folders: vec![path.clone()], killed: vec![child.pid()] });
        assert_eq!(child.wait_blocking().unwrap(), crate::child::Ended::Signal(9));
        assert!(bystander.ended().is_none(), "a number that is not ours any more is not killed");
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_without_an_entry_is_swept() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir(base.path().join("abcdef")).unwrap();
        assert_eq!(sweep_in(base.path()).unwrap().folders.len(), 1);
    }

    #[test]
    fn a_folder_others_can_write_is_refused() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("open");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(private_dir(&path).is_err());
        let link = base.path().join("link");
        std::os::unix::fs::symlink(base.path(), &link).unwrap();
        assert!(private_dir(&link).is_err());
    }
}
