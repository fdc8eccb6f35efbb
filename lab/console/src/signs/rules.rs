//! The table of signs. Xen's words are those of its stable-4.17, stable-4.20 and master branches, Linux's of 6.1 and 6.12.

use super::{Class, Rule};
use crate::demux::Speaker::{self, Dom0, Firmware, Xen};

/// The line that opens Xen's panic box.
pub(super) const PANIC: &str = r"^Panic on CPU \d+:";

/// What Xen's EFI image was started from goes on with something else: the image was left, or never begun.
const FIRMWARE_WENT_ON: &str = r#"^BdsDxe: (?:No bootable option|starting Boot\S+ "(?:UiApp|EFI Internal Shell)")|^UEFI Interactive Shell"#;
/// The firmware's own exception handler, which holds until Xen has taken the machine over.
const FIRMWARE_EXCEPTION: &str = "^!!!! X64 Exception Type - |^(?:Synchronous|SError) Exception at 0x";
const EXCEPTIONS: &str =
    "EDK II, UefiCpuPkg/Library/CpuExceptionHandlerLib, ArmPkg/Library/DefaultExceptionHandlerLib";

const fn panic(
    code: &'static str,
    speaker: Speaker,
    weight: u8,
    pattern: &'static str,
    source: &'static str,
) -> Rule {
    Rule { code, pattern, speaker, class: Class::Panic, fatal: true, weight, source }
}

const fn reason(
    code: &'static str,
    speaker: Speaker,
    fatal: bool,
    weight: u8,
    pattern: &'static str,
    source: &'static str,
) -> Rule {
    Rule { code, pattern, speaker, class: Class::Reason, fatal, weight, source }
}

/// Every rule.
///
/// Linux's own words are wanted at a line's start or after its timestamp, so that a userland quoting them is nothing.
pub const RULES: &[Rule] = &[
    // The end of Xen.
    panic("xen.panic", Xen, 10, PANIC, "xen/drivers/char/console.c panic()"),
    panic("xen.bug", Xen, 30, r"Xen BUG at \S+:\d+", "xen/common/bug.c, xen/arch/arm/traps.c do_bug_frame()"),
    panic(
        "xen.bug",
        Xen,
        30,
        r"Assertion '.*' failed at \S+:\d+",
        "xen/common/bug.c, xen/arch/arm/traps.c do_bug_frame()",
    ),
    panic("xen.panic", Xen, 30, "FATAL TRAP: ", "xen/arch/x86/traps.c fatal_trap()"),
    panic("xen.page-fault", Xen, 30, "FATAL PAGE FAULT", "xen/arch/x86/traps.c do_page_fault()"),
    panic("xen.panic", Xen, 30, "GENERAL PROTECTION FAULT", "xen/arch/x86/traps.c do_general_protection()"),
    panic(
        "xen.panic",
        Xen,
        30,
        "CONTROL-FLOW PROTECTION FAULT: ",
        "xen/arch/x86/traps.c do_entry_CP(); never seen here: QEMU's TCG has no CET",
    ),
    panic(
        "xen.page-fault",
        Xen,
        30,
        "Early fatal page fault at ",
        "xen/arch/x86/traps.c do_early_page_fault()",
    ),
    panic("xen.panic", Xen, 30, "DOUBLE FAULT", "xen/arch/x86/traps.c do_double_fault()"),
    panic("xen.panic", Xen, 30, r"CPU\d+: Unexpected Trap: ", "xen/arch/arm/traps.c do_unexpected_trap()"),
    panic(
        "xen.panic",
        Xen,
        30,
        r"Watchdog timer detects that CPU\d+ is stuck",
        "xen/arch/x86/nmi.c nmi_watchdog_tick()",
    ),
    panic(
        "xen.page-fault",
        Xen,
        31,
        r"Data Abort Trap\. Syndrome=|CPU\d+: Unexpected Trap: Data Abort",
        "xen/arch/arm/traps.c do_trap_hyp_sync(), do_trap_data_abort_guest()",
    ),
    // What Xen was asked for and this machine has not.
    panic("xen.memory", Xen, 80, "Not enough memory to relocate Xen", "xen/arch/x86/setup.c __start_xen()"),
    panic(
        "xen.iommu",
        Xen,
        80,
        "iommu must be enabled for PVH|Couldn't enable IOMMU and iommu=required",
        "xen/drivers/passthrough/x86/iommu.c arch_iommu_hwdom_init(), iommu.c iommu_setup()",
    ),
    // Xen will not build dom0: the words of a panic, or a line before one.
    panic(
        "dom0.memory",
        Xen,
        80,
        "Domain 0 allocation is too small for kernel image|Not enough RAM for (?:domain 0|DOM0)|Dom0 allocation too small for",
        "xen/arch/x86/pv/dom0_build.c dom0_construct_pv(); `reservation`: dom0_mem is more than the machine has",
    ),
    panic(
        "dom0.memory",
        Xen,
        80,
        "Not enough memory in the first bank for the kernel|Unable to find suitable location for (?:dtb|the kernel)",
        "xen/arch/arm/kernel.c place_modules(), kernel_zimage_place()",
    ),
    panic(
        "dom0.memory",
        Xen,
        80,
        "Unable to allocate first memory bank|Failed to allocate requested dom0 memory",
        "xen/arch/arm/domain_build.c allocate_memory_11(), allocate_memory()",
    ),
    panic(
        "guest.memory",
        Xen,
        80,
        "Failed to allocate requested domain memory",
        "xen/arch/arm/domain_build.c allocate_memory(): of a domain that the device tree has",
    ),
    panic(
        "guest.not-created",
        Xen,
        60,
        "Could not set up domain ",
        "xen/arch/arm/domain_build.c, dom0less-build.c create_domUs(): of a domain that the device tree has",
    ),
    panic(
        "guest.not-created",
        Xen,
        60,
        "Error creating domain [^0]",
        "as above, where dom0 is `domain 0`; never seen here: Xen had no memory for the domain itself",
    ),
    panic(
        "dom0.memory",
        Xen,
        80,
        "Not enough memory to relocate the dom0 kernel image",
        "xen/arch/x86/setup.c __start_xen()",
    ),
    panic(
        "dom0.kernel-invalid",
        Xen,
        50,
        "Could not construct (?:domain 0|d0)",
        "xen/arch/x86/setup.c create_dom0(), from construct_dom0()'s error",
    ),
    panic(
        "dom0.kernel-invalid",
        Xen,
        50,
        "Could not set up (?:DOM0|d0) guest OS",
        "xen/arch/arm/domain_build.c create_dom0(), from kernel_probe()'s error; xen/arch/x86/setup.c",
    ),
    panic(
        "dom0.kernel-invalid",
        Xen,
        60,
        "dom0 kernel not specified|Missing kernel boot module",
        "xen/arch/x86/setup.c, xen/arch/x86/pv/dom0_build.c: the machine was given no kernel",
    ),
    panic(
        "dom0.kernel-invalid",
        Xen,
        60,
        "Cannot construct Dom0. No guest interface available",
        "xen/arch/x86/dom0_build.c construct_dom0(); never seen here: a Xen built with neither PV nor HVM",
    ),
    reason(
        "dom0.kernel-invalid",
        Xen,
        false,
        70,
        "ELF: not an ELF binary|ELF: [ps]hdr overflow",
        "xen/common/libelf/libelf-loader.c elf_init()",
    ),
    reason(
        "dom0.kernel-invalid",
        Xen,
        false,
        70,
        "ERROR: Not a Xen-ELF image|ERROR: Will only load images built for|ERROR: Xen will only load images",
        "xen/common/libelf/libelf-dominfo.c elf_xen_note_check()",
    ),
    reason(
        "dom0.kernel-invalid",
        Xen,
        false,
        70,
        "kernel: broken ELF: |Failed to load the kernel binary|Failed to load Dom0 kernel",
        "xen/arch/x86/pv/dom0_build.c, xen/arch/x86/hvm/dom0_build.c",
    ),
    reason(
        "dom0.kernel-invalid",
        Xen,
        false,
        70,
        "Mismatch between Xen and DOM0 kernel|Found 32-bit PV kernel, but CONFIG_PV32 missing",
        "xen/arch/x86/pv/dom0_build.c",
    ),
    // dom0 ends, as Xen sees it.
    reason(
        "dom0.panic",
        Xen,
        false,
        35,
        r"^(?:\S+:)?d0v\d+ Unhandled: ",
        "xen/arch/x86/pv/traps.c, traps.c show_guest_exception: a fault that dom0's kernel was not ready for",
    ),
    panic(
        "dom0.panic",
        Xen,
        25,
        r"Domain 0 \(vcpu#\d+\) crashed on cpu#\d+",
        "xen/common/domain.c __domain_crash()",
    ),
    panic(
        "dom0.panic",
        Xen,
        20,
        r"Hardware Dom\d+ crashed: ",
        "xen/common/shutdown.c hwdom_shutdown(): dom0's kernel panicked",
    ),
    reason(
        "dom0.power-off",
        Xen,
        true,
        15,
        r"Hardware Dom\d+ halted: ",
        "xen/common/shutdown.c hwdom_shutdown()",
    ),
    reason(
        "dom0.power-off",
        Xen,
        true,
        15,
        "^Entering ACPI S5 state",
        "xen/arch/x86/acpi/power.c enter_state(): on x86 dom0 has Xen power the machine off by ACPI, and Xen says no more than this",
    ),
    reason(
        "dom0.power-off",
        Xen,
        true,
        15,
        r"Hardware (?:Dom\d+ shutdown|domain \d+ did unsupported soft reset)",
        "xen/common/shutdown.c hwdom_shutdown()",
    ),
    // dom0's kernel.
    panic("dom0.panic", Dom0, 40, r"(?:^|\] )Kernel panic - not syncing: ", "kernel/panic.c"),
    panic(
        "dom0.no-initramfs",
        Dom0,
        80,
        r"(?:^|\] )Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block\(0,0\)",
        "init/do_mounts.c: neither an initramfs with /init nor a root device",
    ),
    panic(
        "dom0.no-root",
        Dom0,
        75,
        // The whole of the name: of one that is cut off it is not known whether it is (0,0), which means something else.
        r#"(?:^|\] )Kernel panic - not syncing: VFS: Unable to mount root fs on (?:"[^"]*" or )?unknown-block\(\d+,\d+\)"#,
        "init/do_mounts.c",
    ),
    reason(
        "dom0.no-root",
        Dom0,
        false,
        85,
        r#"(?:^|\] )VFS: Cannot open root device "[^"(]+""#,
        "init/do_mounts.c: root= names a device that is not there; never seen here: Debian's kernels have no file system built in, and \
         go on to the panic at once",
    ),
    reason(
        "dom0.no-initramfs",
        Dom0,
        false,
        82,
        r"(?:^|\] )Initramfs unpacking failed: ",
        "init/initramfs.c: an initramfs that is damaged",
    ),
    reason(
        "dom0.no-initramfs",
        Dom0,
        false,
        60,
        "^xenlab: failed none ",
        "images/initramfs/init without a nonce: the case's layer, the initramfs's last part, is not there. Anybody can write \
         that, so it ends nothing",
    ),
    panic(
        "dom0.memory",
        Dom0,
        80,
        r"(?:^|\] )Kernel panic - not syncing: (?:Out of memory|System is deadlocked on memory)",
        "mm/oom_kill.c out_of_memory()",
    ),
    reason(
        "dom0.memory",
        Dom0,
        false,
        60,
        r"(?:^|\] )(?:Out of memory|Memory cgroup out of memory): Kill",
        "mm/oom_kill.c oom_kill_process()",
    ),
    reason(
        "dom0.memory",
        Dom0,
        false,
        55,
        r"(?:^|\] )\S+ invoked oom-killer: ",
        "mm/oom_kill.c dump_header()",
    ),
    panic(
        "dom0.init-died",
        Dom0,
        50,
        r"(?:^|\] )Kernel panic - not syncing: No working init found",
        "init/main.c kernel_init(): none of the programs that it takes for the first one could be started",
    ),
    panic(
        "dom0.init-died",
        Dom0,
        50,
        r"(?:^|\] )Kernel panic - not syncing: Attempted to kill init!",
        "kernel/exit.c do_exit()",
    ),
    panic(
        "dom0.asked-to-crash",
        Dom0,
        70,
        r"(?:^|\] )Kernel panic - not syncing: sysrq triggered crash",
        "drivers/tty/sysrq.c sysrq_handle_crash()",
    ),
    Rule {
        // The kernel may live on after one, and says so by what it does next.
        fatal: false,
        ..panic(
            "dom0.panic",
            Dom0,
            45,
            // What x86 dies of, by name, then in general: `divide error: 0000 [#1] PREEMPT SMP`.
            r"(?:^|\] )(?:BUG: unable to handle |BUG: kernel NULL pointer|kernel BUG at |Unable to handle kernel |Internal error: |Oops: |general protection fault|[a-z][a-z ]+: [0-9a-f]{4} \[#\d+\])",
            "arch/x86/mm/fault.c, arch/x86/kernel/dumpstack.c, traps.c, lib/bug.c, arch/arm64/mm/fault.c, arch/arm64/kernel/traps.c",
        )
    },
    reason(
        "dom0.hung",
        Dom0,
        false,
        20,
        r"(?:^|\] )(?:watchdog: )?BUG: soft lockup - CPU#\d+ stuck",
        "kernel/watchdog.c; a starved emulator makes it too",
    ),
    reason(
        "dom0.hung",
        Dom0,
        false,
        20,
        r"(?:^|\] )INFO: task .+ blocked for more than \d+ seconds",
        "kernel/hung_task.c",
    ),
    // This is no dom0.
    reason(
        "dom0.not-under-xen",
        Dom0,
        false,
        88,
        "Booting paravirtualized kernel on bare hardware",
        "arch/x86/kernel/paravirt.c",
    ),
    reason(
        "dom0.not-under-xen",
        Dom0,
        false,
        30,
        "error: Could not obtain handle on privileged command interface",
        "tools/libs/call: no Xen below, or no xen_privcmd",
    ),
    // dom0's initramfs and userland.
    reason(
        "dom0.no-root",
        Dom0,
        true,
        80,
        r"^Gave up waiting for (?:root file system|suspend/resume) device|^ALERT!.* does not exist",
        "initramfs-tools scripts/local",
    ),
    reason(
        "dom0.no-root",
        Dom0,
        true,
        80,
        "^dracut(?:-initqueue)?.*: Warning: Could not boot",
        "dracut; never seen here",
    ),
    reason(
        "dom0.not-ready",
        Dom0,
        true,
        50,
        "^You are in emergency mode|^Give root password for maintenance",
        "systemd emergency.service, sulogin; never seen here",
    ),
    reason(
        "store.absent",
        Dom0,
        false,
        50,
        r"Failed to start .*[Xx]en ?[Ss]tore",
        "systemd: xenstored.service; never seen here",
    ),
    // What comes before Xen: firmware and boot loader. Once Xen's EFI loader has said what it is, lines without a prefix count as its own.
    reason(
        "boot.refused",
        Firmware,
        false,
        60,
        "^error: .*multiboot|^error: .*(?:not found|premature end of file|unsupported|invalid|magic)",
        "GRUB, grub-core/loader/multiboot_mbi2.c, kern/file.c",
    ),
    reason(
        "boot.refused",
        Firmware,
        true,
        40,
        r"^error: you need to load the (?:kernel|hypervisor) first",
        "GRUB, grub-core/loader/multiboot.c",
    ),
    reason(
        "boot.refused",
        Firmware,
        false,
        60,
        r"^BdsDxe: failed to (?:load|start) Boot",
        "EDK II, MdeModulePkg/Library/UefiBootManagerLib/BmBoot.c",
    ),
    reason(
        "boot.refused",
        Firmware,
        true,
        40,
        FIRMWARE_WENT_ON,
        "EDK II, MdeModulePkg/Universal/BdsDxe/BdsEntry.c",
    ),
    reason(
        "boot.refused",
        Xen,
        true,
        40,
        FIRMWARE_WENT_ON,
        "EDK II, MdeModulePkg/Universal/BdsDxe/BdsEntry.c",
    ),
    reason(
        "boot.refused",
        Xen,
        false,
        60,
        r"^(?:No (?:configuration file found|initial domain kernel specified)|Configuration file not found)\.|^Open failed for ",
        "xen/common/efi/boot.c efi_start(), read_file(): blexit()",
    ),
    reason(
        "boot.refused",
        Xen,
        false,
        60,
        r"^Xen must be loaded |^PE invalid section size|^Cannot load files without a usable file system|^Out of static memory|^This build of Xen requires NX|^Unable to (?:add|create|find|set|setup|allocate) |^(?:Seek|Get size|Allocation|Read) failed for ",
        "xen/common/efi/boot.c, xen/arch/*/efi/efi-boot.h: blexit(); never seen here: each wants a firmware that fails, or an image laid out \
         otherwise than Xen's own",
    ),
    reason("boot.exception", Firmware, true, 65, FIRMWARE_EXCEPTION, EXCEPTIONS),
    reason("boot.exception", Xen, true, 65, FIRMWARE_EXCEPTION, EXCEPTIONS),
];
