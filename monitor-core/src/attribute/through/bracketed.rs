//! Basis: bracketed. The only request in flight in the whole process when the work began, and the work was answered
//! before that request was, in a process that is quiet when idle.

use super::Said;
use super::borrow::Borrow;
use super::process::SharedProcess;
use crate::model::Nanos;

/// The only request in flight.
pub(super) fn answer<'a>(borrow: &'a Borrow, process: &SharedProcess, whole: bool, now: Nanos) -> Said<'a> {
    let [only] = borrow.candidates.as_slice() else {
        return Said::Nothing(if borrow.candidates.is_empty() { "nothing in flight" } else { "several in flight" });
    };
    if !whole {
        return Said::Nothing("something was missed");
    }
    let Some(request) = process.request(*only) else { return Said::Nothing("request forgotten") };
    if request.ended.is_some_and(|ended| ended < borrow.done) {
        return Said::Nothing("went on after the answer");
    }
    if !borrow.may_be_all_of(*only, process) {
        return Said::Nothing("somebody else's unit went on");
    }
    if request.loose || request.deserted {
        return Said::Nothing("its end is not known");
    }
    if request.job.is_some() && !process.acks.end_the_work() {
        return Said::Nothing("not known to confirm jobs after the work");
    }
    if process.quiet.works_alone(now) {
        return Said::Nothing("works when idle");
    }
    if !borrow.shapes.iter().all(|shape| process.quiet.is_driven(*shape, now)) {
        return Said::Nothing("not known to be quiet when idle");
    }
    Said::OneOf(&borrow.candidates)
}
