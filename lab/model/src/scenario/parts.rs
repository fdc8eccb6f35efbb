//! What making cases does to trees: defaults, overrides, variables, the words of an id.

use super::config::{BootConfig, Dom0Config, Limits, MachineConfig};
use super::diagnostic::Diagnostic;
use super::schema::SECTIONS;
use super::tree::{Key, Kind, Node, Origin};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Every default, as a tree.
pub(crate) fn defaults() -> Node {
    let mut tree = Node::empty(Origin::default_value());
    let sections = [
        ("machine", serde_json::to_value(MachineConfig::default())),
        ("dom0", serde_json::to_value(Dom0Config::default())),
        ("boot", serde_json::to_value(BootConfig::default())),
        ("limits", serde_json::to_value(Limits::default())),
    ];
    for (section, value) in sections {
        // Plain data always has a JSON form.
        tree.put(section, value.map_or_else(|_| Node::empty(Origin::default_value()), |v| from_json(&v)));
    }
    tree
}

fn from_json(value: &serde_json::Value) -> Node {
    let kind = match value {
        serde_json::Value::String(s) => Kind::Scalar(s.clone()),
        serde_json::Value::Array(items) => Kind::List(items.iter().map(from_json).collect()),
        serde_json::Value::Object(entries) => Kind::Map(
            entries
                .iter()
                .map(|(k, v)| (Key { origin: Origin::default_value(), text: k.clone() }, from_json(v)))
                .collect(),
        ),
        other => Kind::Scalar(other.to_string()),
    };
    Node { origin: Origin::default_value(), kind }
}

/// `set` and `add` of an override.
pub(crate) fn apply(base: &mut Node, entry: &Node) {
    for (key, value) in entry.get("set").map(Node::entries).unwrap_or_default() {
        base.put(&key.text, value.clone());
    }
    for (key, value) in entry.get("add").map(Node::entries).unwrap_or_default() {
        let path = &key.text;
        let mut list = base.at(path).map(|n| n.items().to_vec()).unwrap_or_default();
        list.extend(value.items().iter().cloned());
        base.put(path, Node { origin: value.origin.clone(), kind: Kind::List(list) });
    }
}

/// `vars`, taken out of the tree: they are no part of the configuration.
pub(crate) fn variables(tree: &mut Node) -> BTreeMap<String, String> {
    let vars = tree.get("vars").map(Node::entries).unwrap_or_default();
    let vars = vars.iter().filter_map(|(k, v)| Some((k.text.clone(), v.text()?.to_owned()))).collect();
    if let Kind::Map(entries) = &mut tree.kind {
        entries.retain(|(k, _)| SECTIONS.contains(&k.text.as_str()));
    }
    vars
}

/// The node without what was complained of, nor what holds nothing else.
pub(crate) fn without(node: &Node, diagnostics: &[Diagnostic]) -> Node {
    rest_of(node, diagnostics).unwrap_or_else(|| Node::empty(node.origin.clone()))
}

fn rest_of(node: &Node, diagnostics: &[Diagnostic]) -> Option<Node> {
    let wrong = |origin: &Origin| diagnostics.iter().any(|d| d.place == origin.place && d.points_at(origin));
    let kind = match &node.kind {
        Kind::Bad => return None,
        // A mapping is complained of where a key is missing; what it has is still looked at.
        Kind::Map(entries) => {
            let left = entries.iter().filter(|(k, _)| !wrong(&k.origin));
            let left: Vec<_> =
                left.filter_map(|(k, v)| Some((k.clone(), rest_of(v, diagnostics)?))).collect();
            if left.is_empty() && !entries.is_empty() {
                return None;
            }
            Kind::Map(left)
        }
        _ if wrong(&node.origin) => return None,
        Kind::List(items) => {
            let left: Vec<_> = items.iter().filter_map(|i| rest_of(i, diagnostics)).collect();
            if left.is_empty() && !items.is_empty() {
                return None;
            }
            Kind::List(left)
        }
        Kind::Scalar(text) => Kind::Scalar(text.clone()),
    };
    Some(Node { origin: node.origin.clone(), kind })
}

pub(crate) fn has_bad(node: &Node) -> bool {
    let mut bad = false;
    node.visit("", &mut |_, n| bad |= n.kind == Kind::Bad);
    bad
}

/// An axis's value in a case's id.
pub(crate) fn shown(value: &Node) -> String {
    match &value.kind {
        Kind::Scalar(text) => text.clone(),
        Kind::List(items) if items.is_empty() => "none".to_owned(),
        Kind::List(items) => items.iter().map(shown).collect::<Vec<_>>().join("+"),
        // A primary key alone is written as its value.
        Kind::Map(entries) => match entries.as_slice() {
            [(_, only)] => shown(only),
            many => {
                many.iter().map(|(k, v)| format!("{}:{}", k.text, shown(v))).collect::<Vec<_>>().join("+")
            }
        },
        Kind::Bad => String::new(),
    }
}

/// Unique to a case in a run, and the same whenever the run is planned again from the same seed.
pub(crate) fn nonce(seed: u64, id: &str, axes: &[(String, String)], tree: &Node) -> String {
    let mut hasher = DefaultHasher::new();
    (seed, id, axes).hash(&mut hasher);
    for path in ["xen.build", "xen.tools", "xen.expect-version"] {
        tree.at(path).and_then(Node::text).hash(&mut hasher);
    }
    // Patches and options make another subject too.
    for path in ["xen.patches", "xen.options"] {
        if let Some(node) = tree.at(path) {
            shown(node).hash(&mut hasher);
        }
    }
    format!("{:016x}", hasher.finish())
}
