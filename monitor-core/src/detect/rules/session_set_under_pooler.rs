//! Rule: `session-set-under-pooler`.
//!
//! A client of a transaction pooler bound a server connection for its whole session, and the pooler then gave that
//! connection to another client with the binding still in force. Poolers track only a handful of settings
//! (PgBouncer: those the server reports), never a custom one or a role.
//!
//! Source: `docs/domain.md#poolers`.

use smallvec::smallvec;

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Basis, Scope, Severity, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "session-set-under-pooler",
    severity: Severity::High,
    needs: "both sides of the pooler on this host",
    why: "A tenant binding made for the session stayed on a server connection that the pooler handed to another client. \
          Which tenant a statement runs as then depends on who used the connection last.",
    remediation: "Bind for the unit of work alone; or let the pooler keep a connection for the client that has bound it, \
                  or reset it before the next one.",
    source: "[Poolers](domain.md#poolers)",
};

/// The rule.
#[derive(Debug)]
pub struct SessionSetUnderPooler;

impl Rule for SessionSetUnderPooler {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Use(u) = event else { return RuleOutcome::Clear };
        let Some(attribution) = u.answer.attribution() else { return RuleOutcome::Insufficient("no tenant") };
        if u.ruling.verdict == Verdict::Indeterminate {
            return RuleOutcome::Insufficient("verdict is indeterminate");
        }
        // Only a relay's connections have clients behind them.
        if attribution.basis != Basis::ForwardedContent {
            return RuleOutcome::Clear;
        }
        let left_behind = u.live.iter().find(|l| {
            // Two tenants are two clients, even where neither of them was singled out among its tenant's.
            let another = match (l.client, attribution.client) {
                (Some(a), Some(b)) => a != b,
                _ => l.author != Some(attribution.tenant),
            };
            l.bound.scope == Scope::Session && l.author.is_some() && another
        });
        let Some(left) = left_behind else { return RuleOutcome::Clear };
        let crossed = left.author != Some(attribution.tenant);
        hits.push(Hit {
            rule: INFO.id,
            severity: if crossed { Severity::High } else { Severity::Medium },
            class: attribution.class,
            corroborated: u.corroborated(),
            subject: Sym::EMPTY,
            at: u.at,
            site: u.site,
            used: Some(attribution.tenant),
            bound: left.author,
            steps: smallvec![Step::of_binding(&left.bound, left.author), Step::of_use(u)],
        });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, bound) = (world.tenant(hit.used), world.tenant(hit.bound));
        if hit.used == hit.bound {
            format!(
                "A client of {bound} bound a pooled server connection for its session; the pooler gave it to another \
                 client of the same tenant with the binding still in force."
            )
        } else {
            format!(
                "A client of {bound} bound a pooled server connection for its session; the pooler gave it to a client \
                 of {used} with the binding still in force."
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::ConnId;

    #[test]
    fn positive_another_client_meets_the_binding() {
        let hits = run(&mut SessionSetUnderPooler, &relayed_use(Scope::Session, ConnId(1), A));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        let hits = run(&mut SessionSetUnderPooler, &relayed_use(Scope::Session, ConnId(1), B));
        assert_eq!(hits[0].severity, Severity::Medium);
    }

    #[test]
    fn near_miss_same_client_or_transaction_scope() {
        assert!(run(&mut SessionSetUnderPooler, &relayed_use(Scope::Session, ConnId(2), B)).is_empty());
        assert!(run(&mut SessionSetUnderPooler, &relayed_use(Scope::Transaction, ConnId(1), A)).is_empty());
    }

    #[test]
    fn lossy_an_unsettled_author_is_nobody() {
        let mut u = relayed_use(Scope::Session, ConnId(1), A);
        u.live[0].author = None;
        assert!(run(&mut SessionSetUnderPooler, &u).is_empty());
        u.ruling.verdict = Verdict::Indeterminate;
        assert_eq!(outcome(&mut SessionSetUnderPooler, &u), RuleOutcome::Insufficient("verdict is indeterminate"));
    }
}
