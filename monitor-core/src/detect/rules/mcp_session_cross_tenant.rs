//! Rule: `mcp-session-cross-tenant`.
//!
//! A session that one tenant opened was accepted for another. The id of a session is no proof of who holds it: up to
//! 2025-11-25 the specification forbids to authenticate by it, and servers did (python-sdk issue 2100).
//!
//! Source: `docs/domain.md#sessions-and-handles`.

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{Hit, Outcome, Rule, RuleEvent, RuleInfo, World};
use crate::model::mcp::{Answered, Method};
use crate::model::{Fingerprint, ServiceId, Severity};

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

/// The rule: who holds each session.
#[derive(Debug)]
pub struct McpSessionCrossTenant {
    holders: Recent<(ServiceId, Fingerprint), Past>,
}

impl Default for McpSessionCrossTenant {
    fn default() -> Self {
        Self { holders: Recent::new(MAX_SESSIONS) }
    }
}

impl Rule for McpSessionCrossTenant {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> Outcome {
        let RuleEvent::Mcp(u) = event else { return Outcome::Clear };
        let (e, Some(service)) = (u.exchange, u.site.service) else { return Outcome::Clear };
        let by = u.whom();
        if let Some(opened) = e.opened {
            match by {
                Some(by) => self.holders.insert((service, opened), Past::of(u, by)),
                // Whoever held a session of this id before does not hold this one.
                None => drop(self.holders.remove(&(service, opened))),
            }
        }
        let Some(session) = e.session else { return Outcome::Clear };
        if e.answered == Answered::Unknown {
            return Outcome::Insufficient("answer not seen");
        }
        if !e.answered.is_success() {
            return Outcome::Clear;
        }
        let Some(by) = by else { return Outcome::Insufficient("no tenant") };
        let key = (service, session);
        // A session that was opened before it could be seen is held by whom it is first used for.
        let held = self.holders.get(&key).copied();
        if e.method == Method::End {
            self.holders.remove(&key);
        } else if held.is_none() {
            self.holders.insert(key, Past::of(u, by));
        }
        match held {
            Some(past) if past.by.tenant != by.tenant => {
                hits.push(u.crossing(&INFO, Severity::Critical, by, &past, ("session", "accepted")));
                Outcome::Found
            }
            _ => Outcome::Clear,
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
    use crate::model::{Answer, Attribution, Basis, Claim, EvidenceClass};

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
        assert_eq!(judged(&mut rule, &inside(Answered::Result), Answer::Several), Outcome::Insufficient("no tenant"));
        assert_eq!(
            judged(&mut rule, &inside(Answered::Unknown), by_label(B)),
            Outcome::Insufficient("answer not seen")
        );
        // A session that was opened for nobody known is nobody's, and inference stays inference.
        see(&mut rule, &open(), Answer::Unknown);
        let inferred = Answer::Tenant(Attribution::new(B, Basis::OnlyTenant));
        assert!(see(&mut rule, &inside(Answered::Result), inferred).is_empty());
        let hits = see(&mut rule, &inside(Answered::Result), by_label(A));
        assert_eq!(hits[0].class, EvidenceClass::Inferred);
    }
}
