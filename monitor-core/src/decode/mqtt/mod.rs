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

use super::fifo::Fifo;
use super::message::MAX_LOOKED_INTO;
use super::{Appetite, Chunk, Decoder, Disturbance, Sink};
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Nanos, Protocol, Side};
use exchange::{Coming, Waiting, What};
use packet::{Kind, Packets, Version};
use session::Opening;

/// Malformed input, after which the connection is given up.
const MAX_MALFORMED: u32 = 16;
/// From this size on, the middle of a message's content is counted rather than read.
const LARGE: u32 = 1 << 20;

/// The decoder.
#[derive(Debug)]
pub struct Mqtt {
    salt: Salt,
    packets: [Packets; 2],
    /// The next segment of this direction may begin a packet; until then nothing is known.
    lost: [bool; 2],
    at_start: [bool; 2],
    version: Option<Version>,
    opening: Option<Opening>,
    /// The server keeps what is not settled for the client's next connection.
    keeps: bool,
    coming: [Option<Coming>; 2],
    aliases: [FxHashMap<u16, Box<[u8]>>; 2],
    waiting: Fifo<u16, Waiting>,
    /// Packet ids of deliveries that are not settled.
    unacked: Fifo<u16, ()>,
    pending: Fifo<(Kind, u16), What>,
    n_unconfirmed: u64,
    latest: u64,
    /// Requests begun and not answered.
    n_open: usize,
    /// Nothing was missed since the connection's start.
    whole: bool,
    /// The connection is older than the agent, and nothing was said about it yet.
    unannounced: bool,
    n_malformed: u32,
    over: bool,
}

impl Mqtt {
    /// A decoder for one connection.
    pub fn new(salt: Salt, mid_stream: bool) -> Self {
        Self {
            salt,
            packets: [Packets::new(), Packets::new()],
            lost: [mid_stream; 2],
            at_start: [true; 2],
            version: None,
            opening: None,
            keeps: true,
            coming: [None, None],
            aliases: Default::default(),
            waiting: Fifo::default(),
            unacked: Fifo::default(),
            pending: Fifo::default(),
            n_unconfirmed: 0,
            latest: 0,
            n_open: 0,
            whole: !mid_stream,
            unannounced: mid_stream,
            n_malformed: 0,
            over: false,
        }
    }

    /// Something is missing: nobody who waits will be told.
    fn lose(&mut self, at: Nanos, why: Disturbance, sink: &mut dyn Sink) {
        self.whole = false;
        self.opening = None;
        self.keeps = true;
        sink.disturbed(at, why);
        self.give_up(at, sink);
        self.rest(at, sink);
        if why == Disturbance::Malformed {
            self.n_malformed += 1;
            if self.n_malformed >= MAX_MALFORMED {
                self.over = true;
                sink.opaque(at, "malformed");
            }
        }
    }

    fn forget(&mut self, side: usize) {
        if let (Some(lost), Some(packets)) = (self.lost.get_mut(side), self.packets.get_mut(side)) {
            *lost = true;
            packets.reset();
        }
        if let (Some(coming), Some(aliases)) = (self.coming.get_mut(side), self.aliases.get_mut(side)) {
            *coming = None;
            // Any of them may have been changed in what was missed.
            aliases.clear();
        }
    }

    fn take(&mut self, side: usize) -> Packets {
        self.packets.get_mut(side).map_or_else(Packets::new, |p| std::mem::replace(p, Packets::new()))
    }

    fn put(&mut self, side: usize, packets: Packets) {
        if let Some(place) = self.packets.get_mut(side) {
            *place = packets;
        }
    }
}

impl Decoder for Mqtt {
    fn protocol(&self) -> Protocol {
        Protocol::Mqtt
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
        if *lost {
            if !starts || !look::begins(chunk.bytes, from) {
                return;
            }
            *lost = false;
        }
        let mut packets = self.take(side);
        let mut version = self.version;
        let result = packets.feed(chunk.bytes, &mut version, &mut |piece, version| {
            self.piece(from, piece, *version, chunk.at, sink);
            if let Some(opening) = &self.opening {
                *version = Some(opening.version);
            }
        });
        self.version = version;
        self.put(side, packets);
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
        if self.lost.get(side) == Some(&true) {
            return;
        }
        let mut packets = self.take(side);
        let version = self.version;
        let goes_on = packets.miss(n, &mut |piece| self.piece(from, piece, version, at, sink));
        self.put(side, packets);
        if !goes_on && !self.over {
            self.forget(side);
            self.lose(at, Disturbance::Gap, sink);
        }
    }

    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if !self.over {
            self.finish(at, sink);
        }
    }

    fn appetite(&self, from: Side) -> Appetite {
        let left = self.packets.get(usize::from(from == Side::Server)).map_or(0, Packets::content_left);
        match from {
            _ if self.over => Appetite::Nothing,
            // Far from such a content's end no segment reaches what follows it.
            _ if left >= LARGE => Appetite::Head(4 << 10),
            _ => Appetite::Everything,
        }
    }

    fn memory(&self) -> usize {
        let packets: usize = self.packets.iter().map(Packets::memory).sum();
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
