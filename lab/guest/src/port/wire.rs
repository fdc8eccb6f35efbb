//! The three ports: what is to be sent and what has arrived. Every wait here can be dropped at any moment without a byte being
//! lost or sent twice.

use super::PortError;
use super::flow::Flow;
use crate::Deadline;
use std::collections::VecDeque;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest answer; what goes on for longer is none.
const LONGEST: usize = 1024;

/// Bytes that wait to be sent on a port.
struct Sending {
    to: OwnedWriteHalf,
    unsent: VecDeque<u8>,
}

impl Sending {
    /// Sends some of it; never returns when there is nothing to send.
    async fn some(&mut self) -> Result<(), PortError> {
        if self.unsent.is_empty() {
            return std::future::pending().await;
        }
        match self.to.write(self.unsent.as_slices().0).await {
            Ok(n @ 1..) => {
                self.unsent.drain(..n);
                Ok(())
            }
            Ok(_) => Err(PortError::Closed("it takes nothing".into())),
            Err(e) => Err(PortError::Closed(e.to_string())),
        }
    }
}

/// The ports.
pub(super) struct Wire {
    answers: OwnedReadHalf,
    requests: Sending,
    outputs: [OwnedReadHalf; 2],
    /// What cannot be asked of a shell that is busy goes in by the port of standard error.
    asides: Sending,
    /// Kept, since a port that is half closed is closed.
    stdout: OwnedWriteHalf,
    /// Part of an answer.
    line: Vec<u8>,
    arrived: VecDeque<String>,
}

impl Wire {
    pub(super) fn new(shell: UnixStream, stdout: UnixStream, stderr: UnixStream) -> Self {
        let (answers, requests) = shell.into_split();
        let (out, stdout) = stdout.into_split();
        let (err, asides) = stderr.into_split();
        Wire {
            answers,
            requests: Sending { to: requests, unsent: VecDeque::new() },
            outputs: [out, err],
            asides: Sending { to: asides, unsent: VecDeque::new() },
            stdout,
            line: Vec::new(),
            arrived: VecDeque::new(),
        }
    }

    /// The ports, if nothing is half said.
    pub(super) fn into_streams(self) -> Option<[UnixStream; 3]> {
        let Wire { answers, requests, outputs: [out, err], asides, stdout, line, arrived } = self;
        if !(requests.unsent.is_empty() && asides.unsent.is_empty() && line.is_empty() && arrived.is_empty())
        {
            return None;
        }
        let whole = |read: OwnedReadHalf, write: OwnedWriteHalf| read.reunite(write).ok();
        Some([whole(answers, requests.to)?, whole(out, stdout)?, whole(err, asides.to)?])
    }

    /// Has a request sent.
    pub(super) fn say(&mut self, text: &str) {
        self.requests.unsent.extend(text.as_bytes());
    }

    /// Has something asked beside a command that runs. What was not even sent yet need not be asked twice.
    pub(super) fn aside(&mut self, text: &str) {
        if self.asides.unsent.len() < LONGEST {
            self.asides.unsent.extend(text.as_bytes());
        }
    }

    /// An answer that has arrived.
    pub(super) fn answer(&mut self) -> Option<String> {
        self.arrived.pop_front()
    }

    /// Outputs that arrived while no command of this conversation ran, which are dropped.
    pub(super) fn unread(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let mut any = false;
        for output in &self.outputs {
            while matches!(output.try_read(&mut buffer), Ok(1..)) {
                any = true;
            }
        }
        any
    }

    /// Waits until something was sent or has arrived; false when the deadline passed first.
    pub(super) async fn more(
        &mut self,
        outputs: &mut [Flow; 2],
        deadline: &Deadline,
    ) -> Result<bool, PortError> {
        let mut buffers = [[0; 4 << 10], [0; 4 << 10], [0; 4 << 10]];
        let [b0, b1, b2] = &mut buffers;
        let [stdout, stderr] = &mut self.outputs;
        let arrived = |n: std::io::Result<usize>| match n {
            Ok(0) => Err(PortError::Closed("QEMU closed it".into())),
            Ok(n) => Ok(n),
            Err(e) => Err(PortError::Closed(e.to_string())),
        };
        tokio::select! {
            n = self.answers.read(b0) => {
                let n = arrived(n)?;
                self.hear(&buffers[0][..n]);
            }
            n = stdout.read(b1) => outputs[0].push(&buffers[1][..arrived(n)?]),
            n = stderr.read(b2) => outputs[1].push(&buffers[2][..arrived(n)?]),
            sent = self.requests.some() => sent?,
            sent = self.asides.some() => sent?,
            () = deadline.passed() => return Ok(false),
        }
        Ok(true)
    }

    fn hear(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.arrived.extend(String::from_utf8(line));
            } else if self.line.len() < LONGEST {
                self.line.push(byte);
            }
        }
        // Nobody asks that much at once: the oldest are no answers to anything asked now.
        self.arrived.drain(..self.arrived.len().saturating_sub(LONGEST));
    }
}
