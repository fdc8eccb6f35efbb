//! Two runs compared by the commands for it, over machines that play a script.

use crate::bench::{Bench, boots, fake};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use xenlab_tests::Did;

/// Passes by what the machine writes, under one title.
fn steps(line: &str) -> String {
    fake(&format!(
        "  - name: 3. it is said\n    console: {{of: xen, has: ['{line}']}}\n    within: 1s\n  - phase: dom0-ready\n"
    ))
}

/// A machine that boots as always and says a word more.
fn boots_saying(line: &str) -> Value {
    let mut all = boots();
    all.insert(1, json!({"write": format!("(XEN) {line}\r\n")}));
    json!(all)
}

/// A machine whose Xen dies.
fn panics() -> Value {
    json!([
        {"write": "(XEN) Xen version 4.17.5 (Debian 4.17.5) (gcc) debug=n\r\n"},
        {"write": "(XEN) \r\n(XEN) ****************************************\r\n(XEN) Panic on CPU 0:\r\n(XEN) nothing works\r\n(XEN) ****************************************\r\n"},
    ])
}

/// A recorded run of a machine that says `line`, kept under `name`.
fn recorded(bench: &Bench, name: &str, line: &str) -> String {
    let qemu = bench.qemu(&format!("qemu-{name}"), boots_saying(line));
    let _ = fs::remove_dir_all(bench.report());
    let did = bench.run(&steps("all is well"), &["--qemu", &qemu, "--offline", "--no-control"]);
    assert!(matches!(did.code, Some(0 | 1)), "{}", did.stderr);
    let kept = bench.path(name);
    fs::rename(bench.report(), &kept).expect("the report is moved");
    kept.display().to_string()
}

fn command(bench: &Bench, args: &[&str]) -> Did {
    xenlab_tests::finish(bench.command(args))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Good, and unusual: the same again, something lost, something gained.
#[test]
fn what_got_worse_is_told_and_exits_1() {
    let bench = Bench::new();
    let good = recorded(&bench, "good", "all is well");
    let again = recorded(&bench, "again", "all is well");
    let bad = recorded(&bench, "bad", "all is lost: error 17");

    let did = command(&bench, &["diff", &good, &again]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(
        did.stdout.starts_with("debian:bookworm -> ") || did.stdout.contains("cases: 1 same; checks:"),
        "{}",
        did.stdout
    );

    let did = command(&bench, &["diff", &good, &bad]);
    assert_eq!(did.code, Some(1), "{}{}", did.stdout, did.stderr);
    for says in [
        "regression",
        "3. it is said: has all is well: pass -> fail",
        "console.missing",
        "all is lost: error 17",
    ] {
        assert!(did.stdout.contains(says), "{says}: {}", did.stdout);
    }
    let did = command(&bench, &["diff", &bad, &good, "--markdown"]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(did.stdout.contains("| fixed | fake |"), "{}", did.stdout);

    let did = command(&bench, &["diff", &bad, &bad, "--json"]);
    assert_eq!(did.code, Some(0), "it failed before too: {}", did.stdout);
    let compared: Value = serde_json::from_str(&did.stdout).expect("JSON alone on stdout");
    let classes: Vec<&Value> =
        compared["items"].as_array().expect("items").iter().map(|i| &i["class"]).collect();
    assert!(classes.contains(&&json!("failed-before")), "{classes:?}");
    bench.clean();
}

/// Bad: what is no run.
#[test]
fn what_is_no_run_is_bad_input() {
    let bench = Bench::new();
    let empty = bench.path("empty");
    fs::create_dir(&empty).expect("a folder");
    let empty = empty.display().to_string();
    for (args, says) in [
        (vec!["diff", "/nonexistent", "/nonexistent"], "No such file"),
        (vec!["diff", &empty, &empty], "no case is recorded there"),
        (vec!["bump", "debian:bookworm", "nothing"], "does not name a Xen build"),
        (vec!["bump", "debian:bookworm", "file:/nonexistent/xen"], "there is no /nonexistent/xen"),
    ] {
        let did = command(&bench, &args);
        assert_eq!(did.code, Some(2), "{args:?}: {}", did.stderr);
        assert!(did.stderr.contains(says), "{says}: {}", did.stderr);
    }
    bench.clean();
}

/// A bump with a scenario of one's own, on machines that say this.
fn bump(bench: &Bench, then: Value) -> Did {
    let qemu = bench.qemu("qemu-bump", then);
    let scenario = bench.file("bump.yaml", &steps("all is well"));
    let report = bench.report().display().to_string();
    let common =
        ["bump", "debian:bookworm", "debian:bookworm", "--arch", "x86_64", "--offline", "--no-control"];
    let own = ["--scenario", &scenario, "--report", &report, "--qemu", &qemu];
    command(bench, &[&common[..], &own[..]].concat())
}

#[test]
fn a_bump_to_the_same_build_is_the_same_everywhere() {
    let bench = Bench::new();
    let did = bump(&bench, boots_saying("all is well"));
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    let first = did.stdout.lines().next().unwrap_or_default();
    assert!(
        first.starts_with("**1 of 14 points done; 13 not checked.** Nothing that was checked"),
        "{first}"
    );
    // Nothing differs: there is no row of a table.
    assert!(!did.stdout.contains("| changed |") && !did.stdout.contains("| new |"), "{}", did.stdout);
    assert_eq!(read(&bench.report().join("bump.md")), did.stdout);
    let json: Value = serde_json::from_str(&read(&bench.report().join("bump.json"))).expect("JSON");
    assert_eq!(json["points"].as_array().map(Vec::len), Some(14));
    for side in ["old", "new"] {
        assert!(bench.report().join(side).join("junit.xml").is_file());
    }
    bench.clean();
}

/// Bad: neither boots. That the old one did not either is no excuse.
#[test]
fn a_new_xen_that_does_not_boot_fails_whatever_the_old_one_did() {
    let bench = Bench::new();
    let did = bump(&bench, panics());
    assert_eq!(did.code, Some(1), "{}{}", did.stdout, did.stderr);
    assert!(did.stdout.contains("- **fails**: dom0 boots"), "{}", did.stdout);
    assert!(did.stdout.contains("failed before too"), "{}", did.stdout);
    bench.clean();
}
