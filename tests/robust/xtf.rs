//! XTF instances on a real Xen: each way to end costs only the instance that ends so, and has its own word.

use crate::bench::{Bench, user_store};
use serde_json::Value;
use xenlab_tests::xtf::{ENDS, tree};

/// How each of [`ENDS`] is to be called: the word, the verdict, the cause.
fn expected(end: &str, run_as: &str) -> (&'static str, &'static str, Value) {
    match end {
        "SUCCESS" => ("success", "pass", Value::Null),
        "WARNINGS" => ("success-with-warnings", "pass", Value::Null),
        "SKIP" => ("skip", "skip", Value::Null),
        "ERROR" => ("error", "fail", "xtf.error".into()),
        "FAILURE" => ("failure", "fail", "xtf.failure".into()),
        "SILENT" | "AFTER" | "CRASH" => ("crash", "fail", "xtf.crash".into()),
        "HANG" => ("timeout", "fail", "xtf.timeout".into()),
        // Xen itself; with a domain, dom0, which is as much the end of the host.
        _ => (
            "host-crash",
            "fail",
            if run_as == "dom0" { "xen.panic".into() } else { "dom0.asked-to-crash".into() },
        ),
    }
}

fn scenario(tree: &str, run_as: &str, watcher: &str) -> String {
    of_machine(tree, run_as, watcher, "")
}

/// `machine` are lines of the file's own level.
fn of_machine(tree: &str, run_as: &str, watcher: &str, machine: &str) -> String {
    format!(
        "\
xenlab: 1
name: ends
{machine}matrix:
  vars.test:
    xtf: {{tree: '{tree}', category: all}}
arch: x86_64
xen: {{build: debian:bookworm, args: [bootscrub=0, nmi=fatal]}}
steps:
{watcher}  - xtf: {{tree: '{tree}', test: '${{vars.test}}', run-as: {run_as}}}
    within: 12s
"
    )
}

/// Every instance came to what it should, and the others were not touched by it.
fn judged(bench: &Bench, stderr: &str, ends: &[&str], run_as: &str) {
    judged_in("pv64", bench, stderr, ends, run_as);
}

fn judged_in(environment: &str, bench: &Bench, stderr: &str, ends: &[&str], run_as: &str) {
    for end in ends {
        let name = format!("test-{environment}-{}", end.to_lowercase());
        let verdict = bench.verdict(&format!("{name}_"));
        let (outcome, word, cause) = expected(end, run_as);
        let seen = (&verdict["xtf"]["outcome"], &verdict["verdict"], &verdict["cause"]);
        assert_eq!(seen, (&outcome.into(), &word.into(), &cause), "{name}: {verdict}\n{stderr}");
        assert_eq!(verdict["xtf"]["environment"], environment);
    }
}

/// As dom0 straight on Xen, where a guest that crashes takes no host with it that anybody else is on.
#[test]
fn every_end_as_dom0() {
    let bench = Bench::new();
    user_store();
    let dir = tempfile::tempdir().expect("a folder for the tree");
    let root = dir.path().display().to_string();
    tree(dir.path(), &ENDS, &["pv64"]);
    let did = bench.run(&scenario(&root, "dom0", ""), &["-j2"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    judged(&bench, &did.stderr, &ENDS, "dom0");
    let summary = std::fs::read_to_string(bench.report().join("summary.md")).expect("a summary");
    let table: Vec<&str> = summary.lines().skip_while(|l| !l.starts_with("| category")).take(5).collect();
    assert_eq!(
        table,
        [
            "| category | environment | SUCCESS | SUCCESS with warnings | SKIP | ERROR | FAILURE | CRASH | HOST CRASH | TIMEOUT |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            "| functional | pv64 | 1 | 1 | 1 | 1 |  |  |  |  |",
            "| xsa | pv64 |  |  |  |  | 1 | 3 | 1 | 1 |",
            "| **all** | | **1** | **1** | **1** | **1** | **1** | **3** | **1** | **1** |",
        ],
        "{summary}"
    );
    bench.clean();
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
}

/// dom0's part in taking the host down: a domain that may not waits until it is done for it.
const WATCHER: &str = "  - when: {vars.test: test-pv64-host}
    run: |
      log=/var/log/xen/console/guest-test-pv64-host.log
      (until grep -q 'take the host down' $log 2>/dev/null; do sleep 0.1; done; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &
";

/// What is expected blames nobody, so it is believed at once.
const EXPECTED: &str = "xenlab-expectations: 1
expect:
  - {case: 'ends[vars.test=test-pv64-after]', verdict: fail, cause: xtf.crash, because: it goes on talking}
  - {case: 'ends[vars.test=test-pv64-crash]', verdict: fail, cause: xtf.crash, because: it is made to}
  - {case: 'ends[vars.test=test-pv64-hang]', verdict: fail, cause: xtf.timeout, because: it is made to}
";

/// As domains that dom0 makes. The one that is to take the host down has dom0 do it, and as nobody expects that it is done once more
/// from power-on.
#[test]
fn every_end_as_a_domain() {
    const THESE: [&str; 5] = ["SUCCESS", "AFTER", "CRASH", "HANG", "HOST"];
    let bench = Bench::new();
    user_store();
    let dir = tempfile::tempdir().expect("a folder for the tree");
    let root = dir.path().display().to_string();
    tree(dir.path(), &THESE, &["pv64"]);
    let expected = dir.path().join("expected.yaml");
    std::fs::write(&expected, EXPECTED).expect("a file");
    let expected = expected.display().to_string();
    let did = bench.run(&scenario(&root, "domU", WATCHER), &["-j2", "--expectations", &expected]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    judged(&bench, &did.stderr, &THESE, "domU");
    for end in &THESE[1..] {
        let of = bench.verdict(&format!("test-pv64-{}_", end.to_lowercase()));
        assert_eq!(
            of["expected"]["kind"],
            if *end == "HOST" { Value::Null } else { "as-expected".into() },
            "{of}"
        );
    }
    bench.clean();
    xenlab_tests::replay_agrees(&bench.report()).expect("judged alike from the bundle");
}

/// As an HVM guest, in place of its firmware, with Debian's device model.
#[test]
fn ends_as_an_hvm_guest() {
    const THESE: [&str; 3] = ["SUCCESS", "CRASH", "HANG"];
    let bench = Bench::new();
    user_store();
    let dir = tempfile::tempdir().expect("a folder for the tree");
    let root = dir.path().display().to_string();
    tree(dir.path(), &THESE, &["hvm32"]);
    let expected = dir.path().join("expected.yaml");
    std::fs::write(&expected, EXPECTED.replace("pv64", "hvm32")).expect("a file");
    let expected = expected.display().to_string();
    let scenario = of_machine(&root, "domU", "", "dom0: {device-model: debian}\n");
    let did = bench.run(&scenario, &["-j2", "--expectations", &expected]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    judged_in("hvm32", &bench, &did.stderr, &THESE, "domU");
    bench.clean();
}
