//! Decoders: bytes of one connection in, operations out. One folder per protocol; none knows another.
//!
//! A decoder is sans-IO, never panics, holds a stated maximum of memory, and gives the same calls however the bytes
//! are cut. What leaves through [`Sink`] is identifiers, shapes, fingerprints and counts: payload and secrets stop here.

pub mod amqp;
mod base64;
mod begun;
pub mod body;
pub mod canary;
pub mod chores;
mod error;
mod event;
mod fifo;
mod fuzzing;
pub mod grpc;
mod head;
pub mod http;
pub mod infer;
pub mod jcs;
pub mod kafka;
mod lifecycle;
pub mod mcp;
pub mod memcached;
pub mod message;
pub mod mqtt;
pub mod mysql;
pub mod nats;
pub mod postgres;
pub mod proxy;
mod readers;
pub mod redis;
pub mod shape;
mod sql;
#[cfg(test)]
mod testing;
pub mod token;
pub mod trace;
pub mod values;
mod weight;
mod wire;

pub use error::DecodeError;
pub use event::{Emitter, Lexicon, WireEvent};
use smallvec::SmallVec;

use crate::model::cookies::Cookies;
use crate::model::keys::KeyUses;
use crate::model::mcp::{Exchange, Sender};
use crate::model::queue::QueueEvent;
use crate::model::token::Token;
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Operation, Protocol, Side, Slot, Sym, TenantId, TxStatus};

/// Contiguous bytes of one direction.
#[derive(Clone, Copy, Debug)]
pub struct Chunk<'a> {
    /// When the kernel handled the last of them.
    pub at: Nanos,
    /// The bytes.
    pub bytes: &'a [u8],
    /// The chunk's end is the end of a segment as its sender wrote it: senders mostly write whole messages, which
    /// helps to find the next message after a gap. A hint, never needed for correctness.
    pub ends_segment: bool,
}

/// Why a connection's state is not fully known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disturbance {
    /// The connection is older than the agent.
    MidStream,
    /// Bytes are missing where they matter.
    Gap,
    /// The peer said something the protocol does not allow.
    Malformed,
}

impl Disturbance {
    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::MidStream => "mid_stream",
            Self::Gap => "gap",
            Self::Malformed => "malformed",
        }
    }
}

/// How a connection was opened at protocol level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionStart {
    /// When the server accepted it.
    pub at: Nanos,
    /// The user it authenticated as.
    pub user: Fingerprint,
    /// The database or namespace it chose.
    pub database: Fingerprint,
}

/// Something that a request or its reply carries, and that may turn up again in the work done for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The id of a trace or of a request that is passed on for correlation (`traceparent`, `x-request-id`).
    Trace(Fingerprint),
    /// Any other value ([`values`]).
    Value(Fingerprint),
}

/// Where a decoder's results go. The engine's is [`Emitter`], which keeps them as [`WireEvent`]s. Calls come in wire order;
/// see each method for when.
pub trait Sink {
    /// Whom `value` in `slot` names on this service. `name` is the setting's name in lower case for
    /// [`Slot::Setting`], else empty.
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim;

    /// Whether a setting of this lower-case name binds whatever its value (so an unreadable value matters).
    fn setting_binds(&self, name: &str) -> bool;

    /// Whom a marker names that is declared in the operation itself: a key prefix, a header, a predicate, a comment.
    /// `name` is what `value` belongs to (header, column, comment key) in lower case, empty for a key prefix.
    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        let _ = (place, name, value);
        Claim::Neutral
    }

    /// Whether [`Mark::Value`]s of this direction are of use: if not, nobody needs to look for them.
    fn wants_values(&self, from: Side) -> bool {
        let _ = from;
        false
    }

    /// Interns a name that was heard on the wire: of a table, a route, a tool. Never a literal. What of it is shown, and
    /// when, is decided where it is shown ([`crate::model::shown`]).
    fn intern(&mut self, name: &str) -> Sym;

    /// Interns a word of a protocol or of our own, which is shown as it is.
    fn word(&mut self, word: &'static str) -> Sym {
        self.intern(word)
    }

    /// The session was accepted. Its start-up bindings follow as [`Operation`]s with `Scope::Startup`.
    fn started(&mut self, start: SessionStart);

    /// A request's head is complete: who receives it may be at work on it from now on. Comes before `begun`; a protocol
    /// whose requests have no head leaves it out.
    fn arrived(&mut self, request: u64, at: Nanos) {
        let _ = (request, at);
    }

    /// A request (`from` the client) or its reply carries `mark`. Comes between the request's `arrived` or `begun` and
    /// its `answered`.
    fn mark(&mut self, request: u64, from: Side, mark: Mark) {
        let _ = (request, from, mark);
    }

    /// A request is complete on the wire: the unit of work has begun if none was open. `print` covers what a proxy
    /// forwards unchanged (statement text, parameters), not what it rewrites (statement names); `None` if unreadable.
    fn begun(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>);

    /// Whether [`Sink::cached`] is of use for this connection.
    fn wants_cached(&self) -> bool {
        false
    }

    /// An HTTP request has been answered, where caches matter. Comes before the `done` of its operation.
    fn cached(&mut self, exchange: crate::model::http::Exchange) {
        let _ = exchange;
    }

    /// What the operation does with keys whose `done` comes next.
    fn keys(&mut self, uses: KeyUses) {
        let _ = uses;
    }

    /// Cookies of a request and its answer. Comes right before the request's first `done`.
    fn cookies(&mut self, request: u64, cookies: Box<Cookies>) {
        let _ = (request, cookies);
    }

    /// An operation of a request has ended (also: was skipped, or its reply was lost).
    fn done(&mut self, op: &Operation);

    /// Every operation of the request has ended. `print` covers its reply; `None` if not seen whole.
    fn answered(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>);

    /// What may be known of a token that was presented: `scheme` as the header has it (`Bearer`), `token` the rest. Only
    /// salted fingerprints and claims about tenants come back.
    fn token(&mut self, scheme: &str, token: &str) -> Option<Token> {
        let _ = (scheme, token);
        None
    }

    /// Tenants whose canary `text` holds.
    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]> {
        let _ = text;
        SmallVec::new()
    }

    /// The connection turns out to carry `protocol`, on top of the one that it was taken for. Told once.
    fn speaks(&mut self, protocol: Protocol) {
        let _ = protocol;
    }

    /// Who sends the requests of this connection.
    fn sender(&self) -> Sender {
        Sender::default()
    }

    /// An MCP request has been answered (also: its answer was lost). Comes after the `done` of its operation.
    fn mcp(&mut self, exchange: &Exchange) {
        let _ = exchange;
    }

    /// Something happened to a message of a queue. Comes after the `done` of its operation.
    fn queue(&mut self, event: QueueEvent) {
        let _ = event;
    }

    /// A reply came that belongs to no request of this connection, by count. Told only when the connection was seen
    /// from its start and without a hole, and not for what a server may say unasked (a time-out, a shutdown).
    fn unmatched_reply(&mut self, at: Nanos, why: &'static str) {
        let _ = (at, why);
    }

    /// Something was said that is not known, though its bytes came: it refers to what was missed before. As little may be
    /// concluded from its absence as from what was lost; what the connection has proved stands.
    fn missed(&mut self, at: Nanos) {
        let _ = at;
    }

    /// From here on requests may be on their way at the same time, each for somebody else: each is a unit of work of its
    /// own, which ends when it is answered. They are numbered as their heads come, and may be whole in another order.
    fn concurrent(&mut self) {}

    /// The server told the transaction's state; `Idle` ends the unit of work.
    fn status(&mut self, at: Nanos, status: TxStatus);

    /// Something was missed: what the connection has proved is unknown until the next acknowledged binding.
    fn disturbed(&mut self, at: Nanos, why: Disturbance);

    /// What follows goes through to `to`, as a connection of its own. Told once, before [`Self::opaque`].
    fn tunnel(&mut self, to: Sym) {
        let _ = to;
    }

    /// The rest cannot be read (TLS accepted, another protocol). Nothing more comes.
    fn opaque(&mut self, at: Nanos, why: &'static str);

    /// Malformed input, for the counter.
    fn decode_error(&mut self, error: DecodeError);
}

/// The symbol of `text`: one of our own words if it is one of `known`, else a name that was heard.
pub(crate) fn word_of(text: &str, known: &'static [&'static str], sink: &mut dyn Sink) -> Sym {
    match known.iter().find(|w| **w == text) {
        Some(word) => sink.word(word),
        None => sink.intern(text),
    }
}

/// How many bytes of each segment a decoder needs copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appetite {
    /// None: the direction says nothing to this decoder any more.
    Nothing,
    /// The first so many bytes.
    Head(u32),
    /// All.
    Everything,
}

/// A protocol's state machine over both directions of one connection. Implemented once, by `Lifecycle` (`lifecycle.rs`); what
/// differs between protocols is a `Conversation`. Not [`Send`]: the decoders of one engine share
/// parsed shapes without a lock, and live on its thread.
pub trait Decoder {
    /// Which protocol.
    fn protocol(&self) -> Protocol;

    /// More bytes of one direction. A request's bytes come before the reply's, as on the wire.
    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink);

    /// `n` bytes of one direction are missing at this point: lost, or cut at capture.
    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink);

    /// The connection ended: what is outstanding will not be answered.
    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink);

    /// What it wants copied from `from`'s segments from now on.
    fn appetite(&self, from: Side) -> Appetite;

    /// Of the bytes in which it told [`Sink::opaque`], so many at the end are what follows, and were not read.
    fn unread(&self) -> usize {
        0
    }

    /// Bytes held now, for the memory bound.
    fn memory(&self) -> usize;
}
