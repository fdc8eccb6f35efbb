//! Pass 2: a walk of the tree against the schema. Puts shorthands in their full form and collects every unknown key,
//! wrong type, missing key and unknown fact, each with its place.

use super::diagnostic::{Diagnostic, alternatives};
use super::schema::{Schemas, keys, scalar};
use super::tree::{Key, Kind, Node};
use serde_json::Value;
use std::collections::BTreeSet;

/// Facts that steps and conditions can name, beside [`fact::FACTS`] and the PATHs: `vars.NAME`.
pub(crate) type Variables = BTreeSet<String>;

/// The state of a walk.
pub(crate) struct Walk<'a> {
    /// The schemas.
    pub schemas: &'static Schemas,
    /// Names declared in `vars`, or set by an axis.
    pub variables: &'a Variables,
    /// Values may still hold `${…}`, and sections may lack what an axis gives.
    pub raw: bool,
    /// What was found.
    pub diagnostics: Vec<Diagnostic>,
}

/// A value that is not yet what it will be.
pub(crate) fn interpolated(text: &str) -> bool {
    text.contains("${")
}

impl<'a> Walk<'a> {
    /// A walk over a file as written.
    pub fn raw(variables: &'a Variables) -> Self {
        Walk { schemas: Schemas::get(), variables, raw: true, diagnostics: Vec::new() }
    }

    /// A walk over a case, everything in place.
    pub fn resolved(variables: &'a Variables) -> Self {
        Walk { raw: false, ..Walk::raw(variables) }
    }

    pub(super) fn say(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    /// Checks `node`, which is called `what`, against `schema`.
    pub fn value(&mut self, node: &mut Node, schema: &Value, what: &str) {
        let resolved = self.schemas.resolve(schema);
        if let Some(primary) = resolved.primary {
            let property = resolved.schema.pointer(&format!("/properties/{primary}"));
            let stands_for = match node.kind {
                Kind::Scalar(_) => true,
                Kind::List(_) => property.is_some_and(|p| self.schemas.takes_list(p)),
                Kind::Map(_) | Kind::Bad => false,
            };
            if stands_for {
                let key = Key { origin: node.origin.clone(), text: primary.to_owned() };
                let value = node.clone();
                node.kind = Kind::Map(vec![(key, value)]);
            }
        }
        let schema = resolved.schema;
        match (&node.kind, resolved.name) {
            (Kind::Bad, _) => return,
            (_, Some("Matcher")) => return self.matcher(node, None),
            (_, Some("Condition")) => return self.condition(node),
            (_, Some("Cause")) => return self.cause(node, what),
            (Kind::Scalar(text), _)
                if self.raw && interpolated(text) && !matches!(resolved.name, Some("Language" | "Ident")) =>
            {
                return;
            }
            _ => {}
        }
        if schema.get("x-anything").is_some() {
            return;
        }
        if let Some(words) = self.schemas.words(schema) {
            return self.word(node, &words, what);
        }
        if let Some(branches) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)
            && schema.get("x-step").is_none()
        {
            let fits = branches.iter().find(|b| self.fits(node, b));
            return match fits {
                Some(branch) => self.value(node, branch, what),
                None => self.wrong(node, schema, what),
            };
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("object") => self.object(node, schema, what),
            Some("array") => self.array(node, schema, what),
            Some("integer") => self.integer(node, schema, what),
            Some("boolean") => self.flag(node, what),
            Some("string") => self.string(node, schema, resolved.name, what),
            _ => {}
        }
    }

    fn fits(&self, node: &Node, schema: &Value) -> bool {
        let kind = self.schemas.resolve(schema).schema.get("type").and_then(Value::as_str);
        match node.kind {
            Kind::Scalar(_) => scalar(self.schemas, schema),
            Kind::List(_) => kind == Some("array"),
            Kind::Map(_) => kind == Some("object"),
            Kind::Bad => true,
        }
    }

    fn wrong(&mut self, node: &Node, schema: &Value, what: &str) {
        let expected = self.schemas.describe(schema);
        self.say(
            Diagnostic::new(&node.origin, format!("`{what}` is {} here", node.word())).expected(expected),
        );
    }

    fn word(&mut self, node: &Node, words: &[&str], what: &str) {
        match node.text() {
            Some(text) if words.contains(&text) => {}
            Some(text) => {
                let mut d = Diagnostic::new(&node.origin, format!("`{text}` is no value of `{what}`"));
                d = d.expected(alternatives(words)).nearest(text, words.iter().copied());
                // Names that other projects give the two architectures are too far off for the nearest word.
                if let (true, Err(e)) = (words.contains(&"x86_64"), text.parse::<crate::Arch>())
                    && !e.starts_with("unknown")
                {
                    d = d.help(e);
                }
                self.say(d);
            }
            None => {
                let d = Diagnostic::new(&node.origin, format!("`{what}` is {} here", node.word()));
                self.say(d.expected(alternatives(words)));
            }
        }
    }

    /// A cause's code: too many to tell them all.
    fn cause(&mut self, node: &Node, what: &str) {
        use crate::cause::Cause;
        const EXPECTED: &str = "a cause's code, as verdicts show it: `xen.panic`, `check.failed`";
        match node.text() {
            Some(code) if Cause::from_code(code).is_some() => {}
            Some(code) => {
                let d =
                    Diagnostic::new(&node.origin, format!("there is no cause `{code}`")).expected(EXPECTED);
                self.say(d.nearest(code, Cause::ALL.iter().map(|c| c.code())));
            }
            None => {
                let d = Diagnostic::new(&node.origin, format!("`{what}` is {} here", node.word()));
                self.say(d.expected(EXPECTED));
            }
        }
    }

    fn object(&mut self, node: &mut Node, schema: &Value, what: &str) {
        let origin = node.origin.clone();
        let Kind::Map(entries) = &mut node.kind else { return self.wrong(node, schema, what) };
        let known = keys(schema);
        let mut unknown = false;
        for (key, value) in entries.iter_mut() {
            if let Some(property) = schema.get("properties").and_then(|p| p.get(&key.text)) {
                self.value(value, property, &key.text);
            } else if let Some(additional) = self.additional(key, schema) {
                self.value(value, additional, &key.text);
            } else if schema.get("patternProperties").is_none() {
                unknown = true;
                let message = match schema.get("x-step") {
                    Some(_) => format!("unknown kind of step, or key of one: `{}`", key.text),
                    None => format!("unknown key `{}`{}", key.text, of(what)),
                };
                let d = Diagnostic::new(&key.origin, message);
                let d =
                    if known.is_empty() { d.expected("no keys") } else { d.expected(alternatives(&known)) };
                let d = d.nearest(&key.text, known.iter().copied());
                // Too far off for the nearest word, and what the command line calls it.
                let d = if what == "xen" && key.text == "hypervisor" {
                    d.help("the hypervisor is `build`")
                } else {
                    d
                };
                self.say(d);
            }
        }
        if schema.get("x-step").is_some() {
            return self.one_kind(node, &known, unknown);
        }
        let partial = self.raw && what == "xen";
        for key in
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
        {
            if !partial && node.get(key).is_none() {
                let takes = schema.pointer(&format!("/properties/{key}")).map(|s| self.schemas.describe(s));
                let d = Diagnostic::new(&origin, format!("the key `{key}` is missing{}", of(what)));
                self.say(d.expected(format!("`{key}`: {}", takes.unwrap_or_default())));
            }
        }
    }

    /// The schema of a key that is not fixed; complains where the key's form is wrong.
    fn additional<'s>(&mut self, key: &Key, schema: &'s Value) -> Option<&'s Value> {
        if let Some(additional) = schema.get("additionalProperties").filter(|a| a.is_object()) {
            return Some(additional);
        }
        let (pattern, value) = schema.get("patternProperties")?.as_object()?.iter().next()?;
        // Where keys are PATHs, the whole of it is looked up later.
        if pattern.starts_with("^[A-Z") && !is_name(&key.text) {
            let d = Diagnostic::new(&key.origin, format!("`{}` is not a name", key.text));
            self.say(d.expected("letters, digits, `-`, `_` and `.`, a letter or digit first"));
        }
        Some(value)
    }

    fn one_kind(&mut self, node: &Node, known: &[&str], unknown: bool) {
        let is_kind = |k: &str| known.contains(&k) && !super::file::STEP_KEYS.contains(&k);
        let found: Vec<&Key> = node.entries().iter().map(|(k, _)| k).filter(|k| is_kind(&k.text)).collect();
        let kinds: Vec<&str> = known.iter().copied().filter(|k| is_kind(k)).collect();
        match found.as_slice() {
            [] if !unknown => {
                let d = Diagnostic::new(&node.origin, "this step has no kind: nothing is done or judged");
                self.say(d.expected(format!("one of {}", alternatives(&kinds))));
            }
            [first, more @ ..] => {
                for key in more {
                    let message = format!("this step is of two kinds: `{}` and `{}`", first.text, key.text);
                    self.say(
                        Diagnostic::new(&key.origin, message)
                            .help("make two steps of it: put `- ` before the second"),
                    );
                }
            }
            [] => {}
        }
    }

    fn array(&mut self, node: &mut Node, schema: &Value, what: &str) {
        let Some(items) = schema.get("items") else { return };
        // One value may stand for a list of one, where values are listed.
        if node.text().is_some() && scalar(self.schemas, items) {
            let one = node.clone();
            node.kind = Kind::List(vec![one]);
        }
        let Kind::List(list) = &mut node.kind else { return self.wrong(node, schema, what) };
        if list.is_empty() && schema.get("minItems").is_some() {
            let one = if what == "expect" { "entry" } else { what.strip_suffix('s').unwrap_or(what) };
            let expected = format!("at least one {one}");
            return self.say(Diagnostic::new(&node.origin, format!("`{what}` is empty")).expected(expected));
        }
        for item in list {
            self.value(item, items, what);
        }
    }

    fn integer(&mut self, node: &Node, schema: &Value, what: &str) {
        let Some(text) = node.text() else { return self.wrong(node, schema, what) };
        if let Some(only) = schema.get("const").map(Value::to_string) {
            if text != only {
                let d = Diagnostic::new(&node.origin, format!("`{what}` is {text} here"));
                self.say(d.expected(only.clone()).help(format!("this program reads version {only}")));
            }
            return;
        }
        let lowest = schema.get("minimum").and_then(Value::as_i64).unwrap_or(i64::MIN);
        let highest = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => i64::from(u32::MAX),
            _ => i64::MAX,
        };
        match text.parse::<i64>() {
            Ok(n) if !text.starts_with('+') && (lowest..=highest).contains(&n) => {}
            _ => self.say(
                Diagnostic::new(&node.origin, format!("`{text}` is no value of `{what}`"))
                    .expected("a whole number"),
            ),
        }
    }

    pub(super) fn flag(&mut self, node: &Node, what: &str) {
        match node.text() {
            Some("true" | "false") => {}
            Some(text) => {
                let d = Diagnostic::new(&node.origin, format!("`{text}` is no value of `{what}`"))
                    .expected("true or false");
                let meant = match text.to_ascii_lowercase().as_str() {
                    "yes" | "on" | "true" | "y" | "1" => Some("true"),
                    "no" | "off" | "false" | "n" | "0" => Some("false"),
                    _ => None,
                };
                self.say(match meant {
                    Some(meant) => d.help(format!("write `{meant}`")),
                    None => d,
                });
            }
            None => {
                let d = Diagnostic::new(&node.origin, format!("`{what}` is {} here", node.word()));
                self.say(d.expected("true or false"));
            }
        }
    }

    fn string(&mut self, node: &Node, schema: &Value, name: Option<&str>, what: &str) {
        let Some(text) = node.text() else { return self.wrong(node, schema, what) };
        let read = match name {
            Some("Size") => text.parse::<crate::units::Size>().map(drop),
            Some("Duration") => text.parse::<crate::units::GuestDuration>().map(drop),
            Some("XenSpec") => text.parse::<crate::spec::XenSpec>().map(drop),
            Some("GuestKernel") => text.parse::<crate::guest::GuestKernel>().map(drop),
            Some("KernelSpec") => text.parse::<crate::spec::KernelSpec>().map(drop),
            Some("UserlandSpec") => text.parse::<crate::spec::UserlandSpec>().map(drop),
            Some("Date") => text.parse::<crate::date::Date>().map(drop),
            Some("Ident") if !is_name(text) => Err(format!("`{text}` is not a name")),
            _ => Ok(()),
        };
        if let Err(message) = read {
            // These messages end with what was expected; at the caret that is said apart.
            let (message, _) = message.split_once("; expected").unwrap_or((&message, ""));
            let (message, hint) = match message.split_once(", did you mean ") {
                Some((message, hint)) => (message, Some(format!("did you mean {hint}"))),
                None => (message, None),
            };
            let expected = match name.and_then(|n| self.schemas.definition(n)) {
                Some(schema) => self.schemas.describe(&schema),
                None => "another value".into(),
            };
            let d = Diagnostic::new(&node.origin, message).expected(expected);
            self.say(match hint {
                Some(hint) => d.help(hint),
                None => d,
            });
        }
    }
}

/// The last line of a regex error says what is wrong; those before draw it.
pub(crate) fn last_line(e: &regex::Error) -> String {
    let text = e.to_string();
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

fn of(what: &str) -> String {
    if what.is_empty() { String::new() } else { format!(" in `{what}`") }
}

/// A name: letters, digits, `-`, `_`, `.`; a letter or digit first.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}
