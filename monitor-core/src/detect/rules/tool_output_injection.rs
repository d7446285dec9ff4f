//! Rule: `tool-output-injection`.
//!
//! Words alone are not enough: security documents and manuals are full of them.
//!
//! Source: `docs/domain.md#descriptions-and-results`.

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, World};
use crate::model::Severity;
use crate::model::mcp::{Method, Pattern};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "tool-output-injection",
    severity: Severity::Medium,
    needs: "results of tools in clear text",
    why: "A tool's result holds text that a model may take for an order: it came from a document, a ticket or a page that \
          anybody may have written.",
    remediation: "Treat results as data: filter them before a model reads them, and allow what follows only by a list of actions.",
    source: "[Descriptions and results](domain.md#descriptions-and-results); \
             agent-scan issue codes E001, E003",
};

/// The rule.
#[derive(Debug)]
pub struct ToolOutputInjection;

impl Rule for ToolOutputInjection {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let x = u.exchange;
        if !matches!(x.method, Method::ToolsCall | Method::Data) {
            return RuleOutcome::Clear;
        }
        let telling = x.content.patterns.iter().filter(|p| **p != Pattern::Words).max();
        let words = match telling {
            None if x.content.cut => return RuleOutcome::Insufficient("result was cut"),
            None | Some(Pattern::Words) => return RuleOutcome::Clear,
            Some(Pattern::Instructions) => "orders to the model",
            Some(Pattern::OtherTools) => "speaks of how tools are to be used",
            Some(Pattern::Exfiltration) => "tells to read secrets or to send something away",
            Some(Pattern::HiddenUnicode) => "hidden characters",
            Some(Pattern::CrossTenant) => "asks for other tenants' data",
        };
        hits.push(Hit::of_exchange(INFO.id, Severity::Medium, u, words));
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (tool, whom) = (world.names.name(hit.subject), world.tenant(hit.used));
        format!("The result of {tool} for {whom} holds text that a model may take for an order.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::mcp::{Content, Exchange};

    fn result(patterns: &[Pattern], cut: bool) -> Exchange {
        let content = Content { patterns: patterns.iter().copied().collect(), cut, ..Content::default() };
        Exchange { content, ..an_exchange() }
    }

    #[test]
    fn positive_orders_in_a_result() {
        let (hits, _) = run_mcp(&mut ToolOutputInjection, &result(&[Pattern::Instructions], false), by_label(A));
        assert_eq!(hits[0].severity, Severity::Medium);
    }

    #[test]
    fn near_miss_words_alone() {
        assert!(run_mcp(&mut ToolOutputInjection, &result(&[Pattern::Words], false), by_label(A)).0.is_empty());
    }

    #[test]
    fn lossy_a_result_that_was_cut() {
        let (_, outcome) = run_mcp(&mut ToolOutputInjection, &result(&[], true), by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("result was cut"));
    }
}
