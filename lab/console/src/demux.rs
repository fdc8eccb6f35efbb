//! One serial line, many speakers: bytes to lines, each with whose it is.
//!
//! What is on the line, and how it is told apart (`xen/drivers/char/console.c`):
//!
//! - Xen begins each of its lines with `(XEN) `, and a timestamp where asked for. It holds its console lock for a line, so
//!   such a line is whole, but it may begin in the middle of one of dom0's.
//! - A guest that writes to Xen's console is buffered by Xen line by line: `(d1) ` and the line.
//! - A domain that Xen made by itself writes to a PL011 of Xen's: `(XEN) DOM1: ` and the line.
//! - What dom0 writes passes through at once and without a prefix, in pieces.
//! - What firmware writes has no prefix either; it is what comes before Xen and Linux have spoken. So has what Xen says before
//!   its console is up: its banner and the messages of its EFI loader.

use crate::clean::clean;
use memchr::{memchr2_iter, memrchr};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

/// Bytes of a line that are kept together. A longer one comes in pieces of this size, none but the last complete.
pub const MAX_LINE: usize = 16 * 1024;

/// Longest prefix that is looked for: `(d32767) `.
const MAX_PREFIX: usize = 9;

/// Whose a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// Whatever runs before Xen: SeaBIOS, iPXE, OVMF, a boot loader.
    Firmware,
    /// The hypervisor, its EFI loader too.
    Xen,
    /// dom0, or a Linux that runs without Xen.
    Dom0,
    /// The guest of this number, through Xen's console.
    Domain(u16),
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Speaker::Firmware => f.pad("firmware"),
            Speaker::Xen => f.pad("xen"),
            Speaker::Dom0 => f.pad("dom0"),
            Speaker::Domain(n) => f.pad(&format!("d{n}")),
        }
    }
}

/// A line of a console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    /// Whose it is.
    pub speaker: Speaker,
    /// Without its end, the speaker's prefix, Xen's timestamp, escape sequences and control characters other than tab;
    /// invalid UTF-8 replaced.
    pub text: Cow<'a, str>,
    /// Offset of its first byte (the prefix counted) in everything the console wrote.
    pub start: u64,
    /// Offset one past its last byte, the line end counted. Between the two lie the bytes of those who cut it, too.
    pub end: u64,
    /// Its end was seen. Not so: the stream ended or stands in it, it is longer than [`MAX_LINE`], or another line of Xen cut it.
    pub complete: bool,
    /// A further piece of a line longer than [`MAX_LINE`].
    pub continues: bool,
}

impl Line<'_> {
    /// The same, owning its text.
    pub fn into_owned(self) -> Line<'static> {
        Line { text: Cow::Owned(self.text.into_owned()), ..self }
    }

    /// The text with the prefix that its speaker has on a console.
    pub fn shown(&self) -> String {
        match self.speaker {
            Speaker::Xen => format!("(XEN) {}", self.text),
            Speaker::Domain(n) => format!("(d{n}) {}", self.text),
            Speaker::Firmware | Speaker::Dom0 => self.text.to_string(),
        }
    }
}

/// Every line of a whole record, an unfinished last one too.
pub fn lines(record: &[u8]) -> Vec<Line<'static>> {
    let mut all = Vec::new();
    let mut demux = Demux::new();
    demux.feed(record, |line| all.push(line.into_owned()));
    demux.finish(|line| all.push(line.into_owned()));
    all
}

/// Cuts a console's bytes into lines. The lines are the same however the bytes are cut into chunks. Memory is bounded by
/// two lines of [`MAX_LINE`] and the largest chunk.
#[derive(Debug, Clone)]
pub struct Demux {
    /// Bytes taken so far, those held too.
    taken: u64,
    /// The end of the last chunk, when it may be the beginning of a prefix.
    held: Vec<u8>,
    /// What has no prefix.
    plain: Open,
    /// The line with a prefix that is being read; when there is none, bytes belong to `plain`.
    prefixed: Option<(Speaker, Open)>,
    context: Context,
}

/// A line whose end has not been seen.
#[derive(Debug, Clone, Default)]
struct Open {
    bytes: Vec<u8>,
    start: u64,
    /// Something of the line was seen, an emitted piece included.
    begun: bool,
    /// The speaker of the pieces emitted so far.
    continues: Option<Speaker>,
}

/// What is needed to say whose a line without a prefix is.
#[derive(Debug, Clone, Default)]
struct Context {
    xen: bool,
    efi_loader: bool,
    linux: bool,
    guests: BTreeSet<u16>,
}

enum Prefix {
    Is(Speaker, usize),
    Not,
    /// The data ends before that can be said.
    More,
}

impl Default for Demux {
    fn default() -> Self {
        Demux::new()
    }
}

impl Demux {
    /// For a console from the machine's power-on.
    pub fn new() -> Self {
        Demux {
            taken: 0,
            held: Vec::new(),
            plain: Open::default(),
            prefixed: None,
            context: Context::default(),
        }
    }

    /// For a record that begins at `offset`, after Xen has booted: a line without a prefix is dom0's.
    pub fn after_boot(offset: u64) -> Self {
        let mut demux = Demux::new();
        demux.taken = offset;
        demux.context.xen = true;
        demux
    }

    /// Bytes taken so far: the offset of the next byte.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes and gives every line that they end.
    pub fn feed(&mut self, chunk: &[u8], mut emit: impl FnMut(Line<'_>)) {
        let base = self.taken - self.held.len() as u64;
        self.taken += chunk.len() as u64;
        if self.held.is_empty() {
            self.scan(chunk, base, &mut emit);
        } else {
            let mut data = std::mem::take(&mut self.held);
            data.extend_from_slice(chunk);
            self.scan(&data, base, &mut emit);
        }
    }

    /// The lines that stand open: what was written since the last line end, less what may be the beginning of another
    /// speaker's prefix. Nothing is taken away.
    pub fn open(&self) -> Vec<Line<'static>> {
        let mut copy = self.clone();
        // The beginning of a prefix is nobody's word yet.
        copy.taken -= copy.held.len() as u64;
        copy.held.clear();
        let mut all = Vec::new();
        copy.finish(|line| all.push(line.into_owned()));
        all
    }

    /// The stream has ended: gives the lines that stand open.
    pub fn finish(&mut self, mut emit: impl FnMut(Line<'_>)) {
        let held = std::mem::take(&mut self.held);
        let at = self.taken - held.len() as u64;
        self.append(&held, at, &mut emit);
        let end = self.taken;
        self.close_prefixed(end, false, &mut emit);
        self.close_plain(end, false, &mut emit);
    }

    fn scan(&mut self, data: &[u8], base: u64, emit: &mut impl FnMut(Line<'_>)) {
        // Where what is not yet taken over begins.
        let mut from = 0;
        for at in memchr2_iter(b'\n', b'(', data) {
            if at < from {
                // Inside a prefix.
                continue;
            }
            if data[at] == b'\n' {
                self.end_line(&data[from..at], base + from as u64, base + at as u64 + 1, emit);
                from = at + 1;
                continue;
            }
            let line_start = self.prefixed.is_none() && at == from && !self.plain.begun;
            match prefix(&data[at..], line_start, &self.context.guests) {
                Prefix::Not => {}
                Prefix::More => {
                    self.append(&data[from..at], base + from as u64, emit);
                    self.held = data[at..].to_vec();
                    return;
                }
                Prefix::Is(speaker, length) => {
                    self.append(&data[from..at], base + from as u64, emit);
                    let start = base + at as u64;
                    self.close_prefixed(start, false, emit);
                    if !self.context.xen && speaker == Speaker::Xen {
                        // What firmware left without a line end does not belong before dom0's first line.
                        self.close_plain(start, false, emit);
                        self.context.xen = true;
                    }
                    if let Speaker::Domain(n) = speaker {
                        self.context.guests.insert(n);
                    }
                    self.prefixed = Some((speaker, Open { start, begun: true, ..Open::default() }));
                    from = at + length;
                }
            }
        }
        self.append(&data[from..], base + from as u64, emit);
    }

    /// Adds bytes, none a line feed, to the line being read.
    fn append(&mut self, bytes: &[u8], at: u64, emit: &mut impl FnMut(Line<'_>)) {
        if bytes.is_empty() {
            return;
        }
        let Demux { plain, prefixed, context, .. } = self;
        let (speaker, open) = match prefixed {
            Some((speaker, open)) => (Some(*speaker), open),
            None => (None, plain),
        };
        open.begin(at);
        let (mut rest, mut at) = (bytes, at);
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_LINE - open.bytes.len()));
            open.bytes.extend_from_slice(now);
            if later.is_empty() {
                return;
            }
            // Only when there is more: a line of exactly this length is whole.
            at += now.len() as u64;
            let speaker = open.emit(speaker, context, at, false, emit);
            *open = Open { bytes: Vec::new(), start: at, begun: true, continues: Some(speaker) };
            rest = later;
        }
    }

    /// The line being read ends with these bytes; `end` is one past its line feed.
    fn end_line(&mut self, bytes: &[u8], at: u64, end: u64, emit: &mut impl FnMut(Line<'_>)) {
        let Demux { plain, prefixed, context, .. } = self;
        let (speaker, open) = match prefixed {
            Some((speaker, open)) => (Some(*speaker), open),
            None => (None, plain),
        };
        if open.bytes.is_empty() && open.continues.is_none() && bytes.len() <= MAX_LINE {
            // The whole line lies in the chunk: nothing is copied.
            let start = if open.begun { open.start } else { at };
            emit_raw(bytes, speaker, context, start, end, true, false, emit);
            *open = Open::default();
            self.prefixed = None;
            return;
        }
        self.append(bytes, at, emit);
        if self.prefixed.is_some() {
            self.close_prefixed(end, true, emit);
        } else {
            self.plain.begin(at);
            self.close_plain(end, true, emit);
        }
    }

    fn close_prefixed(&mut self, end: u64, complete: bool, emit: &mut impl FnMut(Line<'_>)) {
        if let Some((speaker, open)) = self.prefixed.take() {
            open.emit(Some(speaker), &mut self.context, end, complete, emit);
        }
    }

    fn close_plain(&mut self, end: u64, complete: bool, emit: &mut impl FnMut(Line<'_>)) {
        let open = std::mem::take(&mut self.plain);
        if open.begun {
            open.emit(None, &mut self.context, end, complete, emit);
        }
    }
}

impl Open {
    fn begin(&mut self, at: u64) {
        if !self.begun {
            self.begun = true;
            self.start = at;
        }
    }

    fn emit(
        &self,
        speaker: Option<Speaker>,
        context: &mut Context,
        end: u64,
        complete: bool,
        emit: &mut impl FnMut(Line<'_>),
    ) -> Speaker {
        let known = speaker.or(self.continues);
        emit_raw(&self.bytes, known, context, self.start, end, complete, self.continues.is_some(), emit)
    }
}

/// Gives the line whose bytes these are. Carriage returns before the line feed go (dom0's tty writes one, Xen's serial
/// driver another); one in the middle ends a line as well, which is what progress displays mean by it.
#[expect(clippy::too_many_arguments, reason = "the fields of a line, before its text is known")]
fn emit_raw(
    bytes: &[u8],
    speaker: Option<Speaker>,
    context: &mut Context,
    start: u64,
    end: u64,
    complete: bool,
    continues: bool,
    emit: &mut impl FnMut(Line<'_>),
) -> Speaker {
    let mut bytes = bytes;
    while let [rest @ .., b'\r'] = bytes {
        bytes = rest;
    }
    let mut one = |bytes: &[u8], continues: bool, context: &mut Context| {
        let bytes = if speaker.is_some() && !continues { without_timestamp(bytes) } else { bytes };
        let (speaker, bytes) = match (speaker, by_xen(bytes)) {
            (Some(Speaker::Xen), Some((number, text))) if !continues => (Some(Speaker::Domain(number)), text),
            _ => (speaker, bytes),
        };
        let text = clean(bytes);
        let speaker = speaker.unwrap_or_else(|| context.classify(&text));
        emit(Line { speaker, text, start, end, complete, continues });
        speaker
    };
    if memrchr(b'\r', bytes).is_none() {
        return one(bytes, continues, context);
    }
    let mut last = None;
    for (n, part) in bytes.split(|&b| b == b'\r').filter(|part| !part.is_empty()).enumerate() {
        last = Some(one(part, continues && n == 0, context));
    }
    last.unwrap_or_else(|| one(b"", continues, context))
}

/// What a domain that Xen made by itself writes to the PL011 that Xen gave it: `DOM1: ` and a line, behind Xen's own prefix; a longer one in
/// pieces (`vpl011_write_data_xen` in `xen/arch/arm/vpl011.c`).
fn by_xen(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let rest = bytes.strip_prefix(b"DOM")?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let text = rest[digits..].strip_prefix(b": ").or_else(|| rest[digits..].strip_prefix(b":"))?;
    Some((std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?, text))
}

impl Context {
    /// Whose a line without a prefix is.
    fn classify(&mut self, text: &str) -> Speaker {
        if self.xen || self.linux {
            return Speaker::Dom0;
        }
        if is_linux(text) {
            self.linux = true;
            return Speaker::Dom0;
        }
        if is_xen_early(text) {
            self.efi_loader |= text.contains("EFI loader");
            return Speaker::Xen;
        }
        // The loader names the files it reads and where it put them, all without a prefix (xen/common/efi/boot.c).
        if self.efi_loader { Speaker::Xen } else { Speaker::Firmware }
    }
}

/// Linux's own lines, or those of a userland of the lab.
fn is_linux(text: &str) -> bool {
    const BEGINNINGS: [&str; 7] = [
        "xenlab: ",
        "Linux version ",
        "Booting Linux on physical CPU",
        "EFI stub: ",
        "Decompressing Linux",
        // What a PV kernel says through xen_raw_console_write before its console is there (arch/x86/xen/, setup of the MMU).
        "mapping kernel into physical memory",
        "about to get started...",
    ];
    BEGINNINGS.iter().any(|b| text.starts_with(b)) || kernel_stamp(text)
}

/// `[    0.000000] …`, as Linux's printk writes it.
pub(crate) fn kernel_stamp(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('[') else { return false };
    let rest = rest.trim_start_matches(' ');
    let Some((seconds, rest)) = rest.split_once('.') else { return false };
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    digits(seconds) && rest.get(..6).is_some_and(digits) && rest[6..].starts_with("] ")
}

/// What Xen writes before its console has a prefix: ` Xen 4.17.5` (the banner), `Xen 4.17.5 (c/s ) EFI loader`, and
/// `- UART enabled -` and the like on Arm with early printk (`xen/arch/arm/arm64/head.S`).
fn is_xen_early(text: &str) -> bool {
    let version = text.trim_start().strip_prefix("Xen ").is_some_and(|rest| {
        let (major, minor) = rest.split_once('.').unwrap_or(("", ""));
        !major.is_empty()
            && major.bytes().all(|b| b.is_ascii_digit())
            && minor.starts_with(|c: char| c.is_ascii_digit())
    });
    let early = [
        "- UART enabled -",
        "- Boot CPU booting -",
        "- Current EL ",
        "- Initialize CPU -",
        "- Turning on paging -",
    ];
    // The banner's letters are drawn of these; nothing else that comes before Xen is, over a whole line.
    let drawn = text.trim().len() >= 8
        && text.contains("__")
        && text.bytes().all(|b| b" _/\\|()<>,.'`-=V".contains(&b) || b.is_ascii_digit());
    version || drawn || early.iter().any(|b| text.starts_with(b))
}

/// Which prefix the data begins with. `(XEN) ` counts anywhere in a line. `(d1) ` counts at a line's start, in the middle only
/// once that guest has been heard at one: dom0 is more likely to write it than a guest is to speak.
fn prefix(data: &[u8], line_start: bool, guests: &BTreeSet<u16>) -> Prefix {
    const XEN: &[u8] = b"(XEN) ";
    let seen = data.len().min(XEN.len());
    if data[..seen] == XEN[..seen] {
        return if seen == XEN.len() { Prefix::Is(Speaker::Xen, XEN.len()) } else { Prefix::More };
    }
    if data[1] != b'd' {
        return Prefix::Not;
    }
    let digits = data[2..].iter().take(MAX_PREFIX - 4 + 1).take_while(|b| b.is_ascii_digit()).count();
    match (digits, &data[2 + digits..]) {
        (0..=5, []) => Prefix::More,
        (1..=5, [b')']) => Prefix::More,
        (1..=5, [b')', b' ', ..]) => {
            let number = data[2..2 + digits].iter().fold(0u32, |n, b| n * 10 + u32::from(b - b'0'));
            match u16::try_from(number) {
                Ok(n) if line_start || guests.contains(&n) => Prefix::Is(Speaker::Domain(n), digits + 4),
                _ => Prefix::Not,
            }
        }
        _ => Prefix::Not,
    }
}

/// Takes off what `console_timestamps=` puts after the prefix: `[2024-05-01 10:00:00] ` or with milliseconds, `[    1.234567] `,
/// `[00000001a2b3c4d5] ` (`printk_start_of_line` in `xen/drivers/char/console.c`).
fn without_timestamp(bytes: &[u8]) -> &[u8] {
    let [b'[', rest @ ..] = bytes else { return bytes };
    let Some(end) = memchr::memchr(b']', &rest[..rest.len().min(26)]) else { return bytes };
    let (stamp, [_, b' ', text @ ..]) = rest.split_at(end) else { return bytes };
    let shape: Vec<u8> = stamp.iter().map(|b| if b.is_ascii_digit() { b'0' } else { *b }).collect();
    let boot = stamp.iter().rev().nth(6) == Some(&b'.') && shape.iter().all(|b| b" .0".contains(b));
    let raw = stamp.len() == 16 && stamp.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let date = shape == b"0000-00-00 00:00:00" || shape == b"0000-00-00 00:00:00.000";
    if boot || raw || date { text } else { bytes }
}

#[cfg(test)]
mod tests;
