//! Real consoles: recorded boots of Xen 4.17 and 4.20 and Linux 6.1 in QEMU 7.2 under TCG, good ones and ones broken on purpose
//! (fixtures/console/README.md). What they show is a snapshot for each.

use std::fmt::Write;
use xenlab_console::*;

fn record(name: &str) -> Vec<u8> {
    let path = format!("{}/../../fixtures/console/{name}.raw", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn names() -> Vec<String> {
    let dir = format!("{}/../../fixtures/console", env!("CARGO_MANIFEST_DIR"));
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".raw")?.to_owned()))
        .collect();
    names.sort();
    names
}

/// Phases, signs and findings, in words.
fn story(record: &[u8]) -> String {
    let (mut phases, mut tracker) = (PhaseTracker::new("n0nce"), SignTracker::new("n0nce"));
    let (mut out, mut signs) = (String::new(), Vec::new());
    let all = lines(record);
    for line in &all {
        if let Some(t) = phases.push(line) {
            let _ = writeln!(out, "phase {:<11} {}", t.phase, line.shown());
        }
        signs.extend(tracker.push(line));
    }
    signs.extend(tracker.finish());
    for s in &signs {
        let fatal = if s.fatal { ", fatal" } else { "" };
        let _ = writeln!(out, "sign  {} ({}{fatal}): {}", s.code, s.speaker, s.text);
    }
    let _ = writeln!(out, "explained by {}", explain(&signs).map_or("nothing", |s| s.code));
    if let Some(crash) = crash(&all) {
        let what = crash.what.as_deref().unwrap_or("not known");
        let _ = writeln!(out, "crash of {:?}: {what}", crash.who);
        let _ = writeln!(out, "      at {}", crash.at.as_deref().unwrap_or("nowhere known"));
        if let Some(process) = &crash.process {
            let _ = writeln!(out, "      for {process}");
        }
        let registers: Vec<String> = crash.registers.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let _ = writeln!(out, "      registers {}", registers.join(" "));
        let _ = writeln!(out, "      called from {}", crash.trace.join(" < "));
    }
    for (name, catalogue) in [("panic", Catalogue::Panic), ("warning", Catalogue::Warning)] {
        for f in catalogue.scan(&all) {
            let _ = writeln!(out, "{name} {}: {}", f.code, f.text);
        }
    }
    if phases.without_xen() {
        out.push_str("without Xen\n");
    }
    out
}

#[test]
fn each_tells_its_story() {
    let names = names();
    assert!(names.len() >= 15, "{names:?}");
    for name in names {
        insta::assert_snapshot!(name.clone(), story(&record(&name)));
    }
}

#[test]
fn nothing_fires_on_a_healthy_boot() {
    let good: Vec<String> = names()
        .into_iter()
        .filter(|n| ["good", "64-verbose", "4.20"].iter().any(|w| n.contains(w)))
        .collect();
    assert_eq!(good.len(), 7, "{good:?}");
    for name in good {
        let all = lines(&record(&name));
        let mut tracker = SignTracker::new("");
        let signs: Vec<Sign> = all.iter().filter_map(|l| tracker.push(l)).collect();
        assert_eq!(signs, [], "{name}");
        for catalogue in [Catalogue::Panic, Catalogue::Warning] {
            assert_eq!(catalogue.scan(&all), [], "{name}");
        }
    }
}

#[test]
fn the_same_story_cut_anywhere() {
    for name in names() {
        let record = record(&name);
        let whole = lines(&record);
        for size in [1, 7, 127] {
            let (mut demux, mut all) = (Demux::new(), Vec::new());
            for chunk in record.chunks(size) {
                demux.feed(chunk, |l| all.push(l.into_owned()));
            }
            demux.finish(|l| all.push(l.into_owned()));
            assert_eq!(all, whole, "{name} in chunks of {size}");
        }
    }
}

/// What a record is explained by, and who crashed in it. Both catalogues are gone through as well: no record may make them panic.
fn cause(record: &[u8]) -> (Option<&'static str>, Option<Who>) {
    let mut tracker = SignTracker::new("n0nce");
    let all = lines(record);
    let mut signs: Vec<Sign> = all.iter().filter_map(|l| tracker.push(l)).collect();
    signs.extend(tracker.finish());
    let _ = (Catalogue::Panic.scan(&all), Catalogue::Warning.scan(&all));
    (explain(&signs).map(|s| s.code), crash(&all).map(|c| c.who))
}

/// A console that ends early, begins late, or has a hole: whatever is lost, what is left says the same cause, or that something
/// panicked which did, or nothing.
#[test]
fn what_is_cut_out_never_makes_another_cause() {
    // Numbers that are the same in every run (xorshift), so that what fails once fails again.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % n.max(1) as u64) as usize
    };
    let mut wrong = Vec::new();
    for name in names() {
        let record = record(&name);
        let (whole, who) = cause(&record);
        // Who panicked is true without the reason why; the words of Xen's box take the place of its bare name where they say more.
        let text = String::from_utf8_lossy(&record);
        let (xen, dom0) = (text.contains("Panic on CPU "), text.contains("Kernel panic - not syncing"));
        let dom0 = dom0 || text.contains("Hardware Dom0 crashed");
        let true_too = |code| matches!((code, xen, dom0), ("xen.panic", true, _) | ("dom0.panic", _, true));
        for n in 0..102 {
            let (a, b) = (below(record.len() + 1), below(record.len() + 1));
            let (from, to) = (a.min(b), a.max(b));
            let (what, left) = match n % 3 {
                0 => (format!("the first {a}"), record[..a].to_vec()),
                1 => (format!("{from}..{to} alone"), record[from..to].to_vec()),
                _ => (format!("all but {from}..{to}"), [&record[..from], &record[to..]].concat()),
            };
            let (seen, crashed) = cause(&left);
            if crashed.is_some() && crashed != who {
                wrong.push(format!("{name}, {what}: {crashed:?} crashed and not {who:?}"));
            }
            if seen != whole && !seen.is_none_or(true_too) {
                wrong.push(format!("{name}, {what}: {seen:?} and not {whole:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

/// Words of a rule that was read in the source and never heard stand beside it, with the reason.
const NEVER_SEEN: &str = "never seen here";

/// Alternatives of rules that were heard in another of their forms, and why these could not be had.
const UNHEARD: &[(Speaker, &str, &str)] = &[
    (
        Speaker::Xen,
        "Dom0 allocation too small for",
        "a kernel that names a place for its table and hardly needs memory itself",
    ),
    (Speaker::Xen, "Unable to find suitable location for (?:dtb)", "the kernel itself lacks the room first"),
    (Speaker::Xen, "Unable to find suitable location for (?:the kernel)", "said by Xen after 4.20"),
    (Speaker::Xen, "Unable to allocate first memory bank", "a host whose memory is in many small pieces"),
    (Speaker::Xen, "Could not construct (?:d0)", "said by Xen after 4.20"),
    (Speaker::Xen, "Could not set up (?:d0) guest OS", "said by Xen after 4.20"),
    (
        Speaker::Xen,
        "Hardware (?:domain \\d+ did unsupported soft reset)",
        "dom0 would have to load another kernel with kexec",
    ),
    (Speaker::Firmware, "^error: .*(?:premature end of file)", "GRUB, of a file that is cut off"),
    (Speaker::Firmware, "^error: .*(?:not found)", "GRUB"),
    (Speaker::Firmware, "^error: .*(?:unsupported)", "GRUB"),
    (Speaker::Firmware, "^error: .*(?:invalid)", "GRUB"),
    (Speaker::Firmware, "^error: .*(?:magic)", "GRUB"),
    (
        Speaker::Firmware,
        "^error: you need to load the (?:hypervisor) first",
        "GRUB's xen_hypervisor command, which only Arm has",
    ),
    (
        Speaker::Firmware,
        "^BdsDxe: failed to (?:start) Boot",
        "an image that the firmware takes and that comes back with an error",
    ),
    (
        Speaker::Firmware,
        "^BdsDxe: (?:No bootable option)",
        "OVMF and AAVMF of Debian have a shell to start in the end",
    ),
    (Speaker::Xen, "^BdsDxe: (?:No bootable option)", "the same, after Xen's EFI loader"),
    (
        Speaker::Firmware,
        "^BdsDxe: (?:starting Boot\\S+ \"(?:UiApp)\")",
        "seen after Xen's EFI loader, so as Xen's line",
    ),
    (
        Speaker::Xen,
        "kernel: broken ELF: ",
        "a kernel that Xen could load, and that is found broken only then",
    ),
    (
        Speaker::Xen,
        "Failed to load Dom0 kernel",
        "a PVH dom0 wants an IOMMU, without which Xen panics before",
    ),
    (
        Speaker::Xen,
        "Mismatch between Xen and DOM0 kernel",
        "a kernel for neither x86_64 nor i386 with PAE that has Xen's notes",
    ),
    (Speaker::Dom0, "^Gave up waiting for (?:suspend/resume) device", "initramfs-tools goes on without it"),
    (
        Speaker::Xen,
        "^BdsDxe: (?:starting Boot\\S+ \"(?:EFI Internal Shell)\")",
        "seen before Xen's EFI loader, so as the firmware's",
    ),
    (Speaker::Xen, "^UEFI Interactive Shell", "the same"),
    (
        Speaker::Dom0,
        "(?:^|\\] )Kernel panic - not syncing: (?:System is deadlocked on memory)",
        "a dom0 with so little memory on QEMU 7.2 says nothing at all",
    ),
    (
        Speaker::Xen,
        "^!!!! X64 Exception Type - ",
        "an image that is broken so late; the same rule was recorded on AArch64",
    ),
    (Speaker::Xen, "^(?:SError) Exception at 0x", "as before Xen's EFI loader"),
    (
        Speaker::Firmware,
        "^(?:SError) Exception at 0x",
        "an interrupt by hardware that fails, which QEMU's does not",
    ),
];

/// What a pattern may match, one entry for each choice of its alternatives.
fn alternatives(ast: &regex_syntax::ast::Ast) -> Vec<String> {
    use regex_syntax::ast::{Ast, GroupKind};
    match ast {
        Ast::Alternation(a) => a.asts.iter().flat_map(alternatives).collect(),
        // Linux with its timestamp or without; which of the two is the records' own affair.
        Ast::Group(_) if ast.to_string() == r"(?:^|\] )" => vec![ast.to_string()],
        Ast::Group(g) => {
            let open = if matches!(g.kind, GroupKind::NonCapturing(_)) { "(?:" } else { "(" };
            alternatives(&g.ast).into_iter().map(|a| format!("{open}{a})")).collect()
        }
        Ast::Concat(c) => c.asts.iter().fold(vec![String::new()], |begun, part| {
            let next = alternatives(part);
            begun.iter().flat_map(|b| next.iter().map(move |n| format!("{b}{n}"))).collect()
        }),
        other => vec![other.to_string()],
    }
}

/// Every rule was made of what somebody really said, or says itself that it was not; each of its alternatives, too.
#[test]
fn each_rule_is_hit_by_a_record() {
    let mut heard: Vec<(Speaker, String)> = Vec::new();
    for name in names() {
        let all = lines(&record(&name));
        let mut tracker = SignTracker::new("n0nce");
        // The words of a panic's box are one text.
        let mut signs: Vec<Sign> = all.iter().filter_map(|l| tracker.push(l)).collect();
        signs.extend(tracker.finish());
        heard.extend(signs.into_iter().map(|s| (s.speaker, s.text)));
        heard.extend(all.iter().map(|l| (l.speaker, l.text.trim_end().to_owned())));
    }
    let hit = |rule: &Rule, pattern: &str| {
        let pattern = regex::Regex::new(pattern).unwrap();
        heard.iter().any(|(who, text)| *who == rule.speaker && pattern.is_match(text))
    };
    let (mut wrong, mut unheard) = (Vec::new(), UNHEARD.to_vec());
    for rule in RULES {
        match (hit(rule, rule.pattern), rule.source.contains(NEVER_SEEN)) {
            (true, true) => wrong.push(format!("{} was recorded; take `{NEVER_SEEN}` out", rule.pattern)),
            (false, false) => wrong.push(format!("{} ({:?}): no record has it", rule.pattern, rule.speaker)),
            (false, true) => {}
            (true, false) => {
                let ast = regex_syntax::ast::parse::Parser::new().parse(rule.pattern).unwrap();
                for one in alternatives(&ast) {
                    let listed =
                        unheard.iter().position(|(who, words, _)| *who == rule.speaker && *words == one);
                    match (hit(rule, &one), listed) {
                        (true, None) => {}
                        (true, Some(_)) => wrong.push(format!("{one} was recorded; take it off the list")),
                        (false, None) => wrong.push(format!("{one} ({:?}): no record has it", rule.speaker)),
                        (false, Some(at)) => drop(unheard.remove(at)),
                    }
                }
            }
        }
    }
    wrong.extend(unheard.iter().map(|(_, words, _)| format!("{words} is on the list, and in no rule")));
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}
