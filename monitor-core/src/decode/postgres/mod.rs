//! PostgreSQL wire protocol, version 3: both directions, from the first byte or from the middle.
//!
//! `frame` cuts messages out of bytes, `startup` reads the packets before them, `machine` pairs requests with
//! replies, [`super::sql`] says what statements do, `rows` what else replies carry, `resync` finds the
//! place again after something was missed.
//! Evidence and its limits: `docs/domain.md#postgresql`.

mod bodies;
mod commands;
mod frame;
mod fuzz;
mod kinds;
pub(super) mod look;
mod machine;
mod resync;
mod rows;
mod session;
mod startup;

pub use fuzz::{fuzz_postgres, fuzz_sql};

use std::cell::RefCell;
use std::rc::Rc;

use frame::{Framer, Passing};
use machine::{Machine, Out};
use resync::Search;
use startup::{Look, MAX_STARTUP, Opening, Session};

use super::lifecycle::{Conversation, End, Fault, Found, Heard, Life, Lifecycle};
use super::sql::{Dialect, Shapes};
use super::{Chunk, DecodeError, Decoder, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Protocol, Side, Sides};

/// What the PostgreSQL decoders of one engine share: statement shapes, parsed once. Serves one [`Sink`]'s symbols, and
/// one thread.
#[derive(Clone, Debug)]
pub struct Shared(Rc<RefCell<Shapes>>);

impl Shared {
    /// Empty; `salt` keys the hash of shapes.
    pub fn new(salt: Salt) -> Self {
        Self(Rc::new(RefCell::new(Shapes::new(salt, Dialect::Postgres))))
    }

    /// Statement shapes that were parsed so far: each a miss of the cache.
    pub fn n_parsed(&self) -> u64 {
        self.0.borrow().n_parsed()
    }

    /// Statement shapes held (at most 4096).
    pub fn n_shapes(&self) -> usize {
        self.0.borrow().len()
    }
}

/// What the client and the server say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The client has not said yet what it wants.
    Opening,
    /// The client asked for encryption; the server has not answered.
    Asked,
    /// Typed messages both ways.
    Messages,
}

/// What reads one direction.
#[derive(Debug)]
struct Direction {
    framer: Framer,
    passing: Passing,
}

/// What is known of one connection.
#[derive(Debug)]
struct Postgres {
    life: Life,
    phase: Phase,
    opening: Vec<u8>,
    machine: Machine,
    /// Where the place may be found again, while it is lost.
    search: Search,
    n_answered: u64,
}

/// A decoder for a connection seen from its first byte, or from the middle.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
    Box::new(Postgres::new(salt, mid_stream, shared))
}

impl Postgres {
    fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Lifecycle<Self> {
        let mut machine = Machine::new(salt, shared.0.clone());
        if mid_stream {
            // What was declared or prepared before is not known.
            machine.forget();
        }
        let talk = Self {
            life: Life::new(mid_stream),
            phase: if mid_stream { Phase::Messages } else { Phase::Opening },
            opening: Vec::new(),
            machine,
            search: Search::joined(),
            n_answered: 0,
        };
        Lifecycle::new(talk, Sides::of(|side| Direction { framer: Framer::new(side), passing: Passing::new(salt) }))
    }

    /// Reads what the client opens with, as far as it is there.
    fn open(&mut self, frames: &mut Sides<Direction>, at: Nanos, sink: &mut dyn Sink) -> Result<(), Fault> {
        match startup::look(&self.opening) {
            Look::NeedMore if self.opening.len() > MAX_STARTUP => return Err(DecodeError::Startup.into()),
            Look::NeedMore => {}
            Look::Not => return Err(DecodeError::Startup.into()),
            Look::Is(Opening::Tls, _) => self.leave(Some("tls"), at, sink),
            Look::Is(Opening::Cancel, _) => self.leave(None, at, sink),
            Look::Is(Opening::Encrypt, len) => {
                self.opening.drain(..len.min(self.opening.len()));
                self.phase = Phase::Asked;
            }
            Look::Is(Opening::Start(parameters), len) => {
                self.machine.startup(Session::new(parameters));
                self.phase = Phase::Messages;
                let rest = std::mem::take(&mut self.opening);
                let rest = rest.get(len..).unwrap_or_default();
                if !rest.is_empty() {
                    return self.messages(frames, Side::Client, at, rest, sink);
                }
            }
        }
        Ok(())
    }

    /// The server's one-byte answer to a request for encryption.
    fn encryption(
        &mut self,
        frames: &mut Sides<Direction>,
        at: Nanos,
        answer: u8,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        match answer {
            b'S' => self.leave(Some("tls"), at, sink),
            b'G' => self.leave(Some("gss"), at, sink),
            b'N' => {
                self.phase = Phase::Opening;
                return self.open(frames, at, sink);
            }
            // An error instead: the connection ends.
            b'E' => self.leave(None, at, sink),
            _ => return Err(DecodeError::EncryptionAnswer.into()),
        }
        Ok(())
    }

    /// Cuts messages out of `bytes` and hands them to the machine.
    fn messages(
        &mut self,
        frames: &mut Sides<Direction>,
        from: Side,
        at: Nanos,
        bytes: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let Direction { framer, passing } = &mut frames[from];
        let mut input = bytes;
        if from == Side::Server {
            passing.rows.want(sink.wants_values(Side::Server));
        }
        let mut read = || -> Result<(), Fault> {
            while let Some(message) = framer.next(&mut input, passing)? {
                let out = &mut Out { at, sink };
                match from {
                    Side::Client => self.machine.client(&message, out)?,
                    Side::Server => self.machine.server(&message, passing, out)?,
                }
            }
            Ok(())
        };
        let read = read();
        let answered = self.machine.n_answered();
        if std::mem::replace(&mut self.n_answered, answered) != answered && read.is_ok() {
            self.life.sound();
        }
        // Where the place was found without being sure, it was not the place after all.
        if self.machine.unsure { read.map_err(|_| Fault::Gap) } else { read }
    }
}

impl Conversation for Postgres {
    const PROTOCOL: Protocol = Protocol::Postgres;

    type Frames = Sides<Direction>;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        from == Side::Client && resync::requests(bytes)
    }

    /// One segment is not enough to go by: what one side says must fit what the other has said before.
    fn seek(&mut self, from: Side, heard: Heard<'_>, sink: &mut dyn Sink) -> Found {
        match (heard, from) {
            // The segment that lost the place may also show the next one.
            (Heard::Bytes(chunk) | Heard::Losing(chunk), Side::Server) => {
                self.search.server(chunk.at, chunk.bytes, chunk.ends_segment);
            }
            (Heard::Bytes(chunk), Side::Client) => {
                if let Some((ready, requests)) = self.search.client(chunk.bytes, chunk.ends_segment) {
                    self.life.find(Side::Server);
                    match ready {
                        Some((at, status)) => sink.status(at, status),
                        // Something may be outstanding: until the connection comes to rest, replies may be another
                        // request's.
                        None => self.machine.unsure = true,
                    }
                    return Found::Held(requests);
                }
            }
            (Heard::Losing(_), Side::Client) => {}
            (Heard::Hole(_), _) => self.search.missing(from),
        }
        Found::No
    }

    fn read(
        &mut self,
        frames: &mut Sides<Direction>,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let Chunk { at, bytes, .. } = chunk;
        match (self.phase, from) {
            (Phase::Opening, Side::Client) => {
                self.opening.extend_from_slice(bytes);
                self.open(frames, at, sink)
            }
            // Answered below; until then it waits with what the client may have sent too early.
            (Phase::Asked, Side::Client) if self.opening.len() + bytes.len() <= MAX_STARTUP => {
                self.opening.extend_from_slice(bytes);
                Ok(())
            }
            (Phase::Asked, Side::Client) | (Phase::Opening, Side::Server) => Err(DecodeError::Startup.into()),
            (Phase::Asked, Side::Server) => {
                let Some((&answer, rest)) = bytes.split_first() else { return Ok(()) };
                self.encryption(frames, at, answer, sink)?;
                if rest.is_empty() || self.life.is_over() {
                    return Ok(());
                }
                self.read(frames, from, Chunk { bytes: rest, ..chunk }, sink)
            }
            (Phase::Messages, _) => self.messages(frames, from, at, bytes, sink),
        }
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Direction>,
        from: Side,
        n: u64,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let Direction { framer, passing } = &mut frames[from];
        if self.phase == Phase::Messages && framer.missing(n, passing) {
            self.messages(frames, from, at, &[], sink)
        } else {
            Err(Fault::Gap)
        }
    }

    /// Which reply belongs to which request is not known from here on, whichever side was lost.
    fn forget(&mut self, frames: &mut Sides<Direction>, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        self.life.lose(from.other());
        self.opening = Vec::new();
        for direction in frames.iter_mut() {
            direction.framer.restart();
            direction.passing.take();
        }
        self.phase = Phase::Messages;
        self.search = Search::new(self.machine.n_owed(), !self.life.ends(Side::Client));
    }

    fn abandon(&mut self, _: End, at: Nanos, sink: &mut dyn Sink) {
        self.opening = Vec::new();
        self.machine.abandon(&mut Out { at, sink });
        self.n_answered = self.machine.n_answered();
    }

    fn memory(&self, frames: &Sides<Direction>) -> usize {
        let frames: usize = frames.iter().map(|d| d.framer.memory() + d.passing.rows.memory()).sum();
        size_of::<Self>() + self.opening.capacity() + frames + self.machine.memory() + self.search.memory()
    }
}
