//! One unit of work on a connection that a process opened, or one stretch of it: what is known of whom it may be for.

use smallvec::SmallVec;

use super::process::SharedProcess;
use super::quiet::Shape;
use super::stretch::Follows;
use crate::model::steps::walk;
use crate::model::{Fingerprint, Nanos, RequestKey, TenantId, ThreadId};

/// Most requests in flight told apart for one unit of work.
pub(super) const MAX_CANDIDATES: usize = 64;
/// Most requests that its trace ids or values are remembered to lead to.
pub(super) const MAX_LEADS: usize = 64;
/// Most tenants named in one unit of work that are told apart.
pub(super) const MAX_NAMED: usize = 4;
/// Most kinds of work in one unit.
const MAX_SHAPES: usize = 8;
/// Most ids of traces kept of one unit, whether or not they lead anywhere.
pub(super) const MAX_TRACES: usize = 4;

/// Which thread did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OneThread {
    /// Not told.
    #[default]
    Unknown,
    /// This one alone.
    Only(ThreadId),
    /// More than one.
    Several,
}

impl OneThread {
    /// It was done by `thread`, too.
    pub fn and(&mut self, thread: Option<ThreadId>) {
        *self = match (*self, thread) {
            (before, None) => before,
            (Self::Unknown, Some(t)) => Self::Only(t),
            (Self::Only(before), Some(t)) if before == t => Self::Only(t),
            _ => Self::Several,
        };
    }
}

/// The end of a unit of work that went on when nobody was in flight any more.
#[derive(Clone, Copy, Debug)]
pub struct Alone {
    /// Its first request.
    pub from: u64,
    /// Data operations were part of it.
    pub touched: bool,
}

/// What one unit of work shows of its origin.
#[derive(Clone, Debug)]
pub struct Borrow {
    /// When it began.
    pub begun: Nanos,
    /// Requests in flight then.
    pub candidates: SmallVec<[RequestKey; 4]>,
    /// More than can be told apart.
    pub crowded: bool,
    /// It began in the very moment in which the process began to be followed: what was in flight was not known yet.
    pub too_early: bool,
    /// Who sent its requests.
    pub thread: OneThread,
    /// Requests in flight whose trace or request id it carried.
    pub traced: SmallVec<[RequestKey; 1]>,
    /// Requests in flight, of one tenant for each value, that carry a rare value which it carried.
    pub valued: SmallVec<[RequestKey; 2]>,
    /// Kinds of data operations in it.
    pub shapes: SmallVec<[Shape; 2]>,
    /// Tenants that it names by their own names.
    pub named: SmallVec<[TenantId; 2]>,
    /// When its last data operation was answered.
    pub done: Nanos,
    /// It goes on in a unit that somebody else began.
    pub follows: Option<Follows>,
    /// What it carries leads to two tenants, or it cannot be told whether it is for whom it seems to be:
    /// something was missed, too.
    pub torn: bool,
    /// Where it went on after its answer, with nobody in flight any more.
    pub alone: Option<Alone>,
    /// Ids of traces that it carries.
    pub(super) traces: SmallVec<[Fingerprint; 1]>,
    /// Whom its traces lead to.
    pub(super) trace_tenant: Option<TenantId>,
    /// Where its requests began that carry nothing, after the latest that leads to somebody: number, time.
    pub(super) tail: Option<(u64, Nanos)>,
}

impl Borrow {
    /// A unit of work begins.
    pub fn begin(process: &SharedProcess, at: Nanos) -> Self {
        let open = process.open();
        Self {
            begun: at,
            crowded: open.len() > MAX_CANDIDATES,
            candidates: walk(open.take(MAX_CANDIDATES)).collect(),
            too_early: !process.followed,
            thread: OneThread::Unknown,
            traced: SmallVec::new(),
            valued: SmallVec::new(),
            shapes: SmallVec::new(),
            named: SmallVec::new(),
            done: at,
            follows: None,
            torn: false,
            alone: None,
            traces: SmallVec::new(),
            trace_tenant: None,
            tail: None,
        }
    }

    /// It carries the id of a trace.
    pub fn carries_trace(&mut self, process: &SharedProcess, trace: Fingerprint) {
        if !self.traces.contains(&trace) && self.traces.len() < MAX_TRACES {
            self.traces.push(trace);
        }
        let mut whom = None;
        let mut one = true;
        for key in walk(process.with_trace(trace)) {
            let tenant = process.request(*key).and_then(|r| r.whom.tenant());
            one &= tenant.is_some() && (whom.is_none() || whom == tenant);
            whom = tenant;
            if self.traced.len() >= MAX_LEADS {
                return;
            }
            if !self.traced.contains(key) {
                self.traced.push(*key);
            }
        }
        // An id that all the world sends leads nowhere; two that lead to one tenant each are two borrowers'.
        if let (true, Some(tenant)) = (one, whom) {
            self.torn |= self.trace_tenant.is_some_and(|before| before != tenant);
            self.trace_tenant = Some(tenant);
        }
    }

    /// It carries a value.
    pub fn carries_value(&mut self, process: &SharedProcess, value: Fingerprint) {
        let keys = process.with_value(value);
        let rare = || process.asked.is_rare(value) && process.worked.is_rare(value);
        if keys.is_empty() || keys.len() > MAX_LEADS || !rare() {
            return;
        }
        // Several requests for one tenant may well carry it; in requests for two it leads nowhere.
        let whom = |key: &RequestKey| process.request(*key).map(|r| r.whom);
        if !keys.first().is_some_and(|first| walk(keys).all(|k| whom(k) == whom(first))) {
            return;
        }
        for key in keys {
            if !self.valued.contains(key) && self.valued.len() < MAX_LEADS {
                self.valued.push(*key);
            }
        }
    }

    /// It names a tenant.
    pub fn names(&mut self, tenant: TenantId) {
        if !self.named.contains(&tenant) && self.named.len() < MAX_NAMED {
            self.named.push(tenant);
        }
    }

    /// A data operation of it has been answered.
    pub fn worked(&mut self, shape: Shape, at: Nanos) {
        self.done = self.done.max(at);
        if !self.shapes.contains(&shape) && self.shapes.len() < MAX_SHAPES {
            self.shapes.push(shape);
        }
    }
}
