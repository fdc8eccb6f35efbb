//! What to try, for a reader who does not know Xen.

use super::Cause;

impl Cause {
    /// What to look at or to change first; nothing where the message has said it.
    pub fn advice(self) -> Option<&'static str> {
        Some(match self {
            Cause::XenPanic | Cause::XenPageFault => {
                "look at the first line of `where` and what called it; boot once more with `--set xen.args=[loglvl=all,sync_console]` \
                 for Xen's last words before it; if an older build boots, `xenlab bump OLD NEW` compares the two. A build from source \
                 has xen-syms, which gives source lines"
            }
            Cause::XenBug => {
                "the message names the source file and line of the check: look at what changed there since the last good build, and \
                 take the `called from` line into a report to xen-devel"
            }
            Cause::BuildFailed => {
                "the log has every command; where it is the tools that do not compile and the hypervisor is what matters, \
                 `--build-option tools=false` takes those of the Debian suite of the same version, and `--tools SPEC` any others"
            }
            Cause::PkgConfigMissing => {
                "`xenlab inspect` shows where the build's development files were looked for; a build in parts needs the part that has them \
                 (`dev`, or a -dev package)"
            }
            Cause::XenMemory => "give Xen more: take `mem=` out of xen.args, or raise machine.memory",
            Cause::XenIommu => {
                "the machine has no IOMMU: take `dom0=pvh` or `iommu=required` out of xen.args, or add one \
                 (machine.devices: [intel-iommu] or [amd-iommu])"
            }
            Cause::XenSilent => {
                "see that the image is for this architecture and boots by this way (`xenlab inspect`), that its build has a driver for the \
                 serial port, and that xen.args does not turn the console away (`console=`)"
            }
            Cause::XenHung => {
                "boot once more with `--set xen.args=[loglvl=all,sync_console]`; `xenlab run --keep failed` and then `xenlab gdb` show \
                 where each processor stands"
            }
            Cause::Dom0Silent => {
                "dom0's kernel must have Xen's console (CONFIG_HVC_XEN) and know to be a dom0 (CONFIG_XEN_DOM0); try Debian's kernel \
                 (dom0.kernel) to tell the kernel from Xen"
            }
            Cause::Dom0Hung | Cause::Dom0NotReady => {
                "`xenlab run --keep failed` and `xenlab console` show what dom0 does; `last heard` says where it stopped; a slow userland \
                 may need a longer limits.boot"
            }
            Cause::Dom0Memory => {
                "raise dom0.memory (512M is enough for the minimal userland), and machine.memory with it"
            }
            Cause::Dom0Panic => {
                "see `where` and `called from`: where a module is named, try without it; try Debian's kernel (dom0.kernel) to tell the \
                 kernel from Xen"
            }
            Cause::Dom0InitDied => {
                "an exit code of 0x100 is status 1, 0x7f00 says that a program was not found, 0xb that it was killed by signal 11: look \
                 at dom0's last lines, at `rdinit=`/`init=` in dom0.args, and whether the initramfs is for this architecture"
            }
            Cause::Dom0AskedToCrash => {
                "nothing is broken: take what writes `c` to /proc/sysrq-trigger out of the scenario"
            }
            Cause::Dom0NoRoot => {
                "see that dom0.args names a disk that the machine has, and that the initramfs has the modules for it (virtio_blk, squashfs, \
                 overlay)"
            }
            Cause::Dom0NoInitramfs => {
                "the initramfs is missing, cut off or packed in a way that this kernel cannot unpack: make it again"
            }
            Cause::Dom0NotUnderXen => {
                "where Xen has said nothing, dom0's kernel was started without it: Xen must be what the boot loader starts, with this kernel as \
                 its module; where it has, see that the kernel has CONFIG_XEN_DOM0 and that /proc/xen is mounted"
            }
            Cause::Dom0KernelInvalid => {
                "see with `file` that dom0.kernel is a kernel for this architecture, and that it was built with CONFIG_XEN_PV (x86_64) or is \
                 an Image (AArch64)"
            }
            Cause::StoreAbsent => {
                "look at the log of xenstored in dom0 (`xenlab shell`), and that dom0's kernel has xen-evtchn and xenfs"
            }
            Cause::ToolsMismatch | Cause::ToolsFailed => {
                "take the tools of the same build as the hypervisor (xen.tools)"
            }
            Cause::ServiceFailed => {
                "its last lines are below; `xenlab shell` and `systemctl status NAME` show the rest"
            }
            Cause::GuestMemory => "lower the guest's memory, or raise machine.memory by as much as it lacks",
            Cause::GuestKernelInvalid => {
                "see that the guest's kernel is for this architecture and for its type (pv needs CONFIG_XEN_PV)"
            }
            Cause::GuestConfig => {
                "see the line of the guest's configuration that xl names, and that each file in it is there in dom0"
            }
            Cause::GuestNoRoot => {
                "see the guest's `root=`, `init=` and `rdinit=`, and that its initramfs or disk has what they name"
            }
            Cause::GuestTripleFault => {
                "see the guest's registers on Xen's console; under emulation it was tried three times, try another QEMU (--qemu) or KVM too"
            }
            Cause::GuestCrashed => {
                "its console is below; `on_crash: preserve` in its config keeps it to be looked at (`xenlab shell`, `xl console`)"
            }
            Cause::QemuOption => "see machine.cpu, machine.devices and the version of QEMU (`xenlab doctor`)",
            Cause::QemuKilled => {
                "signal 9 is often the kernel's out-of-memory killer: look at the host's `dmesg`, and run fewer cases at once (-j)"
            }
            Cause::QemuInternalError => {
                "this is QEMU's own bug or limit: try another QEMU (--qemu) or --set machine.accel=tcg"
            }
            Cause::HostMemory => {
                "lower machine.memory, run fewer cases at once (-j 1), or end what else uses memory here"
            }
            Cause::HostDisk => "free some room; `xenlab image gc` removes what no run needs",
            _ => return None,
        })
    }
}
