//! Rule: `mcp-call-not-listed`.
//!
//! A tool was called that is not in the list its caller was given, and the server did it: the list hides the tool, and
//! nothing guards it.
//!
//! Source: `docs/domain.md#lists-of-tools`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::{Caller, Past};
use crate::detect::recent::Recent;
use crate::detect::tools::{Outdated, Page, Reader, outdates, rests_on_lists};
use crate::detect::{Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, World, tables};
use crate::model::mcp::{Answered, Method};
use crate::model::{EvidenceClass, Fingerprint, Nanos, ServiceId, Severity, Sym, TenantId, Unseen};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "mcp-call-not-listed",
    severity: Severity::High,
    needs: "the caller's whole tools/list and its later calls, with their answers, in clear text",
    why: "A tool that the server does not list to this caller was called and worked. Filtering the list is a \
          convenience; only a check on the call is a control.",
    remediation: "Decide every call on the server, by the same entitlements that the list is made from, and refuse the \
                  rest.",
    source: "[Lists of tools](domain.md#lists-of-tools)",
};

/// Most callers whose lists are remembered.
const MAX_CALLERS: usize = 2_048;
/// Most tools in all of these lists together.
const MAX_NAMES: usize = 262_144;
/// What was listed so long ago is no statement about now.
const OLD: Nanos = Nanos::secs(24 * 3_600);

/// Whose list it is: a caller's, or the session's that it was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Asker {
    Caller(Caller),
    Session(Fingerprint),
}

#[derive(Debug)]
struct Listed {
    /// In order.
    names: Box<[Sym]>,
    /// From when on it is in force, as a step of evidence.
    step: Step,
    past: Option<Past>,
}

/// The rule: the latest list of each caller.
#[derive(Debug)]
pub struct McpCallNotListed {
    reader: Reader,
    lists: Recent<(ServiceId, Asker), Listed>,
    n_names: usize,
}

impl Default for McpCallNotListed {
    fn default() -> Self {
        Self { reader: Reader::default(), lists: Recent::new(MAX_CALLERS), n_names: 0 }
    }
}

/// By its credential, then by its session. One tenant's callers need not be equal: the tenant stands for the caller only
/// where there is no credential.
fn askers(u: &McpUse<'_>) -> impl Iterator<Item = Asker> {
    u.caller().map(Asker::Caller).into_iter().chain(u.exchange.session.map(Asker::Session))
}

impl McpCallNotListed {
    fn list(&mut self, u: &McpUse<'_>, service: ServiceId) -> RuleOutcome {
        let Some(caller) = u.caller() else { return RuleOutcome::Insufficient("no caller") };
        let page = self.reader.read(u, service, caller);
        // What was listed before is no longer what is listed now.
        for asker in askers(u) {
            self.forget((service, asker));
        }
        let list = match page {
            Page::Whole(list) => list,
            Page::Broken(why) => return RuleOutcome::Insufficient(why),
            Page::None | Page::More => return RuleOutcome::Clear,
        };
        let past = u.whom().map(|by| Past::of(u, by));
        let step = Step { at: list.begun, ..u.step("list", u.whom()) };
        let names: Box<[Sym]> = list.tools.iter().map(|(name, _)| *name).collect();
        if self.n_names + 2 * names.len() > MAX_NAMES {
            return RuleOutcome::Insufficient("too many lists");
        }
        for asker in askers(u) {
            self.lists.insert((service, asker), Listed { names: names.clone(), step, past });
        }
        self.n_names = self.lists.iter().map(|(_, l)| l.names.len()).sum();
        RuleOutcome::Clear
    }

    fn forget(&mut self, key: (ServiceId, Asker)) {
        if let Some(old) = self.lists.remove(&key) {
            self.n_names = self.n_names.saturating_sub(old.names.len());
        }
    }

    /// A tenant to whom the tool is listed.
    fn listed_to(&self, service: ServiceId, name: Sym, but: Option<TenantId>) -> Option<Past> {
        let has = |l: &Listed| l.names.binary_search(&name).is_ok();
        let mut others = self.lists.iter().filter(|((s, _), l)| *s == service && has(l)).filter_map(|(_, l)| l.past);
        others.find(|p| Some(p.by.tenant) != but)
    }

    fn call(&self, u: &McpUse<'_>, service: ServiceId, hits: &mut Vec<Hit>) -> RuleOutcome {
        let e = u.exchange;
        if e.name == Sym::EMPTY || e.name == Sym::OTHER {
            return RuleOutcome::Insufficient("name of the tool not known");
        }
        let Some(list) = askers(u).find_map(|asker| self.lists.get(&(service, asker))) else {
            return RuleOutcome::Insufficient("no whole list seen for the caller");
        };
        // A call that was under way when the list was made may be by the one before.
        if e.begun < list.step.at || e.begun.since(list.step.at) > OLD {
            return RuleOutcome::Insufficient("list is of another time");
        }
        if list.names.binary_search(&e.name).is_ok() {
            return RuleOutcome::Clear;
        }
        let severity = match e.answered {
            Answered::Result => Severity::High,
            _ if !u.is_answered() => return RuleOutcome::Insufficient("answer not seen"),
            _ => Severity::Info,
        };
        let by = u.whom();
        // By its credential the caller is known from the wire itself.
        let class =
            if u.bearer().is_some() { EvidenceClass::Wire } else { by.map_or(EvidenceClass::Wire, |a| a.class) };
        let mut steps = smallvec![list.step];
        let other = self.listed_to(service, e.name, by.map(|a| a.tenant));
        steps.extend(other.map(|p| p.step("listed to")));
        steps.push(u.step(if severity == Severity::High { "call" } else { "refused" }, by));
        let bound = other.map(|p| p.by.tenant);
        hits.push(Hit { subject: e.name, bound, ..u.hit(&INFO, severity, by, class, steps) });
        RuleOutcome::Found
    }
}

impl Rule for McpCallNotListed {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.reader, &mut self.lists])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let (e, Some(service)) = (u.exchange, u.site.service) else { return RuleOutcome::Clear };
        match outdates(u, world) {
            Outdated::Nobodys => {}
            Outdated::OfAsker => askers(u).for_each(|asker| self.forget((service, asker))),
            Outdated::All => {
                self.lists.retain(|(s, _), _| *s != service);
                self.n_names = self.lists.iter().map(|(_, l)| l.names.len()).sum();
            }
        }
        match e.method {
            Method::ToolsList if e.tools.is_some() => self.list(u, service),
            Method::ToolsCall => self.call(u, service, hits),
            _ => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        rests_on_lists(hit, hit.steps.first().map_or(hit.at, |list| list.at))
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, tool) = (world.tenant(hit.used), world.names.name(hit.subject));
        let whose = match hit.bound {
            Some(_) => format!(" It is listed to {}.", world.tenant(hit.bound)),
            None => String::new(),
        };
        if hit.severity == Severity::High {
            format!("The server did a call of {tool} for {used}, to whom it does not list that tool.{whose}")
        } else {
            format!("{used} called {tool}, which is not listed to it; the server did not do it.{whose}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::{Exchange, Tool};
    use crate::model::token::Verified;
    use crate::model::{Answer, Claim};

    fn listing(second: u64, print: u64, tools: &[Tool]) -> Exchange {
        Exchange { token: Some(token(print, Claim::Neutral, Verified::NoKey)), ..list(second, tools) }
    }

    fn calling(second: u64, print: u64, name: Sym) -> Exchange {
        Exchange { token: Some(token(print, Claim::Neutral, Verified::NoKey)), ..call(second, name) }
    }

    #[test]
    fn positive_a_tool_of_anothers_list_works() {
        let mut rule = McpCallNotListed::default();
        assert!(see(&mut rule, &listing(1, 1, &[tool(SEND, 1), tool(READ, 1)]), by_label(A)).is_empty());
        assert!(see(&mut rule, &listing(2, 2, &[tool(READ, 1)]), by_label(B)).is_empty());
        let hits = see(&mut rule, &calling(3, 2, SEND), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        assert_eq!((hits[0].class, hits[0].subject), (EvidenceClass::Wire, SEND));
    }

    #[test]
    fn positive_another_token_in_the_session_that_was_given_the_list() {
        let mut rule = McpCallNotListed::default();
        let session = Some(Fingerprint(50));
        see(&mut rule, &Exchange { session, ..listing(1, 1, &[tool(READ, 1)]) }, by_label(B));
        let hits = see(&mut rule, &Exchange { session, ..calling(2, 9, SEND) }, by_label(B));
        assert_eq!((hits[0].severity, hits[0].bound), (Severity::High, None));
    }

    #[test]
    fn near_miss_listed_or_refused_or_listed_since() {
        let mut rule = McpCallNotListed::default();
        see(&mut rule, &listing(2, 2, &[tool(READ, 1)]), by_label(B));
        assert!(see(&mut rule, &calling(3, 2, READ), by_label(B)).is_empty());
        for answered in [Answered::RpcError(-32602), Answered::Status(403), Answered::ToolError] {
            let hits = see(&mut rule, &Exchange { answered, ..calling(3, 2, SEND) }, by_label(B));
            assert_eq!(hits[0].severity, Severity::Info);
        }
        see(&mut rule, &listing(4, 2, &[tool(READ, 1), tool(SEND, 1)]), by_label(B));
        assert!(see(&mut rule, &calling(5, 2, SEND), by_label(B)).is_empty());
    }

    #[test]
    fn lossy_without_a_whole_list_that_holds_it_is_silent() {
        let mut rule = McpCallNotListed::default();
        let none = RuleOutcome::Insufficient("no whole list seen for the caller");
        assert_eq!(judged(&mut rule, &calling(1, 2, SEND), by_label(B)), none);
        // Another caller's list says nothing.
        see(&mut rule, &listing(2, 1, &[tool(READ, 1)]), by_label(B));
        assert_eq!(judged(&mut rule, &calling(3, 2, SEND), by_label(B)), none);
        // Nor does half a list, and it takes the whole one's place.
        see(&mut rule, &listing(4, 2, &[tool(READ, 1)]), by_label(B));
        let half = Exchange { token: listing(5, 2, &[]).token, ..page(5, &[tool(READ, 1)], true, false) };
        see(&mut rule, &half, by_label(B));
        assert_eq!(judged(&mut rule, &calling(6, 2, SEND), by_label(B)), none);
        // The server says that its list has changed.
        see(&mut rule, &listing(7, 2, &[tool(READ, 1)]), by_label(B));
        let changed = Exchange { method: Method::Control, verb: LIST_CHANGED, ..at(8, an_exchange()) };
        see(&mut rule, &changed, Answer::Unknown);
        assert_eq!(judged(&mut rule, &calling(9, 2, SEND), by_label(B)), none);
        // A newer list was asked for, and nobody knows what it was.
        see(&mut rule, &listing(7, 2, &[tool(READ, 1)]), by_label(B));
        for answered in [Answered::Unknown, Answered::Accepted] {
            see(&mut rule, &Exchange { answered, tools: None, ..listing(8, 2, &[]) }, by_label(B));
            assert_eq!(judged(&mut rule, &calling(9, 2, SEND), by_label(B)), none);
        }
        // What is not answered has not been done, for all that is known.
        see(&mut rule, &listing(10, 2, &[tool(READ, 1)]), by_label(B));
        for answered in [Answered::Unknown, Answered::Accepted] {
            let unknown = Exchange { answered, ..calling(11, 2, SEND) };
            assert_eq!(judged(&mut rule, &unknown, by_label(B)), RuleOutcome::Insufficient("answer not seen"));
        }
        assert_eq!(
            judged(&mut rule, &calling(9, 2, SEND), by_label(B)),
            RuleOutcome::Insufficient("list is of another time")
        );
    }
}
