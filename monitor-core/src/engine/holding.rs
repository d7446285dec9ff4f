//! Reads whose verdict waits for what follows on their connection: held, and judged once it is known ([`super::follows`]).

use super::follows::{Fate, MAX_HELD};
use super::on_conn::OnConn;
use super::timers::{Due, HOLD_READ};
use super::units::Pending;
use crate::ledger::Standing;
use crate::model::{Claim, TenantId};

impl OnConn<'_> {
    /// What has become of a read of `tenant`'s, of that order among the connection's uses.
    pub(super) fn fate(&self, order: u32, tenant: TenantId) -> Fate {
        let follows = &self.state.history.follows;
        if order <= follows.forgotten {
            return Fate::Unclear;
        }
        let Some(service) = self.service() else { return Fate::Unclear };
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
        if self.state.history.follows.held.len() >= MAX_HELD {
            return false;
        }
        self.state.history.follows.held.push_back((tenant, pending.clone()));
        self.parts.timers.set(self.parts.ctx.now + HOLD_READ, Due::ReleaseReads(self.state.facts.id));
        true
    }

    /// Notes a read that was judged without waiting: it may turn out to be a look-up, from which is learned.
    pub(super) fn learn_later(&mut self, tenant: TenantId, pending: &Pending) {
        let all = &mut self.state.history.follows.learned_from;
        if all.len() >= MAX_HELD {
            all.pop_front();
        }
        all.push_back((tenant, pending.clone()));
    }

    /// Something has followed: reads that wait for it are judged.
    pub(super) fn something_followed(&mut self) {
        for (tenant, pending) in std::mem::take(&mut self.state.history.follows.learned_from) {
            let order = pending.view.as_ref().map_or(0, |v| v.order);
            if let (Fate::Bound(_), Some(service)) = (self.fate(order, tenant), self.service()) {
                self.parts.learned.lookups.read_before(service, &pending.op, tenant);
            }
        }
        self.release(|_, _, fate| (fate != Fate::Open).then_some(fate));
    }

    /// Data was used for `tenant`: what others have read before was not followed by a binding of theirs.
    pub(super) fn used_by(&mut self, tenant: TenantId, order: u32) {
        self.state.history.follows.learned_from.retain(|(t, _)| *t == tenant);
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
        self.state.history.follows.missed(order);
        self.state.history.follows.learned_from.clear();
        if let Some(service) = self.state.facts.service {
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
        if self.state.history.follows.held.is_empty() {
            return;
        }
        for (tenant, pending) in std::mem::take(&mut self.state.history.follows.held) {
            let fate = self.fate(pending.view.as_ref().map_or(0, |v| v.order), tenant);
            match decides(tenant, &pending, fate) {
                Some(fate) => self.judge_held(&pending, fate),
                None => self.state.history.follows.held.push_back((tenant, pending)),
            }
        }
    }
}
