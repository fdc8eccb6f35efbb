//! `agent`: what a guest's agent or drivers publish in the store is what its contract says.

use super::{At, Complaint, JudgeContext, StepKind, say};
use crate::agent::{ANY, Contract, Node, VIF, contracts};
use crate::cause::Cause;
use crate::evidence::CommandResult;
use crate::guest::Guest;
use crate::matcher::quote;
use crate::verdict::Check;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// `agent: {contract: xen-guest-agent, guest: g1}`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Agent {
    /// Which contract.
    pub contract: String,
    /// The guest that publishes. It is waited for.
    pub guest: String,
    /// The guest, as `guests` has it; filled when the case is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(skip)]
    pub of: Option<Box<Guest>>,
}

/// What was published, of each of the guest's domains.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentEvidence {
    /// In the order of their names.
    pub domains: Vec<Published>,
}

/// What a domain published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Published {
    /// Its name.
    pub domain: String,
    /// `home /local/domain/N`, then `xenstore-ls -f` of that folder: lines `PATH = "VALUE"`.
    pub command: CommandResult,
    /// The limit passed before the contract was kept, in seconds of guest time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timed_out: Option<f64>,
}

impl StepKind for Agent {
    const NAME: &'static str = "agent";
    const AT: At = At::Dom0;
    type Evidence = AgentEvidence;

    fn check(&self) -> Vec<Complaint> {
        let all = contracts().unwrap_or_default();
        if all.iter().any(|c| c.name == self.contract) {
            return Vec::new();
        }
        let names: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
        let message = format!("there is no contract `{}`", self.contract);
        vec![Complaint::new("contract", message, format!("one of {}", names.join(", ")))]
    }

    fn judge(&self, evidence: &AgentEvidence, cx: &JudgeContext<'_>) -> Vec<Check> {
        let place = cx.place(Self::NAME, "contract");
        let contract = match self.contract() {
            Ok(contract) => contract,
            Err(e) => return vec![Check::error("contract", Cause::LabInternal, e).at(place)],
        };
        let mut checks = Vec::new();
        for published in &evidence.domains {
            let prefix = match evidence.domains.len() {
                1 => String::new(),
                _ => format!("{}: ", published.domain),
            };
            if let Err(check) = say::succeeded(
                &format!("{prefix}contract"),
                &format!("listing what {} has published", published.domain),
                &published.command,
                Cause::GuestGone,
            ) {
                checks.push(check);
                continue;
            }
            let nodes = nodes(&published.command.stdout.text);
            checks.extend(judged(contract, &nodes, published, &prefix));
        }
        checks.into_iter().map(|c| c.at(place.clone())).collect()
    }
}

impl Agent {
    fn contract(&self) -> Result<&'static Contract, String> {
        let found = contracts()?.iter().find(|c| c.name == self.contract);
        found.ok_or_else(|| format!("there is no contract `{}`", self.contract))
    }

    /// What was listed keeps the contract: nothing more has to be waited for.
    pub fn is_kept(&self, listing: &str) -> bool {
        let nodes = nodes(listing);
        self.contract().is_ok_and(|contract| {
            wanted(contract, &nodes)
                .iter()
                .all(|(node, path)| matches!(found(node, path, &nodes), Found::Right) || node.optional)
        })
    }
}

/// Paths below the domain's folder, and their values.
fn nodes(listing: &str) -> BTreeMap<String, String> {
    let home = listing.lines().find_map(|l| l.strip_prefix("home ")).map(str::trim).unwrap_or_default();
    let mut nodes = BTreeMap::new();
    for line in listing.lines() {
        let Some((path, value)) = line.split_once(" = ") else { continue };
        let Some(below) = path.strip_prefix(home).and_then(|p| p.strip_prefix('/')) else { continue };
        let value = value.trim_end().strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        nodes.insert(below.to_owned(), value.to_owned());
    }
    nodes
}

/// The numbers of the guest's network interfaces: those that its toolstack made.
fn vifs(nodes: &BTreeMap<String, String>) -> BTreeSet<String> {
    let number = |path: &String| path.strip_prefix("device/vif/")?.split('/').next().map(str::to_owned);
    nodes
        .keys()
        .filter_map(number)
        .filter(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        .collect()
}

/// Each node of the contract with the path that it has in this guest.
fn wanted<'a>(contract: &'a Contract, nodes: &BTreeMap<String, String>) -> Vec<(&'a Node, String)> {
    let vifs = vifs(nodes);
    let one = |node: &'a Node| match node.path.contains(VIF) {
        true => vifs.iter().map(|vif| (node, node.path.replace(VIF, vif))).collect(),
        false => vec![(node, node.path.clone())],
    };
    contract.nodes.iter().flat_map(one).collect()
}

enum Found {
    /// It is there and right.
    Right,
    /// Others than it should be are there.
    Wrong(String),
    None,
}

fn found(node: &Node, path: &str, nodes: &BTreeMap<String, String>) -> Found {
    let shown = |path: &str, value: &str| format!("{path} is {}", quote(value));
    let Some(folder) = path.strip_suffix(ANY) else {
        return match nodes.get(path) {
            Some(value) if node.value.is_match(value) => Found::Right,
            Some(value) => Found::Wrong(shown(path, value)),
            None => Found::None,
        };
    };
    let below =
        |path: &String| path.strip_prefix(folder).is_some_and(|rest| !rest.is_empty() && !rest.contains('/'));
    let all: Vec<(&String, &String)> = nodes.iter().filter(|(path, _)| below(path)).collect();
    if all.iter().any(|(_, value)| node.value.is_match(value)) {
        return Found::Right;
    }
    match all.as_slice() {
        [] => Found::None,
        some => Found::Wrong(some.iter().map(|(p, v)| shown(p, v)).collect::<Vec<_>>().join(", ")),
    }
}

fn judged(
    contract: &Contract,
    nodes: &BTreeMap<String, String>,
    published: &Published,
    prefix: &str,
) -> Vec<Check> {
    let mut checks = Vec::new();
    let (mut right, mut optional) = (0, 0);
    let wanted = wanted(contract, nodes);
    let mut left = Vec::new();
    for (node, path) in &wanted {
        let name = format!("{prefix}{path}");
        let pattern = node.value.as_str().trim_start_matches("^(?:").trim_end_matches(")$");
        let must = match pattern {
            "" => "an empty value".to_owned(),
            some => format!("what matches `{some}`"),
        };
        let why = format!("{} ({})", node.means, node.source);
        match found(node, path, nodes) {
            Found::Right => {
                right += 1;
                optional += usize::from(node.optional);
            }
            Found::None if node.optional => left.push(path.as_str()),
            Found::None => {
                let waited = published
                    .timed_out
                    .map_or_else(String::new, |s| format!(" within {s:.0} s of guest time"));
                let message =
                    format!("{} did not publish {path}{waited}, expected {must}: {why}", published.domain);
                checks.push(Check::fail(name, Cause::AgentMissing, message));
            }
            Found::Wrong(saw) => {
                let message = format!("{}: {saw}, expected {must}: {why}", published.domain);
                checks.push(Check::fail(name, Cause::AgentValue, message));
            }
        }
    }
    let only = match contract.contract_only {
        true => "contract only, nothing that is known to keep it ran here: ",
        false => "",
    };
    let absent = match left.as_slice() {
        [] => String::new(),
        some => format!("; not published, and need not be: {}", some.join(", ")),
    };
    let vifs = match contract.nodes.iter().any(|n| n.path.contains(VIF)) && vifs(nodes).is_empty() {
        true => "; it has no network interface, so nothing of those is judged",
        false => "",
    };
    if checks.is_empty() {
        let message = format!(
            "{only}{} keeps the contract of {}: {right} nodes are right, {optional} of them optional{absent}{vifs}",
            published.domain, contract.what
        );
        checks.push(Check::pass(format!("{prefix}contract"), message));
    } else {
        // Said with each, so that whoever reads one knows.
        for check in &mut checks {
            check.message.insert_str(0, only);
        }
    }
    checks
}

#[cfg(test)]
mod tests;
