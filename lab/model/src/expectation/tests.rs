use super::*;
use crate::exit::Exit;
use crate::fact::FactValue;
use crate::judge;
use crate::scenario::load_expectations;
use crate::verdict::run_exit;
use serde_json::json;

fn a_case() -> Case {
    serde_json::from_value(json!({
        "id": "xtf[vars.test=test-pv64-one]", "scenario": "xtf", "file": "t.yaml", "axes": [],
        "subject": {"hypervisor": "debian:bookworm"},
        "config": {"arch": "x86_64", "machine": {}, "xen": {"build": "debian:bookworm"}, "dom0": {}, "boot": {}},
        "steps": [], "places": {}, "nonce": "5eaf", "facts": {"arch": {"text": "x86_64"}}, "plan": "run",
    }))
    .unwrap()
}

fn known(facts: &[(&str, FactValue)]) -> Facts {
    Facts(facts.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect())
}

fn on_tcg() -> Facts {
    known(&[("machine.accel", FactValue::text("tcg")), ("qemu.version", FactValue::Version("7.2.22".into()))])
}

fn came_to(verdict: Verdict, cause: Option<Cause>) -> CaseVerdict {
    serde_json::from_value(json!({
        "format": 1, "case": "xtf[vars.test=test-pv64-one]", "subject": "debian:bookworm", "verdict": verdict,
        "cause": cause, "message": "it said so", "steps": [], "seconds": 1.0,
    }))
    .unwrap()
}

fn failed() -> CaseVerdict {
    came_to(Verdict::Fail, Some(Cause::CheckFailed))
}

/// Entries as a file has them.
fn entries(text: &str) -> Vec<Expectation> {
    let text = format!("xenlab-expectations: 1\nexpect:\n{text}");
    load_expectations(&text, "e.yaml").unwrap_or_else(|d| panic!("{}", crate::scenario::render(&d, false)))
}

/// The entry that most tests are about, with this in it, too.
fn entry(more: &str) -> String {
    format!("  - {{case: 'xtf[*', verdict: fail, cause: check.failed, because: known{more}}}\n")
}

fn judged(text: &str, facts: &Facts, on: &str, verdict: CaseVerdict) -> CaseVerdict {
    let mut cases = [a_case()];
    attach(&mut cases, &entries(text));
    judge::against(&cases[0], facts, Date::of_time(on), verdict)
}

fn kind(text: &str, facts: &Facts, on: &str, verdict: CaseVerdict) -> Option<Kind> {
    let before = (verdict.verdict, verdict.cause, verdict.blame, verdict.message.clone());
    let verdict = judged(text, facts, on, verdict);
    assert_eq!(
        before,
        (verdict.verdict, verdict.cause, verdict.blame, verdict.message),
        "a verdict stays what it is"
    );
    verdict.expected.map(|e| e.kind)
}

const DAY: &str = "2026-11-23T01:00:00Z";

#[test]
fn names_of_cases() {
    for (pattern, text, matches) in [
        ("xtf[vars.test=a]", "xtf[vars.test=a]", true),
        ("xtf[vars.test=a]", "xtf[vars.test=ab]", false),
        ("xtf[vars.test=a]", "xtfv", false),
        ("vars.test=a", "xtf[vars.test=a]", false),
        ("xtf[*]", "xtf[vars.test=a]", true),
        ("xtf[*]", "xtf[vars.test=a", false),
        ("*-hvm64-*]", "xtf[vars.test=test-hvm64-b]", true),
        ("*-hvm64-*]", "xtf[vars.test=test-hvm32-b]", false),
        ("a*a", "a", false),
        ("a*b*a", "aba", true),
        ("a**a", "aa", true),
        ("*", "", true),
        ("", "a", false),
        ("x?f", "xtf", false),
        ("a*bc*bc", "abc", false),
        ("a*bc*bc", "abcbc", true),
        ("*.*", "a.b.c", true),
    ] {
        assert_eq!(glob(pattern, text), matches, "{pattern} {text}");
    }
    let mut cases = [a_case()];
    for (pattern, count) in [
        ("xtf[vars.test=test-pv64-one]", 1),
        ("xtf[vars.test=test-pv64-one] @ debian:bookworm", 1),
        ("xtf[vars.test=test-pv64-one] @ debian:trixie", 0),
        ("xtf[vars.test=test-pv64-on]", 0),
        ("* @ debian:*", 1),
        ("test-pv64-one", 0),
    ] {
        cases[0].expectations.clear();
        let text = format!("  - {{case: '{pattern}', verdict: skip, because: known}}\n");
        attach(&mut cases, &entries(&text));
        assert_eq!(cases[0].expectations.len(), count, "{pattern}");
    }
}

#[test]
fn each_kind() {
    let plain = entry("");
    let is = |verdict: CaseVerdict| kind(&plain, &on_tcg(), DAY, verdict);
    assert_eq!(is(failed()), Some(Kind::AsExpected));
    assert_eq!(is(came_to(Verdict::Pass, None)), Some(Kind::UnexpectedPass));
    assert_eq!(is(came_to(Verdict::Fail, Some(Cause::XenPanic))), Some(Kind::Differs));
    assert_eq!(is(came_to(Verdict::Error, Some(Cause::QemuKilled))), Some(Kind::Differs));
    assert_eq!(is(came_to(Verdict::Skip, None)), Some(Kind::Differs));
    // What did not run came to nothing.
    assert_eq!(is(came_to(Verdict::NotReached, None)), None);
    assert_eq!(is(came_to(Verdict::Error, Some(Cause::Interrupted))), None);
    let skip = "  - {case: 'xtf[*', verdict: skip, because: known}\n";
    assert_eq!(kind(skip, &on_tcg(), DAY, came_to(Verdict::Skip, None)), Some(Kind::AsExpected));
    assert_eq!(kind(skip, &on_tcg(), DAY, came_to(Verdict::Pass, None)), Some(Kind::UnexpectedPass));
    let error = "  - {case: 'xtf[*', verdict: error, cause: qemu.killed, because: known}\n";
    let killed = came_to(Verdict::Error, Some(Cause::QemuKilled));
    assert_eq!(kind(error, &on_tcg(), DAY, killed), Some(Kind::AsExpected));
    // Of several, the one that is right.
    let two = format!("{error}{plain}");
    assert_eq!(kind(&two, &on_tcg(), DAY, failed()), Some(Kind::AsExpected));
}

#[test]
fn under_another_accelerator_nothing_is_expected() {
    let text = entry(", when: {machine.accel: tcg}");
    let accel = |a: &str| known(&[("machine.accel", FactValue::text(a))]);
    assert_eq!(kind(&text, &accel("tcg"), DAY, failed()), Some(Kind::AsExpected));
    for verdict in [failed(), came_to(Verdict::Pass, None)] {
        assert_eq!(kind(&text, &accel("kvm"), DAY, verdict.clone()), None);
        assert_eq!(kind(&text, &Facts::default(), DAY, verdict), None, "what is not known is not assumed");
    }
}

#[test]
fn what_is_not_known_is_not_assumed() {
    let none = Facts::default();
    for when in [
        "{qemu.version: {below: 8.0}}",
        "{qemu.version: {not: 8.0}}",
        "{build.config: {lacks: SHADOW_PAGING}}",
        "{vars.run-as: domU}",
        "{vars.run-as: {not: dom0}}",
        "{build.image-version: {same-as: build.declared-version}}",
        "{arch: x86_64, machine.cpu: {not: max}}",
    ] {
        assert_eq!(kind(&entry(&format!(", when: {when}")), &none, DAY, failed()), None, "{when}");
    }
    // What only one of the two sides of a comparison is known of, either.
    let half = known(&[("build.image-version", FactValue::Version("4.17".into()))]);
    let when = ", when: {build.image-version: {same-as: build.declared-version}}";
    assert_eq!(kind(&entry(when), &half, DAY, failed()), None);
    assert_eq!(
        kind(&entry(", when: {arch: x86_64}"), &none, DAY, failed()),
        Some(Kind::AsExpected),
        "the case's own"
    );
}

#[test]
fn past_its_last_day_an_entry_does_not_count() {
    let text = entry(", until: 2026-11-23");
    let at = |on: &str, verdict| judged(&text, &on_tcg(), on, verdict);
    let last = at(DAY, failed());
    assert_eq!((last.expected.as_ref().unwrap().kind, last.exit()), (Kind::AsExpected, Some(Exit::Passed)));
    for on in ["2026-11-24T00:00:00Z", "2030-01-01T00:00:00Z", "not a time"] {
        let over = at(on, failed());
        assert_eq!(
            (over.expected.as_ref().unwrap().kind, over.exit()),
            (Kind::Expired, Some(Exit::Failed)),
            "{on}"
        );
        assert!(over.expected.as_ref().unwrap().said(&over).contains("until 2026-11-23 and counts no more"));
        // It warns, whatever came out.
        assert_eq!(at(on, came_to(Verdict::Pass, None)).expected.unwrap().kind, Kind::Expired);
    }
    // Another entry may still count.
    let two = format!("{text}{}", entry(", when: {arch: x86_64}"));
    assert_eq!(kind(&two, &on_tcg(), "2030-01-01T00:00:00Z", failed()), Some(Kind::AsExpected));
}

#[test]
fn exits() {
    let as_expected = judged(&entry(""), &on_tcg(), DAY, failed());
    let surprise = judged(&entry(""), &on_tcg(), DAY, came_to(Verdict::Pass, None));
    let differs = judged(&entry(""), &on_tcg(), DAY, came_to(Verdict::Fail, Some(Cause::XenPanic)));
    let killed = came_to(Verdict::Error, Some(Cause::QemuKilled));
    let error = "  - {case: 'xtf[*', verdict: error, cause: qemu.killed, because: known}\n";
    let error = judged(error, &on_tcg(), DAY, killed.clone());
    let skip = judged(
        "  - {case: 'xtf[*', verdict: skip, because: k}\n",
        &on_tcg(),
        DAY,
        came_to(Verdict::Skip, None),
    );
    let (pass, fail) = (came_to(Verdict::Pass, None), failed());
    for (cases, exit) in [
        (vec![&as_expected], Exit::Passed),
        (vec![&as_expected, &pass, &skip, &error], Exit::Passed),
        (vec![&as_expected, &fail], Exit::Failed),
        (vec![&as_expected, &killed], Exit::Lab),
        (vec![&surprise], Exit::Passed),
        (vec![&differs, &pass], Exit::Failed),
        // Nothing was judged, whatever was expected.
        (vec![&error], Exit::Lab),
        (vec![&skip], Exit::Lab),
        (vec![&skip, &error], Exit::Lab),
    ] {
        let cases: Vec<CaseVerdict> = cases.into_iter().cloned().collect();
        assert_eq!(run_exit(&cases, false), exit, "{cases:#?}");
    }
}

#[test]
fn what_was_recorded_is_read_again() {
    let text = "  - {case: 'xtf[*', when: {machine.accel: tcg, qemu.version: {below: 8.0}}, verdict: fail, cause: check.failed, \
                because: b, tracker: 'https://example.org/1', until: 2027-06-30, fault: emulator, source: 'https://example.org/2', \
                measured: {xen: debian:bookworm, passes-on: {qemu: 10.0.13, accel: tcg}, fails-on: {qemu: 7.2.22, accel: tcg}, \
                on: 2026-11-22}}\n";
    let mut cases = [a_case()];
    attach(&mut cases, &entries(text));
    let again: Case = serde_json::from_str(&serde_json::to_string(&cases[0]).unwrap()).unwrap();
    assert_eq!(again, cases[0]);
    let verdict = judge::against(&again, &on_tcg(), Date::of_time(DAY), failed());
    assert_eq!(verdict, serde_json::from_str(&serde_json::to_string(&verdict).unwrap()).unwrap());
    let expected = verdict.expected.clone().unwrap();
    assert_eq!(expected.entry.place.as_ref().unwrap().to_string(), "e.yaml:3:5");
    insta::assert_snapshot!(expected.said(&verdict), @"FAIL check.failed, expected, e.yaml:3:5: the emulator's fault: b (source https://example.org/2; debian:bookworm measured on 2026-11-22: passes on QEMU 10.0.13 (tcg), not on QEMU 7.2.22 (tcg); tracked at https://example.org/1; until 2027-06-30)");
    // What was recorded before there were any.
    let mut old = serde_json::to_value(a_case()).unwrap();
    assert!(old.as_object_mut().unwrap().remove("expectations").is_none());
    assert_eq!(serde_json::from_value::<Case>(old).unwrap().expectations, []);
}
