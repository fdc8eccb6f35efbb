//! The trials of `xenlab selftest`, each a test: the rows of `verbs::faults` on every architecture they exist on, planted, caught and judged
//! again from their bundles. The same scenarios with nothing planted are left to `xenlab selftest` itself: there are good rows enough here.
//!
//! Real Xen builds, real QEMU, the real program. What is not in the store yet is fetched by the first test that needs it.

use libtest_mimic::{Arguments, Failed, Trial};
use tempfile::TempDir;
use xenlab_tests::{json, run};
use xenlab_verbs::selftest;

/// Machines side by side: each has a processor to emulate.
const MOST: usize = 2;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(MOST).min(MOST).min(cores()));
    let trials = selftest::trials().into_iter().filter(|trial| !trial.without).map(|trial| {
        let name = trial.name();
        Trial::test(name.clone(), move || right(&name))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Here nothing may be left untried: a selftest says what its host lacks, and passes; these tests do not.
fn right(name: &str) -> Result<(), Failed> {
    let dir = TempDir::new()?;
    let report = dir.path().join("report").display().to_string();
    let did = run(["selftest", "--jobs", "1", "--only", name, "--report", &report]).expect(0)?;
    let score = json(&dir.path().join("report/selftest.json"))?;
    let trials = score["trials"].as_array().map(Vec::as_slice).unwrap_or_default();
    match trials {
        [one] if one["name"] == name && one["outcome"] == "right" => Ok(()),
        _ => Err(format!("it was not tried: {}", did.stdout).into()),
    }
}
