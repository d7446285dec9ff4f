//! From ring records to events: names cgroups before flows speak of them, joins payload that came before its
//! connection, translates time, keeps what the kernel side needs to be told.

use std::collections::VecDeque;
use std::net::SocketAddr;

use aya::maps::{Array, HashMap, MapData};
use monitor_common::maps::{CGROUP_CACHE_SLOTS, CachedFlow, FLOW_CACHE_SLOTS, cached_decision};
use monitor_core::model::{
    CgroupId, CloseReason, Direction, Event, HandshakeSecret, Nanos, ProcessId, Role, Segment, SocketCookie, ThreadId,
    local,
};
use rustc_hash::{FxHashMap, FxHashSet};

use super::clock::Clock;
use super::handle::ByHandle;
use super::parked::Lot;
use super::rounds::Rounds;
use super::unix;
use super::wire::{self, Flow, Record, SegmentRecord, Sender, UnixEnd};
use super::{FLOW_UNTRACKED, FlowState, IGNORED, WATCHED};
use crate::capture::cgroups::Known;

/// `BPF_EXIST`: update only what is there.
const EXIST: u64 = 2;
/// Cgroup ids that could not be resolved, remembered so that each is tried once.
const MAX_NAMELESS: usize = 1024;

/// A record that the agent could not read.
const MALFORMED: &str = "malformed_record";
/// Payload that completed a handshake and found no room until its connection was announced.
const DROPPED: &str = "handshake_payload_dropped";

/// The maps and handles that conversion needs.
pub(super) struct Kernel {
    pub(super) flows: HashMap<MapData, u64, FlowState>,
    pub(super) unix_read: HashMap<MapData, u64, u64>,
    pub(super) decisions: HashMap<MapData, u64, u32>,
    pub(super) decision_cache: Array<MapData, u64>,
    pub(super) flow_cache: Array<MapData, CachedFlow>,
    pub(super) by_handle: Option<ByHandle>,
}

impl Kernel {
    /// Puts the decision about a cgroup where the probes look. A full table costs the probes time, not events: they
    /// ask the ancestors each time.
    fn decide(&mut self, id: CgroupId, decision: u32) {
        let _ = self.decisions.insert(id.0, decision, 0);
        self.cache_decision(id, cached_decision(id.0, decision));
    }

    fn undecide(&mut self, id: CgroupId) {
        let _ = self.decisions.remove(&id.0);
        self.cache_decision(id, 0);
    }

    /// Whatever else was in the slot is found again in the table.
    fn cache_decision(&mut self, id: CgroupId, word: u64) {
        let slot = u32::try_from(id.0 % u64::from(CGROUP_CACHE_SLOTS)).unwrap_or(0);
        let _ = self.decision_cache.set(slot, word, 0);
    }

    /// Gives a connection another budget; `false`: it is unknown, or has that budget.
    fn budget(&mut self, cookie: u64, budget: [u32; 2]) -> bool {
        // Between reading and writing the probes may change `last` and the FIN marks: the first is refreshed by the
        // next segment, and a lost mark is made up for by the sweep.
        let Ok(mut state) = self.flows.get(&cookie, 0) else { return false };
        if state.budget == budget {
            return false;
        }
        state.budget = budget;
        // Fails if the connection was closed meanwhile, which is right.
        if self.flows.insert(cookie, state, EXIST).is_err() {
            return false;
        }
        self.refresh(cookie);
        true
    }

    /// Makes the cache forget a connection: the next segment takes it from the table. A probe that has just read the
    /// old state may put that back, hence once more a little later ([`Converter::settle`]).
    fn refresh(&mut self, cookie: u64) {
        let slot = u32::try_from(cookie % u64::from(FLOW_CACHE_SLOTS)).unwrap_or(0);
        let _ = self.flow_cache.set(slot, CachedFlow::EMPTY, 0);
    }
}

pub(super) struct Converter {
    clock: Clock,
    known: Known,
    kernel: Kernel,
    own_listeners: Vec<SocketAddr>,
    /// Cgroups to be announced at the next poll.
    pending: VecDeque<(CgroupId, String)>,
    /// Connections announced and not closed, with the process that first sent on each; 0: none yet.
    open: FxHashMap<u64, u32>,
    /// Connections not wanted: with the agent itself, or in a cgroup that is not watched.
    muted: FxHashSet<u64>,
    nameless: FxHashSet<u64>,
    /// Services on Unix sockets whose names were told.
    named: unix::Named,
    /// Cgroups whose TLS is read, and those of them that have opened connections since last asked.
    readers: FxHashSet<CgroupId>,
    opened: Vec<CgroupId>,
    /// Decisions since the last [`Self::settle`].
    unsettled_cgroups: Vec<(CgroupId, bool)>,
    unsettled_flows: Vec<u64>,
    lot: Lot,
    /// Connections whose end may have been lost.
    ends: Rounds<u64>,
    /// Cgroups whose end may have been lost, and what the probes noted by themselves.
    removals: Rounds<CgroupId>,
    noted: Rounds<u64>,
    malformed: u64,
    dropped: u64,
    reported: u64,
    /// Delivered segments: sent, received.
    pub(super) segments: [u64; 2],
    /// Delivered payload bytes: sent, received.
    pub(super) bytes: [u64; 2],
}

impl Converter {
    pub(super) fn new(clock: Clock, known: Known, kernel: Kernel, own_listeners: Vec<SocketAddr>) -> Self {
        Self {
            clock,
            known,
            kernel,
            own_listeners,
            pending: VecDeque::new(),
            open: FxHashMap::default(),
            muted: FxHashSet::default(),
            nameless: FxHashSet::default(),
            named: unix::Named::default(),
            readers: FxHashSet::default(),
            opened: Vec::new(),
            unsettled_cgroups: Vec::new(),
            unsettled_flows: Vec::new(),
            lot: Lot::default(),
            ends: Rounds::default(),
            removals: Rounds::default(),
            noted: Rounds::default(),
            malformed: 0,
            dropped: 0,
            reported: 0,
            segments: [0; 2],
            bytes: [0; 2],
        }
    }

    /// Unix time now.
    pub(super) fn now(&self) -> Nanos {
        self.clock.unix(Clock::monotonic())
    }

    /// Learns of every cgroup there is; they are announced at the next [`Self::pending`].
    pub(super) fn walk(&mut self, seen: &mut dyn FnMut(&str)) {
        for (id, path) in self.known.hierarchy().walk(usize::MAX) {
            if self.learn(id, &path) == Some(true) {
                seen(&path);
                self.pending.push_back((id, path));
            }
        }
    }

    /// Announces cgroups that were learned outside of a batch.
    pub(super) fn pending(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let at = self.now();
        for (id, path) in self.pending.drain(..) {
            sink(Event::CgroupSeen { at, id, path: &path });
        }
    }

    /// Decides about a cgroup and tells the probes. `None`: nothing new.
    fn learn(&mut self, id: CgroupId, path: &str) -> Option<bool> {
        let watched = self.known.learn(id, path)?;
        self.kernel.decide(id, if watched { WATCHED } else { IGNORED });
        self.unsettled_cgroups.push((id, watched));
        Some(watched)
    }

    /// One record.
    pub(super) fn record(&mut self, bytes: &[u8], sink: &mut dyn FnMut(Event<'_>)) {
        match wire::read(bytes) {
            Ok(Record::Segment(s)) => self.segment(&s, sink),
            Ok(Record::Flow(f)) => self.flow(&f, sink),
            Ok(Record::Unix(u)) => self.unix(&u, sink),
            Ok(Record::Close { at, cookie }) => self.close(at, cookie, sink),
            Ok(Record::Reader { at, cookie, thread }) => self.reader(at, cookie, thread, sink),
            Ok(Record::CgroupMade { at, path }) => self.made(at, path, sink),
            Ok(Record::CgroupRemoved { at, path }) => self.removed(at, path, sink),
            Ok(Record::Secret(told)) => sink(Event::TlsSecret(&HandshakeSecret {
                at: self.clock.unix(told.at),
                cgroup: Some(CgroupId(told.cgroup)),
                process: Some(ProcessId(told.process)),
                label: told.label,
                client_random: told.client_random,
                secret: told.secret,
            })),
            Err(_) => self.malformed += 1,
        }
    }

    fn segment(&mut self, s: &SegmentRecord<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let mut cookie = s.cookie;
        if s.listener {
            match self.lot.park(s) {
                Some(of) => cookie = of,
                None => return,
            }
        }
        if !self.muted.is_empty() && self.muted.contains(&cookie) {
            return;
        }
        let i = match s.dir {
            Direction::Tx => 0,
            Direction::Rx => 1,
        };
        if let (Some(n), Some(b)) = (self.segments.get_mut(i), self.bytes.get_mut(i)) {
            *n += 1;
            *b += u64::try_from(s.bytes.len()).unwrap_or(0);
        }
        let thread = s.sender.and_then(|sender| self.sender(cookie, sender));
        sink(Event::Segment(Segment {
            at: self.clock.unix(s.at),
            cookie: SocketCookie(cookie),
            dir: s.dir,
            seq: s.seq,
            ack: s.ack,
            len: s.len,
            bytes: s.bytes,
            thread,
        }));
    }

    /// The thread that sent on this socket. A segment that had to wait (for an acknowledgement, for the retransmission
    /// timer) is sent by the kernel on top of whatever thread runs: often one of the peer's, on a loopback or virtual
    /// device. Such a one belongs to another process than the connection's first segment, which had nothing to wait
    /// for. A connection that a process hands to another loses its threads by this; none gets a wrong process's.
    fn sender(&mut self, cookie: u64, sender: Sender) -> Option<ThreadId> {
        let first = self.open.get_mut(&cookie)?;
        if *first == 0 {
            *first = sender.process;
        }
        (*first == sender.process).then_some(ThreadId(sender.thread))
    }

    fn reader(&mut self, at: u64, cookie: u64, thread: u32, sink: &mut dyn FnMut(Event<'_>)) {
        if self.open.contains_key(&cookie) {
            sink(Event::Reader { at: self.clock.unix(at), cookie: SocketCookie(cookie), thread: ThreadId(thread) });
        }
    }

    fn flow(&mut self, f: &Flow, sink: &mut dyn FnMut(Event<'_>)) {
        if f.listener {
            self.lot.expect(f);
            return;
        }
        let at = self.clock.unix(f.at);
        let watched = f.cgroup.is_none_or(|id| self.resolve(id, at, sink));
        if !watched || self.is_own(f) {
            self.muted.insert(f.cookie);
            self.set_budget(f.cookie, [super::BUDGET_SILENT; 2]);
            return;
        }
        // A second announcement adds to the first.
        self.open.entry(f.cookie).or_insert(0);
        if let Some(id) = f.cgroup.map(CgroupId).filter(|id| self.readers.contains(id) && !self.opened.contains(id)) {
            self.opened.push(id);
        }
        sink(Event::Opened {
            at,
            cookie: SocketCookie(f.cookie),
            cgroup: f.cgroup.map(CgroupId),
            local: f.local,
            peer: f.peer,
            role: f.role,
            tx_start: f.tx_start,
            rx_start: f.rx_start,
        });
        if let Some(s) = self.lot.claim(f) {
            self.segment(
                &SegmentRecord {
                    at: s.at,
                    cookie: f.cookie,
                    dir: Direction::Rx,
                    seq: s.seq,
                    ack: s.ack,
                    len: s.len,
                    bytes: &s.bytes,
                    listener: false,
                    sender: None,
                },
                sink,
            );
        }
    }

    /// An end of a Unix stream socket. Its connection is between an address of the service, which is that of the file it is
    /// bound to, and one of the client, which is its cookie's: as between a well-known port and another.
    fn unix(&mut self, u: &UnixEnd<'_>, sink: &mut dyn FnMut(Event<'_>)) {
        let at = self.clock.unix(u.at);
        if !u.cgroup.is_none_or(|id| self.resolve(id, at, sink)) {
            self.muted.insert(u.cookie);
            self.set_budget(u.cookie, [super::BUDGET_SILENT; 2]);
            return;
        }
        let service = unix::service(u.file, u.name);
        let number = |is_server: bool, cookie: u64| if is_server { service.unwrap_or(cookie) } else { cookie };
        let local = local::address(number(u.role == Role::Server, u.cookie));
        let peer = local::address(number(u.role == Role::Client, u.peer));
        if let Some(service) = service.filter(|service| self.named.mark_told(*service)) {
            sink(Event::Named { at, address: local::address(service), name: &unix::name(u.name) });
        }
        self.open.entry(u.cookie).or_insert(0);
        if let Some(id) = u.cgroup.map(CgroupId).filter(|id| self.readers.contains(id) && !self.opened.contains(id)) {
            self.opened.push(id);
        }
        sink(Event::Opened {
            at,
            cookie: SocketCookie(u.cookie),
            cgroup: u.cgroup.map(CgroupId),
            local,
            peer,
            role: u.role,
            tx_start: u.start,
            rx_start: u.start,
        });
    }

    /// Makes sure that a flow's cgroup has been announced. `false`: it is not watched.
    fn resolve(&mut self, id: u64, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        if let Some((_, watched)) = self.known.get(CgroupId(id)) {
            return watched;
        }
        if self.nameless.contains(&id) {
            return true;
        }
        // Its mkdir record is still on its way in another ring, or was lost.
        let path = self
            .kernel
            .by_handle
            .as_ref()
            .and_then(|h| h.path(id).ok())
            .and_then(|dir| self.known.hierarchy().path_of(&dir));
        if let Some(path) = path {
            match self.learn(CgroupId(id), &path) {
                Some(true) => {
                    sink(Event::CgroupSeen { at, id: CgroupId(id), path: &path });
                    return true;
                }
                Some(false) => return false,
                None => {}
            }
        }
        if self.nameless.len() >= MAX_NAMELESS {
            self.nameless.clear();
        }
        self.nameless.insert(id);
        true
    }

    fn is_own(&self, f: &Flow) -> bool {
        self.own_listeners.iter().any(|own| {
            [f.local, f.peer].iter().any(|a| {
                a.port() == own.port()
                    && (a.ip() == own.ip() || (own.ip().is_unspecified() && f.local.ip() == f.peer.ip()))
            })
        })
    }

    fn close(&mut self, at: u64, cookie: u64, sink: &mut dyn FnMut(Event<'_>)) {
        self.lot.closed(cookie);
        self.muted.remove(&cookie);
        if self.open.remove(&cookie).is_some() {
            sink(Event::Closed { at: self.clock.unix(at), cookie: SocketCookie(cookie), reason: CloseReason::Closed });
        }
    }

    fn made(&mut self, at: u64, path: Option<&str>, sink: &mut dyn FnMut(Event<'_>)) {
        // A path too long for the record: the first flow in it resolves it.
        let Some(path) = path.filter(|p| self.known.hierarchy().contains(p)) else { return };
        // Another hierarchy's, or gone again.
        let Some(id) = self.known.hierarchy().id(path) else { return };
        if self.learn(id, path) == Some(true) {
            self.nameless.remove(&id.0);
            sink(Event::CgroupSeen { at: self.clock.unix(at), id, path });
        }
    }

    fn removed(&mut self, at: u64, path: Option<&str>, sink: &mut dyn FnMut(Event<'_>)) {
        let Some(id) = path.and_then(|p| self.known.forget(p)) else { return };
        self.gone(id, self.clock.unix(at), sink);
    }

    /// Tells the probes another budget for one connection.
    pub(super) fn set_budget(&mut self, cookie: u64, budget: [u32; 2]) {
        if self.kernel.budget(cookie, budget) {
            self.unsettled_flows.push(cookie);
        }
    }

    /// Writes the decisions of the last second into the probes' caches once more: a probe that was at work while they
    /// were made may have put back what it had read before.
    pub(super) fn settle(&mut self) {
        for (id, watched) in std::mem::take(&mut self.unsettled_cgroups) {
            if self.known.get(id).is_some() {
                self.kernel.cache_decision(id, cached_decision(id.0, if watched { WATCHED } else { IGNORED }));
            }
        }
        for cookie in std::mem::take(&mut self.unsettled_flows) {
            self.kernel.refresh(cookie);
        }
    }

    /// Close records were lost: each connection is to be asked after.
    pub(super) fn closes_were_lost(&mut self) {
        self.ends.want();
    }

    /// Closes what the probes no longer know, if closes were lost: so many a tick, as each is a question to the kernel.
    pub(super) fn close_what_is_gone(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let (open, muted) = (&self.open, &self.muted);
        let asked = self.ends.turn(|| open.keys().chain(muted).copied().collect());
        let now = Clock::monotonic();
        for cookie in asked {
            if self.kernel.flows.get(&cookie, 0).is_err() {
                self.close(now, cookie, sink);
            }
        }
    }

    /// A connection is not followed any more, to make room: its next segment announces it anew.
    pub(super) fn forget_flow(&mut self, cookie: u64) {
        if self.open.remove(&cookie).is_some() {
            let _ = self.kernel.flows.remove(&cookie);
            self.kernel.refresh(cookie);
            self.unsettled_flows.push(cookie);
        }
    }

    /// Something that was read from a Unix socket was not seen: each begins anew, as one that is older than the agent.
    pub(super) fn begin_unix_anew(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let counted: Vec<u64> = self.kernel.unix_read.keys().flatten().collect();
        for cookie in counted {
            let _ = self.kernel.unix_read.remove(&cookie);
        }
        let open: Vec<u64> = self.open.keys().copied().filter(|cookie| unix::is_end(*cookie)).collect();
        let now = Clock::monotonic();
        for cookie in open {
            let _ = self.kernel.flows.remove(&cookie);
            self.kernel.refresh(cookie);
            self.unsettled_flows.push(cookie);
            self.close(now, cookie, sink);
        }
    }

    /// From now on every cgroup that is known is to be asked after: its removal may not have been told.
    pub(super) fn look_for_removed(&mut self) {
        self.removals.want();
        self.noted.want();
    }

    /// Forgets cgroups that are gone without a word, and what the probes noted of ones that were never told of: so many
    /// a tick.
    pub(super) fn forget_removed(&mut self, sink: &mut dyn FnMut(Event<'_>)) {
        let known = &self.known;
        for id in self.removals.turn(|| known.ids()) {
            let path = self.known.get(id).map(|(path, _)| path.to_owned());
            if let Some(id) = path.and_then(|path| self.known.forget(&path)) {
                self.gone(id, self.now(), sink);
            }
        }
        let Some(by_handle) = &self.kernel.by_handle else { return };
        let decisions = &self.kernel.decisions;
        let noted = self.noted.turn(|| decisions.keys().flatten().collect());
        let gone = |id: &u64| self.known.get(CgroupId(*id)).is_none() && by_handle.is_gone(*id);
        let gone: Vec<u64> = noted.into_iter().filter(gone).collect();
        for id in gone {
            self.kernel.undecide(CgroupId(id));
        }
    }

    /// Whether TLS of this cgroup's processes is read, from now on. `None`: nothing new.
    pub(super) fn read_tls(&mut self, id: CgroupId, on: bool) -> Option<()> {
        let new = if on { self.readers.insert(id) } else { self.readers.remove(&id) };
        new.then_some(())
    }

    /// Cgroups whose TLS is read, and that have opened connections since last asked.
    pub(super) fn take_opened(&mut self) -> Vec<CgroupId> {
        std::mem::take(&mut self.opened)
    }

    fn gone(&mut self, id: CgroupId, at: Nanos, sink: &mut dyn FnMut(Event<'_>)) {
        self.kernel.undecide(id);
        self.nameless.remove(&id.0);
        sink(Event::CgroupGone { at, id });
    }

    /// Forgets connections whose close nobody tells and that were silent for `older` ns.
    pub(super) fn sweep_stale(&mut self, now: u64, older: u64, sink: &mut dyn FnMut(Event<'_>)) {
        let stale: Vec<u64> = self
            .kernel
            .flows
            .iter()
            .flatten()
            .filter(|(_, s)| s.flags & FLOW_UNTRACKED != 0 && now.saturating_sub(s.last) > older)
            .map(|(cookie, _)| cookie)
            .collect();
        for cookie in stale {
            let _ = self.kernel.flows.remove(&cookie);
            self.close(now, cookie, sink);
        }
    }

    /// Drops payload whose connection never came.
    pub(super) fn sweep_parked(&mut self) {
        self.lot.sweep(Clock::monotonic());
    }

    /// Events lost on this side since last asked, and of which cgroup's sockets, where that is known.
    pub(super) fn take_lost(&mut self) -> Vec<(&'static str, u64, Option<CgroupId>)> {
        let mut news = Vec::new();
        let malformed = self.malformed - std::mem::replace(&mut self.reported, self.malformed);
        if malformed > 0 {
            news.push((MALFORMED, malformed, None));
        }
        for (cgroup, n) in self.lot.take_dropped() {
            self.dropped += n;
            news.push((DROPPED, n, cgroup.map(CgroupId)));
        }
        news
    }

    /// Events lost on this side in total.
    pub(super) fn lost_in_total(&self) -> [(&'static str, u64); 2] {
        [(MALFORMED, self.malformed), (DROPPED, self.dropped)]
    }

    /// The directory of a cgroup, watched or not.
    pub(super) fn dir_of(&self, id: CgroupId) -> Option<std::path::PathBuf> {
        self.known.get(id).map(|(path, _)| self.known.hierarchy().dir_of(path))
    }

    /// Path of a cgroup, watched or not.
    pub(super) fn path_of(&self, id: CgroupId) -> Option<&str> {
        self.known.get(id).map(|(path, _)| path)
    }

    pub(super) fn open_flows(&self) -> usize {
        self.open.len() + self.muted.len()
    }

    pub(super) fn known_cgroups(&self) -> usize {
        self.known.len()
    }

    pub(super) fn parked(&self) -> usize {
        self.lot.len()
    }
}
