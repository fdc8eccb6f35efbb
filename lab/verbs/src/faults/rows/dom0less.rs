//! Domains that Xen makes by itself: the device tree is wrong, or the domain is.
//!
//! Each machine of theirs boots from power-on, so faults of domains share one. What Xen says of a domain that is too large is in a recorded
//! console.

use super::super::{Mutation, Row, Tree};
use super::{BOOTED, fail};
use xenlab_model::Arch;
use xenlab_model::cause::{Blame, Cause};

/// A scenario with these domains, and these steps.
macro_rules! dom0less {
    ($guests:literal, $steps:literal) => {
        concat!(
            "xenlab: 1\nname: planted\nmachine: {accel: tcg}\n",
            "xen: {build: debian:bookworm, args: [bootscrub=0]}\ndom0: {userland: minimal, memory: 512M}\n",
            "guests:\n",
            $guests,
            "steps:\n",
            $steps
        )
    };
}

const DOM0LESS: Row = Row { artefact: "a domain that Xen makes", archs: &[Arch::Aarch64], ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "dom0less-broken",
        what: "of the domains that Xen is to make one panics, one never says a word, and one has no node in the device tree",
        // The one that panics ends, and leaves the processors to the others.
        scenario: dom0less!(
            "  panics: {start: xen, memory: 96M, args: [rdinit=/nowhere, panic=-1]}\n\
             \x20 silent: {start: xen, memory: 128M, args: [rdinit=/bin/sleep, '--', '1000']}\n\
             \x20 without: {start: xen, memory: 96M}\n",
            "  - domain: {says: without}\n  - domain: {says: panics}\n  - domain: {says: silent}\n    within: 4s\n"
        ),
        mutations: &[Mutation::Tree(Tree::NoNode)],
        fails_without: true,
        // The cause stands before the words in a check, and each domain has its own.
        expect: fail(
            Cause::GuestNotCreated,
            Blame::Build,
            &[
                "Xen was to make without when it booted, and `xl list` has no domain 3",
                r#""cause":"guest.no-root","message":"panics panicked: `VFS: "#,
                r#""cause":"guest.silent","message":"silent did not say that it is up within 4 s"#,
                "it wrote nothing to its console",
            ],
        ),
        ..DOM0LESS
    },
    Row {
        name: "dom0less-kernel-elsewhere",
        what: "the device tree says that the domain's kernel is where nothing is",
        scenario: dom0less!(
            "  d1: {start: xen, memory: 96M, vcpus: 2}\n",
            "  - domain: {says: d1}\n    within: 60s\n"
        ),
        mutations: &[Mutation::Tree(Tree::KernelElsewhere)],
        expect: fail(Cause::GuestNotCreated, Blame::Build, &["Could not set up domain d1"]),
        ..DOM0LESS
    },
];
