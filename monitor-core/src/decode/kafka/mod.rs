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
use super::lifecycle::{Conversation, End, Fault, Life, Lifecycle};
use super::wire::Reader;
use super::{Chunk, Decoder, Sink};
use bytes::Stop;
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

/// The frames of both directions, and what of them is being read.
#[derive(Debug, Default)]
struct Frames {
    asks: Inbox,
    asking: Asking,
    says: Inbox,
    saying: Saying,
}

/// What is known of one connection.
#[derive(Debug)]
struct Kafka {
    life: Life,
    core: Core,
    /// By correlation id, where the response has one.
    pending: Fifo<Option<i32>, Pending>,
    /// Correlation ids of the last requests that want no response: some brokers answer all the same.
    silent: VecDeque<i32>,
    login: sasl::Login,
    /// The client authenticates without Kafka's frames.
    raw_login: bool,
    latest: u64,
}

/// A decoder for one connection.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
    Box::new(Kafka::new(salt, mid_stream, shared))
}

impl Kafka {
    fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Lifecycle<Self> {
        let (topics, partitions) = (Topics::default(), Partitions::default());
        let talk = Self {
            life: Life::new(mid_stream),
            core: Core { salt, shared: shared.clone(), topics, partitions, held: 0 },
            pending: Fifo::default(),
            silent: VecDeque::new(),
            login: sasl::Login::default(),
            raw_login: false,
            latest: 0,
        };
        Lifecycle::new(talk, Frames::default())
    }

    /// Reads all that can be read of one direction.
    fn drive(&mut self, frames: &mut Frames, from: Side, at: Nanos, sink: &mut dyn Sink) -> Result<(), Fault> {
        let Frames { asks, asking, says, saying } = frames;
        loop {
            let read = match from {
                Side::Client => self.ask(asking, asks, at, sink),
                Side::Server => self.say(saying, says, at, sink),
            };
            match read {
                Ok(()) => {}
                Err(Stop::Short) => return Ok(()),
                Err(Stop::Bad(error)) => return Err(error.into()),
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
}

impl Conversation for Kafka {
    const PROTOCOL: Protocol = Protocol::Kafka;
    const MAX_WANDERED: Option<u64> = Some(MAX_LOST);

    type Frames = Frames;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
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

    fn read(&mut self, frames: &mut Frames, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        match from {
            Side::Client => frames.asks.push(chunk.bytes),
            Side::Server => frames.says.push(chunk.bytes),
        }
        self.drive(frames, from, chunk.at, sink)
    }

    fn skip(&mut self, frames: &mut Frames, from: Side, n: u64, at: Nanos, sink: &mut dyn Sink) -> Result<(), Fault> {
        self.life.missed();
        let goes_on = match from {
            Side::Client => self.request_hole(frames, n, at, sink),
            Side::Server => self.response_hole(frames, n, at, sink),
        };
        if goes_on { self.drive(frames, from, at, sink) } else { Err(Fault::Gap) }
    }

    /// Requests keep waiting: their responses are known by number, whatever is missing between them.
    fn forget(&mut self, frames: &mut Frames, from: Side, end: End, at: Nanos, sink: &mut dyn Sink) {
        match from {
            // What has not come whole by the end was never asked.
            Side::Client if end == End::Closed => frames.asking = Asking::default(),
            Side::Client => {
                self.abandon_request(std::mem::take(&mut frames.asking), at, sink);
                frames.asks = Inbox::default();
                self.core.partitions.forget_asked();
            }
            Side::Server => {
                self.abandon_response(std::mem::take(&mut frames.saying), at, sink);
                frames.says = Inbox::default();
            }
        }
    }

    fn abandon(&mut self, end: End, at: Nanos, sink: &mut dyn Sink) {
        if end != End::Lost {
            while let Some((_, p)) = self.pending.pop_front() {
                self.unanswered(p, at, sink);
            }
        }
    }

    fn memory(&self, frames: &Frames) -> usize {
        frames.asks.memory()
            + frames.says.memory()
            + self.pending.iter().map(Pending::memory).sum::<usize>()
            + self.pending.memory()
            + self.core.topics.memory()
            + self.core.partitions.memory()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod wire;
