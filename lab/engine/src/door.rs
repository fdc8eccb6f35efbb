//! The way to a machine that stays, for other processes of the user: its console on a socket in its run folder, and a file that says what
//! else there is. QEMU's own sockets have one client each, which is the lab.

use crate::hub::Hub;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use xenlab_guest::ssh::SshConfig;
use xenlab_machine::{ConsoleWriter, Machine};
use xenlab_model::Arch;

/// The file in a run folder that says how to get in.
pub const FILE: &str = "kept.json";
/// The console's socket in a run folder.
const CONSOLE: &str = "kept-console";
/// The socket on which a frozen machine is asked to go on.
const GO_ON: &str = "kept-go-on";

/// What is typed on a console: by the lab's own serial shell, and by visitors when that has done its work.
#[derive(Clone)]
pub struct Typed(Arc<Mutex<ConsoleWriter>>);

impl Typed {
    pub(crate) fn new(writer: ConsoleWriter) -> Typed {
        Typed(Arc::new(Mutex::new(writer)))
    }

    fn with<T>(&self, f: impl FnOnce(Pin<&mut ConsoleWriter>) -> T) -> T {
        f(Pin::new(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl AsyncWrite for Typed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        self.with(|w| w.poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|w| w.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        self.with(|w| w.poll_shutdown(cx))
    }
}

/// How to get into a machine that stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Kept {
    /// The case, as it is shown.
    pub case: String,
    /// Its architecture.
    pub arch: Arch,
    /// It stands still until it is asked to go on.
    pub frozen: bool,
    /// Its console: bytes both ways, the record so far first.
    pub console: PathBuf,
    /// A frozen one goes on when somebody connects here; the answer is a line, empty if it does.
    pub go_on: PathBuf,
    /// QEMU's stub for debuggers, where there is one.
    pub gdb: Option<PathBuf>,
    /// `xen-syms` of this very build.
    pub symbols: Option<PathBuf>,
    /// How to log in.
    pub login: KeptLogin,
}

/// How to log in to the dom0 of a machine that stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct KeptLogin {
    /// Address and port.
    pub addr: std::net::SocketAddr,
    /// As whom.
    pub user: String,
    /// The private key's file.
    pub key: PathBuf,
    /// The file with dom0's own key.
    pub known_hosts: PathBuf,
    /// Folders with this build's tools, for `PATH`.
    pub path: Vec<String>,
}

/// An open door; shut when dropped.
pub struct Door {
    /// What other processes read.
    pub kept: Kept,
    served: JoinSet<()>,
}

/// What a door leads to.
pub(crate) struct Behind<'a> {
    pub case: String,
    pub arch: Arch,
    pub frozen: bool,
    pub machine: &'a Arc<Machine>,
    pub hub: &'a Arc<Hub>,
    pub typed: &'a Typed,
    pub record: &'a Path,
    pub ssh: &'a SshConfig,
    pub path: Vec<String>,
    pub symbols: Option<PathBuf>,
}

impl Door {
    /// Opens it: keys, sockets, and the file last.
    pub(crate) async fn open(to: Behind<'_>) -> Result<Door, String> {
        let dir = to.machine.rundir().path().to_owned();
        let gdb = dir.join("gdb");
        let stub = format!("gdbserver unix:{},server=on,wait=off", gdb.display());
        let said = to.machine.qmp().human(&stub).await.map_err(|e| e.to_string())?;
        // It has no error of its own, only words.
        if !gdb.exists() {
            return Err(format!("QEMU has no stub for debuggers: {said}"));
        }
        let (ip, port) = (to.ssh.addr.ip(), to.ssh.addr.port());
        let login = KeptLogin {
            addr: to.ssh.addr,
            user: to.ssh.user.clone(),
            key: dir.join("ssh-key"),
            known_hosts: dir.join("ssh-known-hosts"),
            path: to.path,
        };
        private(&login.key, &to.ssh.private_key)?;
        private(&login.known_hosts, &format!("[{ip}]:{port} {}\n", to.ssh.host_key.trim()))?;
        let (console, go_on) = (dir.join(CONSOLE), dir.join(GO_ON));
        let listen = |path: &Path| UnixListener::bind(path).map_err(|e| format!("{}: {e}", path.display()));
        let (typing, asking) = (listen(&console)?, listen(&go_on)?);
        let mut served = JoinSet::new();
        let (hub, typed, record) = (to.hub.clone(), to.typed.clone(), to.record.to_owned());
        served.spawn(async move {
            let mut visitors = JoinSet::new();
            while let Ok((stream, _)) = typing.accept().await {
                let (hub, typed, record) = (hub.clone(), typed.clone(), record.clone());
                // Who leaves, or cannot be written to, is gone; the machine is not concerned.
                visitors.spawn(async move { drop(visited(stream, &hub, typed, &record).await) });
                while visitors.try_join_next().is_some() {}
            }
        });
        let machine = to.machine.clone();
        served.spawn(async move {
            while let Ok((mut stream, _)) = asking.accept().await {
                let answer = machine.resume().await.err().map(|e| e.to_string()).unwrap_or_default();
                let _ = stream.write_all(format!("{answer}\n").as_bytes()).await;
            }
        });
        let kept = Kept {
            case: to.case,
            arch: to.arch,
            frozen: to.frozen,
            console,
            go_on,
            gdb: Some(gdb),
            symbols: to.symbols,
            login,
        };
        let text = serde_json::to_string_pretty(&kept).map_err(|e| e.to_string())?;
        // By rename: who lists doors sees whole ones.
        let (new, file) = (dir.join("kept.new"), dir.join(FILE));
        private(&new, &text)?;
        std::fs::rename(&new, &file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(Door { kept, served })
    }

    /// Nobody comes in any more.
    pub(crate) async fn shut(mut self) {
        self.served.shutdown().await;
    }
}

/// One at the console: the record so far, then what comes; what is typed goes to the machine.
async fn visited(stream: UnixStream, hub: &Hub, mut typed: Typed, record: &Path) -> std::io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let mut changes = hub.changes();
    let shown = async {
        let mut offset = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            // The bundle's record is written before anybody is told that something arrived.
            let closed = hub.state().closed;
            let mut file = File::open(record).await?;
            file.seek(std::io::SeekFrom::Start(offset)).await?;
            loop {
                let n = file.read(&mut buffer).await?;
                if n == 0 {
                    break;
                }
                to.write_all(&buffer[..n]).await?;
                offset += n as u64;
            }
            if closed || changes.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    let taken = async {
        let mut buffer = [0; 1024];
        loop {
            let n = from.read(&mut buffer).await?;
            if n == 0 {
                // Nothing more is typed; who only looks goes on looking.
                std::future::pending::<()>().await;
            }
            typed.write_all(&buffer[..n]).await?;
        }
    };
    tokio::select! {
        end = shown => end,
        end = taken => end,
    }
}

fn private(path: &Path, text: &str) -> Result<(), String> {
    use std::io::Write as _;
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes())).map_err(|e| format!("{}: {e}", path.display()))
}
