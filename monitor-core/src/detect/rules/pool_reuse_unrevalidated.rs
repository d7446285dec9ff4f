//! Rule: `pool-reuse-unrevalidated`.
//!
//! A connection that served one tenant is used for another, and nothing on the wire re-validated it in between: the
//! next borrower works with whatever the previous one left. A reset in between is milder, but no re-validation: the
//! connection may have fallen back to the tenant it was opened with.
//!
//! Source: `docs/domain.md#verdicts`.

use smallvec::{SmallVec, smallvec};

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Severity, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "pool-reuse-unrevalidated",
    severity: Severity::High,
    needs: "a decoded protocol with bindings, and the tenants of both uses by container, relay or binding",
    why: "A pooled connection that served one tenant was used for another and nothing seen on the wire re-validated \
          it. Whatever the first left on the connection, or the connection's default, decides what the second sees.",
    remediation: "Bind the connection to the tenant anew for every unit of work, and drop it when the binding fails; or \
                  keep connections for each tenant apart.",
    source: "[Verdicts](domain.md#verdicts)",
};

/// The rule.
#[derive(Debug)]
pub struct PoolReuseUnrevalidated;

impl Rule for PoolReuseUnrevalidated {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Use(u) = event else { return RuleOutcome::Clear };
        let severity = match u.ruling.verdict {
            Verdict::Unbound => Severity::High,
            Verdict::ResetOnly => Severity::Medium,
            Verdict::Indeterminate => return RuleOutcome::Insufficient("verdict is indeterminate"),
            _ => return RuleOutcome::Clear,
        };
        let (Some(attribution), Some(other)) = (u.answer.attribution(), u.other) else {
            return RuleOutcome::Insufficient("no tenant");
        };
        let between = if severity == Severity::Medium {
            "reset since; a reset is not a re-validation"
        } else {
            "no re-validation seen on the wire"
        };
        let missing = Step { at: u.at, what: "missing", detail: Detail::Words(between), tenant: None, basis: None };
        let mut steps: SmallVec<[Step; 3]> = smallvec![Step::of_other(&other), missing];
        steps.extend(u.origin());
        steps.push(Step::of_use(u));
        hits.push(Hit {
            rule: INFO.id,
            severity,
            class: attribution.class.min(other.by.class),
            corroborated: u.corroborated(),
            subject: Sym::EMPTY,
            at: u.at,
            site: u.site,
            used: Some(attribution.tenant),
            bound: Some(other.by.tenant),
            steps,
        });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, other) = (world.tenant(hit.used), world.tenant(hit.bound));
        let since = if hit.severity == Severity::Medium { "only a reset was" } else { "nothing was" };
        format!(
            "A connection that had served {other} was used for {used}; {since} seen on the wire in between that \
             re-validates it for {used}."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;

    #[test]
    fn positive_unbound_and_reset_only() {
        let hits = run(&mut PoolReuseUnrevalidated, &a_use(Verdict::Unbound));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        let hits = run(&mut PoolReuseUnrevalidated, &a_use(Verdict::ResetOnly));
        assert_eq!(hits[0].severity, Severity::Medium);
    }

    #[test]
    fn near_miss_revalidated_or_one_tenant() {
        for verdict in [Verdict::Revalidated, Verdict::SingleTenant, Verdict::StaleBound] {
            assert!(run(&mut PoolReuseUnrevalidated, &a_use(verdict)).is_empty());
        }
    }

    #[test]
    fn lossy_indeterminate_is_not_enough() {
        let mut rule = PoolReuseUnrevalidated;
        assert_eq!(
            outcome(&mut rule, &a_use(Verdict::Indeterminate)),
            RuleOutcome::Insufficient("verdict is indeterminate")
        );
    }
}
