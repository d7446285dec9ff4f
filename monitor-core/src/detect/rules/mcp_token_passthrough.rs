//! Rule: `mcp-token-passthrough`.
//!
//! A server called another one with the very token that its own caller had given it. The token was made for the first;
//! the second takes the first for its caller (the confused deputy of the MCP security best practices).
//!
//! Source: `docs/domain.md#tokens`.

use smallvec::smallvec;

use crate::detect::recent::Recent;
use crate::detect::{
    Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Site, Step, World, tables,
};
use crate::model::mcp::Answered;
use crate::model::{EvidenceClass, Fingerprint, Nanos, ServiceId, Severity, Sym, TenantId, WorkloadId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-token-passthrough",
    severity: Severity::High,
    needs: "MCP in clear text on both sides of a server, with a token on the call",
    why: "A token that came in at a server went out again, unchanged, to another service. That service cannot tell the \
          caller from the server, and everybody on the way can use the token as its own.",
    remediation: "Exchange the token (RFC 8693) for one that is meant for the next service; let every service check \
                  the audience.",
    source: "[Tokens](domain.md#tokens); MCP security best practices",
};

/// Most pairs of server and token remembered, on either side.
const MAX_TOKENS: usize = 32_768;

/// A use of a token on one side of a workload.
#[derive(Clone, Copy, Debug)]
struct Side {
    site: Site,
    service: ServiceId,
    begun: Nanos,
    ended: Nanos,
    verb: Sym,
    name: Sym,
    tenant: Option<TenantId>,
    /// It is meant for the service it went to.
    meant: bool,
}

/// The rule: which tokens came in at, and went out of, each workload.
#[derive(Debug)]
pub struct McpTokenPassthrough {
    came_in: Recent<(WorkloadId, Fingerprint), Side>,
    /// A call inside another one is over before it: what went out may be known before what came in.
    went_out: Recent<(WorkloadId, Fingerprint), Side>,
}

impl Default for McpTokenPassthrough {
    fn default() -> Self {
        Self { came_in: Recent::new(MAX_TOKENS), went_out: Recent::new(MAX_TOKENS) }
    }
}

impl Side {
    fn of(u: &McpUse<'_>, service: ServiceId) -> Self {
        let e = u.exchange;
        Self {
            site: u.site,
            service,
            begun: e.begun,
            ended: e.ended,
            verb: e.verb,
            name: e.name,
            tenant: u.whom().map(|a| a.tenant),
            meant: e.token.is_some_and(|t| t.audience == Some(true)),
        }
    }

    fn step(&self, what: &'static str) -> Step {
        let detail = Detail::Operation(self.verb, self.name);
        Step { at: self.ended, what, detail, tenant: self.tenant, basis: None }
    }
}

/// What came `into` a workload went `out` of it.
fn hit(into: &Side, out: &Side) -> Hit {
    Hit {
        rule: INFO.id,
        severity: Severity::High,
        class: EvidenceClass::Wire,
        corroborated: None,
        subject: Sym::EMPTY,
        at: out.ended.max(into.begun),
        site: out.site,
        used: out.tenant.or(into.tenant),
        bound: None,
        steps: smallvec![into.step("token came in"), out.step("token went out")],
    }
}

fn passed_on(into: &Side, out: &Side) -> bool {
    into.service != out.service && into.begun <= out.begun && !out.meant
}

impl Rule for McpTokenPassthrough {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.came_in, &mut self.went_out])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let (e, Some(service)) = (u.exchange, u.site.service) else { return RuleOutcome::Clear };
        let Some(token) = e.token.map(|t| t.print) else { return RuleOutcome::Clear };
        match e.answered {
            Answered::Unknown => return RuleOutcome::Insufficient("answer not seen"),
            answered if answered.is_refused() => return RuleOutcome::Clear,
            _ => {}
        }
        let this = Side::of(u, service);
        let before = hits.len();
        if let Some(caller) = u.site.workload {
            if let Some(into) = self.came_in.get(&(caller, token)).filter(|into| passed_on(into, &this)) {
                hits.push(hit(into, &this));
            }
            self.went_out.insert((caller, token), this);
        }
        let Some(s) = world.service(service) else { return RuleOutcome::Clear };
        // A relay hands on what it is given: the token was never its own.
        if let Some(server) = s.workload.filter(|_| !s.relay) {
            if hits.len() == before
                && let Some(out) = self.went_out.get(&(server, token)).filter(|out| passed_on(&this, out))
            {
                hits.push(hit(&this, out));
            }
            // The earliest counts: what goes out later was given before.
            self.came_in.entry((server, token), || this);
        }
        if hits.len() > before { RuleOutcome::Found } else { RuleOutcome::Clear }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let workload = hit.site.workload.and_then(|w| world.directory.get(w));
        let name = workload.map_or("A server", |w| world.names.name(w.name));
        format!("{name} called another service with the token that its own caller had given it.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::Exchange;
    use crate::model::token::{Token, Verified};
    use crate::model::{Claim, Service, Settings};

    /// Service 0 is run by `SERVER`; service 1, upstream, by `REMOTE`.
    fn services(relay: bool) -> [Service; 2] {
        let mut upstream = shared_service();
        upstream.workload = Some(REMOTE);
        [Service { relay, ..shared_service() }, upstream]
    }

    fn with(second: u64, print: u64) -> Exchange {
        let token = Token { audience: None, ..token(print, Claim::Neutral, Verified::NoKey) };
        Exchange { token: Some(token), ..call(second, READ) }
    }

    fn came_in(e: &Exchange) -> McpUse<'_> {
        let mut u = at_service(0, e, by_label(A));
        u.site.workload = Some(LABELLED);
        u
    }

    fn run_all(uses: &[McpUse<'_>], relay: bool) -> Vec<Hit> {
        let mut rule = McpTokenPassthrough::default();
        let services = services(relay);
        let all = uses.iter().flat_map(|u| told(&mut rule, u, &services, Settings::default()).0);
        all.map(|(hit, _)| hit).collect()
    }

    #[test]
    fn positive_the_callers_token_goes_upstream() {
        let (into, out) = (with(1, 7), with(2, 7));
        let hits = run_all(&[came_in(&into), at_service(1, &out, by_label(A))], false);
        assert_eq!((hits.len(), hits[0].severity, hits[0].site.service), (1, Severity::High, Some(ServiceId(1))));
        // Inside the first call of all: the inner one is over, and known, before the outer one.
        let into = Exchange { ended: Nanos::secs(3), ..into };
        let hits = run_all(&[at_service(1, &out, by_label(A)), came_in(&into)], false);
        assert_eq!((hits.len(), hits[0].site.service), (1, Some(ServiceId(1))));
    }

    #[test]
    fn near_miss_another_token_or_a_relay_or_meant_for_both() {
        let (into, out) = (with(1, 7), with(2, 8));
        assert!(run_all(&[came_in(&into), at_service(1, &out, by_label(A))], false).is_empty(), "exchanged");
        let out = with(2, 7);
        assert!(run_all(&[came_in(&into), at_service(1, &out, by_label(A))], true).is_empty(), "a relay");
        let token = token(7, Claim::Neutral, Verified::NoKey);
        let meant = Exchange { token: Some(token), ..with(2, 7) };
        assert!(run_all(&[came_in(&into), at_service(1, &meant, by_label(A))], false).is_empty(), "shared audience");
        let refused = Exchange { answered: Answered::Status(401), ..with(2, 7) };
        assert!(run_all(&[came_in(&into), at_service(1, &refused, by_label(A))], false).is_empty());
        let earlier = with(0, 7);
        assert!(run_all(&[at_service(1, &earlier, by_label(A)), came_in(&into)], false).is_empty(), "its own before");
    }

    #[test]
    fn lossy_no_answer_is_not_enough() {
        let mut rule = McpTokenPassthrough::default();
        let (into, out) = (with(1, 7), Exchange { answered: Answered::Unknown, ..with(2, 7) });
        told(&mut rule, &came_in(&into), &services(false), Settings::default());
        let told = told(&mut rule, &at_service(1, &out, by_label(A)), &services(false), Settings::default());
        assert_eq!(told.1, RuleOutcome::Insufficient("answer not seen"));
    }
}
