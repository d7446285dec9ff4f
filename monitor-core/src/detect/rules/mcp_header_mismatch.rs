//! Rule: `mcp-header-mismatch`.
//!
//! Gateways decide by headers what servers do by body: both must say the same.
//!
//! Source: `docs/domain.md#arguments`.

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, World};
use crate::model::Severity;
use crate::model::mcp::{Answered, Revision};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-header-mismatch",
    severity: Severity::Medium,
    needs: "MCP 2026-07-28 in clear text",
    why: "The headers that mirror a message (Mcp-Method, Mcp-Name, Mcp-Param-…) say something else than its body, and the \
          server did not refuse. Whoever decides by the headers, a gateway or a policy, decides about another call.",
    remediation: "Refuse a message whose mirrored headers differ from its body (error -32020), before anything else looks at it.",
    source: "[Arguments](domain.md#arguments); MCP 2026-07-28, SEP-2243",
};

/// The rule.
#[derive(Debug)]
pub struct McpHeaderMismatch;

impl Rule for McpHeaderMismatch {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let x = u.exchange;
        if x.mismatch.is_none() {
            return RuleOutcome::Clear;
        }
        if x.revision == Revision::Unknown {
            return RuleOutcome::Insufficient("revision not known");
        }
        if x.revision < Revision::V2026_07_28 {
            return RuleOutcome::Clear;
        }
        match x.answered {
            Answered::Unknown => RuleOutcome::Insufficient("answer not seen"),
            answered if !answered.is_success() => RuleOutcome::Clear,
            _ => {
                let words = "a mirrored header differs from the body, and the server accepted it";
                hits.push(Hit::of_exchange(INFO.id, Severity::Medium, u, words));
                RuleOutcome::Found
            }
        }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let name = world.names.name(hit.subject);
        format!("A call of {name} was accepted whose headers say something else than its body.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::mcp::Exchange;

    fn mismatched(answered: Answered) -> Exchange {
        Exchange { revision: Revision::V2026_07_28, mismatch: Some(SELECT), answered, ..an_exchange() }
    }

    #[test]
    fn positive_accepted_though_different() {
        let (hits, _) = run_mcp(&mut McpHeaderMismatch, &mismatched(Answered::Result), by_label(A));
        assert_eq!(hits[0].severity, Severity::Medium);
    }

    #[test]
    fn near_miss_refused_or_an_older_revision() {
        for x in [
            mismatched(Answered::RpcError(-32020)),
            mismatched(Answered::RpcError(-32600)),
            mismatched(Answered::Status(400)),
            Exchange { revision: Revision::V2025_11_25, ..mismatched(Answered::Result) },
        ] {
            assert!(run_mcp(&mut McpHeaderMismatch, &x, by_label(A)).0.is_empty());
        }
    }

    #[test]
    fn lossy_an_answer_that_was_not_seen() {
        let (_, outcome) = run_mcp(&mut McpHeaderMismatch, &mismatched(Answered::Unknown), by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("answer not seen"));
        let unknown = Exchange { revision: Revision::Unknown, ..mismatched(Answered::Result) };
        let (_, outcome) = run_mcp(&mut McpHeaderMismatch, &unknown, by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("revision not known"));
    }
}
