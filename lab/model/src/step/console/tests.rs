use super::*;
use crate::evidence::MachineEnd;
use crate::step::testing::{bad, body, facts, judge, said};
use crate::verdict::Verdict;

const X86: &str = include_str!("../../../../../fixtures/dom0/console-x86_64-4.17.7.raw");
const ARM: &str = include_str!("../../../../../fixtures/dom0/console-aarch64-4.17.7.raw");

fn seen(text: &str) -> ConsoleEvidence {
    ConsoleEvidence { from: 0, to: text.len() as u64, cut: false, end: WaitEnd::Reached, text: text.into() }
}

#[test]
fn a_good_boot() {
    let step: Console = body(
        r#"{"of": "xen", "has": ["^Xen version \\S+", "Brought up 2 CPUs"], "lacks": ["panic", "warning", "FATAL"]}"#,
    );
    assert_eq!(bad(&judge(&step, &seen(X86), &facts())), Vec::<String>::new());
    let step: Console = body(
        r#"{"of": "all", "has": ["^\\(XEN\\) Xen version", "^Xen version"], "lacks": ["panic", "warning"]}"#,
    );
    assert_eq!(bad(&judge(&step, &seen(ARM), &facts())), Vec::<String>::new());
}

#[test]
fn whose_line_it_is() {
    // dom0 prints the very words that Xen was to say, and the other way round.
    let lie = "(XEN) Xen version 4.17.7\n(XEN) Brought up 1 CPUs\n[    0.0] Linux version 6.1.0\nBrought up 2 CPUs\nFATAL: no\n";
    let step: Console = body(r#"{"of": "xen", "has": ["Brought up 2 CPUs"], "lacks": ["FATAL"]}"#);
    assert_eq!(bad(&judge(&step, &seen(lie), &facts())), ["has Brought up 2 CPUs FAIL console.missing"]);
    let step: Console = body(r#"{"of": "dom0", "has": ["Xen version"], "lacks": ["FATAL"]}"#);
    assert_eq!(
        bad(&judge(&step, &seen(lie), &facts())),
        ["has Xen version FAIL console.missing", "lacks FATAL FAIL console.unwanted"]
    );
}

#[test]
fn panics_and_warnings() {
    let panic = format!(
        "{X86}(XEN) \n(XEN) ****************************************\n(XEN) Panic on CPU 0:\n(XEN) Out of luck\n(XEN) ****************************************\n"
    );
    let step: Console = body(r#"{"lacks": ["panic", "warning"]}"#);
    assert_eq!(bad(&judge(&step, &seen(&panic), &facts())), ["lacks panic FAIL xen.panic"]);
    assert!(said(&judge(&step, &seen(&panic), &facts()), "lacks panic").contains("Out of luck"));
    let of_dom0: Console = body(r#"{"of": "dom0", "lacks": ["panic"]}"#);
    assert_eq!(bad(&judge(&of_dom0, &seen(&panic), &facts())), Vec::<String>::new());
    let linux = format!(
        "{X86}[    9.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n"
    );
    assert_eq!(bad(&judge(&of_dom0, &seen(&linux), &facts())), ["lacks panic FAIL dom0.no-initramfs"]);
    let warned = format!("{X86}[    9.1] WARNING: CPU: 0 PID: 1 at kernel/foo.c:12 foo+0x1/0x2\n");
    assert_eq!(bad(&judge(&step, &seen(&warned), &facts())), ["lacks warning FAIL dom0.warning"]);
}

/// What a debug build of 4.23 writes on an emulator that has both faults.
const DEBUG: &str = "(XEN) xstate: size: 0xa88 and states: 0x21f
(XEN) Xen WARN at arch/x86/xstate.c:777
(XEN) ----[ Xen-4.23-unstable  x86_64  debug=y  Not tainted ]----
(XEN) CPU:    0
(XEN) RIP:    e008:[<ffff82d04044da8e>] arch/x86/xstate.c#check_new_xstate+0x1c3/0x1d0
(XEN) Running stub recovery selftests...
(XEN) Selftest 2 failed: Opc f3 0f 1e fa 02 04 04 expected #SS[0000], got #GP[0000]
(XEN) ***************************************************
(XEN) SELFTEST FAILURE: CORRECT BEHAVIOR CANNOT BE GUARANTEED
(XEN) ***************************************************
";

#[test]
fn a_warning_that_the_emulator_brings_about() {
    let step: Console = body(r#"{"of": "xen", "lacks": ["warning"]}"#);
    let with = |faults: &[&str]| {
        let mut facts = facts();
        let set = faults.iter().map(|f| (*f).to_owned()).collect();
        facts.set("machine.emulator-faults", crate::fact::FactValue::Set(set));
        facts
    };
    let both = with(&["stack-not-canonical", "xsave-compact-size"]);
    let text = format!("{X86}{DEBUG}");
    let checks = judge(&step, &seen(&text), &both);
    assert_eq!(bad(&checks), Vec::<String>::new());
    let said = said(&checks, "lacks warning");
    assert!(said.contains("xsave-compact-size") && said.contains("stack-not-canonical"), "{said}");
    // On a machine without either of them the words are Xen's.
    let fails = ["lacks warning FAIL xen.warning"];
    assert_eq!(bad(&judge(&step, &seen(&text), &facts())), fails);
    assert_eq!(bad(&judge(&step, &seen(&text), &with(&["xsave-compact-size"]))), fails);
    assert_eq!(bad(&judge(&step, &seen(&text), &with(&["stack-not-canonical"]))), fails);
    // Other words are, too: another place, another test beside it, one that says nothing.
    for (this, that) in [
        ("check_new_xstate", "xstate_init"),
        ("xstate.c:777", "mm.c:777"),
        ("expected #SS[0000], got #GP[0000]", "expected #UD[0000], got #GP[0000]"),
        ("(XEN) ****", "(XEN) Selftest 3 failed: Opc cc expected #BP[0000], got #GP[0000]\n(XEN) ****"),
        ("Selftest 2 failed", "Something failed"),
    ] {
        let text = text.replace(this, that);
        assert_eq!(bad(&judge(&step, &seen(&text), &both)), fails, "{that}");
    }
}

#[test]
fn a_record_that_was_cut_shows_no_absence() {
    let step: Console =
        body(r#"{"has": ["never said", "Xen version"], "lacks": ["panic", "Xen version", "nothing"]}"#);
    let expected = [
        "has never said FAIL capture.cut",
        "lacks panic FAIL capture.cut",
        "lacks Xen version FAIL console.unwanted",
        "lacks nothing FAIL capture.cut",
    ];
    let mut e = seen(X86);
    e.cut = true;
    assert_eq!(bad(&judge(&step, &e, &facts())), expected);
    // It does not say so, and is shorter than what the console wrote.
    let mut e = seen(X86);
    e.to += 1 << 20;
    assert_eq!(bad(&judge(&step, &e, &facts())), expected);
}

#[test]
fn silence_is_no_good_sign() {
    let step: Console = body(r#"{"of": "dom0", "lacks": ["panic"]}"#);
    assert_eq!(bad(&judge(&step, &seen("(XEN) Xen version 4.17.7\n"), &facts())), ["lacks panic SKIP"]);
    assert_eq!(bad(&judge(&step, &seen(""), &facts())), ["lacks panic SKIP"]);
    let lost = ConsoleEvidence { text: String::new(), ..seen(X86) };
    assert_eq!(bad(&judge(&step, &lost, &facts())), ["console ERROR lab.internal"]);
}

#[test]
fn a_record_that_begins_after_the_boot_is_dom0s() {
    let late = ConsoleEvidence { from: 9000, to: 9000 + 14, ..seen("hello\n(XEN) x\n") };
    let step: Console = body(r#"{"of": "dom0", "has": ["hello"], "since": "case"}"#);
    assert_eq!(bad(&judge(&step, &late, &facts())), Vec::<String>::new());
}

#[test]
fn how_the_wait_ended() {
    let step: Console = body(r#"{"has": ["never said"]}"#);
    let judged = |end: WaitEnd| judge(&step, &ConsoleEvidence { end, ..seen(X86) }, &facts());
    let checks = judged(WaitEnd::TimedOut { limit: 30.0 });
    assert_eq!(bad(&checks), ["has never said FAIL console.missing"]);
    assert!(
        checks[0].message.contains("limit of 30 s")
            && checks[0].message.contains("the last is `about to get started...`"),
        "{checks:?}"
    );
    // QEMU's end says nothing of what was waited for; the guest's does.
    let killed = MachineEnd::QemuKilled { signal: 9, stderr: String::new() };
    assert_eq!(bad(&judged(WaitEnd::Ended(killed))), ["has never said ERROR qemu.killed"]);
    assert_eq!(bad(&judged(WaitEnd::Ended(MachineEnd::GuestReset))), ["has never said FAIL console.missing"]);
    assert_eq!(bad(&judged(WaitEnd::Interrupted)), ["has never said ERROR lab.interrupted"]);
    assert_eq!(judged(WaitEnd::Reached)[0].verdict, Verdict::Fail);
}
