//! NATS client protocol with headers, and JetStream on top of it (docs.nats.io, "Client protocol", "JetStream wire
//! API"; confirmed against nats-server 2.9).
//!
//! A message without a reply subject is told as published when it is complete: the server says nothing to it. One with a
//! reply subject waits for the answer: JetStream's says where it was stored, any other is a service's. What JetStream
//! hands out names its stream and number in the subject by which it is confirmed. Answers (`_INBOX.`) and the system's
//! own subjects (`$…`) are no queues.
//!
//! A publication that was refused for lack of permission is noticed only where it waits for an answer, or where the
//! client asked for one to everything (`verbose`): the server's complaint comes at any time and names no message.
//!
//! Memory: two lines of 64 KiB, two messages being read, 256 that wait for an answer, 4,096 deliveries that are
//! confirmed together.

mod frame;
pub mod fuzz;
mod jetstream;
mod login;
pub(crate) mod look;
mod open;
mod session;
mod waits;

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::FxHashMap;

use crate::model::claim::Salt;
use crate::model::{Nanos, Outcome, Protocol, Side};

use super::fifo::Fifo;
use super::{Appetite, Chunk, DecodeError, Decoder, Disturbance, Sink};
use frame::{After, Frames, Hears};
use jetstream::Policy;
use login::Login;
use open::Open;
use waits::Wait;

/// Most consumers whose policy is remembered.
const MAX_CONSUMERS: usize = 256;

/// The decoder.
#[derive(Debug)]
pub struct Nats {
    salt: Salt,
    frames: [Frames; 2],
    open: [Open; 2],
    /// Nothing is known of this direction until a line begins for certain.
    lost: [bool; 2],
    at_start: [bool; 2],
    latest: u64,
    login: Option<Login>,
    /// The client asked for an answer to everything: what still waits for one.
    verbose: bool,
    unanswered: VecDeque<Option<Wait>>,
    /// By the subject that the answer comes to.
    waits: Fifo<u64, Wait>,
    policies: FxHashMap<u64, Policy>,
    /// Deliveries of consumers whose confirmations cover all before, by handle: consumer, number.
    together: Fifo<u64, (u64, u64)>,
    /// The same by consumer and number.
    in_order: BTreeSet<(u64, u64, u64)>,
    over: bool,
}

impl Nats {
    /// A decoder for one connection.
    pub fn new(salt: Salt, mid_stream: bool) -> Self {
        Self {
            salt,
            frames: [Frames::new(), Frames::new()],
            open: [Open::new(salt), Open::new(salt)],
            lost: [mid_stream; 2],
            at_start: [true; 2],
            latest: 0,
            login: None,
            verbose: false,
            unanswered: VecDeque::new(),
            waits: Fifo::default(),
            policies: FxHashMap::default(),
            together: Fifo::default(),
            in_order: BTreeSet::new(),
            over: false,
        }
    }

    fn policy(&self, consumer: u64) -> Policy {
        self.policies.get(&consumer).copied().unwrap_or(Policy::Each)
    }

    fn learn(&mut self, consumer: u64, policy: Policy) {
        self.policies.remove(&consumer);
        if policy != Policy::Each && self.policies.len() < MAX_CONSUMERS {
            self.policies.insert(consumer, policy);
        }
    }

    /// Something is missing: who waits for an answer may have been told.
    fn lose(&mut self, from: Side, at: Nanos, why: Disturbance, sink: &mut dyn Sink) {
        let side = usize::from(from == Side::Server);
        if let (Some(lost), Some(frames), Some(open)) =
            (self.lost.get_mut(side), self.frames.get_mut(side), self.open.get_mut(side))
        {
            *lost = true;
            *frames = Frames::new();
            *open = Open::new(self.salt);
        }
        sink.disturbed(at, why);
        drop(self.together.take_all());
        self.in_order.clear();
        self.give_up(at, sink);
    }

    fn feed(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) -> Result<(), DecodeError> {
        let side = usize::from(from == Side::Server);
        let Some(slot) = self.frames.get_mut(side) else { return Ok(()) };
        let mut frames = std::mem::replace(slot, Frames::new());
        let result = frames.feed(chunk.bytes, &mut Heard { nats: self, from, at: chunk.at, sink });
        if let Some(slot) = self.frames.get_mut(side) {
            *slot = frames;
        }
        result
    }
}

/// The decoder while it hears one side.
struct Heard<'a> {
    nats: &'a mut Nats,
    from: Side,
    at: Nanos,
    sink: &'a mut dyn Sink,
}

impl Hears for Heard<'_> {
    fn line(&mut self, line: &[u8]) -> Result<After, DecodeError> {
        if self.nats.over || line.is_empty() {
            return Ok(After::Line);
        }
        match self.from {
            Side::Client => self.nats.client_line(line, self.at, self.sink),
            Side::Server => self.nats.server_line(line, self.at, self.sink),
        }
    }

    fn piece(&mut self, bytes: &[u8]) {
        let side = usize::from(self.from == Side::Server);
        if let Some(open) = self.nats.open.get_mut(side) {
            open.piece(bytes, self.sink);
        }
    }

    fn missing(&mut self, n: u64) {
        let side = usize::from(self.from == Side::Server);
        if let Some(open) = self.nats.open.get_mut(side) {
            open.missing(n);
        }
    }

    fn ends(&mut self) {
        let side = usize::from(self.from == Side::Server);
        let Some(slot) = self.nats.open.get_mut(side) else { return };
        let mut open = std::mem::replace(slot, Open::new(self.nats.salt));
        match self.from {
            Side::Client => self.nats.sent(&mut open, self.at, self.sink),
            Side::Server => self.nats.received(&mut open, self.at, self.sink),
        }
        if let Some(slot) = self.nats.open.get_mut(side) {
            *slot = open;
        }
    }
}

impl Decoder for Nats {
    fn protocol(&self) -> Protocol {
        Protocol::Nats
    }

    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        let side = usize::from(from == Side::Server);
        let (Some(lost), Some(at_start)) = (self.lost.get_mut(side), self.at_start.get_mut(side)) else { return };
        let starts = std::mem::replace(at_start, chunk.ends_segment);
        if *lost {
            if !starts || !look::begins(chunk.bytes, from) {
                return;
            }
            *lost = false;
        }
        // The server asked for TLS, and the client begins it.
        if from == Side::Client && self.latest == 0 && chunk.bytes.first() == Some(&0x16) {
            self.over = true;
            sink.opaque(chunk.at, "tls");
            return;
        }
        if let Err(kind) = self.feed(from, chunk, sink) {
            sink.decode_error(kind.name());
            self.lose(from, chunk.at, Disturbance::Malformed, sink);
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink) {
        let side = usize::from(from == Side::Server);
        if let Some(at_start) = self.at_start.get_mut(side) {
            *at_start = true;
        }
        if self.over || self.lost.get(side) == Some(&true) {
            return;
        }
        let Some(slot) = self.frames.get_mut(side) else { return };
        let mut frames = std::mem::replace(slot, Frames::new());
        let goes_on = frames.miss(n, &mut Heard { nats: self, from, at, sink });
        if let Some(slot) = self.frames.get_mut(side) {
            *slot = frames;
        }
        if !goes_on {
            self.lose(from, at, Disturbance::Gap, sink);
        }
    }

    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if !self.over {
            self.give_up(at, sink);
        }
    }

    fn appetite(&self, _: Side) -> Appetite {
        if self.over { Appetite::Nothing } else { Appetite::Everything }
    }

    fn memory(&self) -> usize {
        let frames: usize = self.frames.iter().map(Frames::memory).sum();
        let open: usize = self.open.iter().map(Open::memory).sum();
        frames
            + open
            + self.waits.memory()
            + self.unanswered.capacity() * size_of::<Wait>()
            + self.together.memory()
            + self.in_order.len() * 24
            + self.policies.capacity() * 16
    }
}

impl Nats {
    /// Nobody who waits will be told.
    fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if let Some(login) = self.login.take() {
            self.logged_in(login, Outcome::Unknown, at, sink);
        }
        for (_, wait) in self.waits.take_all() {
            self.complete(wait, Outcome::Unknown, at, sink);
        }
        for wait in std::mem::take(&mut self.unanswered).into_iter().flatten() {
            self.complete(wait, Outcome::Unknown, at, sink);
        }
    }
}
