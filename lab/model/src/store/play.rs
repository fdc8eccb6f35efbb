//! Plays a trace, without any input or output of its own: it says what to send to whom, and is given what came.
//!
//! Requests to one connection that need nothing of each other's answers go out together. Before another connection's turn all answers
//! are there, so what the trace does happens in its order. Before watch events are looked at, the connection asks for something that changes
//! nothing: what the daemon had to send before comes before the answer.

use super::text;
use super::trace::{BASE, DOMID, Entry, GUEST, Group, Reply, Trace};
use super::wire::{self, Message};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How often answers or events that are not there yet are looked for again.
const AGAIN: u32 = 3;
/// Messages that go out together, at most.
const TOGETHER: usize = 24;
/// Request numbers begin here, so that none is 0 as in a watch event.
const FIRST: u32 = 0x100;
/// What stands in for a transaction that could not be begun.
const NO_TRANSACTION: u32 = 0xffff_fff0;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// With which connection; it is opened where it is not.
    pub on: String,
    /// Bytes to send, a message or a piece of one each.
    pub send: Vec<Vec<u8>>,
    /// Close it instead.
    pub close: bool,
    /// How many messages should come of it; more may.
    pub replies: usize,
}

/// What came of an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The entry.
    pub id: String,
    /// Its answer; none: none came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    /// For an entry that looks at watch events: what had come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
}

/// What has been heard of one connection.
#[derive(Debug, Default)]
struct Heard {
    bytes: Vec<u8>,
    waiting: VecDeque<(u32, Awaited)>,
    events: Vec<String>,
    closed: bool,
    /// It has left something unanswered: what else it may owe is not waited for as long.
    silent: bool,
}

/// What an answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    Entry(usize),
    /// Of the lab's own request before events are looked at.
    Nothing,
}

/// A trace while it is played.
pub struct Player<'a> {
    entries: Vec<&'a Entry>,
    base: String,
    domid: Option<u32>,
    at: usize,
    request: u32,
    tries: u32,
    looks: u32,
    /// The second piece of a message.
    rest: Option<Vec<u8>>,
    /// Events are looked at when this answer is there.
    asked: bool,
    last: Option<String>,
    connections: BTreeMap<String, Heard>,
    transactions: BTreeMap<String, u32>,
    seen: Vec<Seen>,
    strays: Vec<String>,
}

impl<'a> Player<'a> {
    /// Begins. `base` is a folder of the store that nobody else uses; `domid` is the guest's number, where there is one.
    pub fn new(trace: &'a Trace, base: &str, domid: Option<u32>) -> Self {
        Player {
            entries: trace.entries().filter(|e| domid.is_some() || !e.needs_guest()).collect(),
            base: base.to_owned(),
            domid,
            at: 0,
            request: FIRST,
            tries: 0,
            looks: 0,
            rest: None,
            asked: false,
            last: None,
            connections: BTreeMap::new(),
            transactions: BTreeMap::new(),
            seen: Vec::new(),
            strays: Vec::new(),
        }
    }

    /// What came of everything that was played, and messages that answered nothing.
    pub fn finish(self) -> (Vec<Seen>, Vec<String>) {
        (self.seen, self.strays)
    }

    /// What to do next; none: it is over.
    pub fn turn(&mut self) -> Option<Turn> {
        if let Some(turn) = self.again() {
            return Some(turn);
        }
        while let Some(&entry) = self.entries.get(self.at) {
            let turn =
                |send: Vec<Vec<u8>>, replies| Turn { on: entry.on.clone(), send, close: false, replies };
            self.last = Some(entry.on.clone());
            if let Some(rest) = self.rest.take() {
                let request = self.request;
                self.wait_for(&entry.on, request, Awaited::Entry(self.at));
                self.at += 1;
                return Some(turn(vec![rest], 1));
            }
            if entry.close {
                self.connections.remove(&entry.on);
                self.seen.push(Seen { id: entry.id.clone(), reply: None, events: Vec::new() });
                self.at += 1;
                return Some(Turn { close: true, ..turn(Vec::new(), 0) });
            }
            if let Some(wanted) = &entry.events {
                match self.look(entry, wanted) {
                    Some(message) => return Some(turn(vec![message], 1)),
                    None => continue,
                }
            }
            if self.connections.get(&entry.on).is_some_and(|c| c.closed) {
                self.record(self.at, Reply::CLOSED, String::new(), None);
                self.at += 1;
                continue;
            }
            if let Some(cut) = entry.cut {
                self.request += 1;
                let mut message = self.message(entry, self.request);
                self.rest = Some(message.split_off(cut.min(message.len())));
                return Some(turn(vec![message], 0));
            }
            let send = self.together();
            let replies = send.len();
            return Some(turn(send, replies));
        }
        None
    }

    /// Takes what came of a turn: bytes, and whether the daemon has closed the connection.
    pub fn received(&mut self, on: &str, bytes: &[u8], closed: bool) {
        let connection = self.connections.entry(on.to_owned()).or_default();
        connection.bytes.extend(bytes);
        connection.closed |= closed;
        loop {
            let Some(connection) = self.connections.get_mut(on) else { return };
            match Message::decode(&mut connection.bytes) {
                Ok(Some(message)) => self.hear(on, message),
                Ok(None) => return,
                Err(e) => {
                    connection.closed = true;
                    connection.bytes.clear();
                    self.strays.push(format!("{on}: {e}"));
                    return;
                }
            }
        }
    }

    /// More of what the last turn is waiting for; none: all is there, or is not waited for any longer.
    fn again(&mut self) -> Option<Turn> {
        let on = self.last.clone()?;
        let connection = self.connections.get_mut(&on)?;
        if connection.waiting.is_empty() {
            return None;
        }
        // A guest's requests are answered within its script, or not at all.
        let tries = if connection.silent { 1 } else { AGAIN };
        if !connection.closed && self.tries < tries && on != GUEST {
            self.tries += 1;
            let replies = connection.waiting.len();
            return Some(Turn { on, send: Vec::new(), close: false, replies });
        }
        let closed = connection.closed;
        connection.silent |= !closed;
        for (_, awaited) in std::mem::take(&mut connection.waiting) {
            if let Awaited::Entry(at) = awaited {
                if closed {
                    self.record(at, Reply::CLOSED, String::new(), None);
                } else {
                    let id = self.entries[at].id.clone();
                    self.seen.push(Seen { id, reply: None, events: Vec::new() });
                }
            }
        }
        self.tries = 0;
        None
    }

    /// The messages from here on that need nothing of one another.
    fn together(&mut self) -> Vec<Vec<u8>> {
        let mut send = Vec::new();
        let first = self.entries[self.at];
        while let Some(&entry) = self.entries.get(self.at) {
            let fits = entry.on == first.on && entry.send.is_some() && entry.cut.is_none();
            let unknown = entry.tx.as_ref().is_some_and(|tx| {
                tx.parse::<u32>().is_err() && !self.transactions.contains_key(tx) && !send.is_empty()
            });
            if !fits || unknown || send.len() == TOGETHER {
                break;
            }
            self.request += 1;
            send.push(self.message(entry, self.request));
            let request = self.request;
            self.wait_for(&entry.on, request, Awaited::Entry(self.at));
            self.at += 1;
        }
        send
    }

    /// The request before events are looked at; none: they have been.
    fn look(&mut self, entry: &Entry, wanted: &[Group]) -> Option<Vec<u8>> {
        let events = self.connections.get(&entry.on).map_or(&[][..], |c| &c.events);
        let of = self.connections.get(&entry.on);
        let (closed, silent) = of.map_or((false, false), |c| (c.closed, c.silent));
        let enough = || silent || expected(wanted, events).is_ok() || self.looks >= AGAIN;
        // A connection that is closed takes no more requests.
        if closed || (self.asked && enough()) {
            let events = self.connections.get_mut(&entry.on).map(|c| std::mem::take(&mut c.events));
            self.seen.push(Seen { id: entry.id.clone(), reply: None, events: events.unwrap_or_default() });
            (self.asked, self.looks) = (false, 0);
            self.at += 1;
            return None;
        }
        self.looks += 1;
        self.asked = true;
        self.request += 1;
        let request = self.request;
        self.wait_for(&entry.on, request, Awaited::Nothing);
        let kind = wire::number("GET_DOMAIN_PATH").unwrap_or_default();
        let ask = Message { kind, request, transaction: 0, payload: b"0\0".to_vec() };
        Some(ask.encode(None))
    }

    fn wait_for(&mut self, on: &str, request: u32, awaited: Awaited) {
        self.connections.entry(on.to_owned()).or_default().waiting.push_back((request, awaited));
    }

    fn message(&self, entry: &Entry, request: u32) -> Vec<u8> {
        let (kind, payload) = entry.request().unwrap_or_default();
        let mut payload = payload.replace(BASE, &self.base);
        if let Some(domid) = self.domid {
            payload = payload.replace(DOMID, &domid.to_string());
        }
        // Both were checked when the trace was read.
        let (kind, payload) =
            (wire::number(kind).unwrap_or_default(), text::bytes(&payload).unwrap_or_default());
        let transaction = self.transaction(entry);
        Message { kind, request, transaction, payload }.encode(entry.length)
    }

    fn transaction(&self, entry: &Entry) -> u32 {
        let Some(tx) = &entry.tx else { return 0 };
        let number = self.transactions.get(tx).copied().or_else(|| tx.parse().ok());
        number.unwrap_or(NO_TRANSACTION)
    }

    fn hear(&mut self, on: &str, message: Message) {
        let payload = self.named(&self.based(&message.payload));
        let Some(connection) = self.connections.get_mut(on) else { return };
        if message.kind == wire::WATCH_EVENT {
            let mut event =
                payload.strip_suffix('|').map_or_else(|| format!("{payload} (not ended)"), str::to_owned);
            if (message.request, message.transaction) != (0, 0) {
                event.push_str(&format!(
                    " (request {}, transaction {})",
                    message.request, message.transaction
                ));
            }
            connection.events.push(event);
            return;
        }
        let Some(at) = connection.waiting.iter().position(|(request, _)| *request == message.request) else {
            let kind = wire::name(message.kind);
            self.strays.push(format!("{on}: {kind} {payload} to request {}", message.request));
            return;
        };
        let Some((_, awaited)) = connection.waiting.remove(at) else { return };
        if connection.waiting.is_empty() {
            self.tries = 0;
        }
        if let Awaited::Entry(at) = awaited {
            let entry = self.entries[at];
            let sent = self.transaction(entry);
            // Any other number may be the guest's by chance.
            let payload = if entry.answered_with_guest() { payload } else { self.based(&message.payload) };
            if let (Some(name), Ok(number)) = (&entry.binds, payload.trim_end_matches('|').parse()) {
                self.transactions.insert(name.clone(), number);
            }
            let other = Some(message.transaction).filter(|t| *t != sent);
            self.record(at, &wire::name(message.kind), payload, other);
        }
    }

    fn record(&mut self, at: usize, kind: &str, payload: String, other_transaction: Option<u32>) {
        let reply = Reply { kind: kind.to_owned(), payload, other_transaction };
        let id = self.entries[at].id.clone();
        self.seen.push(Seen { id, reply: Some(reply), events: Vec::new() });
    }

    /// A payload as text, with the trace's own name of its folder in it.
    fn based(&self, payload: &[u8]) -> String {
        text::show(payload).replace(&self.base, BASE)
    }

    /// Such a text with the trace's own name of the guest in it.
    fn named(&self, text: &str) -> String {
        let Some(domid) = self.domid else { return text.to_owned() };
        // Where a number stands alone: all of the payload, a permission, part of a path.
        let domid = domid.to_string();
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find(&domid) {
            let (before, after) = (&rest[..at], &rest[at + domid.len()..]);
            let joined = |c: Option<char>| c.is_some_and(|c| c.is_ascii_digit());
            let name = !joined(before.chars().last().or_else(|| out.chars().last()))
                && !joined(after.chars().next());
            let stands = name && names_a_domain(&format!("{out}{before}"), after);
            out.push_str(before);
            out.push_str(if stands { DOMID } else { &domid });
            rest = after;
        }
        out.push_str(rest);
        out
    }
}

/// Between these a number is a domain's: `/local/domain/N`, `@releaseDomain/N`, a permission such as `rN`, or the whole payload.
fn names_a_domain(before: &str, after: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| matches!(c, '|' | '/'));
    let permission = |c: char| matches!(c, 'n' | 'r' | 'w' | 'b');
    let alone = before.strip_suffix(permission).is_some_and(|b| b.is_empty() || b.ends_with('|'));
    ends(after.chars().next())
        && (before.is_empty() || before.ends_with("/domain/") || before.ends_with("Domain/") || alone)
}

/// Whether events are as wanted: each group in its order, what is more between them allowed, since watches may be triggered spuriously
/// (docs/misc/xenstore.txt). Of that the number is told. Where none are wanted there may be none.
///
/// # Errors
/// What is missing or was not to be there.
pub fn expected(wanted: &[Group], events: &[String]) -> Result<usize, String> {
    if wanted.is_empty() {
        return match events {
            [] => Ok(0),
            [one, ..] => Err(format!("`{one}`, where no event was to come")),
        };
    }
    let mut more = 0;
    let mut rest = events.iter();
    let known: BTreeSet<&String> = wanted.iter().flat_map(|g| &g.0).collect();
    if let Some(foreign) = events.iter().find(|e| !known.contains(e)) {
        return Err(format!("`{foreign}`, which no watch is for"));
    }
    for Group(group) in wanted {
        let mut missing: Vec<&String> = group.iter().collect();
        while !missing.is_empty() {
            let Some(event) = rest.next() else {
                return Err(format!("no `{}`", missing[0]));
            };
            match missing.iter().position(|m| *m == event) {
                Some(at) => drop(missing.remove(at)),
                None => more += 1,
            }
        }
    }
    Ok(more + rest.count())
}
