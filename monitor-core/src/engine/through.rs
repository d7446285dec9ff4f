//! For whom is it, where one process works for many? Keeps the places of [`crate::attribute::through`] up to date with
//! what goes in and out, and asks them when a unit of work is ripe.

use smallvec::SmallVec;

use super::on_conn::OnConn;
use super::timers::{CHECK_ANSWER, DESERTED, Due, LOOK_THROUGH, PATIENCE};
use super::units::{Lent, MAX_PAST, Pending};
use crate::attribute::by_binding;
use crate::attribute::forwarded::Relay;
use crate::attribute::through::{self, Borrow, Place, Through, Via, Whom};
use crate::decode::Mark;
use crate::detect::{Cause, Desync, How, RuleEvent, Site};
use crate::model::mcp::Exchange;
use crate::model::{
    Answer, Attribution, Bases, Basis, Bound, Claim, EvidenceClass, Fingerprint, Nanos, OpKind, Operation, Protocol,
    RequestNo, Side, Slot, TenantId, ThreadId, UnitNo,
};

/// Some request in flight came in by the very protocol that work goes out in, and it is one that poolers pass on.
fn passes_on(borrow: &Borrow, place: &Place, protocol: Protocol) -> bool {
    protocol.is_sql() && borrow.is_passed_on(place, protocol)
}

impl OnConn<'_> {
    fn inbound(&self) -> Option<Relay> {
        self.parts.attributor.inbound(&self.state.facts)
    }

    pub(super) fn outbound(&self) -> Option<Relay> {
        self.parts.attributor.outbound(&self.state.facts)
    }

    /// A request's head, or all of it, is there.
    pub(super) fn record_arrival(&mut self, request: u64, at: Nanos) {
        if let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            let whom = self.state.facts.endpoint.map_or(Whom::NotYet, |a| Whom::Tenant(a.tenant, a.class));
            place.arrived(self.state.key_of(request), whom, self.state.facts.protocol, at);
        }
    }

    /// `thread` has read what the client sent.
    pub(super) fn record_request_read(&mut self, thread: ThreadId) {
        self.state.facts.reader = Some(thread);
        let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) else { return };
        // Mostly one; of several in a pipeline, the answers have an order of their own.
        if let Some(open) = self.state.units.open.last() {
            place.agenda.read_request(thread, self.state.key_of(open.request));
        }
    }

    /// `thread` has read what the server sent.
    pub(super) fn record_reply_read(&mut self, thread: ThreadId) {
        let unit = self.state.units.current;
        if unit.open || unit.no == self.state.units.reply_read {
            return;
        }
        self.state.units.reply_read = unit.no;
        if let Some(place) = self.outbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            place.agenda.read_reply(thread, (self.state.facts.id, unit.no));
        }
    }

    /// A unit of work begins.
    pub(super) fn begin_borrow(&mut self, at: Nanos) {
        let Some(place) = self.outbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) else {
            self.state.units.borrow = None;
            return;
        };
        place.agenda.begins(self.state.facts.threads[0], (self.state.facts.id, self.state.units.current.no));
        self.state.units.borrow = Some(Borrow::begin(place, at));
    }

    /// A request of the unit of work goes out.
    pub(super) fn record_request(&mut self, request: u64, at: Nanos) {
        let thread = self.state.facts.threads[0];
        let Some(relay) = self.state.facts.leaves.filter(|_| self.state.units.borrow.is_some()) else { return };
        if let Some(place) = self.parts.attributor.places.get_mut(&relay) {
            place.worked.text();
            let tenant = place.only_tenant();
            let state = &self.state;
            let via = Via {
                conn: state.facts.id,
                service: state.facts.service,
                workload: state.facts.client_workload,
                flow: state.facts.flow,
            };
            place.replies.asked(via, request, at, tenant);
        }
        if let Some(borrow) = self.state.units.reads_for() {
            borrow.thread.and(thread);
        }
    }

    /// A request or a reply carries a mark.
    pub(super) fn record_mark(&mut self, request: u64, from: Side, mark: Mark) {
        if from == Side::Server {
            if let Mark::Value(value) = mark {
                self.record_reply_value(request, value);
            }
            return;
        }
        if let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            let key = self.state.key_of(request);
            match mark {
                Mark::Trace(trace) => place.carries_trace(key, trace),
                Mark::Value(value) => place.carries_value(key, value),
            }
        }
        let Some(relay) = self.state.facts.leaves else { return };
        if let (Some(borrow), Some(place)) =
            (self.state.units.reads_for(), self.parts.attributor.places.get_mut(&relay))
        {
            match mark {
                Mark::Trace(trace) => borrow.carries_trace(place, trace),
                Mark::Value(value) => {
                    borrow.carries_value(place, value);
                    if let Some(tenant) = self.parts.learned.tenant_values.named(value) {
                        borrow.names(tenant);
                    }
                    place.worked.seen(value);
                }
            }
        }
    }

    /// A reply carries a value.
    fn record_reply_value(&mut self, request: u64, value: Fingerprint) {
        let key = self.state.key_of(request);
        if let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            place.answers_with(key, value);
        }
        if self.state.facts.replies_matter()
            && let Some(place) = self.outbound().and_then(|r| self.parts.attributor.places.get_mut(&r))
        {
            place.replies.holds(key.0, request, value);
        }
    }

    /// Looks at an answer that this process gave at about `at`: rules are told if it belongs to somebody else.
    pub(super) fn check_answer(&mut self, request: u64, at: Nanos) {
        let key = self.state.key_of(request);
        let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) else { return };
        let Some(shifted) = place.check_answer(key) else { return };
        let Some(used) = place.request(key).map(|r| r.whom.tenant()) else { return };
        let via = shifted.via;
        let site = Site { service: via.service, workload: via.workload, flow: via.flow };
        let how = How::Shifted { times: shifted.times, alike: shifted.alike };
        let event = Desync { site, at, how, used, owner: shifted.owner };
        self.parts.detect(&RuleEvent::Desync(event), self.out);
    }

    /// A request that came in has been answered.
    pub(super) fn record_answer(&mut self, request: u64, at: Nanos) {
        let (answered_by, read_by) = (self.state.facts.threads[1], self.state.facts.reader);
        let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) else { return };
        let thread = match (answered_by, read_by) {
            (Some(a), Some(b)) if a != b => {
                place.affinity.handed_over();
                None
            }
            (thread, _) => thread,
        };
        if let Some(thread) = thread {
            place.affinity.answers(thread, at);
        }
        place.answered(self.state.key_of(request), at, thread);
        self.parts.timers.set(at + CHECK_ANSWER, Due::CheckAnswer(self.state.facts.id, request));
    }

    /// Requests that came in will not be answered, or their answers cannot be told apart any more.
    pub(super) fn abandon_requests(&mut self, at: Nanos) {
        let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) else { return };
        for key in place.open_on(self.state.facts.id) {
            place.abandoned(key, at);
        }
        place.miss(at);
    }

    /// The connection has ended: the sender of what came in on it and was not answered has gone.
    pub(super) fn desert_requests(&mut self, at: Nanos) {
        let Some(relay) = self.inbound() else { return };
        let Some(place) = self.parts.attributor.places.get_mut(&relay) else { return };
        for key in place.open_on(self.state.facts.id) {
            if place.deserted(key) {
                self.parts.timers.set(at + DESERTED, Due::Deserted(relay, key));
            }
        }
    }

    /// A data operation of the unit of work has been answered.
    pub(super) fn record_work(&mut self, op: &Operation) {
        let (Some(service), Some(relay)) = (self.service(), self.state.facts.leaves) else { return };
        let (conn, no) = (self.state.facts.id, self.unit_of(op.request));
        let earlier = self.state.units.current.no != no;
        let borrow = if earlier {
            self.state.units.lent.iter_mut().find(|lent| lent.no == no).map(|lent| &mut lent.borrow)
        } else {
            self.state.units.borrow.as_mut()
        };
        if let (Some(borrow), Some(place)) = (borrow, self.parts.attributor.places.get_mut(&relay)) {
            let shape = (service, op.verb, op.target);
            // What it does at its own broker is about its jobs, and mostly not for them.
            let at_broker = place.takes_jobs_from(service);
            if borrow.shapes.is_empty() {
                place.works.add((borrow.begun, conn, service));
            }
            borrow.worked(shape, op.ended);
            // After the answer, with nobody in flight, it comes by itself.
            let end = borrow.alone.as_mut().filter(|alone| op.request >= alone.from);
            let alone = end.map(|alone| alone.touched = true).is_some();
            place.replies.record_shape(conn, op.request, shape);
            // What came in unseen may have caused it.
            if !at_broker {
                place.acks.worked(self.state.facts.threads[0], op.ended);
            }
            if !at_broker && !borrow.too_early && place.is_clear(borrow.begun) {
                place.quiet.work(shape, op.begun, !borrow.candidates.is_empty() && !alone);
            }
        }
    }

    /// The unit of work is over: whether it waits to be looked at.
    pub(super) fn end_borrow(&mut self, at: Nanos) -> bool {
        let Some(borrow) = self.state.units.borrow.take() else { return false };
        self.state.units.lent.push_back(Lent { no: self.state.units.current.no, ended: at, until: None, borrow });
        self.parts.timers.set(at + LOOK_THROUGH, Due::LookThrough(self.state.facts.id));
        true
    }

    /// Looks at the units of work that are ripe, oldest first; `all`: at all of them.
    pub(super) fn look_through(&mut self, now: Nanos, all: bool) {
        if all {
            // Nothing more comes: a unit that is open still is over, too.
            self.fold(None);
            if !self.state.units.current.forwarded {
                self.end_borrow(now);
            }
        }
        while let Some(Lent { no, ended, until, borrow }) = self.state.units.lent.front() {
            let (no, ended) = (*no, *ended);
            let unanswered = until.is_some_and(|until| self.state.units.open.iter().any(|o| o.request < until));
            let Some(relay) = self.state.facts.leaves else { break };
            let Some(place) = self.parts.attributor.places.get_mut(&relay) else { break };
            let ripe = through::is_ripe(borrow, place) || now.since(ended) >= PATIENCE;
            if !all && (unanswered || !ripe || now.since(ended) < LOOK_THROUGH) {
                self.parts.timers.set(now + LOOK_THROUGH, Due::LookThrough(self.state.facts.id));
                break;
            }
            let policy = self.parts.ctx.settings.bases;
            let told = &mut self.parts.stats.bases;
            let mut found =
                through::resolve((self.state.facts.id, no), borrow, place, &policy, now, &mut |(basis, why)| {
                    *told.entry((basis, why.unwrap_or("spoke"))).or_default() += 1;
                });
            // What a pooler sends on comes from its clients: that is for its forwarded bytes to tell.
            if passes_on(borrow, place, self.state.facts.protocol) {
                found = Through { requests: found.requests, ..Through::default() };
            }
            self.state.units.lent.pop_front();
            if self.state.units.through.len() >= MAX_PAST {
                self.state.units.through.remove(0);
            }
            self.state.units.through.push((no, found));
            self.flush(no);
            self.tell_exchanges(Some(no));
            self.tell_posts(Some(no));
        }
    }

    /// For whom an operation of unit `no` is. `left`: bindings in force on the connection; `own`: what the operation
    /// says itself.
    ///
    /// The order of trust: the client's own container, what its relay forwarded, a trace id or the only request in
    /// flight, what the unit has bound, and only then inference.
    pub(super) fn answer(&self, no: UnitNo, begun: Nanos, left: &[Bound], own: &[Bound]) -> Answer {
        if let Some(a) = self.state.attribution_of(no) {
            return Answer::Tenant(a);
        }
        let binding = self.bound_by_unit(no, left, own);
        let through = self.state.units.through_of(no);
        if let Some(t) = through {
            if t.torn {
                return Answer::Several;
            }
            match (t.settled, self.bound_by_unit(no, left, &[])) {
                // The unit has just said otherwise: then the process does more than answer this one request. What a
                // credential has gone with so far is no such statement.
                (Some(s), Some(b)) if s.basis == Basis::Bracketed && s.tenant != b.tenant => return Answer::Several,
                (Some(s), _) => return Answer::Tenant(s),
                (None, _) => {}
            }
        }
        if let Some(b) = binding {
            // A schema that a statement names itself says what it touches: two guesses that agree say for whom.
            let only_stated = own.iter().any(|b| b.slot == Slot::Schema) && self.bound_by_unit(no, left, &[]).is_none();
            let guessed = if only_stated { self.inferred(through, None) } else { None };
            return Answer::Tenant(guessed.filter(|a| a.tenant != b.tenant && a.bases.count() >= 2).unwrap_or(b));
        }
        let marker = own.iter().find(|b| b.slot == Slot::Marker).and_then(|b| match b.claim {
            Claim::Tenant(t) => Some(t),
            Claim::Opaque(id) => self.parts.learned.alias(self.service()?, id, None),
            _ => None,
        });
        let others = |a: &Attribution| {
            own.iter().any(|b| match b.claim {
                Claim::Opaque(id) if b.slot == Slot::Credential => {
                    self.parts.learned.owners.one(id).is_some_and(|owner| owner != a.tenant)
                }
                _ => false,
            })
        };
        match self.inferred(through, marker) {
            Some(a) if others(&a) => Answer::Several,
            Some(a) if self.may_be_held(left, no, a.tenant, begun) => Answer::Several,
            Some(a) => Answer::Tenant(a),
            None if self.state.units.current.forwarded => Answer::Several,
            None if through.is_some_and(|t| !t.votes.is_empty() || !t.requests.is_empty()) => Answer::Several,
            None => Answer::Unknown,
        }
    }

    /// Whom the unit itself has bound, by a binding strong enough or by a credential of one tenant's.
    pub(super) fn bound_by_unit(&self, no: UnitNo, left: &[Bound], own: &[Bound]) -> Option<Attribution> {
        let (service, enough) = (self.service()?, self.minimum());
        let names = |slot, id| match slot {
            // Whom a credential has gone with is learned, and a shared one goes with several in the end: only one that
            // was verified names its tenant.
            Slot::Credential => None,
            _ => self.parts.learned.known_alias(service, id),
        };
        let bindings: SmallVec<[Bound; 4]> =
            left.iter().chain(own).filter(|b| b.slot != Slot::Marker && b.strength >= enough).copied().collect();
        by_binding(&bindings, no, &names)
    }

    /// What the inferred bases agree on.
    fn inferred(&self, through: Option<&Through>, marker: Option<TenantId>) -> Option<Attribution> {
        let votes = through.map_or(&[][..], |t| &t.votes);
        // A marker says what the operation is bound to; alone it does not say for whom it is.
        let &(best, tenant) = votes.first()?;
        if votes.iter().any(|(_, t)| *t != tenant) {
            return None;
        }
        let bases = votes.iter().fold(Bases::default(), |bases, (b, _)| bases.with(*b));
        let found = Attribution { class: EvidenceClass::Inferred, bases, ..Attribution::new(tenant, best) };
        match marker {
            None => Some(found),
            Some(m) if m == tenant => Some(Attribution { bases: bases.with(Basis::Marker), ..found }),
            // The application says whom it works for: one guess is wrong until a second one agrees.
            Some(_) => (bases.count() >= 2).then_some(found),
        }
    }

    /// Whether somebody who has bound the connection for another than `tenant` may still be the one who uses it: a
    /// request for that tenant, which was in flight when the binding was made, is in flight still.
    fn may_be_held(&self, left: &[Bound], no: UnitNo, tenant: TenantId, begun: Nanos) -> bool {
        let Some(service) = self.service() else { return false };
        let place = self.state.facts.leaves.and_then(|r| self.parts.attributor.places.get(&r));
        left.iter().filter(|b| b.unit != no).any(|bound| {
            let named = match bound.claim {
                Claim::Tenant(t) => Some(t),
                Claim::Opaque(id) => self.parts.learned.alias(service, id, Some(tenant)),
                _ => return false,
            };
            if named == Some(tenant) {
                return false;
            }
            // A connection is lent to one request at a time: the last one known to have used it since holds it.
            let since = self.state.units.through.iter().rev().filter(|(n, _)| *n >= bound.unit && *n < no);
            let latest = since.map(|(_, t)| t).find(|t| t.requests.len() == 1);
            let made = latest.or_else(|| self.state.units.through_of(bound.unit)).filter(|t| !t.requests.is_empty());
            let Some(through) = made else {
                // Nobody knows who made it: lately, it may be somebody who goes on.
                return begun.since(bound.at) < PATIENCE;
            };
            through.requests.iter().filter_map(|key| place?.request(*key)).any(|r| {
                let going_on = r.ended.is_none_or(|ended| ended >= begun);
                let may_be_theirs = match (r.whom, named) {
                    (Whom::Tenant(t, _), Some(named)) => t == named,
                    _ => true,
                };
                going_on && may_be_theirs
            })
        })
    }

    /// A request that this process sent came in somewhere else, where it may cause more: for whom it is, is known now.
    pub(super) fn tell_next(&mut self, pending: &Pending, answer: Answer) {
        if self.state.facts.endpoint.is_some() || pending.op.kind == OpKind::Control {
            return;
        }
        if let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            let whom = answer.attribution().map_or(Whom::Nobody, |a| Whom::Tenant(a.tenant, a.class));
            place.identified(self.state.key_of(pending.op.request), whom);
        }
    }

    /// A tool call came in: work done for its request is part of it.
    pub(super) fn record_call(&mut self, exchange: &Exchange) {
        let Some(service) = self.service() else { return };
        if let Some(place) = self.inbound().and_then(|r| self.parts.attributor.places.get_mut(&r)) {
            place.calls(self.state.key_of(exchange.request), service, exchange.verb, exchange.name);
        }
    }

    /// The tool call that unit `no` is part of, where it leads to one request.
    pub(super) fn cause_of(&self, no: UnitNo) -> Option<Cause> {
        let through = self.state.units.through_of(no).filter(|t| !t.torn)?;
        let [key] = through.requests.as_slice() else { return None };
        let request = self.parts.attributor.places.get(&self.state.facts.leaves?)?.request(*key)?;
        let (service, verb, name) = request.call?;
        let RequestNo::Sent(exchange) = key.1 else { return None };
        let class = through.settled.map_or(EvidenceClass::Inferred, |a| a.class);
        Some(Cause { service, verb, name, exchange, class })
    }

    /// Learns from a unit whose tenant is known otherwise where a basis would have been wrong.
    pub(super) fn compare(&mut self, no: UnitNo, binding: TenantId, now: Nanos) {
        let (Some(t), Some(relay)) = (self.state.units.through_of(no), self.state.facts.leaves) else { return };
        let bracket = t.settled.is_some_and(|s| s.basis == Basis::Bracketed && s.tenant != binding);
        let voted_wrongly = |basis| t.votes.iter().any(|(b, t)| *b == basis && *t != binding);
        let (thread, succession) = (voted_wrongly(Basis::SameThread), voted_wrongly(Basis::Succession));
        let wrong: SmallVec<[Basis; 2]> = t.votes.iter().filter(|(_, t)| *t != binding).map(|(b, _)| *b).collect();
        for basis in wrong {
            *self.parts.stats.bases.entry((basis, "contradicted by a binding")).or_default() += 1;
        }
        if let Some(place) = self.parts.attributor.places.get_mut(&relay) {
            if bracket {
                place.quiet.contradicted(now);
            }
            if thread {
                place.affinity.misfit();
            }
            if succession {
                place.agenda.contradicted();
            }
        }
    }
}
