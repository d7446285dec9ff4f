//! Which connection a captured segment belongs to: every 4-tuple's incarnations become flows of their own.
//!
//! A capture has no sockets, so each flow is told as if it had been seen at the client's.
//!
//! What one end acknowledges it has received: where a file has the acknowledgement before the bytes, it is held until they
//! come ([`super::early`]).

use std::collections::{HashMap, VecDeque};

use monitor_core::model::{CloseReason, Direction, Event, LossStage, Nanos, Role, Segment, SocketCookie};

use super::early::{Early, HOLD, MAX_ALL, MAX_OF_FLOW};
use super::link::{Endpoint, TcpPacket};

/// Connections followed at once, the recently ended included. About 200 bytes each.
pub(super) const MAX_FLOWS: usize = 131_072;

/// How long a tuple is remembered after its connection ended: what comes later is another connection. Linux's
/// TIME-WAIT is 60 s.
const LINGER: Nanos = Nanos::secs(60);

/// A segment that ends at most this far before the end of an ended stream is a late copy. Larger than any receive
/// window in use.
const LATE_WINDOW: u32 = 1 << 26;

struct Flow {
    cookie: SocketCookie,
    local: Endpoint,
    tx_start: Option<u32>,
    rx_start: Option<u32>,
    tx: Half,
    rx: Half,
    /// A handshake's answer that is not this connection's: its successor's, whose beginning is missing, or nobody's.
    /// What comes next tells.
    rival: Option<Fresh>,
    open: bool,
    last: Nanos,
    /// Number of the packet that came last: the order of eviction, unlike `last` unique.
    last_packet: u64,
    /// Segments that wait for what they acknowledge, in their order, and packets since the first of them.
    early: VecDeque<Early>,
    n_since: usize,
}

#[derive(Clone, Copy, Default)]
struct Half {
    /// Sequence number after the furthest byte seen.
    end: Option<u32>,
    /// Where the first bytes are missing that may still come.
    hole: Option<u32>,
    /// Bytes before this were acknowledged, and waited for in vain.
    in_vain: Option<u32>,
    fin: bool,
}

impl Half {
    fn reach(&mut self, end: u32) {
        if self.end.is_none_or(|e| end.wrapping_sub(e) as i32 > 0) {
            self.end = Some(end);
        }
    }

    /// Bytes from `first` to `end` were seen.
    fn saw(&mut self, first: u32, end: u32) {
        let before = |a: u32, b: u32| b.wrapping_sub(a) as i32 > 0;
        match (self.end, self.hole) {
            (Some(e), None) if before(e, first) => self.hole = Some(e),
            (_, Some(hole)) if !before(hole, first) && before(hole, end) => self.hole = None,
            _ => {}
        }
        self.reach(end);
    }

    /// How far `number` is from what this half has come to.
    fn far(&self, number: u32) -> u64 {
        self.end.map_or(u64::from(u32::MAX), |end| u64::from((number.wrapping_sub(end) as i32).unsigned_abs()))
    }

    /// Whether `ack` is of bytes that were not seen yet and may still come. The end of a stream has a number, too.
    fn is_ahead(&self, ack: u32) -> bool {
        let beyond = |number: u32, by: i32| ack.wrapping_sub(number) as i32 > by;
        self.end.is_some_and(|end| beyond(end, i32::from(self.fin))) && self.in_vain.is_none_or(|n| beyond(n, 0))
    }

    /// True when a segment that ends at `end` can only be a copy of what this half has seen.
    fn is_late(&self, end: u32) -> bool {
        self.end.is_some_and(|e| e.wrapping_sub(end) < LATE_WINDOW)
    }
}

/// The connections of a capture.
pub(super) struct Flows {
    // Hashed with a random key: a capture is hostile input and could be made of colliding tuples. Iteration order is
    // never seen outside.
    table: HashMap<(Endpoint, Endpoint), Flow>,
    capacity: usize,
    n_cookies: u64,
    n_packets: u64,
    /// Flows with segments that wait, and until when, soonest first.
    waiting: VecDeque<(Nanos, (Endpoint, Endpoint), SocketCookie)>,
    /// Segments that wait, of all flows.
    n_early: usize,
}

impl Flows {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            table: HashMap::new(),
            capacity: capacity.max(16),
            n_cookies: 0,
            n_packets: 0,
            waiting: VecDeque::new(),
            n_early: 0,
        }
    }

    /// Connections remembered, and how many may be.
    pub(super) fn fill(&self) -> (u64, u64) {
        (self.table.len() as u64, self.capacity as u64)
    }

    /// Takes one segment and tells what it means.
    pub(super) fn packet(&mut self, at: Nanos, p: &TcpPacket<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        self.release(at, sink);
        self.n_packets += 1;
        let key = if p.src <= p.dst { (p.src, p.dst) } else { (p.dst, p.src) };
        // The first byte after a SYN has the number after it.
        let first = if p.syn { p.seq.wrapping_add(1) } else { p.seq };
        let n_packets = self.n_packets;
        let mut known = self.table.get_mut(&key);

        let fresh = match &mut known {
            None if p.rst => return,
            None if p.syn && p.ack => Some(Fresh::from_syn_ack(p)),
            None if p.syn => Some(Fresh::from_syn(p)),
            None if p.len > 0 => Some(Fresh::mid_stream(p)),
            // Bare acknowledgements and FINs of a connection never seen say nothing.
            None => return,
            Some(flow) => match flow.judge(at, p, first) {
                Judgement::Same => None,
                Judgement::Ignore => return,
                Judgement::Other(fresh) => Some(fresh),
            },
        };

        let flow = match (fresh, known) {
            (None, Some(flow)) => flow,
            (None, None) => return,
            (Some(fresh), Some(flow)) => {
                self.n_early -= flow.release(at, sink);
                if flow.open {
                    sink(Event::Closed { at, cookie: flow.cookie, reason: CloseReason::Closed });
                }
                self.n_cookies += 1;
                *flow = fresh.open(SocketCookie(self.n_cookies), at, p, sink);
                flow
            }
            (Some(fresh), None) => {
                if self.table.len() >= self.capacity {
                    self.evict(at, sink);
                }
                self.n_cookies += 1;
                let flow = fresh.open(SocketCookie(self.n_cookies), at, p, sink);
                self.table.entry(key).or_insert(flow)
            }
        };
        flow.last = at;
        flow.last_packet = n_packets;
        if flow.waits(p) && self.n_early < MAX_ALL {
            if flow.early.is_empty() {
                self.waiting.push_back((at + HOLD, key, flow.cookie));
            }
            flow.early.push_back(Early::of(p));
            self.n_early += 1;
            return;
        }
        // Whatever cannot be put off comes after what was.
        if p.rst || flow.early.len() >= MAX_OF_FLOW {
            self.n_early -= flow.release(at, sink);
        }
        flow.advance(at, p, first, sink);
        self.n_early -= flow.settle(at, sink);
    }

    /// Lets go what has waited long enough.
    fn release(&mut self, now: Nanos, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some((_, key, cookie)) = self.waiting.pop_front_if(|(until, ..)| *until <= now) {
            if let Some(flow) = self.table.get_mut(&key).filter(|f| f.cookie == cookie) {
                self.n_early -= flow.release(now, sink);
            }
        }
    }

    /// The capture has ended: so has everything still open, in the order it was opened.
    pub(super) fn finish(&mut self, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) {
        while let Some((_, key, cookie)) = self.waiting.pop_front() {
            if let Some(flow) = self.table.get_mut(&key).filter(|f| f.cookie == cookie) {
                flow.release(at, sink);
            }
        }
        let mut open: Vec<SocketCookie> = self.table.values().filter(|f| f.open).map(|f| f.cookie).collect();
        open.sort_unstable();
        self.table.clear();
        for cookie in open {
            sink(Event::Closed { at, cookie, reason: CloseReason::EndOfInput });
        }
    }

    /// Makes room: forgets the sixteenth of the flows that was idle longest, so that the search is paid for by many
    /// new flows.
    fn evict(&mut self, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) {
        let mut ages: Vec<u64> = self.table.values().map(|f| f.last_packet).collect();
        let n = (ages.len() / 16).max(1);
        let (_, &mut newest, _) = ages.select_nth_unstable(n - 1);
        let mut lost = Vec::new();
        self.table.retain(|_, f| {
            let keep = f.last_packet > newest;
            if !keep {
                self.n_early -= f.release(at, sink);
            }
            if !keep && f.open {
                lost.push(f.cookie);
            }
            keep
        });
        lost.sort_unstable();
        for &cookie in &lost {
            sink(Event::Closed { at, cookie, reason: CloseReason::EndOfInput });
        }
        if !lost.is_empty() {
            sink(Event::Lost {
                at,
                stage: LossStage::Agent,
                reason: "capture_flows_full",
                count: lost.len() as u64,
                of: None,
            });
        }
    }
}

enum Judgement {
    /// Belongs to the flow.
    Same,
    /// Belongs to the flow, and there is nothing more to learn from it.
    Ignore,
    /// Belongs to another connection on the same tuple.
    Other(Fresh),
}

impl Flow {
    fn judge(&mut self, at: Nanos, p: &TcpPacket<'_>, first: u32) -> Judgement {
        let from_local = p.src == self.local;
        let same_start = |start: Option<u32>| start == Some(first);
        if p.syn && !p.ack {
            return match (from_local && same_start(self.tx_start), self.open) {
                (true, true) => Judgement::Same,
                (true, false) => Judgement::Ignore,
                (false, _) => Judgement::Other(Fresh::from_syn(p)),
            };
        }
        if p.syn {
            // The server may acknowledge data sent with the SYN (RFC 7413), hence not only the SYN itself.
            let answers = !from_local
                && self.tx_start.is_some_and(|s| p.ack_number.wrapping_sub(s) <= u32::from(u16::MAX))
                && (self.rx_start.is_none() || same_start(self.rx_start));
            return match (answers, self.open) {
                (true, true) => Judgement::Same,
                (true, false) => Judgement::Ignore,
                // Anybody can send one: a connection goes on until it is taken up.
                (false, true) => {
                    self.rival = Some(Fresh::from_syn_ack(p));
                    Judgement::Ignore
                }
                (false, false) => Judgement::Other(Fresh::from_syn_ack(p)),
            };
        }
        if let Some(rival) = self.rival {
            match self.far(p, first).cmp(&rival.far(p, first)) {
                std::cmp::Ordering::Less => self.rival = None,
                // Who never asked for it says so.
                std::cmp::Ordering::Greater if p.rst => {
                    self.rival = None;
                    return Judgement::Ignore;
                }
                std::cmp::Ordering::Greater => return Judgement::Other(rival),
                std::cmp::Ordering::Equal => {}
            }
        }
        if self.open {
            return Judgement::Same;
        }
        if p.len == 0 {
            return Judgement::Ignore;
        }
        let half = if from_local { &self.tx } else { &self.rx };
        if at.since(self.last) <= LINGER && half.is_late(first.wrapping_add(p.len)) {
            return Judgement::Ignore;
        }
        // New bytes on a tuple whose connection had ended: its successor's handshake is missing from the capture, or
        // the reset was not one the receiver believed.
        Judgement::Other(Fresh::mid_stream(p))
    }

    /// How far a segment's numbers are from where this connection has come to.
    fn far(&self, p: &TcpPacket<'_>, first: u32) -> u64 {
        let (own, other) = if p.src == self.local { (&self.tx, &self.rx) } else { (&self.rx, &self.tx) };
        own.far(first) + if p.ack { other.far(p.ack_number) } else { 0 }
    }

    /// Whether a segment has to wait for bytes of the other direction that it acknowledges.
    fn waits(&mut self, p: &TcpPacket<'_>) -> bool {
        let other = if p.src == self.local { &self.rx } else { &self.tx };
        if !self.early.is_empty() {
            self.n_since += 1;
        }
        let ahead = p.ack && !p.syn && !p.rst && other.is_ahead(p.ack_number);
        ahead && self.open && self.n_since < MAX_OF_FLOW && self.early.len() < MAX_OF_FLOW
    }

    /// Tells what waits for nothing any more; gives how many that were.
    fn settle(&mut self, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        if self.n_since >= MAX_OF_FLOW {
            return self.release(at, sink);
        }
        let mut n = 0;
        while let Some(first) = self.early.front() {
            let other = if first.is_from(self.local) { &self.rx } else { &self.tx };
            if other.is_ahead(first.ack_number()) {
                return n;
            }
            n += self.tell_first(at, sink);
        }
        n
    }

    /// Tells all that wait; gives how many that were.
    fn release(&mut self, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let mut n = 0;
        while !self.early.is_empty() {
            n += self.tell_first(at, sink);
        }
        n
    }

    fn tell_first(&mut self, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) -> usize {
        let Some(early) = self.early.pop_front() else { return 0 };
        self.n_since = 0;
        let other = if early.is_from(self.local) { &mut self.rx } else { &mut self.tx };
        if other.is_ahead(early.ack_number()) {
            other.in_vain = Some(early.ack_number());
        }
        if self.open {
            let p = early.packet();
            self.advance(at, &p, p.seq, sink);
        }
        1
    }

    fn advance(&mut self, at: Nanos, p: &TcpPacket<'_>, first: u32, sink: &mut dyn FnMut(Event<'_>)) {
        let from_local = p.src == self.local;
        if p.syn && p.ack && !from_local && self.rx_start.is_none() {
            self.rx_start = Some(first);
            self.rx.reach(first);
            self.announce(at, p.src, sink);
        }
        let dir = if from_local { Direction::Tx } else { Direction::Rx };
        let (half, acked) = if from_local { (&mut self.tx, &self.rx) } else { (&mut self.rx, &self.tx) };
        let end = first.wrapping_add(p.len);
        if p.len > 0 {
            half.saw(first, end);
        }
        // A bare acknowledgement tells something where bytes are missing: that the other end waits for them, too.
        let waits = p.ack && acked.hole.is_some_and(|hole| hole.wrapping_sub(p.ack_number) as i32 >= 0);
        if p.len > 0 || (waits && !p.syn && !p.fin && !p.rst) {
            sink(Event::Segment(Segment {
                at,
                cookie: self.cookie,
                dir,
                seq: first,
                ack: p.ack.then_some(p.ack_number),
                len: p.len,
                bytes: p.bytes,
                thread: None,
            }));
        }
        if p.fin {
            half.reach(end);
            half.fin = true;
        }
        if p.rst || (self.tx.fin && self.rx.fin) {
            self.open = false;
            sink(Event::Closed { at, cookie: self.cookie, reason: CloseReason::Closed });
        }
    }

    fn announce(&self, at: Nanos, peer: Endpoint, sink: &mut dyn FnMut(Event<'_>)) {
        sink(Event::Opened {
            at,
            cookie: self.cookie,
            cgroup: None,
            local: self.local.to_addr(),
            peer: peer.to_addr(),
            role: if self.tx_start.is_some() { Role::Client } else { Role::Unknown },
            tx_start: self.tx_start,
            rx_start: self.rx_start,
        });
    }
}

/// What the first packet of a connection tells about it.
#[derive(Clone, Copy)]
struct Fresh {
    local: Endpoint,
    tx_start: Option<u32>,
    rx_start: Option<u32>,
}

impl Fresh {
    /// How far a segment's numbers are from where this connection begins.
    fn far(&self, p: &TcpPacket<'_>, first: u32) -> u64 {
        let half = |end| Half { end, ..Half::default() };
        let (tx, rx) = (half(self.tx_start), half(self.rx_start));
        let (own, other) = if p.src == self.local { (tx, rx) } else { (rx, tx) };
        own.far(first) + if p.ack { other.far(p.ack_number) } else { 0 }
    }

    fn from_syn(p: &TcpPacket<'_>) -> Self {
        Self { local: p.src, tx_start: Some(p.seq.wrapping_add(1)), rx_start: None }
    }

    fn from_syn_ack(p: &TcpPacket<'_>) -> Self {
        Self { local: p.dst, tx_start: Some(p.ack_number), rx_start: Some(p.seq.wrapping_add(1)) }
    }

    fn mid_stream(p: &TcpPacket<'_>) -> Self {
        Self { local: p.src, tx_start: None, rx_start: None }
    }

    fn open(self, cookie: SocketCookie, at: Nanos, p: &TcpPacket<'_>, sink: &mut dyn FnMut(Event<'_>)) -> Flow {
        let peer = if p.src == self.local { p.dst } else { p.src };
        let flow = Flow {
            cookie,
            local: self.local,
            tx_start: self.tx_start,
            rx_start: self.rx_start,
            tx: Half { end: self.tx_start, ..Half::default() },
            rx: Half { end: self.rx_start, ..Half::default() },
            rival: None,
            open: true,
            last: at,
            last_packet: 0,
            early: VecDeque::new(),
            n_since: 0,
        };
        flow.announce(at, peer, sink);
        flow
    }
}
