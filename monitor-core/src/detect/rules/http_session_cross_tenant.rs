//! Rule: `http-session-cross-tenant`.
//!
//! A request for one tenant carries a session cookie that was opened for another: the server answers whoever the session
//! is. A gateway with one cookie jar for all of its callers does that, on whatever connection.
//!
//! Which cookies are sessions, and whose, is learned by the engine (`engine/jars.rs`).
//!
//! Source: `docs/domain.md#http`.

use smallvec::{SmallVec, smallvec};

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, SessionUse, Step, World};
use crate::model::{Nanos, Severity, Sym, Unseen, Where};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "http-session-cross-tenant",
    severity: Severity::High,
    needs: "HTTP in clear text, and the tenants of the request that a session was set for and of those that carry it",
    why: "A session cookie that was set for one tenant's request went out with another's. The server takes that one for \
          the first: it sees and changes what is the first one's.",
    remediation: "Keep a cookie jar per caller, or none: a client that is shared by all requests must not store cookies \
                  (aiohttp DummyCookieJar, httpx without a shared client, curl without a cookie engine).",
    source: "[HTTP](domain.md#http)",
};

/// A value that was set so long before may have been set for the other one as well.
const BEFORE: Nanos = Nanos::secs(60);

/// The rule.
#[derive(Debug)]
pub struct HttpSessionCrossTenant;

impl Rule for HttpSessionCrossTenant {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Session(SessionUse { site, at, verb, target, crossing }) = event else {
            return RuleOutcome::Clear;
        };
        let (used, owner) = (&crossing.used, &crossing.owner);
        if used.tenant == owner.tenant {
            return RuleOutcome::Clear;
        }
        let step = |at, what, verb, target, a: &crate::model::Attribution| Step {
            at,
            what,
            detail: Detail::Operation(verb, target),
            tenant: Some(a.tenant),
            basis: Some(a.basis),
        };
        let (since, from_verb, from_target) = crossing.from;
        let (what, severity) = if crossing.was_set { ("set", Severity::High) } else { ("own", Severity::Medium) };
        hits.push(Hit {
            rule: INFO.id,
            severity,
            class: used.class.min(owner.class),
            corroborated: (used.corroborated() && owner.corroborated()).then_some(used.bases),
            at: *at,
            site: *site,
            subject: Sym::EMPTY,
            used: Some(used.tenant),
            bound: Some(owner.tenant),
            steps: smallvec![
                step(since, what, from_verb, from_target, owner),
                step(*at, "carried", *verb, *target, used),
            ],
        });
        RuleOutcome::Found
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let (Some(service), Some(used)) = (hit.site.service, hit.used) else { return SmallVec::new() };
        let from = hit.steps.first().map_or(hit.at, |s| s.at);
        let since = Nanos(from.0.saturating_sub(BEFORE.0));
        [Where::ServedTo(service, used), Where::AnsweredTo(service, used)].map(|place| Unseen { place, since }).into()
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, owner) = (world.tenant(hit.used), world.tenant(hit.bound));
        let how = if hit.severity == Severity::High { "was set for" } else { "only ever went with" };
        format!("A request for {used} carried a session cookie that {how} {owner}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::cookies::Crossing;
    use crate::model::{Attribution, Basis, EvidenceClass, Missed, ServiceId, TenantId};

    fn carried(used: TenantId, was_set: bool, basis: Basis) -> Vec<Hit> {
        let by = |tenant| Attribution::new(tenant, basis);
        let crossing = Crossing { used: by(used), owner: by(A), from: (Nanos(5), SELECT, ORDERS), was_set };
        let event = SessionUse { site: SITE, at: Nanos(9), verb: SELECT, target: ORDERS, crossing };
        run_event(&mut HttpSessionCrossTenant, &RuleEvent::Session(&event))
    }

    #[test]
    fn positive_anothers_session() {
        let hits = carried(B, true, Basis::OwnContainer);
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        assert_eq!(carried(B, false, Basis::OwnContainer)[0].severity, Severity::Medium, "by use alone");
        assert_eq!(carried(B, true, Basis::SameThread)[0].class, EvidenceClass::Inferred);
    }

    #[test]
    fn near_miss_its_own() {
        assert!(carried(A, true, Basis::OwnContainer).is_empty());
        assert!(run(&mut HttpSessionCrossTenant, &a_use(crate::model::Verdict::Unbound)).is_empty());
    }

    #[test]
    fn lossy_it_may_have_been_set_for_the_other_as_well() {
        let hit = &carried(B, true, Basis::OwnContainer)[0];
        let rests_on = with_settings(&[shared_service()], crate::model::Settings::default(), |world| {
            HttpSessionCrossTenant.rests_on(hit, world)
        });
        let mut missed = Missed::default();
        missed.on(hit.site.service, Some(A), None, Nanos(4));
        assert!(!rests_on.iter().any(|unseen| missed.may_hide(unseen)), "of A's own");
        missed.on(hit.site.service, None, None, Nanos(4));
        assert!(rests_on.iter().any(|unseen| missed.may_hide(unseen)));
        let mut missed = Missed::default();
        missed.unanswered(ServiceId(0), Some(B), Nanos(4));
        assert!(rests_on.iter().any(|unseen| missed.may_hide(unseen)));
    }
}
