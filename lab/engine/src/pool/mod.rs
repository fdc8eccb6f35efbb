//! Machines that wait for cases: restored, warmed and paused, so that a case begins with `cont`.
//!
//! A run looks ahead and warms machines while a processor has nothing else to do; and it takes machines of a pool that another process
//! of the same user keeps (`xenlab pool`). Neither can make a case fail: what cannot be taken, or is not as it was left, is
//! thrown away, and the case restores a machine of its own.

mod offer;
mod said;
pub mod serve;
mod warm;

pub use said::Said;
pub use warm::{ROUNDS, Started, Warm};

use crate::budget::MACHINE_OVERHEAD;
use crate::template::Ready;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::JoinHandle;
use xenlab_host::resources;

/// Where a run's cases find machines. The default one never has any.
#[derive(Default)]
pub struct Pool {
    /// Warm and running machines together, at most; 0: none are warmed.
    most: usize,
    /// Other processes' pools are asked.
    others: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Cases that were not begun yet, and that are under way.
    waiting: usize,
    running: usize,
    /// By template. Each is taken by one case only.
    ahead: BTreeMap<String, VecDeque<JoinHandle<Option<Warm>>>>,
    /// Sockets where nobody answers as a pool does.
    bad: BTreeSet<PathBuf>,
}

impl State {
    fn warming(&self) -> usize {
        self.ahead.values().flatten().filter(|task| !task.is_finished()).count()
    }

    /// One that is ready. One that is not yet is left to a later case: on a host that is busy it may take longer than a case that restores
    /// a machine of its own.
    fn ready(&mut self, key: &str) -> Option<JoinHandle<Option<Warm>>> {
        let all = self.ahead.get_mut(key)?;
        if all.front()?.is_finished() { all.pop_front() } else { None }
    }

    fn made(&self) -> usize {
        self.ahead.values().map(VecDeque::len).sum()
    }
}

impl Pool {
    /// For a run on this host.
    pub fn of_run() -> Pool {
        Pool { most: resources::cores(), others: true, ..Pool::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many cases were not begun yet, so many are under way.
    pub fn cases(&self, waiting: usize, running: usize) {
        let mut state = self.state();
        (state.waiting, state.running) = (waiting, running);
    }

    /// A machine of this template that waited, running now; none where none is to be had at once.
    pub async fn take(&self, ready: &Ready) -> Option<Started> {
        let next = self.state().ready(ready.key());
        if let Some(next) = next
            && let Some(warm) = next.await.ok().flatten()
            && let Some(started) = started(warm).await
        {
            return Some(started);
        }
        if !self.others {
            return None;
        }
        let skip = |path: &Path| self.state().bad.contains(path);
        let bad = |path: &Path| {
            self.state().bad.insert(path.to_owned());
        };
        started(offer::ask(ready, skip, bad).await?).await
    }

    /// A case has its machine: if another will want one of this template, and a processor has nothing to do, that one's is warmed. It costs
    /// more than a case's own restoring, so where processors are busy it would take more from the cases that run than it gives.
    pub fn look_ahead(&self, ready: &Arc<Ready>) {
        let mut state = self.state();
        // The case's own machine waits for its first command just now, and is not among those that run.
        let busy = resources::runnable().unwrap_or(usize::MAX);
        // What waits is no burden but for its memory, which is asked for as the budget asks for a machine's.
        let need = ready.ground().spec.memory.0 + MACHINE_OVERHEAD;
        while state.made() < state.waiting
            && resources::memory().is_none_or(|memory| memory.available >= need)
            && busy.saturating_add(state.running + state.warming()) < self.most
        {
            let of = ready.clone();
            let task = tokio::spawn(async move {
                match Box::pin(Warm::make(&of, "restored ahead by this run".to_owned(), 1)).await {
                    Ok(warm) => Some(warm),
                    Err(error) => {
                        tracing::info!("a machine could not be warmed: {error}");
                        None
                    }
                }
            });
            state.ahead.entry(ready.key().to_owned()).or_default().push_back(task);
        }
    }

    /// Ends what nobody will take.
    pub async fn clear(&self) {
        let ahead = std::mem::take(&mut self.state().ahead);
        for task in ahead.into_values().flatten() {
            task.abort();
            // What it had made goes with it.
            let _ = task.await;
        }
    }
}

/// Has a machine go on; one that does not is thrown away.
async fn started(warm: Warm) -> Option<Started> {
    let from = warm.from.clone();
    match Box::pin(warm.start()).await {
        Ok(started) => Some(started),
        Err(error) => {
            tracing::info!("a machine {from} could not be used: {error}");
            None
        }
    }
}
