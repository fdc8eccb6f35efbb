//! The store: what a guest publishes is not what its agent should, and what the daemon answers is changed on its way.

use super::super::{Expect, Row};
use super::{BOOTED, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// Every fault in one machine, since a guest takes longer to come up than the rest does. The last step cuts the guest off from the store.
const BROKEN: &str = r#"
xenlab: 1
name: planted
machine: {accel: tcg, start: power-on}
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
    within: 2s
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

pub(super) const ROWS: &[Row] = &[Row {
    name: "store-and-agent-broken",
    what: "what a guest publishes has a wrong value and lacks a node; what the store answers is changed on its way",
    artefact: "what is published in the store, and the connections to it",
    archs: &[Arch::Aarch64],
    scenario: BROKEN,
    sets: &["dom0.xenstored=xenstored"],
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
}];
