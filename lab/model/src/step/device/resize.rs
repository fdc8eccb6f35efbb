//! What becomes of a guest's memory and vCPUs.

use super::{Device, Said, Seen};
use crate::cause::Cause;
use crate::matcher::quote;
use crate::verdict::Check;

/// MiB by which what Xen counts may differ from what was asked for: whole pages of the balloon, and what libxl keeps for the guest.
const OFF: i64 = 1;
/// MiB by which the guest's own count may have changed by more or less than Xen's.
const OFF_IN_GUEST: i64 = 2;

impl Device {
    pub(super) fn resized(&self, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
        match (self.memory, self.vcpus) {
            (Some(memory), _) => ballooned((memory.0 >> 20) as i64, values, seen),
            (None, Some(vcpus)) => plugged(vcpus, values, seen),
            (None, None) => Vec::new(),
        }
    }
}

fn ballooned(wanted: i64, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
    let domain = &seen.domain;
    let fail = |name: &str, message: String| Check::fail(name, Cause::DeviceState, message);
    let name = format!("memory of {domain}");
    let (was, is) = (values.dom0.number("xl-before"), values.dom0.number("xl-after"));
    let by_xl = match is {
        Some(is) if (is - wanted).abs() <= OFF => {
            Check::pass(&name, format!("{domain} has {is} MiB, as `xl list` says"))
        }
        Some(is) => {
            fail(&name, format!("{domain} was to have {wanted} MiB, `xl list` says that it has {is} MiB"))
        }
        None => fail(&name, format!("`xl list` does not say how much memory {domain} has")),
    };
    let name = format!("memory in {domain}");
    // The guest counts less than all of its memory, but as much less or more as it was given or taken.
    let (before, after) = (values.guest.number("total-before"), values.guest.number("total-after"));
    let by_guest = match (was, is, before, after) {
        (Some(was), Some(is), Some(before), Some(after)) => {
            let (given, counted) = (is - was, (after - before) / 1024);
            let shown =
                format!("by its own count {domain} had {} MiB and has {} MiB", before / 1024, after / 1024);
            if (given - counted).abs() <= OFF_IN_GUEST {
                Check::pass(&name, format!("{shown}; by that of `xl list` {was} MiB and {is} MiB"))
            } else {
                fail(
                    &name,
                    format!("{shown}: {counted:+} MiB, while by that of `xl list` it is {given:+} MiB"),
                )
            }
        }
        _ => fail(&name, format!("{domain} does not say how much memory it has")),
    };
    vec![by_xl, by_guest]
}

fn plugged(wanted: u32, values: &Said<'_>, seen: &Seen) -> Vec<Check> {
    let domain = &seen.domain;
    let fail = |name: &str, message: String| Check::fail(name, Cause::DeviceState, message);
    let name = format!("vCPUs of {domain}");
    let by_xl = match values.dom0.number("xl-online") {
        Some(is) if is == i64::from(wanted) => {
            Check::pass(&name, format!("{domain} has {is} vCPUs online, as `xl vcpu-list` says"))
        }
        Some(is) => {
            fail(&name, format!("{domain} was to have {wanted} vCPUs online, `xl vcpu-list` says {is}"))
        }
        None => fail(&name, format!("`xl vcpu-list` does not say which vCPUs of {domain} are online")),
    };
    let name = format!("vCPUs in {domain}");
    let online = values.guest.get("online");
    let by_guest = match online.and_then(listed) {
        Some(is) if is == wanted => Check::pass(&name, format!("{domain} itself has {is} processors online")),
        _ => fail(
            &name,
            format!(
                "{domain} itself was to have {wanted} processors online, it says {}",
                online.map_or_else(|| "nothing".to_owned(), quote)
            ),
        ),
    };
    vec![by_xl, by_guest]
}

/// How many processors a list like `0-1,3` names.
fn listed(text: &str) -> Option<u32> {
    text.split(',')
        .map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
            last.checked_sub(first)?.checked_add(1)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn lists_of_processors() {
        assert_eq!(listed("0"), Some(1));
        assert_eq!(listed("0-1,3"), Some(3));
        for none in ["", "a", "3-1", "0-"] {
            assert_eq!(listed(none), None, "{none}");
        }
    }
}
