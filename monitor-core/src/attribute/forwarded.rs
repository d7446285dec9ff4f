//! Basis: forwarded content. A pooler or proxy sends on the request bytes it received, so the tenant of an outbound
//! request is the tenant whose connection brought the same bytes in.
//!
//! The bytes alone are not enough when two tenants have sent the same statement at the same time. What decides is
//! containment: a forwarded request arrives at the relay before it goes out, and its answer comes back before it is
//! passed on. So an outbound request is settled when an answer is passed on to a sender of the same bytes while
//! exactly one outbound request with these request and reply bytes has been answered and not yet passed on; or when as
//! many answers were passed on as outbound requests waited, and all went to one tenant. Nothing is settled before an
//! answer is passed on: a sender whose request was lost to us would otherwise lend its work to another. Where several
//! remain possible the answer is "several", for good.
//!
//! It relies on events coming in causal order: what a relay passes on after what it received. One ring of the kernel
//! gives that, and a capture file of one interface does.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::steps::{step, walk};
use crate::model::{ConnId, Fingerprint, Nanos, ServiceId, TenantId, UnitNo, WorkloadId};

/// Where requests enter and leave: a workload on this host, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relay {
    /// By its cgroup or by configuration.
    Workload(WorkloadId),
    /// By address: all that a capture file knows.
    Address(IpAddr),
}

/// A request that entered a relay.
#[derive(Clone, Copy, Debug)]
pub struct Inbound {
    /// The connection it came in on.
    pub conn: ConnId,
    /// Its number there.
    pub request: u64,
    /// The tenant of that connection; `None`: not known, so it may be anybody's.
    pub tenant: Option<TenantId>,
    /// The service it was sent to.
    pub service: Option<ServiceId>,
    /// When it was whole.
    pub begun: Nanos,
}

/// The answer to a request that had entered a relay, as it went back to its sender.
#[derive(Clone, Copy, Debug)]
pub struct InboundAnswer {
    /// The connection that the request came in on.
    pub conn: ConnId,
    /// Its number there.
    pub request: u64,
    /// When it was whole.
    pub begun: Nanos,
    /// When the answer was.
    pub at: Nanos,
    /// What the answer was.
    pub reply: Option<Fingerprint>,
}

/// A request whose answer was passed on, and what that was.
#[derive(Clone, Copy, Debug)]
struct PassedOn {
    inbound: Inbound,
    at: Nanos,
    reply: Option<Fingerprint>,
    claimed: bool,
}

/// A request that left a relay and has been answered.
#[derive(Clone, Copy, Debug)]
pub struct Outbound {
    /// The connection it went out on.
    pub conn: ConnId,
    /// The unit of work it belongs to.
    pub unit: UnitNo,
    /// The service it was sent to. Nothing is forwarded to where it came in: that matters where a relay is known by
    /// address alone and lives at the same one as what it relays to.
    pub service: Option<ServiceId>,
    /// When it was whole.
    pub begun: Nanos,
    /// When its answer was whole.
    pub answered: Nanos,
    /// Fingerprint of the answer; `None`: not seen whole.
    pub reply: Option<Fingerprint>,
}

#[derive(Clone, Debug)]
struct Left {
    outbound: Outbound,
    /// Requests it may have come in as, in order.
    candidates: SmallVec<[Id; 4]>,
}

/// The origin of an outbound request's unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginFound {
    /// The outbound connection.
    pub conn: ConnId,
    /// Its unit of work.
    pub unit: UnitNo,
    /// The tenant it came from; `None`: from a connection whose tenant is not known.
    pub tenant: Option<TenantId>,
    /// The inbound connection, when one was singled out and not just its tenant.
    pub origin: Option<ConnId>,
}

type Key = (Relay, Fingerprint);

/// When an inbound request began, its connection, and its number there.
type Id = (Nanos, ConnId, u64);

/// Connections that a request may have come in on, with their tenants.
pub type Origins = SmallVec<[(ConnId, Option<TenantId>); 4]>;

impl Inbound {
    fn id(&self) -> Id {
        (self.begun, self.conn, self.request)
    }
}

impl Left {
    fn names(&self, e: &PassedOn) -> bool {
        self.candidates.binary_search(&e.inbound.id()).is_ok()
    }

    fn forget(&mut self, id: Id) {
        if let Ok(at) = self.candidates.binary_search(&id) {
            self.candidates.remove(at);
        }
    }

    /// Whether the answer passed on to `e` can be this request's.
    fn fits(&self, e: &PassedOn) -> bool {
        self.names(e)
            && match (self.outbound.reply, e.reply) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }
}

/// Most requests remembered; more and the oldest are forgotten, which makes answers "several" or none.
const MAX_ENTERED: usize = 65_536;
/// Most connections told apart as the origin of one request: beyond that it is anybody's.
const MAX_CANDIDATES: usize = 128;
/// Most requests looked at for that: beyond, too, it is anybody's.
const MAX_LOOKED_AT: usize = 1024;
/// Most outbound requests with the same bytes that wait to be told apart. A relay passes answers on within
/// microseconds: more than a few wait only where something is missing.
const MAX_LEFT: usize = 16;
/// How long an answered request may still turn out to be an origin, should events come slightly out of order.
const GRACE: Nanos = Nanos::millis(250);
/// Most relays of which something was lost that are told apart; one more, and it counts as lost anywhere.
const MAX_DISTRUSTED: usize = 1_024;
/// How long an outbound request waits for its answer to be passed on.
const PATIENCE: Nanos = Nanos::secs(2);

/// Requests on their way through relays.
#[derive(Debug, Default)]
pub struct Forwarding {
    /// Requests not yet answered to their senders, in order of time for each key.
    open: BTreeMap<(Key, Id), Inbound>,
    /// Those that were, while one of `left` names them; in order of time.
    passed_on: FxHashMap<Key, SmallVec<[PassedOn; 2]>>,
    /// At most [`MAX_LEFT`] a key.
    left: FxHashMap<Relay, FxHashMap<Fingerprint, SmallVec<[Left; 2]>>>,
    /// When one of `passed_on` was, and when one of `left` was answered, in order of time, for forgetting.
    ageing: VecDeque<(Nanos, Key)>,
    waiting: VecDeque<(Nanos, Key)>,
    n_passed_on: usize,
    n_forgotten: u64,
    /// Requests that went out before this may be ones whose way in was lost.
    trusted_from: Nanos,
    /// The same of one relay; at most [`MAX_DISTRUSTED`].
    distrusted: FxHashMap<Relay, Nanos>,
}

impl Forwarding {
    /// A request has entered `relay`.
    pub fn enter(&mut self, relay: Relay, print: Fingerprint, inbound: Inbound) {
        if self.open.len() + self.n_passed_on >= MAX_ENTERED {
            // A request that is forgotten counts as lost, so the relay is distrusted.
            self.n_forgotten += 1;
            self.distrusts(relay, inbound.begun);
            return;
        }
        self.open.insert(((relay, print), inbound.id()), inbound);
    }

    /// An outbound request has been answered: where it may have come in; `None`: anywhere. Unless that is nowhere, it
    /// waits for its answer to be passed on.
    pub fn leave(
        &mut self,
        relay: Relay,
        print: Fingerprint,
        outbound: Outbound,
        settled: &mut Vec<OriginFound>,
    ) -> Option<Origins> {
        let key = (relay, print);
        let until = (outbound.begun, ConnId(u32::MAX), u64::MAX);
        let open = self.open.range((key, FIRST)..=(key, until)).map(|(_, e)| e);
        // Answers passed on at this moment are candidates, too, because events may come slightly out of order.
        let late = self.passed_on.get(&key).into_iter().flatten();
        let late = late.filter(|e| !e.claimed && e.inbound.begun <= outbound.begun && e.at >= outbound.answered);
        let (mut candidates, mut origins) = (SmallVec::new(), Origins::new());
        for (n, inbound) in walk(open.chain(late.map(|e| &e.inbound))).enumerate() {
            let possible = inbound.service != outbound.service;
            if possible && candidates.len() >= MAX_CANDIDATES || n >= MAX_LOOKED_AT {
                self.n_forgotten += 1;
                return None;
            }
            if possible {
                candidates.push(inbound.id());
                origins.push((inbound.conn, inbound.tenant));
            }
        }
        // After a loss the request may have come in unseen, so its origin is never decided.
        if !candidates.is_empty() && outbound.begun >= self.trusted_from(relay) {
            candidates.sort_unstable();
            let left = self.left.entry(relay).or_default().entry(print).or_default();
            left.push(Left { outbound, candidates });
            // The one that has waited longest is given up, because more than so many cannot be told apart.
            let given_up = (left.len() > MAX_LEFT).then(|| left.remove(0));
            if let (Some(l), Some(passed_on)) = (given_up, self.passed_on.get_mut(&key)) {
                // One of the answers passed on belongs to the request given up, and it is not known which. None of them may
                // decide another request, because that one may be it.
                for e in walk(passed_on) {
                    e.claimed |= l.names(e);
                }
            }
            self.waiting.push_back((outbound.answered, key));
            self.decide(key, settled);
        }
        Some(origins)
    }

    /// A request that entered `relay` has been answered to its sender.
    pub fn passed_on(
        &mut self,
        relay: Relay,
        print: Fingerprint,
        answered: InboundAnswer,
        settled: &mut Vec<OriginFound>,
    ) {
        let InboundAnswer { conn, request, begun, at, reply } = answered;
        self.age(at);
        let (key, id) = ((relay, print), (begun, conn, request));
        let Some(inbound) = self.open.remove(&(key, id)) else { return };
        // No outbound request waits. None will for this answer, because events come in causal order and a relay answers
        // its sender only after the outbound request was answered.
        let Some(left) = self.left.get_mut(&relay).and_then(|of| of.get_mut(&print)) else { return };
        // The relay has answered this sender before it got the outbound answer: the sender is not that request's origin.
        for l in left.iter_mut().filter(|l| l.outbound.answered > at) {
            l.forget(id);
        }
        left.retain(|l| !l.candidates.is_empty());
        let list = self.passed_on.entry(key).or_default();
        let place = list.partition_point(|e| e.inbound.id() < id);
        list.insert(place, PassedOn { inbound, at, reply, claimed: false });
        self.n_passed_on += 1;
        self.ageing.push_back((at, key));
        self.decide(key, settled);
    }

    /// Settles what can be settled among the requests with the same bytes.
    fn decide(&mut self, key: Key, settled: &mut Vec<OriginFound>) {
        let Some(of_relay) = self.left.get_mut(&key.0) else { return };
        let Some(left) = of_relay.get_mut(&key.1) else { return };
        let mut none = SmallVec::new();
        let passed_on = self.passed_on.get_mut(&key).unwrap_or(&mut none);
        // An answer passed on that can belong to one outbound request only decides that request.
        let mut at = 0;
        while let Some(e) = passed_on.get_mut(at) {
            at += 1;
            if e.claimed {
                continue;
            }
            let only = {
                let mut fitting = walk(left.iter().enumerate()).filter(|(_, l)| l.fits(e)).map(|(i, _)| i);
                fitting.next().filter(|_| fitting.next().is_none())
            };
            if let Some(only) = only {
                e.claimed = true;
                let Inbound { conn, tenant, .. } = e.inbound;
                let id = e.inbound.id();
                let l = left.swap_remove(only);
                settled.push(OriginFound { conn: l.outbound.conn, unit: l.outbound.unit, tenant, origin: Some(conn) });
                for l in left.iter_mut() {
                    l.forget(id);
                }
                left.retain(|l| !l.candidates.is_empty());
                // The decided request needs no other candidate, so another request may be left with one.
                at = 0;
            }
        }
        let open = &self.open;
        together(passed_on, &|id| open.contains_key(&(key, id)), left, settled);
        // An answer passed on is forgotten once no waiting request names its sender as a candidate.
        let before = passed_on.len();
        passed_on.retain(|e| !e.claimed && left.iter().any(|l| l.names(e)));
        self.n_passed_on -= before - passed_on.len();
        if passed_on.is_empty() {
            self.passed_on.remove(&key);
        }
        if left.is_empty() {
            of_relay.remove(&key.1);
        }
        if of_relay.is_empty() {
            self.left.remove(&key.0);
        }
    }

    /// Something of what passes through `relay` was lost: who still waits cannot be settled by elimination.
    pub fn disturbed(&mut self, relay: Relay) {
        self.left.remove(&relay);
    }

    /// Something that came in at `relay` was lost. For a while, what goes out there may have come in unseen.
    pub fn distrusts(&mut self, relay: Relay, at: Nanos) {
        self.disturbed(relay);
        if self.distrusted.len() >= MAX_DISTRUSTED && !self.distrusted.contains_key(&relay) {
            self.distrusted.retain(|_, until| *until > at);
        }
        if self.distrusted.len() >= MAX_DISTRUSTED && !self.distrusted.contains_key(&relay) {
            return self.disturbed_all(at);
        }
        self.distrusted.insert(relay, at + PATIENCE);
    }

    /// From when on what goes out of `relay` has been seen coming in.
    fn trusted_from(&self, relay: Relay) -> Nanos {
        self.distrusted.get(&relay).map_or(self.trusted_from, |own| self.trusted_from.max(*own))
    }

    /// Events were lost, and nobody can say whose. For a while, what goes out may have come in unseen.
    pub fn disturbed_all(&mut self, at: Nanos) {
        self.left.clear();
        self.trusted_from = at + PATIENCE;
    }

    /// A connection is gone: its open request, which began at `begun`, will not be answered. It may have gone out and
    /// nobody will be told: whoever else waits cannot be singled out by it.
    pub fn close(&mut self, relay: Relay, print: Fingerprint, (conn, request, begun): (ConnId, u64, Nanos)) {
        self.open.remove(&((relay, print), (begun, conn, request)));
    }

    /// Forgets what is over.
    pub fn age(&mut self, now: Nanos) {
        while let Some((_, key)) = self.ageing.pop_front_if(|(at, _)| now.since(*at) >= GRACE) {
            step();
            let Some(list) = self.passed_on.get_mut(&key) else { continue };
            let before = list.len();
            list.retain(|e| now.since(e.at) < GRACE);
            self.n_passed_on -= before - list.len();
            if list.is_empty() {
                self.passed_on.remove(&key);
            }
        }
        while let Some((_, key)) = self.waiting.pop_front_if(|(at, _)| now.since(*at) >= PATIENCE) {
            step();
            let Some(of_relay) = self.left.get_mut(&key.0) else { continue };
            let Some(left) = of_relay.get_mut(&key.1) else { continue };
            left.retain(|l| now.since(l.outbound.answered) < PATIENCE);
            if left.is_empty() {
                of_relay.remove(&key.1);
            }
            if of_relay.is_empty() {
                self.left.remove(&key.0);
            }
        }
    }

    /// Requests held, in and out.
    pub fn len(&self) -> usize {
        let left: usize = self.left.values().flat_map(|of| of.values()).map(|l| l.len()).sum();
        self.open.len() + self.n_passed_on + left
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.passed_on.is_empty() && self.left.is_empty()
    }

    /// Most requests held.
    pub fn limit(&self) -> usize {
        MAX_ENTERED
    }

    /// Requests that found no room.
    pub fn n_forgotten(&self) -> u64 {
        self.n_forgotten
    }
}

/// Before every other.
const FIRST: Id = (Nanos(0), ConnId(0), 0);

/// Settles what cannot be told apart and need not be, and gives up what never will be.
///
/// As many answers with the same bytes were passed on as outbound requests with that reply were waiting, and each can
/// have got one. So the answers belong to these requests, though it is not known which to which. The tenant is known all
/// the same if all the answers went to one tenant.
fn together(
    all: &mut [PassedOn],
    is_open: &dyn Fn(Id) -> bool,
    left: &mut SmallVec<[Left; 2]>,
    settled: &mut Vec<OriginFound>,
) {
    let mut rest: SmallVec<[Left; 2]> = std::mem::take(left);
    while let Some(reply) = rest.first().map(|l| l.outbound.reply) {
        let (alike, others): (SmallVec<[Left; 2]>, SmallVec<[Left; 2]>) =
            rest.into_iter().partition(|l| l.outbound.reply == reply);
        rest = others;
        let passed_on: SmallVec<[usize; 4]> = (0..)
            .zip(walk(all.iter()))
            .filter(|(_, e)| !e.claimed && (e.reply == reply || e.reply.is_none()))
            .filter(|(_, e)| alike.iter().any(|l| l.names(e)))
            .map(|(i, _)| i)
            .collect();
        let closed = passed_on.len() == alike.len() && pairs(&alike, all, &passed_on);
        // A reply that was not seen whole may equal any other reply.
        let certain =
            closed && reply.is_some() && passed_on.iter().all(|i| all.get(*i).is_some_and(|e| e.reply.is_some()));
        let over = || alike.iter().all(|l| !l.candidates.iter().any(|id| is_open(*id)));
        if !certain && !over() {
            left.extend(alike);
            continue;
        }
        let mut tenants = passed_on.iter().filter_map(|i| all.get(*i)).map(|e| e.inbound.tenant);
        let tenant = tenants.next().flatten();
        if certain && tenants.all(|t| t == tenant) {
            for l in &alike {
                settled.push(OriginFound { conn: l.outbound.conn, unit: l.outbound.unit, tenant, origin: None });
            }
        }
        // Each answer belonged to one of these requests, so none of them may decide another request later.
        for i in passed_on {
            if let Some(e) = all.get_mut(i) {
                e.claimed = true;
            }
        }
    }
}

/// Whether each of `left` can have its own of the answers `passed_on` (a perfect matching, by augmenting paths).
fn pairs(left: &[Left], entered: &[PassedOn], passed_on: &[usize]) -> bool {
    fn place(
        who: usize,
        left: &[Left],
        entered: &[PassedOn],
        passed_on: &[usize],
        tried: &mut [bool],
        owner: &mut [Option<usize>],
    ) -> bool {
        for (slot, index) in passed_on.iter().enumerate() {
            let fits = left.get(who).zip(entered.get(*index)).is_some_and(|(l, e)| l.names(e));
            let Some(seen) = tried.get_mut(slot).filter(|seen| fits && !**seen) else { continue };
            *seen = true;
            let before = owner.get(slot).copied().flatten();
            if before.is_none_or(|other| place(other, left, entered, passed_on, tried, owner)) {
                if let Some(o) = owner.get_mut(slot) {
                    *o = Some(who);
                }
                return true;
            }
        }
        false
    }
    let mut owner = vec![None; passed_on.len()];
    (0..left.len()).all(|who| place(who, left, entered, passed_on, &mut vec![false; passed_on.len()], &mut owner))
}

#[cfg(test)]
mod tests;
