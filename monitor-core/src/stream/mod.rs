//! Streams: TCP segments of one connection, put in order by sequence number.
//!
//! Segments may come from the sender's socket, the receiver's, or both; lost, repeated, cut at capture, out of order,
//! or from the middle of a connection. Each direction is delivered once, in order, and what is missing is said:
//! [`Missing::Gap`] for what never came, [`Missing::Truncated`] for what was cut.
//!
//! A hole is a gap as soon as the other end acknowledges what lies beyond it: the receiver has the bytes, so whoever
//! captures at either socket had its chance. That is earlier than any timeout, and before the reply that the
//! acknowledgement came with is delivered. While it acknowledges less, it waits for the bytes like us: they will come
//! again.

mod direction;

use direction::DirectionState;

use crate::model::{Nanos, Side, Sides};

/// Why bytes are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// They never came.
    Gap,
    /// They were cut at capture.
    Truncated,
}

/// Bounds on what one direction may hold.
#[derive(Clone, Copy, Debug)]
pub struct StreamLimits {
    /// Most bytes held behind a hole.
    pub window: usize,
    /// Most segments held behind a hole.
    pub segments: usize,
    /// How long a hole may wait to be filled.
    pub patience: Nanos,
    /// The same while the other end says that it waits, too: its sender has to send the bytes again, at intervals of up
    /// to a minute (RFC 6298 §2.5).
    pub awaited: Nanos,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { window: 256 << 10, segments: 512, patience: Nanos::secs(2), awaited: Nanos::secs(60) }
    }
}

/// One captured piece of a direction.
#[derive(Clone, Copy, Debug)]
pub struct Incoming<'a> {
    /// Which end sent it.
    pub from: Side,
    /// When.
    pub at: Nanos,
    /// Sequence number of its first byte.
    pub seq: u32,
    /// What the sender has received of the other direction, if it says.
    pub ack: Option<u32>,
    /// Bytes it stands for.
    pub len: u32,
    /// Those of them that were captured: a prefix.
    pub bytes: &'a [u8],
}

/// Receives the streams. The engine's is `Feed` (`engine/feed.rs`).
pub trait Deliver {
    /// The next bytes of a direction. `ends_segment`: they end where a segment ended as it was captured.
    fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool);

    /// The next `n` bytes of a direction are missing.
    fn missing(&mut self, from: Side, at: Nanos, n: u64, kind: Missing);
}

/// Both directions of one connection.
#[derive(Debug)]
pub struct Reassembler {
    /// What is known of each direction, from its first byte on.
    directions: Sides<Option<DirectionState>>,
    limits: StreamLimits,
}

/// Sequence numbers further apart than this belong to no common stream (RFC 9293: windows are below 2^30).
const FAR: i32 = 1 << 30;

/// How far `a` is ahead of `b`; negative: behind.
fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

impl Reassembler {
    /// Streams of which nothing is known yet.
    pub fn new(limits: StreamLimits) -> Self {
        Self { directions: Sides::default(), limits }
    }

    /// The sequence number of the first byte that `from` sends. Too late once bytes were seen, unless it agrees.
    pub fn start(&mut self, from: Side, seq: u32) {
        self.directions[from].get_or_insert_with(|| DirectionState::starting_at(seq));
    }

    /// One captured piece.
    pub fn segment(&mut self, s: Incoming<'_>, out: &mut dyn Deliver) {
        let limits = self.limits;
        let other = s.from.other();
        // What is in flight before anything was seen was sent before this acknowledgement: it does not say where to begin.
        if let (Some(ack), Some(direction)) = (s.ack, &mut self.directions[other]) {
            direction.acknowledged(other, ack, s.at, out);
        }
        if (1..FAR.cast_unsigned()).contains(&s.len) {
            let direction = self.directions[s.from].get_or_insert_with(|| DirectionState::starting_at(s.seq));
            direction.segment(&s, &limits, out);
        }
    }

    /// Time has passed: a hole that has waited too long is a gap.
    pub fn expire(&mut self, now: Nanos, out: &mut dyn Deliver) {
        let limits = self.limits;
        for from in [Side::Client, Side::Server] {
            if let Some(direction) = &mut self.directions[from] {
                direction.expire(from, now, &limits, out);
            }
        }
    }

    /// The connection has ended: what is held behind holes is delivered, with gaps.
    pub fn close(&mut self, at: Nanos, out: &mut dyn Deliver) {
        for from in [Side::Client, Side::Server] {
            if let Some(direction) = &mut self.directions[from] {
                direction.flush(from, at, out);
            }
        }
    }

    /// When [`Self::expire`] has something to do, at the earliest.
    pub fn expires(&self) -> Option<Nanos> {
        self.directions.iter().flatten().filter_map(|d| d.expires(&self.limits)).min()
    }

    /// Bytes held behind holes.
    pub fn memory(&self) -> usize {
        self.directions.iter().flatten().map(DirectionState::memory).sum()
    }
}

#[cfg(test)]
mod rules;
#[cfg(test)]
mod tests;
