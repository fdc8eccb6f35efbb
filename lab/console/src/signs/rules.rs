//! The table of signs. Xen's words are those of its stable-4.17, stable-4.20 and master branches, Linux's of 6.1 and 6.12.

use super::{Class, Rule};
use crate::demux::Speaker::{self, Dom0, Xen};

/// The line that opens Xen's panic box.
pub(super) const PANIC: &str = r"^Panic on CPU \d+:";

const fn panic(
    code: &'static str,
    speaker: Speaker,
    weight: u8,
    pattern: &'static str,
    source: &'static str,
) -> Rule {
    Rule { code, pattern, speaker, class: Class::Panic, fatal: true, weight, source }
}

const fn reason(
    code: &'static str,
    speaker: Speaker,
    fatal: bool,
    weight: u8,
    pattern: &'static str,
    source: &'static str,
) -> Rule {
    Rule { code, pattern, speaker, class: Class::Reason, fatal, weight, source }
}

/// Every rule.
pub const RULES: &[Rule] = &[
    // Xen's own ends.
    panic("xen.panic", Xen, 10, PANIC, "xen/drivers/char/console.c panic()"),
    panic("xen.panic", Xen, 30, r"Xen BUG at \S+:\d+", "xen/common/bug.c"),
    panic("xen.panic", Xen, 30, r"Assertion '.*' failed at \S+:\d+", "xen/common/bug.c"),
    panic("xen.panic", Xen, 30, r"FATAL TRAP: ", "xen/arch/x86/traps.c fatal_trap()"),
    panic("xen.panic", Xen, 30, r"FATAL PAGE FAULT", "xen/arch/x86/traps.c do_page_fault()"),
    panic("xen.panic", Xen, 30, r"Early fatal page fault at ", "xen/arch/x86/traps.c do_early_page_fault()"),
    panic(
        "xen.panic",
        Xen,
        30,
        r"\*\*\* DOUBLE FAULT \*\*\*|DOUBLE FAULT -- system shutdown",
        "xen/arch/x86/traps.c do_double_fault()",
    ),
    panic(
        "xen.panic",
        Xen,
        30,
        r"Unexpected Trap: |Hypervisor Trap\.",
        "xen/arch/arm/arm64/traps.c, xen/arch/arm/traps.c do_unexpected_trap()",
    ),
    panic("xen.panic", Xen, 30, r"CPU\d+: Unexpected Trap: ", "xen/arch/arm/traps.c do_unexpected_trap()"),
    panic(
        "xen.panic",
        Xen,
        30,
        r"Watchdog timer detects that CPU\d+ is stuck",
        "xen/arch/x86/nmi.c nmi_watchdog_tick()",
    ),
];
