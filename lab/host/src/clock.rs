//! Guest time: how long the machine had, whatever else the host was doing.
//!
//! Wall time less the time its vCPU threads stood runnable in the host's run queue (second field of
//! `/proc/PID/task/TID/schedstat`, nanoseconds; Documentation/scheduler/sched-stats.rst). A busy host stops this
//! clock, a hung idle guest does not. Of several vCPUs the one that waited most counts: the guest moves on when its
//! slowest processor does.
//!
//! Nor does time count in which a machine could not run though nothing kept it in a queue: the lab itself stood still (its control group
//! was frozen, the host's own virtual machine paused), or QEMU was stopped by a signal. Both are seen by looking: a thread looks at
//! every clock four times a second as long as there is one.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

/// Between two looks at every clock.
const BEAT: Duration = Duration::from_millis(250);
/// After which nobody looked because nobody could. A busy host keeps a thread waiting for tenths of a second.
const STILL: Duration = Duration::from_secs(2);
/// How long a QEMU may be stopped, all told, for that not to count. One that is stopped for good is told by the limits.
const STOPPED: Duration = Duration::from_secs(30);

/// A clock of guest time, counted from [`GuestClock::start`]. It never goes backwards.
#[derive(Debug)]
pub struct GuestClock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    /// Each thread's `schedstat`, with what it had waited at the start.
    threads: Vec<(PathBuf, Duration)>,
    seen: Mutex<Seen>,
    degraded: Option<String>,
}

#[derive(Debug)]
struct Seen {
    /// When it was last looked at.
    last: Instant,
    /// How long everything stood still.
    still: Duration,
    /// How long QEMU was stopped.
    stopped: Duration,
    /// The most any thread waited. Kept, for a thread that ended is no longer there to be asked.
    waited: Duration,
    guest: Duration,
}

impl GuestClock {
    /// Starts a clock for these threads (`tids`) of the process `pid`, or of one that it started in its process group
    /// (QEMU behind a script that does not `exec` it).
    pub fn start(pid: u32, tids: impl IntoIterator<Item = u32>) -> GuestClock {
        let clock = GuestClock::over(tids.into_iter().map(|tid| schedstat(pid, tid)).collect());
        look_at(&clock.0);
        clock
    }

    fn over(paths: Vec<PathBuf>) -> GuestClock {
        let mut degraded = None;
        let mut threads = Vec::new();
        for path in paths {
            match waited(&path) {
                Some(at_start) => threads.push((path, at_start)),
                None => {
                    degraded =
                        Some(format!("{} cannot be read: guest time is wall time here", path.display()))
                }
            }
        }
        if threads.is_empty() && degraded.is_none() {
            degraded = Some("no vCPU threads are known: guest time is wall time here".to_owned());
        }
        let started = Instant::now();
        let none = Duration::ZERO;
        let seen = Seen { last: started, still: none, stopped: none, waited: none, guest: none };
        GuestClock(Arc::new(Inner { started, threads, seen: Mutex::new(seen), degraded }))
    }

    /// A clock of wall time, for when there is no machine.
    pub fn wall_only() -> GuestClock {
        let clock = GuestClock::over(Vec::new());
        look_at(&clock.0);
        clock
    }

    /// Why this clock shows wall time, when it does.
    pub fn degraded(&self) -> Option<&str> {
        self.0.degraded.as_deref()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.0.started
    }

    /// Wall time since the start.
    pub fn wall(&self) -> Duration {
        self.0.started.elapsed()
    }

    /// Guest time since the start.
    pub fn now(&self) -> Duration {
        self.0.look()
    }

    /// How much the host kept the machine waiting, as of the last [`GuestClock::now`].
    pub fn waited(&self) -> Duration {
        self.0.seen().waited
    }
}

impl Inner {
    fn look(&self) -> Duration {
        let mut seen = self.seen();
        let before = seen.waited;
        for (path, at_start) in &self.threads {
            if let Some(waited) = waited(path) {
                seen.waited = seen.waited.max(waited.saturating_sub(*at_start));
            }
        }
        let now = Instant::now();
        // What of it was a wait in the queue is taken off already.
        let since = now.duration_since(seen.last).saturating_sub(seen.waited - before);
        seen.last = now;
        if since > STILL {
            seen.still += since - BEAT;
        } else if self.threads.first().is_some_and(|(path, _)| stopped(path)) {
            seen.stopped = (seen.stopped + since).min(STOPPED);
        }
        // The kernel adds a wait only when it is over, so without this the clock could step back.
        let off = seen.waited + seen.still + seen.stopped;
        seen.guest = seen.guest.max(self.started.elapsed().saturating_sub(off));
        seen.guest
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Has a clock looked at from now on, as long as it is there.
fn look_at(clock: &Arc<Inner>) {
    static ALL: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());
    let all = || ALL.lock().unwrap_or_else(|e| e.into_inner());
    let mut clocks = all();
    let first = clocks.is_empty();
    clocks.push(Arc::downgrade(clock));
    if !first {
        return;
    }
    let run = move || {
        loop {
            std::thread::sleep(BEAT);
            let mut clocks = all();
            clocks.retain(|clock| clock.upgrade().map(|clock| clock.look()).is_some());
            if clocks.is_empty() {
                return;
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("clocks".into()).stack_size(256 << 10).spawn(run) {
        tracing::warn!("nobody looks at the clocks: {error}");
        clocks.clear();
    }
}

/// A signal has stopped this thread: the first word behind the name in `stat`.
fn stopped(schedstat: &Path) -> bool {
    let stat = std::fs::read_to_string(schedstat.with_file_name("stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
    matches!(state, Some('T' | 't'))
}

/// Where the kernel says how long a thread waited.
fn schedstat(pid: u32, tid: u32) -> PathBuf {
    let own = PathBuf::from(format!("/proc/{pid}/task/{tid}/schedstat"));
    let elsewhere = PathBuf::from(format!("/proc/{tid}/task/{tid}/schedstat"));
    // By the group, for a number from inside another PID namespace would name somebody else's thread here.
    if !own.exists() && group(tid) == Some(pid) { elsewhere } else { own }
}

/// The process group a thread is in: the third word behind the name in `/proc/TID/stat` (proc_pid_stat(5)).
fn group(tid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()
}

fn waited(path: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(path).ok()?;
    text.split_whitespace().nth(1)?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn without_schedstat_it_is_wall_time_and_says_so() {
        let clock = GuestClock::start(std::process::id(), [u32::MAX]);
        assert!(clock.degraded().unwrap().contains("schedstat"));
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now() >= Duration::from_millis(5));
        assert!(GuestClock::wall_only().degraded().is_some());
    }

    #[test]
    fn a_thread_behind_a_script_is_found_and_a_strangers_is_not() {
        let mut script =
            crate::Command::new("sh").args(["-c", "sleep 60 & echo $!; wait"]).stdout_pipe().spawn().unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(script.take_stdout().unwrap()), &mut line)
            .unwrap();
        let behind: u32 = line.trim().parse().unwrap();
        assert_eq!(GuestClock::start(script.pid(), [behind]).degraded(), None);
        assert!(GuestClock::start(script.pid(), [std::process::id()]).degraded().is_some());
    }

    #[test]
    fn the_most_any_thread_waited_is_taken_off_and_the_clock_never_steps_back() {
        let dir = tempfile::tempdir().unwrap();
        let files = [dir.path().join("a"), dir.path().join("b")];
        let set = |i: usize, nanos: u64| std::fs::write(&files[i], format!("5 {nanos} 1\n")).unwrap();
        set(0, 1_000_000_000);
        set(1, 0);
        let clock = GuestClock::over(files.to_vec());
        assert_eq!(clock.degraded(), None);
        std::thread::sleep(Duration::from_millis(30));
        let before = clock.now();
        assert!(before >= Duration::from_millis(30));
        // The other thread waited all the time: what was shown stays, and then nothing passes.
        set(1, 3_600_000_000_000);
        assert_eq!(clock.now(), before);
        std::fs::remove_file(&files[1]).unwrap();
        assert_eq!(clock.now(), before, "what an ended thread waited is not forgotten");
        assert_eq!(clock.waited(), Duration::from_secs(3600));
    }

    /// Real threads: more busy loops than processors, each waits, and each saw less than wall time.
    #[test]
    fn a_busy_host_slows_the_clock() {
        let cores = std::thread::available_parallelism().unwrap().get();
        let stop = Arc::new(AtomicBool::new(false));
        let (send, tids) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..cores * 3)
            .map(|_| {
                let (stop, send) = (stop.clone(), send.clone());
                std::thread::spawn(move || {
                    send.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                })
            })
            .collect();
        let tids: Vec<u32> = (0..cores * 3).map(|_| tids.recv().unwrap()).collect();
        let clock = GuestClock::start(std::process::id(), tids);
        if clock.degraded().is_none() {
            std::thread::sleep(Duration::from_millis(400));
            let (guest, wall) = (clock.now(), clock.wall());
            assert!(guest < wall.mul_f64(0.8), "guest {guest:?} of {wall:?}");
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    /// Stopped by a signal it stands; for good, it goes on in the end.
    #[test]
    fn a_machine_that_is_stopped_stops_the_clock() {
        use rustix::process::{Pid, Signal, kill_process};
        let child = crate::Command::new("sleep").arg("60").spawn().unwrap();
        let signal =
            |signal| kill_process(Pid::from_raw(child.pid().cast_signed()).unwrap(), signal).unwrap();
        let clock = GuestClock::start(child.pid(), [child.pid()]);
        assert_eq!(clock.degraded(), None);
        signal(Signal::STOP);
        // Nobody asks it meanwhile: it is looked at all the same, and a long time is not taken for one in which nobody could look.
        std::thread::sleep(STILL + BEAT * 3);
        signal(Signal::CONT);
        assert!(clock.now() < BEAT * 3, "{:?} of {:?}", clock.now(), clock.wall());
        let at = clock.now();
        std::thread::sleep(BEAT * 2);
        assert!(clock.now() - at >= BEAT, "it goes on");
        clock.0.seen().stopped = STOPPED;
        signal(Signal::STOP);
        std::thread::sleep(BEAT * 2);
        clock.now();
        assert_eq!(clock.0.seen().stopped, STOPPED, "no more is taken off");
    }

    /// As if the lab's own control group had been frozen: nobody looked for long.
    #[test]
    fn a_lab_that_stood_still_stops_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        std::fs::write(&file, "5 0 1\n").unwrap();
        let clock = GuestClock::over(vec![file]);
        std::thread::sleep(STILL + Duration::from_millis(100));
        let now = clock.now();
        assert!(now <= BEAT + Duration::from_millis(100), "{now:?}");
    }

    #[test]
    fn an_idle_thread_does_not_slow_it() {
        let (send, tid) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            send.send(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()).unwrap();
            let _ = wait.recv();
        });
        let clock = GuestClock::start(std::process::id(), [tid.recv().unwrap()]);
        std::thread::sleep(Duration::from_millis(50));
        assert!(clock.now() >= Duration::from_millis(45));
        drop(done);
        thread.join().unwrap();
    }
}
