//! What happens on one connection, as its decoder tells it: requests join units of work, acknowledged operations drive
//! the ledger, and every data operation is judged once it is known for whom it was.

use smallvec::SmallVec;

use super::conn::{Core, LocalBind, MAX_OPEN, MAX_PENDING, MAX_USERS, Open, Pending};
use super::output::Output;
use super::shared::Shared;
use crate::attribute::by_binding;
use crate::attribute::forwarded::{Inbound, Outbound, Settled};
use crate::decode::{Disturbance, Mark, SessionStart, Sink};
use crate::detect::{Ineffective, LiveBinding, RuleEvent, Site, Use};
use crate::ledger::{Question, View, judge};
use crate::model::{
    Answer, Attribution, Basis, Bound, Claim, Effect, Fingerprint, MarkerPlace, Nanos, OpKind, Operation, OtherUse,
    Outcome, Ruling, Scope, ServiceId, Side, Slot, Strength, Sym, TxStatus, UnitNo, Verdict,
};

/// A connection's events on their way to ledger and rules.
pub(super) struct Session<'a> {
    pub(super) shared: &'a mut Shared,
    pub(super) core: &'a mut Core,
    pub(super) out: &'a mut dyn Output,
    /// Set when the decoder gives up.
    pub(super) gave_up: bool,
}

impl Session<'_> {
    fn service(&self) -> ServiceId {
        self.core.service.unwrap_or(ServiceId(u32::MAX))
    }

    fn minimum(&self) -> Strength {
        self.shared.services.get(self.service().0 as usize).map_or(Strength::V2, |s| s.minimum)
    }

    fn site(&self) -> Site {
        Site { service: self.core.service, workload: self.core.client_workload, flow: self.core.flow }
    }

    /// For whom an operation of unit `no` is: the client's own container, then what its relay forwarded, then what the
    /// unit itself has bound.
    fn answer(&self, no: UnitNo, live: &[Bound]) -> Answer {
        if let Some(a) = self.core.attribution_of(no) {
            return Answer::Tenant(a);
        }
        let service = self.service();
        match by_binding(live, no, &|id| self.shared.alias(service, id, None)) {
            Some(a) => Answer::Tenant(a),
            None if self.core.unit.forwarded => Answer::Several,
            None => Answer::Unknown,
        }
    }

    /// Whether it is already known for whom the current unit is.
    fn known(&self) -> bool {
        self.core.endpoint.is_some()
    }

    /// Counts and hands out an operation that needs no verdict.
    fn tell(&mut self, op: &Operation, answer: Answer) {
        self.shared.note_operation(self.core, op, answer, Verdict::None, self.out);
    }

    /// Judges one data operation, now that it is known for whom it was, or that it never will be.
    fn judge(&mut self, pending: &Pending) {
        let Some(view) = &pending.view else {
            let answer = self.answer(pending.unit, &[]);
            self.tell(&pending.op, answer);
            return;
        };
        let op = &pending.op;
        let answer = self.answer(pending.unit, &view.live);
        let service = self.service();
        let (ruling, other) = match answer {
            Answer::Tenant(a) => self.rule_on(pending, view, a),
            // Nobody is named, but this very unit has bound the connection for somebody, and was acknowledged.
            Answer::Unknown | Answer::Several
                if !view.live.is_empty() && view.live.iter().all(|b| b.unit == pending.unit) =>
            {
                (Ruling { verdict: Verdict::Revalidated, other: None, binding: None, learned: None }, None)
            }
            Answer::Unknown | Answer::Several => {
                (Ruling { verdict: Verdict::Indeterminate, other: None, binding: None, learned: None }, None)
            }
        };
        // A reply that was not seen whole proves nothing.
        let ruling = if op.outcome == Outcome::Unknown {
            Ruling { verdict: Verdict::Indeterminate, other: None, binding: None, learned: None }
        } else {
            ruling
        };
        let attribution = answer.attribution();
        let tenant = attribution.map(|a| a.tenant);
        if let Some(tenant) = tenant {
            if self.core.last_user.is_some_and(|last| last != tenant) {
                let key = (service, self.core.protocol, ruling.verdict);
                *self.shared.stats.switches.entry(key).or_default() += 1;
            }
            self.core.last_user = Some(tenant);
            if let Some(id) = ruling.learned {
                self.shared.learn_alias(service, id, tenant);
            }
        }
        if let Some(a) = attribution {
            self.note_user(op, view, a);
        }
        let credential = self.core.session.map(|s| (s.user, s.database));
        self.shared.note_use(service, self.core.client_workload, tenant, ruling.verdict, credential, op.ended);
        self.shared.note_operation(self.core, op, answer, ruling.verdict, self.out);

        if let Some((local, whose)) = self.core.ineffective.take() {
            self.went_uncovered(local, whose, op, answer, &ruling);
        }
        let live = view
            .live
            .iter()
            .map(|b| {
                let by = self.core.attribution_of(b.unit);
                LiveBinding { bound: *b, author: by.map(|a| a.tenant), client: by.and_then(|a| a.client) }
            })
            .collect();
        let event =
            Use { site: self.site(), at: op.ended, verb: op.verb, target: op.target, answer, ruling, other, live };
        self.shared.detect(&RuleEvent::Use(&event), self.out);
    }

    fn rule_on(&self, pending: &Pending, view: &View, a: Attribution) -> (Ruling, Option<OtherUse>) {
        let service = self.service();
        let other = self
            .core
            .users
            .iter()
            .filter(|u| u.tenant != a.tenant && u.order < view.order)
            .max_by_key(|u| u.order)
            .copied();
        let ruling = judge(&Question {
            view,
            unit: pending.unit,
            tenant: a.tenant,
            author: &|no| self.core.attribution_of(no).map(|a| a.tenant),
            alias: &|id| self.shared.alias(service, id, Some(a.tenant)),
            other,
            binds_sessions: self.shared.binds_sessions(self.core.client_workload, service),
        });
        (ruling, other)
    }

    fn note_user(&mut self, op: &Operation, view: &View, a: Attribution) {
        let this = OtherUse {
            tenant: a.tenant,
            basis: a.basis,
            order: view.order,
            at: op.ended,
            verb: op.verb,
            target: op.target,
        };
        match self.core.users.iter_mut().find(|u| u.tenant == a.tenant) {
            Some(u) if u.order > this.order => {}
            Some(u) => *u = this,
            None => {
                if self.core.users.len() >= MAX_USERS {
                    self.core.users.remove(0);
                }
                self.core.users.push(this);
            }
        }
    }

    /// A local binding had no effect, and then a data operation came: was that one covered otherwise?
    fn went_uncovered(&mut self, local: LocalBind, whose: Answer, op: &Operation, answer: Answer, ruling: &Ruling) {
        let (whose_tenant, tenant) = (whose.attribution().map(|a| a.tenant), answer.attribution().map(|a| a.tenant));
        let another = whose_tenant.is_some() && tenant.is_some() && whose_tenant != tenant;
        if another || matches!(ruling.verdict, Verdict::Revalidated) {
            return;
        }
        let event = Ineffective {
            site: self.site(),
            at: local.at,
            slot: local.slot,
            warned: local.warned,
            answer: if whose_tenant.is_some() { whose } else { answer },
            uncovered: Some((op.ended, op.verb, op.target)),
        };
        self.shared.detect(&RuleEvent::Ineffective(&event), self.out);
    }

    /// It is now known where a request of unit `settled.unit` came from.
    pub(super) fn settle(&mut self, settled: &Settled) {
        match settled.tenant {
            Some(tenant) => {
                let attribution = Attribution { tenant, basis: Basis::ForwardedContent, client: settled.origin };
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
            self.flush(|p| p.unit == settled.unit);
        }
    }

    /// Judges what waits and matches, in order.
    pub(super) fn flush(&mut self, matching: impl Fn(&Pending) -> bool) {
        if !self.core.pending.iter().any(&matching) {
            return;
        }
        let all = std::mem::take(&mut self.core.pending);
        let (due, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(matching);
        self.core.pending = rest;
        for pending in &due {
            self.judge(pending);
        }
    }

    /// The unit of work is over.
    fn end_unit(&mut self, at: Nanos) {
        let unit = self.core.unit;
        self.core.unit.open = false;
        self.core.unit.explicit = false;
        if let Some(local) = self.core.unit.local.take() {
            // Nothing used it before its transaction ended. That matters where nobody began one, and on the
            // application's own connection: what a relay sends on is judged where it came in.
            if !unit.explicit && !unit.forwarded {
                let whose = self.answer(unit.no, &[]);
                if local.warned {
                    let event = Ineffective {
                        site: self.site(),
                        at: local.at,
                        slot: local.slot,
                        warned: true,
                        answer: whose,
                        uncovered: None,
                    };
                    self.shared.detect(&RuleEvent::Ineffective(&event), self.out);
                } else {
                    self.core.ineffective = Some((local, whose));
                }
            }
        }
        if !unit.forwarded || self.core.attribution_of(unit.no).is_some() {
            self.flush(|p| p.unit == unit.no);
        } else if !self.core.pending.is_empty() {
            self.shared.waiting.push_back((at, self.core.id));
        }
    }

    /// Drives the ledger with an acknowledged (or failed, or unknown) operation.
    fn apply(&mut self, op: &Operation) {
        let unit = if op.request == 0 { UnitNo(0) } else { self.core.unit.no };
        match op.outcome {
            Outcome::Ok => self.core.ledger.apply(&op.effect, op.ended, unit),
            Outcome::Error => self.core.ledger.failed(),
            Outcome::Unknown if op.effect == Effect::None => {}
            Outcome::Unknown => self.core.ledger.apply(&Effect::Unknown, op.ended, unit),
        }
        match op.effect {
            Effect::Begin if op.outcome == Outcome::Ok => self.core.unit.explicit = true,
            Effect::Bind { slot, claim, scope, strength } if op.outcome == Outcome::Ok => {
                self.note_binding(op, slot, claim, scope, strength);
            }
            _ => {}
        }
    }

    fn note_binding(&mut self, op: &Operation, slot: Slot, claim: Claim, scope: Scope, strength: Strength) {
        if !matches!(claim, Claim::Tenant(_) | Claim::Opaque(_)) {
            return;
        }
        let service = self.service();
        match scope {
            Scope::Transaction => {
                let warned = op.warned_ineffective;
                self.core.unit.local = Some(LocalBind { slot, at: op.ended, warned });
            }
            Scope::Session => self.shared.learn_session_binding(self.core.client_workload, service),
            Scope::Startup => {}
        }
        if strength >= self.minimum() {
            let tenant = match claim {
                Claim::Tenant(t) => Some(t),
                Claim::Opaque(id) => self.shared.alias(service, id, None),
                _ => None,
            };
            self.shared.note_binding(service, slot, tenant, op.ended);
        }
    }
}

impl Sink for Session<'_> {
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim {
        let policy = self.shared.policy(self.core.service);
        policy.claim(&self.shared.tenants, self.shared.settings.salt, slot, name, value)
    }

    fn setting_binds(&self, name: &str) -> bool {
        self.shared.policy(self.core.service).setting_binds(name)
    }

    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        let policy = self.shared.policy(self.core.service);
        policy.marker(&self.shared.tenants, self.shared.settings.salt, place, name, value)
    }

    fn wants_values(&self, _from: Side) -> bool {
        true
    }

    fn intern(&mut self, name: &str) -> Sym {
        self.shared.names.intern(name)
    }

    fn started(&mut self, start: SessionStart) {
        self.core.session = Some(start);
    }

    fn arrived(&mut self, _request: u64, _at: Nanos) {}

    fn mark(&mut self, _request: u64, _from: Side, _mark: Mark) {}

    fn begun(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        if !self.core.unit.open {
            self.core.unit.no.0 = self.core.unit.no.0.wrapping_add(1);
            self.core.unit.open = true;
            self.core.unit.forwarded = false;
            self.core.unit.unmatched = false;
            self.core.unit.explicit = false;
            self.core.unit.local = None;
        }
        if self.core.open.len() >= MAX_OPEN {
            // What is not remembered is as good as lost.
            self.shared.forwarding.disturbed_all(at);
            return;
        }
        let mut entered = false;
        if let (Some(relay), Some(print)) = (self.core.enters, print)
            && self.shared.is_relay(relay, self.core.protocol)
        {
            let tenant = self.core.endpoint.map(|a| a.tenant);
            let inbound = Inbound { conn: self.core.id, request, tenant, service: self.core.service, begun: at };
            self.shared.forwarding.enter(relay, print, inbound);
            entered = true;
        }
        self.core.open.push(Open { request, begun: at, print, entered });
    }

    fn done(&mut self, op: &Operation) {
        let data = op.kind == OpKind::Data && op.outcome != Outcome::Error;
        // What the statement may have done unseen, it may have done before it touched the data.
        let blind = op.effect == Effect::Unknown;
        if blind {
            self.apply(op);
        }
        let view = data.then(|| {
            let minimum = self.minimum();
            // A local binding that an operation has used did have an effect, warned or not: in a pipeline the server
            // warns, and keeps it until the Sync.
            self.core.unit.local = None;
            self.core.ledger.view(minimum)
        });
        if !blind {
            self.apply(op);
        }
        let pending = Pending { unit: self.core.unit.no, op: *op, view };
        let wait = !self.known() && op.request != 0 && (data || self.shared.settings.operations);
        if wait && self.core.pending.len() < MAX_PENDING {
            self.core.pending.push(pending);
        } else {
            self.judge(&pending);
        }
    }

    fn answered(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        let Some(index) = self.core.open.iter().position(|o| o.request == request) else { return };
        let open = self.core.open.remove(index);
        let Some(request_print) = open.print else { return };
        let mut settled = std::mem::take(&mut self.shared.settled);
        if let Some(relay) = self.core.enters.filter(|_| open.entered) {
            let f = &mut self.shared.forwarding;
            f.passed_on(relay, request_print, self.core.id, request, at, print, &mut settled);
        }
        if let Some(relay) = self.core.leaves.filter(|_| self.core.endpoint.is_none()) {
            let outbound = Outbound {
                conn: self.core.id,
                unit: self.core.unit.no,
                service: self.core.service,
                begun: open.begun,
                answered: at,
                reply: print,
            };
            let origins = self.shared.forwarding.leave(relay, request_print, outbound, &mut settled);
            self.core.came_in_on(origins);
        }
        self.shared.settled = settled;
    }

    fn status(&mut self, at: Nanos, status: TxStatus) {
        self.core.ledger.status(status);
        if status == TxStatus::Idle {
            self.end_unit(at);
        }
    }

    fn disturbed(&mut self, at: Nanos, why: Disturbance) {
        *self.shared.stats.disturbances.entry(why.name()).or_default() += 1;
        self.core.ledger.disturb(why == Disturbance::MidStream);
        for open in self.core.open.drain(..) {
            if let (Some(relay), Some(print), true) = (self.core.enters, open.print, open.entered) {
                self.shared.forwarding.close(relay, print, self.core.id, at);
            }
        }
        // Some request of the unit may be what was lost.
        if self.core.unit.open {
            let no = self.core.unit.no;
            if let Some(unit) = self.core.known_unit(no) {
                unit.contradicted = true;
            }
        }
        self.core.unit.local = None;
        self.core.ineffective = None;
        for relay in [self.core.enters, self.core.leaves].into_iter().flatten() {
            self.shared.forwarding.disturbed(relay);
        }
        // Whoever waits on this connection has lost its evidence.
        let all: SmallVec<[Pending; 4]> = self.core.pending.drain(..).collect();
        for mut pending in all {
            pending.op.outcome = Outcome::Unknown;
            self.judge(&pending);
        }
    }

    fn opaque(&mut self, _at: Nanos, _why: &'static str) {
        self.gave_up = true;
    }

    fn decode_error(&mut self, kind: &'static str) {
        *self.shared.stats.decode_errors.entry((self.core.protocol, kind)).or_default() += 1;
    }
}
