//! HTTP exchanges on their way to the rule about caches: what a proxy fetched is told at once, what it answered once it is
//! known to whom.

use super::conn::Pending;
use super::session::Session;
use crate::detect::{Fetched, RuleEvent, Served};
use crate::model::{Answer, Protocol, http};

impl Session<'_> {
    fn is_http(&self) -> bool {
        matches!(self.core.protocol, Protocol::Http | Protocol::Mcp)
    }

    /// A request has come in.
    pub(super) fn is_asked(&mut self) {
        let Some(relay) = self.core.enters.filter(|_| self.is_http()) else { return };
        self.parts.attributor.note_asked_over_http(relay);
    }

    /// Whether requests go in here where others go out, or come out where others go in.
    pub(super) fn may_be_cached(&self) -> bool {
        self.is_http() && (self.is_served() || self.is_fetched())
    }

    fn is_served(&self) -> bool {
        self.core.enters.is_some_and(|relay| self.parts.attributor.is_relay(relay, Protocol::Http))
    }

    fn is_fetched(&self) -> bool {
        self.core.leaves.is_some_and(|relay| self.parts.attributor.is_asked_over_http(relay))
    }

    /// A request has been answered.
    pub(super) fn fetched(&mut self, exchange: http::Exchange) {
        if let (true, Some(by)) = (self.is_fetched(), self.core.client_workload) {
            let event = Fetched { by, exchange: &exchange };
            self.parts.detect(&RuleEvent::Fetched(&event), self.out);
        }
        self.core.cached = self.is_served().then(|| Box::new(exchange));
    }

    /// It is known for whom the operation was.
    pub(super) fn tell_served(&mut self, pending: &Pending, answer: Answer) {
        let (Some(exchange), Some(server)) = (&pending.cached, self.core.server_workload) else { return };
        let event = Served { site: self.site(), server, exchange, answer };
        self.parts.detect(&RuleEvent::Served(&event), self.out);
    }
}
