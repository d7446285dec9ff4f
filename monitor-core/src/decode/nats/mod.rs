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
use crate::model::{Nanos, Outcome, Protocol, Side, Sides};

use super::fifo::Fifo;
use super::lifecycle::{Conversation, End, Fault, Life, Lifecycle};
use super::{Chunk, DecodeError, Decoder, Sink};
use frame::{After, Frame, Frames};
use jetstream::Policy;
use login::Login;
use open::Open;
use waits::Wait;

/// Most consumers whose policy is remembered.
const MAX_CONSUMERS: usize = 256;

/// What is known of one connection.
#[derive(Debug)]
struct Nats {
    life: Life,
    salt: Salt,
    open: Sides<Open>,
    latest: u64,
    login: Option<Login>,
    /// The client asked for an answer to everything: what still waits for one.
    verbose: bool,
    unanswered: VecDeque<Option<Wait>>,
    /// By the subject that the answer comes to.
    waits: Fifo<u64, Wait>,
    policies: FxHashMap<u64, Policy>,
    /// Deliveries of consumers whose confirmations cover all before, by handle.
    together: Fifo<u64, Numbered>,
    /// The same in their consumers' order, with their handles.
    in_order: BTreeSet<(Numbered, u64)>,
}

/// A delivery by its consumer, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Numbered {
    consumer: u64,
    number: u64,
}

/// A decoder for one connection.
pub fn decoder(salt: Salt, mid_stream: bool) -> Box<dyn Decoder> {
    Box::new(Nats::new(salt, mid_stream))
}

impl Nats {
    fn new(salt: Salt, mid_stream: bool) -> Lifecycle<Self> {
        let talk = Self {
            life: Life::new(mid_stream),
            salt,
            open: Sides::of(|_| Open::new(salt)),
            latest: 0,
            login: None,
            verbose: false,
            unanswered: VecDeque::new(),
            waits: Fifo::default(),
            policies: FxHashMap::default(),
            together: Fifo::default(),
            in_order: BTreeSet::new(),
        };
        Lifecycle::new(talk, Sides::default())
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

    /// One side has said something: what follows it.
    fn frame(&mut self, from: Side, frame: Frame<'_>, at: Nanos, sink: &mut dyn Sink) -> Result<After, DecodeError> {
        match (frame, from) {
            (Frame::Line([]), _) => {}
            (Frame::Line(line), Side::Client) => return self.client_line(line, at, sink),
            (Frame::Line(line), Side::Server) => return self.server_line(line, at, sink),
            (Frame::Piece(bytes), _) => self.open[from].piece(bytes, sink),
            (Frame::End, _) => {
                let mut open = std::mem::replace(&mut self.open[from], Open::new(self.salt));
                match from {
                    Side::Client => self.sent(&mut open, at, sink),
                    Side::Server => self.received(&mut open, at, sink),
                }
                self.open[from] = open;
            }
        }
        Ok(After::Line)
    }
}

impl Conversation for Nats {
    const PROTOCOL: Protocol = Protocol::Nats;

    type Frames = Sides<Frames>;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        look::begins(bytes, from)
    }

    fn read(
        &mut self,
        frames: &mut Sides<Frames>,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        // The server asked for TLS, and the client begins it.
        if from == Side::Client && self.latest == 0 && chunk.bytes.first() == Some(&0x16) {
            self.leave(Some("tls"), chunk.at, sink);
            return Ok(());
        }
        let mut bytes = chunk.bytes;
        let frames = &mut frames[from];
        while let Some(frame) = frames.next(&mut bytes)? {
            let after = self.frame(from, frame, chunk.at, sink)?;
            frames.follow(after)?;
        }
        Ok(())
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Frames>,
        from: Side,
        n: u64,
        _: Nanos,
        _: &mut dyn Sink,
    ) -> Result<(), Fault> {
        if !frames[from].miss(n) {
            return Err(Fault::Gap);
        }
        self.open[from].missing(n);
        Ok(())
    }

    fn forget(&mut self, frames: &mut Sides<Frames>, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        frames[from] = Frames::default();
        self.open[from] = Open::new(self.salt);
    }

    fn abandon(&mut self, _: End, at: Nanos, sink: &mut dyn Sink) {
        drop(self.together.take_all());
        self.in_order.clear();
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

    fn memory(&self, frames: &Sides<Frames>) -> usize {
        let frames: usize = frames.iter().map(Frames::memory).sum();
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
