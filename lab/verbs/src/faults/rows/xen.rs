//! The hypervisor: its image, its version, whose it is.

use super::super::{Break, Cut, Mutation, Row};
use super::{BOOTED, READY, X86, fail};
use xenlab_model::cause::{Blame, Cause};

const IMAGE: Row = Row { artefact: "the hypervisor's image", scenario: READY, ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "xen-truncated",
        what: "the second half of Xen's image is missing",
        mutations: &[Mutation::Image(Break::Cut(Cut::Half))],
        expect: fail(Cause::ImageTruncated, Blame::Build, &[]),
        ..IMAGE
    },
    Row {
        name: "xen-truncated-last-byte",
        what: "the last byte of Xen's image is missing, as when a copy was cut off at its very end",
        mutations: &[Mutation::Image(Break::Cut(Cut::LastByte))],
        expect: fail(Cause::ImageTruncated, Blame::Build, &[]),
        ..IMAGE
    },
    Row {
        name: "xen-truncated-elf",
        what: "the second half of the ELF inside xen.gz is missing",
        archs: X86,
        mutations: &[Mutation::Image(Break::CutUnpacked(Cut::Half))],
        expect: fail(Cause::ImageTruncated, Blame::Build, &[]),
        ..IMAGE
    },
    Row {
        name: "xen-truncated-header",
        what: "nothing but the first 1000 bytes of Xen's image is left",
        mutations: &[Mutation::Image(Break::Cut(Cut::After(1000)))],
        expect: fail(Cause::ImageTruncated, Blame::Build, &[]),
        ..IMAGE
    },
    Row {
        name: "xen-other-architecture",
        what: "Xen's image is one for the other architecture",
        mutations: &[Mutation::Image(Break::OtherArchitecture)],
        expect: fail(Cause::WrongArchitecture, Blame::Build, &[]),
        ..IMAGE
    },
    Row {
        name: "xen-panics",
        what: "an instruction of Xen's start-up is one that no processor has",
        mutations: &[Mutation::Image(Break::Undefined)],
        expect: fail(Cause::XenPanic, Blame::Xen, &["boots in this very machine"]),
        ..IMAGE
    },
    Row {
        name: "xen-page-fault",
        what: "Xen's start-up reads where nothing is mapped",
        mutations: &[Mutation::Image(Break::Fault)],
        expect: fail(Cause::XenPageFault, Blame::Xen, &["page fault", "boots in this very machine"]),
        archs: X86,
        ..IMAGE
    },
    Row {
        name: "xen-data-abort",
        what: "Xen's start-up reads where nothing is mapped",
        mutations: &[Mutation::Image(Break::Fault)],
        expect: fail(Cause::XenPageFault, Blame::Xen, &["data abort", "boots in this very machine"]),
        archs: &[xenlab_model::Arch::Aarch64],
        ..IMAGE
    },
    Row {
        name: "xen-asked-for-pvh",
        what: "Xen is to make dom0 a PVH domain, and the machine has no IOMMU",
        artefact: "the scenario",
        archs: X86,
        sets: &["xen.args=[spec-ctrl=no,dom0=pvh]"],
        expect: fail(Cause::XenIommu, Blame::Scenario, &["Presently, iommu must be enabled"]),
        ..IMAGE
    },
    Row {
        name: "xen-memory",
        what: "Xen is told to use less memory than it takes to start",
        artefact: "the scenario",
        archs: X86,
        sets: &["xen.args=[spec-ctrl=no,mem=64M]"],
        expect: fail(Cause::XenMemory, Blame::Scenario, &["Not enough memory to relocate Xen"]),
        ..IMAGE
    },
    Row {
        name: "version-one-digit-off",
        what: "the scenario declares a version that is one digit off",
        artefact: "the declared version",
        scenario: "\
xenlab: 1
name: planted
machine: {accel: tcg}
xen:
  build: debian:bookworm
  args: [bootscrub=0]
  expect-version: 4.18.7
dom0: {userland: minimal, memory: 512M}
steps:
  - xl-info: {}
",
        expect: fail(
            Cause::VersionMismatch,
            Blame::Build,
            // What was declared, what the image carries, what runs; and where in the file that was declared.
            &[
                "declared 4.18.7 (by expect-version)",
                "carried 4.17.",
                "seen 4.17.",
                "version-one-digit-off.yaml:7:19",
            ],
        ),
        ..BOOTED
    },
    Row {
        name: "version-agreed-upon",
        what: "what the image carries and what xl info says agree with each other, and not with what is declared",
        mutations: &[Mutation::Image(Break::OtherVersion)],
        scenario: BOOTED.scenario,
        expect: fail(Cause::VersionMismatch, Blame::Build, &["the recorded table for Debian's"]),
        ..IMAGE
    },
    Row {
        name: "version-runs-another",
        what: "another version runs than the image carries, with the same build-id",
        mutations: &[Mutation::Swapped(Break::OtherVersion)],
        scenario: BOOTED.scenario,
        expect: fail(Cause::VersionMismatch, Blame::Build, &["the running Xen is the image under test"]),
        ..IMAGE
    },
    Row {
        name: "same-version-other-build",
        what: "the Xen that runs says the right version and is another build",
        mutations: &[Mutation::Swapped(Break::OtherBuildId)],
        scenario: BOOTED.scenario,
        expect: fail(Cause::BuildIdMismatch, Blame::Build, &["version: all agree"]),
        ..IMAGE
    },
];
