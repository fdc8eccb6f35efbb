//! The `systemd` userland: a whole distribution's dom0, from packages that were only unpacked. What their maintainer
//! scripts would have made is made here.

use crate::recipe::{self, Recipe};
use crate::tree::Squash;
use crate::{Console, Dance, ImageError, Init, Layout};
use std::io::Read as _;
use xenlab_store::debian::{Deb, for_each_file};

/// Users that packages' scripts add: (name, number, home). Numbers are ours; nothing of it leaves dom0.
const USERS: [(&str, u32, &str); 6] = [
    ("messagebus", 100, "/nonexistent"),
    ("sshd", 101, "/run/sshd"),
    ("systemd-network", 998, "/"),
    ("systemd-resolve", 997, "/"),
    ("systemd-timesync", 996, "/"),
    ("_apt", 42, "/nonexistent"),
];

/// Groups that packages' scripts and udev's rules want besides those of the users.
const GROUPS: [(&str, u32); 9] = [
    ("systemd-journal", 999),
    ("input", 995),
    ("sgx", 994),
    ("kvm", 993),
    ("render", 992),
    ("crontab", 991),
    ("netdev", 990),
    ("_ssh", 989),
    ("clock", 988),
];

/// Units that are enabled: (the target that wants it, unit, where it is).
const ENABLED: [(&str, &str, &str); 4] = [
    ("sysinit.target", "xenlab-init.service", "/etc/systemd/system"),
    ("multi-user.target", "xenlab-network.service", "/etc/systemd/system"),
    ("multi-user.target", "xenlab-ready.service", "/etc/systemd/system"),
    ("multi-user.target", "ssh.service", "/usr/lib/systemd/system"),
];

/// For login shells: where the tools are, and the prompt that the login dance waits for.
const PROFILE: &str = "[ -e /etc/xenlab/tools ] && . /etc/xenlab/tools\nPS1='root@xenlab:\\w# '\n";

/// Lays the files that no package has.
pub(crate) fn write(squash: &mut Squash, recipe: &Recipe, debs: &[Deb]) -> Result<(), ImageError> {
    for (path, content) in recipe::files("systemd") {
        if let Some(path) = path.strip_prefix("root/") {
            let program = content.starts_with(b"#!");
            squash.file(path, if program { 0o755 } else { 0o644 }, content)?;
        }
    }
    accounts(squash, debs)?;
    squash.file("etc/hostname", 0o644, b"xenlab\n")?;
    squash.file("etc/hosts", 0o644, b"127.0.0.1 localhost xenlab\n")?;
    squash.file("etc/fstab", 0o644, b"# Mounted by the initramfs.\n")?;
    squash.file("etc/machine-id", 0o444, format!("{}\n", &recipe::digest("systemd")[..32]).as_bytes())?;
    squash.link("var/lib/dbus/machine-id", "/etc/machine-id")?;
    squash.file("etc/profile", 0o644, PROFILE.as_bytes())?;
    squash.file("etc/environment", 0o644, b"")?;
    squash.file("etc/default/locale", 0o644, b"LANG=C.UTF-8\n")?;
    // Nothing is to be updated at the first boot: systemd.unit(5), ConditionNeedsUpdate.
    squash.file("etc/.updated", 0o644, b"")?;
    squash.file("var/.updated", 0o644, b"")?;
    // Network cards keep the kernel's names.
    squash.link("etc/udev/rules.d/80-net-setup-link.rules", "/dev/null")?;
    squash.link("etc/systemd/system/default.target", "/usr/lib/systemd/system/multi-user.target")?;
    squash.link("etc/mtab", "/proc/self/mounts")?;
    // update-alternatives and dash's script.
    squash.link("usr/bin/sh", "dash")?;
    squash.link("usr/bin/awk", "mawk")?;
    for (target, unit, from) in ENABLED {
        squash.link(&format!("etc/systemd/system/{target}.wants/{unit}"), &format!("{from}/{unit}"))?;
    }
    for unit in &recipe.mask {
        squash.link(&format!("etc/systemd/system/{unit}"), "/dev/null")?;
    }
    for dir in
        ["var/log/xen/console", "var/lib/xen", "var/lib/xenstored", "var/log/journal.off", "var/lib/systemd"]
    {
        squash.dir(dir, 0o755)?;
    }
    Ok(())
}

/// passwd, shadow and group: base-passwd's masters, and the users above.
fn accounts(squash: &mut Squash, debs: &[Deb]) -> Result<(), ImageError> {
    let (mut passwd, mut group) = (String::new(), String::new());
    for deb in debs.iter().filter(|d| d.package == "base-passwd") {
        for_each_file(deb, |entry| {
            let bad = |e| ImageError::io("unpack", &deb.path, e);
            let path = entry.path().map_err(bad)?.to_string_lossy().into_owned();
            let to = match path.rsplit('/').next() {
                Some("passwd.master") => &mut passwd,
                Some("group.master") => &mut group,
                _ => return Ok::<(), ImageError>(()),
            };
            entry.read_to_string(to).map_err(bad)?;
            Ok(())
        })?;
    }
    if passwd.is_empty() || group.is_empty() {
        return Err(ImageError::PackageLacks {
            suite: "the userland".into(),
            what: "base-passwd's lists of users".into(),
        });
    }
    for (name, id, home) in USERS {
        passwd.push_str(&format!("{name}:x:{id}:{id}::{home}:/usr/sbin/nologin\n"));
        if name != "sshd" && name != "_apt" {
            group.push_str(&format!("{name}:x:{id}:\n"));
        }
    }
    for (name, id) in GROUPS {
        group.push_str(&format!("{name}:x:{id}:\n"));
    }
    // The masters have `*` where the password goes: nobody logs in by one.
    let passwd: String = passwd.lines().map(|l| l.replacen(":*:", ":x:", 1) + "\n").collect();
    let shadow: String = passwd
        .lines()
        .filter_map(|l| Some(format!("{}:*:19000:0:99999:7:::\n", l.split(':').next()?)))
        .collect();
    squash.file("etc/passwd", 0o644, passwd.as_bytes())?;
    squash.file("etc/group", 0o644, group.as_bytes())?;
    squash.file("etc/shadow", 0o640, shadow.as_bytes())?;
    squash.file("etc/gshadow", 0o640, b"")
}

/// What it looks like from inside.
pub(crate) fn layout(services: Vec<String>) -> Layout {
    Layout {
        userland: "systemd".into(),
        init: Init::Systemd,
        marks_ready: true,
        xen_services: services,
        user: "root".into(),
        ssh_port: 22,
        // agetty logs root in; a line end makes bash prompt again in case its first prompt went by unseen.
        login: vec![Dance::Write("\r".into()), Dance::Wait(r"root@xenlab:[^\r\n]*# $".into())],
        console: Console::Terminal,
        path: Vec::new(),
    }
}
