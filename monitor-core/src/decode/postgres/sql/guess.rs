//! Templates for statements that no parser reads: the verb, a likely table, and no claim to know more.

use super::names;
use super::scan::Scan;
use super::shape::{Draft, Tag, Template};

/// For a whole statement that `sqlparser` does not understand, or that is too large for it.
pub(crate) fn unparsed(shape: &str) -> Template {
    let mut draft = words(shape);
    draft.unknown = may_bind(shape);
    draft.finish()
}

/// For a statement that was cut, or that ends inside a string: whatever follows was not seen.
pub(crate) fn broken(scan: &Scan) -> Template {
    let mut draft = words(&String::from_utf8_lossy(&scan.shape));
    draft.unknown = true;
    draft.tag = Tag::Any;
    draft.finish()
}

fn words(shape: &str) -> Draft {
    let mut words = shape.split(' ').filter(|w| *w != "(").peekable();
    let verb = match words.peek() {
        Some(w) if w.bytes().all(|b| b.is_ascii_lowercase()) => w.to_ascii_uppercase(),
        _ => String::new(),
    };
    let data = matches!(
        verb.as_str(),
        "SELECT"
            | "WITH"
            | "INSERT"
            | "UPDATE"
            | "DELETE"
            | "MERGE"
            | "COPY"
            | "CALL"
            | "DO"
            | "EXECUTE"
            | "FETCH"
            | "VALUES"
            | "TABLE"
            | "TRUNCATE"
            | "LISTEN"
            | "NOTIFY"
            | ""
    );
    let tag = match verb.as_str() {
        "SELECT" | "INSERT" | "UPDATE" | "DELETE" | "MERGE" | "VALUES" | "TABLE" | "WITH" => Tag::Rows,
        _ => Tag::Any,
    };
    let mut draft = Draft::control(&verb, tag);
    draft.data = data;
    let mut before = "";
    for word in shape.split(' ') {
        let names_table = matches!(before, "from" | "into" | "update" | "join" | "table" | "copy" | "only");
        let is_name = word.starts_with('"') || word.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
        if names_table && is_name && !matches!(word, "only" | "select" | "lateral") {
            draft.target = word.trim_matches('"').to_owned();
            break;
        }
        before = word;
    }
    draft
}

/// Whether a call in the shape may bind.
fn may_bind(shape: &str) -> bool {
    let mut before = "";
    for word in shape.split(' ') {
        let name = before.trim_matches('"');
        if word == "(" && (name == "set_config" || names::speaks_of_binding(name)) {
            return true;
        }
        before = word;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_names_the_table_and_never_claims_to_know_a_binding() {
        let t = unparsed("select a from orders where b @@@ c");
        assert_eq!((&*t.verb, &*t.target, t.data, t.unknown), ("SELECT", "orders", true, false));
        let t = unparsed("select weird syntax set_config ( '0' , '1' , true )");
        assert!(t.unknown && t.acts.is_empty());
        let mut scan = Scan::default();
        scan.statement(b"insert into orders values ('cut", 0, false);
        let t = broken(&scan);
        assert_eq!((&*t.verb, &*t.target, t.data, t.unknown), ("INSERT", "orders", true, true));
    }
}
