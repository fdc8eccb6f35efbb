//! `domain`: what is done with a guest, and what becomes of it.

mod moved;

use super::{At, Complaint, JudgeContext, StepKind, one_or_many, say};
use crate::arch::Arch;
use crate::cause::{Cause, of_xl};
use crate::evidence::{Captured, CommandResult};
use crate::fact::Facts;
use crate::guest::Guest;
use crate::matcher::{Matcher, quote};
use crate::units::Size;
use crate::verdict::{Check, Verdict};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use regex::Regex;
use serde::{Deserialize, Serialize};

/// `domain: {create: g1}`, `domain: {says: g1, has: [PATTERN]}`, `domain: {run: g1, script: hostname, stdout: g1}`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Domain {
    /// Create this guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<String>,
    /// Wait until this guest's console has said all of `has`; that it is up, where nothing is named and it is the lab's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub says: Option<String>,
    /// Run `script` in this guest, which must be the lab's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Pause this guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
    /// Let this guest go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpause: Option<String>,
    /// Have this guest restart by itself, and wait until it is another domain and, where it is the lab's own, up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot: Option<String>,
    /// Have this guest power off by itself, and wait until it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<String>,
    /// End this guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroy: Option<String>,
    /// Save this guest to a file, which ends it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<String>,
    /// Have this guest go on from the file that it was saved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<String>,
    /// Migrate this guest, live, to the host that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate: Option<String>,
    /// With `save` and `restore`: the file in dom0, absolute; one of the lab's own when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// With `migrate`: its receiving side gets so much and no more, so it must fail, and the guest go on where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaks_after: Option<Size>,
    /// With `says`: patterns each of which must appear on its console, whenever it was.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub has: Vec<String>,
    /// With `says`: patterns none of which may have appeared by then.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<String>,
    /// With `run`: a script for the guest's shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// With `run`: exit status expected; 0 when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Matcher>,
    /// With `run`: what standard output must be, its last line end taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<Matcher>,
    /// With `run`: what standard error must be, its last line end taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Matcher>,
    /// The number that Xen gives it, where Xen makes it; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub number: Option<u16>,
    /// The guest, as `guests` has it; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub guest: Option<Box<Guest>>,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `create`
    Create,
    /// `says`
    Says,
    /// `run`
    Run,
    /// `pause`
    Pause,
    /// `unpause`
    Unpause,
    /// `reboot`
    Reboot,
    /// `shutdown`
    Shutdown,
    /// `destroy`
    Destroy,
    /// `save`
    Save,
    /// `restore`
    Restore,
    /// `migrate`
    Migrate,
}

impl Act {
    /// The key.
    pub fn word(self) -> &'static str {
        match self {
            Act::Create => "create",
            Act::Says => "says",
            Act::Run => "run",
            Act::Pause => "pause",
            Act::Unpause => "unpause",
            Act::Reboot => "reboot",
            Act::Shutdown => "shutdown",
            Act::Destroy => "destroy",
            Act::Save => "save",
            Act::Restore => "restore",
            Act::Migrate => "migrate",
        }
    }
}

/// What was seen, of each of the guest's domains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainEvidence {
    /// In the order of their names.
    pub domains: Vec<Seen>,
}

/// What was seen of a domain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    /// Its name.
    pub domain: String,
    /// What was done in dom0, and what that said: lines `WORD VALUE`.
    pub command: CommandResult,
    /// Its console by then, as dom0's console daemon logged it.
    pub console: Captured,
    /// Its state by then as `xl list` shows it (`-b----`); none: there is no such domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Its number, or the last that it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// What it was told to say what it says by; from its command line.
    pub nonce: String,
    /// What Xen wrote to its console since the step began, and what it wrote of this domain before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub xen: Vec<String>,
    /// `says`: the limit passed, in seconds of guest time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<f64>,
}

impl Seen {
    /// The value of a line `WORD VALUE`.
    fn value(&self, word: &str) -> Option<&str> {
        self.command.stdout.text.lines().find_map(|l| l.strip_prefix(word)?.strip_prefix(' ')).map(str::trim)
    }

    /// Why its Linux panicked, if its console says that it did.
    fn panicked(&self) -> Option<&str> {
        // It says the same once more when it has written its dump.
        let lines = self.console.text.lines().rev().filter(|l| !l.contains("---[ end "));
        Some(lines.filter_map(|l| l.split_once("Kernel panic - not syncing: ")).next()?.1.trim())
    }

    /// There is a domain, and it can still come to what is waited for.
    pub fn is_alive(&self) -> bool {
        self.state.is_some() && !self.is('c') && !self.is('s') && !self.is('d') && self.panicked().is_none()
    }

    /// The last words on its console, for a message.
    pub(super) fn last_words(&self) -> String {
        match self.console.text.lines().map(str::trim).rfind(|l| !l.is_empty()) {
            Some(line) => format!("the last line on its console is {}", quote(line)),
            None => "it wrote nothing to its console".to_owned(),
        }
    }

    /// The end of what it said; the whole is in the evidence.
    fn last_lines(&self) -> String {
        let lines: Vec<&str> = self.console.text.lines().map(str::trim_end).collect();
        let more = lines.len().saturating_sub(SHOWN);
        let shown = lines[more..].join("\n");
        if more > 0 { format!("({more} lines before)\n{shown}") } else { shown }
    }

    /// The state has this mark: `p` paused, `s` shut down, `c` crashed, `d` dying.
    fn is(&self, mark: char) -> bool {
        self.state.as_ref().is_some_and(|s| s.contains(mark))
    }

    /// The first of Xen's words that tells of a domain's end.
    fn of_its_end(&self) -> Option<&String> {
        self.xen.iter().find(|line| OF_AN_END.iter().any(|words| line.contains(words)))
    }

    /// It ended by a triple fault, or was started anew by `xl` after one, which Xen takes for a reboot.
    fn has_triple_faulted(&self) -> bool {
        self.of_its_end().is_some_and(|line| line.contains(TRIPLE_FAULT))
    }

    /// What is wrong with a domain that should be alive.
    pub(super) fn dead(&self, name: &str) -> Option<Check> {
        let said = xen_said(self.of_its_end().or(self.xen.first()));
        let fail = |cause, what: &str| {
            let check =
                Check::fail(name, cause, format!("{} {what}; {}{said}", self.domain, self.last_words()));
            Some(if self.xen.is_empty() { check } else { check.show("Xen's console", self.xen.join("\n")) })
        };
        if let Some(why) = self.panicked() {
            // What it was given to start with is no word about Xen.
            let own = ["VFS: Unable to mount root fs", "No working init found", "Attempted to kill init!"];
            let cause = if own.iter().any(|words| why.contains(words)) {
                Cause::GuestNoRoot
            } else {
                Cause::GuestCrashed
            };
            return fail(cause, &format!("panicked: {}", quote(why)));
        }
        let gone = if self.has_triple_faulted() { Cause::GuestTripleFault } else { Cause::GuestGone };
        match &self.state {
            None => fail(gone, "is gone"),
            Some(_) if self.is('c') => fail(Cause::GuestCrashed, "crashed"),
            Some(_) if self.is('s') => fail(gone, "has shut down"),
            Some(_) if self.is('d') => fail(gone, "is dying"),
            Some(_) => None,
        }
    }
}

/// What Xen says when it ends a domain: of a triple fault (xen/arch/x86/hvm/hvm.c), of a VM exit that it does not know (hvm/svm/svm.c,
/// hvm/vmx/vmx.c), of a crash (xen/common/domain.c, xen/include/xen/sched.h), of its watchdog (xen/common/sched/core.c).
const OF_AN_END: [&str; 5] =
    [TRIPLE_FAULT, "nexpected vmexit", "domain_crash called", "crashed", "Watchdog timer fired for domain"];

/// What Xen says of a guest's processor that could not even deliver a double fault.
const TRIPLE_FAULT: &str = "Triple fault";

/// Lines of a guest's console that a message shows.
const SHOWN: usize = 16;

/// What the small guest says when it is up.
pub fn ready(nonce: &str) -> String {
    format!("xenlab-guest: ready {nonce}")
}

impl StepKind for Domain {
    const NAME: &'static str = "domain";
    const AT: At = At::Dom0;
    const ACTS: bool = true;
    type Evidence = DomainEvidence;

    /// What Xen made when it booted is only looked at: of several each is told of.
    fn changes(&self) -> bool {
        self.number.is_none()
    }

    fn check(&self) -> Vec<Complaint> {
        let mut wrong = Vec::new();
        let acts = self.acts();
        let Some((act, _)) = acts.first().copied() else {
            return vec![Complaint::new(
                "",
                "nothing is done here",
                "one of create, says, run, pause, unpause, reboot, shutdown, destroy, save, restore, migrate",
            )];
        };
        if let Some((other, _)) = acts.get(1) {
            let message = format!("both `{}` and `{}` are given", act.word(), other.word());
            wrong.push(Complaint::new(other.word(), message, "one of the two; make two steps of it"));
        }
        let mut only = |of: Act, key: &str, given: bool| {
            if given && act != of {
                let message = format!("`{key}` is for `{}`", of.word());
                wrong.push(Complaint::new(key, message, format!("`{}` beside it", of.word())));
            }
        };
        only(Act::Says, "has", !self.has.is_empty());
        only(Act::Says, "lacks", !self.lacks.is_empty());
        only(Act::Run, "script", self.script.is_some());
        only(Act::Run, "exit", self.exit.is_some());
        only(Act::Run, "stdout", self.stdout.is_some());
        only(Act::Run, "stderr", self.stderr.is_some());
        only(Act::Migrate, "breaks-after", self.breaks_after.is_some());
        if self.file.is_some() && !matches!(act, Act::Save | Act::Restore) {
            let message = "`file` is for `save` and `restore`";
            wrong.push(Complaint::new("file", message, "one of them beside it"));
        }
        if let Some(file) = self.file.as_ref().filter(|f| !f.starts_with('/')) {
            let message = format!("`{file}` is no absolute path");
            wrong.push(Complaint::new("file", message, "a path in dom0 that begins with `/`"));
        }
        if self.breaks_after == Some(Size(0)) {
            let message = "with 0 nothing is received, and nothing is tried";
            wrong.push(Complaint::new("breaks-after", message, "a size, as 1M"));
        }
        if act == Act::Run && self.script.as_ref().is_none_or(|s| s.trim().is_empty()) {
            wrong.push(Complaint::new(
                "script",
                "nothing to run is given",
                "`script`: commands for the guest's shell",
            ));
        }
        for (key, patterns) in [("has", &self.has), ("lacks", &self.lacks)] {
            for (i, pattern) in patterns.iter().enumerate() {
                wrong.extend(say::pattern(format!("{key}[{i}]"), pattern));
            }
        }
        wrong.extend(self.wanted().mistakes());
        wrong
    }

    fn judge(&self, evidence: &DomainEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let Some((act, _)) = self.acts().first().copied() else { return Vec::new() };
        let place = cx.place(Self::NAME, act.word());
        let mut checks = Vec::new();
        for seen in &evidence.domains {
            match act {
                Act::Says => checks.extend(self.said(seen, cx)),
                Act::Run => checks.extend(self.ran(seen, cx)),
                Act::Save | Act::Restore | Act::Migrate => {
                    checks.push(moved::judge(self, act, seen, cx).at(place.clone()));
                }
                act => checks.push(self.done(act, seen, cx).at(place.clone())),
            }
        }
        checks
    }
}

impl Domain {
    fn acts(&self) -> Vec<(Act, &str)> {
        [
            (Act::Create, &self.create),
            (Act::Says, &self.says),
            (Act::Run, &self.run),
            (Act::Pause, &self.pause),
            (Act::Unpause, &self.unpause),
            (Act::Reboot, &self.reboot),
            (Act::Shutdown, &self.shutdown),
            (Act::Destroy, &self.destroy),
            (Act::Save, &self.save),
            (Act::Restore, &self.restore),
            (Act::Migrate, &self.migrate),
        ]
        .into_iter()
        .filter_map(|(act, name)| name.as_deref().map(|name| (act, name)))
        .collect()
    }

    /// What is done, and with which guest; a body that passed [`StepKind::check`] has one.
    pub fn act(&self) -> Option<(Act, &str)> {
        self.acts().first().copied()
    }

    /// Why this cannot be done there, by what is known before a machine starts.
    pub fn cannot(&self, arch: Arch, facts: &Facts) -> Option<String> {
        let guest = self.guest.as_ref()?;
        let (act, name) = self.act()?;
        guest
            .cannot(facts)
            .or_else(|| Some(format!("{name}: {}", moved::cannot(act, guest.config.kind, arch, facts)?)))
    }

    /// What its console must have said, as regular expressions, each with how messages show it.
    fn words(&self, nonce: &str) -> Vec<(String, String)> {
        match (&self.guest, self.has.as_slice()) {
            (Some(guest), []) => {
                guest.words(nonce).into_iter().map(|(p, what)| (p, what.to_owned())).collect()
            }
            (_, has) => has.iter().map(|pattern| (pattern.clone(), quote(pattern))).collect(),
        }
    }

    /// Everything that is waited for has been said.
    pub fn satisfied(&self, console: &str, nonce: &str) -> bool {
        self.words(nonce).iter().all(|(p, _)| Regex::new(p).is_ok_and(|r| r.is_match(console)))
    }

    fn wanted(&self) -> say::Wanted<'_> {
        say::Wanted { exit: self.exit.as_ref(), stdout: self.stdout.as_ref(), stderr: self.stderr.as_ref() }
    }

    fn done(&self, act: Act, seen: &Seen, cx: &JudgeContext<'_>) -> Check {
        let domain = &seen.domain;
        let name = format!("{} {domain}", act.word());
        let what = match act {
            Act::Create => format!("`xl create` of {domain}"),
            _ => format!("`xl {}` of {domain}", act.word()),
        };
        let status = match say::exited(&name, &what, &seen.command) {
            Ok(status) => status,
            // That it does not end is the guest's doing, and what it said last tells why.
            Err(check) if check.cause == Some(Cause::CommandTimeout) => {
                let message = format!("{}; {}", check.message, seen.last_words());
                return Check::fail(name, Cause::GuestSilent, message).show("console", seen.last_lines());
            }
            Err(check) => return check,
        };
        if status != 0 {
            if say::no_such_program(&seen.command) {
                return say::xl_failed(&name, &what, &seen.command, cx);
            }
            let cause = match act {
                Act::Create => of_xl(&seen.command.stderr.text).unwrap_or(Cause::GuestNotCreated),
                _ => Cause::GuestState,
            };
            let message = format!(
                "{what} exited with {status}{}{}",
                complaint(&seen.command),
                model_said(&seen.command)
            );
            return Check::fail(name, cause, message).show("console", seen.last_lines());
        }
        let alive = matches!(act, Act::Create | Act::Pause | Act::Unpause | Act::Reboot);
        if let Some(dead) = seen.dead(&name).filter(|_| alive) {
            return dead.show("console", seen.last_lines());
        }
        let wrong = |message: String| Check::fail(&name, Cause::GuestState, message);
        let state = seen.state.as_deref().unwrap_or("gone");
        match act {
            Act::Create => {
                let wanted = self.guest.as_ref().map_or("", |g| g.config.kind.of_xl());
                match seen.value("type") {
                    Some(kind) if kind == wanted => {
                        let id = seen.value("domid").unwrap_or("?");
                        Check::pass(
                            &name,
                            format!("{domain} is there: domain {id}, type {kind}{}", paging(seen)),
                        )
                    }
                    Some(kind) => wrong(format!("{domain} is of type {kind}, expected {wanted}")),
                    None => wrong(format!("`xl list --long` does not say of which type {domain} is")),
                }
            }
            Act::Pause if seen.is('p') => Check::pass(&name, format!("{domain} is paused ({state})")),
            Act::Pause => wrong(format!("{domain} was to be paused, its state is {state}")),
            Act::Unpause if seen.is('p') => wrong(format!("{domain} was to go on, its state is {state}")),
            Act::Unpause => Check::pass(&name, format!("{domain} goes on ({state})")),
            Act::Reboot => match (seen.value("was"), seen.value("domid")) {
                (Some(was), Some(is)) if was != is => {
                    Check::pass(&name, format!("{domain} was domain {was} and is domain {is}"))
                }
                (was, is) => wrong(format!(
                    "{domain} was to be another domain, it was {} and is {}",
                    was.unwrap_or("unknown"),
                    is.unwrap_or("unknown")
                )),
            },
            Act::Shutdown | Act::Destroy if seen.state.is_some() => {
                wrong(format!("{domain} was to be gone, its state is {state}"))
            }
            Act::Shutdown | Act::Destroy => Check::pass(&name, format!("{domain} is gone")),
            Act::Says | Act::Run | Act::Save | Act::Restore | Act::Migrate => {
                Check::error(&name, Cause::LabInternal, "this is judged elsewhere")
            }
        }
    }

    fn said(&self, seen: &Seen, cx: &JudgeContext<'_>) -> Vec<Check> {
        let domain = &seen.domain;
        let text = &seen.console.text;
        let name = |i: usize| format!("{domain} says {i}");
        if let Err(check) = say::exited(&name(0), &format!("reading the console of {domain}"), &seen.command)
        {
            return vec![check.at(cx.place(Self::NAME, "says"))];
        }
        let mut checks = Vec::new();
        if let Some(number) = self.number {
            let place = cx.place(Self::NAME, "says");
            checks.push(self.made_by_xen(number, seen, cx).at(place));
            if seen.state.is_none() {
                return checks;
            }
        }
        for (i, (pattern, shown)) in self.words(&seen.nonce).iter().enumerate() {
            let place = cx.place(Self::NAME, &format!("has[{i}]"));
            let found = Regex::new(pattern).is_ok_and(|r| r.is_match(text));
            let check = match (found, seen.dead(&name(i)), seen.timed_out) {
                (true, ..) => {
                    Check::pass(name(i), format!("{domain} said {shown}{}", said_exactly(pattern, text)))
                }
                (false, Some(dead), _) => {
                    let message = format!("{}, and had not said {shown}", dead.message);
                    Check { message, ..dead }
                }
                (false, None, limit) => {
                    let limit = limit.map_or_else(String::new, |l| format!(" within {l:.0} s of guest time"));
                    let (last, said) = (seen.last_words(), xen_said(seen.of_its_end()));
                    let message = format!("{domain} did not say {shown}{limit}; {last}{said}");
                    let cause = match seen.has_triple_faulted() {
                        true => Cause::GuestTripleFault,
                        false => Cause::GuestSilent,
                    };
                    Check::fail(name(i), cause, message)
                }
            };
            let check =
                if check.verdict == Verdict::Fail { check.show("console", seen.last_lines()) } else { check };
            checks.push(check.at(place));
        }
        if self.number.is_some() {
            let place = cx.place(Self::NAME, "says");
            checks.extend(self.as_the_tree_says(seen).into_iter().map(|check| check.at(place.clone())));
        }
        for (i, pattern) in self.lacks.iter().enumerate() {
            let name = format!("{domain} lacks {i}");
            let place = cx.place(Self::NAME, &format!("lacks[{i}]"));
            let found = Regex::new(pattern).ok().and_then(|r| r.find(text).map(|m| m.as_str().to_owned()));
            checks.push(
                match found {
                    Some(found) => {
                        Check::fail(&name, Cause::GuestSaid, format!("{domain} said {}", quote(&found)))
                    }
                    None if seen.console.cut => {
                        say::cut(&name, &format!("no {}", quote(pattern)), seen.console.total)
                    }
                    None => Check::pass(&name, format!("{domain} did not say {}", quote(pattern))),
                }
                .at(place),
            );
        }
        checks
    }

    /// Xen has made the domain.
    fn made_by_xen(&self, number: u16, seen: &Seen, cx: &JudgeContext<'_>) -> Check {
        let domain = &seen.domain;
        let name = format!("Xen makes {domain}");
        if !seen.command.ok() {
            return say::xl_failed(&name, "`xl list`", &seen.command, cx);
        }
        let kind = self.guest.as_ref().map_or("", |g| g.config.kind.word());
        let of_xl = seen
            .value("xl-made")
            .map_or_else(String::new, |other| format!("; its number is that of {other}, which xl made"));
        match seen.state {
            Some(_) => Check::pass(
                name,
                format!("{domain} is there: domain {number}, type {kind}, made by Xen from the device tree"),
            ),
            None => Check::fail(
                name,
                Cause::GuestNotCreated,
                format!(
                    "Xen was to make {domain} when it booted, and `xl list` has no domain {number} that it made{of_xl}"
                ),
            ),
        }
    }

    /// It has what the device tree says. Its vCPUs its own kernel brings up, so they are counted when it is up.
    fn as_the_tree_says(&self, seen: &Seen) -> Vec<Check> {
        let domain = &seen.domain;
        let Some(config) = self.guest.as_ref().map(|g| &g.config) else { return Vec::new() };
        let wanted = [("memory", config.memory.0 >> 20, " MiB"), ("vcpus", u64::from(config.vcpus), "")];
        let up = self.satisfied(&seen.console.text, &seen.nonce);
        let mut checks = Vec::new();
        for (word, wanted, unit) in wanted.into_iter().filter(|(word, ..)| up || *word != "vcpus") {
            let name = format!("{word} of {domain}");
            let is = seen.value(word).and_then(|v| v.parse::<u64>().ok());
            let shown = is.map_or_else(|| "unknown".to_owned(), |is| format!("{is}{unit}"));
            checks.push(match is {
                Some(is) if is == wanted => Check::pass(name, format!("{word} of {domain} is {shown}")),
                _ => Check::fail(
                    name,
                    Cause::GuestState,
                    format!("{word} of {domain} is {shown}, the device tree says {wanted}{unit}"),
                ),
            });
        }
        checks
    }

    fn ran(&self, seen: &Seen, cx: &JudgeContext<'_>) -> Vec<Check> {
        let domain = &seen.domain;
        let name = format!("exit in {domain}");
        let what = format!("the script in {domain}");
        let place = cx.place(Self::NAME, "run");
        let silent = |message: String| {
            let check = Check::fail(&name, Cause::GuestSilent, format!("{message}; {}", seen.last_words()));
            vec![check.show("console", seen.last_lines()).at(place.clone())]
        };
        match say::exited(&name, &what, &seen.command) {
            Ok(_) => {}
            Err(check) if check.cause == Some(Cause::CommandTimeout) => {
                return match seen.dead(&name) {
                    Some(dead) => vec![dead.at(place)],
                    None => silent(format!("{domain} did not answer in time")),
                };
            }
            Err(check) => return vec![check.at(place)],
        }
        let Some(answer) = Answer::read(&seen.command.stdout.text, &seen.nonce) else {
            return match seen.dead(&name) {
                Some(dead) => vec![dead.at(place)],
                None => silent(format!(
                    "{domain} gave no answer that can be read{}",
                    say::stderr_tail(&seen.command)
                )),
            };
        };
        let whence = format!("in {domain}");
        self.wanted().judge((Self::NAME, &whence), answer.status, [&answer.stdout, &answer.stderr], cx)
    }
}

/// A line of Xen's as a message goes on with it.
fn xen_said(line: Option<&String>) -> String {
    line.map_or_else(String::new, |line| format!("; Xen said {}", quote(line)))
}

/// The last words of a device model's, where it had any.
fn model_said(command: &CommandResult) -> String {
    let last = command.stderr.text.lines().rev().find_map(|l| l.strip_prefix("qemu: "));
    last.map_or_else(String::new, |line| format!("; its QEMU said {}", quote(line.trim())))
}

/// The words themselves, where a pattern stands for more than one text.
fn said_exactly(pattern: &str, text: &str) -> String {
    let found = Regex::new(pattern).ok().and_then(|r| r.find(text).map(|m| m.as_str().trim().to_owned()));
    found
        .filter(|f| regex::escape(f) != pattern)
        .map_or_else(String::new, |found| format!(": {}", quote(&found)))
}

/// What libxc or libxl complained of first: what comes after it is its undoing.
fn complaint(command: &CommandResult) -> String {
    let first = command.stderr.text.lines().map(str::trim).find(|l| l.contains("error: "));
    first.map_or_else(|| say::stderr_tail(command), |line| format!(": {}", quote(line)))
}

/// How a PVH guest's memory is mapped, where that was chosen for it.
fn paging(seen: &Seen) -> &'static str {
    match seen.value("paging") {
        Some("shadow") => ", shadow paging, since this QEMU emulates nested paging wrongly",
        Some("hap") => ", hardware-assisted paging",
        _ => "",
    }
}

/// What the small guest answered.
pub(super) struct Answer {
    pub(super) status: i32,
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
}

/// The guest keeps so many bytes of each output, so one of that length may have been longer.
const KEPT: u64 = 16384;

impl Answer {
    /// Reads `xenlab-guest: ran NONCE ID STATUS STDOUT STDERR`.
    pub(super) fn read(text: &str, nonce: &str) -> Option<Answer> {
        let start = format!("xenlab-guest: ran {nonce} ");
        let line = text.lines().find_map(|l| l.trim_end().strip_prefix(start.as_str()))?;
        let [_, status, stdout, stderr] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
        let unpacked = |text: &str| {
            let bytes = if text == "-" { Vec::new() } else { STANDARD.decode(text).ok()? };
            let total = bytes.len() as u64;
            Some(Captured { text: String::from_utf8_lossy(&bytes).into_owned(), total, cut: total >= KEPT })
        };
        Some(Answer { status: status.parse().ok()?, stdout: unpacked(stdout)?, stderr: unpacked(stderr)? })
    }
}

#[cfg(test)]
mod tests;
