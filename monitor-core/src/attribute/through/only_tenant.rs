//! Basis: the only tenant in flight. Whichever of the requests in flight it was, all of them were one tenant's.

use super::Said;
use super::borrow::Borrow;
use super::place::Place;
use crate::model::Nanos;

/// The requests in flight; they say something only when they are all of one tenant.
pub(super) fn answer<'a>(borrow: &'a Borrow, place: &Place, whole: bool, now: Nanos) -> Said<'a> {
    if borrow.candidates.is_empty() {
        return Said::Nothing("nothing in flight");
    }
    // Whoever began it need not be among them.
    if borrow.follows.is_some() {
        return Said::Nothing("somebody else's unit went on");
    }
    if !whole || borrow.crowded {
        return Said::Nothing("something was missed");
    }
    if place.quiet.works_alone(now) {
        return Said::Nothing("works when idle");
    }
    // Work that may come by itself is nobody's, however many requests of whoever are in flight.
    if !borrow.shapes.iter().all(|shape| place.quiet.is_driven(*shape, now)) {
        return Said::Nothing("not known to be quiet when idle");
    }
    Said::OneOf(&borrow.candidates)
}
