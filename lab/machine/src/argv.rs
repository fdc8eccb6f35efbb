//! QEMU's command line, composed from a [`MachineSpec`]. Pure.

use crate::error::SpecError;
use crate::quirks;
use crate::spec::{Accel, Backing, Boot, BootDisk, DiskAccess, MachineSpec, Payload};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use xenlab_model::Arch;

/// The sockets of a machine. The lab listens and QEMU connects, so nothing it says is missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// Where the monitor connects to.
    pub qmp: PathBuf,
    /// Where the console connects to.
    pub console: PathBuf,
    /// Where the ports of the lab's own shell in dom0 connect to, in the order of [`PORTS`].
    pub ports: [PathBuf; 3],
}

/// Names of the virtio-serial ports of the lab's own shell, as dom0 finds them in `/sys/class/virtio-ports/*/name`: its
/// requests and answers, and what commands write to standard output and standard error. Apart, so that no byte of a
/// command's is ever taken for the shell's, and none has to be escaped.
pub const PORTS: [&str; 3] = ["xenlab.shell", "xenlab.stdout", "xenlab.stderr"];

impl Wiring {
    /// The sockets in a run folder.
    pub fn within(dir: &Path) -> Wiring {
        Wiring { qmp: dir.join("qmp"), console: dir.join("console"), ports: PORTS.map(|name| dir.join(name)) }
    }
}

/// Xen's command line.
///
/// `noreboot`: after a panic Xen halts in place of a reset, so what it said stays the last thing said
/// (docs/misc/xen-command-line.pandoc). `dom0_mem` with `max:` keeps dom0 from sizing its tables for the whole machine.
pub fn xen_command_line(spec: &MachineSpec) -> String {
    let console = match spec.arch {
        Arch::X86_64 => "console=com1 com1=115200,8n1",
        Arch::Aarch64 => "console=dtuart",
    };
    let memory = spec.dom0_memory.as_mib();
    let mut words =
        vec![console.to_owned(), format!("dom0_mem={memory}M,max:{memory}M"), "noreboot".to_owned()];
    words.extend(spec.dom0_vcpus.map(|n| format!("dom0_max_vcpus={n}")));
    words.extend(spec.xen_args.iter().cloned());
    words.join(" ")
}

/// dom0's kernel command line.
pub fn dom0_command_line(spec: &MachineSpec) -> String {
    let mut words = Vec::new();
    if !spec.kernel_alone {
        words.push("console=hvc0".to_owned());
    }
    words.extend(spec.dom0_args.iter().cloned());
    words.join(" ")
}

/// The board, with what has to be different for this QEMU.
fn board(spec: &MachineSpec) -> String {
    let qemu = &spec.qemu;
    match quirks::machine(spec.arch, spec.accel, qemu.version) {
        Some(row) => format!("{},{}", qemu.machine, row.value),
        None => qemu.machine.clone(),
    }
}

/// Has QEMU write the device tree that it would give to this machine, and end. Nothing on the PCI bus is in it.
///
/// # Errors
/// [`SpecError`], as for [`argv`].
pub fn dump_device_tree(spec: &MachineSpec, to: &Path) -> Result<Vec<OsString>, SpecError> {
    let mut argv = Argv(Vec::new());
    argv.flag("-no-user-config").flag("-nodefaults").flag("-S").pair("-display", "none");
    if spec.qemu.sandbox {
        argv.pair("-sandbox", "on,spawn=deny");
    }
    argv.with_path("-machine", &format!("{},dumpdtb=", board(spec)), to, "");
    let accel = if spec.accel == Accel::Tcg { "tcg" } else { "kvm" };
    argv.pair("-accel", accel).pair("-cpu", &spec.cpu_model().0).pair("-smp", &spec.cpus.to_string());
    argv.pair("-m", &format!("{}M", spec.memory.as_mib()));
    let alone = MachineSpec { domains: Vec::new(), device_tree: None, ..spec.clone() };
    boot(&alone, &mut argv)?;
    Ok(argv.0)
}

/// The command line without the program's name.
///
/// # Errors
/// [`SpecError`], when the machine is too small for what it boots or a path cannot be expressed.
pub fn argv(spec: &MachineSpec, wiring: &Wiring) -> Result<Vec<OsString>, SpecError> {
    let mut argv = Argv(Vec::new());
    let qemu = &spec.qemu;
    argv.flag("-no-user-config").flag("-nodefaults").flag("-no-reboot").flag("-S");
    argv.pair("-display", "none");
    if qemu.sandbox {
        argv.pair("-sandbox", "on,spawn=deny");
    }
    let mut machine = board(spec);
    if let Boot::Firmware(BootDisk { flash: Some(_), .. }) = &spec.boot {
        machine.push_str(",pflash0=flash0,pflash1=flash1");
        if let Some(row) = quirks::efi_machine(spec.arch, spec.accel, qemu.version) {
            machine = format!("{machine},{}", row.value);
        }
    }
    if in_backend(spec) {
        machine.push_str(",memory-backend=ram");
    }
    argv.pair("-machine", &machine);
    argv.pair(
        "-accel",
        match spec.accel {
            Accel::Tcg => "tcg,thread=multi",
            Accel::Kvm => "kvm",
        },
    );
    argv.pair("-cpu", &spec.cpu_model().0);
    argv.pair("-smp", &spec.cpus.to_string());
    memory(spec, &mut argv);
    // The clock on the board goes on where it stood when a machine is restored, as every other clock in it does, and stands
    // while the machine is paused or the host sleeps. Every machine has it, so that one from a template is the same machine. One
    // that is nothing but a test runs for a second and is never frozen: its clock goes on while it is paused, see `boot::EDGE`.
    argv.pair("-rtc", if spec.kernel_alone { "base=utc,clock=rt" } else { "base=utc,clock=vm" });
    argv.socket("qmp", &wiring.qmp).pair("-mon", "chardev=qmp,mode=control");
    argv.socket("console", &wiring.console).pair("-serial", "chardev:console");
    boot(spec, &mut argv)?;
    for (i, disk) in spec.disks.iter().enumerate() {
        match disk.access {
            DiskAccess::ReadOnly => {
                argv.with_path("-blockdev", &read_only(&format!("disk{i}")), &disk.path, "")
            }
            DiskAccess::Snapshot => argv.with_path(
                "-drive",
                &format!("if=none,id=disk{i},format=raw,snapshot=on,file="),
                &disk.path,
                "",
            ),
        };
        let serial = disk.serial.as_ref().map(|serial| format!(",serial={serial}")).unwrap_or_default();
        argv.pair("-device", &format!("virtio-blk-pci,drive=disk{i}{serial}"));
    }
    if spec.network {
        // restrict=on: the guest reaches nothing but what it is asked through the forwarded port, which the host chooses.
        argv.pair("-netdev", "user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:0-:22");
        argv.pair("-device", "virtio-net-pci,netdev=net0,romfile=");
    }
    // Port 0 is for a console. No more than there are: dom0 sets up two queues for each that there could be.
    argv.pair("-device", &format!("virtio-serial-pci,id=ports,max_ports={}", PORTS.len() + 1));
    for (i, (name, path)) in PORTS.iter().zip(&wiring.ports).enumerate() {
        argv.socket(&format!("port{i}"), path);
        argv.pair("-device", &format!("virtserialport,bus=ports.0,nr={},chardev=port{i},name={name}", i + 1));
    }
    argv.pair("-object", "rng-builtin,id=rng0").pair("-device", "virtio-rng-pci,rng=rng0");
    for device in &spec.devices {
        argv.pair("-device", device);
    }
    if let Boot::Firmware(disk) = &spec.boot {
        // The last of the disks, so that dom0's own have the names that they have without it.
        argv.with_path("-blockdev", &read_only("boot"), &disk.path, "");
        argv.pair("-device", "virtio-blk-pci,drive=boot,bootindex=0");
    }
    Ok(argv.0)
}

/// A `-blockdev` of a raw image that is only read, up to its path. Unlocked: the store never writes to an image it has published, and
/// QEMU's lock would keep out the next machine if the first ever opened it for writing.
fn read_only(node: &str) -> String {
    format!(
        "driver=raw,node-name={node},read-only=on,file.driver=file,file.read-only=on,file.locking=off,file.filename="
    )
}

/// The machine's memory has an object of its own. Emulated, a guest boots some 7 to 12 % sooner in shared memory, a template's or not: the
/// host makes a page at a time, where private memory that QEMU asks huge pages for is cleared 2 MiB at a time, most of which a dom0 never
/// looks at. What KVM maps is better off with huge pages.
fn in_backend(spec: &MachineSpec) -> bool {
    spec.backing != Backing::Private || spec.accel == Accel::Tcg
}

fn memory(spec: &MachineSpec, argv: &mut Argv) {
    let size = format!("{}M", spec.memory.as_mib());
    argv.pair("-m", &size);
    let (file, how) = match &spec.backing {
        Backing::Private if in_backend(spec) => {
            argv.pair("-object", &format!("memory-backend-ram,id=ram,size={size},share=on"));
            return;
        }
        Backing::Private => return,
        Backing::Build(file) => (file, "share=on"),
        Backing::CopyOf(file) => {
            (file, quirks::copy_of_memory(spec.arch, spec.accel, spec.qemu.version).value)
        }
    };
    argv.with_path("-object", &format!("memory-backend-file,id=ram,size={size},{how},mem-path="), file, "");
}

fn boot(spec: &MachineSpec, argv: &mut Argv) -> Result<(), SpecError> {
    let dom0 = dom0_command_line(spec);
    if spec.without_xen {
        // No hvc0 without Xen: the machine's own serial port, which Xen's console is otherwise.
        let serial = match spec.arch {
            Arch::X86_64 => "ttyS0",
            Arch::Aarch64 => "ttyAMA0",
        };
        argv.option("-kernel").path(&spec.kernel.path);
        argv.pair("-append", &dom0.replace("console=hvc0", &format!("console={serial}")));
        argv.option("-initrd").path(&spec.initrd.path);
        return Ok(());
    }
    if let Boot::Firmware(disk) = &spec.boot {
        if let Some(flash) = &disk.flash {
            argv.with_path("-blockdev", &read_only("flash0"), &flash.code, "");
            argv.with_path(
                "-blockdev",
                "driver=raw,node-name=flash1,file.driver=file,file.filename=",
                &flash.vars,
                "",
            );
        }
        return Ok(());
    }
    argv.option("-kernel").path(&spec.xen.path);
    argv.pair("-append", &xen_command_line(spec));
    match spec.arch {
        Arch::X86_64 => {
            // hw/i386/multiboot.c: modules are separated by commas (doubled where meant), each is a file name up to the
            // first space and then its command line.
            let files = [Some(&spec.kernel), (!spec.kernel_alone).then_some(&spec.initrd)];
            for payload in files.into_iter().flatten() {
                if payload.path.as_os_str().as_bytes().contains(&b' ') {
                    return Err(SpecError::Space(payload.path.clone()));
                }
            }
            let mut modules = doubled(spec.kernel.path.as_os_str());
            modules.push(" ");
            modules.push(doubled(OsStr::new(&dom0)));
            if !spec.kernel_alone {
                modules.push(",");
                modules.push(doubled(spec.initrd.path.as_os_str()));
            }
            argv.option("-initrd").0.push(modules);
        }
        Arch::Aarch64 => {
            let (kernel, initrd) = addresses(spec)?;
            let bootargs = doubled(OsStr::new(&dom0));
            let bootargs = bootargs.to_string_lossy();
            argv.with_path(
                "-device",
                &format!("guest-loader,addr={kernel:#x},bootargs={bootargs},kernel="),
                &spec.kernel.path,
                "",
            );
            argv.with_path(
                "-device",
                &format!("guest-loader,addr={initrd:#x},initrd="),
                &spec.initrd.path,
                "",
            );
            for (domain, (kernel, initrd)) in spec.domains.iter().zip(domain_addresses(spec)?) {
                let mut load = |at: u64, payload: &Payload| {
                    let before = format!("loader,addr={at:#x},force-raw=on,file=");
                    argv.with_path("-device", &before, &payload.path, "");
                };
                load(kernel, &domain.kernel);
                if let Some(payload) = &domain.initrd {
                    load(initrd, payload);
                }
            }
            if let Some(tree) = &spec.device_tree {
                argv.option("-dtb").path(tree);
            }
        }
    }
    Ok(())
}

const MIB: u64 = 1 << 20;
/// Where the `virt` board's memory begins (QEMU, hw/arm/virt.c, `base_memmap`).
const RAM: u64 = 0x4000_0000;
/// QEMU puts the device tree where an initrd of its own would go, at most 128 MiB in (hw/arm/boot.c), and gives it 1 MiB
/// (`FDT_MAX_SIZE`, include/hw/boards.h). The first module goes well behind that.
const FIRST_MODULE: u64 = 144 * MIB;
/// Modules begin at multiples of this, so that Xen can map them with its largest pages below 1 GiB.
const ALIGN: u64 = 2 * MIB;

/// Where dom0's kernel and initramfs are put into the memory of an AArch64 machine: behind Xen and the device tree,
/// the one after the other.
///
/// # Errors
/// [`SpecError::TooSmall`] when they do not fit.
pub fn addresses(spec: &MachineSpec) -> Result<(u64, u64), SpecError> {
    // Xen is loaded 2 MiB in. One that reaches the modules is no Xen; still it must not be overwritten silently.
    let kernel = FIRST_MODULE.max(after(ALIGN, &spec.xen));
    let initrd = after(kernel, &spec.kernel);
    let end = after(initrd, &spec.initrd);
    if end > spec.memory.0 {
        return Err(SpecError::TooSmall { memory: spec.memory.as_mib(), needed: end.div_ceil(MIB) });
    }
    Ok((RAM + kernel, RAM + initrd))
}

/// Where what a payload at `start` leaves room for the next begins. A size that does not fit into the address space ends above every
/// machine's memory.
fn after(start: u64, payload: &Payload) -> u64 {
    let end = start.checked_add(payload.size).and_then(|end| end.checked_next_multiple_of(ALIGN));
    end.unwrap_or(u64::MAX)
}

/// Where kernel and initramfs of each domain that Xen makes are put: behind dom0's. The second is of no use where a domain has none.
///
/// # Errors
/// [`SpecError::TooSmall`] when they do not fit.
pub fn domain_addresses(spec: &MachineSpec) -> Result<Vec<(u64, u64)>, SpecError> {
    let mut next = after(addresses(spec)?.1, &spec.initrd);
    let mut all = Vec::new();
    for domain in &spec.domains {
        let (kernel, initrd) = (next, after(next, &domain.kernel));
        next = domain.initrd.as_ref().map_or(initrd, |payload| after(initrd, payload));
        all.push((kernel, initrd));
    }
    let end = next.saturating_sub(RAM);
    if end > spec.memory.0 {
        return Err(SpecError::TooSmall { memory: spec.memory.as_mib(), needed: end.div_ceil(MIB) });
    }
    Ok(all)
}

/// QEMU's option syntax: a comma in a value is written twice.
fn doubled(text: &OsStr) -> OsString {
    let mut out = Vec::with_capacity(text.len());
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == b',' {
            out.push(b',');
        }
    }
    OsString::from_vec(out)
}

struct Argv(Vec<OsString>);

impl Argv {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.into());
        self
    }

    fn option(&mut self, option: &str) -> &mut Self {
        self.flag(option)
    }

    fn path(&mut self, path: &Path) -> &mut Self {
        self.0.push(path.into());
        self
    }

    fn pair(&mut self, option: &str, value: &str) -> &mut Self {
        self.flag(option).flag(value)
    }

    fn with_path(&mut self, option: &str, before: &str, path: &Path, after: &str) -> &mut Self {
        let mut value = OsString::from(before);
        value.push(doubled(path.as_os_str()));
        value.push(after);
        self.flag(option).0.push(value);
        self
    }

    fn socket(&mut self, id: &str, path: &Path) -> &mut Self {
        self.with_path("-chardev", &format!("socket,id={id},server=off,path="), path, "")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::qemu::{QemuInfo, QemuVersion};
    use crate::spec::{Disk, Flash};
    use std::sync::Arc;
    use xenlab_model::units::Size;

    pub(crate) fn spec(arch: Arch, version: [u32; 3], accel: Accel) -> MachineSpec {
        let [major, minor, micro] = version;
        let board = match arch {
            Arch::X86_64 => "pc-q35",
            Arch::Aarch64 => "virt",
        };
        let machine = format!("{board}-{major}.{minor}");
        let qemu = QemuInfo {
            path: format!("/usr/bin/qemu-system-{arch}").into(),
            arch,
            version: QemuVersion { major, minor, micro },
            package: String::new(),
            machines: vec![machine.clone()],
            machine,
            sandbox: true,
            stamp: String::new(),
        };
        let payload = |path: &str, mib: u64| Payload { path: path.into(), size: mib << 20 };
        let mut spec = MachineSpec::new(
            Arc::new(qemu),
            accel,
            payload("/s/xen", 2),
            payload("/s/vmlinux", 33),
            payload("/s/initrd", 5),
        );
        spec.disks = vec![Disk::read_only("/s/userland.squashfs"), Disk::read_only("/s/tools.squashfs")];
        spec
    }

    fn wiring() -> Wiring {
        Wiring::within(Path::new("/run/x/AbCdEf"))
    }

    pub(crate) fn by_firmware(arch: Arch, efi: bool) -> MachineSpec {
        let mut spec = spec(arch, [10, 0, 2], Accel::Tcg);
        let flash = efi.then(|| Flash {
            code: "/s/code,4M.fd".into(),
            vars: "/run/x/vars".into(),
            vars_bytes: 1 << 20,
        });
        spec.boot = Boot::Firmware(BootDisk { path: "/run/x/boot-disk".into(), bytes: 1 << 27, flash });
        spec
    }

    /// An option and its value a line.
    fn shown(argv: &[OsString]) -> String {
        let words = argv.iter().map(|a| a.to_string_lossy());
        words.fold(String::new(), |text, word| match (text.is_empty(), word.starts_with('-')) {
            (true, _) => word.into_owned(),
            (false, true) => format!("{text}\n{word}"),
            (false, false) => format!("{text} {word}"),
        })
    }

    #[test]
    fn command_lines() {
        for arch in Arch::ALL {
            for version in [[7, 2, 22], [10, 0, 2], [11, 1, 3]] {
                for accel in [Accel::Tcg, Accel::Kvm] {
                    let name = format!("{arch}-{}.{}-{accel}", version[0], version[1]);
                    insta::assert_snapshot!(
                        name,
                        shown(&argv(&spec(arch, version, accel), &wiring()).unwrap())
                    );
                }
            }
        }
    }

    #[test]
    fn a_template_and_its_clone_differ_in_where_their_memory_is() {
        for arch in Arch::ALL {
            for version in [[7, 2, 22], [8, 2, 0], [10, 0, 2], [11, 1, 3]] {
                let mut spec = spec(arch, version, Accel::Tcg);
                let lines = |spec: &MachineSpec| shown(&argv(spec, &wiring()).unwrap());
                spec.backing = Backing::Build("/t,1/ram".into());
                let template = lines(&spec);
                spec.backing = Backing::CopyOf("/t,1/ram".into());
                let clone = lines(&spec);
                let (is, was): (Vec<_>, Vec<_>) =
                    clone.lines().zip(template.lines()).filter(|(a, b)| a != b).unzip();
                assert_eq!((is.len(), clone.lines().count()), (1, template.lines().count()), "{clone}");
                insta::assert_snapshot!(
                    format!("memory-{arch}-{}.{}", version[0], version[1]),
                    format!("template: {}\nclone: {}", was[0], is[0])
                );
                let machine = template.lines().find(|l| l.starts_with("-machine")).unwrap();
                assert!(machine.ends_with(",memory-backend=ram"), "{machine}");
            }
        }
    }

    #[test]
    fn what_a_user_can_ask_for() {
        for arch in Arch::ALL {
            let mut spec = spec(arch, [10, 0, 2], Accel::Tcg);
            Arc::make_mut(&mut spec.qemu).sandbox = false;
            spec.cpu = Some("qemu64,+svm".to_owned());
            spec.cpus = 4;
            (spec.memory, spec.dom0_memory, spec.dom0_vcpus) = (Size::mib(4096), Size::mib(512), Some(1));
            spec.xen_args = vec!["bootscrub=0".to_owned(), "loglvl=all".to_owned()];
            spec.dom0_args = vec!["quiet".to_owned(), "a=1,2".to_owned()];
            spec.kernel.path = "/odd,path/Image".into();
            spec.initrd.path = "/odd,path/initrd".into();
            spec.disks = vec![Disk::snapshot("/odd,path/root with space.img")];
            spec.network = false;
            spec.devices = vec!["usb-ehci,id=e".to_owned()];
            insta::assert_snapshot!(format!("{arch}-asked"), shown(&argv(&spec, &wiring()).unwrap()));
        }
    }

    #[test]
    fn without_xen_the_kernel_is_the_machines_own() {
        for (arch, serial) in [(Arch::X86_64, "ttyS0"), (Arch::Aarch64, "ttyAMA0")] {
            let mut spec = spec(arch, [10, 0, 2], Accel::Tcg);
            spec.without_xen = true;
            let text = shown(&argv(&spec, &wiring()).unwrap());
            assert!(
                text.contains(&format!(
                    "\n-kernel /s/vmlinux\n-append console={serial}\n-initrd /s/initrd\n"
                )),
                "{text}"
            );
            assert!(!text.contains("/s/xen") && !text.contains("dom0_mem"), "{text}");
        }
    }

    #[test]
    fn a_module_with_a_space_in_its_path_is_refused_on_x86() {
        let mut spec = spec(Arch::X86_64, [10, 0, 2], Accel::Tcg);
        spec.initrd.path = "/a b/initrd".into();
        assert_eq!(argv(&spec, &wiring()), Err(SpecError::Space("/a b/initrd".into())));
    }

    #[test]
    fn modules_do_not_overlap_and_fit() {
        for (xen, kernel, initrd) in
            [(1, 1, 1), (1 << 20, 33 << 20, 5 << 20), (983_048, (33 << 20) + 1, 300 << 20), (200 << 20, 1, 1)]
        {
            let mut spec = spec(Arch::Aarch64, [10, 0, 2], Accel::Tcg);
            (spec.xen.size, spec.kernel.size, spec.initrd.size) = (xen, kernel, initrd);
            let (k, i) = addresses(&spec).unwrap();
            assert!(k >= RAM + FIRST_MODULE && k >= RAM + ALIGN + xen && k % ALIGN == 0);
            assert!(i >= k + kernel && i % ALIGN == 0);
            assert!(i + initrd <= RAM + spec.memory.0);
        }
    }

    #[test]
    fn a_machine_too_small_for_what_it_boots_is_refused() {
        let mut spec = spec(Arch::Aarch64, [10, 0, 2], Accel::Tcg);
        spec.memory = Size::mib(160);
        let error = argv(&spec, &wiring()).unwrap_err();
        assert_eq!(error, SpecError::TooSmall { memory: 160, needed: 184 });
        spec.kernel.size = u64::MAX;
        assert!(matches!(addresses(&spec), Err(SpecError::TooSmall { .. })));
    }

    #[test]
    fn what_firmware_boots_is_a_disk_behind_the_others() {
        for (name, spec) in [
            ("bios", by_firmware(Arch::X86_64, false)),
            ("uefi-x86_64", by_firmware(Arch::X86_64, true)),
            ("uefi-aarch64", by_firmware(Arch::Aarch64, true)),
        ] {
            insta::assert_snapshot!(name, shown(&argv(&spec, &wiring()).unwrap()));
        }
    }
}
