//! One connection, at work on one event: its state, the engine's other parts, and where results go. Units of work begin
//! and end here, and acknowledged operations drive the ledger; what leads here is in `apply.rs`.

use super::conn::{Core, LocalBind};
use super::output::Output;
use super::parts::Parts;
use super::timers::{Due, PATIENCE};
use crate::attribute::forwarded::Settled;
use crate::detect::{Ineffective, RuleEvent, Site};
use crate::model::steps::{step, walk};
use crate::model::{
    Attribution, Basis, Bound, Claim, Effect, Nanos, Operation, Outcome, Protocol, Scope, ServiceId, Slot, Strength,
    UnitNo,
};

/// A connection at work on one event.
pub(super) struct Session<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) core: &'a mut Core,
    pub(super) out: &'a mut dyn Output,
}

impl Session<'_> {
    pub(super) fn service(&self) -> ServiceId {
        self.core.service.unwrap_or(ServiceId(u32::MAX))
    }

    pub(super) fn minimum(&self) -> Strength {
        self.parts.map.services.get(self.service().0 as usize).map_or(Strength::V2, |s| s.minimum)
    }

    pub(super) fn site(&self) -> Site {
        Site { service: self.core.service, workload: self.core.client_workload, flow: self.core.flow }
    }

    /// Something of this connection was missed.
    pub(super) fn misses(&mut self, at: Nanos) {
        let core = &*self.core;
        self.parts.judge.missed.on(core.service, core.endpoint.map(|a| a.tenant), core.client_workload, at);
    }

    /// A request was read: if it is a new one, the place in the connection is known.
    pub(super) fn reads(&mut self, request: u64) {
        if request > self.core.latest {
            self.core.latest = request;
            self.core.astray = false;
        }
    }

    /// It is now known where a request of unit `settled.unit` came from.
    pub(super) fn settle(&mut self, settled: &Settled) {
        match settled.tenant {
            Some(tenant) => {
                let attribution =
                    Attribution { client: settled.origin, ..Attribution::new(tenant, Basis::ForwardedContent) };
                self.core.settled(settled.unit, attribution);
            }
            // From a connection of nobody's that we know: nobody else's, either.
            None => {
                if let Some(unit) = self.core.known_unit(settled.unit) {
                    unit.contradicted = true;
                }
            }
        }
        // While the unit goes on, its next request may still contradict.
        let over = !self.core.unit.open || self.core.unit.no != settled.unit;
        if over && self.core.attribution_of(settled.unit).is_some() {
            self.flush(settled.unit);
        }
    }

    /// Judges what waits of unit `no`, in order.
    pub(super) fn flush(&mut self, no: UnitNo) {
        for pending in walk(self.core.pending.take(no)) {
            self.judge(&pending);
        }
    }

    /// The unit of work that is open.
    pub(super) fn current_unit(&self) -> Option<UnitNo> {
        let unit = self.core.unit;
        unit.open.then_some(unit.no)
    }

    /// Judges all that waits, in order; what belongs to unit `but` goes on waiting.
    pub(super) fn flush_all(&mut self, but: Option<UnitNo>) {
        for pending in walk(self.core.pending.take_all(but)) {
            self.judge(&pending);
        }
    }

    /// Where among those without an answer a request is: mostly the first, as answers come in order.
    pub(super) fn open_at(&self, request: u64) -> Option<usize> {
        self.core.open.iter().position(|o| {
            step();
            o.request == request
        })
    }

    /// The unit of work has begun.
    pub(super) fn begin_unit(&mut self, request: u64, at: Nanos) {
        self.core.unit.no.0 = self.core.unit.no.0.wrapping_add(1);
        self.core.unit.open = true;
        self.core.unit.forwarded = false;
        self.core.unit.unmatched = false;
        self.core.unit.explicit = false;
        self.core.unit.begun = false;
        self.core.unit.held = false;
        self.core.unit.local = None;
        self.core.unit.first = request;
        self.core.earlier.clear();
        self.borrows(at);
    }

    /// The unit of work is over.
    pub(super) fn end_unit(&mut self, at: Nanos) {
        self.fold(None);
        let unit = self.core.unit;
        // Idle again with nothing begun since (a Parse and a Sync): the unit before has ended already.
        if !unit.open {
            return;
        }
        self.core.unit.open = false;
        self.core.unit.explicit = false;
        self.core.follows.unit_ends();
        if let Some(local) = self.core.unit.local.take() {
            // Nothing used it before its transaction ended. That matters where nobody began one, and on the
            // application's own connection: what a relay sends on is judged where it came in.
            if !unit.explicit && !unit.forwarded {
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
                    self.core.ineffective = Some((local, whose));
                }
            }
        }
        if !unit.forwarded && self.gives_back(at) {
            // Judged when it is known what else was in flight.
        } else if !unit.forwarded || self.core.attribution_of(unit.no).is_some() {
            self.flush(unit.no);
        } else if !self.core.pending.is_empty() {
            self.parts.timers.set(at + PATIENCE, Due::GiveUpWaiting(self.core.id));
        }
    }

    /// Drives the ledger with an acknowledged (or failed, or unknown) operation.
    pub(super) fn drive_ledger(&mut self, op: &Operation) {
        let unit = if op.request == 0 { UnitNo(0) } else { self.unit_of(op.request) };
        match op.outcome {
            Outcome::Ok => self.core.ledger.apply(&op.effect, op.ended, unit),
            // Only a transaction is undone by a failure.
            Outcome::Error if self.core.protocol == Protocol::Postgres => self.core.ledger.failed(),
            Outcome::Error => {}
            Outcome::Unknown if op.effect == Effect::None => {}
            Outcome::Unknown => self.core.ledger.apply(&Effect::Unknown, op.ended, unit),
        }
        match op.effect {
            Effect::Begin if op.outcome == Outcome::Ok => {
                self.core.unit.explicit = true;
                self.core.unit.begun = true;
            }
            Effect::Commit | Effect::Rollback => self.core.unit.begun = false,
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
        self.core.first_bind.get_or_insert(op.ended);
        let service = self.service();
        if scope != Scope::Startup && strength >= self.minimum() {
            let bound = Bound { slot, claim, scope, strength, at: op.ended, unit: self.unit_of(op.request) };
            let order = self.core.ledger.order();
            if self.core.follows.bound(order, bound, scope == Scope::Transaction) {
                self.something_followed();
            }
        }
        if chosen {
            return;
        }
        match scope {
            Scope::Transaction => {
                let warned = op.warned_ineffective;
                self.core.unit.local = Some(LocalBind { slot, at: op.ended, warned });
            }
            Scope::Session => self.parts.learned.learn_session_binding(self.core.client_workload, service),
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
