//! YAML as a tree in which every key and value knows its line and column.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::problem::{Pos, Problem};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Pos,
    pub(super) value: Value,
}

/// A YAML value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    List(Vec<Node>),
    Map(Map),
}

/// A mapping in file order.
#[derive(Clone, Debug, Default)]
pub(super) struct Map {
    pub(super) entries: Vec<(Key, Node)>,
    /// Keys taken out because their values were wrong: that they are missing now is no second error.
    pub(super) removed: Vec<String>,
}

/// A mapping's key and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) at: Pos,
    pub(super) name: String,
}

impl Value {
    /// The value in words, for `found …`.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(b) => format!("`{b}`"),
            Self::Int(n) => format!("the number `{n}`"),
            Self::Float(n) => format!("the number `{n}`"),
            Self::Str(s) => format!("the text `{}`", shorten(s)),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
        }
    }
}

/// Longest piece of a wrong value repeated in a message, in characters.
const SHOWN: usize = 60;

fn shorten(s: &str) -> String {
    let clean = s.chars().map(|c| if c.is_control() { ' ' } else { c });
    if s.chars().count() <= SHOWN { clean.collect() } else { clean.take(SHOWN).chain("…".chars()).collect() }
}

/// Parses one YAML document. Aliases and merge keys are expanded, within the parser's budget.
pub(super) fn parse(text: &str) -> Result<Node, Problem> {
    let options = serde_saphyr::options! {
        // YAML 1.2 booleans: a tenant called `no` stays text.
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options).map(node).map_err(|error| {
        let at =
            error.location().map(|l| Pos { line: l.line(), column: l.column() }).unwrap_or(Pos { line: 1, column: 1 });
        Problem { at, path: String::new(), message: format!("not valid YAML: {}", plain(&error)), help: None }
    })
}

/// The parser's message without its own place and its advice to programmers.
fn plain(error: &serde_saphyr::Error) -> String {
    let text = error.without_snippet().to_string();
    let text = text.split(" at line ").next().unwrap_or(&text);
    let text = text.split(", set DuplicateKeyPolicy").next().unwrap_or(text);
    let text = text.split("; use from_str_multiple").next().unwrap_or(text);
    text.lines().next().unwrap_or(text).to_owned()
}

/// As the parser hands it over.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn pos<T>(spanned: &Spanned<T>) -> Pos {
    Pos { line: spanned.referenced.line(), column: spanned.referenced.column() }
}

fn node(raw: Spanned<Raw>) -> Node {
    let at = pos(&raw);
    let value = match raw.value {
        Raw::Scalar(value) => value,
        Raw::List(items) => Value::List(items.into_iter().map(node).collect()),
        Raw::Map(entries) => Value::Map(Map {
            entries: entries
                .into_iter()
                .map(|(key, value)| (Key { at: pos(&key), name: key.value }, node(value)))
                .collect(),
            removed: Vec::new(),
        }),
    };
    Node { at, value }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Raw;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML value")
            }
            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }
            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }
            fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Bool(v)))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Int(v.into())))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Int(v.into())))
            }
            fn visit_i128<E>(self, v: i128) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Int(v)))
            }
            fn visit_u128<E>(self, v: u128) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Int(i128::try_from(v).unwrap_or(i128::MAX))))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Float(v)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Str(v.to_owned())))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }
        deserializer.deserialize_any(Any)
    }
}
