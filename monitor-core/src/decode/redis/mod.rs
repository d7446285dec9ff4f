//! Redis serialization protocol, versions 2 and 3 (redis.io, "Redis serialization protocol specification").
//!
//! Replies come in the order of commands, so they are paired by count: pushes and pub/sub messages left out, commands
//! whose replies are switched off too, and those of a transaction held until its EXEC. After something was missed, a
//! reply belongs to nobody for certain until the connection has twice come to rest with nothing outstanding.
//!
//! Queues on Redis: streams, lists, pub/sub, and what Celery, Sidekiq, BullMQ, RQ, arq and Dramatiq make of them. Which
//! delivery is confirmed is named by hashes that are the same on every connection, because libraries confirm on another
//! connection than the one they wait on.
//!
//! Memory: one command's first 4 KiB, 65,536 commands without a reply, one line of a reply (64 KiB), 16 KiB of each
//! message being read, 256 messages that wait for a reply.

mod arq;
mod bodies;
mod bull;
mod command;
mod commands;
mod dramatiq;
mod element;
mod entry;
pub mod fuzz;
mod given;
mod heard;
mod keys;
pub(crate) mod look;
mod pending;
mod pointers;
mod queues;
mod reply;
mod rq;
mod sending;
mod taking;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use rustc_hash::FxHashSet;

use crate::model::claim::Salt;
use crate::model::queue::{Message, QueueEvent};
use crate::model::{Nanos, Outcome, Protocol, Side, TxStatus};

use super::infer::Look;
use super::lifecycle::{Conversation, End, Fault, Life, Lifecycle};
use super::shape::Shapes;
use super::{Appetite, Chunk, DecodeError, Decoder, Mark, Sink};
use command::{Command, Commands};
use given::Given;
use heard::Heard;
use pending::{Pending, Reader, Special};
use reply::{Kind, Replies, Reply};
use sending::{Sending, Sent};
use taking::Taking;

/// Most commands without a reply.
const MAX_PENDING: usize = 65_536;
/// Times the connection must come to rest after something was missed.
const RESTS: u8 = 2;
/// From this size on, what is left of a bulk string in a reply is not copied.
const LARGE: u64 = 64 << 10;

/// Most messages of one connection that wait for a reply.
const MAX_HELD: usize = 512;
/// Most lists remembered that elements are moved to.
const MAX_MOVED: usize = 4096;

/// Lists that elements are moved to while somebody works on them.
type Moved = Rc<RefCell<FxHashSet<u64>>>;

/// Most jobs of RQ's remembered as in work, and most queues of arq's.
const MAX_BOOKED: usize = 4096;

/// What the Redis decoders of one engine share.
#[derive(Clone, Debug, Default)]
pub struct Shared {
    shapes: Shapes,
    moved: Moved,
    bodies: bodies::Bodies,
    /// Jobs of RQ's that are in work: their end is another than that of their way through the queue.
    in_work: Moved,
    /// Sorted sets that are queues of arq's.
    sets: Moved,
    /// Words under keys that turn up in the names of other keys.
    pointers: pointers::Pointers,
}

/// What the connection's commands are to its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Each is answered.
    Plain,
    /// They are queued until `EXEC` (`MULTI`).
    Queueing,
}

/// Whether commands are answered (`CLIENT REPLY`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Replying {
    /// Each is.
    On,
    /// All but the next one are.
    SkipNext,
    /// None is.
    Off,
}

/// What reads the bytes of both directions.
#[derive(Debug)]
struct Frames {
    commands: Commands,
    replies: Replies,
}

/// What is known of one connection.
#[derive(Debug)]
struct Redis {
    life: Life,
    salt: Salt,
    shared: Shared,
    sending: Sending,
    taking: Taking,
    given: Given,
    /// The reply to EXEC is being read.
    executing: bool,
    /// Messages that wait for a reply.
    held: usize,
    pending: VecDeque<Pending>,
    /// Commands of a transaction, until its EXEC.
    queued: Vec<Pending>,
    phase: Phase,
    replying: Replying,
    /// Messages of pub/sub may come, as arrays like any other (RESP2).
    subscribed: bool,
    latest: u64,
    /// The database as selected by the commands sent so far.
    db: u32,
    /// Rests still needed before replies are paired for certain.
    unsure: u8,
}

/// A decoder for one connection.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
    Box::new(Redis::new(salt, mid_stream, shared))
}

impl Redis {
    fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Lifecycle<Self> {
        let talk = Self {
            life: Life::new(mid_stream),
            salt,
            shared: shared.clone(),
            sending: Sending::new(salt, shared),
            taking: Taking::new(salt, &shared.bodies),
            given: Given::new(salt),
            executing: false,
            held: 0,
            pending: VecDeque::new(),
            queued: Vec::new(),
            phase: Phase::Plain,
            replying: Replying::On,
            subscribed: mid_stream,
            latest: 0,
            db: 0,
            unsure: if mid_stream { RESTS } else { 0 },
        };
        Lifecycle::new(talk, Frames { commands: Commands::new(salt), replies: Replies::new(salt) })
    }

    fn command(&mut self, c: &Command, sent: Sent, at: Nanos, sink: &mut dyn Sink) {
        if self.life.is_over() {
            return;
        }
        if self.pending.len() + self.queued.len() >= MAX_PENDING {
            self.lose(Fault::Gap, at, sink);
            return;
        }
        self.latest += 1;
        let shared = &self.shared;
        let reader = Reader { salt: self.salt, shared, db: self.db };
        sink.begun(self.latest, at, c.print);
        let (mut p, marks): (Pending, smallvec::SmallVec<[Mark; 4]>) = reader.read(self.latest, at, c, sent, sink);
        for mark in &marks {
            sink.mark(self.latest, Side::Client, *mark);
        }
        match p.special {
            Special::Select(db) => self.db = db,
            Special::Reset => self.db = 0,
            _ => {}
        }
        let silent = match (p.special, self.replying) {
            (Special::ReplyOff, _) => {
                self.replying = Replying::Off;
                true
            }
            (Special::ReplyOn, _) => {
                self.replying = Replying::On;
                false
            }
            (_, Replying::Off) => true,
            (Special::ReplySkip, _) => {
                self.replying = Replying::SkipNext;
                true
            }
            (_, Replying::SkipNext) => {
                self.replying = Replying::On;
                true
            }
            (_, Replying::On) => false,
        };
        if silent {
            // The server carries it out and says nothing.
            let (request, gives) = (p.request, p.work.take().map(|w| w.gives));
            self.tell(&p, 0, Outcome::Unknown, at, sink);
            for mut message in gives.into_iter().flatten() {
                message.request = request;
                sink.queue(QueueEvent::Published(message));
            }
            sink.answered(request, at, None);
            self.rest(at, sink);
            return;
        }
        self.hold(&mut p, sink);
        self.pending.push_back(p);
    }

    fn reply(&mut self, reply: &Reply, at: Nanos, sink: &mut dyn Sink) {
        if self.life.is_over() {
            return;
        }
        if self.is_message(reply) {
            self.tell_message(at, sink);
            return;
        }
        let Some(front) = self.pending.front_mut() else {
            if self.unsure > 0 {
                self.unsure = RESTS;
            } else {
                sink.decode_error(DecodeError::UnsolicitedReply);
                if self.life.is_whole() && reply.kind != Kind::Error {
                    sink.unmatched_reply(at, "a reply that no command waits for");
                }
            }
            return;
        };
        if let Special::Subscribe(left) = &mut front.special
            && *left > 1
            && reply.kind != Kind::Error
        {
            *left -= 1;
            self.subscribed = true;
            return;
        }
        let Some(mut p) = self.pending.pop_front() else { return };
        self.life.sound();
        for value in &reply.values {
            sink.mark(p.request, Side::Server, Mark::Value(*value));
        }
        let outcome = match reply.kind {
            _ if self.unsure > 0 => Outcome::Unknown,
            Kind::Error => Outcome::Error,
            _ => Outcome::Ok,
        };
        if self.phase == Phase::Queueing
            && outcome == Outcome::Ok
            && reply.kind == Kind::Simple
            && reply.word.as_slice() == b"QUEUED"
        {
            self.queued.push(p);
            return;
        }
        match p.special {
            Special::Exec => self.executed(reply, at, sink),
            Special::Discard | Special::Reset if outcome != Outcome::Error => self.abandon_transaction(at, sink),
            _ => {}
        }
        let (request, special) = (p.request, p.special);
        if let (Some(id), Some(message)) = (self.taking.given_id(), p.work.as_mut().and_then(|w| w.gives.first_mut())) {
            message.ids.insert(0, id);
        }
        if self.taking.too_many {
            sink.decode_error(DecodeError::TooManyMessages);
        }
        let number = (reply.kind == Kind::Value).then_some(reply.word.as_slice());
        self.told(p, 0, (outcome, number), at, sink);
        sink.answered(request, at, reply.print);
        match special {
            Special::Subscribe(_) => self.subscribed = true,
            Special::Reset if outcome == Outcome::Ok => self.subscribed = false,
            Special::Multi if outcome == Outcome::Ok => {
                self.phase = Phase::Queueing;
                sink.status(at, TxStatus::Open);
            }
            Special::Leaves(why) if reply.kind != Kind::Error => {
                self.leave(Some(why), at, sink);
                return;
            }
            _ => {}
        }
        self.rest(at, sink);
    }

    /// Whether a reply answers no command: a push, or a message of pub/sub.
    fn is_message(&self, reply: &Reply) -> bool {
        let word = reply.word.as_slice();
        let confirms = ["subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe"]
            .iter()
            .any(|w| word == w.as_bytes());
        let asked =
            self.pending.front().is_some_and(|p| matches!(p.special, Special::Subscribe(_) | Special::UnsubscribeAll));
        match reply.kind {
            Kind::Push => !(confirms && asked),
            Kind::Aggregate if matches!(word, b"message" | b"pmessage" | b"smessage") => self.subscribed,
            Kind::Aggregate if confirms => self.subscribed && !asked,
            _ => false,
        }
    }

    /// EXEC was answered: what became of each command of the transaction.
    fn executed(&mut self, reply: &Reply, at: Nanos, sink: &mut dyn Sink) {
        let all = std::mem::take(&mut self.queued);
        self.phase = Phase::Plain;
        for (i, p) in all.into_iter().enumerate() {
            let outcome = match reply.kind {
                _ if self.unsure > 0 => Outcome::Unknown,
                Kind::Aggregate => match reply.errors.get(i) {
                    Some(true) => Outcome::Error,
                    Some(false) => Outcome::Ok,
                    None => Outcome::Unknown,
                },
                // Watched keys have changed, or the transaction was refused: nothing was done.
                _ => Outcome::Error,
            };
            let request = p.request;
            self.told(p, i, (outcome, None), at, sink);
            sink.answered(request, at, None);
        }
    }

    fn abandon_transaction(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.phase = Phase::Plain;
        for p in std::mem::take(&mut self.queued) {
            self.tell(&p, 0, Outcome::Error, at, sink);
            sink.answered(p.request, at, None);
        }
    }

    /// Nothing may be outstanding now.
    fn rest(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.pending.is_empty() && self.phase == Phase::Plain {
            sink.status(at, TxStatus::Idle);
        }
    }

    fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        self.phase = Phase::Plain;
        self.held = 0;
        self.executing = false;
        self.taking.reset();
        self.given.reset();
        let queued = std::mem::take(&mut self.queued);
        let pending = std::mem::take(&mut self.pending);
        for p in queued.into_iter().chain(pending) {
            self.tell(&p, 0, Outcome::Unknown, at, sink);
            sink.answered(p.request, at, None);
        }
    }
}

impl Conversation for Redis {
    const PROTOCOL: Protocol = Protocol::Redis;

    type Frames = Frames;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        match from {
            Side::Client => look::request(bytes) == Look::Is(Side::Client) || look::array(bytes),
            Side::Server => matches!(bytes, [b'+' | b'-' | b':' | b'$' | b'*' | b'%' | b'>' | b'_' | b'#', ..]),
        }
    }

    fn read(&mut self, frames: &mut Frames, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) -> Result<(), Fault> {
        match from {
            Side::Client => {
                // A client that speaks again after the connection came to rest: what it was told is told.
                let rests = self.latest > 0 && self.pending.is_empty() && frames.replies.at_start();
                self.unsure = self.unsure.saturating_sub(u8::from(rests));
                frames.commands.feed(chunk.bytes, &mut Heard { redis: self, at: chunk.at, sink })?;
            }
            Side::Server => {
                frames.replies.want_values(sink.wants_values(Side::Server));
                frames.replies.feed(chunk.bytes, &mut Heard { redis: self, at: chunk.at, sink })?;
            }
        }
        Ok(())
    }

    fn skip(&mut self, frames: &mut Frames, from: Side, n: u64, at: Nanos, sink: &mut dyn Sink) -> Result<(), Fault> {
        let heard = &mut Heard { redis: self, at, sink };
        let goes_on = match from {
            Side::Client => frames.commands.miss(n, heard),
            Side::Server => frames.replies.miss(n, heard),
        };
        if goes_on { Ok(()) } else { Err(Fault::Gap) }
    }

    fn forget(&mut self, frames: &mut Frames, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        match from {
            Side::Client => {
                frames.commands.reset();
                self.sending.reset();
            }
            Side::Server => {
                frames.replies.reset();
                self.taking.reset();
                self.given.reset();
            }
        }
    }

    fn abandon(&mut self, end: End, at: Nanos, sink: &mut dyn Sink) {
        self.unsure = RESTS;
        let any = !self.pending.is_empty() || !self.queued.is_empty();
        self.give_up(at, sink);
        self.replying = Replying::On;
        if any && end == End::Lost {
            sink.status(at, TxStatus::Idle);
        }
    }

    fn appetite(&self, frames: &Frames, from: Side) -> Appetite {
        match from {
            // Far from a large string's end nothing of it is needed; its end and what follows are.
            Side::Server if frames.replies.left() >= LARGE => Appetite::Head(4 << 10),
            _ => Appetite::Everything,
        }
    }

    fn memory(&self, frames: &Frames) -> usize {
        frames.commands.memory()
            + frames.replies.memory()
            + self.sending.memory()
            + self.taking.memory()
            + self.given.memory()
            + self.held * size_of::<Message>()
            + (self.pending.capacity() + self.queued.capacity()) * size_of::<Pending>()
    }
}

#[cfg(test)]
mod tests;
