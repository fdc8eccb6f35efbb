//! The shape of a scenario file: what its JSON Schema is made from.
//!
//! Files are read from the tree, not through these types; they exist so that the language has one description.

use super::config::{BootConfig, Dom0Config, Limits, MachineConfig, Need, XenConfig};
use crate::arch::Arch;
use crate::condition::Condition;
use crate::guest::GuestConfig;
use crate::step;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The version of the language this program reads.
pub const VERSION: &str = "1";

/// A scenario: what to boot, in which variations, and what must hold.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ScenarioFile {
    /// Version of the scenario language; the first key.
    pub xenlab: Language,
    /// Name of the scenario; the first part of every case's id.
    pub name: Ident,
    /// What it is for, in a sentence.
    pub description: Option<String>,
    /// Words to select it by.
    #[schemars(default)]
    pub tags: Vec<Ident>,
    /// Variables: `${vars.NAME}` in values, `$VARS_NAME` in scripts.
    #[schemars(default)]
    pub vars: BTreeMap<Ident, Var>,
    /// Axes: each puts every one of its values at its PATH in turn.
    #[schemars(default)]
    pub matrix: BTreeMap<Path, Axis>,
    /// Points of the matrix that are no cases.
    #[schemars(default)]
    pub exclude: Vec<Condition>,
    /// What must hold for a case to make sense; where it does not, the case is skipped.
    #[schemars(default)]
    pub needs: Vec<Need>,
    /// Files of expectations, relative to this one: what some cases are known to come to, and why.
    #[schemars(default)]
    pub expectations: Vec<String>,
    /// The architecture of the machine under test.
    pub arch: Option<Arch>,
    /// The machine.
    pub machine: Option<MachineConfig>,
    /// The Xen build under test.
    pub xen: Option<XenConfig>,
    /// dom0.
    pub dom0: Option<Dom0Config>,
    /// How the machine boots.
    pub boot: Option<BootConfig>,
    /// Guests that steps can create, by name.
    #[schemars(default)]
    pub guests: BTreeMap<Ident, GuestConfig>,
    /// What differs for some cases.
    #[schemars(default)]
    pub overrides: Vec<Override>,
    /// Limits of waits, in guest time.
    pub limits: Option<Limits>,
    /// Done before the steps; a failure here ends the case.
    #[schemars(default)]
    pub setup: Vec<StepFile>,
    /// What is done and judged, in order.
    #[schemars(length(min = 1))]
    pub steps: Vec<StepFile>,
}

/// An axis: its values, or what they are made from.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
#[serde(untagged)]
pub enum Axis {
    /// Each in turn.
    Values(Vec<Anything>),
    /// What a generator gives.
    Generated(Generated),
}

/// An axis whose values come from elsewhere.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Generated {
    /// The instances of a built XTF tree.
    pub xtf: crate::xtf::Selection,
}

/// An entry of `overrides:`.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Override {
    /// For which cases; all when not said.
    pub when: Option<Condition>,
    /// Values put at PATHs.
    #[schemars(default)]
    pub set: BTreeMap<Path, Anything>,
    /// Values added to the lists at PATHs.
    #[schemars(default)]
    pub add: BTreeMap<Path, Vec<Scalar>>,
}

/// A variable's declaration.
#[derive(Debug, JsonSchema)]
#[schemars(deny_unknown_fields, extend("x-primary" = "default"))]
pub struct Var {
    /// Its value unless an axis or `--set` gives another; primary key.
    pub default: Option<Scalar>,
    /// An axis or `--set` has to give it.
    #[schemars(default)]
    pub required: bool,
    /// What it is; shown when it is missing.
    pub help: Option<String>,
}

macro_rules! described {
    ($(#[$doc:meta] $name:ident $schema:tt)*) => { $(
        #[$doc]
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub String);
        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut SchemaGenerator) -> Schema { json_schema!($schema) }
        }
    )* };
}

described! {
    #[doc = "A name: letters, digits, `-`, `_`, `.`; a letter or digit first."]
    Ident {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"}
    #[doc = "Text, however it is written."]
    Scalar {"type": "string"}
    #[doc = "A dotted key of this file that can be set."]
    Path {"type": "string", "pattern": "^[a-z0-9]+(\\.[A-Za-z0-9_-]+)*$"}
    #[doc = "A value whose type is that of the PATH it is put at."]
    Anything {"x-anything": true}
}

/// `xenlab: 1`.
#[derive(Debug)]
pub struct Language;

impl JsonSchema for Language {
    fn schema_name() -> Cow<'static, str> {
        "Language".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "const": 1})
    }
}

/// A step as a file has it: common fields and exactly one kind.
#[derive(Debug)]
pub struct StepFile;

/// Keys of a step that are no kinds.
pub const STEP_KEYS: [&str; 3] = ["name", "when", "within"];

impl JsonSchema for StepFile {
    fn schema_name() -> Cow<'static, str> {
        "Step".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        properties.insert(
            "name".into(),
            serde_json::json!({"type": "string", "description": "What reports call the step."}),
        );
        properties.insert(
            "when".into(),
            described(
                "For which cases; where it is false the step is not part of the case.",
                generator.subschema_for::<Condition>(),
            ),
        );
        properties.insert(
            "within".into(),
            described(
                "Its limit in guest time, in place of limits.step.",
                generator.subschema_for::<crate::units::GuestDuration>(),
            ),
        );
        let kinds = step::kinds();
        for kind in &kinds {
            let mut schema = (kind.schema)(generator).to_value();
            if let (Some(primary), Some(object)) = (kind.primary, schema.as_object_mut()) {
                object.insert("x-primary".into(), primary.into());
            }
            properties.insert(kind.name.into(), schema);
        }
        let one: Vec<_> = kinds.iter().map(|k| serde_json::json!({"required": [k.name]})).collect();
        json_schema!({
            "type": "object",
            "description": "One step: common fields and exactly one kind.",
            "properties": properties,
            "additionalProperties": false,
            "x-step": true,
            "oneOf": one,
        })
    }
}

fn described(text: &str, schema: Schema) -> serde_json::Value {
    let mut value = schema.to_value();
    if let Some(object) = value.as_object_mut() {
        object.insert("description".into(), text.into());
    }
    value
}
