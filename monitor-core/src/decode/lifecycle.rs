//! The life of one connection, the same whatever it speaks: joined late or not, read, lost, found again, given up, ended.
//!
//! A protocol says what its frames are, how one begins, and what becomes of those who wait ([`Conversation`]). When each
//! of these happens is decided here, once:
//!
//! * A connection that is older than the agent is announced as such before anything else is said of it.
//! * Bytes that are no frames, and bytes that are missing where frames cannot be told any more, lose the place. It is told
//!   first and then those who wait are abandoned, so that nobody takes their end for an answer that was passed on.
//! * A lost direction is searched for the beginning of a frame, at the beginnings of segments.
//! * After [`MAX_MALFORMED`] times in a row, without a message between them that made sense, the connection is given up.

use super::{Appetite, Chunk, DecodeError, Decoder, Disturbance, Sink};
use crate::model::{Nanos, Protocol, Side, Sides};

/// Times in a row that malformed input loses the place before the connection is given up.
pub(super) const MAX_MALFORMED: u32 = 8;

/// Why the place is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Bytes are missing where they matter; also: a place that was found was none.
    Gap,
    /// This is wrong with them.
    Malformed(DecodeError),
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Self::Malformed(error)
    }
}

/// Why those who wait are abandoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The place is lost. The connection goes on.
    Lost,
    /// What follows cannot be read.
    Unreadable,
    /// The connection has ended.
    Closed,
}

/// What is said while the place is lost.
#[derive(Clone, Copy, Debug)]
pub(super) enum Heard<'a> {
    /// The bytes in which it was lost.
    Losing(Chunk<'a>),
    /// Bytes after them.
    Bytes(Chunk<'a>),
    /// More is missing.
    Hole(Nanos),
}

/// Whether the place is found again.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not yet.
    No,
    /// The bytes in hand begin a frame.
    Here,
    /// Frames begin with these bytes, which were held; those in hand are their end.
    Held(Vec<u8>),
}

/// How much of a connection there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is older than the agent, and nothing was said about that yet.
    Joined,
    /// It is read.
    Open,
    /// Nothing more is read.
    Over,
}

/// Whether the place in one direction is known: where its frames begin and end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// It is.
    Known,
    /// Not until a frame begins for certain.
    Lost {
        /// Bytes since it was lost.
        wandered: u64,
    },
}

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Direction {
    place: Place,
    /// The next bytes begin a segment as their sender wrote it.
    at_start: bool,
    /// Those in hand do.
    starts: bool,
}

/// Where a connection is in its life.
#[derive(Debug)]
pub(super) struct Life {
    stage: Stage,
    directions: Sides<Direction>,
    whole: bool,
    n_malformed: u32,
}

impl Life {
    /// Of a connection seen from its start, or from the middle.
    pub(super) fn new(mid_stream: bool) -> Self {
        let place = if mid_stream { Place::Lost { wandered: 0 } } else { Place::Known };
        let direction = Direction { place, at_start: true, starts: true };
        Self {
            stage: if mid_stream { Stage::Joined } else { Stage::Open },
            directions: Sides { client: direction, server: direction },
            whole: !mid_stream,
            n_malformed: 0,
        }
    }

    /// Nothing was missed since the connection's start.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// Something was missed that does not cost the place.
    pub(super) fn missed(&mut self) {
        self.whole = false;
    }

    /// Nothing more is read.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// This direction's place is lost.
    pub(super) fn is_lost(&self, from: Side) -> bool {
        self.directions[from].place != Place::Known
    }

    /// The bytes in hand begin a segment.
    pub(super) fn starts(&self, from: Side) -> bool {
        self.directions[from].starts
    }

    /// The bytes in hand, or what is missing, end a segment.
    pub(super) fn ends(&self, from: Side) -> bool {
        self.directions[from].at_start
    }

    /// A message made sense: what was malformed before it is no sign that this is another protocol.
    pub(super) fn sound(&mut self) {
        self.n_malformed = 0;
    }

    /// This direction's place is lost.
    pub(super) fn lose(&mut self, from: Side) {
        self.whole = false;
        self.directions[from].place = Place::Lost { wandered: 0 };
    }

    /// It is found.
    pub(super) fn find(&mut self, from: Side) {
        self.directions[from].place = Place::Known;
    }

    /// Nothing more will be read.
    fn end(&mut self) {
        self.stage = Stage::Over;
    }
}

/// What a protocol brings to the life of its connections.
pub(super) trait Conversation: Sized {
    /// Which protocol.
    const PROTOCOL: Protocol;
    /// Bytes of one direction without a place after which the connection is given up, if it ever is.
    const MAX_WANDERED: Option<u64> = None;

    /// What cuts the bytes of both directions into frames: apart from the rest, to which frames that borrow from it are
    /// handed.
    type Frames;

    /// Where the connection is in its life.
    fn life(&self) -> &Life;

    /// The same, to be changed.
    fn life_mut(&mut self) -> &mut Life;

    /// Whether a segment that begins so begins a frame.
    fn opens(&self, from: Side, bytes: &[u8]) -> bool;

    /// Looks for the place in what is said while it is lost.
    fn seek(&mut self, from: Side, heard: Heard<'_>, sink: &mut dyn Sink) -> Found {
        let _ = sink;
        match heard {
            Heard::Bytes(chunk) if self.life().starts(from) && self.opens(from, chunk.bytes) => Found::Here,
            Heard::Bytes(_) | Heard::Losing(_) | Heard::Hole(_) => Found::No,
        }
    }

    /// Reads more bytes of a direction whose place is known.
    ///
    /// # Errors
    /// It is lost.
    fn read(
        &mut self,
        frames: &mut Self::Frames,
        from: Side,
        chunk: Chunk<'_>,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault>;

    /// `n` bytes are missing here.
    ///
    /// # Errors
    /// The place is lost.
    fn skip(
        &mut self,
        frames: &mut Self::Frames,
        from: Side,
        n: u64,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Result<(), Fault>;

    /// This direction's place is lost, or the connection is closed: what was begun there will not be whole.
    fn forget(&mut self, frames: &mut Self::Frames, from: Side, end: End, at: Nanos, sink: &mut dyn Sink);

    /// Nobody who waits will be told.
    fn abandon(&mut self, end: End, at: Nanos, sink: &mut dyn Sink);

    /// What is wanted of `from`'s segments.
    fn appetite(&self, frames: &Self::Frames, from: Side) -> Appetite {
        let _ = (frames, from);
        Appetite::Everything
    }

    /// Of the bytes in which the connection was left, so many at the end are what follows.
    fn unread(&self) -> usize {
        0
    }

    /// Bytes held.
    fn memory(&self, frames: &Self::Frames) -> usize;

    // === What follows from these ===

    /// Frames are still known, but not what they mean: nobody who waits will be told.
    fn lose(&mut self, fault: Fault, at: Nanos, sink: &mut dyn Sink) {
        disturb(self, fault, at, sink);
        self.abandon(End::Lost, at, sink);
        give_up(self, at, sink);
    }

    /// What follows cannot be read, and why; `None`: nothing follows.
    fn leave(&mut self, why: Option<&'static str>, at: Nanos, sink: &mut dyn Sink) {
        self.life_mut().end();
        self.abandon(End::Unreadable, at, sink);
        if let Some(why) = why {
            sink.opaque(at, why);
        }
    }
}

/// Tells that something is lost. Comes before anything is abandoned for it.
fn disturb<C: Conversation>(talk: &mut C, fault: Fault, at: Nanos, sink: &mut dyn Sink) {
    let life = talk.life_mut();
    life.whole = false;
    match fault {
        Fault::Gap => sink.disturbed(at, Disturbance::Gap),
        Fault::Malformed(error) => {
            life.n_malformed += 1;
            sink.decode_error(error);
            sink.disturbed(at, Disturbance::Malformed);
        }
    }
}

/// Gives the connection up if too much of it was malformed. Comes after everything is abandoned.
fn give_up<C: Conversation>(talk: &mut C, at: Nanos, sink: &mut dyn Sink) {
    let life = talk.life_mut();
    if life.n_malformed >= MAX_MALFORMED && !life.is_over() {
        life.end();
        sink.opaque(at, "malformed");
    }
}

/// The decoder of one connection.
#[derive(Debug)]
pub(super) struct Lifecycle<C: Conversation> {
    pub(super) talk: C,
    frames: C::Frames,
}

impl<C: Conversation> Lifecycle<C> {
    /// For one connection.
    pub(super) fn new(talk: C, frames: C::Frames) -> Self {
        Self { talk, frames }
    }

    fn announce(&mut self, at: Nanos, sink: &mut dyn Sink) {
        let life = self.talk.life_mut();
        if life.stage == Stage::Joined {
            life.stage = Stage::Open;
            sink.disturbed(at, Disturbance::MidStream);
        }
    }

    /// The place is lost if something is wrong. Whether it is.
    fn check(&mut self, from: Side, read: Result<(), Fault>, at: Nanos, sink: &mut dyn Sink) -> bool {
        let Err(fault) = read else { return false };
        if self.talk.life().is_over() {
            return false;
        }
        self.talk.life_mut().lose(from);
        disturb(&mut self.talk, fault, at, sink);
        self.talk.forget(&mut self.frames, from, End::Lost, at, sink);
        self.talk.abandon(End::Lost, at, sink);
        give_up(&mut self.talk, at, sink);
        true
    }

    /// Bytes of a direction whose place is lost: what of them is to be read.
    fn seek(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) -> Found {
        let found = self.talk.seek(from, Heard::Bytes(chunk), sink);
        let place = &mut self.talk.life_mut().directions[from].place;
        if found != Found::No {
            *place = Place::Known;
            return found;
        }
        if let Place::Lost { wandered } = place {
            *wandered = wandered.saturating_add(chunk.bytes.len() as u64);
            if C::MAX_WANDERED.is_some_and(|most| *wandered > most) {
                self.talk.leave(Some("frames_lost"), chunk.at, sink);
            }
        }
        found
    }
}

impl<C: Conversation> Decoder for Lifecycle<C> {
    fn protocol(&self) -> Protocol {
        C::PROTOCOL
    }

    fn bytes(&mut self, from: Side, chunk: Chunk<'_>, sink: &mut dyn Sink) {
        if chunk.bytes.is_empty() || self.talk.life().is_over() {
            return;
        }
        self.announce(chunk.at, sink);
        let direction = &mut self.talk.life_mut().directions[from];
        direction.starts = std::mem::replace(&mut direction.at_start, chunk.ends_segment);
        let found = match direction.place {
            Place::Known => Found::Here,
            Place::Lost { .. } => self.seek(from, chunk, sink),
        };
        let read = match &found {
            Found::No => return,
            Found::Here => self.talk.read(&mut self.frames, from, chunk, sink),
            Found::Held(bytes) => self.talk.read(&mut self.frames, from, Chunk { bytes, ..chunk }, sink),
        };
        if self.check(from, read, chunk.at, sink) && !self.talk.life().is_over() {
            self.talk.seek(from, Heard::Losing(chunk), sink);
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, sink: &mut dyn Sink) {
        if n == 0 || self.talk.life().is_over() {
            return;
        }
        self.announce(at, sink);
        // What follows a hole begins a segment: a cut segment is cut at its end, a lost one is lost whole.
        self.talk.life_mut().directions[from].at_start = true;
        if self.talk.life().is_lost(from) {
            self.talk.seek(from, Heard::Hole(at), sink);
            return;
        }
        let read = self.talk.skip(&mut self.frames, from, n, at, sink);
        self.check(from, read, at, sink);
    }

    fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.talk.life().is_over() {
            return;
        }
        self.announce(at, sink);
        self.talk.life_mut().end();
        for side in [Side::Client, Side::Server] {
            self.talk.forget(&mut self.frames, side, End::Closed, at, sink);
        }
        self.talk.abandon(End::Closed, at, sink);
    }

    fn appetite(&self, from: Side) -> Appetite {
        if self.talk.life().is_over() { Appetite::Nothing } else { self.talk.appetite(&self.frames, from) }
    }

    fn unread(&self) -> usize {
        self.talk.unread()
    }

    fn memory(&self) -> usize {
        self.talk.memory(&self.frames)
    }
}

#[cfg(test)]
mod tests;
