//! Devices of guests: what a scenario's `disks:` and `vifs:` say, what `xl` is told of them, and where in dom0 they lie.

use crate::units::Size;
use serde::{Deserialize, Serialize};

/// Where in dom0 what belongs to guests lies: it is still there in a clone.
pub const FOLDER: &str = "/run/xenlab-guests";

/// `disks: {NAME: phy}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("x-primary" = "backend"))]
pub struct Disk {
    /// Who serves it; primary key.
    pub backend: Backend,
    /// Its size; 8M when not said.
    #[serde(default = "disk_size")]
    pub size: Size,
    /// It is there when the guest is created; where not, a step attaches it.
    #[serde(default = "yes")]
    pub plugged: bool,
}

/// The smallest disk that bytes can be sent through both ways.
pub const SMALLEST: u64 = 1 << 20;

fn disk_size() -> Size {
    Size::mib(8)
}

fn yes() -> bool {
    true
}

/// Who serves a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Backend {
    /// dom0's kernel, from a loop device that the lab makes: `phy:/dev/loopN`.
    Phy,
    /// dom0's kernel, from a file for which Xen's script makes the loop device.
    File,
    /// A QEMU in dom0, from a file.
    Qdisk,
}

impl Backend {
    /// As a scenario says it.
    pub fn word(self) -> &'static str {
        match self {
            Backend::Phy => "phy",
            Backend::File => "file",
            Backend::Qdisk => "qdisk",
        }
    }

    /// The store's name for devices of this backend.
    pub fn of_store(self) -> &'static str {
        match self {
            Backend::Phy | Backend::File => "vbd",
            Backend::Qdisk => "qdisk",
        }
    }
}

/// `vifs: {NAME: BRIDGE}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(extend("x-primary" = "bridge"))]
pub struct Vif {
    /// The bridge in dom0, made where there is none of that name; primary key.
    pub bridge: String,
    /// It is there when the guest is created; where not, a step attaches it.
    #[serde(default = "yes")]
    pub plugged: bool,
}

/// What of a guest's a step is about.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// A disk, under its name.
    Disk(&'a str, &'a Disk),
    /// A network interface, under its name.
    Vif(&'a str, &'a Vif),
}

impl Which<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Which::Disk(name, _) | Which::Vif(name, _) => name,
        }
    }
}

/// The file whose bytes a domain's disk has.
pub fn image(domain: &str, disk: &str) -> String {
    format!("{FOLDER}/{domain}.{disk}.img")
}

/// A link to the loop device of a `phy` disk: that device has a number that nobody knows before.
pub fn link(domain: &str, disk: &str) -> String {
    format!("{FOLDER}/{domain}.{disk}.dev")
}

impl Disk {
    /// As `xl` takes it, as xl-disk-configuration(5) has it.
    pub fn xl(&self, domain: &str, name: &str) -> String {
        let (backend, target) = match self.backend {
            Backend::Phy => ("backendtype=phy,", link(domain, name)),
            // Which backend serves a plain file is libxl's choice: a loop device, which its script makes.
            Backend::File => ("", image(domain, name)),
            Backend::Qdisk => ("backendtype=qdisk,", image(domain, name)),
        };
        format!("format=raw,vdev={name},access=rw,{backend}target={target}")
    }
}

/// The number of a disk's device in the store, of its name as a guest has it: `xvda` to `xvdp`.
pub fn number(disk: &str) -> Option<u32> {
    // 202 is the major number, 16 the minors of each (docs/man/xen-vbd-interface.7).
    match disk.strip_prefix("xvd")?.as_bytes() {
        [letter @ b'a'..=b'p'] => Some((202 << 8) + 16 * u32::from(letter - b'a')),
        _ => None,
    }
}

impl Vif {
    /// As `xl` takes it, as xl-network-configuration(5) has it.
    pub fn xl(&self, domain: &str, name: &str) -> String {
        format!("mac={},bridge={}", mac(domain, name), self.bridge)
    }

    /// The first two numbers of all addresses on its bridge.
    fn network(&self) -> String {
        format!("10.{}", 1 + fnv(&self.bridge) % 250)
    }

    /// The bridge's own address, of a network of 16 bits.
    pub fn host(&self) -> String {
        format!("{}.0.1", self.network())
    }

    /// The address of a domain on it.
    pub fn address(&self, domain: &str, name: &str) -> String {
        let [.., a, b] = fnv(&format!("{domain}/{name}")).to_be_bytes();
        format!("{}.{}.{}", self.network(), 1 + a % 250, 1 + b % 250)
    }
}

/// A name that Linux takes for a network interface.
pub fn is_name(name: &str) -> bool {
    let fits = (1..=15).contains(&name.len()) && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// The address of a domain's network interface, always the same for the same names; within those that are Xen's.
pub fn mac(domain: &str, vif: &str) -> String {
    let [_, a, b, c] = fnv(&format!("{domain}/{vif}")).to_be_bytes();
    format!("00:16:3e:{:02x}:{b:02x}:{c:02x}", a & 0x7f)
}

fn fnv(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{FactValue, Facts};
    use crate::guest::Guest;

    #[test]
    fn what_xl_is_told() {
        let disk = |backend| Disk { backend, size: disk_size(), plugged: true }.xl("g1", "xvdb");
        assert_eq!(
            disk(Backend::Phy),
            "format=raw,vdev=xvdb,access=rw,backendtype=phy,target=/run/xenlab-guests/g1.xvdb.dev"
        );
        assert_eq!(
            disk(Backend::File),
            "format=raw,vdev=xvdb,access=rw,target=/run/xenlab-guests/g1.xvdb.img"
        );
        let vif = Vif { bridge: "xenbr0".into(), plugged: true };
        let told = vif.xl("g1", "net0");
        assert!(told.starts_with("mac=00:16:3e:") && told.ends_with(",bridge=xenbr0"), "{told}");
        assert_ne!(mac("g1", "net0"), mac("g2", "net0"), "no two of a bridge's are the same");
    }

    #[test]
    fn a_guest_is_created_with_what_is_plugged() {
        let of = |json: &str| Guest { name: "g1".into(), config: serde_json::from_str(json).unwrap() };
        let guest =
            of(r#"{"disks": {"xvda": {"backend": "phy"}, "xvdb": {"backend": "file", "plugged": false}},
            "vifs": {"net0": {"bridge": "xenbr0"}}}"#);
        let text = guest.xl_config("g1", "77", &Facts::default());
        let line = |key: &str| text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned();
        assert_eq!(
            line("disk"),
            "disk = [ \"format=raw,vdev=xvda,access=rw,backendtype=phy,target=/run/xenlab-guests/g1.xvda.dev\" ]"
        );
        assert!(line("vif").starts_with("vif = [ \"mac=00:16:3e:"), "{text}");
        assert!(line("extra").contains("xenlab.module=xen-blkfront xenlab.module=xen-netfront"), "{text}");
        assert!(
            !of("{}").xl_config("g1", "77", &Facts::default()).contains("module"),
            "it loads nothing else"
        );
    }

    /// Where no QEMU is in dom0 a qdisk is a reason to skip, as soon as that is known.
    #[test]
    fn a_qdisk_needs_a_qemu() {
        let config = serde_json::from_str(r#"{"disks": {"xvda": {"backend": "qdisk"}}}"#).unwrap();
        let guest = Guest { name: "g1".into(), config };
        let mut facts = Facts::default();
        assert_eq!(guest.cannot(&facts), None, "nothing is known yet");
        facts.set("build.parts", FactValue::Set(Default::default()));
        assert!(guest.cannot(&facts).is_some_and(|why| why.contains("no QEMU")));
        facts.set("machine.device-model", FactValue::text("debian:bookworm 1"));
        assert_eq!(guest.cannot(&facts), None);
    }

    #[test]
    fn numbers_of_disks() {
        assert_eq!(number("xvda"), Some(51712));
        assert_eq!(number("xvdb"), Some(51728));
        for none in ["xvd", "xvdq", "xvda1", "sda", "xvdA"] {
            assert_eq!(number(none), None, "{none}");
        }
    }
}
