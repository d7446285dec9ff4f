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

use std::collections::VecDeque;
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::{ConnId, Fingerprint, Nanos, ServiceId, TenantId, UnitNo, WorkloadId};

/// Where requests enter and leave: a workload on this host, or an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

#[derive(Clone, Copy, Debug)]
struct Entered {
    inbound: Inbound,
    /// When its answer was passed on, and what that was.
    passed_on: Option<(Nanos, Option<Fingerprint>)>,
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
    /// Requests it may have come in as.
    candidates: SmallVec<[(ConnId, u64); 4]>,
}

/// The origin of an outbound request's unit of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
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

/// Connections that a request may have come in on, with their tenants.
pub type Origins = SmallVec<[(ConnId, Option<TenantId>); 4]>;

impl Entered {
    fn is(&self, conn: ConnId, request: u64) -> bool {
        self.inbound.conn == conn && self.inbound.request == request
    }

    /// The answer passed on was seen whole.
    fn whole(&self) -> bool {
        self.passed_on.is_some_and(|(_, reply)| reply.is_some())
    }
}

impl Left {
    fn names(&self, e: &Entered) -> bool {
        self.candidates.contains(&(e.inbound.conn, e.inbound.request))
    }

    /// Whether the answer passed on to `e` can be this request's.
    fn fits(&self, e: &Entered, reply: Option<Fingerprint>) -> bool {
        self.names(e)
            && match (self.outbound.reply, reply) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
    }
}

/// Most requests remembered; more and the oldest are forgotten, which makes answers "several" or none.
const MAX_ENTERED: usize = 65_536;
/// Most connections told apart as the origin of one request: beyond that it is anybody's.
const MAX_CANDIDATES: usize = 128;
/// Most outbound requests with the same bytes that wait to be told apart. A relay passes answers on within
/// microseconds: more than a few wait only where something is missing.
const MAX_LEFT: usize = 16;
/// How long an answered request may still turn out to be an origin, should events come slightly out of order.
const GRACE: Nanos = Nanos::millis(250);
/// How long an outbound request waits for its answer to be passed on.
const PATIENCE: Nanos = Nanos::secs(2);

/// Requests on their way through relays.
#[derive(Debug, Default)]
pub struct Forwarding {
    entered: FxHashMap<Key, SmallVec<[Entered; 2]>>,
    left: FxHashMap<Key, SmallVec<[Left; 2]>>,
    /// Keys of both tables in order of time, for forgetting.
    ageing: VecDeque<(Nanos, Key)>,
    n_entered: usize,
    n_forgotten: u64,
    /// Requests that went out before this may be ones whose way in was lost.
    trusted_from: Nanos,
}

impl Forwarding {
    /// A request has entered `relay`.
    pub fn enter(&mut self, relay: Relay, print: Fingerprint, inbound: Inbound) {
        if self.n_entered >= MAX_ENTERED {
            // What is not remembered is as good as lost.
            self.n_forgotten += 1;
            self.disturbed_all(inbound.begun);
            return;
        }
        let list = self.entered.entry((relay, print)).or_default();
        if list.iter().any(|e| e.is(inbound.conn, inbound.request)) {
            return;
        }
        list.push(Entered { inbound, passed_on: None, claimed: false });
        self.n_entered += 1;
    }

    /// An outbound request has been answered: where it may have come in; `None`: anywhere. Unless that is nowhere, it
    /// waits for its answer to be passed on.
    pub fn leave(
        &mut self,
        relay: Relay,
        print: Fingerprint,
        outbound: Outbound,
        settled: &mut Vec<Settled>,
    ) -> Option<Origins> {
        let key = (relay, print);
        let Some(list) = self.entered.get(&key) else { return Some(Origins::new()) };
        let mut candidates = SmallVec::new();
        let mut origins = Origins::new();
        for e in list {
            let possible = !e.claimed
                && e.inbound.begun <= outbound.begun
                && e.inbound.service != outbound.service
                && e.passed_on.is_none_or(|(at, _)| at >= outbound.answered);
            if possible {
                if candidates.len() >= MAX_CANDIDATES {
                    self.n_forgotten += 1;
                    return None;
                }
                candidates.push((e.inbound.conn, e.inbound.request));
                origins.push((e.inbound.conn, e.inbound.tenant));
            }
        }
        // After a loss it may have come in unseen: then it stays unsettled.
        if !candidates.is_empty() && outbound.begun >= self.trusted_from {
            let left = self.left.entry(key).or_default();
            left.push(Left { outbound, candidates });
            // The oldest will hardly be told apart any more.
            let given_up = (left.len() > MAX_LEFT).then(|| left.remove(0));
            if let (Some(l), Some(entered)) = (given_up, self.entered.get_mut(&key)) {
                // Some answer passed on was its own: none may be singled out for another request later.
                for e in entered.iter_mut().filter(|e| e.passed_on.is_some()) {
                    e.claimed |= l.names(e);
                }
            }
            self.ageing.push_back((outbound.answered, key));
            self.decide(key, settled);
        }
        Some(origins)
    }

    /// A request that entered `relay` has been answered to its sender.
    #[expect(clippy::too_many_arguments, reason = "one fact about one request; a struct would be used once")]
    pub fn passed_on(
        &mut self,
        relay: Relay,
        print: Fingerprint,
        conn: ConnId,
        request: u64,
        at: Nanos,
        reply: Option<Fingerprint>,
        settled: &mut Vec<Settled>,
    ) {
        self.age(at);
        let key = (relay, print);
        let Some(e) = self.entered.get_mut(&key).and_then(|l| l.iter_mut().find(|e| e.is(conn, request))) else {
            return;
        };
        e.passed_on = Some((at, reply));
        self.ageing.push_back((at, key));
        if let Some(left) = self.left.get_mut(&key) {
            // Passed on before the outbound request was answered: not its origin.
            for l in left.iter_mut().filter(|l| l.outbound.answered > at) {
                l.candidates.retain(|c| *c != (conn, request));
            }
            left.retain(|l| !l.candidates.is_empty());
            self.decide(key, settled);
        } else if let Some(list) = self.entered.get_mut(&key) {
            // Nobody waits: in causal order nobody will, for this one.
            list.retain(|e| !e.is(conn, request));
            self.n_entered -= 1;
            if list.is_empty() {
                self.entered.remove(&key);
            }
        }
    }

    /// Settles what can be settled among the requests with the same bytes.
    fn decide(&mut self, key: Key, settled: &mut Vec<Settled>) {
        let (Some(entered), Some(left)) = (self.entered.get_mut(&key), self.left.get_mut(&key)) else { return };
        // One by one: an answer passed on that can only be one outbound request's.
        let mut at = 0;
        while let Some(e) = entered.get_mut(at) {
            at += 1;
            let Some((_, reply)) = e.passed_on.filter(|_| !e.claimed) else { continue };
            let mut fitting = left.iter().enumerate().filter(|(_, l)| l.fits(e, reply)).map(|(i, _)| i);
            if let (Some(only), None) = (fitting.next(), fitting.next()) {
                e.claimed = true;
                let (conn, request, tenant) = (e.inbound.conn, e.inbound.request, e.inbound.tenant);
                let l = left.swap_remove(only);
                settled.push(Settled { conn: l.outbound.conn, unit: l.outbound.unit, tenant, origin: Some(conn) });
                for l in left.iter_mut() {
                    l.candidates.retain(|c| *c != (conn, request));
                }
                left.retain(|l| !l.candidates.is_empty());
                // What it took away may decide another.
                at = 0;
            }
        }
        together(entered, left, settled);
        // An answer passed on that nobody waiting can be the origin of is done with.
        let before = entered.len();
        entered.retain(|e| e.passed_on.is_none() || (!e.claimed && left.iter().any(|l| l.names(e))));
        self.n_entered -= before - entered.len();
        if entered.is_empty() {
            self.entered.remove(&key);
        }
        if left.is_empty() {
            self.left.remove(&key);
        }
    }

    /// Something of what passes through `relay` was lost: who still waits cannot be settled by elimination.
    pub fn disturbed(&mut self, relay: Relay) {
        self.left.retain(|(r, _), _| *r != relay);
    }

    /// Events were lost, and nobody can say whose. For a while, what goes out may have come in unseen.
    pub fn disturbed_all(&mut self, at: Nanos) {
        self.left.clear();
        self.trusted_from = at + PATIENCE;
    }

    /// A connection is gone: its open requests will not be answered.
    pub fn close(&mut self, relay: Relay, print: Fingerprint, conn: ConnId, at: Nanos) {
        let key = (relay, print);
        if let Some(list) = self.entered.get_mut(&key) {
            for e in list.iter_mut().filter(|e| e.inbound.conn == conn && e.passed_on.is_none()) {
                // It may have gone out and nobody will be told: whoever else waits cannot be singled out by it.
                e.claimed = true;
                e.passed_on = Some((at, None));
            }
            self.ageing.push_back((at, key));
        }
    }

    /// Forgets what is over.
    pub fn age(&mut self, now: Nanos) {
        while let Some(&(at, key)) = self.ageing.front() {
            if now.since(at) < GRACE {
                break;
            }
            self.ageing.pop_front();
            if let Some(list) = self.entered.get_mut(&key) {
                let before = list.len();
                list.retain(|e| e.passed_on.is_none_or(|(at, _)| now.since(at) < GRACE));
                self.n_entered -= before - list.len();
                if list.is_empty() {
                    self.entered.remove(&key);
                }
            }
            if let Some(waiting) = self.left.get_mut(&key) {
                let older = |w: &Left| now.since(w.outbound.answered) >= PATIENCE;
                let keep = waiting.iter().any(|w| !older(w));
                waiting.retain(|w| !older(w));
                if waiting.is_empty() {
                    self.left.remove(&key);
                } else if keep {
                    self.ageing.push_back((now, key));
                }
            }
        }
    }

    /// Requests held, in and out.
    pub fn len(&self) -> usize {
        self.n_entered + self.left.values().map(|l| l.len()).sum::<usize>()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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

/// Settles what cannot be told apart and need not be, and gives up what never will be.
///
/// As many answers with the same bytes were passed on as outbound requests with that reply were waiting, and each can
/// have got one: so these belong to those, whichever is whose. That says for whom they were if all went to one tenant.
fn together(entered: &mut [Entered], left: &mut SmallVec<[Left; 2]>, settled: &mut Vec<Settled>) {
    let mut rest: SmallVec<[Left; 2]> = std::mem::take(left);
    while let Some(reply) = rest.first().map(|l| l.outbound.reply) {
        let (alike, others): (SmallVec<[Left; 2]>, SmallVec<[Left; 2]>) =
            rest.into_iter().partition(|l| l.outbound.reply == reply);
        rest = others;
        let passed_on: SmallVec<[usize; 4]> = (0..)
            .zip(entered.iter())
            .filter(|(_, e)| !e.claimed && e.passed_on.is_some_and(|(_, r)| r == reply || r.is_none()))
            .filter(|(_, e)| alike.iter().any(|l| l.names(e)))
            .map(|(i, _)| i)
            .collect();
        let closed = passed_on.len() == alike.len() && pairs(&alike, entered, &passed_on);
        // A reply that was not seen whole could be any other's too.
        let certain =
            closed && reply.is_some() && passed_on.iter().all(|i| entered.get(*i).is_some_and(Entered::whole));
        let over = || alike.iter().all(|l| !entered.iter().any(|e| e.passed_on.is_none() && l.names(e)));
        if !certain && !over() {
            left.extend(alike);
            continue;
        }
        let mut tenants = passed_on.iter().filter_map(|i| entered.get(*i)).map(|e| e.inbound.tenant);
        let tenant = tenants.next().flatten();
        if certain && tenants.all(|t| t == tenant) {
            for l in &alike {
                settled.push(Settled { conn: l.outbound.conn, unit: l.outbound.unit, tenant, origin: None });
            }
        }
        // Each of them was somebody's origin: none may be singled out for another request later.
        for i in passed_on {
            if let Some(e) = entered.get_mut(i) {
                e.claimed = true;
            }
        }
    }
}

/// Whether each of `left` can have its own of the answers `passed_on` (a perfect matching, by augmenting paths).
fn pairs(left: &[Left], entered: &[Entered], passed_on: &[usize]) -> bool {
    fn place(
        who: usize,
        left: &[Left],
        entered: &[Entered],
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
