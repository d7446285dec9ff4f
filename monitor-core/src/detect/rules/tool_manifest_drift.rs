//! Rule: `tool-manifest-drift`.
//!
//! Compares canonical hashes (RFC 8785) against the locks of the configuration, and against what the same server, under
//! the same version, said earlier to the same tenant while the agent ran: what a tool is called and says may vary by who
//! asks.
//!
//! Source: `docs/domain.md#descriptions-and-results`.

use rustc_hash::FxHashMap;
use smallvec::{SmallVec, smallvec};

use crate::detect::recent::Recent;
use crate::detect::{
    Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Site, Step, World, tables,
};
use crate::model::mcp::{ManifestHash, Method};
use crate::model::{Fingerprint, Nanos, ServiceId, Severity, Sym, TenantId, Unseen, Where};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "tool-manifest-drift",
    severity: Severity::High,
    needs: "a server's list of tools in clear text; with a lock in the configuration also what was approved",
    why: "What a tool says of itself has changed although its server still calls itself the same version, or it is not what \
          was approved. A description is an order to models: whoever changes it unseen gives orders unseen.",
    remediation: "Look at the change, approve it anew (`leasewarden tools lock`) and pin the version, or go back.",
    source: "[Descriptions and results](domain.md#descriptions-and-results); \
             tool poisoning by later change (Invariant Labs)",
};

/// Most tools remembered.
const MAX_TOOLS: usize = 16_384;
/// Most sessions of which it is remembered when the server told its version.
const MAX_SESSIONS: usize = 16_384;

/// What is wrong under a version that stays the same: true only if no newer version was missed.
const NOT_LOCKED: &str = "it differs from its lock under the same version";
const CHANGED: &str = "it has changed since it was listed last, under the same version";

/// A tool of a server of a service, as a tenant sees it.
type Key = (ServiceId, Sym, Sym, TenantId);

/// What a tool said of itself, under which version, and when.
type Said = (Sym, ManifestHash, Nanos);

/// The rule: what each tool said of itself last, and the server's version then.
#[derive(Debug)]
pub struct ToolManifestDrift {
    known: FxHashMap<Key, Said>,
    /// When a server told its version: in this session, or without one.
    told: Recent<(ServiceId, Option<Fingerprint>), Nanos>,
}

impl Default for ToolManifestDrift {
    fn default() -> Self {
        Self { known: FxHashMap::default(), told: Recent::new(MAX_SESSIONS) }
    }
}

impl ToolManifestDrift {
    /// Remembers a tool as it is now; gives what it was.
    fn seen(&mut self, key: Key, said: Said) -> Option<Said> {
        if self.known.len() >= MAX_TOOLS && !self.known.contains_key(&key) {
            return None;
        }
        self.known.insert(key, said)
    }

    /// The server introduces itself.
    fn introduced(&mut self, u: &McpUse<'_>, service: ServiceId) {
        let e = u.exchange;
        if e.server.is_some() && matches!(e.method, Method::Initialize | Method::Discover) {
            self.told.insert((service, e.opened.or(e.session)), e.ended);
        }
    }
}

impl Rule for ToolManifestDrift {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.known, &mut self.told])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let Some(service) = u.site.service else { return RuleOutcome::Clear };
        self.introduced(u, service);
        let Some(page) = &u.exchange.tools else { return RuleOutcome::Clear };
        let Some((server, version)) = u.exchange.server else {
            return RuleOutcome::Insufficient("server has not named itself");
        };
        let introduced = self.told.get(&(service, u.exchange.session)).copied();
        let (name, told) = (world.names.exact(server), world.names.exact(version));
        let by = u.whom();
        let mut found = if by.is_some() { RuleOutcome::Clear } else { RuleOutcome::Insufficient("no tenant") };
        for tool in &page.tools {
            let tool_name = world.names.exact(tool.name);
            let locks = || world.settings.locks.iter().filter(|l| l.server == name && l.tool == tool_name);
            // Two versions may be approved side by side.
            let lock = locks()
                .find(|l| l.hash == tool.hash)
                .or_else(|| locks().find(|l| l.version == told))
                .or_else(|| locks().next());
            let known_server = world.settings.locks.iter().any(|l| l.server == name);
            let before = by.and_then(|a| {
                self.seen((service, server, tool.name, a.tenant), (version, tool.hash, u.exchange.ended))
            });
            let (severity, words) = match (lock, before) {
                (Some(l), _) if l.hash == tool.hash => continue,
                (Some(l), _) if l.version == told => (Severity::High, NOT_LOCKED),
                (Some(_), _) => (Severity::Info, "it differs from its lock; the server's version has changed too"),
                (None, _) if known_server => (Severity::High, "it stands in no lock of this server's"),
                (None, Some((v, hash, _))) if hash != tool.hash && v == version => (Severity::High, CHANGED),
                (None, Some((_, hash, _))) if hash != tool.hash => {
                    (Severity::Info, "it has changed with the server's version")
                }
                _ => continue,
            };
            let mut hit = Hit::of_exchange(INFO.id, severity, u, words);
            // From when on the version is known to be this one, as far as it matters.
            let since = match words {
                NOT_LOCKED => introduced,
                CHANGED => before.map(|(_, _, at)| introduced.map_or(at, |i| i.max(at))),
                _ => None,
            };
            if let Some(at) = since {
                let step = u.remark("version", Detail::Words("the server's version was known"));
                hit.steps.insert(0, Step { at, ..step });
            }
            let site = Site { workload: None, flow: None, ..u.site };
            hits.push(Hit { subject: tool.name, used: None, site, ..hit });
            found = RuleOutcome::Found;
        }
        found
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let by_version =
            hit.steps.last().is_some_and(|s| matches!(s.detail, Detail::Words(w) if w == NOT_LOCKED || w == CHANGED));
        let Some(service) = hit.site.service.filter(|_| by_version) else { return SmallVec::new() };
        let since = hit.steps.first().filter(|s| s.what == "version").map_or(Nanos(0), |s| s.at);
        smallvec![Unseen { place: Where::Service(service), since }, Unseen { place: Where::Answered(service), since },]
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let tool = world.names.name(hit.subject);
        match hit.severity {
            Severity::Info => {
                format!("The tool {tool} describes itself differently since its server's version has changed.")
            }
            _ => format!("The tool {tool} no longer describes itself as it was known or approved."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::Settings;
    use crate::model::mcp::{Exchange, Method, Tool, ToolPage};
    use crate::model::settings::LockedTool;

    fn listed(hash: u8, version: Sym, named: bool) -> Exchange {
        let tool = Tool {
            name: ORDERS,
            hash: ManifestHash([hash; 32]),
            read_only: false,
            idempotent: false,
            patterns: Default::default(),
        };
        let page = ToolPage { tools: vec![tool], after: None, next: None, cut: false, scope: None };
        let server = named.then_some((SELECT, version));
        Exchange { method: Method::ToolsList, tools: Some(page), server, ..an_exchange() }
    }

    #[test]
    fn positive_changed_under_the_same_version() {
        let mut rule = ToolManifestDrift::default();
        assert!(run_mcp(&mut rule, &listed(1, ORDERS, true), by_label(A)).0.is_empty());
        let (hits, _) = run_mcp(&mut rule, &listed(2, ORDERS, true), by_label(A));
        assert_eq!((hits[0].severity, hits[0].subject), (Severity::High, ORDERS));
    }

    #[test]
    fn positive_not_what_was_approved() {
        let locked = LockedTool {
            server: "SELECT".into(),
            version: "orders".into(),
            tool: "orders".into(),
            hash: ManifestHash([1; 32]),
            signed: true,
        };
        let settings = Settings { locks: vec![locked], ..Settings::default() };
        let mut rule = ToolManifestDrift::default();
        let (hits, _) = run_mcp_with(&mut rule, &listed(2, ORDERS, true), by_label(A), settings.clone());
        assert_eq!(hits[0].severity, Severity::High);
        assert!(run_mcp_with(&mut rule, &listed(1, ORDERS, true), by_label(A), settings).0.is_empty());
    }

    #[test]
    fn near_miss_the_version_has_changed_too_or_nothing_has() {
        let mut rule = ToolManifestDrift::default();
        assert!(run_mcp(&mut rule, &listed(1, ORDERS, true), by_label(A)).0.is_empty());
        assert!(run_mcp(&mut rule, &listed(3, ORDERS, true), by_label(B)).0.is_empty(), "another tenant's list");
        assert!(run_mcp(&mut rule, &listed(1, ORDERS, true), by_label(A)).0.is_empty());
        let (hits, _) = run_mcp(&mut rule, &listed(2, SELECT, true), by_label(A));
        assert_eq!(hits[0].severity, Severity::Info);
    }

    #[test]
    fn lossy_a_server_that_has_not_named_itself() {
        let (_, outcome) = run_mcp(&mut ToolManifestDrift::default(), &listed(1, ORDERS, false), by_label(A));
        assert_eq!(outcome, RuleOutcome::Insufficient("server has not named itself"));
    }
}
