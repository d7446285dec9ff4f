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
//! Where two tenants' calls in one session are under way under one id at once, that needs no content: on a stream that both
//! are answered on (HTTP+SSE, WebSocket) nobody can tell whose an answer is; and where each has a stream of its own, the
//! later was answered and the earlier never, because who made the later took the earlier one's place.
//!
//! Source: `docs/domain.md#answers-that-reach-another`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{
    Desync, Detail, Hit, How, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, World, tables,
};
use crate::model::mcp::{Answered, Transport};
use crate::model::{
    Attribution, EvidenceClass, Fingerprint, Nanos, ServiceId, Severity, SocketCookie, Sym, Unseen, Where,
};

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
    source: "[Answers that reach another](domain.md#answers-that-reach-another); \
             redis-py issues [2624](https://github.com/redis/redis-py/issues/2624) and [2665](https://github.com/redis/redis-py/issues/2665)",
};

/// Most ids in results remembered.
const MAX_GIVEN: usize = 16_384;
/// Most ids of calls remembered, and most calls under one.
const MAX_IDS: usize = 16_384;
const MAX_CALLS: usize = 8;
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

/// Where an id stands for one call only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Within {
    Session(Fingerprint),
    Socket(SocketCookie),
}

/// A call's id, and where it stands for it.
type Id = (ServiceId, Within, Fingerprint);

/// A call under some id.
#[derive(Clone, Copy, Debug)]
struct Call {
    past: Past,
    begun: Nanos,
    /// `None`: it is under way.
    ended: Option<Nanos>,
    answered: bool,
}

impl Call {
    fn meets(&self, other: &Self) -> bool {
        let before = |a: &Self, b: &Self| a.ended.unwrap_or(a.begun + PATIENCE) >= b.begun;
        self.past.by.tenant != other.past.by.tenant && before(self, other) && before(other, self)
    }
}

/// The rule: what came lately that had not been asked for.
#[derive(Debug)]
pub struct ResponseDesync {
    given: Recent<(ServiceId, Fingerprint), Given>,
    /// Calls by where they were made, and their id.
    calls: Recent<Id, SmallVec<[Call; 2]>>,
    /// Calls that were answered before it was told that they were made, by when they were.
    early: Recent<(Id, Nanos), ()>,
}

impl Default for ResponseDesync {
    fn default() -> Self {
        Self { given: Recent::new(MAX_GIVEN), calls: Recent::new(MAX_IDS), early: Recent::new(MAX_IDS) }
    }
}

fn out_of_step(d: &Desync, hits: &mut Vec<Hit>) -> RuleOutcome {
    let (severity, words) = match d.how {
        How::Shifted { times, alike } => {
            let crossed = alike && d.owner.is_some() && d.used.is_some() && d.owner != d.used;
            if times < 2 && !crossed {
                return RuleOutcome::Insufficient("seen once");
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
    RuleOutcome::Found
}

impl ResponseDesync {
    fn crossed(&mut self, u: &McpUse<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let e = u.exchange;
        let (Some(service), Some(id), true) = (u.site.service, e.id, u.is_data()) else { return RuleOutcome::Clear };
        if e.answered == Answered::Result {
            let Some(by) = u.whom() else { return RuleOutcome::Clear };
            let given = Given { past: Past::of(u, by), begun: e.begun, id, session: e.session };
            for handle in e.handles_given.iter().filter(|h| !e.handles_used.contains(h)) {
                self.given.insert((service, *handle), given);
            }
            return RuleOutcome::Clear;
        }
        if e.answered != Answered::Unknown {
            return RuleOutcome::Clear;
        }
        let to = e.handles_used.iter().filter_map(|handle| self.given.get(&(service, *handle))).find(|to| {
            let meanwhile = to.past.at >= e.begun && to.begun <= e.ended && e.ended.since(to.past.at) <= PATIENCE;
            to.id == id && to.session == e.session && meanwhile
        });
        let Some(to) = to else { return RuleOutcome::Clear };
        let Some(by) = u.whom() else { return RuleOutcome::Insufficient("no tenant") };
        if by.tenant == to.past.by.tenant {
            return RuleOutcome::Clear;
        }
        let words = Detail::Words("never answered; the other call's answer, under the same id, held what it asked for");
        let steps = smallvec![u.step("call", Some(by)), to.past.step("answered"), u.remark("reply", words)];
        let class = by.class.min(to.past.by.class);
        let hit = u.hit(&INFO, Severity::Critical, Some(to.past.by), class, steps);
        let corroborated = (by.corroborated() && to.past.by.corroborated()).then_some(by.bases);
        hits.push(Hit { subject: e.name, bound: Some(by.tenant), corroborated, ..hit });
        RuleOutcome::Found
    }
}

impl ResponseDesync {
    /// Two tenants' calls under one id, at once.
    fn doubled(&mut self, u: &McpUse<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let e = u.exchange;
        let (Some(service), Some(id), true) = (u.site.service, e.id, u.is_data()) else { return RuleOutcome::Clear };
        let within = match (e.session, u.site.flow) {
            (Some(session), _) => Within::Session(session),
            (None, Some((cookie, ..))) if e.transport == Transport::WebSocket => Within::Socket(cookie),
            _ => return RuleOutcome::Clear,
        };
        let key = (service, within, id);
        if e.sender.is_some() {
            return if e.transport == Transport::HttpSse {
                self.answered_elsewhere(u, key, hits)
            } else {
                RuleOutcome::Clear
            };
        }
        let Some(by) = u.whom() else { return RuleOutcome::Insufficient("no tenant") };
        let under_way = e.transport == Transport::HttpSse && e.answered == Answered::Accepted;
        if e.transport == Transport::HttpSse && !under_way {
            return RuleOutcome::Clear;
        }
        let call = Call {
            past: Past::of(u, by),
            begun: e.begun,
            ended: (!under_way).then_some(e.ended),
            answered: !under_way && e.answered != Answered::Unknown,
        };
        if under_way && self.early.remove(&(key, e.begun)).is_some() {
            return RuleOutcome::Clear;
        }
        let Some(all) = self.calls.entry(key, SmallVec::new) else { return RuleOutcome::Clear };
        let other = all.iter().copied().find(|o| o.meets(&call) && told(e.transport, o, &call));
        if all.len() >= MAX_CALLS {
            all.remove(0);
        }
        all.push(call);
        let Some(other) = other.filter(|_| !under_way) else { return RuleOutcome::Clear };
        hits.push(under_one_id(u, &other, &call));
        RuleOutcome::Found
    }

    /// A call was answered on the stream of its session.
    fn answered_elsewhere(&mut self, u: &McpUse<'_>, key: Id, hits: &mut Vec<Hit>) -> RuleOutcome {
        let e = u.exchange;
        let mut none = SmallVec::new();
        let all = self.calls.get_mut(&key).unwrap_or(&mut none);
        let Some(n) = all.iter().position(|c| c.begun == e.begun && c.ended.is_none()) else {
            self.early.insert((key, e.begun), ());
            return RuleOutcome::Clear;
        };
        let Some(call) = all.get_mut(n) else { return RuleOutcome::Clear };
        (call.ended, call.answered) = (Some(e.ended), true);
        let call = *call;
        // Once: the answer that comes when the other is answered can only be its own.
        let other = all.iter().copied().enumerate().find(|(_, o)| o.ended.is_none() && o.meets(&call));
        let Some((m, other)) = other else { return RuleOutcome::Clear };
        // In the order in which they were made, also where the clock does not tell it.
        let (a, b) = if m < n { (&other, &call) } else { (&call, &other) };
        hits.push(under_one_id(u, a, b));
        RuleOutcome::Found
    }
}

/// Whether two calls that met show that one may have got the other's answer.
fn told(transport: Transport, a: &Call, b: &Call) -> bool {
    let (earlier, later) = if a.begun <= b.begun { (a, b) } else { (b, a) };
    match transport {
        // All answers come the same way.
        Transport::WebSocket => a.answered || b.answered,
        Transport::StreamableHttp | Transport::HttpSse => !earlier.answered && later.answered,
    }
}

/// Where the two began at one time, `a` was told first.
fn under_one_id(u: &McpUse<'_>, a: &Call, b: &Call) -> Hit {
    let (earlier, later) = if a.begun <= b.begun { (a, b) } else { (b, a) };
    let (owner, by): (Attribution, Attribution) = (earlier.past.by, later.past.by);
    let step = |c: &Call| Step { at: c.begun, ..c.past.step("call") };
    let words = if earlier.answered {
        "both were under way under one id in one session; an answer names nothing but the id"
    } else {
        "both were under way under one id in one session; the earlier was never answered"
    };
    let steps = smallvec![step(earlier), step(later), u.remark("id", Detail::Words(words))];
    let hit = u.hit(&INFO, Severity::High, Some(by), by.class.min(owner.class), steps);
    let corroborated = (by.corroborated() && owner.corroborated()).then_some(by.bases);
    Hit { subject: u.exchange.name, bound: Some(owner.tenant), corroborated, ..hit }
}

impl Rule for ResponseDesync {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.given, &mut self.calls, &mut self.early])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        match event {
            RuleEvent::Desync(d) => out_of_step(d, hits),
            RuleEvent::Mcp(u) => match (self.crossed(u, hits), self.doubled(u, hits)) {
                (RuleOutcome::Found, _) | (_, RuleOutcome::Found) => RuleOutcome::Found,
                (RuleOutcome::Clear, other) | (other, _) => other,
            },
            _ => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        // An answer that was missed ends a call, and its id may be used again.
        match (hit.severity, hit.bound, hit.site.service, hit.steps.first()) {
            (Severity::High, Some(_), Some(service), Some(first)) => {
                smallvec![Unseen { place: Where::Service(service), since: first.at }]
            }
            _ => SmallVec::new(),
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
            (Severity::High, Some(_), Some(_)) => format!(
                "Calls for {} and for {} were under way under one id in one session: either may have got the other's answer.",
                world.tenant(hit.bound),
                world.tenant(hit.used)
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
            RuleOutcome::Insufficient("seen once")
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

    const SESSION: Fingerprint = Fingerprint(9);

    fn under(begun: u64, ended: u64, transport: Transport, answered: Answered) -> Exchange {
        let (begun, ended) = (Nanos(begun), Nanos(ended));
        Exchange { begun, ended, transport, answered, session: Some(SESSION), ..call(1) }
    }

    fn both(a: &Exchange, b: &Exchange) -> Vec<Hit> {
        let mut rule = ResponseDesync::default();
        let mut hits = run_mcp(&mut rule, a, by_label(A)).0;
        hits.extend(run_mcp(&mut rule, b, by_label(B)).0);
        hits
    }

    #[test]
    fn positive_one_id_for_two_at_once() {
        use Transport::{HttpSse, StreamableHttp, WebSocket};
        // The later has its own stream and was answered, the earlier has not.
        let (a, b) =
            (under(10, 90, StreamableHttp, Answered::Unknown), under(20, 30, StreamableHttp, Answered::Result));
        let mut rule = ResponseDesync::default();
        assert!(run_mcp(&mut rule, &b, by_label(B)).0.is_empty());
        let hits = run_mcp(&mut rule, &a, by_label(A)).0;
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(B), Some(A)));
        // One stream for both.
        let of = |begun, ended| under(begun, ended, WebSocket, Answered::Result);
        assert_eq!(both(&of(10, 30), &of(20, 40))[0].bound, Some(A));
        let mut rule = ResponseDesync::default();
        for (begun, by) in [(10, A), (20, B)] {
            assert!(
                run_mcp(&mut rule, &under(begun, begun + 1, HttpSse, Answered::Accepted), by_label(by)).0.is_empty()
            );
        }
        let sender = Some(crate::model::mcp::Sender::default());
        let answer = Exchange { sender, ..under(10, 30, HttpSse, Answered::Result) };
        let hits = run_mcp(&mut rule, &answer, Answer::Unknown).0;
        assert_eq!((hits[0].used, hits[0].bound), (Some(B), Some(A)));
        let rests =
            with_settings(&[shared_service()], crate::model::Settings::default(), |w| rule.rests_on(&hits[0], w));
        assert_eq!(rests[0], Unseen { place: Where::Service(ServiceId(0)), since: Nanos(10) });
    }

    #[test]
    fn near_miss_each_is_answered_on_its_own_or_one_after_the_other() {
        use Transport::{StreamableHttp, WebSocket};
        let of = |begun, ended, answered| under(begun, ended, StreamableHttp, answered);
        assert!(both(&of(10, 30, Answered::Result), &of(20, 40, Answered::Result)).is_empty());
        assert!(both(&of(10, 15, Answered::Unknown), &of(20, 40, Answered::Result)).is_empty());
        assert!(both(&of(20, 40, Answered::Unknown), &of(10, 30, Answered::Result)).is_empty(), "the later gave up");
        let of = |begun, ended| under(begun, ended, WebSocket, Answered::Result);
        assert!(both(&of(10, 15), &of(20, 40)).is_empty());
        assert!(both(&of(10, 30), &Exchange { session: Some(Fingerprint(8)), ..of(20, 40) }).is_empty());
        assert!(both(&of(10, 30), &Exchange { id: Some(Fingerprint(2)), ..of(20, 40) }).is_empty());
        // Answered before it was accepted, and then another's.
        let mut rule = ResponseDesync::default();
        let sender = Some(crate::model::mcp::Sender::default());
        let of = |begun, ended, answered| under(begun, ended, Transport::HttpSse, answered);
        for (begun, by) in [(10, A), (50, B)] {
            let answer = Exchange { sender, ..of(begun, begun + 1, Answered::Result) };
            assert!(run_mcp(&mut rule, &answer, by_label(by)).0.is_empty());
            assert!(run_mcp(&mut rule, &of(begun, begun + 2, Answered::Accepted), by_label(by)).0.is_empty());
        }
    }

    #[test]
    fn lossy_for_whom_one_of_the_two_was_is_not_known() {
        let mut rule = ResponseDesync::default();
        let of = |begun, ended| under(begun, ended, Transport::WebSocket, Answered::Result);
        run_mcp(&mut rule, &of(10, 30), by_label(A));
        let (hits, outcome) = run_mcp(&mut rule, &of(20, 40), Answer::Several);
        assert!(hits.is_empty());
        assert_eq!(outcome, RuleOutcome::Insufficient("no tenant"));
    }

    #[test]
    fn lossy_whose_call_was_never_answered_is_not_known() {
        let mut rule = ResponseDesync::default();
        let got = Exchange { handles_given: smallvec![WANTED], ..call(1) };
        run_mcp(&mut rule, &got, by_label(B));
        let waits = Exchange { handles_used: smallvec![WANTED], answered: Answered::Unknown, ..call(1) };
        let (hits, outcome) = run_mcp(&mut rule, &waits, Answer::Unknown);
        assert!(hits.is_empty());
        assert_eq!(outcome, RuleOutcome::Insufficient("no tenant"));
    }
}
