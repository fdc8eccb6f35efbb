//! `xenstored`: which store daemon really runs, and whether it works.

use super::{At, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::{CommandEnd, CommandResult};
use crate::matcher::quote;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `xenstored: {daemon: oxenstored, self-test: true}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Xenstored {
    /// The daemon that must run.
    pub daemon: Daemon,
    /// Run `test-xenstore`.
    #[serde(default)]
    pub self_test: bool,
}

/// A store daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Daemon {
    /// Whichever; one must run.
    Any,
    /// The C daemon.
    Xenstored,
    /// The OCaml daemon.
    Oxenstored,
}

/// What runs, by pid file and by the process table, and what it answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct XenstoredEvidence {
    /// Lines `pid=N exe=PATH comm=NAME from=pidfile:FILE|proc`, one for each candidate process found.
    pub found: CommandResult,
    /// `xenstore-read /local/domain/0/domid` or `xenstore-ls`: the store answers.
    pub answers: CommandResult,
    /// `test-xenstore`; none when it was not asked for.
    pub self_test: Option<CommandResult>,
}

impl StepKind for Xenstored {
    const NAME: &'static str = "xenstored";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("daemon");
    type Evidence = XenstoredEvidence;

    fn judge(&self, evidence: &XenstoredEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "daemon");
        let mut checks = match say::succeeded(
            "daemon",
            "looking for the store daemon",
            &evidence.found,
            Cause::StoreAbsent,
        ) {
            Err(check) => vec![check.at(place)],
            Ok(()) if evidence.found.stdout.cut => {
                vec![say::cut("daemon", "every process", evidence.found.stdout.total).at(place)]
            }
            Ok(()) => {
                let found = candidates(&evidence.found.stdout.text);
                [daemon(self.daemon, &found), pid_file(&found)].map(|c| c.at(place.clone())).to_vec()
            }
        };
        checks.push(answers(&evidence.answers).at(cx.place(Self::NAME, "daemon")));
        if self.self_test {
            checks.push(self_test(evidence.self_test.as_ref()).at(cx.place(Self::NAME, "self-test")));
        }
        checks
    }
}

impl Daemon {
    fn name(self) -> &'static str {
        match self {
            Daemon::Any => "xenstored or oxenstored",
            Daemon::Xenstored => "xenstored",
            Daemon::Oxenstored => "oxenstored",
        }
    }
}

/// The one store daemon that runs, by its executable, in what [`XenstoredEvidence::found`] lists.
pub(super) fn running(lines: &str) -> Option<&str> {
    let mut found = candidates(lines).into_iter().filter(Candidate::is_daemon);
    let first = found.next()?;
    found.all(|other| other.pid == first.pid).then(|| say::program(first.exe))
}

/// A process that is or should be the store daemon.
#[derive(Debug, PartialEq, Eq)]
struct Candidate<'a> {
    pid: &'a str,
    /// `/proc/PID/exe`; `-` where there is no such process.
    exe: &'a str,
    /// The file that names the process, for one found by its pid file.
    pid_file: Option<&'a str>,
}

impl Candidate<'_> {
    fn program(&self) -> &str {
        say::program(self.exe)
    }
    fn is_daemon(&self) -> bool {
        matches!(self.program(), "xenstored" | "oxenstored")
    }
}

/// `pid=N exe=PATH comm=NAME from=pidfile:FILE|proc`; a path may have blanks in it.
fn candidates(lines: &str) -> Vec<Candidate<'_>> {
    let one = |line| -> Option<Candidate<'_>> {
        let rest = str::strip_prefix(str::trim(line), "pid=")?;
        let (pid, rest) = rest.split_once(" exe=")?;
        let (exe, rest) = rest.split_once(" comm=")?;
        let (_, from) = rest.rsplit_once(" from=")?;
        Some(Candidate { pid, exe: exe.trim(), pid_file: from.strip_prefix("pidfile:") })
    };
    lines.lines().filter_map(one).collect()
}

/// The one daemon that runs is the one asked for. What counts is the executable: a name can be anything.
fn daemon(asked: Daemon, found: &[Candidate<'_>]) -> Check {
    const NAME: &str = "daemon";
    let mut running: Vec<&Candidate<'_>> = Vec::new();
    for candidate in found.iter().filter(|c| c.is_daemon()) {
        if !running.iter().any(|r| r.pid == candidate.pid) {
            running.push(candidate);
        }
    }
    match running.as_slice() {
        [] => {
            let others: Vec<_> =
                found.iter().filter(|c| !matches!(c.exe, "" | "-")).map(|c| quote(c.exe)).collect();
            let saw = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
            let message = format!("daemon: expected {} to run, saw {saw}", asked.name());
            Check::fail(NAME, Cause::StoreAbsent, message)
        }
        [one] if asked == Daemon::Any || one.program() == asked.name() => {
            Check::pass(NAME, format!("{} runs ({})", one.program(), one.exe))
        }
        [one] => {
            let message =
                format!("daemon: expected {} to run, {} does ({})", asked.name(), one.program(), one.exe);
            Check::fail(NAME, Cause::StoreWrongDaemon, message)
        }
        many => {
            let all: Vec<_> = many.iter().map(|c| format!("{} (process {})", c.exe, c.pid)).collect();
            let message =
                format!("daemon: expected one store daemon, {} run: {}", many.len(), all.join(", "));
            Check::fail(NAME, Cause::StoreSeveral, message)
        }
    }
}

/// The pid file, which the init scripts and units go by, names that daemon.
fn pid_file(found: &[Candidate<'_>]) -> Check {
    const NAME: &str = "pid file";
    let mut named = found.iter().filter_map(|c| c.pid_file.map(|file| (c, file))).peekable();
    if named.peek().is_none() {
        return Check::not_judged(NAME, "not judged: the daemon left no pid file");
    }
    match named.clone().find(|(c, _)| !c.is_daemon()) {
        Some((c, file)) => {
            let what = if c.exe == "-" || c.exe.is_empty() {
                "which does not run".to_owned()
            } else {
                format!("which is {}", c.exe)
            };
            let message = format!(
                "pid file: expected {file} to name the store daemon, it names process {}, {what}",
                c.pid
            );
            Check::fail(NAME, Cause::StorePidFile, message)
        }
        None => {
            let files: Vec<_> = named.map(|(_, file)| file).collect();
            Check::pass(NAME, format!("{} names the daemon", files.join(", ")))
        }
    }
}

/// The store answers. A daemon that runs and does not is as good as none: `xl` waits for it without end.
fn answers(command: &CommandResult) -> Check {
    const NAME: &str = "answers";
    if let CommandEnd::TimedOut(seconds) = command.end {
        let message =
            format!("answers: expected the store to answer, it did not within {seconds} s of guest time");
        return Check::fail(NAME, Cause::StoreAbsent, message);
    }
    if let Err(check) = say::succeeded(NAME, "reading from the store", command, Cause::StoreAbsent) {
        return check;
    }
    let said = command.stdout.text.trim();
    if said.is_empty() {
        return Check::fail(
            NAME,
            Cause::StoreAbsent,
            "answers: expected a value from the store, it gave none",
        );
    }
    // Its value is known: domain 0 is 0.
    if command.script.contains("/local/domain/0/domid")
        && command.script.contains("xenstore-read")
        && said != "0"
    {
        let message = format!("answers: expected /local/domain/0/domid to be `0`, saw {}", quote(said));
        return Check::fail(NAME, Cause::StoreAbsent, message);
    }
    Check::pass(NAME, "the store answers")
}

/// `test-xenstore`: exit status 0 and a time for each of its tests (tools/tests/xenstore/test-xenstore.c).
fn self_test(result: Option<&CommandResult>) -> Check {
    const NAME: &str = "self-test";
    let Some(command) = result else {
        return Check::error(NAME, Cause::LabInternal, "self-test: it was asked for and not run");
    };
    if say::no_such_program(command) {
        let message = "self-test: expected test-xenstore in the build's tools, it is not there";
        return Check::fail(NAME, Cause::PartMissing, message);
    }
    let said = &command.stdout.text;
    let failed: Vec<&str> = said.lines().filter(|l| l.contains(": failed (")).map(str::trim).collect();
    match say::exited(NAME, "test-xenstore", command) {
        Err(check) => return check,
        Ok(0) if failed.is_empty() => {}
        Ok(status) => {
            let which = if failed.is_empty() {
                say::stderr_tail(command)
            } else {
                format!(": {}", quote(&failed.join("\n")))
            };
            let message =
                format!("self-test: expected test-xenstore to exit with 0, exited with {status}{which}");
            return Check::fail(NAME, Cause::StoreSelfTest, message).show("stdout", said.trim_end());
        }
    }
    let times = said.lines().filter(|l| l.contains(':') && l.trim_end().ends_with("ns")).count();
    if times == 0 {
        let message = format!("self-test: expected a time for each test, saw {}", quote(said.trim_end()));
        return Check::fail(NAME, Cause::StoreSelfTest, message);
    }
    Check::pass(NAME, format!("test-xenstore passed {times} tests"))
}

#[cfg(test)]
mod tests;
