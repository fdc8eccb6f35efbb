//! What QEMU and xl say when they refuse, and whose fault that is. Words that are not known have no cause.

use super::Cause;
use regex::Regex;

/// QEMU's, on its standard error (QEMU 7.2 and 10.0; the source file that has the words beside each).
const QEMU: &[(&str, Cause)] = &[
    // util/oslib-posix.c, softmmu/physmem.c
    (r"(?i)cannot (?:set up guest memory|allocate memory)|unable to allocate .* memory", Cause::HostMemory),
    // hw/core/cpu-common.c, target/i386/cpu.c, target/arm/helper.c
    (
        r"unable to find CPU model|(?i)cpu type .* (?:not|is not) (?:supported|valid)|Property '.*-cpu\..*' not found",
        Cause::QemuOption,
    ),
    // softmmu/qdev-monitor.c, hw/core/machine.c, qom/object.c
    (
        r"is not a valid device model name|unsupported machine type|Property '.*' not found|invalid option|Invalid parameter",
        Cause::QemuOption,
    ),
    (
        r"No '.*' bus found for device|Device '.*' (?:not found|can't go on|could not be initialized)",
        Cause::QemuOption,
    ),
    // block/, softmmu/
    (r"No space left on device", Cause::HostDisk),
];

/// libxl's, libxc's and xl's, on xl's standard error (Xen 4.17 and 4.20).
const XL: &[(&str, Cause)] = &[
    // tools/libs/light/libxl_dm.c, libxl_create.c
    (
        r"(?i)device model:? (?:\S+ )?(?:spawn failed|is not executable|did not start|not found)|Couldn't find device model|Please install the qemu-system-xen package",
        Cause::GuestDeviceModel,
    ),
    // tools/libs/light/libxl_dom.c
    (
        r"(?i)initializing domain firmware failed|failed to (?:load|read) (?:BIOS|IPXE|(?:SMBIOS|ACPI) firmware)\b",
        Cause::GuestFirmware,
    ),
    // tools/libs/light/libxl_mem.c, libxl_dom.c; tools/xl/xl_vmcontrol.c freemem()
    (
        r"(?i)failed to free memory for the domain|not enough memory|cannot allocate memory|panic: .*: xc_dom_malloc|failed to populate|out of memory|xc_domain_claim_pages.*fail",
        Cause::GuestMemory,
    ),
    // tools/libs/guest/xg_dom_core.c, xg_dom_elfloader.c, xg_dom_bzimageloader.c
    (
        r"(?i)no loader found|invalid kernel|not a (?:valid )?(?:xen-)?elf|xc_dom_find_loader|panic: .*: xc_dom_(?:parse|load|guest_type)",
        Cause::GuestKernelInvalid,
    ),
    // tools/xl/xl_parse.c, tools/libs/util; xg_dom_core.c of a file that is not there
    (
        r"(?i)config parsing error|failed to parse config|unknown (?:guest )?type|invalid (?:vcpu|memory)|No such file or directory|failed to read file|config file syntax error",
        Cause::GuestConfig,
    ),
];

fn of(table: &[(&str, Cause)], text: &str) -> Option<Cause> {
    // The first line that is known: what comes after it is its undoing.
    text.lines().find_map(|line| {
        let known = table.iter().find(|(pattern, _)| Regex::new(pattern).is_ok_and(|r| r.is_match(line)));
        known.map(|(_, cause)| *cause)
    })
}

/// What a QEMU that ended meant by what it wrote to standard error.
pub fn of_qemu(stderr: &str) -> Option<Cause> {
    of(QEMU, stderr)
}

/// What an `xl create` that failed meant by what it wrote to standard error.
pub fn of_xl(stderr: &str) -> Option<Cause> {
    of(XL, stderr)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_hvm_guest_lacks() {
        // As Xen 4.17 says it.
        let model = "libxl: error: libxl_dm.c:2673:libxl__spawn_local_dm: Domain 1:device model /usr/libexec/xen-qemu-system-i386 is not executable: No such file or directory";
        assert_eq!(of_xl(model), Some(Cause::GuestDeviceModel));
        let model = "libxl: error: libxl_dm.c:3161:device_model_spawn_outcome: Domain 1:domain 1 device model: spawn failed (rc=-3)\nlibxl: error: libxl_create.c:1896:domcreate_devmodel_started: Domain 1:device model did not start: -3";
        assert_eq!(of_xl(model), Some(Cause::GuestDeviceModel));
        let firmware =
            "libxl: error: libxl_dom.c:1134:libxl__build_hvm: Domain 1:initializing domain firmware failed";
        assert_eq!(of_xl(firmware), Some(Cause::GuestFirmware));
        let file = "libxl: error: libxl_dom.c:878:libxl__load_hvm_firmware_module: failed to read BIOS file: No such file or directory";
        assert_eq!(of_xl(file), Some(Cause::GuestFirmware), "and not one of the scenario's");
    }

    #[test]
    fn every_pattern_is_one() {
        for (pattern, _) in QEMU.iter().chain(XL) {
            Regex::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        }
    }

    #[test]
    fn the_first_that_is_known_counts_and_the_unknown_is_unknown() {
        let said = "libxl: error: libxl_dom.c:1: xc_dom_find_loader: no loader found\nlibxl: error: x: cannot allocate memory";
        assert_eq!(of_xl(said), Some(Cause::GuestKernelInvalid));
        assert_eq!(of_xl("libxl: error: something new"), None);
        assert_eq!(of_qemu("qemu-system-x86_64: something new"), None);
    }
}
