//! What a value is worth to whoever reads it: numbers and random words are compared, text is read.

use crate::model::Fingerprint;
use crate::model::keys::KeyChange;

/// Longest word that a lease may hold.
const MAX_LEASE: u64 = 64;

/// What a key holds after it was given a value, to live a while or not, whatever was there or only if nothing was.
/// `value`: all of it; a long one, which is not kept, is text.
pub(super) fn holds(value: Option<&[u8]>, print: Fingerprint, lives: bool, only_if: bool) -> KeyChange {
    let weight = value.map_or(Weight::Text, weight);
    let word = |a: &[u8]| a.len() as u64 <= MAX_LEASE && weight != Weight::Structure;
    match weight {
        Weight::Number(_) if lives || only_if => KeyChange::Nobodys,
        Weight::Token if only_if => KeyChange::Nobodys,
        _ if lives && only_if && value.is_some_and(word) => KeyChange::Nobodys,
        Weight::Number(_) | Weight::Token => KeyChange::PerhapsNobodys(smallvec::smallvec![print]),
        _ => KeyChange::Holds(smallvec::smallvec![print]),
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// A number of so many characters, `true`, `false`, or nothing at all.
    Number(usize),
    /// A random word: an id, a lock's token.
    Token,
    /// Words.
    Text,
    /// Something with an inner structure, or several words.
    Structure,
}

/// Longest number.
const MAX_NUMBER: usize = 24;
/// Lengths of random words.
const TOKEN: std::ops::RangeInclusive<usize> = 8..=64;
/// From here on a word in which letters and digits take turns is random.
const MIXED: usize = 16;

/// What `value` is.
pub(super) fn weight(value: &[u8]) -> Weight {
    if value.len() <= MAX_NUMBER && is_number(value) || matches!(value, b"true" | b"false" | b"OK") {
        return Weight::Number(value.len());
    }
    let word = value.iter().all(|b| b.is_ascii_alphanumeric() || b"_-.:=+/@#".contains(b));
    if !word {
        // Random bytes (redis-py's older locks) are no words, either.
        let binary = (8..=32).contains(&value.len()) && std::str::from_utf8(value).is_err();
        return if binary { Weight::Token } else { Weight::Structure };
    }
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    let hex = value.iter().all(|b| b.is_ascii_hexdigit() || b"-:._".contains(b));
    let upper = value.iter().any(u8::is_ascii_uppercase);
    let lower = value.iter().any(u8::is_ascii_lowercase);
    // Words do not change between letters and digits again and again.
    let turns = value.windows(2).filter(|w| matches!(w, [a, b] if a.is_ascii_digit() != b.is_ascii_digit())).count();
    let letters = upper && lower && value.windows(2).filter(|w| changes_case(w)).count() * 5 >= value.len();
    let mixed = value.len() >= MIXED && digits > 0 && (turns * 5 >= value.len() || letters);
    if TOKEN.contains(&value.len()) && (hex && digits > 0 || mixed) { Weight::Token } else { Weight::Text }
}

fn changes_case(two: &[u8]) -> bool {
    matches!(two, [a, b] if a.is_ascii_alphabetic() && b.is_ascii_alphabetic()
        && a.is_ascii_uppercase() != b.is_ascii_uppercase())
}

fn is_number(value: &[u8]) -> bool {
    value.iter().all(|b| b.is_ascii_digit() || b"+-.e".contains(b))
        && (value.is_empty() || value.iter().any(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_compared_and_what_is_read() {
        for token in [
            &b"0b8f6a2e5d5d4c0e9f1f6f0f3a1b2c3d"[..],
            b"0b8f6a2e-5d5d-4c0e-9f1f-6f0f3a1b2c3d",
            b"V1StGXR8_Z5jdHi6B-myT",
            b"kX9vQz2LmN4pRt7sWy8u",
            &[0xff, 0xfe, 1, 2, 3, 4, 5, 6, 7, 8],
        ] {
            assert_eq!(weight(token), Weight::Token, "{}", String::from_utf8_lossy(token));
        }
        for number in [&b"1"[..], b"", b"1700000000.123", b"-4", b"true"] {
            assert_eq!(weight(number), Weight::Number(number.len()));
        }
        for text in [&b"hello"[..], b"worker-1:4242", b"confidential-report-2026", b"tenant_acme_plan_v2"] {
            assert_eq!(weight(text), Weight::Text, "{}", String::from_utf8_lossy(text));
        }
        for structure in [&b"{\"a\":1}"[..], b"hello world", &[0x80, 4, 0x95, 0xc3, 0x28]] {
            assert_eq!(weight(structure), Weight::Structure);
        }
    }
}
