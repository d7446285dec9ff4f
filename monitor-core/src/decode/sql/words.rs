//! The tokens of a shape, as statements are read from it by hand.

use super::value::{Value, Wanted};

/// The number of a literal token.
pub(super) fn literal(word: &str) -> Option<Value> {
    let digits = word.strip_prefix('\'').and_then(|w| w.strip_suffix('\'')).unwrap_or(word);
    digits.parse().ok().map(Value::Literal)
}

/// The tokens of a shape: separated by one space, except that quoted names may hold spaces.
#[derive(Clone)]
pub(super) struct Words<'s> {
    shape: &'s str,
    at: usize,
}

impl<'s> Words<'s> {
    pub(super) fn new(shape: &'s str) -> Self {
        Self { shape, at: 0 }
    }

    fn at_cursor(&self) -> Option<&'s str> {
        let rest = self.shape.get(self.at..)?;
        if rest.is_empty() {
            return None;
        }
        let len = if rest.starts_with('"') {
            // A doubled quote goes on; any other ends the name.
            let bytes = rest.as_bytes();
            let mut end = 1;
            loop {
                match memchr::memchr(b'"', bytes.get(end..).unwrap_or_default()) {
                    None => break rest.len(),
                    Some(n) if bytes.get(end + n + 1) == Some(&b'"') => end += n + 2,
                    Some(n) => break end + n + 1,
                }
            }
        } else {
            rest.find(' ').unwrap_or(rest.len())
        };
        rest.get(..len)
    }

    pub(super) fn peek(&self) -> Option<&'s str> {
        self.at_cursor()
    }

    pub(super) fn peek_second(&self) -> Option<&'s str> {
        let mut copy = self.clone();
        copy.next()?;
        copy.next()
    }

    pub(super) fn pass(&mut self, word: &str) {
        if self.peek() == Some(word) {
            self.next();
        }
    }

    /// What is left of `shape`, which these words were made from.
    pub(super) fn rest(&self, shape: &'s str) -> Option<&'s str> {
        shape.get(self.at..).filter(|r| !r.is_empty())
    }

    /// `Some` at the end.
    pub(super) fn end(&self) -> Option<()> {
        self.peek().is_none().then_some(())
    }

    /// A name: as written if quoted.
    pub(super) fn name(&mut self) -> Option<Box<str>> {
        let word = self.next()?;
        match word.strip_prefix('"') {
            Some(rest) => Some(rest.strip_suffix('"').unwrap_or(rest).replace("\"\"", "\"").into()),
            None if is_word(word) => Some(word.into()),
            None => None,
        }
    }

    /// A name with dots; empty if there is none.
    pub(super) fn qualified(&mut self) -> String {
        let mut out = String::new();
        loop {
            let before = self.at;
            match self.name() {
                Some(part) => out.push_str(&part),
                None => {
                    self.at = before;
                    return out;
                }
            }
            if self.peek() != Some(".") {
                return out;
            }
            self.next();
            out.push('.');
        }
    }

    /// A word or string as a value; `None` inside for `DEFAULT`.
    pub(super) fn word_or_string(&mut self) -> Option<Option<Value>> {
        let word = self.peek()?;
        if word == "default" {
            self.next();
            return Some(None);
        }
        if let Some(v) = literal(word).or_else(|| param(word)) {
            self.next();
            return Some(Some(v));
        }
        self.name().map(|n| Some(Value::Fixed(n)))
    }

    /// The values of `SET name = …`; `None` inside for `DEFAULT`. A list is joined as the server does.
    pub(super) fn values(&mut self) -> Option<Option<Value>> {
        if self.peek() == Some("-") || self.peek() == Some("+") {
            let negative = self.next() == Some("-");
            return match literal(self.next()?)? {
                Value::Literal(i) if negative => Some(Some(Value::Negative(i))),
                v => Some(Some(v)),
            };
        }
        let first = self.word_or_string()?;
        if self.peek().is_none() {
            return Some(first);
        }
        let mut parts = vec![first?];
        while self.peek() == Some(",") {
            self.next();
            parts.push(self.word_or_string()??);
        }
        self.end()?;
        Some(Some(Value::List(parts.into())))
    }
}

pub(super) fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

pub(super) fn param(word: &str) -> Option<Value> {
    let n = word.strip_prefix('$')?.parse().ok()?;
    Some(Value::Param(n, Wanted::Text))
}

impl<'s> Iterator for Words<'s> {
    type Item = &'s str;

    fn next(&mut self) -> Option<&'s str> {
        let word = self.at_cursor()?;
        self.at += word.len();
        if self.shape.as_bytes().get(self.at) == Some(&b' ') {
            self.at += 1;
        }
        Some(word)
    }
}
