//! The part of the walk that is about conditions and matchers: facts, operators, operands.

use super::de::from_node;
use super::diagnostic::{Diagnostic, alternatives, nearest};
use super::tree::{Key, Kind, Node};
use super::walk::{Walk, interpolated, last_line};
use crate::fact::{self, FactType};
use crate::matcher::{Matcher, Op};
use serde_json::Value;

/// A fact a condition can name.
struct Named {
    kind: Option<FactType>,
    schema: Option<&'static Value>,
}

impl Walk<'_> {
    /// `{FACT: matcher, …}`
    pub fn condition(&mut self, node: &mut Node) {
        let Kind::Map(entries) = &mut node.kind else {
            let d = Diagnostic::new(
                &node.origin,
                format!("a condition is a mapping, and this is {}", node.word()),
            );
            return self.say(d.expected("{FACT: value, …}, as {arch: x86_64}"));
        };
        if entries.is_empty() {
            let d = Diagnostic::new(&node.origin, "this condition is empty: it holds always");
            return self.say(d.expected("{FACT: value, …}, as {arch: x86_64}"));
        }
        for (key, matcher) in entries {
            match self.named(&key.text) {
                Some(named) => self.typed_matcher(matcher, &named, &key.text),
                None => {
                    self.unknown_fact(key);
                    self.matcher(matcher, None);
                }
            }
        }
    }

    fn named(&self, name: &str) -> Option<Named> {
        if let Some(info) = fact::info(name) {
            // `machine.accel` is a PATH too: what was chosen is one of the words that can be asked for.
            return Some(Named { kind: Some(info.kind), schema: self.schemas.at(name) });
        }
        if let Some(path) = self.schemas.path(name) {
            return Some(Named { kind: Some(path.kind), schema: self.schemas.at(&path.path) });
        }
        let variable = name.strip_prefix("vars.")?;
        self.variables.contains(variable).then_some(Named { kind: Some(FactType::Text), schema: None })
    }

    /// Every name a condition can hold.
    fn fact_names(&self) -> Vec<String> {
        let paths = self.schemas.paths().iter().flat_map(|p| p.aliases.iter().chain([&p.path]).cloned());
        let variables = self.variables.iter().map(|v| format!("vars.{v}"));
        fact::FACTS.iter().map(|f| f.name.to_owned()).chain(paths).chain(variables).collect()
    }

    fn unknown_fact(&mut self, key: &Key) {
        let names = self.fact_names();
        let d = Diagnostic::new(&key.origin, format!("there is no fact `{}`", key.text));
        let d = match nearest(&key.text, names.iter().map(String::as_str)) {
            Some(near) => d.help(format!("did you mean `{near}`? `xenlab facts` lists them all")),
            None => d.help("`xenlab facts` lists them all"),
        };
        self.say(d.expected("a fact, a PATH of this file or vars.NAME"));
    }

    fn typed_matcher(&mut self, node: &mut Node, named: &Named, what: &str) {
        self.matcher(node, named.kind);
        // Compared for equality, a value must be one that the key can have.
        if let Some(schema) = named.schema.filter(|s| !self.schemas.takes_list(s)) {
            let mut check = |value: &Node| {
                let mut value = value.clone();
                if value.text().is_some() {
                    self.value(&mut value, schema, what);
                }
            };
            match &node.kind {
                Kind::Scalar(_) => check(node),
                Kind::List(items) => items.iter().for_each(&mut check),
                Kind::Map(ops) => {
                    for (op, operand) in ops {
                        match op.text.as_str() {
                            "equals" | "not" => check(operand),
                            "any-of" => operand.items().iter().for_each(&mut check),
                            _ => {}
                        }
                    }
                }
                Kind::Bad => {}
            }
        }
    }

    /// A matcher of a value of type `kind`, where that is known.
    pub fn matcher(&mut self, node: &Node, kind: Option<FactType>) {
        let before = self.diagnostics.len();
        self.matcher_parts(node, kind);
        // The rest is the matcher's own knowledge: what operators of a type can be asked together, empty operands.
        let mut open = false;
        node.visit("", &mut |_, n| {
            open |= n.kind == Kind::Bad || (self.raw && n.text().is_some_and(interpolated))
        });
        if let (Some(kind), false) = (kind, open || self.diagnostics.len() > before) {
            let faults = from_node::<Matcher>(node).ok().and_then(|m| m.check(kind).err());
            for fault in faults.into_iter().flatten() {
                self.say(Diagnostic::new(&node.origin, fault));
            }
        }
    }

    fn matcher_parts(&mut self, node: &Node, kind: Option<FactType>) {
        match &node.kind {
            Kind::Scalar(_) => self.operand(node, Op::Equals, kind),
            Kind::List(items) if items.is_empty() => {
                let d = Diagnostic::new(&node.origin, "an empty list matches nothing");
                self.say(d.expected("at least one value"));
            }
            Kind::List(items) => items.iter().for_each(|i| self.operand(i, Op::AnyOf, kind)),
            Kind::Map(ops) if ops.is_empty() => {
                let d = Diagnostic::new(&node.origin, "a matcher without an operator matches everything");
                self.say(d.expected("at least one operator, as {at-least: 64}"));
            }
            Kind::Map(ops) => {
                for (key, operand) in ops {
                    self.operator(key, operand, kind);
                }
            }
            Kind::Bad => {}
        }
    }

    fn operator(&mut self, key: &Key, operand: &Node, kind: Option<FactType>) {
        let names: Vec<&str> = Op::ALL.iter().map(|op| op.name()).collect();
        let Some(op) = Op::ALL.into_iter().find(|op| op.name() == key.text) else {
            let d = Diagnostic::new(&key.origin, format!("there is no operator `{}`", key.text));
            return self.say(d.expected(alternatives(&names)).nearest(&key.text, names.iter().copied()));
        };
        if let Some(kind) = kind {
            let suits = suits(op, kind);
            if let Err(instead) = suits {
                let message = format!("`{}` cannot be asked of {}", op.name(), noun(kind));
                return self.say(Diagnostic::new(&key.origin, message).expected(instead));
            }
        }
        match &operand.kind {
            Kind::List(items) if op.takes_list() => {
                if items.is_empty() {
                    let d = Diagnostic::new(&operand.origin, format!("`{}` is given nothing", op.name()));
                    self.say(d.expected("at least one value"));
                }
                items.iter().for_each(|i| self.operand(i, op, kind));
            }
            Kind::Scalar(_) => self.operand(operand, op, kind),
            Kind::Bad => {}
            _ => {
                let d =
                    Diagnostic::new(&operand.origin, format!("`{}` is given {}", op.name(), operand.word()));
                self.say(d.expected(if op.takes_list() {
                    "a value or a list of values"
                } else {
                    "one value"
                }));
            }
        }
    }

    fn operand(&mut self, node: &Node, op: Op, kind: Option<FactType>) {
        let Some(text) = node.text() else {
            if node.kind != Kind::Bad {
                let d = Diagnostic::new(&node.origin, format!("this is {}", node.word()));
                self.say(d.expected("a single value"));
            }
            return;
        };
        if self.raw && interpolated(text) {
            return;
        }
        let refuse =
            |message: String, expected: &str| Diagnostic::new(&node.origin, message).expected(expected);
        match op {
            Op::Matches => {
                if let Err(e) = regex::Regex::new(text) {
                    let d = refuse(
                        format!("this regular expression cannot be read: {}", last_line(&e)),
                        "a regular expression",
                    );
                    self.say(d.help("quote it with '…', where a backslash stays a backslash"));
                }
            }
            Op::Present => self.flag(node, "present"),
            Op::SameAs => match self.named(text) {
                None => self.unknown_fact(&Key { origin: node.origin.clone(), text: text.to_owned() }),
                Some(Named { kind: Some(other), .. }) if kind.is_some_and(|k| !comparable(k, other)) => {
                    let message = format!("`{text}` is {}", noun(other));
                    self.say(refuse(message, &format!("a fact that is {}", kind.map_or("text", noun))));
                }
                Some(_) => {}
            },
            Op::StartsWith | Op::Contains | Op::Lacks => {}
            Op::Equals | Op::Not | Op::AnyOf | Op::AtLeast | Op::Below => {
                let read = match kind {
                    Some(FactType::Integer) => text.parse::<i64>().is_ok(),
                    Some(FactType::Size) => text.parse::<crate::units::Size>().is_ok(),
                    Some(FactType::Flag) => matches!(text, "true" | "false"),
                    _ => true,
                };
                if !read {
                    let expected = kind.map_or("text", noun);
                    self.say(refuse(format!("`{text}` is compared with {expected}"), expected));
                }
            }
        }
    }
}

/// Whether a value of that type can be asked so; else what can be.
fn suits(op: Op, kind: FactType) -> Result<(), &'static str> {
    use FactType::{Flag, Integer, Set, Size, Text, Version};
    match (op, kind) {
        (Op::AtLeast | Op::Below, Set) => Err("contains or lacks: a set has members, no order"),
        (Op::AtLeast | Op::Below, Text) => Err("equals, matches, starts-with or contains: text has no order"),
        (Op::Matches | Op::StartsWith, Set) => Err("contains or lacks: a set has members"),
        (Op::Contains | Op::Lacks | Op::Matches | Op::StartsWith, Integer | Size) => {
            Err("equals, not, any-of, at-least or below")
        }
        (Op::AtLeast | Op::Below | Op::Contains | Op::Lacks | Op::Matches | Op::StartsWith, Flag) => {
            Err("true or false")
        }
        (_, Text | Version | Integer | Size | Set | Flag) => Ok(()),
    }
}

fn comparable(a: FactType, b: FactType) -> bool {
    use FactType::{Text, Version};
    a == b || matches!((a, b), (Text, Version) | (Version, Text))
}

fn noun(kind: FactType) -> &'static str {
    match kind {
        FactType::Text => "text",
        FactType::Integer => "a whole number",
        FactType::Size => "a size: 512K, 64M, 1G",
        FactType::Version => "a version",
        FactType::Set => "a set",
        FactType::Flag => "true or false",
    }
}
