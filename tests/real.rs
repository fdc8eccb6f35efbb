//! The trials of `xenlab selftest`, each a test: the rows of `verbs::faults` on every architecture they exist on, planted, caught and judged
//! again from their bundles. The same scenarios with nothing planted are left to `xenlab selftest` itself: there are good rows enough here. So is
//! the second architecture of what is caught by the same code on each, unless XENLAB_TEST_EVERYTHING is set (`cargo xtask test --everything`).
//!
//! Real Xen builds, real QEMU, the real program. What is not in the store yet is fetched by the first test that needs it.

use libtest_mimic::{Arguments, Failed};
use tempfile::TempDir;
use xenlab_tests::{json, run};
use xenlab_verbs::faults::ROWS;
use xenlab_verbs::selftest::{self, Trial};

/// Machines side by side: each has a processor to emulate.
const MOST: usize = 2;

fn main() {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(arguments.test_threads.unwrap_or(MOST).min(MOST).min(cores()));
    let everything = std::env::var_os("XENLAB_TEST_EVERYTHING").is_some();
    // The longest come last among the rows: begun first, none of them is what all the others have been waited for with.
    let chosen = selftest::trials().into_iter().rev().filter(|t| !t.without && (everything || here(t)));
    let trials = chosen.map(|trial| {
        let name = trial.name();
        libtest_mimic::Trial::test(name.clone(), move || right(&name))
    });
    libtest_mimic::run(&arguments, trials.collect()).exit();
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Whether a trial is one of everyday: of what is the same on each architecture one is, in turn.
fn here(trial: &Trial) -> bool {
    let row = trial.row;
    let turn = ROWS.iter().position(|r| r.name == row.name).unwrap_or_default() % row.archs.len();
    row.differs_by_arch() || row.archs.get(turn) == Some(&trial.arch)
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
