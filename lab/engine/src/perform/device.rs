//! The step `device`: what is done with devices of guests, in dom0 and in the guest itself.
//!
//! Bytes that are sent are drawn anew by who sends them, so that what comes out at the other end can come from nowhere else. What dom0
//! prints is lines `WORD VALUE`; what the guest prints is the same, within its answer.

use super::dom0::Dom0;
use super::domain::{in_guest, nonce_file, seen};
use super::scripts::quote;
use super::xtf::of_guest;
use crate::hub::Hub;
use xenlab_model::cause::Cause;
use xenlab_model::device::{self, Backend, Disk, Which};
use xenlab_model::evidence::Loss;
use xenlab_model::guest::Guest;
use xenlab_model::step::Observation;
use xenlab_model::step::device::{Act, BYTES, Device, DeviceEvidence, Done, Handled};

/// Makes and takes away what devices stand on in dom0; the first lines of every script here.
const COMMON: &str = include_str!("device/common.sh");

/// A part of what is done: what it is called, whether the guest does it, and its script.
type Part = (&'static str, bool, String);

impl Dom0<'_> {
    /// `device`
    pub async fn device(&mut self, step: &Device, hub: &Hub) -> Result<Observation, Loss> {
        let begun = hub.state().next_line();
        let (Some((act, _)), Some(guest)) = (step.act(), step.guest.as_ref()) else {
            return Err(internal());
        };
        let mut domains = Vec::new();
        for domain in guest.domains() {
            let Some(parts) = parts(act, step, &domain) else { return Err(internal()) };
            let nonce = self.sh(&format!("cat {}", quote(&nonce_file(&domain)))).await;
            let nonce = nonce.stdout.text.trim().to_owned();
            let mut done = Vec::new();
            let mut well = true;
            for (what, of_guest, script) in parts {
                let script = if of_guest { in_guest(&domain, &script) } else { script };
                let command = self.sh(&script).await;
                let part = Done { what: what.to_owned(), in_guest: of_guest, command };
                well = part.is_well(&nonce);
                done.push(part);
                if !well {
                    break;
                }
            }
            let looked = self.looked(&domain).await;
            let mut seen = seen(&domain, looked.clone(), looked);
            // What it printed is the state, the number, the nonce and the console, which are in it already.
            seen.command.stdout = Default::default();
            seen.xen = of_guest(hub, seen.id, begun);
            domains.push(Handled { done, seen });
            if !well {
                break;
            }
        }
        Ok(Observation::Device(DeviceEvidence { domains }))
    }
}

fn internal() -> Loss {
    let message = "a step without a device was to be performed".to_owned();
    Loss::Lab { code: Cause::LabInternal.code().to_owned(), message }
}

/// What is done, in its order; none: the step does not say of what.
fn parts(act: Act, step: &Device, domain: &str) -> Option<Vec<Part>> {
    Some(match (act, step.which()) {
        (Act::Attach, Some(which)) => {
            let (kind, spec) = match which {
                Which::Disk(disk, of) => ("block-attach", of.xl(domain, disk)),
                Which::Vif(vif, of) => ("network-attach", of.xl(domain, vif)),
            };
            let make = make(domain, which);
            let rest = include_str!("device/connected.sh");
            let attach =
                format!("{make}xl {kind} \"$domain\" {} >&2 || hotplug_failed $?\n{rest}", quote(&spec));
            vec![
                ("`xl` attaching it", false, in_dom0(domain, which, &attach)),
                ("looking for it", true, look_for(domain, which, "yes", "")),
            ]
        }
        (Act::Detach, Some(which)) => {
            let kind = match which {
                Which::Disk(..) => "block-detach",
                Which::Vif(..) => "network-detach",
            };
            let rest = include_str!("device/gone.sh");
            let detach = format!("find_device\nxl {kind} \"$domain\" \"$number\" >&2 || exit\n{rest}");
            vec![
                ("`xl` detaching it", false, in_dom0(domain, which, &detach)),
                ("looking for it", true, look_for(domain, which, "no", "")),
                ("taking away what it stood on", false, in_dom0(domain, which, &unmake(domain, which))),
            ]
        }
        (Act::Transfer, Some(Which::Disk(disk, _))) => {
            let image = quote(&device::image(domain, disk));
            let of = |script: &str| format!("image={image} disk={disk} bytes={BYTES}\n{script}");
            vec![
                ("writing to the file behind it", false, of(include_str!("device/disk-dom0-writes.sh"))),
                ("reading and writing it", true, of(include_str!("device/disk-guest.sh"))),
                ("reading the file behind it", false, of(include_str!("device/disk-dom0-reads.sh"))),
            ]
        }
        (Act::Transfer, Some(which @ Which::Vif(vif, of))) => {
            // Other ports each time, so that nothing of an earlier transfer can answer.
            let port = 20_000 + 2 * (u16::from_str_radix(&crate::random_hex(2), 16).unwrap_or(0) % 10_000);
            let files = quote(&format!("{}/{domain}.{vif}", device::FOLDER));
            let (host, address) = (of.host(), of.address(domain, vif));
            let variables = format!(
                "bytes={BYTES} host={host} address={address} to_guest={port} from_guest={} files={files}\n",
                port + 1
            );
            let dom0 = |script: &str| in_dom0(domain, which, &format!("{variables}{script}"));
            // The guest has none of the functions of dom0's but this.
            let counted = COMMON.find("# Bytes that this end").map_or("", |at| &COMMON[at..]);
            let guest = format!("{variables}{counted}{}", include_str!("device/vif-guest.sh"));
            vec![
                ("getting ready to send", false, dom0(include_str!("device/vif-dom0-begins.sh"))),
                ("sending through it", true, look_for(domain, which, "yes", &guest)),
                ("receiving", false, dom0(include_str!("device/vif-dom0-ends.sh"))),
            ]
        }
        (Act::Resize, _) => resize(step, domain)?,
        (Act::Attach | Act::Detach | Act::Transfer, None) => return None,
    })
}

/// How long is waited for what `xl` says to become what it should be; `xl` alone takes half a second under emulation.
const SECONDS: u32 = 10;

fn resize(step: &Device, domain: &str) -> Option<Vec<Part>> {
    let domain = format!("domain={}\n", quote(domain));
    let wait = format!("seconds={SECONDS}\n{}", include_str!("wait.sh"));
    if let Some(memory) = step.memory {
        let total = |when: &str| {
            format!("echo \"total-{when} $(awk '$1 == \"MemTotal:\" {{ print $2 }}' /proc/meminfo)\"")
        };
        let set = format!("mib={} {domain}{wait}{}", memory.0 >> 20, include_str!("device/memory.sh"));
        return Some(vec![
            ("counting its memory", true, total("before")),
            ("`xl mem-set`", false, set),
            ("counting its memory", true, total("after")),
        ]);
    }
    let vcpus = step.vcpus?;
    let variables = format!("vcpus={vcpus} {domain}");
    Some(vec![
        ("`xl vcpu-set`", false, format!("{variables}xl vcpu-set \"$domain\" {vcpus} >&2")),
        ("counting its processors", true, format!("{variables}{}", include_str!("device/vcpus-in-guest.sh"))),
        ("`xl vcpu-list`", false, format!("{variables}{wait}{}", include_str!("device/vcpus.sh"))),
    ])
}

/// A script with what is known of a device, and the functions to find the rest.
fn in_dom0(domain: &str, which: Which<'_>, script: &str) -> String {
    let (class, kind, number, mac) = match which {
        Which::Disk(disk, of) => {
            let number = device::number(disk).map_or_else(|| disk.to_owned(), |n| n.to_string());
            ("vbd", of.backend.of_store(), number, String::new())
        }
        Which::Vif(vif, _) => ("vif", "vif", String::new(), device::mac(domain, vif)),
    };
    format!(
        "domain={} class={class} type={kind} number={number} mac={mac}\n{COMMON}\n{script}",
        quote(domain)
    )
}

/// A script for the guest that waits until it has a device (`yes`), or has not (`no`), and does the rest.
fn look_for(domain: &str, which: Which<'_>, wanted: &str, rest: &str) -> String {
    match which {
        Which::Disk(disk, _) => {
            format!("disk={disk} wanted={wanted}\n{}{rest}", include_str!("device/disk-in-guest.sh"))
        }
        Which::Vif(vif, _) => {
            let mac = device::mac(domain, vif);
            format!("mac={mac} wanted={wanted}\n{}{rest}", include_str!("device/vif-in-guest.sh"))
        }
    }
}

/// Makes what a device stands on.
fn make(domain: &str, which: Which<'_>) -> String {
    match which {
        Which::Disk(disk, of) => {
            let image = quote(&device::image(domain, disk));
            format!("disk {image} {}{} || exit\n", of.size.0, link(domain, disk, of))
        }
        Which::Vif(_, of) => format!("bridge {} {} || exit\n", of.bridge, of.host()),
    }
}

/// Takes away what a device stood on; a bridge is everybody's and stays.
fn unmake(domain: &str, which: Which<'_>) -> String {
    match which {
        Which::Disk(disk, of) => {
            format!("undisk {}{}\n", quote(&device::image(domain, disk)), link(domain, disk, of))
        }
        Which::Vif(..) => ":\n".to_owned(),
    }
}

fn link(domain: &str, disk: &str, of: &Disk) -> String {
    match of.backend {
        Backend::Phy => format!(" {}", quote(&device::link(domain, disk))),
        Backend::File | Backend::Qdisk => String::new(),
    }
}

/// What the devices of a guest stand on that is to have them when it is created.
pub(super) fn before(guest: &Guest, domain: &str) -> String {
    let made: String = guest.devices(true).into_iter().map(|which| make(domain, which)).collect();
    if made.is_empty() { made } else { format!("{COMMON}\n( {made}) >&2 || exit\n") }
}

/// And takes it away once the domain is gone.
pub(super) fn after(guest: &Guest, domain: &str) -> String {
    let unmade: String = guest.devices(false).into_iter().map(|which| unmake(domain, which)).collect();
    if unmade.is_empty() { unmade } else { format!("\n{COMMON}\n{unmade}:\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenlab_model::guest::GuestConfig;
    use xenlab_model::units::Size;

    const GUEST: &str = r#"{"disks": {"xvda": {"backend": "phy"}, "xvdb": {"backend": "file", "plugged": false}},
        "vifs": {"net0": {"bridge": "xenbr0"}}}"#;

    fn is_a_script(script: &str) {
        let checked = std::process::Command::new("sh").args(["-n", "-c", script]).output().unwrap();
        assert!(checked.status.success(), "{}\n{script}", String::from_utf8_lossy(&checked.stderr));
        assert!(xenlab_guest::Script::new(script.to_owned()).check().is_ok(), "{}", script.len());
    }

    /// What is put together for each act is a script; and for the guest it still is one, with what carries it there.
    #[test]
    fn every_part_is_a_script() {
        let config: GuestConfig = serde_json::from_str(GUEST).unwrap();
        let guest = Guest { name: "g1".into(), config };
        let named = || Some("g1".to_owned());
        let of = |step: Device| Device { guest: Some(Box::new(guest.clone())), ..step };
        let mut steps = vec![
            of(Device { resize: named(), memory: Some(Size::mib(64)), ..Device::default() }),
            of(Device { resize: named(), vcpus: Some(1), ..Device::default() }),
        ];
        for act in ["attach", "transfer", "detach"] {
            for device in ["xvda", "xvdb", "net0"] {
                let on = |key: &str| (key == act).then(|| "g1".to_owned());
                let own = |class: &str| device.starts_with(class).then(|| device.to_owned());
                steps.push(of(Device {
                    attach: on("attach"),
                    transfer: on("transfer"),
                    detach: on("detach"),
                    disk: own("xvd"),
                    vif: own("net"),
                    ..Device::default()
                }));
            }
        }
        for step in &steps {
            let (act, _) = step.act().unwrap();
            let parts = parts(act, step, "g1").unwrap();
            assert!(parts.iter().any(|(_, of_guest, _)| *of_guest), "{act:?}: nobody asks the guest");
            for (_, of_guest, script) in parts {
                is_a_script(&script);
                if of_guest {
                    is_a_script(&in_guest("g1", &script));
                }
            }
        }
        is_a_script(&before(&guest, "g1"));
        is_a_script(&after(&guest, "g1"));
        assert!(!before(&guest, "g1").contains("xvdb") && after(&guest, "g1").contains("xvdb"));
        let none = Guest { config: serde_json::from_str("{}").unwrap(), ..guest };
        assert_eq!(before(&none, "g1") + &after(&none, "g1"), "");
    }
}
