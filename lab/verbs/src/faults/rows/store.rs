//! The store: a daemon that answers wrongly, that never sends an event, that does not look at permissions or quotas; guests that publish wrongly.

use super::super::{Expect, Mutation, Row, ToolsFault};
use super::{BOOTED, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// A guest of the lab's own, up, and these steps.
macro_rules! with_guest {
    ($guest:literal, $steps:literal) => {
        concat!(
            "xenlab: 1\nname: planted\nmachine: {accel: tcg}\n",
            "xen: {build: debian:bookworm, args: [bootscrub=0]}\ndom0: {userland: minimal, memory: 512M}\n",
            "guests: {g1: ",
            $guest,
            "}\nsteps:\n  - domain: {create: g1}\n  - domain: {says: g1}\n    within: 60s\n",
            $steps
        )
    };
}

const TRACE: &str = with_guest!("{memory: 96M}", "  - store: {play: trace, guest: g1}\n    within: 120s\n");

/// Every fault in one machine, since a guest takes longer to come up than the rest does. The last step cuts the guest off from the store.
const BROKEN: &str = r#"
xenlab: 1
name: planted
machine: {accel: tcg}
xen: {build: debian:bookworm, args: [bootscrub=0]}
dom0: {userland: minimal, memory: 512M}
guests: {g1: {memory: 96M}}
steps:
  - domain: {create: g1}
  - domain: {says: g1}
    within: 60s
  - domain:
      run: g1
      script: |
        a=attr/PVAddons
        store write $a/MajorVersion 1 && store write $a/MinorVersion 0 && store write $a/MicroVersion 0 &&
        store write $a/BuildVersion proto-0.4.0 && store write data/os_distro Linux && store write data/os_name 'Linux 6.1' &&
        store write data/os_uname $(uname -r) && store write data/meminfo_total 90000 && store write data/meminfo_free 50000
  - name: what it is to publish
    agent: {contract: xen-guest-agent, guest: g1}
    within: 10s
  - domain: {run: g1, script: store write attr/PVAddons/MicroVersion x && store rm data/os_name}
  - name: a wrong value and a node too few
    agent: {contract: xen-guest-agent, guest: g1}
    within: 3s
  - run: |
      p=$(command -v nc.openbsd) && cp "$p" /run/nc && printf '#!/bin/sh\n/run/nc "$@" | tr I J\n' >"$p"
  - name: other answers
    store: trace
    within: 60s
  - run: cp /run/nc "$(command -v nc.openbsd)"
  - name: nothing is wrong
    store: {play: trace, guest: g1}
    within: 60s
"#;

/// What is the same on both architectures is tried where a guest is there sooner.
const STORE: Row =
    Row { artefact: "dom0's store daemon", archs: &[Arch::Aarch64], scenario: TRACE, ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "store-answers-wrongly",
        what: "the store daemon says another error for a conflict, and calls an event by another name, so that it is never sent",
        sets: &["dom0.xenstored=xenstored"],
        mutations: &[Mutation::Tools(ToolsFault::Words {
            program: "xenstored",
            words: &[("EAGAIN", "EAGAIM"), ("@releaseDomain", "@releaseDomaim")],
        })],
        expect: fail(
            Cause::StoreAnswer,
            Blame::Build,
            &["tx-conflict", "error EAGAIM", "go-event", "no `@releaseDomain|gone`"],
        ),
        ..STORE
    },
    Row {
        name: "store-without-permissions",
        what: "the store daemon looks at neither permissions nor quotas",
        sets: &["dom0.xenstored=oxenstored"],
        mutations: &[Mutation::File(
            "/etc/xen/oxenstored.conf",
            0o644,
            "perms-activate = false\nquota-activate = false\n",
        )],
        expect: fail(Cause::StoreAnswer, Blame::Build, &["guest-reads-secret", "quota-size"]),
        ..STORE
    },
    Row {
        name: "store-and-agent-broken",
        what: "what a guest publishes has a wrong value and lacks a node; what the store answers is changed on its way",
        artefact: "what is published in the store, and the connections to it",
        archs: &[Arch::Aarch64],
        scenario: BROKEN,
        sets: &["dom0.xenstored=oxenstored"],
        expect: Expect {
            steps: &[
                ("what it is to publish", Verdict::Pass),
                ("a wrong value and a node too few", Verdict::Fail),
                ("other answers", Verdict::Fail),
                ("nothing is wrong", Verdict::Pass),
            ],
            ..fail(
                Cause::AgentValue,
                Blame::Scenario,
                &[
                    "MicroVersion is `x`",
                    "did not publish data/os_name",
                    "tx-conflict (`TRANSACTION_END T|` by a, transaction T3) got the error EAGAJN",
                    "if there were any other intervening writes",
                ],
            )
        },
        ..BOOTED
    },
];
