//! Runs that are unusual and good: nothing may be said against them.

use super::super::{Break, Expect, Liar, Mutation, Row, Shell};
use super::{BOOTED, X86};
use xenlab_model::verdict::Verdict;

const GOOD: Row = Row { artefact: "nothing", ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "good-xenstored",
        what: "the store daemon in C was asked for, and runs",
        scenario: booted!(
            "
  - xenstored: {daemon: xenstored, self-test: true}
"
        ),
        sets: &["dom0.xenstored=xenstored"],
        ..GOOD
    },
    Row {
        name: "good-oxenstored",
        what: "the store daemon in OCaml was asked for, and runs",
        scenario: booted!(
            "
  - xenstored: {daemon: oxenstored, self-test: true}
"
        ),
        sets: &["dom0.xenstored=oxenstored"],
        ..GOOD
    },
    Row {
        name: "good-by-serial-alone",
        what: "everything goes over dom0's console",
        sets: &["dom0.via=serial"],
        ..GOOD
    },
    Row { name: "good-by-ssh-alone", what: "everything goes over SSH", sets: &["dom0.via=ssh"], ..GOOD },
    Row {
        name: "good-one-processor",
        what: "the machine has one processor",
        sets: &["machine.cpus=1"],
        ..GOOD
    },
    Row {
        name: "good-more-memory",
        what: "dom0 has more memory than usual",
        sets: &["dom0.memory=768M"],
        ..GOOD
    },
    Row {
        name: "good-other-memory",
        what: "dom0 and machine have other sizes than usual",
        sets: &["dom0.memory=384M", "machine.memory=1536M", "dom0.vcpus=1"],
        ..GOOD
    },
    Row {
        name: "good-talkative",
        what: "Xen and dom0's kernel say all they can",
        sets: &[
            "dom0.args=[loglevel=8, initcall_debug]",
            "xen.args=[bootscrub=0, loglvl=all, guest_loglvl=all]",
        ],
        ..GOOD
    },
    Row { name: "good-quiet", what: "dom0's kernel says nothing", sets: &["dom0.args=[quiet]"], ..GOOD },
    Row {
        name: "good-unpacked",
        what: "the hypervisor is the ELF out of its xen.gz",
        archs: X86,
        mutations: &[Mutation::Image(Break::Unpacked)],
        ..GOOD
    },
    Row {
        name: "good-trixie",
        what: "another Xen, kernel and userland",
        sets: &["xen.build=debian:trixie"],
        ..GOOD
    },
    Row {
        name: "good-exit-status",
        what: "a command fails as it should, with words of its own on each output",
        scenario: booted!(
            "
  - run: {script: 'echo out; echo err >&2; exit 3', via: [port, ssh, serial], exit: 3, stdout: out, stderr: err}
"
        ),
        ..GOOD
    },
    Row {
        name: "good-much-output",
        what: "a command writes thousands of lines, the last of which counts",
        scenario: booted!(
            "
  - run: {script: 'seq 1 4000; echo the end', via: [port, ssh], stdout: {matches: '4000\\nthe end$'}}
"
        ),
        ..GOOD
    },
    Row {
        name: "good-files",
        what: "files are there as they should be, and one is not there that should not be",
        scenario: booted!(
            "
  - file: {path: /nowhere, present: false}
  - file: {path: /dev/null, type: character, mode: 666}
  - file: {path: /proc/self, type: link, target: {matches: '^[0-9]+$'}}
"
        ),
        ..GOOD
    },
    Row {
        name: "good-slow-shell",
        what: "each command over SSH begins late, and the shell on the console comes late",
        artefact: "dom0's shells",
        scenario: booted!(
            "
  - run: {script: 'xl list', via: [ssh, serial], stdout: {contains: Domain-0}}
"
        ),
        mutations: &[Mutation::Shell(Shell::Slow)],
        ..GOOD
    },
    Row {
        name: "good-after-many-words",
        what: "dom0's init writes the very words that the lab waits for, and then boots as it should",
        artefact: "dom0's init",
        mutations: &[Mutation::Init(Liar::SaysAllAndBoots)],
        scenario: booted!(
            "
  - phase: dom0-ready
  - console: {of: dom0, lacks: [panic]}
  - under-xen: {}
  - xl-info: {}
"
        ),
        ..GOOD
    },
    Row {
        name: "good-flood",
        what: "dom0 writes more on its console than the lab keeps before it is ready",
        artefact: "dom0's init",
        mutations: &[Mutation::Init(Liar::Floods)],
        ..GOOD
    },
    Row {
        name: "good-store-entry-damaged",
        what: "an entry of the store has other bytes than it was published with: it is noticed, and made again",
        artefact: "the store",
        mutations: &[Mutation::StoreEntry],
        expect: Expect {
            says: &["was damaged", "made again"],
            verdict: Verdict::Pass,
            cause: None,
            blame: None,
            steps: &[],
        },
        ..GOOD
    },
];
