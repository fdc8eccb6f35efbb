//! Channels between domains: the proxy in dom0 is another one than it should be, a different one for each step.

use super::super::Row;
use super::{BOOTED, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};
use xenlab_model::verdict::Verdict;

/// Every fault in one machine, since a guest takes longer to come up than a channel does. `/run/fault` is what the proxy in dom0 does; the
/// guest has the real one.
const SCENARIO: &str = r#"
xenlab: 1
name: planted
machine: {accel: tcg}
xen: {build: debian:bookworm, args: [bootscrub=0]}
dom0: {userland: minimal, memory: 512M}
guests: {g1: {programs: [vchan-socket-proxy]}}
steps:
  - domain: {create: g1}
  - domain: {says: g1}
    within: 60s
  - run: |
      p=$(command -v vchan-socket-proxy) && cp "$p" /run/proxy && cp "$p" /run/kept &&
      printf '#!/bin/sh\n. /run/fault\n' >"$p" && echo '/run/proxy "$@"' >/run/fault
  - name: nothing is wrong
    vchan: {server: dom0, client: g1}
  - run: echo '{ dd bs=1 count=4 of=/dev/null 2>/dev/null; printf XXXX; cat; } | /run/proxy "$@"' >/run/fault
  - name: other bytes
    vchan: {server: dom0, client: g1}
    within: 20s
  - run: echo '{ head -c 4096; sleep 60; } | /run/proxy "$@"' >/run/fault
  - name: sends too little
    vchan: {server: dom0, client: g1}
    within: 20s
  - run: echo '/run/proxy "$@"; sleep 60' >/run/fault
  - name: sees no end
    vchan: {server: dom0, client: g1, kill: client}
    within: 15s
  - run: echo '/run/proxy "$@"; xenstore-write "$3/left" behind' >/run/fault
  - name: leaves its node
    vchan: {server: dom0, client: g1}
    within: 20s
  - run: echo 'sleep 60' >/run/fault
  - name: offers nothing
    vchan: {server: dom0, client: g1}
    within: 15s
  - run: rm "$(command -v vchan-socket-proxy)"
  - name: is not there
    vchan: {server: g1, client: dom0}
    within: 20s
"#;

pub(super) const ROWS: &[Row] = &[Row {
    name: "vchan-broken",
    what: "an end of a vchan sends other bytes, sends too little, sees no end, leaves its node, offers nothing, is not there",
    artefact: "the proxy at an end of a vchan",
    archs: &[Arch::Aarch64],
    scenario: SCENARIO,
    expect: super::super::Expect {
        steps: &[
            ("nothing is wrong", Verdict::Pass),
            ("other bytes", Verdict::Fail),
            ("sends too little", Verdict::Fail),
            ("sees no end", Verdict::Fail),
            ("leaves its node", Verdict::Fail),
            ("offers nothing", Verdict::Fail),
            ("is not there", Verdict::Fail),
        ],
        ..fail(
            Cause::VchanData,
            Blame::Xen,
            &[
                "is not what the server in dom0 sent",
                "the server in dom0 sent 131072 bytes, the client in g1 received 4096",
                "the server in dom0 had not seen it",
                "has ended and /local/domain/0/vchan-",
                "was to put `ring-ref` and `event-channel` into",
                "the client in dom0 ended, with status 127",
            ],
        )
    },
    ..BOOTED
}];
