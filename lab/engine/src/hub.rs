//! What one machine's console says, as it says it: the one place where its bytes arrive.
//!
//! Each chunk goes, in this order, to the bundle's record, to the lines, phases and signs kept here, and to a serial shell
//! while one is working. The hub reads as fast as it can do that and no faster: a guest that floods its console is slowed by
//! its own serial port, and nothing piles up in the lab.

use crate::bundle::{Bundle, CONSOLE_CAP};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use xenlab_console::{Demux, Phase, PhaseTracker, Sign, SignTracker, Speaker, Tail, explain};
use xenlab_model::evidence::WaitEnd;
use xenlab_model::step::phase::{Heard, PhaseEvidence};

/// Lines of each speaker kept for messages.
const TAIL_LINES: usize = 12;

/// Text of lines kept for steps that wait for a pattern; older lines are dropped, having been looked at already.
const RECENT_BYTES: usize = 512 << 10;

/// What a kept line takes beside its text: a console can be flooded with empty lines.
const LINE_BYTES: usize = std::mem::size_of::<Numbered>() + 32;

/// Signs kept: those that end a boot, and the first of the others. A guest that repeats one for ever says nothing new.
const SIGNS: usize = 64;

/// A line with the number it has among all lines.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// From 0.
    pub number: u64,
    /// Who said it.
    pub speaker: Speaker,
    /// What was said.
    pub text: String,
    /// Offset one past its last byte.
    pub end: u64,
}

/// What is known of a console so far.
pub struct State {
    demux: Demux,
    tracker: PhaseTracker,
    signs: SignTracker,
    /// Signs in the order they appeared.
    pub seen_signs: Vec<Sign>,
    tail: Tail,
    /// When each who is not a guest wrote its last line, wall time since power-on.
    last_words: BTreeMap<Speaker, Duration>,
    recent: VecDeque<Numbered>,
    recent_bytes: usize,
    next_number: u64,
    /// Phases with seconds since power-on.
    pub phases: Vec<(Phase, f64)>,
    /// Bytes so far.
    pub total: u64,
    /// Wall time since power-on when this was last brought up to now.
    now: Duration,
    /// Guest time of the last byte.
    pub last_activity: Duration,
    /// The console was closed: QEMU is gone.
    pub closed: bool,
    tap: Option<mpsc::Sender<Bytes>>,
}

impl State {
    /// The phase the boot is in.
    pub fn phase(&self) -> Phase {
        self.tracker.current()
    }

    /// Linux speaks and Xen never has.
    pub fn without_xen(&self) -> bool {
        self.tracker.without_xen()
    }

    /// A sign has been seen that ends a boot; it is the one that explains that end best.
    pub fn fatal(&self) -> Option<&Sign> {
        if self.seen_signs.iter().any(|s| s.fatal) { explain(&self.seen_signs) } else { None }
    }

    /// The console is silent or closed: what was still open counts as it is.
    pub fn settle(&mut self) {
        if let Some(sign) = self.signs.finish() {
            keep_sign(&mut self.seen_signs, sign);
        }
    }

    /// Cause codes and lines of all signs, the one that explains an end best first.
    pub fn signs(&self) -> Vec<(String, String)> {
        let best = explain(&self.seen_signs);
        let rest = self.seen_signs.iter().filter(|s| Some(*s) != best);
        best.into_iter().chain(rest).take(8).map(|s| (s.code.to_owned(), s.text.clone())).collect()
    }

    /// The number that the next line will have.
    pub fn next_line(&self) -> u64 {
        self.next_number
    }

    /// Lines from `number` on that are still kept.
    pub fn lines_from(&self, number: u64) -> impl Iterator<Item = &Numbered> {
        self.recent.iter().filter(move |l| l.number >= number)
    }

    /// The last lines of each speaker.
    pub fn tails(&self) -> Vec<(String, Vec<String>)> {
        self.tail.all()
    }

    /// The last line of each who is not a guest, the latest first.
    fn heard(&self) -> Vec<Heard> {
        let tails = self.tail.all();
        let line = |from: &String| {
            let lines = tails.iter().find(|(name, _)| name == from).map(|(_, lines)| lines.as_slice());
            lines.and_then(|l| l.last()).cloned().unwrap_or_default()
        };
        let mut heard: Vec<Heard> = self
            .last_words
            .iter()
            .map(|(speaker, at)| (speaker.to_string(), at))
            .map(|(from, at)| Heard { line: line(&from), at: at.as_secs_f64(), from })
            .collect();
        heard.sort_by(|a, b| b.at.total_cmp(&a.at));
        heard
    }

    /// What a wait for a phase saw, when it ended so.
    pub fn phase_evidence(&self, end: WaitEnd) -> PhaseEvidence {
        PhaseEvidence {
            reached: self.phases.clone(),
            end,
            console_bytes: self.total,
            tails: self.tails(),
            signs: self.signs(),
            heard: self.heard(),
            ended: self.now.as_secs_f64(),
            usual: None,
            told: Vec::new(),
        }
    }

    /// Bytes of the record that a bundle keeps.
    pub fn kept(&self) -> u64 {
        self.total.min(CONSOLE_CAP)
    }
}

/// Keeps a sign unless there are enough: one that explains an end better than all of them, or is the first that ends it, still
/// takes the place of the least.
fn keep_sign(seen: &mut Vec<Sign>, sign: Sign) {
    if seen.len() < SIGNS {
        return seen.push(sign);
    }
    let better = seen.iter().all(|s| s.weight < sign.weight) || (sign.fatal && !seen.iter().any(|s| s.fatal));
    if better && let Some(least) = (0..seen.len()).rev().min_by_key(|&i| (seen[i].fatal, seen[i].weight)) {
        seen.remove(least);
        seen.push(sign);
    }
}

/// Clock of a machine: wall and guest time since power-on.
pub type Clock = Arc<dyn Fn() -> (Duration, Duration) + Send + Sync>;

/// See the module's documentation.
pub struct Hub {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    retapped: tokio::sync::Notify,
    clock: Clock,
}

impl Hub {
    /// A hub for a machine whose dom0 was given `nonce`.
    pub fn new(nonce: &str, clock: Clock) -> Arc<Hub> {
        Arc::new(Hub {
            state: Mutex::new(State {
                demux: Demux::new(),
                tracker: PhaseTracker::new(nonce),
                signs: SignTracker::new(nonce),
                seen_signs: Vec::new(),
                tail: Tail::new(TAIL_LINES),
                last_words: BTreeMap::new(),
                now: Duration::ZERO,
                recent: VecDeque::new(),
                recent_bytes: 0,
                next_number: 0,
                phases: vec![(Phase::PowerOn, 0.0)],
                total: 0,
                last_activity: Duration::ZERO,
                closed: false,
                tap: None,
            }),
            changed: watch::channel(0).0,
            retapped: tokio::sync::Notify::new(),
            clock,
        })
    }

    /// What is known so far.
    pub fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = (self.clock)().0;
        state
    }

    /// Wakes whenever something arrived.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Something other than a byte happened (a QMP event): the stall clock starts again.
    pub fn touch(&self) {
        self.state().last_activity = (self.clock)().1;
    }

    /// dom0 answered over a way in.
    pub fn reach(&self, phase: Phase) {
        let (wall, _) = (self.clock)();
        let mut state = self.state();
        let offset = state.total;
        if state.tracker.reach(phase, offset).is_some() {
            state.phases.push((phase, wall.as_secs_f64()));
        }
        drop(state);
        self.changed.send_modify(|n| *n += 1);
    }

    /// From now on bytes also go to `tap`, or no longer to any: a serial shell takes them while a command is under way.
    pub fn set_tap(&self, tap: Option<mpsc::Sender<Bytes>>) {
        self.state().tap = tap;
        // `notify_one` keeps a permit: a pump that is about to wait does not miss it.
        self.retapped.notify_one();
    }

    fn take(&self, chunk: &[u8], wall: Duration, guest: Duration) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.total += chunk.len() as u64;
        state.last_activity = guest;
        let State {
            demux,
            tracker,
            signs,
            seen_signs,
            tail,
            last_words,
            recent,
            recent_bytes,
            next_number,
            phases,
            ..
        } = state;
        let mut each = |line: xenlab_console::Line<'_>, open: bool| {
            if let Some(t) = tracker.push(&line) {
                phases.push((t.phase, wall.as_secs_f64()));
            }
            if open {
                return;
            }
            if let Some(sign) = signs.push(&line) {
                keep_sign(seen_signs, sign);
            }
            tail.push(&line);
            if !matches!(line.speaker, Speaker::Domain(_)) && !line.text.trim().is_empty() {
                last_words.insert(line.speaker, wall);
            }
            *recent_bytes += line.text.len() + LINE_BYTES;
            recent.push_back(Numbered {
                number: *next_number,
                speaker: line.speaker,
                text: line.text.to_string(),
                end: line.end,
            });
            *next_number += 1;
            while *recent_bytes > RECENT_BYTES {
                let Some(old) = recent.pop_front() else { break };
                *recent_bytes -= old.text.len() + LINE_BYTES;
            }
        };
        demux.feed(chunk, |line| each(line, false));
        // A marker whose line end is still to come already says how far the boot is.
        for line in demux.open() {
            each(line, true);
        }
    }

    /// Gives a chunk to the shell that is working, if one is. One that has given up no longer reads, and the console must go on all the
    /// same: when the tap was set anew it is looked at again, and a chunk is dropped only when nobody is left to have it.
    async fn hand_on(&self, chunk: &[u8]) {
        loop {
            let tap = self.state().tap.clone();
            let Some(tap) = tap else { return };
            tokio::select! {
                biased;
                sent = tap.send(Bytes::copy_from_slice(chunk)) => {
                    if sent.is_err() {
                        self.state().tap = None;
                    }
                    return;
                }
                () = self.retapped.notified() => {}
            }
        }
    }

    /// What a clone's template said before it was frozen, as if it had just been said; `phases` say when each was reached then.
    pub fn remember(&self, record: &[u8], phases: &[(Phase, f64)], bundle: &Bundle) {
        bundle.console(Duration::ZERO, Duration::ZERO, record);
        self.take(record, Duration::ZERO, Duration::ZERO);
        self.state().phases = phases.to_vec();
    }

    /// Reads the console until it is closed.
    pub async fn pump(self: Arc<Self>, mut reader: impl AsyncRead + Unpin, bundle: Arc<Bundle>) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = match reader.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            let (wall, guest) = (self.clock)();
            bundle.console(wall, guest, &buffer[..n]);
            self.take(&buffer[..n], wall, guest);
            self.changed.send_modify(|n| *n += 1);
            self.hand_on(&buffer[..n]).await;
        }
        let mut guard = self.state();
        guard.closed = true;
        guard.tap = None;
        drop(guard);
        self.changed.send_modify(|n| *n += 1);
    }
}
