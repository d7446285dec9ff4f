//! Rule: `pool-stale-binding`.
//!
//! A data operation ran for one tenant while an acknowledged binding in force named another: the server answered with
//! the other tenant's rows, role or schema.
//!
//! Source: `docs/domain.md#verdicts`.

use smallvec::{SmallVec, smallvec};

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Claim, Scope, Severity, Slot, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "pool-stale-binding",
    severity: Severity::Critical,
    needs: "a decoded protocol with bindings, and the tenant of the use by container, relay or binding",
    why: "An operation for one tenant ran on a connection whose acknowledged binding named another. The server \
          enforces the binding, so the operation worked on the other tenant's data.",
    remediation: "Bind at checkout and reset at return, whatever happens between; or keep connections for each tenant \
                  apart.",
    source: "[Verdicts](domain.md#verdicts)",
};

/// The rule.
#[derive(Debug)]
pub struct PoolStaleBinding;

impl Rule for PoolStaleBinding {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Use(u) = event else { return RuleOutcome::Clear };
        match u.ruling.verdict {
            Verdict::StaleBound => {}
            Verdict::Indeterminate => return RuleOutcome::Insufficient("verdict is indeterminate"),
            _ => return RuleOutcome::Clear,
        }
        let (Some(attribution), Some(bound)) = (u.answer.attribution(), u.ruling.binding) else {
            return RuleOutcome::Insufficient("no tenant");
        };
        // What authenticated the connection as a whole has a rule of its own.
        if bound.slot == Slot::ConnectionAuth {
            return RuleOutcome::Clear;
        }
        // A declared marker is a label: the server may or may not go by it.
        // … and an opaque value's tenant was only learned, so it proves less.
        let learned = matches!(bound.claim, Claim::Chosen(_));
        let severity = if bound.slot == Slot::Marker || learned { Severity::High } else { Severity::Critical };
        let mut steps: SmallVec<[Step; 3]> = smallvec![Step::of_binding(&bound, u.ruling.other)];
        if bound.scope == Scope::Transaction && bound.unit != u.unit {
            let words = "its transaction was never ended, and is still open";
            steps.push(Step { at: u.at, what: "open", detail: Detail::Words(words), tenant: None, basis: None });
        }
        steps.extend(u.origin());
        steps.push(Step::of_use(u));
        hits.push(Hit {
            rule: INFO.id,
            severity,
            class: attribution.class,
            corroborated: u.corroborated(),
            subject: Sym::EMPTY,
            at: u.at,
            site: u.site,
            used: Some(attribution.tenant),
            bound: u.ruling.other,
            steps,
        });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, bound) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("An operation for {used} ran on a connection whose binding in force names {bound}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;

    #[test]
    fn positive_the_binding_names_another() {
        let hits = run(&mut PoolStaleBinding, &a_use(Verdict::StaleBound));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
    }

    #[test]
    fn positive_of_a_transaction_that_nobody_ended() {
        let mut left = a_use(Verdict::StaleBound);
        if let Some(bound) = &mut left.ruling.binding {
            bound.scope = Scope::Transaction;
        }
        let steps: Vec<_> = run(&mut PoolStaleBinding, &left)[0].steps.iter().map(|s| s.what).collect();
        assert_eq!(steps, ["bind", "open", "data"]);
    }

    #[test]
    fn near_miss_unbound_is_another_rules() {
        for verdict in [Verdict::Revalidated, Verdict::SingleTenant, Verdict::Unbound, Verdict::ResetOnly] {
            assert!(run(&mut PoolStaleBinding, &a_use(verdict)).is_empty());
        }
    }

    #[test]
    fn lossy_indeterminate_is_not_enough() {
        let mut rule = PoolStaleBinding;
        assert_eq!(
            outcome(&mut rule, &a_use(Verdict::Indeterminate)),
            RuleOutcome::Insufficient("verdict is indeterminate")
        );
    }
}
