//! Rule: `conn-auth-reuse`.
//!
//! Negotiate and NTLM authenticate the connection, not the request (RFC 4559 §6, RFC 9110 §3.3). A client that keeps
//! such a connection in a pool and sends another tenant's request on it acts as whoever authenticated it.
//!
//! Source: `docs/domain.md#http`.

use smallvec::smallvec;

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Step, World};
use crate::model::{Severity, Slot, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "conn-auth-reuse",
    severity: Severity::High,
    needs: "HTTP in clear text, an authentication of the connection (Negotiate, NTLM), and the tenants of both uses",
    why: "A connection that was authenticated as a whole for one tenant carried another tenant's request. The server \
          takes it for the first one's.",
    remediation: "Key the pool by credential: one set of connections per tenant. Update curl. Prefer credentials that \
                  every request carries.",
    source: "[HTTP](domain.md#http); [CVE-2022-22576](https://curl.se/docs/CVE-2022-22576.html)",
};

/// The rule.
#[derive(Debug)]
pub struct ConnAuthReuse;

impl Rule for ConnAuthReuse {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Use(u) = event else { return RuleOutcome::Clear };
        let Some(bound) = u.ruling.binding.filter(|b| b.slot == Slot::ConnectionAuth) else {
            return RuleOutcome::Clear;
        };
        match u.ruling.verdict {
            Verdict::StaleBound => {}
            Verdict::Indeterminate => return RuleOutcome::Insufficient("verdict is indeterminate"),
            _ => return RuleOutcome::Clear,
        }
        let Some(attribution) = u.answer.attribution() else { return RuleOutcome::Insufficient("no tenant") };
        hits.push(Hit {
            rule: INFO.id,
            severity: Severity::High,
            class: attribution.class,
            corroborated: u.corroborated(),
            subject: Sym::EMPTY,
            at: u.at,
            site: u.site,
            used: Some(attribution.tenant),
            bound: u.ruling.other,
            steps: smallvec![Step::of_binding(&bound, u.ruling.other), Step::of_use(u)],
        });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, bound) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("A request for {used} went out on a connection that had been authenticated, as a whole, for {bound}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::Use;
    use crate::detect::testing::*;

    fn on_authenticated(verdict: Verdict, slot: Slot) -> Use {
        let mut u = a_use(Verdict::StaleBound);
        u.ruling.verdict = verdict;
        if let Some(b) = &mut u.ruling.binding {
            b.slot = slot;
        }
        u
    }

    #[test]
    fn positive_another_tenants_request() {
        let hits = run(&mut ConnAuthReuse, &on_authenticated(Verdict::StaleBound, Slot::ConnectionAuth));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
    }

    #[test]
    fn near_miss_its_own_or_another_kind_of_binding() {
        assert!(run(&mut ConnAuthReuse, &on_authenticated(Verdict::Revalidated, Slot::ConnectionAuth)).is_empty());
        assert!(run(&mut ConnAuthReuse, &on_authenticated(Verdict::StaleBound, Slot::Role)).is_empty());
    }

    #[test]
    fn lossy_indeterminate_is_not_enough() {
        let u = on_authenticated(Verdict::Indeterminate, Slot::ConnectionAuth);
        assert_eq!(outcome(&mut ConnAuthReuse, &u), RuleOutcome::Insufficient("verdict is indeterminate"));
    }
}
