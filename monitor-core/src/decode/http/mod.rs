//! HTTP/1.1 (RFC 9110, RFC 9112), both sides.
//!
//! Every request proves itself anew; only Negotiate and NTLM authenticate the connection (RFC 4559). Bodies are framed,
//! their values offered to attribution, and their messages to a protocol on top ([`crate::decode::body`]).
//!
//! Servers read more than the standard allows, and a tenant could hide behind what is not read here. So what begins like a
//! request always becomes an operation, with what it names; where it is not as it should be, how it ended is unknown
//! unless it was refused. Only where the two ends may disagree about its end is the place lost, until the next request.
//!
//! Memory: at most one head per direction (64 KiB), 64 requests without an answer, what the encodings of a body need
//! ([`coding`]), and what the reader on top holds.

mod caching;
mod coding;
mod cookies;
mod direction;
mod exchange;
mod framing;
pub mod fuzz;
mod identity;
mod index;
pub(crate) mod look;
mod pairing;
mod patient;

use std::rc::Rc;

use crate::model::claim::Salt;
use crate::model::{HeaderPolicy, Nanos, Protocol, Side, TxStatus};

use super::body::{BodyReader, RequestHead, ResponseHead};
use super::shape::Shapes;
use super::{Appetite, Chunk, DecodeError, Decoder, Disturbance, Sink};
use coding::{Coding, Credit};
use direction::{MAX_HEAD, Read, Step};
use exchange::{Exchange, Text};
use framing::framing;
use look::Look;

/// Most headers of one message.
const MAX_HEADERS: usize = 128;
/// Most requests without an answer on one connection.
const MAX_OPEN: usize = 64;
/// Malformed input in a row, without a request answered in between, after which the connection is given up.
const MAX_MALFORMED: u32 = 8;
/// A client that pipelines may have answers on their way whenever it sends, except after such a pause.
const QUIET: Nanos = Nanos::millis(1000);
/// Bytes of a segment that are enough where a body is only counted.
const HEAD_BUDGET: u32 = 4 << 10;
/// From this size on, what is left of a body nobody reads is not copied.
const LARGE: u64 = 64 << 10;
/// The same for a chunk, whose end is followed by framing in the same segment.
const LARGE_CHUNK: u64 = 4 << 20;

/// What the HTTP decoders of one engine share.
#[derive(Clone, Debug)]
pub struct Shared {
    headers: Rc<HeaderPolicy>,
    shapes: Shapes,
    unpacking: coding::Memory,
}

impl Shared {
    /// With the operator's list of headers.
    pub fn new(headers: HeaderPolicy) -> Self {
        Self { headers: Rc::new(headers), shapes: Shapes::default(), unpacking: coding::Memory::default() }
    }

    /// Another list, for connections that are opened from now on.
    pub fn set_headers(&mut self, headers: HeaderPolicy) {
        self.headers = Rc::new(headers);
    }
}

/// One direction of the connection.
#[derive(Debug)]
struct Direction {
    read: Read,
    /// What is there of a head or a line that is not whole.
    held: Vec<u8>,
    /// The chunk before ended a segment, or something is missing: the next one may begin a message.
    at_start: bool,
    text: Text,
    coding: Coding,
    credit: Credit,
}

impl Direction {
    fn new(salt: Salt, lost: bool) -> Self {
        let read = if lost { Read::Lost } else { Read::Head };
        Self {
            read,
            held: Vec::new(),
            at_start: true,
            text: Text::new(salt),
            coding: Coding::default(),
            credit: Credit::default(),
        }
    }
}

/// The decoder.
pub struct Http {
    salt: Salt,
    shared: Shared,
    reader: Option<Box<dyn BodyReader>>,
    client: Direction,
    server: Direction,
    open: std::collections::VecDeque<Exchange>,
    /// Number of the latest request.
    latest: u64,
    /// The latest request's body is still coming.
    sending: bool,
    /// The latest request's sender waits for 100 (Continue), and nothing of its body has come.
    expects: bool,
    /// What the server is saying answers no request.
    stray: bool,
    /// The place was found again, and no answer has confirmed it yet.
    unsure: bool,
    /// Several requests were outstanding at once.
    pipelined: bool,
    /// What follows this request's upgrade is read by the protocol on top.
    upgraded: Option<u64>,
    /// When anything was last said.
    last: Nanos,
    /// Nothing was missed since the connection's start.
    whole: bool,
    /// The connection is older than the agent, and nothing was said about it yet.
    unannounced: bool,
    n_malformed: u32,
    over: bool,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").field("client", &self.client.read).field("server", &self.server.read).finish()
    }
}

impl Http {
    /// A decoder for one connection. `reader`: a protocol on top, if there is one.
    pub fn new(salt: Salt, mid_stream: bool, shared: &Shared, reader: Option<Box<dyn BodyReader>>) -> Self {
        Self {
            salt,
            shared: shared.clone(),
            reader,
            client: Direction::new(salt, mid_stream),
            server: Direction::new(salt, mid_stream),
            open: std::collections::VecDeque::new(),
            latest: 0,
            sending: false,
            expects: false,
            stray: false,
            unsure: false,
            pipelined: false,
            upgraded: None,
            last: Nanos(0),
            whole: !mid_stream,
            unannounced: mid_stream,
            n_malformed: 0,
            over: false,
        }
    }

    fn direction(&mut self, from: Side) -> &mut Direction {
        if from == Side::Client { &mut self.client } else { &mut self.server }
    }

    /// The request that a piece of body of this direction belongs to, and whether a protocol on top reads it.
    fn current(&self, from: Side) -> Option<(u64, bool)> {
        if let Some(number) = self.upgraded {
            return Some((number, true));
        }
        let x = match from {
            Side::Client => self.open.back().filter(|_| self.sending),
            Side::Server => self.open.front().filter(|_| !self.stray),
        };
        x.map(|x| (x.number, x.read_on_top))
    }

    /// Reads as far as the bytes go. What is left over is held.
    fn read(&mut self, from: Side, at: Nanos, mut bytes: &[u8], sink: &mut dyn Sink) {
        while !self.over && !bytes.is_empty() {
            match self.direction(from).read {
                Read::Lost => return,
                Read::Head => {
                    // A line end before a head is to be ignored (RFC 9112 §2.2).
                    let skipped = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
                    bytes = bytes.get(skipped..).unwrap_or_default();
                    if bytes.is_empty() {
                        return;
                    }
                    let before = self.latest;
                    match self.head(from, at, bytes, sink) {
                        Ok(Some(n)) => bytes = bytes.get(n..).unwrap_or_default(),
                        Ok(None) => {
                            self.hold(from, at, bytes, sink);
                            return;
                        }
                        Err(kind) => {
                            self.no_head(from, before, at, kind, sink);
                            return;
                        }
                    }
                }
                mut read => {
                    let step = read.step(bytes);
                    self.direction(from).read = read;
                    match step {
                        Step::Body(n) => {
                            self.piece(from, at, bytes.get(..n).unwrap_or_default(), sink);
                            bytes = bytes.get(n..).unwrap_or_default();
                            if read == Read::Body(0) {
                                self.end(from, at, sink);
                            }
                        }
                        Step::Skip(n) => bytes = bytes.get(n..).unwrap_or_default(),
                        Step::End(n) => {
                            bytes = bytes.get(n..).unwrap_or_default();
                            self.end(from, at, sink);
                        }
                        Step::NeedMore => {
                            self.hold(from, at, bytes, sink);
                            return;
                        }
                        Step::Malformed(kind) => {
                            self.malformed(from, at, kind, sink);
                            return;
                        }
                    }
                }
            }
        }
    }

    fn hold(&mut self, from: Side, at: Nanos, bytes: &[u8], sink: &mut dyn Sink) {
        if bytes.len() > MAX_HEAD {
            if self.direction(from).read == Read::Head {
                self.no_head(from, self.latest, at, DecodeError::HeadTooLong, sink);
            } else {
                self.malformed(from, at, DecodeError::HeadTooLong, sink);
            }
            return;
        }
        let held = &mut self.direction(from).held;
        held.clear();
        held.extend_from_slice(bytes);
    }

    /// A head, if it is whole: how long it is.
    fn head(&mut self, from: Side, at: Nanos, bytes: &[u8], sink: &mut dyn Sink) -> Result<Option<usize>, DecodeError> {
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let (proper, n) = if from == Side::Client {
            let mut head = httparse::Request::new(&mut headers);
            match head.parse(bytes) {
                Ok(httparse::Status::Partial) => return Ok(None),
                Ok(httparse::Status::Complete(n)) if n <= MAX_HEAD => {
                    let head = RequestHead {
                        method: head.method.unwrap_or_default(),
                        target: head.path.unwrap_or_default(),
                        headers: head.headers,
                        irregular: false,
                    };
                    self.request(&head, framing(head.headers), at, sink)?;
                    return Ok(Some(n));
                }
                Ok(_) => return Err(DecodeError::HeadTooLong),
                Err(error) => (kind(error), patient::request(bytes)),
            }
        } else {
            let mut head = httparse::Response::new(&mut headers);
            match head.parse(bytes) {
                Ok(httparse::Status::Partial) => return Ok(None),
                Ok(httparse::Status::Complete(n)) if n <= MAX_HEAD => {
                    let head = ResponseHead { status: head.code.unwrap_or_default(), headers: head.headers };
                    self.response(&head, framing::of_response(head.headers), at, sink);
                    return Ok(Some(n));
                }
                Ok(_) => return Err(DecodeError::HeadTooLong),
                Err(error) => (kind(error), patient::response(bytes)),
            }
        };
        self.patient_head(from, at, proper, n, sink)
    }

    /// A head that is not as the standard has it, as it may have been read at the other end. `kind`: what is wrong.
    fn patient_head(
        &mut self,
        from: Side,
        at: Nanos,
        kind: DecodeError,
        read: Result<Option<patient::Head>, patient::NoHead>,
        sink: &mut dyn Sink,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(head) = read.map_err(|patient::NoHead| kind)? else { return Ok(None) };
        if head.len > MAX_HEAD {
            return Err(DecodeError::HeadTooLong);
        }
        let headers = head.headers();
        if from == Side::Server {
            let told = ResponseHead { status: head.status(), headers: &headers };
            self.response(&told, framing::of_response(&headers), at, sink);
            return Ok(Some(head.len));
        }
        let told = RequestHead { method: head.method(), target: head.target(), headers: &headers, irregular: true };
        let framing = if head.doubtful { Err(kind) } else { framing(&headers) };
        let sure = framing.is_ok();
        self.request(&told, framing, at, sink)?;
        if sure {
            sink.decode_error(kind.name());
        }
        Ok(Some(head.len))
    }
}

/// Whether a head ends in `bytes`, at or after `from`.
fn ends_head(bytes: &[u8], from: usize) -> bool {
    let is = |at: Option<usize>, b: u8| at.and_then(|at| bytes.get(at)) == Some(&b);
    let new = bytes.get(from..).unwrap_or_default();
    memchr::memchr_iter(b'\n', new).map(|at| at + from).any(|at| {
        let before = at.checked_sub(1);
        is(before, b'\n') || (is(before, b'\r') && is(at.checked_sub(2), b'\n'))
    })
}

fn kind(error: httparse::Error) -> DecodeError {
    match error {
        httparse::Error::TooManyHeaders => DecodeError::TooManyHeaders,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => DecodeError::Header,
        httparse::Error::Version => DecodeError::Version,
        _ => DecodeError::StartLine,
    }
}

impl Decoder for Http {
    fn protocol(&self) -> Protocol {
        Protocol::Http
    }

    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        let Chunk { at, bytes, ends_segment } = chunk;
        if self.over || bytes.is_empty() {
            return;
        }
        self.announce(at, sink);
        let quiet = !self.pipelined || at.since(self.last) >= QUIET;
        self.last = at;
        let at_start = std::mem::replace(&mut self.direction(from).at_start, ends_segment);
        // A long head may go on in the next segment: its first line is enough.
        let begins_request = || from == Side::Client && at_start && look::request(bytes) == Look::Is;
        if self.direction(from).read == Read::Lost {
            if !quiet || !begins_request() {
                return;
            }
            self.found(at, sink);
        } else if from == Side::Client
            && (self.client.read, self.server.read) == (Read::Head, Read::Lost)
            && self.client.held.is_empty()
            && quiet
            && begins_request()
        {
            // Only the answers were lost sight of, and what was outstanding is answered by now.
            self.give_up(at, sink);
            self.found(at, sink);
        }
        // Answered instead of asked to go on: the body may never come (RFC 9110 §10.1.1).
        if self.expects && !self.sending && begins_request() {
            self.expects = false;
            self.client.read = Read::Head;
        }
        let d = self.direction(from);
        if d.held.is_empty() {
            self.read(from, at, bytes, sink);
            return;
        }
        let before = d.held.len();
        d.held.extend_from_slice(bytes);
        // Parsed again only when it is whole: what trickles in would cost the square of its length.
        if d.read == Read::Head && d.held.len() <= MAX_HEAD && !ends_head(&d.held, before) {
            return;
        }
        let held = std::mem::take(&mut d.held);
        self.read(from, at, &held, sink);
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink) {
        if self.over || n == 0 {
            return;
        }
        self.announce(at, sink);
        self.last = at;
        let d = self.direction(from);
        d.at_start = true;
        if d.read == Read::Lost {
            return;
        }
        if !d.read.miss(n) {
            self.lose(at, Disturbance::Gap, sink);
            return;
        }
        d.text.miss();
        d.coding.leave();
        let ended = d.read == Read::Body(0);
        if from == Side::Client {
            self.expects = false;
        }
        if let (Some((number, true)), Some(reader)) = (self.current(from), self.reader.as_deref_mut()) {
            reader.missing(number, from, n, at, sink);
        }
        if ended {
            self.end(from, at, sink);
        }
    }

    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        self.announce(at, sink);
        if let (Some(number), Some(reader)) = (self.upgraded, self.reader.as_deref_mut()) {
            reader.end(number, Side::Client, at, sink);
            reader.end(number, Side::Server, at, sink);
        }
        if self.server.read == Read::ToClose {
            self.end(Side::Server, at, sink);
        }
        if !self.open.is_empty() {
            self.give_up(at, sink);
            sink.status(at, TxStatus::Idle);
        }
        self.over = true;
    }

    fn appetite(&self, from: Side) -> Appetite {
        let d = if from == Side::Client { &self.client } else { &self.server };
        let wanted = |(number, on_top)| on_top && self.reader.as_deref().is_some_and(|r| r.wants(number, from));
        let on_top = self.current(from).is_some_and(wanted);
        match d.read {
            _ if self.over || (self.upgraded.is_some() && !on_top) => Appetite::Head(0),
            // The end of a large body and the next head may come in one segment: its beginning is not enough then, and
            // what is cut costs a resynchronisation. Only far from the end is it safe.
            Read::Body(left) | Read::Chunk(left)
                if left >= (if matches!(d.read, Read::Chunk(_)) { LARGE_CHUNK } else { LARGE })
                    && !d.text.wants_more()
                    && !on_top =>
            {
                Appetite::Head(HEAD_BUDGET)
            }
            _ => Appetite::Everything,
        }
    }

    fn memory(&self) -> usize {
        size_of::<Self>()
            + self.client.held.capacity()
            + self.server.held.capacity()
            + self.open.capacity() * size_of::<Exchange>()
            + self.client.coding.memory()
            + self.server.coding.memory()
            + self.reader.as_ref().map_or(0, |r| r.memory())
    }
}
