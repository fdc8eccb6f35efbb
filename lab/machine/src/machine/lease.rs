//! A machine that another process runs: giving one away, and going on with one.
//!
//! QEMU stays the child of the process that started it. Whoever uses it has its monitor, console and ports as open files, and a connection
//! that is the lease: closed by the one, QEMU is killed by the other; and how QEMU ended is said over it. One that ends without that
//! word says that the owner is gone, and QEMU, whose parent-death signal it was, with it.

use super::process::{Over, Process};
use super::restore::Kick;
use super::{ConsoleReader, ConsoleWriter, Machine, Ports, watch};
use crate::argv::PORTS;
use crate::qmp::{Event, Qmp, Released, Tap};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::net::UnixStream;
use tokio::sync::watch as state;
use xenlab_host::child::Ended;
use xenlab_host::passing;
use xenlab_host::rundir::RunDir;

/// The longest word about a machine's end, bytes.
const LONGEST: usize = 1 << 20;

/// Files of a machine: its monitor, its console, its ports.
pub const FILES: usize = 2 + PORTS.len();

/// What is to be known of a machine by who goes on with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Handed {
    argv: Vec<String>,
    pid: u32,
    vcpus: Vec<u32>,
    ssh_port: Option<u16>,
    kick: Option<HandedKick>,
    /// What was read of the monitor's next message.
    unread: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum HandedKick {
    Packet(u16),
    Byte(u8),
}

/// How a machine ended, as its owner says it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Word {
    exit: Option<i32>,
    signal: Option<i32>,
    /// What could not even be started says why.
    error: Option<String>,
    stderr: String,
}

/// A machine that is to be given away: its open files, and its process.
pub struct Given {
    /// For who takes it.
    pub handed: Handed,
    streams: [UnixStream; FILES],
    owned: Owned,
}

impl Given {
    /// Its open files, in the order in which they are to be taken.
    pub fn files(&self) -> [BorrowedFd<'_>; FILES] {
        self.streams.each_ref().map(AsFd::as_fd)
    }

    /// What is left with its owner; its files are closed here.
    pub fn into_owned(self) -> Owned {
        self.owned
    }
}

/// A machine that somebody else uses. Dropping it kills it.
pub struct Owned {
    process: Arc<Process>,
    _rundir: Arc<RunDir>,
}

impl Owned {
    /// Keeps it for as long as whoever uses it stays connected and QEMU runs, and says how QEMU ended.
    pub async fn lend(self, lease: UnixStream) {
        let mut byte = [0];
        let gone = async {
            loop {
                // Nothing is ever asked over a lease.
                if lease.readable().await.is_err()
                    || !matches!(lease.try_read(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
                {
                    return;
                }
            }
        };
        let over = tokio::select! {
            over = self.process.wait() => over,
            () = gone => {
                self.process.kill();
                self.process.wait().await
            }
        };
        let Over::Ended(ended) = over else { return };
        let mut word = Word { exit: None, signal: None, error: None, stderr: self.process.stderr_tail() };
        match ended {
            Ok(Ended::Exit(status)) => word.exit = Some(status),
            Ok(Ended::Signal(signal)) => word.signal = Some(signal),
            Err(error) => word.error = Some(error.to_string()),
        }
        if let Ok(text) = serde_json::to_vec(&word) {
            // Who used it may be gone.
            let _ = passing::send(&lease, &text, &[]).await;
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.process.kill();
    }
}

/// What is known of a machine on lease.
#[derive(Clone)]
enum Told {
    Nothing,
    Ended(Word),
    Lost,
}

/// A machine's process that somebody else runs.
pub(super) struct Lease {
    pid: u32,
    connection: StdUnixStream,
    told: state::Receiver<Told>,
}

impl Lease {
    fn new(pid: u32, connection: UnixStream) -> io::Result<Lease> {
        let own = StdUnixStream::from(rustix::io::dup(&connection)?);
        let (tell, told) = state::channel(Told::Nothing);
        tokio::spawn(async move {
            let word = passing::receive(&connection, LONGEST).await.ok();
            let word = word.and_then(|(text, _)| serde_json::from_slice(&text).ok());
            tell.send_replace(word.map_or(Told::Lost, Told::Ended));
        });
        Ok(Lease { pid, connection: own, told })
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    pub(super) async fn wait(&self) -> Over {
        let mut told = self.told.clone();
        let word = match told.wait_for(|told| !matches!(told, Told::Nothing)).await {
            Ok(told) => told.clone(),
            Err(_) => Told::Lost,
        };
        match word {
            Told::Ended(Word { signal: Some(signal), .. }) => Over::Ended(Ok(Ended::Signal(signal))),
            Told::Ended(Word { exit: Some(status), .. }) => Over::Ended(Ok(Ended::Exit(status))),
            // It ran: that its owner cannot say how it ended is the owner's trouble.
            Told::Ended(_) | Told::Nothing | Told::Lost => Over::LeaseLost,
        }
    }

    pub(super) fn lost(&self) -> bool {
        match &*self.told.borrow() {
            Told::Nothing => false,
            Told::Ended(word) => word.exit.or(word.signal).is_none(),
            Told::Lost => true,
        }
    }

    pub(super) fn stderr(&self) -> String {
        match &*self.told.borrow() {
            Told::Ended(word) => word.stderr.clone(),
            Told::Nothing | Told::Lost => String::new(),
        }
    }

    /// Its owner kills it, and can still say how it ended.
    pub(super) fn give_back(&self) {
        // It may be gone.
        let _ = self.connection.shutdown(std::net::Shutdown::Write);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The task that listens holds the connection as well, and ends by this.
        let _ = self.connection.shutdown(std::net::Shutdown::Both);
    }
}

impl Machine {
    /// Makes a paused machine one that another process can go on with; `ports` are those that were taken of it. None when
    /// its monitor is busy or gone, or its command line is no text; it is killed then.
    pub async fn give(mut self, ports: Ports) -> Option<Given> {
        let argv = self.argv.iter().map(|a| a.to_str().map(str::to_owned)).collect::<Option<Vec<_>>>()?;
        let console = self.console.take()?;
        let console = console.0.0.reunite(console.1.0).ok()?;
        let released = self.qmp.release().await?;
        let handed = Handed {
            argv,
            pid: self.process.pid(),
            vcpus: self.vcpus.clone(),
            ssh_port: self.ssh_port,
            kick: self.kick.as_ref().map(|kick| match kick {
                Kick::Packet(port) => HandedKick::Packet(*port),
                Kick::Byte(_, byte) => HandedKick::Byte(*byte),
            }),
            unread: released.unread,
        };
        let owned = Owned { process: self.process.clone(), _rundir: self.rundir.clone() };
        *self.given.get_mut() = true;
        let streams = [released.stream, console, ports.shell, ports.stdout, ports.stderr];
        Some(Given { handed, streams, owned })
    }

    /// Goes on with a machine that another process runs. It is paused, its console and ports connected: [`Machine::resume`] has it go
    /// on. `rundir` is a folder of one's own.
    ///
    /// # Errors
    /// What was handed is not such a machine.
    pub fn take(
        handed: Handed,
        files: Vec<OwnedFd>,
        lease: UnixStream,
        rundir: Arc<RunDir>,
        tap: Tap,
    ) -> io::Result<Machine> {
        let count = files.len();
        let files: [OwnedFd; FILES] = files
            .try_into()
            .map_err(|_| io::Error::other(format!("{count} files came with a machine that has {FILES}")))?;
        let mut streams = Vec::with_capacity(FILES);
        for file in files {
            // Anything could have been sent.
            if rustix::net::sockopt::socket_domain(&file)? != rustix::net::AddressFamily::UNIX {
                return Err(io::Error::other("what came with a machine is not its sockets"));
            }
            let stream = StdUnixStream::from(file);
            stream.set_nonblocking(true)?;
            streams.push(UnixStream::from_std(stream)?);
        }
        let Ok([monitor, console, shell, stdout, stderr]) = <[UnixStream; FILES]>::try_from(streams) else {
            return Err(io::Error::other("files were lost"));
        };
        let kick = match handed.kick {
            Some(HandedKick::Packet(port)) => Some(Kick::Packet(port)),
            Some(HandedKick::Byte(byte)) => Some(Kick::Byte(rustix::io::dup(&console)?.into(), byte)),
            None => None,
        };
        let (ending, ended) = state::channel(None);
        let ending = Arc::new(ending);
        let seen = {
            let ending = ending.clone();
            move |event: &Event| {
                if let Some(end) = watch::end_of(event) {
                    ending.send_if_modified(|s| s.is_none() && s.replace(end).is_none());
                }
            }
        };
        let process = Arc::new(Process::Leased(Lease::new(handed.pid, lease)?));
        let qmp = Qmp::adopt(Released { stream: monitor, unread: handed.unread }, tap, seen);
        tokio::spawn(watch::watch_over(process.clone(), qmp.clone(), ending));
        let (read, write) = console.into_split();
        Ok(Machine {
            argv: handed.argv.into_iter().map(OsString::from).collect(),
            process,
            qmp,
            console: Some((ConsoleReader(read), ConsoleWriter(write))),
            ports: Some(Ports { shell, stdout, stderr }),
            vcpus: handed.vcpus,
            clock: OnceLock::new(),
            spawned: Instant::now(),
            ssh_port: handed.ssh_port,
            ended,
            cannot_freeze: Some("another process runs it".to_owned()),
            frozen: AtomicBool::new(false),
            given: AtomicBool::new(false),
            kick,
            rundir,
        })
    }

    /// The process that ran it is gone, and it with that: what is seen of it then says nothing about the guest.
    pub fn lease_lost(&self) -> bool {
        self.process.lease_lost()
    }

    /// Another process runs it.
    pub fn is_leased(&self) -> bool {
        matches!(*self.process, Process::Leased(_))
    }
}
