//! What decoders tell the engine, as values: a decoder speaks to a [`Sink`], and this one keeps what it is told, in the
//! order of the wire, until whoever fed the decoder takes it. What the decoder wants to know meanwhile it asks a
//! [`Lexicon`]: values that stand on the wire are not kept, so that they must be asked about while they are there.

use smallvec::SmallVec;

use super::{DecodeError, Disturbance, Mark, SessionStart, Sink};
use crate::model::cookies::Cookies;
use crate::model::http;
use crate::model::keys::KeyUses;
use crate::model::mcp::{Exchange, Sender};
use crate::model::queue::QueueEvent;
use crate::model::token::Token;
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Operation, Protocol, Side, Slot, Sym, TenantId, TxStatus};

/// What happened on a connection. [`Sink`]'s methods of the same names say what each means and when it comes.
#[derive(Debug)]
#[expect(missing_docs, reason = "fields are what the methods of Sink take")]
pub enum WireEvent {
    /// The session was accepted.
    Started(SessionStart),
    /// A request's head is complete.
    Arrived { request: u64, at: Nanos },
    /// A request or its reply carries a mark.
    Mark { request: u64, from: Side, mark: Mark },
    /// A request is complete.
    Begun { request: u64, at: Nanos, print: Option<Fingerprint> },
    /// What caches are judged by, of the operation that comes next.
    Cached(Box<http::Exchange>),
    /// What the operation that comes next does with keys.
    Keys(KeyUses),
    /// Cookies of the request whose first operation comes next.
    Cookies { request: u64, cookies: Box<Cookies> },
    /// An operation has ended.
    Done(Operation),
    /// A request has been answered.
    Answered { request: u64, at: Nanos, print: Option<Fingerprint> },
    /// The connection carries another protocol on top of its own.
    Speaks(Protocol),
    /// An MCP request has been answered.
    Mcp(Box<Exchange>),
    /// Something happened to a message of a queue.
    Queue(Box<QueueEvent>),
    /// Something was said that is not known.
    Missed { at: Nanos },
    /// From here on each request is a unit of work of its own.
    Concurrent,
    /// A reply came that nobody had asked for.
    UnmatchedReply { at: Nanos, why: &'static str },
    /// The server told the transaction's state.
    Status { at: Nanos, status: TxStatus },
    /// Something was missed.
    Disturbed { at: Nanos, why: Disturbance },
    /// What follows goes through to somewhere else.
    Tunnel { to: Sym },
    /// Nothing more can be read.
    Opaque { at: Nanos, why: &'static str },
    /// Malformed input.
    DecodeError(DecodeError),
}

/// What a decoder asks while the value in question is there. Each answers as [`Sink`]'s method of the same name says.
pub trait Lexicon {
    /// Whom a value in a slot names.
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim;
    /// Whether a setting of this name binds.
    fn setting_binds(&self, name: &str) -> bool;
    /// Whom a marker names.
    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim;
    /// Whether values of this direction are of use.
    fn wants_values(&self, from: Side) -> bool;
    /// Whether what caches are judged by is of use.
    fn wants_cached(&self) -> bool;
    /// The symbol of a name that was heard.
    fn intern(&mut self, name: &str) -> Sym;
    /// The symbol of a word of our own.
    fn word(&mut self, word: &'static str) -> Sym;
    /// What may be known of a token.
    fn token(&mut self, scheme: &str, token: &str) -> Option<Token>;
    /// Tenants whose canary a text holds.
    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]>;
    /// Who sends the requests of this connection.
    fn sender(&self) -> Sender;
    /// From here on the connection speaks `protocol`.
    fn speaks(&mut self, protocol: Protocol);
}

/// A [`Sink`] that asks a [`Lexicon`] and keeps what it is told.
pub struct Emitter<'a> {
    /// Who is asked.
    pub lexicon: &'a mut dyn Lexicon,
    /// What was told, in the order of the wire.
    pub events: &'a mut Vec<WireEvent>,
    /// Added to the numbers of requests: those of a decoder that went before on the same connection are others'.
    pub before: u64,
}

impl Emitter<'_> {
    /// A request's number on its connection. 0 is no request.
    fn number(&self, request: u64) -> u64 {
        if request == 0 { 0 } else { request.saturating_add(self.before) }
    }
}

impl Sink for Emitter<'_> {
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim {
        self.lexicon.claim(slot, name, value)
    }

    fn setting_binds(&self, name: &str) -> bool {
        self.lexicon.setting_binds(name)
    }

    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        self.lexicon.marker(place, name, value)
    }

    fn wants_values(&self, from: Side) -> bool {
        self.lexicon.wants_values(from)
    }

    fn intern(&mut self, name: &str) -> Sym {
        self.lexicon.intern(name)
    }

    fn word(&mut self, word: &'static str) -> Sym {
        self.lexicon.word(word)
    }

    fn started(&mut self, start: SessionStart) {
        self.events.push(WireEvent::Started(start));
    }

    fn arrived(&mut self, request: u64, at: Nanos) {
        let request = self.number(request);
        self.events.push(WireEvent::Arrived { request, at });
    }

    fn mark(&mut self, request: u64, from: Side, mark: Mark) {
        let request = self.number(request);
        self.events.push(WireEvent::Mark { request, from, mark });
    }

    fn begun(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        let request = self.number(request);
        self.events.push(WireEvent::Begun { request, at, print });
    }

    fn wants_cached(&self) -> bool {
        self.lexicon.wants_cached()
    }

    fn cached(&mut self, exchange: http::Exchange) {
        self.events.push(WireEvent::Cached(Box::new(exchange)));
    }

    fn keys(&mut self, uses: KeyUses) {
        self.events.push(WireEvent::Keys(uses));
    }

    fn cookies(&mut self, request: u64, cookies: Box<Cookies>) {
        let request = self.number(request);
        self.events.push(WireEvent::Cookies { request, cookies });
    }

    fn done(&mut self, op: &Operation) {
        let request = self.number(op.request);
        self.events.push(WireEvent::Done(Operation { request, ..*op }));
    }

    fn answered(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        let request = self.number(request);
        self.events.push(WireEvent::Answered { request, at, print });
    }

    fn token(&mut self, scheme: &str, token: &str) -> Option<Token> {
        self.lexicon.token(scheme, token)
    }

    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]> {
        self.lexicon.canaries(text)
    }

    fn speaks(&mut self, protocol: Protocol) {
        self.lexicon.speaks(protocol);
        self.events.push(WireEvent::Speaks(protocol));
    }

    fn sender(&self) -> Sender {
        self.lexicon.sender()
    }

    fn mcp(&mut self, exchange: &Exchange) {
        let request = self.number(exchange.request);
        self.events.push(WireEvent::Mcp(Box::new(Exchange { request, ..exchange.clone() })));
    }

    fn queue(&mut self, event: QueueEvent) {
        self.events.push(WireEvent::Queue(Box::new(event)));
    }

    fn unmatched_reply(&mut self, at: Nanos, why: &'static str) {
        self.events.push(WireEvent::UnmatchedReply { at, why });
    }

    fn missed(&mut self, at: Nanos) {
        self.events.push(WireEvent::Missed { at });
    }

    fn concurrent(&mut self) {
        self.events.push(WireEvent::Concurrent);
    }

    fn status(&mut self, at: Nanos, status: TxStatus) {
        self.events.push(WireEvent::Status { at, status });
    }

    fn disturbed(&mut self, at: Nanos, why: Disturbance) {
        self.events.push(WireEvent::Disturbed { at, why });
    }

    fn tunnel(&mut self, to: Sym) {
        self.events.push(WireEvent::Tunnel { to });
    }

    fn opaque(&mut self, at: Nanos, why: &'static str) {
        self.events.push(WireEvent::Opaque { at, why });
    }

    fn decode_error(&mut self, error: DecodeError) {
        self.events.push(WireEvent::DecodeError(error));
    }
}
