//! Rule: `result-cross-tenant`.
//!
//! A canary proves it; a field that names another known tenant strongly suggests it (records may be shared on purpose).
//!
//! Source: `docs/domain.md#what-is-behind-a-tool`.

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, World};
use crate::model::{Claim, Severity};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "result-cross-tenant",
    severity: Severity::Critical,
    needs: "results in clear text, the tenant of the call, and canaries or fields that name tenants",
    why: "A result for one tenant holds what belongs to another: a value planted in that tenant's data, or a field that \
          names it. Whatever was checked before, data has crossed.",
    remediation: "Contain first: close the path and rotate what leaked. Then mend the scoping where the result was made.",
    source: "[What is behind a tool](domain.md#what-is-behind-a-tool); Asana MCP, June 2025",
};

/// The rule.
#[derive(Debug)]
pub struct ResultCrossTenant;

impl Rule for ResultCrossTenant {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let content = &u.exchange.content;
        if content.canaries.is_empty() && content.tenants.is_empty() {
            return RuleOutcome::Clear;
        }
        let Some(a) = u.whom() else { return RuleOutcome::Insufficient("no tenant") };
        let canary = content.canaries.iter().find(|t| **t != a.tenant).copied();
        let named = content.tenants.iter().find_map(|c| match c {
            Claim::Tenant(t) if *t != a.tenant => Some(*t),
            _ => None,
        });
        let (severity, other, words) = match (canary, named) {
            (Some(t), _) => (Severity::Critical, t, "the result holds a value planted in another tenant's data"),
            (None, Some(t)) => (Severity::High, t, "a field of the result names another tenant"),
            (None, None) => return RuleOutcome::Clear,
        };
        let hit = Hit::of_exchange(INFO.id, severity, u, words);
        hits.push(Hit { class: a.class, used: Some(a.tenant), bound: Some(other), ..hit });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (tool, whom, other) = (world.names.name(hit.subject), world.tenant(hit.used), world.tenant(hit.bound));
        format!("The result of {tool} for {whom} holds what is {other}'s.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::mcp::{Content, Exchange};
    use crate::model::{Answer, TenantId};

    fn result(canaries: &[TenantId], tenants: &[Claim]) -> Exchange {
        let content = Content {
            canaries: canaries.iter().copied().collect(),
            tenants: tenants.iter().copied().collect(),
            ..Content::default()
        };
        Exchange { content, ..an_exchange() }
    }

    #[test]
    fn positive_a_canary_or_a_field() {
        let (hits, _) = run_mcp(&mut ResultCrossTenant, &result(&[A], &[]), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
        let (hits, _) = run_mcp(&mut ResultCrossTenant, &result(&[], &[Claim::Tenant(A)]), by_label(B));
        assert_eq!(hits[0].severity, Severity::High);
    }

    #[test]
    fn near_miss_its_own_or_nobodys() {
        assert!(
            run_mcp(&mut ResultCrossTenant, &result(&[B], &[Claim::Tenant(B), Claim::Neutral]), by_label(B))
                .0
                .is_empty()
        );
    }

    #[test]
    fn lossy_nobody_knows_whose_call_it_was() {
        let (_, outcome) = run_mcp(&mut ResultCrossTenant, &result(&[A], &[]), Answer::Several);
        assert_eq!(outcome, RuleOutcome::Insufficient("no tenant"));
    }
}
