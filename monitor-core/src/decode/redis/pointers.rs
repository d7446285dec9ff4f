//! Keys that point at keys. A cache that is emptied by a version keeps a short word under a key of everybody's, and puts
//! that word into the names of the keys that hold what is cached: Flask-Caching's memoize, the "namespace trick" of
//! memcached's manual, WordPress's `last_changed`. Whoever reads such a word got no more than a name. What lies under the
//! name is judged by itself.
//!
//! Told by what is seen: a random word, bare or wrapped by a serializer, is written under a key, and later turns up in the
//! name of another. Memory: 1,024 words by their fingerprints, oldest out first; no text is kept.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::decode::weight::{Weight, weight};
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Most words that are waited for.
const MAX_WORDS: usize = 1_024;
/// Most words that begin alike: what begins so is no random word.
const MAX_ALIKE: usize = 8;
/// Lengths of words that may be found inside a name.
const WORD: std::ops::RangeInclusive<usize> = 5..=40;
/// So many of a word's first characters are looked for first.
const HEAD: usize = 5;
/// Longest name that is searched.
const MAX_NAME: usize = 256;

/// A word, and the key it was written under.
#[derive(Clone, Copy, Debug)]
struct Word {
    len: usize,
    print: Fingerprint,
    key: Fingerprint,
}

#[derive(Debug, Default)]
struct Words {
    /// By a hash of their first characters.
    by_head: FxHashMap<u64, SmallVec<[Word; 1]>>,
    oldest: VecDeque<(u64, Fingerprint)>,
}

/// What one engine's connections share of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pointers(Rc<RefCell<Words>>);

impl Pointers {
    /// `value` is written under `key`.
    pub(super) fn written(&self, salt: Salt, key: Fingerprint, value: &[u8]) {
        let Some(word) = word(value) else { return };
        let Some(head) = word.get(..HEAD).map(|bytes| head(salt, bytes)) else { return };
        let print = salt.fingerprint(word);
        let words = &mut *self.0.borrow_mut();
        let alike = words.by_head.entry(head).or_default();
        if alike.iter().any(|w| (w.print, w.key) == (print, key)) || alike.len() >= MAX_ALIKE {
            return;
        }
        alike.push(Word { len: word.len(), print, key });
        words.oldest.push_back((head, print));
        if words.oldest.len() > MAX_WORDS
            && let Some((head, print)) = words.oldest.pop_front()
        {
            words.forget(head, |w| w.print == print);
        }
    }

    /// Keys whose word stands in `name`, which is the key `of`. Each is told once.
    pub(super) fn named_by(&self, salt: Salt, of: Fingerprint, name: &[u8]) -> SmallVec<[Fingerprint; 1]> {
        let mut found = SmallVec::new();
        let words = &mut *self.0.borrow_mut();
        if words.by_head.is_empty() || name.len() > MAX_NAME {
            return found;
        }
        // A word may begin anywhere: often there is nothing between it and what stands before it.
        for (at, bytes) in name.windows(HEAD).enumerate() {
            let head = head(salt, bytes);
            let Some(alike) = words.by_head.get(&head) else { continue };
            let is_here = |w: &&Word| {
                w.key != of && name.get(at..at + w.len).is_some_and(|part| salt.fingerprint(part) == w.print)
            };
            let here: SmallVec<[Fingerprint; 1]> = alike.iter().filter(is_here).map(|w| w.key).collect();
            if here.is_empty() {
                continue;
            }
            words.forget(head, |w| here.contains(&w.key));
            found.extend(here);
        }
        found
    }
}

impl Words {
    fn forget(&mut self, head: u64, which: impl Fn(&Word) -> bool) {
        let Some(alike) = self.by_head.get_mut(&head) else { return };
        alike.retain(|w| !which(w));
        if alike.is_empty() {
            self.by_head.remove(&head);
        }
    }
}

/// A quick hash of a word's first characters; that the whole word is the same is then told by its fingerprint.
fn head(salt: Salt, bytes: &[u8]) -> u64 {
    bytes.iter().fold(salt.0, |h, b| (h.rotate_left(8) ^ u64::from(*b)).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The one random word that `value` is, or wraps. Text is none: who hands over a name hands over something.
fn word(value: &[u8]) -> Option<&[u8]> {
    if weight(value) != Weight::Token {
        return None;
    }
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || b"+/_-=".contains(b);
    let mut words = value.split(|b| !is_part(b)).filter(|w| w.len() >= HEAD);
    let word = words.next().filter(|w| WORD.contains(&w.len()))?;
    words.next().is_none().then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = Salt(1, 2);
    const VERSION: Fingerprint = Fingerprint(1);
    const ENTRY: Fingerprint = Fingerprint(2);
    /// What Python's pickle makes of `aB3xYz`, behind cachelib's mark.
    const PICKLED: &[u8] = b"!\x80\x04\x95\x0a\0\0\0\0\0\0\0\x8c\x06aB3xYz\x94.";

    fn points(value: &[u8], name: &[u8]) -> usize {
        let pointers = Pointers::default();
        pointers.written(SALT, VERSION, value);
        pointers.named_by(SALT, ENTRY, name).len()
    }

    #[test]
    fn a_word_that_names_other_keys_is_found_bare_and_wrapped() {
        assert_eq!(points(PICKLED, b"flask_cache_4fQ1nZr0pW2mT8kLaB3xYz"), 1);
        assert_eq!(points(b"0b8f6a2e5d5d4c0e", b"products:0b8f6a2e5d5d4c0e:list"), 1);
        assert_eq!(points(PICKLED, b"flask_cache_4fQ1nZr0pW2mT8kLaB3xYq"), 0, "another");
    }

    #[test]
    fn words_that_say_something_are_no_pointers() {
        assert_eq!(points(b"alice", b"user:alice"), 0);
        assert_eq!(points(b"confidential-report-2026", b"doc:confidential-report-2026"), 0);
        assert_eq!(points(b"1700000000", b"bucket:1700000000"), 0);
    }

    #[test]
    fn a_key_does_not_point_at_itself_and_is_told_once() {
        let pointers = Pointers::default();
        pointers.written(SALT, VERSION, PICKLED);
        assert!(pointers.named_by(SALT, VERSION, b"v:aB3xYz").is_empty());
        assert_eq!(pointers.named_by(SALT, ENTRY, b"x:aB3xYz").as_slice(), [VERSION]);
        assert!(pointers.named_by(SALT, ENTRY, b"x:aB3xYz").is_empty());
    }

    #[test]
    fn words_are_bounded_whatever_they_are() {
        let pointers = Pointers::default();
        for i in 0..4 * MAX_WORDS as u64 {
            let value = format!("{:016x}", i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 60);
            pointers.written(SALT, Fingerprint(i), value.as_bytes());
            pointers.written(SALT, Fingerprint(i), format!("abcde{i:011x}").as_bytes());
        }
        let words = pointers.0.borrow();
        assert!(words.oldest.len() <= MAX_WORDS);
        assert!(words.by_head.values().map(SmallVec::len).sum::<usize>() <= MAX_WORDS);
    }
}
