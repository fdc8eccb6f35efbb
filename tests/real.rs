//! Every row of `verbs::faults` on every architecture it exists on: planted, caught, and judged again from its bundle.
//!
//! Real Xen builds, real QEMU, the real program. What is not in the store yet is fetched by the first test that needs it.

use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use std::fs;
use std::path::Path;
use tempfile::TempDir;
use xenlab_model::Arch;
use xenlab_model::verdict::Verdict;
use xenlab_tests::{bundles, command, finish, json, replay_agrees};
use xenlab_verbs::faults::{ROWS, Row};

/// Machines side by side: each has two processors to emulate.
const MOST: usize = 2;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(MOST).min(MOST).min(cores()));
    let trials = ROWS.iter().flat_map(|row| {
        row.archs
            .iter()
            .map(move |&arch| Trial::test(format!("{}::{arch}", row.name), move || judged(row, arch)))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs the row and compares all there is to compare.
fn judged(row: &Row, arch: Arch) -> Result<(), Failed> {
    let dir = TempDir::new()?;
    let report = dir.path().join("report");
    let host = dir.path().join("host");
    host_has_all(&host)?;
    let mut run = command(["run", "--plant", row.name, "--arch", arch.name(), "--jobs", "1", "--report"]);
    run.arg(&report);
    // Two machines of one processor side by side do more than one of two after the other.
    if !row.sets.iter().any(|set| set.contains("cpus")) {
        run.args(["--set", "machine.cpus=1"]);
    }
    // A host on which pkg-config finds every module, whatever the build lacks.
    run.env("PKG_CONFIG_PATH", &host);
    let did = finish(run);
    let said = format!("--- stdout\n{}\n--- stderr\n{}", did.stdout, did.stderr);
    let wrong = compare(row, did.code, &did.stderr, &report);
    wrong.map_err(|why| format!("{}: {why}\n{said}", row.what))?;
    replay_agrees(&report)?;
    Ok(())
}

fn compare(row: &Row, code: Option<i32>, stderr: &str, report: &Path) -> Result<(), String> {
    let expected = match row.expect.verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        _ => 3,
    };
    if code != Some(expected) {
        return Err(format!("expected exit {expected}, got {code:?}"));
    }
    let mut planted = 0;
    for bundle in bundles(report) {
        let verdict = json(&bundle.join("verdict.json"))?;
        let case = verdict["case"].as_str().unwrap_or_default();
        if row.only.is_none_or(|part| case.contains(part)) {
            planted += 1;
            as_expected(row, &verdict, stderr)?;
        } else if verdict["verdict"] != "pass" {
            return Err(format!("nothing was planted in {case}, and it is {}", verdict["verdict"]));
        }
    }
    if planted == 0 { Err("there is no bundle of a case in which it was planted".to_owned()) } else { Ok(()) }
}

fn as_expected(row: &Row, verdict: &Value, stderr: &str) -> Result<(), String> {
    let expect = &row.expect;
    let seen = (&verdict["verdict"], &verdict["cause"], &verdict["blame"]);
    let word = |value: Result<Value, serde_json::Error>| value.map_err(|e| e.to_string());
    let wanted = (
        word(serde_json::to_value(expect.verdict))?,
        word(serde_json::to_value(expect.cause))?,
        word(serde_json::to_value(expect.blame))?,
    );
    if seen != (&wanted.0, &wanted.1, &wanted.2) {
        return Err(format!(
            "expected {} {} by {}, got {} {} by {}: {}",
            wanted.0, wanted.1, wanted.2, seen.0, seen.1, seen.2, verdict["message"]
        ));
    }
    let text = verdict.to_string();
    if let Some(missing) =
        expect.says.iter().find(|words| !text.contains(**words) && !stderr.contains(**words))
    {
        return Err(format!("nowhere does it say `{missing}`"));
    }
    let steps = verdict["steps"].as_array().map(Vec::as_slice).unwrap_or_default();
    for (title, wanted) in expect.steps {
        let step = steps
            .iter()
            .find(|s| s["title"] == *title)
            .ok_or_else(|| format!("there is no step `{title}`"))?;
        if step["verdict"] != word(serde_json::to_value(wanted))? {
            return Err(format!("expected the step `{title}` to be {wanted:?}, it is {}", step["verdict"]));
        }
    }
    // A verdict that nothing was judged for is none.
    if expect.verdict == Verdict::Pass && !steps.iter().any(|s| s["verdict"] == "pass") {
        return Err("nothing was judged".to_owned());
    }
    Ok(())
}

/// `.pc` files of every module of Xen's, as on a host that has its development packages.
fn host_has_all(dir: &Path) -> std::io::Result<()> {
    const MODULES: [&str; 15] = [
        "xencall",
        "xencontrol",
        "xendevicemodel",
        "xenevtchn",
        "xenforeignmemory",
        "xengnttab",
        "xenguest",
        "xenhypfs",
        "xenlight",
        "xenstat",
        "xenstore",
        "xentoolcore",
        "xentoollog",
        "xenvchan",
        "xlutil",
    ];
    fs::create_dir_all(dir)?;
    for module in MODULES {
        let text = format!(
            "Name: {module}\nDescription: the host's own\nVersion: 4.17.0\nLibs: -l{module}\nCflags:\n"
        );
        fs::write(dir.join(format!("{module}.pc")), text)?;
    }
    Ok(())
}
