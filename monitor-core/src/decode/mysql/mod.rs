//! MySQL's and MariaDB's protocol: both directions, from the first byte or from the middle.
//!
//! `packet` cuts payloads out of bytes, `compressed` unpacks them before that where it was agreed on, `greeting` reads
//! how a connection opens, `machine` pairs commands with answers (`query`, `statements`: what commands carry; `answer`,
//! `rows`: what answers do), [`super::sql`] says what statements do, `resync` finds the place again.
//! Evidence and its limits: `docs/domain.md#mysql-and-mariadb`.

mod answer;
mod capabilities;
mod compressed;
mod fuzz;
mod greeting;
mod kinds;
pub(super) mod look;
mod machine;
mod packet;
mod query;
mod resync;
mod rows;
mod statements;
mod wire;

pub use fuzz::{fuzz_mysql, fuzz_mysql_text};

use std::cell::RefCell;
use std::rc::Rc;

use compressed::{Plain, Unpacker};
use machine::{Machine, Next, Out, Phase};
use packet::{Care, Framer};

use super::lifecycle::{Conversation, End, Fault, Found, Heard, Life, Lifecycle};
use super::sql::{Dialect, Shapes};
use super::{Chunk, Decoder, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Protocol, Side, Sides};

/// Most bytes of a client's payload that are kept.
const KEEP: usize = 64 << 10;
/// Most bytes of a server's.
const KEEP_REPLY: usize = 16 << 10;

/// What the MySQL decoders of one engine share: statement shapes, parsed once. Serves one [`Sink`]'s symbols, and one
/// thread.
#[derive(Clone, Debug)]
pub struct Shared(Rc<RefCell<Shapes>>);

impl Shared {
    /// Empty; `salt` keys the hash of shapes.
    pub fn new(salt: Salt) -> Self {
        Self(Rc::new(RefCell::new(Shapes::new(salt, Dialect::MySql))))
    }
}

/// What reads one direction.
#[derive(Debug)]
struct Direction {
    framer: Framer,
    /// Where compression was agreed on.
    unpacker: Option<Unpacker>,
}

/// What is known of one connection.
#[derive(Debug)]
struct MySql {
    life: Life,
    machine: Machine,
    n_answered: u64,
    /// Where packed bytes are unpacked.
    scratch: Vec<u8>,
    /// The place was found in packed bytes.
    packed: bool,
    /// Bytes at the end of the chunk in which the connection was left: they are the next protocol's.
    unread: usize,
}

/// A decoder for a connection seen from its first byte, or from the middle.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
    Box::new(MySql::new(salt, mid_stream, shared))
}

impl MySql {
    fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Lifecycle<Self> {
        let talk = Self {
            life: Life::new(mid_stream),
            machine: Machine::new(salt, shared.0.clone(), mid_stream),
            n_answered: 0,
            scratch: Vec::new(),
            packed: false,
            unread: 0,
        };
        Lifecycle::new(talk, Sides::of(|_| Direction { framer: Framer::new(salt), unpacker: None }))
    }

    /// Cuts payloads out of bytes that are not packed, and hands them to the machine. Where packed ones follow, gives
    /// them.
    fn payloads<'i>(
        &mut self,
        framer: &mut Framer,
        from: Side,
        at: Nanos,
        bytes: &'i [u8],
        sink: &mut dyn Sink,
    ) -> Result<Option<&'i [u8]>, Fault> {
        let mut input = bytes;
        let care = match from {
            Side::Client => Care { keep: KEEP, hash: false },
            Side::Server => Care { keep: KEEP_REPLY, hash: matches!(self.machine.phase, Phase::Commands) },
        };
        while let Some(packet) = framer.next(&mut input, care) {
            let out = &mut Out { at, sink };
            let next = match from {
                Side::Client => self.machine.client(&packet, out),
                Side::Server => self.machine.server(&packet, out),
            };
            match next {
                Ok(Next::Packets) => {}
                Ok(Next::Unpack) => return Ok(Some(input)),
                Ok(Next::Leave(why)) => {
                    self.unread = input.len();
                    self.leave(why, at, sink);
                    return Ok(None);
                }
                // Where the place was found without being sure, it was not the place after all.
                Err(_) if self.machine.unsure => return Err(Fault::Gap),
                Err(lost) => return Err(lost.into()),
            }
        }
        let answered = self.machine.n_answered();
        if std::mem::replace(&mut self.n_answered, answered) != answered {
            self.life.sound();
        }
        Ok(None)
    }

    fn unpack(
        &mut self,
        direction: &mut Direction,
        from: Side,
        at: Nanos,
        bytes: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let Direction { framer, unpacker: Some(unpacker) } = direction else { return Ok(()) };
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut input = bytes;
        let read = loop {
            match unpacker.next(&mut input, &mut scratch) {
                Err(error) => break Err(error.into()),
                Ok(None) => break Ok(()),
                Ok(Some(Plain::Missing(n))) => {
                    if !framer.missing(n) {
                        break Err(Fault::Gap);
                    }
                    if let Err(fault) = self.payloads(framer, from, at, &[], sink) {
                        break Err(fault);
                    }
                }
                Ok(Some(Plain::Bytes)) => {
                    if let Err(fault) = self.payloads(framer, from, at, &scratch, sink) {
                        break Err(fault);
                    }
                }
            }
            if self.life.is_over() {
                break Ok(());
            }
        };
        scratch.clear();
        scratch.shrink_to(KEEP);
        self.scratch = scratch;
        read
    }
}

impl Conversation for MySql {
    const PROTOCOL: Protocol = Protocol::MySql;

    type Frames = Sides<Direction>;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        from == Side::Client && resync::commands(bytes).is_some()
    }

    /// The client speaks when everything it has asked was answered: its command shows the place of both.
    fn seek(&mut self, from: Side, heard: Heard<'_>, _: &mut dyn Sink) -> Found {
        let (Heard::Bytes(chunk), Side::Client, true) = (heard, from, self.life.starts(from)) else { return Found::No };
        if !self.opens(from, chunk.bytes) {
            self.packed = compressed::first(chunk.bytes).is_some_and(|plain| self.opens(from, &plain));
            if !self.packed {
                return Found::No;
            }
        }
        self.life.find(Side::Server);
        self.machine.unsure = true;
        Found::Here
    }

    fn read(
        &mut self,
        frames: &mut Sides<Direction>,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        if std::mem::take(&mut self.packed) {
            for direction in frames.iter_mut() {
                direction.unpacker.get_or_insert_default();
            }
            self.machine.packed = true;
        }
        let direction = &mut frames[from];
        let mut packed = chunk.bytes;
        if direction.unpacker.is_none() {
            let Some(rest) = self.payloads(&mut direction.framer, from, chunk.at, chunk.bytes, sink)? else {
                return Ok(());
            };
            packed = rest;
            for direction in frames.iter_mut() {
                direction.unpacker = Some(Unpacker::default());
            }
            self.machine.packed = true;
        }
        self.unpack(&mut frames[from], from, chunk.at, packed, sink)
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Direction>,
        from: Side,
        n: u64,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let Direction { framer, unpacker } = &mut frames[from];
        let plain = match unpacker {
            Some(unpacker) => unpacker.missing(n).ok_or(Fault::Gap)?,
            None => n,
        };
        if plain == 0 {
            return Ok(());
        }
        if !matches!(self.machine.phase, Phase::Commands) || !framer.missing(plain) {
            return Err(Fault::Gap);
        }
        self.payloads(framer, from, at, &[], sink).map(|_| ())
    }

    /// Which answer belongs to which command is not known from here on, whichever side was lost.
    fn forget(&mut self, frames: &mut Sides<Direction>, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        self.life.lose(from.other());
        for direction in frames.iter_mut() {
            direction.framer.restart();
            if let Some(unpacker) = &mut direction.unpacker {
                *unpacker = Unpacker::default();
            }
        }
    }

    fn abandon(&mut self, _: End, at: Nanos, sink: &mut dyn Sink) {
        self.machine.abandon(&mut Out { at, sink });
        self.n_answered = self.machine.n_answered();
    }

    fn unread(&self) -> usize {
        self.unread
    }

    fn memory(&self, frames: &Sides<Direction>) -> usize {
        let packed = |d: &Direction| d.unpacker.as_ref().map_or(0, Unpacker::memory);
        let frames: usize = frames.iter().map(|d| d.framer.memory() + packed(d)).sum();
        size_of::<Self>() + frames + self.scratch.capacity() + self.machine.memory()
    }
}

#[cfg(test)]
mod tests;
