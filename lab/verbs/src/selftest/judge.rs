//! Whether what a run left is what its row asks for: pure, but for reading the bundles.

use super::{Outcome, Trial};
use crate::faults::Expect;
use serde_json::Value;
use std::path::{Path, PathBuf};
use xenlab_model::cause::Cause;
use xenlab_model::verdict::Verdict;

/// That nothing is wrong.
const PASS: Expect = Expect { verdict: Verdict::Pass, cause: None, blame: None, says: &[], steps: &[] };

/// What a host may not have, now or ever: nothing was tried then.
fn not_tried(cause: &Value, why: String) -> Option<Outcome> {
    match Cause::from_code(cause.as_str()?)? {
        Cause::QemuMissing | Cause::HostTool | Cause::AcceleratorUnusable => Some(Outcome::HostLacks(why)),
        Cause::HostNetwork | Cause::HostDisk | Cause::ArchiveMoved | Cause::ArchiveExpired => {
            Some(Outcome::CouldNot(why))
        }
        _ => None,
    }
}

/// The bundles of a report, sorted by name.
pub(super) fn bundles(report: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(report.join("bundles"));
    let mut all: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|e| e.path()).collect();
    all.sort();
    all
}

/// Judges a run by its exit code (None: it was killed), what it said, and what it left.
pub(super) fn judged(trial: &Trial, code: Option<i32>, stderr: &str, report: &Path) -> Outcome {
    let mut verdicts = Vec::new();
    for bundle in bundles(report) {
        match verdict_of(&bundle) {
            Ok(verdict) => verdicts.push(verdict),
            Err(why) => return Outcome::Wrong(why),
        }
    }
    let expected = if trial.without { None } else { trial.row.expect.cause };
    for verdict in &verdicts {
        let cause = &verdict["cause"];
        if expected.map(Cause::code) != cause.as_str() {
            let why = verdict["message"].as_str().unwrap_or_default().to_owned();
            if let Some(outcome) = not_tried(cause, why) {
                return outcome;
            }
        }
    }
    // Nothing to judge, and the lab says that it is not the run's doing: it did not come to it.
    if verdicts.is_empty() && code == Some(3) {
        return Outcome::CouldNot(stderr.trim().lines().last().unwrap_or_default().to_owned());
    }
    match compare(trial, code, stderr, &verdicts) {
        Ok(()) => Outcome::Right,
        Err(why) => Outcome::Wrong(why),
    }
}

fn verdict_of(bundle: &Path) -> Result<Value, String> {
    let path = bundle.join("verdict.json");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

fn compare(trial: &Trial, code: Option<i32>, stderr: &str, verdicts: &[Value]) -> Result<(), String> {
    let row = trial.row;
    let expect = if trial.without { PASS } else { row.expect };
    let mut planted = 0;
    for verdict in verdicts {
        let case = verdict["case"].as_str().unwrap_or_default();
        if trial.without || row.only.is_none_or(|part| case.contains(part)) {
            planted += 1;
            as_expected(&expect, verdict, stderr)?;
        } else if verdict["verdict"] != "pass" {
            return Err(format!("nothing was planted in {case}, and it is {}", verdict["verdict"]));
        }
    }
    if planted == 0 {
        return Err("there is no bundle of a case in which it was planted".to_owned());
    }
    let expected = match expect.verdict {
        Verdict::Pass => 0,
        Verdict::Fail => 1,
        _ => 3,
    };
    if code == Some(expected) { Ok(()) } else { Err(format!("expected exit {expected}, got {code:?}")) }
}

fn as_expected(expect: &Expect, verdict: &Value, stderr: &str) -> Result<(), String> {
    let word = |value: Result<Value, serde_json::Error>| value.map_err(|e| e.to_string());
    let seen = (&verdict["verdict"], &verdict["cause"], &verdict["blame"]);
    let wanted = (
        word(serde_json::to_value(expect.verdict))?,
        word(serde_json::to_value(expect.cause))?,
        word(serde_json::to_value(expect.blame))?,
    );
    if seen != (&wanted.0, &wanted.1, &wanted.2) {
        let said = |(verdict, cause, blame): (&Value, &Value, &Value)| match cause.as_str() {
            Some(cause) => format!("{} {cause} by {}", bare(verdict), bare(blame)),
            None => bare(verdict).to_owned(),
        };
        return Err(format!(
            "expected {}, got {}: {}",
            said((&wanted.0, &wanted.1, &wanted.2)),
            said(seen),
            bare(&verdict["message"])
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

/// A JSON string without its quotes.
fn bare(value: &Value) -> &str {
    value.as_str().unwrap_or("nothing")
}

/// What `xenlab replay --json BUNDLE` printed: the recorded verdict again, and nothing else.
pub(super) fn replayed(bundle: &Path, stdout: &str) -> Result<(), String> {
    let seen: Value =
        serde_json::from_str(stdout).map_err(|e| format!("replay of {}: {e}: {stdout}", bundle.display()))?;
    let one = &seen[0];
    let same = one["differences"].as_array().is_some_and(Vec::is_empty);
    if one["recorded"] == Value::Bool(true) && same {
        Ok(())
    } else {
        Err(format!("judged again from {} it is another verdict: {}", bundle.display(), one["differences"]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Kind, trials};
    use super::*;
    use serde_json::json;

    fn trial(name: &str) -> Trial {
        trials().into_iter().find(|t| t.name() == name).expect("a trial")
    }

    fn left(verdict: &Value) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundles/one");
        std::fs::create_dir_all(&bundle).unwrap();
        std::fs::write(bundle.join("verdict.json"), verdict.to_string()).unwrap();
        dir
    }

    fn outcome(name: &str, code: i32, verdict: &Value) -> Outcome {
        judged(&trial(name), Some(code), "", left(verdict).path())
    }

    fn verdict(verdict: &str, cause: &str, blame: &str) -> Value {
        json!({"case": "planted", "verdict": verdict, "cause": cause, "blame": blame, "message": "",
               "steps": [{"title": "phase", "verdict": verdict}]})
    }

    #[test]
    fn a_lab_that_passes_everything_catches_nothing() {
        let pass = json!({"case": "planted dom0.vcpus=1", "verdict": "pass", "cause": null, "blame": null,
                          "steps": [{"title": "phase", "verdict": "pass"}]});
        for trial in trials().iter().filter(|t| t.kind() == Kind::Fault) {
            let outcome = judged(trial, Some(0), "", left(&pass).path());
            assert!(matches!(outcome, Outcome::Wrong(_)), "{}: {outcome:?}", trial.name());
        }
    }

    #[test]
    fn a_lab_that_fails_everything_alike_blames_good_runs() {
        let fail = verdict("fail", "xen.panic", "xen");
        for trial in trials().iter().filter(|t| t.kind() == Kind::Good) {
            let outcome = judged(trial, Some(1), "", left(&fail).path());
            assert!(matches!(outcome, Outcome::Wrong(_)), "{}: {outcome:?}", trial.name());
        }
    }

    #[test]
    fn verdict_cause_blame_and_exit_code_must_all_be_right() {
        let row = "xen-truncated::x86_64";
        let right = verdict("fail", "build.image-truncated", "build");
        assert_eq!(outcome(row, 1, &right), Outcome::Right);
        assert!(matches!(outcome(row, 0, &right), Outcome::Wrong(_)));
        for wrong in [
            verdict("error", "build.image-truncated", "build"),
            verdict("fail", "build.image-invalid", "build"),
            verdict("fail", "build.image-truncated", "xen"),
        ] {
            assert!(matches!(outcome(row, 1, &wrong), Outcome::Wrong(_)), "{wrong}");
        }
    }

    #[test]
    fn what_a_host_lacks_was_not_tried_and_what_left_nothing_neither() {
        let row = "xen-truncated::aarch64";
        let lacks = outcome(row, 3, &verdict("error", "qemu.missing", "host"));
        assert!(matches!(lacks, Outcome::HostLacks(_)), "{lacks:?}");
        let none = tempfile::tempdir().unwrap();
        let of = |code, said| judged(&trial(row), code, said, none.path());
        assert_eq!(of(Some(3), "xenlab: no room\n"), Outcome::CouldNot("xenlab: no room".to_owned()));
        // Neither a crash nor a success that left nothing is an excuse.
        assert!(matches!(of(None, ""), Outcome::Wrong(_)));
        assert!(matches!(of(Some(0), ""), Outcome::Wrong(_)));
    }

    #[test]
    fn a_good_run_in_which_nothing_was_judged_is_none() {
        let nothing =
            json!({"case": "planted", "verdict": "pass", "cause": null, "blame": null, "steps": []});
        assert!(matches!(outcome("good-quiet::x86_64", 0, &nothing), Outcome::Wrong(_)));
    }

    #[test]
    fn a_replay_that_differs_or_was_not_recorded_is_a_miss() {
        let at = Path::new("bundle");
        assert!(replayed(at, r#"[{"recorded": true, "differences": []}]"#).is_ok());
        assert!(replayed(at, r#"[{"recorded": false, "differences": []}]"#).is_err());
        assert!(replayed(at, r#"[{"recorded": true, "differences": ["x"]}]"#).is_err());
        assert!(replayed(at, "").is_err());
    }
}
