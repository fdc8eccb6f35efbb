//! What a template depends on, as named parts of its key.

use crate::argv::{Wiring, argv};
use crate::error::SpecError;
use crate::quirks;
use crate::spec::{Accel, Backing, Boot, MachineSpec};
use std::path::Path;
use xenlab_model::Arch;

/// Counted up when the lab comes to make templates or clones in another way, so that those of before are not used.
const FORMAT: u32 = 1;

/// Everything that a template of this machine depends on, each part with its name, in the order in which people want to see
/// them. `artefacts` are names and digests of what the machine is made of (hypervisor, kernel, initramfs, disks, and what the
/// case puts into dom0): this crate reads none of them. Of the host what counts is read from `/proc/cpuinfo`.
///
/// # Errors
/// [`SpecError`], as for the command line.
pub fn template_parts(
    spec: &MachineSpec,
    artefacts: &[(String, String)],
) -> Result<Vec<(String, String)>, SpecError> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    parts(spec, artefacts, &cpuinfo)
}

fn parts(
    spec: &MachineSpec,
    artefacts: &[(String, String)],
    cpuinfo: &str,
) -> Result<Vec<(String, String)>, SpecError> {
    let qemu = &spec.qemu;
    let mut parts = artefacts.to_vec();
    let mut part = |name: &str, value: String| parts.push((name.to_owned(), value));
    part("format", FORMAT.to_string());
    part("architecture", spec.arch.to_string());
    part("qemu", qemu.shown());
    // Of a script it is the script's own: what that runs shows in the line above only.
    part("qemu binary", qemu.stamp.clone());
    part("machine type", qemu.machine.clone());
    part("accelerator", spec.accel.to_string());
    part("cpu model", spec.cpu_model().0);
    if spec.arch == Arch::X86_64 {
        part("host tsc", tsc(cpuinfo).map_or("unknown".to_owned(), |mhz| format!("{mhz} MHz")));
    }
    if spec.accel == Accel::Kvm {
        // What `-cpu host` is to the guest.
        let host = |name| field(cpuinfo, name).unwrap_or("unknown");
        part("host cpu", format!("{} {}", host("model name"), host("stepping")));
        let features = if spec.arch == Arch::X86_64 { "flags" } else { "Features" };
        part("host cpu features", host(features).to_owned());
    }
    part("clone memory", quirks::copy_of_memory(spec.arch, spec.accel, qemu.version).value.to_owned());
    part("command line", command_line(spec)?);
    Ok(parts)
}

fn field<'a>(cpuinfo: &'a str, name: &str) -> Option<&'a str> {
    let of =
        |line: &'a str| line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, v)| v.trim());
    cpuinfo.lines().find_map(of)
}

/// The host's TSC in MHz. Xen measured it when it booted, and under emulation too the guest's TSC is the host's (QEMU,
/// softmmu/cpus.c, `cpu_get_ticks`). Linux says it as bogomips, which on x86 are twice the TSC's MHz
/// (arch/x86/kernel/tsc.c, `lpj_fine`); its own measurement differs by less than 0.01 % between two starts of a host, so whole
/// MHz are enough to tell hosts apart without telling a host from itself. A clock that runs wrong by less than that drifts by
/// less than 0.4 ms in a second.
fn tsc(cpuinfo: &str) -> Option<u64> {
    if !field(cpuinfo, "flags")?.split_whitespace().any(|flag| flag == "tsc") {
        return None;
    }
    let bogomips: f64 = field(cpuinfo, "bogomips")?.parse().ok()?;
    (bogomips > 0.0).then(|| (bogomips / 2.0).round() as u64)
}

/// The command line without what is another one each time, and without the places of files whose digests are parts.
fn command_line(spec: &MachineSpec) -> Result<String, SpecError> {
    let mut spec = spec.clone();
    spec.backing = Backing::Build("RAM".into());
    spec.xen.path = "XEN".into();
    spec.kernel.path = "KERNEL".into();
    spec.initrd.path = "INITRD".into();
    if let Boot::Firmware(disk) = &mut spec.boot {
        disk.path = "BOOT".into();
        if let Some(flash) = &mut disk.flash {
            (flash.code, flash.vars) = ("FIRMWARE".into(), "VARIABLES".into());
        }
    }
    for (i, disk) in spec.disks.iter_mut().enumerate() {
        disk.path = format!("DISK{i}").into();
    }
    let words = argv(&spec, &Wiring::within(Path::new("RUN")))?;
    let words: Vec<String> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    // One string for one list: words with spaces in them are told from two.
    Ok(words
        .iter()
        .map(|w| if w.contains(' ') { format!("{w:?}") } else { w.clone() })
        .collect::<Vec<_>>()
        .join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::argv::tests::{by_firmware, spec};
    use crate::spec::Disk;
    use std::sync::Arc;

    const HOST: &str = "processor\t: 0\nmodel name\t: AMD EPYC\nstepping\t: 1\ncpu MHz\t\t: 3411.9\nflags\t\t: fpu tsc msr\n\
                        bogomips\t: 5192.18\n\nprocessor\t: 1\nbogomips\t: 5192.18\n";

    fn digests() -> Vec<(String, String)> {
        vec![("xen".to_owned(), "aa".to_owned())]
    }

    fn of(spec: &MachineSpec, host: &str) -> Vec<(String, String)> {
        parts(spec, &digests(), host).unwrap()
    }

    #[test]
    fn named_parts() {
        let shown = |arch, accel| {
            let lines = of(&spec(arch, [10, 0, 2], accel), HOST);
            lines.into_iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>()
        };
        insta::assert_snapshot!("parts-x86_64-tcg", shown(Arch::X86_64, Accel::Tcg));
        insta::assert_snapshot!("parts-x86_64-kvm", shown(Arch::X86_64, Accel::Kvm));
        insta::assert_snapshot!("parts-aarch64-tcg", shown(Arch::Aarch64, Accel::Tcg));
    }

    #[test]
    fn places_do_not_count_and_everything_else_does() {
        let first = spec(Arch::X86_64, [10, 0, 2], Accel::Tcg);
        let mut moved = first.clone();
        moved.backing = Backing::CopyOf("/t/ram".into());
        (moved.xen.path, moved.kernel.path) = ("/other/xen".into(), "/other/kernel".into());
        moved.initrd.path = "/run/another/initrd".into();
        moved.disks[0].path = "/other/userland".into();
        assert_eq!(of(&first, HOST), of(&moved, HOST));
        let changes: [fn(&mut MachineSpec); 9] = [
            |s| s.cpus = 4,
            |s| s.cpu = Some("qemu64".to_owned()),
            |s| s.memory = xenlab_model::units::Size::mib(2048),
            |s| s.xen_args.push("a".to_owned()),
            |s| s.dom0_args.push("a".to_owned()),
            |s| s.network = false,
            |s| s.disks.push(Disk::read_only("/s/userland.squashfs")),
            |s| Arc::make_mut(&mut s.qemu).package = "Debian 2".to_owned(),
            |s| Arc::make_mut(&mut s.qemu).stamp = "another".to_owned(),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut other = first.clone();
            change(&mut other);
            assert_ne!(of(&first, HOST), of(&other, HOST), "change {i}");
        }
        let other = parts(&first, &[("xen".to_owned(), "ab".to_owned())], HOST).unwrap();
        assert_ne!(of(&first, HOST), other);
    }

    #[test]
    fn a_boot_disk_is_told_by_what_lies_on_it() {
        let first = by_firmware(Arch::X86_64, true);
        let mut moved = first.clone();
        if let Boot::Firmware(disk) = &mut moved.boot {
            (disk.path, disk.bytes) = ("/run/y/boot-disk".into(), 1 << 28);
            let flash = disk.flash.as_mut().unwrap();
            (flash.code, flash.vars) = ("/other/code".into(), "/run/y/vars".into());
        }
        assert_eq!(of(&first, HOST), of(&moved, HOST));
        for other in [by_firmware(Arch::X86_64, false), spec(Arch::X86_64, [10, 0, 2], Accel::Tcg)] {
            assert_ne!(of(&first, HOST), of(&other, HOST));
        }
    }

    #[test]
    fn the_hosts_clock_counts_where_the_guest_sees_it() {
        assert_eq!(tsc(HOST), Some(2596));
        assert_eq!(
            tsc(&HOST.replace("5192.18", "5192.4")),
            Some(2596),
            "another measurement of the same host"
        );
        assert_eq!(tsc("Features: fp\nBogoMIPS: 50.00\n"), None);
        let another = HOST.replace("5192.18", "4200.00");
        for (arch, differs) in [(Arch::X86_64, true), (Arch::Aarch64, false)] {
            let spec = spec(arch, [10, 0, 2], Accel::Tcg);
            assert_eq!(of(&spec, HOST) != of(&spec, &another), differs, "{arch}");
        }
    }
}
