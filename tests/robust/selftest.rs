//! `xenlab selftest`: what a lab that notices nothing scores, a host that lacks something, an interrupt.

use crate::bench::Bench;
use crate::host::without_qemu;
use rustix::process::Signal;
use std::process::Command;
use xenlab_tests::{Did, finish, json};

fn command(bench: &Bench, more: &[&str]) -> Command {
    let report = bench.report().display().to_string();
    let mut args = vec!["selftest", "--report", &report];
    args.extend(more);
    bench.command(args)
}

fn says(did: &Did, code: i32, words: &[&str]) {
    assert_eq!(did.code, Some(code), "{}\n{}", did.stdout, did.stderr);
    for word in words {
        assert!(did.stdout.contains(word), "`{word}` is not in:\n{}", did.stdout);
    }
}

const ROW: &str = "pc-missing::x86_64";

#[test]
fn a_fault_that_is_not_planted_is_not_caught() {
    let bench = Bench::new();
    let did = finish(command(&bench, &["--only", ROW]));
    says(&did, 0, &["x86_64: 1 of 1 faults caught"]);
    assert!(!bench.report().join("pc-missing.x86_64").exists(), "what was right leaves nothing");
    let did = finish(command(&bench, &["--only", ROW, "--unplanted"]));
    says(
        &did,
        1,
        &["x86_64: 0 of 1 faults caught", "NOT CAUGHT pc-missing::x86_64: expected fail", "got pass"],
    );
    // What there is to look at, where it was said to be.
    let left = bench.report().join("pc-missing.x86_64");
    assert!(did.stdout.contains(&left.display().to_string()), "{}", did.stdout);
    assert!(left.join("said.txt").is_file() && left.join("bundles").is_dir());
    let score = json(&bench.report().join("selftest.json")).expect("a score");
    assert_eq!(score["trials"][0]["outcome"], "wrong", "{score}");
    bench.clean();
}

#[test]
fn what_the_host_lacks_is_listed_and_no_success() {
    let bench = Bench::new();
    let path = without_qemu(&bench);
    let mut one = command(&bench, &["--only", "good-quiet::aarch64"]);
    one.env("PATH", &path);
    says(&finish(one), 3, &["0 of 0 good runs", "Could not be tried on this host", "qemu-system-aarch64"]);
    bench.clean();
}

#[test]
fn an_interrupt_ends_its_runs() {
    let bench = Bench::new();
    let mut lab = bench.start(command(&bench, &["--only", "good-quiet"]));
    lab.until("a machine", |b| b.processes().iter().any(|p| p.contains("-kernel")));
    lab.ends_orderly(Signal::INT);
}

#[test]
fn bad_input_says_what_there_is() {
    let bench = Bench::new();
    for (args, words) in [
        (["--only", "no-such-thing"], "selftest --list"),
        (["--arch", "mips"], "x86_64"),
        (["--jobs", "0"], "expected 1 or more"),
    ] {
        let did = finish(command(&bench, &args));
        assert_eq!(did.code, Some(2), "{}", did.stderr);
        assert!(did.stderr.contains(words), "{}", did.stderr);
    }
    bench.clean();
}
