//! Crashes taken apart: of the dump that a dying Xen or Linux writes, what a reader needs first. What is not there is not made up.

use crate::demux::{Line, Speaker};
use regex::Regex;
use std::sync::LazyLock;

/// Lines of one dump that are looked at.
const DUMP: usize = 120;
/// Functions that are told.
const FRAMES: usize = 6;

/// Functions that write the dump, or end what has failed already.
const WRITES: &[&str] =
    &["dump_stack", "dump_backtrace", "show_stack", "panic", "__bug", "do_unexpected_trap", "do_exit.cold"];

/// Who crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The hypervisor.
    Xen,
    /// dom0's kernel.
    Dom0,
}

/// A crash, as far as its dump tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// Who crashed.
    pub who: Who,
    /// What happened, in plain words.
    pub what: Option<String>,
    /// Where the processor was: function and offset, or an address.
    pub at: Option<String>,
    /// Registers that matter, each with its value.
    pub registers: Vec<(String, String)>,
    /// The program that dom0's kernel worked for.
    pub process: Option<String>,
    /// Functions, innermost first, without offsets.
    pub trace: Vec<String>,
}

/// What Xen and Linux say of a fault, and what it means. The first that a dump has counts, so the special ones come first.
const FAULTS: &[(&str, &str)] = &[
    (r"sysrq triggered crash", "somebody asked dom0's kernel to crash (SysRq c)"),
    (r"DOUBLE FAULT", "a fault while another one was handled (double fault); often a stack that overflowed"),
    (r"Xen BUG at (\S+)", "a check in Xen's own source failed: BUG at {1}"),
    (r"Assertion '(.+)' failed at (\S+)", "a check in Xen's own source failed: `{1}` at {2}"),
    (r"kernel BUG at (\S+?)!?$", "a check in the kernel's own source failed: BUG at {1}"),
    (
        r"Watchdog timer detects that CPU(\d+) is stuck",
        "processor {1} did nothing for seconds: Xen's own watchdog ended it",
    ),
    (
        r"Early fatal page fault at \S+ \(cr2=([0-9a-f]+)",
        "Xen touched address {1}, where nothing is mapped (page fault), very early",
    ),
    (
        r"Faulting linear address: ([0-9a-f]+)",
        "Xen touched address {1}, where nothing is mapped (page fault)",
    ),
    (r"Data Abort Trap\. Syndrome=", "Xen touched an address where nothing is mapped (data abort)"),
    (
        r"Hypervisor Trap\. .*\bEC=0x0\b",
        "Xen came to an instruction that its processor does not have (undefined instruction)",
    ),
    (r"CPU\d+: Unexpected Trap: (.+)", "Xen was interrupted by something it has no handler for: {1}"),
    (
        r"GENERAL PROTECTION FAULT",
        "Xen did something that its processor does not allow (general protection fault)",
    ),
    (
        r"FATAL TRAP: vec(?:tor =)? ?(?:6\b|6,).*",
        "Xen came to an instruction that its processor does not have (invalid opcode)",
    ),
    (r"FATAL TRAP: (.+)", "Xen was stopped by a trap it does not handle: {1}"),
    (
        r"d0v\d+ Unhandled: vec 14, #PF\[([0-9a-f]+)\]",
        "dom0's kernel touched memory that it must not, before it could handle that (page fault, error code {1})",
    ),
    (r"d0v\d+ Unhandled: (.+?)(?: \[ec=.*)?$", "dom0's kernel met a fault before it could handle any: {1}"),
    (
        r"BUG: kernel NULL pointer dereference, address: (\S+)",
        "the kernel followed a pointer to nothing (address {1})",
    ),
    (
        r"BUG: unable to handle page fault for address: (\S+)",
        "the kernel touched address {1}, where nothing is mapped (page fault)",
    ),
    (r"Unable to handle kernel (.+) at virtual address (\S+)", "the kernel touched address {2}: {1}"),
    (
        r"general protection fault(?:, probably for (.+?))?: [0-9a-f]{4} ",
        "the kernel did something that its processor does not allow (general protection fault): {1}",
    ),
    (
        r"^([a-z][a-z ]+): [0-9a-f]{4} \[#\d+\]",
        "the kernel was stopped by a fault that it does not handle: {1}",
    ),
    (
        r"Kernel panic - not syncing: No working init found",
        "dom0's kernel could start none of the programs that it takes for the first one (init)",
    ),
    (
        r"Kernel panic - not syncing: Attempted to kill init! exitcode=(0x[0-9a-f]+)",
        "the first program in dom0 (init) ended, with code {1}; a kernel cannot go on without it",
    ),
    (r"Kernel panic - not syncing: (.+)", "dom0's kernel gave up: {1}"),
    (
        r"BUG: soft lockup - CPU#(\d+) stuck for (\d+s)",
        "processor {1} of dom0 was busy in the kernel for {2}, and did nothing else (soft lockup)",
    ),
    (
        r"INFO: task (.+):\d+ blocked for more than (\d+ seconds)",
        "the program `{1}` has waited in dom0's kernel for more than {2}, most likely for a disk or another device",
    ),
];

struct Words {
    faults: Vec<(Regex, &'static str)>,
    xen_at: Regex,
    arm_at: Regex,
    linux_at: Regex,
    register: Regex,
    frame: Regex,
    linux_frame: Regex,
    linux_begins: Regex,
    linux_hangs: Regex,
    linux_cr2: Regex,
    walk: Regex,
    process: Regex,
}

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let regex = |text: &str| Regex::new(text).expect("a constant that the tests compile");
    Words {
        faults: FAULTS.iter().map(|(pattern, words)| (regex(pattern), *words)).collect(),
        xen_at: regex(r"^RIP:\s+[0-9a-f]{4}:\[<([0-9a-f]+)>\](?: (\S+))?"),
        arm_at: regex(r"^PC:\s+([0-9a-f]+)(?: (\S+))?"),
        // With the module that the function is of, if it is one's.
        linux_at: regex(r"(?:RIP: (?:0010|e030|e008):|\bpc : )(\S+(?: \[\w+\])?)"),
        register: regex(
            r"(?i)\b(cr2|rsp|sp|rax|error_code|far_el2|hpfar_el2|esr_el2|hsr|esr)\b(?:: *| = |=)(?:[0-9a-f]{4}:)?(0x)?([0-9a-f]{5,16}|[0-9a-f]{4}\b)",
        ),
        frame: regex(r"^\[<[0-9a-f]{8,16}>\]\s+(?:[RSF]\s+)?([\w.#/-]+)\+0x"),
        linux_frame: regex(r"^(?:\? )?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+"),
        linux_begins: regex(
            r"^(?:BUG: unable to handle |BUG: kernel NULL pointer|kernel BUG at |Unable to handle kernel |Internal error: |Oops: |Kernel panic - not syncing: |sysrq: Trigger a crash|general protection fault|[a-z][a-z ]+: [0-9a-f]{4} \[#\d+\])",
        ),
        linux_hangs: regex(
            r"^(?:(?:watchdog: )?BUG: soft lockup - CPU#|INFO: task .+ blocked for more than )",
        ),
        linux_cr2: regex(r"^CR2: ([0-9a-f]{8,16})$"),
        walk: regex(r"^(?:Pagetable walk from |L[1-5]\[)"),
        process: regex(r"\bPID: \d+ Comm: (\S+)"),
    }
});

/// The first crash of a console; of Linux's dumps the first too, since what comes later follows from it. Where nothing crashed, what
/// dom0's kernel says of a hang.
pub fn crash(lines: &[Line<'_>]) -> Option<Crash> {
    let begin = lines.iter().position(begins).or_else(|| lines.iter().position(hangs))?;
    let begin = dump_before(lines, begin).unwrap_or(begin);
    let who = match lines[begin].speaker {
        Speaker::Dom0 => Who::Dom0,
        _ if dom0_is_meant(&lines[begin].text) => Who::Dom0,
        _ => Who::Xen,
    };
    let speaker = lines[begin].speaker;
    let mut found =
        Crash { who, what: None, at: None, registers: Vec::new(), process: None, trace: Vec::new() };
    let dump: Vec<&str> = lines[begin..]
        .iter()
        .filter(|l| l.speaker == speaker)
        .take(DUMP)
        .map(|l| without_time(&l.text, speaker))
        .collect();
    let said = |(pattern, words): &(Regex, &str)| {
        let found = dump.iter().find_map(|line| pattern.captures(line))?;
        let part = |n: usize| found.get(n).map_or("", |m| m.as_str().trim());
        Some(words.replace("{1}", part(1)).replace("{2}", part(2)))
    };
    found.what = WORDS.faults.iter().find_map(said);
    let mut in_trace = false;
    for line in dump {
        dissect(line, speaker, &mut in_trace, &mut found);
    }
    Some(found)
}

/// A line that a dump begins with.
fn begins(line: &Line<'_>) -> bool {
    let text = line.text.as_ref();
    match line.speaker {
        Speaker::Xen => {
            text.starts_with("Panic on CPU ")
                || text.starts_with("Xen BUG at ")
                || text.starts_with("Assertion '")
                || text.starts_with("*** DOUBLE FAULT ***")
                || text.starts_with("Early fatal page fault at ")
                || text.starts_with("Watchdog timer detects that CPU")
                || text.contains("Unexpected Trap: ")
                || text.contains("Data Abort Trap. Syndrome=")
                || text.starts_with("Hypervisor Trap. ")
                || dom0_is_meant(text)
        }
        Speaker::Dom0 => WORDS.linux_begins.is_match(without_time(text, Speaker::Dom0)),
        _ => false,
    }
}

/// A line with which dom0's kernel tells of a processor or program that does not get on.
fn hangs(line: &Line<'_>) -> bool {
    line.speaker == Speaker::Dom0 && WORDS.linux_hangs.is_match(without_time(&line.text, Speaker::Dom0))
}

/// Where the registers and the stack begin that Xen dumped just before a panic. It dumps them for what it only warns of, too, and when it is asked
/// to: what belongs to a panic is followed by nothing but the panic.
fn dump_before(lines: &[Line<'_>], panic: usize) -> Option<usize> {
    if !lines[panic].text.starts_with("Panic on CPU ") {
        return None;
    }
    let mut in_trace = false;
    let mut before = (0..panic).rev().filter(|&n| lines[n].speaker == Speaker::Xen);
    for n in before.by_ref().take(DUMP) {
        let text = lines[n].text.trim();
        if text.starts_with("----[ Xen-") {
            let warned = before.next().is_some_and(|n| lines[n].text.starts_with("Xen WARN at "));
            return (!warned).then_some(n);
        }
        in_trace |= text.starts_with("[<");
        let between = text.bytes().all(|b| b == b'*') || WORDS.walk.is_match(text);
        if !in_trace && !between {
            return None;
        }
    }
    None
}

fn dom0_is_meant(text: &str) -> bool {
    text.contains("d0v") && text.contains(" Unhandled: ") || text.starts_with("Domain 0 (vcpu#")
}

/// Linux's line without its timestamp; Xen's has lost its own already.
fn without_time(text: &str, speaker: Speaker) -> &str {
    let text = text.trim();
    match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((time, rest)) if speaker == Speaker::Dom0 && time.contains('.') => rest.trim_start(),
        _ => text,
    }
}

fn dissect(line: &str, speaker: Speaker, in_trace: &mut bool, found: &mut Crash) {
    let words = &*WORDS;
    if line.contains("CONTEXT: pv guest (d0v") {
        found.who = Who::Dom0;
    }
    if found.process.is_none()
        && let Some(process) = words.process.captures(line)
    {
        found.process = Some(process[1].to_owned());
    }
    if found.at.is_none() {
        let at = match speaker {
            Speaker::Dom0 => words.linux_at.captures(line).map(|c| c[1].to_owned()),
            _ => words.xen_at.captures(line).or_else(|| words.arm_at.captures(line)).map(|c| {
                c.get(2).map_or_else(
                    || c[1].to_owned(),
                    |f| f.as_str().rsplit('#').next().unwrap_or("").to_owned(),
                )
            }),
        };
        found.at = at;
    }
    // The address of the fault as the kernel kept it: in its dump of the registers CR2 may be that of a later one, of the dump's own making.
    let kept = words.linux_cr2.captures(line).filter(|_| speaker == Speaker::Dom0);
    if let Some(kept) = &kept
        && !found.registers.iter().any(|(name, _)| name == "cr2")
    {
        found.registers.push(("cr2".to_owned(), kept[1].to_owned()));
    }
    for register in words.register.captures_iter(line) {
        let name = register[1].to_ascii_lowercase();
        if speaker == Speaker::Dom0 && name == "cr2" {
            continue;
        }
        if !found.registers.iter().any(|(n, _)| *n == name) {
            found.registers.push((name, register[3].to_owned()));
        }
    }
    if line.starts_with("Xen call trace:") || line.eq_ignore_ascii_case("call trace:") {
        *in_trace = true;
        return;
    }
    if *in_trace && found.trace.len() < FRAMES {
        let frame = match speaker {
            Speaker::Dom0 => words.linux_frame.captures(line),
            _ => words.frame.captures(line),
        };
        match frame {
            // What is only said to be possible is left out, and what writes the dump.
            Some(_) if line.starts_with('?') => {}
            Some(frame) if WRITES.iter().any(|own| frame[1].starts_with(own)) => {}
            Some(frame) => {
                let name = frame[1].rsplit('#').next().unwrap_or_default().to_owned();
                if found.trace.last() != Some(&name) {
                    found.trace.push(name);
                }
            }
            // Linux writes <TASK> between.
            None => *in_trace = line.starts_with('<') || line.starts_with('?'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demux::lines;

    fn recorded(name: &str) -> Option<Crash> {
        let path = format!("{}/../../fixtures/console/{name}.raw", env!("CARGO_MANIFEST_DIR"));
        crash(&lines(&std::fs::read(path).unwrap()))
    }

    #[test]
    fn a_xen_that_died_idle() {
        let crash = recorded("x86_64-xen-panic").unwrap();
        assert_eq!(crash.who, Who::Xen);
        assert!(crash.what.unwrap().contains("general protection fault"));
        assert_eq!(crash.at.as_deref(), Some("mwait_idle_with_hints+0xd0/0xe0"));
        assert_eq!(crash.trace, ["mwait_idle_with_hints", "acpi_processor_idle", "idle_loop"]);
        assert!(crash.registers.contains(&("cr2".to_owned(), "0000000000000000".to_owned())));
    }

    #[test]
    fn a_dom0_that_met_a_fault_too_early() {
        let crash = recorded("x86_64-dom0-crash").unwrap();
        assert_eq!(crash.who, Who::Dom0);
        assert!(crash.what.unwrap().contains("page fault, error code 0001"));
        assert_eq!(crash.at.as_deref(), Some("ffffffff81a4603f"));
        assert!(crash.registers.contains(&("cr2".to_owned(), "ffffffff82a03e60".to_owned())));
    }

    #[test]
    fn stray_reads_on_both_architectures() {
        let crash = recorded("x86_64-xen-page-fault").unwrap();
        assert_eq!(crash.who, Who::Xen);
        assert!(
            crash.what.unwrap().contains("address fffffffffffff000, where nothing is mapped (page fault)")
        );
        assert_eq!(crash.at.as_deref(), Some("__start_xen+0x2089/0x27e6"));
        assert_eq!(crash.trace, ["__start_xen", "__high_start"]);
        assert!(
            crash.registers.contains(&("cr2".to_owned(), "fffffffffffff000".to_owned())),
            "{:?}",
            crash.registers
        );
        let crash = recorded("aarch64-xen-data-abort").unwrap();
        assert_eq!(crash.who, Who::Xen);
        assert!(crash.what.unwrap().contains("data abort"));
        assert!(crash.at.unwrap().contains("start_xen"));
        assert!(
            crash.registers.iter().any(|(n, v)| n.starts_with("far") && v.ends_with("fffffffffffff000")),
            "{:?}",
            crash.registers
        );
    }

    #[test]
    fn kernels_that_were_asked_to_crash() {
        for name in ["x86_64-dom0-asked-to-crash", "aarch64-dom0-asked-to-crash"] {
            let crash = recorded(name).unwrap();
            assert_eq!(crash.who, Who::Dom0, "{name}");
            assert!(crash.what.unwrap().contains("asked dom0's kernel to crash"), "{name}");
            // The first was recorded no further than the words.
            assert_eq!(crash.process.is_some(), name.starts_with("aarch64"), "{name}");
            assert!(crash.trace.iter().all(|f| !f.starts_with("dump_stack")), "{name}: {:?}", crash.trace);
        }
    }

    /// Whatever is cut off a record, what is left does not make the parser panic, nor another one guilty.
    #[test]
    fn cut_anywhere() {
        for name in [
            "x86_64-xen-page-fault",
            "aarch64-xen-data-abort",
            "x86_64-xen-panic",
            "x86_64-dom0-asked-to-crash",
        ] {
            let path = format!("{}/../../fixtures/console/{name}.raw", env!("CARGO_MANIFEST_DIR"));
            let record = std::fs::read(path).unwrap();
            let whole = recorded(name).unwrap();
            for n in 0..100 {
                let left = &record[..record.len() * n / 100];
                if let Some(crash) = crash(&lines(left)) {
                    assert_eq!(crash.who, whole.who, "{name}, the first {n} %");
                }
            }
        }
    }

    #[test]
    fn nothing_crashed_on_a_good_console() {
        for name in ["x86_64-good", "x86_64-verbose", "aarch64-good", "aarch64-verbose", "x86_64-4.20"] {
            assert_eq!(recorded(name), None, "{name}");
        }
    }
}
