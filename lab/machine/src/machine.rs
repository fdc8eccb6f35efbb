//! A machine that runs: starting it, talking to it, and knowing how it ended.

mod freeze;
mod lease;
mod process;
mod restore;
mod watch;

pub use freeze::{FreezeError, Frozen};
pub use lease::{FILES, Given, Handed, Owned};

use process::Process;

use crate::argv::{PORTS, Wiring, argv};
use crate::error::StartError;
use crate::qmp::{self, Event, Qmp, QmpError, Tap};
use crate::quirks;
use crate::spec::{MachineSpec, Payload};
use serde_json::Value;
use std::borrow::Cow;
use std::ffi::OsString;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, watch as state};
use xenlab_host::child::Child;
use xenlab_host::clock::GuestClock;
use xenlab_host::rundir::RunDir;
use xenlab_host::{Command, interrupt};
use xenlab_model::evidence::MachineEnd;

/// How long QEMU may take to connect, wall time. It takes about 0.1 s; a host with eight busy loops, ten times that.
const CONNECT: Duration = Duration::from_secs(30);
/// How long an orderly end may take before the process group is killed.
const QUIT: Duration = Duration::from_secs(1);
/// Between the end of the monitor's connection and that of the process, either way round.
const SETTLE: Duration = Duration::from_secs(2);

/// How a machine is started.
pub struct StartOptions {
    /// Is shown every message of the monitor.
    pub tap: Tap,
    /// How long QEMU may take to connect, wall time.
    pub connect: Duration,
}

impl Default for StartOptions {
    fn default() -> Self {
        StartOptions { tap: qmp::no_tap(), connect: CONNECT }
    }
}

/// What the machine writes on its console. It is QEMU's own socket: as long as nobody reads, the guest waits.
pub struct ConsoleReader(OwnedReadHalf);

/// What is typed on the machine's console.
pub struct ConsoleWriter(OwnedWriteHalf);

impl AsyncRead for ConsoleReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for ConsoleWriter {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The ports of the lab's own shell in dom0, connected as long as this lives. As long as nobody reads one of them, what dom0
/// writes to it waits in dom0; QEMU and the machine go on.
pub struct Ports {
    /// Requests and answers.
    pub shell: UnixStream,
    /// Standard output of commands.
    pub stdout: UnixStream,
    /// Standard error of commands.
    pub stderr: UnixStream,
}

/// A QEMU process, connected. Dropping it kills the process group.
///
/// Somebody has to read the console while it runs: QEMU's emulation of the AArch64 board's UART waits with QEMU's main
/// lock held until it is read, and then its monitor does not answer either.
pub struct Machine {
    argv: Vec<OsString>,
    process: Arc<Process>,
    qmp: Qmp,
    console: Option<(ConsoleReader, ConsoleWriter)>,
    ports: Option<Ports>,
    vcpus: Vec<u32>,
    clock: OnceLock<GuestClock>,
    spawned: Instant,
    ssh_port: Option<u16>,
    ended: state::Receiver<Option<MachineEnd>>,
    /// Why no template can be taken of it.
    cannot_freeze: Option<String>,
    /// A template was taken of it: it must not go on, for the memory is the template's.
    frozen: AtomicBool,
    /// It is another process's, and goes on when this is dropped.
    given: AtomicBool,
    /// What this machine, restored, needs to wake up.
    kick: Option<restore::Kick>,
    /// The folder with its sockets, kept as long as the process.
    rundir: Arc<RunDir>,
}

impl Machine {
    /// Starts QEMU and attaches to it. The machine is paused, nothing of the guest has run: [`Machine::resume`] is the
    /// power button.
    ///
    /// # Errors
    /// [`StartError`], with what QEMU said. Nothing is left running then.
    pub async fn start(
        spec: &MachineSpec,
        rundir: Arc<RunDir>,
        options: StartOptions,
    ) -> Result<Machine, StartError> {
        Machine::launch(spec, rundir, options, None).await
    }

    /// Starts QEMU, attaches to it, and has it load `incoming`.
    async fn launch(
        spec: &MachineSpec,
        rundir: Arc<RunDir>,
        options: StartOptions,
        incoming: Option<&[u8]>,
    ) -> Result<Machine, StartError> {
        let wiring = Wiring::within(rundir.path());
        let mut args = argv(&*without_spaces(spec, rundir.path())?, &wiring)?;
        if incoming.is_some() {
            args.extend(["-incoming", "defer"].map(OsString::from));
        }
        let monitor = listen(&wiring.qmp)?;
        let console = listen(&wiring.console)?;
        let [shell, stdout, stderr] = &wiring.ports;
        let ports = [listen(shell)?, listen(stdout)?, listen(stderr)?];
        let spawned = Instant::now();
        let command = rundir.mark(Command::new(&spec.qemu.path).args(&args).cwd(rundir.path()));
        let child = command.spawn()?;
        rundir.add_pid(child.pid()).map_err(io("writing the run folder's entry"))?;
        let (monitor, console, ports) = connect(&child, monitor, console, ports, options.connect).await?;
        let (state, ended) = state::channel(None);
        let state = Arc::new(state);
        let seen = {
            let state = state.clone();
            move |event: &Event| {
                if let Some(end) = watch::end_of(event) {
                    state.send_if_modified(|s| s.is_none() && s.replace(end).is_none());
                }
            }
        };
        let loading = restore::Loading::new(rundir.path());
        let attached = async {
            let qmp = Qmp::open(monitor, options.tap, seen).await?;
            let asked = async {
                let vcpus = vcpus(&qmp).await?;
                let ssh_port = if spec.network {
                    Some(forwarded(&qmp.human("info usernet").await?, TCP)?)
                } else {
                    None
                };
                Ok((vcpus, ssh_port))
            };
            let loaded = async {
                match incoming {
                    Some(state) => loading.load(&qmp, state).await,
                    None => Ok(()),
                }
            };
            let ((vcpus, ssh_port), ()) = tokio::try_join!(asked, loaded)?;
            Ok::<_, StartError>((qmp, vcpus, ssh_port))
        };
        let limit = options.connect;
        let attached = tokio::select! {
            attached = tokio::time::timeout(limit, attached) => attached.unwrap_or_else(|_| {
                let what = if incoming.is_some() { "greet, load the template and answer" } else { "greet and answer" };
                Err(QmpError::Lost(format!("it did not {what} within {} s", limit.as_secs_f64())).into())
            }),
            () = interrupt::wait() => return Err(StartError::Interrupted),
        };
        let (qmp, vcpus, ssh_port) = match attached {
            Ok(attached) => attached,
            // It may have died: then that is what happened, and not that it stopped talking.
            Err(error @ StartError::Qmp(_)) => {
                return Err(match tokio::time::timeout(SETTLE, child.wait()).await {
                    Ok(ended) => loading.ended(ended?, child.stderr_tail()),
                    Err(_) => error,
                });
            }
            Err(error) => return Err(error),
        };
        let process = Arc::new(Process::Own(child));
        tokio::spawn(watch::watch_over(process.clone(), qmp.clone(), state));
        let row = incoming.and_then(|_| quirks::kick(spec.arch, spec.accel, spec.qemu.version));
        let kick = match row {
            Some(row) => restore::Kick::prepare(row, spec.network, &qmp, &console).await?,
            None => None,
        };
        let mut whole = vec![spec.qemu.path.clone().into_os_string()];
        whole.extend(args);
        let (read, write) = console.into_split();
        Ok(Machine {
            argv: whole,
            process,
            qmp,
            console: Some((ConsoleReader(read), ConsoleWriter(write))),
            ports: Some(ports),
            vcpus,
            clock: OnceLock::new(),
            spawned,
            ssh_port,
            ended,
            cannot_freeze: freeze::hindrance(spec),
            frozen: AtomicBool::new(false),
            given: AtomicBool::new(false),
            kick,
            rundir,
        })
    }

    /// Powers the machine on, or has a restored one go on: its clocks start here. A restored machine that would sleep until
    /// an interrupt comes is woken ([`quirks::KICK`]).
    ///
    /// # Errors
    /// When QEMU does not do it, and for a machine that a template was taken of.
    pub async fn resume(&self) -> Result<(), QmpError> {
        if self.frozen.load(Ordering::Relaxed) {
            return Err(QmpError::Refused {
                command: "cont".to_owned(),
                class: "xenlab".to_owned(),
                description: "a template was taken of this machine, and its memory is the template's"
                    .to_owned(),
            });
        }
        self.clock.get_or_init(|| GuestClock::start(self.process.pid(), self.vcpus.iter().copied()));
        self.go_on().await
    }

    /// As [`Machine::resume`], but its clocks stand still: for what it does before anybody asks for it.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub async fn go_on(&self) -> Result<(), QmpError> {
        self.qmp.run(qapi::qmp::cont {}).await?;
        match &self.kick {
            Some(kick) => kick
                .give()
                .map_err(|e| QmpError::Lost(format!("the restored machine could not be woken: {e}"))),
            None => Ok(()),
        }
    }

    /// Has it stand still until it is resumed.
    ///
    /// # Errors
    /// When QEMU does not do it.
    pub async fn pause(&self) -> Result<(), QmpError> {
        self.qmp.run(qapi::qmp::stop {}).await.map(drop)
    }

    /// The console, once.
    pub fn take_console(&mut self) -> Option<(ConsoleReader, ConsoleWriter)> {
        self.console.take()
    }

    /// The ports of the lab's own shell in dom0, once. They stay connected when nobody takes them.
    pub fn take_ports(&mut self) -> Option<Ports> {
        self.ports.take()
    }

    /// The monitor.
    pub fn qmp(&self) -> &Qmp {
        &self.qmp
    }

    /// Events of the monitor, from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.qmp.events()
    }

    /// How the machine ended; waits until it does. A machine stopped by [`Machine::stop`] ends too, as `QemuExited`.
    pub async fn ended(&self) -> MachineEnd {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => {
                end.clone().unwrap_or_else(|| MachineEnd::Protocol("nobody watched over it".to_owned()))
            }
            Err(_) => MachineEnd::Protocol("nobody watched over it".to_owned()),
        }
    }

    /// How the machine ended, if it did.
    pub fn end(&self) -> Option<MachineEnd> {
        self.ended.borrow().clone()
    }

    /// Guest time since power-on; zero before it.
    pub fn guest_time(&self) -> Duration {
        self.clock.get().map_or(Duration::ZERO, GuestClock::now)
    }

    /// Wall time since power-on; zero before it.
    pub fn wall_time(&self) -> Duration {
        self.clock.get().map_or(Duration::ZERO, GuestClock::wall)
    }

    /// The clock of guest time, once the machine is on.
    pub fn clock(&self) -> Option<&GuestClock> {
        self.clock.get()
    }

    /// When QEMU's process was asked for.
    pub fn spawned(&self) -> Instant {
        self.spawned
    }

    /// The port of the loopback that leads to dom0's port 22; None without a network card.
    pub fn ssh_port(&self) -> Option<u16> {
        self.ssh_port
    }

    /// The threads that run the machine's processors.
    pub fn vcpu_threads(&self) -> &[u32] {
        &self.vcpus
    }

    /// QEMU's process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// QEMU's command line, the program first.
    pub fn argv(&self) -> &[OsString] {
        &self.argv
    }

    /// The last of what QEMU wrote to standard error.
    pub fn stderr_tail(&self) -> String {
        self.process.stderr_tail()
    }

    /// The folder with its sockets.
    pub fn rundir(&self) -> &RunDir {
        &self.rundir
    }

    /// Ends it: asks QEMU to quit, and kills its process group when it has not within a second.
    pub async fn stop(&self) {
        let orderly = async {
            // A monitor that is gone or refuses leaves the same to do.
            let _ = self.qmp.execute("quit", Value::Null).await;
            self.process.wait().await
        };
        if tokio::time::timeout(QUIT, orderly).await.is_err() {
            self.process.kill();
            // SIGKILL is not refused; a process stuck in the kernel is not worth waiting for longer.
            let _ = tokio::time::timeout(QUIT, self.process.wait()).await;
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if *self.given.get_mut() {
            return;
        }
        self.process.kill();
    }
}

fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.into();
    move |error| StartError::Io { what, error }
}

/// QEMU's multiboot loader takes a module's file name to end at the first space: such a file gets another name, a link in
/// the run folder.
fn without_spaces<'a>(spec: &'a MachineSpec, dir: &Path) -> Result<Cow<'a, MachineSpec>, StartError> {
    let mut spec = Cow::Borrowed(spec);
    for (name, of) in [
        ("kernel", (|s| &mut s.kernel) as fn(&mut MachineSpec) -> &mut Payload),
        ("initrd", |s| &mut s.initrd),
    ] {
        let path = of(&mut spec.clone().into_owned()).path.clone();
        if path.as_os_str().as_encoded_bytes().contains(&b' ') {
            let link = dir.join(name);
            let absolute = std::path::absolute(&path).map_err(io(format!("{}", path.display())))?;
            std::os::unix::fs::symlink(absolute, &link).map_err(io(format!("linking {}", link.display())))?;
            of(spec.to_mut()).path = link;
        }
    }
    Ok(spec)
}

fn listen(path: &Path) -> Result<UnixListener, StartError> {
    UnixListener::bind(path).map_err(io(format!("listening on {}", path.display())))
}

/// Waits until QEMU has connected to every socket, or has ended, or takes too long.
async fn connect(
    child: &Child,
    monitor: UnixListener,
    console: UnixListener,
    ports: [UnixListener; PORTS.len()],
    limit: Duration,
) -> Result<(UnixStream, UnixStream, Ports), StartError> {
    let [shell, stdout, stderr] = ports;
    let all = async {
        let (monitor, console, shell, stdout, stderr) = tokio::try_join!(
            monitor.accept(),
            console.accept(),
            shell.accept(),
            stdout.accept(),
            stderr.accept()
        )?;
        Ok((monitor.0, console.0, Ports { shell: shell.0, stdout: stdout.0, stderr: stderr.0 }))
    };
    tokio::select! {
        all = all => all.map_err(io("waiting for QEMU to connect")),
        ended = child.wait() => Err(StartError::ended(ended?, child.stderr_tail())),
        () = interrupt::wait() => Err(StartError::Interrupted),
        () = tokio::time::sleep(limit) => {
            child.kill();
            Err(StartError::NotConnected { limit, stderr: child.stderr_tail() })
        }
    }
}

/// Thread numbers of the machine's processors. Read with tolerance: a newer QEMU adds to these replies.
async fn vcpus(qmp: &Qmp) -> Result<Vec<u32>, QmpError> {
    const COMMAND: &str = "query-cpus-fast";
    let reply = qmp.execute(COMMAND, Value::Null).await?;
    let thread = |cpu: &Value| cpu.get("thread-id")?.as_u64()?.try_into().ok();
    reply
        .as_array()
        .map(|cpus| cpus.iter().filter_map(thread).collect())
        .ok_or_else(|| QmpError::Unexpected { command: COMMAND.to_owned(), why: "it is no list".to_owned() })
}

/// How `info usernet` names the forwarding to dom0's port 22.
const TCP: &str = "TCP[HOST_FORWARD]";

/// The host's port of the one forwarding of its kind: the fourth word of its line.
///
/// `  TCP[HOST_FORWARD]  13   127.0.0.1 41833   10.0.2.15    22     0     0` (libslirp, `slirp_connection_info`)
fn forwarded(usernet: &str, kind: &str) -> Result<u16, QmpError> {
    let line = usernet.lines().find(|l| l.contains(kind));
    line.and_then(|l| l.split_whitespace().nth(3)?.parse().ok()).filter(|port| *port != 0).ok_or_else(|| {
        QmpError::Unexpected {
            command: "info usernet".to_owned(),
            why: format!("no forwarded port in {usernet:?}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_port_is_read() {
        let text = "VLAN -1 (net0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n  \
                    TCP[HOST_FORWARD]  13       127.0.0.1 41833       10.0.2.15    22     0     0\n";
        assert_eq!(forwarded(text, TCP), Ok(41833));
        assert!(forwarded("", TCP).is_err());
        assert!(forwarded("TCP[HOST_FORWARD] 13 127.0.0.1 99999 10.0.2.15 22", TCP).is_err());
    }
}
