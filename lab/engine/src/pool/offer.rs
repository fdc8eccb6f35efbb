//! What is said between a run and a pool that another process keeps.
//!
//! The run connects to the pool's socket, which has the template's key in its name and lies in a run folder, private to the user. It says
//! what it wants; the pool answers with a machine, its open files in the message, or with the reason why there is none. After that
//! the connection is the machine's lease (`machine::lease`).

use super::said::Said;
use super::warm::Warm;
use crate::EngineError;
use crate::boot;
use crate::template::Ready;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use xenlab_guest::port::PortShell;
use xenlab_host::passing;
use xenlab_host::rundir::{self, RunDir};
use xenlab_machine::qmp::Direction;
use xenlab_machine::{Handed, Machine};
use xenlab_model::cause::Cause;

/// Of the messages here.
const FORMAT: u32 = 1;

/// The longest question and answer, bytes.
pub const QUESTION: usize = 64 << 10;
const ANSWER: usize = 4 << 20;

/// How long a pool may take to answer, wall time: it has what it gives at hand.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What a run wants.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    format: u32,
    /// The lab's version.
    lab: String,
    /// The template's key.
    key: String,
    /// SHA-256 of its state: one that was made again has another.
    state: String,
}

/// What a pool answers.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// There is none; why.
    Nothing(String),
    /// A machine, in the message's files.
    Machine(Box<Offered>),
}

/// A warm machine of the pool's.
#[derive(Serialize, Deserialize)]
pub struct Offered {
    /// The machine.
    pub handed: Handed,
    /// The key of the server of its port.
    pub port: String,
    /// What its monitor said, and what was said to it (true).
    pub said: Vec<(bool, Value)>,
    /// The pool's process.
    pub pool: u32,
}

/// The name of the socket where machines of this template are to be had.
pub fn socket(key: &str) -> String {
    format!("pool-{}", key.get(..16).unwrap_or(key))
}

impl Wanted {
    /// A machine of this template.
    pub fn of(ready: &Ready) -> Wanted {
        Wanted {
            format: FORMAT,
            lab: env!("CARGO_PKG_VERSION").to_owned(),
            key: ready.key().to_owned(),
            state: ready.digest().to_owned(),
        }
    }
}

/// What a pool of somebody's gives, and the sockets where nobody answered as a pool does.
pub async fn ask(ready: &Ready, skip: impl Fn(&Path) -> bool, mut bad: impl FnMut(&Path)) -> Option<Warm> {
    for path in rundir::find(&socket(ready.key())).into_iter().filter(|path| !skip(path)) {
        // What nobody listens on was left by a pool that was killed.
        let Ok(stream) = UnixStream::connect(&path).await else { continue };
        match tokio::time::timeout(PATIENCE, one(stream, ready)).await {
            Ok(Ok(Ok(warm))) => return Some(warm),
            Ok(Ok(Err(why))) => tracing::info!("{}: {why}", path.display()),
            Ok(Err(error)) => {
                tracing::warn!("{}: {error}", path.display());
                bad(&path);
            }
            Err(_) => {
                tracing::warn!("{}: no answer", path.display());
                bad(&path);
            }
        }
    }
    None
}

/// Asks one pool; within, its reason for giving none.
async fn one(stream: UnixStream, ready: &Ready) -> Result<Result<Warm, String>, EngineError> {
    let wrong = |what: &str| EngineError::part(Cause::LabInternal, what);
    let io = |error: std::io::Error| EngineError::part(Cause::LabInternal, error);
    let json = |error: serde_json::Error| EngineError::part(Cause::LabInternal, error);
    if !passing::is_own(&stream) {
        return Err(wrong("another user's process is there"));
    }
    passing::send(&stream, &serde_json::to_vec(&Wanted::of(ready)).map_err(json)?, &[]).await.map_err(io)?;
    let (answer, files) = passing::receive(&stream, ANSWER).await.map_err(io)?;
    let Offered { handed, port, said, pool } = match serde_json::from_slice(&answer).map_err(json)? {
        Answer::Nothing(why) => return Ok(Err(why)),
        Answer::Machine(offered) => *offered,
    };
    let direction = |sent| if sent { Direction::Sent } else { Direction::Got };
    let said = Said::new(said.into_iter().map(|(sent, message)| (direction(sent), message)).collect());
    let dir = RunDir::create("a machine of a pool").map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    let mut machine = Machine::take(handed, files, stream, Arc::new(dir), said.tap()).map_err(io)?;
    boot::as_asked(&ready.ground().spec, &machine).await?;
    let ports = machine.take_ports().ok_or_else(|| wrong("it has no ports"))?;
    let port = PortShell::connected(ports.shell, ports.stdout, ports.stderr, port);
    Ok(Ok(Warm { machine, port, said, from: format!("from the pool of process {pool}") }))
}
