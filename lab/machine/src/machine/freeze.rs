//! Freezing a machine: what its processors and devices hold, which with its memory makes a template.

use super::Machine;
use super::restore::{capabilities, migrated};
use crate::qmp::QmpError;
use crate::spec::{Backing, MachineSpec};
use serde_json::{Value, json};
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use xenlab_host::interrupt;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::MachineEnd;

/// The longest state that is taken for one: it is some 400 KB. More means that the memory is in it.
const LONGEST: u64 = 256 << 20;

/// A machine that was frozen.
#[derive(Clone, PartialEq, Eq)]
pub struct Frozen {
    /// What its processors and devices hold, in QEMU's own format; some 500 KB.
    pub state: Vec<u8>,
    /// Wall time from asking the machine to stop until its state was here.
    pub took: Duration,
}

/// Why no template could be taken. None of these says anything about Xen; but for [`FreezeError::Ended`] and
/// [`FreezeError::Interrupted`] the machine is still there, paused, and [`Machine::resume`] has it go on.
#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    /// It is known beforehand that this machine cannot be frozen.
    #[error("no template can be taken of this machine: {0}")]
    Impossible(String),
    /// QEMU refused, or its monitor did not answer.
    #[error("cannot take a template: {0}")]
    Qmp(#[from] QmpError),
    /// QEMU tried and failed.
    #[error("cannot take a template: QEMU could not write the machine's state: {0}")]
    Failed(String),
    /// The machine ended meanwhile.
    #[error("cannot take a template: the machine ended: {0:?}")]
    Ended(MachineEnd),
    /// The socket.
    #[error("cannot take a template: {what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// What the host said.
        error: io::Error,
    },
    /// It took too long.
    #[error("cannot take a template: it was not done within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The user interrupted the run.
    #[error("interrupted while a template was taken")]
    Interrupted,
}

impl FreezeError {
    /// The cause a verdict would carry: that of what went wrong, never Xen's.
    pub fn cause(&self) -> Cause {
        match self {
            FreezeError::Impossible(_) | FreezeError::Io { .. } | FreezeError::TimedOut(_) => {
                Cause::LabInternal
            }
            FreezeError::Qmp(_) | FreezeError::Failed(_) => Cause::QemuProtocol,
            FreezeError::Ended(MachineEnd::QemuKilled { .. }) => Cause::QemuKilled,
            FreezeError::Ended(MachineEnd::InternalError) => Cause::QemuInternalError,
            FreezeError::Ended(_) => Cause::QemuExited,
            FreezeError::Interrupted => Cause::Interrupted,
        }
    }
}

/// Why no template can be taken of such a machine.
pub(super) fn hindrance(spec: &MachineSpec) -> Option<String> {
    let private = || "its memory is not in a file".to_owned();
    match spec.backing {
        Backing::Build(_) => spec.cannot_freeze(),
        Backing::Private => Some(private()),
        Backing::CopyOf(_) => {
            Some("its memory is a copy of a template's, and what it changed is in no file".to_owned())
        }
    }
}

impl Machine {
    /// Stops the machine and asks what its processors and devices hold, which with the file of its memory ([`Backing::Build`]) is the
    /// template. It can only be stopped afterwards. One way for every QEMU: it is asked to migrate to
    /// a socket, the lab being the other end (QEMU's own `file:` is of 8.2, and the sandbox forbids `exec:`).
    ///
    /// # Errors
    /// [`FreezeError`].
    pub async fn freeze(&self, limit: Duration) -> Result<Frozen, FreezeError> {
        if let Some(why) = &self.cannot_freeze {
            return Err(FreezeError::Impossible(why.clone()));
        }
        let begun = Instant::now();
        let result = tokio::select! {
            // How the machine ended explains everything else that went wrong.
            biased;
            end = self.ended() => Err(FreezeError::Ended(end)),
            done = self.migrate() => done,
            () = interrupt::wait() => Err(FreezeError::Interrupted),
            () = tokio::time::sleep(limit) => Err(FreezeError::TimedOut(limit)),
        };
        match result {
            Ok(state) => {
                self.frozen.store(true, Ordering::Relaxed);
                Ok(Frozen { state, took: begun.elapsed() })
            }
            Err(error) => Err(self.explained(error).await),
        }
    }

    async fn migrate(&self) -> Result<Vec<u8>, FreezeError> {
        let io = |what: &str| {
            let what = what.to_owned();
            move |error| FreezeError::Io { what, error }
        };
        let socket = self.rundir.path().join("outgoing");
        // Of an attempt before this one.
        let _ = std::fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).map_err(io("listening for QEMU"))?;
        let mut events = self.qmp.events();
        self.qmp.execute("stop", Value::Null).await?;
        capabilities(&self.qmp).await?;
        self.qmp.execute("migrate", json!({"uri": format!("unix:{}", socket.display())})).await?;
        let stream = async {
            let (stream, _) = listener.accept().await.map_err(io("waiting for QEMU to connect"))?;
            let mut bytes = Vec::new();
            let mut stream = stream.take(LONGEST + 1);
            stream.read_to_end(&mut bytes).await.map_err(io("reading the machine's state"))?;
            Ok(bytes)
        };
        let end = async { migrated(&self.qmp, &mut events).await?.map_err(FreezeError::Failed) };
        let (bytes, ()) = tokio::try_join!(stream, end)?;
        if bytes.len() as u64 > LONGEST {
            return Err(FreezeError::Failed(format!("it is longer than {} MiB", LONGEST >> 20)));
        }
        let _ = std::fs::remove_file(&socket);
        Ok(bytes)
    }

    /// Leaves the machine so that it can go on; if it died of what went wrong, that is what went wrong.
    async fn explained(&self, error: FreezeError) -> FreezeError {
        if let FreezeError::Qmp(QmpError::Lost(_)) = error
            && let Ok(end) = tokio::time::timeout(super::SETTLE + super::SETTLE, self.ended()).await
        {
            return FreezeError::Ended(end);
        }
        if !matches!(error, FreezeError::Ended(_) | FreezeError::Interrupted) {
            // Nothing to cancel is no error to QEMU.
            let _ = self.qmp.execute_within("migrate_cancel", Value::Null, super::QUIT).await;
        }
        error
    }
}
