//! What types cannot say: checks of a whole configuration and of a step's body, each with its place.

use super::config::Config;
use super::diagnostic::Diagnostic;
use super::tree::{Key, Node};
use crate::device;
use crate::guest::GuestStart;
use crate::step::Body;

/// Checks a case's configuration.
pub(crate) fn config(config: &Config, tree: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let mut say = |path: &str, message: String, expected: &str| {
        let origin = tree.at(path).map_or(&tree.origin, |n| &n.origin);
        diagnostics.push(Diagnostic::new(origin, message).expected(expected));
    };
    for (path, zero) in [
        ("machine.cpus", config.machine.cpus == 0),
        ("dom0.vcpus", config.dom0.vcpus == Some(0)),
        ("machine.memory", config.machine.memory.is_some_and(|m| m.0 == 0)),
        ("dom0.memory", config.dom0.memory.0 == 0),
        ("limits.boot", config.limits.boot.is_some_and(|d| d.0.is_zero())),
        ("limits.step", config.limits.step.is_some_and(|d| d.0.is_zero())),
        ("limits.case", config.limits.case.is_some_and(|d| d.0.is_zero())),
    ] {
        if zero {
            say(path, format!("`{path}` is 0"), "more than 0");
        }
    }
    for (name, guest) in &config.guests {
        for (key, zero) in
            [("memory", guest.memory.0 == 0), ("vcpus", guest.vcpus == 0), ("copies", guest.copies == 0)]
        {
            if zero {
                say(
                    &format!("guests.{name}.{key}"),
                    format!("`{key}` of guest `{name}` is 0"),
                    "more than 0",
                );
            }
        }
    }
    for (name, guest) in config.guests.iter().filter(|(_, g)| g.start == GuestStart::Xen) {
        let of_xl = [
            ("copies", guest.copies != 1),
            ("disks", !guest.disks.is_empty()),
            ("vifs", !guest.vifs.is_empty()),
            ("programs", !guest.programs.is_empty()),
            ("config", !guest.config.is_empty()),
        ];
        for (key, _) in of_xl.into_iter().filter(|(_, given)| *given) {
            let message = format!("`{key}` is xl's, and guest `{name}` is made by Xen");
            say(&format!("guests.{name}.{key}"), message, "kernel, initrd, memory, vcpus and args");
        }
    }
    for (name, guest) in &config.guests {
        for (disk, of) in &guest.disks {
            let path = format!("guests.{name}.disks.{disk}");
            if device::number(disk).is_none() {
                let message = format!("`{disk}` is no name of a guest's disk");
                say(&path, message, "what the guest calls it: xvda to xvdp");
            }
            if of.size.0 < device::SMALLEST || of.size.0 % 4096 != 0 {
                let message = format!("a disk of {} is too small, or not whole blocks of 4 KiB", of.size);
                say(&format!("{path}.size"), message, "1M or more");
            }
        }
        for (vif, of) in &guest.vifs {
            // A key with a dot in it is no part of a path.
            let own = if vif.contains('.') { String::new() } else { format!(".{vif}") };
            let path = format!("guests.{name}.vifs{own}");
            let expected = "1 to 15 letters, digits, `-`, `_` and `.`, such as";
            if !device::is_name(vif) {
                say(
                    &path,
                    format!("`{vif}` is no name for a network interface"),
                    &format!("{expected} net0"),
                );
            }
            if !device::is_name(&of.bridge) {
                let message = format!("`{}` is no name for a bridge", of.bridge);
                say(&format!("{path}.bridge"), message, &format!("{expected} xenbr0"));
            }
        }
    }
    if let Some(machine) = config.machine.memory.filter(|m| m.0 != 0 && m.0 <= config.dom0.memory.0) {
        let message =
            format!("the machine has {machine}, all of which or more is dom0's ({})", config.dom0.memory);
        say("machine.memory", message, "more than `dom0.memory`: Xen needs memory too");
    }
    if let Some(version) = &config.xen.expect_version
        && let Err(e) = version.parse::<crate::version::XenVersion>()
    {
        let message = e.split("; expected").next().unwrap_or(&e).to_owned();
        say("xen.expect-version", message, "MAJOR.MINOR and what follows, as 4.20.1 or 4.21-rc");
    }
    for (key, message, expected) in config.xen.options.mistakes() {
        say(&format!("xen.options.{key}"), message, expected);
    }
    let asked =
        [("xen.patches", !config.xen.patches.is_empty()), ("xen.options", !config.xen.options.is_empty())];
    for (path, _) in asked.iter().filter(|(_, asked)| *asked && !config.xen.build.is_source()) {
        let message =
            format!("`{path}` is for what is built here, and {} is built already", config.xen.build);
        say(path, message, "a build from source: source:PATH[@REV] or debsrc:SUITE");
    }
    if let Some(qemu) = &config.machine.qemu
        && qemu.is_empty()
    {
        say("machine.qemu", "`machine.qemu` is empty".into(), "the path of a QEMU binary");
    }
}

/// Checks a step's body, which stands in the file as `node` under `key`. Of a body that lost keys to other mistakes
/// (not `whole`), nothing is said that the lost ones may explain.
pub(crate) fn step(body: &Body, key: &Key, node: &Node, whole: bool, diagnostics: &mut Vec<Diagnostic>) {
    for complaint in body.check().into_iter().filter(|c| whole || !c.path.is_empty()) {
        let at = locate(node, &complaint.path).map_or(&key.origin, |n| &n.origin);
        let d = Diagnostic::new(at, complaint.message);
        diagnostics.push(match complaint.expected {
            Some(expected) => d.expected(expected),
            None => d,
        });
    }
}

/// The node at a path such as `has[1]` or `content.matches`.
fn locate<'a>(node: &'a Node, path: &str) -> Option<&'a Node> {
    let mut at = node;
    for part in path.split('.').filter(|p| !p.is_empty()) {
        let (key, index) = match part.split_once('[') {
            Some((key, index)) => (key, index.strip_suffix(']')?.parse::<usize>().ok()),
            None => (part, None),
        };
        at = at.get(key)?;
        if let Some(index) = index {
            at = at.items().get(index)?;
        }
    }
    Some(at)
}
