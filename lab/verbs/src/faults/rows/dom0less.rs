//! Domains that Xen makes by itself: the device tree is wrong, or the domain is.

use super::super::{Mutation, Row, Tree};
use super::{BOOTED, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};

/// A domain that Xen makes. What Xen says of one that is too large is in a recorded console, one that panics in the tests of the step.
const SCENARIO: &str = "\
xenlab: 1
name: planted
machine: {accel: tcg}
xen: {build: debian:bookworm, args: [bootscrub=0]}
dom0: {userland: minimal, memory: 512M}
guests: {d1: {start: xen, memory: 128M}}
steps:
  - domain: {says: d1}
    within: 60s
";

const DOM0LESS: Row = Row { artefact: "a domain that Xen makes", archs: &[Arch::Aarch64], ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "dom0less-no-domain",
        what: "the device tree's node is not one that Xen takes for a domain",
        scenario: SCENARIO,
        mutations: &[Mutation::Tree(Tree::NoDomain)],
        expect: fail(
            Cause::GuestNotCreated,
            Blame::Build,
            &["Xen was to make d1 when it booted, and `xl list` has no domain 1"],
        ),
        ..DOM0LESS
    },
    Row {
        name: "dom0less-kernel-elsewhere",
        what: "the device tree says that the domain's kernel is where nothing is",
        scenario: SCENARIO,
        mutations: &[Mutation::Tree(Tree::KernelElsewhere)],
        expect: fail(Cause::GuestNotCreated, Blame::Build, &["Could not set up domain d1"]),
        ..DOM0LESS
    },
];
