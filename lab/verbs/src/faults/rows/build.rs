//! The build's other parts: tools, development files.

use super::super::{Dev, Mutation, Row, ToolsFault};
use super::{BOOTED, FILES, READY, fail};
use xenlab_model::cause::{Blame, Cause};

const DEVELOPMENT: Row = Row { artefact: "the development files", scenario: FILES, ..BOOTED };
const TOOLS: Row = Row { artefact: "the tools", ..BOOTED };

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "tools-of-another-xen",
        what: "the tools are of another Xen than the hypervisor",
        sets: &["xen.tools=debian:trixie", "limits.boot=60s"],
        expect: fail(Cause::ToolsMismatch, Blame::Build, &["4.20", "4.17"]),
        ..TOOLS
    },
    Row {
        name: "tools-other-architecture",
        what: "the tools are for the other architecture",
        scenario: READY,
        mutations: &[Mutation::Tools(ToolsFault::OtherArchitecture)],
        expect: fail(Cause::WrongArchitecture, Blame::Build, &[]),
        ..TOOLS
    },
    Row {
        name: "library-other-architecture",
        what: "a library of the tools is for the other architecture",
        scenario: READY,
        mutations: &[Mutation::Tools(ToolsFault::LibraryOfOtherArchitecture("xenctrl"))],
        expect: fail(Cause::WrongArchitecture, Blame::Build, &["libxenctrl"]),
        ..TOOLS
    },
    Row {
        name: "xenstored-not-built",
        what: "the build has no store daemon",
        scenario: READY,
        mutations: &[Mutation::Tools(ToolsFault::Without(&["xenstored", "oxenstored"]))],
        expect: fail(Cause::StoreAbsent, Blame::Dom0, &[]),
        ..TOOLS
    },
    Row {
        name: "pc-missing",
        what: "a .pc file is missing; the host's own pkg-config would find one",
        mutations: &[Mutation::Development(Dev::NoModule("xenlight"))],
        expect: fail(Cause::PkgConfigMissing, Blame::Build, &["xenlight"]),
        ..DEVELOPMENT
    },
    Row {
        name: "pc-wrong-version",
        what: "a .pc file says another version than this Xen's has",
        mutations: &[Mutation::Development(Dev::Edited {
            module: "xencontrol",
            from: "Version: 4.17",
            to: "Version: 4.18",
        })],
        expect: fail(Cause::PkgConfigVersion, Blame::Build, &["xencontrol", "4.18"]),
        ..DEVELOPMENT
    },
    Row {
        name: "pc-no-such-library",
        what: "a .pc file names a library that is not there",
        mutations: &[Mutation::Development(Dev::Edited {
            module: "xencall",
            from: "-lxencall",
            to: "-lxencalls",
        })],
        expect: fail(Cause::PkgConfigLibrary, Blame::Build, &["xencalls"]),
        ..DEVELOPMENT
    },
    Row {
        name: "pc-library-gone",
        what: "the link that -l finds leads to a library that is not there",
        mutations: &[Mutation::Development(Dev::DanglingLink("xenevtchn"))],
        expect: fail(Cause::PkgConfigLibrary, Blame::Build, &["xenevtchn"]),
        ..DEVELOPMENT
    },
    Row {
        name: "pc-library-other-architecture",
        what: "a .pc file names a library of the other architecture",
        mutations: &[Mutation::Development(Dev::OtherArchitecture("xengnttab"))],
        expect: fail(Cause::PkgConfigLibrary, Blame::Build, &["xengnttab", "it is for"]),
        ..DEVELOPMENT
    },
    Row {
        name: "pc-requires-not-closed",
        what: "a .pc file requires a module that is not there",
        mutations: &[Mutation::Development(Dev::NoModule("xentoollog"))],
        sets: &[],
        scenario: "\
xenlab: 1
name: planted
machine: {accel: tcg}
xen: debian:bookworm
dom0: {userland: minimal}
steps:
  - pkg-config: {modules: [xencontrol], compile: true}
",
        expect: fail(Cause::PkgConfigRequires, Blame::Build, &["xentoollog"]),
        ..DEVELOPMENT
    },
];
