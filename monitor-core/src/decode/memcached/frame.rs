//! Lines, and blocks of data that a line announces. Source: memcached's `doc/protocol.txt`.
//!
//! Memory: one line of 64 KiB; of a block 128 bytes, and hashes of its first values.

use smallvec::SmallVec;

use crate::decode::DecodeError;
use crate::decode::head::Head;
use crate::decode::values::Values;
use crate::model::Fingerprint;
use crate::model::claim::Salt;

/// Longest line: a `get` of many keys.
const MAX_LINE: usize = 64 << 10;
/// A buffer larger than this is given back.
const IDLE_LINE: usize = 4 << 10;
/// Bytes of a block that are kept.
const KEEP: usize = 128;
/// Bytes of a block that are looked through for values.
const LOOKED_AT: usize = 16 << 10;
/// Most values of a block.
const MAX_VALUES: usize = 64;

/// A block of data.
#[derive(Debug)]
pub(super) struct Block {
    /// Covers it; `None`: it was not seen whole.
    pub(super) print: Option<Fingerprint>,
    /// All of it, if it is short.
    pub(super) whole: Option<SmallVec<[u8; KEEP]>>,
    /// Values in it, where these are of use.
    pub(super) values: SmallVec<[Fingerprint; 4]>,
}

/// What looks for values in a block.
#[derive(Debug)]
struct Look {
    splitter: Values,
    /// Bytes still to be looked at.
    left: usize,
    found: SmallVec<[Fingerprint; 4]>,
}

impl Look {
    fn new(salt: Salt) -> Self {
        Self { splitter: Values::new(salt), left: LOOKED_AT, found: SmallVec::new() }
    }

    fn piece(&mut self, bytes: &[u8]) {
        let (now, rest) = bytes.split_at_checked(self.left).unwrap_or((bytes, &[]));
        self.left -= now.len();
        let found = &mut self.found;
        self.splitter.feed(now, &mut |value| note(found, value));
        if !rest.is_empty() {
            // The value that goes on there is not known whole.
            self.splitter.forget();
        }
    }

    fn missing(&mut self, n: u64) {
        self.left = self.left.saturating_sub(usize::try_from(n).unwrap_or(usize::MAX));
        self.splitter.forget();
    }

    fn end(mut self) -> SmallVec<[Fingerprint; 4]> {
        self.splitter.end(&mut |value| note(&mut self.found, value));
        self.found
    }
}

fn note(found: &mut SmallVec<[Fingerprint; 4]>, value: Fingerprint) {
    if found.len() < MAX_VALUES && !found.contains(&value) {
        found.push(value);
    }
}

#[derive(Debug)]
struct Open {
    /// Bytes still to come, without the line end.
    left: u64,
    /// Bytes of the line end still to come.
    end: u8,
    head: Head,
    kept: SmallVec<[u8; KEEP]>,
    short: bool,
    values: Option<Look>,
}

/// What one side has said.
#[derive(Debug)]
pub(super) enum Item {
    /// A line, without its end.
    Line(Vec<u8>),
    /// The block that the line before it has announced.
    Data(Block),
}

/// Cuts one direction.
#[derive(Debug)]
pub(super) struct Framer {
    salt: Salt,
    line: Vec<u8>,
    open: Option<Open>,
}

impl Framer {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, line: Vec::new(), open: None }
    }

    pub(super) fn restart(&mut self) {
        *self = Self::new(self.salt);
    }

    pub(super) fn memory(&self) -> usize {
        let found = self.open.as_ref().and_then(|open| open.values.as_ref()).map(|look| &look.found);
        self.line.capacity() + found.filter(|f| f.spilled()).map_or(0, |f| f.capacity() * size_of::<Fingerprint>())
    }

    /// The line announces so many bytes of data. `values`: those in it are of use.
    pub(super) fn expect(&mut self, n: u64, values: bool) {
        self.open = Some(Open {
            left: n,
            end: 2,
            head: Head::new(self.salt),
            kept: SmallVec::new(),
            short: n <= KEEP as u64,
            values: values.then(|| Look::new(self.salt)),
        });
    }

    /// A line that was read: its buffer is used again.
    pub(super) fn give_back(&mut self, mut line: Vec<u8>) {
        line.clear();
        line.shrink_to(IDLE_LINE);
        self.line = line;
    }

    /// The next item that ends in `input`, which is moved on past what was read.
    ///
    /// # Errors
    /// A line that is too long, or data that does not end where it should.
    pub(super) fn next(&mut self, input: &mut &[u8]) -> Result<Option<Item>, DecodeError> {
        let Some(open) = &mut self.open else {
            let end = memchr::memchr(b'\n', input);
            let (now, rest) = input.split_at_checked(end.map_or(input.len(), |n| n + 1)).unwrap_or((input, &[]));
            *input = rest;
            if self.line.len() + now.len() > MAX_LINE {
                return Err(DecodeError::LineTooLong);
            }
            self.line.extend_from_slice(now);
            if end.is_none() {
                return Ok(None);
            }
            let mut line = std::mem::take(&mut self.line);
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(Item::Line(line)));
        };
        let take = usize::try_from(open.left).unwrap_or(usize::MAX).min(input.len());
        let (now, rest) = input.split_at_checked(take).unwrap_or((input, &[]));
        *input = rest;
        open.left -= now.len() as u64;
        open.head.piece(now);
        if open.short {
            open.kept.extend_from_slice(now);
        }
        if let Some(look) = &mut open.values {
            look.piece(now);
        }
        while open.left == 0 && open.end > 0 {
            let Some((&b, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            if b != if open.end == 2 { b'\r' } else { b'\n' } {
                return Err(DecodeError::PayloadEnd);
            }
            open.end -= 1;
        }
        if open.left > 0 {
            return Ok(None);
        }
        let Some(open) = self.open.take() else { return Ok(None) };
        let print = open.head.print();
        let whole = (open.short && print.is_some()).then_some(open.kept);
        let values = open.values.map(Look::end).unwrap_or_default();
        Ok(Some(Item::Data(Block { print, whole, values })))
    }

    /// `n` bytes are missing here. Whether the place is still known.
    pub(super) fn missing(&mut self, n: u64) -> bool {
        let Some(open) = self.open.as_mut().filter(|open| open.end == 2 && n <= open.left) else { return false };
        open.left -= n;
        open.head.missing(n);
        open.short = false;
        if let Some(look) = &mut open.values {
            look.missing(n);
        }
        true
    }
}
