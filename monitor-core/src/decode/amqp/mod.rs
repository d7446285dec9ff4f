//! AMQP 0-9-1 (amqp.org, "Advanced Message Queuing Protocol Specification", 0-9-1), with RabbitMQ's extensions.
//!
//! A publication is told when the broker confirms it, where the channel confirms; else when it was complete. Deliveries
//! are settled by tag and channel. After something was missed nothing outstanding is settled: numbers of confirmations
//! cannot be known again on that channel, tags can.
//!
//! Written by hand rather than with a codec crate: those that there are build every table as a tree and want frames
//! whole, and what is needed here is a few arguments and bodies in pieces.
//!
//! Memory: 24 messages in the making (16 KiB each), 512 publications without confirmation, 16,384 deliveries that are
//! not settled, 2,048 requests, 1,024 channels, 4,096 consumers, two frames (64 KiB each): under 2 MiB.

mod channel;
mod content;
mod core;
mod frame;
pub mod fuzz;
mod header;
pub(crate) mod look;
mod machine;
mod method;
mod session;
mod table;

use rustc_hash::FxHashMap;

use self::core::Core;
use super::lifecycle::{Conversation, End, Fault, Life, Lifecycle};
use super::{Appetite, Chunk, Decoder, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Protocol, Side, Sides};
use channel::Channel;
use frame::Frames;
use look::GREETING;
use session::Opening;

/// From this size on, the middle of a body in one frame is counted rather than read.
const LARGE: u32 = 1 << 20;

/// What is known of one connection.
#[derive(Debug)]
struct Amqp {
    core: Core,
    /// So many bytes of the greeting have come.
    greeted: usize,
    opening: Opening,
    /// The server has accepted a token as this connection's password.
    checks_tokens: bool,
    channels: FxHashMap<u16, Channel>,
    /// Channel 0: what is asked about the connection itself.
    control: Channel,
}

/// A decoder for one connection.
pub fn decoder(salt: Salt, mid_stream: bool) -> Box<dyn Decoder> {
    Box::new(Amqp::new(salt, mid_stream))
}

impl Amqp {
    fn new(salt: Salt, mid_stream: bool) -> Lifecycle<Self> {
        let talk = Self {
            core: Core::new(salt, mid_stream),
            greeted: if mid_stream { GREETING.len() } else { 0 },
            opening: Opening::default(),
            checks_tokens: false,
            channels: FxHashMap::default(),
            control: Channel::new(0),
        };
        Lifecycle::new(talk, Sides::of(|_| Frames::new()))
    }

    /// Takes the greeting off the client's first bytes; `None`: it is another.
    fn greeting<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let wanted = GREETING.get(self.greeted..).unwrap_or_default();
        let n = wanted.len().min(bytes.len());
        let (said, rest) = bytes.split_at(n);
        self.greeted += n;
        (wanted.get(..n) == Some(said)).then_some(rest)
    }
}

impl Conversation for Amqp {
    const PROTOCOL: Protocol = Protocol::Amqp;

    type Frames = Sides<Frames>;

    fn life(&self) -> &Life {
        &self.core.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.core.life
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
        let mut bytes = chunk.bytes;
        if from == Side::Client {
            let Some(rest) = self.greeting(bytes) else {
                self.leave(Some("amqp_version"), chunk.at, sink);
                return Ok(());
            };
            bytes = rest;
        }
        Ok(frames[from].feed(bytes, &mut |piece| self.piece(from, piece, chunk.at, sink))?)
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Frames>,
        from: Side,
        n: u64,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        if frames[from].miss(n, &mut |piece| self.piece(from, piece, at, sink)) {
            return Ok(());
        }
        // It may be among what is missing.
        self.greeted = GREETING.len();
        Err(Fault::Gap)
    }

    fn forget(&mut self, frames: &mut Sides<Frames>, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        frames[from].reset();
    }

    fn abandon(&mut self, end: End, at: Nanos, sink: &mut dyn Sink) {
        self.opening = Opening::default();
        let numbers = self.numbers();
        if end == End::Closed {
            for number in &numbers {
                if let Some(channel) = self.channels.get_mut(number) {
                    // The broker gives what was not settled to others.
                    channel.return_all(at, &mut self.core, sink);
                }
            }
        }
        for number in &numbers {
            if let Some(channel) = self.channels.get_mut(number) {
                channel.give_up(None, at, &mut self.core, sink);
            }
        }
        self.control.give_up(None, at, &mut self.core, sink);
        if end == End::Lost {
            self.core.rest(at, sink);
        }
    }

    fn appetite(&self, frames: &Sides<Frames>, from: Side) -> Appetite {
        // Far from a large body's end no segment reaches what follows it.
        if frames[from].body_left() >= LARGE { Appetite::Head(4 << 10) } else { Appetite::Everything }
    }

    fn memory(&self, frames: &Sides<Frames>) -> usize {
        let frames: usize = frames.iter().map(Frames::memory).sum();
        let channels: usize = self.channels.values().map(Channel::memory).sum();
        frames + channels + self.control.memory() + self.core.memory()
    }
}

#[cfg(test)]
mod tests;
