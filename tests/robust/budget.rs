//! Labs side by side, within a budget of cores and memory that they share: none fails because of the others, and none waits for what
//! is gone.

use crate::bench::{Bench, OVER, Running, boots, fake, pause};
use crate::template::{Cold, FINE, cases};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use xenlab_tests::json as read;

/// So many cases that boot a machine each.
fn boot(n: usize, steps: &str) -> String {
    let limits: Vec<String> = (0..n).map(|n| format!("{}s", 100 + n)).collect();
    fake(steps).replace("steps:\n", &format!("matrix: {{limits.case: [{}]}}\nsteps:\n", limits.join(", ")))
}

const READY: &str = "  - phase: dom0-ready\n";
const LONG: &str = "  - phase: dom0-ready\n  - run: {script: sleep 1000, via: serial}\n";

/// A lab of several, with a report and a log of its own.
fn start<'a>(bench: &'a Bench, name: &str, scenario: &str, qemu: &str, more: &[&str]) -> Running<'a> {
    let file = bench.file(&format!("{name}.yaml"), scenario);
    let report = bench.path(name).display().to_string();
    let args = ["run", &file, "--report", &report, "--qemu", qemu, "--offline"];
    bench.start_logged(bench.command(args.iter().chain(more)), &format!("{name}.log"))
}

fn said(bench: &Bench, name: &str) -> String {
    std::fs::read_to_string(bench.path(&format!("{name}.log"))).unwrap_or_default()
}

fn verdicts(bench: &Bench, name: &str) -> Vec<Value> {
    let bundles = xenlab_tests::bundles(&bench.path(name));
    bundles.iter().map(|b| read(&b.join("verdict.json")).expect("a verdict")).collect()
}

/// Seconds that the lab's cases waited for their turn, by its own word.
fn waits(bench: &Bench, name: &str) -> Vec<f64> {
    let text = std::fs::read_to_string(bench.path(name).join("events.jsonl")).unwrap_or_default();
    let events = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    events.filter(|e| e["stage"] == "wait").filter_map(|e| e["seconds"].as_f64()).collect()
}

/// Machines that run, by their run folders: what QEMU starts is called as QEMU itself for a moment.
fn machines(bench: &Bench) -> usize {
    let all = bench.processes();
    let monitors = all.iter().filter(|p| p.contains("fake-qemu"));
    let monitors = monitors.filter_map(|p| p.split([' ', ',', '=']).find(|w| w.ends_with("/qmp")));
    monitors.collect::<BTreeSet<_>>().len()
}

/// A machine that takes a moment to come up, and whose dom0 is this host's shell, over the console.
fn slow(bench: &Bench) -> String {
    let mut then = boots();
    then.insert(2, json!({"sleep": 400}));
    then.push(json!("shell"));
    bench.qemu("qemu", then.into())
}

fn passes(bench: &Bench, name: &str, mut lab: Running<'_>, n: usize) {
    let (status, _) = lab.end(Duration::from_secs(60));
    assert_eq!(status.code(), Some(0), "{}", said(bench, name));
    let verdicts = verdicts(bench, name);
    assert_eq!(verdicts.len(), n);
    assert!(verdicts.iter().all(|v| v["verdict"] == "pass"), "{verdicts:#?}");
}

#[test]
fn two_labs_share_the_cores() {
    let mut bench = Bench::new();
    // Of two machines, with two processors each.
    bench.cores = 4;
    let qemu = slow(&bench);
    let mut labs = [
        start(&bench, "a", &boot(4, READY), &qemu, &["-j4"]),
        start(&bench, "b", &boot(4, READY), &qemu, &[]),
    ];
    let (mut most, mut counted, begun) = (0, 0, Instant::now());
    while labs.iter_mut().any(|lab| !lab.ended()) {
        let now = machines(&bench);
        assert!(now <= 2, "{now} machines\n{:#?}", bench.processes());
        most = most.max(now);
        counted += 1;
        pause(5);
        assert!(begun.elapsed() < Duration::from_secs(60), "{}{}", said(&bench, "a"), said(&bench, "b"));
    }
    eprintln!("counted {counted} times");
    assert_eq!(most, 2, "all cores were used");
    for (name, lab) in ["a", "b"].iter().zip(labs) {
        passes(&bench, name, lab, 4);
        assert_eq!(waits(&bench, name).len(), 4);
    }
    bench.clean();
}

/// Both machines of one lab are gone with it, and with them their tickets; how long the other waited counts nowhere.
#[test]
fn a_killed_lab_keeps_nobody_waiting() {
    let mut bench = Bench::new();
    bench.cores = 4;
    let qemu = slow(&bench);
    let mut holds = start(&bench, "a", &boot(2, LONG), &qemu, &[]);
    holds
        .until("both commands", |b| b.processes().iter().filter(|p| p.ends_with("sleep 1000 ")).count() == 2);
    let mut waits_for = start(&bench, "b", &boot(2, READY), &qemu, &[]);
    waits_for.until("a word of it", |b| said(b, "b").contains("waits for 2 other machines on this host"));
    assert!(said(&bench, "b").contains("of another xenlab"), "{}", said(&bench, "b"));
    pause(2000);
    assert_eq!((machines(&bench), bench.tickets().len()), (2, 4));
    holds.signal(Signal::KILL);
    holds.end(OVER);
    let killed = Instant::now();
    passes(&bench, "b", waits_for, 2);
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    for (waited, verdict) in waits(&bench, "b").into_iter().zip(verdicts(&bench, "b")) {
        let seconds = verdict["seconds"].as_f64().expect("seconds");
        assert!(waited > 3.0 && seconds < 3.0, "waited {waited}, took {seconds}");
    }
    drop(holds);
    // What the killed one left of its run folders is the next one's to sweep, its tickets went.
    assert_eq!(bench.tickets(), Vec::<std::path::PathBuf>::new());
}

/// No machine fits: each runs when it is the only one.
#[test]
fn cases_larger_than_the_whole_budget() {
    let bench = Bench::new();
    let qemu = slow(&bench);
    let file = bench.file("scenario.yaml", &boot(3, READY));
    let report = bench.path("a").display().to_string();
    let mut command = bench.command(["run", &file, "--report", &report, "--qemu", &qemu, "--offline", "-j3"]);
    let budget = format!("cores=8,memory=64M,dir={}", bench.path("budget").display());
    command.env("XENLAB_BUDGET", budget);
    let mut lab = bench.start_logged(command, "a.log");
    let mut most = 0;
    while !lab.ended() {
        most = most.max(machines(&bench));
        pause(5);
    }
    assert_eq!(most, 1);
    passes(&bench, "a", lab, 3);
    bench.clean();
}

#[test]
fn an_interrupt_while_waiting() {
    for signal in [Signal::INT, Signal::TERM] {
        let mut bench = Bench::new();
        bench.cores = 1;
        let qemu = slow(&bench);
        let mut holds = start(&bench, "a", &boot(1, LONG), &qemu, &[]);
        holds.until("the command", |b| b.processes().iter().any(|p| p.ends_with("sleep 1000 ")));
        let mut waits_for = start(&bench, "b", &boot(3, READY), &qemu, &["-j2"]);
        waits_for.until("its tickets", |b| b.tickets().len() == 3);
        waits_for.signal(signal);
        let (status, took) = waits_for.end(Duration::from_secs(1));
        assert_eq!(status.code(), Some(130), "{}", said(&bench, "b"));
        eprintln!("{signal:?}: over after {:.2} s", took.as_secs_f64());
        assert_eq!((bench.tickets().len(), machines(&bench)), (1, 1));
        assert!(verdicts(&bench, "b").iter().all(|v| v["cause"] == "lab.interrupted"));
        holds.ends_orderly(signal);
    }
}

/// A case has no ticket while its template is made, nor has who waits for it.
#[test]
fn templates_and_clones_on_one_core() {
    let mut cold = Cold::new();
    cold.bench.cores = 1;
    let did = cold.run_with(&cases(3, FINE), &["-j3"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert_eq!(cold.verdicts().iter().filter(|v| v["verdict"] == "pass").count(), 4, "{}", did.stderr);
    cold.bench.clean();
    // Nor has one that failed on a clone, when it is run again from power-on.
    let did = cold.run_with(&cases(2, "  - run: {script: exit 7}\n"), &["-j2"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    cold.bench.clean();
}

/// A Xen that never spoke: its machine is gone before the control's is let in.
#[test]
fn a_control_on_one_core() {
    let mut bench = Bench::new();
    bench.cores = 1;
    let qemu = bench.qemu("qemu", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, {"write": "(XEN) Panic on CPU 0:\r\n(XEN) x\r\n(XEN) ****************************************\r\n"}, "hold"]));
    let mut lab = start(&bench, "a", &boot(2, READY), &qemu, &["-j2"]);
    let (status, _) = lab.end(Duration::from_secs(60));
    assert!(said(&bench, "a").contains("in the same machine"), "{}", said(&bench, "a"));
    assert!(status.code().is_some_and(|code| code != 0), "{}", said(&bench, "a"));
    bench.clean();
}

/// Unusual: there is no place for the budget; it is said, and the lab goes on alone.
#[test]
fn no_place_for_a_budget() {
    let bench = Bench::new();
    let qemu = slow(&bench);
    let run = |budget: &str| {
        let file = bench.file("scenario.yaml", &boot(2, READY));
        let mut command = bench.command(["run", &file, "--qemu", &qemu, "--offline"]);
        command.env("XENLAB_BUDGET", budget);
        xenlab_tests::finish(command)
    };
    let did = run("dir=/proc/nowhere");
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(
        did.stderr.contains("other labs on this host do not know") && did.stderr.contains("/proc/nowhere")
    );
    let did = run("off");
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(!did.stderr.contains("other labs"), "{}", did.stderr);
    let did = run("core=2");
    assert_eq!(did.code, Some(2), "{}", did.stderr);
    assert!(did.stderr.contains("XENLAB_BUDGET") && did.stderr.contains("core=2"), "{}", did.stderr);
    bench.clean();
}

/// Unusual: QEMU is stopped for longer than a machine may be silent, and goes on: that says nothing of Xen.
#[test]
fn a_machine_that_was_stopped_for_a_while() {
    let bench = Bench::new();
    let mut then = boots();
    then.insert(0, json!({"sleep": 2000}));
    let qemu = bench.qemu("qemu", then.into());
    let mut lab = start(&bench, "a", &boot(1, READY), &qemu, &["--no-control"]);
    lab.until("the machine", |b| machines(b) == 1);
    // It is attached to and powered on within tenths of a second.
    pause(700);
    let all = bench.processes();
    let machine = all.iter().find(|p| p.contains("fake-qemu")).expect("it runs");
    let pid = machine.split(' ').next().and_then(|p| p.parse().ok()).and_then(Pid::from_raw);
    let signal = |signal| kill_process(pid.expect("a process number"), signal).expect("it runs");
    signal(Signal::STOP);
    pause(23_000);
    signal(Signal::CONT);
    passes(&bench, "a", lab, 1);
    bench.clean();
}
