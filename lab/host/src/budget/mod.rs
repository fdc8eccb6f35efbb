//! The budget of cores and memory that all labs on this host share.
//!
//! A machine that runs, or waits for its turn, is a file, its **ticket**: what it takes, and whose it is. It is locked (`flock`) as long
//! as its lab lives, so what a lab that was killed held is free at once: the lock is close-on-exec, and QEMU goes with its lab by itself. A
//! machine is let in when it fits beside those that run, and always when it would be the only one, so that nothing waits
//! for what cannot come. Nobody decides for others: each looks at the tickets, under a lock held for that moment.
//!
//! Each user has a folder `xenlab-budget-UID` that nobody else can write in, below a place that all can see (`/tmp`). One folder for all would
//! need to be written by all, and whoever made it could take away the others' files. What stands in another user's ticket is
//! believed as far as numbers go: who wants to keep others waiting on a shared host can do that without us, but not for ever ([`OTHERS`]).
//! Labs that see different places (containers with a `/tmp` of their own) have a budget each, of their control group's limits.

mod folder;
mod queue;
mod said;
#[cfg(test)]
mod tests;

pub use said::SaidError;

use crate::interrupt;
use crate::resources;
use folder::{Folder, Held};
use queue::{Limits, Seen, Turn};
use said::Said;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The variable that says another budget: `off`, or any of `cores=N`, `memory=SIZE` and `dir=PATH`, with commas between.
pub const VARIABLE: &str = "XENLAB_BUDGET";

/// Where the folders of all users are, where nothing else is said. Not `TMPDIR`, which labs need not have in common.
const PLACE: &str = "/tmp";

/// Between two looks of one that waits.
const LOOK: Duration = Duration::from_millis(60);
/// How often one that waits shows that it still does; see [`queue::STALE`].
const BEAT: Duration = Duration::from_secs(1);
/// After which a wait is told.
const TOLD: Duration = Duration::from_secs(1);
/// How long the lock is waited for. It is held for a millisecond; who is stopped while he holds it must not stop everybody.
const LOCK: Duration = Duration::from_secs(1);
/// How long a user without a single machine waits for those of other users.
pub const OTHERS: Duration = Duration::from_secs(600);

/// What a machine takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Processors of the host.
    pub cores: u64,
    /// Bytes of the host's memory.
    pub memory: u64,
}

/// What one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Machines that run.
    pub running: usize,
    /// Those of them that are not this lab's.
    pub elsewhere: usize,
    /// Machines that wait and come first.
    pub before: usize,
    /// In words: what is taken, and of how much.
    pub taken: String,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let s = if self.running == 1 { "" } else { "s" };
        write!(f, "waits for {} other machine{s} on this host (", self.running)?;
        if self.elsewhere > 0 {
            write!(f, "{} of another xenlab, ", self.elsewhere)?;
        }
        if self.before > 0 {
            write!(f, "{} more to come first, ", self.before)?;
        }
        write!(f, "{})", self.taken)
    }
}

/// The user asked for an end while one waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// The right to run a machine, as long as this lives.
#[derive(Debug)]
pub struct Ticket {
    held: Option<Held>,
    waited: Duration,
    /// Why nobody else knows of this machine, told once a budget.
    unknown: Option<String>,
    /// Those of the same budget that wait hear of its end at once.
    freed: Arc<Notify>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        drop(self.held.take());
        self.freed.notify_waiters();
    }
}

impl Ticket {
    /// How long it was waited for.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Why other labs do not know of this machine, where they should; once for each budget.
    pub fn take_unknown(&mut self) -> Option<String> {
        self.unknown.take()
    }

    /// Other labs know of this machine.
    pub fn counts(&self) -> bool {
        self.held.is_some()
    }
}

/// A budget; see the module.
#[derive(Debug)]
pub struct Budget {
    shared: Option<Folder>,
    said: Said,
    /// It was told that tickets cannot be written.
    complained: AtomicBool,
    /// Of the machines of this very budget, that come in one after the other.
    lab: String,
    /// A ticket of this budget has been given back.
    freed: Arc<Notify>,
}

impl Budget {
    /// None: every machine is let in, and no other lab knows of it.
    pub fn none() -> Budget {
        Budget {
            shared: None,
            said: Said::default(),
            complained: AtomicBool::new(false),
            lab: String::new(),
            freed: Arc::default(),
        }
    }

    /// The one that the environment says ([`VARIABLE`]), of all this host has where it says none. With why it cannot be shared, if
    /// it cannot; it is none then.
    ///
    /// # Errors
    /// When the variable's value says nothing that could be meant.
    pub fn from_env() -> Result<(Budget, Option<String>), SaidError> {
        let said = match std::env::var_os(VARIABLE) {
            Some(text) => Said::parse(&text.to_string_lossy())?,
            None => Said::default(),
        };
        if said.off {
            return Ok((Budget::none(), None));
        }
        Ok(match Budget::open(said) {
            Ok(budget) => (budget, None),
            Err(why) => (Budget::none(), Some(why)),
        })
    }

    fn open(said: Said) -> Result<Budget, String> {
        let place = said.dir.clone().unwrap_or_else(|| PathBuf::from(PLACE));
        let shared = Folder::open(&place).map_err(|e| format!("{}: {e}", place.display()))?;
        let lab = folder::word();
        Ok(Budget {
            shared: Some(shared),
            said,
            complained: AtomicBool::new(false),
            lab,
            freed: Arc::default(),
        })
    }

    /// Other labs know of the machines of this one.
    pub fn is_shared(&self) -> bool {
        self.shared.is_some()
    }

    /// Processors there are for machines.
    pub fn cores(&self) -> usize {
        self.said.cores.unwrap_or_else(resources::cores)
    }

    fn limits(&self) -> Limits {
        let cores = self.cores() as u64;
        if let Some(memory) = self.said.memory {
            return Limits { cores, memory: Some(memory), available: None };
        }
        // Read each time: what is free is what others leave, and a control group's limit may be changed.
        let has = resources::memory();
        Limits { cores, memory: has.map(|m| m.total), available: has.map(|m| m.available) }
    }

    /// Waits until there is room for a machine that takes this. `told` hears once a second what it is that is waited for.
    ///
    /// # Errors
    /// When the user asks for an end. What else goes wrong lets the machine in: it is no reason not to run it.
    pub async fn admit(&self, need: Need, told: &(dyn Fn(&Waiting) + Sync)) -> Result<Ticket, Interrupted> {
        let begun = Instant::now();
        let Some(shared) = &self.shared else {
            return Ok(self.ticket(None, Duration::ZERO, None));
        };
        let mut held = None;
        let (mut beat, mut tell) = (begun, begun + TOLD);
        loop {
            if interrupt::requested() {
                return Err(Interrupted);
            }
            let turn = {
                // Without it two may be let in where one fits, which is better than none.
                let _lock = self.lock(shared).await;
                let mine = match &mut held {
                    Some(mine) => mine,
                    None => match shared.issue(&self.lab, need) {
                        Ok(new) => held.insert(new),
                        Err(error) => {
                            let unknown = (!self.complained.swap(true, Ordering::Relaxed))
                                .then(|| format!("{}: {error}", shared.own().display()));
                            return Ok(self.ticket(None, begun.elapsed(), unknown));
                        }
                    },
                };
                if beat.elapsed() >= BEAT {
                    beat = Instant::now();
                    mine.beat();
                }
                let all: Vec<Seen> = shared.look();
                let turn = queue::turn(&all, mine.seen(), &self.limits(), begun.elapsed() >= OTHERS);
                if matches!(turn, Turn::Now) {
                    mine.run();
                }
                turn
            };
            let Turn::Wait(waiting) = turn else {
                return Ok(self.ticket(held, begun.elapsed(), None));
            };
            if tell <= Instant::now() {
                tell = Instant::now() + TOLD;
                told(&waiting);
            }
            tokio::select! {
                () = interrupt::wait() => return Err(Interrupted),
                () = self.freed.notified() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    fn ticket(&self, held: Option<Held>, waited: Duration, unknown: Option<String>) -> Ticket {
        Ticket { held, waited, unknown, freed: self.freed.clone() }
    }

    async fn lock(&self, shared: &Folder) -> Option<std::fs::File> {
        let begun = Instant::now();
        loop {
            match shared.lock() {
                Ok(Some(lock)) => return Some(lock),
                Ok(None) if begun.elapsed() < LOCK && !interrupt::requested() => {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
                Ok(None) => return None,
                Err(error) => {
                    tracing::debug!("the budget's lock: {error}");
                    return None;
                }
            }
        }
    }
}

/// Tickets of this process that are there.
static MINE: Mutex<std::collections::BTreeSet<PathBuf>> = Mutex::new(std::collections::BTreeSet::new());

fn mine() -> std::sync::MutexGuard<'static, std::collections::BTreeSet<PathBuf>> {
    MINE.lock().unwrap_or_else(|e| e.into_inner())
}

fn remember(path: &Path) {
    mine().insert(path.to_owned());
}

fn forget(path: &Path) {
    mine().remove(path);
}

/// Removes every ticket of this process, on the way out.
pub(crate) fn remove_all() {
    let all = std::mem::take(&mut *mine());
    for path in all {
        // What stays is not locked, and goes when somebody looks.
        let _ = std::fs::remove_file(path);
    }
}
