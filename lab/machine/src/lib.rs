//! QEMU: the machine that stands for the physical host.
//!
//! [`qemu::find`] looks at the QEMU there is, [`quirks`] says what has to be different for it, [`argv()`] composes its
//! command line (pure), [`accel::choose`] finds out whether KVM can run Xen here, and [`Machine`] runs it: console, monitor,
//! guest time, how it ended, and freezing and restoring it.

pub mod accel;
pub mod argv;
mod device_tree;
mod error;
mod fdt;
mod machine;
mod memory;
mod parts;
pub mod qemu;
pub mod qmp;
pub mod quirks;
mod spec;

pub use argv::{PORTS, Wiring, argv};
pub use device_tree::{TreeError, device_tree};
pub use error::{SpecError, StartError};
pub use machine::{
    ConsoleReader, ConsoleWriter, FILES, FreezeError, Frozen, Given, Handed, Machine, Owned, Ports,
    StartOptions,
};
pub use memory::Memory;
pub use parts::template_parts;
pub use qemu::QemuInfo;
pub use spec::{Accel, Backing, Boot, BootDisk, Disk, DiskAccess, Domain, Flash, MachineSpec, Payload};
