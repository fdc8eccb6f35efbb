use super::*;
use crate::fact::Facts;
use crate::step::testing::{bad, judge as judged};

use BootPhase::{Dom0Build, Dom0Init, Dom0Kernel, Dom0Ready, Firmware, PowerOn, Xen};

fn seen(reached: &[BootPhase], end: WaitEnd) -> PhaseEvidence {
    PhaseEvidence {
        reached: reached.iter().enumerate().map(|(i, p)| (*p, i as f64)).collect(),
        end,
        console_bytes: if reached.len() > 1 { 4000 } else { 0 },
        tails: vec![("xen".into(), vec!["(XEN) one".into(), "(XEN) two".into()])],
        signs: Vec::new(),
        heard: Vec::new(),
        ended: 0.0,
        usual: None,
        told: Vec::new(),
    }
}

fn code(reached: &[BootPhase], end: WaitEnd, signs: &[(&str, &str)]) -> String {
    let mut e = seen(reached, end);
    e.signs = signs.iter().map(|(c, l)| ((*c).to_owned(), (*l).to_owned())).collect();
    let checks = judged(&Phase { reach: Dom0Ready }, &e, &Facts::default());
    bad(&checks).pop().unwrap_or_default()
}

const STALL: WaitEnd = WaitEnd::Stalled { seconds: 30.0 };
const LIMIT: WaitEnd = WaitEnd::TimedOut { limit: 120.0 };
const ALL: [BootPhase; 6] = [PowerOn, Xen, Dom0Build, Dom0Kernel, Dom0Init, Dom0Ready];

#[test]
fn reached() {
    assert_eq!(code(&ALL, WaitEnd::Reached, &[]), "");
    // A phase that showed itself by nothing is passed over.
    let checks = judged(
        &Phase { reach: Dom0Build },
        &seen(&[PowerOn, Xen, Dom0Kernel], WaitEnd::Reached),
        &Facts::default(),
    );
    assert_eq!((bad(&checks), checks[0].message.as_str()), (vec![], "dom0-build after 2.00 s"));
    // It says it ended well, and it is not among what was reached.
    assert_eq!(code(&ALL[..4], WaitEnd::Reached, &[]), "dom0-ready ERROR lab.internal");
}

#[test]
fn silence_by_phase() {
    for (reached, end, expected) in [
        (&[PowerOn][..], STALL, "FAIL xen.silent"),
        (&[PowerOn, Firmware], STALL, "FAIL xen.silent"),
        (&[PowerOn, Firmware], LIMIT, "FAIL xen.silent"),
        (&[], STALL, "FAIL xen.silent"),
        (&ALL[..2], STALL, "FAIL xen.hung"),
        (&ALL[..3], STALL, "FAIL dom0.silent"),
        (&ALL[..4], STALL, "FAIL dom0.hung"),
        (&ALL[..5], STALL, "FAIL dom0.hung"),
        (&ALL[..4], LIMIT, "FAIL dom0.not-ready"),
        (&ALL[..5], LIMIT, "FAIL dom0.not-ready"),
        // A bare Linux: its kernel spoke, and Xen never did.
        (&[PowerOn, Dom0Kernel], STALL, "FAIL dom0.not-under-xen"),
        (&[PowerOn, Firmware, Dom0Kernel, Dom0Init], LIMIT, "FAIL dom0.not-under-xen"),
    ] {
        assert_eq!(code(reached, end.clone(), &[]), format!("dom0-ready {expected}"), "{reached:?} {end:?}");
    }
}

#[test]
fn machines_that_end() {
    let refused = MachineEnd::QemuExited { status: 1, stderr: "qemu: unsupported machine".into() };
    let exited = MachineEnd::QemuExited { status: 1, stderr: String::new() };
    let killed = MachineEnd::QemuKilled { signal: 9, stderr: String::new() };
    let panic = ("xen.panic", "Panic on CPU 0: Xen BUG at common/foo.c:12");
    for (reached, end, signs, expected) in [
        (&[][..], refused, &[][..], "ERROR qemu.refused"),
        (&ALL[..2], exited, &[], "ERROR qemu.exited"),
        // QEMU's death is never blamed on Xen, whatever Xen said before.
        (&ALL[..2], killed.clone(), &[panic], "ERROR qemu.killed"),
        (&ALL[..5], killed, &[], "ERROR qemu.killed"),
        (&[PowerOn], MachineEnd::InternalError, &[], "ERROR qemu.internal-error"),
        (&ALL[..2], MachineEnd::Protocol("closed".into()), &[], "ERROR qemu.protocol"),
        (&[PowerOn], MachineEnd::GuestReset, &[], "FAIL xen.reset"),
        (&ALL[..2], MachineEnd::GuestReset, &[], "FAIL xen.reset"),
        (&ALL[..2], MachineEnd::GuestReset, &[panic], "FAIL xen.panic"),
        (&ALL[..4], MachineEnd::GuestReset, &[], "FAIL dom0.reset"),
        (&ALL[..3], MachineEnd::GuestPowerOff, &[], "FAIL xen.power-off"),
        (&ALL[..5], MachineEnd::GuestPowerOff, &[], "FAIL dom0.power-off"),
        (&ALL[..4], MachineEnd::GuestPanicked, &[], "FAIL dom0.panic"),
        (&ALL[..2], MachineEnd::GuestPanicked, &[], "FAIL xen.panic"),
    ] {
        assert_eq!(
            code(reached, WaitEnd::Ended(end.clone()), signs),
            format!("dom0-ready {expected}"),
            "{reached:?} {end:?}"
        );
    }
    assert_eq!(code(&ALL[..2], WaitEnd::Interrupted, &[]), "dom0-ready ERROR lab.interrupted");
}

#[test]
fn the_most_specific_line_explains_it() {
    let failed = |code: &str, line: &str| WaitEnd::Failed { code: code.into(), line: line.into() };
    let no_initramfs = (
        "dom0.no-initramfs",
        "[ 1.2] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
    );
    let crashed = ("dom0.panic", "Hardware Dom0 crashed: rebooting machine in 5 seconds.");
    assert_eq!(
        code(&ALL[..4], failed("dom0.panic", crashed.1), &[no_initramfs, crashed]),
        "dom0-ready FAIL dom0.no-initramfs"
    );
    assert_eq!(
        code(&ALL[..4], failed(no_initramfs.0, no_initramfs.1), &[crashed]),
        "dom0-ready FAIL dom0.no-initramfs"
    );
    let small = ("dom0.memory", "Panic on CPU 0: Domain 0 allocation is too small for kernel image");
    assert_eq!(
        code(&ALL[..3], failed("xen.panic", "Panic on CPU 0:"), &[small]),
        "dom0-ready FAIL dom0.memory"
    );
    // dom0's init, in its own words.
    let store = ("store.absent", "xenlab: failed 5eaf store");
    assert_eq!(code(&ALL[..5], failed(store.0, store.1), &[crashed]), "dom0-ready FAIL store.absent");
    // A stall that a line explains; a code that nobody knows is the lab's mistake.
    assert_eq!(
        code(&ALL[..5], STALL, &[("dom0.memory", "[ 3.1] Out of memory: Killed process 7")]),
        "dom0-ready FAIL dom0.memory"
    );
    assert_eq!(code(&ALL[..2], failed("no.such", "x"), &[]), "dom0-ready ERROR lab.internal");
}

#[test]
fn words() {
    let checks = judged(&Phase { reach: Dom0Ready }, &seen(&ALL[..2], STALL), &Facts::default());
    assert_eq!(
        checks[0].message,
        "dom0-ready: the boot stopped in phase xen: nothing new for 30 s of guest time; likely cause: Xen started and then fell silent"
    );
    let shown: Vec<&str> = checks[0].shown.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(shown, ["phase", "which means", "so far", "last lines of xen"]);
    assert_eq!(checks[0].shown[3].1, "(XEN) one\n(XEN) two");
}

/// What is told beside the cause: who was heard last and when, and how long the phase took beside what it should.
#[test]
fn heard_and_usual() {
    let mut e = seen(&ALL[..4], STALL);
    e.ended = 33.0;
    e.heard = vec![Heard { from: "xen".into(), line: "Scrubbing ".repeat(40), at: 13.0 }];
    let told = |e: &PhaseEvidence, label: &str| -> Vec<String> {
        let checks = judged(&Phase { reach: Dom0Ready }, e, &Facts::default());
        checks[0].shown.iter().filter(|(l, _)| l == label).map(|(_, v)| v.clone()).collect()
    };
    assert_eq!(told(&e, "took"), Vec::<String>::new(), "nothing is known of other boots: nothing is said");
    e.usual = Some(Usual::Boots { boots: 12, seconds: 3.0, longest: 4.5 });
    assert_eq!(
        told(&e, "took"),
        ["30.0 s in this phase, 10 times as long: 12 good boots of this case took 3.0 s (longest 4.5 s)"]
    );
    e.usual = Some(Usual::Boots { boots: 1, seconds: 29.0, longest: 31.0 });
    assert!(told(&e, "took")[0].contains("no longer than usual: 1 good boot"));
    e.usual = Some(Usual::Limit(90.0));
    assert!(told(&e, "took")[0].ends_with("any boot is given 90 s for it"));
    let heard = told(&e, "last heard");
    assert!(heard[0].starts_with("20.0 s before the end, from Xen: `Scrubbing "), "{heard:?}");
    assert!(heard[0].len() < 220, "a long line is cut: {heard:?}");
    e.heard.clear();
    e.console_bytes = 0;
    assert!(told(&e, "last heard")[0].starts_with("nothing, from anybody"));
    e.told = vec![("what happened".into(), "it fell over".into())];
    assert_eq!(told(&e, "what happened"), ["it fell over"]);
}
