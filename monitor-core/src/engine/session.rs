//! What happens on one connection, as its decoder tells it: requests join units of work, acknowledged operations drive
//! the ledger, and every data operation is judged once it is known for whom it was.

use smallvec::SmallVec;

use super::conn::{Core, LocalBind, MAX_OPEN, MAX_PENDING, Open, Pending};
use super::output::Output;
use super::parts::Parts;
use super::timers::{Due, PATIENCE};
use crate::attribute::forwarded::{Outbound, Settled};
use crate::decode::{Disturbance, Mark, SessionStart, Sink};
use crate::detect::{Desync, How, Ineffective, RuleEvent, Site};
use crate::model::cookies::Cookies;
use crate::model::http;
use crate::model::keys::KeyUses;
use crate::model::mcp::{Exchange, Sender};
use crate::model::queue::QueueEvent;
use crate::model::steps::{step, walk};
use crate::model::token::Token;
use crate::model::{
    Attribution, Basis, Bound, Claim, Effect, Fingerprint, MarkerPlace, Nanos, OpKind, Operation, Outcome, Protocol,
    Scope, ServiceId, Side, Slot, Strength, Sym, TenantId, TxStatus, UnitNo,
};

/// A connection's events on their way to ledger and rules.
pub(super) struct Session<'a> {
    pub(super) parts: &'a mut Parts,
    pub(super) core: &'a mut Core,
    pub(super) out: &'a mut dyn Output,
    /// Set when the decoder gives up.
    pub(super) gave_up: bool,
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
    fn reads(&mut self, request: u64) {
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
    fn open_at(&self, request: u64) -> Option<usize> {
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
    fn end_unit(&mut self, at: Nanos) {
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
    fn apply(&mut self, op: &Operation) {
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

impl Sink for Session<'_> {
    fn claim(&mut self, slot: Slot, name: &str, value: &str) -> Claim {
        let policy = self.parts.map.policy(&self.parts.ctx, self.core.service);
        policy.claim(&self.parts.ctx.tenants, self.parts.ctx.settings.salt, slot, name, value)
    }

    fn setting_binds(&self, name: &str) -> bool {
        self.parts.map.policy(&self.parts.ctx, self.core.service).setting_binds(name)
    }

    fn marker(&mut self, place: MarkerPlace, name: &str, value: &str) -> Claim {
        let policy = self.parts.map.policy(&self.parts.ctx, self.core.service);
        policy.marker(&self.parts.ctx.tenants, self.parts.ctx.settings.salt, place, name, value)
    }

    fn wants_values(&self, from: Side) -> bool {
        self.looks_at_values(from)
    }

    fn intern(&mut self, name: &str) -> Sym {
        self.parts.ctx.names.hear(name, self.core.protocol)
    }

    fn word(&mut self, word: &'static str) -> Sym {
        self.parts.ctx.names.intern(word)
    }

    fn started(&mut self, start: SessionStart) {
        self.core.session = Some(start);
    }

    fn arrived(&mut self, request: u64, at: Nanos) {
        self.reads(request);
        self.starts(request, at);
        self.comes_in(request, at);
        self.is_asked();
    }

    fn mark(&mut self, request: u64, from: Side, mark: Mark) {
        self.carries(request, from, mark);
    }

    fn begun(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        self.reads(request);
        self.starts(request, at);
        self.comes_in(request, at);
        self.goes_out(request, at);
        if self.core.open.len() >= MAX_OPEN {
            // What is not remembered is as good as lost.
            if let Some(relay) = self.core.enters {
                self.parts.attributor.forwarding.distrusts(relay, at);
            }
            return;
        }
        let mut entered = false;
        if let (Some(relay), Some(print)) = (self.core.enters, print)
            && self.parts.attributor.is_relay(relay, self.core.protocol)
        {
            let (attributor, directory) = (&mut self.parts.attributor, &self.parts.ctx.directory);
            attributor.enter(relay, print, self.core, (request, at), directory);
            entered = true;
        }
        self.core.open.push(Open { request, begun: at, print, entered, cut: false });
    }

    fn wants_cached(&self) -> bool {
        self.may_be_cached()
    }

    fn cached(&mut self, exchange: http::Exchange) {
        self.fetched(exchange);
    }

    fn keys(&mut self, uses: KeyUses) {
        self.core.keys = uses;
    }

    fn cookies(&mut self, request: u64, cookies: Box<Cookies>) {
        self.core.cookies = Some((request, cookies));
    }

    fn done(&mut self, op: &Operation) {
        let cookies = self.core.cookies.take_if(|(request, _)| *request == op.request).map(|(_, cookies)| cookies);
        let with_cookies = cookies.as_deref().map(|cookies| self.with_cookies(op, cookies));
        let op = with_cookies.as_ref().unwrap_or(op);
        if self.core.closing
            && op.outcome == Outcome::Unknown
            && let Some(open) = self.open_at(op.request).and_then(|at| self.core.open.get_mut(at))
        {
            open.cut = true;
        }
        let begins_again = op.effect == Effect::Begin && op.outcome == Outcome::Ok && self.core.unit.begun;
        self.fold(begins_again.then_some(op.request));
        if op.outcome == Outcome::Unknown && (op.kind == OpKind::Data || op.effect == Effect::Check) {
            // What its sender was answered is not known.
            self.parts.judge.missed.on(None, None, self.core.client_workload, op.ended);
            if let (Protocol::Http, Some(service)) = (self.core.protocol, self.core.service) {
                let tenant = self.core.endpoint.map(|a| a.tenant);
                self.parts.judge.missed.unanswered(service, tenant, op.ended);
            }
        }
        if op.kind == OpKind::Deliver {
            self.core.delivered_by = op.verb;
        }
        let data = op.kind == OpKind::Data && op.outcome != Outcome::Error;
        // What the statement may have done unseen, it may have done before it touched the data.
        let blind = op.effect == Effect::Unknown;
        if blind {
            self.apply(op);
        }
        if data {
            let no = self.unit_of(op.request);
            self.core.first_data.get_or_insert(no);
            self.has_worked(op);
        }
        if data && self.core.follows.uses() {
            self.something_followed();
        }
        if data && op.tables.is_some() {
            self.states_itself(op);
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
        self.may_begin_again(op);
        let keys = std::mem::take(&mut self.core.keys);
        let cached = self.core.cached.take();
        let unit = self.unit_of(op.request);
        let pending = Pending { unit, protocol: self.core.protocol, op: *op, view, keys, cookies, cached };
        let asks = op.effect == Effect::Check;
        let posts = op.kind == OpKind::Publish;
        let wait = !self.known()
            && op.request != 0
            && (data || asks || posts || pending.cookies.is_some() || self.parts.ctx.settings.operations);
        if wait && self.core.pending.len() < MAX_PENDING {
            self.core.pending.push(pending.unit, pending);
        } else {
            self.judge(&pending);
        }
    }

    fn answered(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        self.fold(None);
        let Some(index) = self.open_at(request) else { return };
        let open = self.core.open.remove(index);
        if !open.cut {
            self.is_answered(request, at);
        }
        let Some(request_print) = open.print else { return };
        let mut settled = std::mem::take(&mut self.parts.attributor.settled);
        if let Some(relay) = self.core.enters.filter(|_| open.entered) {
            let f = &mut self.parts.attributor.forwarding;
            let id = (self.core.id, request, open.begun);
            f.passed_on(relay, request_print, id, at, print, &mut settled);
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
            let origins = self.parts.attributor.forwarding.leave(relay, request_print, outbound, &mut settled);
            self.core.came_in_on(origins);
        }
        self.parts.attributor.settled = settled;
    }

    fn token(&mut self, scheme: &str, token: &str) -> Option<Token> {
        let before = self.parts.tokens.n_unchecked();
        let known = self.parts.token(self.core.service, scheme, token);
        if self.parts.tokens.n_unchecked() > before {
            self.decode_error("token_unchecked");
        }
        known
    }

    fn canaries(&mut self, text: &str) -> SmallVec<[TenantId; 1]> {
        self.parts.ctx.canaries.within(text)
    }

    fn speaks(&mut self, protocol: Protocol) {
        self.core.protocol = protocol;
        if let Some(service) = self.core.service.and_then(|s| self.parts.map.service_mut(s)) {
            service.protocol = protocol;
        }
    }

    fn sender(&self) -> Sender {
        Sender { workload: self.core.client_workload, by: self.core.endpoint }
    }

    fn mcp(&mut self, exchange: &Exchange) {
        if let Some(service) = self.core.service {
            self.parts.map.tools.note(service, exchange);
        }
        self.exchanged(exchange);
    }

    fn queue(&mut self, event: QueueEvent) {
        self.core.astray = false;
        self.of_queue(event);
    }

    fn unmatched_reply(&mut self, at: Nanos, _why: &'static str) {
        if self.core.mid_stream || self.core.disturbed {
            return;
        }
        let used = self.core.endpoint.map(|a| a.tenant);
        let event = Desync { site: self.site(), at, how: How::Unasked, used, owner: None };
        self.parts.detect(&RuleEvent::Desync(event), self.out);
    }

    fn status(&mut self, at: Nanos, status: TxStatus) {
        self.fold(None);
        self.core.ledger.status(status);
        if status == TxStatus::Idle {
            self.end_unit(at);
        } else {
            self.core.unit.held = true;
        }
    }

    fn disturbed(&mut self, at: Nanos, why: Disturbance) {
        self.fold(None);
        *self.parts.stats.disturbances.entry(why.name()).or_default() += 1;
        self.core.disturbed = true;
        self.core.astray = true;
        self.misses(at);
        self.may_break_habits();
        self.core.ledger.disturb(why == Disturbance::MidStream);
        self.abandons_all(at);
        self.loses_jobs(at);
        for open in self.core.open.drain(..) {
            if let (Some(relay), Some(print), true) = (self.core.enters, open.print, open.entered) {
                self.parts.attributor.forwarding.close(relay, print, (self.core.id, open.request, open.begun));
            }
        }
        // Some request of the unit may be what was lost.
        if self.core.unit.open {
            let no = self.core.unit.no;
            if let Some(unit) = self.core.known_unit(no) {
                unit.contradicted = true;
            }
            // Or the end of it, and what follows is somebody else's.
            if let Some(borrow) = &mut self.core.borrow {
                borrow.torn = true;
            }
        }
        if let Some(place) = self.core.leaves.and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            place.replies.forget(self.core.id);
            place.works.miss(at);
        }
        self.core.unit.local = None;
        self.core.ineffective = None;
        for relay in [self.core.enters, self.core.leaves].into_iter().flatten() {
            self.parts.attributor.forwarding.disturbed(relay);
        }
        self.missed_here();
        // Whoever waits on this connection has lost its evidence.
        for mut pending in walk(self.core.pending.take_all(None)) {
            pending.op.outcome = Outcome::Unknown;
            self.judge(&pending);
        }
    }

    fn opaque(&mut self, at: Nanos, why: &'static str) {
        self.gave_up = true;
        self.core.unreadable = why;
        if why == "tls" && self.parts.ctx.settings.tls.is_some() {
            // It may be read all the same.
            return;
        }
        self.core.astray = true;
        self.misses(at);
    }

    fn decode_error(&mut self, kind: &'static str) {
        *self.parts.stats.decode_errors.entry((self.core.protocol, kind)).or_default() += 1;
    }
}
