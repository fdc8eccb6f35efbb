//! Axes that a built XTF tree gives, and the steps that run its instances.

use super::{cases, shown};
use crate::case::{Planned, as_dom0};
use crate::step::Body;
use crate::step::xtf::{RunAs, Xtf};

const BASE: &str = "xenlab: 1\nname: t\narch: x86_64\nxen: debian:bookworm\nvars: {tree: /a/tree}\n";

fn with(axis: &str, step: &str) -> String {
    format!("{BASE}matrix: {{vars.test: {axis}}}\nsteps:\n  - xtf: {step}\n")
}

const STEP: &str = "{tree: '${vars.tree}', test: '${vars.test}'}";

fn step(case: &crate::case::Case) -> &Xtf {
    match &case.steps.last().unwrap().body {
        Body::Xtf(xtf) => xtf,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_axis_of_instances() {
    let text = with("{xtf: {tree: '${vars.tree}'}}", STEP);
    let ids = |sets: &[&str]| cases(&text, sets).iter().map(|c| c.id.clone()).collect::<Vec<_>>();
    let all = [
        "t[vars.test=test-hvm64-invlpg~hap]",
        "t[vars.test=test-hvm64-invlpg~shadow]",
        "t[vars.test=test-pv64-xsa-7]",
    ];
    assert_eq!(ids(&[]), all);
    // What the command line says takes the place of the values, whatever the generator would give.
    assert_eq!(ids(&["vars.test=test-pv64-example"]), ["t[vars.test=test-pv64-example]"]);
    let known = step(&cases(&text, &[])[0]).known.clone().unwrap();
    assert_eq!((known.category.as_str(), known.instance.environment.as_str()), ("functional", "hvm64"));
    assert_eq!(known.instance.variation.as_deref(), Some("hap"));
}

#[test]
fn what_it_may_be_dom0_for_is_settled_when_it_is_planned() {
    let text = with("{xtf: {tree: '${vars.tree}'}}", STEP);
    let planned = cases(&text, &["vars.test=test-pv64-xsa-7"]);
    assert_eq!(step(&planned[0]).run_as, RunAs::Dom0, "it is on the list");
    assert!(as_dom0(&planned[0].steps).is_some());
    // Nobody needs a second processor, or a Linux's memory; what the user says counts.
    assert_eq!(
        (planned[0].config.machine.cpus, planned[0].config.dom0.memory.to_string()),
        (1, "128M".to_owned())
    );
    let said = cases(&text, &["vars.test=test-pv64-xsa-7", "machine.cpus=2", "dom0.memory=1G"]);
    assert_eq!((said[0].config.machine.cpus, said[0].config.dom0.memory.to_string()), (2, "1G".to_owned()));
    // Other steps need a dom0 that is one.
    let more = format!("{text}  - xl-info: {{}}\n");
    let planned = cases(&more, &["vars.test=test-pv64-xsa-7"]);
    let run_as: Vec<RunAs> = planned[0]
        .steps
        .iter()
        .filter_map(|s| match &s.body {
            Body::Xtf(xtf) => Some(xtf.run_as),
            _ => None,
        })
        .collect();
    assert_eq!((run_as, planned[0].config.machine.cpus), (vec![RunAs::DomU], 2));
    assert_eq!(step(&cases(&text, &["vars.test=test-pv64-example"])[0]).run_as, RunAs::DomU);
}

#[test]
fn an_instance_of_another_architecture_is_skipped() {
    let text = with("[test-pv64-xsa-7]", STEP).replace("x86_64", "aarch64");
    let planned = cases(&text, &[]);
    let Planned::Skip(why) = &planned[0].plan else { panic!("{:?}", planned[0].plan) };
    assert_eq!(why, "pv64 is an environment of x86_64, the machine is aarch64");
}

#[test]
fn mistakes_say_where() {
    let tree = with("{xtf: {tree: /no/tree}}", STEP);
    insta::assert_snapshot!("xtf-no-tree", shown(&tree, &[]));
    let words =
        with("{xtf: {tree: '${vars.tree}', category: [xas], environment: pv65, test: exmaple}}", STEP);
    insta::assert_snapshot!("xtf-unknown-words", shown(&words, &[]));
    let empty = with("{xtf: {tree: '${vars.tree}', environment: pv64, test: invlpg}}", STEP);
    insta::assert_snapshot!("xtf-nothing-left", shown(&empty, &[]));
    let key = with("{xtf: {tree: '${vars.tree}', categry: xsa}}", STEP);
    insta::assert_snapshot!("xtf-unknown-key", shown(&key, &[]));
    let instance = with("[test-pv64-xsa-8]", STEP);
    insta::assert_snapshot!("xtf-unknown-instance", shown(&instance, &[]));
    let other = with(
        "[test-pv64-xsa-7]",
        "{tree: '${vars.tree}', test: '${vars.test}', run-as: dom0}\n  - xl-info: {}",
    );
    insta::assert_snapshot!("xtf-dom0-and-other-steps", shown(&other, &[]));
    let required = with("{xtf: {tree: '${vars.tree}'}}", STEP)
        .replace("vars: {tree: /a/tree}", "vars: {tree: {required: true, help: a built tree}}");
    insta::assert_snapshot!("xtf-tree-not-given", shown(&required, &[]));
}
