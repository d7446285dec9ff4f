//! Rule: `response-desync`.
//!
//! A connection's replies are out of step with its commands: somebody gave up waiting and left a reply unread, the
//! connection went to the next borrower, and every borrower since gets the reply of the one before. Seen either as an
//! answer that holds a value of the reply before its own and none of its own, or as a reply that nobody asked for.
//!
//! Needs no tenant: replies and requests are counted and matched.
//!
//! MCP has no order that could be lost, but ids that are only unique to one client. A server that routes replies by the id
//! alone gives one tenant's to another: then a call is never answered, and what it had asked for was in the answer to
//! another tenant's call of the same id, made meanwhile, which had not asked for it (CVE-2026-25536).
//!
//! Source: domain document §2 and incidents 1 and 4 of §4 (redis-py async cancel, March 2023); seed 0, myth 1.

use smallvec::smallvec;

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{Desync, Detail, Hit, How, McpUse, Outcome, Rule, RuleEvent, RuleInfo, Step, World};
use crate::model::mcp::Answered;
use crate::model::{EvidenceClass, Fingerprint, Nanos, ServiceId, Severity, Sym};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "response-desync",
    severity: Severity::Critical,
    needs: "a decoded protocol with replies in order, seen from the connection's start; for a shared process also its \
            readable answers; over MCP ids in \
            arguments and results, and the tenants of both calls",
    why: "The replies of a pooled connection are out of step with its requests: who borrows it gets the reply that \
          belongs to somebody else. Nothing fails, and it goes on until the connection is closed.",
    remediation: "Close a connection whose request was cancelled or timed out before its reply was read; never return \
                  it to the pool. Update the client library. Use one transport per client.",
    source: "domain document §2; redis-py issues 2624 and 2665",
};

/// Most ids in results remembered.
const MAX_GIVEN: usize = 16_384;
/// How long after an answer the call that it belonged to may be given up.
const PATIENCE: Nanos = Nanos::secs(600);

/// An id that came in a result, and was not asked for there.
#[derive(Clone, Copy, Debug)]
struct Given {
    past: Past,
    begun: Nanos,
    /// JSON-RPC's id of the call.
    id: Fingerprint,
    session: Option<Fingerprint>,
}

/// The rule: what came lately that had not been asked for.
#[derive(Debug)]
pub struct ResponseDesync {
    given: Recent<(ServiceId, Fingerprint), Given>,
}

impl Default for ResponseDesync {
    fn default() -> Self {
        Self { given: Recent::new(MAX_GIVEN) }
    }
}

fn out_of_step(d: &Desync, hits: &mut Vec<Hit>) -> Outcome {
    let (severity, words) = match d.how {
        How::Shifted { times, alike } => {
            let crossed = alike && d.owner.is_some() && d.used.is_some() && d.owner != d.used;
            if times < 2 && !crossed {
                return Outcome::Insufficient("seen once");
            }
            (Severity::Critical, "the answer held a value of the reply before its own, and none of its own")
        }
        How::Unasked => (Severity::High, "a reply came that no request was waiting for"),
    };
    hits.push(Hit {
        rule: INFO.id,
        severity,
        class: EvidenceClass::Wire,
        corroborated: None,
        subject: Sym::EMPTY,
        at: d.at,
        site: d.site,
        used: d.used,
        bound: d.owner.filter(|o| Some(*o) != d.used),
        steps: smallvec![Step { at: d.at, what: "reply", detail: Detail::Words(words), tenant: d.used, basis: None }],
    });
    Outcome::Found
}

impl ResponseDesync {
    fn crossed(&mut self, u: &McpUse<'_>, hits: &mut Vec<Hit>) -> Outcome {
        let e = u.exchange;
        let (Some(service), Some(id), true) = (u.site.service, e.id, u.is_data()) else { return Outcome::Clear };
        if e.answered == Answered::Result {
            let Some(by) = u.whom() else { return Outcome::Clear };
            let given = Given { past: Past::of(u, by), begun: e.begun, id, session: e.session };
            for handle in e.handles_given.iter().filter(|h| !e.handles_used.contains(h)) {
                self.given.insert((service, *handle), given);
            }
            return Outcome::Clear;
        }
        if e.answered != Answered::Unknown {
            return Outcome::Clear;
        }
        let to = e.handles_used.iter().filter_map(|handle| self.given.get(&(service, *handle))).find(|to| {
            let meanwhile = to.past.at >= e.begun && to.begun <= e.ended && e.ended.since(to.past.at) <= PATIENCE;
            to.id == id && to.session == e.session && meanwhile
        });
        let Some(to) = to else { return Outcome::Clear };
        let Some(by) = u.whom() else { return Outcome::Insufficient("no tenant") };
        if by.tenant == to.past.by.tenant {
            return Outcome::Clear;
        }
        let words = Detail::Words("never answered; the other call's answer, under the same id, held what it asked for");
        let steps = smallvec![u.step("call", Some(by)), to.past.step("answered"), u.remark("reply", words)];
        let class = by.class.min(to.past.by.class);
        let hit = u.hit(&INFO, Severity::Critical, Some(to.past.by), class, steps);
        let corroborated = (by.corroborated() && to.past.by.corroborated()).then_some(by.bases);
        hits.push(Hit { subject: e.name, bound: Some(by.tenant), corroborated, ..hit });
        Outcome::Found
    }
}

impl Rule for ResponseDesync {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> Outcome {
        match event {
            RuleEvent::Desync(d) => out_of_step(d, hits),
            RuleEvent::Mcp(u) => self.crossed(u, hits),
            _ => Outcome::Clear,
        }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        match (hit.severity, hit.used, hit.bound) {
            (Severity::Critical, Some(_), Some(_)) if hit.subject != Sym::EMPTY => format!(
                "A call of {} for {} was answered with the result of {}'s: replies are routed by the id alone.",
                world.names.name(hit.subject),
                world.tenant(hit.used),
                world.tenant(hit.bound)
            ),
            (Severity::Critical, Some(_), Some(_)) => format!(
                "A request for {} was answered with the reply to {}'s: the connection's replies are out of step.",
                world.tenant(hit.used),
                world.tenant(hit.bound)
            ),
            (Severity::Critical, ..) => {
                "Requests are answered with the reply to the request before: the connection's replies are out of step."
                    .to_owned()
            }
            _ => "A reply came on a connection on which no request was waiting for one.".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::Answer;
    use crate::model::mcp::Exchange;

    fn shifted(times: u32, alike: bool) -> RuleEvent<'static> {
        let how = How::Shifted { times, alike };
        let d = Desync { site: SITE, at: crate::model::Nanos(5), how, used: Some(B), owner: Some(A) };
        RuleEvent::Desync(d)
    }

    #[test]
    fn positive_repeated_or_between_tenants() {
        for event in [shifted(2, false), shifted(1, true)] {
            let hits = run_event(&mut ResponseDesync::default(), &event);
            assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
        }
    }

    #[test]
    fn near_miss_once_between_different_commands() {
        assert!(run_event(&mut ResponseDesync::default(), &shifted(1, false)).is_empty());
    }

    #[test]
    fn lossy_once_and_whose_reply_it_was_is_not_known() {
        let how = How::Shifted { times: 1, alike: true };
        let d = Desync { site: SITE, at: crate::model::Nanos(5), how, used: Some(B), owner: None };
        assert_eq!(
            outcome_of(&mut ResponseDesync::default(), &RuleEvent::Desync(d)),
            Outcome::Insufficient("seen once")
        );
    }

    const WANTED: Fingerprint = Fingerprint(77);

    fn call(id: u64) -> Exchange {
        Exchange { id: Some(Fingerprint(id)), ..an_exchange() }
    }

    /// B's answer holds what A's call of `id` asks for; A's is answered as said.
    fn crossed(id: u64, answered: Answered, asked_by_b: bool) -> Vec<Hit> {
        let mut rule = ResponseDesync::default();
        let asked = if asked_by_b { smallvec![WANTED] } else { smallvec![] };
        let got = Exchange { begun: Nanos(12), handles_used: asked, handles_given: smallvec![WANTED], ..call(1) };
        assert!(run_mcp(&mut rule, &got, by_label(B)).0.is_empty());
        let waits = Exchange { ended: Nanos(30), handles_used: smallvec![WANTED], answered, ..call(id) };
        run_mcp(&mut rule, &waits, by_label(A)).0
    }

    #[test]
    fn positive_a_call_of_the_same_id_got_the_result_of_one_that_has_none() {
        let hits = crossed(1, Answered::Unknown, false);
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
    }

    #[test]
    fn near_miss_another_id_an_answer_of_its_own_or_both_asked_for_it() {
        assert!(crossed(2, Answered::Unknown, false).is_empty());
        assert!(crossed(1, Answered::Result, false).is_empty());
        assert!(crossed(1, Answered::Status(500), false).is_empty());
        assert!(crossed(1, Answered::Unknown, true).is_empty());
    }

    #[test]
    fn lossy_whose_call_was_never_answered_is_not_known() {
        let mut rule = ResponseDesync::default();
        let got = Exchange { handles_given: smallvec![WANTED], ..call(1) };
        run_mcp(&mut rule, &got, by_label(B));
        let waits = Exchange { handles_used: smallvec![WANTED], answered: Answered::Unknown, ..call(1) };
        let (hits, outcome) = run_mcp(&mut rule, &waits, Answer::Unknown);
        assert!(hits.is_empty());
        assert_eq!(outcome, Outcome::Insufficient("no tenant"));
    }
}
