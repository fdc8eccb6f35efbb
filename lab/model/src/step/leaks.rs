//! `leaks`: what guests left behind in dom0 and in Xen once they are gone.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::matcher::quote;
use crate::verdict::Check;
use regex::Regex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `leaks: {allow: [PATTERN]}`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Leaks {
    /// Patterns of lines, as messages show them, that may be left: `node /vm/.*`.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
}

/// What there was before the first guest and what there is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeaksEvidence {
    /// Lines `WHAT NAME`, taken before the case's first guest was created; empty where none was.
    pub before: CommandResult,
    /// The same, now.
    pub after: CommandResult,
}

/// What a line begins with, what it is called in messages, and what is told of one that is there for each of them.
const KINDS: [(&str, &str); 9] = [
    ("domain", "domains"),
    ("node", "nodes of the store"),
    ("port", "event channels of dom0"),
    ("grant", "grants in use"),
    ("backend", "devices of dom0's backends"),
    ("loop", "loop devices"),
    ("interface", "network interfaces"),
    ("process", "processes"),
    ("memory", "free memory"),
];

/// MiB of free memory that may be less: what Xen itself keeps in its heap for what was done.
const SLACK: i64 = 2;

impl StepKind for Leaks {
    const NAME: &'static str = "leaks";
    const AT: At = At::Dom0;
    type Evidence = LeaksEvidence;

    fn check(&self) -> Vec<Complaint> {
        let wrong = self.allow.iter().enumerate();
        wrong.filter_map(|(i, pattern)| say::pattern(format!("allow[{i}]"), pattern)).collect()
    }

    fn judge(&self, evidence: &LeaksEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = || cx.place(Self::NAME, "");
        for (when, result) in [("before the first guest", &evidence.before), ("now", &evidence.after)] {
            let what = format!("listing what there is {when}");
            if let Err(check) = say::succeeded("leaks", &what, result, Cause::GuestState) {
                return vec![check.at(place())];
            }
            if result.stdout.cut {
                return vec![
                    say::cut("leaks", "a list of everything there is", result.stdout.total).at(place()),
                ];
            }
        }
        let (before, after) = (Kept::read(&evidence.before), Kept::read(&evidence.after));
        if before.lines.is_empty() {
            let message = "leaks: what there was before the first guest was not listed";
            return vec![Check::error("leaks", Cause::LabInternal, message).at(place())];
        }
        // A list that was cut short would show no leak.
        if let Some(what) = [&before, &after].into_iter().find_map(Kept::lacks) {
            let message = format!("leaks: what there is could not be listed: {what} is not in it");
            return vec![Check::fail("leaks", Cause::GuestState, message).at(place())];
        }
        KINDS.iter().map(|(kind, shown)| self.kind(kind, shown, &before, &after).at(place())).collect()
    }
}

/// Lines of a kind and how many of each there are.
struct Kept<'a> {
    lines: BTreeMap<(&'a str, &'a str), i64>,
}

impl<'a> Kept<'a> {
    fn read(result: &'a CommandResult) -> Kept<'a> {
        let mut lines = BTreeMap::new();
        for line in result.stdout.text.lines() {
            if let Some(pair) = line.trim_end().split_once(' ') {
                *lines.entry(pair).or_default() += 1;
            }
        }
        Kept { lines }
    }

    /// What is always there and is not listed.
    fn lacks(&self) -> Option<&'static str> {
        let domains = self.lines.contains_key(&("domain", "Domain-0"));
        let nodes = self.lines.contains_key(&("node", "/local/domain"));
        match (domains, nodes) {
            (false, _) => Some("Domain-0"),
            (true, false) => Some("the store's node /local/domain"),
            (true, true) => None,
        }
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = (&'a str, i64)> {
        self.lines.iter().filter(move |((k, _), _)| *k == kind).map(|((_, name), n)| (*name, *n))
    }

    fn number(&self, kind: &str) -> Option<i64> {
        self.of(kind).next()?.0.parse().ok()
    }
}

impl Leaks {
    fn kind(&self, kind: &str, shown: &str, before: &Kept<'_>, after: &Kept<'_>) -> Check {
        let leak = |message: String| Check::fail(shown, Cause::GuestLeak, message);
        if kind == "memory" {
            return match (before.number(kind), after.number(kind)) {
                (Some(was), Some(is)) if is + SLACK >= was => {
                    Check::pass(shown, format!("{shown} is {is} MiB, it was {was} MiB"))
                }
                (Some(was), Some(is)) => {
                    leak(format!("{shown} is {is} MiB, it was {was} MiB: {} MiB are lost", was - is))
                }
                _ => Check::not_judged(shown, format!("{shown} is not known")),
            };
        }
        // A port has no name that is the same twice: their number counts.
        if kind == "port" {
            let count = |kept: &Kept<'_>| kept.of(kind).map(|(_, n)| n).sum::<i64>();
            let (was, is) = (count(before), count(after));
            return match (was, is) {
                (0, _) => {
                    Check::not_judged(shown, format!("{shown} are not known: this build has no lsevtchn"))
                }
                (was, is) if is <= was => Check::pass(shown, format!("{is} {shown}, there were {was}")),
                (was, is) => leak(format!("{is} {shown}, there were {was}")),
            };
        }
        if kind == "grant" && [before, after].iter().any(|kept| kept.of("grants").next().is_none()) {
            return Check::not_judged(shown, format!("{shown} are not known: Xen did not list them"));
        }
        let allowed = |name: &str| {
            let line = format!("{kind} {name}");
            self.allow.iter().any(|p| Regex::new(p).is_ok_and(|r| r.is_match(&line)))
        };
        let left: Vec<String> = after
            .of(kind)
            .filter(|(name, n)| *n > before.lines.get(&(kind, *name)).copied().unwrap_or(0))
            .map(|(name, _)| name)
            .filter(|name| !allowed(name))
            .map(quote)
            .collect();
        match left.as_slice() {
            [] => Check::pass(shown, format!("no {shown} are left behind")),
            some => {
                let more = some.len().saturating_sub(8);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                leak(format!(
                    "{} {shown} are left behind: {}{more}",
                    some.len(),
                    some[..some.len().min(8)].join(", ")
                ))
            }
        }
    }
}

#[cfg(test)]
mod tests;
