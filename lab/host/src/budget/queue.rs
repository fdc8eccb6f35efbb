//! Whose turn it is: pure, from what the tickets say.

use super::Waiting;
use std::collections::BTreeMap;
use std::time::Duration;

/// A ticket that waits and was not touched for so long is passed over: its lab is stopped, and those behind it are not.
pub(super) const STALE: Duration = Duration::from_secs(5);

/// A machine takes its memory while it boots. After so long what the host says is free is without it.
pub(super) const YOUNG: Duration = Duration::from_secs(30);

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub cores: u64,
    /// All memory there is for machines.
    pub memory: Option<u64>,
    /// What of it is free now, whoever has the rest.
    pub available: Option<u64>,
}

/// A ticket whose lab lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    /// The file's name, which no other of its user has.
    pub name: String,
    /// It is of this user.
    pub own: bool,
    pub user: u32,
    pub lab: String,
    pub running: bool,
    pub cores: u64,
    pub memory: u64,
    /// When it came, in nanoseconds since the host was booted.
    pub arrived: u64,
    /// Since it was last written: when it began to run, or showed that it still waits.
    pub touched: Duration,
}

/// What a ticket may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    Wait(Waiting),
}

/// So much is taken.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    machines: usize,
    cores: u64,
    memory: u64,
    /// Of that, what is not yet missing from what is free.
    coming: u64,
}

impl Taken {
    fn with(self, ticket: &Seen, coming: bool) -> Taken {
        Taken {
            machines: self.machines + 1,
            cores: self.cores.saturating_add(ticket.cores),
            memory: self.memory.saturating_add(ticket.memory),
            coming: if coming { self.coming.saturating_add(ticket.memory) } else { self.coming },
        }
    }

    /// One machine always fits: what is larger than the whole budget runs alone.
    fn fits(self, limits: &Limits) -> bool {
        self.machines <= 1
            || self.cores <= limits.cores
                && limits.memory.is_none_or(|m| self.memory <= m)
                && limits.available.is_none_or(|m| self.coming <= m)
    }
}

/// Those that wait, in order: each lab's next before any lab's next but one, counting what runs; of equals the one that came
/// first. A lab with many cases so cannot keep one with a single case waiting longer than until one machine ends.
fn in_order<'a>(all: &[&'a Seen]) -> Vec<&'a Seen> {
    let mut of_lab: BTreeMap<(u32, &str), usize> = BTreeMap::new();
    for ticket in all.iter().filter(|t| t.running) {
        *of_lab.entry((ticket.user, &ticket.lab)).or_default() += 1;
    }
    let mut waiting: Vec<&Seen> = all.iter().copied().filter(|t| !t.running).collect();
    waiting.sort_by(|a, b| (a.arrived, &a.name).cmp(&(b.arrived, &b.name)));
    let mut ranked: Vec<(usize, &Seen)> = Vec::new();
    for ticket in waiting {
        let rank = of_lab.entry((ticket.user, &ticket.lab)).or_default();
        ranked.push((*rank, ticket));
        *rank += 1;
    }
    // Stable: those that came first stay first.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, ticket)| ticket).collect()
}

/// Whether `me` may run now, beside those that do and those that come first. Nobody is let in past one who waits for more room, or that
/// one would wait for ever. `enough`: other users' machines were waited for long enough.
pub(super) fn turn(all: &[Seen], me: &Seen, limits: &Limits, enough: bool) -> Turn {
    let is_me = |t: &Seen| t.user == me.user && t.name == me.name;
    // What one does not find of oneself (somebody cleaned up) still waits.
    let others = all.iter().filter(|t| !is_me(t) && (t.running || t.touched < STALE));
    let mut live: Vec<&Seen> = others.collect();
    live.push(me);
    if enough && !live.iter().any(|t| t.own && t.running) {
        live.retain(|t| t.own);
    }
    let running: Vec<&Seen> = live.iter().copied().filter(|t| t.running).collect();
    let now = running.iter().fold(Taken::default(), |sum, t| sum.with(t, t.touched < YOUNG));
    let mut taken = now;
    let mut before = 0;
    for ticket in in_order(&live) {
        taken = taken.with(ticket, true);
        let fits = taken.fits(limits);
        if fits && is_me(ticket) {
            return Turn::Now;
        }
        if is_me(ticket) {
            break;
        }
        before += 1;
        if !fits {
            // Those behind it are not let in; how many of them come before this one is to be told all the same.
            before = in_order(&live).iter().position(|t| is_me(t)).unwrap_or(before);
            break;
        }
    }
    let elsewhere = running.iter().filter(|t| !(t.user == me.user && t.lab == me.lab)).count();
    Turn::Wait(Waiting { running: running.len(), elsewhere, before, taken: in_words(now, me, limits) })
}

fn in_words(now: Taken, me: &Seen, limits: &Limits) -> String {
    let gib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 30));
    let mut words = format!("{} of {} cores taken", now.cores, limits.cores);
    if let Some(memory) = limits.memory {
        words += &format!(", {} of {} GiB of memory", gib(now.memory), gib(memory));
    }
    if let Some(available) = limits.available
        && now.coming.saturating_add(me.memory) > available
    {
        words += &format!(
            ", {} GiB free of the {} that are needed",
            gib(available.saturating_sub(now.coming)),
            gib(me.memory)
        );
    }
    words
}
