//! One direction: what comes next, and what is held because something before it is missing.

use std::collections::VecDeque;

use super::{Deliver, FAR, Incoming, Missing, StreamLimits, ahead};
use crate::model::steps::walk;
use crate::model::{Nanos, Side};

/// What is held behind a hole of one piece.
#[derive(Debug)]
struct Held {
    seq: u32,
    len: u32,
    /// A segment ended with it, as it was captured.
    ends: bool,
    at: Nanos,
    bytes: Box<[u8]>,
}

/// `len` bytes from `seq` on, of which the first ones are known.
struct Range<'a> {
    seq: u32,
    len: u32,
    bytes: &'a [u8],
    ends: bool,
}

/// Everything that is rarely needed.
#[derive(Debug, Default)]
struct Behind {
    /// In order of sequence number, without overlap.
    pieces: VecDeque<Held>,
    n_bytes: usize,
    /// No piece came earlier than this.
    since: Nanos,
    /// When the other end last said that it has not got beyond the hole either.
    awaited: Option<Nanos>,
}

impl Behind {
    /// When the first hole is given up.
    fn expires(&self, limits: &StreamLimits) -> Nanos {
        match self.awaited.filter(|at| *at >= self.since) {
            Some(at) => at + limits.awaited,
            None => self.since + limits.patience,
        }
    }
}

/// One direction of which something was seen.
#[derive(Debug)]
pub(super) struct DirectionState {
    /// Sequence number of the next byte to deliver.
    next: u32,
    /// The other end has acknowledged one more than `next`: a FIN, or one lost byte.
    one_over: bool,
    /// End of the last piece that was too far off to be believed.
    astray: Option<u32>,
    behind: Option<Box<Behind>>,
}

impl DirectionState {
    /// A direction whose first byte has this number.
    pub(super) fn starting_at(seq: u32) -> Self {
        Self { next: seq, one_over: false, astray: None, behind: None }
    }

    /// The other end has received everything before `ack`.
    pub(super) fn acknowledged(&mut self, from: Side, ack: u32, at: Nanos, out: &mut dyn Deliver) {
        if let Some(behind) = self.behind.as_mut().filter(|_| ahead(ack, self.next) <= 0) {
            behind.awaited = Some(at);
        }
        while ahead(ack, self.next) > 0 && ahead(ack, self.next) < FAR {
            let first = self.behind.as_ref().and_then(|b| b.pieces.front()).map(|h| h.seq);
            if first.is_none() && ahead(ack, self.next) == 1 {
                // SYN and FIN take a sequence number each, and no data follows that would tell.
                self.one_over = true;
                return;
            }
            let to = first.filter(|seq| ahead(*seq, ack) < 0).unwrap_or(ack);
            self.gap(from, to, at, out);
            self.drain(from, at, out);
        }
    }

    pub(super) fn segment(&mut self, s: &Incoming<'_>, limits: &StreamLimits, out: &mut dyn Deliver) {
        if ahead(s.seq, self.next).unsigned_abs() >= FAR.cast_unsigned() {
            // One such piece is not believed. Two that fit each other are: the stream got there unseen.
            if self.astray != Some(s.seq) {
                self.astray = Some(s.seq.wrapping_add(s.len));
                return;
            }
            self.flush(s.from, s.at, out);
            out.missing(s.from, s.at, u64::from(s.seq.wrapping_sub(self.next)).max(1), Missing::Gap);
            self.next = s.seq;
        }
        self.astray = None;
        if self.one_over && ahead(s.seq, self.next) > 0 {
            // Data goes on beyond the acknowledged byte, so that was no FIN.
            self.gap(s.from, self.next.wrapping_add(1), s.at, out);
        }
        if ahead(s.seq, self.next) > 0 {
            self.hold(s, limits, out);
            return;
        }
        let whole = s.bytes.len() >= s.len as usize;
        self.deliver(s.from, s.at, Range { seq: s.seq, len: s.len, bytes: s.bytes, ends: whole }, out);
        if self.behind.is_some() {
            self.drain(s.from, s.at, out);
        }
    }

    /// Delivers what is new of a piece that begins at or before `next`.
    fn deliver(&mut self, from: Side, at: Nanos, range: Range<'_>, out: &mut dyn Deliver) {
        let Range { seq, len, bytes, ends } = range;
        let old = ahead(self.next, seq).max(0).cast_unsigned();
        if old >= len {
            return;
        }
        self.next = seq.wrapping_add(len);
        self.one_over = false;
        let whole = bytes.len() >= len as usize;
        let new = bytes.get(old as usize..bytes.len().min(len as usize)).unwrap_or_default();
        if !new.is_empty() {
            out.bytes(from, at, new, ends);
        }
        if !whole {
            let n = u64::from(len - old) - new.len() as u64;
            out.missing(from, at, n, Missing::Truncated);
        }
    }

    /// Keeps what is new of a piece until what is before it comes. What is held already stays: the first copy wins.
    fn hold(&mut self, s: &Incoming<'_>, limits: &StreamLimits, out: &mut dyn Deliver) {
        let behind = self.behind.get_or_insert_with(|| Box::new(Behind { since: s.at, ..Behind::default() }));
        behind.since = behind.since.min(s.at);
        // Pieces never overlap. The first one that ends after this one begins:
        let mut place = behind.pieces.partition_point(|h| ahead(h.seq.wrapping_add(h.len), s.seq) <= 0);
        let mut skip = 0;
        while skip < s.len {
            let seq = s.seq.wrapping_add(skip);
            let (room, held_len) = match behind.pieces.get(place) {
                Some(h) => (ahead(h.seq, seq).max(0).cast_unsigned(), h.len),
                None => (u32::MAX, 0),
            };
            let len = room.min(s.len - skip);
            if len > 0 {
                let end = skip + len;
                let known = s.bytes.get(skip as usize..s.bytes.len().min(end as usize)).unwrap_or_default();
                behind.n_bytes += known.len();
                let ends = end == s.len && known.len() == len as usize;
                behind.pieces.insert(place, Held { seq, len, ends, at: s.at, bytes: known.into() });
                place += 1;
            }
            // On to the end of the piece that was there.
            let Some(there) = behind.pieces.get(place) else { break };
            skip = ahead(there.seq, s.seq).saturating_add_unsigned(held_len).max(0).cast_unsigned();
            place += 1;
        }
        while self.behind.as_ref().is_some_and(|b| b.n_bytes > limits.window || b.pieces.len() > limits.segments) {
            self.give_up_hole(s.from, s.at, out);
        }
    }

    /// Delivers held pieces that have nothing missing before them. They became readable no earlier than `at`.
    fn drain(&mut self, from: Side, at: Nanos, out: &mut dyn Deliver) {
        while let Some(behind) = &mut self.behind {
            match behind.pieces.front() {
                None => self.behind = None,
                Some(first) if ahead(first.seq, self.next) > 0 => return,
                Some(_) => {
                    let Some(piece) = behind.pieces.pop_front() else { return };
                    behind.n_bytes -= piece.bytes.len();
                    let Held { seq, len, ends, ref bytes, .. } = piece;
                    self.deliver(from, piece.at.max(at), Range { seq, len, bytes, ends }, out);
                }
            }
        }
    }

    fn gap(&mut self, from: Side, to: u32, at: Nanos, out: &mut dyn Deliver) {
        let n = ahead(to, self.next);
        if n > 0 {
            self.next = to;
            self.one_over = false;
            out.missing(from, at, u64::from(n.cast_unsigned()), Missing::Gap);
        }
    }

    /// The hole before the first held piece is a gap.
    fn give_up_hole(&mut self, from: Side, at: Nanos, out: &mut dyn Deliver) {
        let Some(to) = self.behind.as_ref().and_then(|b| b.pieces.front()).map(|h| h.seq) else { return };
        self.gap(from, to, at, out);
        self.drain(from, at, out);
    }

    pub(super) fn expire(&mut self, from: Side, now: Nanos, limits: &StreamLimits, out: &mut dyn Deliver) {
        // Every held piece shows the first hole: the earliest tells its age.
        while let Some(behind) = &mut self.behind {
            if behind.expires(limits) <= now {
                behind.since = walk(&behind.pieces).map(|h| h.at).min().unwrap_or(now);
            }
            if behind.expires(limits) > now {
                return;
            }
            self.give_up_hole(from, now, out);
        }
    }

    /// When a hole is given up, at the earliest.
    pub(super) fn expires(&self, limits: &StreamLimits) -> Option<Nanos> {
        self.behind.as_ref().map(|b| b.expires(limits))
    }

    pub(super) fn flush(&mut self, from: Side, at: Nanos, out: &mut dyn Deliver) {
        while self.behind.is_some() {
            self.give_up_hole(from, at, out);
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.behind.as_ref().map_or(0, |b| b.n_bytes + size_of::<Behind>() + b.pieces.capacity() * size_of::<Held>())
    }
}
