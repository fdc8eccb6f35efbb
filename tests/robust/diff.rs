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

/// Good: every run is in the history, which tells what failed before from what never passed. Bad: a history that is none stops no run.
#[test]
fn every_run_is_in_the_history() {
    let bench = Bench::new();
    let did = command(&bench, &["history"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stdout.starts_with("nothing is recorded in "), "{}", did.stdout);
    let bad = recorded(&bench, "bad", "all is lost");
    let again = recorded(&bench, "again", "all is lost");
    // Both of these are compared, so nothing is known of before.
    let did = command(&bench, &["diff", &bad, &again]);
    assert!(did.stdout.contains("failed before too"), "{}", did.stdout);
    recorded(&bench, "before", "all is lost");
    let did = command(&bench, &["diff", &bad, &again]);
    assert!(did.stdout.contains("never passed") && !did.stdout.contains("failed before"), "{}", did.stdout);
    recorded(&bench, "good", "all is well");
    let did = command(&bench, &["diff", &bad, &again]);
    assert!(did.stdout.contains("failed before too"), "{}", did.stdout);

    let did = command(&bench, &["history"]);
    assert!(did.stdout.contains("fake @ debian:bookworm: 1 passed, 3 failed"), "{}", did.stdout);
    let did = command(&bench, &["history", "fake"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stdout.contains("[console.missing]"), "{}", did.stdout);
    assert!(did.stdout.contains("debian:bookworm: passed 1 of 4 judged: flaky"), "{}", did.stdout);
    let did = command(&bench, &["history", "fake", "--json", "-n", "2"]);
    let told: Value = serde_json::from_str(&did.stdout).expect("JSON alone on stdout");
    assert_eq!(told.as_array().map(Vec::len), Some(2));
    assert_eq!(told[0]["verdict"], "pass", "the latest comes first: {told:#}");
    assert_eq!(command(&bench, &["history", "another"]).code, Some(2));

    fs::write(
        bench.path("history.sqlite3"),
        "this is no database, and long enough to be looked at\n".repeat(99),
    )
    .expect("spoilt");
    let qemu = bench.qemu("qemu-spoilt", boots_saying("all is well"));
    let did = bench.run(&steps("all is well"), &["--qemu", &qemu, "--offline", "--no-control"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    assert!(did.stderr.contains("this run is not in the history"), "{}", did.stderr);
    assert_eq!(command(&bench, &["history"]).code, Some(3));
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
    bump_with(bench, then, &[])
}

/// The same with more words on its command line.
fn bump_with(bench: &Bench, then: Value, more: &[&str]) -> Did {
    let qemu = bench.qemu("qemu-bump", then);
    let scenario = bench.file("bump.yaml", &steps("all is well"));
    let report = bench.report().display().to_string();
    let common =
        ["bump", "debian:bookworm", "debian:bookworm", "--arch", "x86_64", "--offline", "--no-control"];
    let own = ["--scenario", &scenario, "--report", &report, "--qemu", &qemu];
    command(bench, &[&common[..], &own[..], more].concat())
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
    // The new side of one bump is the old one of the next: it is not run again, and says the same.
    let before = bench.path("before").display().to_string();
    fs::rename(bench.report().join("new"), &before).expect("moved");
    let again = bump_with(&bench, boots_saying("all is well"), &["--old-run", &before]);
    assert_eq!((again.code, &again.stdout), (Some(0), &did.stdout), "{}", again.stderr);
    assert!(
        again.stderr.contains("1 cases on the old build, debian:bookworm, were run before"),
        "{}",
        again.stderr
    );
    assert!(!bench.report().join("old/bundles").exists(), "what an earlier bump left is gone");
    // One that says something else than what was recorded then is seen.
    let worse = bump_with(&bench, boots_saying("all is lost"), &["--old-run", &before]);
    assert_eq!(worse.code, Some(1), "{}{}", worse.stdout, worse.stderr);
    let inside = bench.report().join("new").display().to_string();
    let inputs = crate::bench::below(Path::new(&before)).into_iter().find(|p| p.ends_with("inputs.json"));
    let inputs = inputs.expect("a bundle has what went in");
    let text = read(&inputs);
    let id = text
        .split("\"build.build-id\"")
        .nth(1)
        .and_then(|t| t.split('"').find(|t| t.len() >= 32))
        .expect("an id");
    fs::write(&inputs, text.replace(id, "00000000000000000000000000000000")).expect("written");
    for (dir, says) in [
        (before.as_str(), "is another build than it is now: build-id 00000000000000000000000000000000, now"),
        (inside.as_str(), "which this bump writes anew"),
        ("/nonexistent", "/nonexistent"),
    ] {
        let did = bump_with(&bench, boots_saying("all is well"), &["--old-run", dir]);
        assert_eq!(did.code, Some(2), "{dir}: {}", did.stderr);
        assert!(did.stderr.contains(says), "{dir}: {}", did.stderr);
    }
    bench.clean();
}

/// A QEMU that plays one script until it has been started so often, then another.
fn turning(bench: &Bench, name: &str, first: u32, then: (Value, Value)) -> String {
    let (a, b) = (bench.qemu(&format!("{name}-a"), then.0), bench.qemu(&format!("{name}-b"), then.1));
    let count = bench.path(&format!("{name}.count")).display().to_string();
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *-kernel*) echo x >> {count};; *) exec {a} \"$@\";; esac\n\
         if [ $(wc -l < {count}) -le {first} ]; then exec {a} \"$@\"; fi\nexec {b} \"$@\"\n"
    );
    let path = bench.path(name);
    crate::bench::write_executable(&path, &text);
    path.display().to_string()
}

/// Unusual: what comes out otherwise the second time is looked at once more; that it was the host's is told and does not count.
#[test]
fn what_fails_once_is_flaky_and_does_not_count() {
    let bench = Bench::new();
    let (good, bad) = (boots_saying("all is well"), boots_saying("all is lost"));
    let scenario = bench.file("bump.yaml", &steps("all is well"));
    let bump = |qemu: &str, more: &[&str]| {
        let report = bench.report().display().to_string();
        let common =
            ["bump", "debian:bookworm", "debian:bookworm", "--arch", "x86_64", "--offline", "--no-control"];
        let own = ["--scenario", &scenario, "--report", &report, "--qemu", qemu];
        command(&bench, &[&common[..], &own[..], more].concat())
    };
    // The old one fails, the new one passes, and the old one passes the second time.
    let qemu = turning(&bench, "once", 1, (bad.clone(), good.clone()));
    let did = bump(&qemu, &[]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(did.stdout.contains("| flaky | fake |") && did.stdout.contains("fail 1/2"), "{}", did.stdout);
    assert!(bench.report().join("old/again/bundles").is_dir());
    // From then on the new one fails every time.
    let qemu = turning(&bench, "ever", 1, (good, bad));
    let did = bump(&qemu, &[]);
    assert_eq!(did.code, Some(1), "{}{}", did.stdout, did.stderr);
    assert!(
        did.stdout.contains("| **regression** | fake |") && did.stdout.contains("fail 2/2"),
        "{}",
        did.stdout
    );
    assert!(!bench.report().join("old/again").exists(), "what an earlier bump left is gone");
    // The same is said of what was recorded, without a machine.
    let again = bump("/nonexistent/qemu", &["--recorded"]);
    assert_eq!((again.code, again.stdout), (Some(1), did.stdout));
    bench.clean();
}

/// Good: the same cases several times over.
#[test]
fn repeated_runs_are_counted() {
    let bench = Bench::new();
    let qemu = turning(&bench, "turning", 2, (boots_saying("all is well"), boots_saying("all is lost")));
    let did =
        bench.run(&steps("all is well"), &["--qemu", &qemu, "--offline", "--no-control", "--repeat", "3"]);
    assert_eq!(did.code, Some(1), "{}", did.stderr);
    assert!(did.stdout.contains("fake @ debian:bookworm: passed 2 of 3, failed 1: flaky"), "{}", did.stdout);
    assert!(did.stdout.contains("3. it is said: has all is well: failed 1 of 3"), "{}", did.stdout);
    assert!(bench.report().join("3/junit.xml").is_file());
    // As one side of a comparison they are one.
    let report = bench.report().display().to_string();
    let did = command(&bench, &["diff", &report, &report]);
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    assert!(did.stdout.contains("1 flaky"), "{}", did.stdout);
    assert_eq!(command(&bench, &["run", "--repeat", "0"]).code, Some(2));
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

/// A real build's files, copied.
fn copy_of_a_build(to: &Path) {
    let did = xenlab_tests::run(["inspect", "debian:bookworm", "--arch", "x86_64", "--json"]);
    assert_eq!(did.code, Some(0), "{}", did.stderr);
    let described: Value = serde_json::from_str(&did.stdout).expect("JSON alone on stdout");
    let root = described[0]["tools"]["root"].as_str().expect("the build has tools");
    let status = std::process::Command::new("cp").arg("-a").arg(root).arg(to).status().expect("cp starts");
    assert!(status.success());
}

/// The only file below `dir` with such a name.
fn file_named(dir: &Path, is: impl Fn(&str) -> bool) -> std::path::PathBuf {
    let mut all = crate::bench::below(dir);
    all.retain(|p| !p.is_symlink() && is(&p.file_name().unwrap_or_default().to_string_lossy()));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

/// Replaces text in a file by text of the same length: in a library that moves nothing.
fn patch(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let bytes = fs::read(path).expect("a file");
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes()).expect("the text is in it");
    let mut patched = bytes.clone();
    patched[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::remove_file(path).expect("replaced");
    fs::write(path, patched).expect("replaced");
}

/// Unusual: copies of a real build with one thing altered in each. What was altered is named, and nothing else.
#[test]
fn what_was_altered_in_a_build_is_named() {
    let bench = Bench::new();
    let qemu = bench.qemu("qemu-altered", boots_saying("all is well"));
    let steps = "  - name: 1. development files\n    pkg-config: {modules: all}\n  - name: 2. boot files\n    boot-files: {layout: auto}\n  - phase: dom0-ready\n";
    let scenario = bench.file("altered.yaml", &fake(steps));
    let (old, new) = (bench.path("old-build"), bench.path("new-build"));
    copy_of_a_build(&old);
    let bump = |code: i32, rows: &[&str]| {
        let (old, new) = (format!("dir:{}", old.display()), format!("dir:{}", new.display()));
        let args =
            ["bump", &old, &new, "--arch", "x86_64", "--offline", "--no-control", "--scenario", &scenario];
        let report = bench.report().display().to_string();
        let _ = fs::remove_dir_all(&report);
        let did = command(&bench, &[&args[..], &["--report", &report, "--qemu", &qemu]].concat());
        assert_eq!(did.code, Some(code), "{}{}", did.stdout, did.stderr);
        let differs = did.stdout.split("### What differs").nth(1).expect("the part");
        let told: Vec<&str> =
            differs.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| verdict")).collect();
        assert_eq!(told.len(), rows.len(), "{differs}");
        for row in rows {
            assert!(told.iter().any(|t| t.starts_with(row)), "{row} is not in\n{differs}");
        }
        did.stdout
    };
    let altered = |alter: &dyn Fn(&Path)| {
        let _ = fs::remove_dir_all(&new);
        copy_of_a_build(&new);
        alter(&new);
    };

    altered(&|_| {});
    bump(0, &[]);

    altered(&|dir| fs::remove_file(file_named(&dir.join("boot"), |n| n.ends_with(".efi"))).expect("removed"));
    let page = bump(
        1,
        &[
            "| **regression** | files in boot/: boot/xen-BRANCH-amd64.efi | `boot/xen-4.17-amd64.efi (pe)` | — |",
            "| **regression** | parts of the build: EFI image | `yes` | — |",
            "| not checked | version: build-id of the EFI image |",
            "| changed | sizes, in bytes: EFI image |",
        ],
    );
    assert!(page.contains("- [ ] 2. Boot files: **fails**"), "{page}");

    altered(&|dir| patch(&file_named(dir, |n| n == "xencall.pc"), "Version: 1.3", "Version: 1.4"));
    let page = bump(1, &["| changed | pkg-config modules: xencall | `1.3, .so.1` | `1.4, .so.1` |"]);
    assert!(page.contains("- **fails**: pkg-config: fake: xencall.pc"), "{page}");

    let library = |n: &str| n.starts_with("libxenforeignmemory.so.1.");
    altered(&|dir| {
        patch(&file_named(dir, library), "\0xenforeignmemory_unmap\0", "\0xenforeignmemory_unmop\0")
    });
    bump(
        1,
        &[
            "| **regression** | symbols of libxenforeignmemory.so.1: xenforeignmemory_unmap | `yes` | — | gone from a stable",
            "| new | symbols of libxenforeignmemory.so.1: xenforeignmemory_unmop | — | `yes` |",
        ],
    );
    bench.clean();
}

/// Good, on a real Xen: a tree of XTF that is named is run on both sides, and is the eleventh point.
#[test]
fn instances_of_xtf_are_the_eleventh_point() {
    let bench = Bench::new();
    crate::bench::user_store();
    let tree = bench.path("tree");
    xenlab_tests::xtf::tree(&tree, &["SUCCESS", "SKIP", "FAILURE"], &["pv64"]);
    let scenario = bench.file(
        "boot.yaml",
        "xenlab: 1\nname: boot\nxen: debian:bookworm\narch: x86_64\nsteps:\n  - phase: dom0-ready\n",
    );
    let (tree, report) = (tree.display().to_string(), bench.report().display().to_string());
    let args = ["bump", "debian:bookworm", "debian:bookworm", "--arch", "x86_64", "--scenario", &scenario];
    let did = command(&bench, &[&args[..], &["--xtf", &tree, "--report", &report]].concat());
    // What fails on both is no regression, and is told as what it is.
    assert_eq!(did.code, Some(0), "{}{}", did.stdout, did.stderr);
    let point = did.stdout.lines().find(|l| l.contains("11. XTF")).unwrap_or_default();
    assert!(point.starts_with("- [ ] 11. XTF: **fails**: test-pv64-failure: "), "{point}");
    assert!(
        did.stdout.contains("| failed before too | xtf[vars.test=test-pv64-failure] |"),
        "{}",
        did.stdout
    );
    assert!(did.stdout.contains("| not checked | xtf[vars.test=test-pv64-skip] |"), "{}", did.stdout);
    // How long an instance takes is no milestone of a boot.
    assert!(!did.stdout.contains("| xtf[vars.test=test-pv64-success] | xen "), "{}", did.stdout);
    bench.clean();
}
