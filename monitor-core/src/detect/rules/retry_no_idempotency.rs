//! Rule: `retry-no-idempotency`.
//!
//! The same call came twice, and nothing in it lets the server know that it is the same: two charges, two messages.
//! Clients of revision 2026-07-28 must send a request whose stream broke again under a new id, and MCP has no key.
//!
//! A job that is delivered again is done again: the same message, and the same insert or call for it.
//!
//! Also: one key used by two tenants, where the server may take the second one's call for the first one's.
//!
//! Source: `docs/domain.md#retries`.

use smallvec::{SmallVec, smallvec};

use crate::detect::caller::Past;
use crate::detect::recent::Recent;
use crate::detect::{
    Detail, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, Use, World, tables,
};
use crate::model::mcp::{Answered, Method};
use crate::model::queue::JobWork;
use crate::model::{Fingerprint, Nanos, Outcome as Ending, ServiceId, Severity, Sym, TenantId, Unseen, Where};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "retry-no-idempotency",
    severity: Severity::Medium,
    needs: "tools/call in clear text with its whole arguments and answer, and the tenant; the tools' annotations from \
            tools/list",
    why: "A call that changes something came again with the same arguments and no idempotency key. If the first one was \
          done, so was the second.",
    remediation: "Send a key with every call that changes something (Idempotency-Key, or an argument), made from tenant \
                  and task, and let the server do each key once. Annotate tools that only read, or are idempotent.",
    source: "[Retries](domain.md#retries)",
};

/// The step that tells when the annotations were seen.
const ANNOTATED: &str = "list";
/// How long two equal calls are taken for one and its retry.
const WITHIN: Nanos = Nanos::secs(600);
/// Most calls remembered.
const MAX_CALLS: usize = 32_768;
/// Most tools whose annotations are remembered, and most keys.
const MAX_TOOLS: usize = 16_384;

#[derive(Clone, Copy, Debug)]
struct First {
    past: Past,
    begun: Nanos,
    answered: Answered,
}

/// The rule: the latest call of each kind.
#[derive(Debug)]
pub struct RetryNoIdempotency {
    calls: Recent<(ServiceId, TenantId, Sym, Fingerprint), First>,
    /// Tools of which a list was seen: whether they may be called twice, and when.
    harmless: Recent<(ServiceId, Sym), (bool, Nanos)>,
    keys: Recent<(ServiceId, Fingerprint), Past>,
    /// Side effects of jobs: by broker, message, and kind of effect.
    effects: Recent<(ServiceId, Fingerprint, Sym, Sym), JobWork>,
}

impl Default for RetryNoIdempotency {
    fn default() -> Self {
        Self {
            calls: Recent::new(MAX_CALLS),
            harmless: Recent::new(MAX_TOOLS),
            keys: Recent::new(MAX_TOOLS),
            effects: Recent::new(MAX_CALLS),
        }
    }
}

/// The server certainly did not do it.
fn was_refused(answered: Answered) -> bool {
    // Parse error and invalid request (JSON-RPC 2.0), and whatever HTTP says is the client's fault.
    answered.is_refused() || matches!(answered, Answered::RpcError(-32700 | -32600) | Answered::Status(400..=499))
}

/// Whether a tool's name says that it only reads: most servers annotate nothing, and to read twice is no harm.
fn says_it_reads(name: &str) -> bool {
    let first = name.split(|c: char| !c.is_ascii_alphabetic()).find(|w| !w.is_empty()).unwrap_or_default();
    let camel = first.find(|c: char| c.is_ascii_uppercase()).filter(|at| *at > 0);
    let verb = first.get(..camel.unwrap_or(first.len())).unwrap_or(first);
    ["get", "list", "search", "read", "query", "find", "fetch", "show", "describe", "lookup", "count", "view", "status"]
        .iter()
        .any(|v| verb.eq_ignore_ascii_case(v))
}

impl RetryNoIdempotency {
    /// A key that another tenant has used.
    fn shared_key(&mut self, u: &McpUse<'_>, service: ServiceId, key: Fingerprint) -> Option<Hit> {
        let by = u.whom()?;
        if !u.exchange.answered.is_done() {
            return None;
        }
        let first = *self.keys.entry((service, key), || Past::of(u, by))?;
        let mut hit =
            (first.by.tenant != by.tenant).then(|| u.crossing(&INFO, Severity::High, by, &first, ("call", "call")))?;
        hit.steps.push(u.remark("key", Detail::Words("the same idempotency key on both")));
        Some(Hit { subject: u.exchange.name, ..hit })
    }

    fn call(&mut self, u: &McpUse<'_>, service: ServiceId, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let e = u.exchange;
        if let Some(key) = e.idempotency {
            let Some(hit) = self.shared_key(u, service, key) else { return RuleOutcome::Clear };
            hits.push(hit);
            return RuleOutcome::Found;
        }
        // The server asked for more: the same call goes on.
        if e.continues {
            return RuleOutcome::Clear;
        }
        let annotated = self.harmless.get(&(service, e.name)).copied();
        if annotated.is_some_and(|(harmless, _)| harmless) {
            return RuleOutcome::Clear;
        }
        let Some(by) = u.whom() else { return RuleOutcome::Insufficient("no tenant") };
        if e.name == Sym::EMPTY || e.name == Sym::OTHER {
            return RuleOutcome::Insufficient("name of the tool not known");
        }
        let Some(arguments) = e.arguments else { return RuleOutcome::Insufficient("arguments not whole") };
        let key = (service, by.tenant, e.name, arguments);
        let first = self.calls.get(&key).copied();
        self.calls.insert(key, First { past: Past::of(u, by), begun: e.begun, answered: e.answered });
        let Some(first) = first.filter(|f| e.begun.since(f.begun) <= WITHIN && !was_refused(f.answered)) else {
            return RuleOutcome::Clear;
        };
        if was_refused(e.answered) || says_it_reads(world.names.exact(e.name)) {
            return RuleOutcome::Clear;
        }
        if !u.is_answered() {
            return RuleOutcome::Insufficient("answer not seen");
        }
        let both = first.answered == Answered::Result && e.answered == Answered::Result;
        let severity = if both && annotated.is_some() { Severity::High } else { Severity::Medium };
        let words = match annotated {
            Some(_) => "no key; the tool is neither read-only nor idempotent by its annotations",
            None => "no key; the tool's annotations were not seen",
        };
        let mut steps =
            smallvec![first.past.step("call"), u.step("again", Some(by)), u.remark("key", Detail::Words(words))];
        if let Some((_, at)) = annotated {
            steps
                .insert(0, Step { at, ..u.remark(ANNOTATED, Detail::Words("the tool's annotations, as last listed")) });
        }
        let hit = u.hit(&INFO, severity, Some(by), by.class.min(first.past.by.class), steps);
        let corroborated = (by.corroborated() && first.past.by.corroborated()).then_some(by.bases);
        hits.push(Hit { subject: e.name, corroborated, ..hit });
        RuleOutcome::Found
    }
}

/// Whether an operation done twice is likely to be two: what adds, not what sets.
fn adds(verb: &str) -> bool {
    ["INSERT", "POST", "COPY", "CALL"].iter().any(|v| verb.eq_ignore_ascii_case(v))
}

impl RetryNoIdempotency {
    /// Work on a job whose message may have come before.
    fn job(&mut self, u: &Use, work: &JobWork, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        if work.job.keyed || !adds(world.names.exact(u.verb)) || u.site.service == Some(work.job.service) {
            return RuleOutcome::Clear;
        }
        let Some(id) = work.job.id else { return RuleOutcome::Insufficient("message not known again") };
        // What was refused was not done.
        if u.ending == Ending::Unknown {
            return RuleOutcome::Insufficient("answer not seen");
        }
        let key = (work.job.service, id, u.verb, u.target);
        let Some(first) = self.effects.get(&key).copied() else {
            self.effects.insert(key, *work);
            return RuleOutcome::Clear;
        };
        if first.key == work.key || !work.job.again || first.tenant != work.tenant {
            return RuleOutcome::Clear;
        }
        self.effects.insert(key, *work);
        let delivered = |w: &JobWork, what| Step {
            at: w.job.at,
            what,
            detail: Detail::Operation(w.job.verb, w.job.queue),
            tenant: Some(w.tenant),
            basis: Some(w.basis),
        };
        hits.push(Hit {
            rule: INFO.id,
            severity: Severity::Medium,
            class: work.class.min(first.class),
            corroborated: None,
            at: u.at,
            site: u.site,
            subject: work.job.queue,
            used: Some(work.tenant),
            bound: None,
            steps: smallvec![delivered(&first, "deliver"), delivered(work, "again"), Step::of_use(u)],
        });
        RuleOutcome::Found
    }
}

impl Rule for RetryNoIdempotency {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.calls, &mut self.harmless, &mut self.keys, &mut self.effects])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let u = match event {
            RuleEvent::Mcp(u) => u,
            RuleEvent::Use(u) => {
                return match &u.job {
                    Some(work) => self.job(u, work, world, hits),
                    None => RuleOutcome::Clear,
                };
            }
            _ => return RuleOutcome::Clear,
        };
        let Some(service) = u.site.service else { return RuleOutcome::Clear };
        match (&u.exchange.tools, u.exchange.method) {
            (Some(page), _) => {
                for tool in &page.tools {
                    let harmless = tool.read_only || tool.idempotent;
                    self.harmless.insert((service, tool.name), (harmless, u.exchange.ended));
                }
                RuleOutcome::Clear
            }
            (None, Method::ToolsCall) => self.call(u, service, world, hits),
            _ => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let (Some(service), Some(tenant)) = (hit.site.service, hit.used) else { return SmallVec::new() };
        let Some(first) = hit.steps.first().filter(|s| hit.bound.is_none() && s.what != "deliver") else {
            return SmallVec::new();
        };
        // The tool's annotations may have been listed, or listed anew.
        let listed = if first.what == ANNOTATED { first.at } else { Nanos(0) };
        let mut out: SmallVec<[Unseen; 2]> = smallvec![Unseen { place: Where::Service(service), since: listed }];
        // Whether a call was refused is not known if its answer was missed; a stream that broke off is another matter.
        if let Some(call) = hit.steps.iter().find(|s| s.what == "call").filter(|_| hit.severity < Severity::High) {
            out.push(Unseen { place: Where::ServedTo(service, tenant), since: call.at });
        }
        out
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, tool) = (world.tenant(hit.used), world.names.name(hit.subject));
        if hit.bound.is_some() {
            let other = world.tenant(hit.bound);
            return format!(
                "{used} called {tool} with an idempotency key that {other} had used: keys are not the \
                            tenant's own."
            );
        }
        if hit.steps.first().is_some_and(|s| s.what == "deliver") {
            return format!(
                "A job of {used} on {tool} was delivered again and its side effect done again; the message has no key."
            );
        }
        let times = if hit.severity == Severity::High { "and the server did it twice" } else { "" };
        let sentence = format!("{used} called {tool} again with the same arguments and no idempotency key {times}");
        format!("{}.", sentence.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::mcp::{Exchange, Tool};
    use crate::model::queue::Job;
    use crate::model::{Answer, Basis, ConnId, EvidenceClass, RequestNo, Verdict};

    fn sending(second: u64) -> Exchange {
        Exchange { arguments: Some(Fingerprint(3)), ..call(second, SEND) }
    }

    fn listed(t: Tool) -> RetryNoIdempotency {
        let mut rule = RetryNoIdempotency::default();
        assert!(see(&mut rule, &list(0, &[t]), by_label(A)).is_empty());
        rule
    }

    fn twice(mut rule: RetryNoIdempotency, first: &Exchange, second: &Exchange) -> Vec<Hit> {
        assert!(see(&mut rule, first, by_label(A)).is_empty());
        see(&mut rule, second, by_label(A))
    }

    #[test]
    fn positive_done_twice_or_perhaps() {
        let hits = twice(listed(tool(SEND, 1)), &sending(1), &sending(60));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].subject), (Severity::High, Some(A), SEND));
        // Its stream broke: nobody knows whether it was done.
        let broken = Exchange { answered: Answered::Unknown, ..sending(1) };
        assert_eq!(twice(listed(tool(SEND, 1)), &broken, &sending(2))[0].severity, Severity::Medium);
        let hits = twice(RetryNoIdempotency::default(), &sending(1), &sending(2));
        assert_eq!(hits[0].severity, Severity::Medium, "annotations not seen");
    }

    #[test]
    fn positive_one_key_for_two_tenants() {
        let mut rule = RetryNoIdempotency::default();
        let keyed = Exchange { idempotency: Some(Fingerprint(8)), ..sending(1) };
        assert!(see(&mut rule, &keyed, by_label(A)).is_empty());
        let hits = see(&mut rule, &keyed, by_label(B));
        assert_eq!((hits[0].severity, hits[0].bound), (Severity::High, Some(A)));
    }

    /// An insert for the message `id`, delivered for the `n`th time.
    fn done(n: u64, id: u64, keyed: bool) -> Use {
        let job = Job {
            service: ServiceId(9),
            queue: READ,
            verb: CALL,
            at: Nanos(n),
            id: Some(Fingerprint(id)),
            again: n > 1,
            keyed,
        };
        let key = (ConnId(1), RequestNo::Delivery(n));
        let job = JobWork { key, job, tenant: B, basis: Basis::Bracketed, class: EvidenceClass::Endpoint };
        Use { verb: INSERT, job: Some(job), ..a_use(Verdict::Revalidated) }
    }

    #[test]
    fn positive_a_job_delivered_again_and_done_again() {
        let mut rule = RetryNoIdempotency::default();
        assert!(run(&mut rule, &done(1, 7, false)).is_empty());
        assert!(run(&mut rule, &done(1, 7, false)).is_empty(), "two inserts of one delivery");
        let hits = run(&mut rule, &done(2, 7, false));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].subject), (Severity::Medium, Some(B), READ));
    }

    #[test]
    fn near_miss_another_message_or_a_key_or_a_read() {
        for (first, second) in [
            (done(1, 7, false), done(2, 8, false)),
            (done(1, 7, true), done(2, 7, true)),
            (Use { verb: SELECT, ..done(1, 7, false) }, Use { verb: SELECT, ..done(2, 7, false) }),
        ] {
            let mut rule = RetryNoIdempotency::default();
            assert!(run(&mut rule, &first).is_empty());
            assert!(run(&mut rule, &second).is_empty());
        }
    }

    #[test]
    fn near_miss_a_key_or_harmless_or_refused_or_another_call() {
        let strict = || listed(tool(SEND, 1));
        let keyed = Exchange { idempotency: Some(Fingerprint(8)), ..sending(2) };
        assert!(twice(strict(), &sending(1), &keyed).is_empty());
        assert!(twice(listed(Tool { idempotent: true, ..tool(SEND, 1) }), &sending(1), &sending(2)).is_empty());
        assert!(twice(listed(Tool { read_only: true, ..tool(SEND, 1) }), &sending(1), &sending(2)).is_empty());
        for answered in [Answered::Status(429), Answered::Status(401), Answered::RpcError(-32602)] {
            let refused = Exchange { answered, ..sending(1) };
            assert!(twice(strict(), &refused, &sending(2)).is_empty());
        }
        assert!(twice(strict(), &sending(1), &Exchange { continues: true, ..sending(2) }).is_empty());
        assert!(twice(strict(), &sending(1), &sending(700)).is_empty());
        let other = Exchange { arguments: Some(Fingerprint(4)), ..sending(2) };
        assert!(twice(strict(), &sending(1), &other).is_empty());
        // Another tenant's equal call is its own.
        let mut rule = strict();
        see(&mut rule, &sending(1), by_label(A));
        assert!(see(&mut rule, &sending(2), by_label(B)).is_empty());
        // To read twice is no harm.
        let reading = |second| Exchange { name: READ, ..sending(second) };
        assert!(twice(strict(), &reading(1), &reading(2)).is_empty());
    }

    #[test]
    fn near_miss_names_that_say_that_they_read() {
        for name in ["get_order", "listOrders", "search", "read-file", "Fetch.url"] {
            assert!(says_it_reads(name), "{name}");
        }
        for name in ["send_email", "getaway_book", "charge", "listen", "", "update_status"] {
            assert!(!says_it_reads(name), "{name}");
        }
    }

    #[test]
    fn lossy_nobody_known_or_cut_or_unanswered() {
        let mut rule = listed(tool(SEND, 1));
        see(&mut rule, &sending(1), by_label(A));
        assert_eq!(judged(&mut rule, &sending(2), Answer::Several), RuleOutcome::Insufficient("no tenant"));
        let cut = Exchange { arguments: None, ..sending(2) };
        assert_eq!(judged(&mut rule, &cut, by_label(A)), RuleOutcome::Insufficient("arguments not whole"));
        for answered in [Answered::Unknown, Answered::Accepted] {
            let unknown = Exchange { answered, ..sending(2) };
            assert_eq!(judged(&mut rule, &unknown, by_label(A)), RuleOutcome::Insufficient("answer not seen"));
        }
    }
}
