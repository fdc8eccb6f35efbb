use super::*;
use crate::evidence::CommandEnd;
use crate::fact::{FactValue, Facts};
use crate::step::testing::{bad, body, cut, ended, facts, judge, ran, said};
use crate::verdict::Verdict;

const X86: &str = include_str!("../../../../../fixtures/dom0/xl-info-x86_64-4.17.7.txt");
const ARM: &str = include_str!("../../../../../fixtures/dom0/xl-info-aarch64-4.17.7.txt");
/// The tools of 4.17 on a Xen 4.20: they work, exit with 0, and say nothing of it.
const MIXED: &str = include_str!("../../../../../fixtures/dom0/xl-info-x86_64-4.20.5-pre.txt");
const BARE: &str = include_str!("../../../../../fixtures/dom0/xl-info-bare-linux.stderr");
const WRAPPER_BARE: &str = include_str!("../../../../../fixtures/dom0/xl-wrapper-bare-linux.stderr");
const WRAPPER_OTHER: &str = include_str!("../../../../../fixtures/dom0/xl-wrapper-other-branch.stderr");

fn said_xl(stdout: &str) -> XlInfoEvidence {
    XlInfoEvidence { command: ran("xl info", 0, stdout, "") }
}

fn failed(status: i32, stderr: &str) -> XlInfoEvidence {
    XlInfoEvidence { command: ran("xl info", status, "", stderr) }
}

fn with(name: &str, value: &str) -> Facts {
    let mut f = facts();
    f.set(name, FactValue::Version(value.into()));
    f
}

fn without(names: &[&str]) -> Facts {
    let mut f = facts();
    for name in names {
        f.0.remove(*name);
    }
    f
}

#[test]
fn every_field_of_real_output_is_read() {
    for text in [X86, ARM, MIXED] {
        let fields = parse(text);
        assert_eq!(fields.len(), text.lines().count());
        for name in fields.keys() {
            assert!(FIELDS.iter().any(|(n, _)| n == name), "{name} has no type");
        }
        for (name, value) in &fields {
            let kind = field_type(name);
            assert!(crate::matcher::parse(value, kind).is_ok(), "{name}: {value} is no {kind:?}");
        }
    }
    let f = parse(X86);
    assert_eq!((f["xen_version"], f["xen_changeset"], f["free_memory"]), ("4.17.7", "", "748"));
    assert_eq!(f["cc_compile_date"], "Wed Nov  4 16:52:28 UTC 2026");
    assert_eq!(
        f["xen_commandline"],
        "console=com1 com1=115200,8n1 dom0_mem=768M noreboot=no bootscrub=0 spec-ctrl=no"
    );
    assert_eq!(parse("nonsense\na warning: of two words\nx : 1\nx : 2\n: 3"), BTreeMap::from([("x", "1")]));
}

#[test]
fn a_good_xen_passes() {
    let step: XlInfo = body(
        r#"{"xen_version": {"same-as": "build.declared-version"}, "build_id": {"same-as": "build.build-id"},
            "free_memory": {"at-least": 64}, "nr_cpus": 2, "xen_caps": {"contains": ["xen-3.0-x86_64", "hvm-3.0-x86_64"]},
            "virt_caps": {"contains": "hvm", "lacks": "shadow"}, "xen_commandline": {"contains": "bootscrub=0"},
            "cc_compile_by": "pkg-xen-devel", "xen_changeset": ""}"#,
    );
    let checks = judge(&step, &said_xl(X86), &facts());
    assert_eq!((bad(&checks), checks.len()), (vec![], 13));
}

#[test]
fn the_version_rule() {
    let step = XlInfo::default();
    // What is declared, carried and seen; the verdict.
    let none: Option<&str> = None;
    let rows = [
        (Some("4.17.7"), Some("4.17.7"), "4.17.7", Verdict::Pass),
        // One digit off, in each of the three.
        (Some("4.17.6"), Some("4.17.7"), "4.17.7", Verdict::Fail),
        (Some("4.17.7"), Some("4.17.6"), "4.17.7", Verdict::Fail),
        (Some("4.17.7"), Some("4.17.7"), "4.17.8", Verdict::Fail),
        // Image and xl info agree with each other, and not with what was declared.
        (Some("4.18.7"), Some("4.17.7"), "4.17.7", Verdict::Fail),
        // 4.2 is not 4.20.
        (Some("4.2"), none, "4.20", Verdict::Fail),
        // The image carries no more than its branch; that much must agree.
        (Some("4.17.7"), Some("4.17"), "4.17.7", Verdict::Pass),
        (Some("4.17.7"), Some("4.18"), "4.17.7", Verdict::Fail),
        (Some("4.18.7"), Some("4.18"), "4.17.7", Verdict::Fail),
        (Some("4.17.7"), none, "4.17.7", Verdict::Pass),
        // A declared branch is no declared version.
        (Some("4.17"), Some("4.17"), "4.17.7", Verdict::Fail),
        // Nothing declared is never a pass.
        (none, Some("4.17.7"), "4.17.7", Verdict::Skip),
        (none, none, "4.17.7", Verdict::Skip),
        (none, Some("4.17.6"), "4.17.7", Verdict::Fail),
        (Some("4.20.5-pre"), Some("4.20.5-pre"), "4.20.5-pre", Verdict::Pass),
        (Some("4.20.5"), Some("4.20.5-pre"), "4.20.5-pre", Verdict::Fail),
    ];
    for (declared, carried, seen, verdict) in rows {
        let mut f = without(&["build.declared-version", "build.image-version"]);
        for (name, value) in [("build.declared-version", declared), ("build.image-version", carried)] {
            if let Some(value) = value {
                f.set(name, FactValue::Version(value.into()));
            }
        }
        let v: XenVersion = seen.parse().unwrap();
        let text = X86
            .replace("xen_minor              : 17", &format!("xen_minor              : {}", v.minor))
            .replace("xen_extra              : .7", &format!("xen_extra              : {}", v.extra))
            .replace("xen_version            : 4.17.7", &format!("xen_version            : {seen}"));
        let checks = judge(&step, &said_xl(&text), &f);
        let check = &checks[0];
        assert_eq!(
            (check.name.as_str(), check.verdict),
            ("version", verdict),
            "{declared:?} {carried:?} {seen}: {check:?}"
        );
        if verdict == Verdict::Fail {
            assert_eq!(check.cause, Some(Cause::VersionMismatch));
            // All three in the message, each with its name.
            for (label, value) in [("declared", declared), ("carried", carried), ("seen", Some(seen))] {
                let value = value.unwrap_or(if label == "declared" { "nothing" } else { "unknown" });
                assert!(check.message.contains(&format!("{label} {value}")), "{}", check.message);
                assert!(
                    check.shown.iter().any(|(l, v)| l == label && v.starts_with(value)),
                    "{:?}",
                    check.shown
                );
            }
        }
    }
    let checks = judge(&step, &said_xl(X86), &without(&["build.declared-version"]));
    assert!(said(&checks, "version").starts_with("not judged: no expected version"));
}

#[test]
fn a_declared_version_points_at_where_it_was_declared() {
    use crate::place::{Place, Places};
    let mut places = Places::new();
    places.insert("xen.expect-version".into(), Place::CommandLine { argument: 4 });
    places.insert("steps[0].xl-info".into(), Place::Default);
    let f = with("build.declared-version", "4.17.6");
    let cx = JudgeContext { facts: &f, places: &places, step: "steps[0]", arch: crate::Arch::X86_64 };
    assert_eq!(
        XlInfo::default().judge(&said_xl(X86), &cx)[0].place,
        Some(Place::CommandLine { argument: 4 })
    );
    let mut places = Places::new();
    let line = Place::File { file: "dom0-boot.yaml".into(), line: 22, column: 7 };
    places.insert("steps[0].xl-info.xen_version".into(), line.clone());
    let cx = JudgeContext { facts: &f, places: &places, step: "steps[0]", arch: crate::Arch::X86_64 };
    let step: XlInfo = body(r#"{"xen_version": {"same-as": "build.declared-version"}}"#);
    let checks = step.judge(&said_xl(X86), &cx);
    let wrong: Vec<_> = checks.iter().filter(|c| c.verdict == Verdict::Fail).collect();
    assert_eq!(wrong.len(), 2);
    for check in wrong {
        assert_eq!(check.place, Some(line.clone()));
        assert!(
            check.message.contains("4.17.6") && check.message.contains("carried 4.17.7"),
            "{}",
            check.message
        );
    }
}

#[test]
fn another_build_with_the_same_version_string() {
    let step = XlInfo::default();
    let other = X86.replace("151b373fd64b", "000b373fd64b");
    assert_eq!(bad(&judge(&step, &said_xl(&other), &facts())), ["build-id FAIL build.build-id-mismatch"]);
    let none = X86.replace("151b373fd64b321593bf987fd923cd10dabadac4", "");
    assert_eq!(bad(&judge(&step, &said_xl(&none), &facts())), ["build-id FAIL build.build-id-mismatch"]);
    assert_eq!(bad(&judge(&step, &said_xl(X86), &without(&["build.build-id"]))), ["build-id SKIP"]);
    assert_eq!(
        bad(&judge(&step, &said_xl(&X86.replace("151b373fd", "151B373FD")), &facts())),
        Vec::<String>::new()
    );
}

#[test]
fn tools_of_another_xen_that_work_all_the_same() {
    let step = XlInfo::default();
    let mut f = with("build.declared-version", "4.20.5-pre");
    f.set("build.image-version", FactValue::Version("4.20.5-pre".into()));
    f.set("build.build-id", FactValue::text("576c0736b3e38388c5afe9aaccc43a18d514e88e"));
    let checks = judge(&step, &said_xl(MIXED), &f);
    assert_eq!(bad(&checks), ["tools FAIL build.tools-mismatch"]);
    assert!(said(&checks, "tools").contains("4.20") && said(&checks, "tools").contains("4.17"));
    f.set("build.tools-branch", FactValue::Version("4.20".into()));
    assert_eq!(bad(&judge(&step, &said_xl(MIXED), &f)), Vec::<String>::new());
    assert_eq!(bad(&judge(&step, &said_xl(X86), &without(&["build.tools-branch"]))), ["tools SKIP"]);
}

#[test]
fn the_parts_compose_to_the_version() {
    let step = XlInfo::default();
    for text in [
        X86.replace("xen_extra              : .7", "xen_extra              : .6"),
        X86.replace("xen_extra  ", "xen_extra_ "),
    ] {
        assert_eq!(
            bad(&judge(&step, &said_xl(&text), &facts())),
            ["version parts FAIL build.version-mismatch"]
        );
    }
}

#[test]
fn fields() {
    let rows = [
        // 9 is less than 64 as a number, more as text.
        (r#"{"free_memory": {"at-least": 749}}"#, "free_memory FAIL check.failed"),
        (r#"{"nr_cpus": 1}"#, "nr_cpus FAIL check.failed"),
        (r#"{"xen_caps": {"contains": "xen-3.0-x86"}}"#, "xen_caps FAIL check.failed"),
        (r#"{"virt_caps": {"contains": "shadow"}}"#, "virt_caps FAIL check.failed"),
        (r#"{"xen_version": "4.17.6"}"#, "xen_version FAIL build.version-mismatch"),
        (r#"{"xen_version": {"below": "4.9"}}"#, "xen_version FAIL build.version-mismatch"),
        (r#"{"build_id": "0"}"#, "build_id FAIL build.build-id-mismatch"),
        (r#"{"no_such_field": {"not": "x"}}"#, "no_such_field FAIL check.failed"),
        (r#"{"freee_memory": {"at-least": 0}}"#, "freee_memory FAIL check.failed"),
        (r#"{"xen_version": {"same-as": "build.no-such"}}"#, "xen_version SKIP"),
    ];
    for (json, expected) in rows {
        assert_eq!(bad(&judge(&body::<XlInfo>(json), &said_xl(X86), &facts())), [expected], "{json}");
    }
    let checks = judge(&body::<XlInfo>(rows[8].0), &said_xl(X86), &facts());
    assert!(said(&checks, "freee_memory").ends_with("did you mean free_memory?"));
    assert_eq!(
        bad(&judge(&body::<XlInfo>(r#"{"no_such": {"present": false}}"#), &said_xl(X86), &facts())),
        Vec::<String>::new()
    );
}

#[test]
fn an_xl_info_that_fails() {
    let step: XlInfo = body(r#"{"xen_version": {"present": true}}"#);
    let mixed = with("build.tools-branch", "4.18");
    let rows = [
        (failed(1, BARE), facts(), "xl info FAIL dom0.not-under-xen"),
        (failed(1, WRAPPER_BARE), facts(), "xl info FAIL dom0.not-under-xen"),
        (failed(127, WRAPPER_OTHER), facts(), "xl info FAIL build.tools-mismatch"),
        (failed(127, "sh: xl: not found\n"), facts(), "xl info FAIL build.part-missing"),
        (
            failed(1, "libxl: error: libxl.c:377:libxl_get_physinfo: getting physinfo: Permission denied\n"),
            mixed.clone(),
            "xl info FAIL build.tools-mismatch",
        ),
        (
            failed(1, "libxl: error: libxl.c:377:libxl_get_physinfo: getting physinfo: Permission denied\n"),
            facts(),
            "xl info FAIL build.tools-failed",
        ),
        (failed(1, "Segmentation fault\n"), facts(), "xl info FAIL build.tools-failed"),
        (
            XlInfoEvidence { command: ended("xl info", CommandEnd::TimedOut(30), X86, "") },
            facts(),
            "xl info FAIL step.timeout",
        ),
        (
            XlInfoEvidence { command: ended("xl info", CommandEnd::Signal("SEGV".into()), "", "") },
            facts(),
            "xl info FAIL step.signal",
        ),
        (
            XlInfoEvidence { command: ended("xl info", CommandEnd::Lost("reset".into()), "", "") },
            facts(),
            "xl info FAIL dom0.ssh",
        ),
        (XlInfoEvidence { command: cut(ran("xl info", 0, X86, "")) }, facts(), "xl info FAIL capture.cut"),
        (said_xl(""), facts(), "xl info FAIL build.tools-failed"),
    ];
    for (evidence, facts, expected) in rows {
        let checks = judge(&step, &evidence, &facts);
        assert_eq!(bad(&checks), [expected], "{evidence:?}");
        if !evidence.command.stderr.text.is_empty() {
            let line = evidence.command.stderr.text.lines().last().unwrap();
            assert!(checks[0].message.contains(line), "{}", checks[0].message);
        }
    }
    // An exit status that is not 0 is no pass, whatever was printed.
    let checks = judge(&step, &XlInfoEvidence { command: ran("xl info", 1, X86, "") }, &facts());
    assert_eq!(bad(&checks), ["xl info FAIL build.tools-failed"]);
}

#[test]
fn matchers_are_checked_before_anything_boots() {
    let step: XlInfo =
        body(r#"{"xen_caps": {"at-least": 1}, "free_memory": "much", "build_id": {"matches": "("}}"#);
    let paths: Vec<_> = step.check().into_iter().map(|c| c.path).collect();
    assert_eq!(paths, ["build_id", "free_memory", "xen_caps"]);
}
