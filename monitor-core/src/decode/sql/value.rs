//! Values as statements write them: names, literals, parameters.

use std::borrow::Cow;

use super::scan::{Literal, Writing};

/// Longest value read, in bytes; a longer one is unreadable. Tenant names are short.
pub(crate) const MAX_VALUE: usize = 1024;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The statement's own words.
    Fixed(Box<str>),
    /// The literal of this number.
    Literal(u16),
    /// A minus sign and the literal of this number.
    Negative(u16),
    /// Parameter `$n`, counted from 1.
    Param(u16, Wanted),
    /// `NULL`.
    Null,
    /// Several, which the server joins with commas (`SET search_path = a, b`).
    List(Box<[Value]>),
    /// An expression that the server computes.
    Computed,
}

/// The type a parameter is used as, for reading it in binary format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// `text` and its like: binary is the same as text.
    Text,
    /// `bool`.
    Bool,
    /// `smallint`, `integer` or `bigint`.
    Integer,
    /// `uuid`.
    Uuid,
    /// Some other type.
    Other,
    /// A type that nothing tells: see [`plain`].
    Any,
}

/// A value that was read, or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Read<'a> {
    /// Its text.
    Text(Cow<'a, str>),
    /// NULL.
    Null,
    /// Not readable: computed, truncated, too long, or of a type that is not known here.
    Unreadable,
}

impl Read<'_> {
    /// Its truth, by PostgreSQL's rules for boolean input; `None` if unreadable or no boolean.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self {
            // A NULL is_local is taken as false by set_config.
            Self::Null => Some(false),
            Self::Text(t) => truth(t),
            Self::Unreadable => None,
        }
    }
}

/// A boolean as PostgreSQL reads it (manual, section 8.6).
pub(crate) fn truth(text: &str) -> Option<bool> {
    let t = text.trim().to_ascii_lowercase();
    let is = |word: &str, shortest: usize| t.len() >= shortest && word.starts_with(t.as_str());
    if is("true", 1) || is("yes", 1) || t == "on" || t == "1" {
        Some(true)
    } else if is("false", 1) || is("no", 1) || is("off", 2) || t == "0" {
        Some(false)
    } else {
        None
    }
}

/// The text a literal stands for; `None` if it is not readable.
pub(crate) fn literal_text(text: &[u8], literal: &Literal) -> Option<String> {
    let body = text.get(literal.at.clone())?;
    // Escapes only ever make it shorter.
    if body.len() > MAX_VALUE {
        return None;
    }
    let bytes = match literal.writing {
        Writing::Dollar | Writing::Number => body.to_vec(),
        Writing::Plain => undouble(body),
        Writing::Escaped => unescape(body)?,
        Writing::MySql { quote, backslash } => of_mysql(body, quote, backslash),
        Writing::Other => return None,
    };
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn undouble(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&b) = bytes.next() {
        out.push(b);
        if b == b'\'' {
            bytes.next();
        }
    }
    out
}

/// MySQL's escapes (manual, section "String Literals"): what has no meaning of its own stands for itself.
fn of_mysql(body: &[u8], quote: u8, backslash: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(body.len());
    let mut bytes = body.iter();
    while let Some(&b) = bytes.next() {
        out.push(match b {
            b'\\' if backslash => match bytes.next() {
                Some(b'0') => 0,
                Some(b'b') => 8,
                Some(b'n') => b'\n',
                Some(b'r') => b'\r',
                Some(b't') => b'\t',
                Some(b'Z') => 26,
                Some(other) => *other,
                None => break,
            },
            _ => {
                if b == quote {
                    bytes.next();
                }
                b
            }
        });
    }
    out
}

/// C-style escapes (manual, section 4.1.2.2). `None` for one that is not understood.
fn unescape(body: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(&b) = body.get(at) {
        at += 1;
        match b {
            b'\'' => {
                out.push(b);
                at += 1;
            }
            b'\\' => {
                let c = *body.get(at)?;
                at += 1;
                match c {
                    b'b' => out.push(8),
                    b'f' => out.push(12),
                    b'n' => out.push(b'\n'),
                    b'r' => out.push(b'\r'),
                    b't' => out.push(b'\t'),
                    b'0'..=b'7' => out.push(digits(body, &mut at, 8, 2, u32::from(c - b'0'))? as u8),
                    b'x' if body.get(at).is_some_and(u8::is_ascii_hexdigit) => {
                        out.push(u8::try_from(digits(body, &mut at, 16, 2, 0)?).ok()?);
                    }
                    b'u' | b'U' => {
                        let n = if c == b'u' { 4 } else { 8 };
                        let c = char::from_u32(digits(body, &mut at, 16, n, 0)?)?;
                        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    other => out.push(other),
                }
            }
            _ => out.push(b),
        }
    }
    Some(out)
}

fn digits(body: &[u8], at: &mut usize, radix: u32, most: usize, first: u32) -> Option<u32> {
    let mut n = first;
    for _ in 0..most {
        let Some(d) = body.get(*at).and_then(|b| char::from(*b).to_digit(radix)) else { break };
        n = n.checked_mul(radix)?.checked_add(d)?;
        *at += 1;
    }
    Some(n)
}

/// A parameter as Bind carries it: `None` is NULL.
pub(crate) fn parameter(bytes: Option<&[u8]>, binary: bool, wanted: Wanted) -> Read<'static> {
    let Some(bytes) = bytes else { return Read::Null };
    if bytes.len() > MAX_VALUE {
        return Read::Unreadable;
    }
    let text = |s: String| Read::Text(Cow::Owned(s));
    if !binary || wanted == Wanted::Text {
        return text(String::from_utf8_lossy(bytes).into_owned());
    }
    match (wanted, bytes) {
        (Wanted::Any, bytes) => plain(bytes).map_or(Read::Unreadable, text),
        (Wanted::Bool, [b]) => text(if *b == 0 { "f" } else { "t" }.to_owned()),
        (Wanted::Integer, bytes) => integer(bytes).map_or(Read::Unreadable, |n| text(n.to_string())),
        (Wanted::Uuid, bytes) => uuid(bytes).map_or(Read::Unreadable, text),
        _ => Read::Unreadable,
    }
}

/// A `smallint`, `integer` or `bigint` in binary format.
pub(crate) fn integer(bytes: &[u8]) -> Option<i64> {
    match *bytes {
        [a, b] => Some(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => Some(i64::from(i32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

/// A `uuid` in binary format, as text.
pub(crate) fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let mut s = String::with_capacity(36);
    for (i, b) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            s.push('-');
        }
        s.extend([b >> 4, b & 15].map(|nibble| char::from_digit(u32::from(nibble), 16).unwrap_or('0')));
    }
    Some(s)
}

/// Whether these bytes are text as people write it.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|t| !t.chars().any(char::is_control))
}

/// A value in a format and of a type that are not known: text if it reads as text, else an integer or a UUID by its
/// length. An integer whose bytes happen to read as text is taken for one; of four or eight bytes, these are all greater
/// than half a billion.
pub(crate) fn plain(bytes: &[u8]) -> Option<String> {
    if is_text(bytes) {
        return Some(String::from_utf8_lossy(bytes).into_owned());
    }
    integer(bytes).map(|n| n.to_string()).or_else(|| uuid(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, writing: Writing) -> Option<String> {
        literal_text(text.as_bytes(), &Literal { at: 0..text.len(), writing })
    }

    #[test]
    fn literals_are_read_as_the_server_reads_them() {
        assert_eq!(read("it''s", Writing::Plain).as_deref(), Some("it's"));
        assert_eq!(read(r"a\b", Writing::Plain).as_deref(), Some(r"a\b"));
        assert_eq!(read(r"a\'b''c\x41\101\u0042", Writing::Escaped).as_deref(), Some("a'b'cAAB"));
        assert_eq!(read("it's", Writing::Dollar).as_deref(), Some("it's"));
        assert_eq!(read("\\0061", Writing::Other), None);
        assert_eq!(read(&"a".repeat(MAX_VALUE + 1), Writing::Plain), None);
    }

    #[test]
    fn parameters_in_binary_are_read_by_type_or_not_at_all() {
        let text = |s: &str| Read::Text(Cow::Owned(s.to_owned()));
        assert_eq!(parameter(Some(b"acme"), true, Wanted::Text), text("acme"));
        assert_eq!(parameter(Some(&[0, 0, 0, 7]), true, Wanted::Integer), text("7"));
        assert_eq!(parameter(Some(&[1]), true, Wanted::Bool).truth(), Some(true));
        assert_eq!(parameter(Some(&[0x12; 16]), true, Wanted::Uuid), text("12121212-1212-1212-1212-121212121212"));
        assert_eq!(parameter(Some(&[1, 2, 3]), true, Wanted::Integer), Read::Unreadable);
        assert_eq!(parameter(Some(b"acme"), true, Wanted::Other), Read::Unreadable);
        assert_eq!(parameter(None, true, Wanted::Other), Read::Null);
    }

    #[test]
    fn booleans_as_the_server_reads_them() {
        for t in ["t", "TRUE", "tru", "y", "on", "1", " yes "] {
            assert_eq!(truth(t), Some(true), "{t}");
        }
        for f in ["f", "false", "n", "of", "off", "0"] {
            assert_eq!(truth(f), Some(false), "{f}");
        }
        for neither in ["", "o", "2", "maybe"] {
            assert_eq!(truth(neither), None, "{neither}");
        }
    }
}
