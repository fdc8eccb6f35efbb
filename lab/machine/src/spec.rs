//! What a machine is made of.

use crate::qemu::QemuInfo;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use xenlab_model::Arch;
use xenlab_model::units::Size;

/// What runs the machine's processors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accel {
    /// QEMU's emulation.
    Tcg,
    /// The host's hardware virtualization.
    Kvm,
}

impl Accel {
    /// QEMU's name, which is the scenarios' too.
    pub fn name(self) -> &'static str {
        match self {
            Accel::Tcg => "tcg",
            Accel::Kvm => "kvm",
        }
    }
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A file QEMU puts into the machine's memory before it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Where it is.
    pub path: PathBuf,
    /// Bytes: where the next one can begin.
    pub size: u64,
}

impl Payload {
    /// Looks at the file.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of(path: impl Into<PathBuf>) -> io::Result<Payload> {
        let path = path.into();
        Ok(Payload { size: std::fs::metadata(&path)?.len(), path })
    }
}

/// What the guest may do to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskAccess {
    /// Read. Any number of machines share the image.
    ReadOnly,
    /// Write to a temporary overlay of QEMU's own, gone when it ends; the image is only read.
    Snapshot,
}

/// A raw image attached as a virtio disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// What may be done to it.
    pub access: DiskAccess,
    /// Its serial number, by which a guest that knows no other name finds it.
    pub serial: Option<String>,
}

impl Disk {
    /// A disk the guest can only read.
    pub fn read_only(path: impl Into<PathBuf>) -> Disk {
        Disk { path: path.into(), access: DiskAccess::ReadOnly, serial: None }
    }

    /// A disk the guest may write to; what it writes is gone with the machine.
    pub fn snapshot(path: impl Into<PathBuf>) -> Disk {
        Disk { access: DiskAccess::Snapshot, ..Disk::read_only(path) }
    }
}

/// Where the machine's memory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backing {
    /// QEMU's own, gone with it.
    Private,
    /// This file, which every write of the guest goes to: a template being made. QEMU makes the file as long as the memory. See
    /// [`Memory`](crate::Memory).
    Build(PathBuf),
    /// A copy of this file that is made page by page, as the guest writes: a clone. Any number of machines share the file.
    CopyOf(PathBuf),
}

/// What brings Xen into the machine's memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Boot {
    /// QEMU, which loads Xen, dom0's kernel and the initramfs itself.
    #[default]
    Direct,
    /// Firmware, from a disk on which they lie.
    Firmware(BootDisk),
}

/// The disk that firmware boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootDisk {
    /// A raw image, which the machine can only read.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// EFI firmware; without it the board's own, which on x86 is SeaBIOS.
    pub flash: Option<Flash>,
}

/// EFI firmware, as the board's two flash chips hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flash {
    /// Its code, which is only read.
    pub code: PathBuf,
    /// Its variables: this machine's own copy, which it writes to.
    pub vars: PathBuf,
    /// Their size.
    pub vars_bytes: u64,
}

impl BootDisk {
    /// Its name in a run folder.
    pub const FILE: &str = "boot-disk";
}

impl Flash {
    /// The name of its variables in a run folder.
    pub const VARS: &str = "efi-variables";
}

/// A domain that Xen makes by itself (dom0less), as the device tree has it (docs/misc/arm/device-tree/booting.txt).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Domain {
    /// The name of its node.
    pub name: String,
    /// Its kernel.
    pub kernel: Payload,
    /// Where the tree says that its kernel is; where it is put when not said.
    pub kernel_at: Option<u64>,
    /// Its initramfs.
    pub initrd: Option<Payload>,
    /// Its memory.
    pub memory: Size,
    /// Its vCPUs.
    pub vcpus: u32,
    /// Its kernel's command line.
    pub args: String,
}

/// A machine: everything its command line is made of, but for the sockets.
#[derive(Debug, Clone)]
pub struct MachineSpec {
    /// The architecture.
    pub arch: Arch,
    /// The QEMU that runs it.
    pub qemu: Arc<QemuInfo>,
    /// What runs its processors.
    pub accel: Accel,
    /// QEMU's `-cpu`; absent, what [`quirks`](crate::quirks) knows to work.
    pub cpu: Option<String>,
    /// Processors.
    pub cpus: u32,
    /// Memory of the machine.
    pub memory: Size,
    /// Where that memory is.
    pub backing: Backing,
    /// The hypervisor: as `-kernel` takes it an ELF for x86, an `Image` for AArch64, not compressed; as firmware boots it what is on the
    /// disk.
    pub xen: Payload,
    /// What loads it.
    pub boot: Boot,
    /// dom0's kernel.
    pub kernel: Payload,
    /// dom0's initramfs.
    pub initrd: Payload,
    /// Memory of dom0.
    pub dom0_memory: Size,
    /// dom0's vCPUs; absent, Xen decides (one for each processor).
    pub dom0_vcpus: Option<u32>,
    /// Added to Xen's command line, after the lab's own: of two the last counts.
    pub xen_args: Vec<String>,
    /// Added to the kernel's command line, after the lab's own.
    pub dom0_args: Vec<String>,
    /// Disks, `vda` first.
    pub disks: Vec<Disk>,
    /// A network card, with dom0's port 22 forwarded from a port of the loopback that the host chooses.
    pub network: bool,
    /// More `-device` arguments.
    pub devices: Vec<String>,
    /// Leave Xen out and boot dom0's kernel on the bare machine: what must never be taken for a dom0.
    pub without_xen: bool,
    /// Domains that Xen makes by itself when it boots. AArch64 only, and only where QEMU loads Xen.
    pub domains: Vec<Domain>,
    /// The device tree that QEMU is given in place of its own, with those domains in it; see [`device_tree`](crate::device_tree).
    pub device_tree: Option<PathBuf>,
    /// dom0 is its kernel and nothing else: no initramfs, no words of the lab's own on its command line. x86 only.
    pub kernel_alone: bool,
}

impl MachineSpec {
    /// A machine of these files with everything else as usual: 2 processors, 1 GiB for dom0, a network card.
    pub fn new(
        qemu: Arc<QemuInfo>,
        accel: Accel,
        xen: Payload,
        kernel: Payload,
        initrd: Payload,
    ) -> MachineSpec {
        let dom0_memory = Size::mib(1024);
        MachineSpec {
            arch: qemu.arch,
            qemu,
            accel,
            cpu: None,
            cpus: 2,
            memory: MachineSpec::memory_for(dom0_memory),
            backing: Backing::Private,
            xen,
            boot: Boot::Direct,
            kernel,
            initrd,
            dom0_memory,
            dom0_vcpus: None,
            xen_args: Vec::new(),
            dom0_args: Vec::new(),
            disks: Vec::new(),
            network: true,
            devices: Vec::new(),
            without_xen: false,
            kernel_alone: false,
            domains: Vec::new(),
            device_tree: None,
        }
    }

    /// The machine's memory when the scenario does not say it: dom0's and half a GiB for Xen and its guests.
    pub fn memory_for(dom0: Size) -> Size {
        Size(dom0.0.saturating_add(Size::mib(512).0))
    }

    /// The `-cpu` in force, and why it is that one.
    pub fn cpu_model(&self) -> (String, &'static str) {
        match &self.cpu {
            Some(cpu) => (cpu.clone(), "asked for"),
            None => {
                let row = crate::quirks::cpu(self.arch, self.accel, self.qemu.version);
                (row.value.to_owned(), row.because)
            }
        }
    }

    /// Why no template can be taken of this machine, when that is known before it is tried.
    pub fn cannot_freeze(&self) -> Option<String> {
        if self.qemu.version < crate::qemu::OLDEST {
            return Some(format!("QEMU {} is older than {}", self.qemu.version, crate::qemu::OLDEST));
        }
        if !self.domains.is_empty() {
            return Some("Xen is to make domains by itself, which it does only when it boots".to_owned());
        }
        // What the guest wrote to it is in a temporary file of QEMU's, which a clone has not.
        self.disks.iter().find(|d| d.access == DiskAccess::Snapshot).map(|d| {
            format!(
                "the guest writes to a disk ({}), and what it wrote would not be in the clone",
                d.path.display()
            )
        })
    }
}
