//! Statements of MySQL and MariaDB that are no queries, read from a shape by hand; their names; and how their tokens are
//! told apart. Grammar: the manuals' chapters "SQL Statements" (MySQL 8.4) and "SQL Statements" (MariaDB 10.11).

mod names;
mod set;

use std::any::TypeId;

use sqlparser::dialect::{Dialect as Parsing, MySqlDialect};

pub(super) use names::{built_in, system_relation};
pub(super) use set::assigned;

use super::plan::DATABASE;
use super::shape::{Act, Draft, Lasting, Named, Sure, Tag, Template, query_of};
use super::value::Value;
use super::words::Words;
use super::{Dialect, guess, names as said};

/// MySQL's tokens, but for names in quotes, which a shape writes as PostgreSQL does.
#[derive(Debug)]
pub(super) struct Lexis;

impl Parsing for Lexis {
    fn dialect(&self) -> TypeId {
        TypeId::of::<MySqlDialect>()
    }
    fn is_identifier_start(&self, ch: char) -> bool {
        ch != '$' && MySqlDialect {}.is_identifier_start(ch)
    }
    fn is_identifier_part(&self, ch: char) -> bool {
        MySqlDialect {}.is_identifier_part(ch)
    }
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '"'
    }
}

/// The template of a statement that is no query; `None` for a query, which [`super::parse`] reads.
pub(super) fn parse(shape: &str) -> Option<Template> {
    let mut words = Words::new(shape);
    let first = words.next()?;
    let draft = match first {
        "select" | "with" | "insert" | "update" | "delete" | "replace" | "values" | "table" | "(" => return None,
        "set" => set::set(&mut words, shape),
        "use" => words.name().map(uses),
        "begin" if matches!(words.peek(), None | Some("work")) => Some(Draft::act("BEGIN", Tag::Any, Act::Begin)),
        "start" if words.peek() == Some("transaction") => Some(Draft::act("START TRANSACTION", Tag::Any, Act::Begin)),
        // What a session has set stays, however its transaction ends.
        "commit" => Some(ends("COMMIT", &mut words)),
        "rollback" if words.clone().any(|w| w == "to") => Some(Draft::control("ROLLBACK TO", Tag::Any)),
        "rollback" => Some(ends("ROLLBACK", &mut words)),
        "execute" => {
            let mut draft = Draft::control("EXECUTE", Tag::Any);
            (draft.data, draft.unknown) = (true, true);
            Some(draft)
        }
        "call" => Some(call(&mut words)),
        "do" => Some(evaluates(shape)),
        "load" => Some(load(&mut words)),
        "truncate" => {
            words.pass("table");
            Some(about("TRUNCATE", true, &mut words))
        }
        "handler" => Some(about("HANDLER", false, &mut words)),
        "explain" | "describe" | "desc" => Some(explain(words, shape)),
        "analyze" if words.peek().is_some_and(is_query) => Some(explain(Words::new(shape), shape)),
        "create" | "alter" | "drop" | "rename" | "grant" | "revoke" | "show" | "kill" | "flush" | "lock" | "unlock"
        | "analyze" | "optimize" | "check" | "checksum" | "repair" | "savepoint" | "release" | "prepare"
        | "deallocate" | "xa" | "start" | "stop" | "change" | "reset" | "purge" | "install" | "uninstall" | "help"
        | "cache" | "shutdown" | "backup" | "binlog" | "signal" | "resignal" | "get" => {
            Some(Draft::control(&first.to_ascii_uppercase(), Tag::Any))
        }
        // A block of MariaDB (`BEGIN NOT ATOMIC`, `IF …`) may do anything.
        "begin" | "if" | "case" | "loop" | "while" | "repeat" | "for" | "declare" => None,
        _ => return None,
    };
    Some(draft.map_or_else(|| unreadable(shape), Draft::finish))
}

/// A statement that starts like one that binds but goes on in a way that is not understood.
fn unreadable(shape: &str) -> Template {
    let mut template = guess::unparsed(shape, Dialect::MySql);
    template.unknown = true;
    template
}

/// A name that takes a value for the session.
fn assign(name: &str, value: Value) -> Act {
    Act::Set { name: Value::Fixed(name.into()), value, lasting: Lasting::Session, sure: Sure::Always }
}

/// `USE database`.
fn uses(database: Box<str>) -> Draft {
    Draft::act("USE", Tag::Any, assign(DATABASE, Value::Fixed(database)))
}

/// `COMMIT`, `ROLLBACK` with `AND [NO] CHAIN`.
fn ends(verb: &str, words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::act(verb, Tag::Any, Act::Commit);
    let mut no = false;
    for word in words {
        match word {
            "no" => no = true,
            "chain" if !no => draft.acts.push(Act::Begin),
            _ => no = false,
        }
    }
    draft
}

fn call(words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::control("CALL", Tag::Any);
    draft.data = true;
    draft.target = words.qualified();
    draft.unknown = said::speaks_of_binding(&draft.target, Dialect::MySql);
    let mut before = "";
    for word in words {
        draft.unknown |= word == "(" && said::speaks_of_binding(before, Dialect::MySql);
        // A parameter that the procedure writes to.
        if word.starts_with('@') && !word.starts_with("@@") {
            draft.acts.push(assign(word, Value::Computed));
        }
        before = word;
    }
    draft
}

/// `DO expression, …`.
fn evaluates(shape: &str) -> Draft {
    let mut draft = Draft::control("DO", Tag::Any);
    draft.acts = set::assigned(shape);
    let mut before = "";
    for word in Words::new(shape) {
        if word == "(" && said::speaks_of_binding(before, Dialect::MySql) {
            draft.unknown = true;
        }
        before = word;
    }
    draft
}

/// `LOAD DATA … INTO TABLE name`.
fn load(words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::control("LOAD DATA", Tag::Any);
    draft.data = true;
    while let Some(word) = words.next() {
        if word == "table" {
            draft.target = words.qualified();
            draft.tables = one_table(&draft.target);
            break;
        }
    }
    draft
}

fn about(verb: &str, writes: bool, words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::control(verb, Tag::Any);
    draft.data = true;
    draft.target = words.qualified();
    draft.tables = one_table(&draft.target).map(|named| Named { writes, ..named });
    draft
}

fn one_table(name: &str) -> Option<Named> {
    (!name.is_empty()).then(|| Named { writes: true, ..Named::new(name, std::iter::once(name)) })
}

fn is_query(word: &str) -> bool {
    matches!(word, "select" | "with" | "insert" | "update" | "delete" | "replace" | "(" | "table" | "values")
}

/// `EXPLAIN` runs its statement only with `ANALYZE`; so does MariaDB's `ANALYZE`.
fn explain(mut words: Words<'_>, shape: &str) -> Draft {
    let mut analyze = false;
    while let Some(word) = words.peek().filter(|w| !is_query(w)) {
        analyze |= word == "analyze";
        words.next();
    }
    if !analyze {
        return Draft::control("EXPLAIN", Tag::Any);
    }
    let inner = query_of(words.rest(shape).unwrap_or_default(), Dialect::MySql);
    let mut draft = Draft::control("EXPLAIN ANALYZE", Tag::Any);
    (draft.data, draft.target, draft.tables) = (inner.data, inner.target.into(), inner.tables);
    draft.unknown = !inner.acts.is_empty() || inner.unknown;
    draft
}

#[cfg(test)]
mod tests;
