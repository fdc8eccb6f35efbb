//! Ways of booting: what firmware and boot loaders make of a Xen that is broken, and that they bring up a good one.

use super::super::{Break, Cut, Mutation, Row};
use super::{BOOTED, READY, X86, fail};
use xenlab_model::cause::{Blame, Cause};

const BIOS: Row = Row { archs: X86, sets: &["boot=bios"], ..BOOTED };
const UEFI: Row = Row { artefact: "Xen's EFI image", sets: &["boot=uefi"], ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row { name: "good-bios", what: "SeaBIOS and GRUB boot Xen", artefact: "nothing", ..BIOS },
    Row { name: "good-uefi", what: "EFI firmware boots Xen's EFI image", artefact: "nothing", ..UEFI },
    Row {
        name: "good-uefi-trixie",
        what: "EFI firmware boots another Xen's EFI image, with another kernel and userland",
        artefact: "nothing",
        sets: &["boot=uefi", "xen.build=debian:trixie"],
        ..UEFI
    },
    Row {
        name: "good-uefi-oxenstored",
        what: "EFI firmware boots Xen, and the store daemon in OCaml was asked for",
        artefact: "nothing",
        sets: &["boot=uefi", "dom0.xenstored=oxenstored"],
        ..UEFI
    },
    Row {
        name: "good-bios-unpacked",
        what: "GRUB boots the ELF out of xen.gz",
        artefact: "nothing",
        mutations: &[Mutation::Image(Break::Unpacked)],
        ..BIOS
    },
    Row {
        name: "good-uefi-unified",
        what: "EFI firmware boots one image with everything in it",
        artefact: "nothing",
        archs: X86,
        sets: &["boot=uefi-unified"],
        ..BOOTED
    },
    Row {
        name: "bios-no-multiboot-header",
        what: "Xen's image has no multiboot2 header",
        artefact: "the hypervisor's image",
        scenario: READY,
        mutations: &[Mutation::Image(Break::NoMultiboot)],
        expect: fail(
            Cause::BootRefused,
            Blame::Xen,
            &["no multiboot header found", "boots in this very machine"],
        ),
        ..BIOS
    },
    Row {
        name: "bios-xen-panics",
        what: "an instruction of Xen's start-up is one that no processor has, and GRUB boots it",
        artefact: "the hypervisor's image",
        scenario: READY,
        mutations: &[Mutation::Image(Break::Undefined)],
        expect: fail(Cause::XenPanic, Blame::Xen, &["boots in this very machine"]),
        ..BIOS
    },
    Row {
        name: "uefi-truncated",
        what: "the second half of Xen's EFI image is missing",
        scenario: READY,
        mutations: &[Mutation::Efi(Break::Cut(Cut::Half))],
        expect: fail(Cause::ImageTruncated, Blame::Build, &[]),
        ..UEFI
    },
    Row {
        name: "uefi-other-architecture",
        what: "Xen's EFI image is one for the other architecture",
        scenario: READY,
        mutations: &[Mutation::Efi(Break::OtherArchitecture)],
        expect: fail(Cause::WrongArchitecture, Blame::Build, &[]),
        ..UEFI
    },
    Row {
        name: "uefi-exception",
        what: "the first instruction of Xen's EFI image is one that no processor has",
        scenario: READY,
        mutations: &[Mutation::Efi(Break::Entry)],
        expect: fail(Cause::BootException, Blame::Xen, &["Exception", "boots in this very machine"]),
        ..UEFI
    },
    Row {
        name: "uefi-finds-no-kernel",
        what: "Xen's EFI loader looks for dom0's kernel under a name that its configuration has not",
        archs: X86,
        scenario: READY,
        mutations: &[Mutation::Efi(Break::OtherKey)],
        expect: fail(Cause::BootRefused, Blame::Xen, &["kernel specified", "boots in this very machine"]),
        ..UEFI
    },
    Row {
        name: "uefi-another-build",
        what: "the EFI image that runs is another build of the same version",
        mutations: &[Mutation::Swapped(Break::OtherBuildId)],
        expect: fail(Cause::BuildIdMismatch, Blame::Build, &["version: all agree"]),
        ..UEFI
    },
];
