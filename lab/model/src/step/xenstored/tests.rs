use super::*;
use crate::step::testing::{bad, body, cut, ended, facts, judge, ran, said};

const TESTED: &str = include_str!("../../../../../fixtures/dom0/test-xenstore.txt");
const C: &str = "pid=157 exe=/usr/lib/xen-4.17/bin/xenstored comm=xenstored";
const OCAML: &str = "pid=157 exe=/usr/lib/xen-4.17/bin/oxenstored comm=oxenstored";
const FILE: &str = "from=pidfile:/run/xen/xenstored.pid";

fn store(lines: &str) -> XenstoredEvidence {
    XenstoredEvidence {
        found: ran("found", 0, lines, ""),
        answers: ran("xenstore-read /local/domain/0/domid", 0, "0\n", ""),
        self_test: Some(ran("test-xenstore", 0, TESTED, "")),
    }
}

fn asked(daemon: &str) -> Xenstored {
    body(&format!(r#"{{"daemon": "{daemon}", "self-test": true}}"#))
}

#[test]
fn which_daemon_runs() {
    let both = |line: &str| format!("{line} from=proc\n{line} {FILE}\n");
    let rows: Vec<(&str, String, &[&str])> = vec![
        ("any", both(C), &[]),
        ("xenstored", both(C), &[]),
        ("oxenstored", both(OCAML), &[]),
        ("any", both(OCAML), &[]),
        // Asked for one, silently got the other (nixpkgs #471250).
        ("oxenstored", both(C), &["daemon FAIL store.wrong-daemon"]),
        ("xenstored", both(OCAML), &["daemon FAIL store.wrong-daemon"]),
        // The name that a process gives itself proves nothing.
        (
            "oxenstored",
            both("pid=9 exe=/usr/bin/xenstored comm=oxenstored"),
            &["daemon FAIL store.wrong-daemon"],
        ),
        (
            "any",
            both("pid=9 exe=/bin/busybox comm=xenstored"),
            &["daemon FAIL store.absent", "pid file FAIL store.pid-file"],
        ),
        // nixpkgs' wrapper.
        (
            "oxenstored",
            both("pid=9 exe=/nix/store/x-xen-4.20.1/bin/.oxenstored-wrapped comm=.oxenstored-wra"),
            &[],
        ),
        ("xenstored", both("pid=9 exe=/usr/sbin/xenstored (deleted) comm=xenstored"), &[]),
        // None, and more than one.
        ("any", String::new(), &["daemon FAIL store.absent", "pid file SKIP"]),
        (
            "any",
            format!("{C} from=proc\npid=200 exe=/usr/sbin/oxenstored comm=oxenstored from=proc\n"),
            &["daemon FAIL store.several", "pid file SKIP"],
        ),
        // A pid file that is stale, names another program, or is not there.
        ("any", format!("{C} from=proc\npid=77 exe=- comm=- {FILE}\n"), &["pid file FAIL store.pid-file"]),
        (
            "any",
            format!("{C} from=proc\npid=77 exe=/bin/busybox comm=sh {FILE}\n"),
            &["pid file FAIL store.pid-file"],
        ),
        ("any", format!("{C} from=proc\n"), &["pid file SKIP"]),
        (
            "any",
            format!("pid=77 exe=- comm=- {FILE}\n"),
            &["daemon FAIL store.absent", "pid file FAIL store.pid-file"],
        ),
    ];
    for (daemon, lines, expected) in rows {
        assert_eq!(bad(&judge(&asked(daemon), &store(&lines), &facts())), expected, "{daemon}: {lines}");
    }
    // As the finder says it of a pid file whose process is gone.
    let gone = store(&format!("pid=77 exe= comm= {FILE}\n"));
    let checks = judge(&asked("any"), &gone, &facts());
    assert_eq!(bad(&checks), ["daemon FAIL store.absent", "pid file FAIL store.pid-file"]);
    assert!(
        said(&checks, "daemon").ends_with("saw none")
            && said(&checks, "pid file").ends_with("which does not run")
    );
    let mut e = store(C);
    e.found = cut(e.found);
    assert_eq!(bad(&judge(&asked("any"), &e, &facts())), ["daemon FAIL capture.cut"]);
}

#[test]
fn a_store_that_does_not_answer() {
    let lines = format!("{C} from=proc\n{C} {FILE}\n");
    let script = "xenstore-read /local/domain/0/domid";
    for (answers, expected) in [
        (ended(script, CommandEnd::TimedOut(5), "", ""), "answers FAIL store.absent"),
        (
            ran(script, 1, "", "xenstore-read: xs_open: No such file or directory\n"),
            "answers FAIL store.absent",
        ),
        (ran(script, 0, "", ""), "answers FAIL store.absent"),
        (ran(script, 0, "7\n", ""), "answers FAIL store.absent"),
        (ended(script, CommandEnd::Lost("broken pipe".into()), "", ""), "answers FAIL dom0.ssh"),
    ] {
        let e = XenstoredEvidence { answers, ..store(&lines) };
        assert_eq!(bad(&judge(&asked("any"), &e, &facts())), [expected]);
    }
}

#[test]
fn the_self_test() {
    let lines = format!("{C} from=proc\n{C} {FILE}\n");
    let failing = "read 1    : failed (ret = 22, stage call)\nread 2000 : 24205411 ns\n";
    for (self_test, expected) in [
        (
            Some(ran("test-xenstore", 127, "", "sh: test-xenstore: not found\n")),
            "self-test FAIL build.part-missing",
        ),
        (
            Some(ran("test-xenstore", 2, "", "could not connect to xenstore\n")),
            "self-test FAIL store.self-test",
        ),
        (Some(ran("test-xenstore", 22, failing, "")), "self-test FAIL store.self-test"),
        // It says that a test failed and exits with 0 all the same; it says nothing at all.
        (Some(ran("test-xenstore", 0, failing, "")), "self-test FAIL store.self-test"),
        (Some(ran("test-xenstore", 0, "", "")), "self-test FAIL store.self-test"),
        (Some(ended("test-xenstore", CommandEnd::TimedOut(60), TESTED, "")), "self-test FAIL step.timeout"),
        (None, "self-test ERROR lab.internal"),
    ] {
        let e = XenstoredEvidence { self_test, ..store(&lines) };
        assert_eq!(bad(&judge(&asked("any"), &e, &facts())), [expected]);
    }
    let checks = judge(&asked("any"), &store(&lines), &facts());
    assert_eq!(said(&checks, "self-test"), "test-xenstore passed 12 tests");
    let not_asked: Xenstored = body(r#"{"daemon": "any"}"#);
    let e = XenstoredEvidence { self_test: None, ..store(&lines) };
    assert_eq!(bad(&judge(&not_asked, &e, &facts())), Vec::<String>::new());
}
