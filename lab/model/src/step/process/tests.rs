use super::*;
use crate::evidence::CommandEnd;
use crate::step::testing::{bad, body, cut, ended, facts, judge, ran, said};

const OCAML: &str = include_str!("../../../../../fixtures/dom0/processes-oxenstored.txt");
const C: &str = include_str!("../../../../../fixtures/dom0/processes-xenstored.txt");

fn seen(text: &str) -> ProcessEvidence {
    ProcessEvidence { table: ran("table", 0, text, "") }
}

#[test]
fn by_the_executable_that_really_runs() {
    for (asked, table, expected) in [
        ("xenconsoled", OCAML, None),
        ("/usr/lib/xen-4.17/bin/xenconsoled", OCAML, None),
        ("oxenstored", OCAML, None),
        ("xenstored", C, None),
        ("/usr/sbin/xenconsoled", OCAML, Some("/usr/sbin/xenconsoled FAIL process.missing")),
        ("oxenstored", C, Some("oxenstored FAIL process.missing")),
        ("xenstored", OCAML, Some("xenstored FAIL process.missing")),
        // A kernel thread has a name and no executable.
        ("xenwatch", OCAML, Some("xenwatch FAIL process.missing")),
        // What a process calls itself: busybox as PID 1 is called init.
        ("init", OCAML, Some("init FAIL process.missing")),
        ("xl", "12 /opt/a path/xl xl\n", Some("xl FAIL process.missing")),
        ("xl", "12 /usr/sbin/xl (deleted) xl\n", None),
        ("oxenstored", "12 /nix/store/a/bin/.oxenstored-wrapped .oxenstored-wra\n", None),
        ("xl", "nonsense", Some("processes FAIL process.missing")),
    ] {
        let step = Process { running: vec![asked.into()] };
        assert_eq!(
            bad(&judge(&step, &seen(table), &facts())),
            expected.into_iter().collect::<Vec<_>>(),
            "{asked}"
        );
    }
    let step = Process { running: vec!["init".into()] };
    assert!(
        said(&judge(&step, &seen(OCAML), &facts()), "init").contains("is called init and runs /bin/busybox")
    );
}

#[test]
fn a_table_that_is_not_whole() {
    let step: Process = body(r#"{"running": ["xenconsoled", "xl"]}"#);
    let e = ProcessEvidence { table: cut(ran("table", 0, OCAML, "")) };
    assert_eq!(bad(&judge(&step, &e, &facts())), ["xl FAIL capture.cut"]);
    // Processes end while the table is read: that makes the reader's status 1, and the table none the worse.
    let e = ProcessEvidence { table: ran("table", 1, OCAML, "cat: can't open '/proc/177/comm'\n") };
    assert_eq!(bad(&judge(&step, &e, &facts())), ["xl FAIL process.missing"]);
    let e = ProcessEvidence { table: ended("table", CommandEnd::TimedOut(9), OCAML, "") };
    assert_eq!(bad(&judge(&step, &e, &facts())), ["processes FAIL step.timeout"]);
}
