//! Message framing of one direction: `type(1) length(4) body`, cut out of bytes however they arrive.
//!
//! A body is kept to [`KEEP`] bytes at most; what is longer, and the bulk of results, is counted and hashed as it
//! passes. Bytes missing inside a body cost that message only, as its length is known; bytes missing elsewhere cost
//! the place in the stream. Formats: PostgreSQL manual, chapter "Frontend/Backend Protocol".

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::kinds::{client, server};
use super::rows::Rows;
use crate::decode::DecodeError;
use crate::decode::wire::Reader;
use crate::model::Side;
use crate::model::claim::Salt;

/// Most bytes of one message held.
pub(super) const KEEP: usize = 64 << 10;
/// Longest body: the server's own limit (`PQ_LARGE_MESSAGE_LIMIT`).
const MAX_BODY: u32 = 0x3fff_ffff - 4;
/// A buffer larger than this is given back when its message is done.
const IDLE_BUFFER: usize = 4 << 10;

/// A message that has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// Its type.
    pub(super) kind: u8,
    /// Its body, as far as it is kept.
    pub(super) body: &'a [u8],
    /// The body goes on beyond what is kept.
    pub(super) cut: bool,
    /// Hash of the body without its leading names (see [`How::Own`]); `None` if not hashed or not seen whole.
    pub(super) print: Option<u64>,
}

/// How a type's body is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Not.
    Not,
    /// For itself, after so many zero-terminated names: poolers rename statements.
    Own(u8),
    /// Together with what passed since the last [`Passing::take`], header included.
    Running,
    /// So too, and looked through for values.
    Rows,
}

/// What is done with a type's body.
#[derive(Clone, Copy, Debug)]
struct Care {
    keep: usize,
    how: How,
    /// Least and most body length.
    len: (u32, u32),
}

fn care(side: Side, kind: u8) -> Option<Care> {
    let any = (0, MAX_BODY);
    let c = |keep, how, len| Some(Care { keep, how, len });
    match (side, kind) {
        (Side::Client, client::QUERY) => c(KEEP, How::Own(0), (1, MAX_BODY)),
        (Side::Client, client::PARSE) => c(KEEP, How::Own(1), (4, MAX_BODY)),
        (Side::Client, client::BIND) => c(KEEP, How::Own(2), (8, MAX_BODY)),
        (Side::Client, client::EXECUTE) => c(KEEP, How::Not, (5, KEEP as u32)),
        (Side::Client, client::DESCRIBE | client::CLOSE) => c(KEEP, How::Not, (2, KEEP as u32)),
        (Side::Client, client::FUNCTION_CALL) => c(4, How::Own(0), (10, MAX_BODY)),
        (Side::Client, client::SYNC | client::FLUSH | client::TERMINATE | client::COPY_DONE) => c(0, How::Not, (0, 0)),
        (Side::Client, client::COPY_DATA) => c(0, How::Not, any),
        (Side::Client, client::COPY_FAIL) => c(0, How::Not, (1, KEEP as u32)),
        // Passwords and SASL: never kept, never hashed.
        (Side::Client, client::PASSWORD) => c(0, How::Not, (0, KEEP as u32)),
        (Side::Server, server::DATA_ROW) => c(0, How::Rows, (2, MAX_BODY)),
        (Side::Server, server::COPY_DATA) => c(0, How::Running, any),
        (Side::Server, server::COMMAND_COMPLETE) => c(KEEP, How::Running, (1, 256)),
        (Side::Server, server::ERROR_RESPONSE | server::NOTICE_RESPONSE) => c(KEEP, How::Not, (1, MAX_BODY)),
        (Side::Server, server::READY_FOR_QUERY) => c(1, How::Not, (1, 1)),
        (Side::Server, server::AUTHENTICATION) => c(4, How::Not, (4, KEEP as u32)),
        (Side::Server, server::PARAMETER_STATUS) => c(256, How::Not, (2, KEEP as u32)),
        (Side::Server, server::BACKEND_KEY_DATA) => c(0, How::Not, (4, 512)),
        (
            Side::Server,
            server::PARSE_COMPLETE
            | server::BIND_COMPLETE
            | server::CLOSE_COMPLETE
            | server::NO_DATA
            | server::PORTAL_SUSPENDED
            | server::EMPTY_QUERY_RESPONSE
            | server::COPY_DONE,
        ) => c(0, How::Not, (0, 0)),
        (Side::Server, server::ROW_DESCRIPTION) => c(0, How::Not, (2, MAX_BODY)),
        (Side::Server, server::PARAMETER_DESCRIPTION) => c(0, How::Not, (2, MAX_BODY)),
        (Side::Server, server::COPY_IN_RESPONSE | server::COPY_OUT_RESPONSE | server::COPY_BOTH_RESPONSE) => {
            c(0, How::Not, (3, KEEP as u32 * 4))
        }
        (Side::Server, server::FUNCTION_CALL_RESPONSE) => c(0, How::Running, (4, MAX_BODY)),
        (Side::Server, server::NOTIFICATION_RESPONSE) => c(0, How::Not, (6, KEEP as u32)),
        (Side::Server, server::NEGOTIATE_PROTOCOL_VERSION) => c(0, How::Not, (8, KEEP as u32)),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug)]
struct Open {
    kind: u8,
    care: Care,
    /// Body bytes still to come.
    left: u32,
    /// Bytes are missing: nothing more is kept.
    holed: bool,
    /// Zero-terminated names still to pass before hashing begins.
    names: u8,
}

/// What a direction's messages go through as they pass: a hash, and the search for values in rows.
#[derive(Debug)]
pub(super) struct Passing {
    salt: Salt,
    hasher: SipHasher13,
    whole: bool,
    /// Values in the rows of the reply.
    pub(super) rows: Rows,
}

impl Passing {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, hasher: salt.hasher(), whole: true, rows: Rows::new(salt) }
    }

    /// The hash of everything since the last call; `None` if some of it was missing.
    pub(super) fn take(&mut self) -> Option<u64> {
        self.rows.restart();
        let hasher = std::mem::replace(&mut self.hasher, self.salt.hasher());
        std::mem::replace(&mut self.whole, true).then(|| hasher.finish())
    }

    /// Adds to it.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }
}

/// The framing of one direction.
#[derive(Debug)]
pub(super) struct Framer {
    side: Side,
    header: [u8; 5],
    n_header: u8,
    open: Option<Open>,
    body: Vec<u8>,
}

impl Framer {
    pub(super) fn new(side: Side) -> Self {
        Self { side, header: [0; 5], n_header: 0, open: None, body: Vec::new() }
    }

    /// Drops what is half read and starts at a message's first byte.
    pub(super) fn restart(&mut self) {
        *self = Self::new(self.side);
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.body.capacity()
    }

    /// The next message that ends in `input`, which is moved on past what was read.
    ///
    /// # Errors
    ///
    /// When the bytes are no message; the framer must then be restarted.
    pub(super) fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i [u8],
        passing: &mut Passing,
    ) -> Result<Option<Message<'a>>, DecodeError> {
        let mut open = match self.open {
            Some(open) => open,
            None => match self.read_header(input, passing)? {
                Some(open) => open,
                None => return Ok(None),
            },
        };
        let take = (open.left as usize).min(input.len());
        let (now, rest) = input.split_at_checked(take).unwrap_or((input, &[]));
        *input = rest;
        open.left -= u32::try_from(take).unwrap_or(open.left);
        hash(&mut open, now, passing);
        let whole_here = open.left == 0 && self.body.is_empty() && !open.holed;
        if !whole_here && !open.holed {
            let room = open.care.keep.saturating_sub(self.body.len());
            self.body.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
        }
        if open.left > 0 {
            self.open = Some(open);
            return Ok(None);
        }
        self.open = None;
        self.n_header = 0;
        let len = u32::from_be_bytes([self.header[1], self.header[2], self.header[3], self.header[4]]);
        let kept = if whole_here { now.get(..open.care.keep.min(now.len())).unwrap_or_default() } else { &self.body };
        let print = if matches!(open.care.how, How::Own(_)) { passing.take() } else { None };
        Ok(Some(Message {
            kind: open.kind,
            body: kept,
            cut: open.holed || (kept.len() as u32) < len.saturating_sub(4),
            print,
        }))
    }

    fn read_header(&mut self, input: &mut &[u8], passing: &mut Passing) -> Result<Option<Open>, DecodeError> {
        if self.n_header == 0 {
            self.body.clear();
            if self.body.capacity() > IDLE_BUFFER {
                self.body = Vec::new();
            }
        }
        while self.n_header < 5 {
            let Some((&b, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            if let Some(slot) = self.header.get_mut(usize::from(self.n_header)) {
                *slot = b;
            }
            self.n_header += 1;
        }
        let [kind, a, b, c, d] = self.header;
        let care = care(self.side, kind).ok_or(DecodeError::MessageType)?;
        let left = u32::from_be_bytes([a, b, c, d]).checked_sub(4).ok_or(DecodeError::MessageLength)?;
        if left < care.len.0 || left > care.len.1 {
            return Err(DecodeError::MessageLength);
        }
        let mut names = 0;
        match care.how {
            How::Own(n) => {
                passing.take();
                names = n;
            }
            How::Running => passing.add(&self.header),
            How::Rows => {
                passing.add(&self.header);
                passing.rows.begin();
            }
            How::Not => {}
        }
        Ok(Some(Open { kind, care, left, holed: false, names }))
    }

    /// `n` bytes are missing here. Gives whether the place in the stream is still known.
    pub(super) fn missing(&mut self, n: u64, passing: &mut Passing) -> bool {
        let Some(open) = &mut self.open else { return false };
        let Ok(n) = u32::try_from(n) else { return false };
        if n == 0 {
            return true;
        }
        // When the hole reaches the body's end, `next` gives the message for an empty input.
        if n > open.left {
            return false;
        }
        open.left -= n;
        open.holed = true;
        if open.care.how != How::Not {
            passing.whole = false;
        }
        if open.care.how == How::Rows {
            passing.rows.hole();
        }
        true
    }
}

fn hash(open: &mut Open, bytes: &[u8], passing: &mut Passing) {
    if open.care.how == How::Not {
        return;
    }
    let mut bytes = bytes;
    while open.names > 0 {
        match memchr::memchr(0, bytes) {
            Some(end) => {
                bytes = bytes.get(end + 1..).unwrap_or_default();
                open.names -= 1;
            }
            None => return,
        }
    }
    passing.add(bytes);
    if open.care.how == How::Rows {
        passing.rows.feed(bytes);
    }
}

/// Whether `bytes` are whole messages from `side`, one after the other. Convincing only with a look at their content:
/// see [`super::resync`].
pub(super) fn split(side: Side, bytes: &[u8]) -> Option<Vec<(u8, &[u8])>> {
    let mut out = Vec::new();
    let mut rest = Reader::new(bytes);
    while !rest.is_empty() {
        let kind = rest.u8()?;
        let care = care(side, kind)?;
        let len = rest.u32()?.checked_sub(4)?;
        if len < care.len.0 || len > care.len.1 {
            return None;
        }
        out.push((kind, rest.take(len as usize)?));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![kind];
        out.extend((u32::try_from(body.len()).unwrap() + 4).to_be_bytes());
        out.extend(body);
        out
    }

    type Frame = (u8, Vec<u8>, bool, Option<u64>);

    fn frames(side: Side, pieces: &[&[u8]]) -> Result<Vec<Frame>, DecodeError> {
        let (mut framer, mut passing) = (Framer::new(side), Passing::new(Salt(1, 2)));
        let mut out = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(m) = framer.next(&mut piece, &mut passing)? {
                out.push((m.kind, m.body.to_vec(), m.cut, m.print));
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_are_the_same_at_every_split() {
        let mut bytes = message(b'Q', b"select 1\0");
        bytes.extend(message(b'P', b"name\0select $1\0\0\0"));
        bytes.extend(message(b'S', b""));
        let whole = frames(Side::Client, &[&bytes]).unwrap();
        assert_eq!(whole.len(), 3);
        for at in 0..=bytes.len() {
            let (a, b) = bytes.split_at(at);
            assert_eq!(frames(Side::Client, &[a, b]).unwrap(), whole, "split at {at}");
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(frames(Side::Client, &single).unwrap(), whole);
    }

    #[test]
    fn a_renamed_statement_has_the_same_print() {
        let a = frames(Side::Client, &[&message(b'P', b"stmt_1\0select $1\0\0\0")]).unwrap();
        let b = frames(Side::Client, &[&message(b'P', b"PGBOUNCER_27\0select $1\0\0\0")]).unwrap();
        assert!(a[0].3.is_some());
        assert_eq!(a[0].3, b[0].3);
        let a = frames(Side::Client, &[&message(b'B', b"\0s\0\0\0\0\x01\0\0\0\x01x\0\0")]).unwrap();
        let b = frames(Side::Client, &[&message(b'B', b"p\0tt\0\0\0\0\x01\0\0\0\x01x\0\0")]).unwrap();
        assert_eq!(a[0].3, b[0].3);
    }

    #[test]
    fn a_long_body_is_kept_in_part_and_hashed_whole() {
        let long = message(b'Q', &vec![b'x'; KEEP + 10]);
        let a = frames(Side::Client, &[&long]).unwrap();
        let (x, y) = long.split_at(100);
        assert_eq!(a, frames(Side::Client, &[x, y]).unwrap());
        assert_eq!((a[0].1.len(), a[0].2), (KEEP, true));
        let mut other = long.clone();
        *other.last_mut().unwrap() = b'y';
        assert_ne!(a[0].3, frames(Side::Client, &[&other]).unwrap()[0].3);
    }

    #[test]
    fn a_hole_in_a_body_costs_that_message_only() {
        let (mut framer, mut passing) = (Framer::new(Side::Client), Passing::new(Salt(1, 2)));
        let mut bytes = message(b'Q', b"select 1, 2, 3\0");
        bytes.extend(message(b'S', b""));
        let (a, b) = bytes.split_at(9);
        let mut a: &[u8] = a;
        assert!(framer.next(&mut a, &mut passing).unwrap().is_none());
        assert!(framer.missing(4, &mut passing));
        let mut b = &b[4..];
        let m = framer.next(&mut b, &mut passing).unwrap().unwrap();
        assert_eq!((m.kind, m.body, m.cut, m.print), (b'Q', b"sele".as_slice(), true, None));
        assert_eq!(framer.next(&mut b, &mut passing).unwrap().unwrap().kind, b'S');
        assert!(!framer.missing(1, &mut passing), "a hole between messages loses the place");
    }

    #[test]
    fn errors_are_precise() {
        assert_eq!(frames(Side::Client, &[b"?\0\0\0\x04"]).unwrap_err(), DecodeError::MessageType);
        assert_eq!(frames(Side::Client, &[b"Q\0\0\0\x03"]).unwrap_err(), DecodeError::MessageLength);
        assert_eq!(frames(Side::Server, &[b"Z\0\0\0\x06II"]).unwrap_err(), DecodeError::MessageLength);
        assert_eq!(frames(Side::Client, &[b"Q\xff\xff\xff\xff"]).unwrap_err(), DecodeError::MessageLength);
    }
}
