//! HTTP/1.1 (RFC 9110, RFC 9112), both sides, and in [`v2`] HTTP/2. What is made of a request and its answer is the same
//! for both ([`semantics`]); here is how HTTP/1.1 tells one from the next.
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
mod semantics;
mod upgrade;
pub mod v2;

use std::rc::Rc;

use crate::model::claim::Salt;
use crate::model::{HeaderPolicy, Nanos, Protocol, Side, Sides, TxStatus};

use super::body::{BodyReader, RequestHead, ResponseHead};
use super::infer::Look;
use super::lifecycle::{Conversation, End, Fault, Found, Heard, Life, Lifecycle};
use super::shape::Shapes;
use super::{Appetite, Chunk, DecodeError, Decoder, Sink};
use direction::{MAX_HEAD, Read, Step};
use exchange::Exchange;
use framing::framing;
use semantics::{Content, Of, Semantics};
use upgrade::Upgrade;

/// Most headers of one message.
const MAX_HEADERS: usize = 128;
/// Most requests without an answer on one connection.
const MAX_OPEN: usize = 64;
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
    content: Content,
}

impl Direction {
    fn new(salt: Salt) -> Self {
        Self { read: Read::Head, held: Vec::new(), content: Content::new(salt) }
    }
}

/// How far the latest request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// It is whole, or was over before: answered, or given up.
    Nothing,
    /// Its body comes.
    Body,
    /// Its sender waits for 100 (Continue), and nothing of its body has come.
    Waiting,
    /// Its sender waited, and was answered instead of asked to go on: the body may never come (RFC 9110 §10.1.1).
    Refused,
}

impl Sending {
    /// More of it belongs to a request that is not over.
    fn is_under_way(self) -> bool {
        matches!(self, Self::Body | Self::Waiting)
    }

    /// Something of its body has come.
    fn body_comes(self) -> Self {
        match self {
            Self::Waiting => Self::Body,
            Self::Refused => Self::Nothing,
            Self::Nothing | Self::Body => self,
        }
    }

    /// The request is over before it was whole.
    fn cut_short(self) -> Self {
        match self {
            Self::Waiting | Self::Refused => Self::Refused,
            Self::Nothing | Self::Body => Self::Nothing,
        }
    }
}

/// What is known of one connection.
struct Http {
    life: Life,
    semantics: Semantics,
    says: Sides<Direction>,
    open: std::collections::VecDeque<Exchange>,
    sending: Sending,
    /// What the server is saying answers no request.
    stray: bool,
    /// The place was found again, and no answer has confirmed it yet.
    unsure: bool,
    /// Several requests were outstanding at once.
    pipelined: bool,
    upgrade: Upgrade,
    /// When anything was last said.
    last: Nanos,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Sides { client, server } = &self.says;
        f.debug_struct("Http").field("client", &client.read).field("server", &server.read).finish_non_exhaustive()
    }
}

/// A decoder for one connection. `reader`: a protocol on top, if there is one.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared, reader: Option<Box<dyn BodyReader>>) -> Box<dyn Decoder> {
    Box::new(Http::new(salt, mid_stream, shared, reader))
}

impl Http {
    fn new(salt: Salt, mid_stream: bool, shared: &Shared, reader: Option<Box<dyn BodyReader>>) -> Lifecycle<Self> {
        let talk = Self {
            life: Life::new(mid_stream),
            semantics: Semantics::new(salt, shared, reader),
            says: Sides::of(|_| Direction::new(salt)),
            open: std::collections::VecDeque::new(),
            sending: Sending::Nothing,
            stray: false,
            unsure: false,
            pipelined: false,
            upgrade: Upgrade::None,
            last: Nanos(0),
        };
        Lifecycle::new(talk, ())
    }

    /// The request that a piece of body of this direction belongs to, and whether a protocol on top reads it.
    fn current(&self, from: Side) -> Option<Of> {
        if let Upgrade::OnTop(number) = self.upgrade {
            return Some((number, true));
        }
        let x = match from {
            Side::Client => self.open.back().filter(|_| self.sending.is_under_way()),
            Side::Server => self.open.front().filter(|_| !self.stray),
        };
        x.map(|x| (x.number, x.read_on_top))
    }

    /// Reads as far as the bytes go. What is left over is held.
    fn read_on(&mut self, from: Side, at: Nanos, mut bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Fault> {
        while !bytes.is_empty() && !self.life.is_over() && !self.life.is_lost(from) {
            if self.next_reads(from, at, bytes, sink) {
                break;
            }
            let mut read = self.says[from].read;
            if read == Read::Head {
                // A line end before a head is to be ignored (RFC 9112 §2.2).
                let skipped = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
                bytes = bytes.get(skipped..).unwrap_or_default();
                if bytes.is_empty() {
                    break;
                }
                let before = self.semantics.latest;
                match self.head(from, at, bytes, sink) {
                    Ok(Some(n)) => bytes = bytes.get(n..).unwrap_or_default(),
                    Ok(None) => return self.hold(from, at, bytes, sink),
                    Err(error) => return Err(self.no_head(from, before, at, error, sink)),
                }
                continue;
            }
            let step = read.step(bytes);
            self.says[from].read = read;
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
                Step::NeedMore => return self.hold(from, at, bytes, sink),
                Step::Malformed(error) => return Err(self.malformed(from, error)),
            }
        }
        Ok(())
    }

    fn hold(&mut self, from: Side, at: Nanos, bytes: &[u8], sink: &mut dyn Sink) -> Result<(), Fault> {
        if bytes.len() > MAX_HEAD {
            let error = DecodeError::HeadTooLong;
            return Err(match self.says[from].read {
                Read::Head => self.no_head(from, self.semantics.latest, at, error, sink),
                _ => self.malformed(from, error),
            });
        }
        let held = &mut self.says[from].held;
        held.clear();
        held.extend_from_slice(bytes);
        Ok(())
    }

    /// Notes that something was said at `at`. False: an answer may be on its way, because the client pipelines and no pause
    /// came before.
    fn record_said(&mut self, at: Nanos) -> bool {
        let pause = at.since(std::mem::replace(&mut self.last, at));
        !self.pipelined || pause >= QUIET
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
                        partial: false,
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
                    let head =
                        ResponseHead { status: head.code.unwrap_or_default(), partial: false, headers: head.headers };
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
            let told = ResponseHead { status: head.status(), partial: false, headers: &headers };
            self.response(&told, framing::of_response(&headers), at, sink);
            return Ok(Some(head.len));
        }
        let (method, target) = (head.method(), head.target());
        let told = RequestHead { method, target, headers: &headers, irregular: true, partial: false };
        let framing = if head.doubtful { Err(kind) } else { framing(&headers) };
        let sure = framing.is_ok();
        self.request(&told, framing, at, sink)?;
        if sure {
            sink.decode_error(kind);
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

impl Conversation for Http {
    const PROTOCOL: Protocol = Protocol::Http;

    type Frames = ();

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    /// A long head may go on in the next segment: its first line is enough.
    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        from == Side::Client && look::request(bytes) == Look::Is(Side::Client)
    }

    fn seek(&mut self, from: Side, heard: Heard<'_>, sink: &mut dyn Sink) -> Found {
        match heard {
            Heard::Bytes(chunk) => {
                let quiet = self.record_said(chunk.at);
                if !quiet || !self.life.starts(from) || !self.opens(from, chunk.bytes) {
                    return Found::No;
                }
                self.found(chunk.at, sink);
                return Found::Here;
            }
            Heard::Hole(at) => self.last = at,
            Heard::Losing(_) => {}
        }
        Found::No
    }

    fn read(&mut self, (): &mut (), from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        let Chunk { at, bytes, .. } = chunk;
        if self.next_reads(from, at, bytes, sink) {
            return Ok(());
        }
        let quiet = self.record_said(at);
        let starts = self.life.starts(from);
        let begins_request = || from == Side::Client && starts && look::request(bytes) == Look::Is(Side::Client);
        let client = &self.says.client;
        let only_answers_lost = client.read == Read::Head && client.held.is_empty() && self.life.is_lost(Side::Server);
        if from == Side::Client && only_answers_lost && quiet && begins_request() {
            // What was outstanding is answered by now.
            self.give_up(at, sink);
            self.found(at, sink);
        }
        if self.sending == Sending::Refused && begins_request() {
            self.sending = Sending::Nothing;
            self.says.client.read = Read::Head;
        }
        let d = &mut self.says[from];
        if d.held.is_empty() {
            return self.read_on(from, at, bytes, sink);
        }
        let before = d.held.len();
        d.held.extend_from_slice(bytes);
        // Parsed again only when it is whole: what trickles in would cost the square of its length.
        if d.read == Read::Head && d.held.len() <= MAX_HEAD && !ends_head(&d.held, before) {
            return Ok(());
        }
        let held = std::mem::take(&mut d.held);
        self.read_on(from, at, &held, sink)
    }

    fn skip(&mut self, (): &mut (), from: Side, n: u64, at: Nanos, sink: &mut dyn Sink) -> Result<(), Fault> {
        if let Upgrade::V2(next) = &mut self.upgrade {
            next.missing(from, at, n, sink);
            return Ok(());
        }
        self.last = at;
        let d = &mut self.says[from];
        if !d.read.miss(n) {
            return Err(self.gap());
        }
        d.content.miss();
        let ended = d.read == Read::Body(0);
        if from == Side::Client {
            self.sending = self.sending.body_comes();
        }
        let of = self.current(from);
        self.semantics.missing(of, from, n, at, sink);
        if ended {
            self.end(from, at, sink);
        }
        Ok(())
    }

    /// Where the client's side is lost, which answer belongs to which request is not known either. Where the server's side
    /// alone is malformed, the client's goes on, and each of its requests is an operation.
    fn forget(&mut self, (): &mut (), from: Side, end: End, _: Nanos, _: &mut dyn Sink) {
        if end == End::Closed {
            return;
        }
        if from == Side::Client {
            self.life.lose(Side::Server);
        }
        self.forget_lost();
    }

    fn abandon(&mut self, end: End, at: Nanos, sink: &mut dyn Sink) {
        match end {
            End::Lost => self.give_up(at, sink),
            End::Unreadable => {
                self.give_up(at, sink);
                self.says.iter_mut().for_each(|d| d.held = Vec::new());
            }
            End::Closed => {
                match &mut self.upgrade {
                    Upgrade::None => {}
                    Upgrade::OnTop(number) => {
                        if let Some(reader) = self.semantics.reader(true) {
                            reader.end(*number, Side::Client, at, sink);
                            reader.end(*number, Side::Server, at, sink);
                        }
                    }
                    Upgrade::V2(next) => next.closed(at, sink),
                }
                if self.says.server.read == Read::ToClose {
                    self.end(Side::Server, at, sink);
                }
                if !self.open.is_empty() {
                    self.give_up(at, sink);
                    sink.status(at, TxStatus::Idle);
                }
            }
        }
    }

    fn appetite(&self, (): &(), from: Side) -> Appetite {
        if let Upgrade::V2(next) = &self.upgrade {
            return next.appetite(from);
        }
        let d = &self.says[from];
        let on_top = self.current(from).is_some_and(|of| self.semantics.is_wanted(of, from));
        match d.read {
            _ if matches!(self.upgrade, Upgrade::OnTop(_)) && !on_top => Appetite::Head(0),
            // The end of a large body and the next head may come in one segment: its beginning is not enough then, and
            // what is cut costs a resynchronisation. Only far from the end is it safe.
            Read::Body(left) | Read::Chunk(left)
                if left >= (if matches!(d.read, Read::Chunk(_)) { LARGE_CHUNK } else { LARGE })
                    && !d.content.text.wants_more()
                    && !on_top =>
            {
                Appetite::Head(HEAD_BUDGET)
            }
            _ => Appetite::Everything,
        }
    }

    fn memory(&self, (): &()) -> usize {
        let says: usize = self.says.iter().map(|d| d.held.capacity() + d.content.memory()).sum();
        size_of::<Self>()
            + says
            + self.open.capacity() * size_of::<Exchange>()
            + self.semantics.memory()
            + self.upgrade.memory()
    }
}
