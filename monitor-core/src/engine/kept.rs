//! What upkeep remembers of one connection.

use crate::model::Nanos;

/// What upkeep remembers of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// When its oldest hole is given up, as [`super::table::Table`] has it in order.
    pub(super) hole: Option<Nanos>,
    /// When it was last active, as [`super::table::Table`] has it in order: that may be long ago.
    pub(super) active: Nanos,
    /// Bytes that it held when they were last counted.
    pub(super) held: usize,
    /// Bytes it was fed since.
    pub(super) fed: usize,
}

impl Kept {
    /// Of a connection that was opened at `at`.
    pub(super) fn since(at: Nanos) -> Self {
        Self { active: at, ..Self::default() }
    }
}
