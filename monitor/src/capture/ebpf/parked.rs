//! Payload that completed a handshake: it reaches the listening socket before the connection has a socket of its own.
//! Kept by its addresses until the connection is announced.
//!
//! Addresses alone prove nothing. Whoever may send raw packets can send anything to a listener, and so does an honest
//! client whose server has closed already: its next segment finds no socket but the listener. The kernel answers those
//! with a reset. What belongs to a connection continues its handshake exactly: it begins where the client's SYN says,
//! acknowledges the server's SYN and nothing more, and comes just before the connection has its socket (Linux makes
//! that out of this very packet: `tcp_check_req` in net/ipv4/tcp_minisocks.c). Of several such the latest is the one
//! that the kernel took: it refused the ones before.
//!
//! What nobody claims is no loss: no connection came of it. Where there is no room for the bytes, their length is kept,
//! and the connection lacks just them; where there is no room for that either, it is lost to the listener's cgroup.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustc_hash::FxHashMap;

use super::wire::{Flow, SegmentRecord};

/// Most connections waited for.
const MAX_PARKED: usize = 16_384;
/// Most payload bytes kept.
const MAX_BYTES: usize = 4 << 20;
/// How long, ns. In the kernel the two events are one after the other; a processor may be taken away between them.
const KEEP: u64 = 1_000_000_000;
/// Connections announced lately, to find those whose payload comes out of another ring a little later.
const MAX_RECENT: usize = 256;
/// Most cgroups told apart among those whose payload found no room between two reports.
const MAX_CGROUPS: usize = 64;

/// A copied segment.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) at: u64,
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) len: u32,
    pub(super) bytes: Vec<u8>,
}

struct Parked {
    at: u64,
    cgroup: Option<u64>,
    addresses: (SocketAddr, SocketAddr),
    segment: Option<Owned>,
}

impl Parked {
    fn held(&self) -> usize {
        self.segment.as_ref().map_or(0, |s| s.bytes.len())
    }
}

/// What an announcement says of where a connection begins.
#[derive(Clone, Copy)]
struct Beginning {
    at: u64,
    cookie: u64,
    tx_start: Option<u32>,
    rx_start: Option<u32>,
}

impl Beginning {
    fn of(flow: &Flow) -> Self {
        Self { at: flow.at, cookie: flow.cookie, tx_start: flow.tx_start, rx_start: flow.rx_start }
    }

    /// Whether this segment completed the handshake of this connection.
    fn is_of(&self, at: u64, seq: u32, ack: Option<u32>) -> bool {
        let continues = self.rx_start == Some(seq);
        // Fast open: payload in the SYN, which acknowledges nothing.
        let answers = ack.is_none() || self.tx_start.is_none() || ack == self.tx_start;
        continues && answers && at <= self.at && self.at - at <= KEEP
    }
}

#[derive(Default)]
pub(super) struct Lot {
    /// By tag.
    parked: FxHashMap<u64, Parked>,
    by_addresses: FxHashMap<(SocketAddr, SocketAddr), u64>,
    /// When each was last expected, with its tag, oldest first; those that are gone or came again, too.
    order: VecDeque<(u64, u64)>,
    recent: VecDeque<((SocketAddr, SocketAddr), Beginning)>,
    bytes: usize,
    /// Segments that found no room, by the listener's cgroup, since last asked.
    dropped: FxHashMap<Option<u64>, u64>,
}

impl Lot {
    /// Addresses behind a tag are known: its segment follows.
    pub(super) fn expect(&mut self, flow: &Flow) {
        self.sweep(flow.at);
        let addresses = (flow.local, flow.peer);
        match self.parked.get_mut(&flow.cookie) {
            Some(parked) => parked.at = flow.at,
            None => {
                while self.parked.len() >= MAX_PARKED && self.drop_oldest() {}
                let parked = Parked { at: flow.at, cgroup: flow.cgroup, addresses, segment: None };
                self.parked.insert(flow.cookie, parked);
                self.by_addresses.insert(addresses, flow.cookie);
            }
        }
        self.order.push_back((flow.at, flow.cookie));
    }

    /// A segment under a tag. `Some`: its connection is announced already, by this cookie.
    pub(super) fn park(&mut self, s: &SegmentRecord<'_>) -> Option<u64> {
        let parked = self.parked.get_mut(&s.cookie)?;
        let announced = self.recent.iter().rev().find(|(of, b)| *of == parked.addresses && b.is_of(s.at, s.seq, s.ack));
        if let Some((_, beginning)) = announced {
            let cookie = beginning.cookie;
            self.take(s.cookie);
            return Some(cookie);
        }
        self.bytes -= parked.held();
        // Without room for the bytes the connection is told that they are cut.
        let bytes = if self.bytes + s.bytes.len() <= MAX_BYTES { s.bytes.to_vec() } else { Vec::new() };
        self.bytes += bytes.len();
        parked.segment = Some(Owned { at: s.at, seq: s.seq, ack: s.ack, len: s.len, bytes });
        None
    }

    /// A connection is announced: the payload that completed its handshake.
    pub(super) fn claim(&mut self, flow: &Flow) -> Option<Owned> {
        let addresses = (flow.local, flow.peer);
        let beginning = Beginning::of(flow);
        if self.recent.len() >= MAX_RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((addresses, beginning));
        let tag = *self.by_addresses.get(&addresses)?;
        // Nothing that waits under these addresses is a later connection's: it would have come later.
        let segment = self.take(tag)?.segment?;
        beginning.is_of(segment.at, segment.seq, segment.ack).then_some(segment)
    }

    /// A connection is closed: its addresses may serve another soon.
    pub(super) fn closed(&mut self, cookie: u64) {
        if let Some(i) = self.recent.iter().position(|(_, b)| b.cookie == cookie) {
            self.recent.remove(i);
        }
    }

    /// Forgets what no connection came of.
    pub(super) fn sweep(&mut self, now: u64) {
        while let Some(&(at, tag)) = self.order.front()
            && now.saturating_sub(at) > KEEP
        {
            self.order.pop_front();
            if self.parked.get(&tag).is_some_and(|p| p.at == at) {
                self.take(tag);
            }
        }
    }

    /// Segments that found no room since last asked, by the cgroup of the listener.
    pub(super) fn take_dropped(&mut self) -> FxHashMap<Option<u64>, u64> {
        std::mem::take(&mut self.dropped)
    }

    /// Connections waited for.
    pub(super) fn len(&self) -> usize {
        self.parked.len()
    }

    /// Most connections waited for.
    pub(super) const fn limit() -> usize {
        MAX_PARKED
    }

    fn take(&mut self, tag: u64) -> Option<Parked> {
        let parked = self.parked.remove(&tag)?;
        self.bytes -= parked.held();
        if self.by_addresses.get(&parked.addresses) == Some(&tag) {
            self.by_addresses.remove(&parked.addresses);
        }
        Some(parked)
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((at, tag)) = self.order.pop_front() else { return false };
        if self.parked.get(&tag).is_none_or(|p| p.at != at) {
            return true;
        }
        if let Some(parked) = self.take(tag).filter(|p| p.segment.is_some()) {
            let known = self.dropped.len() < MAX_CGROUPS || self.dropped.contains_key(&parked.cgroup);
            *self.dropped.entry(parked.cgroup.filter(|_| known)).or_default() += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::model::{Direction, Role};

    const SYN: u32 = 1_000;
    const SYN_ACK: u32 = 2_000;

    fn flow(cookie: u64, peer: &str, at: u64) -> Flow {
        Flow {
            at,
            cookie,
            cgroup: Some(7),
            local: "127.0.0.1:80".parse().unwrap(),
            peer: peer.parse().unwrap(),
            role: Role::Server,
            tx_start: Some(SYN_ACK),
            rx_start: Some(SYN),
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
            seq: SYN,
            ack: Some(SYN_ACK),
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
        assert!(lot.claim(&flow(7, "127.0.0.1:1001", 2)).is_none(), "another connection");
        let claimed = lot.claim(&flow(8, "127.0.0.1:1000", 2)).unwrap();
        assert_eq!(claimed.bytes, b"hello");
        assert_eq!((lot.len(), lot.bytes, lot.by_addresses.len()), (0, 0, 0));
    }

    /// A stale segment of the connection before, and a forged one: same addresses, and nothing else.
    #[test]
    fn what_does_not_continue_the_handshake_is_nobodys() {
        let continues = segment(99, b"hello");
        for (what, other) in [
            ("another place in the stream", SegmentRecord { seq: SYN + 1, ..segment(99, b"stale") }),
            ("far away", SegmentRecord { seq: SYN.wrapping_sub(1 << 30), ..segment(99, b"stale") }),
            ("of another server's SYN", SegmentRecord { ack: Some(SYN_ACK + 7), ..segment(99, b"stale") }),
            ("too old", SegmentRecord { at: 0, ..segment(99, b"stale") }),
            ("from after the announcement", SegmentRecord { at: KEEP + 9, ..segment(99, b"stale") }),
        ] {
            let mut lot = Lot::default();
            lot.expect(&flow(99, "127.0.0.1:1000", other.at));
            assert_eq!(lot.park(&other), None);
            assert!(lot.claim(&flow(8, "127.0.0.1:1000", KEEP + 2)).is_none(), "{what}");
            assert!(lot.take_dropped().is_empty(), "{what}: nothing is lost");
            // The right one, after it and before it.
            let mut lot = Lot::default();
            for s in [&other, &SegmentRecord { at: KEEP, ..continues }] {
                lot.expect(&flow(99, "127.0.0.1:1000", s.at));
                lot.park(s);
            }
            let claimed = lot.claim(&flow(8, "127.0.0.1:1000", KEEP + 2)).map(|s| s.bytes);
            assert_eq!(claimed.as_deref(), Some(&b"hello"[..]), "{what}");
        }
        // Fast open: the SYN acknowledges nothing.
        let mut lot = Lot::default();
        lot.expect(&flow(99, "127.0.0.1:1000", 1));
        lot.park(&SegmentRecord { ack: None, ..continues });
        assert!(lot.claim(&flow(8, "127.0.0.1:1000", 2)).is_some());
        // An announcement that does not know where the connection begins claims nothing.
        let mut lot = Lot::default();
        lot.expect(&flow(99, "127.0.0.1:1000", 1));
        lot.park(&segment(99, b"hello"));
        let unknown = Flow { rx_start: None, ..flow(8, "127.0.0.1:1000", 2) };
        assert!(lot.claim(&unknown).is_none());
    }

    #[test]
    fn payload_may_come_after_the_announcement() {
        let mut lot = Lot::default();
        assert!(lot.claim(&flow(8, "127.0.0.1:1000", 2)).is_none());
        lot.expect(&flow(99, "127.0.0.1:1000", 1));
        assert_eq!(lot.park(&SegmentRecord { seq: SYN + 5, ..segment(99, b"stale") }), None, "not where it begins");
        assert_eq!(lot.park(&segment(99, b"hello")), Some(8));
        lot.closed(8);
        lot.expect(&flow(99, "127.0.0.1:1000", 3));
        assert_eq!(lot.park(&segment(99, b"hello")), None, "the old connection is gone");
    }

    #[test]
    fn a_flood_is_bounded_and_told_of_the_listener_alone() {
        let mut lot = Lot::default();
        let n = MAX_PARKED as u64 + 3;
        let peer = |i: u64| format!("127.0.{}.{}:{}", i >> 16, i >> 8 & 0xff, 1 + (i & 0xff));
        let big = vec![b'x'; 1024];
        for i in 0..n {
            lot.expect(&flow(i, &peer(i), i));
            assert_eq!(lot.park(&SegmentRecord { at: i, ..segment(i, &big) }), None);
        }
        assert_eq!(lot.len(), MAX_PARKED);
        assert!(lot.bytes <= MAX_BYTES);
        assert_eq!(lot.take_dropped().into_iter().collect::<Vec<_>>(), [(Some(7), 3)]);
        // Where there was no room for the bytes their length is known.
        let cut = lot.claim(&flow(1, &peer(10_000), n)).unwrap();
        assert_eq!((cut.len, cut.bytes.len()), (1024, 0));
        // What nobody claims is no loss.
        lot.sweep(u64::MAX);
        assert_eq!((lot.len(), lot.bytes, lot.order.len(), lot.by_addresses.len()), (0, 0, 0, 0));
        assert!(lot.take_dropped().is_empty());
    }

    #[test]
    fn one_that_is_expected_again_and_again_takes_one_place() {
        let mut lot = Lot::default();
        for i in 0..100_000u64 {
            lot.expect(&flow(99, "127.0.0.1:1000", i * 100_000));
            lot.park(&SegmentRecord { at: i * 100_000, ..segment(99, b"hello") });
        }
        assert_eq!((lot.len(), lot.bytes), (1, 5));
        assert!(lot.order.len() <= 10_001, "{}", lot.order.len());
    }
}
