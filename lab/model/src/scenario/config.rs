//! One case's configuration: every key of the language after defaults, overrides, axes and `--set`.

use crate::arch::Arch;
use crate::condition::Condition;
use crate::guest::GuestConfig;
use crate::recipe::BuildOptions;
use crate::spec::{DeviceModelSpec, KernelSpec, UserlandSpec, XenSpec};
use crate::units::{GuestDuration, Size};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a case is made of, apart from its steps. Field names are the scenario's keys.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The architecture.
    pub arch: Arch,
    /// The QEMU process that stands for the physical host.
    pub machine: MachineConfig,
    /// The Xen build.
    pub xen: XenConfig,
    /// dom0.
    pub dom0: Dom0Config,
    /// How the machine boots.
    pub boot: BootConfig,
    /// Guests that steps can create, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub guests: BTreeMap<String, GuestConfig>,
    /// Limits of waits.
    #[serde(default)]
    pub limits: Limits,
}

/// `machine:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MachineConfig {
    /// Processors; 2 when not said.
    #[serde(default = "two")]
    pub cpus: u32,
    /// Memory of the machine; dom0's and half a GiB more when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Size>,
    /// Accelerator; `auto` when not said.
    #[serde(default)]
    pub accel: AccelChoice,
    /// QEMU's `-cpu`, in place of what the lab knows to work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Path of the QEMU binary, in place of the one found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub qemu: Option<String>,
    /// More `-device` arguments.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<String>,
    /// From what the case starts.
    #[serde(default)]
    pub start: Start,
}

fn two() -> u32 {
    2
}

impl Default for MachineConfig {
    fn default() -> Self {
        MachineConfig {
            cpus: 2,
            memory: None,
            accel: AccelChoice::Auto,
            cpu: None,
            qemu: None,
            devices: Vec::new(),
            start: Start::Template,
        }
    }
}

/// Which accelerator is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AccelChoice {
    /// KVM when the Xen under test runs on it here, else TCG.
    #[default]
    Auto,
    /// Emulation.
    Tcg,
    /// KVM; an Error when Xen cannot run on it.
    Kvm,
}

/// From what a case starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// A clone of a machine that was frozen when its dom0 was ready; a cold boot where there can be none.
    #[default]
    Template,
    /// A cold boot: for what tests the boot itself.
    PowerOn,
}

/// `xen:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("x-primary" = "build"))]
pub struct XenConfig {
    /// The build; primary key.
    pub build: XenSpec,
    /// Patches for a build from source, applied in this order as `patch -p1` does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<std::path::PathBuf>,
    /// Options of a build from source.
    #[serde(default, skip_serializing_if = "BuildOptions::is_empty")]
    pub options: BuildOptions,
    /// Another build of the same major.minor for tools and development files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<XenSpec>,
    /// The version it is declared to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect_version: Option<String>,
    /// Added to Xen's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// `dom0:`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("x-primary" = "userland"))]
pub struct Dom0Config {
    /// The userland; primary key. `minimal` when not said.
    #[serde(default = "minimal")]
    pub userland: UserlandSpec,
    /// The kernel; the userland's suite's when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelSpec>,
    /// The device model of HVM guests, for a Xen build that brings none; `none` when not said. x86_64 only.
    #[serde(default)]
    pub device_model: DeviceModelSpec,
    /// dom0's memory; 1G when not said.
    #[serde(default = "one_gib")]
    pub memory: Size,
    /// dom0's vCPUs; the machine's processors when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Added to the kernel's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The store daemon the userland starts, `xenstored` or `oxenstored`; what the build prefers when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xenstored: Option<StoreDaemon>,
    /// The one way in that steps use which name none, `ssh`, `serial` or `port`; the fastest that answers when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<crate::evidence::Transport>,
}

/// A store daemon that a userland is asked to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StoreDaemon {
    /// The C daemon.
    Xenstored,
    /// The OCaml daemon.
    Oxenstored,
    /// None at all: dom0 is then never ready. For trying what the lab says of it.
    None,
}

fn minimal() -> UserlandSpec {
    UserlandSpec::Minimal { suite: None }
}

fn one_gib() -> Size {
    Size::mib(1024)
}

impl Default for Dom0Config {
    fn default() -> Self {
        Dom0Config {
            userland: minimal(),
            kernel: None,
            device_model: DeviceModelSpec::None,
            memory: one_gib(),
            vcpus: None,
            args: Vec::new(),
            xenstored: None,
            via: None,
        }
    }
}

/// `boot:`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("x-primary" = "way"))]
pub struct BootConfig {
    /// The way; primary key.
    #[serde(default)]
    pub way: BootWay,
}

/// How firmware, if any, gets to Xen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BootWay {
    /// QEMU loads Xen and its modules.
    #[default]
    Direct,
    /// SeaBIOS, and GRUB by multiboot2. x86_64 only.
    Bios,
    /// EFI firmware, and Xen's EFI image with its configuration file beside it.
    Uefi,
    /// EFI firmware, and one EFI image with Xen, its configuration, dom0's kernel and initramfs in it.
    UefiUnified,
}

impl BootWay {
    /// As scenarios write it.
    pub fn name(self) -> &'static str {
        match self {
            BootWay::Direct => "direct",
            BootWay::Bios => "bios",
            BootWay::Uefi => "uefi",
            BootWay::UefiUnified => "uefi-unified",
        }
    }

    /// The one of this name.
    pub fn named(name: &str) -> Option<BootWay> {
        [BootWay::Direct, BootWay::Bios, BootWay::Uefi, BootWay::UefiUnified]
            .into_iter()
            .find(|w| w.name() == name)
    }

    /// What boots is Xen's EFI image.
    pub fn is_efi(self) -> bool {
        matches!(self, BootWay::Uefi | BootWay::UefiUnified)
    }
}

impl std::fmt::Display for BootWay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// `limits:`, in guest time; what is not said comes from the table of phases and accelerators.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Power-on to dom0-ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<GuestDuration>,
    /// One step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<GuestDuration>,
    /// The whole case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<GuestDuration>,
}

/// An entry of `needs:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Need {
    /// What must hold, or the case is skipped.
    pub require: Condition,
    /// For which cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// The reason shown with the skip.
    pub because: String,
}
