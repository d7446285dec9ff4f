//! Rule: `mcp-list-cache-shared`.
//!
//! Revision 2026-07-28 lets a server say who may reuse a reply. A list that differs by tenant and is called public may be
//! shown to any of them by every cache on the way; a list that is private and is shown to another tenant already was.
//!
//! Source: `docs/domain.md#lists-of-tools`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::{Caller, Past};
use crate::detect::recent::Recent;
use crate::detect::tools::{Outdated, Page, Reader, outdates, rests_on_lists};
use crate::detect::{Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, World, tables};
use crate::model::mcp::{CacheScope, Method};
use crate::model::{EvidenceClass, Nanos, ServiceId, Severity, TenantId, Unseen, Where, WorkloadId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-list-cache-shared",
    severity: Severity::High,
    needs: "whole answers to tools/list with their cacheScope (2026-07-28) in clear text, and the tenants of two \
            callers; for a cache in between, both of its sides",
    why: "A list that was made for one tenant is, or may be, shown to another: the server calls a list public that \
          differs by tenant, or something in between keeps private lists without regard to whose they are.",
    remediation: "Answer with cacheScope \"private\" whenever the list depends on who asks, and make the authorization \
                  part of the key of every cache.",
    source: "[Lists of tools](domain.md#lists-of-tools)",
};

/// Most callers whose lists are remembered, and most lists fetched by servers.
const MAX_LISTS: usize = 8_192;
/// What was fetched for a tenant so long ago may still be shown to it.
const KEPT: Nanos = Nanos::secs(3_600);
/// Lists that were made so close together differ by caller; otherwise the server may have changed.
const CLOSE: Nanos = Nanos::secs(60);

#[derive(Clone, Copy, Debug)]
struct Listed {
    past: Past,
    digest: u64,
    public: bool,
    /// The caller had the same list before, at this time or earlier.
    since: Nanos,
}

#[derive(Clone, Copy, Debug)]
struct Fetched {
    past: Past,
    digest: u64,
    private: bool,
}

/// The rule: the latest list of each caller, and what servers fetched from others.
#[derive(Debug)]
pub struct McpListCacheShared {
    reader: Reader,
    lists: Recent<(ServiceId, Caller), Listed>,
    /// By the workload that fetched and the tenant it did so for.
    fetched: Recent<(WorkloadId, TenantId), Fetched>,
    /// When a workload last fetched for nobody that is known.
    fetched_for_nobody: Recent<WorkloadId, Nanos>,
}

impl Default for McpListCacheShared {
    fn default() -> Self {
        Self {
            reader: Reader::default(),
            lists: Recent::new(MAX_LISTS),
            fetched: Recent::new(MAX_LISTS),
            fetched_for_nobody: Recent::new(MAX_LISTS),
        }
    }
}

impl McpListCacheShared {
    /// Another tenant's list that differs from `this`, where one of the two is called public.
    fn differs(&self, service: ServiceId, this: &Listed) -> Option<Listed> {
        let differs = |l: &&Listed| {
            l.past.by.tenant != this.past.by.tenant && l.digest != this.digest && (l.public || this.public) && {
                // Either had its list on both sides of the other's, or they are close together.
                let between = this.since < l.past.at;
                between || this.past.at.since(l.past.at) < CLOSE
            }
        };
        self.lists.iter().filter(|((s, _), _)| *s == service).map(|(_, l)| l).find(differs).copied()
    }

    /// Another tenant's private list that the server showed instead of fetching one for this tenant.
    fn kept(&self, server: WorkloadId, this: &Listed) -> Option<Fetched> {
        let for_nobody = self.fetched_for_nobody.get(&server).is_some_and(|at| this.past.at.since(*at) < KEPT);
        if for_nobody || self.fetched.get(&(server, this.past.by.tenant)).is_some() {
            return None;
        }
        let is_it = |f: &&Fetched| f.private && f.digest == this.digest && f.past.by.tenant != this.past.by.tenant;
        self.fetched.iter().filter(|((w, _), _)| *w == server).map(|(_, f)| f).find(is_it).copied()
    }
}

/// Whether a hit is about a list that was kept for others.
fn is_kept(hit: &Hit) -> bool {
    hit.class == EvidenceClass::Inferred
        && hit.steps.last().is_some_and(|s| matches!(s.detail, Detail::Words(w) if w.starts_with("private")))
}

fn crossing(u: &McpUse<'_>, this: &Listed, past: &Past, words: &'static str) -> Hit {
    let mut hit = u.crossing(&INFO, Severity::High, this.past.by, past, ("list", "list"));
    hit.steps.push(u.remark("cache", Detail::Words(words)));
    hit
}

impl Rule for McpListCacheShared {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.reader, &mut self.lists, &mut self.fetched, &mut self.fetched_for_nobody])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let Some(service) = u.site.service else { return RuleOutcome::Clear };
        match (outdates(u, world), u.caller()) {
            (Outdated::Nobodys, _) => {}
            (Outdated::OfAsker, Some(caller)) => {
                self.lists.remove(&(service, caller));
            }
            (Outdated::OfAsker, None) | (Outdated::All, _) => self.lists.retain(|(s, _), _| *s != service),
        }
        if u.exchange.method == Method::ToolsList
            && u.whom().is_none()
            && let Some(client) = u.site.workload
        {
            self.fetched_for_nobody.insert(client, u.exchange.ended);
        }
        if u.exchange.tools.is_none() {
            return RuleOutcome::Clear;
        }
        let Some(caller) = u.caller() else { return RuleOutcome::Insufficient("no caller") };
        let list = match self.reader.read(u, service, caller) {
            Page::Whole(list) => list,
            Page::Broken(why) => return RuleOutcome::Insufficient(why),
            Page::None | Page::More => return RuleOutcome::Clear,
        };
        let Some(by) = u.whom() else { return RuleOutcome::Insufficient("no tenant") };
        let (past, digest) = (Past::of(u, by), list.digest());
        // That it was the same all the while is only known if nothing was missed.
        let same = |l: &&Listed| {
            let unseen = Unseen { place: Where::Service(service), since: l.past.at };
            l.digest == digest && !world.missed.may_hide(&unseen)
        };
        let since = self.lists.get(&(service, caller)).filter(same).map_or(list.begun, |l| l.since);
        let this = Listed { past, digest, public: list.scope == Some(CacheScope::Public), since };
        self.lists.insert((service, caller), this);
        if let Some(client) = u.site.workload.filter(|w| world.servers.serves(*w)) {
            let private = list.scope == Some(CacheScope::Private);
            self.fetched.insert((client, by.tenant), Fetched { past, digest, private });
        }
        if let Some(other) = self.differs(service, &this) {
            hits.push(crossing(u, &this, &other.past, "called public, and it differs by tenant"));
            return RuleOutcome::Found;
        }
        let server = world.service(service).filter(|s| !s.relay).and_then(|s| s.workload);
        if let Some(other) = server.and_then(|server| self.kept(server, &this)).filter(|_| !list.tools.is_empty()) {
            let words = "private, and no list was fetched for the tenant that it was shown to";
            // That nothing was fetched is no statement of the wire.
            hits.push(Hit { class: EvidenceClass::Inferred, ..crossing(u, &this, &other.past, words) });
            return RuleOutcome::Found;
        }
        RuleOutcome::Clear
    }

    fn rests_on(&self, hit: &Hit, world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let first = hit.steps.first().map_or(hit.at, |list| list.at);
        if !is_kept(hit) {
            return rests_on_lists(hit, first);
        }
        let server = hit.site.service.and_then(|s| world.service(s)).and_then(|s| s.workload);
        server.map_or_else(SmallVec::new, |w| {
            smallvec![Unseen { place: Where::SentBy(w), since: Nanos(first.0.saturating_sub(KEPT.0)) }]
        })
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, other) = (world.tenant(hit.used), world.tenant(hit.bound));
        if is_kept(hit) {
            return format!("{used} was shown the list of tools that had been fetched, as private, for {other}.");
        }
        format!("The lists of tools for {other} and {used} differ, and caches are told that anybody may have them.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::{Exchange, Tool};
    use crate::model::{Answer, Service, Settings};

    fn scoped(second: u64, tools: &[Tool], scope: CacheScope) -> Exchange {
        let mut e = list(second, tools);
        if let Some(page) = &mut e.tools {
            page.scope = Some(scope);
        }
        e
    }

    #[test]
    fn positive_public_though_it_differs() {
        let mut rule = McpListCacheShared::default();
        assert!(see(&mut rule, &scoped(1, &[tool(SEND, 1)], CacheScope::Public), by_label(A)).is_empty());
        let hits = see(&mut rule, &scoped(2, &[tool(READ, 1)], CacheScope::Public), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        // Far apart, but the first still has its own.
        let mut rule = McpListCacheShared::default();
        see(&mut rule, &scoped(1, &[tool(SEND, 1)], CacheScope::Public), by_label(A));
        assert!(see(&mut rule, &scoped(900, &[tool(READ, 1)], CacheScope::Public), by_label(B)).is_empty());
        assert_eq!(see(&mut rule, &scoped(1_800, &[tool(SEND, 1)], CacheScope::Public), by_label(A)).len(), 1);
    }

    #[test]
    fn positive_a_private_list_is_kept_for_all() {
        // Service 0 is the gateway's (`SERVER`); service 1 is where it fetches lists.
        let services = [shared_service(), Service { workload: Some(REMOTE), ..shared_service() }];
        let mut rule = McpListCacheShared::default();
        let private = scoped(1, &[tool(SEND, 1)], CacheScope::Private);
        let mut seen = |n, tenant| {
            let mut u = at_service(n, &private, by_label(tenant));
            u.site.workload = Some(if n == 0 { LABELLED } else { SERVER });
            told(&mut rule, &u, &services, Settings::default()).0
        };
        assert!(seen(1, A).is_empty());
        assert!(seen(0, A).is_empty());
        let hits = seen(0, B);
        assert_eq!((hits[0].0.used, hits[0].0.bound), (Some(B), Some(A)));
        assert_eq!(hits[0].0.class, EvidenceClass::Inferred);
        // Once the gateway has fetched for B, what it shows B is B's.
        assert!(seen(1, B).is_empty());
        assert!(seen(0, B).is_empty());
    }

    #[test]
    fn near_miss_private_or_the_same_or_the_server_changed() {
        let mut rule = McpListCacheShared::default();
        see(&mut rule, &scoped(1, &[tool(SEND, 1)], CacheScope::Private), by_label(A));
        assert!(see(&mut rule, &scoped(2, &[tool(READ, 1)], CacheScope::Private), by_label(B)).is_empty());
        let mut rule = McpListCacheShared::default();
        see(&mut rule, &scoped(1, &[tool(SEND, 1)], CacheScope::Public), by_label(A));
        assert!(see(&mut rule, &scoped(2, &[tool(SEND, 1)], CacheScope::Public), by_label(B)).is_empty());
        assert!(see(&mut rule, &scoped(900, &[tool(READ, 1)], CacheScope::Public), by_label(B)).is_empty());
        assert!(see(&mut rule, &scoped(1_800, &[tool(READ, 1)], CacheScope::Public), by_label(A)).is_empty());
    }

    #[test]
    fn lossy_a_cut_list_or_nobody_known() {
        let mut rule = McpListCacheShared::default();
        see(&mut rule, &scoped(1, &[tool(SEND, 1)], CacheScope::Public), by_label(A));
        let mut cut = scoped(2, &[tool(READ, 1)], CacheScope::Public);
        cut.tools.as_mut().unwrap().cut = true;
        assert_eq!(judged(&mut rule, &cut, by_label(B)), RuleOutcome::Insufficient("list is cut"));
        let of_nobody = scoped(2, &[tool(READ, 1)], CacheScope::Public);
        assert_eq!(judged(&mut rule, &of_nobody, Answer::Several), RuleOutcome::Insufficient("no caller"));
    }
}
