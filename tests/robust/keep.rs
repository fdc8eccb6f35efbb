//! `run --keep` and `xenlab shell`: a machine that stays until the user has looked, and leaves nothing.

use crate::bench::{Bench, boots, fake};
use rustix::process::Signal;
use serde_json::json;
use xenlab_tests::finish;

fn qemu(bench: &Bench) -> String {
    let mut then = boots();
    then.push(json!("shell"));
    bench.qemu("qemu", then.into())
}

const FAILS: &str = "  - phase: dom0-ready\n  - run: {script: exit 1, via: serial}\n";
const PASSES: &str = "  - phase: dom0-ready\n";

#[test]
fn what_failed_stays_until_an_interrupt_and_its_verdict_too() {
    let bench = Bench::new();
    let qemu = qemu(&bench);
    let command = bench.run_command(&fake(FAILS), &["--qemu", &qemu, "--keep", "failed", "--no-control"]);
    let mut lab = bench.start(command);
    lab.until("the machine to be kept", |b| b.log().contains("its consoles so far"));
    let log = bench.log();
    let socket = log.split("target remote ").nth(1).and_then(|s| s.lines().next()).expect("a socket");
    // Whoever follows the words gets in.
    assert!(std::os::unix::net::UnixStream::connect(socket).is_ok(), "{socket}\n{log}");
    lab.ends_orderly(Signal::INT);
    assert!(!std::path::Path::new(socket).exists());
    assert_eq!(bench.verdict("fake")["verdict"], "fail");
    assert_eq!(bench.verdict("fake")["cause"], "check.failed");
}

/// Another process finds the machine, sees its console from the beginning and leaves it; a second machine has to be named.
#[test]
fn a_machine_that_is_kept_is_found_and_shows_its_console() {
    let bench = Bench::new();
    let qemu = qemu(&bench);
    let attach = |args: &[&str]| {
        let mut command = bench.command(args.iter().copied());
        command.stdin(std::process::Stdio::null());
        command
    };
    let none = finish(attach(&["console"]));
    assert_eq!(none.code, Some(2), "{}", none.stderr);
    assert!(none.stderr.contains("no machine is kept"), "{}", none.stderr);
    let command = bench.run_command(&fake(FAILS), &["--qemu", &qemu, "--keep", "failed", "--no-control"]);
    let mut lab = bench.start(command);
    lab.until("the machine to be kept", |b| b.log().contains("its consoles so far"));
    let other = finish(attach(&["gdb", "--case", "no-such-case"]));
    assert_eq!(other.code, Some(2), "{}", other.stderr);
    assert!(other.stderr.contains("there is:"), "{}", other.stderr);
    // It follows until the machine is gone.
    let mut console = attach(&["console"]);
    let mut console = console.stdout(std::process::Stdio::piped()).spawn().expect("a console");
    let mut shown = Vec::new();
    let mut out = console.stdout.take().expect("its output");
    while !String::from_utf8_lossy(&shown).contains("Xen version") {
        let mut buffer = [0; 4096];
        let n = std::io::Read::read(&mut out, &mut buffer).expect("its output");
        assert!(n > 0, "it ended: {}", String::from_utf8_lossy(&shown));
        shown.extend_from_slice(&buffer[..n]);
    }
    lab.ends_orderly(Signal::INT);
    assert!(console.wait().expect("its end").success());
    let gone = finish(attach(&["ssh", "--", "true"]));
    assert_eq!(gone.code, Some(2), "{}", gone.stderr);
    bench.clean();
}

#[test]
fn the_lab_that_is_killed_takes_a_kept_machine_with_it() {
    let bench = Bench::new();
    let qemu = qemu(&bench);
    let command = bench.run_command(&fake(FAILS), &["--qemu", &qemu, "--keep", "failed", "--no-control"]);
    let mut lab = bench.start(command);
    lab.until("the machine to be kept", |b| b.log().contains("its consoles so far"));
    drop(lab);
    let begun = std::time::Instant::now();
    while !bench.processes().is_empty() && begun.elapsed().as_secs() < 2 {
        crate::bench::pause(10);
    }
    assert_eq!(bench.processes(), Vec::<String>::new());
}

#[test]
fn what_passes_does_not_stay_and_what_is_gone_cannot() {
    let bench = Bench::new();
    let qemu = qemu(&bench);
    let did = finish(bench.run_command(&fake(PASSES), &["--qemu", &qemu, "--keep", "failed"]));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(!did.stderr.contains("kept"), "{}", did.stderr);
    let gone = bench.qemu("gone", json!([{"write": "(XEN) Xen version 4.17.5\r\n"}, {"exit": 1}]));
    let did = finish(bench.run_command(&fake(PASSES), &["--qemu", &gone, "--keep", "all", "--no-control"]));
    assert!(did.stderr.contains("cannot be kept"), "{}", did.stderr);
    bench.clean();
}

/// A real dom0, worked in by a script on standard input; what ends it leaves nothing.
#[test]
fn a_shell_in_dom0() {
    let bench = Bench::new();
    crate::bench::user_store();
    let shell = |more: &[&str], script: &str| {
        let mut args = vec!["shell", "--offline", "--xen", "debian:bookworm"];
        args.extend(more);
        let mut command = bench.command(args);
        command.stdin(std::fs::File::open(bench.file("script", script)).expect("a script"));
        finish(command)
    };
    let did = shell(&["--arch", "aarch64"], "xl list\nexit 7\n");
    assert_eq!(did.code, Some(0), "what was done in it is nobody's verdict: {}", did.stderr);
    assert!(did.stdout.contains("Domain-0"), "{}{}", did.stdout, did.stderr);
    bench.clean();
    let did = shell(&[], "");
    assert_eq!(did.code, Some(2), "{}", did.stderr);
    assert!(did.stderr.contains("there are 2 cases, and one machine to work in"), "{}", did.stderr);
    // Nobody behind the forwarded port: that is told, and is no verdict on Xen.
    let qemu = qemu(&bench);
    let scenario = bench.file("fake.yaml", &fake(PASSES));
    let did = finish(bench.command(["shell", &scenario, "--qemu", &qemu, "--cold"]));
    assert_eq!(did.code, Some(3), "{}", did.stderr);
    assert!(did.stderr.contains("ssh could not log in to dom0"), "{}", did.stderr);
    bench.clean();
}
