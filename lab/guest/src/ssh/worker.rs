//! The thread that owns a session: takes requests, starts commands, reads what they write, ends them.

use super::connection::{Attempt, Connection, Failure, TICK, closed, wait};
use super::{Request, SshConfig, SshError};
use crate::capture::Capture;
use crate::{Deadline, Script, nonce, quote};
use ssh2::Channel;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use xenlab_model::evidence::{CommandEnd, CommandResult, Transport};

/// Guest time given to killing a command that did not end, and to its last words.
const KILL_GRACE: Duration = Duration::from_secs(5);
/// The longest command line sent as such; dropbear takes 9000 bytes (`MAX_CMD_LEN` in its sysoptions.h). Longer ones go by standard input.
const INLINE_LIMIT: usize = 6000;
/// The longest pause between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the first attempt waits for the server's first word; each further one twice as long. QEMU accepts connections long
/// before dom0 has a network, and what it then sends in vain it repeats ever more seldom: a new attempt is sooner through.
const FIRST_WORD: Duration = Duration::from_millis(250);

/// The longest an attempt may be silent, before the first word or after it.
const SILENCE_MOST: Duration = Duration::from_secs(30);

/// A command under way.
struct Job {
    script: Script,
    deadline: Deadline,
    reply: oneshot::Sender<CommandResult>,
    since: Instant,
    mark: String,
    channel: Channel,
    out: Capture,
    err: Capture,
    /// Process id of the command's shell in dom0, which leads a process group of its own.
    pid: Option<u32>,
    /// Set once the deadline passed and the command was killed: how long to wait for its last words.
    dying: Option<Deadline>,
}

/// The thread's state.
pub(super) struct Worker {
    config: SshConfig,
    host_key: Vec<u8>,
    inbox: Receiver<Request>,
    /// Requests that arrived while a connection was being made.
    waiting: RefCell<VecDeque<Request>>,
    bell: UnixStream,
    connection: Option<Connection>,
    jobs: Vec<Job>,
    gone: bool,
}

impl Worker {
    pub(super) fn new(
        config: SshConfig,
        inbox: Receiver<Request>,
        bell: UnixStream,
    ) -> Result<Self, SshError> {
        let key = |what, e: ssh_key::Error| SshError::Key { what, reason: e.to_string() };
        let host_key = ssh_key::PublicKey::from_openssh(&config.host_key)
            .and_then(|k| k.to_bytes())
            .map_err(|e| key("host key", e))?;
        ssh_key::PrivateKey::from_openssh(&config.private_key).map_err(|e| key("user's key", e))?;
        let waiting = RefCell::default();
        Ok(Worker { config, host_key, inbox, waiting, bell, connection: None, jobs: Vec::new(), gone: false })
    }

    /// The thread's life: ends when nobody can ask for anything any more.
    pub(super) fn work(mut self) {
        while !self.gone {
            self.hear();
            self.take_requests();
            let progress = self.serve();
            if progress || self.gone {
                continue;
            }
            let next = self.jobs.iter().map(|j| j.dying.as_ref().unwrap_or(&j.deadline).remaining()).min();
            match (&self.connection, next) {
                (Some(connection), Some(next)) => connection.wait_io(next, Some(&self.bell)),
                // Idle: the connection may well end meanwhile, which the next command will notice.
                _ => wait(None, Some(&self.bell), TICK),
            }
        }
    }

    /// Empties the bell; its end means that the last [`super::SshShell`] was dropped.
    fn hear(&mut self) {
        let mut buffer = [0; 64];
        loop {
            match (&self.bell).read(&mut buffer) {
                Ok(0) => {
                    self.gone = true;
                    return;
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn take_requests(&mut self) {
        loop {
            let waiting = self.waiting.get_mut().pop_front();
            match waiting.map_or_else(|| self.inbox.try_recv(), Ok) {
                Ok(Request::Connect { deadline, reply }) => {
                    let answer = self.connect(&deadline, &|| reply.is_closed());
                    let _ = reply.send(answer);
                }
                Ok(Request::Run { script, deadline, reply }) => self.start(script, deadline, reply),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    /// Somebody who asked meanwhile has waited as long as they would: a connection that is made early and in its own time must
    /// not make a command late. What arrives is kept in its order.
    fn kept_waiting(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        waiting.extend(self.inbox.try_iter());
        waiting.iter().any(|request| match request {
            Request::Connect { deadline, .. } | Request::Run { deadline, .. } => deadline.expired(),
        })
    }

    /// Connects, unless there is a connection; tries again until the deadline or until nobody wants it any more.
    fn connect(&mut self, deadline: &Deadline, unwanted: &dyn Fn() -> bool) -> Result<(), SshError> {
        if self.connection.is_some() {
            return Ok(());
        }
        let stop = || unwanted() || self.kept_waiting();
        let (mut attempts, mut pause, mut first_word) = (0, Duration::from_millis(10), FIRST_WORD);
        loop {
            attempts += 1;
            let whole = deadline.within(SILENCE_MOST);
            let spoken = whole.within(first_word);
            let last = match Connection::open(&self.config, &self.host_key, &spoken, &whole, &stop) {
                Ok(connection) => {
                    tracing::debug!(addr = %self.config.addr, attempts, "SSH session is up");
                    self.connection = Some(connection);
                    return Ok(());
                }
                Err(Attempt::Final(error)) => return Err(error),
                Err(Attempt::Again(why)) => why,
            };
            if deadline.expired() || stop() {
                return Err(SshError::NoAnswer {
                    addr: self.config.addr,
                    attempts,
                    last,
                    limit: deadline.limit(),
                });
            }
            first_word = (first_word * 2).min(SILENCE_MOST);
            wait(None, None, pause.min(deadline.remaining()));
            pause = (pause * 2).min(PAUSE);
        }
    }

    /// Starts a command. A connection that turns out dead before anything was started is made anew, once.
    fn start(&mut self, script: Script, deadline: Deadline, reply: oneshot::Sender<CommandResult>) {
        let since = Instant::now();
        let mark = nonce();
        let (command, input) = command_line(&script, &mark);
        let end = |end| crate::nothing_ran(Transport::Ssh, &script, end, since);
        for fresh in [self.connection.is_none(), true] {
            if let Err(error) = self.connect(&deadline, &|| reply.is_closed()) {
                let _ = reply.send(end(CommandEnd::Lost(error.to_string())));
                return;
            }
            let Some(connection) = self.connection.as_mut() else { continue };
            match connection.exec(&command, input.as_bytes(), &deadline) {
                Ok(channel) => {
                    let (out, err) = (Capture::default(), Capture::default());
                    self.jobs.push(Job {
                        script,
                        deadline,
                        reply,
                        since,
                        mark,
                        channel,
                        out,
                        err,
                        pid: None,
                        dying: None,
                    });
                    return;
                }
                Err(Failure::Late) => {
                    // It may have been started: only with the connection does it surely end.
                    self.lose("a command could not be started in time");
                    let _ = reply.send(end(CommandEnd::TimedOut(deadline.limit().as_secs())));
                    return;
                }
                Err(Failure::Broken(why)) => {
                    self.lose(&why);
                    if fresh {
                        let why = format!("the SSH session broke before the command had started: {why}");
                        let _ = reply.send(end(CommandEnd::Lost(why)));
                        return;
                    }
                }
            }
        }
    }

    /// Ends the connection and with it every command on it.
    fn lose(&mut self, why: &str) {
        tracing::debug!(addr = %self.config.addr, why, "SSH session is lost");
        self.connection = None;
        for job in self.jobs.drain(..) {
            let late = job.dying.is_some();
            let end = if late {
                job.timed_out()
            } else {
                CommandEnd::Lost(format!("the SSH session broke: {why}"))
            };
            job.finish(end);
        }
    }

    /// Reads what there is of every command, ends those that ended. True when anything moved.
    fn serve(&mut self) -> bool {
        let mut moved = false;
        let mut i = 0;
        while i < self.jobs.len() {
            match self.jobs[i].read() {
                Ok(read) => moved |= read,
                Err(why) => {
                    self.lose(&why);
                    return true;
                }
            }
            let job = &mut self.jobs[i];
            let over = match closed(&mut job.channel) {
                Ok(true) => Some(if job.dying.is_some() { job.timed_out() } else { job.ended() }),
                Ok(false) => None,
                Err(Failure::Broken(why)) => {
                    self.lose(&why);
                    return true;
                }
                Err(Failure::Late) => None,
            };
            if let Some(end) = over {
                self.jobs.swap_remove(i).finish(end);
                moved = true;
                continue;
            }
            let (late, overdue) = match &job.dying {
                Some(grace) => (false, grace.expired()),
                None => (job.deadline.expired() || job.reply.is_closed(), false),
            };
            if overdue {
                // It was killed and yet its channel stays open: something it started keeps the outputs. Let go of it.
                let job = self.jobs.swap_remove(i);
                let end = job.timed_out();
                job.finish(end);
                moved = true;
            } else if late {
                moved = true;
                if !self.kill(i) {
                    self.lose("dom0 did not answer when a command was to be ended");
                    return true;
                }
                i += 1;
            } else {
                i += 1;
            }
        }
        moved
    }

    /// Kills a command's process group over a channel of its own. False when dom0 does not answer.
    fn kill(&mut self, i: usize) -> bool {
        let job = &mut self.jobs[i];
        let grace = job.deadline.afresh(KILL_GRACE);
        job.dying = Some(grace.clone());
        let Some(pid) = job.pid else { return false };
        let Some(connection) = self.connection.as_mut() else { return false };
        let command = format!("kill -9 -{pid} 2>/dev/null || kill -9 {pid} 2>/dev/null; :");
        let Ok(mut channel) = connection.exec(&command, &[], &grace) else { return false };
        let mut drop_all = [0; 4096];
        loop {
            let _ = channel.read(&mut drop_all);
            match closed(&mut channel) {
                Ok(true) => return true,
                Ok(false) if grace.expired() => return false,
                Ok(false) => {}
                Err(_) => return false,
            }
            // The command that is being killed may be flooding the connection: keep reading it.
            match self.jobs[i].read() {
                Err(_) => return false,
                Ok(true) => {}
                Ok(false) => connection.wait_io(grace.remaining(), None),
            }
        }
    }
}

impl Job {
    /// Reads both outputs for a while, so that neither can block the command. True when something came.
    fn read(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 32 * 1024];
        let mut moved = false;
        for (stream, capture) in [(0, &mut self.out), (1, &mut self.err)] {
            // Bounded, so that a flood on one channel does not starve the others or the clock.
            for _ in 0..16 {
                match self.channel.stream(stream).read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => {
                        capture.push(&buffer[..n]);
                        moved = true;
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    Err(e) => return Err(e.to_string()),
                }
            }
        }
        if self.pid.is_none() {
            self.take_mark();
        }
        Ok(moved)
    }

    /// The first line on standard error is the lab's own, `MARK PID`; it is taken off.
    fn take_mark(&mut self) {
        let Some(rest) = self.err.kept().strip_prefix(self.mark.as_bytes()) else { return };
        let Some(end) = memchr::memchr(b'\n', rest) else { return };
        self.pid = std::str::from_utf8(&rest[..end]).ok().and_then(|t| t.trim().parse().ok());
        self.err.drop_front(self.mark.len() + end + 1);
    }

    fn ended(&self) -> CommandEnd {
        if let Ok(signal) = self.channel.exit_signal()
            && let Some(name) = signal.exit_signal
        {
            return CommandEnd::Signal(name);
        }
        match self.channel.exit_status() {
            Ok(status) => CommandEnd::Exit(status),
            Err(e) => {
                CommandEnd::Lost(format!("the server did not say how the command ended: {}", e.message()))
            }
        }
    }

    fn timed_out(&self) -> CommandEnd {
        CommandEnd::TimedOut(self.deadline.limit().as_secs())
    }

    fn finish(self, end: CommandEnd) {
        let result = CommandResult {
            via: Transport::Ssh,
            script: self.script.text,
            end,
            stdout: self.out.finish(),
            stderr: self.err.finish(),
            seconds: self.since.elapsed().as_secs_f64(),
        };
        // Nobody waits for it when the caller has given up.
        let _ = self.reply.send(result);
    }
}

/// The command line for the login shell, and what it gets on standard input.
///
/// The script's shell leads a process group, so that all of it can be killed: under a server that does not give each command one
/// (dropbear) `setsid` makes it. `exec` keeps the process id that was said, and the exit status or signal.
fn command_line(script: &Script, mark: &str) -> (String, String) {
    let begin = format!(
        "echo {mark} $$ >&2;read -r _x _x _x _x _xg _x </proc/$$/stat;_xs=;\
         [ \"$_xg\" = $$ ]||! command -v setsid >/dev/null||_xs=setsid;"
    );
    let exports = script.exports();
    let short = format!("{begin}{exports}exec $_xs /bin/sh -c {} sh </dev/null", quote(&script.text));
    if short.len() <= INLINE_LIMIT {
        return (short, String::new());
    }
    let input = format!("{exports}_x={}", quote(&script.text));
    (format!("{begin}eval \"$(cat)\";exec $_xs /bin/sh -c \"$_x\" sh </dev/null"), input)
}
