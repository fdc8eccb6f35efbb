//! dom0 over SSH: libssh2 without blocking, one thread per session, many commands side by side on it.
//!
//! The session is kept and used again, because under emulation a new connection costs more than most commands. When it was lost
//! the next command makes it anew. Nothing in here waits without a limit: the thread only ever waits in `poll` and looks at the
//! deadline each time it comes back.

mod connection;
mod worker;

use crate::{BoxFuture, Deadline, Script, Shell, nothing_ran};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{CommandEnd, CommandResult, Transport};

/// How to reach dom0's SSH server and how to know it.
#[derive(Clone)]
pub struct SshConfig {
    /// Where QEMU forwards to dom0's port 22.
    pub addr: SocketAddr,
    /// Who to log in as.
    pub user: String,
    /// The user's ed25519 private key, unencrypted, in OpenSSH's format.
    pub private_key: String,
    /// The server's public key as a line of OpenSSH's (`ssh-ed25519 AAAA…`). Any other is refused.
    pub host_key: String,
}

impl std::fmt::Debug for SshConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshConfig({}@{})", self.user, self.addr)
    }
}

/// Why there is no SSH session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SshError {
    /// Nothing answered as an SSH server does within the limit.
    #[error("no SSH server answered at {addr} within {}s of guest time ({attempts} attempts; the last: {last})", limit.as_secs_f32())]
    NoAnswer {
        /// Where it was tried.
        addr: SocketAddr,
        /// How often.
        attempts: u32,
        /// What went wrong the last time.
        last: String,
        /// How long it was tried.
        limit: Duration,
    },
    /// The server is not the one expected.
    #[error("the SSH server at {addr} is not this case's dom0: expected host key {expected}, got {seen}")]
    HostKey {
        /// Where.
        addr: SocketAddr,
        /// The key expected, as OpenSSH writes it.
        expected: String,
        /// The key seen, likewise.
        seen: String,
    },
    /// The server does not accept the user's key.
    #[error(
        "dom0's SSH server refused the key of user `{user}`: {reason}; look at its authorized_keys and their permissions"
    )]
    Refused {
        /// Who tried to log in.
        user: String,
        /// What the server or the library said.
        reason: String,
    },
    /// A key given to the lab cannot be read.
    #[error("the {what} for SSH cannot be read: {reason}")]
    Key {
        /// `host key` or `user's key`.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The lab's own thread or sockets failed.
    #[error("the lab's SSH session cannot work: {0}")]
    Lab(String),
}

impl SshError {
    /// What it means for a verdict.
    pub fn cause(&self) -> Cause {
        match self {
            SshError::NoAnswer { .. } | SshError::HostKey { .. } | SshError::Refused { .. } => Cause::SshDead,
            SshError::Key { .. } | SshError::Lab(_) => Cause::LabInternal,
        }
    }
}

/// One thing asked of the session's thread.
enum Request {
    /// Connect now if there is no connection.
    Connect { deadline: Deadline, reply: oneshot::Sender<Result<(), SshError>> },
    /// Run a command.
    Run { script: Script, deadline: Deadline, reply: oneshot::Sender<CommandResult> },
}

/// Says to the thread that there is something to do; when the last one is dropped the thread ends.
struct Bell(UnixStream);

impl Bell {
    fn ring(&self) {
        use std::io::Write;
        // A full socket means that the thread has been told already; a closed one, that it is gone, which the reply shows.
        let _ = (&self.0).write(&[1]);
    }
}

/// A shell in dom0 over SSH. Clones share the session; each runs its own command beside the others.
#[derive(Clone)]
pub struct SshShell {
    requests: mpsc::Sender<Request>,
    bell: Arc<Bell>,
}

impl SshShell {
    /// Starts the session's thread without connecting; the first command connects.
    ///
    /// Errors: a key that cannot be read, no thread or socket to be had.
    pub fn new(config: SshConfig) -> Result<SshShell, SshError> {
        let lab = |e: std::io::Error| SshError::Lab(e.to_string());
        let (near, far) = UnixStream::pair().map_err(lab)?;
        near.set_nonblocking(true).map_err(lab)?;
        far.set_nonblocking(true).map_err(lab)?;
        let (requests, inbox) = mpsc::channel();
        let worker = worker::Worker::new(config, inbox, far)?;
        std::thread::Builder::new().name("ssh".into()).spawn(move || worker.work()).map_err(lab)?;
        Ok(SshShell { requests, bell: Arc::new(Bell(near)) })
    }

    /// Starts a session and connects it, trying again until dom0's server answers or the deadline passes.
    ///
    /// A refused, reset or silent connection is tried again, as it is while dom0 boots. Errors at once: another host key, the user's key refused.
    pub async fn connect(config: SshConfig, deadline: Deadline) -> Result<SshShell, SshError> {
        let shell = SshShell::new(config)?;
        shell.open(deadline).await?;
        Ok(shell)
    }

    /// Connects now if there is no connection, so that the first command need not.
    ///
    /// # Errors
    /// As [`SshShell::connect`]; the next command tries again all the same.
    pub async fn open(&self, deadline: Deadline) -> Result<(), SshError> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Connect { deadline, reply });
        answer.await.unwrap_or_else(|_| Err(SshError::Lab("its thread ended".into())))
    }

    fn send(&self, request: Request) {
        // A thread that is gone drops the reply's sender, which the caller sees.
        let _ = self.requests.send(request);
        self.bell.ring();
    }
}

impl Shell for SshShell {
    fn transport(&self) -> Transport {
        Transport::Ssh
    }

    fn run<'a>(&'a mut self, script: &'a Script, deadline: Deadline) -> BoxFuture<'a, CommandResult> {
        Box::pin(async move {
            let since = Instant::now();
            let lost = |why: String| nothing_ran(Transport::Ssh, script, CommandEnd::Lost(why), since);
            if let Err(e) = script.check() {
                return lost(e.to_string());
            }
            let (reply, answer) = oneshot::channel();
            self.send(Request::Run { script: script.clone(), deadline, reply });
            answer.await.unwrap_or_else(|_| lost("the lab's SSH thread ended".into()))
        })
    }
}
