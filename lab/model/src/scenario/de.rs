//! A node as a serde deserializer: a scalar is its text, numbers and flags are read from it only where a type asks.

use super::diagnostic::{Diagnostic, alternatives, nearest};
use super::tree::{Kind, Node, Origin};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use std::fmt;

/// What a type refused, and where.
#[derive(Debug)]
pub struct Error(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    message: String,
    help: Option<String>,
    words: Vec<&'static str>,
    origin: Option<Origin>,
}

impl Error {
    fn at(mut self, node: &Node) -> Self {
        self.0.origin.get_or_insert_with(|| node.origin.clone());
        self
    }

    /// For the user; `fallback` is where it was when nothing better is known.
    pub fn diagnostic(self, fallback: &Origin) -> Diagnostic {
        let Refusal { message, help, words, origin } = *self.0;
        let mut d = Diagnostic::new(origin.as_ref().unwrap_or(fallback), message);
        if !words.is_empty() {
            d = d.expected(alternatives(&words));
        }
        match help {
            Some(help) => d.help(help),
            None => d,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error(Box::new(Refusal { message: message.to_string(), help: None, words: Vec::new(), origin: None }))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Error(Box::new(Refusal {
            message: format!("`{variant}` is not known here"),
            help: nearest(variant, expected.iter().copied()).map(|w| format!("did you mean `{w}`?")),
            words: expected.to_vec(),
            origin: None,
        }))
    }
}

/// Reads a type from a node.
pub fn from_node<'de, T: de::Deserialize<'de>>(node: &'de Node) -> Result<T, Error> {
    T::deserialize(node)
}

/// The words of an enumeration, asked of its own deserializer.
pub fn words_of<T: for<'de> de::Deserialize<'de>>() -> Vec<&'static str> {
    let nonsense = Node::scalar(Origin::default_value(), "\u{0}");
    from_node::<T>(&nonsense).err().map(|e| e.0.words).unwrap_or_default()
}

fn wrong(node: &Node, visitor: &dyn de::Expected) -> Error {
    de::Error::custom(format!("this is {}; expected {visitor}", node.word()))
}

macro_rules! numbers {
    ($($deserialize:ident $visit:ident $type:ty;)*) => { $(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            let number = self.text().and_then(|t| t.parse::<$type>().ok());
            match number {
                Some(n) => visitor.$visit(n).map_err(|e: Error| e.at(self)),
                None => Err(wrong(self, &visitor).at(self)),
            }
        }
    )* };
}

impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Scalar(text) => visitor.visit_borrowed_str(text),
            Kind::List(items) => visitor.visit_seq(Items(items.iter())),
            Kind::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
            Kind::Bad => Err(wrong(self, &visitor)),
        }
        .map_err(|e: Error| e.at(self))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => Err(wrong(self, &visitor).at(self)),
        }
    }

    numbers! {
        deserialize_i8 visit_i8 i8;
        deserialize_i16 visit_i16 i16;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
        deserialize_u8 visit_u8 u8;
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_f32 visit_f32 f32;
        deserialize_f64 visit_f64 f64;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.kind {
            Kind::Scalar(text) => visitor.visit_enum(de::value::StrDeserializer::<Error>::new(text)),
            Kind::Map(entries) => match entries.as_slice() {
                [(key, value)] => visitor.visit_enum(Variant { key: &key.text, value }),
                _ => Err(wrong(self, &visitor)),
            },
            _ => Err(wrong(self, &visitor)),
        }
        .map_err(|e| e.at(self))
    }

    serde::forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct Items<'de>(std::slice::Iter<'de, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.0.next().map(|node| seed.deserialize(node).map_err(|e| e.at(node))).transpose()
    }
}

struct Entries<'de> {
    entries: std::slice::Iter<'de, (super::tree::Key, Node)>,
    value: Option<&'de Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let text: de::value::StrDeserializer<'_, Error> = key.text.as_str().into_deserializer();
        seed.deserialize(text).map(Some).map_err(|mut e| {
            e.0.origin.get_or_insert_with(|| key.origin.clone());
            e
        })
    }
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value.take() {
            Some(node) => seed.deserialize(node).map_err(|e| e.at(node)),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

struct Variant<'de> {
    key: &'de str,
    value: &'de Node,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = &'de Node;
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, &'de Node), Error> {
        let key: de::value::StrDeserializer<'_, Error> = self.key.into_deserializer();
        Ok((seed.deserialize(key)?, self.value))
    }
}

impl<'de> VariantAccess<'de> for &'de Node {
    type Error = Error;
    fn unit_variant(self) -> Result<(), Error> {
        Err(de::Error::custom("this word takes no value"))
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}
