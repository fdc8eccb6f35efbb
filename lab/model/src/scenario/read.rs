//! From the checked tree to a [`Scenario`]: its parts sorted out, PATHs looked up, `--set` taken in.

use super::Settings;
use super::diagnostic::{Diagnostic, Sources, nearest};
use super::interpolate::not_given;
use super::schema::{SECTIONS, Schemas};
use super::tree::{self, Key, Kind, Node, Origin, Within};
use super::walk::{Variables, Walk};
use crate::fact::{self, Known};
use std::sync::Arc;

/// An axis of the matrix.
pub(crate) struct Axis {
    /// The PATH as written.
    pub key: Key,
    /// The PATH it puts its values at.
    pub path: String,
    /// Its values.
    pub values: Vec<Node>,
    /// It varies the Xen build under test, which is no part of a case's id.
    pub subject: bool,
    /// `--set` gave the values.
    pub from_command_line: bool,
    /// What its values are to be made from.
    pub generator: Option<Node>,
}

/// A declared variable.
pub(crate) struct Variable {
    /// Its name.
    pub key: Key,
    /// It has to be given.
    pub required: bool,
    /// What it is.
    pub help: Option<String>,
}

impl Variable {
    /// Nobody gave it a value.
    pub fn not_given(&self) -> Diagnostic {
        let d = Diagnostic::new(&self.key.origin, not_given(&self.key.text));
        let how = format!("give it one: --set vars.{}=VALUE", self.key.text);
        match &self.help {
            Some(help) => d.expected(help.clone()).help(how),
            None => d.help(how),
        }
    }
}

/// A file, sorted.
pub(crate) struct Scenario {
    /// As the user named it.
    pub file: String,
    /// `name`, or its key where there is none.
    pub origin: Origin,
    /// `name`
    pub name: String,
    /// `tags`
    pub tags: Vec<String>,
    /// `vars`
    pub vars: Vec<Variable>,
    /// Names that `${vars.…}` and conditions may hold.
    pub variables: Variables,
    /// In file order, then those that `--set` made.
    pub axes: Vec<Axis>,
    /// Conditions.
    pub exclude: Vec<Node>,
    /// A list.
    pub needs: Node,
    /// Mappings.
    pub overrides: Vec<Node>,
    /// The configuration and `vars`, as the file has them.
    pub base: Node,
    /// Single values of `--set`, by PATH.
    pub sets: Vec<(String, Node)>,
    /// A list.
    pub setup: Node,
    /// A list.
    pub steps: Node,
    /// The file has mistakes: what seems to be missing may only be misspelt.
    pub mistakes: bool,
}

/// An axis at this PATH makes another subject, and not another case.
fn is_subject(path: &str) -> bool {
    ["xen", "xen.build", "xen.tools", "xen.expect-version", "xen.patches"].contains(&path)
        || path.strip_prefix("xen.options").is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Reads a text. Without a `Scenario` its mistakes leave no matrix to go through.
pub(crate) fn read(
    text: &str,
    file: &str,
    settings: &Settings,
) -> (Option<Scenario>, Sources, Vec<Diagnostic>) {
    let arguments = settings
        .sets
        .iter()
        .map(|s| (s.argument, Arc::from(format!("{}={}", s.path, s.value).as_str())))
        .collect();
    let sources = Sources { file: file.to_owned(), text: Arc::from(text), arguments };
    let (root, mut diagnostics) = tree::parse(text, &Within::File(file));
    let Some(mut root) = root else { return (None, sources, diagnostics) };
    if !matches!(root.kind, Kind::Map(_)) {
        if root.kind != Kind::Bad {
            let d = Diagnostic::new(&root.origin, format!("this is {}, not a scenario", root.word()));
            diagnostics.push(d.expected("a mapping that begins with `xenlab: 1`"));
        }
        return (None, sources, diagnostics);
    }
    first_key(&root, &mut diagnostics);
    let variables = variables(&root);
    let mut walk = Walk::raw(&variables);
    walk.value(&mut root, &walk.schemas.file, "");
    diagnostics.append(&mut walk.diagnostics);
    let mut reader = Reader { variables: &variables, diagnostics };
    reader.planned_only(&root);
    let mut axes = reader.matrix(&mut root);
    reader.overrides(&mut root);
    let vars = reader.vars(&root);
    let mistakes = !reader.diagnostics.is_empty();
    let sets = reader.sets(settings, &mut axes);

    let take = |key: &str| root.get(key).cloned();
    let list =
        |key: &str| take(key).unwrap_or(Node { origin: root.origin.clone(), kind: Kind::List(Vec::new()) });
    let mut base = Node::empty(root.origin.clone());
    for section in SECTIONS {
        if let Some(node) = take(section) {
            base.put(section, node);
        }
    }
    for (key, node) in root.get("vars").map(Node::entries).unwrap_or_default() {
        if let Some(default) = node.get("default") {
            base.put(&format!("vars.{}", key.text), default.clone());
        }
    }
    reader.generate(&mut axes, &base, &sets, &vars, settings);
    let sound = !axes.iter().any(|a| a.values.is_empty());
    let words = |key: &str| root.get(key).map(Node::items).unwrap_or_default().iter().filter_map(Node::text);
    let scenario = Scenario {
        file: file.to_owned(),
        origin: root.get("name").map_or_else(|| root.origin.clone(), |n| n.origin.clone()),
        name: root.get("name").and_then(Node::text).unwrap_or_default().to_owned(),
        tags: words("tags").map(str::to_owned).collect(),
        vars,
        axes,
        exclude: list("exclude").items().to_vec(),
        needs: list("needs"),
        overrides: list("overrides").items().to_vec(),
        base,
        sets,
        setup: list("setup"),
        steps: list("steps"),
        mistakes,
        variables: variables.clone(),
    };
    let Reader { diagnostics, .. } = reader;
    (sound.then_some(scenario), sources, diagnostics)
}

fn first_key(root: &Node, diagnostics: &mut Vec<Diagnostic>) {
    match root.entries() {
        [(first, _), ..] if first.text != "xenlab" && root.get("xenlab").is_some() => {
            let d = Diagnostic::new(&first.origin, format!("`{}` comes before `xenlab`", first.text));
            diagnostics.push(d.expected("`xenlab: 1` as the first key: it says how to read the rest"));
        }
        _ => {}
    }
}

/// Names declared in `vars` and those an axis sets.
fn variables(root: &Node) -> Variables {
    let declared =
        root.get("vars").map(Node::entries).unwrap_or_default().iter().map(|(k, _)| k.text.clone());
    let axes = root.get("matrix").map(Node::entries).unwrap_or_default().iter();
    declared.chain(axes.filter_map(|(k, _)| k.text.strip_prefix("vars.").map(str::to_owned))).collect()
}

pub(super) struct Reader<'a> {
    variables: &'a Variables,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// Looks a PATH up and checks the value to be put there, writing its shorthand out. `None`: there is no such PATH.
    fn put_at(&mut self, key: &Key, value: &mut Node, list: bool) -> Option<()> {
        let schemas = Schemas::get();
        if let Some(name) = key.text.strip_prefix("vars.") {
            if !self.variables.contains(name) {
                let d = Diagnostic::new(&key.origin, format!("this scenario has no variable `{name}`"));
                let d = match self.variables.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                    [] => d.help("it has none at all; declare it under `vars`"),
                    names => d
                        .expected(super::diagnostic::alternatives(names))
                        .nearest(name, names.iter().copied()),
                };
                self.diagnostics.push(d);
                return None;
            }
            if !super::walk::is_name(name) || name.contains('.') {
                let d = Diagnostic::new(&key.origin, format!("`{name}` is not a variable's name"));
                self.diagnostics.push(d.expected("letters, digits, `-` and `_`, a letter or digit first"));
                return None;
            }
            if value.text().is_none() && value.kind != Kind::Bad {
                let d = Diagnostic::new(&value.origin, format!("`{}` is {} here", key.text, value.word()));
                self.diagnostics.push(d.expected("a single value"));
            }
            return Some(());
        }
        let schema = schemas
            .at(&key.text)
            .filter(|_| SECTIONS.contains(&key.text.split('.').next().unwrap_or_default()));
        let Some(schema) = schema else {
            self.no_path(key);
            return None;
        };
        if list && !schemas.takes_list(schema) {
            let d = Diagnostic::new(
                &key.origin,
                format!("`{}` is no list, nothing can be added to it", key.text),
            );
            self.diagnostics.push(d.help("use `set`"));
            return None;
        }
        let mut walk = Walk::raw(self.variables);
        let last = key.text.rsplit('.').next().unwrap_or_default();
        walk.value(value, schema, last);
        self.diagnostics.append(&mut walk.diagnostics);
        Some(())
    }

    fn no_path(&mut self, key: &Key) {
        let paths = Schemas::get().paths();
        let names: Vec<String> = paths
            .iter()
            .flat_map(|p| p.aliases.iter().chain([&p.path]).cloned())
            .chain(self.variables.iter().map(|v| format!("vars.{v}")))
            .collect();
        let d = Diagnostic::new(&key.origin, format!("there is no PATH `{}` that can be set", key.text));
        let d = d.expected("a dotted key of the configuration, or vars.NAME");
        self.diagnostics.push(match nearest(&key.text, names.iter().map(String::as_str)) {
            Some(near) => d.help(format!("did you mean `{near}`? `xenlab facts` lists them all")),
            None => d.help("`xenlab facts` lists them all"),
        });
    }

    fn matrix(&mut self, root: &mut Node) -> Vec<Axis> {
        let mut axes: Vec<Axis> = Vec::new();
        let Some(Node { kind: Kind::Map(entries), .. }) = root.get_mut("matrix") else { return axes };
        for (key, node) in entries.iter_mut() {
            let generator = matches!(node.kind, Kind::Map(_)).then(|| node.clone());
            if generator.is_some() {
                node.kind = Kind::List(Vec::new());
            }
            let Kind::List(values) = &mut node.kind else { continue };
            if values.is_empty() && generator.is_none() {
                let d = Diagnostic::new(
                    &node.origin,
                    format!("the axis `{}` has no values, so there are no cases", key.text),
                );
                self.diagnostics.push(d.expected("at least one value"));
            }
            let known = values.iter_mut().all(|v| self.put_at(key, v, false).is_some());
            if !known {
                continue;
            }
            let canonical = Schemas::get().canonical(&key.text);
            if let Some(other) = axes.iter().find(|a| Schemas::get().canonical(&a.key.text) == canonical) {
                let d = Diagnostic::new(
                    &key.origin,
                    format!("the axis `{}` is the axis `{}` again", key.text, other.key.text),
                );
                self.diagnostics.push(d.help("put the values into one list"));
                continue;
            }
            self.distinct(&key.text, values);
            axes.push(Axis {
                path: key.text.clone(),
                subject: is_subject(&key.text),
                key: key.clone(),
                values: values.clone(),
                from_command_line: false,
                generator,
            });
        }
        axes
    }

    /// An axis has no value twice: both cases would be the same.
    fn distinct(&mut self, axis: &str, values: &[Node]) {
        for (i, value) in values.iter().enumerate() {
            if let Some(first) = values[..i].iter().find(|v| v.same_value(value)) {
                let d = Diagnostic::new(&value.origin, format!("this value is in the axis `{axis}` twice"));
                self.diagnostics.push(d.help(format!("it is at {} already", first.origin.place)));
            }
        }
    }

    fn overrides(&mut self, root: &mut Node) {
        let Some(Node { kind: Kind::List(entries), .. }) = root.get_mut("overrides") else { return };
        for entry in entries {
            if entry.get("set").is_none() && entry.get("add").is_none() && matches!(entry.kind, Kind::Map(_))
            {
                let d = Diagnostic::new(&entry.origin, "this override changes nothing");
                self.diagnostics.push(d.expected("`set` or `add`"));
            }
            for (what, list) in [("set", false), ("add", true)] {
                let Some(Node { kind: Kind::Map(values), .. }) = entry.get_mut(what) else { continue };
                values.retain_mut(|(key, value)| self.put_at(key, value, list).is_some());
            }
        }
    }

    /// What decides about cases can only ask what is known when they are made.
    fn planned_only(&mut self, root: &Node) {
        let when = |key: &'static str| root.get(key).map(Node::items).unwrap_or_default();
        let overrides = when("overrides").iter().filter_map(|o| o.get("when"));
        for condition in when("exclude").iter().chain(overrides) {
            for (key, _) in condition.entries() {
                if fact::info(&key.text)
                    .is_some_and(|f| f.known != Known::Plan || !key.text.starts_with("build."))
                {
                    let message = format!("`{}` is not known yet when cases are made", key.text);
                    let d = Diagnostic::new(&key.origin, message)
                        .expected("keys of the scenario, vars.NAME or build.provider");
                    self.diagnostics.push(d.help("`needs` and a step's `when` can ask for it"));
                }
            }
        }
    }

    fn vars(&mut self, root: &Node) -> Vec<Variable> {
        let mut vars = Vec::new();
        for (key, node) in root.get("vars").map(Node::entries).unwrap_or_default() {
            if key.text.contains('.') {
                let d = Diagnostic::new(
                    &key.origin,
                    format!("a variable's name has no dot, and `{}` has", key.text),
                );
                self.diagnostics.push(d.expected("letters, digits, `-` and `_`"));
            }
            let required = node.get("required").and_then(Node::text) == Some("true");
            if let Some(flag) =
                node.get("required").filter(|n| n.text().is_some_and(super::walk::interpolated))
            {
                let d = Diagnostic::new(&flag.origin, "a declaration is not interpolated")
                    .expected("true or false");
                self.diagnostics.push(d);
            }
            if let (true, Some(default)) = (required, node.get("default")) {
                let message = format!("`{}` is required and has a default", key.text);
                self.diagnostics
                    .push(Diagnostic::new(&default.origin, message).help("take one of the two out"));
            }
            let help = node.get("help").and_then(Node::text).map(str::to_owned);
            vars.push(Variable { key: key.clone(), required, help });
        }
        vars
    }

    /// Sorts `--set`: several for one PATH make or replace an axis, one replaces an axis's values or is put last.
    fn sets(&mut self, settings: &Settings, axes: &mut Vec<Axis>) -> Vec<(String, Node)> {
        let schemas = Schemas::get();
        let mut by_path: Vec<(Key, Vec<Node>)> = Vec::new();
        for set in &settings.sets {
            let place = crate::place::Place::CommandLine { argument: set.argument };
            let key = Key {
                origin: Origin { place: place.clone(), span: Some((0, set.path.len())) },
                text: set.path.clone(),
            };
            let offset = set.path.len() + 1;
            let mut value = if set.value.starts_with(['[', '{']) {
                let (node, mut found) = tree::parse(&set.value, &Within::Argument(set.argument, offset));
                self.diagnostics.append(&mut found);
                match node {
                    Some(node) => node,
                    None => continue,
                }
            } else {
                Node::scalar(Origin { place, span: Some((offset, set.value.len())) }, set.value.clone())
            };
            if self.put_at(&key, &mut value, false).is_none() {
                continue;
            }
            match by_path.iter_mut().find(|(k, _)| schemas.canonical(&k.text) == schemas.canonical(&key.text))
            {
                Some((_, values)) => values.push(value),
                None => by_path.push((key, vec![value])),
            }
        }
        let mut single = Vec::new();
        for (key, mut values) in by_path {
            let canonical = schemas.canonical(&key.text);
            self.distinct(&key.text, &values);
            if let Some(axis) = axes.iter_mut().find(|a| schemas.canonical(&a.key.text) == canonical) {
                axis.path = key.text;
                axis.values = values;
                axis.from_command_line = true;
                axis.generator = None;
            } else if values.len() == 1 {
                single.extend(values.pop().map(|v| (key.text, v)));
            } else {
                axes.push(Axis {
                    path: key.text.clone(),
                    subject: is_subject(&key.text),
                    key,
                    values,
                    from_command_line: true,
                    generator: None,
                });
            }
        }
        single
    }
}
