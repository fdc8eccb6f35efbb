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

const GUEST: Row = Row { artefact: "a guest", archs: BOTH, ..BOOTED };
/// What is the same on both architectures is tried where a guest is there sooner.
const ARM: Row = Row { archs: &[Arch::Aarch64], ..GUEST };
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
        name: "guest-node-left",
        what: "a node of the store is left of the guest",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {destroy: g1}\n  - run: xenstore-write /local/domain/99/left behind\n  - leaks: {}\n"
        ),
        expect: Expect { says: &["/local/domain/99/left"], ..LEAK },
        ..LEFT
    },
    Row {
        name: "guest-loop-left",
        what: "a loop device is left of the guest",
        scenario: guest!(
            "{memory: 96M}",
            "  - domain: {destroy: g1}\n  - run: 'head -c 1048576 /dev/zero >/tmp/disk && modprobe loop && losetup -f /tmp/disk'\n  - leaks: {}\n"
        ),
        expect: Expect { says: &["loop devices are left behind: `/tmp/disk`"], ..LEAK },
        ..LEFT
    },
];
