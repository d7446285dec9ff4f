//! One connection, at work on one event: its state, the engine's other parts, and where results go. Units of work begin
//! and end here, and acknowledged operations drive the ledger; what leads here is in `apply.rs`.

use super::conn::ConnState;
use super::output::Output;
use super::parts::Parts;
use super::timers::{Due, PATIENCE};
use super::units::{LocalBind, Transaction};
use crate::attribute::forwarded::OriginFound;
use crate::detect::{Ineffective, RuleEvent, Site};
use crate::model::steps::{step, walk};
use crate::model::{
    Attribution, Basis, Bound, Claim, Effect, Nanos, Operation, Outcome, Protocol, Scope, ServiceId, Slot, Strength,
    UnitNo,
};

/// A connection at work on one event.
pub(super) struct OnConn<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) state: &'a mut ConnState,
    pub(super) out: &'a mut dyn Output,
}

impl OnConn<'_> {
    /// The service that it leads to; `None` until the connection is decoded.
    pub(super) fn service(&self) -> Option<ServiceId> {
        self.state.facts.service
    }

    pub(super) fn minimum(&self) -> Strength {
        self.service().and_then(|s| self.parts.map.service(s)).map_or(Strength::V2, |s| s.minimum)
    }

    pub(super) fn site(&self) -> Site {
        Site {
            service: self.state.facts.service,
            workload: self.state.facts.client_workload,
            flow: self.state.facts.flow,
        }
    }

    /// Something of this connection was missed.
    pub(super) fn record_missed(&mut self, at: Nanos) {
        let state = &*self.state;
        self.parts.judge.missed.on(
            state.facts.service,
            state.facts.endpoint.map(|a| a.tenant),
            state.facts.client_workload,
            at,
        );
    }

    /// A request was read: if it is a new one, the place in the connection is known.
    pub(super) fn record_read(&mut self, request: u64) {
        if request > self.state.units.latest {
            self.state.units.latest = request;
            self.state.astray = false;
        }
    }

    /// It is now known where a request of unit `settled.unit` came from.
    pub(super) fn record_origin(&mut self, settled: &OriginFound) {
        match settled.tenant {
            Some(tenant) => {
                let attribution =
                    Attribution { client: settled.origin, ..Attribution::new(tenant, Basis::ForwardedContent) };
                self.state.units.record_origin(settled.unit, attribution);
            }
            // The unit's request came in on a connection whose tenant is not known. The unit is contradicted, so that no
            // other basis attributes it to somebody else.
            None => {
                if let Some(unit) = self.state.units.known_unit(settled.unit) {
                    unit.contradicted = true;
                }
            }
        }
        // An open unit is not judged yet, because its next request may lead to another tenant.
        let over = !self.state.units.current.open || self.state.units.current.no != settled.unit;
        if over && self.state.attribution_of(settled.unit).is_some() {
            self.flush(settled.unit);
        }
    }

    /// Judges what waits of unit `no`, in order.
    pub(super) fn flush(&mut self, no: UnitNo) {
        for pending in walk(self.state.units.pending.take(no)) {
            self.judge(&pending);
        }
    }

    /// The unit of work that is open.
    pub(super) fn current_unit(&self) -> Option<UnitNo> {
        let unit = self.state.units.current;
        unit.open.then_some(unit.no)
    }

    /// Judges all that waits, in order; what belongs to unit `but` goes on waiting.
    pub(super) fn flush_all(&mut self, but: Option<UnitNo>) {
        for pending in walk(self.state.units.pending.take_all(but)) {
            self.judge(&pending);
        }
    }

    /// Where among those without an answer a request is: mostly the first, as answers come in order.
    pub(super) fn open_at(&self, request: u64) -> Option<usize> {
        self.state.units.open.iter().position(|o| {
            step();
            o.request == request
        })
    }

    /// The unit of work has begun.
    pub(super) fn begin_unit(&mut self, request: u64, at: Nanos) {
        self.state.units.current.no.0 = self.state.units.current.no.0.wrapping_add(1);
        self.state.units.current.open = true;
        self.state.units.current.forwarded = false;
        self.state.units.current.unmatched = false;
        self.state.units.current.transaction = Transaction::None;
        self.state.units.current.held = false;
        self.state.units.current.local = None;
        self.state.units.current.first = request;
        self.state.units.earlier.clear();
        self.begin_borrow(at);
    }

    /// The unit of work is over.
    pub(super) fn end_unit(&mut self, at: Nanos) {
        self.fold(None);
        let unit = self.state.units.current;
        // The server is idle again and no request has begun since (a Parse and a Sync): the unit has ended before.
        if !unit.open {
            return;
        }
        self.state.units.current.open = false;
        self.state.history.follows.unit_ends();
        if let Some(local) = self.state.units.current.local.take() {
            // The local binding was never used before its transaction ended. Rules are told only if the client began no
            // transaction, and only on the application's own connection, because what a relay passes on is judged where it
            // came in.
            if unit.transaction == Transaction::None && !unit.forwarded {
                let whose = self.answer(unit.no, at, &[], &[]);
                if local.warned {
                    let event = Ineffective {
                        site: self.site(),
                        at: local.at,
                        slot: local.slot,
                        warned: true,
                        answer: whose,
                        uncovered: None,
                    };
                    self.parts.detect(&RuleEvent::Ineffective(&event), self.out);
                } else {
                    self.state.history.ineffective = Some((local, whose));
                }
            }
        }
        if !unit.forwarded && self.end_borrow(at) {
            // The unit is judged once the requests that were in flight beside it are answered.
        } else if !unit.forwarded || self.state.attribution_of(unit.no).is_some() {
            self.flush(unit.no);
        } else if !self.state.units.pending.is_empty() {
            self.parts.timers.set(at + PATIENCE, Due::GiveUpWaiting(self.state.facts.id));
        }
    }

    /// Drives the ledger with an acknowledged (or failed, or unknown) operation.
    pub(super) fn drive_ledger(&mut self, op: &Operation) {
        let unit = if op.request == 0 { UnitNo(0) } else { self.unit_of(op.request) };
        match op.outcome {
            Outcome::Ok => self.state.ledger.apply(&op.effect, op.ended, unit),
            // Only a transaction is undone by a failure.
            Outcome::Error if self.state.facts.protocol == Protocol::Postgres => self.state.ledger.failed(),
            Outcome::Error => {}
            Outcome::Unknown if op.effect == Effect::None => {}
            Outcome::Unknown => self.state.ledger.apply(&Effect::Unknown, op.ended, unit),
        }
        match op.effect {
            Effect::Begin if op.outcome == Outcome::Ok => {
                self.state.units.current.transaction = Transaction::Open;
            }
            Effect::Commit | Effect::Rollback if self.state.units.current.transaction == Transaction::Open => {
                self.state.units.current.transaction = Transaction::Over;
            }
            Effect::Bind { slot, claim, scope, strength } if op.outcome == Outcome::Ok => {
                self.note_binding(op, slot, claim, scope, strength);
            }
            _ => {}
        }
    }

    fn note_binding(&mut self, op: &Operation, slot: Slot, claim: Claim, scope: Scope, strength: Strength) {
        let chosen = matches!(claim, Claim::Chosen(_));
        if !matches!(claim, Claim::Tenant(_) | Claim::Opaque(_)) && !chosen {
            return;
        }
        self.state.history.first_bind.get_or_insert(op.ended);
        let Some(service) = self.service() else { return };
        if scope != Scope::Startup && strength >= self.minimum() {
            let bound = Bound { slot, claim, scope, strength, at: op.ended, unit: self.unit_of(op.request) };
            let order = self.state.ledger.order();
            if self.state.history.follows.bound(order, bound, scope == Scope::Transaction) {
                self.something_followed();
            }
        }
        if chosen {
            return;
        }
        match scope {
            Scope::Transaction => {
                let warned = op.warned_ineffective;
                self.state.units.current.local = Some(LocalBind { slot, at: op.ended, warned });
            }
            Scope::Session => self.parts.learned.learn_session_binding(self.state.facts.client_workload, service),
            Scope::Startup => {}
        }
        if strength >= self.minimum() {
            let tenant = match claim {
                Claim::Tenant(t) => Some(t),
                Claim::Opaque(id) => self.parts.learned.alias(service, id, None),
                _ => None,
            };
            self.parts.map.note_binding(service, slot, tenant, op.ended);
            self.parts.learned.lookups.bound_by(service, slot);
        }
    }
}
