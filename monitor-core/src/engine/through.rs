//! For which tenant a shared process works. Keeps the shared processes of [`crate::attribute::through`] up to date with
//! what goes in and out, and asks them when a unit of work is ripe.

use smallvec::SmallVec;

use super::on_conn::OnConn;
use super::timers::{CHECK_ANSWER, DESERTED, Due, LOOK_THROUGH, PATIENCE};
use super::units::{Lent, MAX_PAST, Pending};
use crate::attribute::by_binding;
use crate::attribute::forwarded::Relay;
use crate::attribute::through::{self, Borrow, SharedProcess, Through, Via, Whom};
use crate::decode::Mark;
use crate::detect::{Cause, Desync, How, RuleEvent, Site};
use crate::model::mcp::Exchange;
use crate::model::{
    Answer, Attribution, Bases, Basis, Bound, Claim, EvidenceClass, Fingerprint, Nanos, OpKind, Operation, Protocol,
    RequestNo, Side, Slot, TenantId, ThreadId, UnitNo,
};

/// Whether the process may be a pooler: a request in flight came in by the protocol that the work goes out in, and
/// poolers pass that protocol on.
fn passes_on(borrow: &Borrow, process: &SharedProcess, protocol: Protocol) -> bool {
    protocol.is_sql() && borrow.is_passed_on(process, protocol)
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
        if let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            let whom = self.state.facts.endpoint.map_or(Whom::NotYet, |a| Whom::Tenant(a.tenant, a.class));
            process.arrived(self.state.key_of(request), whom, self.state.facts.protocol, at);
        }
    }

    /// `thread` has read what the client sent.
    pub(super) fn record_request_read(&mut self, thread: ThreadId) {
        self.state.facts.reader = Some(thread);
        let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) else { return };
        // A client mostly waits for its answer. Of several pipelined requests, all are noted as read.
        if let Some(open) = self.state.units.open.last() {
            process.agenda.read_request(thread, self.state.key_of(open.request));
        }
    }

    /// `thread` has read what the server sent.
    pub(super) fn record_reply_read(&mut self, thread: ThreadId) {
        let unit = self.state.units.current;
        if unit.open || unit.no == self.state.units.reply_read {
            return;
        }
        self.state.units.reply_read = unit.no;
        if let Some(process) = self.outbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            process.agenda.read_reply(thread, (self.state.facts.id, unit.no));
        }
    }

    /// A unit of work begins.
    pub(super) fn begin_borrow(&mut self, at: Nanos) {
        let Some(process) = self.outbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) else {
            self.state.units.borrow = None;
            return;
        };
        process.agenda.begins(self.state.facts.threads[0], (self.state.facts.id, self.state.units.current.no));
        self.state.units.borrow = Some(Borrow::begin(process, at));
    }

    /// A request of the unit of work goes out.
    pub(super) fn record_request(&mut self, request: u64, at: Nanos) {
        let thread = self.state.facts.threads[0];
        let Some(relay) = self.state.facts.leaves.filter(|_| self.state.units.borrow.is_some()) else { return };
        if let Some(process) = self.parts.attributor.processes.get_mut(&relay) {
            process.worked.text();
            let tenant = process.only_tenant();
            let state = &self.state;
            let via = Via {
                conn: state.facts.id,
                service: state.facts.service,
                workload: state.facts.client_workload,
                flow: state.facts.flow,
            };
            process.replies.asked(via, request, at, tenant);
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
        if let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            let key = self.state.key_of(request);
            match mark {
                Mark::Trace(trace) => process.carries_trace(key, trace),
                Mark::Value(value) => process.carries_value(key, value),
            }
        }
        let Some(relay) = self.state.facts.leaves else { return };
        if let (Some(borrow), Some(process)) =
            (self.state.units.reads_for(), self.parts.attributor.processes.get_mut(&relay))
        {
            match mark {
                Mark::Trace(trace) => borrow.carries_trace(process, trace),
                Mark::Value(value) => {
                    borrow.carries_value(process, value);
                    if let Some(tenant) = self.parts.learned.tenant_values.named(value) {
                        borrow.names(tenant);
                    }
                    process.worked.seen(value);
                }
            }
        }
    }

    /// A reply carries a value.
    fn record_reply_value(&mut self, request: u64, value: Fingerprint) {
        let key = self.state.key_of(request);
        if let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            process.answers_with(key, value);
        }
        if self.state.facts.replies_matter()
            && let Some(process) = self.outbound().and_then(|r| self.parts.attributor.processes.get_mut(&r))
        {
            process.replies.holds(key.0, request, value);
        }
    }

    /// Looks at an answer that this process gave at about `at`: rules are told if it belongs to somebody else.
    pub(super) fn check_answer(&mut self, request: u64, at: Nanos) {
        let key = self.state.key_of(request);
        let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) else { return };
        let Some(shifted) = process.check_answer(key) else { return };
        let Some(used) = process.request(key).map(|r| r.whom.tenant()) else { return };
        let via = shifted.via;
        let site = Site { service: via.service, workload: via.workload, flow: via.flow };
        let how = How::Shifted { times: shifted.times, alike: shifted.alike };
        let event = Desync { site, at, how, used, owner: shifted.owner };
        self.parts.detect(&RuleEvent::Desync(event), self.out);
    }

    /// A request that came in has been answered.
    pub(super) fn record_answer(&mut self, request: u64, at: Nanos) {
        let (answered_by, read_by) = (self.state.facts.threads[1], self.state.facts.reader);
        let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) else { return };
        let thread = match (answered_by, read_by) {
            (Some(a), Some(b)) if a != b => {
                process.affinity.handed_over();
                None
            }
            (thread, _) => thread,
        };
        if let Some(thread) = thread {
            process.affinity.answers(thread, at);
        }
        process.answered(self.state.key_of(request), at, thread);
        self.parts.timers.set(at + CHECK_ANSWER, Due::CheckAnswer(self.state.facts.id, request));
    }

    /// Requests that came in will not be answered, or their answers cannot be told apart any more.
    pub(super) fn abandon_requests(&mut self, at: Nanos) {
        let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) else { return };
        for key in process.open_on(self.state.facts.id) {
            process.abandoned(key, at);
        }
        process.miss(at);
    }

    /// The connection has ended: the sender of what came in on it and was not answered has gone.
    pub(super) fn desert_requests(&mut self, at: Nanos) {
        let Some(relay) = self.inbound() else { return };
        let Some(process) = self.parts.attributor.processes.get_mut(&relay) else { return };
        for key in process.open_on(self.state.facts.id) {
            if process.deserted(key) {
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
        if let (Some(borrow), Some(process)) = (borrow, self.parts.attributor.processes.get_mut(&relay)) {
            let shape = (service, op.verb, op.target);
            // Operations at the broker that hands out its jobs take and confirm jobs; they are no work on a job.
            let at_broker = process.takes_jobs_from(service);
            if borrow.shapes.is_empty() {
                process.works.add((borrow.begun, conn, service));
            }
            borrow.worked(shape, op.ended);
            // Work that begins after the answer while no request is in flight was not caused by a request.
            let end = borrow.alone.as_mut().filter(|alone| op.request >= alone.from);
            let alone = end.map(|alone| alone.touched = true).is_some();
            process.replies.record_shape(conn, op.request, shape);
            if !at_broker {
                process.acks.worked(self.state.facts.threads[0], op.ended);
            }
            // Whether this kind of work comes by itself is learned only while everything in flight is known, because a request
            // that was not seen may have caused it.
            if !at_broker && !borrow.too_early && process.is_clear(borrow.begun) {
                process.quiet.work(shape, op.begun, !borrow.candidates.is_empty() && !alone);
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
            // The connection has ended, so the unit that is still open is over, too.
            self.fold(None);
            if !self.state.units.current.forwarded {
                self.end_borrow(now);
            }
        }
        while let Some(Lent { no, ended, until, borrow }) = self.state.units.lent.front() {
            let (no, ended) = (*no, *ended);
            let unanswered = until.is_some_and(|until| self.state.units.open.iter().any(|o| o.request < until));
            let Some(relay) = self.state.facts.leaves else { break };
            let Some(process) = self.parts.attributor.processes.get_mut(&relay) else { break };
            let ripe = through::is_ripe(borrow, process) || now.since(ended) >= PATIENCE;
            if !all && (unanswered || !ripe || now.since(ended) < LOOK_THROUGH) {
                self.parts.timers.set(now + LOOK_THROUGH, Due::LookThrough(self.state.facts.id));
                break;
            }
            let policy = self.parts.ctx.settings.bases;
            let told = &mut self.parts.stats.bases;
            let mut found =
                through::resolve((self.state.facts.id, no), borrow, process, &policy, now, &mut |(basis, why)| {
                    *told.entry((basis, why.unwrap_or("spoke"))).or_default() += 1;
                });
            // A pooler passes on its clients' requests, so only forwarded content may attribute them.
            if passes_on(borrow, process, self.state.facts.protocol) {
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
                // The unit has bound another tenant itself, so the process does more than answer this one request. A
                // learned credential is no such statement.
                (Some(s), Some(b)) if s.basis == Basis::Bracketed && s.tenant != b.tenant => return Answer::Several,
                (Some(s), _) => return Answer::Tenant(s),
                (None, _) => {}
            }
        }
        if let Some(b) = binding {
            // A schema named by the statement tells which data it touches, not for whom. Two guesses that agree do.
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
            // Which tenant a credential belongs to is learned, and one that is shared turns up with several tenants in the
            // end. Only a credential that was verified here names its tenant.
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
        // A marker tells which tenant's data the operation names. Alone it does not tell for whom the operation is.
        let &(best, tenant) = votes.first()?;
        if votes.iter().any(|(_, t)| *t != tenant) {
            return None;
        }
        let bases = votes.iter().fold(Bases::default(), |bases, (b, _)| bases.with(*b));
        let found = Attribution { class: EvidenceClass::Inferred, bases, ..Attribution::new(tenant, best) };
        match marker {
            None => Some(found),
            Some(m) if m == tenant => Some(Attribution { bases: bases.with(Basis::Marker), ..found }),
            // The application names a tenant itself. A single guess that says otherwise counts as wrong.
            Some(_) => (bases.count() >= 2).then_some(found),
        }
    }

    /// Whether somebody who has bound the connection for another than `tenant` may still be the one who uses it: a
    /// request for that tenant, which was in flight when the binding was made, is in flight still.
    fn may_be_held(&self, left: &[Bound], no: UnitNo, tenant: TenantId, begun: Nanos) -> bool {
        let Some(service) = self.service() else { return false };
        let process = self.state.facts.leaves.and_then(|r| self.parts.attributor.processes.get(&r));
        left.iter().filter(|b| b.unit != no).any(|bound| {
            let named = match bound.claim {
                Claim::Tenant(t) => Some(t),
                Claim::Opaque(id) => self.parts.learned.alias(service, id, Some(tenant)),
                _ => return false,
            };
            if named == Some(tenant) {
                return false;
            }
            // A pool lends a connection to one request at a time, so the request that last used it holds it.
            let since = self.state.units.through.iter().rev().filter(|(n, _)| *n >= bound.unit && *n < no);
            let latest = since.map(|(_, t)| t).find(|t| t.requests.len() == 1);
            let made = latest.or_else(|| self.state.units.through_of(bound.unit)).filter(|t| !t.requests.is_empty());
            let Some(through) = made else {
                // Which request made the binding is not known. If it was made lately, that request may still use it.
                return begun.since(bound.at) < PATIENCE;
            };
            through.requests.iter().filter_map(|key| process?.request(*key)).any(|r| {
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
        if let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            let whom = answer.attribution().map_or(Whom::Nobody, |a| Whom::Tenant(a.tenant, a.class));
            process.identified(self.state.key_of(pending.op.request), whom);
        }
    }

    /// A tool call came in: work done for its request is part of it.
    pub(super) fn record_call(&mut self, exchange: &Exchange) {
        let Some(service) = self.service() else { return };
        if let Some(process) = self.inbound().and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            process.calls(self.state.key_of(exchange.request), service, exchange.verb, exchange.name);
        }
    }

    /// The tool call that unit `no` is part of, where it leads to one request.
    pub(super) fn cause_of(&self, no: UnitNo) -> Option<Cause> {
        let through = self.state.units.through_of(no).filter(|t| !t.torn)?;
        let [key] = through.requests.as_slice() else { return None };
        let request = self.parts.attributor.processes.get(&self.state.facts.leaves?)?.request(*key)?;
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
        if let Some(process) = self.parts.attributor.processes.get_mut(&relay) {
            if bracket {
                process.quiet.contradicted(now);
            }
            if thread {
                process.affinity.misfit();
            }
            if succession {
                process.agenda.contradicted();
            }
        }
    }
}
