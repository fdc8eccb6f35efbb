//! Properties: nothing panics, what is valid means the same however it is written.

use super::super::tree::{Kind, Node, Within, parse};
use super::{Set, Settings};
use crate::fact::Facts;
use crate::scenario::{load, render};
use proptest::prelude::*;

fn anything(text: &str, sets: Vec<Set>) {
    match load(text, "t.yaml", &Settings { sets, ..Settings::default() }, &Facts::default()) {
        Ok(cases) => assert!(!cases.is_empty(), "no case and no mistake"),
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            let shown = render(&mistakes, false);
            assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
        }
    }
}

/// Pieces that scenarios are made of, put together at random.
fn pieces() -> impl Strategy<Value = String> {
    let words = [
        "xenlab: 1\n",
        "name: t\n",
        "arch: x86_64\n",
        "xen: debian:trixie\n",
        "steps:\n",
        "  - ",
        "- ",
        "run",
        "phase",
        ": ",
        ":",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "'",
        "\"",
        "\n",
        "  ",
        "${",
        "}",
        "vars.a",
        "run.nonce",
        "matrix: ",
        "vars: ",
        "overrides: ",
        "set: ",
        "add: ",
        "when: ",
        "exclude: ",
        "needs: ",
        "require: ",
        "because: x",
        "dom0.memory",
        "1G",
        "0",
        "-1",
        "|",
        ">",
        "&a ",
        "*a",
        "!t ",
        "<<",
        "# c\n",
        "---\n",
        "at-least",
        "same-as",
        "build.efi",
        "é",
        "\u{0}",
        "\t",
        "limits: {boot: 1s}\n",
    ];
    proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40).prop_map(|w| w.concat())
}

/// A scalar, list or mapping.
fn tree() -> impl Strategy<Value = serde_json::Value> {
    let leaf = "[ -~äλ]{0,12}".prop_map(serde_json::Value::String);
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::Array),
            proptest::collection::btree_map("[a-z~-]{1,6}", inner, 0..4)
                .prop_map(|m| m.into_iter().collect()),
        ]
    })
}

fn plain(node: &Node) -> serde_json::Value {
    match &node.kind {
        Kind::Scalar(text) => text.clone().into(),
        Kind::List(items) => items.iter().map(plain).collect(),
        Kind::Map(entries) => entries.iter().map(|(k, v)| (k.text.clone(), plain(v))).collect(),
        Kind::Bad => serde_json::Value::Null,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_text_never_panics(text in "\\PC*") {
        anything(&text, Vec::new());
    }

    #[test]
    fn random_pieces_never_panic(text in pieces()) {
        anything(&text, Vec::new());
    }

    #[test]
    fn a_scenario_with_a_hole_never_panics(hole in pieces(), at in 0usize..2000) {
        let text = include_str!("../../../../../scenarios/dom0-boot.yaml");
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        anything(&format!("{}{hole}{}", &text[..at], &text[at..]), Vec::new());
    }

    #[test]
    fn random_sets_never_panic(path in "[a-z0-9.]{0,12}|dom0\\.memory|xen|xen\\.args|vars\\.word", value in "\\PC{0,20}|\\[[a-z,]*\\]?|\\{build: [a-z:]*\\}") {
        let text = include_str!("../../../../../scenarios/dom0-boot.yaml");
        anything(text, vec![Set { path, value, argument: 1 }]);
    }

    /// What serde_yaml writes, block style and its own choice of quotes, is read as what it was.
    #[test]
    fn trees_round_trip(value in tree()) {
        let text = serde_yaml::to_string(&value).unwrap();
        let (node, mistakes) = parse(&text, &Within::File("t"));
        prop_assert!(mistakes.is_empty(), "{text}\n{mistakes:?}");
        prop_assert_eq!(plain(&node.unwrap()), value);
    }

    /// A valid scenario means the same in JSON, which is YAML's flow style with every value quoted.
    #[test]
    fn a_valid_scenario_round_trips(memory in 1u64..64, vcpus in 1u32..8, args in proptest::collection::vec("[a-z][a-z0-9=._-]{0,8}", 0..4),
        arches in proptest::sample::subsequence(vec!["x86_64", "aarch64"], 1..=2), word in "[ -#%-~]{0,16}", limit in 1u32..9999,
        phase in proptest::sample::select(xenlab_console::Phase::ALL.to_vec())) {
        let value = serde_json::json!({
            "xenlab": "1", "name": "t", "vars": {"word": {"default": word, "help": "any"}},
            "matrix": {"arch": arches, "xen": ["debian:trixie"]},
            "dom0": {"memory": format!("{memory}G"), "vcpus": vcpus.to_string()}, "xen": {"args": args},
            "limits": {"boot": format!("{limit}ms")},
            "steps": [{"phase": phase}, {"run": {"argv": ["echo", "${vars.word}"], "stdout": "${vars.word}"}, "within": "3s"}],
        });
        let settings = Settings::default();
        let block = serde_yaml::to_string(&value).unwrap();
        let from_block = load(&block, "t", &settings, &Facts::default()).map_err(|d| TestCaseError::fail(render(&d, false)))?;
        let flow = serde_json::to_string(&value).unwrap();
        let mut from_flow = load(&flow, "t", &settings, &Facts::default()).map_err(|d| TestCaseError::fail(render(&d, false)))?;
        prop_assert_eq!(from_block.len(), arches.len());
        prop_assert_eq!(from_block[0].config.dom0.memory, crate::units::Size::mib(memory << 10));
        prop_assert_eq!(&from_block[0].vars["word"], &word);
        for (a, b) in from_flow.iter_mut().zip(&from_block) {
            a.places = b.places.clone();
        }
        prop_assert_eq!(from_block, from_flow);
    }
}
