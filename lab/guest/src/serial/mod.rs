//! dom0 over its real console, where Xen writes between any two bytes and the terminal echoes what is typed.
//!
//! A small agent in POSIX shell (`agent.sh`) is typed to whatever shell answers on the console. It reads requests, one short
//! line each with its length; it runs one command at a time beside itself, so that it always answers and a slow command is
//! told from a dead console; what it says comes in frames ([`frame`]) that show when they were damaged. Every request
//! can be repeated without harm, so whatever got lost is simply asked for again.
//!
//! Nothing that is typed contains what is waited for, and neither scripts nor outputs are legible on the console: whoever looks for
//! a panic there does not find the word in somebody's script.
//!
//! What a command leaves running with its outputs still open is killed a second after the command's own end (a daemon's outputs
//! want redirecting); should that not do, the output is taken as it is and counts as cut.
//!
//! In dom0 it needs `sh`, `head`, `tail`, `wc`, `mkfifo`, `mkdir`, `rm`; for encoding `base64` or `od`; for checksums `cksum` or `sha256sum`
//! (else lengths alone); `setsid` to kill a whole process group. Each may be an applet of
//! `busybox`, which is preferred where there is one: a single static program starts quickest on an emulated processor.

mod boot;
mod command;
mod frame;
mod link;
mod login;

use crate::{BoxFuture, Deadline, Script, Shell, nothing_ran};
use bytes::Bytes;
use link::Link;
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc::Receiver;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{CommandEnd, CommandResult, Transport};

pub use boot::{AGENT, AGENT_PATH};
pub use login::{Login, LoginStep};

/// Why the console takes no commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SerialError {
    /// No shell answered.
    #[error("no shell answered on dom0's console within {}s of guest time ({tries} tries); it last showed: \"{last}\"", limit.as_secs_f32())]
    NoAnswer {
        /// How long it was tried.
        limit: Duration,
        /// How often something was typed.
        tries: u32,
        /// The end of what was shown, escaped.
        last: String,
    },
    /// There was a shell, and it stopped answering.
    #[error("the shell on dom0's console stopped answering: {0}")]
    Silent(String),
    /// The console takes no bytes.
    #[error("dom0's console took no bytes for {}s of guest time", .0.as_secs_f32())]
    Stuck(Duration),
    /// The console is gone.
    #[error("dom0's console is closed: {0}")]
    Closed(String),
    /// dom0 lacks something.
    #[error("dom0's userland cannot serve the console: {0}")]
    Lacks(String),
}

impl SerialError {
    /// What it means for a verdict.
    pub fn cause(&self) -> Cause {
        Cause::SerialDead
    }
}

/// How outputs are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    /// `base64`, lines of 76 characters.
    Base64,
    /// `od -An -v -tx1`, lines of 16 bytes.
    Hex,
}

/// How outputs are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sum {
    /// POSIX `cksum`.
    Cksum,
    /// `sha256sum`.
    Sha256,
    /// dom0 has neither: lengths must do.
    None,
}

/// What the agent in dom0 can do.
#[derive(Debug, Clone, Copy)]
struct Agent {
    encoding: Encoding,
    sum: Sum,
    /// It takes base64; otherwise scripts are written as octal escapes.
    decodes: bool,
}

/// A shell in dom0 over its console.
pub struct SerialShell<W> {
    link: Link<W>,
    login: Login,
    tag: String,
    agent: Option<Agent>,
    next: u32,
    /// A command may still be running in dom0 that nobody waits for.
    stray: bool,
}

impl<W: AsyncWrite + Send + Unpin> SerialShell<W> {
    /// A shell over a console: `shown` is what the console shows, fed at least while a command is under way; `typed` takes what is
    /// typed. Nothing is typed before [`Self::connect`] or the first command.
    pub fn new(shown: Receiver<Bytes>, typed: W, login: Login) -> Self {
        let tag = crate::nonce()[..6].to_owned();
        SerialShell { link: Link::new(shown, typed, &tag), login, tag, agent: None, next: 0, stray: false }
    }

    /// Logs in if need be and starts the agent, trying again until it answers or the deadline passes.
    pub async fn connect(&mut self, deadline: &Deadline) -> Result<(), SerialError> {
        if self.agent.is_none() {
            self.link.forget();
            self.agent = Some(self.boot(deadline).await?);
        }
        Ok(())
    }
}

impl<W: AsyncWrite + Send + Unpin> Shell for SerialShell<W> {
    fn transport(&self) -> Transport {
        Transport::Serial
    }

    fn run<'a>(&'a mut self, script: &'a Script, deadline: Deadline) -> BoxFuture<'a, CommandResult> {
        Box::pin(async move {
            let since = Instant::now();
            let lost = |why: String| nothing_ran(Transport::Serial, script, CommandEnd::Lost(why), since);
            if let Err(e) = script.check() {
                return lost(e.to_string());
            }
            match self.command(script, &deadline).await {
                Ok(mut result) => {
                    result.seconds = since.elapsed().as_secs_f64();
                    result
                }
                Err(error) => {
                    // Whatever state the console is in: begin again from its prompt.
                    self.agent = None;
                    lost(error.to_string())
                }
            }
        })
    }
}
