//! One unit of work on a connection that a place opened: what is known of whom it may be for.

use smallvec::SmallVec;

use super::place::{Place, RequestKey};
use super::quiet::Shape;
use crate::model::steps::walk;
use crate::model::{Fingerprint, Nanos, TenantId, ThreadId};

/// Most requests in flight told apart for one unit of work.
const MAX_CANDIDATES: usize = 64;
/// Most requests that its trace ids or values are remembered to lead to.
const MAX_LEADS: usize = 64;
/// Most tenants named in one unit of work that are told apart.
const MAX_NAMED: usize = 4;
/// Most kinds of work in one unit.
const MAX_SHAPES: usize = 8;

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

/// What one unit of work shows of its origin.
#[derive(Clone, Debug)]
pub struct Borrow {
    /// When it began.
    pub begun: Nanos,
    /// Requests in flight then.
    pub candidates: SmallVec<[RequestKey; 4]>,
    /// More than can be told apart.
    pub crowded: bool,
    /// It began in the very moment in which the place began to be followed: what was in flight was not known yet.
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
}

impl Borrow {
    /// A unit of work begins.
    pub fn begin(place: &Place, at: Nanos) -> Self {
        let open = place.open();
        Self {
            begun: at,
            crowded: open.len() > MAX_CANDIDATES,
            candidates: walk(open.take(MAX_CANDIDATES)).collect(),
            too_early: !place.followed,
            thread: OneThread::Unknown,
            traced: SmallVec::new(),
            valued: SmallVec::new(),
            shapes: SmallVec::new(),
            named: SmallVec::new(),
            done: at,
        }
    }

    /// It carries the id of a trace.
    pub fn carries_trace(&mut self, place: &Place, trace: Fingerprint) {
        for key in walk(place.with_trace(trace)) {
            if self.traced.len() >= MAX_LEADS {
                return;
            }
            if !self.traced.contains(key) {
                self.traced.push(*key);
            }
        }
    }

    /// It carries a value.
    pub fn carries_value(&mut self, place: &Place, value: Fingerprint) {
        let keys = place.with_value(value);
        let rare = || place.asked.is_rare(value) && place.worked.is_rare(value);
        if keys.is_empty() || keys.len() > MAX_LEADS || !rare() {
            return;
        }
        // Several requests for one tenant may well carry it; in requests for two it leads nowhere.
        let whom = |key: &RequestKey| place.request(*key).map(|r| r.whom);
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
