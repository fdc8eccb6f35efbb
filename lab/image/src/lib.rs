//! dom0: everything of it but Xen itself.
//!
//! Its root is a stack of read-only images, each with its own key, under a tmpfs: the **userland** (once for all Xen
//! builds of a suite), the **tools** of the Xen build under test, and a small **layer of the case** (nonce, keys,
//! settings), which comes as a second cpio behind the initramfs. A new hypervisor remakes nothing, new tools one image.
//! Nothing here needs root or runs a program of dom0's architecture.

mod case;
mod cpio;
mod device_model;
mod error;
mod firmware;
mod first;
mod guest;
mod initramfs;
mod kernel;
mod layout;
mod modules;
mod prepare;
pub mod recipe;
mod system;
mod systemd;
mod tools;
mod tree;
mod userland;

pub use case::{CaseLayer, HostKey, UserKey, case_layer, write_initrd};
pub use error::ImageError;
pub use firmware::{BootFiles, Firmware, Refused, firmware, no_unified};
pub use guest::{DomainFiles, GuestFiles};
pub use layout::{Console, Dance, Init, Layout};
pub use prepare::{Dom0, Dom0Request, Part, prepare};
pub use system::{SystemDom0, system, write_seed};
pub use tools::ToolsTree;
