//! The trace: requests to the store, and what the protocol's document says of each answer. It is data, in `trace.yaml` beside this file.

use super::{text, wire};
use regex::Regex;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The connection that is a guest's own.
pub const GUEST: &str = "guest";
/// Stands for the folder that the trace works in, and for the guest's number.
pub const BASE: &str = "~";
/// See [`BASE`].
pub const DOMID: &str = "<guest>";

/// What is played, in its order.
static TRACE: LazyLock<Result<Trace, String>> = LazyLock::new(|| Trace::read(include_str!("trace.yaml")));

/// The trace that comes with the program.
///
/// # Errors
/// It cannot be read; a test sees to it that it can.
pub fn shipped() -> Result<&'static Trace, String> {
    TRACE.as_ref().map_err(Clone::clone)
}

/// A trace.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// What is played, by subject.
    pub sections: Vec<Section>,
}

/// Requests about one thing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// What about.
    pub section: String,
    /// All of it is about a guest, and is played only where there is one.
    #[serde(default)]
    pub guest: bool,
    /// In the order in which they are played.
    pub entries: Vec<Entry>,
}

/// A request and what must come of it; or the watch events that must have come by then.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it is called, once in the whole trace.
    pub id: String,
    /// By which connection: a name, each a connection of its own to the daemon's socket in dom0, or `guest`.
    pub on: String,
    /// The request: type and payload, as [`text`] has it.
    #[serde(default)]
    pub send: Option<String>,
    /// The transaction that it belongs to: what an earlier entry `binds`, or a number.
    #[serde(default)]
    pub tx: Option<String>,
    /// What the transaction that the answer names is called from now on.
    #[serde(default)]
    pub binds: Option<String>,
    /// What the header says of the payload's length, where that is a lie.
    #[serde(default)]
    pub length: Option<u32>,
    /// The message is sent in two pieces, the first of so many bytes.
    #[serde(default)]
    pub cut: Option<usize>,
    /// The connection is closed by the client.
    #[serde(default)]
    pub close: bool,
    /// The answers that are right, each as [`Answer`] is written.
    #[serde(default, deserialize_with = "crate::step::one_or_many")]
    pub gets: Vec<Answer>,
    /// Watch events that this connection must have had since it was last looked, `PATH|TOKEN`; in this order, but for those of a list. Empty: none.
    #[serde(default)]
    pub events: Option<Vec<Group>>,
    /// What the document says of it.
    pub says: String,
    /// Where it says that; docs/misc/xenstore.txt of Xen's source, unless another file is named.
    pub source: String,
    /// What daemons are known to answer instead, or which of several right answers.
    #[serde(default)]
    pub known: Vec<Known>,
    /// As its section's `guest`.
    #[serde(skip)]
    pub about_guest: bool,
}

/// Events that come in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group(pub Vec<String>);

impl<'de> Deserialize<'de> for Group {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        crate::step::one_or_many(d).map(Group)
    }
}

/// What a daemon is known to answer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// `xenstored` or `oxenstored`.
    pub daemon: String,
    /// What it answers; none where it is about events.
    #[serde(default, deserialize_with = "crate::step::one_or_many")]
    pub gets: Vec<Answer>,
    /// The events that it sends.
    #[serde(default)]
    pub events: Option<Vec<Group>>,
    /// The transaction that its answer names instead of the request's.
    #[serde(default)]
    pub transaction: Option<u32>,
    /// Why, and how that is known.
    pub because: String,
    /// The file of Xen's source that does it.
    pub source: String,
}

/// An answer that is right.
#[derive(Debug, Clone)]
pub enum Answer {
    /// `ok`: the type of the request, and `OK|`.
    Ok,
    /// `= TEXT`: the type of the request, and exactly this.
    Exactly(String),
    /// `names A B`: the type of the request, and these strings in any order, each with a zero byte behind it.
    Names(BTreeSet<String>),
    /// `matches REGEX`: the type of the request, and a payload whose text matches from its beginning to its end.
    Matches(Regex),
    /// `transaction`: the number of a new transaction.
    Transaction,
    /// `error E1 E2`: one of these; `error`: any that `xs_wire.h` lists.
    Error(Vec<String>),
    /// `closed`: the daemon closes the connection.
    Closed,
    /// `silence`: no answer; what no document can say, and a daemon may be known for.
    Silence,
}

impl Answer {
    fn read(words: &str) -> Result<Answer, String> {
        let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
        Ok(match (first, rest) {
            ("ok", "") => Answer::Ok,
            ("=", text) => Answer::Exactly(text.to_owned()),
            ("names", names) => Answer::Names(names.split_whitespace().map(str::to_owned).collect()),
            ("matches", pattern) if !pattern.is_empty() => {
                Answer::Matches(Regex::new(&format!("^(?:{pattern})$")).map_err(|e| e.to_string())?)
            }
            ("transaction", "") => Answer::Transaction,
            ("error", names) => {
                let names: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
                Answer::Error(names)
            }
            ("closed", "") => Answer::Closed,
            ("silence", "") => Answer::Silence,
            _ => return Err(format!("`{words}` is no answer")),
        })
    }

    /// In words, for a message.
    pub fn words(&self) -> String {
        match self {
            Answer::Ok => "OK".to_owned(),
            Answer::Exactly(text) if text.is_empty() => "an empty value".to_owned(),
            Answer::Exactly(text) => format!("`{text}`"),
            Answer::Names(names) if names.is_empty() => "no names".to_owned(),
            Answer::Names(names) => {
                format!("the names {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
            }
            Answer::Matches(pattern) => format!("what matches `{}`", pattern.as_str()),
            Answer::Transaction => "the number of a transaction".to_owned(),
            Answer::Error(names) if names.is_empty() => "an error".to_owned(),
            Answer::Error(names) => format!("the error {}", names.join(" or ")),
            Answer::Closed => "the connection's end".to_owned(),
            Answer::Silence => "no answer".to_owned(),
        }
    }

    /// Whether a reply to a request of type `asked` is this.
    pub fn is(&self, reply: &Reply, asked: &str) -> bool {
        let text = reply.payload.as_str();
        match self {
            Answer::Closed => reply.kind == Reply::CLOSED,
            Answer::Silence => false,
            Answer::Error(names) => {
                reply.kind == "ERROR"
                    && text.strip_suffix('|').is_some_and(|name| match names.as_slice() {
                        [] => wire::ERRORS.contains(&name),
                        some => some.iter().any(|n| n == name),
                    })
            }
            _ if reply.kind != asked => false,
            Answer::Ok => text == "OK|",
            Answer::Exactly(wanted) => text == wanted,
            Answer::Names(wanted) => {
                let names: Option<BTreeSet<String>> = match text {
                    "" => Some(BTreeSet::new()),
                    some => some.strip_suffix('|').map(|all| all.split('|').map(str::to_owned).collect()),
                };
                names.is_some_and(|names| names == *wanted && text.matches('|').count() == wanted.len())
            }
            Answer::Matches(pattern) => pattern.is_match(text),
            Answer::Transaction => {
                text.strip_suffix('|').and_then(|n| n.parse::<u32>().ok()).is_some_and(|n| n != 0)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let words = String::deserialize(d)?;
        Answer::read(&words).map_err(serde::de::Error::custom)
    }
}

/// An answer that came.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct Reply {
    /// Its type; [`Reply::CLOSED`] where there is no answer since the daemon closed the connection.
    pub kind: String,
    /// As [`text::show`] has it, the trace's own folder and the guest's number replaced by what the trace calls them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub payload: String,
    /// It names another transaction than the request did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other_transaction: Option<u32>,
}

impl Reply {
    /// No message: the end of the connection.
    pub const CLOSED: &'static str = "closed";

    /// In words, for a message.
    pub fn words(&self) -> String {
        let text = match self.payload.as_str() {
            "" => "nothing".to_owned(),
            long if long.len() > 80 => format!("`{}…`", long.chars().take(60).collect::<String>()),
            short => format!("`{short}`"),
        };
        match self.kind.as_str() {
            Reply::CLOSED => "the connection's end".to_owned(),
            "ERROR" => format!("the error {}", self.payload.trim_end_matches('|')),
            kind => format!("{kind} with {text}"),
        }
    }
}

impl Entry {
    /// The request's type and payload as they are written.
    pub fn request(&self) -> Option<(&str, &str)> {
        let send = self.send.as_deref()?;
        Some(send.split_once(' ').unwrap_or((send, "")))
    }

    /// What came of it, in words; the number of a transaction is one.
    pub fn words(&self, seen: &super::play::Seen) -> String {
        match &seen.reply {
            Some(reply) if self.binds.is_some() && Answer::Transaction.is(reply, &reply.kind) => {
                "the number of a transaction".to_owned()
            }
            Some(reply) => {
                let mut reply = reply.clone();
                // The document gives names no order.
                if self.gets.iter().any(|a| matches!(a, Answer::Names(_))) && reply.kind != "ERROR" {
                    let mut names: Vec<&str> = reply.payload.split_inclusive('|').collect();
                    names.sort_unstable();
                    reply.payload = names.concat();
                }
                match reply.other_transaction {
                    Some(other) => format!("{}, for transaction {other} and not its own", reply.words()),
                    None => reply.words(),
                }
            }
            None if self.events.is_some() && seen.events.is_empty() => "no event".to_owned(),
            None if self.events.is_some() => format!("the events {}", seen.events.join(", ")),
            None if self.close => "closed by the client".to_owned(),
            None => "no answer".to_owned(),
        }
    }

    /// The guest's number is in an answer to it.
    pub fn answered_with_guest(&self) -> bool {
        let mut all = self.gets.iter().chain(self.known.iter().flat_map(|k| &k.gets));
        all.any(|a| matches!(a, Answer::Exactly(text) if text.contains(DOMID)))
    }

    /// It can only be played where there is a guest.
    pub fn needs_guest(&self) -> bool {
        let names = |text: &str| text.contains(DOMID);
        self.about_guest
            || self.on == GUEST
            || self.send.as_deref().is_some_and(names)
            || self.answered_with_guest()
            || self.events.iter().flatten().flat_map(|g| &g.0).any(|e| names(e))
    }
}

impl Trace {
    /// Reads a trace and checks it.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(yaml: &str) -> Result<Trace, String> {
        let mut trace: Trace = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        for section in &mut trace.sections {
            for entry in &mut section.entries {
                entry.about_guest = section.guest;
            }
        }
        let (mut ids, mut bound) = (BTreeSet::new(), BTreeSet::new());
        for entry in trace.entries() {
            let wrong = |what: &str| Err(format!("`{}`: {what}", entry.id));
            if !ids.insert(&entry.id) {
                return wrong("this id is there twice");
            }
            if entry.says.is_empty() || entry.source.is_empty() {
                return wrong("what the document says, and where, is not given");
            }
            match (entry.request(), &entry.events, entry.close) {
                (Some((kind, payload)), None, false) => {
                    if wire::number(kind).is_none() {
                        return wrong("there is no such type of message");
                    }
                    text::bytes(payload).map_err(|e| format!("`{}`: {e}", entry.id))?;
                    if entry.gets.is_empty() || entry.gets.iter().any(|a| matches!(a, Answer::Silence)) {
                        return wrong("no answer would be right");
                    }
                }
                (None, Some(_), false) if entry.on == GUEST => return wrong("a guest's events are not seen"),
                (None, Some(_), false) | (None, None, true) => {}
                _ => return wrong("expected one of `send`, `events`, `close`"),
            }
            if let Some(tx) = &entry.tx
                && !(bound.contains(tx) || tx.parse::<u32>().is_ok())
            {
                return wrong("its transaction was not begun before");
            }
            bound.extend(entry.binds.clone());
        }
        Ok(trace)
    }

    /// Everything, in its order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.sections.iter().flat_map(|s| &s.entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_reads() {
        let trace = shipped().unwrap();
        assert!(trace.entries().count() > 100);
        let about =
            ["values", "directories", "paths", "permissions", "watches", "transactions", "requests", "quota"];
        for name in about {
            assert!(trace.sections.iter().any(|s| s.section == name), "{name}");
        }
    }

    #[test]
    fn what_came_is_told_so_that_it_can_be_compared() {
        let words = |id: &str, kind: &str, payload: &str, other_transaction| {
            let reply = Some(Reply { kind: kind.into(), payload: payload.into(), other_transaction });
            let seen = super::super::play::Seen { id: id.into(), reply, events: Vec::new() };
            shipped().unwrap().entries().find(|e| e.id == id).unwrap().words(&seen)
        };
        assert_eq!(words("list", "DIRECTORY", "y|x|", None), "DIRECTORY with `x|y|`");
        assert_eq!(words("list", "ERROR", "ENOENT|", None), "the error ENOENT");
        assert_eq!(words("tx-start", "TRANSACTION_START", "41|", None), "the number of a transaction");
        let other = words("tx-watch-in-none", "WATCH", "OK|", Some(0));
        assert_eq!(other, "WATCH with `OK|`, for transaction 0 and not its own");
    }

    #[test]
    fn what_daemons_are_known_for_is_in_the_docs() {
        let docs = include_str!("../../../../docs/SCENARIO.md");
        for entry in shipped().unwrap().entries().filter(|e| !e.known.is_empty()) {
            assert!(docs.contains(&format!("`{}`", entry.id)), "{}", entry.id);
        }
    }

    #[test]
    fn mistakes_are_told() {
        let of = |entry: &str| {
            let yaml = format!("sections: [{{section: s, entries: [{entry}]}}]");
            Trace::read(&yaml).map(|_| ()).unwrap_err()
        };
        for (entry, wrong) in [
            ("{id: x, on: a, send: 'FROB y', gets: [ok], says: s, source: d}", "no such type"),
            ("{id: x, on: a, send: 'READ y', says: s, source: d}", "no answer"),
            ("{id: x, on: a, send: 'READ y', gets: [fine], says: s, source: d}", "`fine` is no answer"),
            ("{id: x, on: a, send: 'READ {y', gets: [ok], says: s, source: d}", "not closed"),
            ("{id: x, on: a, tx: T, send: 'READ y', gets: [ok], says: s, source: d}", "not begun"),
            ("{id: x, on: a, says: s, source: d}", "expected one of"),
            ("{id: x, on: a, send: 'READ y', gets: [ok], says: '', source: d}", "is not given"),
            ("{id: x, on: a, sends: 'READ y', gets: [ok], says: s, source: d}", "sends"),
            ("{id: x, on: guest, events: [], says: s, source: d}", "not seen"),
        ] {
            let said = of(entry);
            assert!(said.contains(wrong), "{entry}: {said}");
        }
    }

    #[test]
    fn answers() {
        let reply = |kind: &str, payload: &str| Reply {
            kind: kind.into(),
            payload: payload.into(),
            other_transaction: None,
        };
        for (answer, kind, payload, right) in [
            ("ok", "READ", "OK|", true),
            ("ok", "READ", "OK", false),
            ("ok", "ERROR", "OK|", false),
            ("= v", "READ", "v", true),
            ("= v", "READ", "v|", false),
            ("=", "READ", "", true),
            ("names a b", "READ", "b|a|", true),
            ("names a b", "READ", "a|b", false),
            ("names a b", "READ", "a|a|b|", false),
            ("names a b", "READ", "a|", false),
            ("names", "READ", "", true),
            ("names", "READ", "|", false),
            ("error", "ERROR", "EINVAL|", true),
            ("error", "ERROR", "EINVAL", false),
            ("error", "ERROR", "EQUOTA|", false),
            ("error EACCES EPERM", "ERROR", "EPERM|", true),
            ("error EACCES", "ERROR", "ENOENT|", false),
            ("error", "READ", "EINVAL|", false),
            ("transaction", "READ", "17|", true),
            ("transaction", "READ", "0|", false),
            ("transaction", "READ", "x|", false),
            ("matches [0-9]+\\|.*", "READ", "1|x|", true),
            ("matches [0-9]+", "READ", "1|x|", false),
            ("closed", "closed", "", true),
            ("closed", "ERROR", "EINVAL|", false),
        ] {
            let is = Answer::read(answer).unwrap().is(&reply(kind, payload), "READ");
            assert_eq!(is, right, "{answer}: {kind} {payload}");
        }
    }
}
