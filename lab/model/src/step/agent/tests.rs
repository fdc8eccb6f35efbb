//! Each node of each contract, missing and wrong, is caught.

use super::*;
use crate::step::testing::{bad, facts, judge, ran, said};

fn step(contract: &str) -> Agent {
    Agent { contract: contract.to_owned(), guest: "g1".to_owned(), of: None }
}

const GOOD: &[(&str, &[(&str, &str)])] = &[
    (
        "xen-guest-agent",
        &[
            ("attr/PVAddons/MajorVersion", "1"),
            ("attr/PVAddons/MinorVersion", "0"),
            ("attr/PVAddons/MicroVersion", "0"),
            ("attr/PVAddons/BuildVersion", "proto-0.4.0"),
            ("data/os_distro", "Debian"),
            ("data/os_name", "Debian 12.0.0"),
            ("data/os_majorver", "12"),
            ("data/os_uname", "6.1.0-40-arm64"),
            ("data/meminfo_total", "90000"),
            ("data/meminfo_free", "50000"),
            ("attr/vif/0", ""),
            ("attr/vif/0/ipv4/0", "10.0.0.2"),
        ],
    ),
    (
        "windows-pv",
        &[
            ("drivers/0", "Xen_Project XENBUS 9.1.0.7 "),
            ("drivers/1", "Xen_Project XENIFACE 9.1.0.7 (DEBUG)"),
            ("control/feature-suspend", "1"),
            ("control/feature-poweroff", "1"),
            ("control/feature-reboot", "1"),
            ("control/feature-s3", "1"),
            ("control/feature-s4", "1"),
            ("device/vif/0/state", "4"),
            ("device/vif/0/request-rx-copy", "1"),
            ("device/vif/0/feature-sg", "1"),
            ("device/vif/0/feature-rx-notify", "1"),
            ("device/vif/0/feature-gso-tcpv4", "1"),
            ("device/vif/0/feature-gso-tcpv6", "0"),
            ("device/vif/0/feature-no-csum-offload", "0"),
            ("device/vif/0/feature-ipv6-csum-offload", "1"),
        ],
    ),
];

fn evidence<'a>(nodes: impl IntoIterator<Item = (&'a str, &'a str)>) -> AgentEvidence {
    let mut text =
        "home /local/domain/3\n/local/domain/3 = \"\"\n/local/domain/3/device/vif/0 = \"\"\n".to_owned();
    for (path, value) in nodes {
        text.push_str(&format!("/local/domain/3/{path} = \"{value}\"\n"));
    }
    let command = ran("list", 0, &text, "");
    AgentEvidence { domains: vec![Published { domain: "g1".into(), command, timed_out: Some(5.0) }] }
}

#[test]
fn what_keeps_a_contract_passes() {
    for (contract, nodes) in GOOD {
        let evidence = evidence(nodes.iter().copied());
        let checks = judge(&step(contract), &evidence, &facts());
        assert_eq!(bad(&checks), Vec::<String>::new(), "{checks:?}");
        assert!(step(contract).is_kept(&evidence.domains[0].command.stdout.text));
        let only = said(&checks, "contract").starts_with("contract only");
        assert_eq!(only, *contract == "windows-pv");
    }
}

#[test]
fn each_node_that_is_missing_or_wrong_is_caught() {
    for (contract, nodes) in GOOD {
        let contract_of = step(contract).contract().unwrap();
        for (path, value) in *nodes {
            let is = |node: &&Node| {
                let wanted = node.path.replace(VIF, "0");
                let by_path =
                    wanted == *path || wanted.strip_suffix(ANY).is_some_and(|f| path.starts_with(f));
                by_path && node.value.is_match(value)
            };
            let node = contract_of.nodes.iter().find(is).unwrap();
            let without = evidence(nodes.iter().copied().filter(|(p, _)| p != path));
            let checks = bad(&judge(&step(contract), &without, &facts()));
            let kept = step(contract).is_kept(&without.domains[0].command.stdout.text);
            assert_eq!(kept, node.optional, "{path}");
            // Of several drivers that are listed, those that are left are shown.
            match (node.optional, node.path.ends_with(ANY)) {
                (true, _) => assert!(checks.is_empty(), "{path}: {checks:?}"),
                (false, false) => assert_eq!(checks, [format!("{path} FAIL agent.missing")]),
                (false, true) => assert_eq!(checks, [format!("{} FAIL agent.value", node.path)]),
            }
            let lie = if value.is_empty() { "x" } else { "" };
            let wrong = evidence(nodes.iter().map(|(p, v)| (*p, if p == path { lie } else { *v })));
            let checks = judge(&step(contract), &wrong, &facts());
            let name = node.path.replace(VIF, "0");
            assert_eq!(bad(&checks), [format!("{name} FAIL agent.value")], "{path}");
            assert!(said(&checks, &name).contains(&node.source));
            assert_eq!(said(&checks, &name).starts_with("contract only"), contract_of.contract_only);
        }
    }
}

#[test]
fn what_is_not_the_guests_own_is_none_of_its() {
    // Another domain whose number begins alike, and a node without a value.
    let text =
        "home /local/domain/3\n/local/domain/31/data/x = \"1\"\n/local/domain/3/data/y = \"2\"\n(noise)\n";
    let nodes = nodes(text);
    assert_eq!(nodes.into_iter().collect::<Vec<_>>(), [("data/y".to_owned(), "2".to_owned())]);
}

#[test]
fn a_guest_that_is_gone_and_a_contract_that_is_none() {
    let command = ran("list", 1, "", "g1 is an invalid domain identifier");
    let gone = AgentEvidence { domains: vec![Published { domain: "g1".into(), command, timed_out: None }] };
    assert_eq!(bad(&judge(&step("windows-pv"), &gone, &facts())), ["contract FAIL guest.gone"]);
    assert_eq!(step("windows").check().len(), 1);
    assert!(step("xen-guest-agent").check().is_empty());
}
