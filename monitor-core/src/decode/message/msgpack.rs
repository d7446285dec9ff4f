//! MessagePack, walked without building anything: strings and numbers in the order in which they stand, so that a map's
//! key comes right before its value (the specification on msgpack.org, "Formats").
//!
//! Memory: 32 numbers.

use super::packed::{Said, Words};

/// Deepest nesting that is walked.
const MAX_DEPTH: usize = 32;

/// What stands behind a first byte.
enum Behind {
    /// So many things.
    Things(u64),
    /// Text of this length.
    Text(u64),
    /// So many bytes that say nothing.
    Bytes(u64),
    /// A number of so many bytes; with a sign or without.
    Number(usize, bool),
    /// The byte is the number.
    Small(i8),
    /// A length of so many bytes, and what it is the length of.
    Length(usize, Of),
}

#[derive(Clone, Copy)]
enum Of {
    Text,
    Bytes,
    /// With one byte of type.
    Extension,
    Things,
    /// Keys and values.
    Pairs,
}

fn behind(byte: u8) -> Option<Behind> {
    Some(match byte {
        0x00..=0x7f | 0xe0..=0xff => Behind::Small(i8::from_ne_bytes([byte])),
        0x80..=0x8f => Behind::Things(2 * u64::from(byte & 0x0f)),
        0x90..=0x9f => Behind::Things(u64::from(byte & 0x0f)),
        0xa0..=0xbf => Behind::Text(u64::from(byte & 0x1f)),
        0xc0 | 0xc2 | 0xc3 => Behind::Bytes(0),
        0xc1 => return None,
        0xc4..=0xc6 => Behind::Length(1 << (byte - 0xc4), Of::Bytes),
        0xc7..=0xc9 => Behind::Length(1 << (byte - 0xc7), Of::Extension),
        0xca => Behind::Bytes(4),
        0xcb => Behind::Bytes(8),
        0xcc..=0xcf => Behind::Number(1 << (byte - 0xcc), false),
        0xd0..=0xd3 => Behind::Number(1 << (byte - 0xd0), true),
        0xd4..=0xd8 => Behind::Bytes(1 + (1 << (byte - 0xd4))),
        0xd9..=0xdb => Behind::Length(1 << (byte - 0xd9), Of::Text),
        0xdc | 0xdd => Behind::Length(2 << (byte - 0xdc), Of::Things),
        0xde | 0xdf => Behind::Length(2 << (byte - 0xde), Of::Pairs),
    })
}

/// Whether content may be this: a map or an array to its very end.
pub(super) fn is(content: &[u8]) -> bool {
    matches!(content.first(), Some(0x80..=0x9f | 0xdc..=0xdf)) && walk(content, &mut |_| {}) == Some(true)
}

/// Tells what it says; gives whether all of it was read.
pub(super) fn each(content: &[u8], say: &mut dyn FnMut(Said<'_>)) -> bool {
    let mut words = Words::default();
    let read = walk(content, &mut |part| match part {
        Part::Text(text) => words.text(text, say),
        Part::Number(n) => words.text(&n.to_string(), say),
        Part::Other => words.other(),
    });
    read == Some(true) && words.whole
}

enum Part<'a> {
    Text(&'a str),
    Number(i128),
    Other,
}

/// Big-endian.
fn number(bytes: &[u8], signed: bool) -> i128 {
    let n = bytes.iter().fold(0i128, |n, b| n << 8 | i128::from(*b));
    let bits = 8 * bytes.len();
    if signed && n >> (bits.max(1) - 1) & 1 == 1 { n - (1 << bits) } else { n }
}

/// Whether it ends where its last part ends; `None` if it breaks off, or is something else.
fn walk<'a>(content: &'a [u8], each: &mut dyn FnMut(Part<'a>)) -> Option<bool> {
    let mut rest = content;
    // How many things are to come, from the outermost in.
    let mut open = vec![1u64];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let (&first, after) = rest.split_first()?;
        rest = after;
        let mut take = |n: u64| {
            let (taken, after) = rest.split_at_checked(usize::try_from(n).ok()?)?;
            rest = after;
            Some(taken)
        };
        let mut found = behind(first)?;
        if let Behind::Length(n, of) = found {
            let length = u64::try_from(number(take(n as u64)?, false)).ok()?;
            found = match of {
                Of::Text => Behind::Text(length),
                Of::Bytes => Behind::Bytes(length),
                Of::Extension => Behind::Bytes(length.checked_add(1)?),
                Of::Things => Behind::Things(length),
                Of::Pairs => Behind::Things(length.checked_mul(2)?),
            };
        }
        match found {
            Behind::Things(n) if open.len() < MAX_DEPTH => {
                each(Part::Other);
                open.push(n);
            }
            Behind::Things(_) | Behind::Length(..) => return None,
            Behind::Text(n) => each(std::str::from_utf8(take(n)?).map_or(Part::Other, Part::Text)),
            Behind::Bytes(n) => {
                take(n)?;
                each(Part::Other);
            }
            Behind::Number(n, signed) => each(Part::Number(number(take(n as u64)?, signed))),
            Behind::Small(n) => each(Part::Number(i128::from(n))),
        }
    }
    Some(rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(content: &[u8]) -> (String, bool) {
        let mut out = Vec::new();
        let whole = is(content)
            && each(content, &mut |said| match said {
                Said::Field(name, value) => out.push(format!("{name}={value}")),
                Said::Word(word) => out.push(word.to_owned()),
                Said::Text(_) => {}
                Said::Somebody => out.push("?".to_owned()),
            });
        (out.join(" "), whole)
    }

    /// `msgpack.packb([["acme", 42], {"tenant_id": "acme", "n": 300, "neg": -7}, None, True, 1.5, b"x"])`
    const JOB: &[u8] = b"\x96\x92\xa4acme\x2a\x83\xa9tenant_id\xa4acme\xa1n\xcd\x01\x2c\xa3neg\xf9\xc0\xc3\
                         \xcb\x3f\xf8\0\0\0\0\0\0\xc4\x01x";

    #[test]
    fn names_and_values_are_told_in_their_order() {
        assert_eq!(all(JOB), ("acme 42 tenant_id=acme n 300 neg -7".to_owned(), true));
        assert_eq!(all(b"\x81\xd9\x06tenant\xd1\xff\x00"), ("tenant=-256".to_owned(), true));
        assert_eq!(all(b"\x81\xa6tenant\xc0"), (String::new(), true), "nobody");
        assert_eq!(all(b"\x81\xa1b\xa8{\"a\":1}\x20"), ("b".to_owned(), true));
    }

    #[test]
    fn text_inside_is_looked_into() {
        let inner = br#"{"tenant":"acme"}"#;
        let mut job = b"\x92\xa1x".to_vec();
        job.push(0xa0 | inner.len() as u8);
        job.extend(inner);
        assert_eq!(all(&job), ("x tenant=acme".to_owned(), true));
    }

    #[test]
    fn what_is_cut_or_something_else_is_not_read() {
        for n in 0..JOB.len() {
            assert!(!all(&JOB[..n]).1, "{n}");
        }
        for bad in [
            &b"\x81\xa1a\x01\x01"[..],
            b"\xdf\xff\xff\xff\xff",
            b"\xdd\xff\xff\xff\xff\x01",
            b"\xc1",
            b"\x91\xdb\xff\xff\xff\xff",
            b"\x91\xc9\xff\xff\xff\xff\x01",
            &[0x91; 100],
        ] {
            assert!(!all(bad).1, "{bad:?}");
        }
    }
}
