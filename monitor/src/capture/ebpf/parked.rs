//! Payload that completed a handshake: it reaches the listening socket before the connection has a socket of its own.
//! Kept by its addresses until the connection is announced. Bounded in number, bytes and time, as a flood of forged
//! handshakes could fill it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::wire::{Flow, SegmentRecord};

/// Most connections kept.
const MAX_PARKED: usize = 1024;
/// Most segments of one connection kept.
const MAX_SEGMENTS: usize = 4;
/// How long, ns.
const KEEP: u64 = 5_000_000_000;
/// Connections announced lately, to find those whose payload comes out of another ring a little later.
const MAX_RECENT: usize = 256;

/// A copied segment.
pub(super) struct Owned {
    pub(super) at: u64,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) len: u32,
    pub(super) bytes: Vec<u8>,
}

struct Parked {
    tag: u64,
    at: u64,
    local: SocketAddr,
    peer: SocketAddr,
    segments: Vec<Owned>,
}

#[derive(Default)]
pub(super) struct Lot {
    parked: VecDeque<Parked>,
    recent: VecDeque<(SocketAddr, SocketAddr, u64)>,
    /// Segments nobody claimed, since last asked.
    unclaimed: u64,
}

impl Lot {
    /// Addresses behind a tag are known: its segments follow.
    pub(super) fn expect(&mut self, flow: &Flow) {
        if self.parked.iter().any(|p| p.tag == flow.cookie) {
            return;
        }
        if self.parked.len() >= MAX_PARKED {
            self.drop_oldest();
        }
        self.parked.push_back(Parked {
            tag: flow.cookie,
            at: flow.at,
            local: flow.local,
            peer: flow.peer,
            segments: Vec::new(),
        });
    }

    /// A segment under a tag. `Some`: its connection is announced already, by this cookie.
    pub(super) fn park(&mut self, s: &SegmentRecord<'_>) -> Option<u64> {
        let Some(i) = self.parked.iter().position(|p| p.tag == s.cookie) else {
            self.unclaimed += 1;
            return None;
        };
        let p = self.parked.get_mut(i)?;
        let known = self.recent.iter().rev().find(|(l, r, _)| (*l, *r) == (p.local, p.peer));
        if let Some((_, _, cookie)) = known {
            let cookie = *cookie;
            self.parked.remove(i);
            return Some(cookie);
        }
        if p.segments.len() >= MAX_SEGMENTS {
            self.unclaimed += 1;
        } else {
            p.segments.push(Owned { at: s.at, seq: s.seq, ack: s.ack, len: s.len, bytes: s.bytes.to_vec() });
        }
        None
    }

    /// A connection is announced: what waited for it.
    pub(super) fn claim(&mut self, flow: &Flow) -> Vec<Owned> {
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((flow.local, flow.peer, flow.cookie));
        match self.parked.iter().position(|p| (p.local, p.peer) == (flow.local, flow.peer)) {
            Some(i) => self.parked.remove(i).map(|p| p.segments).unwrap_or_default(),
            None => Vec::new(),
        }
    }

    /// A connection is closed: its addresses may serve another soon.
    pub(super) fn closed(&mut self, cookie: u64) {
        if let Some(i) = self.recent.iter().position(|(_, _, c)| *c == cookie) {
            self.recent.remove(i);
        }
    }

    /// Drops what is older than a few seconds; how many segments were lost here since last asked.
    pub(super) fn sweep(&mut self, now: u64) -> u64 {
        while self.parked.front().is_some_and(|p| now.saturating_sub(p.at) > KEEP) {
            self.drop_oldest();
        }
        std::mem::take(&mut self.unclaimed)
    }

    /// Connections waited for.
    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    /// Most connections waited for.
    pub(super) const fn limit() -> usize {
        MAX_PARKED
    }

    fn drop_oldest(&mut self) {
        if let Some(p) = self.parked.pop_front() {
            self.unclaimed += u64::try_from(p.segments.len()).unwrap_or(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::model::{Direction, Role};

    fn flow(cookie: u64, peer: &str, at: u64) -> Flow {
        Flow {
            at,
            cookie,
            cgroup: None,
            local: "127.0.0.1:80".parse().unwrap(),
            peer: peer.parse().unwrap(),
            role: Role::Server,
            tx_start: None,
            rx_start: None,
            listener: false,
            no_close: false,
        }
    }

    fn segment(tag: u64, bytes: &[u8]) -> SegmentRecord<'_> {
        let len = u32::try_from(bytes.len()).unwrap();
        SegmentRecord {
            at: 1,
            cookie: tag,
            dir: Direction::Rx,
            seq: 1,
            ack: None,
            len,
            bytes,
            listener: true,
            sender: None,
        }
    }

    #[test]
    fn payload_waits_for_its_connection() {
        let mut lot = Lot::default();
        lot.expect(&flow(99, "127.0.0.1:1000", 1));
        assert_eq!(lot.park(&segment(99, b"hello")), None);
        assert!(lot.claim(&flow(7, "127.0.0.1:1001", 2)).is_empty(), "another connection");
        let claimed = lot.claim(&flow(8, "127.0.0.1:1000", 2));
        assert_eq!(claimed.len(), 1);
        assert_eq!(claimed[0].bytes, b"hello");
        assert_eq!((lot.len(), lot.sweep(u64::MAX)), (0, 0));
    }

    #[test]
    fn payload_may_come_after_the_announcement() {
        let mut lot = Lot::default();
        assert!(lot.claim(&flow(8, "127.0.0.1:1000", 2)).is_empty());
        lot.expect(&flow(99, "127.0.0.1:1000", 1));
        assert_eq!(lot.park(&segment(99, b"hello")), Some(8));
        lot.closed(8);
        lot.expect(&flow(99, "127.0.0.1:1000", 3));
        assert_eq!(lot.park(&segment(99, b"hello")), None, "the old connection is gone");
    }

    #[test]
    fn a_flood_is_bounded_and_counted() {
        let mut lot = Lot::default();
        for i in 0..3000u64 {
            lot.expect(&flow(i, "127.0.0.1:1000", i));
            assert_eq!(lot.park(&segment(i, b"x")), None);
        }
        assert_eq!(lot.len(), MAX_PARKED);
        assert_eq!(lot.sweep(3000), 3000 - MAX_PARKED as u64);
        for _ in 0..10 {
            lot.park(&segment(2999, b"x"));
        }
        assert_eq!(lot.sweep(3000), 10 + 1 - MAX_SEGMENTS as u64);
        assert_eq!(lot.park(&segment(5, b"x")), None);
        assert_eq!(lot.sweep(KEEP + 4000), 1 + 1023 + MAX_SEGMENTS as u64);
        assert_eq!(lot.len(), 0);
    }
}
