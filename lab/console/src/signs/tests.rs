//! The table, boxes and markers.

use super::*;
use crate::demux::lines;

fn signs(record: &str, nonce: &str) -> Vec<Sign> {
    let mut tracker = SignTracker::new(nonce);
    let mut all: Vec<Sign> = lines(record.as_bytes()).iter().filter_map(|l| tracker.push(l)).collect();
    all.extend(tracker.finish());
    all
}

#[test]
fn the_table_is_sound() {
    for rule in RULES {
        regex::Regex::new(rule.pattern).unwrap_or_else(|e| panic!("{}: {e}", rule.pattern));
        assert!(rule.code.contains('.') && !rule.source.is_empty(), "{rule:?}");
        assert!(rule.weight < 90, "a marker of the lab's own outweighs every rule: {rule:?}");
    }
    assert_eq!(RULES.iter().filter(|r| r.pattern == rules::PANIC).count(), 1);
}

/// A line for each thing that must be recognised, as Xen and Linux print them.
#[test]
fn each_is_recognised() {
    for (line, code, fatal) in [
        ("(XEN) Xen BUG at common/page_alloc.c:1234", "xen.bug", true),
        ("(XEN) Assertion 'a < b' failed at arch/x86/mm.c:99", "xen.bug", true),
        ("(XEN) FATAL TRAP: vec 6, #UD[0000]", "xen.panic", true),
        ("(XEN) FATAL PAGE FAULT", "xen.page-fault", true),
        ("(XEN) *** DOUBLE FAULT ***", "xen.panic", true),
        ("(XEN) Early fatal page fault at e008:ffff82d04042 (cr2=0, ec=0)", "xen.page-fault", true),
        ("(XEN) CPU0: Unexpected Trap: Data Abort", "xen.page-fault", true),
        ("(XEN) Watchdog timer detects that CPU1 is stuck!", "xen.panic", true),
        ("(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.", "dom0.panic", true),
        ("(XEN) Hardware Dom0 halted: halting machine", "dom0.power-off", true),
        ("(XEN) Hardware Dom0 shutdown: rebooting machine", "dom0.power-off", true),
        ("(XEN) ELF: not an ELF binary", "dom0.kernel-invalid", false),
        (
            "(XEN) ERROR: Not a Xen-ELF image: No ELF notes or '__xen_guest' section found",
            "dom0.kernel-invalid",
            false,
        ),
        ("[    1.5] no", "", false),
        (
            "[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(254,0)",
            "dom0.no-root",
            true,
        ),
        (
            "[    1.000000] VFS: Cannot open root device \"vda\" or unknown-block(0,0): error -6",
            "dom0.no-root",
            false,
        ),
        ("[    1.000000] VFS: Cannot open root device \"(null)\" or unknown-block(0,0): error -6", "", false),
        ("[    1.000000] VFS: Cannot open root device \"\" or unknown-block(0,0): error -6", "", false),
        (
            "[    1.000000] Kernel panic - not syncing: Out of memory and no killable processes...",
            "dom0.memory",
            true,
        ),
        ("[    1.000000] Kernel panic - not syncing: System is deadlocked on memory", "dom0.memory", true),
        ("[    1.000000] Out of memory: Killed process 77 (sh) total-vm:1kB", "dom0.memory", false),
        (
            "[    1.000000] sh invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=0",
            "dom0.memory",
            false,
        ),
        (
            "[    1.000000] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000b00",
            "dom0.init-died",
            true,
        ),
        ("[    1.000000][    T1] Oops: 0002 [#1] PREEMPT SMP", "dom0.panic", false),
        ("[    1.000000] BUG: unable to handle page fault for address: ffffc90", "dom0.panic", false),
        (
            "[    1.000000] Unable to handle kernel NULL pointer dereference at virtual address 0",
            "dom0.panic",
            false,
        ),
        (
            "[    1.000000] Initramfs unpacking failed: invalid magic at start of compressed archive",
            "dom0.no-initramfs",
            false,
        ),
        ("Gave up waiting for root file system device.  Common problems:", "dom0.no-root", true),
        ("You are in emergency mode. After logging in, type ...", "dom0.not-ready", true),
    ] {
        let found = signs(&format!("(XEN) Xen\n{line}\n"), "");
        let got = found.first().map_or(("", false), |s| (s.code, s.fatal));
        assert_eq!(got, (code, fatal && !code.is_empty()), "{line}");
    }
}

#[test]
fn words_quoted_by_userland_or_the_other_speaker_are_nothing() {
    for line in [
        "grep: Kernel panic - not syncing: x",
        "log says FATAL TRAP: vec 6",
        "(XEN) [    1.000000] VFS: Cannot open root device \"vda\"",
        "(XEN) d0v0 fine",
        "(d1) Kernel panic - not syncing: a guest's own",
    ] {
        assert_eq!(signs(&format!("(XEN) Xen\n{line}\n"), ""), [], "{line}");
    }
}

const STARS: &str = "(XEN) ****************************************\n";

#[test]
fn a_box_is_one_sign() {
    let found = signs(
        &format!(
            "(XEN) \n{STARS}(XEN) Panic on CPU 3:\n(XEN) Some words\n(XEN) and more\n{STARS}(XEN) \nx\n"
        ),
        "",
    );
    assert_eq!(found.len(), 1);
    let sign = &found[0];
    assert_eq!((sign.code, sign.fatal, sign.class), ("xen.panic", true, Class::Panic));
    assert_eq!(sign.text, "Panic on CPU 3: Some words and more");
}

#[test]
fn a_box_cut_short_is_found_too() {
    assert_eq!(signs(&format!("{STARS}(XEN) Panic on CPU 0:\n"), "")[0].text, "Panic on CPU 0:");
    assert_eq!(
        signs("(XEN) Panic on CPU 0:\n(XEN) Not enough RAM for domain 0 allocation\n", "")[0].code,
        "dom0.memory"
    );
    // A box that never ends holds nothing up.
    let endless = format!("(XEN) Panic on CPU 0:\n{}", "(XEN) word\n".repeat(100));
    let mut tracker = SignTracker::new("");
    assert!(lines(endless.as_bytes()).iter().any(|l| tracker.push(l).is_some()));
    // A flood in a box is cut.
    let long = format!("(XEN) Panic on CPU 0:\n(XEN) {}\n{STARS}", "x".repeat(10_000));
    assert!(signs(&long, "")[0].text.len() <= MAX_REASON);
}

#[test]
fn the_most_specific_explains() {
    let record = "(XEN) Xen\n[    1.000000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n\
        (XEN) Hardware Dom0 crashed: rebooting\n";
    assert_eq!(explain(&signs(record, "")).unwrap().code, "dom0.no-initramfs");
    let with_root = record.replace(
        "[    1.0",
        "[    1.000000] VFS: Cannot open root device \"vda\" or unknown-block(0,0)\n[    1.0",
    );
    assert_eq!(explain(&signs(&with_root, "")).unwrap().code, "dom0.no-root");
    assert_eq!(explain(&[]), None);
}

#[test]
fn markers_need_the_nonce() {
    let record = |text: &str| signs(&format!("(XEN) Xen\n{text}\n"), "abc123").first().map(|s| s.code);
    assert_eq!(record("xenlab: failed abc123 no-root"), Some("dom0.no-root"));
    assert_eq!(record("xenlab: failed abc123 store did not answer"), Some("store.absent"));
    assert_eq!(record("xenlab: failed abc123"), Some("dom0.not-ready"));
    for lie in [
        "xenlab: failed abc1234 no-root",
        "xenlab: failed no-root",
        "xenlab: failed ABC123 no-root",
        "(XEN) xenlab: failed abc123 x",
        "echo xenlab: failed $NONCE no-root",
        "(d1) xenlab: failed abc123 x",
    ] {
        assert_eq!(record(lie), None, "{lie}");
    }
}
