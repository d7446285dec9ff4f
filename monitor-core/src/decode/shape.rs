//! Shapes of keys and paths: the words that a program's text holds, without the ids that its data brings in.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Sink;
use crate::model::Sym;

/// Most shapes told apart by one kind of decoder; more become `_other`, so that hostile names crowd nothing out.
const MAX_SHAPES: usize = 8192;

/// What stands for an id.
const ID: &str = "{id}";

/// Shapes by their text, shared by the decoders of one engine.
#[derive(Clone, Debug, Default)]
pub struct Shapes(Rc<RefCell<FxHashMap<String, Sym>>>);

impl Shapes {
    /// The name of a shape.
    pub fn intern(&self, shape: &str, sink: &mut dyn Sink) -> Sym {
        let mut known = self.0.borrow_mut();
        if let Some(sym) = known.get(shape) {
            return *sym;
        }
        if known.len() >= MAX_SHAPES {
            return Sym::OTHER;
        }
        let sym = sink.intern(shape);
        known.insert(shape.to_owned(), sym);
        sym
    }
}

/// Whether a part of a key or path is an id rather than a word: all digits, mostly digits, hexadecimal of eight and
/// more, a UUID, or too long to be a word.
pub fn is_id(part: &str) -> bool {
    let n = part.len();
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let hex = part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    n > 24 || (digits > 0 && digits == n) || (n >= 8 && hex && digits > 0) || (n >= 4 && digits * 2 >= n)
}

/// Writes `text`, cut at `separators`, with ids replaced: at most `max_parts` parts.
pub fn shape(text: &str, separators: &[char], max_parts: usize, out: &mut String) {
    let mut parts = 0;
    for piece in text.split_inclusive(separators) {
        if parts >= max_parts {
            out.push('…');
            break;
        }
        let (word, separator) = match piece.char_indices().next_back() {
            Some((at, c)) if separators.contains(&c) => (piece.get(..at).unwrap_or_default(), Some(c)),
            _ => (piece, None),
        };
        if !word.is_empty() {
            parts += 1;
            let printable = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '@'));
            out.push_str(if is_id(word) || !printable { ID } else { word });
        }
        out.extend(separator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, separators: &[char]) -> String {
        let mut out = String::new();
        shape(text, separators, 4, &mut out);
        out
    }

    #[test]
    fn ids_are_left_out_and_words_stay() {
        assert_eq!(of("/orders/4711/items", &['/']), "/orders/{id}/items");
        assert_eq!(of("/v1/users/7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11", &['/']), "/v1/users/{id}");
        assert_eq!(of("tenant:acme:user:99", &[':']), "tenant:acme:user:{id}");
        assert_eq!(of("/a/b/c/d/e", &['/']), "/a/b/c/d/…");
        assert_eq!(of("/deadbeef01", &['/']), "/{id}");
        assert_eq!(of("/x y/feedback", &['/']), "/{id}/feedback");
    }
}
