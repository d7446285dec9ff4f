//! Rule: `mcp-flat-registry`.
//!
//! A server lists the same tools to all tenants, or lists to a tenant more than it is entitled to. The list is not where
//! calls are decided, but a server that makes no difference here seldom makes one there.
//!
//! Tools may vary by the authorization that was presented: lists are merged from their pages and compared whole, per
//! caller.
//!
//! Source: `docs/domain.md#lists-of-tools`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::{Caller, Past};
use crate::detect::recent::Recent;
use crate::detect::tools::{List, Outdated, Page, Reader, outdates, rests_on_lists};
use crate::detect::{Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, World, tables};
use crate::model::settings::Entitlement;
use crate::model::{Attribution, Nanos, ServiceId, Severity, Sym, Unseen};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-flat-registry",
    severity: Severity::Medium,
    needs: "whole answers to tools/list in clear text, and the tenants of two callers; entitlements from the \
            configuration, where there are any",
    why: "Every tenant is shown the same tools, so nothing in the list depends on who asks. With entitlements: a tenant \
          is shown tools that it must not have.",
    remediation: "Compute the list from what the caller's token entitles it to, and decide every call by the same rule. \
                  Tenants that are truly equal: declare their entitlements.",
    source: "[Lists of tools](domain.md#lists-of-tools)",
};

/// Most callers whose lists are remembered.
const MAX_CALLERS: usize = 8_192;
/// Lists further apart are not compared: the server may have changed.
const APART: Nanos = Nanos::secs(3_600);

#[derive(Clone, Copy, Debug)]
struct Listed {
    past: Past,
    digest: u64,
    /// Entitlements say that it may see just this.
    declared: bool,
}

/// The rule: the latest list of each caller.
#[derive(Debug)]
pub struct McpFlatRegistry {
    reader: Reader,
    lists: Recent<(ServiceId, Caller), Listed>,
}

impl Default for McpFlatRegistry {
    fn default() -> Self {
        Self { reader: Reader::default(), lists: Recent::new(MAX_CALLERS) }
    }
}

/// Whether `pattern` stands for `tool`.
fn allows(pattern: &str, tool: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == tool, |start| tool.starts_with(start))
}

/// The first tool beyond the tenant's entitlements; `None`: nothing was said about this tenant here.
fn beyond(list: &List, service: ServiceId, by: Attribution, world: &World<'_>) -> Option<Option<Sym>> {
    let here = world.service(service).map(|s| world.names.name(s.name));
    let mine = |e: &&Entitlement| {
        world.tenants.exact(&e.tenant) == Some(by.tenant) && e.service.as_deref().is_none_or(|name| here == Some(name))
    };
    let entitlements: Vec<&Entitlement> = world.settings.entitlements.iter().filter(mine).collect();
    if entitlements.is_empty() {
        return None;
    }
    let may = |name: Sym| {
        let name = world.names.exact(name);
        entitlements.iter().any(|e| e.tools.iter().any(|pattern| allows(pattern, name)))
    };
    Some(list.tools.iter().map(|(name, _)| *name).find(|name| !may(*name)))
}

impl McpFlatRegistry {
    /// The latest list of another tenant, when all tenants' lists are one and the same.
    fn flat(&self, service: ServiceId, this: &Listed) -> Option<Listed> {
        let mut other: Option<Listed> = None;
        for (_, l) in self.lists.iter().filter(|((s, _), _)| *s == service) {
            if this.past.at.since(l.past.at) >= APART {
                continue;
            }
            if l.digest != this.digest || l.declared {
                return None;
            }
            if l.past.by.tenant != this.past.by.tenant && other.is_none_or(|o| l.past.at > o.past.at) {
                other = Some(*l);
            }
        }
        other
    }

    fn judge(
        &mut self,
        u: &McpUse<'_>,
        (service, caller): (ServiceId, Caller),
        list: &List,
        by: Attribution,
        world: &World<'_>,
    ) -> Option<Hit> {
        let past = Past::of(u, by);
        let beyond = beyond(list, service, by, world);
        let this = Listed { past, digest: list.digest(), declared: beyond == Some(None) };
        self.lists.insert((service, caller), this);
        let n = Detail::Amount(list.tools.len() as u64, "tools listed");
        if let Some(Some(tool)) = beyond {
            let steps = smallvec![
                u.remark("list", n),
                u.remark("tool", Detail::Operation(u.exchange.verb, tool)),
                u.remark("entitlement", Detail::Words("the configuration does not entitle the tenant to it")),
            ];
            return Some(Hit { subject: tool, ..u.hit(&INFO, Severity::High, Some(by), by.class, steps) });
        }
        if this.declared || list.tools.is_empty() {
            return None;
        }
        let other = self.flat(service, &this)?;
        let mut hit = u.crossing(&INFO, Severity::Medium, by, &other.past, ("list", "list"));
        hit.steps.push(u.remark("same", n));
        Some(hit)
    }
}

impl Rule for McpFlatRegistry {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.reader, &mut self.lists])
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
        match self.judge(u, (service, caller), &list, by, world) {
            Some(hit) => {
                hits.push(hit);
                RuleOutcome::Found
            }
            None => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        // That all lists are the same rests on all of them; what a tenant is not entitled to, on its own alone.
        match hit.bound {
            Some(_) => rests_on_lists(hit, Nanos(hit.at.0.saturating_sub(APART.0))),
            None => SmallVec::new(),
        }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let used = world.tenant(hit.used);
        if hit.severity == Severity::High {
            let tool = world.names.name(hit.subject);
            return format!("The server lists the tool {tool} to {used}, which is not entitled to it.");
        }
        let other = world.tenant(hit.bound);
        format!(
            "The server lists the very same tools to {other} and to {used}. No entitlements are configured for them, so \
             they may be equal by right: low confidence."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::Exchange;
    use crate::model::token::Verified;
    use crate::model::{Answer, Claim, Settings};

    fn entitled(tenant: &str, tools: &[&str]) -> Entitlement {
        Entitlement { tenant: tenant.to_owned(), service: None, tools: tools.iter().map(|t| (*t).to_owned()).collect() }
    }

    fn of(second: u64, print: u64, tools: &[crate::model::mcp::Tool]) -> Exchange {
        Exchange { token: Some(token(print, Claim::Neutral, Verified::NoKey)), ..list(second, tools) }
    }

    #[test]
    fn positive_the_same_list_for_both() {
        let mut rule = McpFlatRegistry::default();
        assert!(see(&mut rule, &of(1, 1, &[tool(SEND, 1), tool(READ, 1)]), by_label(A)).is_empty());
        // In other pages and another order.
        let first = Exchange { token: of(2, 2, &[]).token, ..page(2, &[tool(READ, 1)], true, false) };
        let last = Exchange { token: of(2, 2, &[]).token, ..page(2, &[tool(SEND, 1)], false, true) };
        assert!(see(&mut rule, &first, by_label(B)).is_empty());
        let hits = see(&mut rule, &last, by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Medium, Some(B), Some(A)));
    }

    #[test]
    fn positive_a_list_beyond_the_entitlement() {
        let mut rule = McpFlatRegistry::default();
        let settings = Settings { entitlements: vec![entitled("Acme", &["read_*"])], ..Settings::default() };
        let hits = see_with(&mut rule, &of(1, 1, &[tool(READ, 1), tool(SEND, 1)]), by_label(A), settings);
        assert_eq!((hits[0].severity, hits[0].subject, hits[0].bound), (Severity::High, SEND, None));
    }

    #[test]
    fn near_miss_lists_differ_or_are_declared() {
        let mut rule = McpFlatRegistry::default();
        see(&mut rule, &of(1, 1, &[tool(SEND, 1)]), by_label(A));
        assert!(see(&mut rule, &of(1, 2, &[tool(READ, 1)]), by_label(B)).is_empty());
        assert!(see(&mut rule, &of(1, 3, &[tool(SEND, 1)]), by_label(B)).is_empty(), "it does make a difference");
        let mut rule = McpFlatRegistry::default();
        let entitlements = vec![entitled("acme", &["*"]), entitled("globex", &["send_email"])];
        let settings = Settings { entitlements, ..Settings::default() };
        for tenant in [A, B] {
            assert!(see_with(&mut rule, &list(1, &[tool(SEND, 1)]), by_label(tenant), settings.clone()).is_empty());
        }
        // Two of one tenant are no two tenants.
        let mut rule = McpFlatRegistry::default();
        see(&mut rule, &of(1, 1, &[tool(SEND, 1)]), by_label(A));
        assert!(see(&mut rule, &of(1, 2, &[tool(SEND, 1)]), by_label(A)).is_empty());
    }

    #[test]
    fn lossy_a_cut_list_or_nobody_known() {
        let mut rule = McpFlatRegistry::default();
        see(&mut rule, &of(1, 1, &[tool(SEND, 1)]), by_label(A));
        let mut cut = of(1, 2, &[tool(SEND, 1)]);
        cut.tools.as_mut().unwrap().cut = true;
        assert_eq!(judged(&mut rule, &cut, by_label(B)), RuleOutcome::Insufficient("list is cut"));
        let of_nobody = of(1, 2, &[tool(SEND, 1)]);
        assert_eq!(judged(&mut rule, &of_nobody, Answer::Unknown), RuleOutcome::Insufficient("no tenant"));
        let last = Exchange { token: of_nobody.token, ..page(1, &[tool(SEND, 1)], false, true) };
        assert!(matches!(judged(&mut rule, &last, by_label(B)), RuleOutcome::Insufficient(_)));
    }
}
