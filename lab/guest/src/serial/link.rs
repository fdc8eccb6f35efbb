//! The two directions of a console: bytes typed, bytes shown, and what is looked for in them.

use super::SerialError;
use super::frame::Frames;
use crate::Deadline;
use bytes::Bytes;
use std::collections::VecDeque;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc::Receiver;

/// Bytes of the console's recent past that texts are looked for in.
const TAIL: usize = 4096;

/// A console.
pub(super) struct Link<W> {
    rx: Receiver<Bytes>,
    tx: W,
    seen: Seen,
}

/// What was shown.
struct Seen {
    /// Frames of the agent, once there is a tag to know them by.
    frames: Frames,
    /// Bodies that arrived and were not looked at.
    bodies: VecDeque<String>,
    /// What was shown last, at most [`TAIL`] bytes.
    tail: Vec<u8>,
}

impl Seen {
    fn take(&mut self, bytes: &[u8]) {
        self.bodies.extend(self.frames.push(bytes));
        let bytes = &bytes[bytes.len().saturating_sub(TAIL)..];
        self.tail.drain(..(self.tail.len() + bytes.len()).saturating_sub(TAIL).min(self.tail.len()));
        self.tail.extend_from_slice(bytes);
    }
}

impl<W: AsyncWrite + Send + Unpin> Link<W> {
    pub(super) fn new(rx: Receiver<Bytes>, tx: W, tag: &str) -> Self {
        let seen = Seen { frames: Frames::new(tag), bodies: VecDeque::new(), tail: Vec::new() };
        Link { rx, tx, seen }
    }

    /// Types something. A console that takes no bytes is as dead as one that shows none: the deadline holds here too.
    pub(super) async fn send(&mut self, text: &str, deadline: &Deadline) -> Result<(), SerialError> {
        let Link { rx, tx, seen } = self;
        let write = async {
            tx.write_all(text.as_bytes()).await?;
            tx.flush().await
        };
        tokio::pin!(write);
        loop {
            // A machine whose console nobody reads may stop reading what is typed: both at once.
            tokio::select! {
                biased;
                done = &mut write => return done.map_err(|e| SerialError::Closed(e.to_string())),
                Some(bytes) = rx.recv() => seen.take(&bytes),
                () = deadline.passed() => return Err(SerialError::Stuck(deadline.limit())),
            }
        }
    }

    /// Waits for more to be shown; false when the deadline passed first.
    async fn more(&mut self, deadline: &Deadline) -> Result<bool, SerialError> {
        tokio::select! {
            biased;
            bytes = self.rx.recv() => match bytes {
                Some(bytes) => {
                    self.seen.take(&bytes);
                    Ok(true)
                }
                None => Err(SerialError::Closed("nothing reads dom0's console any more".into())),
            },
            () = deadline.passed() => Ok(false),
        }
    }

    /// The body of the next frame; `None` when the deadline passed first.
    pub(super) async fn body(&mut self, deadline: &Deadline) -> Result<Option<String>, SerialError> {
        loop {
            if let Some(body) = self.seen.bodies.pop_front() {
                return Ok(Some(body));
            }
            if deadline.expired() || !self.more(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Waits until one of these texts is shown; which, and `None` when the deadline passed first. What came before it is forgotten.
    pub(super) async fn shown(
        &mut self,
        texts: &[&str],
        deadline: &Deadline,
    ) -> Result<Option<usize>, SerialError> {
        loop {
            let first = texts
                .iter()
                .enumerate()
                .filter_map(|(i, t)| {
                    Some((memchr::memmem::find(&self.seen.tail, t.as_bytes())? + t.len(), i))
                })
                .min();
            if let Some((end, which)) = first {
                self.seen.tail.drain(..end);
                return Ok(Some(which));
            }
            if deadline.expired() || !self.more(deadline).await? {
                return Ok(None);
            }
        }
    }

    /// Forgets what was shown so far.
    pub(super) fn forget(&mut self) {
        while self.rx.try_recv().is_ok() {}
        self.seen.tail.clear();
        self.seen.bodies.clear();
    }

    /// The end of what was shown, for messages.
    pub(super) fn last_shown(&self) -> String {
        let from = self.seen.tail.len().saturating_sub(160);
        String::from_utf8_lossy(&self.seen.tail[from..]).escape_debug().to_string()
    }
}
