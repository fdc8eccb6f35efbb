//! A shell in dom0 on virtio-serial ports of the lab's own: the fastest way in, and one that a restored machine has at once.
//!
//! There are three ports: one for requests and answers, one for each output of commands. What a command writes comes as it is,
//! and ends with a line that names the server's key and the command: both are 64 bits or more that nobody else has, so nothing a
//! command says is taken for an end or an answer. The other side is `images/initramfs/port` in dom0; it runs one
//! command at a time.
//!
//! **Freezing a machine.** Freeze it while no command runs, when [`PortShell::connect`] has succeeded once: then the shell in dom0
//! waits in a read and whatever forwards outputs in an open, nothing is on its way, and a restored machine serves at the first word. Leave
//! the sockets connected until the machine is frozen: to dom0 the connection goes on, and that of the restored machine, which
//! its QEMU makes before it loads the state, takes its place. Dropped before, the shell in dom0 would see the end of its
//! input and begin anew about once a second. In the restored machine a [`PortShell`] of its own, over the new sockets, says
//! [`PortShell::first_words`]. Whatever was under way all the same (half a request, a command, outputs nobody read)
//! is ended and dropped before the first command.

mod first;
mod flow;
mod wire;

use crate::capture::Capture;
use crate::{BoxFuture, Deadline, Script, Shell, nothing_ran};
use flow::Flow;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;
use wire::Wire;
use xenlab_model::cause::Cause;
use xenlab_model::evidence::{Captured, CommandEnd, CommandResult, Transport};

/// How long an answer to a greeting is waited for at first; each further try waits twice as long. dom0 needs a few
/// milliseconds; on a busy host a hundred times that were seen.
const PATIENCE: Duration = Duration::from_millis(500);
/// The longest that is waited before a greeting is said again.
const PATIENCE_MOST: Duration = Duration::from_secs(8);
/// Guest time that making the connection has at least, whatever the command's limit, which says how long the command may take.
const CONNECT: Duration = Duration::from_secs(20);
/// Guest time given, past a command's limit, to ending it.
const GRACE: Duration = Duration::from_secs(30);
/// How long what a command left running may keep its outputs open after its own end; and between two requests to end.
const HOLD: Duration = Duration::from_secs(1);

/// Why the port takes no commands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Nobody answered.
    #[error("no shell answered on the lab's port in dom0 within {}s of guest time ({tries} tries)", limit.as_secs_f32())]
    NoAnswer {
        /// How long it was tried.
        limit: Duration,
        /// How often it was greeted.
        tries: u32,
    },
    /// There was a shell, and it stopped answering.
    #[error("the shell on the lab's port in dom0 stopped answering: {0}")]
    Silent(String),
    /// QEMU closed its side.
    #[error("the lab's port to dom0 is closed: {0}")]
    Closed(String),
    /// A clone could not be told what it must not share.
    #[error("a clone's clock and random numbers could not be set: {0}")]
    FirstWords(String),
}

impl PortError {
    /// What it means for a verdict.
    pub fn cause(&self) -> Cause {
        Cause::PortDead
    }
}

/// A shell in dom0 over the lab's own ports.
pub struct PortShell {
    wire: Wire,
    outputs: [Flow; 2],
    /// The server's key, once it has answered.
    key: Option<String>,
    /// A command that may still be running in dom0 and that nobody waits for.
    stray: Option<String>,
    /// Something may be on its way that is not this conversation's.
    dirty: bool,
    /// Something was asked aside and may not have been done yet.
    asked: bool,
    /// The last script was sent.
    sent: bool,
}

/// A command under way.
struct Job {
    id: String,
    status: Option<(i32, bool)>,
}

impl PortShell {
    /// A shell over the machine's ports: requests and answers, and the two outputs. Nothing is sent before [`Self::connect`] or
    /// the first command.
    pub fn new(shell: UnixStream, stdout: UnixStream, stderr: UnixStream) -> Self {
        PortShell {
            wire: Wire::new(shell, stdout, stderr),
            outputs: [Flow::default(), Flow::default()],
            key: None,
            stray: None,
            dirty: false,
            asked: false,
            sent: false,
        }
    }

    /// A shell over ports of which another process has made the connection: it knows the server's key.
    pub fn connected(shell: UnixStream, stdout: UnixStream, stderr: UnixStream, key: String) -> Self {
        PortShell { key: Some(key), ..PortShell::new(shell, stdout, stderr) }
    }

    /// The ports and the server's key, for another process to go on with ([`Self::connected`]); None where a conversation is under way.
    pub fn into_parts(self) -> Option<([UnixStream; 3], String)> {
        if self.dirty || self.asked || self.stray.is_some() {
            return None;
        }
        let key = self.key?;
        Some((self.wire.into_streams()?, key))
    }

    /// The script that was run last was sent to dom0; what came of it need not be known.
    pub fn sent(&self) -> bool {
        self.sent
    }

    /// Greets the shell in dom0 until it answers or the deadline passes, and ends what is not this conversation's.
    ///
    /// # Errors
    /// [`PortError`], when nobody answers or QEMU has closed the port.
    pub async fn connect(&mut self, deadline: &Deadline) -> Result<(), PortError> {
        if self.key.is_none() {
            self.greet(None, deadline).await?;
        }
        self.settle(deadline).await
    }

    /// Greets until the greeting is answered; with it goes a request, made anew for each try, until that is answered too.
    async fn greet(
        &mut self,
        also: Option<&(dyn Fn(&str) -> String + Sync)>,
        deadline: &Deadline,
    ) -> Result<Option<String>, PortError> {
        let mut patience = PATIENCE;
        let mut tries = 0;
        while tries == 0 || !deadline.expired() {
            tries += 1;
            let nonce = crate::nonce();
            let request = also.map_or_else(String::new, |also| format!("; {}", also(&nonce)));
            // What a request that lost its end may have left open is closed; where nothing is, this is a comment.
            self.wire.say(&format!("\n#'\n[ \"$A\" ] || . \"$F\"; h {nonce}{request}\n"));
            let turn = deadline.within(patience);
            let mut greeted = false;
            while let Some(answer) = self.answer(&turn).await? {
                let words: Vec<&str> = answer.split(' ').collect();
                match words[..] {
                    ["H", n, key] if n == nonce && key.len() >= 16 => {
                        self.key = Some(key.to_owned());
                        greeted = true;
                    }
                    ["W", n, status] if n == nonce && greeted => return Ok(Some(status.to_owned())),
                    // Server's word that it has begun, answers to earlier greetings.
                    ["S"] | ["H" | "W" | "A", ..] => continue,
                    _ => self.dirty = true,
                }
                if greeted && self.asked {
                    // It may still be about to be begun anew: what answers after that has been done will stay.
                    if self.asked_is_done(deadline).await? {
                        break;
                    }
                } else if greeted && also.is_none() {
                    return Ok(None);
                }
            }
            if greeted && !self.asked {
                continue;
            }
            // Busy with a command that is not ours, if there is anybody; or left in the middle of what only it knows.
            self.dirty = true;
            self.aside(if tries > 1 { "k -\ns\n" } else { "k -\n" });
            patience = (patience * 2).min(PATIENCE_MOST);
        }
        Err(PortError::NoAnswer { limit: deadline.limit(), tries })
    }

    fn aside(&mut self, text: &str) {
        self.wire.aside(text);
        self.asked = true;
    }

    /// Waits until everything that was asked aside has been done: what comes late would be done to the next command.
    async fn asked_is_done(&mut self, deadline: &Deadline) -> Result<bool, PortError> {
        let nonce = crate::nonce();
        self.wire.aside(&format!("a {nonce}\n"));
        while let Some(answer) = self.answer(deadline).await? {
            if answer.strip_prefix("A ") == Some(&nonce) {
                self.asked = false;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Ends what nobody waits for any more, and drops what it wrote.
    async fn settle(&mut self, deadline: &Deadline) -> Result<(), PortError> {
        let grace = deadline.afresh(GRACE.max(deadline.remaining()));
        if let Some(id) = self.stray.clone() {
            let mut job = Job { id, status: None };
            self.end(&mut job, &grace).await?;
            self.stray = None;
        }
        if self.asked && !self.asked_is_done(&grace).await? {
            return Err(PortError::Silent("it never ended a command".into()));
        }
        if self.dirty || self.wire.unread() {
            let mut job = self.begin(":");
            if !self.wait(&mut job, &grace).await? {
                return Err(PortError::Silent("it did not run `:`".into()));
            }
            self.stray = None;
            self.dirty = false;
        }
        Ok(())
    }

    /// The next answer; `None` when the deadline passed first.
    async fn answer(&mut self, deadline: &Deadline) -> Result<Option<String>, PortError> {
        loop {
            if let Some(answer) = self.wire.answer() {
                return Ok(Some(answer));
            }
            if !self.wire.more(&mut self.outputs, deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Asks for a script to be run.
    fn begin(&mut self, text: &str) -> Job {
        let id = crate::nonce();
        let key = self.key.as_deref().unwrap_or_default();
        self.outputs = [(), ()].map(|()| Flow::new(key, &id));
        self.wire.say(&format!("r {id} '{}' {id}\n", text.replace('\'', "'\\''")));
        self.stray = Some(id.clone());
        Job { id, status: None }
    }

    /// Waits until a command and both its outputs have ended; false when the deadline passed before the command did.
    async fn wait(&mut self, job: &mut Job, deadline: &Deadline) -> Result<bool, PortError> {
        let ended = |outputs: &[Flow; 2]| outputs.iter().all(Flow::ended);
        loop {
            while let Some(answer) = self.wire.answer() {
                let words: Vec<&str> = answer.split(' ').collect();
                match words[..] {
                    ["E", id, status, signalled] if id == job.id => {
                        let status =
                            status.parse().map_err(|_| PortError::Silent(format!("it said {answer:?}")))?;
                        job.status = Some((status, signalled == "1"));
                    }
                    ["N", id] if id == job.id => {
                        return Err(PortError::Silent("a request arrived damaged".into()));
                    }
                    ["S"] => return Err(PortError::Silent("it ended, and another took its place".into())),
                    _ => {}
                }
            }
            if job.status.is_some() {
                if ended(&self.outputs) {
                    return Ok(true);
                }
                return self.outlast(deadline).await.map(|()| true);
            }
            if !self.wire.more(&mut self.outputs, deadline).await? {
                return Ok(false);
            }
        }
    }

    /// Waits for the end of outputs whose command has ended, and has them let go of when something it left running holds them.
    async fn outlast(&mut self, deadline: &Deadline) -> Result<(), PortError> {
        let grace = deadline.afresh(GRACE);
        let mut turn = grace.within(HOLD);
        while !self.outputs.iter().all(Flow::ended) {
            if self.wire.more(&mut self.outputs, &turn).await? {
                continue;
            }
            if grace.expired() {
                return Err(PortError::Silent("a command's outputs never ended".into()));
            }
            self.aside("c\n");
            turn = grace.within(HOLD);
        }
        Ok(())
    }

    /// Ends a command and waits for its end.
    async fn end(&mut self, job: &mut Job, grace: &Deadline) -> Result<(), PortError> {
        loop {
            self.aside(&format!("k {}\n", job.id));
            if self.wait(job, &grace.within(HOLD)).await? {
                return Ok(());
            }
            if grace.expired() {
                return Err(PortError::Silent("a command that was killed never ended".into()));
            }
        }
    }

    async fn command(&mut self, script: &Script, deadline: &Deadline) -> Result<CommandResult, PortError> {
        let mut deadline = deadline.clone();
        self.sent = false;
        if self.key.is_none() || self.stray.is_some() || self.asked {
            self.connect(&deadline.afresh(deadline.limit().max(CONNECT))).await?;
            deadline = deadline.afresh(deadline.limit());
        }
        let mut job = self.begin(&format!("{}{}", script.exports(), script.text));
        self.sent = true;
        let in_time = self.wait(&mut job, &deadline).await?;
        if !in_time {
            self.end(&mut job, &deadline.afresh(GRACE)).await?;
        }
        self.stray = None;
        let end = match job.status {
            _ if !in_time => CommandEnd::TimedOut(deadline.limit().as_secs()),
            // The shell does not tell these two apart from an exit; nobody exits with them for any other reason.
            Some((status @ (130 | 141), _)) | Some((status @ 129.., true)) => {
                CommandEnd::Signal(crate::signal::name(status - 128))
            }
            Some((status, _)) => CommandEnd::Exit(status),
            None => return Err(PortError::Silent("it did not say how a command ended".into())),
        };
        let [stdout, stderr] = std::mem::take(&mut self.outputs).map(Flow::finish);
        let script = script.text.clone();
        Ok(CommandResult { via: Transport::Port, script, end, stdout, stderr, seconds: 0.0 })
    }
}

impl Shell for PortShell {
    fn transport(&self) -> Transport {
        Transport::Port
    }

    fn run<'a>(&'a mut self, script: &'a Script, deadline: Deadline) -> BoxFuture<'a, CommandResult> {
        Box::pin(async move {
            let since = Instant::now();
            let lost = |why: String| nothing_ran(Transport::Port, script, CommandEnd::Lost(why), since);
            if let Err(e) = script.check() {
                return lost(e.to_string());
            }
            match self.command(script, &deadline).await {
                Ok(mut result) => {
                    result.seconds = since.elapsed().as_secs_f64();
                    result
                }
                Err(error) => {
                    // Whatever state it is in: begin again with a greeting.
                    (self.key, self.dirty) = (None, true);
                    if matches!(error, PortError::Silent(_)) {
                        self.aside("k -\nc\n");
                    }
                    self.stray = None;
                    lost(error.to_string())
                }
            }
        })
    }
}
