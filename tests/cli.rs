//! The command line without a machine: bad input, selection, exit codes. Each is what a user could type.

use std::fs;
use std::path::Path;
use tempfile::TempDir;
use xenlab_tests::{Did, run};

fn scenario(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("s.yaml");
    fs::write(&path, text).expect("a temporary file can be written");
    path.display().to_string()
}

fn says(did: &Did, code: i32, words: &[&str]) {
    let all = format!("{}{}", did.stdout, did.stderr);
    assert_eq!(did.code, Some(code), "{all}");
    for word in words {
        assert!(all.contains(word), "`{word}` is not in:\n{all}");
    }
}

const GOOD: &str = "xenlab: 1\nname: t\nxen: debian:bookworm\narch: x86_64\nsteps:\n  - phase: dom0-ready\n";

#[test]
fn the_shipped_scenario_lists_both_architectures() {
    let did = run(["list"]);
    says(&did, 0, &["dom0-boot[arch=x86_64] @ debian:bookworm", "dom0-boot[arch=aarch64] @ debian:bookworm"]);
    let did = run(["list", "--json"]);
    let cases: serde_json::Value = serde_json::from_str(&did.stdout).expect("JSON alone on stdout");
    assert_eq!(cases.as_array().map(Vec::len), Some(2));
}

#[test]
fn every_shipped_scenario_is_valid() {
    let dir = xenlab_tests::root().join("scenarios");
    let files: Vec<String> = fs::read_dir(dir)
        .expect("scenarios/ is there")
        .flatten()
        .map(|e| e.path().display().to_string())
        .filter(|p| p.ends_with(".yaml"))
        .collect();
    assert!(!files.is_empty());
    // One is about a tree that the user has.
    let (of_a_tree, files): (Vec<String>, Vec<String>) =
        files.into_iter().partition(|f| f.ends_with("/xtf.yaml"));
    assert_eq!(of_a_tree.len(), 1);
    let mut args = vec!["validate".to_owned()];
    args.extend(files);
    says(&run(args), 0, &["all good"]);
    let tree = tempfile::tempdir().expect("a folder for the tree");
    xenlab_tests::xtf::tree(tree.path(), &["SUCCESS"], &["pv64"]);
    let given = format!("vars.tree={}", tree.path().display());
    says(&run(["validate", &of_a_tree[0], "--set", &given]), 0, &["all good"]);
    says(&run(["validate", &of_a_tree[0]]), 2, &["`tree` has no value", "--set vars.tree=VALUE"]);
}

/// What is asked of an XTF tree, and each thing that can be wrong with it, before anything boots.
#[test]
fn instances_of_a_tree() {
    let dir = tempfile::tempdir().expect("a folder for the tree");
    xenlab_tests::xtf::tree(dir.path(), &["SUCCESS", "SKIP", "ERROR", "FAILURE", "SILENT"], &["pv64"]);
    let tree = dir.path().to_str().expect("UTF-8");
    let listed = |words: &[&str]| {
        let did = run(["xtf", tree, "--list"].iter().chain(words));
        assert_eq!(did.code, Some(0), "{}", did.stderr);
        did.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = ["error", "failure", "silent", "skip", "success"].map(|t| format!("test-pv64-{t}"));
    assert_eq!(listed(&[]), all);
    assert_eq!(listed(&["--category", "xsa", "--environment", "pv"]), ["test-pv64-silent"]);
    assert_eq!(listed(&["--test", "skip,pv64-error"]), ["test-pv64-error", "test-pv64-skip"]);
    let wrong: [(&[&str], &[&str]); 6] = [
        (
            &["--environment", "pv65"],
            &["--environment: no test of this tree has the environment `pv65`", "`pv64`"],
        ),
        (&["--test", "succes"], &["no test or instance `succes`", "did you mean `success`"]),
        (
            &["--category", "special"],
            &["no test of this tree is of the category `special`", "functional, xsa, all"],
        ),
        (&["--arch", "aarch64"], &["this tree has no tests for aarch64: its environments are pv64"]),
        (&["--category", "xsa", "--test", "error"], &["no instance of the tree is left"]),
        (&["--as", "dom1"], &["domU"]),
    ];
    for (words, told) in wrong {
        says(&run(["xtf", tree].iter().chain(words)), 2, told);
    }
    says(&run(["xtf", "/nowhere"]), 2, &["/nowhere is no XTF tree", "tests/NAME/info.json"]);
    fs::remove_file(dir.path().join("tests/skip/test-pv64-skip")).expect("it was there");
    std::fs::write(dir.path().join("tests/error/info.json"), "{").expect("a file");
    says(&run(["xtf", tree, "--list"]), 2, &["tests/error/info.json: "]);
}

#[test]
fn axes_from_the_command_line_multiply() {
    let did = run(["list", "--xen", "debian:bookworm", "--xen", "debian:trixie"]);
    says(&did, 0, &["[arch=x86_64] @ debian:trixie", "[arch=aarch64] @ debian:bookworm"]);
    assert_eq!(did.stdout.lines().filter(|l| l.contains('@')).count(), 4);
    let did =
        run(["list", "--set", "dom0.userland=minimal", "--set", "dom0.userland=systemd", "--arch", "x86_64"]);
    says(&did, 0, &["dom0.userland=minimal", "dom0.userland=systemd"]);
}

#[test]
fn shards_are_a_partition() {
    let all = ["--xen", "debian:bookworm", "--xen", "debian:trixie"];
    let mut seen = Vec::new();
    for k in 1..=3 {
        let mut args = vec!["list".to_owned(), "--shard".into(), format!("{k}/3")];
        args.extend(all.map(str::to_owned));
        seen.extend(run(args).stdout.lines().map(str::to_owned));
    }
    let mut args = vec!["list".to_owned()];
    args.extend(all.map(str::to_owned));
    let mut whole: Vec<String> = run(args).stdout.lines().map(str::to_owned).collect();
    seen.sort();
    whole.sort();
    assert_eq!(seen, whole);
}

#[test]
fn bad_command_lines_exit_2_and_say_what_was_expected() {
    for (args, words) in [
        (vec!["run", "--shard", "4/3"], vec!["K/N"]),
        (vec!["run", "--case", "nothing-like-it"], vec!["no case is called", "dom0-boot[arch=x86_64]"]),
        (vec!["run", "--arch", "arm64"], vec!["aarch64", "command line, argument"]),
        (vec!["run", "--arch", "riscv64"], vec!["x86_64", "aarch64"]),
        (vec!["run", "--xen", "trixie"], vec!["debian:SUITE"]),
        (vec!["run", "--xen", "debain:trixie"], vec!["debian:"]),
        (vec!["run", "--set", "dom0.userlnad=minimal"], vec!["dom0.userland"]),
        (vec!["run", "--set", "dom0.memory"], vec!["PATH=VALUE"]),
        (vec!["run", "--set", "dom0.memory=lots"], vec!["1G"]),
        (vec!["run", "no-such-file.yaml"], vec!["no-such-file.yaml"]),
        (vec!["run", "scenarios"], vec!["folder"]),
        (vec!["frobnicate"], vec!["frobnicate"]),
        (vec!["run", "--jobs", "many"], vec!["many"]),
        (vec!["replay", "/nonexistent"], vec!["not a bundle"]),
        (vec!["run", "--tag", "no-such-tag"], vec!["nothing is selected"]),
    ] {
        says(&run(&args), 2, &words);
    }
}

#[test]
fn bad_scenarios_exit_2_with_every_error_and_its_place() {
    let dir = TempDir::new().expect("a temporary folder");
    let file = scenario(
        &dir,
        "xenlab: 1\nname: t\nxen: debian:bookworm\narhc: x86_64\nmachine: {cpus: many}\nsteps:\n  - phaze: dom0-ready\n",
    );
    let did = run(["run", &file]);
    says(&did, 2, &["s.yaml:4", "arch", "s.yaml:5", "s.yaml:7", "phase"]);
}

fn expectations(dir: &TempDir, text: &str) -> String {
    let path = dir.path().join("e.yaml");
    fs::write(&path, text).expect("a temporary file can be written");
    path.display().to_string()
}

const KNOWN: &str = "xenlab-expectations: 1\nexpect:\n  - case: t\n    when: {machine.accel: tcg}\n    verdict: fail\n    \
                     cause: xen.panic\n    because: it is known\n    until: 2099-12-31\n";

#[test]
fn bad_expectations_exit_2_with_every_error_and_its_place() {
    let dir = TempDir::new().expect("a temporary folder");
    let file = scenario(&dir, GOOD);
    let bad = expectations(
        &dir,
        "xenlab-expectations: 1\nexpect:\n  - case: t\n    verdict: fail\n    cause: xen.panik\n    because: b\n    fault: emulator\n    \
         until: someday\n    wen: {arch: x86_64}\n",
    );
    for args in [vec!["run", &file, "--expectations", &bad], vec!["validate", &bad]] {
        let did = run(&args);
        let places = ["e.yaml:5:12", "e.yaml:7:12", "e.yaml:8:12", "e.yaml:9:5"];
        says(&did, 2, &places);
        says(&did, 2, &["xen.panic", "qemu.version", "2027-06-30", "did you mean `when`?"]);
        assert_eq!(did.stdout, "");
    }
    // What the scenario and the expectations have wrong is told together.
    let both = scenario(&dir, &GOOD.replace("arch:", "arhc:"));
    says(&run(["run", &both, "--expectations", &bad]), 2, &["s.yaml:4", "e.yaml:5:12"]);
    says(&run(["validate", &both, &bad]), 2, &["s.yaml:4", "e.yaml:5:12"]);
    says(
        &run(["run", "--expectations", "no-such-file.yaml"]),
        2,
        &["no-such-file.yaml", "a file of expectations"],
    );
    let good = expectations(&dir, KNOWN);
    says(&run(["run", &good]), 2, &["is a file of expectations, no scenario", "--expectations"]);
}

#[test]
fn a_scenario_names_its_expectations() {
    let dir = TempDir::new().expect("a temporary folder");
    let file = scenario(&dir, &GOOD.replace("arch:", "expectations: [e.yaml]\narch:"));
    // It is there beside the scenario, whatever the current folder is; and where it is not, who named it is said.
    says(&run(["validate", &file]), 2, &["s.yaml:4:16", "e.yaml", "a file of expectations"]);
    let known = expectations(&dir, KNOWN);
    says(&run(["validate", &file]), 0, &["1 scenario, 1 case: all good"]);
    says(&run(["validate", &file, &known]), 0, &["1 scenario, 1 case, 1 expectation: all good"]);
    says(&run(["validate", &known]), 0, &["1 expectation: all good"]);
    let did = run(["explain", "--offline", &file]);
    says(
        &did,
        0,
        &[
            "FAIL xen.panic, if it applies once known: machine.accel: it is known (until 2099-12-31)",
            "e.yaml:3:5",
        ],
    );
    let did = run(["explain", "--offline", &scenario(&dir, GOOD)]);
    assert!(!did.stdout.contains("it is known"), "{}", did.stdout);
    let did = run(["explain", "--offline", &scenario(&dir, GOOD), "--expectations", &known]);
    says(&did, 0, &["it is known"]);
    // Under another accelerator it is not expected.
    let kvm = scenario(&dir, &GOOD.replace("arch:", "machine: {accel: kvm}\narch:"));
    let did = run(["explain", "--offline", &kvm, "--expectations", &known]);
    assert!(!did.stdout.contains("it is known"), "{}", did.stdout);
}

#[test]
fn an_empty_matrix_axis_is_refused() {
    let dir = TempDir::new().expect("a temporary folder");
    let file = scenario(&dir, &GOOD.replace("arch: x86_64", "matrix: {arch: []}"));
    says(&run(["run", &file]), 2, &["s.yaml:4"]);
}

#[test]
fn versions_are_text() {
    let dir = TempDir::new().expect("a temporary folder");
    let file =
        scenario(&dir, &GOOD.replace("debian:bookworm", "{build: debian:bookworm, expect-version: 4.20}"));
    let did = run(["explain", "--offline", &file]);
    let all = format!("{}{}", did.stdout, did.stderr);
    assert!(!all.contains("4.2\n") && !all.contains("4.2 "), "{all}");
    assert!(all.contains("4.20"), "{all}");
}

#[test]
fn nothing_reaches_stdout_that_is_not_asked_for() {
    let did = run(["run", "--case", "nothing-like-it"]);
    assert_eq!(did.stdout, "");
}

#[test]
fn schema_facts_and_completions_print() {
    let schema: serde_json::Value = serde_json::from_str(&run(["schema"]).stdout).expect("a JSON Schema");
    assert!(schema.to_string().contains("xl-info"));
    let schema: serde_json::Value =
        serde_json::from_str(&run(["schema", "expectations"]).stdout).expect("a JSON Schema");
    assert!(schema.to_string().contains("passes-on") && !schema.to_string().contains("xl-info"));
    says(&run(["schema", "nonsense"]), 2, &["expectations"]);
    says(&run(["facts"]), 0, &["build.build-id", "dom0.userland"]);
    let facts: serde_json::Value = serde_json::from_str(&run(["facts", "--json"]).stdout).expect("JSON");
    assert!(facts["facts"].is_array() && facts["paths"].is_array());
    for shell in ["bash", "zsh", "fish"] {
        says(&run(["completions", shell]), 0, &["xenlab"]);
    }
}

#[test]
fn no_qemu_is_the_labs_error_and_names_the_package() {
    let did = run(["run", "--qemu", "/nonexistent/qemu", "--arch", "x86_64", "--offline"]);
    says(&did, 3, &["/nonexistent/qemu"]);
}

#[test]
fn offline_with_an_empty_store_says_what_is_missing() {
    let dir = TempDir::new().expect("a temporary folder");
    let store = dir.path().join("store");
    let did = run(["run", "--offline", "--arch", "x86_64", "--store", &store.display().to_string()]);
    says(&did, 3, &["offline"]);
}

#[test]
fn a_store_without_templates_says_how_one_comes_to_be() {
    let dir = TempDir::new().expect("a temporary folder");
    let store = dir.path().join("store").display().to_string();
    says(&run(["template", "ls", "--store", &store]), 0, &["no templates", &store, "xenlab run"]);
    assert_eq!(run(["template", "ls", "--json", "--store", &store]).stdout, "[]\n");
    says(&run(["template", "gc", "--store", &store]), 0, &["0 B freed, 0 B left"]);
    says(&run(["template", "gc", "--dry-run", "--days", "0", "--store", &store]), 0, &["0 templates"]);
    says(&run(["image", "gc", "--dry-run", "--store", &store]), 0, &["0 entries", "0 templates"]);
    says(&run(["template", "gc", "--days", "soon"]), 2, &["soon"]);
    says(&run(["bench", "warm", "-n", "0"]), 2, &["-n 0"]);
    let completions = run(["completions", "bash"]).stdout;
    assert!(completions.contains("xenlab__template__ls") || completions.contains("xenlab__subcmd__template"));
}

#[test]
fn a_store_that_cannot_be_written_is_said() {
    let dir = TempDir::new().expect("a temporary folder");
    let file = dir.path().join("a-file");
    fs::write(&file, "").expect("a temporary file can be written");
    let did = run(["run", "--arch", "x86_64", "--store", &file.join("store").display().to_string()]);
    says(&did, 3, &["a-file"]);
}

#[test]
fn a_missing_xen_build_is_bad_input() {
    for spec in ["dir:/nonexistent/prefix", "file:/nonexistent/xen"] {
        let did = run(["run", "--xen", spec, "--arch", "x86_64"]);
        says(&did, 2, &["/nonexistent"]);
    }
    assert!(!Path::new("/nonexistent").exists());
}
