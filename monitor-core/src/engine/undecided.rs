//! Which protocol does a connection speak, and which end is the server? Asked of the bytes that were kept so far.

use crate::decode::infer::{self};
use crate::model::{Nanos, Protocol, Side};
use crate::tls::Sealed;

/// Most bytes kept of a connection at its first look.
pub(super) const MAX_FIRST: usize = infer::MAX_BYTES;
/// Most pieces of it whose beginnings are told apart. What one side says in still smaller pieces is put together.
pub(super) const MAX_PIECES: usize = 16;

/// Some bytes that one side has sent.
#[derive(Debug)]
pub(super) struct Kept {
    /// As the stream knows it.
    pub(super) side: Side,
    /// When the last of them came.
    pub(super) at: Nanos,
    pub(super) bytes: Vec<u8>,
    /// They end where a segment ended.
    pub(super) ends: bool,
}

impl Kept {
    /// The same, where they turned out to be sealed.
    pub(super) fn sealed(&self) -> Sealed<'_> {
        Sealed { at: self.at, bytes: &self.bytes, ends_segment: self.ends }
    }
}

/// Bytes kept while the protocol is not known.
#[derive(Debug, Default)]
pub(super) struct Undecided {
    pub(super) chunks: Vec<Kept>,
    pub(super) held: usize,
}

impl Undecided {
    /// Keeps as much of `bytes` as there is room for below `most` bytes; gives how many.
    pub(super) fn keep(&mut self, side: Side, at: Nanos, bytes: &[u8], ends: bool, most: usize) -> usize {
        let taken = bytes.get(..most.saturating_sub(self.held).min(bytes.len())).unwrap_or_default();
        let ends = ends && taken.len() == bytes.len();
        self.held += taken.len();
        let full = self.chunks.len() >= MAX_PIECES;
        match self.chunks.last_mut() {
            Some(last) if full && last.side == side => {
                last.bytes.extend_from_slice(taken);
                (last.at, last.ends) = (at, ends);
            }
            _ => self.chunks.push(Kept { side, at, bytes: taken.to_vec(), ends }),
        }
        taken.len()
    }

    /// Drops what `side` said.
    pub(super) fn forget(&mut self, side: Side) {
        self.chunks.retain(|c| c.side != side);
        self.held = self.chunks.iter().map(|c| c.bytes.len()).sum();
    }

    /// Whether the first look has seen enough.
    pub(super) fn is_full(&self) -> bool {
        self.held >= MAX_FIRST || self.chunks.len() > MAX_PIECES
    }

    /// What `side` said without a hole: all of it, where its pieces begin in it and among the chunks, and whether a
    /// segment ends with it.
    pub(super) fn said_by(&self, side: Side) -> (Vec<u8>, Vec<(usize, usize)>, bool) {
        let (mut all, mut starts, mut ends) = (Vec::new(), Vec::new(), false);
        for (index, chunk) in self.chunks.iter().enumerate().filter(|(_, c)| c.side == side) {
            starts.push((all.len(), index));
            all.extend_from_slice(&chunk.bytes);
            ends = chunk.ends;
        }
        (all, starts, ends)
    }

    /// The other side has spoken before the chunk at `index`, and after whatever its own side had said before.
    pub(super) fn begins_turn(&self, index: usize) -> bool {
        let Some(before) = index.checked_sub(1).and_then(|i| self.chunks.get(i)) else { return true };
        self.chunks.get(index).is_some_and(|c| c.side != before.side)
    }
}

/// The stream side of the end at `index`.
pub(super) fn side_of(index: usize) -> Side {
    if index == 0 { Side::Client } else { Side::Server }
}

impl Undecided {
    /// The protocol in which `bytes`, said from the chunk at `index` on, confirm what the other side had just said.
    pub(super) fn answered(&self, bytes: &[u8], index: usize) -> Option<Protocol> {
        let side = self.chunks.get(index)?.side;
        let before = self.chunks.get(..index)?;
        let turn = before.len() - before.iter().rev().take_while(|c| c.side != side).count();
        // Each of its pieces may have begun what was asked.
        (turn..index).find_map(|first| {
            let asked: Vec<u8> = before.get(first..)?.iter().flat_map(|c| c.bytes.iter().copied()).collect();
            infer::answers(&asked, bytes)
        })
    }
}
