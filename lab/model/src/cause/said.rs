//! What QEMU and xl say when they refuse, and whose fault that is. Words that are not known have no cause.

use super::Cause;
use regex::Regex;

/// QEMU's, on its standard error (QEMU 7.2; the source file that has the words beside each). fixtures/said has what each was made of.
const QEMU: &[(&str, Cause)] = &[
    // util/oslib-posix.c, softmmu/physmem.c
    (r"cannot set up guest memory", Cause::HostMemory),
    // hw/core/cpu-common.c, hw/arm/virt.c, qom/object.c
    (
        r"unable to find CPU model|CPU type .* not supported|Property '.*-cpu\..*' not found",
        Cause::QemuOption,
    ),
    // softmmu/qdev-monitor.c, softmmu/vl.c, hw/core/machine.c, machine-smp.c, qom/object.c, qapi/
    (
        r"is not a valid device model name|unsupported machine type|Property '.*' not found|invalid option|invalid accelerator",
        Cause::QemuOption,
    ),
    (
        r"Parameter '.*' (?:expects|is unexpected|is missing|does not accept value)|Property '.*' can't find value|Invalid '.*' setting|Invalid SMP CPUs",
        Cause::QemuOption,
    ),
    (
        r"No '.*' bus found for device|Bus '.*' not found|Device '.*' can't go on|slot \d+ function \d+ not available|property not set|Must specify either",
        Cause::QemuOption,
    ),
    // block/, softmmu/
    (r"No space left on device", Cause::HostDisk),
];

/// libxl's, libxc's and xl's, on xl's standard error (Xen 4.17). fixtures/said has what each was made of.
const XL: &[(&str, Cause)] = &[
    // tools/libs/guest/xg_dom_boot.c, xg_dom_core.c; tools/libs/light/libxl_dom.c
    (r"Out of memory|Cannot allocate memory", Cause::GuestMemory),
    // tools/xl/xl_vmcontrol.c freemem(), where xl takes memory from dom0
    (r"failed to free memory for the domain", Cause::GuestMemory),
    // tools/libs/guest/xg_dom_core.c, xg_dom_elfloader.c, xg_dom_bzimageloader.c
    (r"no loader found|: Invalid kernel", Cause::GuestKernelInvalid),
    // tools/libs/util/libxlu_cfg.c, libxlu_disk.c; tools/xl/xl_parse.c, xl_vmcontrol.c
    (
        r"config parsing error|Failed to parse config|Failed to read config file|is not a valid number|Invalid domain type|Unknown \w+ action|Neither kernel nor bootloader specified",
        Cause::GuestConfig,
    ),
    // tools/libs/light/libxl_create.c, libxl_domain.c; of files that are not there tools/libs/guest/xg_dom_core.c, libxl_device.c, libxl_dom.c
    (
        r"contains too many VCPUS|Domain with name .* already exists|No such file or directory",
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

    /// What each record's program meant; `None` where its words are not known, and so the general cause is given.
    const RECORDS: &[(&str, Option<Cause>)] = &[
        ("qemu-cpu-model", Some(Cause::QemuOption)),
        ("qemu-cpu-property", Some(Cause::QemuOption)),
        ("qemu-cpu-type", Some(Cause::QemuOption)),
        ("qemu-device", Some(Cause::QemuOption)),
        ("qemu-device-bus", Some(Cause::QemuOption)),
        ("qemu-device-init", Some(Cause::QemuOption)),
        ("qemu-device-twice", Some(Cause::QemuOption)),
        ("qemu-disk-full", Some(Cause::HostDisk)),
        ("qemu-drive-of-nothing", Some(Cause::QemuOption)),
        ("qemu-kernel-missing", None),
        ("qemu-machine", Some(Cause::QemuOption)),
        ("qemu-memory", Some(Cause::HostMemory)),
        ("qemu-no-accelerator", Some(Cause::QemuOption)),
        ("qemu-no-bus", Some(Cause::QemuOption)),
        ("qemu-no-such-value", Some(Cause::QemuOption)),
        ("qemu-object", Some(Cause::QemuOption)),
        ("qemu-option", Some(Cause::QemuOption)),
        ("qemu-other-bus", Some(Cause::QemuOption)),
        ("qemu-parameter", Some(Cause::QemuOption)),
        ("qemu-parameter-missing", Some(Cause::QemuOption)),
        ("qemu-parameter-value", Some(Cause::QemuOption)),
        ("qemu-processors", Some(Cause::QemuOption)),
        ("qemu-property", Some(Cause::QemuOption)),
        ("qemu-setting", Some(Cause::QemuOption)),
        ("xl-disk-missing", Some(Cause::GuestConfig)),
        ("xl-disk-nonsense", Some(Cause::GuestConfig)),
        ("xl-file-missing", Some(Cause::GuestConfig)),
        ("xl-hvm-no-firmware", Some(Cause::GuestConfig)),
        ("xl-kernel-missing", Some(Cause::GuestConfig)),
        ("xl-kernel-none", Some(Cause::GuestConfig)),
        ("xl-kernel-text", Some(Cause::GuestKernelInvalid)),
        ("xl-memory-no-number", Some(Cause::GuestConfig)),
        ("xl-memory-too-much", Some(Cause::GuestMemory)),
        ("xl-memory-too-small", Some(Cause::GuestMemory)),
        ("xl-on-crash-unknown", Some(Cause::GuestConfig)),
        ("xl-ramdisk-missing", Some(Cause::GuestConfig)),
        ("xl-syntax", Some(Cause::GuestConfig)),
        ("xl-twice", Some(Cause::GuestConfig)),
        ("xl-type-unknown", Some(Cause::GuestConfig)),
        ("xl-vcpus-too-many", Some(Cause::GuestConfig)),
    ];

    /// Patterns that were read in the source and never heard, and why they could not be.
    const UNHEARD: &[(&str, &str)] = &[(
        "failed to free memory for the domain",
        "xl takes memory from dom0 only where dom0_mem does not fix it, as the lab does",
    )];

    fn folder() -> String {
        format!("{}/../../fixtures/said", env!("CARGO_MANIFEST_DIR"))
    }

    fn record(name: &str) -> String {
        let path = format!("{}/{name}.stderr", folder());
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn meant(name: &str, text: &str) -> Option<Cause> {
        if name.starts_with("qemu-") { of_qemu(text) } else { of_xl(text) }
    }

    #[test]
    fn each_record_is_understood() {
        for (name, cause) in RECORDS {
            assert_eq!(meant(name, &record(name)), *cause, "{name}: {}", record(name));
        }
        let mut all: Vec<String> = std::fs::read_dir(folder())
            .unwrap()
            .filter_map(|e| Some(e.unwrap().file_name().to_str()?.strip_suffix(".stderr")?.to_owned()))
            .collect();
        all.sort();
        assert_eq!(all, RECORDS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    /// Each pattern, and each of its alternatives, has a record that it is there for.
    #[test]
    fn each_pattern_was_said() {
        for (program, table) in [("qemu-", QEMU), ("xl-", XL)] {
            let said: Vec<String> =
                RECORDS.iter().filter(|(n, _)| n.starts_with(program)).map(|(n, _)| record(n)).collect();
            for (pattern, _) in table {
                // None of these tables has alternatives but at the top, or in one group that is no choice of words.
                for one in split(pattern) {
                    let hit = said.iter().any(|text| Regex::new(&one).unwrap().is_match(text));
                    let listed = UNHEARD.iter().any(|(words, _)| *words == one);
                    assert!(
                        hit != listed,
                        "`{one}`: {}",
                        if hit { "was recorded" } else { "no record has it" }
                    );
                }
            }
        }
    }

    /// The alternatives of a pattern that are not inside a group.
    fn split(pattern: &str) -> Vec<String> {
        let (mut depth, mut all) = (0, vec![String::new()]);
        for c in pattern.chars() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            match all.last_mut() {
                Some(last) if c != '|' || depth > 0 => last.push(c),
                _ => all.push(String::new()),
            }
        }
        all
    }

    /// A record that ends early or begins late says the same, or nothing, or what one of its later lines says by itself: never what no
    /// line of it says.
    #[test]
    fn cut_anywhere() {
        for (name, whole) in RECORDS {
            let text = record(name);
            let by_line: Vec<_> = text.lines().filter_map(|line| meant(name, line)).collect();
            for n in 0..=100 {
                let at = text.floor_char_boundary(text.len() * n / 100);
                let (begin, end) = text.split_at(at);
                let seen = meant(name, begin);
                assert!(seen.is_none() || seen == *whole, "{name}, the first {at}: {seen:?}");
                let seen = meant(name, end);
                assert!(seen.is_none_or(|s| by_line.contains(&s)), "{name}, from {at}: {seen:?}");
            }
        }
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
