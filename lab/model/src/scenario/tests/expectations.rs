//! Files of expectations: what is refused, and where.

use super::super::{expectation_files, is_expectations, load_expectations, render};
use crate::expectation::Expectation;

const HEAD: &str = "xenlab-expectations: 1\nexpect:\n";
const FAIL: &str = "case: c, verdict: fail, cause: check.failed, because: b";

fn good(text: &str) -> Vec<Expectation> {
    load_expectations(text, "e.yaml").unwrap_or_else(|d| panic!("{}", render(&d, false)))
}

fn shown(text: &str) -> String {
    match load_expectations(text, "e.yaml") {
        Ok(entries) => panic!("no mistake was found in {entries:#?}"),
        Err(d) => render(&d, false),
    }
}

/// The mistakes of one entry, each in a line.
fn mistakes(entry: &str) -> Vec<String> {
    match load_expectations(&format!("{HEAD}  - {{{entry}}}\n"), "e.yaml") {
        Ok(_) => Vec::new(),
        Err(d) => d.iter().map(ToString::to_string).collect(),
    }
}

macro_rules! golden {
    ($($name:ident: $text:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(concat!("expect-", stringify!($name)), shown(&$text));
        }
    )* };
}

golden! {
    nothing: "# nothing\n";
    a_list: "- a\n";
    no_entries: "xenlab-expectations: 1\nexpect: []\n";
    version_not_first: format!("expect:\n  - {{{FAIL}}}\nxenlab-expectations: 2\n");
    several_at_once: format!("{HEAD}  - {{case: a, verdct: fail, because: b}}\n  - {{case: b, verdict: pass, cause: xen.panik, because: [c]}}\n  - {{verdict: fail, because: ' ', when: {{machine.acel: tcg, qemu.version: {{contains: [a]}}, host.cores: few}}, until: 2026-02-30, tracker: PROJ-1}}\n");
    blamed_without_evidence: format!("{HEAD}  - {FAIL_EMULATOR}\n");
}

const FAIL_EMULATOR: &str = "{case: c, verdict: fail, cause: check.failed, because: b, fault: emulator}";

#[test]
fn a_sound_file() {
    let entries = good(&format!(
        "{HEAD}  - case: 'xtf[vars.test=test-pv64-one]'\n    when: {{machine.accel: tcg, vars.run-as: domU, build.branch: [4.17, 4.20]}}\n    \
         verdict: fail\n    cause: check.failed\n    because: why\n    tracker: https://example.org/1\n    until: 2027-06-30\n  - {{{FAIL}}}\n"
    ));
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0].place.as_ref().unwrap().to_string(), "e.yaml:3:5");
    assert_eq!(entries[0].until.unwrap().to_string(), "2027-06-30");
}

#[test]
fn each_rule_and_its_place() {
    const EMULATOR: &str =
        "case: c, verdict: fail, cause: check.failed, because: b, fault: emulator, source: 'https://e.org/1'";
    let blamed = |when: &str| format!("{EMULATOR}, when: {{{when}}}");
    let accel = "machine.accel: tcg, qemu.version";
    let measured = |passes: &str, fails: &str| {
        format!(
            "{}, measured: {{xen: debian:bookworm, passes-on: {{{passes}}}, fails-on: {{{fails}}}, on: 2026-11-22}}",
            blamed("machine.accel: tcg, qemu.version: {below: 8.0}")
        )
    };
    for (entry, says) in [
        (FAIL.to_owned(), None),
        (FAIL.replace("case: c", "case: ''"), Some("`case` is empty")),
        (FAIL.replace("because: b", "because: ' '"), Some("`because` is empty")),
        (FAIL.replace(", because: b", ""), Some("the key `because` is missing")),
        (FAIL.replace(", cause: check.failed", ""), Some("the key `cause` is missing")),
        (FAIL.replace("check.failed", "check.faild"), Some("did you mean `check.failed`?")),
        (FAIL.replace("check.failed", "qemu.killed"), Some("never makes a case fail")),
        (FAIL.replace("fail,", "error,"), Some("never makes a case error")),
        (FAIL.replace("fail,", "not-reached,"), Some("`not-reached` is no value of `verdict`")),
        ("case: c, verdict: skip, because: b".to_owned(), None),
        ("case: c, verdict: skip, cause: xen.panic, because: b".to_owned(), Some("a skip has no cause")),
        (format!("{FAIL}, when: {{}}"), Some("this condition is empty")),
        (format!("{FAIL}, when: {{qemu.verson: 7.2}}"), Some("did you mean `qemu.version`?")),
        (
            format!("{FAIL}, when: {{build.efi: {{present: false}}}}"),
            Some("that `build.efi` is absent cannot be asked"),
        ),
        (format!("{FAIL}, when: {{build.efi: {{present: true}}}}"), None),
        (format!("{FAIL}, when: {{vars.a.b: c}}"), Some("there is no fact `vars.a.b`")),
        (format!("{FAIL}, until: 2027-02-29"), Some("there is no day 2027-02-29")),
        (format!("{FAIL}, until: soon"), Some("`soon` is not a date")),
        (format!("{FAIL}, tracker: 'ftp://e.org'"), Some("`ftp://e.org` is no link")),
        (format!("{FAIL}, source: 'https:///x'"), Some("is no link")),
        (format!("{FAIL}, fault: xen"), Some("`xen` is no value of `fault`")),
        (format!("{FAIL}, place: {{file: a}}"), Some("unknown key `place`")),
        (format!("{FAIL}, tracker: 'https://e.org/1'"), None),
        // Whoever blames an emulator says which.
        (blamed(&format!("{accel}: {{below: 8.0}}")), None),
        (blamed(&format!("{accel}: 7.2.22")), None),
        (blamed(&format!("{accel}: [7.2.22, 8.0]")), None),
        (blamed(&format!("{accel}: {{starts-with: '7.'}}")), None),
        (blamed(&format!("{accel}: {{at-least: 7.0, below: 8.0}}")), None),
        (blamed(&format!("{accel}: {{at-least: 7.0}}")), Some("have no end")),
        (blamed(&format!("{accel}: {{not: 8.0}}")), Some("have no end")),
        (blamed(&format!("{accel}: {{matches: '.'}}")), Some("have no end")),
        (blamed(&format!("{accel}: {{starts-with: '1'}}")), Some("have no end")),
        (blamed("machine.accel: tcg"), Some("does not say which versions")),
        (blamed("qemu.version: 7.2"), Some("does not say under which accelerator")),
        (blamed("machine.accel: [tcg, kvm], qemu.version: 7.2"), Some("does not name one accelerator")),
        (blamed("machine.accel: {not: kvm}, qemu.version: 7.2"), Some("does not name one accelerator")),
        (blamed("machine.accel: auto, qemu.version: 7.2"), Some("does not name one accelerator")),
        (
            blamed(&format!("{accel}: 7.2")).replace(", source: 'https://e.org/1'", ""),
            Some("nothing shows it"),
        ),
        // A measured pair is one, and of what the entry is about.
        (measured("qemu: 10.0.13, accel: tcg", "qemu: 7.2.22, accel: tcg"), None),
        (measured("qemu: 7.2.22, accel: kvm", "qemu: 7.2.22, accel: tcg"), None),
        (measured("qemu: 7.2.22, accel: tcg, cpu: EPYC", "qemu: 7.2.22, accel: tcg"), None),
        (measured("qemu: 7.2.22, accel: tcg", "qemu: 7.2.22, accel: tcg"), Some("are the same")),
        (
            measured("qemu: 10.0.13, accel: tcg", "qemu: 9.0, accel: tcg"),
            Some("`when` does not hold on QEMU 9.0 (tcg)"),
        ),
        (
            measured("qemu: 10.0.13, accel: tcg", "qemu: 7.2.22, accel: kvm"),
            Some("does not hold on QEMU 7.2.22 (kvm)"),
        ),
        (
            measured("qemu: 7.2.21, accel: tcg", "qemu: 7.2.22, accel: tcg"),
            Some("`when` holds on QEMU 7.2.21 (tcg), too"),
        ),
        (measured("qemu: new, accel: tcg", "qemu: 7.2.22, accel: tcg"), Some("`new` is no version")),
        (measured("accel: tcg", "qemu: 7.2.22, accel: tcg"), Some("the key `qemu` is missing")),
        (measured("qemu: 8.0", "qemu: 7.2.22, accel: tcg"), Some("the key `accel` is missing")),
        (measured("qemu: 8.0, accel: xen", "qemu: 7.2.22, accel: tcg"), Some("`xen` is no value of `accel`")),
    ] {
        let found = mistakes(&entry);
        match says {
            None => assert_eq!(found, Vec::<String>::new(), "{entry}"),
            Some(says) => {
                assert!(found.iter().any(|m| m.contains(says)), "{entry}\nexpected {says}\nfound {found:#?}");
                assert!(found.iter().all(|m| m.starts_with("e.yaml:3:")), "{found:#?}");
            }
        }
    }
    let measured_alone = measured("qemu: 10.0.13, accel: tcg", "qemu: 7.2.22, accel: tcg");
    assert_eq!(mistakes(&measured_alone.replace(", source: 'https://e.org/1'", "")), Vec::<String>::new());
}

#[test]
fn the_same_entry_twice_is_told() {
    let text = format!(
        "{HEAD}  - {{{FAIL}}}\n  - {{{FAIL}, when: {{arch: x86_64}}}}\n  - {{{}}}\n",
        FAIL.replace("because: b", "because: c")
    );
    let found = load_expectations(&text, "e.yaml").unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].to_string(),
        "e.yaml:5:5: this entry says what another says already; it is at e.yaml:3:5; take one of the two out"
    );
}

#[test]
fn told_from_a_scenario() {
    assert!(is_expectations(HEAD) && is_expectations("{xenlab-expectations: 1}"));
    assert!(is_expectations("xenlab-expectations: 1\nexpect: [\n"), "even where it cannot be read");
    assert!(!is_expectations("xenlab: 1\nname: t\n") && !is_expectations(""));
}

#[test]
fn files_that_a_scenario_names() {
    let named = |value: &str| expectation_files(&format!("xenlab: 1\nexpectations: {value}\n"), "t.yaml");
    let names =
        |value: &str| named(value).unwrap().into_iter().map(|(n, p)| (n, p.to_string())).collect::<Vec<_>>();
    assert_eq!(names("a.yaml"), [("a.yaml".to_owned(), "t.yaml:2:15".to_owned())]);
    assert_eq!(names("[a.yaml, ../b.yaml]").len(), 2);
    assert_eq!(expectation_files("xenlab: 1\n", "t.yaml").unwrap(), []);
    for (value, says) in [("'${arch}.yaml'", "not interpolated"), ("''", "names no file")] {
        let found = named(value).unwrap_err();
        assert!(found[0].to_string().contains(says) && found[0].snippet.is_some(), "{found:#?}");
    }
    // Anything but names is the scenario's mistake.
    let text = "xenlab: 1\nname: t\narch: x86_64\nxen: debian:trixie\nexpectations: {a: b}\nsteps: [{under-xen: {}}]\n";
    assert!(super::shown(text, &[]).contains("`expectations` is a mapping here"));
    let text = text.replace("{a: b}", "[a.yaml]");
    assert_eq!(super::cases(&text, &[]).len(), 1);
}

#[test]
fn the_schema() {
    let schema = super::super::expectations_schema();
    let text = schema.to_string();
    assert!(text.contains("xen.panic") && text.contains("passes-on") && !text.contains("place"));
    for part in ["Dom0Config", "x-primary", "${"] {
        assert!(!text.contains(part), "{part}");
    }
    let scenario = super::super::schema().to_string();
    assert!(scenario.contains("\"expectations\"") && !scenario.contains("passes-on"));
}
