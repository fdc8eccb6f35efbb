//! Whether a device came, carried what was sent through it, and went.

use super::{BYTES, Said, Seen};
use crate::cause::Cause;
use crate::device::{self, Which};
use crate::matcher::quote;
use crate::verdict::Check;

/// XenbusStateConnected.
const CONNECTED: &str = "4";

pub(super) fn attached(name: &str, which: Which<'_>, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
    let domain = &seen.domain;
    let fail = |name: &str, message: String| Check::fail(name, Cause::DeviceNotAttached, message);
    let (backend, frontend) = (values.dom0.get("backend-state"), values.dom0.get("frontend-state"));
    let connected = if (backend, frontend) == (Some(CONNECTED), Some(CONNECTED)) {
        Check::pass(name, format!("{} is attached to {domain}, both ends are connected", which.name()))
    } else {
        let shown = |word| values.dom0.shown(word);
        fail(
            name,
            format!(
                "{} of {domain} did not come to be connected (state {CONNECTED}): backend {}, frontend {}",
                which.name(),
                shown("backend-state"),
                shown("frontend-state")
            ),
        )
    };
    let second = match which {
        Which::Disk(disk, of) => {
            let check = format!("size of {disk} in {domain}");
            match values.guest.number("sectors") {
                Some(n) if n == (of.size.0 / 512) as i64 => {
                    Check::pass(&check, format!("{domain} has {disk}, {} in size", of.size))
                }
                Some(n) => {
                    fail(&check, format!("{disk} has {n} sectors in {domain}, expected {}", of.size.0 / 512))
                }
                None => fail(&check, format!("{domain} has no disk {disk}")),
            }
        }
        Which::Vif(vif, _) => {
            let check = format!("{vif} in {domain}");
            let mac = device::mac(domain, vif);
            match values.guest.get("interface") {
                Some(interface) => {
                    Check::pass(&check, format!("{domain} has {vif} as {}, {mac}", quote(interface)))
                }
                None => fail(&check, format!("{domain} has no network interface with the address {mac}")),
            }
        }
    };
    vec![connected, second]
}

/// Two digests of what must be the same bytes, each with whose it is. None is judged equal to none.
fn same(name: &str, (whose, sent): (&str, Option<&str>), (other, got): (&str, Option<&str>)) -> Check {
    let digest = |text: Option<&str>| {
        text.filter(|t| t.len() == 64 && t.bytes().all(|b| b.is_ascii_hexdigit())).map(str::to_owned)
    };
    let short = |text: Option<String>| text.map_or_else(|| "nothing".to_owned(), |t| t[..16].to_owned());
    match (digest(sent), digest(got)) {
        (Some(a), Some(b)) if a == b => Check::pass(name, format!("{other} the {BYTES} bytes that {whose}")),
        (a, b) => Check::fail(
            name,
            Cause::DeviceData,
            format!("{whose} {}, {other} {} (SHA-256 of {BYTES} bytes)", short(a), short(b)),
        ),
    }
}

pub(super) fn read_and_written(disk: &str, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
    let domain = &seen.domain;
    let (dom0, guest) = (|word| values.dom0.get(word), |word| values.guest.get(word));
    let (wrote, reads) = (format!("{domain} wrote"), format!("{domain} read"));
    vec![
        same(&format!("{disk} to {domain}"), ("dom0 wrote", dom0("wrote")), (&reads, guest("read"))),
        same(
            &format!("{disk} read back in {domain}"),
            (&wrote, guest("wrote")),
            (&format!("{domain} read back"), guest("read-back")),
        ),
        same(&format!("{disk} from {domain}"), (&wrote, guest("wrote")), ("dom0 read", dom0("read"))),
    ]
}

pub(super) fn sent(vif: &str, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
    let domain = &seen.domain;
    let (dom0, guest) = (|word| values.dom0.get(word), |word| values.guest.get(word));
    let mut checks = vec![
        same(
            &format!("{vif} to {domain}"),
            ("dom0 sent", dom0("sent")),
            (&format!("{domain} got"), guest("got")),
        ),
        same(
            &format!("{vif} from {domain}"),
            (&format!("{domain} sent"), guest("sent")),
            ("dom0 got", dom0("got")),
        ),
    ];
    // Bytes that came by another way are not counted here.
    for (who, whose) in [(&values.dom0, "dom0's end"), (&values.guest, domain.as_str())] {
        for (direction, word) in [("received", "rx"), ("sent", "tx")] {
            let name = format!("{vif} bytes {direction} by {whose}");
            let count = |when: &str| who.number(&format!("{word}-{when}"));
            checks.push(match (count("before"), count("after")) {
                (Some(was), Some(is)) if is - was >= BYTES as i64 => {
                    Check::pass(&name, format!("{whose} of {vif} {direction} {} bytes", is - was))
                }
                (Some(was), Some(is)) => Check::fail(
                    &name,
                    Cause::DeviceData,
                    format!(
                        "{whose} of {vif} counts {} bytes as {direction}, where {BYTES} and more came by",
                        is - was
                    ),
                ),
                _ => Check::fail(
                    &name,
                    Cause::DeviceState,
                    format!("{whose} of {vif} does not say how many bytes it {direction}"),
                ),
            });
        }
    }
    checks
}

pub(super) fn detached(name: &str, which: Which<'_>, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
    let (domain, device) = (&seen.domain, which.name());
    let gone = match values.guest.get("there") {
        Some("no") => Check::pass(name, format!("{domain} has no {device} any more")),
        _ => Check::fail(name, Cause::DeviceNotDetached, format!("{domain} still has {device}")),
    };
    let left: Vec<String> = ["node", "loop", "interface-left"]
        .iter()
        .flat_map(|word| values.dom0.all(word))
        .map(|v| quote(v))
        .collect();
    let name = format!("left of {device} of {domain}");
    // What was looked for is named by the script that looked, so that a script that did not is no proof.
    let left = match (values.dom0.get("looked"), left.as_slice()) {
        (None, _) => {
            Check::error(&name, Cause::LabInternal, "it was not looked for what is left of the device")
        }
        (Some(_), []) => Check::pass(&name, format!("nothing of {device} is left in dom0")),
        (Some(_), some) => Check::fail(
            &name,
            Cause::GuestLeak,
            format!("of {device} of {domain} is left in dom0: {}", some.join(", ")),
        ),
    };
    vec![gone, left]
}
