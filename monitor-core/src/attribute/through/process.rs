//! A shared process: a workload that takes requests of several tenants and works for them on connections that it opens
//! itself. Which requests are in flight there, and which have just ended.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::acks::Acks;
use super::affinity::Affinity;
use super::agenda::Agenda;
use super::quiet::Quiet;
use super::rarity::Rarity;
use super::replies::{Replies, Shifted};
use super::stretch::Works;
use crate::model::queue::Job;
use crate::model::steps::walk;
use crate::model::{
    ConnId, EvidenceClass, Fingerprint, Nanos, Protocol, RequestKey, RequestNo, ServiceId, Sym, TenantId, ThreadId,
};

/// For whom a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// A tenant, and how well that is known.
    Tenant(TenantId, EvidenceClass),
    /// It is being found out: the sender is a shared process itself.
    NotYet,
    /// Nobody can say.
    Nobody,
}

impl Whom {
    /// Before and after all others, in the order of the type.
    pub const FIRST: Self = Self::Tenant(TenantId(0), EvidenceClass::Inferred);
    /// As above.
    pub const LAST: Self = Self::Nobody;

    /// The tenant, where it is known.
    pub fn tenant(self) -> Option<TenantId> {
        match self {
            Self::Tenant(tenant, _) => Some(tenant),
            Self::NotYet | Self::Nobody => None,
        }
    }
}

/// A request that came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// For whom.
    pub whom: Whom,
    /// What it is written in.
    pub protocol: Protocol,
    /// When its head was complete.
    pub arrived: Nanos,
    /// When its answer was complete.
    pub ended: Option<Nanos>,
    /// The thread that read and answered it; `None`: not known, or two of them.
    pub thread: Option<ThreadId>,
    /// The tool it calls, where it is such a call: service, method, tool.
    pub call: Option<(ServiceId, Sym, Sym)>,
    /// The job that it is, where it was handed out by a queue.
    pub job: Option<Job>,
    /// When the work on it ends is not known: it counts as in flight for a while, and proves nothing by it.
    pub loose: bool,
    /// Its sender has gone before the answer: likewise.
    pub deserted: bool,
    /// Its turn in the order of arrival.
    no: u64,
    /// Trace and request ids it carries.
    traces: SmallVec<[Fingerprint; 1]>,
    /// Other values it carries.
    values: SmallVec<[Fingerprint; 8]>,
    /// Values of its answer, those it carried itself left out.
    answer: SmallVec<[Fingerprint; 8]>,
}

/// Most requests in flight in one process; more, and nobody can be singled out.
const MAX_OPEN: usize = 1024;
/// Most requests that are remembered after their end.
const MAX_ENDED: usize = 8192;
/// Most values kept of one request.
const MAX_VALUES: usize = 64;
/// Most trace ids kept of one request.
const MAX_TRACES: usize = 4;
/// How long an ended request is remembered.
const REMEMBERED: Nanos = Nanos::secs(4);
/// How long after something unreadable or lost it is not known who is in flight.
const BLIND: Nanos = Nanos::secs(10);
/// How long a process may work on a request whose sender has gone.
pub const DESERTED: Nanos = BLIND;

/// A process that works for several tenants.
#[derive(Debug, Default)]
pub struct SharedProcess {
    requests: FxHashMap<RequestKey, Request>,
    /// In order of arrival.
    open: BTreeMap<u64, RequestKey>,
    /// The same by connection and number there.
    by_conn: BTreeSet<RequestKey>,
    n_arrived: u64,
    /// How many of those in flight are deserted.
    n_deserted: usize,
    /// How many of the others are for whom; `None`: that is not known.
    open_for: FxHashMap<Option<TenantId>, usize>,
    ended: VecDeque<(Nanos, RequestKey)>,
    by_value: Carriers,
    by_trace: Carriers,
    /// What was in flight when it began to be followed has been entered.
    pub followed: bool,
    /// When something was last missed: lost, unreadable, too much.
    missed: Option<Nanos>,
    /// Connections on which requests may wait that cannot be read yet.
    hidden: FxHashSet<ConnId>,
    /// Whether it works when nobody asks it to.
    pub quiet: Quiet,
    /// Whether a request stays with one thread.
    pub affinity: Affinity,
    /// Values of requests that came in.
    pub asked: Rarity,
    /// Values of requests that went out.
    pub worked: Rarity,
    /// What came back.
    pub replies: Replies,
    /// When jobs are confirmed, as far as there are jobs.
    pub acks: Acks,
    /// Work that has lately begun.
    pub works: Works,
    /// In which order it takes up its work.
    pub agenda: Agenda,
    /// Where its jobs come from.
    brokers: SmallVec<[ServiceId; 1]>,
}

/// Requests in flight by what they carry, sorted for each value.
#[derive(Debug, Default)]
struct Carriers(FxHashMap<Fingerprint, SmallVec<[RequestKey; 1]>>);

impl Carriers {
    fn add(&mut self, value: Fingerprint, key: RequestKey) {
        let keys = self.0.entry(value).or_default();
        if let Err(at) = keys.binary_search(&key) {
            keys.insert(at, key);
        }
    }

    fn remove(&mut self, value: Fingerprint, key: RequestKey) {
        let Entry::Occupied(mut keys) = self.0.entry(value) else { return };
        if let Ok(at) = keys.get().binary_search(&key) {
            keys.get_mut().remove(at);
        }
        if keys.get().is_empty() {
            keys.remove();
        }
    }

    fn of(&self, value: Fingerprint) -> &[RequestKey] {
        self.0.get(&value).map_or(&[], |keys| keys)
    }
}

/// Most brokers told apart.
const MAX_BROKERS: usize = 8;

impl SharedProcess {
    /// A request has come in.
    pub fn arrived(&mut self, key: RequestKey, whom: Whom, protocol: Protocol, at: Nanos) {
        if self.requests.contains_key(&key) {
            return;
        }
        if self.open.len() >= MAX_OPEN {
            self.miss(at);
            return;
        }
        if self.open.is_empty() {
            self.quiet.turn(at, true);
        }
        self.n_arrived += 1;
        self.open.insert(self.n_arrived, key);
        self.by_conn.insert(key);
        self.count(whom, true);
        self.asked.text();
        let request = Request {
            whom,
            protocol,
            arrived: at,
            ended: None,
            thread: None,
            call: None,
            job: None,
            loose: false,
            deserted: false,
            no: self.n_arrived,
            traces: SmallVec::new(),
            values: SmallVec::new(),
            answer: SmallVec::new(),
        };
        self.requests.insert(key, request);
    }

    /// A request carries the id of a trace.
    pub fn carries_trace(&mut self, key: RequestKey, trace: Fingerprint) {
        if let Some(r) = self.requests.get_mut(&key)
            && r.ended.is_none()
            && r.traces.len() < MAX_TRACES
            && !r.traces.contains(&trace)
        {
            r.traces.push(trace);
            self.by_trace.add(trace, key);
        }
    }

    /// A request carries a value.
    pub fn carries_value(&mut self, key: RequestKey, value: Fingerprint) {
        if let Some(r) = self.requests.get_mut(&key)
            && r.ended.is_none()
            && r.values.len() < MAX_VALUES
            && !r.values.contains(&value)
        {
            r.values.push(value);
            self.asked.seen(value);
            self.by_value.add(value, key);
        }
    }

    /// The answer to a request carries a value.
    pub fn answers_with(&mut self, key: RequestKey, value: Fingerprint) {
        if let Some(r) = self.requests.get_mut(&key)
            && r.answer.len() < MAX_VALUES
            && !r.values.contains(&value)
            && !r.answer.contains(&value)
        {
            r.answer.push(value);
        }
    }

    /// Whether a request that was answered a while ago was answered with the reply before its own.
    pub fn check_answer(&mut self, key: RequestKey) -> Option<Shifted> {
        let r = self.requests.get_mut(&key)?;
        let (ended, answer) = (r.ended?, std::mem::take(&mut r.answer));
        if answer.is_empty() { None } else { self.replies.answered(r.arrived, ended, &answer) }
    }

    /// The only tenant with requests in flight that somebody waits for. For naming only: something may have been missed.
    pub fn only_tenant(&self) -> Option<TenantId> {
        if self.open_for.len() == 1 { self.open_for.keys().next().copied().flatten() } else { None }
    }

    /// One more, or one less, is in flight.
    fn count(&mut self, whom: Whom, more: bool) {
        match self.open_for.entry(whom.tenant()) {
            Entry::Vacant(none) if more => drop(none.insert(1)),
            Entry::Vacant(_) => {}
            Entry::Occupied(mut n) if more => *n.get_mut() += 1,
            Entry::Occupied(mut n) => {
                *n.get_mut() -= 1;
                if *n.get() == 0 {
                    n.remove();
                }
            }
        }
    }

    /// A request has been answered whole, by `thread` if that is known for certain.
    pub fn answered(&mut self, key: RequestKey, at: Nanos, thread: Option<ThreadId>) {
        let Some(r) = self.requests.get_mut(&key).filter(|r| r.ended.is_none()) else { return };
        r.ended = Some(at);
        r.thread = thread;
        let (values, traces) = (std::mem::take(&mut r.values), std::mem::take(&mut r.traces));
        let (no, whom, deserted) = (r.no, r.whom, r.deserted);
        if deserted {
            self.agenda.gone(key);
        } else {
            self.agenda.answered(key);
        }
        for value in values {
            self.by_value.remove(value, key);
        }
        for trace in traces {
            self.by_trace.remove(trace, key);
        }
        self.by_conn.remove(&key);
        if self.open.remove(&no).is_some() {
            if deserted {
                self.n_deserted = self.n_deserted.saturating_sub(1);
            } else {
                self.count(whom, false);
            }
        }
        if self.open.is_empty() {
            self.quiet.turn(at, false);
        }
        self.ended.push_back((at, key));
        self.forget(at);
    }

    /// Nobody waits for the answer any more; whether the process still works on it cannot be known.
    pub fn abandoned(&mut self, key: RequestKey, at: Nanos) {
        if self.requests.get(&key).is_some_and(|r| r.ended.is_none()) {
            self.answered(key, at, None);
            self.miss(at);
        }
    }

    /// Its sender has gone. Whether the process still works on it cannot be known: it counts as in flight until
    /// [`Self::answered`] is told of it, which is for the caller to do after [`DESERTED`]. Whether it was in flight.
    pub fn deserted(&mut self, key: RequestKey) -> bool {
        let Some(r) = self.requests.get_mut(&key).filter(|r| r.ended.is_none() && !r.deserted) else { return false };
        r.deserted = true;
        let whom = r.whom;
        self.n_deserted += 1;
        self.count(whom, false);
        true
    }

    /// Whether of all that was in flight at `at`, and since, it is known when it ends.
    pub fn is_clear(&self, at: Nanos) -> bool {
        self.n_deserted == 0 && self.is_whole(at)
    }

    fn forget(&mut self, now: Nanos) {
        while let Some(&(at, key)) = self.ended.front() {
            if now.since(at) < REMEMBERED && self.ended.len() <= MAX_ENDED {
                break;
            }
            self.ended.pop_front();
            self.requests.remove(&key);
        }
    }

    /// A request that has come in is a job.
    pub fn record_job(&mut self, key: RequestKey, job: Job, loose: bool) {
        if !self.brokers.contains(&job.service) && self.brokers.len() < MAX_BROKERS {
            self.brokers.push(job.service);
        }
        if let Some(r) = self.requests.get_mut(&key) {
            r.job = Some(job);
            r.loose = loose;
        }
    }

    /// A job was confirmed; whether the work on it is over.
    pub fn confirmed(&mut self, key: RequestKey, at: Nanos, thread: Option<ThreadId>) -> bool {
        let Some(r) = self.requests.get_mut(&key).filter(|r| r.ended.is_none()) else { return true };
        let tight = self.acks.confirmed(key, r.arrived, at, thread, self.open.len() == 1);
        r.loose |= !tight;
        tight && !r.loose
    }

    /// Whether it takes jobs from `service`: what it does there is partly about the jobs, not for them.
    pub fn takes_jobs_from(&self, service: ServiceId) -> bool {
        self.brokers.contains(&service)
    }

    /// It is now known what a request calls.
    pub fn calls(&mut self, key: RequestKey, service: ServiceId, method: Sym, tool: Sym) {
        if let Some(r) = self.requests.get_mut(&key) {
            r.call = Some((service, method, tool));
        }
    }

    /// It is now known for whom a request came in.
    pub fn identified(&mut self, key: RequestKey, whom: Whom) {
        let Some(r) = self.requests.get_mut(&key).filter(|r| r.whom == Whom::NotYet) else { return };
        let before = std::mem::replace(&mut r.whom, whom);
        if r.ended.is_none() && !r.deserted {
            self.count(before, false);
            self.count(whom, true);
        }
    }

    /// Something was missed: a request may be in flight that nobody has seen.
    pub fn miss(&mut self, at: Nanos) {
        self.agenda.forget();
        self.missed = self.missed.max(Some(at));
    }

    /// What came in on `conn` cannot be read yet: a request may be in it.
    pub fn hides(&mut self, conn: ConnId) {
        self.agenda.forget();
        self.hidden.insert(conn);
    }

    /// It can be, and was told by now; or never will be, and counts as missed ([`Self::miss`]).
    pub fn reveals(&mut self, conn: ConnId) {
        self.hidden.remove(&conn);
    }

    /// Whether everything that was in flight at `at`, and since, is known.
    pub fn is_whole(&self, at: Nanos) -> bool {
        if !self.hidden.is_empty() {
            return false;
        }
        // A loss noticed after `at` may be of a request that came in before `at`, because losses are noticed late.
        self.missed.is_none_or(|missed| at > missed && at.since(missed) >= BLIND)
    }

    /// Requests in flight, in order of arrival.
    pub fn open(&self) -> impl ExactSizeIterator<Item = RequestKey> + '_ {
        self.open.values().copied()
    }

    /// Those that came in on one connection, with their head alone or whole.
    pub fn open_on(&self, conn: ConnId) -> SmallVec<[RequestKey; 2]> {
        walk(self.by_conn.range((conn, RequestNo::Sent(0))..=(conn, RequestNo::Delivery(u64::MAX)))).copied().collect()
    }

    /// Requests in flight that carry the id of this trace.
    pub fn with_trace(&self, trace: Fingerprint) -> &[RequestKey] {
        self.by_trace.of(trace)
    }

    /// Requests in flight that carry this value.
    pub fn with_value(&self, value: Fingerprint) -> &[RequestKey] {
        self.by_value.of(value)
    }

    /// A request that is in flight or has lately ended.
    pub fn request(&self, key: RequestKey) -> Option<&Request> {
        self.requests.get(&key)
    }

    /// Requests held.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Whether none is held.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }
}
