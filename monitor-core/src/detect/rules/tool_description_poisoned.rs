//! Rule: `tool-description-poisoned`.
//!
//! Fixed, listed patterns (`decode/mcp/patterns.rs`): mere words are low, instructions and hidden text are high.
//!
//! Source: `docs/domain.md#descriptions-and-results`.

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, Site, World};
use crate::model::Severity;
use crate::model::mcp::Pattern;

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "tool-description-poisoned",
    severity: Severity::High,
    needs: "a server's list of tools in clear text",
    why: "A tool's description or schema tells the model what to do: to ignore others, to use or shun other tools, to send \
          data somewhere, or it hides text from the reader. Models follow descriptions.",
    remediation: "Strip the text, or quarantine the server. Approve tools by their content, and pin what was approved.",
    source: "[Descriptions and results](domain.md#descriptions-and-results); \
             public examples of tool poisoning (Invariant Labs)",
};

fn describe(worst: Pattern) -> (Severity, &'static str) {
    match worst {
        Pattern::Words => (Severity::Low, "words that mostly stand in orders"),
        Pattern::Instructions => (Severity::High, "orders to the model"),
        Pattern::OtherTools => (Severity::High, "speaks of how other tools are to be used"),
        Pattern::Exfiltration => (Severity::High, "tells to read secrets or to send something away"),
        Pattern::HiddenUnicode => (Severity::High, "hidden characters"),
        Pattern::CrossTenant => (Severity::High, "speaks of other tenants' data"),
    }
}

/// The rule.
#[derive(Debug)]
pub struct ToolDescriptionPoisoned;

impl Rule for ToolDescriptionPoisoned {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let Some(page) = &u.exchange.tools else { return RuleOutcome::Clear };
        let mut found = RuleOutcome::Clear;
        for tool in &page.tools {
            let Some(worst) = tool.patterns.iter().max().copied() else { continue };
            let (severity, words) = describe(worst);
            let hit = Hit::of_exchange(INFO.id, severity, u, words);
            // The description is the server's own, so the finding names no tenant.
            let site = Site { workload: None, flow: None, ..u.site };
            hits.push(Hit { subject: tool.name, used: None, site, ..hit });
            found = RuleOutcome::Found;
        }
        if page.cut && found == RuleOutcome::Clear { RuleOutcome::Insufficient("list was cut") } else { found }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        format!("The tool {} is described in a way that models may take for an order.", world.names.name(hit.subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::mcp::{Exchange, ManifestHash, Method, Tool, ToolPage};

    fn listed(patterns: &[Pattern], cut: bool) -> Exchange {
        let tool = Tool {
            name: ORDERS,
            hash: ManifestHash([0; 32]),
            read_only: false,
            idempotent: false,
            patterns: patterns.iter().copied().collect(),
        };
        let page = ToolPage { tools: vec![tool], after: None, next: None, cut, scope: None };
        Exchange { method: Method::ToolsList, tools: Some(page), ..an_exchange() }
    }

    #[test]
    fn positive_instructions_and_hidden_text() {
        for pattern in [Pattern::Instructions, Pattern::OtherTools, Pattern::Exfiltration, Pattern::HiddenUnicode] {
            let (hits, _) =
                run_mcp(&mut ToolDescriptionPoisoned, &listed(&[Pattern::Words, pattern], false), by_label(A));
            assert_eq!((hits[0].severity, hits[0].subject), (Severity::High, ORDERS));
        }
        let (hits, _) = run_mcp(&mut ToolDescriptionPoisoned, &listed(&[Pattern::Words], false), by_label(A));
        assert_eq!(hits[0].severity, Severity::Low);
    }

    #[test]
    fn near_miss_an_ordinary_description() {
        assert!(run_mcp(&mut ToolDescriptionPoisoned, &listed(&[], false), by_label(A)).0.is_empty());
    }

    #[test]
    fn lossy_a_list_that_was_cut() {
        let (_, outcome) = run_mcp(&mut ToolDescriptionPoisoned, &listed(&[], true), by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("list was cut"));
    }
}
