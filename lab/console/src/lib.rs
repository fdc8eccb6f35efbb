//! Consoles: bytes in, lines and matches out; telling Xen's lines from dom0's; boot phases; panics.
//!
//! Pure: no clock, no file, no tokio.

use serde::{Deserialize, Serialize};

/// How far a boot has come, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// QEMU started the processors.
    PowerOn,
    /// Firmware wrote something.
    Firmware,
    /// Xen wrote its first line.
    Xen,
    /// Xen is building dom0.
    Dom0Build,
    /// dom0's kernel wrote its first line.
    Dom0Kernel,
    /// dom0's userland started.
    Dom0Init,
    /// dom0 answered over a way in: its store and tools are up.
    Dom0Ready,
}
