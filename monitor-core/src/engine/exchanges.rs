//! MCP exchanges on their way to the rules: told once it is known for whom they were.

use smallvec::SmallVec;

use super::on_conn::OnConn;
use crate::detect::{McpUse, RuleEvent, Site};
use crate::model::mcp::{Answered, Exchange, Method, Sender};
use crate::model::steps::walk;
use crate::model::token::Verified;
use crate::model::{Answer, Bound, Claim, OpaqueId, Scope, Slot, Strength, UnitNo};

/// Most exchanges of one connection that wait for their tenant.
const MAX_WAITING: usize = 64;

impl OnConn<'_> {
    /// An exchange has ended.
    pub(super) fn record_exchange(&mut self, exchange: &Exchange) {
        let no = self.state.units.current.no;
        // Its request is part of no unit of work of this connection.
        if let Some(sender) = exchange.sender {
            self.tell_answer(no, exchange, sender);
            return;
        }
        if exchange.method == Method::ToolsCall {
            self.record_call(exchange);
        }
        if self.known() || self.state.units.borrow.is_none() || self.state.exchanges.len() >= MAX_WAITING {
            self.tell_exchange(no, exchange);
        } else {
            self.state.exchanges.push(no, (no, exchange.clone()));
        }
    }

    /// Tells the exchanges of unit `no`, or of all units.
    pub(super) fn tell_exchanges(&mut self, no: Option<UnitNo>) {
        let due = match no {
            Some(no) => self.state.exchanges.take(no),
            None => self.state.exchanges.take_all(None),
        };
        for (no, exchange) in walk(due) {
            self.tell_exchange(no, &exchange);
        }
    }

    /// An answer has come whose request `sender` had sent on another connection.
    fn tell_answer(&mut self, no: UnitNo, exchange: &Exchange, sender: Sender) {
        let receiver = self.state.facts.endpoint.map(|a| a.tenant);
        if receiver.is_none() || receiver == sender.by.map(|a| a.tenant) {
            self.tell_exchange(no, exchange);
            return;
        }
        // Who asked did not get it: what belongs to who did has not crossed.
        let mut exchange = exchange.clone();
        exchange.content.canaries.retain(|t| Some(*t) != receiver);
        exchange.content.tenants.retain(|c| !matches!(c, Claim::Tenant(t) if Some(*t) == receiver));
        self.tell_exchange(no, &exchange);
    }

    fn tell_exchange(&mut self, no: UnitNo, exchange: &Exchange) {
        let bound = |claim, unit| Bound {
            slot: Slot::Credential,
            claim,
            scope: Scope::Transaction,
            strength: Strength::V3,
            at: exchange.begun,
            unit,
        };
        let own: SmallVec<[Bound; 2]> = match &exchange.token {
            Some(token) if token.verified == Verified::Yes && matches!(token.tenant, Claim::Tenant(_)) => {
                SmallVec::from_elem(bound(token.tenant, no), 1)
            }
            Some(token) => SmallVec::from_elem(bound(Claim::Opaque(OpaqueId(token.print.0)), no), 1),
            None => SmallVec::new(),
        };
        let answer = match exchange.sender {
            Some(sender) => sender.by.map_or(Answer::Unknown, Answer::Tenant),
            None => self.answer(no, exchange.begun, &[], &own),
        };
        let site = match exchange.sender {
            Some(sender) => Site { workload: sender.workload, flow: None, ..self.site() },
            None => self.site(),
        };
        // What it may have been given is not known.
        let unseen = exchange.answered == Answered::Unknown || exchange.answered.is_unread();
        if let (true, Some(service)) = (unseen, self.state.facts.service) {
            let tenant = answer.attribution().map(|a| a.tenant);
            self.parts.judge.missed.unanswered(service, tenant, exchange.ended);
        }
        let event = McpUse { site, exchange, answer };
        self.parts.detect(&RuleEvent::Mcp(&event), self.out);
    }
}
