//! `under-xen`: dom0 is really the control domain of a Xen, not a bare Linux that booted as well.

use super::{At, JudgeContext, StepKind, say};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::matcher::quote;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};

/// `under-xen: {}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct UnderXen {}

/// `/sys/hypervisor/type`, `/proc/xen/capabilities` and `xl list`, each as a command's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnderXenEvidence {
    /// `cat /sys/hypervisor/type`
    pub hypervisor_type: CommandResult,
    /// `cat /proc/xen/capabilities`
    pub capabilities: CommandResult,
    /// `xl list`
    pub list: CommandResult,
}

impl StepKind for UnderXen {
    const NAME: &'static str = "under-xen";
    const AT: At = At::Dom0;
    type Evidence = UnderXenEvidence;

    fn judge(&self, evidence: &UnderXenEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "");
        [hypervisor_type(evidence), capabilities(evidence), list(evidence, cx)]
            .into_iter()
            .map(|check| check.at(place.clone()))
            .collect()
    }
}

/// What Linux itself says: `xen` when it found Xen's CPUID leaves, hypercall page or device tree node.
fn hypervisor_type(evidence: &UnderXenEvidence) -> Check {
    const NAME: &str = "/sys/hypervisor/type";
    let command = &evidence.hypervisor_type;
    if let Err(check) = say::succeeded(NAME, "reading /sys/hypervisor/type", command, Cause::Dom0NotUnderXen)
    {
        return check;
    }
    match command.stdout.text.trim() {
        "xen" => Check::pass(NAME, "Linux says it runs on Xen"),
        other => Check::fail(
            NAME,
            Cause::Dom0NotUnderXen,
            format!("{NAME}: expected `xen`, saw {}: this Linux does not run on Xen", quote(other)),
        ),
    }
}

/// `control_d`: this domain is the control domain, not a guest that booted in its place.
fn capabilities(evidence: &UnderXenEvidence) -> Check {
    const NAME: &str = "/proc/xen/capabilities";
    let command = &evidence.capabilities;
    if let Err(mut check) =
        say::succeeded(NAME, "reading /proc/xen/capabilities", command, Cause::Dom0NotUnderXen)
    {
        if check.cause == Some(Cause::Dom0NotUnderXen) && evidence.hypervisor_type.stdout.text.trim() == "xen"
        {
            check.message.push_str("; is xenfs mounted on /proc/xen?");
        }
        return check;
    }
    let said = command.stdout.text.trim();
    if said.split_whitespace().any(|word| word == "control_d") {
        Check::pass(NAME, "this is the control domain")
    } else {
        let message =
            format!("{NAME}: expected control_d in it, saw {}: this is not the control domain", quote(said));
        Check::fail(NAME, Cause::Dom0NotUnderXen, message)
    }
}

/// The toolstack reaches the hypervisor and sees this domain.
fn list(evidence: &UnderXenEvidence, cx: &JudgeContext<'_>) -> Check {
    const NAME: &str = "xl list";
    let command = &evidence.list;
    if !command.ok() {
        return say::xl_failed(NAME, "`xl list`", command, cx);
    }
    let said = &command.stdout.text;
    let rows = said.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>());
    if rows.clone().any(|row| row == ["Domain-0", "0"]) {
        return Check::pass(NAME, "`xl list` has Domain-0");
    }
    if command.stdout.cut {
        return say::cut(NAME, "a line of Domain-0 with ID 0", command.stdout.total);
    }
    // Until xen-init-dom0 has given it one, domain 0 has no name in the store.
    let nameless = rows.clone().any(|row| row.get(1) == Some(&"0") || row == ["(null)", "0"]);
    let hint = if nameless { "; domain 0 has no name: has xen-init-dom0 run?" } else { "" };
    let message =
        format!("{NAME}: expected a line of Domain-0 with ID 0, saw {}{hint}", quote(said.trim_end()));
    Check::fail(NAME, Cause::Dom0NotUnderXen, message)
}

#[cfg(test)]
mod tests;
