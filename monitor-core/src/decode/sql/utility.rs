//! Utility statements (settings, transactions, cursors, …), read from a shape by hand: `sqlparser` does not know all
//! of PostgreSQL's spellings of `SET`, and these are the ones that must not be missed. Grammar: `gram.y` and the
//! manual's SQL command pages.

use std::rc::Rc;

use super::shape::{Act, Draft, Lasting, Named, Sure, Tag, Template};
use super::value::Value;
use super::words::{Words, literal};
use super::{Dialect, guess, names, shape};

/// The template of a utility statement; `None` for a query, which [`super::parse`] reads.
pub(super) fn parse(shape: &str) -> Option<Template> {
    let mut words = Words::new(shape);
    let first = words.next()?;
    let draft = match first {
        "select" | "with" | "insert" | "update" | "delete" | "merge" | "values" | "table" | "(" => return None,
        "set" => set(&mut words),
        "reset" => reset(&mut words),
        "discard" => Some(match words.next() {
            Some("all") => Draft::act("DISCARD ALL", Tag::Discard, Act::DiscardAll),
            what => Draft::control(&spell("DISCARD", what), Tag::Discard),
        }),
        "begin" => Some(Draft::act("BEGIN", Tag::Begin, Act::Begin)),
        "start" => Some(Draft::act("START TRANSACTION", Tag::Begin, Act::Begin)),
        "commit" | "end" if words.peek() == Some("prepared") => Some(Draft::control("COMMIT PREPARED", Tag::Other)),
        "commit" | "end" => Some(chained("COMMIT", Act::Commit, &mut words)),
        "rollback" if words.peek() == Some("prepared") => Some(Draft::control("ROLLBACK PREPARED", Tag::Other)),
        "rollback" | "abort" => Some(rollback(&mut words)),
        "savepoint" => words.name().map(|n| Draft::act("SAVEPOINT", Tag::Savepoint, Act::Savepoint(n))),
        "release" => {
            words.pass("savepoint");
            words.name().map(|n| Draft::act("RELEASE", Tag::Savepoint, Act::Release(n)))
        }
        "prepare" => prepare(&mut words, shape),
        "execute" => execute(&mut words),
        "deallocate" => {
            words.pass("prepare");
            match words.peek() {
                Some("all") => Some(Draft::act("DEALLOCATE ALL", Tag::Prepare, Act::Deallocate(None))),
                _ => words.name().map(|n| Draft::act("DEALLOCATE", Tag::Prepare, Act::Deallocate(Some(n)))),
            }
        }
        "declare" => Some(declare(&mut words, shape)),
        "fetch" | "move" => {
            let mut draft = Draft::act(&first.to_ascii_uppercase(), Tag::Rows, Act::RunCursor);
            draft.data = first == "fetch";
            Some(draft)
        }
        "close" => Some(Draft::control("CLOSE", Tag::Other)),
        "copy" => Some(copy(&mut words, shape)),
        "call" => Some(call(&mut words)),
        "do" => Some(do_block(&mut words)),
        "listen" | "notify" | "unlisten" => Some(listen(first, &mut words)),
        "truncate" => {
            words.pass("table");
            words.pass("only");
            let mut draft = Draft::control("TRUNCATE", Tag::Other);
            draft.data = true;
            draft.target = words.qualified();
            draft.tables = one_table(&draft.target, true);
            Some(draft)
        }
        "explain" => Some(explain(words, shape)),
        "show" => Some(Draft::control("SHOW", Tag::Other)),
        // These answer `SELECT n`, and run a query that may call anything.
        "create" if shape.contains(" as ") => Some(create_as(&mut words, shape)),
        "lock" | "vacuum" | "analyze" | "checkpoint" | "cluster" | "reindex" | "refresh" | "comment" | "create"
        | "alter" | "drop" | "grant" | "revoke" | "reassign" | "security" | "load" | "import" => {
            let mut draft = Draft::control(&first.to_ascii_uppercase(), Tag::Other);
            // A materialised view's query may call anything.
            draft.unknown = first == "refresh" && false_friend(shape);
            Some(draft)
        }
        _ => return None,
    };
    Some(draft.map_or_else(|| unreadable(shape), Draft::finish))
}

/// The template of a query inside a utility statement.
fn query_of(shape: &str) -> Template {
    shape::query_of(shape, Dialect::Postgres)
}

/// A statement that starts like one that binds but goes on in a way that is not understood: probably refused by the
/// server; if not, it may have done anything.
fn unreadable(shape: &str) -> Template {
    let mut template = guess::unparsed(shape, Dialect::Postgres);
    template.unknown = true;
    template.tag = Tag::Any;
    template
}

fn false_friend(shape: &str) -> bool {
    names::code_may_bind(shape)
}

fn spell(first: &str, second: Option<&str>) -> String {
    match second {
        Some(w) => format!("{first} {}", w.to_ascii_uppercase()),
        None => first.to_owned(),
    }
}

/// `SET [SESSION | LOCAL] …`.
fn set(words: &mut Words<'_>) -> Option<Draft> {
    let mut lasting = Lasting::Session;
    match words.peek() {
        Some("local") => {
            words.next();
            lasting = Lasting::Transaction;
        }
        // `SET SESSION AUTHORIZATION` and `SET SESSION CHARACTERISTICS` are no scope.
        Some("session") if !matches!(words.peek_second(), Some("authorization" | "characteristics")) => {
            words.next();
        }
        _ => {}
    }
    let control = |verb: &str| Some(Draft::control(verb, Tag::Set));
    match words.peek()? {
        "transaction" => control("SET TRANSACTION"),
        "constraints" => Some(Draft::control("SET CONSTRAINTS", Tag::Other)),
        "names" => control("SET NAMES"),
        "xml" => control("SET XML OPTION"),
        "time" if words.peek_second() == Some("zone") => control("SET TIME ZONE"),
        "session" if words.peek_second() == Some("characteristics") => control("SET SESSION CHARACTERISTICS"),
        "session" => {
            words.next();
            words.next();
            let value = words.word_or_string()?;
            words.end()?;
            Some(assign("SET SESSION AUTHORIZATION", "session_authorization", value, lasting))
        }
        "role" if !matches!(words.peek_second(), Some("=" | "to" | "." | "from")) => {
            words.next();
            let value = words.word_or_string()?;
            words.end()?;
            Some(assign("SET ROLE", "role", value, lasting))
        }
        "schema" if words.peek_second().is_some_and(|w| w.starts_with('\'')) => {
            words.next();
            let value = words.word_or_string()?;
            Some(assign("SET", "search_path", value, lasting))
        }
        _ => {
            let name = words.qualified().to_lowercase();
            if name.is_empty() {
                return None;
            }
            match words.next()? {
                "=" | "to" => {}
                // `SET x FROM CURRENT` is for functions only; the server refuses it here.
                _ => return None,
            }
            let value = words.values()?;
            Some(assign("SET", &name, value, lasting))
        }
    }
}

fn assign(verb: &str, name: &str, value: Option<Value>, lasting: Lasting) -> Draft {
    let name = Value::Fixed(name.into());
    let act = match value {
        Some(value) => Act::Set { name, value, lasting, sure: Sure::Always },
        None => Act::Reset { name, lasting },
    };
    Draft::act(verb, Tag::Set, act)
}

/// `RESET …`.
fn reset(words: &mut Words<'_>) -> Option<Draft> {
    let one = |verb: &str, name: &str| {
        let act = Act::Reset { name: Value::Fixed(name.into()), lasting: Lasting::Session };
        Some(Draft::act(verb, Tag::Reset, act))
    };
    match (words.peek()?, words.peek_second()) {
        ("all", None) => Some(Draft::act("RESET ALL", Tag::Reset, Act::ResetAll)),
        ("role", None) => one("RESET ROLE", "role"),
        ("session", Some("authorization")) => one("RESET SESSION AUTHORIZATION", "session_authorization"),
        ("time", _) | ("transaction", _) => Some(Draft::control("RESET", Tag::Reset)),
        _ => {
            let name = words.qualified().to_lowercase();
            words.end()?;
            if name.is_empty() { None } else { one("RESET", &name) }
        }
    }
}

/// `COMMIT`, `ROLLBACK` with `AND [NO] CHAIN`.
fn chained(verb: &str, act: Act, words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::act(verb, Tag::End, act);
    let mut no = false;
    for word in words {
        match word {
            "no" => no = true,
            "chain" if !no => draft.acts.push(Act::Begin),
            _ => {}
        }
    }
    draft
}

fn rollback(words: &mut Words<'_>) -> Draft {
    if matches!(words.peek(), Some("work" | "transaction")) {
        words.next();
    }
    if words.peek() == Some("to") {
        words.next();
        words.pass("savepoint");
        if let Some(name) = words.name() {
            return Draft::act("ROLLBACK TO", Tag::End, Act::RollbackTo(name));
        }
    }
    chained("ROLLBACK", Act::Rollback, words)
}

/// `PREPARE name [(types)] AS query`, or `PREPARE TRANSACTION`, which ends the transaction and keeps its settings.
fn prepare<'s>(words: &mut Words<'s>, shape: &'s str) -> Option<Draft> {
    if words.peek() == Some("transaction") {
        return Some(Draft::act("PREPARE TRANSACTION", Tag::End, Act::Commit));
    }
    let name = words.name()?;
    let inner = after_as(words, shape)?;
    let inner = Rc::new(query_of(inner));
    Some(Draft::act("PREPARE", Tag::Prepare, Act::Prepare { name, inner }))
}

/// The text after the first `AS` outside parentheses.
fn after_as<'s>(words: &mut Words<'s>, shape: &'s str) -> Option<&'s str> {
    let mut depth = 0usize;
    while let Some(word) = words.next() {
        match word {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            "as" if depth == 0 => return words.rest(shape),
            _ => {}
        }
    }
    None
}

/// `EXECUTE name [(values)]`.
fn execute(words: &mut Words<'_>) -> Option<Draft> {
    let name = words.name()?;
    let mut args = Vec::new();
    if words.peek() == Some("(") {
        words.next();
        let mut simple: Option<Value> = None;
        let mut n = 0usize;
        let mut depth = 0usize;
        for word in words.by_ref() {
            match word {
                ")" if depth == 0 => break,
                "," if depth == 0 => {
                    args.push(simple.take().filter(|_| n == 1).unwrap_or(Value::Computed));
                    n = 0;
                    continue;
                }
                "(" => depth += 1,
                ")" => depth = depth.saturating_sub(1),
                // A cast of a literal leaves its text.
                "::" | "text" | "varchar" | "uuid" if n == 1 => continue,
                _ => {}
            }
            n += 1;
            simple = literal(word).or(match word {
                "null" => Some(Value::Null),
                "true" | "false" => Some(Value::Fixed(word.into())),
                _ => None,
            });
        }
        args.push(simple.take().filter(|_| n == 1).unwrap_or(Value::Computed));
    }
    let mut draft = Draft::act("EXECUTE", Tag::Any, Act::Execute { name, args: args.into() });
    draft.data = true;
    Some(draft)
}

/// `DECLARE name … CURSOR … FOR query`: the query runs when rows are fetched.
fn declare<'s>(words: &mut Words<'s>, shape: &'s str) -> Draft {
    let mut draft = Draft::control("DECLARE", Tag::Other);
    draft.data = true;
    while let Some(word) = words.next() {
        if word == "for" {
            if let Some(inner) = words.rest(shape) {
                let inner = query_of(inner);
                draft.target = inner.target.into();
                draft.tables = inner.tables;
                draft.data = inner.data;
                if !inner.acts.is_empty() || inner.unknown {
                    draft.unknown = true;
                    draft.acts.push(Act::ArmCursor);
                }
            }
            break;
        }
    }
    draft
}

/// `COPY table …` or `COPY (query) TO …`.
fn copy<'s>(words: &mut Words<'s>, shape: &'s str) -> Draft {
    let mut draft = Draft::control("COPY", Tag::Rows);
    draft.data = true;
    if words.peek() == Some("(") {
        words.next();
        // The query ends at the last parenthesis before TO; options may follow in further ones.
        let inner = words.rest(shape).and_then(|rest| rest.split(" ) to ").next()).unwrap_or_default();
        let inner = query_of(inner);
        draft.target = inner.target.into();
        draft.unknown = !inner.acts.is_empty() || inner.unknown;
        draft.tables = inner.tables;
    } else {
        draft.target = words.qualified();
        // Which way it goes stands after the columns.
        draft.tables = one_table(&draft.target, true);
    }
    draft
}

/// What a statement about one table names.
fn one_table(name: &str, writes: bool) -> Option<Named> {
    (!name.is_empty()).then(|| Named { writes, ..Named::new(name, std::iter::once(name)) })
}

fn call(words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::control("CALL", Tag::Other);
    draft.data = true;
    draft.target = words.qualified();
    draft.unknown = names::speaks_of_binding(&draft.target, Dialect::Postgres);
    // An argument may call anything too.
    let mut before = "";
    for word in words {
        draft.unknown |= word == "(" && (before == "set_config" || names::speaks_of_binding(before, Dialect::Postgres));
        before = word;
    }
    draft
}

fn do_block(words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::control("DO", Tag::Other);
    draft.data = true;
    match words.find_map(literal) {
        Some(Value::Literal(i)) => draft.acts.push(Act::Code(i)),
        _ => draft.unknown = true,
    }
    draft
}

fn listen(verb: &str, words: &mut Words<'_>) -> Draft {
    let mut draft = Draft::control(&verb.to_ascii_uppercase(), Tag::Other);
    draft.data = verb != "unlisten";
    draft.target = words.qualified();
    draft
}

/// `EXPLAIN` runs its statement only with `ANALYZE`.
fn explain<'s>(mut words: Words<'s>, shape: &'s str) -> Draft {
    let mut analyze = false;
    let mut verb = "EXPLAIN".to_owned();
    loop {
        match words.peek() {
            Some("analyze" | "analyse") => analyze = true,
            Some("verbose") => {}
            Some("(") => {
                let mut depth = 0usize;
                while let Some(word) = words.peek() {
                    match word {
                        "(" => depth += 1,
                        ")" => depth = depth.saturating_sub(1),
                        "analyze" | "analyse" => analyze = true,
                        _ => {}
                    }
                    // `EXPLAIN (SELECT …)` has a query in the parentheses, not options.
                    if matches!(word, "select" | "with" | "values") {
                        break;
                    }
                    words.next();
                    if depth == 0 {
                        break;
                    }
                }
                if depth == 0 {
                    continue;
                }
                break;
            }
            _ => break,
        }
        words.next();
    }
    let mut draft = Draft::control(&verb, Tag::Other);
    if analyze {
        verb.push_str(" ANALYZE");
        let inner = words.rest(shape).unwrap_or_default();
        let inner = query_of(inner);
        draft.verb = verb;
        draft.data = inner.data;
        draft.target = inner.target.into();
        draft.tables = inner.tables;
        draft.unknown = !inner.acts.is_empty() || inner.unknown;
    }
    draft
}

/// `CREATE [MATERIALIZED VIEW | TABLE] … AS query`; also views and functions, which run nothing yet.
fn create_as(words: &mut Words<'_>, shape: &str) -> Draft {
    let mut draft = Draft::control("CREATE", Tag::Any);
    let table = words.take(6).any(|w| matches!(w, "table" | "materialized"));
    if table && shape.contains("set_config") {
        draft.unknown = true;
    }
    draft
}
