//! QEMU's monitor.
//!
//! Commands and their replies are qapi's types; the connection is not qapi's. Its stream (0.15) ends at the first event
//! it has no type for, and a newer QEMU has such events; and a command whose future is dropped breaks the next one. Here
//! one task owns the connection, reads everything that comes whoever waits for it, and keeps events as JSON.

use bytes::BytesMut;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use xenlab_model::cause::Cause;

/// The longest message that is read, bytes. `query-machines` answers with some 50 KiB.
const LONGEST: usize = 16 << 20;

/// How long a command may take when nothing else is said, wall time: on a busy host QEMU's main loop waits too.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Events that a slow listener may fall behind.
const BACKLOG: usize = 1024;

/// Something the monitor did not do as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QmpError {
    /// QEMU refused the command.
    #[error("QEMU refused `{command}`: {class}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class of error.
        class: String,
        /// QEMU's words.
        description: String,
    },
    /// No reply within the limit.
    #[error("QEMU's monitor did not answer `{command}` within {} s", limit.as_secs_f64())]
    TimedOut {
        /// The command.
        command: String,
        /// Wall time.
        limit: Duration,
    },
    /// The connection ended, or what came over it is not the protocol.
    #[error("QEMU's monitor: {0}")]
    Lost(String),
    /// The reply is not of the shape the command has.
    #[error("QEMU answered `{command}` with something else than expected: {why}")]
    Unexpected {
        /// The command.
        command: String,
        /// What does not fit.
        why: String,
    },
}

impl QmpError {
    /// The cause a verdict carries.
    pub fn cause(&self) -> Cause {
        Cause::QemuProtocol
    }
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To QEMU.
    Sent,
    /// From QEMU.
    Got,
}

impl Direction {
    /// As a bundle's timeline writes it.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Sent => "sent",
            Direction::Got => "got",
        }
    }
}

/// Is shown every message as it goes by. Called from the connection's task: it must not block.
pub type Tap = Arc<dyn Fn(Direction, &Value) + Send + Sync>;

/// A tap that keeps nothing.
pub fn no_tap() -> Tap {
    Arc::new(|_, _| {})
}

/// An event, whether or not anybody knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// When it arrived.
    pub at: Instant,
    /// QEMU's name for it.
    pub name: String,
    /// Its data; `Null` when it has none.
    pub data: Value,
}

struct Request {
    command: String,
    arguments: Value,
    reply: oneshot::Sender<Result<Value, QmpError>>,
}

/// What the connection's task is asked for.
enum Ask {
    Run(Request),
    /// The connection itself, for somebody else to go on with.
    Release(oneshot::Sender<Released>),
}

/// A connection between two messages, and what was read of the next one.
pub(crate) struct Released {
    pub(crate) stream: UnixStream,
    pub(crate) unread: Vec<u8>,
}

/// The monitor of a machine. Cheap to clone.
#[derive(Clone)]
pub struct Qmp {
    requests: mpsc::Sender<Ask>,
    events: broadcast::Sender<Event>,
    lost: watch::Receiver<Option<String>>,
}

impl Qmp {
    /// Reads the greeting, negotiates, and leaves the connection to a task of its own. `seen` is shown each event by that
    /// task, before anybody else.
    ///
    /// # Errors
    /// [`QmpError::Lost`] when what connected is not a QEMU.
    pub(crate) async fn open(
        stream: UnixStream,
        tap: Tap,
        seen: impl Fn(&Event) + Send + 'static,
    ) -> Result<Qmp, QmpError> {
        let (read, write) = stream.into_split();
        let mut lines = Lines::new(read);
        let greeting = lines.message().await.map_err(QmpError::Lost)?;
        tap(Direction::Got, &greeting);
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Lost(format!(
                "expected its greeting, got {}",
                shorten(&greeting.to_string())
            )));
        }
        let qmp = Qmp::over(lines, write, tap, seen);
        qmp.run(qapi::qmp::qmp_capabilities { enable: None }).await?;
        Ok(qmp)
    }

    /// Goes on with a connection that somebody else has opened.
    pub(crate) fn adopt(released: Released, tap: Tap, seen: impl Fn(&Event) + Send + 'static) -> Qmp {
        let (read, write) = released.stream.into_split();
        let mut lines = Lines::new(read);
        lines.buffer.extend_from_slice(&released.unread);
        Qmp::over(lines, write, tap, seen)
    }

    fn over(lines: Lines, write: OwnedWriteHalf, tap: Tap, seen: impl Fn(&Event) + Send + 'static) -> Qmp {
        let (requests, inbox) = mpsc::channel(16);
        let (events, _) = broadcast::channel(BACKLOG);
        let (ended, lost) = watch::channel(None);
        let connection =
            Connection { write, tap, seen: Box::new(seen), events: events.clone(), pending: BTreeMap::new() };
        tokio::spawn(async move {
            let why = connection.run(lines, inbox).await;
            ended.send_replace(Some(why));
        });
        Qmp { requests, events, lost }
    }

    /// Gives the connection away; to whoever holds this monitor it is lost then. None when a command is under way, or it was lost
    /// before.
    pub(crate) async fn release(&self) -> Option<Released> {
        let (to, released) = oneshot::channel();
        self.requests.send(Ask::Release(to)).await.ok()?;
        released.await.ok()
    }

    /// Runs a command of qapi's schema and awaits its reply, at most [`LIMIT`].
    ///
    /// # Errors
    /// [`QmpError`]. After [`QmpError::TimedOut`] the monitor can still be used: a late reply is read and dropped.
    pub async fn run<C: qapi::Command>(&self, command: C) -> Result<C::Ok, QmpError> {
        let arguments = serde_json::to_value(&command).map_err(|e| QmpError::Unexpected {
            command: C::NAME.to_owned(),
            why: format!("its arguments: {e}"),
        })?;
        self.typed(C::NAME, arguments).await
    }

    /// Runs a command by its name, for those newer than qapi's schema and for replies that have to be read with more
    /// tolerance.
    ///
    /// # Errors
    /// As [`Qmp::run`].
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_within(command, arguments, LIMIT).await
    }

    /// As [`Qmp::execute`] with a limit of wall time.
    ///
    /// # Errors
    /// As [`Qmp::run`].
    pub async fn execute_within(
        &self,
        command: &str,
        arguments: Value,
        limit: Duration,
    ) -> Result<Value, QmpError> {
        let (reply, answer) = oneshot::channel();
        let request = Request { command: command.to_owned(), arguments, reply };
        let done = async {
            self.requests.send(Ask::Run(request)).await.map_err(|_| self.gone())?;
            answer.await.map_err(|_| self.gone())?
        };
        match tokio::time::timeout(limit, done).await {
            Ok(result) => result,
            Err(_) => Err(QmpError::TimedOut { command: command.to_owned(), limit }),
        }
    }

    async fn typed<T: DeserializeOwned>(&self, command: &str, arguments: Value) -> Result<T, QmpError> {
        let reply = self.execute(command, arguments).await?;
        serde_json::from_value(reply)
            .map_err(|e| QmpError::Unexpected { command: command.to_owned(), why: e.to_string() })
    }

    /// Runs a line of the human monitor, for the few things that have no other form (`info usernet`).
    ///
    /// # Errors
    /// As [`Qmp::run`].
    pub async fn human(&self, line: &str) -> Result<String, QmpError> {
        self.typed("human-monitor-command", json!({ "command-line": line })).await
    }

    /// Every event from now on.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Why the connection ended; waits until it does.
    pub async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        let gone = || "the connection is gone".to_owned();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_else(gone),
            Err(_) => gone(),
        }
    }

    fn gone(&self) -> QmpError {
        QmpError::Lost(self.lost.borrow().clone().unwrap_or_else(|| "the connection is gone".to_owned()))
    }
}

/// Messages, one a line. Nothing is lost when a read is cancelled.
struct Lines {
    read: OwnedReadHalf,
    buffer: BytesMut,
    /// How far the buffer is known to have no end of line.
    searched: usize,
}

impl Lines {
    fn new(read: OwnedReadHalf) -> Lines {
        Lines { read, buffer: BytesMut::new(), searched: 0 }
    }

    /// Reads one message; the error says why there is none.
    async fn message(&mut self) -> Result<Value, String> {
        loop {
            if let Some(at) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.searched + at + 1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map_err(|e| format!("{e} in {}", shorten(&String::from_utf8_lossy(&line))));
            }
            self.searched = self.buffer.len();
            if self.searched > LONGEST {
                return Err(format!("a message longer than {LONGEST} bytes"));
            }
            match self.read.read_buf(&mut self.buffer).await {
                Ok(0) => return Err("the connection ended".to_owned()),
                Ok(_) => {}
                Err(e) => return Err(format!("reading from it: {e}")),
            }
        }
    }
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect::<String>().escape_debug().collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

struct Connection {
    write: OwnedWriteHalf,
    tap: Tap,
    seen: Box<dyn Fn(&Event) + Send>,
    events: broadcast::Sender<Event>,
    /// Commands without a reply yet, by id.
    pending: BTreeMap<u64, (String, oneshot::Sender<Result<Value, QmpError>>)>,
}

impl Connection {
    /// Until the connection ends; says why it did.
    async fn run(mut self, mut lines: Lines, mut inbox: mpsc::Receiver<Ask>) -> String {
        let mut next_id = 0;
        let mut open = true;
        loop {
            tokio::select! {
                got = lines.message() => match got.and_then(|m| self.handle(m)) {
                    Ok(()) => {}
                    Err(why) => return why,
                },
                request = inbox.recv(), if open => match request {
                    // A reply still to come would be an answer to nothing for who has it next.
                    Some(Ask::Release(to)) if self.pending.is_empty() => {
                        return match lines.read.reunite(self.write) {
                            Ok(stream) => {
                                // Who asked may have run out of patience, and then nobody has it.
                                let _ = to.send(Released { stream, unread: lines.buffer.to_vec() });
                                "the connection was given to another process".to_owned()
                            }
                            Err(error) => error.to_string(),
                        };
                    }
                    Some(Ask::Release(_)) => {}
                    Some(Ask::Run(request)) => {
                        next_id += 1;
                        if let Err(why) = self.send(next_id, request).await {
                            return why;
                        }
                    }
                    // Nobody will ask any more; what QEMU says still goes to the record.
                    None => open = false,
                },
            }
        }
    }

    async fn send(&mut self, id: u64, request: Request) -> Result<(), String> {
        use tokio::io::AsyncWriteExt;
        let mut message = json!({ "execute": request.command, "id": id });
        if request.arguments.as_object().is_some_and(|a| !a.is_empty()) {
            message["arguments"] = request.arguments;
        }
        (self.tap)(Direction::Sent, &message);
        self.pending.insert(id, (request.command, request.reply));
        let line = format!("{message}\n");
        self.write.write_all(line.as_bytes()).await.map_err(|e| format!("writing to it: {e}"))
    }

    fn handle(&mut self, mut message: Value) -> Result<(), String> {
        (self.tap)(Direction::Got, &message);
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let name = name.to_owned();
            let event = Event { at: Instant::now(), name, data: message["data"].take() };
            (self.seen)(&event);
            // Nobody may be listening.
            let _ = self.events.send(event);
            return Ok(());
        }
        let odd = |m: &Value| Err(format!("not a reply to anything asked: {}", shorten(&m.to_string())));
        let Some((command, reply)) =
            message.get("id").and_then(Value::as_u64).and_then(|id| self.pending.remove(&id))
        else {
            return odd(&message);
        };
        let result = if let Some(error) = message.get("error") {
            let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            Err(QmpError::Refused { command, class: text("class"), description: text("desc") })
        } else if message.get("return").is_some() {
            Ok(message["return"].take())
        } else {
            return odd(&message);
        };
        // Who asked may have run out of patience.
        let _ = reply.send(result);
        Ok(())
    }
}
