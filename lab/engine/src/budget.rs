//! Machines within the budget that all labs on this host share: every one has a ticket, wherever it is started.
//!
//! Who holds a ticket waits for no other: a case has none while its template is made, and the machine that failed is gone
//! before a control, or the same from power-on, asks for one. So nobody waits in a circle.

use crate::{EngineError, exec};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use xenlab_host::budget::{self, Budget, Need};
use xenlab_model::event::{Sink, What};
use xenlab_model::scenario::config::Config;

/// Memory that one machine needs beside its guest's: QEMU, its translation buffer, the page cache for its files.
pub const MACHINE_OVERHEAD: u64 = 512 << 20;

/// What a machine of this configuration takes: a core for each of its processors, and all the memory it can come to have.
///
/// Its processors are rarely all busy, but Xen and dom0 have one wait for another in a loop (TLB flushes, above all), which lasts until the host
/// lets that other one run: two machines of two processors on two cores take longer side by side than one after the other, x86_64
/// nearly twice as long (docs/PERFORMANCE.md).
///
/// The memory goes for a clone, too: it begins with some 150 MB of its own, but every page that its guest writes to is one more, and
/// a host without memory kills somebody, which no case can wait for. Where that is too careful, cores mostly bind first.
pub fn need(config: &Config) -> Need {
    let cores = u64::from(config.machine.cpus.max(1));
    Need { cores, memory: exec::machine_memory(config).0 + MACHINE_OVERHEAD }
}

/// The right to run a machine, as long as this lives.
pub struct Ticket {
    _ticket: budget::Ticket,
    _of_jobs: Option<OwnedSemaphorePermit>,
}

/// How many machines a run may have.
struct Jobs {
    /// That run.
    running: Arc<Semaphore>,
    /// That stand ready, paused, while these run.
    ready: Arc<Semaphore>,
}

/// A budget, and how long was waited for it.
pub struct Admission {
    budget: Budget,
    jobs: Mutex<Option<Jobs>>,
    waited: Mutex<HashMap<String, Duration>>,
}

impl Admission {
    /// By this budget.
    pub fn new(budget: Budget) -> Admission {
        Admission { budget, jobs: Mutex::default(), waited: Mutex::default() }
    }

    /// Within the budget no more than so many machines at once, and as many that stand ready: what a run begins with.
    pub fn at_most(&self, jobs: usize) {
        let jobs = || Arc::new(Semaphore::new(jobs.min(Semaphore::MAX_PERMITS)));
        *self.jobs() = Some(Jobs { running: jobs(), ready: jobs() });
    }

    /// Waits until a machine may be started that then stands ready, paused. It takes no core and hardly any memory, so no other lab is asked.
    ///
    /// # Errors
    /// [`EngineError::Interrupted`].
    pub async fn ready(&self) -> Result<Option<OwnedSemaphorePermit>, EngineError> {
        let ready = self.jobs().as_ref().map(|jobs| jobs.ready.clone());
        one_of(ready).await
    }

    fn jobs(&self) -> MutexGuard<'_, Option<Jobs>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The budget.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// How long the case of this name has waited so far, its template and its control included. None of that counts in what it took.
    pub fn waited(&self, shown: &str) -> Duration {
        self.all().get(shown).copied().unwrap_or_default()
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.waited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a machine of the case `shown`. Before its clocks start, so that a wait counts in no limit.
    ///
    /// # Errors
    /// [`EngineError::Interrupted`].
    pub async fn machine(
        &self,
        sink: &dyn Sink,
        shown: &str,
        config: &Config,
    ) -> Result<Ticket, EngineError> {
        let (begun, cpu, told) = (Instant::now(), crate::cpu_seconds(), AtomicBool::new(false));
        let task = format!("turn of {shown}");
        let tell = |waiting: &xenlab_host::budget::Waiting| {
            told.store(true, Ordering::Relaxed);
            sink.emit(What::Progress {
                task: task.clone(),
                message: format!("{shown} {waiting}"),
                done: begun.elapsed().as_secs(),
                total: 0,
                unit: "s".to_owned(),
            });
        };
        let running = self.jobs().as_ref().map(|jobs| jobs.running.clone());
        let of_jobs = one_of(running).await?;
        let ticket = self.budget.admit(need(config), &tell).await;
        let waited = begun.elapsed();
        *self.all().entry(shown.to_owned()).or_default() += waited;
        if told.load(Ordering::Relaxed) {
            let error = ticket.is_err().then(|| "interrupted".to_owned());
            sink.emit(What::ProgressEnded { task, seconds: waited.as_secs_f64(), error });
        }
        let mut ticket = ticket.map_err(|_| EngineError::Interrupted)?;
        if let Some(why) = ticket.take_unknown() {
            sink.emit(What::Note { case: None, message: unknown(&why) });
        }
        if self.budget.is_shared() {
            sink.emit(What::Stage {
                case: shown.to_owned(),
                stage: "wait".to_owned(),
                seconds: waited.as_secs_f64(),
                cpu_seconds: crate::cpu_seconds() - cpu,
            });
        }
        Ok(Ticket { _ticket: ticket, _of_jobs: of_jobs })
    }
}

/// Waits for one of these; none where they are not counted.
async fn one_of(all: Option<Arc<Semaphore>>) -> Result<Option<OwnedSemaphorePermit>, EngineError> {
    let Some(all) = all else { return Ok(None) };
    tokio::select! {
        // It is never closed.
        one = all.acquire_owned() => Ok(one.ok()),
        () = xenlab_host::interrupt::wait() => Err(EngineError::Interrupted),
    }
}

/// That labs do not know of each other, in words.
pub fn unknown(why: &str) -> String {
    format!("other labs on this host do not know of this one's machines, nor it of theirs: {why}")
}
