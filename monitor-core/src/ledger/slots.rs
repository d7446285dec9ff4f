//! The values of a connection's slots: start-up, session and transaction scope, as PostgreSQL keeps them.

use smallvec::SmallVec;

use crate::model::{Bound, Claim, Nanos, Scope, Slot, UnitNo};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SlotValues {
    slot: Slot,
    startup: Option<Bound>,
    session: Option<Bound>,
    /// `Some(None)`: the transaction set it to nothing.
    local: Option<Option<Bound>>,
}

/// Most slots with tenant values on one connection; real ones have one to three.
const MAX_SLOTS: usize = 16;

/// All slots that ever carried a tenant on this connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    values: SmallVec<[SlotValues; 1]>,
}

impl Slots {
    fn entry(&mut self, slot: Slot) -> Option<&mut SlotValues> {
        if let Some(at) = self.values.iter().position(|v| v.slot == slot) {
            return self.values.get_mut(at);
        }
        if self.values.len() >= MAX_SLOTS {
            return None;
        }
        self.values.push(SlotValues { slot, startup: None, session: None, local: None });
        self.values.last_mut()
    }

    /// A slot takes a value. A neutral or cleared value takes the place of an older one and names nobody.
    pub(super) fn bind(&mut self, bound: Bound) {
        if bound.claim == Claim::Neutral && !self.values.iter().any(|v| v.slot == bound.slot) {
            return;
        }
        let Some(v) = self.entry(bound.slot) else { return };
        match bound.scope {
            Scope::Transaction => v.local = Some(Some(bound)),
            Scope::Session => {
                v.session = Some(bound);
                v.local = None;
            }
            Scope::Startup => {
                v.startup = Some(bound);
                v.session = Some(bound);
            }
        }
    }

    /// One slot back to its start-up value.
    pub(super) fn reset(&mut self, slot: Slot, scope: Scope) {
        if let Some(v) = self.values.iter_mut().find(|v| v.slot == slot) {
            if scope == Scope::Transaction {
                v.local = Some(v.startup);
            } else {
                v.session = v.startup;
                v.local = None;
            }
        }
    }

    /// Every setting back to its start-up value, and (`path`) the schema in use; role and session user stay.
    pub(super) fn reset_settings(&mut self, path: bool) {
        for v in &mut self.values {
            if matches!(v.slot, Slot::Setting(_)) || path && v.slot == Slot::SearchPath {
                v.session = v.startup;
                v.local = None;
            }
        }
    }

    /// Everything back to start-up values.
    pub(super) fn reset_all(&mut self) {
        for v in &mut self.values {
            v.session = v.startup;
            v.local = None;
        }
    }

    /// Transaction values are gone.
    pub(super) fn end_transaction(&mut self) {
        for v in &mut self.values {
            v.local = None;
        }
    }

    /// Nothing but what cannot change (who authenticated, to which database) is known any more.
    pub(super) fn forget(&mut self) {
        self.values.retain(|v| v.startup.is_some());
        for v in &mut self.values {
            v.local = None;
            v.session = if matches!(v.slot, Slot::User | Slot::Database) { v.startup } else { None };
        }
    }

    /// Forgets the slots that `keep` does not want.
    pub(super) fn retain(&mut self, keep: &dyn Fn(Slot) -> bool) {
        self.values.retain(|v| keep(v.slot));
    }

    /// Bindings that `unit` has made since `since` were made by `by`.
    pub(super) fn made_by(&mut self, unit: UnitNo, since: Nanos, by: UnitNo) {
        for v in &mut self.values {
            for bound in [v.session.as_mut(), v.local.as_mut().and_then(Option::as_mut)].into_iter().flatten() {
                if bound.unit == unit && bound.at >= since {
                    bound.unit = by;
                }
            }
        }
    }

    fn in_force(&self) -> impl Iterator<Item = Bound> + '_ {
        self.values.iter().filter_map(|v| v.local.unwrap_or(v.session))
    }

    /// Bindings in force that name someone.
    pub(super) fn live(&self) -> impl Iterator<Item = Bound> + '_ {
        self.in_force().filter(|b| matches!(b.claim, Claim::Tenant(_) | Claim::Opaque(_)))
    }

    /// Values in force that may have been chosen for someone.
    pub(super) fn chosen(&self) -> impl Iterator<Item = Bound> + '_ {
        self.in_force().filter(|b| matches!(b.claim, Claim::Chosen(_)))
    }

    /// Whom a slot's value in force names, or may name.
    pub(super) fn named(&self, slot: Slot) -> Option<Claim> {
        let names = |c: &Claim| matches!(c, Claim::Tenant(_) | Claim::Opaque(_) | Claim::Chosen(_));
        self.in_force().find(|b| b.slot == slot).map(|b| b.claim).filter(names)
    }

    pub(super) fn memory(&self) -> usize {
        if self.values.spilled() { self.values.capacity() * size_of::<SlotValues>() } else { 0 }
    }
}
