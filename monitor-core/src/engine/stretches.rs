//! Stretches of a unit of work: where a connection goes to the next borrower without having been idle in between.
//!
//! Each further request of an open unit is held apart until all is known that it carries, and then either joins the
//! stretch before it or begins one of its own, with a number of its own: to ledger and rules it is a unit of work.

use super::on_conn::OnConn;
use super::timers::{Due, LOOK_THROUGH};
use super::units::Lent;
use crate::attribute::through::{Borrow, Follows, HandOver, Setting};
use crate::model::{Claim, Nanos, Strength, TenantId, UnitNo};

/// Most stretches of one unit told apart that still have requests without an answer.
const MAX_EARLIER: usize = 64;

impl OnConn<'_> {
    /// A request begins: first of a unit, or one more in an open one.
    pub(super) fn join_unit(&mut self, request: u64, at: Nanos) {
        let unit = self.state.units.current;
        if unit.open && unit.latest == request {
            return;
        }
        // Requests that were sent without waiting for an answer come from one borrower.
        if unit.open && unit.latest_at == at && self.state.units.step.is_some() {
            self.state.units.current.latest = request;
            return;
        }
        self.fold(None);
        if !unit.open {
            self.begin_unit(request, at);
        } else if unit.latest_at != at && self.state.units.borrow.is_some() {
            let process = self.outbound().and_then(|r| self.parts.attributor.processes.get(&r));
            self.state.units.step = process.map(|process| (request, Borrow::begin(process, at)));
        }
        self.state.units.current.latest = request;
        self.state.units.current.latest_at = at;
    }

    /// All is known of the latest request: does it go on with what was before it? `begins`: this request has begun a
    /// transaction inside of one.
    pub(super) fn fold(&mut self, begins: Option<u64>) {
        let Some((request, mut step)) = self.state.units.step.take() else { return };
        let Some(process) = self.state.facts.leaves.and_then(|r| self.parts.attributor.processes.get(&r)) else {
            return;
        };
        let setting = Setting {
            protocol: self.state.facts.protocol,
            held: self.state.units.current.held,
            bound: self.bound_by_stretch(),
        };
        let Some(borrow) = &mut self.state.units.borrow else { return };
        let again = begins.is_some_and(|r| r == request && !borrow.is_passed_on(process, setting.protocol));
        let handed = borrow.handed(&step, process, &setting).or_else(|| again.then_some(HandOver::Begun));
        let Some(why) = handed.filter(|_| !self.state.units.current.forwarded) else {
            borrow.goes_on(&step, request, process, setting.held);
            return;
        };
        step.goes_on_after(borrow, Follows { why, conn: self.state.facts.id }, process);
        let mut before = std::mem::replace(borrow, step);
        // The last requests before the change carry nothing, so they may belong to either borrower.
        if matches!(why, HandOver::Traced | HandOver::Valued)
            && let Some((first, begun, tail)) = before.takes_off_tail()
        {
            let left = self.state.units.current.no;
            self.hand_over(before, first, begun);
            self.retag(left, first, begun);
            before = tail;
        }
        let begun = self.state.units.borrow.as_ref().map_or(self.parts.ctx.now, |b| b.begun);
        self.hand_over(before, request, begun);
    }

    /// The current stretch ends before `request`, at `at`; the next has the next number.
    fn hand_over(&mut self, borrow: Borrow, request: u64, at: Nanos) {
        let (no, first) = (self.state.units.current.no, self.state.units.current.first);
        self.state.units.lent.push_back(Lent { no, ended: at, until: Some(request), borrow });
        self.parts.timers.set(self.parts.ctx.now + LOOK_THROUGH, Due::LookThrough(self.state.facts.id));
        if self.state.units.earlier.len() >= MAX_EARLIER {
            self.state.units.earlier.remove(0);
        }
        self.state.units.earlier.push((first, no));
        self.state.units.current.no.0 = no.0.wrapping_add(1);
        self.state.units.current.first = request;
    }

    /// What was told of unit `no` from request `first` on, begun at `begun`, belongs to the one after it.
    fn retag(&mut self, no: UnitNo, first: u64, begun: Nanos) {
        let to = self.state.units.current.no;
        for mut pending in self.state.units.pending.take(no) {
            if pending.op.request >= first {
                pending.unit = to;
            }
            self.state.units.pending.push(pending.unit, pending);
        }
        self.state.ledger.made_by(no, begun, to);
        self.state.history.follows.made_by(no, begun, to);
    }

    /// The tenant that the current stretch has bound by name.
    fn bound_by_stretch(&self) -> Option<TenantId> {
        let no = self.state.units.current.no;
        let bindings = self.state.ledger.bindings(Strength::V1);
        bindings.iter().filter(|b| b.unit == no).find_map(|b| match b.claim {
            Claim::Tenant(tenant) => Some(tenant),
            _ => None,
        })
    }

    /// The unit of work, or stretch of it, that a request belongs to.
    pub(super) fn unit_of(&self, request: u64) -> UnitNo {
        let unit = &self.state.units.current;
        if request >= unit.first {
            return unit.no;
        }
        let earlier = self.state.units.earlier.iter().rev().find(|(first, _)| request >= *first);
        earlier.map_or(unit.no, |(_, no)| *no)
    }
}
