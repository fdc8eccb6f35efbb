//! `vchan`: two domains are connected by libxenvchan, bytes go both ways, one end goes, and the other must see it.
//!
//! Both ends are `vchan-socket-proxy` of the build under test: in dom0 as it is installed, in a guest with the libraries that it has in dom0.

use super::domain::{Answer, Seen};
use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::fact::{FactValue, Facts};
use crate::guest::Guest;
use crate::matcher::quote;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `vchan: {server: dom0, client: g1}`, `vchan: {server: g1, client: g2, kill: server}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Vchan {
    /// The domain that offers the channel: `dom0`, or a guest.
    pub server: String,
    /// The domain that connects to it: `dom0`, or a guest.
    pub client: String,
    /// The end that is killed once all bytes are through; the client closes the channel when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Side>,
    /// The guests among the two, as `guests` has them; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(skip)]
    pub guests: Vec<Guest>,
}

/// An end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// The one that offers it.
    Server,
    /// The one that connects.
    Client,
}

impl Side {
    /// As a scenario says it.
    pub fn word(self) -> &'static str {
        match self {
            Side::Server => "server",
            Side::Client => "client",
        }
    }

    /// The one at the other end.
    pub fn other(self) -> Side {
        match self {
            Side::Server => Side::Client,
            Side::Client => Side::Server,
        }
    }
}

/// How dom0 is called where a domain is named.
pub const DOM0: &str = "dom0";
/// What connects the domains.
pub const PROGRAM: &str = "vchan-socket-proxy";
/// How many bytes go each way; many times what the rings of a channel hold.
pub const BYTES: u64 = 128 << 10;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VchanEvidence {
    /// What was done, in its order; where something failed it is the last.
    pub done: Vec<Part>,
    /// The guests among the two afterwards; each one's `command` is that look.
    pub seen: Vec<Seen>,
}

/// A part of what was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Which.
    pub what: What,
    /// The guest that did it, and the output is its answer; none: dom0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<String>,
    /// How that went: lines `WORD VALUE`.
    pub command: CommandResult,
}

/// What a part was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Finding out the domains' numbers.
    Domains,
    /// Starting an end.
    Start(Side),
    /// Looking for what the server puts into the store.
    Nodes,
    /// Waiting for what an end receives.
    Receive(Side),
    /// Ending an end.
    End(Side),
    /// Waiting until an end has seen that the other is gone.
    Notice(Side),
    /// Looking whether the store has anything left.
    Left,
}

impl Part {
    /// Status, standard output and standard error of what was done there; none: a guest gave no answer that can be read.
    fn said(&self, seen: &[Seen]) -> Option<(i32, String, String)> {
        let nonce = match &self.guest {
            Some(guest) => &seen.iter().find(|s| s.domain == *guest)?.nonce,
            None => "",
        };
        self.said_by(nonce)
    }

    /// The same, where a guest says what it says by `nonce`.
    fn said_by(&self, nonce: &str) -> Option<(i32, String, String)> {
        let crate::evidence::CommandEnd::Exit(status) = self.command.end else { return None };
        if self.guest.is_none() {
            return Some((status, self.command.stdout.text.clone(), self.command.stderr.text.clone()));
        }
        let answer = Answer::read(&self.command.stdout.text, nonce)?;
        Some((answer.status, answer.stdout.text, answer.stderr.text))
    }

    /// It went well: what comes after it makes sense.
    pub fn is_well(&self, nonce: &str) -> bool {
        self.command.ok() && self.said_by(nonce).is_some_and(|(status, ..)| status == 0)
    }
}

/// The server's grant and its event channel, as the store has them.
fn nodes(text: &str) -> (Option<u32>, Option<u32>) {
    let number = |word: &str| value(text, word)?.parse::<u32>().ok();
    (number("ring-ref"), number("event-channel"))
}

/// Lines `WORD VALUE`.
fn value<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    text.lines().find_map(|l| l.trim_end().strip_prefix(word)?.strip_prefix(' '))
}

impl StepKind for Vchan {
    const NAME: &'static str = "vchan";
    const AT: At = At::Dom0;
    type Evidence = VchanEvidence;

    fn check(&self) -> Vec<Complaint> {
        if self.server != self.client {
            return Vec::new();
        }
        let message = format!("`{}` would be connected with itself", self.client);
        vec![Complaint::new("client", message, "another domain than the server")]
    }

    fn judge(&self, evidence: &VchanEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "");
        self.judged(evidence, cx).into_iter().map(|check| check.at(place.clone())).collect()
    }
}

impl Vchan {
    /// The domain at an end.
    pub fn of(&self, side: Side) -> &str {
        match side {
            Side::Server => &self.server,
            Side::Client => &self.client,
        }
    }

    /// After this part a client can connect; only what the store has can tell.
    pub fn offered(&self, part: &Part) -> bool {
        part.what != What::Nodes || matches!(nodes(&part.command.stdout.text), (Some(_), Some(_)))
    }

    /// After this part there is more to see; an end that did not receive everything is the last thing that is.
    pub fn goes_on(&self, part: &Part, nonce: &str) -> bool {
        let (What::Receive(_), Some((_, text, _))) = (part.what, part.said_by(nonce)) else { return true };
        value(&text, "status").is_none() && value(&text, "bytes").and_then(|v| v.parse().ok()) == Some(BYTES)
    }

    /// The end that goes first.
    pub fn first(&self) -> Side {
        self.kill.unwrap_or(Side::Client)
    }

    /// Why it cannot be done there, by what is known before a machine starts.
    pub fn cannot(&self, facts: &Facts) -> Option<String> {
        match facts.get("build.programs") {
            Some(FactValue::Set(programs)) if !programs.contains(PROGRAM) => {
                Some(format!("the tools of this build have no {PROGRAM}"))
            }
            _ => self.guests.iter().find_map(|guest| guest.cannot(facts)),
        }
    }

    fn who(&self, side: Side) -> String {
        format!("the {} in {}", side.word(), self.of(side))
    }

    fn what(&self, what: What) -> String {
        match what {
            What::Domains => "finding out the domains' numbers".to_owned(),
            What::Start(side) => format!("starting {}", self.who(side)),
            What::Nodes => "looking for its nodes in the store".to_owned(),
            What::Receive(side) => format!("receiving by {}", self.who(side)),
            What::End(side) => format!("ending {}", self.who(side)),
            What::Notice(side) => format!("waiting for the end of {}", self.who(side)),
            What::Left => "looking at what the store has left".to_owned(),
        }
    }

    fn judged(&self, evidence: &VchanEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let mut checks = Vec::new();
        let mut sent = [None, None];
        for part in &evidence.done {
            let text = match self.read(part, evidence, cx) {
                Ok(text) => text,
                Err(check) => {
                    checks.push(*check);
                    return checks;
                }
            };
            match part.what {
                What::Domains => {}
                What::Start(side) => sent[side as usize] = value(&text, "sent").map(str::to_owned),
                What::Nodes => {
                    let asked = evidence.done.last().and_then(|p| p.said(&evidence.seen));
                    checks.push(self.judge_nodes(&text, &asked.map_or_else(String::new, |(_, out, _)| out)));
                }
                What::Receive(side) => {
                    checks.push(self.received(side, sent[side.other() as usize].as_deref(), &text));
                }
                What::End(side) => checks.extend(self.ended(side, &text)),
                What::Notice(side) => checks.push(self.noticed(side, &text)),
                What::Left => checks.push(self.left(&text)),
            }
            // What comes after a loss says nothing more.
            if checks.last().is_some_and(|c| c.verdict != crate::verdict::Verdict::Pass) {
                return checks;
            }
        }
        if !evidence.done.iter().any(|part| part.what == What::Left) {
            let message = "the channel was not looked at to its end";
            checks.push(Check::error("vchan", Cause::LabInternal, message));
        }
        checks
    }

    /// What a part said; else the check that says how it failed.
    fn read(
        &self,
        part: &Part,
        evidence: &VchanEvidence,
        cx: &JudgeContext<'_>,
    ) -> Result<String, Box<Check>> {
        let name = "vchan";
        let what = self.what(part.what);
        let of_guest = part.guest.as_ref().and_then(|g| evidence.seen.iter().find(|s| s.domain == *g));
        let silent = |seen: &Seen| {
            let message = format!("{what}: {} did not answer; {}", seen.domain, seen.last_words());
            let check = seen.dead(name).unwrap_or_else(|| Check::fail(name, Cause::GuestSilent, message));
            Err(Box::new(check.show("console", seen.console.text.trim_end())))
        };
        match (say::exited(name, &what, &part.command), of_guest) {
            (Ok(_), None) => {}
            (Ok(_), Some(seen)) if part.said(&evidence.seen).is_none() => return silent(seen),
            (Err(check), Some(seen)) if check.cause == Some(Cause::CommandTimeout) => return silent(seen),
            (Ok(_), Some(_)) => {}
            (Err(check), _) => return Err(Box::new(check)),
        }
        let Some((status, stdout, stderr)) = part.said(&evidence.seen) else {
            let message = format!("{what}: what was looked at is not in the evidence");
            return Err(Box::new(Check::error(name, Cause::LabInternal, message)));
        };
        if status == 0 {
            return Ok(stdout);
        }
        if part.guest.is_none() && status == 127 {
            return Err(Box::new(say::xl_failed(name, &what, &part.command, cx)));
        }
        let cause = if status == 127 { Cause::PartMissing } else { Cause::VchanNotConnected };
        let said = stderr.lines().rfind(|l| !l.trim().is_empty());
        let said = said.map_or_else(String::new, |l| format!(": {}", quote(l.trim())));
        let check = Check::fail(name, cause, format!("{what} exited with {status}{said}"));
        Err(Box::new(check.show("stderr", stderr.trim_end())))
    }

    /// The server has put into the store what a client needs.
    fn judge_nodes(&self, text: &str, asked: &str) -> Check {
        let name = "nodes of the server";
        let node = value(text, "node").unwrap_or("?");
        match nodes(text) {
            (Some(grant), Some(port)) => Check::pass(
                name,
                format!("{} offers grant {grant} and event channel {port} in {node}", self.who(Side::Server)),
            ),
            (grant, port) => {
                let shown = |v: Option<u32>| v.map_or_else(|| "none".to_owned(), |v| v.to_string());
                let ended = value(asked, "status")
                    .map_or_else(String::new, |status| format!("; it ended with status {status}"));
                let message = format!(
                    "{} was to put `ring-ref` and `event-channel` into {node}; the first is {}, the second {}{ended}",
                    self.who(Side::Server),
                    shown(grant),
                    shown(port)
                );
                show_stderr(Check::fail(name, Cause::VchanNotConnected, message), asked)
            }
        }
    }

    /// An end has what the other sent.
    fn received(&self, side: Side, sent: Option<&str>, text: &str) -> Check {
        let (from, to) = (self.who(side.other()), self.who(side));
        let name = format!("{} to {}", side.other().word(), side.word());
        let bytes = value(text, "bytes").and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
        if let Some(status) = value(text, "status") {
            let message = format!("{to} ended, with status {status}, when it had {bytes} of {BYTES} bytes");
            let cause = if bytes == 0 && status != "0" { Cause::VchanNotConnected } else { Cause::VchanData };
            return show_stderr(Check::fail(name, cause, message), text);
        }
        match (sent, value(text, "received")) {
            (Some(sent), Some(got)) if bytes == BYTES && sent == got && sent.len() == 64 => {
                Check::pass(name, format!("{BYTES} bytes came as they were sent: {got}"))
            }
            _ if bytes != BYTES => {
                let message = format!("{from} sent {BYTES} bytes, {to} received {bytes}");
                show_stderr(Check::fail(name, Cause::VchanData, message), text)
            }
            (sent, got) => {
                let message = format!(
                    "what {to} received is not what {from} sent: SHA-256 {}, expected {}",
                    got.unwrap_or("unknown"),
                    sent.unwrap_or("unknown")
                );
                Check::fail(name, Cause::VchanData, message)
            }
        }
    }

    /// An end was closed or killed; nothing is said where it went as it should.
    fn ended(&self, side: Side, text: &str) -> Option<Check> {
        let name = format!("end of the {}", side.word());
        let who = self.who(side);
        let wanted = if self.kill.is_some() { "137" } else { "0" };
        let how = if self.kill.is_some() { "was killed" } else { "was to close the channel" };
        match value(text, "status") {
            Some(status) if status == wanted => None,
            Some(status) => {
                let message = format!("{who} {how}, and ended with status {status}, expected {wanted}");
                Some(show_stderr(Check::fail(name, Cause::VchanEnd, message), text))
            }
            None => {
                let message = format!("{who} {how}, and had not ended {} later", waited(text));
                Some(show_stderr(Check::fail(name, Cause::VchanEnd, message), text))
            }
        }
    }

    /// The end that is left has seen it.
    fn noticed(&self, side: Side, text: &str) -> Check {
        let name = format!("end seen by the {}", side.word());
        let (who, gone) = (self.who(side), self.who(side.other()));
        let how = if self.kill.is_some() { "was killed" } else { "closed the channel" };
        match value(text, "status") {
            Some("0") => Check::pass(name, format!("{gone} {how}, and {who} saw it")),
            Some(status) => {
                let message = format!("{gone} {how}, and {who} ended with status {status}, expected 0");
                show_stderr(Check::fail(name, Cause::VchanEnd, message), text)
            }
            None => {
                let message = format!("{gone} {how}, and {who} had not seen it {} later", waited(text));
                show_stderr(Check::fail(name, Cause::VchanEnd, message), text)
            }
        }
    }

    /// A server that ended in order has taken its nodes away; one that was killed cannot.
    fn left(&self, text: &str) -> Check {
        let name = "nodes left of the server";
        let node = value(text, "node").unwrap_or("?");
        match (value(text, "left"), self.kill) {
            (Some(_), Some(Side::Server)) => {
                Check::pass(name, format!("{node} is the killed server's, which could not take it away"))
            }
            (Some("no"), _) => Check::pass(name, format!("{node} is gone")),
            (Some(_), _) => {
                let message = format!("{} has ended and {node} is still there", self.who(Side::Server));
                Check::fail(name, Cause::GuestLeak, message)
            }
            (None, _) => Check::error(name, Cause::LabInternal, "the store was not looked at"),
        }
    }
}

fn waited(text: &str) -> String {
    value(text, "waited").map_or_else(|| "some time".to_owned(), |s| format!("{s} s"))
}

/// With what the proxy wrote to its standard error.
fn show_stderr(check: Check, text: &str) -> Check {
    let lines: Vec<&str> = text.lines().filter_map(|l| l.strip_prefix("stderr ")).collect();
    if lines.is_empty() { check } else { check.show("stderr", lines.join("\n")) }
}

#[cfg(test)]
mod tests;
