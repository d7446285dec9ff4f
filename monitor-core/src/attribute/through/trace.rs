//! Basis: the operation carries the trace or request id of a request in flight.

use super::Said;
use super::borrow::Borrow;

/// The requests whose id it carries.
pub(super) fn answer(borrow: &Borrow) -> Said<'_> {
    if borrow.traced.is_empty() { Said::Nothing("no id carried") } else { Said::OneOf(&borrow.traced) }
}
