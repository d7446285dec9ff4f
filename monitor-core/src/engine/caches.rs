//! HTTP exchanges on their way to the rule about caches: what a proxy fetched is told at once, what it answered once it is
//! known to whom.

use super::facts::is_http;
use super::on_conn::OnConn;
use super::units::Pending;
use crate::detect::{Fetched, RuleEvent, Served};
use crate::model::{Answer, http};

impl OnConn<'_> {
    /// A request has come in.
    pub(super) fn record_asked(&mut self) {
        let Some(relay) = self.state.facts.enters.filter(|_| is_http(self.state.facts.protocol)) else { return };
        self.parts.attributor.note_asked_over_http(relay);
    }

    /// A request has been answered.
    pub(super) fn record_fetched(&mut self, exchange: Box<http::Exchange>) {
        if let (true, Some(by)) =
            (self.parts.attributor.is_fetched(&self.state.facts), self.state.facts.client_workload)
        {
            let event = Fetched { by, exchange: &exchange };
            self.parts.detect(&RuleEvent::Fetched(&event), self.out);
        }
        self.state.next.cached = self.parts.attributor.is_served(&self.state.facts).then_some(exchange);
    }

    /// It is known for whom the operation was.
    pub(super) fn tell_served(&mut self, pending: &Pending, answer: Answer) {
        let (Some(exchange), Some(server)) = (&pending.cached, self.state.facts.server_workload) else { return };
        let event = Served { site: self.site(), server, exchange, answer };
        self.parts.detect(&RuleEvent::Served(&event), self.out);
    }
}
