//! What the cookies of a request and its answer show: whose session it carries ([`super::jars`]).

use super::jars::Request;
use super::on_conn::OnConn;
use super::units::Pending;
use crate::detect::{RuleEvent, SessionUse};
use crate::model::cookies::Cookies;
use crate::model::{Answer, EvidenceClass, OpKind, OpaqueId, Operation, Outcome};
use smallvec::SmallVec;

impl OnConn<'_> {
    /// What the cookies of its request and answer make of an operation.
    pub(super) fn with_cookies(&self, op: &Operation, cookies: &Cookies) -> Operation {
        let Some(service) = self.service() else { return *op };
        let jars = &self.parts.learned.jars;
        let mut op = *op;
        // A request that has no session yet and is given one is told apart from whoever used the connection before.
        if op.kind == OpKind::Data
            && op.outcome == Outcome::Ok
            && op.credential.is_none()
            && jars.opens(service, cookies)
        {
            op.kind = OpKind::Bind;
        }
        op.credential = op.credential.or_else(|| jars.session(service, cookies));
        op
    }

    /// Whose the cookies of an operation are, and whom it was for.
    pub(super) fn tell_cookies(&mut self, pending: &Pending, answer: Answer) {
        let (Some(cookies), Some(service)) = (&pending.cookies, self.state.facts.service) else { return };
        let op = &pending.op;
        let request = Request {
            by: answer.attribution().filter(|_| op.outcome == Outcome::Ok),
            begun: op.begun,
            ended: op.ended,
            verb: op.verb,
            target: op.target,
            credential: cookies.credential,
            logs_in: cookies.logs_in,
            site: self.site(),
        };
        if op.outcome != Outcome::Ok {
            // Whatever became of it, it was carried.
            let carried = Cookies { set: SmallVec::new(), ..(**cookies).clone() };
            self.parts.learned.jars.note(service, &carried, &request);
            return;
        }
        let found = self.parts.learned.jars.note(service, cookies, &request);
        // A cookie belongs to the tenant that it was set for until another tenant uses it.
        if let Some((tenant, class)) = self.state.known_without_bindings(pending.unit)
            && class > EvidenceClass::Inferred
        {
            for set in cookies.set.iter().filter(|s| s.is_session()) {
                self.parts.learned.owners.learn(OpaqueId(set.cookie.value.0), tenant, class);
            }
        }
        for (crossing, at) in found {
            let event = SessionUse { site: at.site, at: at.ended, verb: at.verb, target: at.target, crossing };
            self.parts.detect(&RuleEvent::Session(&event), self.out);
        }
    }
}
