//! Templates for statements that no parser reads: the verb, a likely table, and no claim to know more.

use super::scan::Scan;
use super::shape::{Draft, Tag, Template};
use super::{Dialect, mysql, names};

/// For a whole statement that `sqlparser` does not understand, or that is too large for it.
pub(crate) fn unparsed(shape: &str, dialect: Dialect) -> Template {
    let mut draft = words(shape, false);
    draft.unknown = may_bind(shape, dialect);
    if dialect == Dialect::MySql {
        draft.acts.extend(mysql::assigned(shape));
    }
    draft.finish()
}

/// For a statement that was cut, or that ends inside a string: whatever follows was not seen.
pub(crate) fn broken(scan: &Scan) -> Template {
    let mut draft = words(&String::from_utf8_lossy(&scan.shape), !scan.closed);
    draft.unknown = true;
    draft.tag = Tag::Any;
    draft.finish()
}

/// `cut`: the last word may be the beginning of a longer one.
fn words(shape: &str, cut: bool) -> Draft {
    let mut words = Tokens(shape).filter(|w| *w != "(").peekable();
    let verb = match words.peek() {
        Some(w) if w.bytes().all(|b| b.is_ascii_lowercase()) => w.to_ascii_uppercase(),
        _ => String::new(),
    };
    let data = matches!(
        verb.as_str(),
        "SELECT"
            | "WITH"
            | "INSERT"
            | "REPLACE"
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
    let mut rest = Tokens(shape);
    while let Some(word) = rest.next() {
        let names_table = matches!(word, "from" | "into" | "update" | "join" | "table" | "copy" | "only");
        if names_table && let Some(target) = qualified(&mut rest.clone(), cut) {
            draft.target = target;
            break;
        }
    }
    draft
}

/// The tokens of a shape: one blank between any two, but blanks within quoted names, too.
#[derive(Clone)]
struct Tokens<'a>(&'a str);

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.0.is_empty() {
            return None;
        }
        let end = if self.0.starts_with('"') {
            let mut quotes = self.0.match_indices('"').skip(1).map(|(at, _)| at);
            loop {
                match quotes.next() {
                    // A quote within a name is doubled.
                    Some(at) if self.0.get(at + 1..at + 2) == Some("\"") => quotes.next(),
                    Some(at) => break at + 1,
                    None => break self.0.len(),
                };
            }
        } else {
            self.0.find(' ').unwrap_or(self.0.len())
        };
        let (token, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.strip_prefix(' ').unwrap_or(rest);
        Some(token)
    }
}

/// A name with its schema, as parsed statements have it (`globex.orders`), if there is one and it is whole.
fn qualified(rest: &mut Tokens<'_>, cut: bool) -> Option<String> {
    let mut out = String::new();
    loop {
        let word = rest.next()?;
        let whole = !(cut && rest.0.is_empty());
        match word.strip_prefix('"') {
            Some(name) => out.push_str(&name.strip_suffix('"').filter(|_| whole)?.replace("\"\"", "\"")),
            None => {
                let name = word.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_' || b >= 0x80);
                if !name || !whole || out.is_empty() && matches!(word, "only" | "select" | "lateral" | "if" | "not") {
                    return None;
                }
                out.push_str(word);
            }
        }
        let mut after = rest.clone();
        if after.next() != Some(".") {
            return Some(out);
        }
        *rest = after;
        out.push('.');
    }
}

/// Whether a call in the shape may bind.
fn may_bind(shape: &str, dialect: Dialect) -> bool {
    let mut before = "";
    for word in Tokens(shape) {
        let name = before.trim_matches('"');
        if word == "(" && (name == "set_config" || names::speaks_of_binding(name, dialect)) {
            return true;
        }
        before = word;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const PG: Dialect = Dialect::Postgres;

    #[test]
    fn a_guess_names_the_table_and_never_claims_to_know_a_binding() {
        let t = unparsed("select a from orders where b @@@ c", PG);
        assert_eq!((&*t.verb, &*t.target, t.data, t.unknown), ("SELECT", "orders", true, false));
        for (shape, target) in [
            ("select a from globex . orders where b @@@ c", "globex.orders"),
            ("select a from \"my orders\" where b @@@ c", "my orders"),
            ("select a from \"Gl\"\"ex\" . \"my orders\" @@@", "Gl\"ex.my orders"),
            ("select a from only globex . orders @@@", "globex.orders"),
            ("select a from ( select b @@@ c ) d join orders @@@", "orders"),
            ("select a from", ""),
        ] {
            assert_eq!(&*unparsed(shape, PG).target, target, "{shape}");
        }
        for (text, target) in [
            (&b"select a from ord"[..], ""),
            (b"select a from globex.ord", ""),
            (b"select a from globex.", ""),
            (b"select a from \"my ord", ""),
            (b"select a from orders where", "orders"),
        ] {
            let mut scan = Scan::default();
            scan.statement(text, 0, false);
            assert_eq!(&*broken(&scan).target, target, "{}", String::from_utf8_lossy(text));
        }
        let t = unparsed("select weird syntax set_config ( '0' , '1' , true )", PG);
        assert!(t.unknown && t.acts.is_empty());
        let mut scan = Scan::default();
        scan.statement(b"insert into orders values ('cut", 0, false);
        let t = broken(&scan);
        assert_eq!((&*t.verb, &*t.target, t.data, t.unknown), ("INSERT", "orders", true, true));
    }
}
