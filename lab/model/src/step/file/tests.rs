use super::*;
use crate::step::testing::{bad, body, cut, ended, facts, judge, ran};

fn seen(stat: CommandResult, target: Option<&str>, content: Option<&str>) -> FileEvidence {
    let out = |text: &str| ran("read", 0, text, "");
    FileEvidence { stat, target: target.map(out), content: content.map(out) }
}

fn stat(text: &str) -> CommandResult {
    ran("stat", 0, text, "")
}

fn absent() -> CommandResult {
    ran("stat", 1, "", "stat: can't stat '/no/such': No such file or directory\n")
}

#[test]
fn rows() {
    let denied = || ran("stat", 1, "", "stat: can't stat '/x': Permission denied\n");
    // What real dom0s say: /proc/xen/capabilities is `8124 0`, /bin/sh of busybox `a1ff 7`.
    let rows: Vec<(&str, FileEvidence, Option<&str>)> = vec![
        ("", seen(stat("8124 0\n"), None, None), None),
        ("", seen(absent(), None, None), Some("present FAIL file.wrong")),
        (r#", "present": false"#, seen(absent(), None, None), None),
        (r#", "present": false"#, seen(stat("8124 0\n"), None, None), Some("present FAIL file.wrong")),
        // That it cannot be said whether it is there is no proof that it is not.
        (r#", "present": false"#, seen(denied(), None, None), Some("present FAIL file.wrong")),
        (r#", "present": false"#, seen(stat("garbage"), None, None), Some("present FAIL file.wrong")),
        (
            r#", "present": false"#,
            seen(ended("stat", CommandEnd::TimedOut(3), "", ""), None, None),
            Some("present FAIL step.timeout"),
        ),
        (r#", "type": "link", "target": "busybox""#, seen(stat("a1ff 7"), Some("busybox\n"), None), None),
        (
            r#", "type": "link", "target": "dash""#,
            seen(stat("a1ff 7"), Some("busybox\n"), None),
            Some("target FAIL file.wrong"),
        ),
        (r#", "type": "file""#, seen(stat("a1ff 7"), None, None), Some("type FAIL file.wrong")),
        (r#", "type": "directory", "mode": "0755""#, seen(stat("41ed 4096"), None, None), None),
        (r#", "mode": "755""#, seen(stat("81ed 4096"), None, None), None),
        (r#", "mode": "0755""#, seen(stat("89ed 4096"), None, None), Some("mode FAIL file.wrong")),
        (r#", "mode": "4755""#, seen(stat("89ed 4096"), None, None), None),
        (r#", "mode": "0644""#, seen(stat("81ed 4096"), None, None), Some("mode FAIL file.wrong")),
        (r#", "type": "socket""#, seen(stat("c1b6 0"), None, None), None),
        (r#", "type": "character""#, seen(stat("2180 0"), None, None), None),
        (r#", "type": "block""#, seen(stat("61b0 0"), None, None), None),
        (r#", "type": "fifo""#, seen(stat("11a4 0"), None, None), None),
        (r#", "content": {"contains": "control_d"}"#, seen(stat("8124 0"), None, Some("control_d\n")), None),
        (r#", "content": "control_d""#, seen(stat("8124 0"), None, Some("control_d\n")), None),
        (
            r#", "content": {"contains": "control_d"}"#,
            seen(stat("8124 0"), None, Some("\n")),
            Some("content FAIL file.wrong"),
        ),
        (
            r#", "content": {"contains": "control_d"}"#,
            seen(stat("8124 0"), None, None),
            Some("content ERROR lab.internal"),
        ),
    ];
    for (keys, evidence, expected) in rows {
        let step: File = body(&format!(r#"{{"path": "/x"{keys}}}"#));
        assert_eq!(
            bad(&judge(&step, &evidence, &facts())),
            expected.into_iter().collect::<Vec<_>>(),
            "{keys} {evidence:?}"
        );
    }
    let step: File = body(r#"{"path": "/x", "content": {"lacks": "panic"}}"#);
    let mut e = seen(stat("8124 0"), None, Some("fine\n"));
    e.content = e.content.map(cut);
    assert_eq!(bad(&judge(&step, &e, &facts())), ["content FAIL capture.cut"]);
    e.content = Some(ran("cat", 1, "", "cat: read error: Input/output error\n"));
    assert_eq!(bad(&judge(&step, &e, &facts())), ["content FAIL file.wrong"]);
}
