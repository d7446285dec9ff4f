//! From the located tree to typed values, with an error that knows its place, what was expected and what is near.
//!
//! serde stops at the first error. [`read`] takes the wrong part out of the tree and tries again, so that one run of
//! `leasewarden check` tells everything that is wrong.

use std::fmt;
use std::ops::Deref;

use serde::de::{self, Deserialize, Deserializer, Visitor};

use super::problem::{Pos, Problem};
use super::read::{De, Kind, MARKER, Step, render_path};
use super::tree::{Node, Value};

/// What stands below these keys is not repeated in messages.
const SECRET: [&str; 2] = ["canaries", "export.otlp.headers"];

/// Most problems told of one file.
const MAX_PROBLEMS: usize = 50;

/// Reads a `T` from the tree. `None` only when nothing of the file can be used.
pub(super) fn read<T: for<'de> Deserialize<'de>>(mut root: Node) -> (Option<T>, Vec<Problem>) {
    let mut problems = Vec::new();
    loop {
        let wrong = match T::deserialize(De(&root)) {
            Ok(value) => return (Some(value), problems),
            Err(wrong) => wrong,
        };
        let at = wrong.at.unwrap_or(root.at);
        let path = render_path(&wrong.steps);
        let problem = match wrong.kind {
            // Whatever stands there in place of a canary, or of where a header comes from, may be one: it is not repeated.
            Kind::Message(message) if SECRET.iter().any(|s| path.starts_with(s)) => {
                let expected = message.split(", found ").next().unwrap_or_default().to_owned();
                Some(Problem { at, path, message: expected, help: wrong.help })
            }
            Kind::Message(message) => Some(Problem { at, path, message, help: wrong.help }),
            Kind::Missing(key) => {
                let help = (key == "version").then(|| "begin with `version: 1`".to_owned());
                Some(Problem { at, path, message: format!("the key `{key}` is missing"), help })
            }
            Kind::Consequence => None,
        };
        problems.extend(problem);
        if problems.len() >= MAX_PROBLEMS || !remove(&mut root, &wrong.steps) {
            return (None, problems);
        }
    }
}

/// Takes out the part that `steps` (innermost first) lead to.
fn remove(root: &mut Node, steps: &[Step]) -> bool {
    let Some((last, way)) = steps.split_first() else { return false };
    let mut node = root;
    for step in way.iter().rev() {
        let next = match (step, &mut node.value) {
            (Step::Key(name), Value::Map(map)) => map.entries.iter_mut().find(|(k, _)| k.name == *name).map(|(_, v)| v),
            (Step::Index(i), Value::List(items)) => items.get_mut(*i),
            _ => None,
        };
        let Some(next) = next else { return false };
        node = next;
    }
    match (last, &mut node.value) {
        (Step::Key(name), Value::Map(map)) => {
            let before = map.entries.len();
            map.entries.retain(|(k, _)| k.name != *name);
            map.removed.push(name.clone());
            map.entries.len() < before
        }
        (Step::Index(i), Value::List(items)) if *i < items.len() => {
            items.remove(*i);
            true
        }
        _ => false,
    }
}

/// A value that remembers where it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    pub(super) at: Pos,
    pub(super) value: T,
}

impl<T> Deref for Located<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Located<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Located<T>, A::Error> {
                let missing = || de::Error::custom("only this reader gives places");
                let line = seq.next_element()?.ok_or_else(missing)?;
                let column = seq.next_element()?.ok_or_else(missing)?;
                let value = seq.next_element()?.ok_or_else(missing)?;
                Ok(Located { at: Pos { line, column }, value })
            }
        }
        deserializer.deserialize_newtype_struct(MARKER, Parts(std::marker::PhantomData))
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Located<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        generator.subschema_for::<T>()
    }
}

/// A mapping with free keys, in file order, each with its place.
#[derive(Clone, Debug)]
pub(super) struct Table<T>(pub(super) Vec<(Located<String>, T)>);

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Table<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
            type Value = Table<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mapping")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Table<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Table(entries))
            }
        }
        deserializer.deserialize_map(Entries(std::marker::PhantomData))
    }
}

impl<T: schemars::JsonSchema> schemars::JsonSchema for Table<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        format!("Table_of_{}", T::schema_name()).into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let inner = generator.subschema_for::<T>();
        schemars::json_schema!({ "type": "object", "additionalProperties": inner })
    }
}
