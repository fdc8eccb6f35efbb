//! Axes whose values come from elsewhere: from a built XTF tree.

use super::Settings;
use super::de::from_node;
use super::diagnostic::Diagnostic;
use super::interpolate::Names;
use super::parts::has_bad;
use super::read::{Axis, Reader, Variable};
use super::tree::{Kind, Node};
use crate::xtf::{DEFAULT_CATEGORIES, Selection};

impl Reader<'_> {
    /// Gives such axes their values. What a generator says can name variables and keys of the file and the command line, but not
    /// what an axis sets: each axis has the same values in all cases.
    pub(super) fn generate(
        &mut self,
        axes: &mut [Axis],
        base: &Node,
        sets: &[(String, Node)],
        vars: &[Variable],
        settings: &Settings,
    ) {
        let mut tree = base.clone();
        for (path, value) in sets {
            tree.put(path, value.clone());
        }
        for axis in axes.iter_mut() {
            let Some(generator) = axis.generator.take() else { continue };
            // Without an axis no case is made, and none says it.
            for var in vars.iter().filter(|var| var.required) {
                let path = format!("vars.{}", var.key.text);
                if tree.at(&path).is_none() {
                    self.diagnostics.push(var.not_given());
                    tree.put(&path, Node { origin: var.key.origin.clone(), kind: Kind::Bad });
                }
            }
            let names = Names::new(&tree, None);
            let resolved = names.resolve(&generator);
            self.diagnostics.append(&mut names.diagnostics.into_inner());
            // What is wrong with its keys has been said.
            let Some(node) = resolved.get("xtf").filter(|node| !has_bad(node)) else { continue };
            let Ok(selection) = from_node::<Selection>(node) else { continue };
            axis.values = self.instances(node, &selection, settings);
        }
    }

    fn instances(&mut self, node: &Node, selection: &Selection, settings: &Settings) -> Vec<Node> {
        let origin = node.get("tree").map_or(&node.origin, |n| &n.origin);
        let Some(tree) = settings.trees.read(&selection.tree, origin, &mut self.diagnostics) else {
            return Vec::new();
        };
        match tree.select(selection) {
            Ok(instances) if instances.is_empty() => {
                let mut d =
                    Diagnostic::new(&node.origin, "no instance of the tree is left by this selection");
                if selection.category.is_empty() && selection.test.is_empty() {
                    d = d.help(format!(
                        "without `category` it has {}; `category: all` has every one",
                        DEFAULT_CATEGORIES.join(" and ")
                    ));
                }
                self.diagnostics.push(d);
                Vec::new()
            }
            Ok(instances) => {
                instances.iter().map(|i| Node::scalar(node.origin.clone(), i.to_string())).collect()
            }
            Err(unknown) => {
                for unknown in unknown {
                    let list = node.get(unknown.key);
                    let at = list.map(|n| n.items().get(unknown.index).unwrap_or(n));
                    let origin = at.map_or(&node.origin, |n| &n.origin);
                    let mut d = Diagnostic::new(origin, unknown.message);
                    if unknown.known.len() <= 12 {
                        d = d.expected(unknown.known.join(", "));
                    }
                    self.diagnostics.push(match unknown.near {
                        Some(near) => d.help(format!("did you mean `{near}`?")),
                        None => d,
                    });
                }
                Vec::new()
            }
        }
    }
}
