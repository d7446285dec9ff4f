//! Rule: `downstream-scope-missing`.
//!
//! A tool that tells the services behind it for whom it works, most of the time, did not do so once: the tenant's scope
//! ends inside the tool.
//!
//! Source: `docs/domain.md#what-is-behind-a-tool`.

use smallvec::smallvec;

use crate::detect::recent::Recent;
use crate::detect::{Cause, Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, Use, World, tables};
use crate::model::{ServiceId, Severity, Sym, Verdict};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "downstream-scope-missing",
    severity: Severity::Medium,
    needs: "MCP calls and the operations they cause at other services, both in clear text, tied together on this host",
    why: "A tool that works for tenants used a service without saying for which: what comes back depends on the tool \
          alone, and the caller's authorization ends at its door.",
    remediation: "Pass the tenant's scope on with every downstream operation and let the service \
                  check it. A service that holds nothing of tenants' can be suppressed as such.",
    source: "[What is behind a tool](domain.md#what-is-behind-a-tool)",
};

/// Most tools remembered.
const MAX_TOOLS: usize = 16_384;
/// Fewest scoped operations of a tool before it counts as one that works for tenants.
const ENOUGH: u64 = 3;

#[derive(Clone, Copy, Debug, Default)]
struct Downstream {
    scoped: u64,
    bare: u64,
}

/// The rule: how each tool uses the services behind it.
#[derive(Debug)]
pub struct DownstreamScopeMissing {
    tools: Recent<(ServiceId, Sym), Downstream>,
}

impl Default for DownstreamScopeMissing {
    fn default() -> Self {
        Self { tools: Recent::new(MAX_TOOLS) }
    }
}

fn hit(u: &Use, cause: &Cause, seen: Downstream) -> Hit {
    let a = u.answer.attribution();
    let step = |what, detail| Step { at: u.at, what, detail, tenant: a.map(|a| a.tenant), basis: None };
    Hit {
        rule: INFO.id,
        severity: Severity::Medium,
        class: a.map_or(cause.class, |a| a.class.min(cause.class)),
        corroborated: None,
        at: u.at,
        site: u.site,
        subject: cause.name,
        used: a.map(|a| a.tenant),
        bound: None,
        steps: smallvec![
            step("tool", Detail::Operation(cause.verb, cause.name)),
            step("scoped", Detail::Amount(seen.scoped, "operations of this tool showed their tenant")),
            Step::of_use(u),
        ],
    }
}

impl Rule for DownstreamScopeMissing {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.tools])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Use(u) = event else { return RuleOutcome::Clear };
        let Some(cause) = &u.cause else { return RuleOutcome::Clear };
        if u.ruling.verdict == Verdict::None {
            return RuleOutcome::Clear;
        }
        let scoped = match u.scoped() {
            Ok(scoped) => scoped,
            Err(why) => return RuleOutcome::Insufficient(why),
        };
        let Some(seen) = self.tools.entry((cause.service, cause.name), Downstream::default) else {
            return RuleOutcome::Clear;
        };
        let before = *seen;
        if scoped {
            seen.scoped = seen.scoped.saturating_add(1);
            return RuleOutcome::Clear;
        }
        seen.bare = seen.bare.saturating_add(1);
        // A tool that mostly shows no tenant works for none, for all that is known.
        if before.scoped < ENOUGH || before.scoped <= before.bare {
            return RuleOutcome::Clear;
        }
        hits.push(hit(u, cause, before));
        RuleOutcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (tool, used) = (world.names.name(hit.subject), world.tenant(hit.used));
        format!(
            "The tool {tool}, which mostly tells the services behind it for whom it works, used this one for {used} \
             without."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::Claim;
    use crate::model::{Answer, EvidenceClass};

    fn caused(verdict: Verdict) -> Use {
        let mut u = a_use(verdict);
        let service = ServiceId(9);
        u.cause = Some(Cause { service, verb: CALL, name: READ, exchange: 4, class: EvidenceClass::Endpoint });
        u
    }

    fn aware() -> DownstreamScopeMissing {
        let mut rule = DownstreamScopeMissing::default();
        for _ in 0..3 {
            assert!(run(&mut rule, &caused(Verdict::Revalidated)).is_empty());
        }
        rule
    }

    #[test]
    fn positive_once_without() {
        let hits = run(&mut aware(), &caused(Verdict::Unbound));
        assert_eq!((hits[0].severity, hits[0].subject, hits[0].used), (Severity::Medium, READ, Some(B)));
        assert_eq!(hits[0].class, EvidenceClass::Endpoint);
        // Nobody known: the tool is.
        let nobody = Use { answer: Answer::Unknown, ..caused(Verdict::ResetOnly) };
        assert_eq!(run(&mut aware(), &nobody)[0].used, None);
        // It uses two services in turn, and tells one of them.
        let mut rule = DownstreamScopeMissing::default();
        let n = (0..6).map(|_| {
            run(&mut rule, &caused(Verdict::Revalidated)).len() + run(&mut rule, &caused(Verdict::Unbound)).len()
        });
        assert!(n.sum::<usize>() > 0);
    }

    #[test]
    fn near_miss_a_tool_that_works_for_nobody_or_a_marker_or_no_tool() {
        let mut rule = DownstreamScopeMissing::default();
        for _ in 0..10 {
            assert!(run(&mut rule, &caused(Verdict::Unbound)).is_empty());
        }
        let marked = Use { marker: Claim::Tenant(B), ..caused(Verdict::Unbound) };
        assert!(run(&mut aware(), &marked).is_empty());
        assert!(run(&mut aware(), &a_use(Verdict::Unbound)).is_empty());
        assert!(run(&mut aware(), &caused(Verdict::None)).is_empty(), "nobody's data");
    }

    #[test]
    fn lossy_what_is_not_known_is_neither() {
        let mut rule = aware();
        assert_eq!(
            outcome(&mut rule, &caused(Verdict::Indeterminate)),
            RuleOutcome::Insufficient("verdict is indeterminate")
        );
        assert_eq!(
            outcome(&mut rule, &caused(Verdict::SingleTenant)),
            RuleOutcome::Insufficient("connection of one tenant only")
        );
    }
}
