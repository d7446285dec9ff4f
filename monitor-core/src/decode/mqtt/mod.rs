//! MQTT 3.1.1 and 5 (OASIS standards of these versions), over TCP.
//!
//! A publication is told when the server confirms it (PUBACK, PUBREC), at quality 0 when it was complete. A delivery is
//! settled by PUBACK or PUBCOMP. Aliases of topics are resolved in each direction. A connection that was not seen from
//! its start is taken for version 5 if its first publication reads as one.
//!
//! Memory: two messages in the making (16 KiB each, and 128 KiB of an unfinished packet in each direction), 512
//! publications without confirmation, 16,384 deliveries that are not settled, 1,024 requests, 256 aliases of topics of
//! up to 512 bytes in each direction: under 2 MiB.

mod exchange;
pub mod fuzz;
pub(crate) mod look;
mod packet;
mod read;
mod session;

use rustc_hash::FxHashMap;

use super::begun::Begun;
use super::fifo::Fifo;
use super::lifecycle::{Conversation, End, Fault, Life, Lifecycle};
use super::message::MAX_LOOKED_INTO;
use super::{Appetite, Chunk, Decoder, Sink};
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Nanos, Protocol, Side, Sides};
use exchange::{Coming, Waiting};
use packet::{Kind, Packets, Version};
use session::Opening;

/// From this size on, the middle of a message's content is counted rather than read.
const LARGE: u32 = 1 << 20;

/// What is known of one connection.
#[derive(Debug)]
struct Mqtt {
    life: Life,
    salt: Salt,
    version: Option<Version>,
    opening: Option<Opening>,
    /// The server keeps what is not settled for the client's next connection.
    keeps: bool,
    coming: Sides<Option<Coming>>,
    aliases: Sides<FxHashMap<u16, Box<[u8]>>>,
    /// Publications without a confirmation, by packet id where that was read.
    waiting: Fifo<Option<u16>, Waiting>,
    /// Packet ids of deliveries that are not settled.
    unacked: Fifo<u16, ()>,
    pending: Fifo<(Kind, u16), Begun>,
    latest: u64,
    /// Requests begun and not answered.
    n_open: usize,
}

/// A decoder for one connection.
pub fn decoder(salt: Salt, mid_stream: bool) -> Box<dyn Decoder> {
    Box::new(Mqtt::new(salt, mid_stream))
}

impl Mqtt {
    fn new(salt: Salt, mid_stream: bool) -> Lifecycle<Self> {
        let talk = Self {
            life: Life::new(mid_stream),
            salt,
            version: None,
            opening: None,
            keeps: true,
            coming: Sides::default(),
            aliases: Sides::default(),
            waiting: Fifo::default(),
            unacked: Fifo::default(),
            pending: Fifo::default(),
            latest: 0,
            n_open: 0,
        };
        Lifecycle::new(talk, Sides::of(|_| Packets::new()))
    }
}

impl Conversation for Mqtt {
    const PROTOCOL: Protocol = Protocol::Mqtt;

    type Frames = Sides<Packets>;

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
        frames: &mut Sides<Packets>,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let mut version = self.version;
        let read = frames[from].feed(chunk.bytes, &mut version, &mut |piece, version| {
            self.version = *version;
            self.piece(from, piece, chunk.at, sink);
            if let Some(opening) = &self.opening {
                *version = Some(opening.version);
            }
        });
        self.version = version;
        Ok(read?)
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Packets>,
        from: Side,
        n: u64,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let goes_on = frames[from].miss(n, &mut |piece| self.piece(from, piece, at, sink));
        if goes_on { Ok(()) } else { Err(Fault::Gap) }
    }

    fn forget(&mut self, frames: &mut Sides<Packets>, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        frames[from].reset();
        self.coming[from] = None;
        // Any of them may have been changed in what was missed.
        self.aliases[from].clear();
    }

    fn abandon(&mut self, end: End, at: Nanos, sink: &mut dyn Sink) {
        if end == End::Closed {
            self.finish(at, sink);
            return;
        }
        self.opening = None;
        self.keeps = true;
        self.give_up(at, sink);
        self.rest(at, sink);
    }

    fn appetite(&self, frames: &Sides<Packets>, from: Side) -> Appetite {
        // Far from a large content's end no segment reaches what follows it.
        if frames[from].content_left() >= LARGE { Appetite::Head(4 << 10) } else { Appetite::Everything }
    }

    fn memory(&self, frames: &Sides<Packets>) -> usize {
        let packets: usize = frames.iter().map(Packets::memory).sum();
        let aliases: usize = self.aliases.iter().flat_map(|a| a.values()).map(|t| t.len() + 32).sum();
        packets
            + aliases
            + self.coming.iter().flatten().count() * MAX_LOOKED_INTO
            + self.waiting.len() * size_of::<Message>()
            + self.waiting.memory()
            + self.pending.memory()
            + self.unacked.memory()
    }
}

#[cfg(test)]
mod tests;
