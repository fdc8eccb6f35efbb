//! Many cases: side by side within what the host has, each on its own, every one with a verdict at the end.

use crate::EngineError;
use crate::exec::{self, Lab};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::task::JoinSet;
use xenlab_host::budget::Budget;
use xenlab_model::case::{Case, as_dom0};
use xenlab_model::cause::Cause;
use xenlab_model::event::What;
use xenlab_model::exit::Exit;
use xenlab_model::verdict::{CaseVerdict, run_exit};

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    /// In the order of the cases; those that were never begun are missing after an interrupt.
    pub verdicts: Vec<CaseVerdict>,
    /// The exit code.
    pub exit: Exit,
    /// The user interrupted it.
    pub interrupted: bool,
}

/// How many cases this host can run side by side: as many as their machines have processors for. Where labs share a budget it sees to each
/// machine's cores and memory itself; without one the largest of the cases counts.
pub fn default_jobs(budget: &Budget, cases: &[Case]) -> usize {
    let needs = || cases.iter().map(|c| crate::budget::need(&c.config));
    let by_cores = |of_one: Option<u64>| {
        budget.cores() / of_one.and_then(|n| usize::try_from(n).ok()).unwrap_or(1).max(1)
    };
    if budget.is_shared() {
        return by_cores(needs().map(|n| n.cores).min()).max(1);
    }
    let largest = needs().map(|n| n.memory).max().unwrap_or(1);
    let by_cores = by_cores(needs().map(|n| n.cores).max());
    let by_memory = xenlab_host::resources::memory()
        .map_or(by_cores, |m| usize::try_from(m.available / largest).unwrap_or(by_cores));
    by_cores.min(by_memory).max(1)
}

/// Runs every case. Events go to the lab's sink; `started` is when the program began.
pub async fn run(lab: Arc<Lab>, cases: Vec<Case>, jobs: Option<usize>, started: Instant) -> Outcome {
    let jobs = jobs.unwrap_or_else(|| default_jobs(lab.preparer.admission.budget(), &cases)).max(1);
    lab.preparer.admission.at_most(jobs);
    let mut queue: VecDeque<(usize, Case)> = cases.into_iter().enumerate().collect();
    let mut running = JoinSet::new();
    let mut ids: HashMap<tokio::task::Id, (usize, Case)> = HashMap::new();
    let cores = lab.preparer.admission.budget().cores() as u64;
    let mut verdicts: Vec<(usize, CaseVerdict)> = Vec::new();
    loop {
        while !xenlab_host::interrupt::requested()
            && let Some((_, first)) = queue.front()
            && has_room(first, jobs, ids.len(), at_work(&ids).filter(|c| as_dom0(&c.steps).is_some()).count())
            && let Some((n, case)) =
                queue.remove(first_that_fits(&queue, cores.saturating_sub(at_work(&ids).map(cores_of).sum())))
        {
            let lab = lab.clone();
            let handle = running.spawn({
                let case = case.clone();
                async move { (n, exec::case(&lab, case).await) }
            });
            ids.insert(handle.id(), (n, case));
        }
        lab.pool.cases(queue.len(), running.len());
        match running.join_next_with_id().await {
            None => break,
            Some(Ok((id, (n, verdict)))) => {
                ids.remove(&id);
                verdicts.push((n, verdict));
            }
            Some(Err(error)) => {
                // The lab's own panic is its own fault, and only this case's end.
                if let Some((n, case)) = ids.remove(&error.id()) {
                    let why = EngineError::part(Cause::LabPanic, panic_text(error));
                    let verdict = exec::broken(&case, &why);
                    lab.sink.emit(What::CaseFinished {
                        case: case.shown(),
                        bundle: String::new(),
                        verdict: Box::new(verdict.clone()),
                        reproduce: lab.reproduce(&case),
                    });
                    verdicts.push((n, verdict));
                }
            }
        }
    }
    lab.pool.clear().await;
    let interrupted = xenlab_host::interrupt::requested();
    for why in lab.templates.settled().await {
        lab.sink.emit(What::Note {
            case: None,
            message: format!("a template may not outlive a restart of this host: {why}"),
        });
    }
    // What no case could start from has a verdict of its own.
    verdicts.extend(lab.templates.take_failed().into_iter().map(|v| (usize::MAX, v)));
    verdicts.sort_by_key(|(n, _)| *n);
    let verdicts: Vec<CaseVerdict> = verdicts.into_iter().map(|(_, v)| v).collect();
    let exit = run_exit(&verdicts, interrupted);
    lab.sink.emit(What::RunFinished {
        exit,
        seconds: started.elapsed().as_secs_f64(),
        interrupted,
        lab: crate::lab_use(),
    });
    Outcome { verdicts, exit, interrupted }
}

/// The cases that have begun and are not over.
fn at_work(ids: &HashMap<tokio::task::Id, (usize, Case)>) -> impl Iterator<Item = &Case> {
    ids.values().map(|(_, case)| case)
}

/// What the case's machine takes of the host's cores.
fn cores_of(case: &Case) -> u64 {
    crate::budget::need(&case.config).cores
}

/// `case` may join those at work, of which there are `all`. A machine that is nothing but a test (`soon_done` of them) is soon started and
/// soon done, so the next stands ready when one ends; that no more run than there are `jobs` the tickets see to.
fn has_room(case: &Case, jobs: usize, all: usize, soon_done: usize) -> bool {
    all < jobs.saturating_mul(2) && (as_dom0(&case.steps).is_some() || all - soon_done < jobs)
}

/// Which of the cases that wait is begun next: of those for whose machine there are cores `free` one with the most of them, so that none lies idle beside
/// a machine that leaves room for a small one, and large ones do not come last and alone; where there is none, the first, which is got ready while it
/// waits. A machine that is nothing but a test comes in its turn: the next is got ready while one runs.
fn first_that_fits(waiting: &VecDeque<(usize, Case)>, free: u64) -> usize {
    if waiting.front().is_some_and(|(_, first)| as_dom0(&first.steps).is_some()) {
        return 0;
    }
    let fits = waiting.iter().map(|(_, case)| cores_of(case)).enumerate().filter(|(_, cores)| *cores <= free);
    fits.max_by_key(|(at, cores)| (*cores, std::cmp::Reverse(*at))).map_or(0, |(at, _)| at)
}

fn panic_text(error: tokio::task::JoinError) -> String {
    let Ok(payload) = error.try_into_panic() else { return "a case was cancelled".into() };
    let text = payload
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "no message".into());
    format!("xenlab panicked while it ran this case: {text}; please report it with the bundle")
}

#[cfg(test)]
mod tests {
    use super::*;
    use xenlab_model::fact::Facts;
    use xenlab_model::scenario::{self, Settings};

    #[test]
    fn large_machines_first_and_small_ones_beside_them() {
        let cpus = |n: usize| {
            let text = format!(
                "xenlab: 1\nname: n{n}\nxen: debian:bookworm\narch: x86_64\nmachine: {{cpus: {n}}}\nsteps: [{{run: 'true'}}]\n"
            );
            let cases = scenario::load(&text, "n", &Settings::default(), &Facts::default());
            cases.expect("a scenario").remove(0)
        };
        let waiting: VecDeque<_> = [1, 2, 2, 1].map(cpus).into_iter().enumerate().collect();
        for (free, first) in [(4, 1), (2, 1), (1, 0), (0, 0)] {
            assert_eq!(first_that_fits(&waiting, free), first, "{free} free");
        }
        assert_eq!(first_that_fits(&VecDeque::new(), 1), 0);
    }
}
