//! The rows, by the artefact that is broken.

/// A scenario of these steps, on a machine that is like all others.
macro_rules! booted {
    ($steps:literal) => {
        concat!(
            "xenlab: 1\nname: planted\nmachine: {accel: tcg}\n",
            "xen: {build: debian:bookworm, args: [bootscrub=0]}\ndom0: {userland: minimal, memory: 512M}\n",
            "overrides:\n  - when: {arch: x86_64}\n    add: {xen.args: [spec-ctrl=no]}\n",
            "steps:",
            $steps
        )
    };
}

mod boot;
mod build;
mod devices;
mod dom0;
mod dom0less;
mod good;
mod guests;
mod machine;
mod store;
mod vchan;
mod xen;

use super::{Expect, Row};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// Every row.
pub const ROWS: &[Row] = &concat();

const PARTS: [&[Row]; 11] = [
    xen::ROWS,
    boot::ROWS,
    build::ROWS,
    dom0::ROWS,
    machine::ROWS,
    good::ROWS,
    guests::ROWS,
    devices::ROWS,
    store::ROWS,
    vchan::ROWS,
    dom0less::ROWS,
];

const COUNT: usize = {
    let (mut n, mut part) = (0, 0);
    while part < PARTS.len() {
        n += PARTS[part].len();
        part += 1;
    }
    n
};

const fn concat() -> [Row; COUNT] {
    let mut all = [BOOTED; COUNT];
    let (mut n, mut part) = (0, 0);
    while part < PARTS.len() {
        let mut row = 0;
        while row < PARTS[part].len() {
            all[n] = PARTS[part][row];
            n += 1;
            row += 1;
        }
        part += 1;
    }
    all
}

const BOTH: &[Arch] = &[Arch::X86_64, Arch::Aarch64];
const X86: &[Arch] = &[Arch::X86_64];

/// What a fault is judged by where it needs nothing of its own: the version rule, the store, a command by each way in.
const SCENARIO: &str = booted!(
    "
  - phase: dom0-ready
  - console: {of: xen, has: ['Xen version [0-9]'], lacks: [panic]}
  - under-xen: {}
  - xl-info: {xen_caps: {contains: 'xen-3.0-${arch}'}}
  - xenstored: any
  - process: [xenconsoled]
  - service: {active: [xen]}
"
);

/// What the build's files are judged by; nothing boots.
const FILES: &str = "\
xenlab: 1
name: planted
machine: {accel: tcg}
xen: debian:bookworm
dom0: {userland: minimal}
steps:
  - pkg-config: {modules: all, compile: true}
";

/// That dom0 becomes ready, and no more.
const READY: &str = booted!("\n  - phase: dom0-ready\n");

/// A row to begin with.
const BOOTED: Row = Row {
    name: "",
    what: "",
    artefact: "",
    archs: BOTH,
    scenario: SCENARIO,
    sets: &[],
    mutations: &[],
    only: None,
    fails_without: false,
    expect: Expect { verdict: Verdict::Pass, cause: None, blame: None, says: &[], steps: &[] },
};

const fn fail(cause: Cause, blame: Blame, says: &'static [&'static str]) -> Expect {
    Expect { verdict: Verdict::Fail, cause: Some(cause), blame: Some(blame), says, steps: &[] }
}

const fn error(cause: Cause, blame: Blame, says: &'static [&'static str]) -> Expect {
    Expect { verdict: Verdict::Error, cause: Some(cause), blame: Some(blame), says, steps: &[] }
}
