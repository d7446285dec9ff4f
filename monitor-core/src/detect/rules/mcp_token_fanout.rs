//! Rule: `mcp-token-fanout`.
//!
//! One token, or one key, was used for the calls of two tenants. The server sees one and the same caller: whatever it
//! decides by the token, it decides alike for both.
//!
//! Source: `docs/domain.md#tokens`.

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, World, tables};
use crate::model::mcp::Answered;
use crate::model::{Fingerprint, OpKind, Severity};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-token-fanout",
    severity: Severity::High,
    needs: "MCP in clear text with a token or key on the call, and the tenants of both calls by other evidence than it",
    why: "The same credential was accepted for calls of two tenants. The server cannot tell them apart, so it cannot \
          keep them apart.",
    remediation: "Exchange the token for one of the tenant's (RFC 8693) before calling for it. A service token that \
                  names on whose behalf it acts may be suppressed with that reason.",
    source: "[Tokens](domain.md#tokens)",
};

/// Most credentials remembered.
const MAX_TOKENS: usize = 65_536;

/// The rule: for whom each credential was first used.
#[derive(Debug)]
pub struct McpTokenFanout {
    first: Recent<Fingerprint, Past>,
}

impl Default for McpTokenFanout {
    fn default() -> Self {
        Self { first: Recent::new(MAX_TOKENS) }
    }
}

impl Rule for McpTokenFanout {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.first])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let e = u.exchange;
        let Some(bearer) = u.bearer().filter(|_| e.method.kind() != OpKind::Control) else { return RuleOutcome::Clear };
        if e.answered == Answered::Unknown {
            return RuleOutcome::Insufficient("answer not seen");
        }
        if !e.answered.is_success() {
            return RuleOutcome::Clear;
        }
        // Not by what the token says: that is the same for everybody who has it.
        let Some(by) = u.answer.attribution() else { return RuleOutcome::Insufficient("no tenant") };
        let first = *self.first.entry(bearer, || Past::of(u, by)).unwrap_or(&mut Past::of(u, by));
        if first.by.tenant == by.tenant {
            return RuleOutcome::Clear;
        }
        hits.push(u.crossing(&INFO, Severity::High, by, &first, ("call", "call")));
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, first) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("One and the same credential was accepted for calls of {first} and of {used}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::{Exchange, Method};
    use crate::model::token::Verified;
    use crate::model::{Answer, Claim};

    fn with(print: u64) -> Exchange {
        Exchange { token: Some(token(print, Claim::Neutral, Verified::NoKey)), ..call(1, READ) }
    }

    #[test]
    fn positive_one_token_for_two_tenants() {
        let mut rule = McpTokenFanout::default();
        assert!(see(&mut rule, &with(1), by_label(A)).is_empty());
        let hits = see(&mut rule, &with(1), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        // A key is no better.
        let key = Exchange { credential: Some(Fingerprint(9)), ..call(1, READ) };
        see(&mut rule, &key, by_label(A));
        assert_eq!(see(&mut rule, &key, by_label(B)).len(), 1);
    }

    #[test]
    fn near_miss_tokens_of_their_own_or_refused_or_no_call() {
        let mut rule = McpTokenFanout::default();
        see(&mut rule, &with(1), by_label(A));
        assert!(see(&mut rule, &with(2), by_label(B)).is_empty());
        assert!(see(&mut rule, &Exchange { answered: Answered::Status(403), ..with(1) }, by_label(B)).is_empty());
        assert!(see(&mut rule, &Exchange { method: Method::Initialize, ..with(1) }, by_label(B)).is_empty());
        assert!(see(&mut rule, &with(1), by_label(A)).is_empty());
    }

    #[test]
    fn lossy_nobody_known_or_no_answer() {
        let mut rule = McpTokenFanout::default();
        see(&mut rule, &with(1), by_label(A));
        assert_eq!(judged(&mut rule, &with(1), Answer::Unknown), RuleOutcome::Insufficient("no tenant"));
        let unknown = Exchange { answered: Answered::Unknown, ..with(1) };
        assert_eq!(judged(&mut rule, &unknown, by_label(B)), RuleOutcome::Insufficient("answer not seen"));
    }
}
