//! `service`: services of dom0's init system. A service that must run and does not exist is a failure.

use super::{At, Complaint, JudgeContext, StepKind, one_or_many, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::matcher::quote;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `service: {active: [xen, ssh], failed: []}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Service {
    /// Services that must exist and be active, or have ended well if they are one-shot. `xen` stands for the Xen
    /// services of this userland's layout.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// The services that may have failed; any other that failed is a Fail. Not said: none is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Vec<String>>,
}

/// What the init system says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceEvidence {
    /// `systemd`, `xenlab` (the small init), or another name.
    pub init: String,
    /// For each service asked about (names of the layout in place of `xen`): `systemctl show` or the small init's own
    /// state, as `Key=Value` lines (LoadState, ActiveState, SubState, Result, Type, ExecMainStartTimestampMonotonic). The last is
    /// what shows that a one-shot service which is over has run at all.
    pub services: Vec<(String, CommandResult)>,
    /// Names of failed services, one a line; none when not asked for.
    pub failed: Option<CommandResult>,
}

impl StepKind for Service {
    const NAME: &'static str = "service";
    const AT: At = At::Dom0;
    const PRIMARY: Option<&'static str> = Some("active");
    type Evidence = ServiceEvidence;

    fn judge(&self, evidence: &ServiceEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place_of = |name: &str| {
            let position = self.active.iter().position(|asked| same_service(asked, name));
            let position = position.or_else(|| self.active.iter().position(|asked| asked == LAYOUT));
            cx.place(Self::NAME, &position.map_or_else(|| "active".to_owned(), |i| format!("active[{i}]")))
        };
        let mut checks: Vec<Check> =
            evidence.services.iter().map(|(name, state)| active(name, state).at(place_of(name))).collect();
        for (i, asked) in self.active.iter().enumerate() {
            let place = cx.place(Self::NAME, &format!("active[{i}]"));
            if asked == LAYOUT {
                // A layout's own name for it may be `xen` too: Debian's is.
                let others = || self.active.iter().filter(|a| *a != LAYOUT);
                let resolved =
                    evidence.services.iter().any(|(name, _)| !others().any(|a| same_service(a, name)));
                if !resolved {
                    let message =
                        "xen: expected this userland to have services for Xen, its layout names none";
                    checks.push(Check::fail(LAYOUT, Cause::ServiceMissing, message).at(place));
                }
            } else if !evidence.services.iter().any(|(name, _)| same_service(name, asked)) {
                let message = format!("{asked}: its state was not asked for");
                checks.push(Check::error(asked, Cause::LabInternal, message).at(place));
            }
        }
        if let Some(allowed) = &self.failed {
            checks.push(failed(allowed, evidence).at(cx.place(Self::NAME, "failed")));
        }
        checks
    }

    fn check(&self) -> Vec<Complaint> {
        match (self.active.as_slice(), &self.failed) {
            ([], None) => vec![Complaint::new(
                "",
                "no service is named: this would pass on anything",
                "`active` or `failed`",
            )],
            _ => Vec::new(),
        }
    }
}

/// Stands for the Xen services of the userland's layout.
const LAYOUT: &str = "xen";

/// A unit's name with or without its `.service`.
fn same_service(a: &str, b: &str) -> bool {
    a.strip_suffix(".service").unwrap_or(a) == b.strip_suffix(".service").unwrap_or(b)
}

/// What a line of the service's own log begins with, beside its state.
const LOG: &str = "log: ";

/// One service: it exists, and is active or has done its work.
fn active(name: &str, state: &CommandResult) -> Check {
    let what = format!("asking for the state of {name}");
    let status = match say::exited(name, &what, state) {
        Ok(status) => status,
        Err(check) => return check,
    };
    let get = |key: &str| {
        let lines = state.stdout.text.lines().filter(|l| !l.starts_with(LOG));
        lines.filter_map(|l| l.trim().split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v.trim())
    };
    // systemctl's own status for no such unit is 4; an init script's, by the LSB, too.
    let load = get("LoadState");
    if load == Some("not-found") || (load.is_none() && status == 4) {
        return Check::fail(
            name,
            Cause::ServiceMissing,
            format!("{name}: expected an active service, there is none of that name"),
        );
    }
    let Some(now) = get("ActiveState") else {
        let said = quote(state.stdout.text.trim_end());
        let message = format!(
            "{name}: expected its state, saw {said} (exit status {status}){}",
            say::stderr_tail(state)
        );
        return Check::fail(name, Cause::ServiceUnknown, message);
    };
    let sub = get("SubState").unwrap_or("unknown");
    let result = get("Result").unwrap_or("unknown");
    let ran = get("ExecMainStartTimestampMonotonic").map(|t| t != "0" && !t.is_empty());
    let over = get("Type") == Some("oneshot") && result == "success";
    let shown = format!("{now} ({sub}), result {result}");
    let check = match now {
        "active" => Check::pass(name, format!("{name} is {shown}")),
        // A one-shot service that never ran looks the same but for the time of its start.
        "inactive" if over && ran == Some(true) => Check::pass(name, format!("{name} has ended well")),
        "inactive" if over && ran.is_none() => {
            let message = format!("not judged: {name} is {shown}, and whether it has run cannot be told");
            Check::not_judged(name, message)
        }
        "inactive" if over => {
            let message = format!("{name}: expected it to have run, it never started: {shown}");
            Check::fail(name, Cause::ServiceFailed, message)
        }
        _ => {
            let load = load.filter(|l| *l != "loaded").map(|l| format!(", {l}")).unwrap_or_default();
            Check::fail(
                name,
                Cause::ServiceFailed,
                format!("{name}: expected an active service, it is {shown}{load}"),
            )
        }
    };
    let (log, state): (Vec<&str>, Vec<&str>) = state.stdout.text.lines().partition(|l| l.starts_with(LOG));
    let check = check.show("state", state.join("\n"));
    let log: Vec<&str> = log.iter().map(|l| l.trim_start_matches(LOG)).collect();
    if log.is_empty() { check } else { check.show("its last lines", log.join("\n")) }
}

/// No service has failed but those that may.
fn failed(allowed: &[String], evidence: &ServiceEvidence) -> Check {
    const NAME: &str = "failed";
    let Some(list) = &evidence.failed else {
        return Check::error(NAME, Cause::LabInternal, "failed: the failed services were not asked for");
    };
    if let Err(check) = say::succeeded(NAME, "asking for the failed services", list, Cause::ServiceUnknown) {
        return check;
    }
    let names = list.stdout.text.lines().filter_map(|line| {
        // systemctl marks a failed unit with a bullet where it believes that somebody looks.
        line.split_whitespace().find(|word| !matches!(*word, "●" | "*"))
    });
    let unwanted: Vec<&str> = names.filter(|name| !allowed.iter().any(|a| same_service(a, name))).collect();
    if !unwanted.is_empty() {
        let but = if allowed.is_empty() { String::new() } else { format!(" but {}", allowed.join(", ")) };
        let message = format!("failed: expected no failed service{but}, saw {}", unwanted.join(", "));
        return Check::fail(NAME, Cause::ServiceFailed, message);
    }
    if list.stdout.cut {
        return say::cut(NAME, "no other failed service", list.stdout.total);
    }
    Check::pass(NAME, "no service has failed that may not")
}

#[cfg(test)]
mod tests;
