//! Rule: `retry-budget-exceeded`.
//!
//! One tenant's retries take more than their share of a service, and another tenant's calls get slow: a retry storm
//! crosses the border that nothing else crosses. On a queue, a retry is a message that is handed out again, and to be
//! slow is to lie in the queue.
//!
//! Source: `docs/domain.md#retries`.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::smallvec;

use crate::detect::recent::Recent;
use crate::detect::{
    Detail, Handed, Hit, McpUse, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Site, Step, World, tables,
};
use crate::model::mcp::Answered;
use crate::model::{Attribution, EvidenceClass, Fingerprint, Nanos, ServiceId, Severity, Sym, TenantId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "retry-budget-exceeded",
    severity: Severity::Medium,
    needs: "calls in clear text with their arguments and answers, the tenants of both, and a minute before it of the \
            slower tenant's",
    why: "A tenant's retries are more than a tenth of all calls of the service, and meanwhile another tenant waits at \
          least twice as long as before. Nothing keeps one tenant's failures from being everybody's.",
    remediation: "Give each tenant a budget of retries and a queue of its own; back off with jitter; refuse early (429) \
                  beyond the budget.",
    source: "[Retries](domain.md#retries)",
};

/// Length of the window that is judged.
const WINDOW: Nanos = Nanos::secs(60);
/// Fewest retries in a window.
const RETRIES: u64 = 30;
/// One in so many calls may be a retry.
const SHARE: u64 = 10;
/// Fewest calls of a tenant in a window whose latency means something.
const ENOUGH: u64 = 5;
/// So many times its baseline is slow.
const SLOWER: u64 = 2;
/// Most calls remembered, to know their retries by.
const MAX_CALLS: usize = 32_768;
/// Most pairs of service and tenant counted; the rest counts as nobody's.
const MAX_TENANTS: usize = 8_192;

/// A tenant's calls of a service in this window.
#[derive(Clone, Copy, Debug)]
struct Load {
    class: EvidenceClass,
    /// On a queue that they share.
    queue: bool,
    /// Its retries.
    retries: u64,
    /// Calls that were done, and how long they took.
    n_done: u64,
    took: u64,
}

impl Load {
    fn mean(&self) -> Option<u64> {
        (self.n_done >= ENOUGH).then(|| self.took / self.n_done)
    }
}

/// The rule: this window's calls, and what latency was before.
#[derive(Debug)]
pub struct RetryBudgetExceeded {
    /// The latest call of each kind: when it ended, and whether it had a result.
    calls: Recent<(ServiceId, TenantId, Sym, Fingerprint), (Nanos, bool)>,
    window: Option<Nanos>,
    loads: FxHashMap<(ServiceId, TenantId), Load>,
    all: FxHashMap<ServiceId, u64>,
    /// Mean latency in quiet windows, in nanoseconds.
    baseline: Recent<(ServiceId, TenantId), u64>,
}

impl Default for RetryBudgetExceeded {
    fn default() -> Self {
        Self {
            calls: Recent::new(MAX_CALLS),
            window: None,
            loads: FxHashMap::default(),
            all: FxHashMap::default(),
            baseline: Recent::new(MAX_TENANTS),
        }
    }
}

impl RetryBudgetExceeded {
    fn count(&mut self, u: &McpUse<'_>, service: ServiceId, by: Attribution) {
        let e = u.exchange;
        let retried = e.arguments.filter(|_| !e.continues).is_some_and(|arguments| {
            let key = (service, by.tenant, e.name, arguments);
            let before = self.calls.get(&key).copied();
            self.calls.insert(key, (e.ended, e.answered == Answered::Result || e.answered.is_unread()));
            // The same again after a success is another call, unless it did not wait for it.
            before.is_some_and(|(ended, done)| e.begun.since(ended) < WINDOW && (!done || e.begun < ended))
        });
        if self.loads.len() >= MAX_TENANTS && !self.loads.contains_key(&(service, by.tenant)) {
            return;
        }
        let new = Load { class: by.class, queue: false, retries: 0, n_done: 0, took: 0 };
        let load = self.loads.entry((service, by.tenant)).or_insert(new);
        load.class = load.class.min(by.class);
        load.retries += u64::from(retried);
        if e.answered.is_success() {
            load.n_done += 1;
            load.took = load.took.saturating_add(e.ended.since(e.begun).0);
        }
    }

    /// A message was handed out.
    fn handed(&mut self, h: &Handed, service: ServiceId, by: Attribution) {
        if self.loads.len() >= MAX_TENANTS && !self.loads.contains_key(&(service, by.tenant)) {
            return;
        }
        let new = Load { class: by.class, queue: true, retries: 0, n_done: 0, took: 0 };
        let load = self.loads.entry((service, by.tenant)).or_insert(new);
        load.class = load.class.min(by.class);
        load.retries += u64::from(h.again);
        if let Some(waited) = h.waited.filter(|_| !h.again) {
            load.n_done += 1;
            load.took = load.took.saturating_add(waited.0);
        }
    }

    /// Judges the window that is over.
    fn judge(&mut self, now: Nanos, hits: &mut Vec<Hit>) {
        let mut stormy: FxHashSet<ServiceId> = FxHashSet::default();
        for (&(service, tenant), load) in &self.loads {
            let all = self.all.get(&service).copied().unwrap_or(0);
            if load.retries < RETRIES || load.retries.saturating_mul(SHARE) < all {
                continue;
            }
            stormy.insert(service);
            hits.extend(self.slowed(service, tenant).map(|(other, class, before, mean)| {
                let step = |tenant, detail| Step { at: now, what: "load", detail, tenant: Some(tenant), basis: None };
                Hit {
                    rule: INFO.id,
                    severity: if load.queue { Severity::High } else { Severity::Medium },
                    class: class.min(load.class),
                    corroborated: None,
                    at: now,
                    site: Site { service: Some(service), workload: None, flow: None },
                    subject: Sym::EMPTY,
                    used: Some(tenant),
                    bound: Some(other),
                    steps: smallvec![
                        step(tenant, Detail::Amount(load.retries, "retries in a minute")),
                        step(other, Detail::Amount(before / 1_000, "microseconds a call before")),
                        step(other, Detail::Amount(mean / 1_000, "microseconds a call meanwhile")),
                    ],
                }
            }));
        }
        for (&(service, tenant), load) in &self.loads {
            if let Some(mean) = load.mean().filter(|_| !stormy.contains(&service)) {
                let before = self.baseline.get(&(service, tenant)).copied().unwrap_or(mean);
                self.baseline.insert((service, tenant), before / 4 * 3 + mean / 4);
            }
        }
        self.loads.clear();
        self.all.clear();
    }

    /// The tenant that was slowed most: how well it is known, its latency before and now.
    fn slowed(&self, service: ServiceId, by: TenantId) -> Option<(TenantId, EvidenceClass, u64, u64)> {
        let others = self.loads.iter().filter(|((s, t), _)| *s == service && *t != by);
        others
            .filter_map(|(&(_, t), load)| {
                let (before, mean) = (*self.baseline.get(&(service, t))?, load.mean()?);
                (mean >= before.saturating_mul(SLOWER)).then_some((t, load.class, before, mean))
            })
            .max_by_key(|(t, _, before, mean)| (mean / before.max(&1), *t))
    }

    fn pass(&mut self, now: Nanos, hits: &mut Vec<Hit>) {
        let begun = *self.window.get_or_insert(now);
        if now.since(begun) >= WINDOW {
            self.judge(now, hits);
            self.window = Some(now);
        }
    }
}

impl Rule for RetryBudgetExceeded {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.calls, &mut self.loads, &mut self.all, &mut self.baseline])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let before = hits.len();
        let mut outcome = RuleOutcome::Clear;
        match event {
            RuleEvent::Mcp(u) if u.is_data() => {
                let Some(service) = u.site.service else { return RuleOutcome::Clear };
                self.pass(u.exchange.ended, hits);
                // It comes once more with its answer; until then it may be anything.
                if u.exchange.answered == Answered::Accepted {
                    return if hits.len() > before {
                        RuleOutcome::Found
                    } else {
                        RuleOutcome::Insufficient("answer not seen")
                    };
                }
                *self.all.entry(service).or_default() += 1;
                match u.whom() {
                    Some(by) => self.count(u, service, by),
                    None => outcome = RuleOutcome::Insufficient("no tenant"),
                }
            }
            RuleEvent::Handed(h) => {
                let Some(service) = h.site.service else { return RuleOutcome::Clear };
                self.pass(h.at, hits);
                *self.all.entry(service).or_default() += 1;
                match h.origin {
                    Some(by) => self.handed(h, service, by),
                    None => outcome = RuleOutcome::Insufficient("producer not known"),
                }
            }
            RuleEvent::Tick(now) => self.pass(*now, hits),
            RuleEvent::End(now) => self.judge(*now, hits),
            _ => {}
        }
        if hits.len() > before { RuleOutcome::Found } else { outcome }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, other) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!(
            "{used}'s retries are more than a tenth of all calls, while {other}'s calls take at least twice as long."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::detect::testing_mcp::*;
    use crate::model::Answer;
    use crate::model::mcp::Exchange;

    fn taking(second: u64, millis: u64, answered: Answered) -> Exchange {
        from(Nanos::secs(second), millis, answered)
    }

    fn from(begun: Nanos, millis: u64, answered: Answered) -> Exchange {
        let ended = Nanos(begun.0 + Nanos::millis(millis).0);
        Exchange { begun, ended, answered, arguments: Some(Fingerprint(1)), ..call(0, SEND) }
    }

    fn quiet_minute(rule: &mut RetryBudgetExceeded) {
        for second in 1..20 {
            let e = Exchange { arguments: Some(Fingerprint(second)), ..taking(second, 10, Answered::Result) };
            assert!(see(rule, &e, by_label(B)).is_empty());
        }
        assert!(run_event(rule, &RuleEvent::Tick(Nanos::secs(70))).is_empty());
    }

    /// A's calls fail and come again `n` times; B's take so long.
    fn storm(rule: &mut RetryBudgetExceeded, n: u64, millis: u64, answered: Answered, by: Answer) -> Vec<Hit> {
        for i in 0..n {
            assert!(see(rule, &from(Nanos::millis(75_000 + 100 * i), 5, answered), by).is_empty());
        }
        for second in 80..90 {
            assert!(see(rule, &taking(second, millis, Answered::Result), by_label(B)).is_empty());
        }
        run_event(rule, &RuleEvent::Tick(Nanos::secs(140)))
    }

    #[test]
    fn positive_a_storm_that_slows_another() {
        let mut rule = RetryBudgetExceeded::default();
        quiet_minute(&mut rule);
        let hits = storm(&mut rule, 50, 30, Answered::Status(503), by_label(A));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Medium, Some(A), Some(B)));
    }

    #[test]
    fn near_miss_within_the_budget_or_nobody_slowed_or_no_retries() {
        for (n, millis, answered) in
            [(20, 30, Answered::Status(503)), (50, 15, Answered::Status(503)), (50, 30, Answered::Result)]
        {
            let mut rule = RetryBudgetExceeded::default();
            quiet_minute(&mut rule);
            assert!(storm(&mut rule, n, millis, answered, by_label(A)).is_empty(), "{n} {millis} {answered:?}");
        }
    }

    fn message(at: Nanos, origin: TenantId, again: bool, waited: u64) -> Handed {
        let waited = Some(Nanos::millis(waited));
        Handed { at, again, waited, ..handed_to(A, Some(origin)) }
    }

    /// A's messages come back `n` times; B's wait so long.
    fn queue_storm(n: u64, waited: u64) -> Vec<Hit> {
        let mut rule = RetryBudgetExceeded::default();
        for second in 1..20 {
            let h = message(Nanos::secs(second), B, false, 10);
            assert!(run_event(&mut rule, &RuleEvent::Handed(&h)).is_empty());
        }
        assert!(run_event(&mut rule, &RuleEvent::Tick(Nanos::secs(70))).is_empty());
        for i in 0..n {
            run_event(&mut rule, &RuleEvent::Handed(&message(Nanos::millis(75_000 + 100 * i), A, true, 10)));
        }
        for second in 80..90 {
            run_event(&mut rule, &RuleEvent::Handed(&message(Nanos::secs(second), B, false, waited)));
        }
        run_event(&mut rule, &RuleEvent::Tick(Nanos::secs(140)))
    }

    #[test]
    fn positive_a_queue_full_of_one_tenants_retries() {
        let hits = queue_storm(50, 300);
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::High, Some(A), Some(B)));
    }

    #[test]
    fn near_miss_a_few_come_back_or_nobody_waits() {
        assert!(queue_storm(20, 300).is_empty());
        assert!(queue_storm(50, 15).is_empty());
    }

    #[test]
    fn lossy_no_baseline_or_nobody_known() {
        let mut rule = RetryBudgetExceeded::default();
        assert!(run_event(&mut rule, &RuleEvent::Tick(Nanos::secs(70))).is_empty());
        assert!(storm(&mut rule, 50, 30, Answered::Status(503), by_label(A)).is_empty(), "nothing to compare with");
        let mut rule = RetryBudgetExceeded::default();
        quiet_minute(&mut rule);
        let unknown = taking(71, 5, Answered::Status(503));
        assert_eq!(judged(&mut rule, &unknown, Answer::Several), RuleOutcome::Insufficient("no tenant"));
        assert!(storm(&mut rule, 50, 30, Answered::Status(503), Answer::Several).is_empty());
        let mut rule = RetryBudgetExceeded::default();
        quiet_minute(&mut rule);
        let elsewhere = taking(71, 5, Answered::Accepted);
        assert_eq!(judged(&mut rule, &elsewhere, by_label(A)), RuleOutcome::Insufficient("answer not seen"));
        assert!(storm(&mut rule, 50, 30, Answered::Accepted, by_label(A)).is_empty());
    }
}
