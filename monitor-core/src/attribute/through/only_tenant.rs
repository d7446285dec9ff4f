//! Basis: the only tenant in flight. Whichever of the requests in flight it was, all of them were one tenant's.

use super::Said;
use super::borrow::Borrow;
use super::process::SharedProcess;
use crate::model::Nanos;

/// The requests in flight; they say something only when they are all of one tenant.
pub(super) fn answer<'a>(borrow: &'a Borrow, process: &SharedProcess, whole: bool, now: Nanos) -> Said<'a> {
    if borrow.candidates.is_empty() {
        return Said::Nothing("nothing in flight");
    }
    // The request that caused the work may be missing from those in flight.
    if borrow.follows.is_some() {
        return Said::Nothing("somebody else's unit went on");
    }
    if !whole || borrow.crowded {
        return Said::Nothing("something was missed");
    }
    if process.quiet.works_alone(now) {
        return Said::Nothing("works when idle");
    }
    // A process that works while idle may do this work by itself, whichever requests are in flight.
    if !borrow.shapes.iter().all(|shape| process.quiet.is_driven(*shape, now)) {
        return Said::Nothing("not known to be quiet when idle");
    }
    Said::OneOf(&borrow.candidates)
}
