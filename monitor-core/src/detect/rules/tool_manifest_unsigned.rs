//! Rule: `tool-manifest-unsigned`.
//!
//! Speaks only of servers for which there is a lock: without one, nothing was ever approved.
//!
//! Source: `docs/domain.md#descriptions-and-results`.

use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, World};
use crate::model::Severity;

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "tool-manifest-unsigned",
    severity: Severity::Medium,
    needs: "a lock for the server in the configuration (`leasewarden tools lock`)",
    why: "A tool that agents use stands in no lock with a valid signature: nobody has approved what it says of itself, or \
          anybody may have changed the approval.",
    remediation: "Sign the lock (`leasewarden tools lock --sign`), and pin servers by digest, not by a floating tag.",
    source: "[Descriptions and results](domain.md#descriptions-and-results)",
};

/// The rule.
#[derive(Debug)]
pub struct ToolManifestUnsigned;

impl Rule for ToolManifestUnsigned {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let (Some(page), locks) = (&u.exchange.tools, &world.settings.locks) else {
            return RuleOutcome::Clear;
        };
        if locks.is_empty() {
            return RuleOutcome::Clear;
        }
        let Some((server, _)) = u.exchange.server else {
            return RuleOutcome::Insufficient("server has not named itself");
        };
        let name = world.names.exact(server);
        let mut of_server = locks.iter().filter(|l| l.server == name).peekable();
        if of_server.peek().is_none() {
            return RuleOutcome::Clear;
        }
        let unsigned: Vec<&str> = of_server.filter(|l| !l.signed).map(|l| l.tool.as_str()).collect();
        let mut found = RuleOutcome::Clear;
        for tool in page.tools.iter().filter(|t| unsigned.contains(&world.names.exact(t.name))) {
            let hit = Hit::of_exchange(INFO.id, Severity::Medium, u, "its lock carries no valid signature");
            hits.push(Hit { subject: tool.name, used: None, ..hit });
            found = RuleOutcome::Found;
        }
        found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        format!("The tool {} stands in a lock without a valid signature.", world.names.name(hit.subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::Settings;
    use crate::model::mcp::{Exchange, ManifestHash, Method, Tool, ToolPage};
    use crate::model::settings::LockedTool;

    fn lock(signed: bool) -> Settings {
        let locked = LockedTool {
            server: "SELECT".into(),
            version: "1".into(),
            tool: "orders".into(),
            hash: ManifestHash([0; 32]),
            signed,
        };
        Settings { locks: vec![locked], ..Settings::default() }
    }

    fn listed(named: bool) -> Exchange {
        let tool = Tool {
            name: ORDERS,
            hash: ManifestHash([0; 32]),
            read_only: false,
            idempotent: false,
            patterns: Default::default(),
        };
        let page = ToolPage { tools: vec![tool], after: None, next: None, cut: false, scope: None };
        Exchange {
            method: Method::ToolsList,
            tools: Some(page),
            server: named.then_some((SELECT, ORDERS)),
            ..an_exchange()
        }
    }

    #[test]
    fn positive_a_lock_without_signature() {
        let (hits, _) = run_mcp_with(&mut ToolManifestUnsigned, &listed(true), by_label(A), lock(false));
        assert_eq!((hits[0].severity, hits[0].subject), (Severity::Medium, ORDERS));
    }

    #[test]
    fn near_miss_signed_or_no_lock_at_all() {
        assert!(run_mcp_with(&mut ToolManifestUnsigned, &listed(true), by_label(A), lock(true)).0.is_empty());
        assert!(run_mcp(&mut ToolManifestUnsigned, &listed(true), by_label(A)).0.is_empty());
    }

    #[test]
    fn lossy_a_server_that_has_not_named_itself() {
        let (_, outcome) = run_mcp_with(&mut ToolManifestUnsigned, &listed(false), by_label(A), lock(false));
        assert_eq!(outcome, RuleOutcome::Insufficient("server has not named itself"));
    }
}
