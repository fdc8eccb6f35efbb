//! Consoles watched and waited on, bundles and shared work, and many cases of which one brings the lab itself down.

use bytes::Bytes;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use xenlab_console::Phase;
use xenlab_engine::bundle::{self, Bundle, CONSOLE_CAP};
use xenlab_engine::hub::{Clock, Hub};
use xenlab_engine::prepare::Preparer;
use xenlab_engine::shared::Shared;
use xenlab_engine::wait::{Allowed, Phases, Watch};
use xenlab_engine::{Lab, run};
use xenlab_model::case::Case;
use xenlab_model::cause::Cause;
use xenlab_model::event::{Sink, What};
use xenlab_model::evidence::{Evidence, MachineEnd, Origin, WaitEnd};
use xenlab_model::fact::Facts;
use xenlab_model::scenario::{self, Settings};
use xenlab_model::step::Observation;
use xenlab_model::step::console::ConsoleEvidence;
use xenlab_store::{Options, Store};

const SCENARIO: &str = "xenlab: 1\nname: t\nxen: debian:bookworm\nmatrix: {arch: [x86_64, aarch64]}\nsteps:\n  \
                        - console: {of: dom0, lacks: [panic]}\n";

fn cases() -> Vec<Case> {
    scenario::load(SCENARIO, "t.yaml", &Settings { seed: 1, ..Settings::default() }, &Facts::default())
        .expect("a good scenario")
}

/// A console that the test writes, its record, and a clock that the test sets (milliseconds).
struct Console {
    hub: Arc<Hub>,
    bundle: Arc<Bundle>,
    guest: tokio::io::DuplexStream,
    now: Arc<AtomicU64>,
    pump: tokio::task::JoinHandle<()>,
    dir: tempfile::TempDir,
}

fn console() -> Console {
    let dir = tempfile::tempdir().unwrap();
    let bundle = Arc::new(Bundle::create(dir.path().join("b"), &cases()[0], "now").unwrap());
    let now = Arc::new(AtomicU64::new(0));
    let clock: Clock = {
        let now = now.clone();
        Arc::new(move || {
            let at = Duration::from_millis(now.load(Ordering::Relaxed));
            (at, at)
        })
    };
    let hub = Hub::new("n0nce", clock);
    let (guest, reader) = tokio::io::duplex(64 << 10);
    let pump = tokio::spawn(hub.clone().pump(reader, bundle.clone()));
    Console { hub, bundle, guest, now, pump, dir }
}

impl Console {
    async fn says(&mut self, text: &str) {
        let before = self.hub.state().total;
        self.guest.write_all(text.as_bytes()).await.unwrap();
        while self.hub.state().total < before + text.len() as u64 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits for a phase, the clock standing unless somebody moves it.
    async fn until(
        &self,
        phase: Phase,
        allowed: Allowed,
        ended: impl Future<Output = MachineEnd>,
    ) -> WaitEnd {
        let now = self.now.clone();
        let guest = move || Duration::from_millis(now.load(Ordering::Relaxed));
        let watch = Watch { hub: &self.hub, guest: &guest, kvm: false };
        watch.until(allowed, ended, |state| state.phase() >= phase).await
    }
}

const LONG: Allowed = Allowed { limit: Duration::from_secs(3600), phases: Phases::All };

async fn never() -> MachineEnd {
    std::future::pending().await
}

#[tokio::test]
async fn a_flood_is_recorded_up_to_the_cap_and_counted() {
    let mut c = console();
    // Empty lines, of which more are kept the less is in them, and signs, which are kept for messages.
    for line in ["\n", "(XEN) WARNING: again\n", "some line of dom0's\n"] {
        let block = line.repeat((1 << 20) / line.len());
        for _ in 0..3 {
            c.says(&block).await;
        }
    }
    let state = c.hub.state();
    assert!(state.total > CONSOLE_CAP && state.kept() == CONSOLE_CAP);
    assert!(state.lines_from(0).count() < 10_000, "{} lines are kept", state.lines_from(0).count());
    assert!(state.seen_signs.len() <= 64, "{} signs are kept", state.seen_signs.len());
    drop(state);
    assert_eq!(std::fs::metadata(c.dir.path().join("b/console/machine.raw")).unwrap().len(), CONSOLE_CAP);
}

#[tokio::test]
async fn a_panic_after_a_flood_of_lesser_signs_is_still_known() {
    let mut c = console();
    c.says(&"(XEN) WARNING: again\n".repeat(1000)).await;
    c.says("(XEN) Panic on CPU 0:\n(XEN) FATAL TRAP: vector = 6\n(XEN) ****************************************\n").await;
    assert!(c.hub.state().fatal().is_some_and(|s| s.code.contains("panic")));
}

#[tokio::test]
async fn a_shell_that_gave_up_holds_up_nobody() {
    let mut c = console();
    let (tap, taken) = mpsc::channel::<Bytes>(1);
    c.hub.set_tap(Some(tap));
    // Nobody takes: the pump waits with the second chunk, and the guest with what comes after.
    c.guest.write_all(b"one\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    c.guest.write_all(b"two\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    c.guest.write_all(b"three\n").await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(c.hub.state().total, 8, "what the shell has not taken is not piled up");
    c.hub.set_tap(None);
    c.says("four\n").await;
    assert_eq!(c.hub.state().total, 19);
    // Setting a tap loses nothing of what comes right after it.
    for n in 0..50 {
        let (tap, mut taken) = mpsc::channel::<Bytes>(4);
        c.hub.set_tap(Some(tap));
        c.says(&format!("{n:02}\n")).await;
        let got = tokio::time::timeout(Duration::from_secs(5), taken.recv()).await.expect("handed on");
        assert_eq!(got.as_deref(), Some(format!("{n:02}\n").as_bytes()));
        c.hub.set_tap(None);
    }
    // One that is gone altogether is forgotten.
    let (tap, gone) = mpsc::channel::<Bytes>(1);
    drop(gone);
    c.hub.set_tap(Some(tap));
    c.says("five\nsix\n").await;
    drop(taken);
}

#[tokio::test]
async fn a_wait_ends_by_success_stall_or_limit() {
    let mut c = console();
    c.says("(XEN) Xen version 4.17.5\n").await;
    assert_eq!(c.until(Phase::Xen, LONG, never()).await, WaitEnd::Reached);
    // Silence for longer than the phase may be silent; the table has 30 s for Xen.
    c.now.store(31_000, Ordering::Relaxed);
    let stalled = {
        let later = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            c.now.store(62_000, Ordering::Relaxed);
            never().await
        };
        c.until(Phase::Dom0Kernel, LONG, later).await
    };
    assert!(matches!(stalled, WaitEnd::Stalled { seconds } if seconds > 30.0), "{stalled:?}");
    // A clock that stands, as it does when the host gives the machine no time, is no stall and reaches no limit.
    let short = Allowed { limit: Duration::from_millis(10), phases: Phases::All };
    let waiting = c.until(Phase::Dom0Kernel, short, never());
    assert!(tokio::time::timeout(Duration::from_millis(700), waiting).await.is_err());
    let begun = Instant::now();
    let late = {
        let later = async {
            c.now.store(63_000, Ordering::Relaxed);
            never().await
        };
        c.until(Phase::Dom0Kernel, short, later).await
    };
    assert_eq!(late, WaitEnd::TimedOut { limit: 0.01 });
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_sign_of_failure_is_listened_to_until_it_is_told() {
    let mut c = console();
    let hub = c.hub.clone();
    let wait = tokio::spawn({
        let guest = || Duration::ZERO;
        async move {
            let watch = Watch { hub: &hub, guest: &guest, kvm: false };
            watch.until(LONG, never(), |state| state.phase() >= Phase::Dom0Ready).await
        }
    });
    c.says("(XEN) Xen version 4.17.5\n[    1.000000] Linux version 6.1\n[    1.100000] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!wait.is_finished(), "more may come");
    let end = tokio::time::timeout(Duration::from_secs(20), wait).await.expect("a panic ends it").unwrap();
    let WaitEnd::Failed { code, line } = &end else { panic!("{end:?}") };
    assert!(code.starts_with("dom0.") && line.contains("VFS"), "{end:?}");
}

#[tokio::test]
async fn a_machines_end_is_explained_by_what_it_said_last() {
    // What it wrote last is still on its way when its end is known.
    let c = console();
    let (hub, mut guest) = (c.hub.clone(), c.guest);
    let ended = async {
        guest
            .write_all(b"(XEN) Xen version 4.17.5\n(XEN) Panic on CPU 0:\n(XEN) out of memory\n")
            .await
            .unwrap();
        drop(guest);
        MachineEnd::GuestReset
    };
    let now = || Duration::ZERO;
    let watch = Watch { hub: &hub, guest: &now, kvm: false };
    let end = watch.until(LONG, ended, |state| state.phase() >= Phase::Dom0Ready).await;
    assert!(matches!(&end, WaitEnd::Failed { line, .. } if line.contains("out of memory")), "{end:?}");
    c.pump.await.unwrap();
    // QEMU's own end is not explained by the guest.
    let killed = MachineEnd::QemuKilled { signal: 9, stderr: String::new() };
    let end = watch.until(LONG, async { killed.clone() }, |_| false).await;
    assert!(matches!(end, WaitEnd::Failed { .. }) || end == WaitEnd::Ended(killed), "{end:?}");
}

fn console_evidence(to: u64, cut: bool) -> Evidence {
    let seen = ConsoleEvidence { from: 4, to, cut, end: WaitEnd::Reached, text: String::new() };
    Evidence {
        step: "steps[0]".into(),
        origin: Origin::PowerOn,
        from: 0.0,
        to: 1.0,
        seen: Ok(Observation::Console(seen)),
    }
}

#[tokio::test]
async fn a_bundle_is_read_as_it_was_written() {
    let mut c = console();
    c.says("one\ntwo\nthree\n").await;
    let case = &cases()[0];
    c.bundle.plan(case).unwrap();
    c.bundle.evidence(&[console_evidence(8, false)]).unwrap();
    let dir = c.dir.path().join("b");
    let read = bundle::read(&dir).unwrap();
    assert_eq!((&read.case, read.verdict, read.inputs), (case, None, None));
    let text = |e: &Evidence| match &e.seen {
        Ok(Observation::Console(seen)) => (seen.text.clone(), seen.cut),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(&read.evidence[0]), ("two\n".into(), false));
    // A record that is shorter than the evidence says cannot show that something is absent.
    c.bundle.evidence(&[console_evidence(1000, false)]).unwrap();
    assert!(text(&bundle::read(&dir).unwrap().evidence[0]).1);
    // Whatever was done to it, it is an error that names the file, and no panic.
    for name in ["plan.json", "evidence.jsonl"] {
        let whole = std::fs::read(dir.join(name)).unwrap();
        std::fs::write(dir.join(name), &whole[..whole.len() / 2]).unwrap();
        let error = bundle::read(&dir).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
        std::fs::write(dir.join(name), whole).unwrap();
    }
    assert!(bundle::read(Path::new("/nonexistent")).is_err());
}

#[tokio::test]
async fn shared_work_is_done_once_and_its_failure_too() {
    let shared: Arc<Shared<&str, usize, String>> = Arc::default();
    let made = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (shared, made) = (shared.clone(), made.clone());
            tokio::spawn(async move {
                let key = if n % 2 == 0 { "good" } else { "bad" };
                let make = || async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    let nth = made.fetch_add(1, Ordering::Relaxed);
                    if key == "good" { Ok(nth) } else { Err("no".to_owned()) }
                };
                shared.get(key, make).await.map(|v| *v).map_err(|e| (*e).clone()).is_ok()
            })
        })
        .collect();
    let mut good = 0;
    for task in tasks {
        good += usize::from(task.await.unwrap());
    }
    assert_eq!((good, made.load(Ordering::Relaxed)), (10, 2));
    // Who was to make it is gone half-way: the next one makes it.
    let half = tokio::time::timeout(
        Duration::from_millis(10),
        shared.get("late", || async { std::future::pending().await }),
    );
    assert!(half.await.is_err());
    assert_eq!(shared.get("late", || async { Ok(7) }).await.map(|v| *v), Ok(7));
}

/// Brings down whoever begins a case for x86_64.
struct Trap(Mutex<Vec<String>>);

impl Sink for Trap {
    fn emit(&self, what: What) {
        match &what {
            What::CaseStarted { case, .. } if case.contains("x86_64") => panic!("the trap was stepped on"),
            What::CaseFinished { case, .. } => self.0.lock().unwrap().push(case.clone()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_case_that_panics_is_an_error_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let sink = Arc::new(Trap(Mutex::default()));
    let options =
        Options { root: Some(dir.path().join("store")), offline: true, locked: false, sink: sink.clone() };
    let store = Arc::new(Store::open(options).unwrap());
    let lab = Arc::new(Lab {
        control: false,
        cold: true,
        ..Lab::new(Preparer::new(store, sink.clone()), sink.clone(), dir.path().join("bundles"))
    });
    let outcome = run::run(lab, cases(), Some(2), Instant::now()).await;
    assert_eq!(outcome.verdicts.len(), 2);
    let (panicked, other) = (&outcome.verdicts[0], &outcome.verdicts[1]);
    assert_eq!(panicked.cause, Some(Cause::LabPanic));
    assert!(panicked.message.contains("the trap was stepped on"), "{}", panicked.message);
    assert_ne!(other.cause, Some(Cause::LabPanic), "the other one went on: {}", other.message);
    assert_eq!(outcome.exit, xenlab_model::Exit::Lab);
    assert_eq!(sink.0.lock().unwrap().len(), 2, "both are reported");
}
