//! The player and the judge against a daemon that answers as the trace says, and against each single lie of it.

use super::*;
use crate::evidence::CommandEnd;
use crate::step::testing::{bad, ended, facts, judge, ran, said};
use crate::store::play::{Player, Turn};
use crate::store::text;
use crate::store::trace::{Answer, Group};
use crate::store::wire::{Message, WATCH_EVENT, number};
use crate::verdict::Verdict;
use std::collections::BTreeMap;

const BASE: &str = "/xenlab-base";
const DOMID: u32 = 7;

/// What is not as the trace says.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    /// Another answer.
    Answer,
    /// None.
    Nothing,
    /// It names another transaction.
    Transaction,
    /// An event that no watch is for.
    Event,
    /// An event with a request's number.
    Numbered,
    /// No event.
    NoEvent,
    /// The connection's end.
    Closed,
}

/// A daemon that gives the first answer that is right, and lies once.
struct Daemon<'a> {
    entries: Vec<&'a Entry>,
    at: usize,
    told: bool,
    transaction: u32,
    bytes: BTreeMap<String, Vec<u8>>,
    closed: Vec<String>,
    lie: Option<(&'a str, Lie)>,
}

impl Daemon<'_> {
    fn lies(&self, entry: &Entry) -> Option<Lie> {
        self.lie.filter(|(id, _)| *id == entry.id).map(|(_, lie)| lie)
    }

    fn take(&mut self, turn: &Turn) -> (Vec<u8>, bool) {
        if turn.close {
            self.pass(true);
            self.bytes.remove(&turn.on);
            return (Vec::new(), false);
        }
        let mut held = self.bytes.remove(&turn.on).unwrap_or_default();
        held.extend(turn.send.concat());
        let mut out = Vec::new();
        loop {
            match Message::decode(&mut held) {
                Ok(None) => break,
                Err(_) => {
                    self.pass(false);
                    return match self.lies(self.entries[self.at - 1]) {
                        Some(Lie::Answer | Lie::Nothing) => (out, false),
                        _ => (out, true),
                    };
                }
                Ok(Some(asked)) => {
                    while self.closed.contains(&self.entries[self.at].on) {
                        self.at += 1;
                    }
                    let entry = self.entries[self.at];
                    let sync = asked.kind == number("GET_DOMAIN_PATH").unwrap() && asked.payload == b"0\0";
                    if sync {
                        out.extend(self.events(entry));
                        let payload = b"/local/domain/0\0".to_vec();
                        out.extend(Message { payload, ..asked }.encode(None));
                        continue;
                    }
                    let entry = self.pass(false);
                    if self.lies(entry) == Some(Lie::Closed) {
                        self.closed.push(turn.on.clone());
                        return (out, true);
                    }
                    out.extend(self.answer(entry, asked));
                }
            }
        }
        self.bytes.insert(turn.on.clone(), held);
        (out, false)
    }

    /// The entry that is played now, those that look at events or are of a connection that is closed having been passed.
    fn pass(&mut self, close: bool) -> &'static Entry {
        while self.entries[self.at].events.is_some() || self.closed.contains(&self.entries[self.at].on) {
            self.at += 1;
        }
        self.told = false;
        self.at += 1;
        let id = &self.entries[self.at - 1].id;
        let entry = shipped().unwrap().entries().find(|e| e.id == *id).unwrap();
        assert_eq!(entry.close, close, "{id}");
        entry
    }

    fn events(&mut self, entry: &Entry) -> Vec<u8> {
        let wanted = entry.events.as_ref().expect("only events are asked for");
        if std::mem::replace(&mut self.told, true) {
            return Vec::new();
        }
        let mut events: Vec<String> = wanted.iter().flat_map(|Group(g)| g.iter().rev().cloned()).collect();
        match self.lies(entry) {
            Some(Lie::Event) => events.push("~/nowhere|tok".to_owned()),
            Some(Lie::NoEvent) => drop(events.pop()),
            _ => {}
        }
        let request = u32::from(self.lies(entry) == Some(Lie::Numbered));
        let message = |event: &String| {
            let text = event.replace('~', BASE).replace("<guest>", &DOMID.to_string());
            let payload = text::bytes(&format!("{text}|")).unwrap();
            Message { kind: WATCH_EVENT, request, transaction: 0, payload }.encode(None)
        };
        events.iter().flat_map(message).collect()
    }

    fn answer(&mut self, entry: &Entry, asked: Message) -> Vec<u8> {
        let named = |text: &str| {
            text::bytes(&text.replace('~', BASE).replace("<guest>", &DOMID.to_string())).unwrap()
        };
        let (mut kind, mut payload) = match entry.gets.first().unwrap() {
            Answer::Ok => (asked.kind, b"OK\0".to_vec()),
            Answer::Exactly(text) => (asked.kind, named(text)),
            Answer::Names(names) => {
                (asked.kind, names.iter().flat_map(|n| named(&format!("{n}|"))).collect())
            }
            Answer::Transaction => {
                self.transaction += 1;
                (asked.kind, named(&format!("{}|", self.transaction)))
            }
            Answer::Error(names) => {
                (16, named(&format!("{}|", names.first().map_or("EINVAL", String::as_str))))
            }
            Answer::Matches(_) => {
                let text = match entry.id.as_str() {
                    "read-2000" => "{0*2000}",
                    "list-part" => "12|y|x||",
                    "path-root" => "n0|",
                    "feature" => "7|",
                    other => panic!("{other}: what matches?"),
                };
                (asked.kind, named(text))
            }
            Answer::Closed | Answer::Silence => panic!("{}: it cannot be answered", entry.id),
        };
        let mut transaction = asked.transaction;
        match self.lies(entry) {
            // Of the type of an event it would be one.
            Some(Lie::Answer) if asked.kind == WATCH_EVENT => (kind, payload) = (2, b"lie".to_vec()),
            Some(Lie::Answer) => (kind, payload) = (asked.kind, b"lie".to_vec()),
            Some(Lie::Nothing) => return Vec::new(),
            Some(Lie::Transaction) => transaction += 1,
            _ => {}
        }
        Message { kind, request: asked.request, transaction, payload }.encode(None)
    }
}

fn found() -> CommandResult {
    ran("look", 0, "pid=5 exe=/usr/lib/xen-4.17/bin/xenstored comm=xenstored from=proc\n", "")
}

fn played(lie: Option<(&str, Lie)>, domid: Option<u32>, pieces: usize) -> StoreEvidence {
    let trace = shipped().unwrap();
    let entries = trace.entries().filter(|e| domid.is_some() || !e.needs_guest()).collect();
    let mut daemon = Daemon {
        entries,
        at: 0,
        told: false,
        transaction: 40,
        bytes: BTreeMap::new(),
        closed: Vec::new(),
        lie,
    };
    let mut player = Player::new(trace, BASE, domid);
    let mut turns = 0;
    while let Some(turn) = player.turn() {
        let (bytes, closed) = daemon.take(&turn);
        turns += 1;
        assert!(turns < 1000, "it goes on for ever: {turn:?}");
        for part in bytes.chunks(pieces) {
            player.received(&turn.on, part, false);
        }
        player.received(&turn.on, b"", closed);
    }
    let (seen, strays) = player.finish();
    StoreEvidence { found: found(), seen, strays, domid, failed: None }
}

fn step() -> Store {
    Store { play: Play::Trace, guest: None, of: None }
}

#[test]
fn a_daemon_that_keeps_to_the_document_passes() {
    let trace = shipped().unwrap();
    for (domid, pieces) in [(None, 4096), (Some(DOMID), 4096), (Some(DOMID), 1), (Some(DOMID), 7)] {
        let checks = judge(&step(), &played(None, domid, pieces), &facts());
        assert_eq!(bad(&checks), Vec::<String>::new(), "{checks:#?}");
        let sections =
            trace.sections.iter().filter(|s| domid.is_some() || s.entries.iter().any(|e| !e.needs_guest()));
        assert_eq!(checks.len(), sections.count());
    }
}

#[test]
fn every_single_lie_is_caught_and_said_of_nothing_else() {
    let trace = shipped().unwrap();
    for section in &trace.sections {
        for entry in &section.entries {
            let lies: &[Lie] = match (&entry.events, entry.close) {
                (Some(wanted), _) if wanted.is_empty() => &[Lie::Event],
                (Some(_), _) => &[Lie::Event, Lie::NoEvent, Lie::Numbered],
                (None, true) => continue,
                (None, false) if matches!(entry.gets[..], [Answer::Closed]) => &[Lie::Nothing],
                (None, false) => &[Lie::Answer, Lie::Nothing, Lie::Transaction],
            };
            for &lie in lies {
                let checks = judge(&step(), &played(Some((&entry.id, lie)), Some(DOMID), 4096), &facts());
                let cause = match lie {
                    Lie::Nothing => "store.silent",
                    Lie::Event | Lie::NoEvent | Lie::Numbered => "store.event",
                    _ => "store.answer",
                };
                // A lie about events may come to light where they are next looked at.
                assert_eq!(
                    bad(&checks),
                    [format!("{} FAIL {cause}", section.section)],
                    "{lie:?} of {}",
                    entry.id
                );
                let message = said(&checks, &section.section);
                assert!(message.contains(&entry.id) && message.contains("xenstore.txt"), "{message}");
                assert!(!message.contains(" more)"), "{lie:?}: {message}");
            }
        }
    }
}

#[test]
fn a_connection_that_the_daemon_closes_is_said_at_once() {
    let checks = judge(&step(), &played(Some(("list", Lie::Closed)), Some(DOMID), 4096), &facts());
    assert!(said(&checks, "directories").contains("list (`DIRECTORY ~/d|` by a) got the connection's end"));
    assert!(checks.iter().filter(|c| c.verdict == Verdict::Fail).count() > 1);
}

#[test]
fn what_a_daemon_is_known_for_is_told_and_passes_for_it_alone() {
    let quota = |exe: &str| {
        let mut evidence = played(None, Some(DOMID), 4096);
        evidence.found.stdout.text = format!("pid=5 exe=/usr/sbin/{exe} comm=x from=proc\n");
        let at = evidence.seen.iter_mut().find(|s| s.id == "quota-tx").unwrap();
        at.reply.as_mut().unwrap().payload = "EQUOTA|".to_owned();
        judge(&step(), &evidence, &facts())
    };
    let checks = quota("oxenstored");
    assert_eq!(bad(&checks), Vec::<String>::new());
    let check = checks.iter().find(|c| c.name == "quota").unwrap();
    assert!(check.shown.iter().any(|(_, text)| text.contains("which xs_wire.h does not list")), "{check:?}");
    assert_eq!(bad(&quota("xenstored")), ["quota FAIL store.answer"]);
    let silent = |exe: &str| {
        let mut evidence = played(Some(("payload-none", Lie::Nothing)), None, 4096);
        evidence.found.stdout.text = format!("pid=5 exe=/usr/sbin/{exe} comm=x from=proc\n");
        bad(&judge(&step(), &evidence, &facts()))
    };
    assert!(silent("oxenstored").is_empty());
    assert_eq!(silent("xenstored"), ["requests FAIL store.silent"]);
}

#[test]
fn a_trace_that_was_not_played_is_no_pass() {
    let mut evidence = played(None, None, 4096);
    evidence.seen.truncate(9);
    assert!(bad(&judge(&step(), &evidence, &facts())).contains(&"transactions FAIL store.silent".to_owned()));
    for (failed, cause) in [
        (ran("join", NO_CLIENT, "", ""), "trace FAIL store.client"),
        (ran("join", 1, "", "there is no socket"), "trace FAIL store.absent"),
        (ended("join", CommandEnd::TimedOut(60), "", ""), "trace FAIL step.timeout"),
    ] {
        let evidence = StoreEvidence { seen: Vec::new(), failed: Some(Box::new(failed)), ..evidence.clone() };
        assert_eq!(bad(&judge(&step(), &evidence, &facts())), [cause]);
    }
    let strays = vec!["a: READ x to request 3".to_owned()];
    let evidence = StoreEvidence { strays, ..played(None, None, 4096) };
    assert_eq!(bad(&judge(&step(), &evidence, &facts())), ["strays FAIL store.answer"]);
}
