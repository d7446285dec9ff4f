//! Basis: a rare value of one request in flight, or of several for one tenant, reappears in the operation.
//!
//! Rare on both sides: few requests carry it, and few operations. A limit, a status or a path that every request or
//! every statement holds leads nowhere.

use super::Said;
use super::borrow::Borrow;

/// The requests its values lead to.
pub(super) fn answer(borrow: &Borrow, whole: bool) -> Said<'_> {
    match borrow.valued.as_slice() {
        [] => Said::Nothing("no rare value in common"),
        // A request that was missed may hold the value as well.
        _ if !whole => Said::Nothing("something was missed"),
        keys => Said::OneOf(keys),
    }
}
