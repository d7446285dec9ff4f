//! Apache Kafka's protocol (kafka.apache.org, "Kafka protocol guide"; message layouts of Apache Kafka 4.1).
//!
//! Requests are paired with responses by correlation id; a request's number and version say how to read both. Records
//! are read as they come, so that frames of any size need little memory. What a broker hands out is settled by a commit
//! of a higher offset, mostly on another of the client's connections: deliveries and commits tell their positions.
//!
//! Memory: per direction one record or compressed batch (1 MiB), or one frame of another kind (256 KiB); 4096 requests
//! without a response; 8192 messages that are not confirmed (about 2 MiB); positions of 4096 partitions.

mod api;
mod bytes;
mod carrier;
mod codec;
pub mod fuzz;
mod inbox;
pub(crate) mod look;
mod metadata;
mod pending;
mod records;
mod request;
mod response;
mod sasl;
mod topics;

use std::collections::VecDeque;

use crate::model::claim::Salt;
use crate::model::{Nanos, Outcome, Protocol, Side, TxStatus};

use super::fifo::Fifo;
use super::wire::Reader;
use super::{Appetite, Chunk, Decoder, Disturbance, Sink};
use bytes::{Read, Stop};
use inbox::Inbox;
use pending::Pending;
use request::Asking;
use response::Saying;
use topics::{Ids, Partitions, Topics};

/// Most requests without a response.
const MAX_PENDING: usize = 4096;
/// Largest frame without records that is read whole.
const MAX_COLLECT: usize = 256 << 10;
/// Most requests that want no response whose ids are kept.
const MAX_SILENT: usize = 64;
/// Bytes of one direction in which no frame's start was found, after which it is given up.
const MAX_LOST: u64 = 256 << 20;

/// What the Kafka decoders of one engine share.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    ids: Ids,
}

/// What is needed to read records.
#[derive(Debug)]
struct Core {
    salt: Salt,
    shared: Shared,
    topics: Topics,
    partitions: Partitions,
    /// Messages that await the broker's answer.
    held: usize,
}

/// The decoder.
#[derive(Debug)]
pub struct Kafka {
    core: Core,
    asks: Inbox,
    says: Inbox,
    asking: Asking,
    saying: Saying,
    /// By correlation id, where the response has one.
    pending: Fifo<Option<i32>, Pending>,
    /// Correlation ids of the last requests that want no response: some brokers answer all the same.
    silent: VecDeque<i32>,
    login: sasl::Login,
    /// The client authenticates without Kafka's frames.
    raw_login: bool,
    latest: u64,
    /// The next segment of this direction may begin a frame; until then nothing is known.
    lost: [bool; 2],
    at_start: [bool; 2],
    /// Bytes since the direction was lost.
    wandered: [u64; 2],
    /// Nothing was missed since the connection's start.
    whole: bool,
    over: bool,
}

impl Kafka {
    /// A decoder for one connection.
    pub fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Self {
        Self {
            core: Core {
                salt,
                shared: shared.clone(),
                topics: Topics::default(),
                partitions: Partitions::default(),
                held: 0,
            },
            asks: Inbox::default(),
            says: Inbox::default(),
            asking: Asking::default(),
            saying: Saying::default(),
            pending: Fifo::default(),
            silent: VecDeque::new(),
            login: sasl::Login::default(),
            raw_login: false,
            latest: 0,
            lost: [mid_stream; 2],
            at_start: [true; 2],
            wandered: [0; 2],
            whole: !mid_stream,
            over: false,
        }
    }

    /// Reads all that can be read of one direction.
    fn drive(&mut self, from: Side, at: Nanos, sink: &mut dyn Sink) -> Read<()> {
        match from {
            Side::Client => {
                let mut inbox = std::mem::take(&mut self.asks);
                let mut asking = std::mem::take(&mut self.asking);
                let mut result = Ok(());
                while result.is_ok() && !self.over {
                    result = self.ask(&mut asking, &mut inbox, at, sink);
                }
                (self.asks, self.asking) = (inbox, asking);
                result
            }
            Side::Server => {
                let mut inbox = std::mem::take(&mut self.says);
                let mut saying = std::mem::take(&mut self.saying);
                let mut result = Ok(());
                while result.is_ok() && !self.over {
                    result = self.say(&mut saying, &mut inbox, at, sink);
                }
                (self.says, self.saying) = (inbox, saying);
                result
            }
        }
    }

    /// What became of a request is not known.
    fn unanswered(&mut self, p: Pending, at: Nanos, sink: &mut dyn Sink) {
        self.core.held = self.core.held.saturating_sub(p.held());
        let op = p.operation(at, Outcome::Unknown, sink);
        sink.done(&op);
        sink.answered(p.request, at, None);
    }

    /// Nothing may be outstanding now.
    fn rest(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.pending.is_empty() {
            self.core.held = 0;
            sink.status(at, TxStatus::Idle);
        }
    }

    /// A direction's frames are not known any more.
    fn lose(&mut self, from: Side, why: Disturbance, at: Nanos, sink: &mut dyn Sink) {
        self.whole = false;
        let side = usize::from(from == Side::Server);
        if let (Some(lost), Some(wandered)) = (self.lost.get_mut(side), self.wandered.get_mut(side)) {
            (*lost, *wandered) = (true, 0);
        }
        match from {
            Side::Client => {
                self.abandon_request(at, sink);
                self.asks = Inbox::default();
                self.core.partitions.forget_asked();
            }
            Side::Server => {
                self.abandon_response(at, sink);
                self.says = Inbox::default();
            }
        }
        sink.disturbed(at, why);
    }

    /// Whether a segment of a lost direction begins a frame.
    fn begins(&self, from: Side, bytes: &[u8]) -> bool {
        match from {
            Side::Client => look::resumes(bytes),
            Side::Server => {
                let mut r = Reader::new(bytes);
                let (Some(len), Some(correlation)) = (r.i32(), r.i32()) else { return false };
                usize::try_from(len).is_ok_and(|n| (4..=look::MAX_FRAME).contains(&n))
                    && self.pending.contains(Some(correlation))
            }
        }
    }
}

impl Decoder for Kafka {
    fn protocol(&self) -> Protocol {
        Protocol::Kafka
    }

    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        if self.over {
            return;
        }
        let side = usize::from(from == Side::Server);
        let Some(starts) = self.at_start.get_mut(side).map(|s| std::mem::replace(s, chunk.ends_segment)) else {
            return;
        };
        if self.lost.get(side) == Some(&true) {
            if !starts || !self.begins(from, chunk.bytes) {
                if let Some(wandered) = self.wandered.get_mut(side) {
                    *wandered = wandered.saturating_add(chunk.bytes.len() as u64);
                    if *wandered > MAX_LOST {
                        self.give_up(chunk.at, sink);
                        self.over = true;
                        sink.opaque(chunk.at, "kafka_frames_lost");
                    }
                }
                return;
            }
            if let Some(lost) = self.lost.get_mut(side) {
                *lost = false;
            }
        }
        match from {
            Side::Client => self.asks.push(chunk.bytes),
            Side::Server => self.says.push(chunk.bytes),
        }
        if let Err(Stop::Bad(kind)) = self.drive(from, chunk.at, sink) {
            sink.decode_error(kind.name());
            self.lose(from, Disturbance::Malformed, chunk.at, sink);
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
        self.whole = false;
        let goes_on = match from {
            Side::Client => self.request_hole(n, at, sink),
            Side::Server => self.response_hole(n, at, sink),
        };
        if !goes_on {
            self.lose(from, Disturbance::Gap, at, sink);
        } else if let Err(Stop::Bad(kind)) = self.drive(from, at, sink) {
            sink.decode_error(kind.name());
            self.lose(from, Disturbance::Malformed, at, sink);
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
        self.asks.memory()
            + self.says.memory()
            + self.pending.iter().map(Pending::memory).sum::<usize>()
            + self.pending.memory()
            + self.core.topics.memory()
            + self.core.partitions.memory()
    }
}

impl Kafka {
    fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.abandon_response(at, sink);
        while let Some((_, p)) = self.pending.pop_front() {
            self.unanswered(p, at, sink);
        }
        self.asking = Asking::default();
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod wire;
