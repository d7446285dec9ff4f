//! `SET` in all its spellings, and variables that are assigned within other statements.

use super::super::Dialect;
use super::super::shape::{Act, Draft, Lasting, Tag, query_of};
use super::super::value::Value;
use super::super::words::{Words, literal, param};
use super::assign;

/// `SET …`.
pub(super) fn set<'s>(words: &mut Words<'s>, shape: &'s str) -> Option<Draft> {
    let control = |verb: &str| Some(Draft::control(verb, Tag::Any));
    match (words.peek()?, words.peek_second()) {
        ("names", _) => control("SET NAMES"),
        ("character" | "charset" | "char", _) => control("SET CHARACTER SET"),
        ("password", _) => control("SET PASSWORD"),
        ("transaction", _) | ("session" | "global" | "local", Some("transaction")) => control("SET TRANSACTION"),
        ("default" | "resource", Some("role" | "group")) => control("SET"),
        ("role", second) if !matches!(second, Some("=" | ":=")) => {
            words.next();
            role(words)
        }
        // MariaDB: settings for one statement.
        ("statement", _) => {
            let inner = words.clone().position(|w| w == "for").and_then(|at| {
                words.nth(at)?;
                words.rest(shape)
            });
            let inner = query_of(inner?, Dialect::MySql);
            let mut draft = Draft::control(&inner.verb, Tag::Any);
            (draft.data, draft.target, draft.tables) = (inner.data, inner.target.into(), inner.tables);
            draft.unknown = !inner.acts.is_empty() || inner.unknown;
            Some(draft)
        }
        _ => assignments(words),
    }
}

/// `SET ROLE NONE | DEFAULT | ALL … | role, …`; of an account's name (`'role'@'host'`) the first part counts.
fn role(words: &mut Words<'_>) -> Option<Draft> {
    let mut names = Vec::new();
    for word in words.by_ref() {
        match word {
            "," => {}
            _ if word.starts_with('@') => {}
            "default" => {
                let act = Act::Reset { name: Value::Fixed("role".into()), lasting: Lasting::Session };
                return Some(Draft::act("SET ROLE", Tag::Any, act));
            }
            _ => names.push(literal(word).or_else(|| Words::new(word).name().map(Value::Fixed))?),
        }
    }
    let value = if names.len() == 1 { names.pop()? } else { Value::List(names.into()) };
    Some(Draft::act("SET ROLE", Tag::Any, assign("role", value)))
}

/// `SET [SESSION | GLOBAL] name = value, @name = value, …`.
fn assignments(words: &mut Words<'_>) -> Option<Draft> {
    let mut draft = Draft::control("SET", Tag::Any);
    loop {
        if matches!(words.peek(), Some("session" | "global" | "local" | "persist" | "persist_only"))
            && !matches!(words.peek_second(), Some("=" | ":=" | "."))
        {
            words.next();
        }
        let name = name(words)?;
        if !matches!(words.next()?, "=" | ":=") {
            return None;
        }
        let (value, more) = value(words);
        // A value may be read from a table.
        draft.data |= value.reads;
        draft.acts.push(match value.is {
            Some(value) => assign(&name, value),
            None => Act::Reset { name: Value::Fixed(name.into()), lasting: Lasting::Session },
        });
        if !more {
            return Some(draft);
        }
    }
}

/// A variable's name: `@name` as it is, `@@session.name` and `name` without their scope.
fn name(words: &mut Words<'_>) -> Option<String> {
    match words.peek()?.strip_prefix("@@") {
        Some(system) => {
            words.next();
            let scope = ["session.", "local.", "global.", "persist.", "persist_only."];
            Some(scope.iter().find_map(|s| system.strip_prefix(s)).unwrap_or(system).to_owned())
        }
        None if words.peek()?.starts_with('@') => words.next().map(str::to_owned),
        None => Some(words.qualified().to_lowercase()).filter(|name| !name.is_empty()),
    }
}

struct Assigned {
    /// `None`: `DEFAULT`.
    is: Option<Value>,
    /// A table is read for it.
    reads: bool,
}

/// The value up to the next comma outside parentheses, and whether there is one.
fn value(words: &mut Words<'_>) -> (Assigned, bool) {
    let (mut depth, mut n, mut reads) = (0usize, 0usize, false);
    let mut is = Some(Value::Computed);
    let mut negative = false;
    for word in words.by_ref() {
        match word {
            "," if depth == 0 => return (of(is, n, reads), true),
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        reads |= depth > 0 && word == "from";
        if n == 0 && word == "-" {
            negative = true;
            continue;
        }
        is = match (literal(word), word) {
            (Some(Value::Literal(i)), _) if negative => Some(Value::Negative(i)),
            (Some(value), _) => Some(value),
            (None, "null") => Some(Value::Null),
            (None, "default") => None,
            (None, "on" | "off" | "true" | "false") => Some(Value::Fixed(word.into())),
            _ => Some(param(word).unwrap_or(Value::Computed)),
        };
        n += 1;
    }
    (of(is, n, reads), false)
}

fn of(is: Option<Value>, n: usize, reads: bool) -> Assigned {
    Assigned { is: if n == 1 { is } else { Some(Value::Computed) }, reads }
}

/// Variables that a query assigns (`@name := …`, `INTO @name`): what they hold then, only the server knows.
pub(in crate::decode::sql) fn assigned(shape: &str) -> Vec<Act> {
    let mut out = Vec::new();
    let mut words = Words::new(shape);
    let mut into = false;
    while let Some(word) = words.next() {
        let variable = word.starts_with('@') && !word.starts_with("@@");
        if variable && (into || words.peek() == Some(":=")) && out.len() < MAX_ASSIGNED {
            out.push(assign(word, Value::Computed));
        }
        into = word == "into" || into && (variable || word == ",");
    }
    out
}

/// Most variables of one query that are followed.
const MAX_ASSIGNED: usize = 16;
