//! memcached's text protocol, classic and meta commands: both directions, from the first byte or from the middle.
//!
//! `frame` cuts lines and blocks, `request` and `reply` read lines, `machine` pairs them and says what keys hold.
//! Evidence and its limits: `docs/domain.md#what-a-key-holds`. The binary protocol, which memcached gives up, is not read.

mod frame;
mod fuzz;
pub(super) mod look;
mod machine;
mod reply;
mod request;

pub use fuzz::fuzz_memcached;

use frame::{Framer, Item};
use machine::Machine;
use request::{Does, refused, request};

use super::lifecycle::{Conversation, End, Fault, Found, Heard, Life, Lifecycle};
use super::shape::Shapes;
use super::{Chunk, DecodeError, Decoder, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Protocol, Side, Sides};

/// What the memcached decoders of one engine share: shapes of keys.
#[derive(Clone, Debug, Default)]
pub struct Shared(Shapes);

/// What is known of one connection.
#[derive(Debug)]
struct Memcached {
    life: Life,
    machine: Machine,
    n_answered: u64,
}

/// A decoder for a connection seen from its first byte, or from the middle.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared) -> Box<dyn Decoder> {
    Box::new(Memcached::new(salt, mid_stream, shared))
}

impl Memcached {
    fn new(salt: Salt, mid_stream: bool, shared: &Shared) -> Lifecycle<Self> {
        let machine = Machine::new(salt, shared.0.clone(), mid_stream);
        let talk = Self { life: Life::new(mid_stream), machine, n_answered: 0 };
        Lifecycle::new(talk, Sides::of(|_| Framer::new(salt)))
    }

    fn line(
        &mut self,
        framer: &mut Framer,
        from: Side,
        line: &[u8],
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), DecodeError> {
        if from == Side::Server {
            let said = reply::reply(line).ok_or(DecodeError::ServerLine)?;
            if let Some(n) = self.machine.answer(&said, at, sink)? {
                framer.expect(n, sink.wants_values(from));
            }
            return Ok(());
        }
        // The server complains about what is none, and goes on.
        let asked = request(line).or_else(|| refused(line)).ok_or(DecodeError::ClientLine)?;
        if asked.does == Does::Watches {
            self.leave(Some("watch"), at, sink);
            return Ok(());
        }
        if let Some(n) = asked.data {
            framer.expect(n, sink.wants_values(from));
        }
        self.machine.command(asked, at, sink)
    }
}

impl Conversation for Memcached {
    const PROTOCOL: Protocol = Protocol::Memcached;

    type Frames = Sides<Framer>;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        from == Side::Client && look::commands(bytes, false)
    }

    /// A client mostly speaks when it was answered: its commands show the place of both.
    fn seek(&mut self, from: Side, heard: Heard<'_>, _: &mut dyn Sink) -> Found {
        match heard {
            Heard::Bytes(chunk) if self.life.starts(from) && self.opens(from, chunk.bytes) => {
                self.life.find(Side::Server);
                self.machine.unsure = true;
                Found::Here
            }
            _ => Found::No,
        }
    }

    fn read(
        &mut self,
        frames: &mut Sides<Framer>,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let framer = &mut frames[from];
        let mut input = chunk.bytes;
        let sure = !self.machine.unsure;
        // Where the place was found without being sure, it was not the place after all.
        let fault = |error: DecodeError| if sure { Fault::from(error) } else { Fault::Gap };
        while !self.life.is_over() {
            match framer.next(&mut input).map_err(fault)? {
                None => break,
                Some(Item::Line(line)) => {
                    let read = self.line(framer, from, &line, chunk.at, sink);
                    framer.give_back(line);
                    read.map_err(fault)?;
                }
                Some(Item::Data(block)) if from == Side::Client => {
                    self.machine.data(&block, chunk.at, sink).map_err(fault)?;
                }
                Some(Item::Data(block)) => self.machine.value(&block, chunk.at, sink),
            }
        }
        if std::mem::replace(&mut self.n_answered, self.machine.n_answered) != self.machine.n_answered {
            self.life.sound();
        }
        Ok(())
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Framer>,
        from: Side,
        n: u64,
        _: Nanos,
        _: &mut dyn Sink,
    ) -> Result<(), Fault> {
        if frames[from].missing(n) { Ok(()) } else { Err(Fault::Gap) }
    }

    /// Which answer belongs to which command is not known from here on, whichever side was lost.
    fn forget(&mut self, frames: &mut Sides<Framer>, from: Side, _: End, _: Nanos, _: &mut dyn Sink) {
        self.life.lose(from.other());
        frames.iter_mut().for_each(Framer::restart);
    }

    fn abandon(&mut self, _: End, at: Nanos, sink: &mut dyn Sink) {
        self.machine.abandon(at, sink);
        self.n_answered = self.machine.n_answered;
    }

    fn memory(&self, frames: &Sides<Framer>) -> usize {
        size_of::<Self>() + frames.iter().map(Framer::memory).sum::<usize>() + self.machine.memory()
    }
}
