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
use super::{Appetite, Chunk, Decoder, Disturbance, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Protocol, Side};
use channel::Channel;
use frame::Frames;
use look::GREETING;
use session::Opening;

/// Malformed input, after which the connection is given up.
const MAX_MALFORMED: u32 = 16;
/// From this size on, the middle of a body in one frame is counted rather than read.
const LARGE: u32 = 1 << 20;

/// The decoder.
#[derive(Debug)]
pub struct Amqp {
    core: Core,
    frames: [Frames; 2],
    /// The next segment of this direction may begin a frame; until then nothing is known.
    lost: [bool; 2],
    at_start: [bool; 2],
    /// So many bytes of the greeting have come.
    greeted: usize,
    opening: Opening,
    /// The server has accepted a token as this connection's password.
    checks_tokens: bool,
    channels: FxHashMap<u16, Channel>,
    /// Channel 0: what is asked about the connection itself.
    control: Channel,
    /// The connection is older than the agent, and nothing was said about it yet.
    unannounced: bool,
    n_malformed: u32,
    over: bool,
}

impl Amqp {
    /// A decoder for one connection.
    pub fn new(salt: Salt, mid_stream: bool) -> Self {
        Self {
            core: Core::new(salt, mid_stream),
            frames: [Frames::new(), Frames::new()],
            lost: [mid_stream; 2],
            at_start: [true; 2],
            greeted: if mid_stream { GREETING.len() } else { 0 },
            opening: Opening::default(),
            checks_tokens: false,
            channels: FxHashMap::default(),
            control: Channel::new(0),
            unannounced: mid_stream,
            n_malformed: 0,
            over: false,
        }
    }

    /// Something is missing: nobody who waits will be told.
    fn lose(&mut self, at: Nanos, why: Disturbance, sink: &mut dyn Sink) {
        self.core.whole = false;
        self.opening = Opening::default();
        sink.disturbed(at, why);
        self.give_up(at, sink);
        self.core.rest(at, sink);
        if why == Disturbance::Malformed {
            self.n_malformed += 1;
            if self.n_malformed >= MAX_MALFORMED {
                self.over = true;
                sink.opaque(at, "malformed");
            }
        }
    }

    fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        for number in self.numbers() {
            if let Some(channel) = self.channels.get_mut(&number) {
                channel.give_up(None, at, &mut self.core, sink);
            }
        }
        self.control.give_up(None, at, &mut self.core, sink);
    }

    fn forget(&mut self, side: usize) {
        if let (Some(lost), Some(frames)) = (self.lost.get_mut(side), self.frames.get_mut(side)) {
            *lost = true;
            frames.reset();
        }
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

impl Decoder for Amqp {
    fn protocol(&self) -> Protocol {
        Protocol::Amqp
    }

    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        if std::mem::take(&mut self.unannounced) {
            sink.disturbed(chunk.at, Disturbance::MidStream);
        }
        let side = usize::from(from == Side::Server);
        let (Some(lost), Some(at_start)) = (self.lost.get_mut(side), self.at_start.get_mut(side)) else { return };
        let starts = std::mem::replace(at_start, chunk.ends_segment);
        let mut bytes = chunk.bytes;
        if *lost {
            if !starts || !look::begins(bytes, from) {
                return;
            }
            *lost = false;
        } else if from == Side::Client && self.greeted < GREETING.len() {
            let Some(rest) = self.greeting(bytes) else {
                self.over = true;
                sink.opaque(chunk.at, "amqp_version");
                return;
            };
            bytes = rest;
        }
        let Some(frames) = self.frames.get_mut(side) else { return };
        let mut frames = std::mem::replace(frames, Frames::new());
        let result = frames.feed(bytes, &mut |piece| self.piece(from, piece, chunk.at, sink));
        if let Some(place) = self.frames.get_mut(side) {
            *place = frames;
        }
        if let (Err(why), false) = (result, self.over) {
            sink.decode_error(why.name());
            self.forget(side);
            self.lose(chunk.at, Disturbance::Malformed, sink);
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        let side = usize::from(from == Side::Server);
        if let Some(at_start) = self.at_start.get_mut(side) {
            *at_start = true;
        }
        let Some(frames) = self.frames.get_mut(side) else { return };
        if self.lost.get(side) == Some(&true) {
            return;
        }
        let mut frames = std::mem::replace(frames, Frames::new());
        let goes_on = frames.miss(n, &mut |piece| self.piece(from, piece, at, sink));
        if let Some(place) = self.frames.get_mut(side) {
            *place = frames;
        }
        if !goes_on && !self.over {
            self.greeted = GREETING.len();
            self.forget(side);
            self.lose(at, Disturbance::Gap, sink);
        }
    }

    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        for number in self.numbers() {
            if let Some(channel) = self.channels.get_mut(&number) {
                // The broker gives what was not settled to others.
                channel.return_all(at, &mut self.core, sink);
            }
        }
        self.give_up(at, sink);
    }

    fn appetite(&self, from: Side) -> Appetite {
        let body_left = self.frames.get(usize::from(from == Side::Server)).map_or(0, Frames::body_left);
        match from {
            _ if self.over => Appetite::Nothing,
            // Far from such a body's end no segment reaches what follows it.
            _ if body_left >= LARGE => Appetite::Head(4 << 10),
            _ => Appetite::Everything,
        }
    }

    fn memory(&self) -> usize {
        let frames: usize = self.frames.iter().map(Frames::memory).sum();
        let channels: usize = self.channels.values().map(Channel::memory).sum();
        frames + channels + self.control.memory() + self.core.memory()
    }
}

#[cfg(test)]
mod tests;
