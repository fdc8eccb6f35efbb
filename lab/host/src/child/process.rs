//! A child that runs: watching, waiting, ending.

use super::ChildError;
use super::exec::{EXEC_FAILED, EXEC_MARK};
use super::{registry, spawner};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ChildStdout, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long output that outlives the child is waited for: something it started may hold the pipe in another group.
const DRAIN: Duration = Duration::from_millis(500);

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit status.
    Exit(i32),
    /// Killed by this signal's number.
    Signal(i32),
}

impl Ended {
    /// It exited with 0.
    pub fn ok(self) -> bool {
        self == Ended::Exit(0)
    }

    fn of(status: ExitStatus) -> Ended {
        match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exit(code),
            (None, Some(signal)) => Ended::Signal(signal),
            // waitid with EXITED alone reports nothing else.
            (None, None) => Ended::Exit(-1),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exit(code) => write!(f, "exit status {code}"),
            Ended::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

/// What a child wrote, up to a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// What was kept: of standard output the first bytes, of standard error the last.
    pub bytes: Vec<u8>,
    /// Bytes there were in all.
    pub total: u64,
    /// There was more than was kept.
    pub cut: bool,
}

impl Captured {
    /// As text, invalid UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Keeps the first `limit` bytes.
    fn head(&mut self, new: &[u8], limit: usize) {
        let room = limit.saturating_sub(self.bytes.len()).min(new.len());
        self.bytes.extend_from_slice(&new[..room]);
        self.total += new.len() as u64;
        self.cut |= room < new.len();
    }

    /// Keeps the last `limit` bytes.
    fn tail(&mut self, new: &[u8], limit: usize) {
        self.bytes.extend_from_slice(&new[new.len().saturating_sub(limit)..]);
        let over = self.bytes.len().saturating_sub(limit);
        self.bytes.drain(..over);
        self.total += new.len() as u64;
        self.cut |= self.total > self.bytes.len() as u64;
    }
}

#[derive(Default)]
struct State {
    stdout: Captured,
    stderr: Captured,
    /// Readers of pipes that have not seen the end yet.
    readers: usize,
    ended: Option<Ended>,
    /// Its number may belong to somebody else by now.
    reaped: bool,
}

/// What the child's threads and its owner share.
pub(super) struct Shared {
    pid: u32,
    program: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    ended: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn wake(&self) {
        // Under the lock, or a waiter between its look and its sleep would miss it.
        let _state = self.state();
        self.changed.notify_all();
    }

    /// Kills the group, unless the child was reaped: then what its number means is not known any more.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        let state = self.state();
        if !state.reaped {
            self.signal_group(signal);
        }
    }

    fn signal_group(&self, signal: Signal) {
        if let Some(group) = Pid::from_raw(self.pid.cast_signed()) {
            // The only error is that nobody is left, which is what was wanted.
            let _ = kill_process_group(group, signal);
        }
    }
}

/// A running child. Dropping it kills its group.
pub struct Child {
    shared: Arc<Shared>,
    stdout: Option<ChildStdout>,
    done: watch::Receiver<bool>,
}

/// What a child's threads need to know of how it was asked for.
pub(super) struct Wishes {
    pub(super) program: PathBuf,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) stdout_limit: usize,
    pub(super) stderr_limit: usize,
    /// Leave standard output to the owner.
    pub(super) stream: bool,
}

impl Child {
    pub(super) fn adopt(mut process: std::process::Child, wishes: Wishes) -> std::io::Result<Child> {
        let (ended, done) = watch::channel(false);
        let shared = Arc::new(Shared {
            pid: process.id(),
            program: wishes.program,
            state: Mutex::default(),
            changed: Condvar::new(),
            ended,
        });
        let mut child = Child { shared: shared.clone(), stdout: None, done };
        registry::add(shared.clone());
        let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.into()).stack_size(128 << 10).spawn(work).map(drop)
        };
        let started = (|| {
            if let (Some(bytes), Some(mut pipe)) = (wishes.stdin, process.stdin.take()) {
                // A child that does not read all of it has its reasons; it is judged by how it ends.
                thread("stdin", Box::new(move || drop(pipe.write_all(&bytes))))?;
            }
            if let Some(pipe) = process.stdout.take() {
                if wishes.stream {
                    child.stdout = Some(pipe);
                } else {
                    shared.state().readers += 1;
                    let (shared, limit) = (shared.clone(), wishes.stdout_limit);
                    thread("stdout", Box::new(move || drain(pipe, &shared, |s, b| s.stdout.head(b, limit))))?;
                }
            }
            if let Some(pipe) = process.stderr.take() {
                shared.state().readers += 1;
                let (shared, limit) = (shared.clone(), wishes.stderr_limit);
                thread("stderr", Box::new(move || drain(pipe, &shared, |s, b| s.stderr.tail(b, limit))))?;
            }
            Ok(())
        })();
        let waiter = thread("waiter", Box::new(move || reap(process, &shared)));
        match started.and(waiter) {
            Ok(()) => Ok(child),
            Err(error) => Err(error), // `child` is dropped, which kills it.
        }
    }

    /// Its process number, which is its group's too.
    pub fn pid(&self) -> u32 {
        self.shared.pid
    }

    /// Its standard output, once, when it was asked for with [`Command::stdout_pipe`](super::Command::stdout_pipe).
    pub fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.stdout.take()
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<Ended> {
        self.shared.state().ended
    }

    /// Waits until it has ended and its output is complete.
    ///
    /// # Errors
    /// [`ChildError::Exec`] when it could not be executed at all.
    pub async fn wait(&self) -> Result<Ended, ChildError> {
        let mut done = self.done.clone();
        // The sender lives in `shared`, which we hold.
        let _ = done.wait_for(|done| *done).await;
        self.result()
    }

    /// As [`Child::wait`], from a thread that may block.
    ///
    /// # Errors
    /// As [`Child::wait`].
    pub fn wait_blocking(&self) -> Result<Ended, ChildError> {
        self.wait_until(None, false)
    }

    /// As [`Child::wait_blocking`]; the user's interrupt kills it and everything it started.
    ///
    /// # Errors
    /// As [`Child::wait`], and [`ChildError::Interrupted`].
    pub fn wait_or_interrupt(&self) -> Result<Ended, ChildError> {
        self.wait_until(None, true)
    }

    /// Blocks until the end, a deadline or the user's interrupt; at either of the latter kills.
    pub(super) fn wait_until(
        &self,
        limit: Option<Duration>,
        interruptible: bool,
    ) -> Result<Ended, ChildError> {
        let program = || self.shared.program.display().to_string();
        let deadline = limit.map(|l| (Instant::now() + l, l));
        let mut state = self.shared.state();
        loop {
            if state.ended.is_some() && *self.done.borrow() {
                drop(state);
                return self.result();
            }
            if interruptible && crate::interrupt::requested() {
                drop(state);
                self.kill();
                return Err(ChildError::Interrupted { program: program() });
            }
            state = match deadline {
                None => self.shared.changed.wait(state).unwrap_or_else(|e| e.into_inner()),
                Some((at, limit)) => {
                    let left = at.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        drop(state);
                        self.kill();
                        return Err(ChildError::TimedOut { program: program(), limit });
                    }
                    self.shared.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0
                }
            };
        }
    }

    fn result(&self) -> Result<Ended, ChildError> {
        let state = self.shared.state();
        let ended = state.ended.unwrap_or(Ended::Exit(-1));
        if ended == Ended::Exit(EXEC_FAILED)
            && let Some(error) = state.stderr.bytes.strip_prefix(EXEC_MARK)
        {
            return Err(ChildError::Exec {
                program: self.shared.program.clone(),
                error: String::from_utf8_lossy(error).into_owned(),
            });
        }
        Ok(ended)
    }

    /// Kills the whole group with SIGKILL. Nothing happens when it has ended.
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// Sends the whole group SIGTERM: whoever listens to it ends in order.
    pub fn ask_to_end(&self) {
        self.shared.signal(Signal::TERM);
    }

    /// Standard output so far.
    pub fn stdout(&self) -> Captured {
        self.shared.state().stdout.clone()
    }

    /// Standard error so far, its last bytes.
    pub fn stderr(&self) -> Captured {
        self.shared.state().stderr.clone()
    }

    /// The last of standard error as text.
    pub fn stderr_tail(&self) -> String {
        self.stderr().text()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.shared.kill();
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("pid", &self.shared.pid)
            .field("program", &self.shared.program)
            .finish_non_exhaustive()
    }
}

/// Reads a pipe to its end.
fn drain(mut pipe: impl Read, shared: &Shared, mut keep: impl FnMut(&mut State, &[u8])) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => keep(&mut shared.state(), &buffer[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    shared.state().readers -= 1;
    shared.changed.notify_all();
}

/// Waits for the child, ends what is left of its group, reaps it, and says so once its output is complete.
fn reap(mut process: std::process::Child, shared: &Shared) {
    // First without reaping: as long as the zombie is there its number, and its group's, cannot be reused.
    if let Some(pid) = Pid::from_raw(shared.pid.cast_signed()) {
        while let Err(rustix::io::Errno::INTR) =
            waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        {}
    }
    let status = {
        let mut state = shared.state();
        shared.signal_group(Signal::KILL);
        // Before the number is free, or the guard could be told of its next owner first.
        spawner::ended(shared.pid);
        let status = process.wait();
        state.reaped = true;
        status
    };
    registry::remove(shared.pid);
    let ended = status.map_or(Ended::Exit(-1), Ended::of);
    let mut state = shared.state();
    let until = Instant::now() + DRAIN;
    while state.readers > 0 {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        state = shared.changed.wait_timeout(state, left).unwrap_or_else(|e| e.into_inner()).0;
    }
    state.ended = Some(ended);
    shared.ended.send_replace(true);
    shared.changed.notify_all();
}
