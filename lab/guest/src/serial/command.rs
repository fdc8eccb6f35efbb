//! One command: typed, run, its outputs fetched and, where damaged, fetched again.

use super::boot::{PATIENCE, PATIENCE_MOST, encode};
use super::{Encoding, SerialError, SerialShell, Sum};
use crate::capture::captured;
use crate::{CAPTURE_LIMIT, Deadline, Script};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;
use tokio::io::AsyncWrite;
use xenlab_model::evidence::{Captured, CommandEnd, CommandResult, Transport};

/// Characters of a script typed at once; see the agent's own limit on lines. A multiple of four: no octal escape is torn.
const PIECE: usize = 80;
/// Guest time given, past a command's limit, to killing it and to outputs that are still on their way.
const GRACE: Duration = Duration::from_secs(30);
/// Guest time that making the connection has at least, whatever the command's limit: it says how long the command may take, and a
/// console that has to be woken first is not the command's doing.
const CONNECT: Duration = Duration::from_secs(20);
/// Guest time given to each batch of lines of an output.
const FETCH: Duration = Duration::from_secs(60);
/// How long what the command left running may keep its outputs open after its own end.
const HOLD: Duration = Duration::from_secs(1);
/// Lines of an output that are shown before the command's end is; of one that was killed, all that is fetched: a console carries few
/// kilobytes a second under emulation.
const INLINE: usize = 256;
/// Lines asked for at once.
const BATCH: usize = 256;

/// How often damaged outputs are fetched again as a whole, after every single line was whole.
const REFETCH: usize = 3;

/// An output as the agent announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Announced {
    sum: String,
    /// Bytes dom0 kept.
    size: usize,
    /// Bytes there were.
    total: u64,
}

/// A command's end as the agent announces it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    /// What the shell's `wait` said; `None` when the script arrived damaged and was not run.
    status: Option<i32>,
    /// The script's shell came to its own end, not by a signal.
    orderly: bool,
    outputs: [Announced; 2],
}

impl End {
    /// Reads an `E` frame of command `id`: status, orderly, sum, size and total of both outputs, and a check over the numbers.
    fn read(fields: &[&str], id: u32) -> Option<End> {
        let ["E", i, status, orderly, oc, oz, ot, ec, ez, et, check] = fields else { return None };
        if i.parse() != Ok(id) {
            return None;
        }
        let output = |sum: &str, size: &str, total: &str| {
            Some(Announced { sum: sum.to_owned(), size: size.parse().ok()?, total: total.parse().ok()? })
        };
        let outputs = [output(oc, oz, ot)?, output(ec, ez, et)?];
        if *status == "bad" {
            return Some(End { status: None, orderly: false, outputs });
        }
        let status: i32 = status.parse().ok()?;
        let orderly: i32 = orderly.parse().ok()?;
        let [o, e] = &outputs;
        let expected = i128::from(status) * 7
            + i128::from(orderly) * 3
            + o.size as i128 * 5
            + i128::from(o.total) * 11
            + e.size as i128 * 13
            + i128::from(e.total) * 17;
        (check.parse() == Ok(expected)).then_some(End {
            status: Some(status),
            orderly: orderly == 1,
            outputs,
        })
    }
}

/// What has arrived of a command.
#[derive(Default)]
struct Arrived {
    /// The script's shell has ended, its outputs may be under way.
    returned: bool,
    end: Option<End>,
    lines: [BTreeMap<usize, String>; 2],
}

impl Arrived {
    fn absorb(&mut self, body: &str, id: u32) {
        let fields: Vec<&str> = body.split(':').collect();
        match fields[..] {
            ["R", i, _] if i.parse() == Ok(id) => self.returned = true,
            ["E", ..] => self.end = End::read(&fields, id).or(self.end.take()),
            ["D", i, stream, n, text] if i.parse() == Ok(id) => {
                let stream = usize::from(stream == "e");
                if let Ok(n) = n.parse() {
                    self.lines[stream].insert(n, text.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// How waiting for a command's end went.
enum Waited {
    /// Its end is known.
    Ended(End),
    /// It did not end in time.
    Late,
}

impl<W: AsyncWrite + Send + Unpin> SerialShell<W> {
    pub(super) async fn command(
        &mut self,
        script: &Script,
        deadline: &Deadline,
    ) -> Result<CommandResult, SerialError> {
        let mut deadline = deadline;
        let fresh;
        if self.agent.is_none() {
            self.connect(&deadline.afresh(deadline.limit().max(CONNECT))).await?;
            fresh = deadline.afresh(deadline.limit());
            deadline = &fresh;
        }
        if self.stray {
            self.settle(deadline).await?;
        }
        self.link.forget();
        loop {
            let mut arrived = Arrived::default();
            let id = self.start(script, &mut arrived, deadline).await?;
            let waited = self.wait(id, &mut arrived, deadline).await?;
            let (end, limit) = match waited {
                Waited::Ended(end) => (end, None),
                Waited::Late => {
                    (self.kill(id, &mut arrived, &deadline.afresh(GRACE)).await?, Some(deadline.limit()))
                }
            };
            self.stray = false;
            if end.status.is_none() && limit.is_none() {
                continue;
            }
            let fetch = if deadline.remaining() < GRACE { deadline.afresh(GRACE) } else { deadline.clone() };
            let most = if limit.is_some() { INLINE } else { usize::MAX };
            let stdout = self.fetch(id, 0, &end, most, &mut arrived, &fetch).await?;
            let stderr = self.fetch(id, 1, &end, most, &mut arrived, &fetch).await?;
            let end = match (limit, end.status) {
                (Some(limit), _) => CommandEnd::TimedOut(limit.as_secs()),
                (None, Some(status)) if status > 128 && !end.orderly => {
                    CommandEnd::Signal(crate::signal::name(status - 128))
                }
                (None, status) => CommandEnd::Exit(status.unwrap_or_default()),
            };
            let script = script.text.clone();
            return Ok(CommandResult { via: Transport::Serial, script, end, stdout, stderr, seconds: 0.0 });
        }
    }

    /// Types a request until it is answered by a body that is `expected`.
    async fn ask(
        &mut self,
        request: &str,
        expected: &str,
        mut aside: Option<(&mut Arrived, u32)>,
        deadline: &Deadline,
    ) -> Result<(), SerialError> {
        let mut patience = PATIENCE;
        let mut tries = 0;
        while !deadline.expired() {
            tries += 1;
            self.link.send(&format!("{}:{request}\n", request.len()), deadline).await?;
            let mut turn = deadline.within(patience);
            while let Some(body) = self.link.body(&turn).await? {
                if body == expected {
                    return Ok(());
                }
                if let Some((arrived, id)) = &mut aside {
                    arrived.absorb(&body, *id);
                }
                if body == "N" {
                    break;
                }
                // What is on its way is waited for.
                turn = deadline.within(patience);
            }
            patience = (patience * 2).min(PATIENCE_MOST);
        }
        let verb = request.split(' ').next().unwrap_or_default();
        Err(SerialError::Silent(format!(
            "request `{verb}` was typed {tries} times in {}s of guest time; it last showed: \"{}\"",
            deadline.limit().as_secs_f32(),
            self.link.last_shown()
        )))
    }

    /// Types the script and starts it; its number.
    async fn start(
        &mut self,
        script: &Script,
        arrived: &mut Arrived,
        deadline: &Deadline,
    ) -> Result<u32, SerialError> {
        let Some(agent) = self.agent else { return Err(SerialError::Silent("there is no agent".into())) };
        self.next += 1;
        let id = self.next;
        let text = format!("{}{}", script.exports(), script.text);
        let text = text.trim_end_matches('\n');
        let typed = encode(text, agent.decodes);
        for (n, at) in (0..typed.len()).step_by(PIECE).enumerate() {
            let piece = &typed[at..(at + PIECE).min(typed.len())];
            self.ask(&format!("d {id} {n} {piece}"), &format!("A:{id}:{}", n + 1), None, deadline).await?;
        }
        if typed.is_empty() {
            self.ask(&format!("d {id} 0"), &format!("A:{id}:1"), None, deadline).await?;
        }
        let sum = sum(agent.sum, text.as_bytes());
        self.stray = true;
        // Longer outputs are asked for once the end is known.
        let request = format!("x {id} {sum} {CAPTURE_LIMIT} {}", INLINE - 1);
        self.ask(&request, &format!("X:{id}"), Some((arrived, id)), deadline).await?;
        Ok(id)
    }

    /// Waits for the command's end.
    async fn wait(
        &mut self,
        id: u32,
        arrived: &mut Arrived,
        deadline: &Deadline,
    ) -> Result<Waited, SerialError> {
        let mut patience = PATIENCE;
        let mut deadline = deadline.clone();
        let mut extended = false;
        loop {
            if let Some(end) = arrived.end.take() {
                return Ok(Waited::Ended(end));
            }
            let turn = deadline.within(if arrived.returned { patience.min(HOLD) } else { patience });
            match self.link.body(&turn).await? {
                Some(body) => {
                    arrived.absorb(&body, id);
                    patience = PATIENCE;
                }
                None if deadline.expired() && arrived.returned && !extended => {
                    // It did end in time, only its outputs are still on their way.
                    deadline = deadline.afresh(GRACE);
                    extended = true;
                }
                None if deadline.expired() => return Ok(Waited::Late),
                None => {
                    // Nothing for a while: either it works, or its end was lost, or something it left behind keeps its outputs.
                    let request = if arrived.returned { "1:c\n1:e\n" } else { "1:e\n" };
                    self.link.send(request, &deadline).await?;
                    patience = (patience * 2).min(PATIENCE_MOST);
                }
            }
        }
    }

    /// Kills the command and waits for its end.
    async fn kill(&mut self, id: u32, arrived: &mut Arrived, grace: &Deadline) -> Result<End, SerialError> {
        self.ask("k", &format!("K:{id}"), Some((arrived, id)), grace).await?;
        loop {
            match self.wait(id, arrived, &grace.within(HOLD)).await? {
                Waited::Ended(end) => return Ok(end),
                Waited::Late if grace.expired() => {
                    return Err(SerialError::Silent("a command that was killed never ended".into()));
                }
                Waited::Late => self.link.send("1:k\n1:c\n1:e\n", grace).await?,
            }
        }
    }

    /// Ends a command that nobody waits for any more.
    async fn settle(&mut self, deadline: &Deadline) -> Result<(), SerialError> {
        let id = self.next;
        let mut arrived = Arrived::default();
        self.link.send("\n1:e\n", deadline).await?;
        // It may never have been started, then the agent's running number is another.
        let turn = deadline.within(PATIENCE_MOST);
        while let Some(body) = self.link.body(&turn).await? {
            let mut fields = body.split(':');
            match (fields.next(), fields.next().map(str::parse::<u32>)) {
                (Some("E"), Some(Ok(n))) if n == id => break,
                (Some("W" | "E"), Some(Ok(n))) if n == id => {
                    self.kill(id, &mut arrived, &deadline.afresh(GRACE)).await?;
                    break;
                }
                (Some("W" | "E"), _) => break,
                _ => {}
            }
        }
        self.stray = false;
        Ok(())
    }

    /// One output, whole: lines that are missing are asked for, an output whose sum is wrong is fetched again.
    async fn fetch(
        &mut self,
        id: u32,
        stream: usize,
        end: &End,
        most: usize,
        arrived: &mut Arrived,
        deadline: &Deadline,
    ) -> Result<Captured, SerialError> {
        let Some(agent) = self.agent else { return Err(SerialError::Silent("there is no agent".into())) };
        let Announced { sum: expected, size, total } = &end.outputs[stream];
        let per_line = if agent.encoding == Encoding::Base64 { 57 } else { 16 };
        let whole = size.div_ceil(per_line);
        let count = whole.min(most);
        let letter = ["o", "e"][stream];
        for _ in 0..REFETCH {
            loop {
                let lines = &arrived.lines[stream];
                let good =
                    |n: usize| lines.get(&n).and_then(|t| decode(t, agent.encoding)).map_or(0, |b| b.len());
                let wanted = |n: usize| per_line.min(size - n * per_line);
                let Some(first) = (0..count).find(|&n| good(n) != wanted(n)) else { break };
                let last = (first..count)
                    .take_while(|&n| n < first + BATCH)
                    .filter(|&n| good(n) != wanted(n))
                    .last();
                let last = last.unwrap_or(first);
                let request = format!("g {letter} {first} {last}");
                self.ask(
                    &request,
                    &format!("G:{letter}:{first}:{last}"),
                    Some((&mut *arrived, id)),
                    &deadline.afresh(FETCH),
                )
                .await?;
            }
            let lines = &arrived.lines[stream];
            let bytes: Vec<u8> =
                (0..count).filter_map(|n| decode(lines.get(&n)?, agent.encoding)).flatten().collect();
            if count < whole {
                return Ok(captured(&bytes, *total));
            }
            if bytes.len() == *size && (*size == 0 || sum(agent.sum, &bytes) == *expected) {
                return Ok(captured(&bytes, *total));
            }
            arrived.lines[stream].clear();
        }
        Err(SerialError::Silent(format!("an output of {size} bytes arrived damaged {REFETCH} times")))
    }
}

fn decode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => BASE64.decode(text).ok(),
        Encoding::Hex => text.split_ascii_whitespace().map(|h| u8::from_str_radix(h, 16).ok()).collect(),
    }
}

fn sum(kind: Sum, bytes: &[u8]) -> String {
    match kind {
        Sum::Cksum => cksum(bytes).to_string(),
        Sum::Sha256 => Sha256::digest(bytes).iter().fold(String::new(), |mut text, b| {
            let _ = write!(text, "{b:02x}");
            text
        }),
        Sum::None => "0".into(),
    }
}

/// POSIX `cksum`: CRC-32 with polynomial 04C11DB7, not reflected, over the bytes and their number.
fn cksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32, b: u8| {
        let mut crc = crc ^ (u32::from(b) << 24);
        for _ in 0..8 {
            crc = (crc << 1) ^ if crc >> 31 == 1 { 0x04C1_1DB7 } else { 0 };
        }
        crc
    };
    let mut crc = bytes.iter().fold(0, |crc, &b| step(crc, b));
    let mut length = bytes.len();
    while length > 0 {
        crc = step(crc, (length & 0xff) as u8);
        length >>= 8;
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_tools() {
        // printf 'hello\n' | cksum; printf '' | cksum
        assert_eq!(cksum(b"hello\n"), 3_015_617_425);
        assert_eq!(cksum(b""), 4_294_967_295);
        assert!(sum(Sum::Sha256, b"").starts_with("e3b0c442"));
    }

    #[test]
    fn an_end_is_read_only_whole() {
        let read = |t: &str| End::read(&t.split(':').collect::<Vec<_>>(), 3);
        let check = 7 + 3 + 2 * 5 + 9 * 11;
        let end = read(&format!("E:3:1:1:77:2:9:0:0:0:{check}")).unwrap();
        assert_eq!((end.status, end.orderly, end.outputs[0].total), (Some(1), true, 9));
        assert_eq!(read(&format!("E:3:0:1:77:2:9:0:0:0:{check}")), None);
        assert_eq!(read(&format!("E:2:1:1:77:2:9:0:0:0:{check}")), None);
        assert_eq!(read("E:3:bad:0:0:0:0:0:0:0:0").unwrap().status, None);
    }
}
