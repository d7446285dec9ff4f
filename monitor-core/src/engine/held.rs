//! Hits that rest on something not having been seen. A loss may show later than what it makes look wrong: bytes by the
//! next ones of their connection, events by what the kernel counted. Such hits wait until it would have shown.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::detect::{Hit, Table};
use crate::model::{Nanos, Unseen};

/// How long they wait: longer than a hole in a stream, and than the kernel's counters take to be read.
pub(super) const WAIT: Nanos = Nanos::secs(3);
/// Most that wait; what finds no room is not told.
pub(super) const MAX_HELD: usize = 4_096;

/// A hit that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) since: Nanos,
    pub(super) hit: Hit,
    pub(super) rests_on: SmallVec<[Unseen; 2]>,
}

/// Hits that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Held(pub(super) VecDeque<Waiting>);

impl Held {
    /// Those that wait, to be counted.
    pub(super) fn waiting(&self) -> &dyn Table {
        &self.0
    }
}
