//! Everything that waits for its time: one heap, and every delay with its reason. The clock is that of events: a timer
//! fires with the first event that is not earlier.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::attribute::forwarded::Relay;
use crate::attribute::through;
use crate::model::{ConnId, Nanos, RequestKey};

/// A unit of work that is over is looked at only now: what was missed of it shows by then.
pub(super) const LOOK_THROUGH: Nanos = Nanos::millis(100);
/// An answer is compared with what its process had been told only now: a client that is out of step answers before its
/// own reply has come.
pub(super) const CHECK_ANSWER: Nanos = Nanos::millis(250);
/// An operation waits so long for its tenant before it is nobody's, and a unit of work for the requests that it may be
/// for: longer than nearly every request takes.
pub(super) const PATIENCE: Nanos = Nanos::secs(2);
/// A read that may be a look-up is held so long for the binding that would follow it: as long as a request.
pub(super) const HOLD_READ: Nanos = PATIENCE;
/// A request whose sender has gone counts as in flight so long: its process may not have noticed.
pub(super) const DESERTED: Nanos = through::DESERTED;
/// A job counts as in flight so long where its end is not told, and a delivery waits so long for its publication.
pub(super) const LINGER: Nanos = Nanos::secs(2);

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A unit of work of this connection is over: for whom was it?
    LookThrough(ConnId),
    /// A shared process has answered this request of this connection: with what belongs to somebody else?
    CheckAnswer(ConnId, u64),
    /// Operations of this connection have waited long enough for their tenant.
    GiveUpWaiting(ConnId),
    /// Reads of this connection have been held long enough.
    ReleaseReads(ConnId),
    /// The sender of this request had gone; now it does not count as in flight any more.
    Deserted(Relay, RequestKey),
    /// A job whose end is not told does not count as in flight any more.
    JobOver(Relay, RequestKey),
    /// The publication of this message will not be seen any more.
    Unpublished(u64),
}

/// Everything that waits, soonest first; what is due at the same time, in the order in which it was set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Nanos, u64, Due)>>,
    n_set: u64,
}

impl Timers {
    /// `due` is due at `at`.
    pub(super) fn set(&mut self, at: Nanos, due: Due) {
        self.n_set += 1;
        self.heap.push(Reverse((at, self.n_set, due)));
    }

    /// The next that is due at `now`, and when it was.
    pub(super) fn pop(&mut self, now: Nanos) -> Option<(Nanos, Due)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse((at, _, due))| (at, due))
    }

    /// Bytes held, about.
    pub(super) fn memory(&self) -> usize {
        self.heap.capacity() * size_of::<Reverse<(Nanos, u64, Due)>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soonest_fires_first_whenever_it_was_set() {
        let mut timers = Timers::default();
        for (at, no) in [(30, 3), (10, 1), (20, 2), (10, 4)] {
            timers.set(Nanos(at), Due::Unpublished(no));
        }
        assert_eq!(timers.pop(Nanos(9)), None);
        let mut fired = Vec::new();
        while let Some((at, Due::Unpublished(no))) = timers.pop(Nanos(20)) {
            fired.push((at.0, no));
        }
        assert_eq!(fired, [(10, 1), (10, 4), (20, 2)]);
        assert_eq!(timers.pop(Nanos(31)), Some((Nanos(30), Due::Unpublished(3))));
    }
}
