//! Basis: the same thread. The thread that sent the unit's requests is the one that answered exactly one of the requests
//! in flight, in a process where requests stay with their thread.

use super::Said;
use super::borrow::{Borrow, OneThread};
use super::process::SharedProcess;
use crate::model::{RequestKey, ThreadId};

/// The request in flight that was answered by the unit's thread.
pub(super) fn answer<'a>(borrow: &'a Borrow, process: &SharedProcess, whole: bool) -> Said<'a> {
    let thread = match borrow.thread {
        OneThread::Unknown => return Said::Nothing("thread not known"),
        OneThread::Several => return Said::Nothing("several threads"),
        OneThread::Only(thread) => thread,
    };
    if !whole || borrow.crowded {
        return Said::Nothing("something was missed");
    }
    if !process.affinity.holds() {
        return Said::Nothing("requests do not stay with a thread");
    }
    // A deserted request is never answered, so its thread is not seen. This thread may work on it and answer another.
    if borrow.candidates.iter().any(|key| process.request(*key).is_some_and(|r| r.deserted)) {
        return Said::Nothing("a sender has gone");
    }
    let mut matching = (0..).zip(&borrow.candidates).filter(|(_, key)| by(process, **key, thread)).map(|(at, _)| at);
    match (matching.next(), matching.next()) {
        (Some(at), None) => {
            let one = borrow.candidates.get(at..=at).unwrap_or_default();
            if one.iter().all(|key| borrow.may_be_all_of(*key, process)) {
                Said::OneOf(one)
            } else {
                Said::Nothing("somebody else's unit went on")
            }
        }
        (None, _) => Said::Nothing("thread answered none"),
        _ => Said::Nothing("thread answered several"),
    }
}

/// Whether a request was answered by `thread`.
pub(super) fn by(process: &SharedProcess, key: RequestKey, thread: ThreadId) -> bool {
    process.request(key).is_some_and(|r| r.thread == Some(thread))
}
