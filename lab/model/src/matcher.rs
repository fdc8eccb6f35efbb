//! Matchers: what a value is expected to be. One language for conditions over facts and for what steps see.

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

mod eval;

pub(crate) use eval::quote;
pub use eval::{Cut, Outcome, parse};

/// `SCALAR` (equals), `[SCALAR, …]` (any of these), `{OP: operand, …}` (all hold).
///
/// Told apart by the kind of node, so never ambiguous.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Matcher {
    /// Equal to this text (read by the type of what it is compared with).
    Equals(String),
    /// Equal to one of these.
    AnyOf(Vec<String>),
    /// Every operator holds.
    All(Vec<(Op, Vec<String>)>),
}

/// An operator of a matcher.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// The same value.
    Equals,
    /// Another value.
    Not,
    /// One of a list.
    AnyOf,
    /// The regular expression is found.
    Matches,
    /// Text begins so.
    StartsWith,
    /// Text has this, or a set has each of these.
    Contains,
    /// Text has not this, or a set has none of these.
    Lacks,
    /// A number, size or version that is this or more.
    AtLeast,
    /// A number, size or version that is less.
    Below,
    /// The same as the fact of that name.
    SameAs,
    /// `true`: there is a value; `false`: there is none.
    Present,
}

impl Op {
    /// Every operator.
    pub const ALL: [Op; 11] = [
        Op::Equals,
        Op::Not,
        Op::AnyOf,
        Op::Matches,
        Op::StartsWith,
        Op::Contains,
        Op::Lacks,
        Op::AtLeast,
        Op::Below,
        Op::SameAs,
        Op::Present,
    ];

    /// As scenarios write it.
    pub fn name(self) -> &'static str {
        match self {
            Op::Equals => "equals",
            Op::Not => "not",
            Op::AnyOf => "any-of",
            Op::Matches => "matches",
            Op::StartsWith => "starts-with",
            Op::Contains => "contains",
            Op::Lacks => "lacks",
            Op::AtLeast => "at-least",
            Op::Below => "below",
            Op::SameAs => "same-as",
            Op::Present => "present",
        }
    }

    pub(crate) fn takes_list(self) -> bool {
        matches!(self, Op::AnyOf | Op::Contains | Op::Lacks)
    }
}

impl Serialize for Matcher {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Matcher::Equals(t) => s.serialize_str(t),
            Matcher::AnyOf(l) => l.serialize(s),
            Matcher::All(ops) => s.collect_map(ops.iter().map(|(op, values)| {
                let operand = match values.as_slice() {
                    [one] if !matches!(op, Op::AnyOf) => serde_json::Value::String(one.clone()),
                    many => many.iter().cloned().map(serde_json::Value::String).collect(),
                };
                (op.name(), operand)
            })),
        }
    }
}

/// A scalar or a list of scalars, kept as text.
struct Operand(Vec<String>, bool);

macro_rules! scalar_visits {
    ($wrap:expr) => {
        fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Self::Value, E> {
            Ok($wrap(v.to_owned()))
        }
        fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Self::Value, E> {
            Ok($wrap(v.to_string()))
        }
        fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Self::Value, E> {
            Ok($wrap(v.to_string()))
        }
        fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Self::Value, E> {
            Ok($wrap(v.to_string()))
        }
    };
}

impl<'de> Deserialize<'de> for Operand {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Operand;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or a list of values")
            }
            scalar_visits!(|t| Operand(vec![t], false));
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Operand, A::Error> {
                let mut all = Vec::new();
                while let Some(Operand(one, list)) = seq.next_element()? {
                    if list {
                        return Err(A::Error::custom("a list inside a list; expected values"));
                    }
                    all.extend(one);
                }
                Ok(Operand(all, true))
            }
        }
        d.deserialize_any(V)
    }
}

impl<'de> Deserialize<'de> for Matcher {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Matcher;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, a list of values, or operators such as {at-least: 64}")
            }
            scalar_visits!(Matcher::Equals);
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Matcher, A::Error> {
                let Operand(all, _) =
                    Operand::deserialize(serde::de::value::SeqAccessDeserializer::new(seq))?;
                if all.is_empty() {
                    return Err(A::Error::custom(
                        "an empty list matches nothing; expected at least one value",
                    ));
                }
                Ok(Matcher::AnyOf(all))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Matcher, A::Error> {
                let mut ops = Vec::new();
                while let Some((op, Operand(values, list))) = map.next_entry::<Op, Operand>()? {
                    if list && !op.takes_list() {
                        return Err(A::Error::custom(format!("`{}` takes one value, not a list", op.name())));
                    }
                    if values.is_empty() {
                        return Err(A::Error::custom(format!("`{}` needs at least one value", op.name())));
                    }
                    ops.push((op, values));
                }
                if ops.is_empty() {
                    return Err(A::Error::custom("expected at least one operator, such as {at-least: 64}"));
                }
                Ok(Matcher::All(ops))
            }
        }
        d.deserialize_any(V)
    }
}

impl schemars::JsonSchema for Matcher {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Matcher".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let scalar = serde_json::json!({"type": ["string", "number", "boolean"]});
        let list = serde_json::json!({"type": "array", "items": scalar, "minItems": 1});
        let ops: serde_json::Map<String, serde_json::Value> = Op::ALL
            .into_iter()
            .map(|op| {
                let operand = if op.takes_list() {
                    serde_json::json!({"anyOf": [scalar, list]})
                } else {
                    scalar.clone()
                };
                (op.name().to_owned(), operand)
            })
            .collect();
        schemars::json_schema!({
            "anyOf": [scalar, list, {"type": "object", "properties": ops, "additionalProperties": false, "minProperties": 1}]
        })
    }
}
