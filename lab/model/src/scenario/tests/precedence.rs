//! Who wins: defaults < file < overrides in order < axis < `--set`; and what a case is called.

use super::cases;
use crate::place::Place;
use crate::units::{GuestDuration, Size};

const BASE: &str = "xenlab: 1\nname: t\narch: x86_64\nxen: {build: debian:trixie, args: [a]}\n";
const STEPS: &str = "steps: [{under-xen: {}}]\n";

fn memory(what: &str, sets: &[&str]) -> Size {
    let cases = cases(&format!("{BASE}{what}{STEPS}"), sets);
    assert_eq!(cases.len(), 1);
    cases[0].config.dom0.memory
}

#[test]
fn each_level_beats_those_before_it() {
    let file = "dom0: {memory: 2G}\n";
    let overrides = "overrides: [{set: {dom0.memory: 3G}}, {when: {arch: x86_64}, set: {dom0.memory: 4G}}, {when: {arch: aarch64}, set: {dom0.memory: 5G}}]\n";
    let axis = "matrix: {dom0.memory: [6G]}\n";
    assert_eq!(memory("", &[]), Size::mib(1 << 10));
    assert_eq!(memory(file, &[]), Size::mib(2 << 10));
    assert_eq!(memory(&format!("{file}{overrides}"), &[]), Size::mib(4 << 10));
    assert_eq!(memory(&format!("{file}{overrides}{axis}"), &[]), Size::mib(6 << 10));
    assert_eq!(memory(&format!("{file}{overrides}{axis}"), &["dom0.memory=7G"]), Size::mib(7 << 10));
    assert_eq!(memory("", &["dom0.memory=7G"]), Size::mib(7 << 10));
}

#[test]
fn an_override_sees_what_those_before_it_did_and_what_beats_it() {
    let chain = "overrides: [{set: {dom0.memory: 2G}}, {when: {dom0.memory: 2G}, set: {machine.cpus: 3}}, {when: {dom0.memory: {at-least: 8G}}, set: {machine.cpus: 4}}]\n";
    let cpus = |sets: &[&str]| cases(&format!("{BASE}{chain}{STEPS}"), sets)[0].config.machine.cpus;
    assert_eq!(cpus(&[]), 3);
    assert_eq!(cpus(&["dom0.memory=8G"]), 4);
    assert_eq!(cpus(&["dom0.memory=1G"]), 2);
}

#[test]
fn places_say_where_a_value_came_from() {
    let text = format!(
        "{BASE}dom0: {{vcpus: 1}}\nmatrix:\n  dom0.memory: [2G]\noverrides: [{{add: {{xen.args: [b]}}}}]\n{STEPS}"
    );
    let case = cases(&text, &["machine.cpus=4"]).remove(0);
    let line = |path: &str| case.places[path].to_string();
    assert_eq!(line("xen.build"), "t.yaml:4:14");
    assert_eq!(line("xen.args[0]"), "t.yaml:4:36");
    assert_eq!(line("xen.args[1]"), "t.yaml:8:31");
    assert_eq!(line("dom0.memory"), "t.yaml:7:17");
    assert_eq!(line("dom0.vcpus"), "t.yaml:5:15");
    assert_eq!(case.places["machine.cpus"], Place::CommandLine { argument: 2 });
    assert_eq!(case.places["machine.accel"], Place::Default);
    assert_eq!(line("steps[0].under-xen"), "t.yaml:9:21");
    assert_eq!(case.config.xen.args, ["a", "b"]);
}

#[test]
fn a_section_set_by_its_primary_key_keeps_its_others() {
    let text =
        format!("{BASE}matrix: {{xen: [debian:sid, {{build: 'file:xen', tools: debian:sid}}]}}\n{STEPS}");
    let all = cases(&text, &[]);
    assert_eq!(
        all.iter().map(|c| c.subject.to_string()).collect::<Vec<_>>(),
        ["debian:sid", "file:xen+debian:sid"]
    );
    assert!(all.iter().all(|c| c.config.xen.args == ["a"] && c.id == "t"));
    let all = cases(
        &format!("{BASE}{STEPS}"),
        &["xen={build: file:x, tools: debian:sid, expect-version: 4.20}", "xen.args=[c, d]"],
    );
    assert_eq!(all[0].subject.to_string(), "file:x+debian:sid");
    assert_eq!(all[0].subject.expect_version.as_deref(), Some("4.20"));
    assert_eq!(all[0].config.xen.args, ["c", "d"]);
}

#[test]
fn ids_hold_every_axis_but_the_subject_in_file_order() {
    let text = format!(
        "{BASE}matrix: {{dom0.userland: [minimal, systemd], xen: [debian:sid, debian:trixie], boot: [direct], xen.args: [[], [x, y]]}}\n{STEPS}"
    );
    let all = cases(&text, &[]);
    assert_eq!(all.len(), 8);
    assert_eq!(all[0].shown(), "t[dom0.userland=minimal,boot=direct,xen.args=none] @ debian:sid");
    assert_eq!(all[7].shown(), "t[dom0.userland=systemd,boot=direct,xen.args=x+y] @ debian:trixie");
    assert_eq!(all[7].axes[1], ("xen".to_owned(), "debian:trixie".to_owned()));
    let nonces: std::collections::BTreeSet<_> = all.iter().map(|c| &c.nonce).collect();
    assert_eq!(nonces.len(), 8);
}

#[test]
fn set_makes_and_replaces_axes() {
    let ids = |what: &str, sets: &[&str]| {
        cases(&format!("{BASE}{what}{STEPS}"), sets).iter().map(crate::case::Case::shown).collect::<Vec<_>>()
    };
    assert_eq!(
        ids("", &["dom0.memory=1G", "dom0.memory=2G"]),
        ["t[dom0.memory=1G] @ debian:trixie", "t[dom0.memory=2G] @ debian:trixie"]
    );
    // One value is no axis, unless the file has one there: then it takes the axis's place, and the id stays comparable.
    assert_eq!(ids("", &["dom0.memory=2G"]), ["t @ debian:trixie"]);
    let axes = "matrix: {arch: [x86_64, aarch64], dom0.memory: [1G, 2G]}\n";
    assert_eq!(
        ids(axes, &["arch=aarch64", "dom0.memory=2G"]),
        ["t[arch=aarch64,dom0.memory=2G] @ debian:trixie"]
    );
    // A section and its primary key are one PATH.
    assert_eq!(ids("matrix: {xen: [debian:sid]}\n", &["xen.build=debian:forky"]), ["t @ debian:forky"]);
    assert_eq!(ids("matrix: {boot: [direct]}\n", &["boot.way=direct"]), ["t[boot=direct] @ debian:trixie"]);
}

#[test]
fn exclude_takes_points_out() {
    let text = format!(
        "{BASE}matrix: {{arch: [x86_64, aarch64], vars.type: [pv, pvh, arm]}}\nexclude:\n  - {{arch: x86_64, vars.type: arm}}\n  - {{arch: aarch64, vars.type: [pv, pvh]}}\n{STEPS}"
    );
    let ids: Vec<_> = cases(&text, &[]).into_iter().map(|c| c.id).collect();
    assert_eq!(
        ids,
        ["t[arch=x86_64,vars.type=pv]", "t[arch=x86_64,vars.type=pvh]", "t[arch=aarch64,vars.type=arm]"]
    );
}

#[test]
fn limits_and_the_rest_arrive_typed() {
    let case = cases(&format!("{BASE}limits: {{boot: 90s, step: 500ms}}\ndom0: {{userland: systemd, xenstored: oxenstored}}\nmachine: {{devices: edu}}\n{STEPS}"), &[]).remove(0);
    assert_eq!(case.config.limits.boot, Some(GuestDuration::secs(90)));
    assert_eq!(case.config.dom0.xenstored, Some(crate::scenario::config::StoreDaemon::Oxenstored));
    assert_eq!(case.config.machine.devices, ["edu"]);
    assert_eq!(case.config.limits.case, None);
}
