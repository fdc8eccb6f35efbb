//! Facts: what is known of the host, of QEMU, of the machine and of the Xen build, each known or unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a fact's value can be; comparisons are checked against it before anything boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FactType {
    /// Text, compared as written.
    Text,
    /// A whole number.
    Integer,
    /// A size in bytes, written with K, M, G.
    Size,
    /// A version, ordered as people read it.
    Version,
    /// A set of words (`xen_caps`).
    Set,
    /// true or false.
    Flag,
}

/// A known fact's value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactValue {
    /// See [`FactType::Text`].
    Text(String),
    /// See [`FactType::Integer`].
    Integer(i64),
    /// Bytes.
    Size(u64),
    /// See [`FactType::Version`].
    Version(String),
    /// See [`FactType::Set`].
    Set(BTreeSet<String>),
    /// See [`FactType::Flag`].
    Flag(bool),
}

impl FactValue {
    /// A text fact.
    pub fn text(s: impl Into<String>) -> Self {
        FactValue::Text(s.into())
    }
    /// Its type.
    pub fn fact_type(&self) -> FactType {
        match self {
            FactValue::Text(_) => FactType::Text,
            FactValue::Integer(_) => FactType::Integer,
            FactValue::Size(_) => FactType::Size,
            FactValue::Version(_) => FactType::Version,
            FactValue::Set(_) => FactType::Set,
            FactValue::Flag(_) => FactType::Flag,
        }
    }
}

impl fmt::Display for FactValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FactValue::Text(s) | FactValue::Version(s) => f.write_str(s),
            FactValue::Integer(n) => write!(f, "{n}"),
            FactValue::Size(n) => write!(f, "{}", crate::units::Size(*n)),
            FactValue::Set(s) => f.write_str(&s.iter().cloned().collect::<Vec<_>>().join(" ")),
            FactValue::Flag(b) => write!(f, "{b}"),
        }
    }
}

/// Known facts by name; a name that is absent is unknown (never "false").
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Facts(pub BTreeMap<String, FactValue>);

impl Facts {
    /// Records a fact; a later one replaces an earlier one of that name.
    pub fn set(&mut self, name: impl Into<String>, value: FactValue) {
        self.0.insert(name.into(), value);
    }
    /// The value, if known.
    pub fn get(&self, name: &str) -> Option<&FactValue> {
        self.0.get(name)
    }
    /// Everything of `other` added to this.
    pub fn extend(&mut self, other: &Facts) {
        self.0.extend(other.0.iter().map(|(k, v)| (k.clone(), v.clone())));
    }
}

/// When a fact becomes known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known {
    /// From the scenario and the command line alone.
    Plan,
    /// By asking the host, before anything is fetched or built.
    Host,
    /// Once the Xen build is there.
    Build,
}

/// One line of `xenlab facts`.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct FactInfo {
    /// The dotted name.
    pub name: &'static str,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: FactType,
    /// When it is known.
    pub known: Known,
    /// What it is.
    pub help: &'static str,
}

/// Every fact that is not a key of the scenario language (those are facts too, by their PATH).
pub const FACTS: &[FactInfo] = {
    use FactType::*;
    use Known::*;
    const fn f(name: &'static str, kind: FactType, known: Known, help: &'static str) -> FactInfo {
        FactInfo { name, kind, known, help }
    }
    &[
        f("host.arch", Text, Host, "architecture of the machine the lab runs on, as `uname -m`"),
        f(
            "host.cores",
            Integer,
            Host,
            "processors this process may use (cgroup limits and affinity counted)",
        ),
        f("host.memory", Size, Host, "memory this process may use (cgroup limits counted)"),
        f("host.kvm", Flag, Host, "/dev/kvm can be opened; says nothing about Xen running on it"),
        f("qemu.version", Version, Host, "version of the QEMU binary chosen for this architecture"),
        f("qemu.path", Text, Host, "path of the QEMU binary chosen for this architecture"),
        f("machine.accel", Text, Host, "accelerator chosen: tcg or kvm"),
        f(
            "machine.emulator-faults",
            Set,
            Host,
            "known faults of the emulator that show in guests, by the names of lab/machine/src/quirks.rs",
        ),
        f(
            "machine.pvh-guests",
            Flag,
            Build,
            "PVH guests can run: nested paging right in this QEMU, or shadow paging in this Xen",
        ),
        f(
            "machine.device-model",
            Text,
            Build,
            "device model of HVM guests: `build PATH`, or `debian:SUITE VERSION` of dom0.device-model; absent: none",
        ),
        f("boot.firmware", Text, Build, "what loads Xen, and its version; absent: QEMU does"),
        f("build.spec", Text, Plan, "the subject, as it was named"),
        f("build.provider", Text, Plan, "provider of the hypervisor: what build.spec has before its colon"),
        f(
            "build.declared-version",
            Version,
            Build,
            "version the build is declared to be; unknown when nobody declares one",
        ),
        f("build.declared-by", Text, Build, "who declared the version"),
        f("build.image-version", Version, Build, "version the hypervisor image carries"),
        f("build.branch", Version, Build, "major.minor of the hypervisor"),
        f("build.build-id", Text, Build, "build-id note of the hypervisor image, lower-case hexadecimal"),
        f(
            "build.efi-build-id",
            Text,
            Build,
            "build-id of the EFI image: what runs when firmware booted it; on x86 another than build.build-id",
        ),
        f("build.tools-branch", Version, Build, "major.minor of the tools"),
        f("build.compiler", Text, Build, "compiler named in the image"),
        f("build.efi", Flag, Build, "the build has an EFI image"),
        f(
            "build.no-unified-image",
            Text,
            Build,
            "why no unified EFI image can be made of the build's; unknown where one can, and where nothing boots by one",
        ),
        f("build.config", Set, Build, "options set to y in the build's .config, without CONFIG_"),
        f("build.shadow-paging", Flag, Build, "the .config has SHADOW_PAGING=y"),
        f("build.programs", Set, Build, "programs of Xen's tools that steps work with and the build has"),
        f("build.xenstored", Set, Build, "store daemons the build has: xenstored, oxenstored"),
        f(
            "build.device-model",
            Text,
            Build,
            "where in dom0 the device model is that the build brings for HVM guests; absent: it brings none",
        ),
        f("build.pkg-config", Set, Build, "pkg-config modules the build has"),
        f("build.parts", Set, Build, "parts the build has: hypervisor, tools, development"),
    ]
};

/// The entry of `name`, if it is in [`FACTS`].
pub fn info(name: &str) -> Option<&'static FactInfo> {
    FACTS.iter().find(|f| f.name == name)
}
