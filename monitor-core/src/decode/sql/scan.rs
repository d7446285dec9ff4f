//! The pre-scan: one pass over SQL text gives the end of a statement, its shape and where its literals are.
//!
//! The shape is the statement in a canonical spelling: comments dropped, one space between tokens, unquoted words in
//! lower case, and each literal replaced by its number in the statement (`'0'` for a string, `1` for a number). Long
//! lists of literals and repeated rows of literals are cut short, so that the length of a list makes no new shape.
//! The shape holds no value of the statement, is valid SQL where the statement was, and is what the parsers read.
//! Lexical rules: PostgreSQL manual, section 4.1; those of MySQL are in `mysql`.

mod mysql;
mod quoted;

use std::ops::Range;

/// How a literal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writing {
    /// `'…'`: a quote is doubled.
    Plain,
    /// `E'…'`: backslash escapes too.
    Escaped,
    /// `$tag$…$tag$`: verbatim.
    Dollar,
    /// MySQL's `'…'` or `"…"`: this quote is doubled, and backslash escapes if `backslash`.
    MySql {
        /// What it is written in.
        quote: u8,
        /// It may have escapes.
        backslash: bool,
    },
    /// A number: verbatim.
    Number,
    /// `U&'…'`, `B'…'`, `X'…'`, or parts on several lines: read by nobody here.
    Other,
}

/// A literal that the shape numbers.
#[derive(Clone, Debug)]
pub(crate) struct Literal {
    /// Where its content is in the text, without quotes.
    pub(crate) at: Range<usize>,
    /// How it is written.
    pub(crate) writing: Writing,
}

/// What one scan found. Reused from statement to statement, so that the steady state does not allocate.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The shape.
    pub(crate) shape: Vec<u8>,
    /// Literals by number.
    pub(crate) literals: Vec<Literal>,
    /// Tokens in the shape.
    pub(crate) n_tokens: usize,
    /// The text ended inside a string, comment or quoted name.
    pub(crate) unterminated: bool,
    /// The statement ended with a semicolon rather than with the text.
    pub(crate) closed: bool,
    /// Content of literals that the shape does not keep, the first [`DROPPED`] of them.
    pub(crate) dropped: Vec<Range<usize>>,
    /// Places in a row at which one of the rows that were cut off says something else than the rows kept: bit `i` for
    /// the `i`th of the first eight.
    pub(crate) differs: u8,
    list: List,
    /// The elements of the row that is being read, and of the last one kept: where, and how written (`None`: `$1`).
    row: Vec<Element>,
    kept_row: Vec<Element>,
}

type Element = (Range<usize>, Option<Writing>);

/// Longest run of literals in one list that the shape keeps. Up to this place, the elements of a list keep theirs.
pub(crate) const LIST: usize = 8;
/// Most literals remembered that the shape does not keep.
const DROPPED: usize = 64;
/// Rows of nothing but literals that the shape keeps of each run of such rows.
const ROWS: usize = 2;

/// Progress through lists and rows of literals.
#[derive(Debug, Default)]
struct List {
    /// Elements in the current run of `literal , literal , …`; reset by any other token.
    run: usize,
    /// What the last token was.
    last: Last,
    /// An open parenthesis that may begin a row: lengths of shape, literals and tokens before it.
    row: Option<(usize, usize, usize)>,
    /// Rows seen one after the other.
    n_rows: usize,
    /// Where the comma before the row began, to drop it with the row.
    comma: (usize, usize, usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Last {
    #[default]
    Other,
    Element,
    Comma,
    RowEnd,
    RowComma,
}

impl Scan {
    /// Scans one statement from `from` on; gives where the next one begins. `backslash`: plain strings have backslash
    /// escapes too (`standard_conforming_strings = off`).
    pub(crate) fn statement(&mut self, text: &[u8], from: usize, backslash: bool) -> usize {
        self.begin();
        let mut at = from;
        let mut depth = 0usize;
        // `BEGIN ATOMIC … END` bodies of SQL functions hold semicolons.
        let mut atomic = 0usize;
        let mut last_word = Word::Other;
        while let Some(&b) = text.get(at) {
            let start = at;
            match b {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                    at += 1;
                    continue;
                }
                b'-' if text.get(at + 1) == Some(&b'-') => {
                    at = line_end(text, at);
                    continue;
                }
                b'/' if text.get(at + 1) == Some(&b'*') => {
                    at = self.comment_end(text, at);
                    continue;
                }
                b';' if depth == 0 && atomic == 0 => {
                    self.closed = true;
                    return at + 1;
                }
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                    if let Some(end) = self.prefixed_string(text, at) {
                        at = end;
                        last_word = Word::Other;
                        continue;
                    }
                    at = word_end(text, at);
                    let kept = self.word(text.get(start..at).unwrap_or_default());
                    let word = Word::of(kept);
                    match (word, last_word) {
                        (Word::Atomic, Word::Begin) => atomic += 1,
                        (Word::Case, _) if atomic > 0 => atomic += 1,
                        (Word::End, _) => atomic = atomic.saturating_sub(1),
                        _ => {}
                    }
                    last_word = word;
                    continue;
                }
                b'\'' => {
                    let (end, body, several) = self.string_end(text, at, backslash);
                    let writing = match (several, backslash) {
                        (true, _) => Writing::Other,
                        (_, true) => Writing::Escaped,
                        (_, false) => Writing::Plain,
                    };
                    self.literal(body, writing);
                    at = end;
                }
                b'"' => at = self.quoted_name(text, at),
                b'$' => at = self.dollar(text, at),
                b'0'..=b'9' => {
                    at = number_end(text, at);
                    self.literal(start..at, Writing::Number);
                }
                b'.' if text.get(at + 1).is_some_and(u8::is_ascii_digit) => {
                    at = number_end(text, at);
                    self.literal(start..at, Writing::Number);
                }
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
                    at = operator_end(text, at);
                    self.token(text.get(start..at).unwrap_or_default());
                }
            }
            last_word = Word::Other;
        }
        at
    }

    /// A statement begins.
    fn begin(&mut self) {
        self.shape.clear();
        self.literals.clear();
        self.n_tokens = 0;
        self.unterminated = false;
        self.closed = false;
        self.dropped.clear();
        self.differs = 0;
        self.list = List::default();
    }

    /// A token that is no part of a list of literals.
    fn token(&mut self, token: &[u8]) {
        self.list.last = Last::Other;
        self.list.row = None;
        self.list.n_rows = 0;
        self.push(token);
    }

    fn push(&mut self, token: &[u8]) {
        if !self.shape.is_empty() {
            self.shape.push(b' ');
        }
        self.shape.extend_from_slice(token);
        self.n_tokens += 1;
    }

    /// An unquoted word, in lower case; gives it as kept.
    fn word(&mut self, word: &[u8]) -> &[u8] {
        self.token(word);
        let start = self.shape.len().saturating_sub(word.len());
        let kept = self.shape.get_mut(start..).unwrap_or_default();
        kept.make_ascii_lowercase();
        kept
    }

    /// Whether a further element of the current list still belongs to the shape. If not, its comma is dropped.
    fn keep_element(&mut self, element: Element) -> bool {
        if self.list.row.is_some() && self.row.len() < LIST {
            self.row.push(element);
        }
        self.list.run = if self.list.last == Last::Comma { self.list.run + 1 } else { 1 };
        self.list.last = Last::Element;
        if self.list.run <= LIST {
            return true;
        }
        self.shape.truncate(self.list.comma.0);
        self.n_tokens = self.list.comma.2;
        false
    }

    fn literal(&mut self, at: Range<usize>, writing: Writing) {
        if !self.keep_element((at.clone(), Some(writing))) {
            self.drop_literals(std::iter::once(at));
            return;
        }
        let number = self.literals.len();
        self.literals.push(Literal { at, writing });
        if !self.shape.is_empty() {
            self.shape.push(b' ');
        }
        let quote = writing != Writing::Number;
        if quote {
            self.shape.push(b'\'');
        }
        push_decimal(&mut self.shape, number);
        if quote {
            self.shape.push(b'\'');
        }
        self.n_tokens += 1;
    }

    fn comma(&mut self) {
        let before = (self.shape.len(), self.literals.len(), self.n_tokens);
        let last = match self.list.last {
            Last::Element => Last::Comma,
            Last::RowEnd => Last::RowComma,
            _ => Last::Other,
        };
        if last == Last::Other {
            self.list.row = None;
            self.list.n_rows = 0;
        }
        self.list.last = last;
        self.list.comma = before;
        self.push(b",");
    }

    fn open(&mut self) {
        let after_row = self.list.last == Last::RowComma;
        let before = if after_row { self.list.comma } else { (self.shape.len(), self.literals.len(), self.n_tokens) };
        if !after_row {
            self.list.n_rows = 0;
        }
        self.list.row = Some(before);
        self.list.last = Last::Other;
        self.row.clear();
        self.push(b"(");
    }

    fn drop_literals(&mut self, literals: impl Iterator<Item = Range<usize>>) {
        let room = DROPPED.saturating_sub(self.dropped.len());
        self.dropped.extend(literals.take(room));
    }

    /// Notes where the row just read differs from the last one kept.
    fn compare_rows(&mut self, text: &[u8]) {
        if self.row.len() != self.kept_row.len() {
            self.differs = u8::MAX;
            return;
        }
        for (i, ((a, how_a), (b, how_b))) in self.row.iter().zip(&self.kept_row).enumerate() {
            if how_a != how_b || text.get(a.clone()) != text.get(b.clone()) {
                self.differs |= 1 << (i % LIST);
            }
        }
    }

    fn close(&mut self, text: &[u8]) {
        let simple = self.list.last == Last::Element;
        match self.list.row.take() {
            Some((shape, literals, tokens)) if simple => {
                self.list.n_rows += 1;
                self.push(b")");
                if self.list.n_rows > ROWS {
                    self.compare_rows(text);
                    let mut gone = std::mem::take(&mut self.literals);
                    self.drop_literals(gone.drain(literals.min(gone.len())..).map(|l| l.at));
                    self.literals = gone;
                    self.shape.truncate(shape);
                    self.n_tokens = tokens;
                } else {
                    std::mem::swap(&mut self.row, &mut self.kept_row);
                }
                self.list.last = Last::RowEnd;
            }
            _ => self.token(b")"),
        }
    }
}

/// The words that matter for finding a statement's end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Begin,
    Atomic,
    Case,
    End,
    Other,
}

impl Word {
    fn of(word: &[u8]) -> Self {
        match word {
            b"begin" => Self::Begin,
            b"atomic" => Self::Atomic,
            b"case" => Self::Case,
            b"end" => Self::End,
            _ => Self::Other,
        }
    }
}

fn line_end(text: &[u8], from: usize) -> usize {
    memchr::memchr2(b'\n', b'\r', text.get(from..).unwrap_or_default()).map_or(text.len(), |n| from + n)
}

fn word_end(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let n = rest.iter().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..)).count();
    from + n.max(1)
}

fn number_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(&b) = text.get(at) {
        let exponent = at > from && matches!(text.get(at - 1), Some(b'e' | b'E'));
        match b {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'_' => at += 1,
            // `1..10` in a loop is two tokens to the server, and none of ours.
            b'.' if text.get(at + 1) != Some(&b'.') => at += 1,
            b'+' | b'-' if exponent && text.get(at + 1).is_some_and(u8::is_ascii_digit) => at += 1,
            _ => break,
        }
    }
    at.max(from + 1)
}

/// An operator, by the server's rules: no comment inside, and no sign at its end unless it has a special character.
fn operator_end(text: &[u8], from: usize) -> usize {
    const OPERATOR: &[u8] = b"+-*/<>=~!@#%^&|`?:";
    let mut end = from;
    while let Some(b) = text.get(end) {
        let comment = matches!((b, text.get(end + 1)), (b'-', Some(b'-')) | (b'/', Some(b'*')));
        if !OPERATOR.contains(b) || (comment && end > from) {
            break;
        }
        end += 1;
    }
    let run = text.get(from..end).unwrap_or_default();
    if !run.iter().any(|b| b"~!@#%^&|`?".contains(b)) {
        while end > from + 1 && matches!(text.get(end - 1), Some(b'+' | b'-')) {
            end -= 1;
        }
    }
    end.max(from + 1)
}

fn push_decimal(out: &mut Vec<u8>, n: usize) {
    if n >= 10 {
        push_decimal(out, n / 10);
    }
    out.push(b'0' + u8::try_from(n % 10).unwrap_or(0));
}

#[cfg(test)]
mod tests;
