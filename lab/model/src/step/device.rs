//! `device`: what is done with a device of a guest, and whether bytes come through it as they were sent.

use super::domain::{Answer, Seen};
use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::device::{Backend, Which};
use crate::evidence::CommandResult;
use crate::guest::Guest;
use crate::matcher::quote;
use crate::units::Size;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

mod resize;
mod through;

/// `device: {attach: g1, disk: xvdb}`, `device: {transfer: g1, vif: net0}`, `device: {resize: g1, memory: 64M}`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Device {
    /// Attach a device to this guest, which runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attach: Option<String>,
    /// Send bytes through a device of this guest in both directions, and compare what comes out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<String>,
    /// Detach a device from this guest, which runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detach: Option<String>,
    /// Give this guest, which runs, another `memory` or number of `vcpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resize: Option<String>,
    /// A disk of the guest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// A network interface of the guest's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vif: Option<String>,
    /// With `resize`: its memory from now on, at most what it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// With `resize`: how many vCPUs it has from now on, at most as many as it was created with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// The guest, as `guests` has it; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub guest: Option<Box<Guest>>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `attach`
    Attach,
    /// `transfer`
    Transfer,
    /// `detach`
    Detach,
    /// `resize`
    Resize,
}

impl Act {
    /// The key.
    pub fn word(self) -> &'static str {
        match self {
            Act::Attach => "attach",
            Act::Transfer => "transfer",
            Act::Detach => "detach",
            Act::Resize => "resize",
        }
    }
}

/// What was seen, of each of the guest's domains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceEvidence {
    /// In the order of their names.
    pub domains: Vec<Handled>,
}

/// What was done with a domain and seen of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Handled {
    /// What was done, in its order; where something failed it is the last.
    pub done: Vec<Done>,
    /// The domain afterwards; its `command` is that look.
    pub seen: Seen,
}

/// A part of what was done, and what that said: lines `WORD VALUE`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// What, for a message: `reading the file behind xvdb`.
    pub what: String,
    /// It was the guest that did it, and the output is its answer.
    pub in_guest: bool,
    /// How that went.
    pub command: CommandResult,
}

impl Done {
    /// It went well: what comes after it makes sense.
    pub fn is_well(&self, nonce: &str) -> bool {
        let answered = || Answer::read(&self.command.stdout.text, nonce).is_some_and(|a| a.status == 0);
        self.command.ok() && (!self.in_guest || answered())
    }
}

impl StepKind for Device {
    const NAME: &'static str = "device";
    const AT: At = At::Dom0;
    const ACTS: bool = true;
    type Evidence = DeviceEvidence;

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        let acts = self.acts();
        let Some((act, _)) = acts.first().copied() else {
            let expected = "one of attach, transfer, detach, resize";
            return vec![Complaint::new("", "nothing is done here", expected)];
        };
        if let Some((other, _)) = acts.get(1) {
            let message = format!("both `{}` and `{}` are given", act.word(), other.word());
            wrong.push(Complaint::new(other.word(), message, "one of the two; make two steps of it"));
        }
        let keys = [
            ("disk", self.disk.is_some(), false),
            ("vif", self.vif.is_some(), false),
            ("memory", self.memory.is_some(), true),
            ("vcpus", self.vcpus.is_some(), true),
        ];
        let given: Vec<_> = keys.into_iter().filter(|(_, given, _)| *given).collect();
        for (key, _, resizes) in given.iter().filter(|(.., resizes)| *resizes != (act == Act::Resize)) {
            let of = if *resizes { "`resize`" } else { "`attach`, `transfer` and `detach`" };
            wrong.push(Complaint::new(*key, format!("`{key}` is for {of}"), "what this is done with"));
        }
        let with = if act == Act::Resize { "`memory` or `vcpus`" } else { "`disk` or `vif`" };
        match given.as_slice() {
            [] => {
                wrong.push(Complaint::new(act.word(), "it is not said of what", format!("{with} beside it")))
            }
            [_] => {}
            [_, (second, ..), ..] => {
                let expected = format!("one of {with}; make two steps of it");
                wrong.push(Complaint::new(
                    *second,
                    format!("both `{}` and `{second}` are given", given[0].0),
                    expected,
                ));
            }
        }
        if self.vcpus == Some(0) {
            wrong.push(Complaint::new("vcpus", "`vcpus` is 0", "1 or more: a guest cannot be without any"));
        }
        wrong
    }

    fn judge(&self, evidence: &DeviceEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let Some((act, _)) = self.act() else { return Vec::new() };
        let mut checks = Vec::new();
        for handled in &evidence.domains {
            let place = cx.place(Self::NAME, act.word());
            checks.extend(self.handled(act, handled, cx).into_iter().map(|check| check.at(place.clone())));
        }
        checks
    }
}

/// How many bytes go each way.
pub const BYTES: u64 = 64 << 10;

/// What dom0 said and what the guest did: a guest's words never stand for dom0's.
#[derive(Default)]
struct Said<'a> {
    dom0: Values<'a>,
    guest: Values<'a>,
}

/// Lines `WORD VALUE`: the last value of each word, and all of those that may come more than once.
#[derive(Default)]
struct Values<'a>(BTreeMap<&'a str, Vec<&'a str>>);

impl<'a> Values<'a> {
    fn add(&mut self, text: &'a str) {
        for (word, value) in text.lines().filter_map(|l| l.trim_end().split_once(' ')) {
            self.0.entry(word).or_default().push(value.trim());
        }
    }

    fn all(&self, word: &str) -> &[&'a str] {
        self.0.get(word).map_or(&[], Vec::as_slice)
    }

    fn get(&self, word: &str) -> Option<&'a str> {
        self.all(word).last().copied()
    }

    fn number(&self, word: &str) -> Option<i64> {
        self.get(word)?.parse().ok()
    }

    /// For a message.
    fn shown(&self, word: &str) -> String {
        self.get(word).map_or_else(|| "not known".to_owned(), quote)
    }
}

impl Device {
    fn acts(&self) -> Vec<(Act, &str)> {
        let all = [
            (Act::Attach, &self.attach),
            (Act::Transfer, &self.transfer),
            (Act::Detach, &self.detach),
            (Act::Resize, &self.resize),
        ];
        all.into_iter().filter_map(|(act, name)| name.as_deref().map(|name| (act, name))).collect()
    }

    /// What is done, and with which guest; a body that passed [`StepKind::check`] has one.
    pub fn act(&self) -> Option<(Act, &str)> {
        self.acts().first().copied()
    }

    /// The device, as the guest has it.
    pub fn which(&self) -> Option<Which<'_>> {
        let config = &self.guest.as_ref()?.config;
        let disk = self.disk.as_ref().and_then(|name| config.disks.get_key_value(name));
        let vif = || self.vif.as_ref().and_then(|name| config.vifs.get_key_value(name));
        disk.map(|(name, disk)| Which::Disk(name, disk))
            .or_else(|| vif().map(|(name, vif)| Which::Vif(name, vif)))
    }

    /// What is wrong with what it names, by the guest that it is about: key, message, what was expected.
    pub fn mistake(&self) -> Option<(&'static str, String, String)> {
        let (act, name) = self.act()?;
        let config = &self.guest.as_ref()?.config;
        let missing = |key, asked: &str, names: Vec<&str>| {
            let expected = match names.as_slice() {
                [] => format!("one that the guest has; it has none, they stand under `guests.{name}.{key}s`"),
                some => format!("one that the guest has: {}", some.join(", ")),
            };
            Some((key, format!("guest `{name}` has no {key} `{asked}`"), expected))
        };
        match (&self.disk, &self.vif) {
            (Some(disk), _) if !config.disks.contains_key(disk) => {
                return missing("disk", disk, config.disks.keys().map(String::as_str).collect());
            }
            (_, Some(vif)) if !config.vifs.contains_key(vif) => {
                return missing("vif", vif, config.vifs.keys().map(String::as_str).collect());
            }
            _ => {}
        }
        if let Some(Which::Disk(disk, of)) = self.which().filter(|_| act == Act::Attach)
            && of.backend == Backend::Qdisk
            && !self
                .guest
                .as_ref()?
                .devices(true)
                .iter()
                .any(|d| matches!(d, Which::Disk(_, d) if d.backend == Backend::Qdisk))
        {
            let message = format!(
                "nobody would serve {disk}: a qdisk needs a QEMU, which xl starts for those that are there when the guest is created"
            );
            return Some((
                "disk",
                message,
                "another qdisk of this guest that is plugged, or another backend".into(),
            ));
        }
        if let Some(memory) = self.memory.filter(|m| *m > config.memory) {
            let message =
                format!("guest `{name}` cannot have {memory}, it is created with {}", config.memory);
            return Some(("memory", message, format!("at most {}", config.memory)));
        }
        if let Some(vcpus) = self.vcpus.filter(|n| *n > config.vcpus) {
            let message =
                format!("guest `{name}` cannot have {vcpus} vCPUs, it is created with {}", config.vcpus);
            return Some(("vcpus", message, format!("at most {}", config.vcpus)));
        }
        None
    }

    fn handled(&self, act: Act, handled: &Handled, cx: &JudgeContext<'_>) -> Vec<Check> {
        let seen = &handled.seen;
        let of = self.which().map_or("", |w| match w {
            Which::Disk(name, _) | Which::Vif(name, _) => name,
        });
        let (name, subject) = match act {
            Act::Resize => (format!("resize {}", seen.domain), seen.domain.clone()),
            act => (format!("{} {of} of {}", act.word(), seen.domain), format!("{of} of {}", seen.domain)),
        };
        let mut texts = Vec::new();
        for done in &handled.done {
            match read(act, (&name, &subject), done, seen, cx) {
                Ok(text) => texts.push((done.in_guest, text)),
                Err(check) => {
                    let console = seen.console.text.trim_end();
                    let its_own = done.in_guest && !console.is_empty();
                    return vec![if its_own { check.show("console", console) } else { *check }];
                }
            }
        }
        let mut values = Said::default();
        for (in_guest, text) in &texts {
            if *in_guest { &mut values.guest } else { &mut values.dom0 }.add(text);
        }
        if let Some(dead) = seen.dead(&name) {
            return vec![dead.show("console", seen.console.text.trim_end())];
        }
        match (act, self.which()) {
            (Act::Attach, Some(which)) => through::attached(&name, which, &values, seen),
            (Act::Transfer, Some(Which::Disk(disk, _))) => through::read_and_written(disk, &values, seen),
            (Act::Transfer, Some(Which::Vif(vif, _))) => through::sent(vif, &values, seen),
            (Act::Detach, Some(which)) => through::detached(&name, which, &values, seen),
            (Act::Resize, _) => self.resized(&values, seen),
            _ => vec![Check::error(&name, Cause::LabInternal, "this step has no device")],
        }
    }
}

/// What a part said; else the check that says how it failed.
fn read(
    act: Act,
    (name, subject): (&str, &str),
    done: &Done,
    seen: &Seen,
    cx: &JudgeContext<'_>,
) -> Result<String, Box<Check>> {
    let fail = |cause, message: String| Err(Box::new(Check::fail(name, cause, message)));
    let who = if done.in_guest { "in the guest" } else { "in dom0" };
    let what = format!("{subject}: {}, {who},", done.what);
    let status = match say::exited(name, &what, &done.command) {
        Ok(status) => status,
        Err(check) if done.in_guest && check.cause == Some(Cause::CommandTimeout) => {
            let silent = format!("{what} had no answer in time; {}", seen.last_words());
            return seen
                .dead(name)
                .map_or_else(|| fail(Cause::GuestSilent, silent), |dead| Err(Box::new(dead)));
        }
        Err(check) => return Err(Box::new(check)),
    };
    let (status, stdout, stderr) = if done.in_guest {
        let Some(answer) = Answer::read(&done.command.stdout.text, &seen.nonce) else {
            let silent = format!("{what} had no answer that can be read; {}", seen.last_words());
            return seen
                .dead(name)
                .map_or_else(|| fail(Cause::GuestSilent, silent), |dead| Err(Box::new(dead)));
        };
        (answer.status, answer.stdout.text, answer.stderr.text)
    } else {
        if status != 0 && say::no_such_program(&done.command) {
            return Err(Box::new(say::xl_failed(name, &what, &done.command, cx)));
        }
        (status, done.command.stdout.text.clone(), done.command.stderr.text.clone())
    };
    if status == 0 {
        return Ok(stdout);
    }
    let cause = match act {
        Act::Attach => Cause::DeviceNotAttached,
        Act::Detach => Cause::DeviceNotDetached,
        Act::Transfer => Cause::DeviceData,
        Act::Resize => Cause::DeviceState,
    };
    // What comes after libxl's first complaint is its undoing.
    let lines = || stderr.lines().map(str::trim).filter(|l| !l.is_empty());
    let said = lines()
        .find(|l| l.contains("error: ") || l.contains("Assertion"))
        .or_else(|| lines().next_back())
        .map_or_else(String::new, |l| format!(": {}", quote(l)));
    let check = Check::fail(name, cause, format!("{what} exited with {status}{said}"));
    Err(Box::new(check.show("stderr", stderr.trim_end())))
}

#[cfg(test)]
mod tests;
