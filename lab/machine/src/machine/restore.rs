//! A machine from a template: QEMU started with nothing in it, and the state fed to it.

use super::watch::terminated;
use super::{Machine, StartOptions, forwarded};
use crate::error::{StartError, said};
use crate::qmp::{Event, Qmp, QmpError};
use crate::quirks::Row;
use crate::spec::{Backing, Boot, BootDisk, Flash, MachineSpec};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::broadcast;
use xenlab_host::child::Ended;
use xenlab_host::rundir::RunDir;

/// Both sides of a migration have these: memory that is in a shared file is not in the stream, and QEMU says by events how
/// it goes.
pub(super) async fn capabilities(qmp: &Qmp) -> Result<(), QmpError> {
    let on = |name| json!({"capability": name, "state": true});
    let arguments = json!({"capabilities": [on("x-ignore-shared"), on("events")]});
    qmp.execute("migrate-set-capabilities", arguments).await.map(drop)
}

/// Waits for the end of a migration, as QEMU's events tell it; the inner Err is QEMU's reason for a failed one.
pub(super) async fn migrated(
    qmp: &Qmp,
    events: &mut broadcast::Receiver<Event>,
) -> Result<Result<(), String>, QmpError> {
    loop {
        let status = tokio::select! {
            event = events.recv() => match event {
                Ok(event) if event.name == "MIGRATION" => {
                    event.data.get("status").and_then(Value::as_str).unwrap_or_default().to_owned()
                }
                Ok(_) => continue,
                // Too many events to keep up with: one of them may have been it.
                Err(broadcast::error::RecvError::Lagged(_)) => status(qmp).await?.0,
                Err(broadcast::error::RecvError::Closed) => return Err(QmpError::Lost(qmp.lost().await)),
            },
            why = qmp.lost() => return Err(QmpError::Lost(why)),
        };
        match status.as_str() {
            "completed" => return Ok(Ok(())),
            "failed" | "cancelled" => return Ok(Err(self::status(qmp).await?.1)),
            _ => {}
        }
    }
}

/// Status and reason, as `query-migrate` has them.
async fn status(qmp: &Qmp) -> Result<(String, String), QmpError> {
    let reply = qmp.execute("query-migrate", Value::Null).await?;
    let text = |key| reply.get(key).and_then(Value::as_str);
    let reason = text("error-desc").unwrap_or("it did not say why");
    Ok((text("status").unwrap_or_default().to_owned(), reason.to_owned()))
}

impl Machine {
    /// Starts QEMU and has it become the machine that was frozen as `state`, over the memory file that `spec` names: as a clone
    /// ([`Backing::CopyOf`]), or over a copy of its own that becomes a template in its turn ([`Backing::Build`]). The rest of `spec`
    /// is as it was for the template. As after [`Machine::start`] the machine is
    /// paused, its console and ports connected, and [`Machine::resume`] has it go on.
    ///
    /// QEMU has no check of what it is fed: a flipped bit is mostly not noticed. Who calls this has compared the state's digest
    /// and the memory file's stamp.
    ///
    /// # Errors
    /// [`StartError`]. [`StartError::Template`] says that QEMU ran and the template is not one of this very machine, or
    /// damaged: then it is to be put aside. Nothing is left running then.
    pub async fn restore(
        spec: &MachineSpec,
        state: &[u8],
        rundir: Arc<RunDir>,
        options: StartOptions,
    ) -> Result<Machine, StartError> {
        let unusable = |why: String| Err(StartError::Template { why });
        let (Backing::CopyOf(ram) | Backing::Build(ram)) = &spec.backing else {
            return unusable("the machine's description does not say where its memory is".to_owned());
        };
        // QEMU makes a file that is empty as long as it should be, and one that is not there it makes.
        match std::fs::metadata(ram) {
            Err(error) => return unusable(format!("{}: {error}", ram.display())),
            Ok(file) if file.len() != spec.memory.0 => {
                return unusable(format!(
                    "{} is {} bytes long, the machine's memory {}",
                    ram.display(),
                    file.len(),
                    spec.memory.0
                ));
            }
            Ok(_) => {}
        }
        let spec = without_modules(spec, rundir.path())
            .map_err(|error| StartError::Io { what: "making a clone's empty files".to_owned(), error })?;
        Machine::launch(&spec, rundir, options, Some(state)).await
    }
}

/// The same machine with a file that says nothing in the place of dom0's kernel and initramfs. QEMU would read both, some 40 MB, and
/// keep a copy for itself for as long as the clone lives: for whoever boots the machine, and a clone was booted long ago
/// (the machine's memory is not filled while a state is to come: hw/core/loader.c, `rom_reset`; and `-no-reboot`). What the guest
/// can see is the same, and neither file has to be there any more. Sizes stay, since addresses follow from them.
///
/// So it is with the disk that firmware booted from, and with the firmware's variables, which are in the state: QEMU writes them to the file
/// when it has read that (hw/block/pflash_cfi01.c, `postload_update_cb`).
fn without_modules(spec: &MachineSpec, dir: &Path) -> io::Result<MachineSpec> {
    let mut spec = spec.clone();
    let unread = dir.join("unread");
    std::fs::write(&unread, [0; 4096])?;
    (spec.kernel.path, spec.initrd.path) = (unread.clone(), unread);
    if let Boot::Firmware(disk) = &mut spec.boot {
        disk.path = dir.join(BootDisk::FILE);
        std::fs::File::create(&disk.path)?.set_len(disk.bytes)?;
        if let Some(flash) = &mut disk.flash {
            flash.vars = dir.join(Flash::VARS);
            std::fs::File::create(&flash.vars)?.set_len(flash.vars_bytes)?;
        }
    }
    Ok(spec)
}

/// Something that makes an interrupt come to a machine that was restored. See [`quirks::KICK`](crate::quirks::KICK).
pub(super) enum Kick {
    /// A datagram to this port of the loopback, which leads to one of dom0's that nobody listens on.
    Packet(u16),
    /// This byte, typed on the console.
    Byte(StdUnixStream, u8),
}

/// dom0's port that the datagram goes to: `discard` of RFC 863.
const DISCARD: u16 = 9;

impl Kick {
    /// The first of the row's words that this machine can do: `packet`, which needs the network card, or `newline`.
    pub(super) async fn prepare(
        row: &Row,
        network: bool,
        qmp: &Qmp,
        console: &UnixStream,
    ) -> Result<Option<Kick>, StartError> {
        for word in row.value.split(' ') {
            match word {
                "packet" if network => {
                    let said = qmp.human(&format!("hostfwd_add net0 udp:127.0.0.1:0-:{DISCARD}")).await?;
                    let port = forwarded(&qmp.human("info usernet").await?, "UDP[HOST_FORWARD]");
                    // It is silent when it did it.
                    return port.map(|port| Some(Kick::Packet(port))).map_err(|error| match said.trim() {
                        "" => error.into(),
                        said => {
                            QmpError::Unexpected { command: "hostfwd_add".to_owned(), why: said.to_owned() }
                                .into()
                        }
                    });
                }
                "newline" => {
                    let io = |error| StartError::Io { what: "the console".to_owned(), error };
                    let console = rustix::io::dup(console).map_err(|e| io(e.into()))?;
                    return Ok(Some(Kick::Byte(console.into(), b'\n')));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// Does it, the machine running.
    pub(super) fn give(&self) -> io::Result<()> {
        match self {
            Kick::Packet(port) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
                socket.send_to(b"\n", (Ipv4Addr::LOCALHOST, *port)).map(drop)
            }
            Kick::Byte(console, byte) => (&*console).write_all(&[*byte]),
        }
    }
}

/// The loading of a state, seen from outside.
pub(super) struct Loading {
    socket: PathBuf,
    /// QEMU has begun to read the state: if it exits now, it is for what it read.
    fed: AtomicBool,
}

impl Loading {
    pub(super) fn new(dir: &Path) -> Loading {
        Loading { socket: dir.join("incoming"), fed: AtomicBool::new(false) }
    }

    /// Feeds the state to QEMU and waits until it has taken it.
    pub(super) async fn load(&self, qmp: &Qmp, state: &[u8]) -> Result<(), StartError> {
        let mut events = qmp.events();
        capabilities(qmp).await?;
        // It listens before it answers.
        let uri = format!("unix:{}", self.socket.display());
        qmp.execute("migrate-incoming", json!({ "uri": uri })).await?;
        let io = |error| StartError::Io { what: format!("connecting to {}", self.socket.display()), error };
        let mut stream = UnixStream::connect(&self.socket).await.map_err(io)?;
        self.fed.store(true, Ordering::Relaxed);
        let feed = async {
            // Who stops reading says why by its event or its end.
            let _ = stream.write_all(state).await;
            let _ = stream.shutdown().await;
        };
        let ((), end) = tokio::join!(feed, migrated(qmp, &mut events));
        end?.map_err(|why| StartError::Template { why })
    }

    /// What it means that QEMU ended before the machine was there.
    pub(super) fn ended(&self, ended: Ended, stderr: String) -> StartError {
        match ended {
            Ended::Exit(status) if self.fed.load(Ordering::Relaxed) && terminated(&stderr).is_none() => {
                StartError::Template {
                    why: format!("QEMU gave up loading it (exit status {status}): {}", said(&stderr)),
                }
            }
            ended => StartError::ended(ended, stderr),
        }
    }
}
