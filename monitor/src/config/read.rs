//! A serde deserializer over the located tree: errors know their place, what was expected and what is near.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::problem::{Pos, did_you_mean};
use super::tree::{Key, Map, Node, Value};

/// Name of the newtype that asks [`De`] for the place along with the value.
pub(super) const MARKER: &str = "$leasewarden::Located";

#[derive(Debug)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

#[derive(Debug)]
pub(super) enum Kind {
    Message(String),
    Missing(&'static str),
    /// Follows from another problem that was already told.
    Consequence,
}

/// A value that does not fit.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The way to it, innermost step first.
    pub(super) steps: Vec<Step>,
    pub(super) at: Option<Pos>,
    pub(super) kind: Kind,
    pub(super) help: Option<String>,
}

impl Wrong {
    fn new(at: Pos, message: String) -> Self {
        Self { steps: Vec::new(), at: Some(at), kind: Kind::Message(message), help: None }
    }

    fn expected(what: &str, node: &Node) -> Self {
        Self::new(node.at, format!("expected {what}, found {}", node.value.describe()))
    }

    fn inside(mut self, step: Step, at: Pos) -> Self {
        self.steps.push(step);
        self.at.get_or_insert(at);
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Message(m) => f.write_str(m),
            Kind::Missing(key) => write!(f, "the key `{key}` is missing"),
            Kind::Consequence => f.write_str("wrong because of another problem"),
        }
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { steps: Vec::new(), at: None, kind: Kind::Message(message.to_string()), help: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { steps: Vec::new(), at: None, kind: Kind::Missing(field), help: None }
    }
}

pub(super) fn render_path(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps.iter().rev() {
        match step {
            Step::Key(name) if out.is_empty() => out.push_str(name),
            Step::Key(name) => {
                out.push('.');
                out.push_str(name);
            }
            Step::Index(i) => out.push_str(&format!("[{i}]")),
        }
    }
    out
}

/// Reads typed values from a node.
pub(super) struct De<'t>(pub(super) &'t Node);

macro_rules! integers {
    ($($method:ident $visit:ident $ty:ty),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
            let what = || format!("a whole number from {} to {}", <$ty>::MIN, <$ty>::MAX);
            match &self.0.value {
                Value::Int(n) => match <$ty>::try_from(*n) {
                    Ok(n) => visitor.$visit(n),
                    Err(_) => Err(Wrong::expected(&what(), self.0)),
                },
                _ => Err(Wrong::expected(&what(), self.0)),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for De<'_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(b) => visitor.visit_bool(*b),
            // What may be one of several kinds is kept in between, in a form that knows no wider numbers.
            Value::Int(n) => match i64::try_from(*n) {
                Ok(n) => visitor.visit_i64(n),
                Err(_) => visitor.visit_i128(*n),
            },
            Value::Float(n) => visitor.visit_f64(*n),
            Value::Str(s) => visitor.visit_str(s),
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            Value::Map(map) => visitor.visit_map(Entries { entries: map.entries.iter(), value: None }),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Bool(b) => visitor.visit_bool(*b),
            _ => Err(Wrong::expected("`true` or `false`", self.0)),
        }
    }

    integers! {
        deserialize_u8 visit_u8 u8, deserialize_u16 visit_u16 u16, deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64, deserialize_i8 visit_i8 i8, deserialize_i16 visit_i16 i16,
        deserialize_i32 visit_i32 i32, deserialize_i64 visit_i64 i64,
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Str(s) => visitor.visit_str(s),
            Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                let mut wrong = Wrong::expected("text", self.0);
                wrong.help = Some("put it in quotes if text is meant".into());
                Err(wrong)
            }
            _ => Err(Wrong::expected("text", self.0)),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        if name == MARKER {
            visitor.visit_seq(Placed { at: self.0.at, next: 0, inner: Some(self) })
        } else {
            visitor.visit_newtype_struct(self)
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::List(items) => visitor.visit_seq(Items { items: items.iter().enumerate() }),
            _ => Err(Wrong::expected("a list", self.0)),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Map(map) => visitor.visit_map(Entries { entries: map.entries.iter(), value: None }),
            _ => Err(Wrong::expected("a mapping", self.0)),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        let Value::Map(map) = &self.0.value else {
            return Err(Wrong::expected(&format!("a mapping with the keys {}", list(fields)), self.0));
        };
        if let Some((key, _)) = map.entries.iter().find(|(k, _)| !fields.contains(&k.name.as_str())) {
            return Err(unknown_key(key, fields));
        }
        visitor
            .visit_map(Entries { entries: map.entries.iter(), value: None })
            .map_err(|wrong| settle(wrong, map, self.0.at))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match &self.0.value {
            Value::Str(s) if variants.contains(&s.as_str()) => visitor.visit_enum(s.as_str().into_deserializer()),
            other => {
                let mut wrong = Wrong::expected(&format!("one of {}", list(variants)), self.0);
                if let Value::Str(s) = other {
                    wrong.help = did_you_mean(s, variants.iter().copied());
                }
                Err(wrong)
            }
        }
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A field that is missing is missing at its mapping; if it was taken out, that was already told.
fn settle(mut wrong: Wrong, map: &Map, at: Pos) -> Wrong {
    if wrong.steps.is_empty() {
        if let Kind::Missing(key) = wrong.kind
            && map.removed.iter().any(|r| r == key)
        {
            wrong.kind = Kind::Consequence;
        }
        wrong.at.get_or_insert(at);
    }
    wrong
}

fn unknown_key(key: &Key, fields: &[&str]) -> Wrong {
    let mut wrong = Wrong::new(key.at, format!("unknown key; expected {}", list(fields)));
    wrong.help = did_you_mean(&key.name, fields.iter().copied());
    wrong.inside(Step::Key(key.name.clone()), key.at)
}

fn list(names: &[&str]) -> String {
    names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
}

struct Items<'t> {
    items: std::iter::Enumerate<std::slice::Iter<'t, Node>>,
}

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        let Some((i, node)) = self.items.next() else { return Ok(None) };
        seed.deserialize(De(node)).map(Some).map_err(|wrong| wrong.inside(Step::Index(i), node.at))
    }
}

struct Entries<'t> {
    entries: std::slice::Iter<'t, (Key, Node)>,
    value: Option<&'t (Key, Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        // A key with nothing behind it is a key left out.
        self.value = self.entries.by_ref().find(|(_, v)| !matches!(v.value, Value::Null));
        let Some((key, _)) = self.value else { return Ok(None) };
        let node = Node { at: key.at, value: Value::Str(key.name.clone()) };
        seed.deserialize(De(&node)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let Some((key, node)) = self.value.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        seed.deserialize(De(node)).map_err(|wrong| wrong.inside(Step::Key(key.name.clone()), node.at))
    }
}

/// Line, column, value.
struct Placed<'t> {
    at: Pos,
    next: u8,
    inner: Option<De<'t>>,
}

impl<'de> de::SeqAccess<'de> for Placed<'_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        self.next += 1;
        match self.next {
            1 => seed.deserialize(self.at.line.into_deserializer()).map(Some),
            2 => seed.deserialize(self.at.column.into_deserializer()).map(Some),
            _ => self.inner.take().map(|de| seed.deserialize(de)).transpose(),
        }
    }
}
