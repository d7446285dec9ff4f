//! What becomes of each thing that a decoder tells of its connection, in the order of the wire. **Read this first**: all
//! that leads from bytes to findings goes through the one `match` in [`OnConn::apply`].
//!
//! A request begins ([`OnConn::begin`]) and joins a unit of work (`stretches.rs`). Its operations end ([`OnConn::end`]):
//! each drives the ledger, and waits, where it is not known yet for whom it is (`through.rs`, `forwarded.rs`), to be judged
//! then (`judging.rs`). The request is answered ([`OnConn::answer_request`]); the server tells that it is idle, and the
//! unit is over (`on_conn.rs`).
//! Something is missed ([`OnConn::lose_track`]): operations that wait lose what would have proved their tenant.

use super::on_conn::OnConn;
use super::units::{MAX_OPEN, MAX_PENDING, Open, Pending, Transaction};
use crate::attribute::forwarded::{InboundAnswer, Outbound};
use crate::decode::{Disturbance, WireEvent};
use crate::detect::{Desync, How, RuleEvent};
use crate::model::mcp::Exchange;
use crate::model::steps::walk;
use crate::model::{Effect, Fingerprint, Nanos, OpKind, Operation, Outcome, Protocol, TxStatus};

/// Whether the connection can be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readable {
    Yes,
    /// Its decoder has given up.
    No,
}

impl OnConn<'_> {
    /// Applies what was told, in order. The buffer is empty afterwards, and can be used again.
    pub(super) fn apply_all(&mut self, events: &mut Vec<WireEvent>) -> Readable {
        let mut readable = Readable::Yes;
        for event in events.drain(..) {
            if let WireEvent::Opaque { .. } = event {
                readable = Readable::No;
            }
            self.apply(event);
        }
        events.shrink_to(KEPT_EVENTS);
        readable
    }

    /// Applies one event of the wire.
    fn apply(&mut self, event: WireEvent) {
        match event {
            WireEvent::Started(start) => self.state.facts.session = Some(start),
            WireEvent::Arrived { request, at } => {
                self.turn_to(request);
                self.record_read(request);
                self.join_unit(request, at);
                self.record_arrival(request, at);
                self.record_asked();
            }
            WireEvent::Mark { request, from, mark } => {
                self.turn_to(request);
                self.record_mark(request, from, mark);
            }
            WireEvent::Begun { request, at, print } => {
                self.turn_to(request);
                self.begin(request, at, print);
            }
            WireEvent::Cached(exchange) => self.record_fetched(exchange),
            WireEvent::Keys(uses) => self.state.next.keys = uses,
            WireEvent::Cookies { request, cookies } => self.state.next.cookies = Some((request, cookies)),
            WireEvent::Done(op) => {
                self.turn_to(op.request);
                self.end(&op);
            }
            WireEvent::Answered { request, at, print } => {
                self.turn_to(request);
                self.answer_request(request, at, print);
                self.end_turn(at);
            }
            WireEvent::Missed { at } => self.record_missed(at),
            WireEvent::Concurrent => self.begin_concurrent(),
            WireEvent::Speaks(protocol) => self.speak(protocol),
            WireEvent::Mcp(exchange) => {
                self.turn_to(exchange.request);
                self.end_exchange(&exchange);
            }
            WireEvent::Queue(event) => {
                self.state.astray = false;
                self.queue_event(*event);
            }
            WireEvent::UnmatchedReply { at, .. } => self.reply_unasked(at),
            WireEvent::Status { at, status } => self.tell_status(at, status),
            WireEvent::Disturbed { at, why } => self.lose_track(at, why),
            WireEvent::Tunnel { to } => self.state.facts.tunnel = Some(to),
            WireEvent::Opaque { at, why } => self.end_reading(at, why),
            WireEvent::DecodeError(error) => {
                *self.parts.stats.decode_errors.entry((self.state.facts.protocol, error)).or_default() += 1;
            }
        }
    }

    /// A request is complete on the wire.
    fn begin(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        self.record_read(request);
        self.join_unit(request, at);
        self.record_arrival(request, at);
        self.record_request(request, at);
        if self.state.units.open.len() >= MAX_OPEN {
            // The request is not followed, because there is no room: its relay is distrusted as if it had been lost.
            if let Some(relay) = self.state.facts.enters {
                self.parts.attributor.forwarding.distrusts(relay, at);
            }
            return;
        }
        let mut entered = false;
        if let (Some(relay), Some(print)) = (self.state.facts.enters, print)
            && self.parts.attributor.is_relay(relay, self.state.facts.protocol.passed_on_as())
        {
            let (attributor, directory) = (&mut self.parts.attributor, &self.parts.ctx.directory);
            attributor.enter(relay, print, &self.state.facts, (request, at), directory);
            entered = true;
        }
        self.state.units.open.push(Open { request, begun: at, print, entered, cut: false });
    }

    /// An operation has ended.
    fn end(&mut self, op: &Operation) {
        let cookies =
            self.state.next.cookies.take_if(|(request, _)| *request == op.request).map(|(_, cookies)| cookies);
        let with_cookies = cookies.as_deref().map(|cookies| self.with_cookies(op, cookies));
        let op = with_cookies.as_ref().unwrap_or(op);
        if self.state.closing
            && op.outcome == Outcome::Unknown
            && let Some(open) = self.open_at(op.request).and_then(|at| self.state.units.open.get_mut(at))
        {
            open.cut = true;
        }
        let in_transaction = self.state.units.current.transaction == Transaction::Open;
        let begins_again = op.effect == Effect::Begin && op.outcome == Outcome::Ok && in_transaction;
        self.fold(begins_again.then_some(op.request));
        if op.outcome == Outcome::Unknown && (op.kind == OpKind::Data || op.effect == Effect::Check) {
            // Rules that rest on what this client was told must doubt it, because the answer was not seen.
            self.parts.judge.missed.on(None, None, self.state.facts.client_workload, op.ended);
            let passed_on_as = self.state.facts.protocol.passed_on_as();
            if let (Protocol::Http, Some(service)) = (passed_on_as, self.state.facts.service) {
                let tenant = self.state.facts.endpoint.map(|a| a.tenant);
                self.parts.judge.missed.unanswered(service, tenant, op.ended);
            }
        }
        if op.kind == OpKind::Deliver {
            self.state.jobs.delivered_by = op.verb;
        }
        let data = op.kind == OpKind::Data && op.outcome != Outcome::Error;
        // What the statement may have done unseen, it may have done before it touched the data.
        let blind = op.effect == Effect::Unknown;
        if blind {
            self.drive_ledger(op);
        }
        if data {
            let no = self.unit_of(op.request);
            self.state.history.first_data.get_or_insert(no);
            self.record_work(op);
        }
        if data && self.state.history.follows.uses() {
            self.something_followed();
        }
        if data && op.tables.is_some() {
            self.states_itself(op);
        }
        let view = data.then(|| {
            let minimum = self.minimum();
            // A local binding had an effect if an operation has used it, even if the server warned: in a pipeline the
            // server warns and keeps the value until the Sync.
            self.state.units.current.local = None;
            self.state.ledger.view(minimum)
        });
        if !blind {
            self.drive_ledger(op);
        }
        self.begin_ledger_again(op);
        let keys = std::mem::take(&mut self.state.next.keys);
        let cached = self.state.next.cached.take();
        let unit = self.unit_of(op.request);
        let pending = Pending { unit, protocol: self.state.facts.protocol, op: *op, view, keys, cookies, cached };
        let asks = op.effect == Effect::Check;
        let posts = op.kind == OpKind::Publish;
        let wait = !self.known()
            && op.request != 0
            && (data || asks || posts || pending.cookies.is_some() || self.parts.ctx.settings.operations);
        if wait && self.state.units.pending.len() < MAX_PENDING {
            self.state.units.pending.push(pending.unit, pending);
        } else {
            self.judge(&pending);
        }
    }

    /// Every operation of a request has ended.
    fn answer_request(&mut self, request: u64, at: Nanos, print: Option<Fingerprint>) {
        self.fold(None);
        let Some(index) = self.open_at(request) else { return };
        let open = self.state.units.open.remove(index);
        if !open.cut {
            self.record_answer(request, at);
        }
        let Some(request_print) = open.print else { return };
        let mut settled = std::mem::take(&mut self.parts.attributor.origins_found);
        if let Some(relay) = self.state.facts.enters.filter(|_| open.entered) {
            let f = &mut self.parts.attributor.forwarding;
            let answered = InboundAnswer { conn: self.state.facts.id, request, begun: open.begun, at, reply: print };
            f.passed_on(relay, request_print, answered, &mut settled);
        }
        if let Some(relay) = self.state.facts.leaves.filter(|_| self.state.facts.endpoint.is_none()) {
            let outbound = Outbound {
                conn: self.state.facts.id,
                unit: self.state.units.current.no,
                service: self.state.facts.service,
                begun: open.begun,
                answered: at,
                reply: print,
            };
            let origins = self.parts.attributor.forwarding.leave(relay, request_print, outbound, &mut settled);
            self.state.units.came_in_on(origins);
        }
        self.parts.attributor.origins_found = settled;
    }

    /// The connection carries `protocol` on top of its own.
    fn speak(&mut self, protocol: Protocol) {
        self.state.facts.protocol = protocol;
        if let Some(service) = self.state.facts.service.and_then(|s| self.parts.map.service_mut(s)) {
            service.protocol = protocol;
        }
    }

    /// An MCP request has been answered.
    fn end_exchange(&mut self, exchange: &Exchange) {
        if let Some(service) = self.state.facts.service {
            self.parts.map.tools.note(service, exchange);
        }
        self.record_exchange(exchange);
    }

    /// A reply came that nobody had asked for.
    fn reply_unasked(&mut self, at: Nanos) {
        if self.state.facts.mid_stream || self.state.disturbed {
            return;
        }
        let used = self.state.facts.endpoint.map(|a| a.tenant);
        let event = Desync { site: self.site(), at, how: How::Unasked, used, owner: None };
        self.parts.detect(&RuleEvent::Desync(event), self.out);
    }

    /// The server told the transaction's state; idle ends the unit of work.
    fn tell_status(&mut self, at: Nanos, status: TxStatus) {
        self.fold(None);
        self.state.ledger.status(status);
        if status == TxStatus::Idle {
            self.end_unit(at);
        } else {
            self.state.units.current.held = true;
        }
    }

    /// Its decoder reads no further.
    fn end_reading(&mut self, at: Nanos, why: &'static str) {
        self.state.unreadable = Some(why);
        if why == "tls" && self.parts.ctx.settings.tls.is_some() || self.state.facts.tunnel.is_some() {
            // The connection goes on: TLS is read by its secrets, and a tunnel is a connection of its own.
            return;
        }
        self.state.astray = true;
        self.record_missed(at);
    }

    /// Something was missed: what the connection has proved is not known any more.
    fn lose_track(&mut self, at: Nanos, why: Disturbance) {
        self.fold(None);
        *self.parts.stats.disturbances.entry(why.name()).or_default() += 1;
        self.state.disturbed = true;
        self.state.astray = true;
        self.record_missed(at);
        self.doubt_habits();
        self.state.ledger.disturb(why == Disturbance::MidStream);
        self.abandon_requests(at);
        self.lose_jobs(at);
        for open in self.state.units.open.drain(..) {
            if let (Some(relay), Some(print), true) = (self.state.facts.enters, open.print, open.entered) {
                self.parts.attributor.forwarding.close(relay, print, (self.state.facts.id, open.request, open.begun));
            }
        }
        // A request of the open unit may be among what was lost, so no origin may be inferred for the unit.
        if self.state.units.current.open {
            let no = self.state.units.current.no;
            if let Some(unit) = self.state.units.known_unit(no) {
                unit.contradicted = true;
            }
            // Or the unit's end was lost, so what follows may be another borrower's work.
            if let Some(borrow) = &mut self.state.units.borrow {
                borrow.torn = true;
            }
        }
        self.tear_beside();
        if let Some(process) = self.state.facts.leaves.and_then(|r| self.parts.attributor.processes.get_mut(&r)) {
            process.replies.forget(self.state.facts.id);
            process.works.miss(at);
        }
        self.state.units.current.local = None;
        self.state.history.ineffective = None;
        for relay in [self.state.facts.enters, self.state.facts.leaves].into_iter().flatten() {
            self.parts.attributor.forwarding.disturbed(relay);
        }
        self.missed_here();
        // Operations that still wait for their tenant lose the reply that would have proved something.
        for mut pending in walk(self.state.units.pending.take_all(None)) {
            pending.op.outcome = Outcome::Unknown;
            self.judge(&pending);
        }
    }
}

/// Room for so many events is kept; what one long segment needed beyond it is given back.
const KEPT_EVENTS: usize = 64;
