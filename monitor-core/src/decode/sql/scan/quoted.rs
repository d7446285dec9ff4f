//! What is read to its closing mark: comments, strings in all their spellings, and quoted names.

use std::ops::Range;

use super::{Scan, Writing};

impl Scan {
    /// Skips a block comment, which may nest.
    pub(super) fn comment_end(&mut self, text: &[u8], from: usize) -> usize {
        let mut depth = 0usize;
        let mut at = from;
        loop {
            match (text.get(at), text.get(at + 1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    at += 2;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    at += 2;
                    if depth == 0 {
                        return at;
                    }
                }
                (Some(_), _) => at += 1,
                (None, _) => {
                    self.unterminated = true;
                    return text.len();
                }
            }
        }
    }

    /// `E'…'`, `N'…'`, `B'…'`, `X'…'`, `U&'…'` and `U&"…"`.
    pub(super) fn prefixed_string(&mut self, text: &[u8], at: usize) -> Option<usize> {
        let next = *text.get(at + 1)?;
        let (quote, writing) = match (text.get(at)?, next) {
            (b'e' | b'E', b'\'') => (at + 1, Writing::Escaped),
            (b'n' | b'N', b'\'') => (at + 1, Writing::Plain),
            (b'b' | b'B' | b'x' | b'X', b'\'') => (at + 1, Writing::Other),
            (b'u' | b'U', b'&') => match text.get(at + 2) {
                Some(b'\'') => (at + 2, Writing::Other),
                Some(b'"') => return Some(self.quoted_name(text, at + 2)),
                _ => return None,
            },
            _ => return None,
        };
        let (end, body, several) = self.string_end(text, quote, writing == Writing::Escaped);
        self.literal(body, if several { Writing::Other } else { writing });
        Some(end)
    }

    /// The end of a string that opens at `quote`, its body, and whether it goes on in a further part after a line
    /// break (PostgreSQL joins these).
    pub(super) fn string_end(&mut self, text: &[u8], quote: usize, backslash: bool) -> (usize, Range<usize>, bool) {
        let mut several = false;
        let mut at = quote + 1;
        let first = at;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let found = if backslash { memchr::memchr2(b'\'', b'\\', rest) } else { memchr::memchr(b'\'', rest) };
            let Some(found) = found else {
                self.unterminated = true;
                return (text.len(), first..text.len(), several);
            };
            at += found;
            if text.get(at) == Some(&b'\\') {
                at += 2;
                continue;
            }
            if text.get(at + 1) == Some(&b'\'') {
                at += 2;
                continue;
            }
            let end = at + 1;
            match continuation(text, end) {
                Some(open) => {
                    several = true;
                    at = open + 1;
                }
                None => return (end, first..at, several),
            }
        }
    }

    /// A quoted name, kept as it is written.
    pub(super) fn quoted_name(&mut self, text: &[u8], quote: usize) -> usize {
        let mut at = quote + 1;
        loop {
            match memchr::memchr(b'"', text.get(at..).unwrap_or_default()) {
                None => {
                    self.unterminated = true;
                    return text.len();
                }
                Some(found) => {
                    at += found + 1;
                    if text.get(at) == Some(&b'"') {
                        at += 1;
                        continue;
                    }
                    self.token(text.get(quote..at).unwrap_or_default());
                    return at;
                }
            }
        }
    }

    /// `$1`, `$tag$…$tag$`, or a lone dollar sign.
    pub(super) fn dollar(&mut self, text: &[u8], start: usize) -> usize {
        let mut at = start + 1;
        if text.get(at).is_some_and(u8::is_ascii_digit) {
            while text.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            if self.keep_element((start..at, None)) {
                self.push(text.get(start..at).unwrap_or_default());
            }
            return at;
        }
        let tag_end = match text.get(at) {
            Some(b'$') => at,
            Some(b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..) => {
                while text.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80) {
                    at += 1;
                }
                at
            }
            _ => start,
        };
        if tag_end == start || text.get(tag_end) != Some(&b'$') {
            self.token(b"$");
            return start + 1;
        }
        let tag = text.get(start..=tag_end).unwrap_or_default();
        let body = tag_end + 1;
        match memchr::memmem::find(text.get(body..).unwrap_or_default(), tag) {
            Some(len) => {
                self.literal(body..body + len, Writing::Dollar);
                body + len + tag.len()
            }
            None => {
                self.literal(body..text.len(), Writing::Other);
                self.unterminated = true;
                text.len()
            }
        }
    }
}

/// Where the next part of a string opens, if it goes on after a line break.
fn continuation(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    let gap = rest.iter().take_while(|b| b.is_ascii_whitespace()).count();
    let (white, after) = rest.split_at_checked(gap)?;
    (white.contains(&b'\n') && after.first() == Some(&b'\'')).then_some(from + gap)
}
