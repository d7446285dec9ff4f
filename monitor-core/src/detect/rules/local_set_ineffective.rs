//! Rule: `local-set-ineffective`.
//!
//! A transaction-scoped binding (`SET LOCAL`, `set_config(…, true)`) outside a transaction is acknowledged and gone
//! before the next statement: the code looks bound and is not. In one multi-statement query, and in a pipeline before
//! its Sync, it does hold; that is no finding.
//!
//! Source: `docs/domain.md#transaction-local-settings`.

use smallvec::smallvec;

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Basis, Severity, Sym};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "local-set-ineffective",
    severity: Severity::High,
    needs: "decoded PostgreSQL, both directions",
    why: "A tenant binding for the transaction was made outside one. The server acknowledged it and dropped it at once: \
          what follows runs unbound.",
    remediation: "Wrap binding and work in one transaction (BEGIN … COMMIT); treat warning 25P01 as an error.",
    source: "[Transaction-local settings](domain.md#transaction-local-settings)",
};

/// The rule.
#[derive(Debug)]
pub struct LocalSetIneffective;

impl Rule for LocalSetIneffective {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Ineffective(i) = event else { return RuleOutcome::Clear };
        // Without the server's word for it, a binding that covered nothing is harmless until something goes uncovered.
        if !i.warned && i.uncovered.is_none() {
            return RuleOutcome::Clear;
        }
        let attribution = i.answer.attribution();
        let tenant = attribution.map(|a| a.tenant);
        let mut steps = smallvec![Step {
            at: i.at,
            what: "bind",
            detail: Detail::LocalBind(i.slot, i.warned),
            tenant,
            basis: attribution.map(|a| a.basis),
        }];
        if let Some((at, verb, target)) = i.uncovered {
            let basis = attribution.map(|a| a.basis);
            steps.push(Step { at, what: "data", detail: Detail::Operation(verb, target), tenant, basis });
        }
        hits.push(Hit {
            rule: INFO.id,
            severity: Severity::High,
            // The replies themselves say that it had no effect.
            class: attribution.map_or(Basis::Binding.class(), |a| a.class),
            corroborated: None,
            subject: Sym::EMPTY,
            at: i.uncovered.map_or(i.at, |(at, ..)| at),
            site: i.site,
            used: tenant,
            bound: None,
            steps,
        });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        match hit.used {
            Some(_) => format!(
                "{}'s binding for the transaction was made outside a transaction: it was acknowledged and dropped at once.",
                world.tenant(hit.used)
            ),
            None => "A tenant binding for the transaction was made outside a transaction: it was acknowledged and \
                     dropped at once."
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;

    #[test]
    fn positive_warned_or_followed_by_uncovered_data() {
        let mut i = ineffective(true);
        assert_eq!(run_event(&mut LocalSetIneffective, &RuleEvent::Ineffective(&i)).len(), 1);
        i.warned = false;
        i.uncovered = Some((i.at, SELECT, ORDERS));
        assert_eq!(run_event(&mut LocalSetIneffective, &RuleEvent::Ineffective(&i)).len(), 1);
    }

    #[test]
    fn near_miss_nothing_went_uncovered() {
        assert!(run_event(&mut LocalSetIneffective, &RuleEvent::Ineffective(&ineffective(false))).is_empty());
    }

    #[test]
    fn lossy_a_finding_without_a_tenant_names_none() {
        let mut i = ineffective(true);
        i.answer = crate::model::Answer::Several;
        let hits = run_event(&mut LocalSetIneffective, &RuleEvent::Ineffective(&i));
        assert_eq!(hits[0].used, None);
    }
}
