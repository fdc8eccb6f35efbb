//! What the judges of several kinds of step share: from an outcome or a command's end to a check.

use super::{Complaint, JudgeContext};
use crate::cause::Cause;
use crate::evidence::{Captured, CommandEnd, CommandResult, Transport};
use crate::fact::{FactType, FactValue};
use crate::matcher::{Cut, Matcher, Outcome, quote};
use crate::place::Place;
use crate::verdict::{Check, Verdict};

/// A value against its matcher, as a check with its place.
pub(super) fn value(
    name: &str,
    cause: Cause,
    matcher: &Matcher,
    seen: Option<(&str, FactType)>,
    cx: &JudgeContext<'_>,
    place: Option<Place>,
) -> Check {
    let (outcome, shown) = match seen {
        Some((text, kind)) => (matcher.test_text(text, kind, cx.facts), quote(text)),
        None => (matcher.test(None, cx.facts), "no value".to_owned()),
    };
    outcome_check(name, cause, outcome, &shown).at(place)
}

/// A command's output against its matcher. What a cut output cannot show is a Fail of its own.
pub(super) fn output(
    name: &str,
    cause: Cause,
    matcher: &Matcher,
    seen: &crate::evidence::Captured,
    cx: &JudgeContext<'_>,
    place: Option<Place>,
) -> Check {
    match matcher.test_captured(seen, cx.facts) {
        Ok(outcome) => outcome_check(name, cause, outcome, &quote(seen.text.trim_end())),
        Err(Cut { expected }) => cut(name, &expected, seen.total),
    }
    .at(place)
}

/// The output was cut, and what was kept does not show `expected`.
pub(super) fn cut(name: &str, expected: &str, total: u64) -> Check {
    Check::fail(
        name,
        Cause::CaptureCut,
        format!(
            "expected {expected}; the output was cut ({total} bytes in all), and what was kept cannot show that"
        ),
    )
}

fn outcome_check(name: &str, cause: Cause, outcome: Outcome, shown: &str) -> Check {
    match outcome {
        Outcome::Holds => Check::pass(name, format!("{name} is {shown}")),
        Outcome::Fails { expected, seen } => {
            Check::fail(name, cause, format!("{name}: expected {expected}, saw {seen}"))
        }
        Outcome::Unknown { facts } => Check::not_judged(
            name,
            format!("{name} is {shown}; not judged: nothing is known of {}", facts.join(", ")),
        ),
    }
}

/// The exit status of a command that ended by itself; else the check that says how it did not.
pub(super) fn exited(name: &str, what: &str, result: &CommandResult) -> Result<i32, Check> {
    let via = result.via.name();
    match &result.end {
        CommandEnd::Exit(status) => Ok(*status),
        CommandEnd::Signal(signal) => Err(Check::fail(
            name,
            Cause::CommandKilled,
            format!("{what} was killed by signal {signal}{}", stderr_tail(result)),
        )),
        CommandEnd::TimedOut(seconds) => Err(Check::fail(
            name,
            Cause::CommandTimeout,
            format!("{what} did not end within {seconds} s of guest time over {via}{}", stderr_tail(result)),
        )),
        CommandEnd::Lost(why) => Err(lost(name, what, result.via, why)),
    }
}

/// The way in failed.
fn lost(name: &str, what: &str, via: Transport, why: &str) -> Check {
    let (cause, way) = match via {
        Transport::Ssh => (Cause::SshDead, "SSH"),
        Transport::Serial => (Cause::SerialDead, "the serial console"),
        // What serves there is the lab's own, so nothing about dom0 follows.
        Transport::Port => {
            let message = format!(
                "{what} could not be run: the lab's own shell in dom0 does not answer on its port ({why})"
            );
            return Check::error(name, Cause::PortDead, message);
        }
    };
    Check::fail(name, cause, format!("{what} could not be run: dom0 does not answer over {way} ({why})"))
}

/// A command that must exit with 0; `Ok` when it did.
pub(super) fn succeeded(name: &str, what: &str, result: &CommandResult, cause: Cause) -> Result<(), Check> {
    match exited(name, what, result)? {
        0 => Ok(()),
        status => Err(Check::fail(
            name,
            cause,
            format!("{what} was expected to exit with 0, exited with {status}{}", stderr_tail(result)),
        )),
    }
}

/// `: ` and the last lines on stderr, for the end of a message; empty where there are none.
pub(super) fn stderr_tail(result: &CommandResult) -> String {
    tail(&result.stderr)
}

fn tail(stderr: &Captured) -> String {
    let lines: Vec<&str> = stderr.text.lines().filter(|l| !l.trim().is_empty()).collect();
    if lines.is_empty() {
        return String::new();
    }
    let last = lines[lines.len().saturating_sub(4)..].join("\n");
    format!("; on stderr: {}", quote(&last))
}

/// What a command's status and outputs must be: the keys `exit`, `stdout` and `stderr` of a step's body.
pub(super) struct Wanted<'a> {
    /// 0 when not said.
    pub exit: Option<&'a Matcher>,
    pub stdout: Option<&'a Matcher>,
    pub stderr: Option<&'a Matcher>,
}

impl Wanted<'_> {
    fn all(&self) -> [(&'static str, Option<&Matcher>, FactType); 3] {
        [
            ("exit", self.exit, FactType::Integer),
            ("stdout", self.stdout, FactType::Text),
            ("stderr", self.stderr, FactType::Text),
        ]
    }

    /// What is wrong with them.
    pub fn mistakes(&self) -> Vec<Complaint> {
        let of = |(path, matcher, kind): (&str, Option<&Matcher>, FactType)| {
            let messages = matcher.and_then(|m| m.check(kind).err()).unwrap_or_default();
            messages
                .into_iter()
                .map(|message| Complaint { path: path.to_owned(), message, expected: None })
                .collect()
        };
        self.all().into_iter().flat_map(|one| -> Vec<Complaint> { of(one) }).collect()
    }

    /// Judges each apart; checks are called `exit WHERE` and so on. A wrong status is explained by what was written to standard error.
    pub fn judge(
        &self,
        (step, whence): (&str, &str),
        status: i32,
        outputs: [&Captured; 2],
        cx: &JudgeContext<'_>,
    ) -> Vec<Check> {
        let zero = Matcher::Equals("0".into());
        let name = format!("exit {whence}");
        let text = status.to_string();
        let seen = Some((text.as_str(), FactType::Integer));
        let at = cx.place(step, "exit");
        let mut exit = value(&name, Cause::CheckFailed, self.exit.unwrap_or(&zero), seen, cx, at);
        if exit.verdict == Verdict::Fail {
            if status == 127 {
                exit.message.push_str(" (the program was not found)");
            }
            exit.message.push_str(&tail(outputs[1]));
        }
        let mut checks = vec![exit];
        for ((stream, matcher, _), seen) in self.all().into_iter().skip(1).zip(outputs) {
            if let Some(matcher) = matcher {
                let place = cx.place(step, stream);
                checks.push(output(
                    &format!("{stream} {whence}"),
                    Cause::CheckFailed,
                    matcher,
                    seen,
                    cx,
                    place,
                ));
            }
        }
        checks
    }
}

/// What is wrong with a pattern at `path`: it is no regular expression, or one that is found everywhere.
pub(super) fn pattern(path: String, pattern: &str) -> Option<Complaint> {
    match regex::Regex::new(pattern) {
        Err(e) => {
            let said = crate::scenario::last_line(&e);
            Some(Complaint::new(
                path,
                format!("this regular expression cannot be read: {said}"),
                "a regular expression",
            ))
        }
        Ok(regex) if regex.is_match("") => {
            Some(Complaint::new(path, "this pattern is found in every line", "a pattern that can be missing"))
        }
        Ok(_) => None,
    }
}

/// The program is not there, as a shell or `env` says it.
pub(super) fn no_such_program(result: &CommandResult) -> bool {
    let said = result.stderr.text.to_ascii_lowercase();
    matches!(result.end, CommandEnd::Exit(126 | 127))
        && (said.is_empty() || said.contains("not found") || said.contains("no such file"))
}

/// The text of a fact, if it is known.
pub(super) fn fact(cx: &JudgeContext<'_>, name: &str) -> Option<String> {
    cx.facts.get(name).map(FactValue::to_string).filter(|text| !text.is_empty())
}

/// Base name of an executable, as people call it: without the mark of a deleted file, and without what nixpkgs' `wrapProgram`
/// adds (`.oxenstored-wrapped`).
pub(super) fn program(exe: &str) -> &str {
    let exe = exe.strip_suffix(" (deleted)").unwrap_or(exe);
    let base = exe.rsplit('/').next().unwrap_or(exe);
    base.strip_prefix('.').and_then(|b| b.strip_suffix("-wrapped")).unwrap_or(base)
}

/// Why `xl` failed, read off what it wrote. `running` is the hypervisor's major.minor.
pub(super) fn xl_failed(name: &str, what: &str, result: &CommandResult, cx: &JudgeContext<'_>) -> Check {
    let status = match exited(name, what, result) {
        Ok(status) => status,
        Err(check) => return check,
    };
    let said = &result.stderr.text;
    let has = |needle: &str| said.contains(needle);
    let running = fact(cx, "build.branch");
    let tools = fact(cx, "build.tools-branch");
    let mixed = matches!((&running, &tools), (Some(a), Some(b)) if a != b);
    let branches = || {
        let shown = |v: &Option<String>| v.clone().unwrap_or_else(|| "unknown".to_owned());
        format!("the tools are {}, the hypervisor is {}", shown(&tools), shown(&running))
    };
    let (cause, why) = if no_such_program(result) {
        // Debian's wrapper says it itself, and exits with 127 too: that one has other words.
        (Cause::PartMissing, "the program is not in dom0".to_owned())
    } else if has("Can't find version") && has("xen utils") {
        (Cause::ToolsMismatch, format!("dom0 has no tools for the hypervisor that runs ({})", branches()))
    } else if has("Can't find hypervisor information in sysfs")
        || (has("privileged command interface") && has("No such file or directory"))
    {
        (Cause::Dom0NotUnderXen, "this Linux does not run on Xen".to_owned())
    } else if mixed {
        (Cause::ToolsMismatch, branches())
    } else if has("Permission denied") || has("version mismatch") || has("Operation not permitted") {
        // The domctl and sysctl interfaces answer EACCES to another version than their own (xen/common/sysctl.c, domctl.c).
        (
            Cause::ToolsFailed,
            "the hypervisor refuses these tools, as it does those of another version".to_owned(),
        )
    } else {
        (Cause::ToolsFailed, "the tools do not work on this hypervisor".to_owned())
    };
    Check::fail(
        name,
        cause,
        format!("{what} was expected to exit with 0, exited with {status}: {why}{}", stderr_tail(result)),
    )
    .show("stderr", said.trim_end())
}
