//! Rule ids that a configuration may name: those of this build, and those of the catalogue that it does not have yet.

use monitor_core::detect::RULES;

/// What is known of a rule id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// This build has the rule.
    Here,
    /// It is in the catalogue; this build does not have it. A configuration shared between versions may name it.
    Elsewhere,
    /// No such rule.
    No,
}

/// The catalogue of the design, whether built or not.
const CATALOGUE: [&str; 45] = [
    "action-off-allowlist",
    "blob-unscoped",
    "cache-key-unscoped",
    "conn-auth-reuse",
    "control-point-bypass",
    "downstream-scope-missing",
    "handle-cross-tenant",
    "http-cache-shared",
    "http-session-cross-tenant",
    "identity-conflicting",
    "llm-cache-unscoped",
    "local-set-ineffective",
    "log-comingled",
    "mcp-arg-tenant-mismatch",
    "mcp-call-not-listed",
    "mcp-call-token-missing",
    "mcp-flat-registry",
    "mcp-header-mismatch",
    "mcp-list-cache-shared",
    "mcp-session-cross-tenant",
    "mcp-token-fanout",
    "mcp-token-passthrough",
    "mcp-token-weak",
    "pool-first-use-unbound",
    "pool-reuse-unrevalidated",
    "pool-stale-binding",
    "queue-tenant-missing",
    "queue-tenant-unrevalidated",
    "response-desync",
    "result-cross-tenant",
    "retry-budget-exceeded",
    "retry-no-idempotency",
    "rls-gap",
    "session-set-under-pooler",
    "shared-service-unpartitioned",
    "subagent-context-carryover",
    "tenant-filter-mismatch",
    "tenant-filter-missing",
    "tenant-label-missing",
    "tool-description-poisoned",
    "tool-manifest-drift",
    "tool-manifest-unsigned",
    "tool-output-injection",
    "toxic-flow",
    "write-untagged",
];

pub(super) fn known(rule: &str) -> Known {
    if RULES.iter().any(|r| r.id == rule) {
        Known::Here
    } else if CATALOGUE.contains(&rule) {
        Known::Elsewhere
    } else {
        Known::No
    }
}

/// Every id a configuration may name.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|r| r.id).chain(CATALOGUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_rules_are_in_the_catalogue() {
        for rule in RULES {
            assert!(CATALOGUE.contains(&rule.id), "{} is not in the catalogue", rule.id);
        }
    }
}
