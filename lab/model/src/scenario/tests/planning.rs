//! `needs` and a step's `when`, while facts are known, unknown, or known to be absent.

use super::{cases, settings};
use crate::case::Planned;
use crate::condition::{Absent, Condition, Truth};
use crate::fact::{FactValue, Facts};
use crate::scenario::load;

const BASE: &str = "xenlab: 1\nname: t\narch: x86_64\nxen: debian:trixie\n";

fn facts(kvm: Option<bool>, pvh: Option<bool>) -> Facts {
    let mut facts = Facts::default();
    for (name, value) in [("host.kvm", kvm), ("machine.pvh-guests", pvh)] {
        if let Some(value) = value {
            facts.set(name, FactValue::Flag(value));
        }
    }
    facts
}

#[test]
fn needs_are_three_valued() {
    let text = format!(
        "{BASE}needs: [{{when: {{host.kvm: true}}, require: {{machine.pvh-guests: true}}, because: no PVH}}]\nsteps: [{{under-xen: {{}}}}]\n"
    );
    let skip = Planned::Skip("no PVH (machine.pvh-guests: expected `true`, it is `false`)".to_owned());
    let unknown = |names: &[&str]| Planned::Unknown(names.iter().map(|n| (*n).to_owned()).collect());
    let table = [
        // when, require, planned, needs left
        (Some(true), Some(true), Planned::Run, 0),
        (Some(true), Some(false), skip, 0),
        (Some(true), None, unknown(&["machine.pvh-guests"]), 1),
        (Some(false), Some(true), Planned::Run, 0),
        (Some(false), Some(false), Planned::Run, 0),
        (Some(false), None, Planned::Run, 0),
        (None, Some(true), Planned::Run, 0),
        (None, Some(false), unknown(&["host.kvm"]), 1),
        (None, None, unknown(&["host.kvm", "machine.pvh-guests"]), 1),
    ];
    for (when, require, planned, left) in table {
        let case = load(&text, "t.yaml", &settings(&[]), &facts(when, require)).unwrap().remove(0);
        assert_eq!(case.plan, planned, "when {when:?}, require {require:?}");
        assert_eq!(case.needs.len(), left, "when {when:?}, require {require:?}");
    }
}

#[test]
fn a_device_model_is_for_x86_64() {
    let text = "xenlab: 1\nname: t\nxen: debian:trixie\nmatrix: {arch: [x86_64, aarch64], dom0.device-model: [none, debian, debian:trixie]}\nsteps: [{under-xen: {}}]\n";
    let planned: Vec<bool> = cases(text, &[])
        .iter()
        .map(|case| match &case.plan {
            Planned::Skip(why) => {
                assert!(why.contains("dom0.device-model is debian") && why.contains("x86_64"), "{why}");
                false
            }
            plan => *plan == Planned::Run,
        })
        .collect();
    assert_eq!(planned, [true, true, true, true, false, false]);
    let override_of = "overrides: [{when: {arch: aarch64}, set: {dom0.device-model: none}}]\n";
    let text = format!(
        "xenlab: 1\nname: t\nxen: debian:trixie\nmatrix: {{arch: [x86_64, aarch64]}}\ndom0: {{device-model: debian}}\n{override_of}steps: [{{under-xen: {{}}}}]\n"
    );
    assert!(cases(&text, &[]).iter().all(|case| case.plan == Planned::Run));
}

#[test]
fn a_way_of_booting_that_is_not_there_is_skipped_with_its_reason() {
    let text = "xenlab: 1\nname: t\nxen: debian:trixie\nmatrix: {arch: [x86_64, aarch64], boot: [direct, bios, uefi, uefi-unified]}\nsteps: [{under-xen: {}}]\n";
    let skipped = |facts: &Facts| -> Vec<(String, String)> {
        let plan = |case: &crate::case::Case| match case.plan(facts, Absent::Nothing) {
            Planned::Skip(why) => Some((case.id.clone(), why)),
            _ => None,
        };
        cases(text, &[]).iter().filter_map(plan).collect()
    };
    // What each case's own facts are is added to these.
    let of = |values: &[(&str, FactValue)]| {
        let mut facts = Facts::default();
        for (name, value) in values {
            facts.set(*name, value.clone());
        }
        facts
    };
    let case = |arch: &str, way: &str, more: &[(&str, FactValue)]| {
        let own = [("arch", FactValue::text(arch)), ("boot.way", FactValue::text(way))];
        let facts = of(&own.into_iter().chain(more.iter().cloned()).collect::<Vec<_>>());
        skipped(&facts)
            .into_iter()
            .find(|(id, _)| *id == format!("t[arch={arch},boot={way}]"))
            .map(|(_, why)| why)
    };
    let efi = |there| [("build.efi", FactValue::Flag(there))];
    assert_eq!(case("x86_64", "bios", &[]), None);
    assert!(case("aarch64", "bios", &[]).unwrap().contains("only x86_64"));
    for way in ["uefi", "uefi-unified"] {
        assert_eq!(case("x86_64", way, &[]), None, "not known yet");
        assert_eq!(case("x86_64", way, &efi(true)), None);
        assert!(case("x86_64", way, &efi(false)).unwrap().contains("without an EFI image"));
    }
    assert_eq!(case("x86_64", "direct", &efi(false)), None);
    let no_room = [("build.no-unified-image", FactValue::text("it has no room"))];
    assert!(case("aarch64", "uefi-unified", &no_room).unwrap().contains("it has no room"));
    assert_eq!(case("aarch64", "uefi", &no_room), None);
}

#[test]
fn what_was_unknown_is_decided_later() {
    let text = format!(
        "{BASE}needs: [{{require: {{build.declared-version: {{at-least: 4.20}}}}, because: too old}}]\nsteps: [{{under-xen: {{}}}}]\n"
    );
    let case = cases(&text, &[]).remove(0);
    assert_eq!(case.plan, Planned::Unknown(vec!["build.declared-version".to_owned()]));
    let version = |v: &str| {
        let mut facts = case.facts.clone();
        facts.set("build.declared-version", FactValue::Version(v.to_owned()));
        facts
    };
    assert_eq!(case.plan(&version("4.20.1"), Absent::Unknown), Planned::Run);
    assert!(
        matches!(case.plan(&version("4.9"), Absent::Unknown), Planned::Skip(b) if b.starts_with("too old ("))
    );
    assert_eq!(case.plan(&case.facts, Absent::Unknown), case.plan);
    // Nobody declared one, and nobody will.
    assert!(
        matches!(case.plan(&case.facts, Absent::Nothing), Planned::Skip(b) if b.contains("it has no value"))
    );
}

#[test]
fn a_step_goes_stays_or_waits() {
    let text = format!(
        "{BASE}dom0: systemd\nsteps:\n  - {{name: always, under-xen: {{}}}}\n  - {{name: minimal, under-xen: {{}}, when: {{dom0: minimal}}}}\n  - {{name: systemd, under-xen: {{}}, when: {{dom0.userland: systemd, arch: x86_64}}}}\n  - {{name: later, under-xen: {{}}, when: {{build.efi: true, arch: x86_64}}}}\n  - {{name: never, under-xen: {{}}, when: {{build.efi: true, arch: aarch64}}}}\n"
    );
    let case = cases(&text, &[]).remove(0);
    let steps: Vec<_> = case.steps.iter().map(|s| (s.path.as_str(), s.title(), s.when.is_some())).collect();
    assert_eq!(
        steps,
        [("steps[0]", "always", false), ("steps[2]", "systemd", false), ("steps[3]", "later", true)]
    );
}

#[test]
fn keys_without_a_value_are_known_to_be_absent() {
    let text =
        |when: &str| format!("{BASE}steps: [{{phase: dom0-ready}}, {{under-xen: {{}}, when: {when}}}]\n");
    let steps = |when: &str, sets: &[&str]| cases(&text(when), sets)[0].steps.len();
    assert_eq!(steps("{machine.cpu: {present: false}}", &[]), 2);
    assert_eq!(steps("{machine.cpu: {present: true}}", &[]), 1);
    assert_eq!(steps("{machine.cpu: {present: true}}", &["machine.cpu=max"]), 2);
    assert_eq!(steps("{machine.cpu: max}", &[]), 1);
    assert_eq!(steps("{xen.args: {contains: noreboot}}", &[]), 1);
    assert_eq!(steps("{xen.args: {contains: noreboot}}", &["xen.args=[noreboot, b]"]), 2);
    assert_eq!(steps("{build.provider: debian, build.spec: {starts-with: 'debian:'}}", &[]), 2);
    assert_eq!(steps("{dom0.memory: {at-least: 1024M, below: 1025M}}", &[]), 2);
    assert_eq!(steps("{machine.cpus: {at-least: 10}}", &["machine.cpus=9"]), 1);
}

#[test]
fn a_condition_that_fails_says_so_whatever_else_is_unknown() {
    let condition: Condition = serde_json::from_str(r#"{"host.kvm": "true", "build.efi": "true"}"#).unwrap();
    assert_eq!(
        condition.evaluate(&facts(None, None), Absent::Unknown),
        Truth::Unknown(vec!["build.efi".into(), "host.kvm".into()])
    );
    assert!(
        matches!(condition.evaluate(&facts(Some(false), None), Absent::Unknown), Truth::Fails(why) if why.starts_with("host.kvm"))
    );
    assert!(
        matches!(condition.evaluate(&facts(Some(true), None), Absent::Nothing), Truth::Fails(why) if why.starts_with("build.efi"))
    );
}

#[test]
fn the_accelerator_is_known_when_it_was_chosen() {
    let text = format!(
        "{BASE}needs: [{{require: {{machine.accel: kvm}}, because: nested}}]\nsteps: [{{under-xen: {{}}}}]\n"
    );
    let planned =
        |sets: &[&str], facts: &Facts| load(&text, "t.yaml", &settings(sets), facts).unwrap().remove(0).plan;
    assert_eq!(planned(&[], &Facts::default()), Planned::Unknown(vec!["machine.accel".to_owned()]));
    assert_eq!(planned(&["machine.accel=kvm"], &Facts::default()), Planned::Run);
    assert!(matches!(planned(&["machine.accel=tcg"], &Facts::default()), Planned::Skip(_)));
    let mut chosen = Facts::default();
    chosen.set("machine.accel", FactValue::text("kvm"));
    assert_eq!(planned(&[], &chosen), Planned::Run);
    assert!(super::shown(&text.replace("kvm", "kmv"), &[]).contains("`kmv` is no value of `machine.accel`"));
}

#[test]
fn a_step_that_is_no_part_of_the_case_is_no_reason_to_skip_it() {
    let text = |step: &str| {
        format!(
            "{BASE}guests: {{g1: {{type: pv}}}}\nsteps:\n  - domain: {{create: g1}}\n  - {step}\n    domain: {{migrate: g1}}\n"
        )
    };
    let with = "when: {build.config: {contains: SHADOW_PAGING}}";
    for (options, step, runs) in [
        (&["PV", "SHADOW_PAGING"][..], with, true),
        (&["PV"], with, true),
        (&["PV", "SHADOW_PAGING"], "name: migrates", true),
        (&["PV"], "name: migrates", false),
    ] {
        let case = cases(&text(step), &[]).remove(0);
        assert!(!matches!(case.plan, Planned::Skip(_)), "not yet known: {:?}", case.plan);
        let mut facts = case.facts.clone();
        facts.set("build.config", FactValue::Set(options.iter().map(|o| (*o).to_owned()).collect()));
        for absent in [Absent::Unknown, Absent::Nothing] {
            let planned = case.plan(&facts, absent);
            assert_eq!(!matches!(planned, Planned::Skip(_)), runs, "{options:?}, {step}: {planned:?}");
        }
    }
}
