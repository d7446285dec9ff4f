//! Replies: RESP2 and RESP3, nested to a bound, large ones skipped by length. Nothing of them is kept but hashes, the
//! first word, and which elements are errors.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::command::number;
use crate::decode::DecodeError;
use crate::decode::values::values;
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Longest line, in bytes.
const MAX_LINE: usize = 64 << 10;
/// Bytes that are looked through for values.
const VALUE_BUDGET: usize = 16 << 10;
/// Bytes of the first word that are kept.
const WORD: usize = 24;
/// Elements of an array that are told apart as errors.
const MAX_ELEMENTS: usize = 4096;

/// What a reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A simple string.
    Simple,
    /// An error.
    Error,
    /// Nothing: a null bulk, a null array, a null.
    Null,
    /// An array, a set, a map.
    Aggregate,
    /// A push message.
    Push,
    /// Any other single value.
    Value,
}

/// A whole reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) kind: Kind,
    /// The text of a simple string or error, or the first element of an array, as far as it is kept.
    pub(super) word: SmallVec<[u8; WORD]>,
    /// For an array: which elements are errors.
    pub(super) errors: Vec<bool>,
    /// Hash over all of it; `None` if something was missing.
    pub(super) print: Option<Fingerprint>,
    /// Values in it.
    pub(super) values: Vec<Fingerprint>,
}

/// Who hears replies, and their elements as they come where it wants them. Depth 0 is the reply itself.
pub(super) trait Hears {
    /// A reply begins: whether its elements are wanted.
    fn begins(&mut self, kind: Kind) -> bool {
        let _ = kind;
        false
    }

    /// An array or map begins.
    fn open(&mut self, depth: usize, map: bool) {
        let _ = (depth, map);
    }

    /// A single value begins.
    fn starts(&mut self, depth: usize) {
        let _ = depth;
    }

    /// More of it.
    fn piece(&mut self, bytes: &[u8]) {
        let _ = bytes;
    }

    /// `n` bytes of it are missing here.
    fn missing(&mut self, n: u64) {
        let _ = n;
    }

    /// It has ended.
    fn value(&mut self, depth: usize, kind: Kind) {
        let _ = (depth, kind);
    }

    /// An array or map has ended.
    fn close(&mut self, depth: usize) {
        let _ = depth;
    }

    /// A reply is complete.
    fn reply(&mut self, reply: Reply);
}

impl<F: FnMut(Reply)> Hears for F {
    fn reply(&mut self, reply: Reply) {
        self(reply);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Line,
    Bulk(u64),
    BulkEnd,
}

/// Reads replies however their bytes are cut.
#[derive(Debug)]
pub(super) struct Replies {
    salt: Salt,
    state: State,
    line: Vec<u8>,
    /// A bulk string that comes in pieces, to be looked through when it is whole.
    text: Vec<u8>,
    /// Elements still to come, outermost first.
    stack: SmallVec<[u64; 4]>,
    reply: Option<Reply>,
    hasher: SipHasher13,
    whole: bool,
    budget: usize,
    wanted: bool,
    /// The bulk that is being read is the first element, whose word is kept.
    keeps_word: bool,
    /// Its elements are wanted as they come.
    heard: bool,
    /// What the bulk string is that is being read.
    bulk: Kind,
}

impl Replies {
    pub(super) fn new(salt: Salt) -> Self {
        Self {
            salt,
            state: State::Line,
            line: Vec::new(),
            text: Vec::new(),
            stack: SmallVec::new(),
            reply: None,
            hasher: salt.hasher(),
            whole: true,
            budget: 0,
            wanted: false,
            keeps_word: false,
            heard: false,
            bulk: Kind::Value,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = Self::new(self.salt);
    }

    /// Whether values are looked for.
    pub(super) fn want_values(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    /// Whether the next byte begins a reply.
    pub(super) fn at_start(&self) -> bool {
        self.state == State::Line && self.line.is_empty() && self.reply.is_none()
    }

    /// More bytes: each whole reply, or an error after which nothing is known.
    pub(super) fn feed(&mut self, mut bytes: &[u8], each: &mut dyn Hears) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            match self.state {
                State::Bulk(left) => {
                    let n = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    let (piece, after) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
                    self.piece(piece, left == n as u64);
                    if self.heard {
                        each.piece(piece);
                    }
                    bytes = after;
                    self.state = if left == n as u64 { State::BulkEnd } else { State::Bulk(left - n as u64) };
                }
                State::BulkEnd => match bytes {
                    [b'\r', after @ ..] if self.line.is_empty() => {
                        self.line.push(b'\r');
                        bytes = after;
                    }
                    [b'\n', after @ ..] if self.line == [b'\r'] => {
                        self.line.clear();
                        self.state = State::Line;
                        bytes = after;
                        self.value_ends(self.bulk, each);
                    }
                    _ => return Err(DecodeError::BulkEnd),
                },
                State::Line => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.line.extend_from_slice(bytes);
                        return if self.line.len() > MAX_LINE { Err(DecodeError::LineTooLong) } else { Ok(()) };
                    };
                    let (head, after) = bytes.split_at_checked(end + 1).unwrap_or((bytes, &[]));
                    bytes = after;
                    if self.line.is_empty() {
                        self.take_line(head, each)?;
                    } else {
                        let mut line = std::mem::take(&mut self.line);
                        line.extend_from_slice(head);
                        self.take_line(&line, each)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// `n` bytes are missing. Whether reading can go on.
    pub(super) fn miss(&mut self, n: u64, each: &mut dyn Hears) -> bool {
        match self.state {
            State::Bulk(left) if n <= left => {
                self.whole = false;
                if self.heard {
                    each.missing(n);
                }
                self.budget = 0;
                self.text.clear();
                self.state = if n == left { State::BulkEnd } else { State::Bulk(left - n) };
                true
            }
            _ => false,
        }
    }

    /// Bytes of a bulk string that are still to come.
    pub(super) fn left(&self) -> u64 {
        if let State::Bulk(left) = self.state { left } else { 0 }
    }

    fn take_line(&mut self, line: &[u8], each: &mut dyn Hears) -> Result<(), DecodeError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").ok_or(DecodeError::LineEnd)?;
        let (&kind, rest) = line.split_first().ok_or(DecodeError::EmptyLine)?;
        self.hasher.write(line);
        self.hasher.write_u8(0xff);
        match kind {
            b'*' | b'%' | b'~' | b'>' | b'|' => {
                if rest == b"-1" {
                    self.single(Kind::Null, b"", each);
                    return Ok(());
                }
                let n = number(rest).filter(|n| *n < 1 << 32).ok_or(DecodeError::ArrayLength)?;
                let n = if matches!(kind, b'%' | b'|') { n * 2 } else { n };
                if self.stack.len() >= MAX_DEPTH {
                    return Err(DecodeError::TooDeep);
                }
                // An attribute comes before what it belongs to, and is no element itself.
                let n = if kind == b'|' { n + 1 } else { n };
                self.begin(if kind == b'>' { Kind::Push } else { Kind::Aggregate }, b"", each);
                let depth = self.stack.len();
                // What attributes belong to is not told apart: nothing of such a reply is.
                self.heard &= kind != b'|';
                if self.heard {
                    each.open(depth, kind == b'%');
                }
                if n == 0 {
                    if self.heard {
                        each.close(depth);
                    }
                    self.element(each);
                } else {
                    self.stack.push(n);
                }
            }
            b'$' | b'=' | b'!' => {
                if rest == b"-1" {
                    self.single(Kind::Null, b"", each);
                    return Ok(());
                }
                let n = number(rest).ok_or(DecodeError::BulkLength)?;
                self.bulk = if kind == b'!' { Kind::Error } else { Kind::Value };
                self.begin(self.bulk, b"", each);
                if self.heard {
                    each.starts(self.stack.len());
                }
                let reply = self.reply.as_ref();
                self.keeps_word =
                    self.stack.len() <= 1 && reply.is_some_and(|r| r.word.is_empty() && r.errors.len() <= 1);
                self.state = if n == 0 { State::BulkEnd } else { State::Bulk(n) };
            }
            b'+' => self.single(Kind::Simple, rest, each),
            b'-' => self.single(Kind::Error, rest, each),
            b':' | b',' | b'#' | b'(' => self.single(Kind::Value, rest, each),
            b'_' => self.single(Kind::Null, b"", each),
            _ => return Err(DecodeError::ReplyType),
        }
        Ok(())
    }

    /// A value that is one line.
    fn single(&mut self, kind: Kind, text: &[u8], each: &mut dyn Hears) {
        self.begin(kind, text, each);
        if matches!(kind, Kind::Simple | Kind::Value) {
            self.values(text);
        }
        if self.heard {
            each.starts(self.stack.len());
            each.piece(text);
        }
        self.value_ends(kind, each);
    }

    fn value_ends(&mut self, kind: Kind, each: &mut dyn Hears) {
        if self.heard {
            each.value(self.stack.len(), kind);
        }
        self.element(each);
    }

    /// A value begins: a reply's own, or an element of one.
    fn begin(&mut self, kind: Kind, word: &[u8], each: &mut dyn Hears) {
        let kept = || word.iter().copied().take(WORD).collect();
        match (&mut self.reply, self.stack.len()) {
            (None, _) => {
                self.whole = true;
                self.heard = each.begins(kind);
                self.budget = if self.wanted { VALUE_BUDGET } else { 0 };
                self.reply = Some(Reply { kind, word: kept(), errors: Vec::new(), print: None, values: Vec::new() });
            }
            (Some(reply), 1) => {
                if reply.errors.is_empty() && reply.word.is_empty() {
                    reply.word = kept();
                }
                if reply.errors.len() < MAX_ELEMENTS {
                    reply.errors.push(kind == Kind::Error);
                }
            }
            _ => {}
        }
    }

    fn values(&mut self, text: &[u8]) {
        if self.budget == 0 {
            return;
        }
        let part = text.get(..self.budget.min(text.len())).unwrap_or(text);
        self.budget -= part.len();
        if let Some(reply) = &mut self.reply {
            values(self.salt, part, &mut |v| {
                if reply.values.len() < 64 && !reply.values.contains(&v) {
                    reply.values.push(v);
                }
            });
        }
    }

    fn piece(&mut self, bytes: &[u8], last: bool) {
        self.hasher.write(bytes);
        if let Some(reply) = self.reply.as_mut().filter(|_| self.keeps_word) {
            let room = WORD.saturating_sub(reply.word.len());
            reply.word.extend(bytes.iter().copied().take(room));
        }
        if self.budget > 0 {
            // A bulk that comes in pieces is looked through when it is whole; a large one is not.
            self.text(bytes, last);
        }
    }

    fn text(&mut self, bytes: &[u8], last: bool) {
        if self.text.is_empty() && last {
            self.values(bytes);
            return;
        }
        if self.text.len() + bytes.len() > VALUE_BUDGET {
            self.text.clear();
            self.budget = 0;
            return;
        }
        self.text.extend_from_slice(bytes);
        if last {
            let text = std::mem::take(&mut self.text);
            self.values(&text);
        }
    }

    /// A value has ended.
    fn element(&mut self, each: &mut dyn Hears) {
        self.keeps_word = false;
        while let Some(left) = self.stack.last_mut() {
            *left -= 1;
            if *left > 0 {
                return;
            }
            self.stack.pop();
            if self.heard {
                each.close(self.stack.len());
            }
        }
        self.heard = false;
        if let Some(mut reply) = self.reply.take() {
            let hasher = std::mem::replace(&mut self.hasher, self.salt.hasher());
            reply.print = self.whole.then(|| Fingerprint(hasher.finish()));
            each.reply(reply);
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.line.capacity()
            + self.text.capacity()
            + self.reply.as_ref().map_or(0, |r| r.errors.capacity() + r.values.capacity() * size_of::<Fingerprint>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&[u8]]) -> Result<Vec<String>, DecodeError> {
        let mut r = Replies::new(Salt(1, 2));
        r.want_values(true);
        let mut out = Vec::new();
        for piece in pieces {
            r.feed(piece, &mut |reply: Reply| {
                let word = String::from_utf8_lossy(&reply.word).into_owned();
                let print = reply.print.map(|p| p.0 & 0xff);
                out.push(format!("{:?} {word} {:?} {} {print:?}", reply.kind, reply.errors, reply.values.len()));
            })?;
        }
        Ok(out)
    }

    #[test]
    fn every_type_and_every_cut() {
        let text = b"+OK\r\n-ERR no\r\n:12\r\n$5\r\nhello\r\n$-1\r\n*-1\r\n*0\r\n*3\r\n$7\r\nmessage\r\n*1\r\n:1\r\n-ERR x\r\n\
            %1\r\n+a\r\n#t\r\n~1\r\n,1.5\r\n>2\r\n+invalidate\r\n_\r\n|1\r\n+ttl\r\n:3\r\n$3\r\nabc\r\n=8\r\ntxt:some\r\n(123\r\n!3\r\nERR\r\n";
        let whole = read(&[text]).unwrap();
        assert_eq!(whole.len(), 15, "{whole:#?}");
        assert!(whole[7].starts_with("Aggregate message [false, false, true]"), "{}", whole[7]);
        for cut in 0..=text.len() {
            assert_eq!(read(&[&text[..cut], &text[cut..]]).unwrap(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn deep_nesting_and_nonsense_are_errors() {
        assert!(read(&[&b"*1\r\n".repeat(MAX_DEPTH + 1)]).is_err());
        for bad in [&b"*x\r\n"[..], b"HTTP/1.1 200 OK\r\n", b"$1\r\nab\r\n", b"\n"] {
            assert!(read(&[bad]).is_err(), "{bad:?}");
        }
    }
}
