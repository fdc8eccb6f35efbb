//! Waiting for another process's lock, saying so.

use crate::StoreError;
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use xenlab_model::event::{Sink, What};

/// A held lock; released when dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub(crate) struct Held {
    _file: File,
}

/// Opens (makes) a lock file.
pub(crate) fn open(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|e| StoreError::io("open", path, e))
}

/// Takes the lock if nobody has it.
pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Held>, StoreError> {
    let file = open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Held { _file: sign(file) })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(StoreError::io("lock", path, e.into())),
    }
}

/// Takes the lock, waiting for whoever has it; `what` is what the other process is making.
pub(crate) fn exclusive(path: &Path, what: &str, sink: &dyn Sink) -> Result<Held, StoreError> {
    if let Some(held) = try_exclusive(path)? {
        return Ok(held);
    }
    let owner = owner(path).map(|pid| format!(" (process {pid})")).unwrap_or_default();
    sink.emit(What::Note {
        case: None,
        message: format!("another xenlab{owner} is making {what}; waiting for it"),
    });
    let task = format!("wait:{what}");
    let began = Instant::now();
    // A blocking flock on a thread of its own: this one says each second that it still waits.
    let (tx, rx) = mpsc::channel();
    let file = open(path)?;
    let shown = path.to_owned();
    std::thread::spawn(move || {
        let got = flock(&file, FlockOperation::LockExclusive).map(|()| file);
        // The receiver is gone when the wait was given up: the file is dropped and with it the lock.
        let _ = tx.send(got);
    });
    loop {
        match rx.recv_timeout(Duration::from_secs(1)) {
            Ok(Ok(file)) => {
                sink.emit(What::ProgressEnded { task, seconds: began.elapsed().as_secs_f64(), error: None });
                return Ok(Held { _file: sign(file) });
            }
            Ok(Err(e)) => return Err(StoreError::io("lock", &shown, e.into())),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                crate::run::check_interrupted()?;
                let s = began.elapsed().as_secs();
                let message = format!("waiting for another xenlab{owner} to make {what}, {s} s");
                sink.emit(What::Progress {
                    task: task.clone(),
                    message,
                    done: s,
                    total: 0,
                    unit: "s".into(),
                });
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(StoreError::Other("the thread that waited for a lock ended".into()));
            }
        }
    }
}

/// Takes a shared lock if nobody holds it exclusively.
pub(crate) fn shared(path: &Path) -> Result<Held, StoreError> {
    let file = open(path)?;
    flock(&file, FlockOperation::LockShared).map_err(|e| StoreError::io("lock", path, e.into()))?;
    Ok(Held { _file: file })
}

/// Writes our pid into the lock file, for whoever waits. Not needed for the lock itself, so errors do not matter.
fn sign(mut file: File) -> File {
    let _ =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
    file
}

fn owner(path: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(path).ok()?.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
