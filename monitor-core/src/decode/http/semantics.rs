//! What is made of requests and answers once they are told apart, whichever version of HTTP has framed them: heads become
//! operations, bodies are unpacked, looked through and offered to the protocol on top.

use super::Shared;
use super::caching::caching;
use super::coding::{Coding, Credit};
use super::exchange::{Exchange, Text};
use crate::decode::body::{BodyReader, RequestHead, ResponseHead};
use crate::decode::{DecodeError, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Outcome, Side, Sides};

/// The text of one message, and how its body is encoded.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) text: Text,
    coding: Coding,
}

impl Content {
    pub(super) fn new(salt: Salt) -> Self {
        Self { text: Text::new(salt), coding: Coding::default() }
    }

    /// How the body is encoded, if anybody reads it. `on_top`: a protocol on top may.
    fn unpack(&mut self, headers: &[httparse::Header<'_>], on_top: bool, shared: &Shared) {
        self.coding = match Coding::of(headers, &shared.unpacking) {
            Coding::Encoded(_) | Coding::Refused(_) if !on_top && !self.text.wants_more() => Coding::Over,
            coding => coding,
        };
    }

    /// Something of the message is missing.
    pub(super) fn miss(&mut self) {
        self.text.miss();
        self.coding.leave();
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.coding.memory()
    }
}

/// The request that a message belongs to, and whether a protocol on top reads its bodies.
pub(super) type Of = (u64, bool);

/// What all requests of one connection have in common.
pub(super) struct Semantics {
    pub(super) salt: Salt,
    shared: Shared,
    reader: Option<Box<dyn BodyReader>>,
    /// Number of the latest request.
    pub(super) latest: u64,
    credit: Sides<Credit>,
}

impl Semantics {
    /// For one connection. `reader`: a protocol on top, if there is one.
    pub(super) fn new(salt: Salt, shared: &Shared, reader: Option<Box<dyn BodyReader>>) -> Self {
        Self { salt, shared: shared.clone(), reader, latest: 0, credit: Sides::of(|_| Credit::default()) }
    }

    /// All of it, for whoever reads the connection from here on.
    pub(super) fn hand_over(&mut self) -> Self {
        let rest = Self::new(self.salt, &self.shared, None);
        std::mem::replace(self, rest)
    }

    /// The protocol on top, if it reads this.
    pub(super) fn reader(&mut self, on_top: bool) -> Option<&mut (dyn BodyReader + 'static)> {
        self.reader.as_deref_mut().filter(|_| on_top)
    }

    /// Whether the protocol on top wants the rest of this body.
    pub(super) fn is_wanted(&self, (number, on_top): Of, from: Side) -> bool {
        on_top && self.reader.as_deref().is_some_and(|r| r.wants(number, from))
    }

    /// A request begins: its head.
    pub(super) fn request(
        &mut self,
        head: &RequestHead<'_>,
        content: &mut Content,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Exchange {
        self.latest += 1;
        sink.arrived(self.latest, at);
        let mut x = Exchange::begin(self.latest, head, &self.shared, self.salt, at, sink);
        if let Some(reader) = self.reader.as_deref_mut() {
            x.read_on_top = reader.request(x.number, head, at, sink);
            reader.carries(x.number, x.credential());
        }
        content.text.begin(head.headers, sink.wants_values(Side::Client));
        content.text.print(head.method.as_bytes());
        content.text.print(head.target.as_bytes());
        content.unpack(head.headers, x.read_on_top, &self.shared);
        x
    }

    /// Something stands where a request should be, of which nothing can be read.
    pub(super) fn unread_request(&mut self, at: Nanos, sink: &mut dyn Sink) -> Exchange {
        self.latest += 1;
        sink.arrived(self.latest, at);
        Exchange::unread(self.latest, at, sink)
    }

    /// The head of a final answer.
    pub(super) fn response(&mut self, x: &mut Exchange, head: &ResponseHead<'_>, at: Nanos, sink: &mut dyn Sink) {
        x.answered(head, self.salt);
        let number = x.number;
        if let Some(reader) = self.reader(x.read_on_top) {
            reader.response(number, head, at, sink);
        }
    }

    /// Its body begins.
    pub(super) fn response_body(
        &mut self,
        x: &mut Exchange,
        head: &ResponseHead<'_>,
        content: &mut Content,
        sink: &mut dyn Sink,
    ) {
        content.text.begin(head.headers, sink.wants_values(Side::Server));
        content.text.print(&head.status.to_be_bytes());
        if sink.wants_cached() {
            x.caching = Some(caching(head.headers, self.salt));
            content.text.note_body();
        }
        content.unpack(head.headers, x.read_on_top, &self.shared);
    }

    /// A piece of a body.
    pub(super) fn piece(
        &mut self,
        of: Of,
        from: Side,
        content: &mut Content,
        bytes: &[u8],
        at: Nanos,
        sink: &mut dyn Sink,
    ) {
        let (number, on_top) = of;
        let mut reader = self.reader.as_deref_mut().filter(|_| on_top);
        let Content { text, coding } = content;
        text.sent(bytes);
        if !text.wants_more() && !reader.as_deref().is_some_and(|r| r.wants(number, from)) {
            coding.leave();
        }
        let read = coding.feed(bytes, &mut self.credit[from], &mut |plain| {
            if let Some(reader) = reader.as_deref_mut() {
                reader.bytes(number, from, plain, at, sink);
            }
            text.feed(number, from, plain, sink);
        });
        if let Err(why) = read {
            self.left_unread(of, from, content, why, sink);
        }
    }

    /// `n` bytes of a body are missing. `of`: `None` where it belongs to no request.
    pub(super) fn missing(&mut self, of: Option<Of>, from: Side, n: u64, at: Nanos, sink: &mut dyn Sink) {
        let Some((number, on_top)) = of else { return };
        if let Some(reader) = self.reader(on_top) {
            reader.missing(number, from, n, at, sink);
        }
    }

    /// Fields behind a body.
    pub(super) fn trailers(
        &mut self,
        (number, on_top): Of,
        from: Side,
        headers: &[httparse::Header<'_>],
        at: Nanos,
        sink: &mut dyn Sink,
    ) {
        if let Some(reader) = self.reader(on_top) {
            reader.trailers(number, from, headers, at, sink);
        }
    }

    /// A body has ended as it should.
    pub(super) fn body_ended(&mut self, of: Option<Of>, from: Side, content: &mut Content, sink: &mut dyn Sink) {
        if let Err(why) = std::mem::take(&mut content.coding).end() {
            self.left_unread(of.unwrap_or_default(), from, content, why, sink);
        }
    }

    /// What is left of the body cannot be read.
    fn left_unread(&mut self, of: Of, from: Side, content: &mut Content, why: DecodeError, sink: &mut dyn Sink) {
        let (number, on_top) = of;
        content.text.unread();
        if let Some(reader) = self.reader(on_top) {
            reader.unread(number, from);
        }
        sink.decode_error(why);
    }

    /// A request is whole.
    pub(super) fn sent(&mut self, x: &mut Exchange, content: &mut Content, at: Nanos, sink: &mut dyn Sink) {
        x.sent = Some(at);
        let number = x.number;
        if let Some(reader) = self.reader(x.read_on_top) {
            reader.end(number, Side::Client, at, sink);
        }
        let print = content.text.end(number, Side::Client, sink);
        sink.begun(number, at, print);
    }

    /// A request is answered. `reads_on`: what follows is still the reader's.
    pub(super) fn ended(
        &mut self,
        mut x: Exchange,
        content: &mut Content,
        reads_on: bool,
        at: Nanos,
        sink: &mut dyn Sink,
    ) {
        // Answered before all of it was sent: then it is as good as sent.
        if x.sent.is_none() {
            x.sent = Some(at);
            sink.begun(x.number, at, None);
        }
        if let Some(reader) = self.reader(x.read_on_top && !reads_on) {
            reader.end(x.number, Side::Server, at, sink);
        }
        if let Some(cached) = x.cached(at, content.text.body()) {
            sink.cached(cached);
        }
        let print = content.text.end(x.number, Side::Server, sink);
        let outcome = x.outcome();
        self.finish(&mut x, at, outcome, sink);
        sink.answered(x.number, at, print);
    }

    /// A request will not be answered to its end.
    pub(super) fn give_up(&mut self, mut x: Exchange, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        if x.sent.is_none() {
            sink.begun(x.number, at, None);
        }
        self.finish(&mut x, at, outcome, sink);
        sink.answered(x.number, at, None);
    }

    fn finish(&mut self, x: &mut Exchange, at: Nanos, outcome: Outcome, sink: &mut dyn Sink) {
        // An operation of its own, and first: this very request is already served as whom it authenticates.
        if let Some(handshake) = x.authentication(at, outcome, sink) {
            sink.done(&handshake);
        }
        let op = x.operation(at, outcome);
        if let Some(cookies) = x.take_cookies() {
            sink.cookies(x.number, cookies);
        }
        match self.reader(x.read_on_top) {
            Some(reader) => reader.done(x.number, op, sink),
            None => sink.done(&op),
        }
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.reader.as_ref().map_or(0, |r| r.memory())
    }
}
