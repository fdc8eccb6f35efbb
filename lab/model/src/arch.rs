//! The architectures Xen is tested on, and the names each project gives them.

use std::fmt;
use std::str::FromStr;

/// An architecture of the machine under test. The host's own is never assumed to be one of them.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// 64-bit x86, `x86_64` in QEMU and Linux, `amd64` in Debian.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm, `aarch64` in QEMU, `arm64` in Debian, Linux and Xen's build system.
    Aarch64,
}

impl Arch {
    /// Every architecture, in the order reports show them.
    pub const ALL: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];

    /// The name used in scenarios, QEMU's binaries and `uname -m`.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Debian's name (`dpkg --print-architecture`).
    pub fn debian(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::Aarch64 => "arm64",
        }
    }

    /// The GNU triplet, which is also the prefix of Debian's cross compilers and multiarch directories.
    pub fn triplet(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64-linux-gnu",
            Arch::Aarch64 => "aarch64-linux-gnu",
        }
    }

    /// The architecture this program was compiled for, when it is one that Xen is tested on.
    pub fn host() -> Option<Arch> {
        std::env::consts::ARCH.parse().ok()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Arch {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "x86_64" => Ok(Arch::X86_64),
            "aarch64" => Ok(Arch::Aarch64),
            "amd64" | "x86-64" | "x64" => Err(format!("architecture `{s}` is written `x86_64` here")),
            "arm64" => Err("architecture `arm64` is written `aarch64` here".into()),
            _ => Err(format!("unknown architecture `{s}`; expected one of: x86_64, aarch64")),
        }
    }
}
