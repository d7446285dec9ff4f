//! Sentences and their words, and which of them are mentioned instead of said.

use smallvec::SmallVec;

/// Words of a sentence that are looked at; what is longer is cut there.
const MAX_WORDS: usize = 96;
/// Longest quotation that mentions something instead of saying it, in bytes.
const MAX_QUOTE: usize = 240;

/// Where something stands: its first byte, and its last.
type Span = (usize, usize);

/// A word of a sentence.
#[derive(Clone, Copy)]
pub(super) struct Word<'t> {
    /// Without what stands around it.
    pub(super) text: &'t str,
    pub(super) raw: &'t str,
    /// It is mentioned, in quotation marks.
    pub(super) quoted: bool,
}

pub(super) fn is_any(word: &str, all: &[&str]) -> bool {
    all.contains(&word)
}

pub(super) fn has(words: &[Word<'_>], all: &[&str]) -> bool {
    words.iter().any(|w| is_any(w.text, all))
}

pub(super) fn is_not(word: &str) -> bool {
    is_any(
        word,
        &[
            "not",
            "don't",
            "dont",
            "never",
            "mustn't",
            "shouldn't",
            "won't",
            "can't",
            "cannot",
            "avoid",
            "refrain",
            "no",
            "nor",
        ],
    )
}

pub(super) fn after<'w, 't>(words: &'w [Word<'t>], at: usize, n: usize) -> &'w [Word<'t>] {
    words.get(at + 1..(at + 1 + n).min(words.len())).unwrap_or_default()
}

pub(super) fn before<'w, 't>(words: &'w [Word<'t>], at: usize, n: usize) -> &'w [Word<'t>] {
    words.get(at.saturating_sub(n)..at).unwrap_or_default()
}

pub(super) fn each_sentence<'t>(text: &'t str, each: &mut dyn FnMut(&'t str, &[Span])) {
    let quoted = quotations(text);
    let bytes = text.as_bytes();
    let mut from = 0;
    for at in memchr::memchr3_iter(b'.', b'!', b'?', bytes) {
        if bytes.get(at + 1).is_none_or(|b| matches!(b, b' ' | b'"' | b'\'' | b')')) {
            each(text.get(from..=at).unwrap_or_default(), &quoted);
            from = at + 1;
        }
    }
    each(text.get(from..).unwrap_or_default(), &quoted);
}

/// Where something is mentioned in quotation marks: in prose, not as a value of JSON.
fn quotations(text: &str) -> SmallVec<[Span; 8]> {
    let mut found = SmallVec::new();
    let bytes = text.as_bytes();
    let (mut at, mut none_before) = (0, 0);
    while let Some(b) = bytes.get(at) {
        let opens = matches!(b, b'"' | b'`' | b'\'')
            && at > 0
            && matches!(bytes.get(at - 1), Some(b' ' | b'('))
            && !matches!(bytes.get(at.saturating_sub(3)..at), Some([b'"', b':', b' ']))
            && !matches!(bytes.get(at.saturating_sub(2)..at), Some([b',' | b'[' | b'{', b' ']) if *b == b'"');
        if opens && at >= none_before {
            let end = (at + MAX_QUOTE).min(bytes.len());
            let rest = bytes.get(at + 1..end).unwrap_or_default();
            match memchr::memchr(*b, rest) {
                Some(n) => {
                    found.push((at, at + 1 + n));
                    at += n + 1;
                }
                None => none_before = end,
            }
        }
        at += 1;
    }
    found
}

pub(super) fn split<'t>(sentence: &'t str, text: &'t str, quoted: &[Span], words: &mut SmallVec<[Word<'t>; 64]>) {
    let start = sentence.as_ptr() as usize - text.as_ptr() as usize;
    let mut range = quoted.partition_point(|(_, end)| *end < start);
    for raw in sentence.split([' ', '"', '<', '>']).filter(|w| !w.is_empty()).take(MAX_WORDS) {
        let at = raw.as_ptr() as usize - text.as_ptr() as usize;
        while quoted.get(range).is_some_and(|(_, end)| *end < at) {
            range += 1;
        }
        let quoted = quoted.get(range).is_some_and(|(from, end)| *from <= at && at < *end);
        let word = raw.trim_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '/' | '~' | '_' | '+'));
        // A file's name may begin with a full stop.
        let dot = raw.find(".env").or_else(|| raw.find(".ssh")).filter(|_| !word.contains('/'));
        let word = if dot.is_some() {
            raw.trim_matches(|c: char| matches!(c, '`' | '"' | '\'' | ',' | ':' | ';'))
        } else {
            word
        };
        words.push(Word { text: word, raw, quoted });
    }
}
