//! Rule: `mcp-call-token-missing`.
//!
//! A server that several tenants use answered a call without any credential on it: who opened the connection, or who
//! said `initialize` on it, stood for who calls.
//!
//! Source: `docs/domain.md#mcp`.

use smallvec::smallvec;

use crate::detect::recent::Recent;
use crate::detect::{Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, World, tables};
use crate::model::mcp::{Answered, Transport};
use crate::model::{EvidenceClass, Fingerprint, ServiceId, Severity, SocketCookie};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-call-token-missing",
    severity: Severity::High,
    needs: "MCP in clear text, and callers of two tenants, or a caller that works for others",
    why: "The server answered a call that carried no token and no other credential. It cannot know for whom the call \
          is; at best it knows who opened the connection or the session.",
    remediation: "Send a token with every call, and refuse calls without one (401). Where the mesh proves identity \
                  (mTLS), suppress this finding with that reason.",
    source: "[MCP](domain.md#mcp)",
};

/// Most sessions and connections remembered that began with a credential.
const MAX_BEGUN: usize = 16_384;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Within {
    Session(Fingerprint),
    Connection(SocketCookie),
}

/// The rule: which sessions and connections have shown a credential once.
#[derive(Debug)]
pub struct McpCallTokenMissing {
    shown: Recent<(ServiceId, Within), ()>,
}

impl Default for McpCallTokenMissing {
    fn default() -> Self {
        Self { shown: Recent::new(MAX_BEGUN) }
    }
}

fn contexts(u: &McpUse<'_>) -> impl Iterator<Item = Within> {
    let e = u.exchange;
    let connection = u.site.flow.map(|(cookie, ..)| Within::Connection(cookie));
    e.opened.or(e.session).map(Within::Session).into_iter().chain(connection)
}

/// Whether the server has to tell tenants apart; `None`: not known.
fn is_shared(u: &McpUse<'_>, service: ServiceId, world: &World<'_>) -> Option<bool> {
    let service = world.service(service)?;
    let by = u.whom();
    let others = service.tenants.keys().any(|t| by.is_none_or(|by| by.tenant != *t));
    if others && (by.is_some() || service.tenants.len() > 1) {
        return Some(true);
    }
    // One tenant so far: its own container may call what is its own. Who calls for it may call for others.
    let by = by?;
    let caller = u.site.workload.and_then(|w| world.directory.get(w));
    Some(caller.is_some_and(|w| w.tenant != Some(by.tenant) && !w.bare))
}

impl Rule for McpCallTokenMissing {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.shown])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let (e, Some(service)) = (u.exchange, u.site.service) else { return RuleOutcome::Clear };
        if u.bearer().is_some() {
            for context in contexts(u) {
                self.shown.insert((service, context), ());
            }
            return RuleOutcome::Clear;
        }
        if !u.is_data() {
            return RuleOutcome::Clear;
        }
        match e.answered {
            Answered::Result => {}
            answered if answered.is_unread() => {}
            Answered::Unknown => return RuleOutcome::Insufficient("answer not seen"),
            _ => return RuleOutcome::Clear,
        }
        match is_shared(u, service, world) {
            Some(true) => {}
            Some(false) => return RuleOutcome::Clear,
            None => return RuleOutcome::Insufficient("no tenant"),
        }
        let earlier = contexts(u).any(|context| self.shown.get(&(service, context)).is_some());
        let words = match e.transport {
            _ if earlier => "no credential on the call; one had come earlier in the session or on the connection",
            Transport::WebSocket => "no credential on the call; what was shown when the socket was opened is not on it",
            Transport::HttpSse | Transport::StreamableHttp => "no credential on the call",
        };
        let by = u.whom();
        let steps = smallvec![u.step("call", by), u.remark("credential", Detail::Words(words))];
        hits.push(u.hit(&INFO, Severity::High, by, EvidenceClass::Wire, steps));
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let by = world.tenant(hit.used);
        let how = match hit.steps.last().map(|s| s.detail) {
            Some(Detail::Words(words)) => words,
            _ => "no credential on the call",
        };
        format!("The server answered a call for {by} without a credential of its own: {how}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing_mcp::*;
    use crate::detect::{testing::*, testing_mcp};
    use crate::model::mcp::{Exchange, Method};
    use crate::model::token::Verified;
    use crate::model::{Answer, Attribution, Basis, Claim, Service, Settings, TenantId};

    fn of_one_tenant() -> Service {
        let mut service = shared_service();
        service.tenants.retain(|t, _| *t == A);
        service
    }

    fn found(u: &McpUse<'_>, service: Service) -> usize {
        testing_mcp::told(&mut McpCallTokenMissing::default(), u, &[service], Settings::default()).0.len()
    }

    fn from(workload: crate::model::WorkloadId, e: &Exchange, tenant: TenantId, basis: Basis) -> McpUse<'_> {
        let site = crate::detect::Site { workload: Some(workload), ..SITE };
        McpUse { site, exchange: e, answer: Answer::Tenant(Attribution::new(tenant, basis)) }
    }

    #[test]
    fn positive_a_shared_server_answers_without_a_credential() {
        let hits = see(&mut McpCallTokenMissing::default(), &call(1, READ), by_label(A));
        assert_eq!((hits[0].severity, hits[0].class), (Severity::High, EvidenceClass::Wire));
        // Whoever calls, when several tenants use it.
        assert_eq!(see(&mut McpCallTokenMissing::default(), &call(1, READ), Answer::Several).len(), 1);
        // One tenant so far, but through a gateway.
        let e = call(1, READ);
        assert_eq!(found(&from(SERVER, &e, A, Basis::Bracketed), of_one_tenant()), 1);
    }

    #[test]
    fn positive_the_token_came_with_initialize_only() {
        let mut rule = McpCallTokenMissing::default();
        let session = Some(Fingerprint(4));
        let with_token = Exchange {
            method: Method::Initialize,
            opened: session,
            token: Some(token(1, Claim::Tenant(A), Verified::Yes)),
            ..an_exchange()
        };
        assert!(see(&mut rule, &with_token, by_label(A)).is_empty());
        let hits = see(&mut rule, &Exchange { session, ..call(1, READ) }, by_label(A));
        let Detail::Words(words) = hits[0].steps[1].detail else { panic!() };
        assert!(words.contains("earlier"), "{words}");
    }

    #[test]
    fn near_miss_a_credential_or_a_refusal_or_its_own_server() {
        let mut rule = McpCallTokenMissing::default();
        assert!(
            see(&mut rule, &Exchange { credential: Some(Fingerprint(1)), ..call(1, READ) }, by_label(A)).is_empty()
        );
        assert!(see(&mut rule, &Exchange { answered: Answered::Status(401), ..call(1, READ) }, by_label(A)).is_empty());
        assert!(see(&mut rule, &list(1, &[tool(READ, 1)]), by_label(A)).is_empty(), "a list is no call");
        let e = call(1, READ);
        assert_eq!(found(&from(LABELLED, &e, A, Basis::OwnContainer), of_one_tenant()), 0);
    }

    #[test]
    fn lossy_nobody_known_or_no_answer() {
        let mut rule = McpCallTokenMissing::default();
        let unknown = Exchange { answered: Answered::Unknown, ..call(1, READ) };
        assert_eq!(judged(&mut rule, &unknown, by_label(A)), RuleOutcome::Insufficient("answer not seen"));
        let e = call(1, READ);
        let u = McpUse { site: SITE, exchange: &e, answer: Answer::Unknown };
        let told = testing_mcp::told(&mut rule, &u, &[of_one_tenant()], Settings::default());
        assert_eq!(told.1, RuleOutcome::Insufficient("no tenant"));
    }
}
