//! Guests: what a scenario's `guests:` says, and what `xl` is told of it.

use crate::arch::Arch;
use crate::device::{Backend, Disk, FOLDER, Vif, Which};
use crate::fact::{FactValue, Facts};
use crate::units::{Size, text_serde};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// `guests: {NAME: …}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GuestConfig {
    /// What kind of domain; the one that the architecture always has when not said.
    #[serde(rename = "type", default)]
    pub kind: GuestType,
    /// Who makes it: `xl`, when a step creates it, or Xen itself, when it boots (dom0less).
    #[serde(default)]
    pub start: GuestStart,
    /// What it boots: `xenlab:tiny`, the lab's own small guest, or `file:PATH`.
    #[serde(default)]
    pub kernel: GuestKernel,
    /// Its initramfs, a file; the small guest has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initrd: Option<PathBuf>,
    /// With `type: hvm`: what it starts with; SeaBIOS when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<Firmware>,
    /// Its memory; 96M when not said.
    #[serde(default = "memory")]
    pub memory: Size,
    /// Its vCPUs; 1 when not said.
    #[serde(default = "one")]
    pub vcpus: u32,
    /// How many of it there are: NAME-1, NAME-2 and so on where there are several.
    #[serde(default = "one")]
    pub copies: u32,
    /// Its disks, by the names that it has for them: `xvda` to `xvdp`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub disks: BTreeMap<String, Disk>,
    /// Its network interfaces, by names that steps have for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vifs: BTreeMap<String, Vif>,
    /// Programs of dom0 that the small guest is given, with their libraries as dom0 has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<String>,
    /// Added to its kernel's command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Lines added to its configuration for `xl`, as xl.cfg(5) has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<String>,
}

fn memory() -> Size {
    Size::mib(96)
}

fn one() -> u32 {
    1
}

/// Who makes a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestStart {
    /// `xl` in dom0, when a step creates it.
    #[default]
    Xl,
    /// Xen, when it boots, from the device tree; AArch64.
    Xen,
}

/// What a domain that Xen makes is told to say what it says by: of several each its own, whatever numbers they come to have.
pub fn nonce_by_xen(nonce: &str, name: &str) -> String {
    format!("{nonce}-{name}")
}

impl GuestConfig {
    /// The kernel's command line of a domain that Xen makes. Its console is a PL011 of Xen's, which writes what it is sent to Xen's own
    /// console, so the kernel is to be brief.
    pub fn args_by_xen(&self, name: &str, nonce: &str) -> Vec<String> {
        let own = [
            "console=ttyAMA0".to_owned(),
            "quiet".to_owned(),
            "xenlab.console=ttyAMA0".to_owned(),
            format!("xenlab.nonce={}", nonce_by_xen(nonce, name)),
        ];
        own.into_iter().chain(self.args.iter().cloned()).collect()
    }
}

/// What kind of domain a guest is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GuestType {
    /// PV on x86_64, an Arm guest on AArch64.
    #[default]
    Auto,
    /// Paravirtualised; x86_64.
    Pv,
    /// With hardware virtualization and no emulated devices; x86_64.
    Pvh,
    /// With hardware virtualization, firmware and the emulated devices of a device model; x86_64.
    Hvm,
    /// What Arm has.
    Arm,
}

/// What an HVM guest starts with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// SeaBIOS, from a disk.
    #[default]
    Seabios,
    /// OVMF, which is EFI.
    Ovmf,
    /// SeaBIOS, which first tries the network: iPXE, which is in the network card.
    Ipxe,
}

impl Firmware {
    /// As a scenario says it.
    pub fn word(self) -> &'static str {
        match self {
            Firmware::Seabios => "seabios",
            Firmware::Ovmf => "ovmf",
            Firmware::Ipxe => "ipxe",
        }
    }

    /// What it says when it has started, as regular expressions, each with what that is.
    fn words(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // src/bootsplash.c
            Firmware::Seabios => &[(r"SeaBIOS \(version [^)]+\)", "SeaBIOS's banner")],
            // src/core/main.c, src/usr/ifmgmt.c
            Firmware::Ipxe => &[
                (r"iPXE [0-9]\S* -- Open Source Network Boot", "iPXE's banner"),
                (r"Configuring \(net0 [0-9a-f:]+\)", "that iPXE asks the network for an address"),
            ],
            // OvmfPkg: what it says of a boot option, on all its consoles
            Firmware::Ovmf => &[(r"BdsDxe: ", "what OVMF says when it looks for something to boot")],
        }
    }
}

impl GuestType {
    /// The type on an architecture; the error says why it has none.
    pub fn on(self, arch: Arch) -> Result<GuestType, String> {
        match (self, arch) {
            (GuestType::Auto, Arch::X86_64) => Ok(GuestType::Pv),
            (GuestType::Auto | GuestType::Arm, Arch::Aarch64) => Ok(GuestType::Arm),
            (GuestType::Pv | GuestType::Pvh | GuestType::Hvm, Arch::X86_64) => Ok(self),
            (kind, arch) => Err(format!("{arch} has no guests of type {}", kind.word())),
        }
    }

    /// As a scenario says it.
    pub fn word(self) -> &'static str {
        match self {
            GuestType::Auto => "auto",
            GuestType::Pv => "pv",
            GuestType::Pvh => "pvh",
            GuestType::Hvm => "hvm",
            GuestType::Arm => "arm",
        }
    }

    /// As `xl list --long` says it; Xen calls what Arm has PVH.
    pub fn of_xl(self) -> &'static str {
        match self {
            GuestType::Pv => "pv",
            GuestType::Hvm => "hvm",
            GuestType::Auto | GuestType::Pvh | GuestType::Arm => "pvh",
        }
    }
}

/// What a guest boots.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum GuestKernel {
    /// The lab's own small guest: Debian's kernel and an init that runs what it is told.
    #[default]
    Tiny,
    /// A kernel of the user's.
    File(PathBuf),
}

impl FromStr for GuestKernel {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("file:") {
            Some(path) if !path.is_empty() => Ok(GuestKernel::File(path.into())),
            _ if text == "xenlab:tiny" => Ok(GuestKernel::Tiny),
            _ => Err(format!("`{text}` is no guest's kernel; expected xenlab:tiny or file:PATH")),
        }
    }
}

impl fmt::Display for GuestKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GuestKernel::Tiny => f.write_str("xenlab:tiny"),
            GuestKernel::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

text_serde!(GuestKernel, "GuestKernel", "^(xenlab:tiny|file:.+)$");

/// Where a guest's kernel and initramfs lie in dom0.
pub fn files(name: &str) -> (String, String) {
    let folder = format!("/usr/lib/xenlab/guests/{name}");
    (format!("{folder}/kernel"), format!("{folder}/initrd"))
}

/// Where in dom0 the initramfs of a guest lies that is given programs: made of its own and of what dom0 has.
pub fn with_programs(domain: &str) -> String {
    format!("{}/{domain}.initrd", crate::device::FOLDER)
}

/// What programs of Xen's tools need of a guest's kernel: hypercalls, event channels, and memory of other domains or for them.
const FOR_PROGRAMS: [&str; 4] = ["xen-privcmd", "xen-evtchn", "xen-gntdev", "xen-gntalloc"];

/// The fault of emulators because of which a guest with nested paging reads a wrong address of its own page faults.
const CR2: &str = "npt-mov-cr2";

/// The fault of emulators that OVMF meets in a guest.
const OVMF: &str = "ovmf-in-guest";

/// A guest, as a step has it: its configuration, under its name, on the case's architecture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Guest {
    /// Its name in the scenario.
    pub name: String,
    /// What the scenario says; the type is never `auto`.
    pub config: GuestConfig,
}

impl Guest {
    /// The domains' names.
    pub fn domains(&self) -> Vec<String> {
        match self.config.copies {
            1 => vec![self.name.clone()],
            n => (1..=n).map(|i| format!("{}-{i}", self.name)).collect(),
        }
    }

    /// It is the lab's own, which can be talked to.
    pub fn is_tiny(&self) -> bool {
        self.is_own() && self.config.kind != GuestType::Hvm
    }

    /// It is an HVM guest that boots what its firmware finds: the lab's own boot sector, which says that it is up, and counts.
    pub fn is_sector(&self) -> bool {
        self.is_own() && self.config.kind == GuestType::Hvm
    }

    fn is_own(&self) -> bool {
        self.config.kernel == GuestKernel::Tiny && self.config.initrd.is_none()
    }

    /// What it starts with, where it is an HVM guest.
    pub fn firmware(&self) -> Option<Firmware> {
        (self.config.kind == GuestType::Hvm).then(|| self.config.firmware.unwrap_or_default())
    }

    /// What it says when it is up, as regular expressions, each with what that is; nothing is known of a kernel of the user's.
    pub fn words(&self, nonce: &str) -> Vec<(String, &'static str)> {
        let ready = || (regex::escape(&crate::step::domain::ready(nonce)), "that it is up");
        if self.is_tiny() {
            return vec![ready()];
        }
        let Some(firmware) = self.firmware().filter(|_| self.is_sector()) else { return Vec::new() };
        let own = firmware.words().iter().map(|(pattern, what)| ((*pattern).to_owned(), *what));
        // EFI boots no boot sector.
        own.chain((firmware != Firmware::Ovmf).then(ready)).collect()
    }

    /// Why it cannot run there, by what is known before a machine starts.
    pub fn cannot(&self, facts: &Facts) -> Option<String> {
        let pvh = || if self.config.kind == GuestType::Pvh { no_pvh(facts) } else { None };
        let hvm = || self.firmware().and_then(|firmware| no_hvm(firmware, facts));
        let by_xen = || if self.config.start == GuestStart::Xen { no_dom0less(facts) } else { None };
        let qdisk = || if self.has_qdisk() { no_qdisk(facts) } else { None };
        let why = by_xen().or_else(pvh).or_else(hvm).or_else(qdisk);
        why.map(|why| format!("{}: {why}", self.name))
    }

    /// What does not go together in what the scenario says of it, and what was expected.
    pub fn mistake(&self) -> Option<(String, &'static str)> {
        let config = &self.config;
        match (self.firmware(), config.firmware) {
            (None, Some(firmware)) => {
                let message = format!("`firmware: {}` is for guests of type hvm", firmware.word());
                Some((message, "`type: hvm` beside it"))
            }
            (Some(Firmware::Ipxe), _) if !config.vifs.values().any(|v| v.plugged) => {
                Some(("iPXE is in a network card, and it has none".to_owned(), "`vifs: {net0: xenbr0}`"))
            }
            (Some(Firmware::Ovmf | Firmware::Ipxe), _) if !self.is_sector() => {
                let message = "a kernel is started by SeaBIOS, and by nothing else".to_owned();
                Some((message, "`firmware: seabios`, or no `kernel`"))
            }
            _ => None,
        }
    }

    /// A QEMU in dom0 serves a disk of it.
    fn has_qdisk(&self) -> bool {
        self.config.disks.values().any(|d| d.backend == Backend::Qdisk)
    }

    /// Its devices: all, or those that are there when it is created.
    pub fn devices(&self, plugged: bool) -> Vec<Which<'_>> {
        let disks = self.config.disks.iter().map(|(name, disk)| (disk.plugged, Which::Disk(name, disk)));
        let vifs = self.config.vifs.iter().map(|(name, vif)| (vif.plugged, Which::Vif(name, vif)));
        disks.chain(vifs).filter(|(is, _)| *is || !plugged).map(|(_, which)| which).collect()
    }

    /// How the memory of a PVH guest is mapped there: `hap` or `shadow`.
    pub fn paging(&self, facts: &Facts) -> Option<&'static str> {
        let shadow = if needs_shadow(facts) { "shadow" } else { "hap" };
        (self.config.kind == GuestType::Pvh).then_some(shadow)
    }

    /// What `xl create` is given for one of its domains.
    pub fn xl_config(&self, domain: &str, nonce: &str, facts: &Facts) -> String {
        let (kernel, initrd) = files(&self.name);
        let config = &self.config;
        let mut lines = vec![format!("name = \"{domain}\"")];
        if !self.is_sector() {
            lines.push(format!("kernel = \"{kernel}\""));
        }
        if !self.is_sector() && (config.kernel == GuestKernel::Tiny || config.initrd.is_some()) {
            let initrd = if config.programs.is_empty() { initrd } else { with_programs(domain) };
            lines.push(format!("ramdisk = \"{initrd}\""));
        }
        match config.kind {
            GuestType::Auto | GuestType::Arm => {}
            kind => lines.push(format!("type = \"{}\"", kind.word())),
        }
        if config.kind == GuestType::Pvh && needs_shadow(facts) {
            lines.push("hap = 0".into());
        }
        let mut args = vec!["console=hvc0".to_owned(), format!("xenlab.nonce={nonce}")];
        // The small guest's init loads them.
        let for_programs = FOR_PROGRAMS.map(|module| (module, !config.programs.is_empty()));
        for (module, wanted) in
            [("xen-blkfront", !config.disks.is_empty()), ("xen-netfront", !config.vifs.is_empty())]
                .into_iter()
                .chain(for_programs)
        {
            if wanted && self.is_tiny() {
                args.push(format!("xenlab.module={module}"));
            }
        }
        args.extend(config.args.iter().cloned());
        if let Some(firmware) = self.firmware() {
            lines.extend(hvm_lines(firmware, self.is_sector(), domain));
        }
        // Words for a kernel that there is not are a mistake to libxl.
        if !self.is_sector() {
            lines.push(format!("extra = \"{}\"", args.join(" ").replace('\\', "\\\\").replace('"', "\\\"")));
        }
        lines.push(format!("memory = {}", config.memory.0 >> 20));
        lines.push(format!("vcpus = {}", config.vcpus));
        let (mut disks, mut vifs) = (Vec::new(), Vec::new());
        if self.is_sector() {
            disks.push(format!(
                "\"format=raw,vdev=hda,access=rw,backendtype=qdisk,target={}\"",
                sector_disk(domain)
            ));
        }
        for device in self.devices(true) {
            match device {
                Which::Disk(name, disk) => disks.push(format!("\"{}\"", disk.xl(domain, name))),
                Which::Vif(name, vif) => vifs.push(format!("\"{}\"", vif.xl(domain, name))),
            }
        }
        for (key, list) in [("disk", disks), ("vif", vifs)] {
            if !list.is_empty() {
                lines.push(format!("{key} = [ {} ]", list.join(", ")));
            }
        }
        // A guest that crashed stays, so that it can be told from one that ended.
        lines.push("on_crash = \"preserve\"".into());
        lines.extend(config.config.iter().cloned());
        lines.join("\n") + "\n"
    }
}

/// The disk with the boot sector of a domain.
pub fn sector_disk(domain: &str) -> String {
    format!("{FOLDER}/{domain}.boot")
}

/// What a domain wrote to its first serial port, where it has firmware.
pub fn serial(domain: &str) -> String {
    format!("{FOLDER}/{domain}.serial")
}

/// What an HVM guest is given besides.
fn hvm_lines(firmware: Firmware, sector: bool, domain: &str) -> Vec<String> {
    // libxl waits for a keyboard's backend to go that nobody has asked for. The boot sector reads the screen, which takes a card.
    let vga = if sector { "stdvga" } else { "none" };
    let mut lines = vec![format!("vga = \"{vga}\""), "vnc = 0".to_owned(), "vkb_device = 0".to_owned()];
    if sector {
        lines.push(format!("serial = \"file:{}\"", serial(domain)));
    }
    lines.push(match firmware {
        Firmware::Ovmf => "bios = \"ovmf\"".to_owned(),
        Firmware::Seabios => "boot = \"c\"".to_owned(),
        Firmware::Ipxe => "boot = \"nc\"".to_owned(),
    });
    lines
}

/// Why a machine and a build have no HVM guests that start with this, by what is known of both.
fn no_hvm(firmware: Firmware, facts: &Facts) -> Option<String> {
    if has(facts, "build.config", "HVM") == Some(false) {
        return Some("this Xen is built without HVM".to_owned());
    }
    if firmware == Firmware::Ovmf && has(facts, "machine.emulator-faults", OVMF) == Some(true) {
        return Some(format!(
            "OVMF is not known to start in a guest on this emulator, and can end the emulator itself ({OVMF})"
        ));
    }
    // What the build brings is known once it is there.
    let built = facts.get("build.parts").is_some();
    (built && facts.get("machine.device-model").is_none()).then(|| {
        "dom0 has no device model: this build brings none, and dom0.device-model names none".to_owned()
    })
}

/// Why a machine and a build have no PVH guests, by what is known of both.
pub fn no_pvh(facts: &Facts) -> Option<String> {
    if has(facts, "build.config", "HVM") == Some(false) {
        return Some("this Xen is built without HVM, which PVH guests are of".to_owned());
    }
    (needs_shadow(facts) && has(facts, "build.config", "SHADOW_PAGING") != Some(true)).then(|| {
        format!(
            "this QEMU emulates nested paging wrongly ({CR2}) and this Xen has no shadow paging to go without"
        )
    })
}

/// Why Xen makes no domains by itself there.
fn no_dom0less(facts: &Facts) -> Option<String> {
    let is = |fact: &str, what: &str| facts.get(fact).map(|value| *value == FactValue::text(what));
    if is("arch", Arch::Aarch64.name()) == Some(false) {
        return Some("Xen makes domains from a device tree (dom0less) on AArch64 only".to_owned());
    }
    if is("boot.way", "direct") == Some(false) {
        return Some(
            "the device tree that names such domains is given to QEMU, which must load Xen itself".to_owned(),
        );
    }
    // An option of its own since 4.19 (xen/arch/arm/Kconfig).
    let optional = match facts.get("build.branch") {
        Some(FactValue::Version(branch)) => crate::version::compare(branch, "4.19").is_ge(),
        _ => false,
    };
    if optional && has(facts, "build.config", "DOM0LESS_BOOT") == Some(false) {
        return Some("this Xen is built without DOM0LESS_BOOT: it makes no domains by itself".to_owned());
    }
    (has(facts, "build.config", "SBSA_VUART_CONSOLE") == Some(false)).then(|| {
        "this Xen has no PL011 for its domains (SBSA_VUART_CONSOLE), so nothing could be heard of one"
            .to_owned()
    })
}

/// Why dom0 has no QEMU that serves disks, by what is known of machine and build.
fn no_qdisk(facts: &Facts) -> Option<String> {
    // What the build brings is known once it is there.
    let built = facts.get("build.parts").is_some();
    (built && facts.get("machine.device-model").is_none()).then(|| {
        "dom0 has no QEMU to serve a qdisk: this build brings none, and dom0.device-model names none"
            .to_owned()
    })
}

/// PVH guests of this machine do with shadow paging only.
fn needs_shadow(facts: &Facts) -> bool {
    has(facts, "machine.emulator-faults", CR2) == Some(true)
}

fn has(facts: &Facts, fact: &str, what: &str) -> Option<bool> {
    match facts.get(fact)? {
        FactValue::Set(set) => Some(set.contains(what)),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
