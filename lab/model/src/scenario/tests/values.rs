//! Values: text stays text, quotes mean nothing, `${…}` is replaced where it may be.

use super::cases;
use crate::matcher::Matcher;
use crate::scenario::{paths, schema};
use crate::step::Body;

const BASE: &str = "xenlab: 1\nname: t\narch: x86_64\nxen: debian:trixie\n";

fn argv(what: &str, sets: &[&str]) -> Vec<String> {
    match &cases(&format!("{BASE}{what}"), sets)[0].steps[0].body {
        Body::Run(run) => run.argv.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_unquoted_version_is_the_text_that_was_written() {
    for written in ["4.20", "'4.20'", "\"4.20\""] {
        let text = format!(
            "xenlab: 1\nname: t\narch: x86_64\nxen: {{build: debian:trixie, expect-version: {written}}}\nmatrix: {{vars.v: [{written}]}}\nsteps:\n  - xl-info: {{xen_version: {written}}}\n  - pkg-config: {{versions: {{xencall: {written}}}}}\n"
        );
        let case = cases(&text, &[]).remove(0);
        assert_eq!(case.subject.expect_version.as_deref(), Some("4.20"));
        assert_eq!(case.id, "t[vars.v=4.20]");
        assert_eq!(case.vars["v"], "4.20");
        match (&case.steps[0].body, &case.steps[1].body) {
            (Body::XlInfo(info), Body::PkgConfig(pc)) => {
                assert_eq!(info.fields["xen_version"], Matcher::Equals("4.20".into()));
                assert_eq!(pc.versions["xencall"], "4.20");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn words_that_yaml_has_plans_for_are_text() {
    let plain =
        "steps: [{run: {argv: [yes, no, on, 0x10, 1e3, 010, 2001-01-01, .inf, 1_000, 12:30:45, =, y]}}]\n";
    assert_eq!(
        argv(plain, &[]),
        ["yes", "no", "on", "0x10", "1e3", "010", "2001-01-01", ".inf", "1_000", "12:30:45", "=", "y"]
    );
    let quoted = "steps: [{run: {argv: ['null', \"~\", '', 'true']}}]\n";
    assert_eq!(argv(quoted, &[]), ["null", "~", "", "true"]);
}

#[test]
fn quoted_numbers_and_flags_are_what_their_keys_say() {
    let case = cases(
        &format!(
            "{BASE}machine: {{cpus: '3'}}\nsteps: [{{xenstored: {{daemon: any, self-test: \"true\"}}}}]\n"
        ),
        &[],
    )
    .remove(0);
    assert_eq!(case.config.machine.cpus, 3);
    assert!(matches!(&case.steps[0].body, Body::Xenstored(x) if x.self_test));
}

#[test]
fn block_scalars_and_comments() {
    let text = format!(
        "{BASE}steps:\n  # why\n  - run:\n      script: | # really\n        xl list\n        echo '# not a comment'\n      stdout: >-\n        one\n        line\n"
    );
    match &cases(&text, &[])[0].steps[0].body {
        Body::Run(run) => {
            assert_eq!(run.script.as_deref(), Some("xl list\necho '# not a comment'\n"));
            assert_eq!(run.stdout, Some(Matcher::Equals("one line".into())));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn interpolation() {
    let head = "vars: {who: world, greeting: 'hello ${vars.who}'}\nmachine: {cpus: '${vars.n}'}\nmatrix: {vars.n: [3, 4]}\n";
    let steps = "steps: [{run: {argv: ['${vars.greeting}!', '${arch}', '${xen}', '${dom0.memory}', '${machine.cpus}', '$${vars.who}', '$HOME', 'a${ vars.who }b']}}]\n";
    assert_eq!(
        argv(&format!("{head}{steps}"), &["vars.who=moon"]),
        ["hello moon!", "x86_64", "debian:trixie", "1G", "3", "${vars.who}", "$HOME", "amoonb"]
    );
    let all = cases(&format!("{BASE}{head}{steps}"), &[]);
    assert_eq!(all.iter().map(|c| c.config.machine.cpus).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn the_nonce_is_the_case_s_and_the_run_s() {
    let text = format!("{BASE}dom0: {{args: ['n=${{run.nonce}}']}}\nsteps: [{{under-xen: {{}}}}]\n");
    let load = |seed| {
        let settings = crate::scenario::Settings { seed, ..Default::default() };
        crate::scenario::load(&text, "t.yaml", &settings, &crate::fact::Facts::default()).unwrap().remove(0)
    };
    let (a, again, b) = (load(1), load(1), load(2));
    assert_eq!(a, again);
    assert_ne!(a.nonce, b.nonce);
    assert_eq!(a.config.dom0.args, [format!("n={}", a.nonce)]);
}

#[test]
fn primary_keys_and_lists_of_one() {
    let text = format!(
        "{BASE}dom0: systemd:trixie\nboot: direct\nsteps:\n  - phase: dom0-ready\n  - run: xl list\n  - process: [xenstored, xenconsoled]\n  - process: xenconsoled\n  - file: /proc/xen/capabilities\n  - xenstored: oxenstored\n  - pkg-config: all\n  - boot-files: debian\n  - run: {{script: 'true', via: serial}}\n"
    );
    let case = cases(&text, &[]).remove(0);
    assert_eq!(case.config.dom0.userland.to_string(), "systemd:trixie");
    let json: Vec<String> = case.steps.iter().map(|s| serde_json::to_string(&s.body).unwrap()).collect();
    insta::assert_snapshot!("shorthands", json.join("\n").replace(&case.nonce, "NONCE"));
}

#[test]
fn a_case_survives_a_bundle() {
    let text = include_str!("../../../../../scenarios/dom0-boot.yaml");
    for case in cases(text, &[]) {
        let json = serde_json::to_string(&case).unwrap();
        assert_eq!(serde_json::from_str::<crate::case::Case>(&json).unwrap(), case);
    }
}

#[test]
fn every_path_is_told_with_its_type() {
    let table: Vec<String> = paths()
        .iter()
        .map(|p| {
            let default = p.default.as_deref().map(|d| format!(" = {d}")).unwrap_or_default();
            format!("{} ({}){} {:?}: {} — {}", p.path, p.aliases.join(" "), default, p.kind, p.takes, p.help)
        })
        .collect();
    insta::assert_snapshot!("paths", table.join("\n"));
}

#[test]
fn the_published_schema() {
    insta::assert_snapshot!("schema", serde_json::to_string_pretty(&schema()).unwrap());
}
