//! Basis: the order of confirmations. A process that does one job after the other and confirms each at its end has done
//! for the job that it confirmed next what it did before; however many jobs it was handed in advance.

use super::Said;
use super::borrow::{Borrow, OneThread};
use super::process::SharedProcess;

/// The job that was confirmed next.
pub(super) fn answer<'a>(borrow: &'a Borrow, process: &SharedProcess, whole: bool) -> Said<'a> {
    let thread = match borrow.thread {
        OneThread::Unknown => None,
        OneThread::Only(thread) => Some(thread),
        OneThread::Several => return Said::Nothing("several threads"),
    };
    if borrow.candidates.iter().any(|key| process.request(*key).is_some_and(|r| r.job.is_none())) {
        return Said::Nothing("not only jobs in flight");
    }
    if borrow.follows.is_some() {
        return Said::Nothing("somebody else's unit went on");
    }
    if !whole || borrow.crowded {
        return Said::Nothing("something was missed");
    }
    match process.acks.next(thread, borrow.begun, borrow.done) {
        Err(why) => Said::Nothing(why),
        Ok(key) => match borrow.candidates.iter().position(|k| *k == key) {
            Some(at) => Said::OneOf(borrow.candidates.get(at..=at).unwrap_or_default()),
            None => Said::Nothing("the job confirmed next came later"),
        },
    }
}
