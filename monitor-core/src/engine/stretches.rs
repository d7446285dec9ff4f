//! Stretches of a unit of work: where a connection goes to the next borrower without having been idle in between.
//!
//! Each further request of an open unit is held apart until all is known that it carries, and then either joins the
//! stretch before it or begins one of its own, with a number of its own: to ledger and rules it is a unit of work.

use super::conn::Lent;
use super::session::Session;
use super::timers::{Due, LOOK_THROUGH};
use crate::attribute::through::{Borrow, Follows, Handed, Setting};
use crate::model::{Claim, Nanos, Strength, TenantId, UnitNo};

/// Most stretches of one unit told apart that still have requests without an answer.
const MAX_EARLIER: usize = 64;

impl Session<'_> {
    /// A request begins: first of a unit, or one more in an open one.
    pub(super) fn starts(&mut self, request: u64, at: Nanos) {
        let unit = self.core.unit;
        if unit.open && unit.latest == request {
            return;
        }
        // What was sent at once is one sender's.
        if unit.open && unit.latest_at == at && self.core.step.is_some() {
            self.core.unit.latest = request;
            return;
        }
        self.fold(None);
        if !unit.open {
            self.begin_unit(request, at);
        } else if unit.latest_at != at && self.core.borrow.is_some() {
            let place = self.outbound().and_then(|r| self.parts.attributor.places.get(&r));
            self.core.step = place.map(|place| (request, Borrow::begin(place, at)));
        }
        self.core.unit.latest = request;
        self.core.unit.latest_at = at;
    }

    /// All is known of the latest request: does it go on with what was before it? `begins`: this request has begun a
    /// transaction inside of one.
    pub(super) fn fold(&mut self, begins: Option<u64>) {
        let Some((request, mut step)) = self.core.step.take() else { return };
        let Some(place) = self.core.leaves.and_then(|r| self.parts.attributor.places.get(&r)) else { return };
        let setting =
            Setting { protocol: self.core.protocol, held: self.core.unit.held, bound: self.bound_by_stretch() };
        let Some(borrow) = &mut self.core.borrow else { return };
        let again = begins.is_some_and(|r| r == request && !borrow.is_passed_on(place, setting.protocol));
        let handed = borrow.handed(&step, place, &setting).or_else(|| again.then_some(Handed::Begun));
        let Some(why) = handed.filter(|_| !self.core.unit.forwarded) else {
            borrow.goes_on(&step, request, place, setting.held);
            return;
        };
        step.goes_on_after(borrow, Follows { why, conn: self.core.id }, place);
        let mut before = std::mem::replace(borrow, step);
        // The latest requests of the one before, which carry nothing, may be either's.
        if matches!(why, Handed::Traced | Handed::Valued)
            && let Some((first, begun, tail)) = before.takes_off_tail()
        {
            let left = self.core.unit.no;
            self.hand_over(before, first, begun);
            self.retag(left, first, begun);
            before = tail;
        }
        let begun = self.core.borrow.as_ref().map_or(self.parts.ctx.now, |b| b.begun);
        self.hand_over(before, request, begun);
    }

    /// The current stretch ends before `request`, at `at`; the next has the next number.
    fn hand_over(&mut self, borrow: Borrow, request: u64, at: Nanos) {
        let (no, first) = (self.core.unit.no, self.core.unit.first);
        self.core.borrows.push_back(Lent { no, ended: at, until: Some(request), borrow });
        self.parts.timers.set(self.parts.ctx.now + LOOK_THROUGH, Due::LookThrough(self.core.id));
        if self.core.earlier.len() >= MAX_EARLIER {
            self.core.earlier.remove(0);
        }
        self.core.earlier.push((first, no));
        self.core.unit.no.0 = no.0.wrapping_add(1);
        self.core.unit.first = request;
    }

    /// What was told of unit `no` from request `first` on, begun at `begun`, belongs to the one after it.
    fn retag(&mut self, no: UnitNo, first: u64, begun: Nanos) {
        let to = self.core.unit.no;
        for mut pending in self.core.pending.take(no) {
            if pending.op.request >= first {
                pending.unit = to;
            }
            self.core.pending.push(pending.unit, pending);
        }
        self.core.ledger.made_by(no, begun, to);
        self.core.follows.made_by(no, begun, to);
    }

    /// The tenant that the current stretch has bound by name.
    fn bound_by_stretch(&self) -> Option<TenantId> {
        let no = self.core.unit.no;
        let bindings = self.core.ledger.bindings(Strength::V1);
        bindings.iter().filter(|b| b.unit == no).find_map(|b| match b.claim {
            Claim::Tenant(tenant) => Some(tenant),
            _ => None,
        })
    }

    /// The unit of work, or stretch of it, that a request belongs to.
    pub(super) fn unit_of(&self, request: u64) -> UnitNo {
        let unit = &self.core.unit;
        if request >= unit.first {
            return unit.no;
        }
        let earlier = self.core.earlier.iter().rev().find(|(first, _)| request >= *first);
        earlier.map_or(unit.no, |(_, no)| *no)
    }
}
