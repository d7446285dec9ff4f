//! Rule: `handle-cross-tenant`.
//!
//! An id that nobody could guess (a task, a cursor, a request state, a record, an event of a stream) was given to one tenant
//! and accepted from another. For an event that is: the stream goes on behind it with an answer that nobody of the other's
//! session waits for, so that it is a replay of what was to go to the first. In revision 2026-07-28, which has no sessions, this is where sessions used to cross.
//!
//! Source: `docs/domain.md#sessions-and-handles`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, World, tables};
use crate::model::{Attribution, Fingerprint, Nanos, ServiceId, Severity, Unseen, Where};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "handle-cross-tenant",
    severity: Severity::High,
    needs: "MCP in clear text, ids of at least 64 bits in results and arguments, and the tenants of both uses",
    why: "An id that was given to one tenant only, and that nobody can guess, opened something for another. To have \
          the id was enough.",
    remediation: "Check the pair of id and principal on every call: who asks must be who it was made for.",
    source: "[Sessions and handles](domain.md#sessions-and-handles)",
};

/// Most ids remembered.
const MAX_HANDLES: usize = 65_536;
/// So long before an id was seen being given to one tenant, another may have been given it.
const EARLIER: Nanos = Nanos::secs(3_600);

#[derive(Clone, Copy, Debug)]
enum Handle {
    /// The server gave it to this tenant, and to no other.
    Given(Past),
    /// This tenant used it before it was seen being given.
    Known(Past),
    /// Several have it.
    Public,
}

/// The rule: to whom each id was given.
#[derive(Debug)]
pub struct HandleCrossTenant {
    handles: Recent<(ServiceId, Fingerprint), Handle>,
}

impl Default for HandleCrossTenant {
    fn default() -> Self {
        Self { handles: Recent::new(MAX_HANDLES) }
    }
}

impl HandleCrossTenant {
    /// Whose it is instead, when it is another tenant's.
    fn used(&mut self, key: (ServiceId, Fingerprint), by: Attribution, this: Past) -> Option<Past> {
        let handle = self.handles.entry(key, || Handle::Known(this))?;
        match *handle {
            Handle::Given(past) if past.by.tenant != by.tenant => return Some(past),
            Handle::Known(past) if past.by.tenant != by.tenant => *handle = Handle::Public,
            _ => {}
        }
        None
    }

    fn given(&mut self, key: (ServiceId, Fingerprint), by: Attribution, this: Past) {
        let Some(handle) = self.handles.entry(key, || Handle::Given(this)) else { return };
        match *handle {
            Handle::Given(past) | Handle::Known(past) if past.by.tenant != by.tenant => *handle = Handle::Public,
            Handle::Known(past) => *handle = Handle::Given(past),
            Handle::Given(_) | Handle::Public => {}
        }
    }
}

impl Rule for HandleCrossTenant {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.handles])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let RuleEvent::Mcp(u) = event else { return RuleOutcome::Clear };
        let (e, Some(service)) = (u.exchange, u.site.service) else { return RuleOutcome::Clear };
        if e.handles_used.is_empty() && e.handles_given.is_empty() {
            return RuleOutcome::Clear;
        }
        let Some(by) = u.whom() else {
            // An unknown tenant was given the handle, so it may belong to several tenants from now on.
            for handle in &e.handles_given {
                self.handles.insert((service, *handle), Handle::Public);
            }
            return RuleOutcome::Insufficient("no tenant");
        };
        if !u.is_answered() {
            // What its stream had handed out before it broke off was handed out.
            let this = Past::of(u, by);
            e.handles_given.iter().for_each(|h| self.given((service, *h), by, this));
            return RuleOutcome::Insufficient("answer not seen");
        }
        if !e.answered.is_done() {
            return RuleOutcome::Clear;
        }
        let this = Past::of(u, by);
        let mut whose = None;
        for handle in &e.handles_used {
            whose = self.used((service, *handle), by, this).or(whose);
        }
        // What comes back as it went in was not given.
        for handle in e.handles_given.iter().filter(|h| !e.handles_used.contains(h)) {
            self.given((service, *handle), by, this);
        }
        let Some(past) = whose else { return RuleOutcome::Clear };
        let severity = if u.returned_data() { Severity::Critical } else { Severity::High };
        hits.push(Hit { subject: e.name, ..u.crossing(&INFO, severity, by, &past, ("given", "accepted")) });
        RuleOutcome::Found
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let (Some(service), Some(tenant)) = (hit.site.service, hit.used) else { return SmallVec::new() };
        let since = Nanos(hit.steps.first().map_or(hit.at, |given| given.at).0.saturating_sub(EARLIER.0));
        // It may have been handed to the other, too.
        smallvec![
            Unseen { place: Where::ServedTo(service, tenant), since },
            Unseen { place: Where::AnsweredTo(service, tenant), since },
        ]
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, owner) = (world.tenant(hit.used), world.tenant(hit.bound));
        let data = if hit.severity == Severity::Critical { " and answered with data" } else { "" };
        format!("The server accepted from {used} an id that it had given to {owner} alone{data}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::Answer;
    use crate::model::mcp::{Answered, Content, Exchange};

    const ID: Fingerprint = Fingerprint(5);

    #[test]
    fn positive_an_event_of_a_stream_that_broke_off() {
        let mut rule = HandleCrossTenant::default();
        assert_eq!(
            judged(&mut rule, &Exchange { answered: Answered::Unknown, ..gives() }, by_label(A)),
            RuleOutcome::Insufficient("answer not seen")
        );
        assert_eq!(see(&mut rule, &uses(), by_label(B))[0].bound, Some(A));
    }

    fn gives() -> Exchange {
        Exchange { handles_given: smallvec![ID], ..call(1, READ) }
    }

    fn uses() -> Exchange {
        Exchange { handles_used: smallvec![ID], ..call(2, READ) }
    }

    #[test]
    fn positive_given_to_one_accepted_from_another() {
        let mut rule = HandleCrossTenant::default();
        assert!(see(&mut rule, &gives(), by_label(A)).is_empty());
        let hits = see(&mut rule, &uses(), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        // With data, and the id in the answer: still not given to B.
        let content = Content { bytes: 100, ..Content::default() };
        let data = Exchange { handles_given: smallvec![ID], content, ..uses() };
        assert_eq!(see(&mut rule, &data, by_label(B))[0].severity, Severity::Critical);
        assert_eq!(see(&mut rule, &uses(), by_label(B)).len(), 1);
    }

    #[test]
    fn near_miss_its_own_or_refused_or_known_to_both() {
        let mut rule = HandleCrossTenant::default();
        see(&mut rule, &gives(), by_label(A));
        assert!(see(&mut rule, &uses(), by_label(A)).is_empty());
        assert!(see(&mut rule, &Exchange { answered: Answered::ToolError, ..uses() }, by_label(B)).is_empty());
        assert!(see(&mut rule, &Exchange { answered: Answered::Status(403), ..uses() }, by_label(B)).is_empty());
        see(&mut rule, &gives(), by_label(B));
        assert!(see(&mut rule, &uses(), by_label(B)).is_empty(), "given to both");
        // B had it before A got it.
        let mut rule = HandleCrossTenant::default();
        see(&mut rule, &uses(), by_label(B));
        see(&mut rule, &gives(), by_label(A));
        assert!(see(&mut rule, &uses(), by_label(B)).is_empty());
    }

    #[test]
    fn lossy_nobody_known_or_no_answer() {
        let mut rule = HandleCrossTenant::default();
        see(&mut rule, &gives(), by_label(A));
        assert_eq!(judged(&mut rule, &uses(), Answer::Several), RuleOutcome::Insufficient("no tenant"));
        for answered in [Answered::Unknown, Answered::Accepted] {
            let unknown = Exchange { answered, ..uses() };
            assert_eq!(judged(&mut rule, &unknown, by_label(B)), RuleOutcome::Insufficient("answer not seen"));
        }
        // Somebody unknown got it, too: it may have been B.
        judged(&mut rule, &gives(), Answer::Unknown);
        assert!(see(&mut rule, &uses(), by_label(B)).is_empty());
    }
}
