//! Devices of guests: Xen's scripts do something else than they should, the guest does not do its part, something is left.

use super::super::{Expect, Mutation, Row};
use super::{BOOTED, BOTH, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// A scenario with a guest that is up, of these settings, and these steps.
macro_rules! devices {
    ($guest:literal, $steps:literal) => {
        concat!(
            "xenlab: 1\nname: planted\nmachine: {accel: tcg}\n",
            "xen: {build: debian:bookworm, args: [bootscrub=0]}\ndom0: {userland: minimal, memory: 512M}\n",
            "overrides:\n  - when: {arch: x86_64}\n    add: {xen.args: [spec-ctrl=no]}\n",
            "guests: {g1: {memory: 128M, ",
            $guest,
            "}}\nsteps:\n  - domain: {create: g1}\n  - domain: {says: g1}\n    within: 60s\n",
            $steps
        )
    };
}

/// What all of Xen's hotplug scripts read first, with a function that comes before the program of its name.
macro_rules! hotplug {
    ($function:literal) => {
        Mutation::File(
            "/etc/xen/scripts/hotplugpath.sh",
            0o644,
            concat!(
                "sbindir=/usr/sbin\nbindir=/usr/bin\nLIBEXEC_BIN=/usr/lib/xen-4.17/bin\n",
                "XEN_SCRIPT_DIR=/etc/xen/scripts\nXEN_CONFIG_DIR=/etc/xen\n",
                $function
            ),
        )
    };
}

const DEVICE: Row = Row { artefact: "a guest's device", archs: BOTH, ..BOOTED };
/// What is the same on both architectures is tried where a guest is there sooner.
const ARM: Row = Row { archs: &[Arch::Aarch64], ..DEVICE };

/// A disk of a file, which is attached, used and detached.
const DISK: &str = devices!(
    "disks: {xvdb: {backend: file, plugged: false}}",
    "  - device: {attach: g1, disk: xvdb}\n  - device: {transfer: g1, disk: xvdb}\n  - device: {detach: g1, disk: xvdb}\n"
);

const GOOD: Expect = Expect { verdict: Verdict::Pass, cause: None, blame: None, says: &[], steps: &[] };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "device-well",
        what: "nothing is wrong: a disk comes, carries bytes, and goes; what is left is nothing",
        scenario: devices!(
            "disks: {xvda: phy, xvdb: {backend: phy, plugged: false}}",
            "  - device: {transfer: g1, disk: xvda}\n  - device: {attach: g1, disk: xvdb}\n  - device: {transfer: g1, disk: xvdb}\n  - device: {detach: g1, disk: xvdb}\n  - domain: {destroy: g1}\n  - leaks: {}\n"
        ),
        expect: GOOD,
        ..DEVICE
    },
    Row {
        name: "device-of-a-guest-that-ends",
        what: "nothing is wrong: a guest with a disk powers itself off, and what the lab made for its disk is no leak",
        scenario: devices!(
            "disks: {xvda: phy}",
            "  - domain: {run: g1, script: '(sleep 1; /sbin/poweroff) >/dev/null 2>&1 &'}\n  - run: while xl domid g1 >/dev/null 2>&1; do sleep 0.2; done; sleep 1\n  - leaks: {}\n"
        ),
        expect: GOOD,
        ..ARM
    },
    Row {
        name: "disk-other-bytes",
        what: "the loop device of a guest's disk is of another file than its backend is told",
        scenario: DISK,
        mutations: &[hotplug!(
            "losetup() { case $1 in /dev/loop*) cp \"$2\" /run/other && command losetup \"$1\" /run/other ;; *) command losetup \"$@\" ;; esac; }\n"
        )],
        expect: fail(Cause::DeviceData, Blame::Xen, &["dom0 wrote", "g1 read"]),
        ..DEVICE
    },
    Row {
        name: "disk-not-attached",
        what: "Xen's script gets no loop device for a guest's disk",
        scenario: DISK,
        mutations: &[hotplug!(
            "losetup() { case $1 in /dev/loop*) false ;; *) command losetup \"$@\" ;; esac; }\n"
        )],
        expect: fail(
            Cause::DeviceNotAttached,
            Blame::Build,
            &["xvdb of g1: `xl` attaching it, in dom0, exited with"],
        ),
        ..ARM
    },
    Row {
        name: "disk-loop-left",
        what: "Xen's script does not take the loop device away when the disk is detached",
        scenario: DISK,
        mutations: &[hotplug!("losetup() { [ \"$1\" = -d ] || command losetup \"$@\"; }\n")],
        expect: fail(Cause::GuestLeak, Blame::Build, &["of xvdb of g1 is left in dom0: `/dev/loop"]),
        ..ARM
    },
    Row {
        name: "bridge-drops",
        what: "the bridge drops what a guest sends: its interface was never added to it",
        scenario: devices!("vifs: {net0: xenbr0}", "  - device: {transfer: g1, vif: net0}\n"),
        mutations: &[hotplug!("brctl() { :; }\n")],
        expect: fail(Cause::DeviceData, Blame::Xen, &["does not answer to ping"]),
        ..DEVICE
    },
    Row {
        name: "memory-stays",
        what: "the guest's kernel has no balloon, and is to give memory back",
        scenario: devices!(
            "args: ['initcall_blacklist=balloon_init']",
            "  - device: {resize: g1, memory: 112M}\n"
        ),
        archs: &[Arch::X86_64],
        expect: fail(Cause::DeviceState, Blame::Xen, &["was to have 112 MiB"]),
        ..DEVICE
    },
    Row {
        name: "memory-set-aborts",
        what: "a defect of Xen's own, seen in 4.17 and 4.20: xl aborts for an Arm guest that says nothing of ACPI",
        scenario: devices!("vcpus: 1", "  - device: {resize: g1, memory: 112M}\n"),
        expect: fail(
            Cause::DeviceState,
            Blame::Xen,
            &["g1: `xl mem-set`, in dom0, exited with 134", "libxl_defbool_val: Assertion"],
        ),
        ..ARM
    },
    Row {
        name: "vcpus-stay",
        what: "the guest's kernel does not hear that a processor is to go",
        scenario: devices!(
            "vcpus: 2, args: ['initcall_blacklist=setup_vcpu_hotplug_event']",
            "  - device: {resize: g1, vcpus: 1}\n"
        ),
        expect: fail(Cause::DeviceState, Blame::Xen, &["was to have 1"]),
        ..ARM
    },
    Row {
        name: "device-interface-left",
        what: "a network interface and a process are left of a guest's devices",
        scenario: devices!(
            "disks: {xvda: phy}",
            "  - domain: {destroy: g1}\n  - run: 'modprobe bridge; /xenlab/busybox brctl addbr vif9.9'\n  - run: 'printf \"#!/bin/sh\\nwhile :; do sleep 5; done\\n\" >/tmp/qemu-left && chmod +x /tmp/qemu-left && { /tmp/qemu-left >/dev/null 2>&1 & }'\n  - leaks: {}\n"
        ),
        expect: fail(
            Cause::GuestLeak,
            Blame::Build,
            &["network interfaces are left behind: `vif9.9`", "processes are left behind: `qemu-left`"],
        ),
        ..ARM
    },
];
