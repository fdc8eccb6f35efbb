//! What agents and drivers of guests publish in the store, as contracts: each node with what its value must be, and the public source that
//! writes it. They are data, in `agent/contracts.yaml`.

use regex::Regex;
use serde::{Deserialize, Deserializer};
use std::sync::LazyLock;

/// Stands for the number of each of the guest's network interfaces.
pub const VIF: &str = "{vif}";
/// Stands for whatever a node is called, where one of several must be right.
pub const ANY: &str = "*";

static CONTRACTS: LazyLock<Result<Vec<Contract>, String>> =
    LazyLock::new(|| Contract::read(include_str!("agent/contracts.yaml")));

/// Every contract that comes with the program.
///
/// # Errors
/// They cannot be read; a test sees to it that they can.
pub fn contracts() -> Result<&'static [Contract], String> {
    CONTRACTS.as_ref().map(Vec::as_slice).map_err(Clone::clone)
}

/// What an agent publishes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Contract {
    /// What scenarios call it.
    pub name: String,
    /// Whose contract it is, and of which version.
    pub what: String,
    /// Nothing but the contract is looked at: what is known to publish so cannot run in the lab's guests.
    #[serde(default)]
    pub contract_only: bool,
    /// The nodes, below the guest's own folder of the store.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its path; with [`VIF`] for each of the guest's network interfaces, with [`ANY`] as its last name one of several.
    pub path: String,
    /// What its value must be.
    #[serde(deserialize_with = "whole")]
    pub value: Regex,
    /// It need not be there.
    #[serde(default)]
    pub optional: bool,
    /// What it means.
    pub means: String,
    /// The file that writes it, and its repository.
    pub source: String,
}

fn whole<'de, D: Deserializer<'de>>(d: D) -> Result<Regex, D::Error> {
    let pattern = String::deserialize(d)?;
    Regex::new(&format!("^(?:{pattern})$")).map_err(serde::de::Error::custom)
}

impl Contract {
    fn read(yaml: &str) -> Result<Vec<Contract>, String> {
        let all: Vec<Contract> = serde_saphyr::from_str(yaml).map_err(|e| e.to_string())?;
        for contract in &all {
            for (at, node) in contract.nodes.iter().enumerate() {
                let wrong = |what: &str| Err(format!("{}: `{}`: {what}", contract.name, node.path));
                if node.path.starts_with('/') || node.path.ends_with('/') {
                    return wrong("paths are below the guest's own folder");
                }
                if node.means.is_empty() || node.source.is_empty() {
                    return wrong("what it means and which source writes it is not given");
                }
                let same = |n: &Node| n.path == node.path && n.value.as_str() == node.value.as_str();
                if contract.nodes[..at].iter().any(same) {
                    return wrong("it is there twice");
                }
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contracts_read() {
        let all = contracts().unwrap();
        assert_eq!(
            all.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(),
            ["xen-guest-agent", "windows-pv"]
        );
        assert!(all[1].contract_only && !all[0].contract_only);
        for contract in all {
            assert!(contract.nodes.iter().any(|n| !n.optional));
        }
    }

    #[test]
    fn mistakes_are_told() {
        let of =
            |node: &str| Contract::read(&format!("[{{name: x, what: y, nodes: [{node}]}}]")).unwrap_err();
        assert!(of("{path: /a, value: '1', means: m, source: s}").contains("own folder"));
        assert!(of("{path: a, value: '1', means: '', source: s}").contains("not given"));
        assert!(of("{path: a, value: '(', means: m, source: s}").contains("regex"));
        let twice = "{path: a, value: '1', means: m, source: s}";
        assert!(of(&format!("{twice}, {twice}")).contains("twice"));
    }
}
