//! What is known of a case from the scenario and the command line alone, as facts.

use super::schema::Schemas;
use super::tree::{Kind, Node};
use crate::fact::{FactType, FactValue, Facts};
use crate::spec::{Subject, XenSpec};
use crate::units::Size;
use std::collections::BTreeMap;

/// Every key of the configuration that has a value, by its PATH and its aliases; `vars.NAME`; `build.spec` and
/// `build.provider`. A key whose name is a fact's too, and that leaves the choice to the lab, is not known. A key without a value is no fact: it is known to be absent.
pub(crate) fn facts_of(tree: &Node, vars: &BTreeMap<String, String>, subject: Option<&Subject>) -> Facts {
    let mut facts = Facts::default();
    for info in Schemas::get().paths() {
        let Some(value) = tree.at(&info.path).and_then(|node| value(node, info.kind)) else { continue };
        // `machine.accel: auto` is no answer yet: the fact of that name is the accelerator chosen.
        if crate::fact::info(&info.path).is_some() && value == FactValue::text("auto") {
            continue;
        }
        for alias in &info.aliases {
            facts.set(alias.clone(), value.clone());
        }
        facts.set(info.path.clone(), value);
    }
    for (name, text) in vars {
        facts.set(format!("vars.{name}"), FactValue::text(text.clone()));
    }
    let build = tree.at("xen.build").and_then(Node::text);
    if let Some(build) = build {
        let shown = subject.map_or_else(|| build.to_owned(), Subject::to_string);
        facts.set("build.spec", FactValue::text(shown));
        if let Ok(spec) = build.parse::<XenSpec>() {
            facts.set("build.provider", FactValue::text(spec.scheme()));
        }
    }
    facts
}

/// A value that does not read as its type is a mistake told elsewhere, and no fact.
fn value(node: &Node, kind: FactType) -> Option<FactValue> {
    if let Kind::List(items) = &node.kind {
        return Some(FactValue::Set(items.iter().filter_map(|i| i.text().map(str::to_owned)).collect()));
    }
    let text = node.text()?;
    match kind {
        FactType::Text => Some(FactValue::text(text)),
        FactType::Integer => text.parse().ok().map(FactValue::Integer),
        FactType::Size => text.parse::<Size>().ok().map(|s| FactValue::Size(s.0)),
        FactType::Version => Some(FactValue::Version(text.to_owned())),
        FactType::Set => Some(FactValue::Set([text.to_owned()].into())),
        FactType::Flag => text.parse().ok().map(FactValue::Flag),
    }
}
