//! What dom0 does to save, restore and migrate a guest, and what the guest says of itself before and after.
//!
//! A script prints lines `WORD VALUE`: `was`, `domid`, `type`, and after `before` and `after` the small guest's answers.

use super::super::scripts::quote;
use super::{STANDARD, log, nonce_file};
use base64::Engine as _;
use xenlab_model::device::FOLDER;
use xenlab_model::guest::{Guest, serial};
use xenlab_model::step::domain::{Act, Domain};

/// Functions, and what every script begins with.
const COMMON: &str = include_str!("moved/common.sh");
/// What the guest runs before: it draws bytes anew, which it has nowhere but in its memory.
const DRAW: &str = "head -c 65536 /dev/urandom >/tmp/xenlab-kept\n";
/// And before and after: what only the same running guest can say twice.
const SAY: &str = "echo \"boot $(cat /proc/sys/kernel/random/boot_id)\"\necho \"hash $(sha256sum </tmp/xenlab-kept | cut -d ' ' -f 1)\"\n\
                   echo \"uptime $(cut -d ' ' -f 1 /proc/uptime)\"\n";

pub(super) fn script(act: Act, step: &Domain, guest: &Guest, domain: &str) -> String {
    let file = step.file.clone().unwrap_or_else(|| format!("{FOLDER}/{domain}.saved"));
    let ask = if guest.is_tiny() { STANDARD.encode(SAY) } else { String::new() };
    let draw = if guest.is_tiny() { STANDARD.encode(format!("{DRAW}{SAY}")) } else { String::new() };
    let receive = match step.breaks_after {
        Some(size) => format!("head -c {} | xl migrate-receive", size.0),
        None => "xl migrate-receive".to_owned(),
    };
    let rest = match act {
        Act::Save => include_str!("moved/save.sh"),
        Act::Restore => include_str!("moved/restore.sh"),
        _ => include_str!("moved/migrate.sh"),
    };
    format!(
        "domain={} serial={} log={} nonce={} file={} kept={} receive={} say={ask} draw={draw} id={}\n{COMMON}{rest}",
        quote(domain),
        if guest.is_sector() { quote(&serial(domain)) } else { String::new() },
        quote(&log(domain)),
        quote(&nonce_file(domain)),
        quote(&file),
        quote(&format!("{FOLDER}/{domain}.kept")),
        quote(&receive),
        crate::random_hex(8),
    )
}
