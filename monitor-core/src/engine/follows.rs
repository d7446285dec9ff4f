//! What follows a read on its connection: was its tenant bound right after?
//!
//! A read before any binding cannot be judged until that is known. It is held, a few at most on one connection, until
//! its tenant is bound (then it was a look-up), until the connection is bound or used for another (then it was a use of
//! what was left there), or until something is missed or nothing more comes (then nobody knows).

use std::collections::VecDeque;

use super::lookups;
use super::units::Pending;
use crate::model::{Bound, Claim, Nanos, Slot, Sym, TenantId, UnitNo};

/// Most reads that are held on one connection, and most that wait to be learned from. Who reads more than that before
/// it binds does not look up whom to bind.
pub(super) const MAX_HELD: usize = 32;
/// Most bindings and losses of one connection that are remembered.
const MAX_FOLLOWS: usize = 64;

/// Something that decides about reads before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Follow {
    /// Order of the connection's latest use or reset when it came.
    pub(super) order: u32,
    /// The binding; `None`: something was missed.
    pub(super) bound: Option<Bound>,
}

/// What has become of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Its tenant was bound next.
    Bound(Bound),
    /// Another tenant was bound, or used the connection, next.
    Not,
    /// Something was missed, or whoever was bound next is not known.
    Unclear,
    /// Nothing has followed yet.
    Open,
}

/// What follows on one connection, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Follows {
    pub(super) all: VecDeque<Follow>,
    /// Order of the latest one that was forgotten.
    pub(super) forgotten: u32,
    /// A binding for the transaction only that nothing has used yet: it may have no effect.
    pub(super) unused: Option<Follow>,
    /// The connection was bound for somebody by name at least once.
    pub(super) ever_bound: bool,
    /// A statement named a schema that is, or may be, somebody's.
    pub(super) names_schemas: bool,
    /// Reads whose verdict waits, oldest first.
    pub(super) held: VecDeque<(TenantId, Pending)>,
    /// Reads that were judged and may still turn out to be look-ups, oldest first.
    pub(super) learned_from: VecDeque<(TenantId, Pending)>,
}

impl Follows {
    fn push(&mut self, follow: Follow) {
        if self.all.len() >= MAX_FOLLOWS
            && let Some(oldest) = self.all.pop_front()
        {
            self.forgotten = oldest.order;
        }
        self.all.push_back(follow);
    }

    /// A value was set that names, or may name, somebody. Gives whether it counts already.
    pub(super) fn bound(&mut self, order: u32, bound: Bound, for_transaction: bool) -> bool {
        self.ever_bound |= !matches!(bound.claim, Claim::Chosen(_)) || bound.slot == Slot::Marker;
        self.names_schemas |= bound.slot == Slot::Schema;
        let follow = Follow { order, bound: Some(bound) };
        if for_transaction {
            self.unused = Some(follow);
        } else {
            self.push(follow);
        }
        !for_transaction
    }

    /// Data is used: what was bound for the transaction has an effect. Gives whether there was any.
    pub(super) fn uses(&mut self) -> bool {
        let unused = self.unused.take();
        unused.into_iter().for_each(|f| self.push(f));
        unused.is_some()
    }

    /// The unit is over, and with it what was bound for its transaction.
    pub(super) fn unit_ends(&mut self) {
        self.unused = None;
    }

    /// Bindings that `unit` has made since `since` were made by `by`.
    pub(super) fn made_by(&mut self, unit: UnitNo, since: Nanos, by: UnitNo) {
        let bounds = self.all.iter_mut().chain(&mut self.unused).filter_map(|f| f.bound.as_mut());
        bounds.filter(|b| b.unit == unit && b.at >= since).for_each(|b| b.unit = by);
    }

    pub(super) fn missed(&mut self, order: u32) {
        self.unused = None;
        self.push(Follow { order, bound: None });
    }

    /// Whether the use of this order is the first one after `bound` was set.
    pub(super) fn is_first_after(&self, bound: &Bound, order: u32) -> bool {
        let same = |b: &Bound| b.slot == bound.slot && b.at == bound.at;
        let follow = self.all.iter().rev().find(|f| f.order < order && f.bound.as_ref().is_some_and(same));
        follow.is_some_and(|f| f.order + 1 == order)
    }

    /// Whether the use right before the one of this order said itself that it was for `tenant`: then this one may be in
    /// the midst of its work. `of` tells for whom a unit was: a value that names nobody is everybody's word, and the
    /// last one of another tenant's work is not amid this one's.
    pub(super) fn is_amid(&self, order: u32, tenant: TenantId, of: impl Fn(UnitNo) -> Option<TenantId>) -> bool {
        // A statement stands before its own use in the order.
        let last = self.all.iter().rev().find(|f| f.order + 1 < order);
        last.filter(|f| f.order + 2 == order).and_then(|f| f.bound).is_some_and(|b| {
            let stated = matches!(b.slot, Slot::Schema | Slot::Marker);
            let chosen = matches!(b.claim, Claim::Chosen(_)) && of(b.unit) == Some(tenant);
            stated && (b.claim == Claim::Tenant(tenant) || chosen)
        })
    }

    /// The schema that a statement named last before the use of that order, for whomever the connection has worked since;
    /// `None` also where something was missed since.
    pub(super) fn schema_before(&self, order: u32) -> Option<Bound> {
        let before = self.all.iter().rev().filter(|f| f.order < order);
        before.into_iter().find(|f| f.bound.is_none_or(|b| b.slot == Slot::Schema))?.bound
    }

    /// Whether a read of `table` for `tenant` waits.
    pub(super) fn holds_read_of(&self, table: Sym, tenant: TenantId) -> bool {
        self.held.iter().any(|(reader, held)| *reader == tenant && held.op.target == table && lookups::reads(&held.op))
    }

    /// Bytes held beyond the struct itself, about.
    pub(super) fn memory(&self) -> usize {
        self.all.capacity() * size_of::<Follow>()
            + (self.held.capacity() + self.learned_from.capacity()) * size_of::<(TenantId, Pending)>()
    }
}
