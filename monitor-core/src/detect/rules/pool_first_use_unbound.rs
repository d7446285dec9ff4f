//! Rule: `pool-first-use-unbound`.
//!
//! A pool has opened a new connection, and its first borrower used it unbound, where the same client binds every other
//! use of the same table. Pools that bind when they hand out an idle connection (sqlx: `before_acquire`) hand out a new
//! one without.
//!
//! Source: `docs/domain.md#first-use`.

use smallvec::{SmallVec, smallvec};

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Severity, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "pool-first-use-unbound",
    severity: Severity::Medium,
    needs: "a decoded protocol with bindings, a process that works for several tenants, the connection from its start",
    why: "The first borrower of a new connection used it without a binding, on a table that the same client otherwise \
          uses bound, without exception. What it saw was decided by the connection's default: everybody's rows, or none.",
    remediation: "Bind per unit of work rather than in a hook of the pool; else bind in the hook for new connections, too.",
    source: "[First use](domain.md#first-use); sqlx, `PoolOptions::before_acquire`",
};

/// The rule.
#[derive(Debug)]
pub struct PoolFirstUseUnbound;

impl Rule for PoolFirstUseUnbound {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Use(u) = event else { return RuleOutcome::Clear };
        match u.ruling.verdict {
            Verdict::SingleTenant => {}
            Verdict::Indeterminate => return RuleOutcome::Insufficient("verdict is indeterminate"),
            _ => return RuleOutcome::Clear,
        }
        let Some(n) = u.otherwise_bound else { return RuleOutcome::Clear };
        let Some(attribution) = u.answer.attribution() else { return RuleOutcome::Insufficient("no tenant") };
        let words = "uses of the same table by the same client, each of them bound";
        let habit = Step { at: u.at, what: "elsewhere", detail: Detail::Amount(n, words), tenant: None, basis: None };
        let mut steps: SmallVec<[Step; 3]> = smallvec![habit];
        steps.extend(u.origin());
        steps.push(Step::of_use(u));
        hits.push(Hit {
            rule: INFO.id,
            severity: Severity::Medium,
            class: attribution.class,
            corroborated: None,
            subject: Sym::EMPTY,
            at: u.at,
            site: u.site,
            used: Some(attribution.tenant),
            bound: None,
            steps,
        });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let used = world.tenant(hit.used);
        format!(
            "A new connection was used for {used} before anything was bound on it; on its other connections the same \
             client binds every use of this table."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Use;
    use crate::detect::testing::*;

    fn first_use(verdict: Verdict) -> Use {
        Use { other: None, otherwise_bound: Some(12), ..a_use(verdict) }
    }

    #[test]
    fn positive_unbound_where_the_client_binds_otherwise() {
        let hits = run(&mut PoolFirstUseUnbound, &first_use(Verdict::SingleTenant));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Medium, Some(B), None));
    }

    #[test]
    fn near_miss_no_such_habit_or_bound() {
        let none = Use { otherwise_bound: None, ..first_use(Verdict::SingleTenant) };
        assert!(run(&mut PoolFirstUseUnbound, &none).is_empty());
        assert!(run(&mut PoolFirstUseUnbound, &first_use(Verdict::Revalidated)).is_empty());
    }

    #[test]
    fn lossy_indeterminate_is_not_enough() {
        let mut rule = PoolFirstUseUnbound;
        let outcome = outcome(&mut rule, &first_use(Verdict::Indeterminate));
        assert_eq!(outcome, RuleOutcome::Insufficient("verdict is indeterminate"));
    }
}
