//! Guests: one that panics, never speaks, ends too early, does not answer; and what is left behind when they are gone.

use super::super::{Expect, Row};
use super::{BOOTED, BOTH, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// A scenario with a guest of these settings, and these steps.
macro_rules! guest {
    ($guest:literal, $steps:literal) => {
        concat!(
            "xenlab: 1\nname: planted\nmachine: {accel: tcg}\n",
            "xen: {build: debian:bookworm, args: [bootscrub=0]}\ndom0: {userland: minimal, memory: 512M}\n",
            "overrides:\n  - when: {arch: x86_64}\n    add: {xen.args: [spec-ctrl=no]}\n",
            "guests: {g1: ",
            $guest,
            "}\nsteps:\n  - domain: {create: g1}\n",
            $steps
        )
    };
}

/// A scenario with an HVM guest, and these steps.
macro_rules! hvm {
    ($steps:literal) => {
        concat!(
            "xenlab: 1\nname: planted\nmachine: {accel: tcg}\n",
            "xen: {build: debian:bookworm, args: [bootscrub=0, spec-ctrl=no]}\n",
            "dom0: {userland: minimal, memory: 512M, device-model: debian}\n",
            "guests: {h1: {type: hvm, memory: 64M}}\nsteps:\n",
            $steps
        )
    };
}

const GUEST: Row = Row { artefact: "a guest", archs: BOTH, ..BOOTED };
/// What is the same on both architectures is tried where a guest is there sooner.
const ARM: Row = Row { archs: &[Arch::Aarch64], ..GUEST };
/// Only x86_64 saves and restores, and has guests with firmware.
const X86: Row = Row { archs: &[Arch::X86_64], ..GUEST };
const LEFT: Row = Row { artefact: "what is left of a guest", ..ARM };

const LEAK: Expect = fail(Cause::GuestLeak, Blame::Build, &[]);

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "guest-well",
        what: "nothing is wrong: a guest comes, answers, and goes",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {says: g1}\n  - domain: {run: g1, script: 'uname -s; false', stdout: Linux, exit: 1}\n  - domain: {destroy: g1}\n  - leaks: {}\n"
        ),
        expect: Expect { verdict: Verdict::Pass, cause: None, blame: None, says: &[], steps: &[] },
        ..GUEST
    },
    Row {
        name: "guest-panics",
        what: "the guest's kernel finds no init and panics",
        scenario: guest!("{args: [rdinit=/nowhere]}", "  - domain: {says: g1}\n    within: 60s\n"),
        expect: fail(Cause::GuestNoRoot, Blame::Scenario, &["panicked: `VFS"]),
        ..GUEST
    },
    Row {
        name: "guest-says-nothing",
        what: "the guest's init never says that it is up",
        scenario: guest!(
            "{args: [rdinit=/bin/sleep, '--', '1000']}",
            "  - domain: {says: g1}\n    within: 15s\n"
        ),
        expect: fail(Cause::GuestSilent, Blame::Xen, &["did not say that it is up"]),
        ..ARM
    },
    Row {
        name: "guest-powers-off",
        what: "the guest powers itself off before it is up",
        scenario: guest!("{args: [rdinit=/sbin/poweroff]}", "  - domain: {says: g1}\n    within: 60s\n"),
        expect: fail(Cause::GuestGone, Blame::Xen, &[]),
        ..ARM
    },
    Row {
        name: "guest-does-not-answer",
        what: "the guest is up and then paused, and is to run a script",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {says: g1}\n  - domain: {pause: g1}\n  - domain: {run: g1, script: 'true'}\n    within: 5s\n"
        ),
        expect: fail(Cause::GuestSilent, Blame::Xen, &[]),
        ..ARM
    },
    Row {
        name: "guest-too-large",
        what: "the guest is to have more memory than there is",
        scenario: guest!("{config: ['memory = 8192']}", "  - domain: {says: g1}\n"),
        expect: fail(Cause::GuestMemory, Blame::Scenario, &["allocate"]),
        ..GUEST
    },
    Row {
        name: "guest-kernel-is-none",
        what: "the guest's kernel is a text file",
        scenario: guest!("{config: ['kernel = \"/etc/passwd\"']}", "  - domain: {says: g1}\n"),
        expect: fail(Cause::GuestKernelInvalid, Blame::Scenario, &["no loader found"]),
        ..ARM
    },
    Row {
        name: "guest-kernel-missing",
        what: "the guest's kernel is not there",
        scenario: guest!("{config: ['kernel = \"/nowhere\"']}", "  - domain: {says: g1}\n"),
        expect: fail(Cause::GuestConfig, Blame::Scenario, &["/nowhere"]),
        ..ARM
    },
    Row {
        name: "guest-config-unreadable",
        what: "the guest's configuration ends within a list",
        scenario: guest!("{config: ['vif = [ 7']}", "  - domain: {says: g1}\n"),
        expect: fail(Cause::GuestConfig, Blame::Scenario, &["config parsing error"]),
        ..ARM
    },
    Row {
        name: "guest-left",
        what: "the guest is still there when nothing should be left",
        scenario: guest!("{memory: 96M}", "  - leaks: {}\n"),
        expect: Expect { says: &["domains are left behind: `g1`"], ..LEAK },
        ..LEFT
    },
    Row {
        name: "guest-things-left",
        what: "a page that the console daemon keeps, and with it the guest's domain, a node of the store and a loop device are left of the guest",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {says: g1}\n    within: 60s\n  - run: kill -STOP $(pidof xenconsoled)\n  - domain: {destroy: g1}\n  - run: xenstore-write /local/domain/99/left behind\n  - run: 'head -c 1048576 /dev/zero >/tmp/disk && modprobe loop && losetup -f /tmp/disk'\n  - leaks: {}\n"
        ),
        expect: Expect {
            says: &[
                "domains are left behind: `(null)`",
                "grants in use are left behind: `d1 by d0`",
                "/local/domain/99/left",
                "loop devices are left behind: `/tmp/disk`",
            ],
            ..LEAK
        },
        ..LEFT
    },
    Row {
        name: "guest-saved-file-cut",
        what: "the file that the guest was saved to is cut off",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {says: g1}\n  - domain: {save: g1}\n  - run: truncate -s 20M /run/xenlab-guests/g1.saved\n  - domain: {restore: g1}\n"
        ),
        expect: fail(Cause::GuestNotRestored, Blame::Build, &["xc: error: Failed to read", "there is no g1"]),
        ..X86
    },
    Row {
        name: "guest-restored-is-another",
        what: "`xl restore` creates the guest anew in place of restoring it",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {says: g1}\n  - domain: {save: g1}\n  - run:\n      script: |\n        x=$(command -v xl)\n        mv $x /run/xl && mkdir -p /run/real && mv /run/xl /run/real/xl\n        printf '#!/bin/sh\\n[ $1 = restore ] && set -- create -q /run/xenlab-guests/g1.cfg\\nexec /run/real/xl \"$@\"\\n' >$x\n        chmod 755 $x\n  - domain: {restore: g1}\n    within: 60s\n"
        ),
        expect: fail(Cause::GuestNotTheSame, Blame::Xen, &[]),
        ..X86
    },
    Row {
        name: "hvm-firmware-missing",
        what: "the file with SeaBIOS is not there",
        scenario: hvm!("  - run: rm /usr/share/seabios/bios-256k.bin\n  - domain: {create: h1}\n"),
        expect: fail(Cause::GuestFirmware, Blame::Build, &["BIOS"]),
        ..X86
    },
    Row {
        name: "hvm-disk-is-empty",
        what: "SeaBIOS starts and finds nothing to boot",
        scenario: hvm!(
            "  - domain: {create: h1}\n  - domain: {destroy: h1}\n  - run: 'dd if=/dev/zero of=/run/xenlab-guests/h1.boot bs=512 count=1 conv=notrunc && rm -f /run/xenlab-guests/h1.serial && xl create -q /run/xenlab-guests/h1.cfg'\n  - domain: {says: h1}\n    within: 10s\n"
        ),
        expect: fail(Cause::GuestSilent, Blame::Xen, &["did not say that it is up"]),
        ..X86
    },
];
