//! HTTP/2 (RFC 9113), both sides: by prior knowledge, after an upgrade from HTTP/1.1 (RFC 7540 §3.2), or inside TLS.
//!
//! Each stream is a request and its answer; they are told apart by their numbers, so that what is missing on one side costs
//! nothing of which answer belongs to which request. What is made of them is the same as for HTTP/1.1
//! ([`super::semantics`]); bodies go on piece by piece. Flow control is for the two ends. What a server pushes is told as
//! such, and not read.
//!
//! Header blocks change a table that later ones refer to ([`hpack`]). A block that is missing leaves what is put into the
//! table later, and nothing else.
//!
//! Memory: for each direction a frame and a header block of at most 64 KiB each and what [`hpack`] states, and
//! [`MAX_STREAMS`] requests without an answer with what the encodings of their bodies need ([`super::coding`]), and what the
//! reader on top holds.

mod frame;
pub mod fuzz;
mod head;
mod hpack;
pub(crate) mod look;
mod streams;

use std::collections::BTreeMap;

use super::Shared;
use super::exchange::Exchange;
use super::semantics::Semantics;
use crate::decode::body::BodyReader;
use crate::decode::lifecycle::{Conversation, End, Fault, Found, Heard, Life, Lifecycle};
use crate::decode::{Appetite, Chunk, DecodeError, Decoder, Sink};
use crate::model::claim::Salt;
use crate::model::{Nanos, Operation, Outcome, Protocol, Side, Sides};
use frame::{Cutter, Head, Missed, Piece, fragment};
use hpack::{Fields, Hpack};
use streams::Stream;

/// Most requests without an answer on one connection.
const MAX_STREAMS: usize = 256;
/// Longest header block.
const MAX_BLOCK: usize = 64 << 10;

/// A header block of several frames, until it is whole.
#[derive(Debug)]
struct Block {
    stream: u32,
    ends_stream: bool,
    pushed: bool,
    bytes: Vec<u8>,
    /// Not all of it was there, or is kept.
    broken: bool,
}

/// What is known of one connection.
pub(super) struct Http2 {
    life: Life,
    semantics: Semantics,
    hpack: Sides<Hpack>,
    fields: Fields,
    blocks: Sides<Option<Block>>,
    streams: BTreeMap<u32, Stream>,
    /// The client's newest stream.
    newest: u32,
    /// It was said that requests are on their way at the same time.
    told: bool,
}

impl std::fmt::Debug for Http2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2").field("newest", &self.newest).finish_non_exhaustive()
    }
}

/// A decoder for one connection. `reader`: a protocol on top, if there is one.
pub fn decoder(salt: Salt, mid_stream: bool, shared: &Shared, reader: Option<Box<dyn BodyReader>>) -> Box<dyn Decoder> {
    Box::new(lifecycle(mid_stream, Semantics::new(salt, shared, reader)))
}

fn lifecycle(mid_stream: bool, semantics: Semantics) -> Lifecycle<Http2> {
    let frames = Sides::of(|side| Cutter::new(side == Side::Client && !mid_stream, !mid_stream));
    Lifecycle::new(Http2::new(Life::new(mid_stream), semantics), frames)
}

/// What goes on where an HTTP/1.1 connection was upgraded by the request `x`, which is answered here. `whole`: nothing was
/// missed before.
pub(super) fn upgraded(whole: bool, semantics: Semantics, x: Exchange) -> Lifecycle<Http2> {
    let mut next = lifecycle(false, semantics);
    next.talk.upgraded_from(x);
    if !whole {
        next.talk.life.missed();
    }
    next
}

impl Http2 {
    fn new(life: Life, semantics: Semantics) -> Self {
        let whole = life.is_whole();
        Self {
            life,
            semantics,
            hpack: Sides::of(|_| Hpack::new(whole)),
            fields: Fields::default(),
            blocks: Sides::default(),
            streams: BTreeMap::new(),
            newest: 0,
            told: false,
        }
    }

    /// Reads as far as the bytes go.
    fn read_on(
        &mut self,
        cutters: &mut Sides<Cutter>,
        from: Side,
        mut bytes: &[u8],
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.told, true) {
            sink.concurrent();
        }
        let Sides { client, server } = cutters;
        let (own, other) = if from == Side::Client { (client, server) } else { (server, client) };
        while let Some(piece) = own.next(&mut bytes)? {
            if let Piece::Frame(head, payload) = piece
                && head.kind == frame::SETTINGS
            {
                other.settings(payload);
            }
            if let Piece::Broken(head) = piece
                && head.kind == frame::SETTINGS
            {
                other.takes_anything();
            }
            self.piece(from, piece, at, sink)?;
            if self.life.is_over() {
                break;
            }
        }
        Ok(())
    }

    fn piece(&mut self, from: Side, piece: Piece<'_>, at: Nanos, sink: &mut dyn Sink) -> Result<(), Fault> {
        let (Piece::Data(head, _) | Piece::DataEnd(head) | Piece::Frame(head, _) | Piece::Broken(head)) = piece;
        // Nothing comes between the frames of one header block (RFC 9113 §4.3).
        let of_block = self.blocks[from].as_ref().map(|b| b.stream);
        if of_block != (head.kind == frame::CONTINUATION).then_some(head.stream) {
            return Err(DecodeError::Continuation.into());
        }
        match piece {
            Piece::Data(head, bytes) => self.data(from, head.stream, bytes, at, sink),
            Piece::DataEnd(head) => self.data_end(from, head, at, sink),
            Piece::Frame(head, payload) => return self.frame(from, head, Some(payload), at, sink),
            Piece::Broken(head) => return self.frame(from, head, None, at, sink),
        }
        Ok(())
    }

    /// A whole frame; without its payload, one of which not all was there.
    fn frame(
        &mut self,
        from: Side,
        head: Head,
        payload: Option<&[u8]>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        match (head.kind, payload) {
            (frame::HEADERS | frame::PUSH_PROMISE | frame::CONTINUATION, payload) => {
                self.part(from, head, payload, at, sink)?;
            }
            (frame::RST_STREAM, _) => self.reset(from, head.stream, at, sink),
            (frame::GOAWAY, Some([a, b, c, d, ..])) if from == Side::Server => {
                self.go_away(u32::from_be_bytes([*a, *b, *c, *d]) & (u32::MAX >> 1), at, sink);
            }
            _ => {}
        }
        Ok(())
    }

    /// A part of a header block.
    fn part(
        &mut self,
        from: Side,
        head: Head,
        payload: Option<&[u8]>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        let bytes = payload.map(|payload| fragment(head, payload)).transpose()?;
        let mut block = self.blocks[from].take().unwrap_or_else(|| Block {
            stream: head.stream,
            ends_stream: head.kind == frame::HEADERS && head.has(frame::END_STREAM),
            pushed: head.kind == frame::PUSH_PROMISE,
            bytes: Vec::new(),
            broken: false,
        });
        let fits = bytes.filter(|bytes| block.bytes.len() + bytes.len() <= MAX_BLOCK);
        block.broken |= fits.is_none();
        let last = head.has(frame::END_HEADERS);
        match fits {
            Some(bytes) if last && block.bytes.is_empty() && !block.broken => {
                return self.whole_block(from, &block, bytes, at, sink);
            }
            Some(bytes) if !block.broken => block.bytes.extend_from_slice(bytes),
            _ => block.bytes = Vec::new(),
        }
        if !last {
            self.blocks[from] = Some(block);
            return Ok(());
        }
        let bytes = std::mem::take(&mut block.bytes);
        if !block.broken {
            return self.whole_block(from, &block, &bytes, at, sink);
        }
        if from == Side::Client {
            self.newest = self.newest.max(block.stream);
        }
        // Frames are known, but not what the table holds, nor whose request or answer that was.
        self.hpack[from].forget();
        let fault = if payload.is_some() { DecodeError::HeadTooLong.into() } else { Fault::Gap };
        self.lose(fault, at, sink);
        Ok(())
    }

    fn whole_block(
        &mut self,
        from: Side,
        block: &Block,
        bytes: &[u8],
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        self.hpack[from].decode(bytes, &mut self.fields)?;
        if block.pushed {
            // Whom that is for is not known.
            let verb = sink.word("push");
            sink.done(&Operation { from: Side::Server, ..Operation::control(0, at, at, verb, Outcome::Unknown) });
            return Ok(());
        }
        self.block(from, block.stream, block.ends_stream, at, sink);
        Ok(())
    }
}

impl Conversation for Http2 {
    const PROTOCOL: Protocol = Protocol::Http2;

    type Frames = Sides<Cutter>;

    fn life(&self) -> &Life {
        &self.life
    }

    fn life_mut(&mut self) -> &mut Life {
        &mut self.life
    }

    fn opens(&self, from: Side, bytes: &[u8]) -> bool {
        look::resumes(bytes, from, self.life.ends(from), self.newest)
    }

    fn seek(&mut self, from: Side, heard: Heard<'_>, sink: &mut dyn Sink) -> Found {
        match heard {
            Heard::Bytes(chunk) if self.life.starts(from) && self.opens(from, chunk.bytes) => {
                if from == Side::Server {
                    // Who asked before may have been answered in what was not read.
                    self.give_up_all(chunk.at, sink);
                }
                Found::Here
            }
            Heard::Bytes(_) | Heard::Losing(_) | Heard::Hole(_) => Found::No,
        }
    }

    fn read(
        &mut self,
        frames: &mut Sides<Cutter>,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        self.read_on(frames, from, chunk.bytes, chunk.at, sink)
    }

    fn skip(
        &mut self,
        frames: &mut Sides<Cutter>,
        from: Side,
        n: u64,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault> {
        match frames[from].miss(n) {
            Missed::Place => return Err(Fault::Gap),
            Missed::Data(head, n) => self.data_missing(from, head.stream, n, at, sink),
            Missed::Nothing => {}
        }
        // What is missing may be the end of a frame.
        self.read_on(frames, from, &[], at, sink)
    }

    fn forget(&mut self, frames: &mut Sides<Cutter>, from: Side, end: End, _: Nanos, _: &mut dyn Sink) {
        if end == End::Closed {
            return;
        }
        frames[from].forget();
        frames[from.other()].takes_anything();
        self.blocks[from] = None;
        self.hpack[from].forget();
    }

    fn abandon(&mut self, _: End, at: Nanos, sink: &mut dyn Sink) {
        self.give_up_all(at, sink);
    }

    fn appetite(&self, _: &Sides<Cutter>, _: Side) -> Appetite {
        Appetite::Everything
    }

    fn memory(&self, frames: &Sides<Cutter>) -> usize {
        let streams: usize = self.streams.values().map(|s| size_of::<Stream>() + s.memory()).sum();
        let blocks: usize = self.blocks.iter().flatten().map(|b| b.bytes.capacity()).sum();
        size_of::<Self>()
            + streams
            + blocks
            + frames.iter().map(Cutter::memory).sum::<usize>()
            + self.hpack.iter().map(Hpack::memory).sum::<usize>()
            + self.fields.memory()
            + self.semantics.memory()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod writing;
