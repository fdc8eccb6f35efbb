//! The language's JSON Schema, made from the types, and what is read off it: types of PATHs, words, primary keys.

use super::config::Config;
use super::expectations::ExpectationsFile;
use super::file::ScenarioFile;
use crate::fact::FactType;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// Sections of a scenario in which a PATH can lie.
pub(crate) const SECTIONS: [&str; 7] = ["arch", "machine", "xen", "dom0", "boot", "guests", "limits"];

/// A key that an axis, an override and `--set` can set.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PathInfo {
    /// The dotted key.
    pub path: String,
    /// Its type as a fact; a list is a set.
    #[serde(rename = "type")]
    pub kind: FactType,
    /// What it takes, in words.
    pub takes: String,
    /// What it is.
    pub help: String,
    /// Its value when nothing is said, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Other names of it: `xen` for `xen.build`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// The schemas the tree is checked against.
pub(crate) struct Schemas {
    /// Of a file.
    pub file: Value,
    /// Of a file of expectations.
    pub expectations: Value,
    /// Of a case's configuration.
    pub config: Value,
    definitions: Map<String, Value>,
    paths: Vec<PathInfo>,
    aliases: BTreeMap<String, String>,
}

/// A schema with its references followed.
#[derive(Clone, Copy)]
pub(crate) struct Resolved<'a> {
    /// The last name followed, `XenSpec`.
    pub name: Option<&'a str>,
    /// The schema itself.
    pub schema: &'a Value,
    /// The key that a scalar in its place stands for.
    pub primary: Option<&'a str>,
}

impl Schemas {
    /// The one set of them.
    pub fn get() -> &'static Schemas {
        static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
        SCHEMAS.get_or_init(Schemas::new)
    }

    fn new() -> Schemas {
        let mut generator = SchemaSettings::draft2020_12().into_generator();
        let mut file = generator.subschema_for::<ScenarioFile>().to_value();
        let mut config = generator.subschema_for::<Config>().to_value();
        let mut expectations = generator.subschema_for::<ExpectationsFile>().to_value();
        let mut definitions = generator.take_definitions(true);
        // The phases are the console crate's, which knows nothing of schemas.
        let phases = super::de::words_of::<xenlab_console::Phase>();
        if let Some(reach) = definitions.get_mut("Phase").and_then(|p| p.pointer_mut("/properties/reach")) {
            reach["enum"] = json!(phases);
        }
        for schema in definitions.values_mut() {
            without_null(schema);
        }
        without_null(&mut file);
        without_null(&mut config);
        without_null(&mut expectations);
        let mut schemas =
            Schemas { file, expectations, config, definitions, paths: Vec::new(), aliases: BTreeMap::new() };
        schemas.collect_paths();
        schemas
    }

    /// Follows references, keeping what stands beside them.
    pub fn resolve<'a>(&'a self, mut schema: &'a Value) -> Resolved<'a> {
        let (mut name, mut primary) = (None, None);
        loop {
            primary = primary.or_else(|| schema.get("x-primary").and_then(Value::as_str));
            let next = schema
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|r| r.rsplit('/').next())
                .and_then(|n| self.definitions.get_key_value(n));
            match next {
                Some((n, s)) => (name, schema) = (Some(n.as_str()), s),
                None => return Resolved { name, schema, primary },
            }
        }
    }

    /// A reference to a definition, if there is one of that name.
    pub fn definition(&self, name: &str) -> Option<Value> {
        self.definitions.contains_key(name).then(|| json!({"$ref": format!("#/$defs/{name}")}))
    }

    /// The schema of a PATH, an alias or a section.
    pub fn at(&self, path: &str) -> Option<&Value> {
        let mut schema = &self.config;
        for key in path.split('.') {
            schema = self.resolve(schema).schema.get("properties")?.get(key)?;
        }
        Some(schema)
    }

    /// The words a value must be one of, if it must.
    pub fn words<'a>(&'a self, schema: &'a Value) -> Option<Vec<&'a str>> {
        let schema = self.resolve(schema).schema;
        if let Some(word) = schema.get("const").and_then(Value::as_str) {
            return Some(vec![word]);
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            return Some(words.iter().filter_map(Value::as_str).collect());
        }
        let branches = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
        let words: Option<Vec<_>> = branches.iter().map(|b| self.words(b)).collect();
        words.map(|w| w.into_iter().flatten().collect()).filter(|w: &Vec<&str>| !w.is_empty())
    }

    /// Whether a list can stand there.
    pub fn takes_list(&self, schema: &Value) -> bool {
        let schema = self.resolve(schema).schema;
        let branches = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array);
        schema.get("type").and_then(Value::as_str) == Some("array")
            || branches.is_some_and(|b| b.iter().any(|b| self.takes_list(b)))
    }

    /// What is expected there, in words.
    pub fn describe(&self, schema: &Value) -> String {
        if let Some(words) = self.words(schema) {
            return super::diagnostic::alternatives(&words);
        }
        let resolved = self.resolve(schema);
        match resolved.name {
            Some("Size") => return "a size: 512K, 64M, 1G".into(),
            Some("Date") => return "a date: 2027-06-30".into(),
            Some("Link") => return "a link: https://…".into(),
            Some("Cause") => return "a cause's code: xen.panic, check.failed".into(),
            Some("Duration") => return "a duration: 500ms, 30s, 2m".into(),
            Some("XenSpec") => return crate::spec::XEN_SPEC_FORMS.into(),
            Some("KernelSpec") => return "debian:SUITE or file:IMAGE[,modules=DIR]".into(),
            Some("UserlandSpec") => return "minimal[:SUITE], systemd[:SUITE] or tar:FILE".into(),
            Some("Matcher") => {
                return "a value, a list of values, or operators such as {at-least: 64}".into();
            }
            Some("Condition") => return "a condition: {FACT: value, …}".into(),
            Some("Step") => return "a step".into(),
            Some("Ident") => return "a name of letters, digits, `-`, `_` and `.`".into(),
            Some("Language") => return "1, the version of the language".into(),
            _ => {}
        }
        match resolved.schema.get("type").and_then(Value::as_str) {
            Some("integer") => "a whole number".into(),
            Some("boolean") => "true or false".into(),
            Some("array") => match resolved.schema.get("items").map(|i| self.describe(i)) {
                Some(items) if items == "text" || items == "a value" => "a list of values".into(),
                Some(items) => format!("a list, each {items}"),
                None => "a list".into(),
            },
            Some("object") => match keys(resolved.schema).as_slice() {
                [] => "a mapping".into(),
                keys => format!("a mapping with {}", super::diagnostic::alternatives(keys)),
            },
            Some("string") => "text".into(),
            _ if resolved.schema.get("x-anything").is_some() => "a value".into(),
            _ => match resolved.schema.get("anyOf").and_then(Value::as_array) {
                Some(branches) => branches.iter().map(|b| self.describe(b)).collect::<Vec<_>>().join(", or "),
                None => "a value".into(),
            },
        }
    }

    /// Every settable PATH.
    pub fn paths(&self) -> &[PathInfo] {
        &self.paths
    }

    /// `xen.build` for `xen`; everything else as it is.
    pub fn canonical<'a>(&'a self, path: &'a str) -> &'a str {
        self.aliases.get(path).map_or(path, String::as_str)
    }

    /// The PATH of that name or alias.
    pub fn path(&self, path: &str) -> Option<&PathInfo> {
        let path = self.canonical(path);
        self.paths.iter().find(|p| p.path == path)
    }

    fn collect_paths(&mut self) {
        let mut found = Vec::new();
        let mut aliases = BTreeMap::new();
        for section in SECTIONS {
            if let Some(schema) = self.at(section) {
                self.paths_below(section, schema, &mut found, &mut aliases);
            }
        }
        for (alias, path) in &aliases {
            if let Some(info) = found.iter_mut().find(|p: &&mut PathInfo| &p.path == path) {
                info.aliases.push(alias.clone());
            }
        }
        self.paths = found;
        self.aliases = aliases;
    }

    fn paths_below(
        &self,
        path: &str,
        schema: &Value,
        found: &mut Vec<PathInfo>,
        aliases: &mut BTreeMap<String, String>,
    ) {
        let resolved = self.resolve(schema);
        if let Some(properties) = resolved.schema.get("properties").and_then(Value::as_object) {
            if let Some(primary) = resolved.primary {
                aliases.insert(path.to_owned(), format!("{path}.{primary}"));
            }
            for (key, schema) in properties {
                self.paths_below(&format!("{path}.{key}"), schema, found, aliases);
            }
            return;
        }
        // What is below it has names of the scenario's own.
        if resolved.schema.get("additionalProperties").is_some_and(Value::is_object) {
            return;
        }
        let kind = match (resolved.name, resolved.schema.get("type").and_then(Value::as_str)) {
            (Some("Size"), _) => FactType::Size,
            (_, Some("integer")) => FactType::Integer,
            (_, Some("boolean")) => FactType::Flag,
            (_, Some("array")) => FactType::Set,
            _ if path == "xen.expect-version" => FactType::Version,
            _ => FactType::Text,
        };
        let text = |v: &Value| v.get("description").and_then(Value::as_str).map(str::to_owned);
        found.push(PathInfo {
            path: path.to_owned(),
            kind,
            takes: self.describe(schema),
            help: text(schema).or_else(|| text(resolved.schema)).unwrap_or_default().replace('\n', " "),
            default: schema.get("default").and_then(|d| match d {
                Value::String(s) => Some(s.clone()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
                other => Some(other.to_string()),
            }),
            aliases: Vec::new(),
        });
    }
}

/// The keys of a mapping's schema.
pub(crate) fn keys(schema: &Value) -> Vec<&str> {
    schema
        .get("properties")
        .and_then(Value::as_object)
        .map(|p| p.keys().map(String::as_str).collect())
        .unwrap_or_default()
}

/// Takes `null` out: an absent key is absent, there is no null in a scenario.
fn without_null(schema: &mut Value) {
    if let Value::Object(object) = schema {
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|t| t != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
            branches.retain(|b| b != &json!({"type": "null"}));
            if let [Value::Object(only)] = branches.as_slice() {
                let only = only.clone();
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
        if object.get("default").is_some_and(Value::is_null) {
            object.remove("default");
        }
        object.values_mut().for_each(without_null);
    } else if let Value::Array(items) = schema {
        items.iter_mut().for_each(without_null);
    }
}

/// The JSON Schema of scenario files, for editors (`xenlab schema`).
///
/// Wider than what is read in one respect: an editor's YAML takes an unquoted `4.20` for a number, so numbers are
/// allowed where text is expected, and `${…}` everywhere a single value is.
pub fn schema() -> Value {
    published("xenlab scenario", &Schemas::get().file, true)
}

/// The JSON Schema of files of expectations (`xenlab schema expectations`); numbers are allowed where text is, as in [`schema`].
pub fn expectations_schema() -> Value {
    published("xenlab expectations", &Schemas::get().expectations, false)
}

/// A file's schema with the definitions that it uses; `raw`: its values may hold `${…}`.
fn published(title: &str, file: &Value, raw: bool) -> Value {
    let schemas = Schemas::get();
    let mut root = schemas.resolve(file).schema.clone();
    let mut definitions = Map::new();
    used(schemas, &root, &mut definitions);
    // An axis or --xen may give it.
    if let Some(xen) = definitions.get_mut("XenConfig").and_then(Value::as_object_mut) {
        xen.remove("required");
    }
    for schema in definitions.values_mut() {
        publish(schemas, raw, schema);
    }
    publish(schemas, raw, &mut root);
    let mut out = Map::new();
    out.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    out.insert("title".into(), title.into());
    if let Value::Object(root) = root {
        out.extend(root);
    }
    out.insert("$defs".into(), Value::Object(definitions));
    Value::Object(out)
}

/// Collects the definitions that a schema refers to, and those that they do.
fn used(schemas: &Schemas, schema: &Value, found: &mut Map<String, Value>) {
    match schema {
        Value::Object(object) => {
            let name = object.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
            if let Some((name, definition)) = name.and_then(|n| schemas.definitions.get_key_value(n))
                && !found.contains_key(name)
            {
                found.insert(name.clone(), definition.clone());
                used(schemas, definition, found);
            }
            object.values().for_each(|value| used(schemas, value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| used(schemas, item, found)),
        _ => {}
    }
}

fn publish(schemas: &Schemas, raw: bool, schema: &mut Value) {
    let Value::Object(object) = schema else {
        if let Value::Array(items) = schema {
            items.iter_mut().for_each(|i| publish(schemas, raw, i));
        }
        return;
    };
    // What holds keys rather than keywords must not be mistaken for a schema.
    for (keyword, value) in object.iter_mut() {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "$defs", Value::Object(named)) => {
                named.values_mut().for_each(|s| publish(schemas, raw, s));
            }
            ("items" | "additionalProperties" | "anyOf" | "oneOf", value) => publish(schemas, raw, value),
            _ => {}
        }
    }
    if !object.contains_key("x-step") {
        // Words that may be interpolated overlap, which `oneOf` forbids.
        if let Some(branches) = object.remove("oneOf") {
            object.insert("anyOf".into(), branches);
        }
    }
    let interpolated = json!({"type": "string", "pattern": "\\$\\{"});
    let kind = object.get("type").and_then(Value::as_str).map(str::to_owned);
    let words = object.contains_key("enum") || object.contains_key("const");
    match kind.as_deref() {
        Some("string") if !words && !object.contains_key("pattern") => {
            object.insert("type".into(), json!(["string", "number", "boolean"]));
        }
        Some("string" | "integer") if raw && (kind.as_deref() == Some("string") || !words) => {
            let own = Value::Object(std::mem::take(object));
            object.insert("anyOf".into(), json!([own, interpolated]));
        }
        Some("boolean") if raw => {
            let own = Value::Object(std::mem::take(object));
            object.insert("anyOf".into(), json!([own, interpolated]));
        }
        Some("array") => {
            let items = object.get("items").cloned();
            if let Some(items) = items.filter(|i| scalar(schemas, i)) {
                let own = Value::Object(std::mem::take(object));
                object.insert("anyOf".into(), json!([own, items]));
            }
        }
        _ => {}
    }
    let primary = object.remove("x-primary");
    object.remove("x-step");
    object.remove("x-anything");
    if let Some(primary) = primary.as_ref().and_then(Value::as_str) {
        let whole = Value::Object(std::mem::take(object));
        let body = schemas.resolve(&whole).schema;
        let mut one = body.pointer(&format!("/properties/{primary}")).cloned().unwrap_or(json!({}));
        publish(schemas, raw, &mut one);
        object.insert("anyOf".into(), json!([whole, one]));
    }
}

/// Whether a single value can stand there.
pub(crate) fn scalar(schemas: &Schemas, schema: &Value) -> bool {
    let single = |t: &Value| matches!(t.as_str(), Some("string" | "integer" | "boolean" | "number"));
    let resolved = schemas.resolve(schema);
    match resolved.schema.get("type") {
        Some(Value::Array(types)) => types.iter().all(single),
        Some(one) => single(one),
        None => schemas.words(schema).is_some(),
    }
}
