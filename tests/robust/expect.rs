//! Expectations over whole runs: what counts, what is said, what a replay makes of it.

use crate::bench::{Bench, boots, fake};
use crate::template::{Cold, warm};
use serde_json::{Value, json};
use std::fs;
use xenlab_tests::{Did, json as read};

const PASSES: &str = "  - console: {of: xen, has: ['Xen version']}\n";
const FAILS: &str = "  - console: {of: xen, has: ['a line that nobody writes']}\n    within: 1s\n";
/// What it fails with.
const CAUSE: &str = "console.missing";

/// A lab with an expectation in a file.
struct Known {
    bench: Bench,
    qemu: String,
}

impl Known {
    fn new() -> Known {
        let bench = Bench::new();
        let qemu = bench.qemu("qemu", json!(boots()));
        Known { bench, qemu }
    }

    /// Runs a case of these steps of which `entry` is known.
    fn run(&self, steps: &str, entry: &str) -> Did {
        self.run_with(&fake(steps), entry, &[])
    }

    fn run_with(&self, scenario: &str, entry: &str, more: &[&str]) -> Did {
        let _ = fs::remove_dir_all(self.bench.report());
        let file = self.bench.file("known.yaml", &file(entry));
        let args = ["--qemu", &self.qemu, "--offline", "--no-control", "--expectations", &file];
        self.bench.run(scenario, &[&args, more].concat())
    }

    fn expected(&self) -> Value {
        self.bench.verdict("fake")["expected"].clone()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.bench.report().join(name)).expect("a report")
    }

    /// Judged again it is the same, to the exit code.
    fn replays(&self, code: i32) {
        xenlab_tests::replay_agrees(&self.bench.report()).expect("judged alike from the bundle");
        for bundle in xenlab_tests::bundles(&self.bench.report()) {
            let did = xenlab_tests::run([std::ffi::OsStr::new("replay"), bundle.as_os_str()]);
            assert_eq!(did.code, Some(code), "{}{}", did.stdout, did.stderr);
        }
    }
}

fn file(entry: &str) -> String {
    format!("xenlab-expectations: 1\nexpect:\n  - {{{entry}}}\n")
}

fn fails(more: &str) -> String {
    format!("case: fake, verdict: fail, cause: {CAUSE}, because: 'nobody writes that'{more}")
}

/// Good: without an expectation the same run fails, with it not.
#[test]
fn an_expected_failure_does_not_count() {
    let known = Known::new();
    let did = known.run(FAILS, &fails("").replace("case: fake", "case: another"));
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    assert_eq!(known.expected(), Value::Null);
    known.replays(1);

    let entry =
        fails(", when: {machine.accel: tcg, qemu.version: {below: 99.0}}, tracker: 'https://example.org/1'");
    let did = known.run(FAILS, &entry);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let verdict = known.bench.verdict("fake");
    // It stays what it is.
    assert_eq!((&verdict["verdict"], &verdict["cause"]), (&json!("fail"), &json!(CAUSE)), "{verdict:#}");
    assert_eq!(known.expected()["kind"], "as-expected");
    for says in ["FAIL (expected: nobody writes that)", "1 case: 1 failed as expected", "FAIL, expected"] {
        assert!(did.stderr.contains(says), "{says}: {}", did.stderr);
    }
    let junit = known.text("junit.xml");
    assert!(junit.contains("failures=\"0\"") && junit.contains("errors=\"0\""), "{junit}");
    assert!(junit.contains("<skipped message=\"FAIL, expected: nobody writes that"), "{junit}");
    let summary = known.text("summary.md");
    assert!(summary.contains("| FAIL, expected |") && summary.contains("As expected:"), "{summary}");
    let told = known.bench.events();
    let end = told.iter().find(|e| e["event"] == "case-finished").expect("an end");
    assert_eq!(end["verdict"]["expected"]["entry"]["because"], "nobody writes that");
    known.replays(0);
    known.bench.clean();
}

/// Unusual: what was expected does not come, or something else does.
#[test]
fn what_comes_out_otherwise_is_said() {
    let known = Known::new();
    let did = known.run(PASSES, &fails(""));
    assert_eq!((did.code, &known.expected()["kind"]), (Some(0), &json!("unexpected-pass")), "{}", did.stderr);
    assert!(did.stderr.contains("passed unexpectedly: FAIL console.missing was expected"), "{}", did.stderr);
    assert!(known.text("summary.md").contains("**PASS**, passed unexpectedly"));
    assert!(known.text("junit.xml").contains("passed unexpectedly"));
    known.replays(0);

    let did = known.run(FAILS, &fails("").replace(CAUSE, "xen.panic"));
    assert_eq!((did.code, &known.expected()["kind"]), (Some(1), &json!("differs")), "{}", did.stderr);
    assert!(did.stderr.contains("FAIL console.missing, where FAIL xen.panic was expected"), "{}", did.stderr);
    assert!(known.text("junit.xml").contains("failures=\"1\""));
    known.replays(1);
    known.bench.clean();
}

/// Unusual: an expectation whose last day is over.
#[test]
fn past_its_day_it_counts_again() {
    let known = Known::new();
    let did = known.run(FAILS, &fails(", until: 2020-01-01"));
    assert_eq!((did.code, &known.expected()["kind"]), (Some(1), &json!("expired")), "{}", did.stderr);
    assert!(did.stderr.contains("held until 2020-01-01 and counts no more"), "{}", did.stderr);
    known.replays(1);
    let did = known.run(FAILS, &fails(", until: 9999-12-31"));
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    // Judged again it is as of the day it ran, not of today.
    let bundle = xenlab_tests::bundles(&known.bench.report()).remove(0);
    let plan = bundle.join("plan.json");
    let text = fs::read_to_string(&plan).expect("a plan").replace("9999-12-31", "2019-12-31");
    fs::write(&plan, text).expect("written");
    fs::write(bundle.join("started"), "2019-12-31T23:59:59Z fake\n").expect("written");
    let replayed = xenlab_tests::run([std::ffi::OsStr::new("replay"), bundle.as_os_str()]);
    assert!(replayed.stdout.contains("FAIL console.missing, expected"), "{}", replayed.stdout);
    fs::write(bundle.join("started"), "2020-01-01T00:00:00Z fake\n").expect("written");
    let replayed = xenlab_tests::run([std::ffi::OsStr::new("replay"), bundle.as_os_str()]);
    assert!(replayed.stdout.contains("counts no more"), "{}", replayed.stdout);
    assert!(replayed.stdout.contains("differs from the record: expectation"), "{}", replayed.stdout);
    known.bench.clean();
}

/// Broken on purpose: an entry about another machine.
#[test]
fn under_another_accelerator_or_qemu_it_does_not_apply() {
    let known = Known::new();
    for when in [
        "{machine.accel: kvm}",
        "{machine.accel: tcg, qemu.version: {at-least: 99.0}}",
        "{machine.accel: tcg, arch: aarch64}",
        // Nobody knows.
        "{vars.flavour: strange}",
        "{machine.cpu: {not: max}}",
    ] {
        let did = known.run(FAILS, &fails(&format!(", when: {when}")));
        assert_eq!((did.code, known.expected()), (Some(1), Value::Null), "{when}: {}", did.stderr);
    }
    known.bench.clean();
}

/// Good: the scenario names the file; others of the run count as ever.
#[test]
fn a_scenario_names_its_own() {
    let known = Known::new();
    known.bench.file("own.yaml", &file(&fails("").replace("case: fake", "case: 'fake[vars.n=1]'")));
    let scenario =
        fake(FAILS).replace("steps:\n", "expectations: own.yaml\nmatrix: {vars.n: ['1', '2']}\nsteps:\n");
    let did = known.run_with(&scenario, &fails(""), &[]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    assert!(did.stderr.contains("2 cases: 1 failed as expected, 1 failed"), "{}", did.stderr);
    let did = known.run_with(&scenario, &fails(""), &["--case", "fake[vars.n=1] @ debian:bookworm"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    known.bench.clean();
}

/// A failure that was expected is put on nobody: on a clone it is believed as it stands. Any other is seen from power-on first.
#[test]
fn on_a_clone_it_is_believed_at_once() {
    let cold = Cold::new();
    let text = warm("  - run: {script: exit 3}\n");
    let known = |cause: &str| {
        cold.bench.file(
            "known.yaml",
            &file(&format!("case: warm, verdict: fail, cause: {cause}, because: it is so")),
        )
    };
    let run = |cause: &str| {
        let file = known(cause);
        cold.run_with(&text, &["--no-control", "--expectations", &file])
    };
    let again = |did: &Did| did.stderr.contains("once more from power-on");
    let did = run("check.failed");
    assert_eq!((did.code, again(&did)), (Some(0), false), "{}", did.stderr);
    assert_eq!(cold.origin(), "clone");
    xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
    let did = run("xen.panic");
    assert_eq!((did.code, again(&did)), (Some(1), true), "{}", did.stderr);
    assert_eq!(cold.case()["expected"]["kind"], "differs", "after it was settled, too");
    xenlab_tests::replay_agrees(&cold.bench.report()).expect("judged alike from the bundle");
    let plan = xenlab_tests::bundles(&cold.bench.report());
    let of = plan.iter().find(|b| !b.display().to_string().contains("template")).expect("a bundle");
    assert_eq!(read(&of.join("plan.json")).expect("a plan")["expectations"][0]["cause"], "xen.panic");
    cold.bench.clean();
}
