//! What a connection speaks, told from what was kept of it while nobody knew ([`super::undecided`]).

use super::conn::{Conn, End};
use super::parts::Parts;
use super::undecided::{Undecided, side_of};
use crate::decode::infer::{self, Guess, infer};
use crate::model::{Protocol, Side};

/// Ports from here on are given to clients (IANA's dynamic ports begin at 49152, Linux' at 32768).
const CLIENTS: u16 = 32_768;

/// What a connection speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recognised {
    pub(super) protocol: Protocol,
    /// Which end is the client.
    pub(super) client: usize,
    /// The chunk that is known to be the connection's very beginning, even where the handshake was not seen.
    pub(super) beginning: Option<usize>,
}

/// What the bytes told.
#[derive(Debug)]
pub(super) enum Told {
    /// What it speaks.
    Is(Recognised),
    /// Nobody here reads what this end says.
    Opaque(&'static str),
    /// Not yet.
    Nothing,
}

/// Which end is the client, where exactly one is a server.
pub(super) fn only_other(first_serves: bool, second_serves: bool) -> Option<usize> {
    (first_serves != second_serves).then_some(usize::from(first_serves))
}

/// Which end is the client, by the port that only one end has as clients do.
pub(super) fn by_ports(ends: &[End; 2]) -> Option<usize> {
    let [first, second] = ends;
    only_other(first.addr.port() < CLIENTS, second.addr.port() < CLIENTS)
}

impl Conn {
    /// What the end at `index` has said, looked at as all that it ever said, or (`again`) as part of something older. Of
    /// an older connection the first bytes may be the end of something: every piece is tried as a beginning. Of one that
    /// was seen from its start the first bytes count; but where they said nothing, and the other end has answered, the
    /// next may.
    pub(super) fn recognise(&self, kept: &Undecided, index: usize, again: bool, parts: &Parts) -> Told {
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
                return Told::Is(Recognised { protocol, client: index, beginning: Some(chunk) });
            }
            match infer(bytes, ends, late) {
                Guess::Is { protocol, from } => {
                    let client = if from == Side::Client { index } else { 1 - index };
                    // The handshake knows better who connected; bytes that contradict it are some other protocol's.
                    if self.client.is_none_or(|c| c == client) {
                        return Told::Is(Recognised { protocol, client, beginning: None });
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
                return Told::Is(Recognised { protocol, client, beginning: None });
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
        let [first, second] = &self.ends;
        only_other(serves(first), serves(second)).or_else(|| by_ports(&self.ends))
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
