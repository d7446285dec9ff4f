//! The flow table: which sockets belong to which connection, and where each segment goes.
//!
//! A connection between two watched workloads is seen at both of its sockets. Both feed one stream, where what comes
//! twice is dropped by sequence number; once the protocol is known, only one of the two is asked to deliver.

use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::conn::{App, Conn, Core, End, Undecided};
use super::output::Output;
use super::session::Session;
use super::shared::Shared;
use crate::attribute::forwarded::{Inbound, Relay, Settled};
use crate::attribute::{self, by_endpoint};
use crate::decode::infer::{self, Guess};
use crate::decode::{Appetite, Chunk};
use crate::model::settings::Limits;
use crate::model::{CgroupId, ConnId, Direction, Nanos, Protocol, Role, Segment, Side, SocketCookie, WorkloadId};
use crate::stream::{Deliver, Incoming, Missing, Reassembler, StreamLimits};

/// A socket has become known.
pub(super) struct Opened {
    pub(super) at: Nanos,
    pub(super) cookie: SocketCookie,
    pub(super) cgroup: Option<CgroupId>,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
    pub(super) role: Role,
    pub(super) tx_start: Option<u32>,
    pub(super) rx_start: Option<u32>,
}

/// Most bytes kept of a connection whose protocol is not known yet.
const MAX_UNDECIDED: usize = 4096;
/// Most chunks of it.
const MAX_UNDECIDED_CHUNKS: usize = 16;

/// All live connections.
pub(super) struct Table {
    conns: FxHashMap<ConnId, Box<Conn>>,
    by_cookie: FxHashMap<SocketCookie, (ConnId, u8)>,
    by_addresses: FxHashMap<(SocketAddr, SocketAddr), SmallVec<[ConnId; 1]>>,
    /// Sockets whose cgroup nobody could name yet.
    unidentified: FxHashMap<CgroupId, Vec<ConnId>>,
    next: u32,
    limits: Limits,
    stream_limits: StreamLimits,
    memory: usize,
    last_expired: Nanos,
}

/// The two addresses in an order that both ends agree on.
fn key(a: SocketAddr, b: SocketAddr) -> (SocketAddr, SocketAddr) {
    if a <= b { (a, b) } else { (b, a) }
}

impl Table {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            conns: FxHashMap::default(),
            by_cookie: FxHashMap::default(),
            by_addresses: FxHashMap::default(),
            unidentified: FxHashMap::default(),
            next: 0,
            limits,
            stream_limits: StreamLimits::default(),
            memory: 0,
            last_expired: Nanos(0),
        }
    }

    /// Sockets followed.
    pub(super) fn len(&self) -> usize {
        self.by_cookie.len()
    }

    /// Bytes held in streams and decoders, as of the last turn.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    pub(super) fn opened(&mut self, o: &Opened, shared: &mut Shared, out: &mut dyn Output) {
        if let Some(&(id, end)) = self.by_cookie.get(&o.cookie) {
            // The source has learned more about a socket it told of before.
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.learn(usize::from(end), o, shared);
            }
            return;
        }
        if self.by_cookie.len() >= self.limits.flows.max(2) {
            self.evict(o.at, shared, out);
        }
        let joined = self.other_half(o);
        let (id, end) = match joined {
            Some(found) => found,
            None => {
                self.next = self.next.wrapping_add(1);
                let id = ConnId(self.next);
                self.conns.insert(id, Box::new(Conn::open(id, o, self.stream_limits)));
                self.by_addresses.entry(key(o.local, o.peer)).or_default().push(id);
                shared.stats.flows_undecided += 1;
                (id, 0)
            }
        };
        self.by_cookie.insert(o.cookie, (id, end as u8));
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some(e) = conn.ends.get_mut(end) {
            e.cookie = Some(o.cookie);
            e.cgroup = o.cgroup;
            e.watched = true;
            if let Some(cgroup) = o.cgroup
                && shared.directory.of_cgroup(cgroup).is_none()
                && self.unidentified.len() < 4096
            {
                let waiting = self.unidentified.entry(cgroup).or_default();
                if waiting.len() < 4096 {
                    waiting.push(id);
                }
            }
        }
        conn.learn(end, o, shared);
        if joined.is_some() {
            conn.ask(out);
        }
    }

    /// The connection whose other socket this is, if that is already known, and which of its ends this is.
    fn other_half(&self, o: &Opened) -> Option<(ConnId, usize)> {
        let ids = self.by_addresses.get(&key(o.local, o.peer))?;
        ids.iter().rev().find_map(|id| {
            let conn = self.conns.get(id)?;
            let end = conn.ends.iter().position(|e| e.addr == o.local)?;
            let (this, that) = (conn.ends.get(end)?, conn.ends.get(1 - end)?);
            // Addresses may be used twice at once, in two network namespaces: sequence numbers tell them apart.
            let fits = |known: Option<u32>, told: Option<u32>| match (known, told) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            };
            let free = this.cookie.is_none() && !this.watched && that.addr == o.peer;
            (free && fits(this.start, o.tx_start) && fits(that.start, o.rx_start)).then_some((*id, end))
        })
    }

    pub(super) fn segment(&mut self, s: &Segment<'_>, shared: &mut Shared, out: &mut dyn Output) {
        let Some(&(id, end)) = self.by_cookie.get(&s.cookie) else {
            shared.stats.orphans += 1;
            return;
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.last_active = s.at;
        // What this socket sends comes from its own end.
        let own = if end == 0 { Side::Client } else { Side::Server };
        let from = if s.dir == Direction::Tx { own } else { own.other() };
        let incoming = Incoming { from, at: s.at, seq: s.seq, ack: s.ack, len: s.len, bytes: s.bytes };
        conn.feed(shared, out, |stream, deliver| stream.segment(incoming, deliver));
        enter_late(shared, &self.conns);
    }

    pub(super) fn closed(&mut self, at: Nanos, cookie: SocketCookie, shared: &mut Shared, out: &mut dyn Output) {
        let Some((id, end)) = self.by_cookie.remove(&cookie) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some(e) = conn.ends.get_mut(usize::from(end)) {
            e.cookie = None;
        }
        if conn.ends.iter().all(|e| e.cookie.is_none()) {
            self.remove(id, at, shared, out);
        }
    }

    fn remove(&mut self, id: ConnId, at: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        for end in &conn.ends {
            if let Some(cookie) = end.cookie {
                self.by_cookie.remove(&cookie);
            }
        }
        let [a, b] = &conn.ends;
        let addresses = key(a.addr, b.addr);
        if let Some(ids) = self.by_addresses.get_mut(&addresses) {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                self.by_addresses.remove(&addresses);
            }
        }
        conn.close(at, shared, out);
    }

    /// Makes room: the longest idle of a sample goes.
    fn evict(&mut self, at: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        let oldest = self.conns.values().take(64).min_by_key(|c| (c.last_active, c.core.id)).map(|c| c.core.id);
        if let Some(id) = oldest {
            shared.stats.flows_evicted += 1;
            self.remove(id, at, shared, out);
        }
    }

    /// A cgroup got its name: sockets that waited for it are identified.
    pub(super) fn identified(&mut self, cgroup: CgroupId, shared: &mut Shared) {
        for id in self.unidentified.remove(&cgroup).unwrap_or_default() {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.identify(shared);
            }
        }
    }

    /// Tells connections for whom their units turned out to be.
    pub(super) fn settle(&mut self, shared: &mut Shared, out: &mut dyn Output) {
        while !shared.settled.is_empty() {
            let settled: Vec<Settled> = shared.settled.drain(..).collect();
            for s in &settled {
                if let Some(service) = s.origin.and_then(|o| self.conns.get(&o)).and_then(|c| c.core.service)
                    && let Some(service) = shared.service_mut(service)
                {
                    service.relay = true;
                }
                if let Some(conn) = self.conns.get_mut(&s.conn) {
                    Session { shared: &mut *shared, core: &mut conn.core, out: &mut *out, gave_up: false }.settle(s);
                }
            }
        }
    }

    /// Timeouts: holes in streams, and operations whose tenant never became known.
    pub(super) fn expire(&mut self, now: Nanos, patience: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        while let Some(&(since, id)) = shared.waiting.front() {
            if now.since(since) < patience {
                break;
            }
            shared.waiting.pop_front();
            if let Some(conn) = self.conns.get_mut(&id) {
                let current = conn.core.unit;
                Session { shared: &mut *shared, core: &mut conn.core, out: &mut *out, gave_up: false }
                    .flush(|p| !current.open || p.unit != current.no);
            }
        }
        // Holes are looked at once a second: the table may be large.
        if now.since(self.last_expired) < Nanos::secs(1) {
            return;
        }
        self.last_expired = now;
        let mut memory = 0;
        for conn in self.conns.values_mut() {
            if conn.stream.memory() > 0 {
                conn.feed(shared, out, |stream, deliver| stream.expire(now, deliver));
            }
            memory += conn.memory();
        }
        self.memory = memory + self.conns.len() * size_of::<Conn>();
        // Over the bound: the idlest go first.
        while self.memory > self.limits.memory && !self.conns.is_empty() {
            let before = self.conns.len();
            let each = self.memory / before;
            self.evict(now, shared, out);
            self.memory = self.memory.saturating_sub(each.max(1));
        }
    }

    /// The input has ended.
    pub(super) fn finish(&mut self, at: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        ids.sort();
        for id in ids {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.feed(shared, out, |stream, deliver| stream.close(at, deliver));
            }
            self.settle(shared, out);
        }
        self.settle(shared, out);
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        ids.sort();
        for id in ids {
            self.remove(id, at, shared, out);
        }
    }
}

/// A relay has opened its first connection of a protocol: requests that are already inside are entered now.
fn enter_late(shared: &mut Shared, conns: &FxHashMap<ConnId, Box<Conn>>) {
    while let Some((relay, protocol)) = shared.new_relays.pop() {
        let mut inside: Vec<_> =
            conns.values().filter(|c| c.core.enters == Some(relay) && c.core.protocol == protocol).collect();
        inside.sort_by_key(|c| c.core.id);
        for conn in inside {
            let tenant = conn.core.endpoint.map(|a| a.tenant);
            for open in &conn.core.open {
                if let Some(print) = open.print {
                    let inbound = Inbound {
                        conn: conn.core.id,
                        request: open.request,
                        tenant,
                        service: conn.core.service,
                        begun: open.begun,
                    };
                    shared.forwarding.enter(relay, print, inbound);
                }
            }
        }
    }
}

impl Conn {
    fn open(id: ConnId, o: &Opened, limits: StreamLimits) -> Self {
        Self {
            ends: [End::new(o.local), End::new(o.peer)],
            client: None,
            stream: Reassembler::new(limits),
            app: App::Undecided(Undecided::default()),
            core: Core::new(id, o.local, o.peer),
            last_active: o.at,
        }
    }

    /// What a source tells of the socket at `end`.
    fn learn(&mut self, end: usize, o: &Opened, shared: &mut Shared) {
        for (index, start) in [(end, o.tx_start), (1 - end, o.rx_start)] {
            let Some(e) = self.ends.get_mut(index) else { continue };
            if let (None, Some(seq)) = (e.start, start) {
                e.start = Some(seq);
                self.stream.start(if index == 0 { Side::Client } else { Side::Server }, seq);
            }
        }
        if let Some(e) = self.ends.get_mut(end) {
            e.cgroup = e.cgroup.or(o.cgroup);
        }
        match o.role {
            Role::Client => self.client = Some(end),
            Role::Server => self.client = Some(1 - end),
            Role::Unknown => {}
        }
        self.identify(shared);
    }

    /// Who is at either end, as far as is known now.
    fn identify(&mut self, shared: &mut Shared) {
        // A capture file knows addresses only; on a live host, a loopback address says nothing of who is there.
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        let [first, second] = [self.ends[0].addr, self.ends[1].addr];
        for (e, peer) in self.ends.iter_mut().zip([second, first]) {
            if let Some(cgroup) = e.cgroup {
                e.workload = shared.directory.of_cgroup(cgroup).or(e.workload);
            } else if e.workload.is_none() {
                let bare = addresses_only || !(e.addr.ip().is_loopback() || e.addr.ip().is_unspecified());
                e.workload = shared.at_address(e.addr, peer, bare);
            }
        }
        if let Some(client) = self.client {
            self.orient(client, addresses_only, shared);
        }
    }

    /// Settles which end is the client, and what follows from it.
    fn orient(&mut self, client: usize, addresses_only: bool, shared: &mut Shared) {
        self.client = Some(client);
        let (Some(c), Some(s)) = (self.ends.get(client), self.ends.get(1 - client)) else { return };
        let core = &mut self.core;
        (core.client, core.server) = (c.addr, s.addr);
        core.client_workload = c.workload;
        core.endpoint = by_endpoint(attribute::End { workload: c.workload, watched: c.watched }, &shared.directory);
        if let (Some(workload), true) = (s.workload, s.watched && s.cgroup.is_some()) {
            shared.learn_listener(s.addr, workload);
        }
        let relay = |e: &End| {
            if addresses_only { Some(Relay::Address(e.addr.ip())) } else { e.workload.map(Relay::Workload) }
        };
        core.enters = relay(s);
        core.leaves = relay(c);
        let shown = if c.cookie.is_some() { (c, s) } else { (s, c) };
        if let Some(cookie) = shown.0.cookie {
            core.flow = Some((cookie, shown.0.addr, shown.1.addr));
        }
    }

    /// Runs `f` on the stream, and what it delivers through inference or the decoder.
    fn feed(&mut self, shared: &mut Shared, out: &mut dyn Output, f: impl FnOnce(&mut Reassembler, &mut dyn Deliver)) {
        // The stream is lent out, so that what it delivers can work on the rest of the connection.
        let mut stream = std::mem::replace(&mut self.stream, Reassembler::new(StreamLimits::default()));
        f(&mut stream, &mut Delivery { conn: self, shared, out });
        self.stream = stream;
    }

    /// Tries to tell the protocol from what was kept.
    fn infer(&mut self, shared: &mut Shared, out: &mut dyn Output) {
        let App::Undecided(kept) = &self.app else { return };
        let mut decided = None;
        let mut unreadable = false;
        for (index, side) in [(0, Side::Client), (1, Side::Server)] {
            let mid_stream = self.ends.get(index).is_none_or(|e| e.start.is_none());
            match kept.guess(side, mid_stream) {
                Guess::Postgres { from } => {
                    let client = if from == Side::Client { index } else { 1 - index };
                    // The handshake knows better who connected; bytes that contradict it are some other protocol's.
                    if self.client.is_none_or(|c| c == client) {
                        decided = Some((Protocol::Postgres, client));
                        break;
                    }
                }
                // A server's first bytes may be anything; a client's decide.
                Guess::Opaque(_) => unreadable |= self.client.is_none_or(|c| c == index),
                Guess::NeedMore => {}
            }
        }
        let full = kept.held >= MAX_UNDECIDED || kept.chunks.len() >= MAX_UNDECIDED_CHUNKS;
        if let Some((protocol, client)) = decided {
            let App::Undecided(kept) = std::mem::replace(&mut self.app, App::Opaque) else { return };
            self.decide(protocol, client, kept, shared, out);
        } else if unreadable || full {
            self.give_up(shared, out);
        }
    }

    /// The protocol is known: what was kept goes through its decoder.
    fn decide(
        &mut self,
        protocol: Protocol,
        client: usize,
        kept: Undecided,
        shared: &mut Shared,
        out: &mut dyn Output,
    ) {
        let addresses_only = self.ends.iter().all(|e| e.cgroup.is_none());
        self.orient(client, addresses_only, shared);
        self.core.protocol = protocol;
        self.core.mid_stream = self.ends.iter().any(|e| e.start.is_none());
        let server_workload = self.ends.get(1 - client).and_then(|e| e.workload);
        self.core.service = Some(shared.service(self.core.server, by_name(server_workload, shared), protocol));
        if self.core.endpoint.is_none()
            && let Some(relay) = self.core.leaves
        {
            shared.opens(relay, protocol);
        }
        let decoder = infer::decoder(protocol, shared.settings.salt, self.core.mid_stream, &shared.decoders);
        let Some(decoder) = decoder else { return };
        self.app = App::Decoding(decoder);
        shared.stats.flows_undecided = shared.stats.flows_undecided.saturating_sub(1);
        shared.stats.flows_decoded += 1;
        let held = kept.held as u64;
        shared.stats.bytes_opaque = shared.stats.bytes_opaque.saturating_sub(held);
        shared.stats.bytes_decoded += held;
        if self.core.mid_stream {
            shared.stats.flows_mid_stream += 1;
            self.core.ledger.disturb(true);
        }
        for (side, at, bytes, ends_segment) in kept.chunks {
            self.decode(side, at, &bytes, ends_segment, shared, out);
        }
        self.ask(out);
    }

    fn decode(
        &mut self,
        side: Side,
        at: Nanos,
        bytes: &[u8],
        ends_segment: bool,
        shared: &mut Shared,
        out: &mut dyn Output,
    ) {
        let from = self.side(side);
        let App::Decoding(decoder) = &mut self.app else { return };
        let mut session = Session { shared: &mut *shared, core: &mut self.core, out: &mut *out, gave_up: false };
        decoder.bytes(from, Chunk { at, bytes, ends_segment }, &mut session);
        if session.gave_up {
            shared.stats.flows_decoded = shared.stats.flows_decoded.saturating_sub(1);
            shared.stats.flows_undecided += 1;
            self.give_up(shared, out);
        }
    }

    /// Nobody can read this connection.
    fn give_up(&mut self, shared: &mut Shared, out: &mut dyn Output) {
        self.app = App::Opaque;
        self.core.protocol = Protocol::Opaque;
        shared.stats.flows_undecided = shared.stats.flows_undecided.saturating_sub(1);
        shared.stats.flows_opaque += 1;
        self.ask(out);
    }

    /// Asks the source for just what is needed, once per change.
    fn ask(&mut self, out: &mut dyn Output) {
        let wanted = |from: Side| match &self.app {
            App::Undecided(_) => Appetite::Everything,
            App::Decoding(decoder) => decoder.appetite(from),
            // Lengths still tell how much goes unread.
            App::Opaque => Appetite::Head(0),
        };
        let client = self.client.unwrap_or(0);
        let (requests, replies) = (wanted(Side::Client), wanted(Side::Server));
        let undecided = matches!(self.app, App::Undecided(_));
        // With a socket at both ends, the client's delivers and the other one is silent.
        let both = self.ends.iter().all(|e| e.cookie.is_some());
        for (index, end) in self.ends.iter_mut().enumerate() {
            let budget = if both && !undecided && index != client {
                (Appetite::Nothing, Appetite::Nothing)
            } else if index == client {
                (requests, replies)
            } else {
                (replies, requests)
            };
            if let Some(cookie) = end.cookie
                && end.budget != budget
            {
                end.budget = budget;
                out.capture(cookie, budget.0, budget.1);
            }
        }
    }

    fn close(&mut self, at: Nanos, shared: &mut Shared, out: &mut dyn Output) {
        self.feed(shared, out, |stream, deliver| stream.close(at, deliver));
        let n = match &self.app {
            App::Undecided(_) => &mut shared.stats.flows_undecided,
            App::Decoding(_) => &mut shared.stats.flows_decoded,
            App::Opaque => &mut shared.stats.flows_opaque,
        };
        *n = n.saturating_sub(1);
        if self.core.mid_stream {
            shared.stats.flows_mid_stream = shared.stats.flows_mid_stream.saturating_sub(1);
        }
        if let Some(relay) = self.core.enters {
            for open in self.core.open.iter().filter(|o| o.entered) {
                if let Some(print) = open.print {
                    shared.forwarding.close(relay, print, self.core.id, at);
                }
            }
        }
        let mut session = Session { shared: &mut *shared, core: &mut self.core, out: &mut *out, gave_up: false };
        if let App::Decoding(decoder) = &mut self.app {
            decoder.closed(at, &mut session);
        }
        session.flush(|_| true);
    }

    fn memory(&self) -> usize {
        let app = match &self.app {
            App::Undecided(u) => u.held,
            App::Decoding(d) => d.memory(),
            App::Opaque => 0,
        };
        app + self.stream.memory() + self.core.ledger.memory()
    }
}

/// A workload that a service may be named after: not one made up from an address.
fn by_name(workload: Option<WorkloadId>, shared: &Shared) -> Option<WorkloadId> {
    workload.filter(|w| shared.directory.get(*w).is_some_and(|w| !w.bare))
}

/// What the stream delivers goes to inference, to the decoder, or nowhere but the counters.
struct Delivery<'a> {
    conn: &'a mut Conn,
    shared: &'a mut Shared,
    out: &'a mut dyn Output,
}

impl Deliver for Delivery<'_> {
    fn bytes(&mut self, from: Side, at: Nanos, bytes: &[u8], ends_segment: bool) {
        let n = bytes.len() as u64;
        match &mut self.conn.app {
            App::Decoding(_) => {
                self.shared.stats.bytes_decoded += n;
                self.conn.decode(from, at, bytes, ends_segment, self.shared, self.out);
            }
            App::Opaque => self.shared.stats.bytes_opaque += n,
            App::Undecided(kept) => {
                // Nobody has read it yet; `decide` moves what was kept.
                self.shared.stats.bytes_opaque += n;
                let room = MAX_UNDECIDED.saturating_sub(kept.held);
                let taken = bytes.get(..room.min(bytes.len())).unwrap_or_default();
                kept.held += taken.len();
                kept.chunks.push((from, at, taken.to_vec(), ends_segment && taken.len() == bytes.len()));
                let cut = bytes.len() - taken.len();
                self.conn.infer(self.shared, self.out);
                // What did not fit goes on at once if the decoder is there now.
                if cut > 0
                    && let App::Decoding(_) = self.conn.app
                {
                    let rest = bytes.get(bytes.len() - cut..).unwrap_or_default();
                    self.conn.decode(from, at, rest, ends_segment, self.shared, self.out);
                }
            }
        }
    }

    fn missing(&mut self, from: Side, at: Nanos, n: u64, kind: Missing) {
        match kind {
            Missing::Gap => self.shared.stats.bytes_lost += n,
            // An opaque connection's bytes are cut because nobody wants them.
            Missing::Truncated if matches!(self.conn.app, App::Opaque) => self.shared.stats.bytes_opaque += n,
            Missing::Truncated => self.shared.stats.bytes_truncated += n,
        }
        let from = self.conn.side(from);
        match &mut self.conn.app {
            App::Decoding(decoder) => {
                let mut session = Session {
                    shared: &mut *self.shared,
                    core: &mut self.conn.core,
                    out: &mut *self.out,
                    gave_up: false,
                };
                decoder.missing(from, at, n, &mut session);
            }
            App::Undecided(_) => {
                // What is left cannot be read from its start any more.
                self.conn.app = App::Undecided(Undecided::default());
                for end in &mut self.conn.ends {
                    end.start = None;
                }
            }
            App::Opaque => {}
        }
    }
}
