//! Guests that are saved, restored and migrated: that what goes on afterwards is what went on before.
//!
//! The small guest says what only the same running guest can say twice: the number that its kernel drew at its boot, the hash of bytes that it
//! drew and has nowhere but in its memory, and how long it has been up.

use super::{Act, Answer, Domain, Seen, complaint, say};
use crate::arch::Arch;
use crate::cause::Cause;
use crate::fact::{FactValue, Facts};
use crate::guest::GuestType;
use crate::matcher::quote;
use crate::step::JudgeContext;
use crate::units::Size;
use crate::verdict::Check;

/// The first bytes of what `xl save` writes (tools/xl/xl.h, `savefileheader_magic`).
const MAGIC: &str = "Xen saved domain, xl format";

/// What a guest said of itself.
#[derive(Debug, PartialEq)]
struct Kept {
    boot: String,
    hash: String,
    uptime: f64,
}

impl Kept {
    /// Reads lines `boot ID`, `hash SHA-256` and `uptime SECONDS` of the answer that follows this word.
    fn read(seen: &Seen, word: &str) -> Option<Kept> {
        let said = seen.value(word)?;
        // What the boot sector has is a number that it counts on, about one a second.
        if let Some(count) = said.strip_prefix(&format!("xenlab-guest: tick {} ", seen.nonce)) {
            let uptime = u32::from_str_radix(count, 16).ok()?.into();
            return Some(Kept { boot: String::new(), hash: String::new(), uptime });
        }
        let answer = Answer::read(said, &seen.nonce).filter(|a| a.status == 0)?;
        let value = |word: &str| {
            let text = &answer.stdout.text;
            text.lines().find_map(|l| l.strip_prefix(word)?.strip_prefix(' ')).map(|v| v.trim().to_owned())
        };
        // A guest that has booted anew has none of what it is asked to hash.
        let (boot, hash) = (value("boot")?, value("hash").unwrap_or_default());
        let uptime = value("uptime")?.parse().ok()?;
        (boot.len() > 8).then_some(Kept { boot, hash, uptime })
    }

    /// Why this is not the guest that it was.
    fn differs(&self, was: &Kept) -> Option<String> {
        if self.boot != was.boot {
            return Some(format!(
                "it has booted anew: its kernel has been up for {} s, and was for {} s before",
                self.uptime, was.uptime
            ));
        }
        if self.hash != was.hash {
            return Some("64 KiB that it had in its memory are other bytes now".to_owned());
        }
        (self.uptime < was.uptime).then(|| {
            format!(
                "its clock went back: it has been up for {} s, and was for {} s before",
                self.uptime, was.uptime
            )
        })
    }
}

/// Why nothing of the kind can be done on this architecture or with this build.
pub(super) fn cannot(act: Act, kind: GuestType, arch: Arch, facts: &Facts) -> Option<String> {
    if !matches!(act, Act::Save | Act::Restore | Act::Migrate) {
        return None;
    }
    if arch == Arch::Aarch64 {
        // LIBXL_HAVE_NO_SUSPEND_RESUME (tools/include/libxl.h).
        return Some(format!("xl has no `{}` on Arm", act.word()));
    }
    let config = match facts.get("build.config") {
        Some(FactValue::Set(set)) => set,
        _ => return None,
    };
    // Which pages a running PV guest writes to is found by shadow paging alone (xen/arch/x86/mm/shadow/none.c).
    (act == Act::Migrate && kind == GuestType::Pv && !config.contains("SHADOW_PAGING")).then(|| {
        "this Xen has no shadow paging, without which it cannot tell what a PV guest writes to while it is migrated".to_owned()
    })
}

pub(super) fn judge(step: &Domain, act: Act, seen: &Seen, cx: &JudgeContext<'_>) -> Check {
    let domain = &seen.domain;
    let word = act.word();
    let name = format!("{word} {domain}");
    let what = format!("`xl {word}` of {domain}");
    let status = match say::exited(&name, &what, &seen.command) {
        Ok(status) => status,
        Err(check) if check.cause == Some(Cause::CommandTimeout) => {
            let message = format!("{}; {}", check.message, seen.last_words());
            return Check::fail(name, Cause::GuestSilent, message).show("console", seen.last_lines());
        }
        Err(check) => return check,
    };
    if status != 0 && say::no_such_program(&seen.command) {
        return say::xl_failed(&name, &what, &seen.command, cx);
    }
    let shown = |check: Check| check.show("console", seen.last_lines());
    let own = step.guest.as_ref().is_some_and(|g| g.is_tiny() || g.is_sector());
    let was = Kept::read(seen, "before").filter(|was| was.boot.is_empty() || was.hash.len() == 64);
    if own && was.is_none() {
        let message = format!(
            "{domain} did not say what it has in its memory before it was to go; {}",
            seen.last_words()
        );
        return shown(Check::fail(name, Cause::GuestSilent, message));
    }
    if let (Act::Migrate, Some(size)) = (act, step.breaks_after) {
        return shown_if_bad(broken(&name, size, status, seen, was.filter(|_| own).as_ref()), seen);
    }
    if status != 0 {
        let cause = match act {
            Act::Save => Cause::GuestNotSaved,
            Act::Restore => Cause::GuestNotRestored,
            _ => Cause::GuestNotMigrated,
        };
        let message = format!(
            "{what} exited with {status}{}; {}",
            complaint(&seen.command),
            left(act, seen, was.as_ref())
        );
        return shown(Check::fail(name, cause, message));
    }
    let check = match act {
        Act::Save => saved(&name, seen),
        _ => moved(&name, step, act, seen, was.filter(|_| own).as_ref()),
    };
    shown_if_bad(check, seen)
}

fn shown_if_bad(check: Check, seen: &Seen) -> Check {
    if check.cause.is_some() { check.show("console", seen.last_lines()) } else { check }
}

/// What has become of a guest that could not be moved.
fn left(act: Act, seen: &Seen, was: Option<&Kept>) -> String {
    let domain = &seen.domain;
    match (&seen.state, Kept::read(seen, "after"), was) {
        (None, ..) if act == Act::Restore => format!("there is no {domain}"),
        (None, ..) => format!("{domain} is gone"),
        (Some(state), None, _) => format!("{domain} is still there (state {state}) and does not answer"),
        (Some(_), Some(is), Some(was)) => match is.differs(was) {
            None => {
                format!("{domain} goes on where it was, as domain {}", seen.value("domid").unwrap_or("?"))
            }
            Some(why) => format!("{domain} answers, but {why}"),
        },
        (Some(_), Some(_), None) => format!("{domain} answers"),
    }
}

fn saved(name: &str, seen: &Seen) -> Check {
    let domain = &seen.domain;
    let bytes: u64 = seen.value("bytes").and_then(|b| b.parse().ok()).unwrap_or_default();
    if let Some(state) = &seen.state {
        let message = format!("{domain} was to be gone once it is saved, its state is {state}");
        return Check::fail(name, Cause::GuestState, message);
    }
    match seen.value("magic") {
        Some(MAGIC) => {
            let was = seen.value("was").unwrap_or("?");
            Check::pass(
                name,
                format!("{domain}, domain {was}, is saved, in {:.1} MiB", bytes as f64 / f64::from(1 << 20)),
            )
        }
        magic => {
            let begins = magic.map_or_else(
                || "it is empty, or not there".to_owned(),
                |m| format!("it begins with {}", quote(m)),
            );
            Check::fail(
                name,
                Cause::GuestNotSaved,
                format!("what {domain} was saved to is nothing that `xl save` writes: {begins}"),
            )
        }
    }
}

/// It is another domain and the same guest.
fn moved(name: &str, step: &Domain, act: Act, seen: &Seen, was: Option<&Kept>) -> Check {
    let domain = &seen.domain;
    if let Some(dead) = seen.dead(name) {
        return dead;
    }
    let ids = match (seen.value("was"), seen.value("domid")) {
        (Some(was), Some(is)) if was != is => (was, is),
        (was, is) => {
            let (was, is) = (was.unwrap_or("unknown"), is.unwrap_or("unknown"));
            let message = format!("{domain} was to be another domain, it was {was} and is {is}");
            return Check::fail(name, Cause::GuestState, message);
        }
    };
    let wanted = step.guest.as_ref().map_or("", |g| g.config.kind.of_xl());
    if let Some(kind) = seen.value("type").filter(|kind| *kind != wanted) {
        return Check::fail(
            name,
            Cause::GuestState,
            format!("{domain} is of type {kind}, expected {wanted}"),
        );
    }
    let did = if act == Act::Restore { "is restored" } else { "is migrated" };
    let there = format!("{domain} was domain {} and {did} as domain {}", ids.0, ids.1);
    let Some(was) = was else { return Check::pass(name, there) };
    same(name, seen, was, &there)
}

/// It answers, and is the guest that it was.
fn same(name: &str, seen: &Seen, was: &Kept, there: &str) -> Check {
    let domain = &seen.domain;
    let Some(is) = Kept::read(seen, "after") else {
        let message = format!("{there}, and does not answer; {}", seen.last_words());
        return Check::fail(name, Cause::GuestSilent, message);
    };
    match is.differs(was) {
        Some(why) => {
            Check::fail(name, Cause::GuestNotTheSame, format!("{domain} is not the guest that it was: {why}"))
        }
        None => Check::pass(
            name,
            format!("{there}; it goes on, up for {} s, with what it had in its memory", is.uptime),
        ),
    }
}

/// A migration that must fail did, and the guest is where it was.
fn broken(name: &str, size: Size, status: i32, seen: &Seen, was: Option<&Kept>) -> Check {
    let domain = &seen.domain;
    if status == 0 {
        let message = format!(
            "`xl migrate` of {domain} says that it is done, and its receiving side had {size} of it and no more"
        );
        return Check::fail(name, Cause::GuestState, message);
    }
    if let Some(dead) = seen.dead(name) {
        return dead;
    }
    let (before, now) = (seen.value("was").unwrap_or("unknown"), seen.value("domid").unwrap_or("unknown"));
    if before != now {
        let message = format!("{domain} was to stay domain {before}, it is {now}");
        return Check::fail(name, Cause::GuestState, message);
    }
    if let Some(id) = seen.value("incoming") {
        let message = format!("the receiving side of a migration that failed is still there, as domain {id}");
        return Check::fail(name, Cause::GuestState, message);
    }
    let there = format!("the migration of {domain} broke off after {size}, and it is domain {now} as before");
    match was {
        Some(was) => same(name, seen, was, &there),
        None => Check::pass(name, there),
    }
}
