use super::*;
use crate::step::testing::{bad, body, facts, judge, ran, said};

const BEFORE: &str = "domain Domain-0\nnode /local\nnode /local/domain\nloop /a\nprocess xl\nport 1\nport 2\ngrants listed\nmemory 300\n";

fn seen(after: &str) -> LeaksEvidence {
    LeaksEvidence { before: ran("b", 0, BEFORE, ""), after: ran("a", 0, after, "") }
}

fn judged(after: &str) -> Vec<String> {
    bad(&judge(&Leaks::default(), &seen(after), &facts()))
}

#[test]
fn each_kind_is_missed() {
    assert!(judged(BEFORE).is_empty());
    for (line, check) in [
        ("domain g1", "domains"),
        ("node /local/domain/3", "nodes of the store"),
        ("loop /b", "loop devices"),
        ("loop /a", "loop devices"),
        ("process qemu-system-i38", "processes"),
        ("process xl", "processes"),
        ("port 3", "event channels of dom0"),
        ("grant d1 by d0", "grants in use"),
    ] {
        assert_eq!(judged(&format!("{BEFORE}{line}\n")), [format!("{check} FAIL guest.leak")], "{line}");
    }
    assert_eq!(judged(&BEFORE.replace("300", "250")), ["free memory FAIL guest.leak"]);
    assert!(judged(&BEFORE.replace("300", "299")).is_empty(), "what Xen's heap keeps is no leak");
    assert!(judged(&BEFORE.replace("loop /a\n", "")).is_empty(), "less than before is none");
    // Another domain took the place of one that was there.
    assert!(judged(&BEFORE.replace("port 2", "port 9")).is_empty(), "ports have no names");
}

#[test]
fn what_is_allowed_and_what_is_not_known() {
    let step: Leaks = body(r#"{"allow": ["^node /local/domain/3/"]}"#);
    let left = |line: &str| judge(&step, &seen(&format!("{BEFORE}{line}\n")), &facts());
    assert!(bad(&left("node /local/domain/3/x")).is_empty());
    let checks = left("node /local/domain/4/x");
    assert!(
        said(&checks, "nodes of the store")
            .contains("1 nodes of the store are left behind: `/local/domain/4/x`")
    );
    assert_eq!(bad(&left("domain g1")), ["domains FAIL guest.leak"]);
    let none = BEFORE.replace("port 1\nport 2\n", "");
    let e = LeaksEvidence { before: ran("b", 0, &none, ""), after: ran("a", 0, &none, "") };
    assert_eq!(bad(&judge(&Leaks::default(), &e, &facts())), ["event channels of dom0 SKIP"]);
    let none = BEFORE.replace("grants listed\n", "");
    for (before, after) in [(none.as_str(), BEFORE), (BEFORE, none.as_str())] {
        let e = LeaksEvidence { before: ran("b", 0, before, ""), after: ran("a", 0, after, "") };
        assert_eq!(bad(&judge(&Leaks::default(), &e, &facts())), ["grants in use SKIP"]);
    }
    let e = LeaksEvidence { before: ran("b", 0, "", ""), after: ran("a", 0, BEFORE, "") };
    assert_eq!(
        bad(&judge(&Leaks::default(), &e, &facts())),
        ["leaks ERROR lab.internal"],
        "nothing to compare with is no pass"
    );
    for gone in ["domain Domain-0\n", "node /local/domain\n"] {
        assert_eq!(
            judged(&BEFORE.replace(gone, "")),
            ["leaks FAIL guest.state"],
            "{gone}: nothing was listed, and nothing is missed"
        );
    }
    let e = LeaksEvidence { before: ran("b", 0, BEFORE, ""), after: ran("a", 1, "", "no xl") };
    assert_eq!(bad(&judge(&Leaks::default(), &e, &facts())), ["leaks FAIL guest.state"]);
}
