//! Rule: `response-desync`.
//!
//! A connection's replies are out of step with its commands: somebody gave up waiting and left a reply unread, the
//! connection went to the next borrower, and every borrower since gets the reply of the one before. Seen either as an
//! answer that holds a value of the reply before its own and none of its own, or as a reply that nobody asked for.
//!
//! Needs no tenant: replies and requests are counted and matched.
//!
//! Source: domain document §2 and incidents 1 and 4 of §4 (redis-py async cancel, March 2023); seed 0, myth 1.

use smallvec::smallvec;

use crate::detect::{Detail, Hit, How, Outcome, Rule, RuleEvent, RuleInfo, Step, World};
use crate::model::{EvidenceClass, Severity, Sym};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "response-desync",
    severity: Severity::Critical,
    needs: "a decoded protocol with replies in order, seen from the connection's start; for a shared process also its \
            readable answers",
    why: "The replies of a pooled connection are out of step with its requests: who borrows it gets the reply that \
          belongs to somebody else. Nothing fails, and it goes on until the connection is closed.",
    remediation: "Close a connection whose request was cancelled or timed out before its reply was read; never return \
                  it to the pool. Update the client library. Use one transport per client.",
    source: "domain document §2; redis-py issues 2624 and 2665",
};

/// The rule.
#[derive(Debug)]
pub struct ResponseDesync;

impl Rule for ResponseDesync {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> Outcome {
        let RuleEvent::Desync(d) = event else { return Outcome::Clear };
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
            steps: smallvec![Step {
                at: d.at,
                what: "reply",
                detail: Detail::Words(words),
                tenant: d.used,
                basis: None
            }],
        });
        Outcome::Found
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        match (hit.severity, hit.used, hit.bound) {
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
    use crate::detect::Desync;
    use crate::detect::testing::*;

    fn shifted(times: u32, alike: bool) -> RuleEvent<'static> {
        let how = How::Shifted { times, alike };
        let d = Desync { site: SITE, at: crate::model::Nanos(5), how, used: Some(B), owner: Some(A) };
        RuleEvent::Desync(d)
    }

    #[test]
    fn positive_repeated_or_between_tenants() {
        for event in [shifted(2, false), shifted(1, true)] {
            let hits = run_event(&mut ResponseDesync, &event);
            assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
        }
    }

    #[test]
    fn near_miss_once_between_different_commands() {
        assert!(run_event(&mut ResponseDesync, &shifted(1, false)).is_empty());
    }

    #[test]
    fn lossy_once_and_whose_reply_it_was_is_not_known() {
        let how = How::Shifted { times: 1, alike: true };
        let d = Desync { site: SITE, at: crate::model::Nanos(5), how, used: Some(B), owner: None };
        assert_eq!(outcome_of(&mut ResponseDesync, &RuleEvent::Desync(d)), Outcome::Insufficient("seen once"));
    }
}
