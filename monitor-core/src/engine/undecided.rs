//! Which protocol does a connection speak, and which end is the server? Asked of the bytes that were kept so far.

use super::conn::{Conn, End};
use super::parts::Parts;
use crate::decode::infer::{self, Guess, infer};
use crate::model::{Nanos, Protocol, Side};

/// Most bytes kept of a connection at its first look.
pub(super) const MAX_FIRST: usize = infer::MAX_BYTES;
/// Most pieces of it whose beginnings are told apart. What one side says in still smaller pieces is put together.
pub(super) const MAX_PIECES: usize = 16;
/// Ports from here on are given to clients (IANA's dynamic ports begin at 49152, Linux' at 32768).
const CLIENTS: u16 = 32_768;

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
    fn said_by(&self, side: Side) -> (Vec<u8>, Vec<(usize, usize)>, bool) {
        let (mut all, mut starts, mut ends) = (Vec::new(), Vec::new(), false);
        for (index, chunk) in self.chunks.iter().enumerate().filter(|(_, c)| c.side == side) {
            starts.push((all.len(), index));
            all.extend_from_slice(&chunk.bytes);
            ends = chunk.ends;
        }
        (all, starts, ends)
    }

    /// The other side has spoken before the chunk at `index`, and after whatever its own side had said before.
    fn begins_turn(&self, index: usize) -> bool {
        let Some(before) = index.checked_sub(1).and_then(|i| self.chunks.get(i)) else { return true };
        self.chunks.get(index).is_some_and(|c| c.side != before.side)
    }
}

/// What the bytes told.
#[derive(Debug)]
pub(super) enum Told {
    /// The protocol, and which end is the client.
    Is {
        protocol: Protocol,
        client: usize,
        /// The chunk that is the connection's very beginning, if it was seen.
        beginning: Option<usize>,
    },
    /// Nobody here reads what this end says.
    Opaque(&'static str),
    /// Not yet.
    Nothing,
}

/// The stream side of the end at `index`.
pub(super) fn side_of(index: usize) -> Side {
    if index == 0 { Side::Client } else { Side::Server }
}

impl Conn {
    /// What the end at `index` has said, looked at as all that it ever said, or (`again`) as part of something older. Of
    /// an older connection the first bytes may be the end of something: every piece is tried as a beginning. Of one that
    /// was seen from its start the first bytes count; but where they said nothing, and the other end has answered, the
    /// next may.
    pub(super) fn tell(&self, kept: &Undecided, index: usize, again: bool, parts: &Parts) -> Told {
        let (all, starts, ends) = kept.said_by(side_of(index));
        let older = again || self.ends.get(index).is_none_or(|e| e.start.is_none());
        let mut answer = Told::Nothing;
        for (n, (at, chunk)) in starts.into_iter().enumerate() {
            let late = older || n > 0;
            if !older && n > 0 && !kept.begins_turn(chunk) {
                continue;
            }
            let bytes = all.get(at..).unwrap_or_default();
            if late
                && self.client.is_none_or(|c| c == index)
                && let Some(protocol) = infer::begins(bytes)
            {
                return Told::Is { protocol, client: index, beginning: Some(chunk) };
            }
            match infer(bytes, ends, late) {
                Guess::Is { protocol, from } => {
                    let client = if from == Side::Client { index } else { 1 - index };
                    // The handshake knows better who connected; bytes that contradict it are some other protocol's.
                    if self.client.is_none_or(|c| c == client) {
                        return Told::Is { protocol, client, beginning: None };
                    }
                    continue;
                }
                Guess::Opaque(why) if older || n == 0 => answer = Told::Opaque(why),
                Guess::Opaque(_) | Guess::NeedMore => {}
            }
            let either = infer::either(bytes, ends).or_else(|| kept.answered(bytes, chunk));
            if let Some(protocol) = either
                && let Some(client) = self.client.or_else(|| self.whose(protocol, index, bytes, kept, parts))
            {
                return Told::Is { protocol, client, beginning: None };
            }
        }
        answer
    }

    /// Which end is the client, where the end at `index` has said something that either may say: by what the other one
    /// says, by what is known of the addresses, and at last by their ports, which are no evidence of a protocol.
    fn whose(&self, protocol: Protocol, index: usize, bytes: &[u8], kept: &Undecided, parts: &Parts) -> Option<usize> {
        let client = |at: usize, from: Side| if from == Side::Client { at } else { 1 - at };
        if let Some(from) = infer::side(protocol, bytes) {
            return Some(client(index, from));
        }
        let (others, ..) = kept.said_by(side_of(1 - index));
        if let Some(from) = infer::side(protocol, &others) {
            return Some(client(1 - index, from));
        }
        let serves = |end: &End| parts.map.serves(&parts.ctx, end.addr, end.workload, protocol);
        let listens = |end: &End| end.addr.port() < CLIENTS;
        let [first, second] = &self.ends;
        for (a, b) in [(serves(first), serves(second)), (listens(first), listens(second))] {
            match (a, b) {
                (true, false) => return Some(1),
                (false, true) => return Some(0),
                _ => {}
            }
        }
        None
    }

    /// The protocol that the configuration declares for the server, and which end is the client.
    pub(super) fn declared(&self, parts: &Parts) -> Option<(Protocol, usize)> {
        let of = |index: usize| self.ends.get(index).and_then(|e| parts.ctx.declared(e.addr));
        match self.client {
            Some(client) => of(1 - client).map(|p| (p, client)),
            None => match (of(0), of(1)) {
                (Some(p), None) => Some((p, 1)),
                (None, Some(p)) => Some((p, 0)),
                _ => None,
            },
        }
    }
}

impl Undecided {
    /// The protocol in which `bytes`, said from the chunk at `index` on, confirm what the other side had just said.
    fn answered(&self, bytes: &[u8], index: usize) -> Option<Protocol> {
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
