//! One word, one meaning: a type that a room shows to others has a name that no other room gives to something else.

use std::collections::BTreeMap;

use super::{Report, SourceFile, is_test_file, product, test_modules};

const CORE: &str = "monitor-core/src/";
/// Its types are the words that all rooms speak in.
const VOCABULARY: &str = "model";
/// A protocol's own folder here uses the words of its specification, which may be anybody's: a *method* of AMQP, a
/// *message* of PostgreSQL.
const PROTOCOLS: &str = "decode";

/// A type's definition, and who may use it.
struct Defined<'a> {
    room: &'a str,
    path: &'a str,
    line: usize,
    /// `pub` without a bound; else it is for its own room.
    public: bool,
}

pub(super) fn check(files: &[SourceFile], report: &mut Report) {
    let tests = test_modules(files);
    let is_tests = |path: &str| tests.iter().any(|t| path == format!("{t}.rs") || path.starts_with(&format!("{t}/")));
    let mut all: BTreeMap<&str, Vec<Defined<'_>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_rust() && !is_tests(&file.path)) {
        let Some((inside, room)) =
            file.path.strip_prefix(CORE).and_then(|inside| Some((inside, inside.split_once('/')?.0)))
        else {
            continue;
        };
        if is_test_file(inside) {
            continue;
        }
        for (index, line) in product(&file.text).lines().enumerate() {
            if let Some((name, public)) = defines(line) {
                all.entry(name).or_default().push(Defined { room, path: &file.path, line: index + 1, public });
            }
        }
    }
    for (name, defined) in &all {
        for one in defined {
            let clash = defined.iter().find(|other| other.room != one.room && clashes(other, one));
            if let Some(other) = clash {
                let what = format_args!(
                    "`{name}` is another thing in `{}` ({}): one word, one meaning",
                    other.room, other.path
                );
                report.error(one.path, one.line, what);
            }
        }
    }
}

/// Whether `one` takes a name that `other` has shown to all.
fn clashes(other: &Defined<'_>, one: &Defined<'_>) -> bool {
    // Of two that are for all, the vocabulary's stays.
    let in_protocol = one.room == PROTOCOLS && one.path.matches('/').count() > CORE.matches('/').count() + 1;
    other.public && one.room != VOCABULARY && (one.public || other.room == VOCABULARY && !in_protocol)
}

/// The name of the type that a line defines, if more than its own module may use it, and whether everybody may.
fn defines(line: &str) -> Option<(&str, bool)> {
    let rest = line.strip_prefix("pub")?;
    let (public, rest) = match rest.strip_prefix('(') {
        Some(bound) => (false, bound.split_once(") ")?.1),
        None => (true, rest.strip_prefix(' ')?),
    };
    let (kind, rest) = rest.split_once(' ')?;
    let is_type = ["struct", "enum", "trait", "union", "type"].contains(&kind);
    let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    is_type.then_some((&rest[..end], public))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(&format!("{CORE}{path}"), text)).collect();
        let mut report = Report::default();
        check(&files, &mut report);
        report.errors
    }

    #[test]
    fn a_shown_name_is_defined_once() {
        let model = ("model/queue.rs", "pub struct Delivery {");
        assert_eq!(errors(&[model, ("engine/feed.rs", "pub(super) struct Delivery {")]).len(), 1);
        let both = errors(&[("detect/mod.rs", "pub enum Outcome {"), ("ledger/mod.rs", "pub type Outcome = u8;")]);
        assert_eq!(both.len(), 2, "each clashes with the other: {both:?}");
    }

    #[test]
    fn what_nobody_else_sees_and_what_a_specification_says_is_free() {
        let model = ("model/queue.rs", "pub struct Message {\n");
        assert!(errors(&[model, ("engine/feed.rs", "struct Message;")]).is_empty());
        assert!(errors(&[model, ("decode/postgres/frame.rs", "pub(super) enum Message<'a> {")]).is_empty());
        assert_eq!(errors(&[model, ("decode/message.rs", "pub(super) enum Message<'a> {")]).len(), 1);
        assert!(errors(&[model, ("decode/tests.rs", "pub enum Message {")]).is_empty());
        let other = ("ledger/mod.rs", "pub struct Question<'a> {");
        assert!(
            errors(&[other, ("engine/mod.rs", "pub(super) struct Question {")]).is_empty(),
            "not of the vocabulary"
        );
    }
}
