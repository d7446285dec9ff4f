//! Stretches: a unit of work that lasts longer than the one who began it.
//!
//! A connection is lent to one request at a time, and mostly it is idle whenever it changes hands. A transaction that
//! nobody ended, or a reply that nobody waited for, keeps the unit open while the next borrower goes on in it. So each
//! further request of an open unit is looked at: may it still be for whoever sent the one before? If not, another
//! stretch begins, which is judged for itself. Where that is not certain, the stretch is nobody's rather than the wrong
//! one's: see `docs/decisions/0016-units-that-outlive-their-borrower.md`.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::borrow::{Alone, Borrow, OneThread};
use super::process::SharedProcess;
use crate::model::{ConnId, Nanos, Protocol, RequestKey, ServiceId, TenantId};

/// How it is known that a unit of work has changed hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// A trace id leads to another request.
    Traced,
    /// Whoever may have begun it has been answered, or has gone.
    Over,
    /// A value leads to another request.
    Valued,
    /// Another thread goes on, where requests stay with theirs.
    Thread,
    /// A transaction was begun inside of one.
    Begun,
}

/// A stretch that goes on where another left off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follows {
    /// How that is known.
    pub why: HandOver,
    /// The connection.
    pub conn: ConnId,
}

/// What else bears on whether a unit has changed hands.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The protocol of the connection.
    pub protocol: Protocol,
    /// A transaction is open: nobody else may use the connection meanwhile.
    pub held: bool,
    /// The tenant that the stretch has bound.
    pub bound: Option<TenantId>,
}

impl Borrow {
    /// Whether `next`, a further request of the same unit of work, is somebody else's.
    pub fn handed(&self, next: &Self, process: &SharedProcess, setting: &Setting) -> Option<HandOver> {
        // A pooler may change clients between requests, so only forwarded content tells them apart.
        if self.is_passed_on(process, setting.protocol) {
            return None;
        }
        if next.traces.iter().any(|trace| self.traces.contains(trace)) {
            return None;
        }
        if !next.traced.is_empty() {
            let before = if self.traced.is_empty() { self.candidates.as_slice() } else { self.traced.as_slice() };
            let unknown = self.traced.is_empty() && (self.crowded || self.too_early);
            let same = unknown || next.traced.iter().any(|key| before.contains(key));
            return (!same).then_some(HandOver::Traced);
        }
        if self.is_over(next, process) {
            return Some(HandOver::Over);
        }
        self.differs_in_values(next, process, setting).or_else(|| self.differs_in_thread(next, process))
    }

    /// Some request it may be for came in by the very protocol that it goes out in.
    pub fn is_passed_on(&self, process: &SharedProcess, protocol: Protocol) -> bool {
        self.candidates.iter().any(|key| process.request(*key).is_some_and(|r| r.protocol == protocol))
    }

    /// Whether everybody it may be for has been answered or has gone, and somebody else is there.
    fn is_over(&self, next: &Self, process: &SharedProcess) -> bool {
        let others = |known: &[RequestKey]| {
            next.candidates.iter().any(|key| !known.contains(key) && process.request(*key).is_some_and(|r| !r.deserted))
        };
        if !self.traced.is_empty() {
            return self.traced.iter().all(|key| gone(process, *key)) && others(&self.traced);
        }
        if self.crowded || self.too_early {
            return false;
        }
        // Work that no request caused goes on without one, unless its request was missed.
        if self.candidates.is_empty() {
            return !process.is_whole(self.begun) && others(&[]);
        }
        // The confirmation of a job is not always the end of the work on it.
        let early = |key: &RequestKey| process.request(*key).is_some_and(|r| r.job.is_some());
        if !process.acks.end_the_work() && self.candidates.iter().any(early) {
            return false;
        }
        self.candidates.iter().all(|key| gone(process, *key)) && others(&self.candidates)
    }

    fn differs_in_values(&self, next: &Self, process: &SharedProcess, setting: &Setting) -> Option<HandOver> {
        let whom = |keys: &[RequestKey]| keys.first().and_then(|key| process.request(*key)?.whom.tenant());
        let (before, after) = (whom(&self.valued), whom(&next.valued));
        let agreed = setting.bound.is_none() || setting.bound == before;
        if !self.valued.is_empty() && agreed && self.valued.iter().all(|key| gone(process, *key)) {
            let others = next.candidates.iter().any(|key| !self.valued.contains(key));
            return others.then_some(HandOver::Over);
        }
        // Both requests are one tenant's, so the work is for that tenant either way.
        let bound = setting.bound.or(before);
        if next.valued.is_empty() || (after.is_some() && after == bound) {
            return None;
        }
        let known = match self.valued.as_slice() {
            [] if self.crowded || self.too_early => return None,
            [] => self.candidates.as_slice(),
            valued => valued,
        };
        (!next.valued.iter().any(|key| known.contains(key))).then_some(HandOver::Valued)
    }

    fn differs_in_thread(&self, next: &Self, process: &SharedProcess) -> Option<HandOver> {
        let (OneThread::Only(before), OneThread::Only(after)) = (self.thread, next.thread) else { return None };
        let other = before != after && process.affinity.holds() && process.affinity.serves(after, next.begun);
        other.then_some(HandOver::Thread)
    }

    /// `next`, number `request`, goes on with it.
    pub fn goes_on(&mut self, next: &Self, request: u64, process: &SharedProcess, held: bool) {
        let leads = !next.traced.is_empty() || (self.traced.is_empty() && !next.valued.is_empty());
        if leads {
            self.tail = None;
        } else if self.tail.is_none() && !(self.traced.is_empty() && self.valued.is_empty()) {
            self.tail = Some((request, next.begun));
        }
        let alone = next.candidates.iter().all(|key| gone(process, *key));
        if alone && !self.candidates.is_empty() && self.alone.is_none() {
            self.alone = Some(Alone { from: request, touched: false });
        }
        match next.thread {
            OneThread::Unknown => {}
            OneThread::Only(thread) => self.thread.and(Some(thread)),
            OneThread::Several => self.thread = OneThread::Several,
        }
        add(&mut self.traces, &next.traces, super::borrow::MAX_TRACES);
        add(&mut self.traced, &next.traced, super::borrow::MAX_LEADS);
        add(&mut self.valued, &next.valued, super::borrow::MAX_LEADS);
        add(&mut self.named, &next.named, super::borrow::MAX_NAMED);
        self.torn |= next.torn;
        self.trace_tenant = self.trace_tenant.or(next.trace_tenant);
        // Without a transaction the pool may have lent the connection to any request that is in flight now.
        if !held {
            add(&mut self.candidates, &next.candidates, super::borrow::MAX_CANDIDATES);
            self.crowded |= next.crowded || self.candidates.len() >= super::borrow::MAX_CANDIDATES;
        }
    }

    /// It goes on where `before` left off, in one unit of work.
    pub fn goes_on_after(&mut self, before: &Self, follows: Follows, process: &SharedProcess) {
        let why = follows.why;
        self.follows = Some(follows);
        // The borrower before may still be at work, or has gone on after its answer before. Then values, threads and
        // requests in flight may point to the wrong request.
        let there =
            why == HandOver::Valued && before.valued.iter().chain(&before.candidates).any(|k| !gone(process, *k));
        self.torn |= self.traced.is_empty()
            && (there || (why == HandOver::Over && before.alone.is_some_and(|alone| alone.touched)));
    }

    /// Whether it may be for `key` by elimination: where it goes on in somebody else's unit, only if that request has
    /// caused no other work. Else the other may have gone on after its answer, beside work that was `key`'s own.
    pub(super) fn may_be_all_of(&self, key: RequestKey, process: &SharedProcess) -> bool {
        let Some(follows) = self.follows.filter(|f| f.why != HandOver::Begun) else { return true };
        let Some(request) = process.request(key) else { return false };
        let services = self.shapes.iter().map(|shape| shape.0);
        request.ended.is_some_and(|ended| {
            services.into_iter().all(|s| process.works.only(request.arrived, ended, (self.begun, follows.conn, s)))
        })
    }

    /// What it carried nothing in, between what leads to one and what leads to another: taken off, as a stretch that is
    /// nobody's. Number of its first request, and when that began.
    pub fn takes_off_tail(&mut self) -> Option<(u64, Nanos, Self)> {
        let (request, begun) = self.tail.take()?;
        Some((request, begun, Self { torn: true, shapes: SmallVec::new(), ..self.clone() }))
    }
}

/// Whether a request has been answered, or its sender has gone.
fn gone(process: &SharedProcess, key: RequestKey) -> bool {
    process.request(key).is_none_or(|r| r.ended.is_some() || r.deserted)
}

fn add<T: Copy + PartialEq, const N: usize>(all: &mut SmallVec<[T; N]>, more: &[T], most: usize)
where
    [T; N]: smallvec::Array<Item = T>,
{
    for one in more {
        if all.len() < most && !all.contains(one) {
            all.push(*one);
        }
    }
}

/// Units of work that have lately begun in a process: whether a request has caused any other than the one in question.
#[derive(Debug, Default)]
pub struct Works {
    latest: VecDeque<Work>,
    /// When something of a connection that the process opened was last missed: work may have begun there unseen.
    missed: Option<Nanos>,
}

/// When a unit or stretch began, its connection, the service that it uses.
type Work = (Nanos, ConnId, ServiceId);

/// Most remembered.
const MAX_WORKS: usize = 4096;

/// How long after something was missed it is not known what work there was.
const BLIND: Nanos = Nanos::secs(10);

impl Works {
    /// Data was worked on.
    pub fn add(&mut self, work: Work) {
        if self.latest.len() >= MAX_WORKS {
            self.latest.pop_front();
        }
        self.latest.push_back(work);
    }

    /// Something was missed.
    pub fn miss(&mut self, at: Nanos) {
        self.missed = self.missed.max(Some(at));
    }

    /// Whether from `from` to `to` no work on its service began but `work`; not, where that is not known.
    fn only(&self, from: Nanos, to: Nanos, work: Work) -> bool {
        let known = self.missed.is_none_or(|missed| from > missed && from.since(missed) >= BLIND);
        let remembered = self.latest.len() < MAX_WORKS || self.latest.front().is_some_and(|(at, ..)| *at < from);
        let other = |w: &Work| *w != work && w.2 == work.2 && (from..=to).contains(&w.0);
        known && remembered && !self.latest.iter().any(other)
    }
}
