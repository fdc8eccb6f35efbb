use super::*;
use crate::evidence::CommandEnd;
use crate::step::testing::{bad, body, cut, ended, facts, judge, ran, said};

const ACTIVE: &str = "Type=simple\nResult=success\nLoadState=loaded\nActiveState=active\nSubState=running\nExecMainStartTimestampMonotonic=51\n";
const DONE: &str = "Type=oneshot\nResult=success\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nExecMainStartTimestampMonotonic=51\n";
const NEVER: &str = "Type=oneshot\nResult=success\nLoadState=loaded\nActiveState=inactive\nSubState=dead\nExecMainStartTimestampMonotonic=0\n";
const FAILED: &str = "Type=simple\nResult=exit-code\nLoadState=loaded\nActiveState=failed\nSubState=failed\n";
const NOT_FOUND: &str = "Type=\nResult=success\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n";
const MOUNT: &str = "Result=success\nLoadState=loaded\nActiveState=active\nSubState=mounted\n";
const MASKED: &str = "Type=simple\nResult=success\nLoadState=masked\nActiveState=inactive\nSubState=dead\n";

fn state(name: &str, text: &str) -> (String, CommandResult) {
    (name.to_owned(), ran("systemctl show", 0, text, ""))
}

fn seen(services: Vec<(String, CommandResult)>, failed: Option<&str>) -> ServiceEvidence {
    ServiceEvidence {
        init: "systemd".into(),
        services,
        failed: failed.map(|f| ran("systemctl --failed", 0, f, "")),
    }
}

#[test]
fn states() {
    let step: Service = body(r#"{"active": ["ssh"]}"#);
    for (text, expected) in [
        (ACTIVE, None),
        (MOUNT, None),
        (DONE, None),
        ("LoadState=loaded\nActiveState=active\n", None),
        // Without the time of its start that cannot be told, and is no pass.
        (
            "Type=oneshot\nResult=success\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n",
            Some("ssh.service SKIP"),
        ),
        // A one-shot that never ran looks like one that ended well, but for its time.
        (NEVER, Some("ssh.service FAIL service.failed")),
        (FAILED, Some("ssh.service FAIL service.failed")),
        (MASKED, Some("ssh.service FAIL service.failed")),
        // A service that must run and does not exist.
        (NOT_FOUND, Some("ssh.service FAIL service.missing")),
        (&ACTIVE.replace("=active", "=activating"), Some("ssh.service FAIL service.failed")),
        (&DONE.replace("success", "exit-code"), Some("ssh.service FAIL service.failed")),
        (&ACTIVE.replace("=active", "=inactive"), Some("ssh.service FAIL service.failed")),
        ("", Some("ssh.service FAIL service.unknown")),
    ] {
        let checks = judge(&step, &seen(vec![state("ssh.service", text)], None), &facts());
        assert_eq!(bad(&checks), expected.into_iter().collect::<Vec<_>>(), "{text}");
    }
    let nobody = ("ssh".to_owned(), ran("service ssh status", 4, "", "no such service\n"));
    assert_eq!(bad(&judge(&step, &seen(vec![nobody], None), &facts())), ["ssh FAIL service.missing"]);
    let slow = ("ssh".to_owned(), ended("systemctl", CommandEnd::TimedOut(30), "", ""));
    assert_eq!(bad(&judge(&step, &seen(vec![slow], None), &facts())), ["ssh FAIL step.timeout"]);
}

#[test]
fn what_was_asked_for_must_have_been_looked_at() {
    let step: Service = body(r#"{"active": ["xen", "ssh"]}"#);
    let both = vec![
        state("xenstored.service", ACTIVE),
        state("xenconsoled.service", ACTIVE),
        state("ssh.service", ACTIVE),
    ];
    assert_eq!(bad(&judge(&step, &seen(both, None), &facts())), Vec::<String>::new());
    // A layout without services for Xen: nothing would be judged, so it fails.
    let only_ssh = vec![state("ssh.service", ACTIVE)];
    assert_eq!(bad(&judge(&step, &seen(only_ssh, None), &facts())), ["xen FAIL service.missing"]);
    // Debian's one service is called xen itself.
    let debian = vec![state("xen", ACTIVE), state("ssh", ACTIVE)];
    assert_eq!(bad(&judge(&step, &seen(debian, None), &facts())), Vec::<String>::new());
    let debian = vec![state("xen", NOT_FOUND), state("ssh", ACTIVE)];
    assert_eq!(bad(&judge(&step, &seen(debian, None), &facts())), ["xen FAIL service.missing"]);
    let only_xen = vec![state("xen.service", ACTIVE)];
    let checks = judge(&step, &seen(only_xen, None), &facts());
    assert!(bad(&checks).contains(&"ssh ERROR lab.internal".to_owned()), "{checks:?}");
}

#[test]
fn failed_services() {
    let step: Service = body(r#"{"failed": ["systemd-modules-load"]}"#);
    for (text, expected) in [
        ("", None),
        ("systemd-modules-load.service\n", None),
        ("● systemd-modules-load.service loaded failed failed Load Kernel Modules\n", None),
        ("systemd-modules-load.service\nxendomains.service\n", Some("failed FAIL service.failed")),
    ] {
        let checks = judge(&step, &seen(vec![], Some(text)), &facts());
        assert_eq!(bad(&checks), expected.into_iter().collect::<Vec<_>>(), "{text}");
    }
    let checks = judge(&step, &seen(vec![], Some("xendomains.service\n")), &facts());
    assert!(said(&checks, "failed").contains("saw xendomains.service"));
    assert_eq!(bad(&judge(&step, &seen(vec![], None), &facts())), ["failed ERROR lab.internal"]);
    let mut e = seen(vec![], Some("systemd-modules-load.service\n"));
    e.failed = e.failed.map(cut);
    assert_eq!(bad(&judge(&step, &e, &facts())), ["failed FAIL capture.cut"]);
    e.failed = Some(ran("systemctl --failed", 1, "", "Failed to connect to bus\n"));
    assert_eq!(bad(&judge(&step, &e, &facts())), ["failed FAIL service.unknown"]);
}
