//! What is not Xen's doing: QEMU, the host, the store, and inputs that change.

use super::super::{Break, Expect, Mutation, Row, Wrapper};
use super::{BOOTED, READY, error, fail};
use xenlab_model::cause::{Blame, Cause};

const QEMU: Row = Row { artefact: "QEMU", scenario: READY, ..BOOTED };

/// A Xen that is known to be good fared no better.
const HOST: Expect = error(Cause::ControlFailed, Blame::Host, &["known to be good"]);

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "qemu-exits",
        what: "QEMU ends before the machine is there",
        mutations: &[Mutation::Qemu(Wrapper::Exits)],
        expect: error(Cause::QemuRefused, Blame::Qemu, &["something is wrong here"]),
        ..QEMU
    },
    Row {
        name: "qemu-exits-well",
        what: "QEMU ends before the machine is there, and calls it a success",
        mutations: &[Mutation::Qemu(Wrapper::ExitsWell)],
        expect: error(Cause::QemuRefused, Blame::Qemu, &[]),
        ..QEMU
    },
    Row {
        name: "qemu-no-such-processor",
        what: "the scenario names a processor that QEMU does not know",
        artefact: "the scenario",
        sets: &["machine.cpu=pentium99"],
        expect: fail(Cause::QemuOption, Blame::Scenario, &["pentium99"]),
        ..QEMU
    },
    Row {
        name: "qemu-no-such-device",
        what: "the scenario names a device that QEMU does not know",
        artefact: "the scenario",
        sets: &["machine.devices=[no-such-device]"],
        expect: fail(Cause::QemuOption, Blame::Scenario, &["no-such-device"]),
        ..QEMU
    },
    Row {
        name: "qemu-wrong-processor",
        what: "QEMU is given a processor that cannot run Xen",
        sets: &["limits.boot=4s"],
        mutations: &[Mutation::Qemu(Wrapper::WrongProcessor)],
        expect: HOST,
        ..QEMU
    },
    Row {
        name: "qemu-drops-the-kernel",
        what: "QEMU is given no kernel",
        sets: &["limits.boot=4s"],
        mutations: &[Mutation::Qemu(Wrapper::DropsKernel)],
        expect: HOST,
        ..QEMU
    },
    Row {
        name: "qemu-drops-the-serial-port",
        what: "the machine has no serial port",
        sets: &["limits.boot=4s"],
        mutations: &[Mutation::Qemu(Wrapper::DropsSerial)],
        expect: HOST,
        ..QEMU
    },
    Row {
        name: "qemu-little-memory",
        what: "the machine has less memory than was asked for",
        mutations: &[Mutation::Qemu(Wrapper::LittleMemory)],
        expect: error(Cause::QemuRefused, Blame::Qemu, &["224 MiB"]),
        ..QEMU
    },
    Row {
        name: "qemu-killed-after-a-second",
        what: "QEMU is killed a second after its start",
        mutations: &[Mutation::Qemu(Wrapper::Kills(10))],
        expect: error(Cause::QemuKilled, Blame::Qemu, &[]),
        ..QEMU
    },
    Row {
        name: "qemu-stops",
        what: "QEMU's process is stopped a second after its start",
        sets: &["limits.boot=5s"],
        mutations: &[Mutation::Qemu(Wrapper::Stops)],
        expect: error(Cause::QemuProtocol, Blame::Qemu, &[]),
        ..QEMU
    },
    Row {
        name: "qemu-killed-in-one-case",
        what: "QEMU is killed in the middle of one case's boot; the other case goes on",
        scenario: booted!("\n  - phase: dom0-ready\n  - under-xen: {}\n"),
        // Two values for one path make an axis.
        sets: &["dom0.vcpus=1", "dom0.vcpus=2"],
        only: Some("dom0.vcpus=1"),
        mutations: &[Mutation::Qemu(Wrapper::Kills(18))],
        expect: error(Cause::QemuKilled, Blame::Qemu, &[]),
        ..QEMU
    },
    Row {
        name: "xen-console-off",
        what: "Xen was told to write nowhere",
        artefact: "the scenario",
        sets: &["limits.boot=8s", "xen.args=[console=none]"],
        expect: HOST,
        ..QEMU
    },
    Row {
        name: "input-changes-meanwhile",
        what: "the hypervisor's file is written again while its machine runs, and then something fails",
        artefact: "the hypervisor's image",
        scenario: booted!(
            "
  - run: 'exit 1'
"
        ),
        mutations: &[Mutation::Image(Break::Copied), Mutation::ChangedMeanwhile],
        fails_without: true,
        expect: error(Cause::InputChanged, Blame::Lab, &["xen"]),
        ..BOOTED
    },
];
