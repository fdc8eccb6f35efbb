//! Warnings of Xen's that a known fault of the emulator brings about: on another machine the same words are Xen's own and count.

use crate::fact::{FactValue, Facts};
use regex::Regex;
use xenlab_console::{Line, Speaker};

/// A warning, what has to stand around it, and the fault's name in `machine.emulator-faults`.
struct Known {
    fault: &'static str,
    warning: &'static str,
    fits: fn(&[&str], usize) -> bool,
}

const KNOWN: &[Known] = &[
    // xen/arch/x86/xstate.c, of a debug build since 4.19: a size of compressed states, and no instruction that writes them.
    Known {
        fault: "xsave-compact-size",
        warning: r"^Xen WARN at arch/x86/xstate\.c:\d+$",
        fits: in_check_of_states,
    },
    // xen/arch/x86/extable.c, of a debug build: what an instruction that failed was expected to raise.
    Known {
        fault: "stack-not-canonical",
        warning: r"^SELFTEST FAILURE: CORRECT BEHAVIOR CANNOT BE GUARANTEED$",
        fits: only_the_stack,
    },
];

/// Lines that a WARN has between its first and where it was.
const DUMP: usize = 4;

fn in_check_of_states(lines: &[&str], at: usize) -> bool {
    lines
        .iter()
        .skip(at + 1)
        .take(DUMP)
        .any(|l| l.starts_with("RIP:") && l.contains("xstate.c#check_new_xstate+"))
}

/// Every test that failed is the one of an access by the stack pointer, whose #SS came as #GP.
fn only_the_stack(lines: &[&str], at: usize) -> bool {
    const THIS: &str = "expected #SS[0000], got #GP[0000]";
    let mut failed =
        lines[..at].iter().filter(|l| l.starts_with("Selftest ") && l.contains(" failed: ")).peekable();
    failed.peek().is_some() && failed.all(|l| l.ends_with(THIS))
}

/// The emulator's fault behind this warning, if it has that fault and it is that warning. `start` is where the warning begins.
pub(super) fn fault(facts: &Facts, all: &[Line<'_>], text: &str, start: u64) -> Option<&'static str> {
    let Some(FactValue::Set(faults)) = facts.get("machine.emulator-faults") else { return None };
    let of_xen: Vec<&Line<'_>> = all.iter().filter(|l| l.speaker == Speaker::Xen).collect();
    let at = of_xen.iter().position(|l| l.start == start)?;
    let lines: Vec<&str> = of_xen.iter().map(|l| l.text.trim()).collect();
    let known = KNOWN.iter().filter(|k| faults.contains(k.fault));
    let mut fitting = known
        .filter(|k| Regex::new(k.warning).is_ok_and(|r| r.is_match(text.trim())) && (k.fits)(&lines, at));
    fitting.next().map(|k| k.fault)
}
