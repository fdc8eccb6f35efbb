//! A pool that other runs take machines of: `xenlab pool`.
//!
//! The machines are this process's children until they end, also while others use them: no clone outlives the pool, and none its user.

use super::offer::{self, Answer, Offered, PATIENCE, QUESTION, Wanted};
use super::warm::{ROUNDS, Warm};
use crate::EngineError;
use crate::budget::MACHINE_OVERHEAD;
use crate::exec::{self, Lab};
use crate::template::{Given, Ready};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use xenlab_host::parent::Parent;
use xenlab_host::rundir::RunDir;
use xenlab_host::{interrupt, passing, resources};
use xenlab_machine::qmp::Direction;
use xenlab_machine::{Machine, Owned, Ports};
use xenlab_model::case::{Case, Planned};
use xenlab_model::cause::Cause;
use xenlab_model::event::What;
use xenlab_model::exit::Exit;

/// How often in a row a machine of a template may fail to come up before no more are made.
const TRIES: usize = 3;

/// How long the pool waits before it listens again, when the host did not let it.
const BREATH: Duration = Duration::from_millis(200);

/// What a pool is asked for.
pub struct Wish {
    /// What makes machines, and where it says what it does.
    pub lab: Arc<Lab>,
    /// The cases whose machines are wanted.
    pub cases: Vec<Case>,
    /// Machines that wait, of each template.
    pub size: usize,
    /// It ends when nobody has taken one for so long.
    pub idle: Duration,
    /// It ends with this process.
    pub parent: Parent,
    /// Called when its templates are ready, before anything waits.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// The machines of one template.
struct Shelf {
    ready: Arc<Ready>,
    name: String,
    size: usize,
    warm: Mutex<VecDeque<Warm>>,
    /// Machines that others use, and when one was last taken or ended.
    used: Arc<watch::Sender<(usize, Instant)>>,
    /// There is room on it again.
    taken: Arc<Notify>,
}

impl Shelf {
    fn warm(&self) -> MutexGuard<'_, VecDeque<Warm>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many machines wait; one that ended does not.
    fn waiting(&self) -> usize {
        let mut warm = self.warm();
        warm.retain(|w| w.machine.end().is_none());
        warm.len()
    }

    /// One that waits.
    fn pop(&self) -> Option<Warm> {
        self.waiting();
        self.warm().pop_front()
    }
}

/// Counts a machine that is used for as long as it lives.
struct Use(Arc<watch::Sender<(usize, Instant)>>);

impl Use {
    fn begin(used: &Arc<watch::Sender<(usize, Instant)>>) -> Use {
        used.send_modify(|used| *used = (used.0 + 1, Instant::now()));
        Use(used.clone())
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.send_modify(|used| *used = (used.0.saturating_sub(1), Instant::now()));
    }
}

fn note(lab: &Lab, message: String) {
    lab.sink.emit(What::Note { case: None, message });
}

/// Keeps a pool until it is idle, its parent is gone or the user interrupts it.
///
/// # Errors
/// The lab's own, before there is a pool.
pub async fn serve(wish: Wish) -> Result<Exit, EngineError> {
    let Wish { lab, cases, size, idle, parent, ready } = wish;
    let used = Arc::new(watch::channel((0, Instant::now())).0);
    let taken = Arc::new(Notify::new());
    let shelves = tokio::select! {
        shelves = Box::pin(shelves(&lab, cases, size, &used, &taken)) => shelves?,
        () = parent.gone() => return Ok(Exit::Passed),
    };
    ready();
    if shelves.is_empty() {
        let failed = !lab.templates.take_failed().is_empty();
        note(&lab, "there is no template whose machines could wait".to_owned());
        return Ok(if failed { Exit::Failed } else { Exit::Lab });
    }
    let internal = |e: std::io::Error| EngineError::part(Cause::LabInternal, e);
    let dir = RunDir::create("a pool").map_err(|e| EngineError::part(Cause::LabInternal, e))?;
    let mut work = JoinSet::new();
    for shelf in shelves.values() {
        let listener =
            UnixListener::bind(dir.path().join(offer::socket(shelf.ready.key()))).map_err(internal)?;
        work.spawn(Box::pin(answer_all(listener, shelf.clone())));
    }
    used.send_modify(|used| used.1 = Instant::now());
    work.spawn(Box::pin(fill(lab.clone(), shelves.into_values().collect(), taken)));
    let why = tokio::select! {
        () = interrupt::wait() => None,
        () = parent.gone() => Some("the process that started it is gone".to_owned()),
        () = unused(used.subscribe(), idle) => {
            Some(format!("nobody has taken a machine for {} s", idle.as_secs_f64()))
        }
    };
    // With them go the machines, those that are used as well.
    work.shutdown().await;
    drop(dir);
    match why {
        None => Ok(Exit::Interrupted),
        Some(why) => {
            note(&lab, format!("the pool ends: {why}"));
            Ok(Exit::Passed)
        }
    }
}

/// The templates of all cases, each once.
async fn shelves(
    lab: &Arc<Lab>,
    cases: Vec<Case>,
    size: usize,
    used: &Arc<watch::Sender<(usize, Instant)>>,
    taken: &Arc<Notify>,
) -> Result<BTreeMap<String, Arc<Shelf>>, EngineError> {
    let mut shelves = BTreeMap::new();
    for case in cases {
        let shown = case.shown();
        if interrupt::requested() {
            return Err(EngineError::Interrupted);
        }
        match Box::pin(given(lab, case)).await {
            Ok(Some(Given::Clone(ready))) => {
                let name = ready.name().to_owned();
                shelves.entry(ready.key().to_owned()).or_insert_with(|| {
                    let (used, taken) = (used.clone(), taken.clone());
                    Arc::new(Shelf { ready, name, size, warm: Mutex::default(), used, taken })
                });
            }
            Ok(Some(Given::Cold(Some(why)))) => note(lab, format!("{shown}: {why}")),
            Ok(Some(Given::Cold(None))) => note(lab, format!("{shown}: it starts from power-on")),
            // That is told already.
            Ok(Some(Given::Nothing(..))) => {}
            Ok(None) => note(lab, format!("{shown}: it is skipped here")),
            Err(error @ (EngineError::Interrupted | EngineError::BadInput { .. })) => return Err(error),
            Err(error) => note(lab, format!("{shown}: {error}")),
        }
    }
    Ok(shelves)
}

/// What a case starts from; None where it is skipped.
async fn given(lab: &Lab, mut case: Case) -> Result<Option<Given>, EngineError> {
    if matches!(case.plan, Planned::Skip(_)) {
        return Ok(None);
    }
    let prepared = lab.preparer.prepare(&case).await?;
    let mut facts = case.facts.clone();
    facts.extend(&prepared.facts);
    let inputs = prepared.inputs(&lab.preparer.store, &facts)?;
    exec::decide(&mut case, &facts);
    if matches!(case.plan, Planned::Skip(_)) {
        return Ok(None);
    }
    lab.templates.of(lab, &case, &prepared, &inputs).await.map(Some)
}

/// Keeps the shelves full, one machine after the other.
async fn fill(lab: Arc<Lab>, shelves: Vec<Arc<Shelf>>, taken: Arc<Notify>) {
    let mut failed = vec![0; shelves.len()];
    let mut told = 0;
    loop {
        for (shelf, failed) in shelves.iter().zip(&mut failed) {
            while shelf.waiting() < shelf.size && *failed < TRIES {
                let need = shelf.ready.ground().spec.memory.0 + MACHINE_OVERHEAD;
                if let Some(memory) = resources::memory().filter(|memory| memory.available < need) {
                    let (has, needs) = (memory.available >> 20, need >> 20);
                    note(
                        &lab,
                        format!("{}: {has} MiB of memory are free, a machine may need {needs}", shelf.name),
                    );
                    break;
                }
                match Box::pin(Warm::make(&shelf.ready, format!("a pool of {}", shelf.name), ROUNDS)).await {
                    Ok(warm) => {
                        *failed = 0;
                        shelf.warm().push_back(warm);
                    }
                    Err(EngineError::Interrupted) => return,
                    Err(error) => {
                        *failed += 1;
                        note(&lab, format!("{}: a machine could not be warmed: {error}", shelf.name));
                    }
                }
            }
        }
        for shelf in &shelves[told..] {
            note(&lab, format!("{}: {} of {} machines wait", shelf.name, shelf.waiting(), shelf.size));
        }
        told = shelves.len();
        taken.notified().await;
    }
}

/// Until nobody has used a machine for so long.
async fn unused(mut used: watch::Receiver<(usize, Instant)>, idle: Duration) {
    loop {
        let (count, last) = *used.borrow_and_update();
        if count == 0 && last.elapsed() >= idle {
            return;
        }
        let over = async {
            match count {
                0 => tokio::time::sleep(idle.saturating_sub(last.elapsed())).await,
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => {}
            changed = used.changed() => if changed.is_err() { return },
        }
    }
}

/// Answers everybody who asks for a machine of this template.
async fn answer_all(listener: UnixListener, shelf: Arc<Shelf>) {
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            came = listener.accept() => match came {
                Ok((stream, _)) => {
                    let shelf = shelf.clone();
                    asking.spawn(Box::pin(async move {
                        if let Some((owned, used)) = answer(&stream, &shelf).await {
                            owned.lend(stream).await;
                            drop(used);
                        }
                    }));
                }
                // Too many open files, and the like: it passes when others end, which nobody tells.
                Err(error) => {
                    tracing::warn!("the pool's socket: {error}");
                    tokio::time::sleep(BREATH).await;
                }
            },
            Some(_) = asking.join_next() => {}
        }
    }
}

/// Answers one; the machine that was given, if one was.
async fn answer(stream: &UnixStream, shelf: &Shelf) -> Option<(Owned, Use)> {
    if !passing::is_own(stream) {
        return None;
    }
    let question = tokio::time::timeout(PATIENCE, passing::receive(stream, QUESTION)).await.ok()?.ok()?;
    let wanted: Wanted = serde_json::from_slice(&question.0).ok()?;
    let why = if wanted != Wanted::of(&shelf.ready) {
        "its machines are of another template, or another xenlab's".to_owned()
    } else if let Some(warm) = shelf.pop() {
        let used = Use::begin(&shelf.used);
        let given = give(stream, warm).await;
        shelf.taken.notify_one();
        return given.map(|owned| (owned, used));
    } else {
        "none waits just now".to_owned()
    };
    let nothing = serde_json::to_vec(&Answer::Nothing(why)).ok()?;
    // Who asked may be gone.
    let _ = tokio::time::timeout(PATIENCE, passing::send(stream, &nothing, &[])).await;
    None
}

/// Gives a machine away.
async fn give(stream: &UnixStream, warm: Warm) -> Option<Owned> {
    let Warm { machine, port, said, .. } = warm;
    let ([shell, stdout, stderr], key) = port.into_parts()?;
    let said = said.so_far().into_iter().map(|(d, message)| (d == Direction::Sent, message)).collect();
    let given = Machine::give(machine, Ports { shell, stdout, stderr }).await?;
    let files = given.files();
    let offered = Offered { handed: given.handed.clone(), port: key, said, pool: std::process::id() };
    let text = serde_json::to_vec(&Answer::Machine(Box::new(offered))).ok()?;
    match tokio::time::timeout(PATIENCE, passing::send(stream, &text, &files)).await {
        Ok(Ok(())) => Some(given.into_owned()),
        _ => None,
    }
}
