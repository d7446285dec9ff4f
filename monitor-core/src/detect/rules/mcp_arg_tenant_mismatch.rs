//! Rule: `mcp-arg-tenant-mismatch`.
//!
//! An argument names a tenant, and it is not the one for whom the call is. Arguments come from a model, and a model does
//! what the last text told it: a field of a schema is no authorization.
//!
//! Source: `docs/domain.md#arguments`.

use smallvec::smallvec;

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Claim, Severity};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-arg-tenant-mismatch",
    severity: Severity::High,
    needs: "MCP in clear text with an argument or an Mcp-Param header that names a known tenant, and the tenant of the \
            call by other evidence",
    why: "The server took from its arguments for whom to work, and they named somebody else. Whoever can put words into \
          the model's context can choose the tenant.",
    remediation: "Take the tenant from the verified token and from nowhere else; drop the argument. Tools of \
                  administrators, who may name others, can be suppressed with that reason.",
    source: "[Arguments](domain.md#arguments)",
};

/// The rule.
#[derive(Debug)]
pub struct McpArgTenantMismatch;

impl Rule for McpArgTenantMismatch {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let e = u.exchange;
        if e.named.is_empty() || !u.is_data() {
            return RuleOutcome::Clear;
        }
        if !u.is_answered() {
            return RuleOutcome::Insufficient("answer not seen");
        }
        if !e.answered.is_done() {
            return RuleOutcome::Clear;
        }
        let Some(by) = u.whom() else { return RuleOutcome::Insufficient("no tenant") };
        let mut doubt = RuleOutcome::Clear;
        let before = hits.len();
        for (argument, claim) in &e.named {
            let named = match claim {
                Claim::Tenant(tenant) if *tenant == by.tenant => continue,
                Claim::Tenant(tenant) => *tenant,
                Claim::Neutral | Claim::Chosen(_) | Claim::Cleared => continue,
                Claim::Opaque(_) => {
                    doubt = RuleOutcome::Insufficient("argument names no known tenant");
                    continue;
                }
                Claim::Unreadable => {
                    doubt = RuleOutcome::Insufficient("argument could not be read");
                    continue;
                }
            };
            let severity = if u.returned_data() { Severity::Critical } else { Severity::High };
            let names = Step {
                at: e.begun,
                what: "argument",
                detail: Detail::Operation(e.verb, *argument),
                tenant: Some(named),
                basis: None,
            };
            let hit = u.hit(&INFO, severity, Some(by), by.class, smallvec![names, u.step("accepted", Some(by))]);
            let corroborated = by.corroborated().then_some(by.bases);
            hits.push(Hit { subject: e.name, bound: Some(named), corroborated, ..hit });
        }
        if hits.len() > before { RuleOutcome::Found } else { doubt }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, named) = (world.tenant(hit.used), world.tenant(hit.bound));
        let data = if hit.severity == Severity::Critical { " and answered with data" } else { "" };
        format!("The server did a call for {used} whose arguments name {named}{data}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::{Answered, Content, Exchange};
    use crate::model::{Answer, Attribution, Basis, EvidenceClass, OpaqueId, Sym};

    fn naming(claim: Claim) -> Exchange {
        Exchange { named: smallvec![(Sym(4), claim)], ..call(1, READ) }
    }

    #[test]
    fn positive_the_argument_names_another() {
        let hits = see(&mut McpArgTenantMismatch, &naming(Claim::Tenant(A)), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        let content = Content { bytes: 10, ..Content::default() };
        let data = Exchange { content, ..naming(Claim::Tenant(A)) };
        assert_eq!(see(&mut McpArgTenantMismatch, &data, by_label(B))[0].severity, Severity::Critical);
    }

    #[test]
    fn positive_another_beside_its_own() {
        let mut rule = McpArgTenantMismatch;
        let all = [Claim::Opaque(OpaqueId(1)), Claim::Tenant(B), Claim::Tenant(A)];
        let named = all.into_iter().map(|claim| (Sym(4), claim)).collect();
        let hits = see(&mut rule, &Exchange { named, ..call(1, READ) }, by_label(B));
        assert_eq!((hits.len(), hits[0].used, hits[0].bound), (1, Some(B), Some(A)));
    }

    #[test]
    fn lossy_its_own_beside_somebody_unknown() {
        let named = smallvec![(Sym(4), Claim::Tenant(B)), (Sym(4), Claim::Unreadable)];
        let outcome = judged(&mut McpArgTenantMismatch, &Exchange { named, ..call(1, READ) }, by_label(B));
        assert_eq!(outcome, RuleOutcome::Insufficient("argument could not be read"));
    }

    #[test]
    fn near_miss_its_own_name_or_refused() {
        let mut rule = McpArgTenantMismatch;
        assert!(see(&mut rule, &naming(Claim::Tenant(B)), by_label(B)).is_empty());
        assert!(see(&mut rule, &naming(Claim::Neutral), by_label(B)).is_empty());
        for answered in [Answered::Status(403), Answered::ToolError, Answered::RpcError(-32602)] {
            let e = Exchange { answered, ..naming(Claim::Tenant(A)) };
            assert!(see(&mut rule, &e, by_label(B)).is_empty());
        }
    }

    #[test]
    fn lossy_somebody_unknown_on_either_side() {
        let mut rule = McpArgTenantMismatch;
        assert_eq!(
            judged(&mut rule, &naming(Claim::Opaque(OpaqueId(1))), by_label(B)),
            RuleOutcome::Insufficient("argument names no known tenant")
        );
        assert_eq!(
            judged(&mut rule, &naming(Claim::Tenant(A)), Answer::Several),
            RuleOutcome::Insufficient("no tenant")
        );
        let inferred = Answer::Tenant(Attribution::new(B, Basis::OnlyTenant));
        let hits = see(&mut rule, &naming(Claim::Tenant(A)), inferred);
        assert_eq!(hits[0].class, EvidenceClass::Inferred);
        for answered in [Answered::Unknown, Answered::Accepted] {
            let unknown = Exchange { answered, ..naming(Claim::Tenant(A)) };
            assert_eq!(judged(&mut rule, &unknown, by_label(B)), RuleOutcome::Insufficient("answer not seen"));
        }
    }
}
