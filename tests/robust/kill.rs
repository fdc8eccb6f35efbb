//! Signals and kills, of the lab and of its machines, at any moment.

use crate::bench::{Bench, OVER, boots, fake, pause};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

/// A machine that comes up and whose dom0 is this host's shell, over the console.
fn serial_dom0(bench: &Bench) -> String {
    let mut then = boots();
    then.push(json!("shell"));
    bench.qemu("qemu", then.into())
}

const LONG_STEP: &str = "  - phase: dom0-ready\n  - run: {script: sleep 1000, via: serial}\n";

#[test]
fn an_interrupt_during_the_boot() {
    for signal in [Signal::INT, Signal::TERM] {
        let bench = Bench::new();
        let qemu = bench.qemu("qemu", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, "hold"]));
        let mut lab = bench.start(bench.run_command(&fake("  - phase: dom0-kernel\n"), &["--qemu", &qemu]));
        lab.phase("xen");
        lab.ends_orderly(signal);
        bench.report_is_kept();
        assert_eq!(bench.verdict("fake")["cause"], "lab.interrupted");
    }
}

#[test]
fn an_interrupt_during_a_step() {
    let bench = Bench::new();
    let qemu = serial_dom0(&bench);
    let mut lab = bench.start(bench.run_command(&fake(LONG_STEP), &["--qemu", &qemu]));
    lab.until("the command", |b| b.processes().iter().any(|p| p.ends_with("sleep 1000 ")));
    lab.ends_orderly(Signal::TERM);
    bench.report_is_kept();
}

#[test]
fn an_interrupt_during_the_teardown() {
    let bench = Bench::new();
    // A QEMU that does not heed `quit`: the end takes as long as it ever does.
    let script = json!({"unanswered": ["quit"], "then": [{"write": "(XEN) Xen version 4.17.5\r\n"}, "hold"]});
    let qemu = bench.qemu_script("qemu", script);
    let mut lab = bench.start(bench.run_command(&fake("  - phase: xen\n"), &["--qemu", &qemu]));
    lab.until("the step's end", |b| b.events().iter().any(|e| e["event"] == "step-finished"));
    lab.ends_orderly(Signal::INT);
    bench.report_is_kept();
}

#[test]
fn an_interrupt_at_any_moment_of_the_start() {
    let bench = Bench::with_store();
    let qemu = bench.qemu("qemu", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, "hold"]));
    for millis in [15, 40, 80, 130, 200, 300, 450, 700] {
        let lab = bench.start(bench.run_command(&fake("  - phase: dom0-kernel\n"), &["--qemu", &qemu]));
        pause(millis);
        lab.ends_orderly(if millis % 20 == 0 { Signal::INT } else { Signal::TERM });
    }
}

#[test]
fn an_interrupt_while_images_are_made() {
    for millis in [400, 1500, 3000] {
        let bench = Bench::with_store();
        let store = bench.store.clone().expect("a store of its own");
        // The packages stay, everything made of them is made anew.
        for kind in ["userland", "kernel", "tools", "xen-image", "xen-debian", "xen-facts"] {
            for (record, _) in crate::bench::entries(&store, kind) {
                std::fs::remove_file(record).expect("a record can be removed");
            }
        }
        let qemu = bench.qemu("qemu", json!(["hold"]));
        let mut lab = bench
            .start(bench.run_command(&fake("  - phase: dom0-kernel\n"), &["--qemu", &qemu, "--offline"]));
        lab.event("run-started");
        pause(millis);
        lab.ends_orderly(Signal::INT);
        bench.report_is_kept();
    }
}

#[test]
fn an_interrupt_while_packages_are_fetched() {
    let bench = Bench::new();
    // An archive that takes connections and never says a word.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port of the loopback");
    let archive = format!("http://{}/debian", listener.local_addr().expect("an address"));
    let (came, first) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming().flatten() {
            kept.push(stream);
            if came.send(()).is_err() {
                return;
            }
        }
    });
    let store = bench.path("store").display().to_string();
    let mut command = bench.run_command(&fake("  - phase: xen\n"), &["--store", &store]);
    command
        .env("XENLAB_DEBIAN_ARCHIVE", &archive)
        .env("no_proxy", "*")
        .env("NO_PROXY", "*")
        .env_remove("http_proxy");
    let lab = bench.start(command);
    first
        .recv_timeout(Duration::from_secs(30))
        .unwrap_or_else(|_| panic!("nothing was fetched\n{}", bench.log()));
    lab.ends_orderly(Signal::TERM);
    assert_eq!(crate::bench::below(&bench.path("store/tmp")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn the_second_signal_kills_at_once() {
    let bench = Bench::new();
    let script = json!({"unanswered": ["quit"], "then": [{"write": "(XEN) Xen version 4.17.5\r\n"}, "hold"]});
    let qemu = bench.qemu_script("qemu", script);
    let mut lab = bench.start(bench.run_command(&fake("  - phase: dom0-kernel\n"), &["--qemu", &qemu]));
    lab.phase("xen");
    lab.signal(Signal::INT);
    pause(150);
    lab.signal(Signal::TERM);
    let (status, took) = lab.end(Duration::from_millis(600));
    assert_eq!(status.code(), Some(130));
    eprintln!("over {took:?} after the second signal");
    let killed = Instant::now();
    while !bench.processes().is_empty() && killed.elapsed() < Duration::from_millis(500) {
        pause(10);
    }
    bench.clean();
}

/// Kills the lab outright and sees that its processes go too.
fn killed_leaves_no_process(bench: &Bench, mut lab: crate::bench::Running<'_>) {
    lab.signal(Signal::KILL);
    lab.end(OVER);
    let killed = Instant::now();
    loop {
        let left = bench.processes();
        if left.is_empty() {
            return;
        }
        assert!(killed.elapsed() < OVER, "3 s after the kill: {left:#?}");
        pause(20);
    }
}

#[test]
fn a_killed_lab_leaves_no_process_and_the_next_run_passes_and_sweeps() {
    let bench = Bench::with_store();
    let store = bench.store.clone().expect("a store of its own");
    // A folder of somebody who was killed while he made an entry.
    let qemu = serial_dom0(&bench);
    let step = fake(LONG_STEP);
    let mut lab = bench.start(bench.run_command(&step, &["--qemu", &qemu]));
    lab.until("the command", |b| b.processes().iter().any(|p| p.ends_with("sleep 1000 ")));
    killed_leaves_no_process(&bench, lab);
    assert!(!crate::bench::below(&bench.path("run")).is_empty(), "there is something to sweep");

    // While images are made, at several moments.
    for millis in [300, 900, 2000] {
        for kind in ["userland", "kernel", "tools", "xen-image", "xen-debian", "xen-facts"] {
            for (record, _) in crate::bench::entries(&store, kind) {
                std::fs::remove_file(record).expect("a record can be removed");
            }
        }
        let mut lab = bench.start(bench.run_command(&step, &["--qemu", &qemu, "--offline"]));
        lab.event("run-started");
        pause(millis);
        killed_leaves_no_process(&bench, lab);
    }

    let good = fake("  - phase: dom0-ready\n  - run: {script: echo hello, via: serial, stdout: hello}\n");
    let did = bench.run(&good, &["--qemu", &qemu, "--offline"]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    bench.clean();
    // No entry that was half made counts: all are what they are said to be.
    let did = xenlab_tests::finish(bench.command([
        "run",
        "--offline",
        "--qemu",
        &qemu,
        &bench.path("scenario.yaml").display().to_string(),
    ]));
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(!did.stderr.contains("damaged"), "{}", did.stderr);
}

#[test]
fn a_qemu_killed_mid_boot_is_an_error_of_that_case_alone() {
    let bench = Bench::new();
    let killed = bench.qemu("killed", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, "hold"]));
    let aborts =
        bench.qemu("aborts", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, {"sleep": 300}, "abort"]));
    let good = bench.qemu("good", boots().into());
    let scenario = fake("  - phase: dom0-ready\n").replace(
        "machine: {accel: tcg, start: power-on}",
        &format!(
            "machine: {{accel: tcg, start: power-on}}\nmatrix:\n  machine.qemu: [{killed}, {aborts}, {good}]"
        ),
    );
    let mut lab = bench.start(bench.run_command(&scenario, &["-j1"]));
    lab.phase("xen");
    let path = bench.path("killed.json");
    let mut victims = 0;
    for line in bench.processes().iter().filter(|l| l.contains("fake-qemu")) {
        let pid =
            line.split(' ').next().and_then(|p| p.parse().ok()).and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(pid.expect("a process number"), Signal::KILL).expect("it runs");
        victims += 1;
    }
    assert_eq!(victims, 1, "{}", path.display());
    let (status, _) = lab.end(Duration::from_secs(30));
    assert_eq!(status.code(), Some(3), "{}", bench.log());
    for (name, signal) in [("killed", "9"), ("aborts", "6")] {
        let verdict = bench.verdict(&format!("_{name}_"));
        assert_eq!(
            (&verdict["verdict"], &verdict["cause"]),
            (&json!("error"), &json!("qemu.killed")),
            "{verdict}"
        );
        assert!(verdict["message"].as_str().is_some_and(|m| m.contains(signal)), "{verdict}");
    }
    assert_eq!(bench.verdict("_good_")["verdict"], "pass");
    bench.clean();
}
