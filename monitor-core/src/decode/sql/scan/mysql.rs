//! The same for MySQL and MariaDB: other quotes, comments and placeholders, the same shape. Names are in double quotes
//! whoever writes them, placeholders are numbered (`$1`), a variable is one word (`@name`, `@@session.name`). Lexical
//! rules: MySQL 8.4 manual, chapter "Language Structure"; MariaDB manual, "Comment Syntax".

use super::{Scan, Writing, line_end, number_end, word_end};

/// Code for servers from this version on runs on every server that is in use (5.7); what is for later ones may not.
const EVERYWHERE: u32 = 50_700;

impl Scan {
    /// Scans one statement from `from` on; gives where the next one begins. `backslash`: a backslash escapes in strings
    /// (not with `NO_BACKSLASH_ESCAPES`).
    pub(crate) fn mysql_statement(&mut self, text: &[u8], from: usize, backslash: bool) -> usize {
        self.begin();
        let mut at = from;
        let mut depth = 0usize;
        let mut n_placeholders = 0usize;
        // Code in `/*! … */` that is open.
        let mut conditional = false;
        while let Some(&b) = text.get(at) {
            let start = at;
            let next = text.get(at + 1).copied();
            match b {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => at += 1,
                b'#' => at = line_end(text, at),
                b'-' if next == Some(b'-') && text.get(at + 2).is_none_or(|b| *b <= b' ') => at = line_end(text, at),
                b'/' if next == Some(b'*') => match conditional_code(text, at) {
                    Some((inside, sure)) if !conditional => {
                        at = inside;
                        conditional = true;
                        self.unterminated |= !sure;
                    }
                    _ => at = self.flat_comment_end(text, at),
                },
                b'*' if next == Some(b'/') && conditional => {
                    conditional = false;
                    at += 2;
                }
                // The text of a procedure has semicolons of its own.
                b';' if depth == 0 && !self.defines_code() => {
                    self.closed = true;
                    return at + 1;
                }
                b'\'' | b'"' => at = self.mysql_string(text, at, backslash),
                b'`' => at = self.mysql_name(text, at),
                b'@' => at = self.variable(text, at),
                b'?' => {
                    at += 1;
                    n_placeholders += 1;
                    if self.keep_element((start..at, None)) {
                        self.push(format!("${n_placeholders}").as_bytes());
                    }
                }
                b'0'..=b'9' => {
                    at = number_end(text, at);
                    self.literal(start..at, Writing::Number);
                }
                b'.' if next.is_some_and(|b| b.is_ascii_digit()) => {
                    at = number_end(text, at);
                    self.literal(start..at, Writing::Number);
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | 0x80.. => at = self.mysql_word(text, at),
                b'(' => {
                    depth += 1;
                    at += 1;
                    self.open();
                }
                b')' => {
                    depth = depth.saturating_sub(1);
                    at += 1;
                    self.close(text);
                }
                b',' => {
                    at += 1;
                    self.comma();
                }
                _ => {
                    at += operator_len(text.get(at..).unwrap_or_default());
                    self.token(text.get(start..at).unwrap_or_default());
                }
            }
        }
        self.unterminated |= conditional;
        at
    }

    /// A word, unless it only says in which characters or digits the string behind it is written.
    fn mysql_word(&mut self, text: &[u8], start: usize) -> usize {
        let end = word_end(text, start);
        let word = text.get(start..end).unwrap_or_default();
        let quoted = matches!(text.get(end), Some(b'\''));
        match word {
            [b'n' | b'N'] if quoted => return end,
            [b'x' | b'X' | b'b' | b'B'] if quoted => {
                let (end, body, _) = self.mysql_string_end(text, end, false);
                self.literal(body, Writing::Other);
                return end;
            }
            [b'_', ..] => {
                let gap = text.get(end..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count();
                if matches!(text.get(end + gap), Some(b'\'' | b'"')) {
                    return end + gap;
                }
            }
            _ => {}
        }
        self.word(word);
        end
    }

    fn mysql_string(&mut self, text: &[u8], at: usize, backslash: bool) -> usize {
        let quote = text.get(at).copied().unwrap_or_default();
        let (end, body, several) = self.mysql_string_end(text, at, backslash);
        self.literal(body, if several { Writing::Other } else { Writing::MySql { quote, backslash } });
        end
    }

    /// The end of a string that opens at `open`, its body, and whether further strings follow, which are one with it.
    fn mysql_string_end(&mut self, text: &[u8], open: usize, backslash: bool) -> (usize, std::ops::Range<usize>, bool) {
        let (mut end, body) = self.one_string(text, open, backslash);
        let mut several = false;
        loop {
            let gap = text.get(end..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count();
            if self.unterminated || gap == 0 || !matches!(text.get(end + gap), Some(b'\'' | b'"')) {
                return (end, body, several);
            }
            several = true;
            (end, _) = self.one_string(text, end + gap, backslash);
        }
    }

    fn one_string(&mut self, text: &[u8], open: usize, backslash: bool) -> (usize, std::ops::Range<usize>) {
        let quote = text.get(open).copied().unwrap_or_default();
        let mut at = open + 1;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            let found = if backslash { memchr::memchr2(quote, b'\\', rest) } else { memchr::memchr(quote, rest) };
            let Some(found) = found else {
                self.unterminated = true;
                return (text.len(), (open + 1).min(text.len())..text.len());
            };
            at += found;
            if text.get(at) != Some(&quote) || text.get(at + 1) == Some(&quote) {
                at += 2;
                continue;
            }
            return (at + 1, open + 1..at);
        }
    }

    /// A name in backquotes; in double quotes in the shape.
    fn mysql_name(&mut self, text: &[u8], open: usize) -> usize {
        let mut at = open + 1;
        let mut name = vec![b'"'];
        loop {
            let Some(found) = memchr::memchr(b'`', text.get(at..).unwrap_or_default()) else {
                self.unterminated = true;
                return text.len();
            };
            for b in text.get(at..at + found).unwrap_or_default() {
                name.push(*b);
                if *b == b'"' {
                    name.push(b'"');
                }
            }
            at += found + 1;
            if text.get(at) != Some(&b'`') {
                break;
            }
            name.push(b'`');
            at += 1;
        }
        name.push(b'"');
        self.token(&name);
        at
    }

    /// `@name`, `@'name'`, `@@session.name`: one word in lower case, in which what no plain name has is an underscore.
    fn variable(&mut self, text: &[u8], start: usize) -> usize {
        let mut at = start + 1;
        if text.get(at) == Some(&b'@') {
            at += 1;
        }
        let sign = at;
        let is_plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$' | 0x80..);
        let name = match text.get(at) {
            Some(quote @ (b'\'' | b'"' | b'`')) => {
                let body = text.get(at + 1..).unwrap_or_default();
                let Some(len) = memchr::memchr(*quote, body) else {
                    self.unterminated = true;
                    return text.len();
                };
                at += len + 2;
                body.get(..len).unwrap_or_default()
            }
            _ => {
                at += text.get(at..).unwrap_or_default().iter().take_while(|b| is_plain(b)).count();
                text.get(sign..at).unwrap_or_default()
            }
        };
        let mut token = text.get(start..sign).unwrap_or_default().to_vec();
        token.extend(name.iter().map(|b| if is_plain(b) { b.to_ascii_lowercase() } else { b'_' }));
        self.token(&token);
        at
    }

    /// Skips a comment, which does not nest.
    fn flat_comment_end(&mut self, text: &[u8], from: usize) -> usize {
        match memchr::memmem::find(text.get(from + 2..).unwrap_or_default(), b"*/") {
            Some(len) => from + len + 4,
            None => {
                self.unterminated = true;
                text.len()
            }
        }
    }

    /// So far, it is the definition of a procedure, function, trigger or event.
    fn defines_code(&self) -> bool {
        self.shape.starts_with(b"create ")
            && self
                .shape
                .split(|b| *b == b' ')
                .take(12)
                .any(|w| matches!(w, b"procedure" | b"function" | b"trigger" | b"event" | b"package"))
    }
}

/// Where the code in `/*! … */` (`/*!50003 … */`, MariaDB's `/*M! … */`) begins, and whether every server runs it.
fn conditional_code(text: &[u8], at: usize) -> Option<(usize, bool)> {
    let rest = text.get(at + 2..)?;
    let (inside, mariadb) = match rest {
        [b'!', ..] => (1, false),
        [b'M', b'!', ..] => (2, true),
        _ => return None,
    };
    let digits = rest.get(inside..)?.iter().take_while(|b| b.is_ascii_digit()).take(6);
    let (n, version) = digits.fold((0, 0), |(n, v), b| (n + 1, v * 10 + u32::from(*b - b'0')));
    Some((at + 2 + inside + n, !mariadb && version < EVERYWHERE))
}

/// The length of the operator at the front.
fn operator_len(rest: &[u8]) -> usize {
    match rest {
        [b'<', b'=', b'>', ..] | [b'-', b'>', b'>', ..] => 3,
        [b'<', b'=' | b'>' | b'<', ..]
        | [b'>', b'=' | b'>', ..]
        | [b'!', b'=', ..]
        | [b':', b'=', ..]
        | [b'|', b'|', ..]
        | [b'&', b'&', ..]
        | [b'-', b'>', ..] => 2,
        _ => 1,
    }
}
