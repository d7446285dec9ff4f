//! Rule: `mcp-token-weak`.
//!
//! Source: `docs/domain.md#tokens`.

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, World};
use crate::model::token::Verified;
use crate::model::{Claim, OpKind, Severity, Sym};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-token-weak",
    severity: Severity::Medium,
    needs: "tokens that can be read (JWT) with MCP calls in clear text",
    why: "A token that opens tools is too broad: it names no tenant, no or another audience, no scope, or lives long. Stolen \
          or mixed up, it opens more than the call it was made for.",
    remediation: "Short-lived tokens per tenant, bound to one audience (RFC 8707) and to the tools or resources they are for.",
    source: "[Tokens](domain.md#tokens); \
             MCP authorization specification; [RFC 8707](https://www.rfc-editor.org/rfc/rfc8707)",
};

/// The rule.
#[derive(Debug)]
pub struct McpTokenWeak;

impl Rule for McpTokenWeak {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let x = u.exchange;
        let Some(token) = x.token.filter(|_| x.method.kind() == OpKind::Data) else { return RuleOutcome::Clear };
        if !token.readable {
            return RuleOutcome::Insufficient("token is opaque");
        }
        // What it says may be anybody's word; that it was accepted is worse than what stands in it.
        if token.verified == Verified::Failed {
            return RuleOutcome::Insufficient("token does not verify here");
        }
        if !x.answered.is_success() {
            return RuleOutcome::Clear;
        }
        let too_long = token.lifetime.is_none_or(|l| l > world.settings.tokens.max_lifetime);
        let words = if token.audience == Some(false) {
            "the token is meant for another audience"
        } else if !token.has_audience {
            "the token names no audience"
        } else if token.tenant == Claim::Neutral {
            "the token names no tenant"
        } else if too_long {
            "the token lives longer than allowed, or for ever"
        } else if !token.has_scope {
            "the token names no scope, tool or resource"
        } else {
            return RuleOutcome::Clear;
        };
        let hit = Hit::of_exchange(INFO.id, Severity::Medium, u, words);
        hits.push(Hit { subject: Sym::EMPTY, ..hit });
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let whom = world.tenant(hit.used);
        let words = match hit.steps.last().map(|s| s.detail) {
            Some(Detail::Words(words)) => words,
            _ => "the token is weak",
        };
        format!("A tool call for {whom} was accepted, but {words}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::mcp::{Answered, Exchange};
    use crate::model::token::Token;
    use crate::model::{Fingerprint, Nanos};

    fn good() -> Token {
        Token {
            print: Fingerprint(1),
            readable: true,
            verified: Verified::Yes,
            tenant: Claim::Tenant(A),
            audience: Some(true),
            has_audience: true,
            lifetime: Some(Nanos::secs(300)),
            has_scope: true,
        }
    }

    fn with(token: Token) -> Exchange {
        Exchange { token: Some(token), ..an_exchange() }
    }

    #[test]
    fn positive_each_weakness() {
        for weak in [
            Token { tenant: Claim::Neutral, ..good() },
            Token { audience: Some(false), ..good() },
            Token { has_audience: false, audience: None, ..good() },
            Token { lifetime: None, ..good() },
            Token { lifetime: Some(Nanos::secs(3600)), ..good() },
            Token { has_scope: false, ..good() },
        ] {
            let (hits, _) = run_mcp(&mut McpTokenWeak, &with(weak), by_label(A));
            assert_eq!(hits.len(), 1, "{weak:?}");
        }
    }

    #[test]
    fn lossy_a_token_that_does_not_verify() {
        let failed = Token { verified: Verified::Failed, has_scope: false, ..good() };
        let (_, outcome) = run_mcp(&mut McpTokenWeak, &with(failed), by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("token does not verify here"));
    }

    #[test]
    fn near_miss_a_good_one_or_a_refused_one() {
        assert!(run_mcp(&mut McpTokenWeak, &with(good()), by_label(A)).0.is_empty());
        let refused = Exchange { answered: Answered::Status(401), ..with(Token { has_scope: false, ..good() }) };
        assert!(run_mcp(&mut McpTokenWeak, &refused, by_label(A)).0.is_empty());
    }

    #[test]
    fn lossy_an_opaque_token_says_nothing() {
        let (_, outcome) = run_mcp(&mut McpTokenWeak, &with(Token { readable: false, ..good() }), by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("token is opaque"));
    }
}
