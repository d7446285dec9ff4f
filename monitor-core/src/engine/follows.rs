//! What follows a read on its connection: was its tenant bound right after?
//!
//! A read before any binding cannot be judged until that is known. It is held, a few at most on one connection, until
//! its tenant is bound (then it was a look-up), until the connection is bound or used for another (then it was a use of
//! what was left there), or until something is missed or nothing more comes (then nobody knows).

use std::collections::VecDeque;

use super::conn::Pending;
use super::lookups;
use super::on_conn::OnConn;
use super::timers::{Due, HOLD_READ};
use crate::ledger::Standing;
use crate::model::{Bound, Claim, Nanos, Slot, Sym, TenantId, UnitNo};

/// Most reads that are held on one connection, and most that wait to be learned from. Who reads more than that before
/// it binds does not look up whom to bind.
const MAX_HELD: usize = 32;
/// Most bindings and losses of one connection that are remembered.
const MAX_FOLLOWS: usize = 64;

/// Something that decides about reads before it.
#[derive(Clone, Copy, Debug)]
struct Follow {
    /// Order of the connection's latest use or reset when it came.
    order: u32,
    /// The binding; `None`: something was missed.
    bound: Option<Bound>,
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
    all: VecDeque<Follow>,
    /// Order of the latest one that was forgotten.
    forgotten: u32,
    /// A binding for the transaction only that nothing has used yet: it may have no effect.
    unused: Option<Follow>,
    /// The connection was bound for somebody by name at least once.
    pub(super) ever_bound: bool,
    /// A statement named a schema that is, or may be, somebody's.
    pub(super) names_schemas: bool,
    /// Reads whose verdict waits, oldest first.
    held: VecDeque<(TenantId, Pending)>,
    /// Reads that were judged and may still turn out to be look-ups, oldest first.
    learned_from: VecDeque<(TenantId, Pending)>,
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

    fn missed(&mut self, order: u32) {
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

impl OnConn<'_> {
    /// What has become of a read of `tenant`'s, of that order among the connection's uses.
    pub(super) fn fate(&self, order: u32, tenant: TenantId) -> Fate {
        let follows = &self.state.follows;
        if order <= follows.forgotten {
            return Fate::Unclear;
        }
        let service = self.service();
        for follow in follows.all.iter().filter(|f| f.order >= order) {
            let Some(bound) = follow.bound else { return Fate::Unclear };
            let author = || self.state.known_for(bound.unit).map(|a| a.tenant);
            let named = match bound.claim {
                Claim::Tenant(t) => Some(t),
                Claim::Opaque(id) => self.parts.learned.alias(service, id, Some(tenant)).or_else(author),
                Claim::Chosen(_) => match self.parts.learned.selectors.standing(service, &bound, tenant) {
                    Standing::Of(t) => Some(t),
                    Standing::Unsure => author().filter(|a| *a == tenant),
                    Standing::Nobody => continue,
                },
                _ => continue,
            };
            return match named {
                Some(t) if t == tenant => Fate::Bound(bound),
                Some(_) => Fate::Not,
                None => Fate::Unclear,
            };
        }
        Fate::Open
    }

    /// Holds a read until it is known what follows. Gives it back if there is no room.
    pub(super) fn hold(&mut self, tenant: TenantId, pending: &Pending) -> bool {
        if self.state.follows.held.len() >= MAX_HELD {
            return false;
        }
        self.state.follows.held.push_back((tenant, pending.clone()));
        self.parts.timers.set(self.parts.ctx.now + HOLD_READ, Due::ReleaseReads(self.state.id));
        true
    }

    /// Notes a read that was judged without waiting: it may turn out to be a look-up, from which is learned.
    pub(super) fn learn_later(&mut self, tenant: TenantId, pending: &Pending) {
        let all = &mut self.state.follows.learned_from;
        if all.len() >= MAX_HELD {
            all.pop_front();
        }
        all.push_back((tenant, pending.clone()));
    }

    /// Something has followed: reads that wait for it are judged.
    pub(super) fn something_followed(&mut self) {
        for (tenant, pending) in std::mem::take(&mut self.state.follows.learned_from) {
            let order = pending.view.as_ref().map_or(0, |v| v.order);
            if let Fate::Bound(_) = self.fate(order, tenant) {
                let service = self.service();
                self.parts.learned.lookups.read_before(service, &pending.op, tenant);
            }
        }
        self.release(|_, _, fate| (fate != Fate::Open).then_some(fate));
    }

    /// Data was used for `tenant`: what others have read before was not followed by a binding of theirs.
    pub(super) fn used_by(&mut self, tenant: TenantId, order: u32) {
        self.state.follows.learned_from.retain(|(t, _)| *t == tenant);
        self.release(|reader, pending, fate| match fate {
            Fate::Open => {
                let before = pending.view.as_ref().is_some_and(|v| v.order < order);
                (reader != tenant && before).then_some(Fate::Not)
            }
            fate => Some(fate),
        });
    }

    /// Something was missed on this connection.
    pub(super) fn missed_here(&mut self) {
        let order = self.state.ledger.order();
        self.state.follows.missed(order);
        self.state.follows.learned_from.clear();
        if let Some(service) = self.state.service {
            self.parts.learned.lookups.missed(service);
        }
        self.release(|_, _, fate| Some(if fate == Fate::Open { Fate::Unclear } else { fate }));
    }

    /// What was held so long is judged without knowing what follows; `all`: everything.
    pub(super) fn release_held(&mut self, all: bool) {
        let now = self.parts.ctx.now;
        self.release(|_, pending, fate| match fate {
            Fate::Open => (all || now.since(pending.op.ended) >= HOLD_READ).then_some(Fate::Unclear),
            fate => Some(fate),
        });
    }

    /// Judges what is held and whose fate `decides` knows, oldest first.
    fn release(&mut self, decides: impl Fn(TenantId, &Pending, Fate) -> Option<Fate>) {
        if self.state.follows.held.is_empty() {
            return;
        }
        for (tenant, pending) in std::mem::take(&mut self.state.follows.held) {
            let fate = self.fate(pending.view.as_ref().map_or(0, |v| v.order), tenant);
            match decides(tenant, &pending, fate) {
                Some(fate) => self.judge_held(&pending, fate),
                None => self.state.follows.held.push_back((tenant, pending)),
            }
        }
    }
}
