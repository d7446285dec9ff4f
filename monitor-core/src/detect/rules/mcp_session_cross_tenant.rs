//! Rule: `mcp-session-cross-tenant`.
//!
//! A session that one tenant opened was accepted for another. The id of a session is no proof of who holds it: up to
//! 2025-11-25 the specification forbids to authenticate by it, and servers did (python-sdk issue 2100).
//!
//! Who holds a session is who opened it. Where that was seen for nobody known, or not seen, it is whose request in it
//! began first; that stands only if no earlier one can have been missed. A server that counts its sessions gives an id again
//! once it is started anew: there it must not have been missed, either, that the id was given to somebody else.
//!
//! Source: `docs/domain.md#sessions-and-handles`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, World, tables};
use crate::model::mcp::{Answered, Method};
use crate::model::{Attribution, Fingerprint, Nanos, ServiceId, Severity, Unseen, Where, WorkloadId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-session-cross-tenant",
    severity: Severity::Critical,
    needs: "MCP with sessions (up to 2025-11-25) in clear text, and the tenants of both uses: by label, by trace, or by \
            a verified token",
    why: "The server answered one tenant's request inside a session that is another's. Whatever the session holds (its \
          state, its stream, its results) is open to both.",
    remediation: "Bind every session to the principal that opened it, check that on each request, and refuse with 404 \
                  otherwise. Update the SDK (Python: 1.30 does so). Revision 2026-07-28 has no sessions.",
    source: "[Sessions and handles](domain.md#sessions-and-handles)",
};

/// Most sessions remembered.
const MAX_SESSIONS: usize = 65_536;

/// What the evidence calls the first request in a session whose holder was not seen opening it.
const FIRST: &str = "first";
/// What it calls the opening of a session, for nobody known.
const OPENED: &str = "opened";

/// A request in a session, and who made it.
#[derive(Clone, Copy, Debug)]
struct Use {
    past: Past,
    begun: Nanos,
    workload: Option<WorkloadId>,
}

impl Use {
    fn of(u: &McpUse<'_>, by: Attribution) -> Self {
        Self { past: Past::of(u, by), begun: u.exchange.begun, workload: u.site.workload }
    }
}

/// Who holds a session.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// Who opened it; and when, where its id may have been given again since.
    Opener(Past, Option<Nanos>),
    /// It was opened then, for nobody known, and not used since.
    Nobody(Nanos),
    /// Whose request in it began first, of those that were seen. When it was opened, if that was seen.
    First(Use, Option<Nanos>),
}

/// The rule: who holds each session.
#[derive(Debug)]
pub struct McpSessionCrossTenant {
    holders: Recent<(ServiceId, Fingerprint), Holder>,
}

impl Default for McpSessionCrossTenant {
    fn default() -> Self {
        Self { holders: Recent::new(MAX_SESSIONS) }
    }
}

/// The opening of a session, as the step that comes first.
fn opening(at: Nanos) -> Step {
    Step { at, what: OPENED, detail: Detail::Words("a session"), tenant: None, basis: None }
}

/// `later` was accepted in the session that `first` was the first to use; this is about `u`, which is one of the two.
fn crossed(u: &McpUse<'_>, first: &Use, later: &Use, opened: Option<Nanos>) -> Hit {
    let mut hit = u.crossing(&INFO, Severity::Critical, later.past.by, &first.past, (FIRST, "accepted"));
    if later.begun != u.exchange.begun {
        (hit.site.workload, hit.site.flow) = (later.workload, None);
    }
    hit.steps = opened.map(opening).into_iter().chain([first.past.step(FIRST), later.past.step("accepted")]).collect();
    hit
}

impl Rule for McpSessionCrossTenant {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.holders])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let (e, Some(service)) = (u.exchange, u.site.service) else { return RuleOutcome::Clear };
        let by = u.whom();
        if let Some(opened) = e.opened {
            // The id is given out anew, so its earlier holder has no claim on this session.
            let again = e.opened_recurs.then_some(e.begun);
            let holder = by.map_or(Holder::Nobody(e.begun), |by| Holder::Opener(Past::of(u, by), again));
            self.holders.insert((service, opened), holder);
        }
        let Some(session) = e.session else { return RuleOutcome::Clear };
        if e.answered == Answered::Unknown {
            return RuleOutcome::Insufficient("answer not seen");
        }
        if !e.answered.is_success() {
            return RuleOutcome::Clear;
        }
        let Some(by) = by else { return RuleOutcome::Insufficient("no tenant") };
        let (key, this) = ((service, session), Use::of(u, by));
        let held = self.holders.get(&key).copied();
        if e.method == Method::End {
            self.holders.remove(&key);
        }
        let hit = match held {
            Some(Holder::Opener(past, again)) if past.by.tenant != by.tenant => {
                let mut hit = u.crossing(&INFO, Severity::Critical, by, &past, ("session", "accepted"));
                hit.steps.insert_many(0, again.map(opening));
                hit
            }
            Some(Holder::First(first, opened)) if first.past.by.tenant != by.tenant => {
                if first.begun <= this.begun {
                    crossed(u, &first, &this, opened)
                } else {
                    // Its answer took longer.
                    self.holders.insert(key, Holder::First(this, opened));
                    crossed(u, &this, &first, opened)
                }
            }
            Some(Holder::Opener(..) | Holder::First(..)) => return RuleOutcome::Clear,
            Some(Holder::Nobody(_)) | None => {
                let opened = held.and_then(|h| if let Holder::Nobody(at) = h { Some(at) } else { None });
                if e.method != Method::End {
                    self.holders.insert(key, Holder::First(this, opened));
                }
                return RuleOutcome::Clear;
            }
        };
        hits.push(hit);
        RuleOutcome::Found
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        // Another may have been the first, where that is all that is known of who holds it; or been given the id since.
        match (hit.site.service, hit.steps.first()) {
            (Some(service), Some(step)) if step.what == OPENED => {
                [Where::Service(service), Where::Answered(service)].map(|place| Unseen { place, since: step.at }).into()
            }
            (Some(service), Some(step)) if step.what == FIRST => {
                let since = Nanos(0);
                smallvec![
                    Unseen { place: Where::EverAt(service), since },
                    Unseen { place: Where::Answered(service), since }
                ]
            }
            _ => SmallVec::new(),
        }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, held) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("The server accepted a request for {used} in an MCP session that is {held}'s.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::Exchange;
    use crate::model::token::Verified;
    use crate::model::{Answer, Basis, Claim, EvidenceClass, Missed, Settings, TenantId};

    const SESSION: Fingerprint = Fingerprint(77);

    fn open() -> Exchange {
        let base = at(1, an_exchange());
        Exchange { method: Method::Initialize, verb: INITIALIZE, opened: Some(SESSION), ..base }
    }

    fn inside(answered: Answered) -> Exchange {
        Exchange { session: Some(SESSION), answered, ..call(2, READ) }
    }

    #[test]
    fn positive_another_tenants_session_is_accepted() {
        let mut rule = McpSessionCrossTenant::default();
        assert!(see(&mut rule, &open(), by_label(A)).is_empty());
        let hits = see(&mut rule, &inside(Answered::Result), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
        assert_eq!(hits[0].class, EvidenceClass::Endpoint);
    }

    #[test]
    fn positive_verified_tokens_of_two_tenants_in_one_session() {
        let mut rule = McpSessionCrossTenant::default();
        // Both come through a gateway; its connection tells nobody apart.
        let of = |print, tenant| Exchange {
            token: Some(token(print, Claim::Tenant(tenant), Verified::Yes)),
            ..inside(Answered::Result)
        };
        assert!(see(&mut rule, &of(1, A), Answer::Unknown).is_empty());
        let hits = see(&mut rule, &of(2, B), Answer::Unknown);
        assert_eq!((hits[0].used, hits[0].bound, hits[0].class), (Some(B), Some(A), EvidenceClass::Wire));
    }

    #[test]
    fn near_miss_refused_or_its_own_or_opened_again() {
        let mut rule = McpSessionCrossTenant::default();
        see(&mut rule, &open(), by_label(A));
        assert!(see(&mut rule, &inside(Answered::Status(404)), by_label(B)).is_empty());
        assert!(see(&mut rule, &inside(Answered::Result), by_label(A)).is_empty());
        // The id is another session's by now.
        see(&mut rule, &open(), by_label(B));
        assert!(see(&mut rule, &inside(Answered::Result), by_label(B)).is_empty());
        // And once ended, it is nobody's.
        see(&mut rule, &Exchange { method: Method::End, ..inside(Answered::Accepted) }, by_label(B));
        assert!(see(&mut rule, &inside(Answered::Result), by_label(A)).is_empty());
    }

    #[test]
    fn lossy_unknown_tenant_or_answer_is_not_enough() {
        let mut rule = McpSessionCrossTenant::default();
        see(&mut rule, &open(), by_label(A));
        assert_eq!(
            judged(&mut rule, &inside(Answered::Result), Answer::Several),
            RuleOutcome::Insufficient("no tenant")
        );
        assert_eq!(
            judged(&mut rule, &inside(Answered::Unknown), by_label(B)),
            RuleOutcome::Insufficient("answer not seen")
        );
        // A session that was opened for nobody known is nobody's, and inference stays inference.
        see(&mut rule, &open(), Answer::Unknown);
        let inferred = Answer::Tenant(Attribution::new(B, Basis::OnlyTenant));
        assert!(see(&mut rule, &inside(Answered::Result), inferred).is_empty());
        let hits = see(&mut rule, &inside(Answered::Result), by_label(A));
        assert_eq!(hits[0].class, EvidenceClass::Inferred);
    }

    /// What the hit says whose request in whose session it was, and whether it stands where `missed` was.
    fn told(hits: &[Hit], missed: &Missed) -> Vec<(Option<TenantId>, Option<TenantId>, bool)> {
        let rule = McpSessionCrossTenant::default();
        let stands = |hit: &Hit| {
            let rests_on = with_settings(&[shared_service()], Settings::default(), |w| rule.rests_on(hit, w));
            !rests_on.iter().any(|unseen| missed.may_hide(unseen))
        };
        hits.iter().map(|hit| (hit.used, hit.bound, stands(hit))).collect()
    }

    #[test]
    fn positive_whose_request_began_first_holds_what_nobody_known_opened() {
        let mut rule = McpSessionCrossTenant::default();
        let slow = Exchange { begun: Nanos::secs(2), ended: Nanos::secs(9), ..inside(Answered::Result) };
        let quick = Exchange { begun: Nanos::secs(3), ended: Nanos::secs(4), ..inside(Answered::Result) };
        see(&mut rule, &open(), Answer::Unknown);
        assert!(see(&mut rule, &quick, by_label(B)).is_empty());
        let hits = see(&mut rule, &slow, by_label(A));
        assert_eq!(told(&hits, &Missed::default()), [(Some(B), Some(A), true)]);
        let hits = see(&mut rule, &quick, by_label(B));
        assert_eq!(told(&hits, &Missed::default()), [(Some(B), Some(A), true)], "and so from then on");
    }

    #[test]
    fn lossy_an_earlier_request_may_have_been_missed() {
        let use_by = |rule: &mut McpSessionCrossTenant, second, whom| {
            see(rule, &at(second, Exchange { session: Some(SESSION), ..call(2, READ) }), by_label(whom))
        };
        let (mut seen, mut unseen) = (McpSessionCrossTenant::default(), McpSessionCrossTenant::default());
        see(&mut seen, &open(), Answer::Unknown);
        let hits = [&mut seen, &mut unseen].map(|rule| {
            use_by(rule, 3, A);
            use_by(rule, 4, B)
        });
        let lost_at = |second| {
            let mut missed = Missed::default();
            missed.on(Some(ServiceId(0)), None, None, Nanos::secs(second));
            missed
        };
        let (mut unanswered, mut late) = (Missed::default(), Missed::default());
        unanswered.unanswered(ServiceId(0), Some(B), Nanos::secs(2));
        late.before(ServiceId(0), Nanos(1));
        // Opened at second 1: what was missed before does not matter.
        for (missed, opened_seen, opened_unseen) in
            [(lost_at(0), true, false), (lost_at(2), false, false), (unanswered, false, false), (late, true, false)]
        {
            assert_eq!(told(&hits[0], &missed), [(Some(B), Some(A), opened_seen)]);
            assert_eq!(told(&hits[1], &missed), [(Some(B), Some(A), opened_unseen)]);
        }
        // Who opened it is known: that rests on nothing.
        let mut rule = McpSessionCrossTenant::default();
        see(&mut rule, &open(), by_label(A));
        assert_eq!(told(&use_by(&mut rule, 4, B), &lost_at(2)), [(Some(B), Some(A), true)]);
        // Unless the id may have been given to the other since.
        see(&mut rule, &Exchange { opened_recurs: true, ..open() }, by_label(A));
        let hits = use_by(&mut rule, 4, B);
        assert_eq!(told(&hits, &lost_at(2)), [(Some(B), Some(A), false)]);
        assert_eq!(told(&hits, &lost_at(0)), [(Some(B), Some(A), true)]);
    }
}
