//! The flow table: which sockets belong to which connection, and where each segment goes.
//!
//! A connection between two watched workloads is seen at both of its sockets. Both feed one stream, where what comes
//! twice is dropped by sequence number; once the protocol is known, each of the two delivers only what it sends.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::conn::Conn;
use super::index::{Index, Parties, Party};
use super::on_conn::OnConn;
use super::output::Output;
use super::parts::Parts;
use crate::attribute::forwarded::OriginFound;
use crate::attribute::through::Whom;
use crate::decode::proxy::{Header, header};
use crate::model::settings::Limits;
use crate::model::steps::{step, walk};
use crate::model::{CgroupId, ConnId, Direction, Nanos, Role, Segment, Side, SocketCookie, ThreadId, WorkloadId};
use crate::stream::{Deliver, Incoming, Reassembler, StreamLimits};

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

/// All live connections.
pub(super) struct Table {
    pub(super) conns: FxHashMap<ConnId, Box<Conn>>,
    by_cookie: FxHashMap<SocketCookie, (ConnId, u8)>,
    /// At most [`MAX_ALIKE`] each, oldest first.
    by_addresses: FxHashMap<(SocketAddr, SocketAddr), SmallVec<[ConnId; 1]>>,
    /// By both initial sequence numbers, the first-seen socket's own first. Where addresses are translated on the way
    /// (a cluster address, a published port) the two ends know the connection by different ones, but by these alike.
    by_starts: FxHashMap<(u32, u32), ConnId>,
    /// Sockets whose cgroup nobody could name yet.
    unidentified: FxHashMap<CgroupId, Vec<ConnId>>,
    pub(super) index: Index,
    /// Connections with a hole, by when it is given up.
    pub(super) holes: BTreeSet<(Nanos, ConnId)>,
    /// All of them, by when they were active; put right when room is needed.
    pub(super) idle: BTreeSet<(Nanos, ConnId)>,
    /// Bytes held by connections, as counted.
    pub(super) held: usize,
    /// Bytes held by what they share, as last counted.
    pub(super) held_by_all: usize,
    /// Events since then.
    pub(super) uncounted: u32,
    next: u32,
    pub(super) limits: Limits,
    stream_limits: StreamLimits,
    pub(super) last_expired: Nanos,
}

/// Most connections between the same two addresses that may still be joined with their other half.
const MAX_ALIKE: usize = 64;

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
            by_starts: FxHashMap::default(),
            unidentified: FxHashMap::default(),
            index: Index::default(),
            holes: BTreeSet::new(),
            idle: BTreeSet::new(),
            held: 0,
            held_by_all: 0,
            uncounted: 0,
            next: 0,
            limits,
            stream_limits: StreamLimits::default(),
            last_expired: Nanos(0),
        }
    }

    /// Connections followed.
    pub(super) fn len(&self) -> usize {
        self.conns.len()
    }

    /// Whether somebody takes part in any connection.
    pub(super) fn has(&self, party: Party) -> bool {
        self.index.has(party)
    }

    pub(super) fn opened(&mut self, o: &Opened, parts: &mut Parts, out: &mut dyn Output) {
        if let Some(&(id, end)) = self.by_cookie.get(&o.cookie) {
            // The source has learned more about a socket it told of before.
            self.change(id, |conn| conn.learn(usize::from(end), o, parts));
            return;
        }
        let joined = self.other_half(o);
        if joined.is_none() && self.conns.len() >= self.limits.flows.max(2) {
            self.evict(o.at, parts, out);
        }
        let (id, end) = match joined {
            Some(found) => found,
            None => {
                self.next = self.next.wrapping_add(1);
                let id = ConnId(self.next);
                let conn = Conn::open(id, o, self.stream_limits);
                if let Some(starts) = conn.starts {
                    self.by_starts.insert(starts, id);
                }
                self.idle.insert((conn.kept.active, id));
                self.conns.insert(id, Box::new(conn));
                let alike = self.by_addresses.entry(key(o.local, o.peer)).or_default();
                if alike.len() >= MAX_ALIKE {
                    alike.remove(0);
                }
                alike.push(id);
                parts.stats.flows_undecided += 1;
                (id, 0)
            }
        };
        self.by_cookie.insert(o.cookie, (id, end as u8));
        if let Some(cgroup) = o.cgroup
            && parts.ctx.directory.of_cgroup(cgroup).is_none()
            && self.unidentified.len() < 4096
        {
            let waiting = self.unidentified.entry(cgroup).or_default();
            if waiting.len() < 4096 {
                waiting.push(id);
            }
        }
        self.change(id, |conn| {
            if let Some(e) = conn.ends.get_mut(end) {
                e.cookie = Some(o.cookie);
                e.cgroup = o.cgroup;
                e.watched = true;
            }
            conn.learn(end, o, parts);
            if joined.is_some() {
                conn.ask(parts, out);
            }
        });
        self.count(id);
        self.keep_within(o.at, parts, out);
    }

    /// Changes a connection in a way that others may come to take part in it.
    fn change(&mut self, id: ConnId, f: impl FnOnce(&mut Conn)) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let before = conn.parties();
        f(conn);
        self.index.update(id, &before, &conn.parties());
    }

    /// Runs `f` on a connection's stream, which was told of `n` more bytes.
    pub(super) fn feed(
        &mut self,
        id: ConnId,
        n: usize,
        parts: &mut Parts,
        out: &mut dyn Output,
        f: impl FnOnce(&mut Reassembler, &mut dyn Deliver),
    ) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let (before, entered) = (conn.state.facts.enters, conn.state.facts.enters.map(Party::Enters));
        conn.feed(parts, out, f);
        // What the bytes say may tell who is the client; the rest stays as it is.
        if conn.state.facts.enters != before {
            let enters = conn.state.facts.enters.map(Party::Enters);
            self.index.update(id, &entered.into_iter().collect(), &enters.into_iter().collect());
        }
        self.fed(id, n);
    }

    /// The connection whose other socket this is, if that is already known, and which of its ends this is.
    fn other_half(&self, o: &Opened) -> Option<(ConnId, usize)> {
        self.by_address(o).or_else(|| self.by_start(o))
    }

    /// By sequence numbers alone: two 32-bit random numbers (RFC 9293 §3.4.1) that agree crosswise are no accident.
    fn by_start(&self, o: &Opened) -> Option<(ConnId, usize)> {
        let (tx, rx) = (o.tx_start?, o.rx_start?);
        let id = *self.by_starts.get(&(rx, tx))?;
        let end = self.conns.get(&id)?.ends.get(1)?;
        (end.cookie.is_none() && !end.watched).then_some((id, 1))
    }

    fn by_address(&self, o: &Opened) -> Option<(ConnId, usize)> {
        let ids = self.by_addresses.get(&key(o.local, o.peer))?;
        walk(ids.iter().rev()).find_map(|id| {
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

    /// Who has connected from one address to the other, as is known of that connection.
    fn client_of(&self, client: SocketAddr, server: SocketAddr) -> Option<WorkloadId> {
        let ids = self.by_addresses.get(&key(client, server))?;
        walk(ids.iter().rev()).find_map(|id| self.conns.get(id)?.ends.iter().find(|e| e.addr == client)?.workload)
    }

    pub(super) fn segment(&mut self, s: &Segment<'_>, parts: &mut Parts, out: &mut dyn Output) {
        let Some(&(id, end)) = self.by_cookie.get(&s.cookie) else {
            parts.stats.orphans += 1;
            parts.stats.bytes_unfollowed += u64::from(s.len);
            // The segment belongs to a connection that is not followed, so what it says is missed.
            parts.judge.missed.anywhere(s.at);
            return;
        };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.last_active = s.at;
        // What this socket sends comes from its own end.
        let own = if end == 0 { Side::Client } else { Side::Server };
        let from = if s.dir == Direction::Tx { own } else { own.other() };
        if s.thread.is_some() {
            conn.sent_by(from, s.thread);
        }
        if conn.may_be_fronted(from)
            && let Header::Is(_, Some((client, server))) = header(s.bytes)
        {
            let front = self.client_of(client, server);
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.front = front;
            }
        }
        let incoming = Incoming { from, at: s.at, seq: s.seq, ack: s.ack, len: s.len, bytes: s.bytes };
        self.feed(id, s.bytes.len(), parts, out, |stream, deliver| stream.segment(incoming, deliver));
        self.enter_late(parts, out);
        self.keep_within(s.at, parts, out);
    }

    /// A thread has read what a socket received.
    pub(super) fn read_by(&mut self, cookie: SocketCookie, thread: ThreadId, parts: &mut Parts, out: &mut dyn Output) {
        if let Some(&(id, end)) = self.by_cookie.get(&cookie)
            && let Some(conn) = self.conns.get_mut(&id)
            && let Some(client) = conn.client
        {
            let by_server = client != usize::from(end);
            let mut on = OnConn { parts, state: &mut conn.state, out };
            if by_server { on.record_request_read(thread) } else { on.record_reply_read(thread) }
        }
    }

    pub(super) fn closed(&mut self, at: Nanos, cookie: SocketCookie, parts: &mut Parts, out: &mut dyn Output) {
        let Some((id, end)) = self.by_cookie.remove(&cookie) else { return };
        let Some(conn) = self.conns.get_mut(&id) else { return };
        if let Some(e) = conn.ends.get_mut(usize::from(end)) {
            e.cookie = None;
        }
        if conn.ends.iter().all(|e| e.cookie.is_none()) {
            self.remove(id, at, parts, out);
        }
    }

    pub(super) fn remove(&mut self, id: ConnId, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        let Some(mut conn) = self.conns.remove(&id) else { return };
        self.forget(&conn);
        self.index.update(id, &conn.parties(), &Parties::new());
        for end in &conn.ends {
            if let Some(cookie) = end.cookie {
                self.by_cookie.remove(&cookie);
            }
        }
        let [a, b] = &conn.ends;
        if let Some(starts) = conn.starts
            && self.by_starts.get(&starts) == Some(&id)
        {
            self.by_starts.remove(&starts);
        }
        let addresses = key(a.addr, b.addr);
        if let Some(ids) = self.by_addresses.get_mut(&addresses) {
            ids.retain(|i| {
                step();
                *i != id
            });
            if ids.is_empty() {
                self.by_addresses.remove(&addresses);
            }
        }
        conn.close(at, parts, out);
    }

    /// A cgroup got its name: sockets that waited for it are identified.
    pub(super) fn identified(&mut self, cgroup: CgroupId, parts: &mut Parts) {
        for id in walk(self.unidentified.remove(&cgroup).unwrap_or_default()) {
            self.change(id, |conn| conn.identify(parts));
        }
    }

    /// More is known of some who take part in connections than when those were opened.
    pub(super) fn identify_again(&mut self, parts: &mut Parts, who: &[Party]) {
        let all: BTreeSet<ConnId> = who.iter().flat_map(|party| self.index.of(*party)).collect();
        for id in all {
            self.change(id, |conn| conn.identify(parts));
        }
    }

    /// Connections that knew only the address `ip`, as the made-up workload `bare`: it has a name now.
    pub(super) fn named_late(&mut self, ip: IpAddr, bare: WorkloadId, parts: &mut Parts) {
        for id in self.index.of(Party::Workload(bare)) {
            self.change(id, |conn| {
                let mut any = false;
                for e in &mut conn.ends {
                    if e.cgroup.is_none() && e.addr.ip() == ip && e.workload == Some(bare) {
                        e.workload = None;
                        any = true;
                    }
                }
                if any {
                    conn.identify(parts);
                }
            });
        }
    }

    /// Tells connections for whom their units turned out to be.
    pub(super) fn tell_origins(&mut self, parts: &mut Parts, out: &mut dyn Output) {
        while !parts.attributor.origins_found.is_empty() {
            let settled: Vec<OriginFound> = parts.attributor.origins_found.drain(..).collect();
            for s in &settled {
                if let Some(service) = s.origin.and_then(|o| self.conns.get(&o)).and_then(|c| c.state.facts.service)
                    && let Some(service) = parts.map.service_mut(service)
                {
                    service.relay = true;
                }
                if let Some(conn) = self.conns.get_mut(&s.conn) {
                    OnConn { parts: &mut *parts, state: &mut conn.state, out: &mut *out }.record_origin(s);
                }
            }
        }
    }

    /// Works on one connection, if it is still there.
    pub(super) fn with(
        &mut self,
        id: ConnId,
        parts: &mut Parts,
        out: &mut dyn Output,
        f: impl FnOnce(&mut OnConn<'_>),
    ) {
        if let Some(conn) = self.conns.get_mut(&id) {
            f(&mut OnConn { parts, state: &mut conn.state, out });
        }
    }

    /// The input has ended.
    pub(super) fn finish(&mut self, at: Nanos, parts: &mut Parts, out: &mut dyn Output) {
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        ids.sort();
        for id in ids {
            self.feed(id, 0, parts, out, |stream, deliver| stream.close(at, deliver));
            self.tell_origins(parts, out);
        }
        self.tell_origins(parts, out);
        let mut ids: Vec<ConnId> = self.conns.keys().copied().collect();
        ids.sort();
        // Who works for others is judged while it is still known who they were.
        for id in &ids {
            if let Some(conn) = self.conns.get_mut(id) {
                OnConn { parts: &mut *parts, state: &mut conn.state, out: &mut *out }.look_through(at, true);
            }
        }
        for id in ids {
            self.remove(id, at, parts, out);
        }
    }

    /// A relay has opened its first connection of a protocol: requests that are already inside are entered now.
    pub(super) fn enter_late(&mut self, parts: &mut Parts, out: &mut dyn Output) {
        while let Some((relay, protocol)) = parts.attributor.new_relays.pop() {
            if let Some(process) = parts.attributor.processes.get_mut(&relay) {
                process.followed = true;
            }
            for id in self.index.of(Party::Enters(relay)) {
                let Some(conn) = self.conns.get_mut(&id) else { continue };
                // In which order it is read matters from now on.
                conn.ask(parts, out);
                if let Some(process) = parts.attributor.processes.get_mut(&relay) {
                    let whom = conn.state.facts.endpoint.map_or(Whom::NotYet, |a| Whom::Tenant(a.tenant, a.class));
                    for open in &conn.state.units.open {
                        process.arrived(conn.state.key_of(open.request), whom, conn.state.facts.protocol, open.begun);
                    }
                }
                if conn.state.facts.protocol.passed_on_as() != protocol {
                    continue;
                }
                for open in &conn.state.units.open {
                    if let Some(print) = open.print {
                        parts.attributor.enter(
                            relay,
                            print,
                            &conn.state.facts,
                            (open.request, open.begun),
                            &parts.ctx.directory,
                        );
                    }
                }
            }
        }
    }
}
