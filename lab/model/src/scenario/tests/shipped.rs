//! The scenarios that ship: they load, and mean to any reader of YAML what they mean here.

use super::super::tree::{Kind, Node, Within, parse};
use super::cases;
use crate::case::Planned;
use crate::step::Body;
use crate::units::Size;

const DOM0_BOOT: &str = include_str!("../../../../../scenarios/dom0-boot.yaml");
const XL_INFO: &str = include_str!("../../../../../scenarios/xl-info.yaml");

#[test]
fn both_readers_see_the_same_values() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scenarios");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        files += 1;
        let text = std::fs::read_to_string(&path).unwrap();
        let other: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
        let (ours, complaints) = parse(&text, &Within::File("f"));
        assert_eq!(complaints, [], "{}", path.display());
        same(&ours.unwrap(), &other, &path.display().to_string());
        let sets: &[&str] = if path.ends_with("xtf.yaml") { &["vars.tree=/a/tree"] } else { &[] };
        assert!(!cases(&text, sets).is_empty(), "{}", path.display());
    }
    assert!(files >= 2);
}

/// Compares values; a number is compared by the text it was written as, which a scenario keeps.
fn same(ours: &Node, other: &serde_yaml::Value, path: &str) {
    use serde_yaml::Value;
    match (&ours.kind, other) {
        (Kind::Scalar(text), Value::String(s)) => assert_eq!(text, s, "{path}"),
        (Kind::Scalar(text), Value::Bool(b)) => assert_eq!(text, &b.to_string(), "{path}"),
        (Kind::Scalar(text), Value::Number(n)) => assert_eq!(text, &n.to_string(), "{path}"),
        (Kind::List(items), Value::Sequence(others)) => {
            assert_eq!(items.len(), others.len(), "{path}");
            for (i, (a, b)) in items.iter().zip(others).enumerate() {
                same(a, b, &format!("{path}[{i}]"));
            }
        }
        (Kind::Map(entries), Value::Mapping(others)) => {
            assert_eq!(entries.len(), others.len(), "{path}");
            for ((key, a), (other, b)) in entries.iter().zip(others) {
                assert_eq!(Some(key.text.as_str()), other.as_str(), "{path}");
                same(a, b, &format!("{path}.{}", key.text));
            }
        }
        (ours, other) => panic!("{path}: {ours:?} here, {other:?} there"),
    }
}

#[test]
fn dom0_boot_is_a_case_for_each_architecture() {
    let cases = cases(DOM0_BOOT, &[]);
    let ids: Vec<_> = cases.iter().map(crate::case::Case::shown).collect();
    assert_eq!(
        ids,
        ["dom0-boot[arch=x86_64] @ debian:bookworm", "dom0-boot[arch=aarch64] @ debian:bookworm"]
    );
    assert_eq!(cases[0].config.xen.args, ["bootscrub=0", "spec-ctrl=no"]);
    assert_eq!(cases[1].config.xen.args, ["bootscrub=0"]);
    assert_eq!(cases[0].config.dom0.memory, Size::mib(1024));
    assert!(cases.iter().all(|c| c.plan == Planned::Run));
    let kinds: std::collections::BTreeSet<_> = cases[0].steps.iter().map(|s| s.body.kind()).collect();
    let unused = crate::step::kinds().into_iter().map(|k| k.name).filter(|k| !kinds.contains(k));
    // It judges the boot itself, and there is nothing to freeze; XTF has a scenario of its own.
    assert_eq!(
        unused.collect::<Vec<_>>(),
        ["freeze", "xtf", "domain", "device", "vchan", "leaks", "store", "agent"]
    );
}

#[test]
fn the_userland_decides_about_units() {
    let units = |sets: &[&str]| {
        let has = |c: &crate::case::Case| c.steps.iter().any(|s| s.title() == "no unit has failed");
        cases(DOM0_BOOT, sets).iter().map(has).collect::<Vec<_>>()
    };
    assert_eq!(units(&[]), [false, false]);
    assert_eq!(units(&["dom0.userland=systemd"]), [true, true]);
    assert_eq!(units(&["dom0.userland=systemd:trixie", "arch=aarch64"]), [true]);
}

#[test]
fn four_cases_of_two_builds() {
    let cases = cases(DOM0_BOOT, &["xen=debian:bookworm", "xen=debian:trixie", "dom0.userland=systemd"]);
    let ids: Vec<_> = cases.iter().map(crate::case::Case::shown).collect();
    assert_eq!(
        ids,
        [
            "dom0-boot[arch=x86_64] @ debian:bookworm",
            "dom0-boot[arch=x86_64] @ debian:trixie",
            "dom0-boot[arch=aarch64] @ debian:bookworm",
            "dom0-boot[arch=aarch64] @ debian:trixie",
        ]
    );
    assert!(
        cases.iter().all(|c| c.config.xen.args.contains(&"bootscrub=0".to_owned())),
        "an axis `xen` leaves its other keys"
    );
}

#[test]
fn scripts_get_variables_as_environment_and_values_by_interpolation() {
    let case = cases(DOM0_BOOT, &[]).remove(0);
    let run = case
        .steps
        .iter()
        .find_map(|s| match &s.body {
            Body::Run(run) if run.exit.is_some() => Some(run),
            _ => None,
        })
        .unwrap();
    let word = format!("xenlab-{}", case.nonce);
    assert_eq!(run.env["VARS_WORD"], word);
    assert_eq!(run.env["RUN_NONCE"], case.nonce);
    assert_eq!(run.env["ARCH"], "x86_64");
    assert!(run.script.as_ref().unwrap().contains("$VARS_WORD"));
    assert_eq!(run.stdout, Some(crate::matcher::Matcher::Equals(format!("out {word}"))));
}

/// A template is shared by the cases that differ in nothing its set-up looks at.
#[test]
fn a_set_up_gets_the_variables_it_names() {
    let text = "xenlab: 1\nname: t\narch: x86_64\nxen: debian:bookworm\nmatrix: {vars.n: ['1', '2']}\n\
                setup:\n  - run: echo one\n  - run: echo $ARCH\nsteps:\n  - run: echo $VARS_N\n";
    let cases = cases(text, &[]);
    let env = |step: &crate::step::Step| match &step.body {
        Body::Run(run) => run.env.keys().cloned().collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    assert_eq!((env(&cases[0].setup[0]), env(&cases[0].setup[1])), (vec![], vec!["ARCH".to_owned()]));
    assert_eq!(env(&cases[0].steps[0]), ["ARCH", "RUN_NONCE", "VARS_N"]);
    assert_eq!(cases[0].setup, cases[1].setup);
}

#[test]
fn the_bench_s_scenario_is_short() {
    let cases = cases(XL_INFO, &["arch=aarch64"]);
    assert_eq!(cases.len(), 1);
    assert_eq!(cases[0].id, "xl-info[arch=aarch64]");
    assert_eq!(cases[0].steps.iter().map(|s| s.body.kind()).collect::<Vec<_>>(), ["phase", "xl-info"]);
}

/// docs/SCENARIO.md names everything that there is.
#[test]
fn the_reference_is_complete() {
    let text = include_str!("../../../../../docs/SCENARIO.md");
    let example = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(cases(example, &[]).len(), 2);
    let mut missing = Vec::new();
    let kinds = crate::step::kinds().into_iter().map(|k| k.name.to_owned());
    let ops = crate::matcher::Op::ALL.into_iter().map(|op| op.name().to_owned());
    let phases = xenlab_console::Phase::ALL.into_iter().map(|p| p.name().to_owned());
    for word in kinds.chain(ops).chain(phases) {
        if !text.contains(&format!("`{word}")) {
            missing.push(word);
        }
    }
    for path in crate::scenario::paths() {
        let last = path.path.rsplit('.').next().unwrap();
        if !text.contains(&format!("{last}:")) && !text.contains(&format!("{last}*:")) {
            missing.push(path.path.clone());
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}
