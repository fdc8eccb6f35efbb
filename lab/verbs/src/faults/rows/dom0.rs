//! dom0: its memory, kernel, initramfs, disks, init, store, services and ways in.

use super::super::{Expect, Liar, Mutation, Row, Shell};
use super::{BOOTED, READY, X86, error, fail};
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// Steps that name no way in, and one command by each that lives, within a limit that leaves nothing for a port that takes long to be
/// given up.
const WAYS: &str = booted!(
    "
  - phase: dom0-ready
  - under-xen: {}
  - name: asked
    run: {script: xl list, stdout: {contains: Domain-0}}
    within: 6s
  - name: asked over the others
    run: {script: xl list, via: [ssh, serial], stdout: {contains: Domain-0}}
"
);

/// The same by each way, the lab's own first.
const EACH_WAY: &str = booted!(
    "
  - name: asked by each way
    run: {script: xl list, via: [port, ssh, serial], stdout: {contains: Domain-0}}
    within: 12s
  - name: asked
    run: {script: xl list, stdout: {contains: Domain-0}}
    within: 6s
  - under-xen: {}
"
);

const WELL: Expect = Expect { verdict: Verdict::Pass, cause: None, blame: None, says: &[], steps: &[] };

const DOM0: Row = Row { artefact: "dom0", scenario: READY, ..BOOTED };
const INIT: Row = Row { artefact: "dom0's init", scenario: READY, ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "dom0-memory-for-nothing",
        what: "dom0 has less memory than its kernel takes",
        artefact: "the scenario",
        sets: &["dom0.memory=32M"],
        expect: fail(Cause::Dom0Memory, Blame::Scenario, &[]),
        ..DOM0
    },
    Row {
        name: "dom0-memory-for-the-kernel",
        what: "dom0 has memory for its kernel and not for its userland",
        artefact: "the scenario",
        archs: X86,
        sets: &["dom0.memory=88M"],
        expect: fail(Cause::Dom0Memory, Blame::Scenario, &[]),
        ..DOM0
    },
    Row {
        name: "dom0-init-ends",
        what: "the first program in dom0 ends at once",
        artefact: "the scenario",
        sets: &["dom0.args=[rdinit=/bin/busybox]"],
        expect: fail(Cause::Dom0InitDied, Blame::Dom0, &["Attempted to kill init!"]),
        ..DOM0
    },
    Row {
        name: "dom0-asked-to-crash",
        what: "a step has dom0's kernel crash by SysRq",
        artefact: "the scenario",
        scenario: booted!("\n  - run: 'echo c > /proc/sysrq-trigger'\n"),
        expect: fail(Cause::Dom0AskedToCrash, Blame::Scenario, &["sysrq triggered crash"]),
        ..DOM0
    },
    Row {
        name: "initramfs-missing",
        what: "dom0's kernel is given no initramfs",
        artefact: "dom0's initramfs",
        mutations: &[Mutation::NoInitramfs],
        expect: fail(Cause::Dom0NoInitramfs, Blame::Dom0, &[]),
        ..DOM0
    },
    Row {
        name: "initramfs-cut",
        what: "dom0's initramfs ends in its middle",
        artefact: "dom0's initramfs",
        sets: &["limits.boot=15s"],
        mutations: &[Mutation::CutInitramfs],
        expect: fail(Cause::Dom0NoInitramfs, Blame::Dom0, &[]),
        ..DOM0
    },
    Row {
        name: "root-disk-missing",
        what: "the machine has none of dom0's disks",
        artefact: "dom0's disks",
        mutations: &[Mutation::NoDisks],
        expect: fail(Cause::Dom0NoRoot, Blame::Dom0, &["vda"]),
        ..DOM0
    },
    Row {
        name: "linux-without-xen",
        what: "dom0's kernel and userland run on the bare machine",
        artefact: "the machine",
        mutations: &[Mutation::NoXen],
        expect: fail(Cause::Dom0NotUnderXen, Blame::Dom0, &[]),
        ..DOM0
    },
    Row {
        name: "linux-that-pretends-xen",
        what: "a bare Linux writes what Xen writes, and says that it is ready with the case's own nonce",
        artefact: "the machine",
        scenario: "\
xenlab: 1
name: planted
machine: {accel: tcg}
xen: debian:bookworm
dom0: {userland: minimal, memory: 512M}
steps:
  - phase: dom0-ready
  - under-xen: {}
  - xl-info: {}
",
        mutations: &[Mutation::NoXen, Mutation::Init(Liar::PretendsXen)],
        expect: Expect {
            steps: &[("phase", Verdict::Pass), ("under-xen", Verdict::Fail), ("xl-info", Verdict::Fail)],
            ..fail(Cause::Dom0NotUnderXen, Blame::Dom0, &[])
        },
        ..DOM0
    },
    Row {
        name: "xenstored-absent",
        what: "no store daemon is started",
        artefact: "dom0's store",
        sets: &["dom0.xenstored=none"],
        expect: fail(Cause::StoreAbsent, Blame::Dom0, &[]),
        ..DOM0
    },
    Row {
        name: "xenstored-the-other-one",
        what: "the other store daemon runs than the one asked for",
        artefact: "dom0's store",
        scenario: booted!(
            "
  - xenstored: xenstored
  - under-xen: {}
"
        ),
        sets: &["dom0.xenstored=oxenstored"],
        expect: Expect {
            steps: &[("under-xen", Verdict::Pass)],
            ..fail(Cause::StoreWrongDaemon, Blame::Dom0, &["oxenstored"])
        },
        ..DOM0
    },
    Row {
        name: "init-says-all-and-hangs",
        what: "dom0's init writes the very words that the lab waits for, without the nonce, and does no more",
        sets: &["limits.boot=15s"],
        mutations: &[Mutation::Init(Liar::SaysAllAndHangs)],
        expect: fail(Cause::Dom0NotReady, Blame::Dom0, &["dom0-kernel"]),
        ..INIT
    },
    Row {
        name: "console-falls-silent",
        what: "dom0's init begins, and nothing more is heard",
        sets: &["limits.boot=15s"],
        mutations: &[Mutation::Init(Liar::HangsAfterInit)],
        expect: fail(Cause::Dom0NotReady, Blame::Dom0, &["dom0-init"]),
        ..INIT
    },
    Row {
        name: "console-to-nowhere",
        what: "dom0 is well and writes nothing on its console",
        sets: &["limits.boot=15s"],
        mutations: &[Mutation::Init(Liar::ConsoleToNull)],
        expect: fail(Cause::Dom0NotReady, Blame::Dom0, &[]),
        ..INIT
    },
    Row {
        name: "ssh-dead-serial-lives",
        what: "dom0 has no SSH server, and its console lives",
        scenario: booted!(
            "
  - name: asked over SSH
    run: {script: xl list, via: ssh}
    within: 4s
  - name: asked over the console
    run: {script: xl list, via: serial}
  - name: asked by a way of the lab's choice
    run: {script: xl list, stdout: {contains: Domain-0}}
    within: 6s
  - under-xen: {}
"
        ),
        mutations: &[Mutation::Init(Liar::NoSsh)],
        expect: Expect {
            steps: &[
                ("asked over SSH", Verdict::Fail),
                ("asked over the console", Verdict::Pass),
                ("asked by a way of the lab's choice", Verdict::Pass),
                ("under-xen", Verdict::Pass),
            ],
            ..fail(Cause::SshDead, Blame::Dom0, &[])
        },
        ..INIT
    },
    Row {
        name: "serial-alone-lives",
        what: "dom0 has no SSH server, nobody serves the lab's own port, and its console lives: the lab does with that",
        artefact: "dom0's shells",
        scenario: booted!(
            "
  - name: asked
    run: {script: xl list, stdout: {contains: Domain-0}}
    within: 6s
  - under-xen: {}
"
        ),
        mutations: &[Mutation::Init(Liar::NoSsh), Mutation::Shell(Shell::NoPort)],
        expect: Expect {
            says: &["SSH is used in its place", "the serial console is used in its place"],
            ..WELL
        },
        ..DOM0
    },
    Row {
        name: "port-missing",
        what: "nobody serves the lab's own port, and SSH lives: the lab does without",
        artefact: "dom0's shells",
        scenario: WAYS,
        mutations: &[Mutation::Shell(Shell::NoPort)],
        expect: Expect { says: &["SSH is used in its place"], ..WELL },
        ..DOM0
    },
    Row {
        name: "port-hangs",
        what: "who serves the lab's own port neither reads nor answers, and SSH lives: the lab does without",
        artefact: "dom0's shells",
        scenario: WAYS,
        mutations: &[Mutation::Shell(Shell::PortHangs)],
        expect: Expect { says: &["SSH is used in its place"], ..WELL },
        ..DOM0
    },
    Row {
        name: "port-asked-for-and-missing",
        what: "nobody serves the lab's own port, which a step asks for: the lab's fault, that takes no other way's time",
        artefact: "dom0's shells",
        scenario: EACH_WAY,
        mutations: &[Mutation::Shell(Shell::NoPort)],
        expect: Expect {
            steps: &[
                ("asked by each way", Verdict::Error),
                ("asked", Verdict::Pass),
                ("under-xen", Verdict::Pass),
            ],
            ..error(Cause::PortDead, Blame::Lab, &["over ssh it does"])
        },
        ..DOM0
    },
    Row {
        name: "port-asked-for-and-hangs",
        what: "who serves the lab's own port hangs, and a step asks for it: the lab's fault, that takes no other way's time",
        artefact: "dom0's shells",
        scenario: EACH_WAY,
        mutations: &[Mutation::Shell(Shell::PortHangs)],
        expect: Expect {
            steps: &[
                ("asked by each way", Verdict::Error),
                ("asked", Verdict::Pass),
                ("under-xen", Verdict::Pass),
            ],
            ..error(Cause::PortDead, Blame::Lab, &["over ssh it does"])
        },
        ..DOM0
    },
    Row {
        name: "service-that-does-not-exist",
        what: "a service that must run does not exist",
        artefact: "dom0's services",
        scenario: booted!(
            "
  - service: [no-such-service]
  - under-xen: {}
"
        ),
        expect: Expect {
            steps: &[("under-xen", Verdict::Pass)],
            ..fail(Cause::ServiceMissing, Blame::Dom0, &["no-such-service"])
        },
        ..DOM0
    },
    Row {
        name: "service-failed",
        what: "a service ended with a failure",
        artefact: "dom0's services",
        scenario: booted!(
            "
  - name: it has had its time to fail
    run: while grep -q '^ActiveState=active$' /run/xenlab/services/xenconsoled; do sleep 0.1; done
  - service: {active: [xen]}
  - name: none has failed
    service: {active: [xenstored], failed: []}
  - process: [xenconsoled]
  - xenstored: any
"
        ),
        mutations: &[Mutation::File(
            "/usr/lib/xen-4.17/bin/xenconsoled",
            0o755,
            "#!/bin/sh\necho broken >&2\nexit 7\n",
        )],
        // It waits for the service to fail.
        fails_without: true,
        expect: Expect {
            steps: &[
                ("service", Verdict::Fail),
                ("none has failed", Verdict::Fail),
                ("process", Verdict::Fail),
                ("xenstored", Verdict::Pass),
            ],
            ..fail(Cause::ServiceFailed, Blame::Dom0, &["xenconsoled"])
        },
        ..DOM0
    },
    Row {
        name: "process-missing",
        what: "a process that must run does not, and a file says its name",
        artefact: "dom0's processes",
        scenario: booted!(
            "
  - name: a process whose arguments have the name
    run: 'sh -c \"exec sleep 1000\" xendomainsd >/dev/null 2>&1 </dev/null &'
  - process: [xendomainsd]
"
        ),
        expect: fail(Cause::ProcessMissing, Blame::Dom0, &["xendomainsd"]),
        ..DOM0
    },
];
