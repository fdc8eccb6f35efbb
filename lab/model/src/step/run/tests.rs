use super::*;
use crate::step::testing::{bad, body, cut, ended, facts, judge, over_serial, ran, said};

const LIST: &str = include_str!("../../../../../fixtures/dom0/xl-list.txt");

fn seen(results: Vec<CommandResult>) -> RunEvidence {
    RunEvidence { results }
}

#[test]
fn status_stdout_and_stderr_apart_over_each_way_in() {
    let step: Run = body(
        r#"{"script": "xl list", "via": ["ssh", "serial"], "stdout": {"matches": "(?m)^Domain-0\\s"}, "stderr": ""}"#,
    );
    let good = || ran("xl list", 0, LIST, "");
    assert_eq!(bad(&judge(&step, &seen(vec![good(), over_serial(good())]), &facts())), Vec::<String>::new());
    assert_eq!(judge(&step, &seen(vec![good(), over_serial(good())]), &facts()).len(), 6);
    let wrong = over_serial(ran("xl list", 3, "", "oops\n"));
    assert_eq!(
        bad(&judge(&step, &seen(vec![good(), wrong]), &facts())),
        [
            "exit over serial FAIL check.failed",
            "stdout over serial FAIL check.failed",
            "stderr over serial FAIL check.failed"
        ]
    );
    // A way in that was named and not tried is no pass.
    assert_eq!(bad(&judge(&step, &seen(vec![good()]), &facts())), ["exit over serial ERROR lab.internal"]);
}

#[test]
fn exit_status() {
    let plain: Run = body(r#"{"script": "x"}"#);
    let checks = judge(&plain, &seen(vec![ran("x", 127, "", "sh: x: not found\n")]), &facts());
    assert_eq!(bad(&checks), ["exit over ssh FAIL check.failed"]);
    let message = said(&checks, "exit over ssh");
    assert!(message.contains("expected `0`, saw `127`") && message.contains("sh: x: not found"), "{message}");
    let three: Run = body(r#"{"script": "x", "exit": 3}"#);
    assert_eq!(bad(&judge(&three, &seen(vec![ran("x", 3, "", "")]), &facts())), Vec::<String>::new());
    assert_eq!(
        bad(&judge(&three, &seen(vec![ran("x", 0, "", "")]), &facts())),
        ["exit over ssh FAIL check.failed"]
    );
    let any: Run = body(r#"{"script": "x", "exit": [3, 10]}"#);
    assert_eq!(
        bad(&judge(&any, &seen(vec![ran("x", 1, "", "")]), &facts())),
        ["exit over ssh FAIL check.failed"]
    );
    let high: Run = body(r#"{"script": "x", "exit": {"at-least": 9}}"#);
    assert_eq!(bad(&judge(&high, &seen(vec![ran("x", 10, "", "")]), &facts())), Vec::<String>::new());
}

#[test]
fn output_that_was_cut_satisfies_nothing_that_needs_the_rest() {
    for matcher in [
        r#"{"lacks": "panic"}"#,
        r#""ok""#,
        r#"{"not": "ok"}"#,
        r#"{"contains": "later"}"#,
        r#"{"matches": "ok$"}"#,
    ] {
        let step: Run = body(&format!(r#"{{"script": "x", "stdout": {matcher}}}"#));
        let checks = judge(&step, &seen(vec![cut(ran("x", 0, "ok", ""))]), &facts());
        assert_eq!(bad(&checks), ["stdout over ssh FAIL capture.cut"], "{matcher}");
    }
    let step: Run = body(r#"{"script": "x", "stdout": {"contains": "ok"}}"#);
    assert_eq!(bad(&judge(&step, &seen(vec![cut(ran("x", 0, "ok\n", ""))]), &facts())), Vec::<String>::new());
    // What is there is there.
    let step: Run = body(r#"{"script": "x", "stdout": {"lacks": "panic"}}"#);
    let checks = judge(&step, &seen(vec![cut(ran("x", 0, "panic\n", ""))]), &facts());
    assert_eq!(bad(&checks), ["stdout over ssh FAIL check.failed"]);
}

#[test]
fn a_way_in_that_dies() {
    let step: Run = body(r#"{"script": "true", "via": ["ssh", "serial"]}"#);
    let lost = || ended("true", CommandEnd::Lost("connection refused".into()), "", "");
    let good = || ran("true", 0, "", "");
    // SSH dead while serial lives, and the other way round; neither.
    let checks = judge(&step, &seen(vec![lost(), over_serial(good())]), &facts());
    assert_eq!(bad(&checks), ["exit over ssh FAIL dom0.ssh"]);
    assert!(said(&checks, "exit over ssh").contains("over serial it does"));
    let checks = judge(&step, &seen(vec![good(), over_serial(lost())]), &facts());
    assert_eq!(bad(&checks), ["exit over serial FAIL dom0.serial"]);
    let checks = judge(&step, &seen(vec![lost(), over_serial(lost())]), &facts());
    assert_eq!(
        bad(&checks),
        ["exit over ssh FAIL dom0.unreachable", "exit over serial FAIL dom0.unreachable"]
    );
    let slow = ended("true", CommandEnd::TimedOut(30), "half", "");
    let killed = over_serial(ended("true", CommandEnd::Signal("KILL".into()), "", ""));
    assert_eq!(
        bad(&judge(&step, &seen(vec![slow, killed]), &facts())),
        ["exit over ssh FAIL step.timeout", "exit over serial FAIL step.signal"]
    );
}

#[test]
fn an_unknown_fact_is_not_judged() {
    let step: Run = body(r#"{"script": "x", "stdout": {"same-as": "build.compiler"}}"#);
    assert_eq!(bad(&judge(&step, &seen(vec![ran("x", 0, "gcc\n", "")]), &facts())), ["stdout over ssh SKIP"]);
}
