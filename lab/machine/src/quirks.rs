//! What has to be different by QEMU version, architecture and accelerator: a table, each row with its reason and source.

use crate::qemu::QemuVersion;
use crate::spec::Accel;
use xenlab_model::Arch;

/// A row: for which QEMU and machine, what, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The architecture.
    pub arch: Arch,
    /// The accelerator.
    pub accel: Accel,
    /// The first version it holds for, as (major, minor); all older ones too when absent.
    pub from: Option<(u32, u32)>,
    /// The first version it no longer holds for.
    pub below: Option<(u32, u32)>,
    /// What to give QEMU.
    pub value: &'static str,
    /// Why.
    pub because: &'static str,
    /// How that is known.
    pub source: &'static str,
}

impl Row {
    fn holds(&self, arch: Arch, accel: Accel, version: QemuVersion) -> bool {
        let version = (version.major, version.minor);
        self.arch == arch
            && self.accel == accel
            && self.from.is_none_or(|f| version >= f)
            && self.below.is_none_or(|b| version < b)
    }
}

/// `-cpu`. The first row that holds counts; the last of each architecture and accelerator holds for every version.
pub const CPU: &[Row] = &[
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: Some((10, 0)),
        value: "max,smap=off,rdtscp=off,la57=off",
        because: "with SMAP this QEMU's emulation makes Xen crash when it enters a PV dom0; an intercepted RDTSCP of a PVH \
                  guest is reported with the wrong opcode; LA57 has rare triple faults",
        source: "7.2.22 measured: `max` dies with #PF in create_bounce_frame, `max,smap=off` boots PV, with rdtscp=off PVH \
                 too. 8.x and 9.x not measured: they get the careful set",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: Some((10, 0)),
        below: None,
        value: "max,rdtscp=off,la57=off",
        because: "LA57 under emulation has rare triple faults; an intercepted RDTSCP of a PVH guest is reported with the wrong opcode",
        source: "10.0.2, 10.0.13 and 11.1.3 measured: `max` boots a PV dom0; 10.0.13 with rdtscp=off, and a Xen with shadow paging, boots PVH",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Kvm,
        from: None,
        below: None,
        value: "host",
        because: "PVH and HVM guests need the host's vmx or svm passed on, PV needs nothing of it",
        source: "Linux, Documentation/virt/kvm/x86/running-nested-guests.rst; read, not run: no host with usable \
                 virtualization was at hand",
    },
    Row {
        arch: Arch::Aarch64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "cortex-a57",
        because: "no pointer authentication, SVE or SME to emulate or for an older Xen to stumble over",
        source: "measured on 7.2.22, 10.0.2 and 10.0.13; read: Xen before 4.17 dies on FEAT_LPA, before 4.20 does not hide SME",
    },
    Row {
        arch: Arch::Aarch64,
        accel: Accel::Kvm,
        from: None,
        below: None,
        value: "host",
        because: "KVM on Arm runs only the host's own CPU model",
        source: "QEMU, docs/system/arm/cpu-features.rst; read, not run",
    },
];

/// `-machine` options after the type. As [`CPU`].
pub const MACHINE: &[Row] = &[
    Row {
        arch: Arch::Aarch64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "virtualization=on,gic-version=3",
        because: "Xen runs in EL2, which this board has only when asked for; GICv3 is what servers have",
        source: "QEMU, docs/system/arm/virt.rst; measured on 7.2.22 and 10.0.2",
    },
    Row {
        arch: Arch::Aarch64,
        accel: Accel::Kvm,
        from: None,
        below: None,
        value: "virtualization=on,gic-version=3",
        because: "EL2 for a guest of KVM needs KVM_CAP_ARM_EL2 (FEAT_NV2 hardware, a kernel and a QEMU that know it) and a GICv3",
        source: "Linux, Documentation/virt/kvm/api.rst (KVM_CAP_ARM_EL2); read, not run: probed before it is used",
    },
];

const WITHOUT_ACPI: Row = Row {
    arch: Arch::Aarch64,
    accel: Accel::Tcg,
    from: None,
    below: None,
    value: "acpi=off",
    because: "the firmware then hands on the device tree, by which Xen on Arm boots; with ACPI's tables it would go by those, for which \
              most builds have no code",
    source: "Xen, xen/arch/arm/Kconfig (ACPI); QEMU, hw/arm/virt.c; measured on 7.2.22",
};

/// `-machine` options of a board that boots by EFI firmware, beside those of [`MACHINE`].
pub const EFI_MACHINE: &[Row] = &[WITHOUT_ACPI, Row { accel: Accel::Kvm, ..WITHOUT_ACPI }];

/// How a clone's `memory-backend-file` maps the template's file. As [`CPU`].
pub const COPY_OF_MEMORY: &[Row] = &both(
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: Some((8, 2)),
        value: "share=off",
        because: "a private mapping; before 8.2 QEMU opens the file for writing all the same, so it must be writable, and \
                  `readonly=on` would make the guest's memory read-only",
        source: "QEMU 7.2, backends/hostmem-file.c and softmmu/physmem.c; 7.2.22 measured",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: Some((8, 2)),
        below: None,
        value: "share=off,readonly=on,rom=off",
        because: "the file is opened for reading only, so that nothing can change a template; `rom=off` keeps the memory writable",
        source: "QEMU, qapi/qom.json (MemoryBackendFileProperties: rom, since 8.2); 10.0.2 and 10.0.13 measured",
    },
);

/// What a restored machine needs after `cont`, or it may sleep for ever: the first word that can be done. `packet`: a datagram to a
/// port of dom0's that nobody listens on, through a forwarding made for it; the address resolution before it is enough, so it
/// does not matter what dom0 has for a network. `newline`: on the console, which somebody in dom0 may read; only where there
/// is no network card. As [`CPU`], but there may be none.
pub const KICK: &[Row] = &[Row {
    arch: Arch::Aarch64,
    accel: Accel::Tcg,
    from: None,
    below: None,
    value: "packet newline",
    because: "QEMU restores the physical and the virtual timer of each processor and not that of EL2, which Xen's scheduler uses: \
              where all processors were idle at the freeze nothing runs until an interrupt makes Xen set that timer again",
    source: "QEMU, target/arm/machine.c (vmstate_arm_cpu has GTIMER_PHYS and GTIMER_VIRT). 10.0.13 measured, a process in dom0 \
             saying five times a second that it lives: three of some twenty-five templates slept, every clone of them, for as long as \
             was waited; this datagram (one clone), a TCP connection or a byte on the console woke them; announce-self, a change \
             of the card's link and bytes on virtio ports that dom0 does not read did not",
}];

/// What this machine needs after `cont` when it was restored.
pub fn kick(arch: Arch, accel: Accel, version: QemuVersion) -> Option<&'static Row> {
    find(KICK, arch, accel, version)
}

/// Two rows, for each architecture and accelerator.
const fn both(older: Row, newer: Row) -> [Row; 8] {
    const fn of(row: Row, arch: Arch, accel: Accel) -> Row {
        Row { arch, accel, ..row }
    }
    [
        of(older, Arch::X86_64, Accel::Tcg),
        of(newer, Arch::X86_64, Accel::Tcg),
        of(older, Arch::X86_64, Accel::Kvm),
        of(newer, Arch::X86_64, Accel::Kvm),
        of(older, Arch::Aarch64, Accel::Tcg),
        of(newer, Arch::Aarch64, Accel::Tcg),
        of(older, Arch::Aarch64, Accel::Kvm),
        of(newer, Arch::Aarch64, Accel::Kvm),
    ]
}

/// What Xen is told besides where it is to run several domains. As [`CPU`], but there may be none.
pub const XEN_ARGS: &[Row] = &[Row {
    arch: Arch::X86_64,
    accel: Accel::Tcg,
    from: None,
    below: None,
    value: "spec-ctrl=eager-fpu",
    because: "with lazy switching of floating-point registers, which Xen uses on the AMD processor that this is, domains spoil each \
              other's registers under emulation: programs of dom0 die in string functions, PVH guests in their first second",
    source: "measured, Xen 4.17.7: a PV dom0 with PV Linux guests, four at once, 9 of 15 runs had a program of dom0 die or hang \
             on 7.2.22 and 10.0.13, and 0 of 6 with eager-fpu; PVH guests, six at once, on 7.2.22, 4 of 12 were lost, and 0 of 24. \
             Where QEMU goes wrong is not known",
}];

/// Xen's arguments on this machine: those asked for, and behind them, where several domains are to run, what the emulator needs, unless
/// they speak of it themselves.
pub fn xen_args(
    arch: Arch,
    accel: Accel,
    version: QemuVersion,
    asked: &[String],
    guests: bool,
) -> Vec<String> {
    let mut args = asked.to_vec();
    let row = find(XEN_ARGS, arch, accel, version).filter(|_| guests);
    if let Some(row) = row.filter(|_| !asked.iter().any(|a| a.contains("eager-fpu"))) {
        args.push(row.value.to_owned());
    }
    args
}

/// Known faults of an emulator that show inside a case and are not Xen's; `value` is the fault's name. Not exclusive:
/// every row that holds counts.
pub const FAULTS: &[Row] = &[
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "ovmf-in-guest",
        because: "OVMF in an HVM guest ends QEMU itself by an assertion of its own, or the guest resets before OVMF says anything",
        source: "measured with Debian's OVMF 2022.11 on Xen 4.17.7: 7.2.22 aborts (tcg_handle_interrupt: qemu_mutex_iothread_locked(), \
                 that message once, three more ended without one); on 10.0.2 the guest resets every five seconds. On no emulator has it been seen to start, so whether \
                 the latter is QEMU's doing or OVMF's, which has had no support for Xen in Debian's files since 2021.08, is not known",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "rdtscp-opcode",
        because: "an intercepted RDTSCP is reported with the wrong opcode: Xen repeats \"Insn mismatch\" and a PVH guest spins or \
                  crashes. Kept away by rdtscp=off",
        source: "7.2.22 and 10.0.13 measured; QEMU, target/i386/tcg/misc_helper.c (helper_rdtsc asks for the intercept of RDTSC whichever it is)",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: Some((10, 0)),
        below: None,
        value: "npt-mov-cr2",
        because: "under nested paging a guest's `mov %cr2` leaves as a read of CR0, Xen answers with a stale CR2, and a PVH or \
                  HVM Linux halts within a second (shutdown reason 0). A Xen with shadow paging, on a CPU without NPT \
                  (qemu64,+svm), is not affected",
        source: "traced on 10.0.2, 10.0.13 and 11.1.3 with -d in_asm,int",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "npt-pae-accessed",
        because: "under nested paging a guest's page-directory pointers of PAE are marked as accessed, a bit that must be zero there: \
                  Xen, which has to read the guest's instruction, refuses the walk and enters it again, for ever. A guest with \
                  shadow paging is not affected",
        source: "QEMU, target/i386/tcg/system/excp_helper.c (mmu_translate, restart_3_nolma); seen in the guest's tables on 7.2.22, \
                 the same end on 10.0.13",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "stack-not-canonical",
        because: "an access by the stack pointer to an address that is not canonical raises #GP, not #SS: the first selftest of a debug \
                  build of Xen (xen/arch/x86/extable.c) says that correct behaviour cannot be guaranteed",
        source: "measured with Xen 4.23-unstable on 7.2.22; QEMU, target/i386/tcg/sysemu/excp_helper.c (get_physical_address) knows no #SS; \
                 later versions not measured",
    },
    Row {
        arch: Arch::X86_64,
        accel: Accel::Tcg,
        from: None,
        below: None,
        value: "xsave-compact-size",
        because: "CPUID leaf 0xd, 1 names a size of compacted states on a processor without XSAVEC, of which a debug build of Xen since 4.19 \
                  warns (xen/arch/x86/xstate.c, check_new_xstate)",
        source: "measured with Xen 4.23-unstable on 7.2.22, whose cpu_x86_cpuid says it unconditionally; later versions not measured",
    },
];

/// The known faults of this machine's emulator.
pub fn faults(arch: Arch, accel: Accel, version: QemuVersion) -> impl Iterator<Item = &'static Row> {
    FAULTS.iter().filter(move |row| row.holds(arch, accel, version))
}

/// What a guest on the machine's Xen needs of the host under KVM. Nothing of it concerns emulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The architecture, of host and machine.
    pub arch: Arch,
    /// `vmx` (Intel), `svm` (AMD) or `el2` (Arm).
    pub extension: &'static str,
    /// What runs with it.
    pub runs: &'static str,
    /// What has to be there.
    pub needs: &'static str,
    /// How that is known.
    pub source: &'static str,
}

/// What KVM has to offer, by the vendor's extension. The accelerator probe decides by running; this explains.
pub const KVM_NEEDS: &[Need] = &[
    Need {
        arch: Arch::X86_64,
        extension: "",
        runs: "Xen with a PV dom0 and PV guests",
        needs: "KVM alone: to the processor a PV Xen is an ordinary kernel",
        source: "Xen, docs/man/xl.cfg.5.pod (type=\"pv\"); read, not run",
    },
    Need {
        arch: Arch::X86_64,
        extension: "vmx",
        runs: "PVH and HVM guests on an Intel host",
        needs: "vmx passed on: kvm_intel with nested=1 (the default since Linux 4.20), unrestricted guest and EPT",
        source: "Linux, Documentation/virt/kvm/x86/running-nested-guests.rst; read, not run",
    },
    Need {
        arch: Arch::X86_64,
        extension: "svm",
        runs: "PVH and HVM guests on an AMD host",
        needs: "svm passed on: kvm_amd with nested=1 (its default), and npt",
        source: "Linux, Documentation/virt/kvm/x86/running-nested-guests.rst; read, not run",
    },
    Need {
        arch: Arch::Aarch64,
        extension: "el2",
        runs: "Xen at all: it runs in EL2",
        needs: "KVM_CAP_ARM_EL2: Linux 6.16 or later started with kvm-arm.mode=nested on a processor with FEAT_NV2, and a \
                QEMU that asks for it (virtualization=on with KVM)",
        source: "Linux, Documentation/virt/kvm/api.rst (KVM_CAP_ARM_EL2, KVM_ARM_VCPU_HAS_EL2), \
                 Documentation/admin-guide/kernel-parameters.txt (kvm-arm.mode); read, not run",
    },
];

/// The `-cpu` for this machine.
pub fn cpu(arch: Arch, accel: Accel, version: QemuVersion) -> &'static Row {
    // Every pair has a row without bounds or rows that meet; the test below goes through them.
    find(CPU, arch, accel, version).unwrap_or(&CPU[CPU.len() - 1])
}

/// The `-machine` options for this machine.
pub fn machine(arch: Arch, accel: Accel, version: QemuVersion) -> Option<&'static Row> {
    find(MACHINE, arch, accel, version)
}

/// The `-machine` options for this machine where EFI firmware boots it.
pub fn efi_machine(arch: Arch, accel: Accel, version: QemuVersion) -> Option<&'static Row> {
    find(EFI_MACHINE, arch, accel, version)
}

/// How a clone of this machine maps the template's memory.
pub fn copy_of_memory(arch: Arch, accel: Accel, version: QemuVersion) -> &'static Row {
    find(COPY_OF_MEMORY, arch, accel, version).unwrap_or(&COPY_OF_MEMORY[0])
}

fn find(table: &'static [Row], arch: Arch, accel: Accel, version: QemuVersion) -> Option<&'static Row> {
    table.iter().find(|row| row.holds(arch, accel, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_exactly_one_cpu_model() {
        for arch in Arch::ALL {
            for accel in [Accel::Tcg, Accel::Kvm] {
                for (major, minor) in [(6, 0), (7, 2), (8, 2), (9, 2), (10, 0), (10, 2), (11, 1), (20, 0)] {
                    let version = QemuVersion { major, minor, micro: 0 };
                    assert_eq!(
                        CPU.iter().filter(|r| r.holds(arch, accel, version)).count(),
                        1,
                        "{arch} {accel} {version}"
                    );
                    assert_eq!(cpu(arch, accel, version).arch, arch);
                    assert_eq!(COPY_OF_MEMORY.iter().filter(|r| r.holds(arch, accel, version)).count(), 1);
                    let options = MACHINE.iter().filter(|r| r.holds(arch, accel, version)).count();
                    assert_eq!(options, usize::from(arch == Arch::Aarch64));
                }
            }
        }
    }

    #[test]
    fn several_domains_need_more_of_xen() {
        let version = QemuVersion { major: 7, minor: 2, micro: 0 };
        let args = |arch, accel, asked: &[&str], guests| {
            let asked: Vec<String> = asked.iter().map(|a| (*a).to_owned()).collect();
            xen_args(arch, accel, version, &asked, guests)
        };
        let emulated = |asked: &[&str], guests| args(Arch::X86_64, Accel::Tcg, asked, guests);
        assert_eq!(
            emulated(&["spec-ctrl=no"], true),
            ["spec-ctrl=no", "spec-ctrl=eager-fpu"],
            "the last one counts"
        );
        assert_eq!(
            emulated(&["spec-ctrl=no-eager-fpu"], true),
            ["spec-ctrl=no-eager-fpu"],
            "what was asked for stays"
        );
        assert!(emulated(&[], false).is_empty());
        assert!(
            args(Arch::X86_64, Accel::Kvm, &[], true).is_empty()
                && args(Arch::Aarch64, Accel::Tcg, &[], true).is_empty()
        );
    }

    #[test]
    fn faults_of_an_emulator_are_its_own() {
        let names = |accel, major| {
            let version = QemuVersion { major, minor: 0, micro: 0 };
            faults(Arch::X86_64, accel, version).map(|row| row.value).collect::<Vec<_>>()
        };
        let debug = ["stack-not-canonical", "xsave-compact-size"];
        let with = |these: [&'static str; 3]| these.into_iter().chain(debug).collect::<Vec<_>>();
        assert_eq!(names(Accel::Tcg, 8), with(["ovmf-in-guest", "rdtscp-opcode", "npt-pae-accessed"]));
        let newer = ["ovmf-in-guest", "rdtscp-opcode", "npt-mov-cr2", "npt-pae-accessed"];
        assert_eq!(names(Accel::Tcg, 11), newer.into_iter().chain(debug).collect::<Vec<_>>());
        assert!(names(Accel::Kvm, 11).is_empty());
    }

    #[test]
    fn every_row_says_why_and_how_that_is_known() {
        for need in KVM_NEEDS {
            assert!(
                need.needs.len() > 10 && need.source.len() > 10 && !need.needs.contains("  "),
                "{need:?}"
            );
        }
        for row in CPU.iter().chain(MACHINE).chain(COPY_OF_MEMORY).chain(KICK).chain(XEN_ARGS).chain(FAULTS) {
            assert!(row.because.len() > 10 && row.source.len() > 10, "{row:?}");
            assert!(!row.because.contains("  ") && !row.source.contains("  "), "{row:?}");
        }
    }
}
