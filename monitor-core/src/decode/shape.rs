//! Shapes of keys and paths: the words that a program's text holds, without the ids that its data brings in.

use std::cell::RefCell;
use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Sink;
use crate::model::Sym;
use crate::model::shown::ID;

/// Most shapes told apart by one kind of decoder; more become `_other`, so that hostile names crowd nothing out.
const MAX_SHAPES: usize = 8192;

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
/// more, a UUID, an address of a mailbox, a token of a mixed alphabet, or too long to be a word. This only keeps together
/// what belongs together; what is shown is decided elsewhere ([`crate::model::shown`]).
pub fn is_id(part: &str) -> bool {
    let n = part.len();
    let digits = part.bytes().filter(u8::is_ascii_digit).count();
    let hex = part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    n > 24
        || (digits > 0 && digits == n)
        || (n >= 8 && hex && digits > 0)
        || (n >= 4 && digits * 2 >= n)
        || part.contains('@')
        || (n >= 8 && changes(part) > 4)
}

/// How often letters follow digits, digits letters, or capital letters small ones: tokens of mixed alphabets do that all
/// the time, words of programs seldom (`getUserV2`, `s3_upload`).
fn changes(part: &str) -> usize {
    let class = |b: u8| if b.is_ascii_digit() { 2 } else { u8::from(b.is_ascii_uppercase()) };
    let pairs = part.as_bytes().windows(2).filter(|w| w.iter().all(u8::is_ascii_alphanumeric));
    pairs.filter(|w| matches!(w, [a, b] if class(*a) != class(*b) && (class(*a), class(*b)) != (1, 0))).count()
}

/// Writes `text`, cut at `separators`, with ids replaced: at most `max_parts` parts. `on_id` hears each of them.
pub fn shape(text: &str, separators: &[char], max_parts: usize, out: &mut String, on_id: &mut dyn FnMut(&str)) {
    let mut parts = 0;
    // An address of a mailbox is one id, dots and all.
    let is_separator = |c: char| separators.contains(&c) && !(c == '.' && text.contains('@'));
    for piece in text.split_inclusive(is_separator) {
        if parts >= max_parts {
            out.push('…');
            break;
        }
        let (word, separator) = match piece.char_indices().next_back() {
            Some((at, c)) if is_separator(c) => (piece.get(..at).unwrap_or_default(), Some(c)),
            _ => (piece, None),
        };
        if !word.is_empty() {
            parts += 1;
            let printable = word.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '~' | '@'));
            if is_id(word) || !printable {
                out.push_str(ID);
                on_id(word);
            } else {
                out.push_str(word);
            }
        }
        out.extend(separator);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, separators: &[char]) -> String {
        let mut out = String::new();
        shape(text, separators, 4, &mut out, &mut |_| {});
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
        assert_eq!(of("/a@b.example/V1StGXR8_Z5jdHi6B-myT", &['/']), "/{id}/{id}");
        assert_eq!(of("mail/a.b@example.org.in", &['/', '.']), "mail/{id}");
        assert_eq!(of("/getUserV2/s3_upload", &['/']), "/getUserV2/s3_upload");
    }
}
