//! Basis: the order in which the process takes up its work. It leads to one request where that order has been confirmed
//! again and again by the answers, and by the answer to this very request.

use super::Said;
use super::agenda::UnitKey;
use super::borrow::Borrow;
use super::process::SharedProcess;

/// The request that the order leads to.
pub(super) fn answer<'a>(borrow: &'a Borrow, process: &SharedProcess, unit: UnitKey, whole: bool) -> Said<'a> {
    if !whole || borrow.crowded {
        return Said::Nothing("something was missed");
    }
    match process.agenda.request_of(unit) {
        Err(why) => Said::Nothing(why),
        Ok(key) => match borrow.candidates.iter().position(|k| *k == key) {
            Some(at) => Said::OneOf(borrow.candidates.get(at..=at).unwrap_or_default()),
            None => Said::Nothing("the request came later"),
        },
    }
}
