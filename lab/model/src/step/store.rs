//! `store`: what the running store daemon answers to each request of a trace, against what the protocol's document says.

use super::xenstored::running;
use super::{At, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::guest::Guest;
use crate::store::play::{Seen, expected};
use crate::store::trace::{Answer, Entry, Known, Section, shipped};
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `store: trace`, `store: {play: trace, guest: g1}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Store {
    /// What is played, and by whom.
    pub play: Play,
    /// With `trace`: this guest plays its part too, and is cut off from the store at the end. It must be the lab's own, and up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// The guest, as `guests` has it; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub of: Option<Box<Guest>>,
}

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Play {
    /// The lab's own trace, over the wire protocol itself.
    Trace,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoreEvidence {
    /// Which daemon runs: as of the step `xenstored`.
    pub found: CommandResult,
    /// What came of each entry that was played.
    pub seen: Vec<Seen>,
    /// Messages that answered nothing that was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<String>,
    /// The guest's number; none: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domid: Option<u32>,
    /// The command that failed, where the playing ended by that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Box<CommandResult>>,
}

/// What a script in dom0 exits with that finds no program for the store's socket.
pub const NO_CLIENT: i32 = 119;

impl StepKind for Store {
    const NAME: &'static str = "store";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("play");
    type Evidence = StoreEvidence;

    fn judge(&self, evidence: &StoreEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "play");
        let trace = match shipped() {
            Ok(trace) => trace,
            Err(e) => return vec![Check::error("trace", Cause::LabInternal, e).at(place)],
        };
        if let Some(failed) = &evidence.failed {
            return vec![unplayed(failed).at(place)];
        }
        let daemon = running(&evidence.found.stdout.text).unwrap_or("an unknown daemon");
        let mut checks = Vec::new();
        for section in &trace.sections {
            let entries: Vec<&Entry> =
                section.entries.iter().filter(|e| evidence.domid.is_some() || !e.needs_guest()).collect();
            if !entries.is_empty() {
                checks.push(judged(section, &entries, &evidence.seen, daemon));
            }
        }
        if let Some(first) = evidence.strays.first() {
            let message = format!(
                "{daemon} sent {} messages that answer nothing that was asked, such as {first}",
                evidence.strays.len()
            );
            checks.push(
                Check::fail("strays", Cause::StoreAnswer, message).show("all", evidence.strays.join("\n")),
            );
        }
        checks.into_iter().map(|c| c.at(place.clone())).collect()
    }
}

/// The trace could not be played to its end.
fn unplayed(failed: &CommandResult) -> Check {
    let status = match say::exited("trace", "playing the trace", failed) {
        Ok(status) => status,
        Err(check) => return check,
    };
    let (cause, why) = match status {
        NO_CLIENT => (
            Cause::StoreClient,
            "trace: dom0 has none of nc.openbsd, ncat and socat, by which the lab speaks to the store's socket"
                .to_owned(),
        ),
        _ => (
            Cause::StoreAbsent,
            format!("trace: the store's socket cannot be spoken to{}", say::stderr_tail(failed)),
        ),
    };
    Check::fail("trace", cause, why)
}

/// How an entry came out.
enum Came {
    /// As the document says.
    Right,
    /// As the document says, of several ways the one that this daemon is known for.
    Chosen,
    /// Otherwise than the document says, as this daemon is known for.
    Deviates(String),
    Wrong(Cause, String),
}

fn judged(section: &Section, entries: &[&Entry], seen: &[Seen], daemon: &str) -> Check {
    let (mut right, mut wrong, mut known) = (0, Vec::new(), Vec::new());
    for entry in entries {
        let of = seen.iter().find(|s| s.id == entry.id);
        match came(entry, of, daemon) {
            Came::Right => right += 1,
            Came::Chosen => {
                right += 1;
                let saw = of.map_or_else(String::new, |of| entry.words(of));
                let why = entry.known.iter().find(|k| k.daemon == daemon).map_or("", |k| k.because.as_str());
                known.push(format!(
                    "{}: {saw}, one of the answers that are right ({}: {}); {why}",
                    entry.id, entry.source, entry.says
                ));
            }
            Came::Deviates(how) => known.push(how),
            Came::Wrong(cause, what) => wrong.push((cause, what)),
        }
    }
    let name = section.section.as_str();
    let check = match wrong.first() {
        Some((cause, first)) => {
            let more = match wrong.len() {
                1 => String::new(),
                n => format!(" (and {} more)", n - 1),
            };
            let all: Vec<&str> = wrong.iter().map(|(_, what)| what.as_str()).collect();
            Check::fail(name, *cause, format!("{name}: {first}{more}")).show("all", all.join("\n"))
        }
        None => {
            let said = match known.len() {
                0 => String::new(),
                1 => format!("; 1 where daemons differ, as is known of {daemon}"),
                n => format!("; {n} where daemons differ, as is known of {daemon}"),
            };
            let message =
                format!("{right} of {} answers of {daemon} are as the protocol says{said}", entries.len());
            Check::pass(name, message)
        }
    };
    if known.is_empty() { check } else { check.show(format!("known of {daemon}"), known.join("\n")) }
}

fn came(entry: &Entry, seen: Option<&Seen>, daemon: &str) -> Came {
    let asked = entry.send.as_deref().unwrap_or("looking at its events");
    let short: String = match asked.chars().count() {
        0..=60 => asked.to_owned(),
        _ => format!("{}…", asked.chars().take(50).collect::<String>()),
    };
    let who = format!("{} (`{short}` by {}", entry.id, entry.on);
    let who = entry.tx.as_ref().map_or_else(|| format!("{who})"), |tx| format!("{who}, transaction {tx})"));
    let says = format!("xenstore.txt, {}: {}", entry.source, entry.says);
    let Some(seen) = seen else {
        return Came::Wrong(Cause::StoreSilent, format!("{who} was not played"));
    };
    let of_daemon = |k: &&Known| k.daemon == daemon;
    if let Some(wanted) = &entry.events {
        let why = match expected(wanted, &seen.events) {
            Ok(_) => return Came::Right,
            Err(why) => why,
        };
        let known = entry
            .known
            .iter()
            .filter(of_daemon)
            .find(|k| k.events.as_ref().is_some_and(|wanted| expected(wanted, &seen.events).is_ok()));
        let had = if seen.events.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", seen.events.join("`, `"))
        };
        return match known {
            Some(k) => Came::Deviates(format!("{}: {why}; {says}; {} ({})", entry.id, k.because, k.source)),
            None => Came::Wrong(
                Cause::StoreEvent,
                format!("the watch events of {} at {}: {why}; it had {had}; {says}", entry.on, entry.id),
            ),
        };
    }
    if entry.close {
        return Came::Right;
    }
    let wanted: Vec<String> = entry.gets.iter().map(Answer::words).collect();
    let wanted = wanted.join(" or ");
    let Some(reply) = &seen.reply else {
        let silent = |k: &&Known| k.gets.iter().any(|a| matches!(a, Answer::Silence));
        if let Some(k) = entry.known.iter().filter(of_daemon).find(silent) {
            let how =
                format!("{}: no answer, expected {wanted}; {says}; {} ({})", entry.id, k.because, k.source);
            return Came::Deviates(how);
        }
        return Came::Wrong(Cause::StoreSilent, format!("{who} got no answer, expected {wanted}; {says}"));
    };
    if let Some(other) = reply.other_transaction {
        if let Some(k) = entry.known.iter().filter(of_daemon).find(|k| k.transaction == Some(other)) {
            let how =
                format!("{}: an answer for transaction {other}; {} ({})", entry.id, k.because, k.source);
            return Came::Deviates(format!("{how}; xenstore.txt: replies have the request's tx_id"));
        }
        let message = format!("{who} got an answer for transaction {other}, expected its own; {says}");
        return Came::Wrong(Cause::StoreAnswer, message);
    }
    let kind = entry.request().map_or("", |(kind, _)| kind);
    let known = entry.known.iter().filter(of_daemon).find(|k| k.gets.iter().any(|a| a.is(reply, kind)));
    if entry.gets.iter().any(|a| a.is(reply, kind)) {
        return if known.is_some() && may_differ(entry) { Came::Chosen } else { Came::Right };
    }
    match known {
        Some(k) => Came::Deviates(format!(
            "{}: {}, expected {wanted}; {says}; {} ({})",
            entry.id,
            reply.words(),
            k.because,
            k.source
        )),
        None => {
            Came::Wrong(Cause::StoreAnswer, format!("{who} got {}, expected {wanted}; {says}", reply.words()))
        }
    }
}

/// Two daemons are known to answer it differently.
fn may_differ(entry: &Entry) -> bool {
    let words = |k: &Known| k.gets.iter().map(Answer::words).collect::<Vec<_>>();
    let mut all = entry.known.iter().map(words);
    match all.next() {
        None => false,
        Some(first) => entry.known.len() == 1 || all.any(|other| other != first),
    }
}

#[cfg(test)]
mod tests;
