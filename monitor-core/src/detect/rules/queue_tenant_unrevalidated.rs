//! Rule: `queue-tenant-unrevalidated`.
//!
//! A job of one tenant reached a process that works for several, and what that did for it was done without anything on
//! the wire that says again whose job it is: no binding acknowledged for the job's tenant, no request under its
//! credential, no policy asked about it. Or the process acted for another tenant than the job's. Or the job reached
//! another tenant's own consumer.
//!
//! What every worker tells every other, unconfirmed, is no job (heartbeats, gossip, orders to all), whatever library sends
//! it: each message reaches several consumers, and each of their tenants publishes there, too. And what is a job at all is
//! learned from the work that follows: a message that nobody confirms, from a address whose messages never led its consumer
//! to do anything anywhere else, has reached another tenant's consumer, but need be no more than housekeeping.
//!
//! Findings wait a little: work is judged connection by connection, and the proof may be on another one.
//!
//! Source: `docs/domain.md#queues-and-jobs`.

use std::collections::VecDeque;

use smallvec::{SmallVec, smallvec};

use crate::detect::recent::Recent;
use crate::detect::{
    Checked, Detail, Handed, Hit, Posted, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, Use, World, tables,
};
use crate::model::queue::JobWork;
use crate::model::{
    Answer, Attribution, Basis, Claim, EvidenceClass, Fingerprint, Nanos, RequestKey, ServiceId, Severity, Sym,
    TenantId, Unseen, Verdict, Where, WorkloadId,
};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "queue-tenant-unrevalidated",
    severity: Severity::High,
    needs: "the queue in clear text, the job's producer and its consumer on watched hosts, and what the consumer does for \
            the job at other services",
    why: "A worker did a tenant's job with nothing seen on the wire that re-validated whose job it is: what the previous \
          job left in its session decides whose data is touched.",
    remediation: "Sign tenant and resource into the job; let the worker verify it, and bind every connection to the job's \
                  tenant (or send its token) before it acts. Give each tenant's own consumers their own queue.",
    source: "[Queues and jobs](domain.md#queues-and-jobs); \
             [django-multitenant 213](https://github.com/citusdata/django-multitenant/issues/213)",
};

/// How long the proof may come later than the work that it covers.
const WAIT: Nanos = Nanos::millis(1_500);
/// A message that was published so long before a delivery may be the one that was delivered, if it looks the same.
const ALIKE: Nanos = Nanos::secs(60);
/// The step that tells of a delivery to the worker.
const DELIVERY: &str = "deliver";
/// Most jobs remembered.
const MAX_JOBS: usize = 16_384;
/// Most findings that wait.
const MAX_WAITING: usize = 1_024;

/// What a step says of a delivery that nobody confirms.
const TOLD: &str = "tell";
/// Where a delivery went.
const TO_ANOTHERS: &str = "to another tenant's own consumer";
/// How long a delivery that nobody confirms waits, until it has shown whether all workers get such messages.
const BROADCAST: Nanos = Nanos::secs(30);
/// How soon after a message the work on it begins to show.
const LEADS: Nanos = Nanos::secs(2);
/// Most addresses whose latest messages one consumer's work may have followed.
const MAX_LATEST: usize = 8;
/// Most addresses remembered, and most messages that reached somebody unconfirmed.
const MAX_ADDRESSES: usize = 4_096;
/// Most tenants, and most consumers of one message, told apart.
const MAX_TENANTS: usize = 8;

/// Who publishes to one address, and who is handed what is published there.
#[derive(Debug, Default)]
struct Talk {
    publishers: SmallVec<[TenantId; 2]>,
    consumers: SmallVec<[TenantId; 2]>,
    /// One message reached several consumers.
    to_several: bool,
}

impl Talk {
    /// Everybody is told by everybody.
    fn is_among_workers(&self) -> bool {
        self.to_several && self.publishers.len() > 1 && self.consumers.iter().all(|t| self.publishers.contains(t))
    }
}

fn add(tenants: &mut SmallVec<[TenantId; 2]>, tenant: TenantId) {
    if tenants.len() < MAX_TENANTS && !tenants.contains(&tenant) {
        tenants.push(tenant);
    }
}

/// What is known of the work on one job.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// When somebody first proved to work for the job's tenant.
    proved: Option<Nanos>,
    /// Something was asked, and it is not known about whom.
    unsure: bool,
    /// Found already.
    found: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    key: RequestKey,
    hit: Hit,
    /// It acted for another tenant: a proof for the job's own at any time takes it back.
    for_another: bool,
}

/// The rule: jobs lately worked on, and what is about to be told of them.
#[derive(Debug)]
pub struct QueueTenantUnrevalidated {
    jobs: Recent<RequestKey, Seen>,
    waiting: Vec<Waiting>,
    talks: Recent<Address, Talk>,
    /// Who was handed a message that nobody confirms.
    handed: Recent<(Address, Fingerprint), Option<WorkloadId>>,
    /// Deliveries of such messages to another tenant's consumer.
    unconfirmed: VecDeque<(Address, Hit)>,
    /// When each consumer was last handed one, and from where.
    latest: Recent<WorkloadId, SmallVec<[(Address, Nanos); 2]>>,
    /// Addresses whose messages a consumer's work has followed.
    followed: Recent<(Address, WorkloadId), ()>,
}

/// A broker, and where messages were published to.
type Address = (ServiceId, Fingerprint);

impl Default for QueueTenantUnrevalidated {
    fn default() -> Self {
        Self {
            jobs: Recent::new(MAX_JOBS),
            waiting: Vec::new(),
            talks: Recent::new(MAX_ADDRESSES),
            handed: Recent::new(MAX_ADDRESSES),
            unconfirmed: VecDeque::new(),
            latest: Recent::new(MAX_ADDRESSES),
            followed: Recent::new(MAX_ADDRESSES),
        }
    }
}

/// The delivery, as a step of evidence.
fn delivered(work: &JobWork) -> Step {
    Step {
        at: work.job.at,
        what: DELIVERY,
        detail: Detail::Operation(work.job.verb, work.job.queue),
        tenant: Some(work.tenant),
        basis: Some(work.basis),
    }
}

/// Whom the unit of work has bound its connection for, where a binding of its own names somebody.
fn acts_for(u: &Use) -> Option<Attribution> {
    u.answer.attribution().filter(|a| a.basis == Basis::Binding).or_else(|| {
        // The binding and the bracket contradict each other, so that nobody was named.
        let own = u.live.iter().filter(|l| l.bound.unit == u.unit);
        let mut named = own.filter_map(|l| match l.bound.claim {
            Claim::Tenant(t) => Some(t),
            _ => None,
        });
        let first = named.next()?;
        named.all(|t| t == first).then(|| Attribution::new(first, Basis::Binding))
    })
}

impl QueueTenantUnrevalidated {
    fn seen(&mut self, work: &JobWork) -> Option<&mut Seen> {
        self.jobs.entry(work.key, Seen::default)
    }

    /// A consumer does something: what it was lately handed elsewhere may have led to it.
    fn follows(&mut self, u: &Use) {
        let Some(worker) = u.site.workload else { return };
        let Some(latest) = self.latest.get(&worker) else { return };
        for (address, at) in latest {
            if u.site.service != Some(address.0) && *at <= u.at && u.at.since(*at) < LEADS {
                self.followed.insert((*address, worker), ());
            }
        }
    }

    fn worked(&mut self, u: &Use, work: &JobWork) -> RuleOutcome {
        // What is done at the broker is about the job.
        if u.site.service == Some(work.job.service) {
            return RuleOutcome::Clear;
        }
        let by = acts_for(u);
        if by.is_some_and(|a| a.tenant == work.tenant)
            || (u.ruling.verdict == Verdict::Revalidated && is_for(u.answer, work.tenant))
        {
            if let Some(seen) = self.seen(work) {
                seen.proved.get_or_insert(u.at);
            }
            return RuleOutcome::Clear;
        }
        let (severity, bound, words) = match (by, u.ruling.verdict) {
            // An inference that contradicts what the application has just said is wrong.
            (Some(_), _) if work.class == EvidenceClass::Inferred => {
                return RuleOutcome::Insufficient("a binding contradicts the job that was inferred");
            }
            (Some(a), _) => (Severity::Critical, Some(a.tenant), "the work was bound to another tenant than the job's"),
            (None, _) if !is_for(u.answer, work.tenant) => return RuleOutcome::Insufficient("no tenant"),
            (None, Verdict::StaleBound) => {
                (Severity::Critical, u.ruling.other, "the binding in force was another tenant's")
            }
            (None, Verdict::Unbound) => {
                (Severity::High, u.ruling.other, "no re-validation seen on the wire since the delivery")
            }
            (None, Verdict::ResetOnly) => {
                (Severity::Medium, u.ruling.other, "reset since the other tenant's use, but not bound")
            }
            (None, Verdict::Indeterminate) => return RuleOutcome::Insufficient("verdict is indeterminate"),
            (None, Verdict::SingleTenant) => {
                return RuleOutcome::Insufficient("no other tenant's work on this connection");
            }
            (None, _) => return RuleOutcome::Clear,
        };
        let Some(seen) = self.jobs.entry(work.key, Seen::default) else { return RuleOutcome::Clear };
        if seen.found || seen.proved.is_some_and(|at| at <= u.at) || self.waiting.len() >= MAX_WAITING {
            return RuleOutcome::Clear;
        }
        let mut steps: SmallVec<[Step; 3]> = smallvec![delivered(work)];
        if let Some(binding) = u.ruling.binding {
            steps.push(Step::of_binding(&binding, bound));
        }
        let side_effect = Step { tenant: Some(work.tenant), ..Step::of_use(u) };
        steps.push(side_effect);
        steps.push(Step { at: u.at, what: "seen", detail: Detail::Words(words), tenant: bound, basis: None });
        let hit = Hit {
            rule: INFO.id,
            severity,
            class: work.class,
            corroborated: u.answer.attribution().filter(Attribution::corroborated).map(|a| a.bases),
            at: u.at,
            site: u.site,
            subject: work.job.queue,
            used: Some(work.tenant),
            bound,
            steps,
        };
        self.waiting.push(Waiting { key: work.key, hit, for_another: by.is_some() });
        RuleOutcome::Clear
    }

    fn checked(&mut self, c: &Checked) {
        let Some(seen) = self.jobs.entry(c.work.key, Seen::default) else { return };
        if c.named.contains(&c.work.tenant) {
            seen.proved.get_or_insert(c.at);
        } else if c.named.is_empty() {
            // Whom the question was about is not known: it may have been this tenant.
            seen.unsure = true;
        }
        // A question about somebody else says nothing for this tenant: without another proof it is the mistake itself.
    }

    fn posted(&mut self, p: &Posted<'_>) {
        if let (Some(service), Some(by)) = (p.site.service, p.answer.attribution())
            && let Some(talk) = self.talks.entry((service, p.message.address), Talk::default)
        {
            add(&mut talk.publishers, by.tenant);
        }
    }

    /// A message that nobody confirms was handed to a consumer.
    fn told(&mut self, address: Address, h: &Handed) {
        let Some(talk) = self.talks.entry(address, Talk::default) else { return };
        if let Some(consumer) = h.consumer {
            add(&mut talk.consumers, consumer.tenant);
        }
        if let Some(all) = h.site.workload.and_then(|w| self.latest.entry(w, SmallVec::new)) {
            all.retain(|(from, at)| *from != address && h.at.since(*at) < LEADS);
            if all.len() < MAX_LATEST {
                all.push((address, h.at));
            }
        }
        if let Some(id) = h.id
            && let Some(first) = self.handed.entry((address, id), || h.site.workload)
        {
            talk.to_several |= *first != h.site.workload;
        }
    }

    /// A job that reached the consumer of another tenant.
    fn handed(&mut self, h: &Handed, hits: &mut Vec<Hit>) -> RuleOutcome {
        let address = h.site.service.map(|service| (service, h.address));
        if let Some(address) = address.filter(|_| !h.awaits_ack) {
            self.told(address, h);
        }
        let Some(consumer) = h.consumer else { return RuleOutcome::Clear };
        let Some(origin) = h.origin else { return RuleOutcome::Insufficient("producer not known") };
        if consumer.tenant == origin.tenant {
            return RuleOutcome::Clear;
        }
        let step = |at, what, a: Attribution, words| Step {
            at,
            what,
            detail: words,
            tenant: Some(a.tenant),
            basis: Some(a.basis),
        };
        let published = Nanos(h.at.0.saturating_sub(h.waited.unwrap_or_default().0));
        let hit = Hit {
            rule: INFO.id,
            severity: Severity::Critical,
            class: origin.class.min(consumer.class),
            corroborated: None,
            at: h.at,
            site: h.site,
            subject: h.queue,
            used: Some(consumer.tenant),
            bound: Some(origin.tenant),
            steps: smallvec![
                step(published, "publish", origin, Detail::Operation(h.queue, Sym::EMPTY)),
                step(h.at, if h.awaits_ack { "deliver" } else { TOLD }, consumer, Detail::Words(TO_ANOTHERS)),
            ],
        };
        match address.filter(|_| !h.awaits_ack) {
            Some(address) if self.unconfirmed.len() < MAX_WAITING => {
                self.unconfirmed.push_back((address, hit));
                RuleOutcome::Clear
            }
            Some(_) => RuleOutcome::Insufficient("too many wait"),
            None => {
                hits.push(hit);
                RuleOutcome::Found
            }
        }
    }

    /// Tells what has waited long enough; `all`: everything.
    fn flush(&mut self, now: Nanos, all: bool, hits: &mut Vec<Hit>) -> RuleOutcome {
        let before = hits.len();
        while let Some((address, mut hit)) = self.unconfirmed.pop_front_if(|(_, h)| all || now.since(h.at) >= BROADCAST)
        {
            if self.talks.get(&address).is_some_and(Talk::is_among_workers) {
                continue;
            }
            if hit.site.workload.is_none_or(|w| self.followed.get(&(address, w)).is_none()) {
                hit.severity = Severity::Low;
                let words = Detail::Words("no work of the consumer's has followed any message from there");
                hit.steps.push(Step { at: hit.at, what: "seen", detail: words, tenant: hit.used, basis: None });
            }
            hits.push(hit);
        }
        let (due, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|w| all || now.since(w.hit.at) >= WAIT);
        self.waiting = rest;
        for w in due {
            let Some(seen) = self.jobs.entry(w.key, Seen::default) else { continue };
            let in_time = seen.proved.is_some_and(|at| w.for_another || at <= w.hit.at);
            if in_time || seen.unsure || seen.found {
                continue;
            }
            seen.found = true;
            hits.push(w.hit);
        }
        if hits.len() > before { RuleOutcome::Found } else { RuleOutcome::Clear }
    }
}

fn is_for(answer: Answer, tenant: TenantId) -> bool {
    answer.attribution().is_some_and(|a| a.tenant == tenant)
}

impl Rule for QueueTenantUnrevalidated {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([
            &mut self.jobs,
            &mut self.waiting,
            &mut self.talks,
            &mut self.handed,
            &mut self.unconfirmed,
            &mut self.latest,
            &mut self.followed,
        ])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        match event {
            RuleEvent::Use(u) => {
                self.follows(u);
                match &u.job {
                    Some(work) => self.worked(u, work),
                    None => RuleOutcome::Clear,
                }
            }
            RuleEvent::Checked(c) => {
                self.checked(c);
                RuleOutcome::Clear
            }
            RuleEvent::Posted(p) => {
                self.posted(p);
                RuleOutcome::Clear
            }
            RuleEvent::Handed(h) => self.handed(h, hits),
            RuleEvent::Tick(now) => self.flush(*now, false, hits),
            RuleEvent::End(now) => self.flush(*now, true, hits),
            _ => RuleOutcome::Clear,
        }
    }

    fn rests_on(&self, hit: &Hit, _world: &World<'_>) -> SmallVec<[Unseen; 2]> {
        let Some(first) = hit.steps.first() else { return SmallVec::new() };
        if first.what != DELIVERY {
            // A delivery without confirmation rests on every message at the broker: a missed one may have shown that every
            // tenant publishes to every other.
            if let (true, Some(broker)) = (hit.steps.iter().any(|s| s.what == TOLD), hit.site.service) {
                return smallvec![Unseen { place: Where::EverAt(broker), since: Nanos(0) }];
            }
            // The finding rests on having seen every publisher of a message with the same content.
            let since = Nanos(first.at.0.saturating_sub(ALIKE.0));
            let at_broker = |broker| smallvec![Unseen { place: Where::Service(broker), since }];
            return hit.site.service.map_or_else(SmallVec::new, at_broker);
        }
        // Whatever re-validated the job may have been on any of the worker's connections.
        hit.site
            .workload
            .map_or_else(SmallVec::new, |worker| smallvec![Unseen { place: Where::SentBy(worker), since: first.at }])
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, bound) = (world.tenant(hit.used), world.tenant(hit.bound));
        if hit.steps.first().is_some_and(|s| s.what == "publish") {
            return format!("A message of {bound} was delivered to a consumer of {used}.");
        }
        match hit.severity {
            Severity::Critical => format!("Work on a job of {used} was bound to {bound}."),
            _ => {
                format!("Work on a job of {used} was done with no re-validation of the job's tenant seen on the wire.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::queue::Job;
    use crate::model::{ConnId, RequestNo};

    fn part_of(n: u64, class: EvidenceClass) -> JobWork {
        let job = Job {
            service: ServiceId(9),
            queue: ORDERS,
            verb: SELECT,
            at: Nanos(2),
            id: None,
            again: false,
            keyed: false,
        };
        JobWork { key: (ConnId(1), RequestNo::Delivery(n)), job, tenant: B, basis: Basis::Bracketed, class }
    }

    /// Work for a job of B's.
    fn work(verdict: Verdict) -> Use {
        let bracketed = Answer::Tenant(Attribution::new(B, Basis::Bracketed));
        Use { answer: bracketed, job: Some(part_of(1, EvidenceClass::Endpoint)), ..a_use(verdict) }
    }

    /// B's job while the unit binds the connection for A.
    fn bound_to_another() -> Use {
        let mut u = relayed_use(crate::model::Scope::Transaction, ConnId(2), A);
        u.answer = Answer::Several;
        u.ruling.verdict = Verdict::Indeterminate;
        u.unit = u.live[0].bound.unit;
        u.job = Some(part_of(1, EvidenceClass::Endpoint));
        u
    }

    fn after(uses: &[Use]) -> Vec<Hit> {
        let mut rule = QueueTenantUnrevalidated::default();
        for u in uses {
            assert!(run(&mut rule, u).is_empty(), "it waits");
        }
        run_event(&mut rule, &RuleEvent::End(Nanos::secs(5)))
    }

    #[test]
    fn positive_nothing_proved_or_another_tenants() {
        let hits = after(&[work(Verdict::Unbound)]);
        assert_eq!((hits[0].severity, hits[0].used, hits[0].subject), (Severity::High, Some(B), ORDERS));
        assert_eq!(after(&[work(Verdict::StaleBound)])[0].severity, Severity::Critical);
        assert_eq!(after(&[work(Verdict::ResetOnly)])[0].severity, Severity::Medium);
        let hits = after(&[bound_to_another()]);
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(B), Some(A)));
        // One job is told once.
        assert_eq!(after(&[work(Verdict::Unbound), work(Verdict::Unbound)]).len(), 1);
    }

    #[test]
    fn positive_delivered_to_another_tenants_consumer() {
        let mut rule = QueueTenantUnrevalidated::default();
        let hits = run_event(&mut rule, &RuleEvent::Handed(&handed_to(A, Some(B))));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].bound), (Severity::Critical, Some(A), Some(B)));
    }

    #[test]
    fn near_miss_proved_before_the_first_side_effect() {
        assert!(after(&[work(Verdict::Revalidated), work(Verdict::Unbound)]).is_empty());
        // Judged later, but done before.
        let early = Use { at: Nanos(19), ..work(Verdict::Revalidated) };
        assert!(after(&[work(Verdict::Unbound), early]).is_empty());
        let later = Use { at: Nanos(21), ..work(Verdict::Revalidated) };
        assert_eq!(after(&[work(Verdict::Unbound), later]).len(), 1, "after the side effect is too late");
        let own = Use { at: Nanos(21), ..work(Verdict::Revalidated) };
        assert!(after(&[bound_to_another(), own]).is_empty(), "the job does work for its own tenant");
    }

    #[test]
    fn near_miss_a_policy_was_asked_about_the_tenant_or_about_somebody_unknown() {
        let both = smallvec![A, B];
        for (named, found) in [(smallvec![B], 0), (both, 0), (smallvec![], 0), (smallvec![A], 1)] {
            let mut rule = QueueTenantUnrevalidated::default();
            let checked = Checked { work: part_of(1, EvidenceClass::Endpoint), at: Nanos(10), named };
            run_event(&mut rule, &RuleEvent::Checked(&checked));
            assert!(run(&mut rule, &work(Verdict::Unbound)).is_empty());
            assert_eq!(run_event(&mut rule, &RuleEvent::End(Nanos::secs(5))).len(), found);
        }
    }

    /// What is published by each of these, and handed to each of these of A's and B's workers; nobody confirms it.
    fn talk(publishers: &[TenantId], consumers: &[(TenantId, WorkloadId)]) -> usize {
        let mut rule = QueueTenantUnrevalidated::default();
        for by in publishers {
            let posted = Posted { site: SITE, message: &a_message(), answer: by_label(*by) };
            run_event(&mut rule, &RuleEvent::Posted(&posted));
            for (consumer, workload) in consumers.iter().filter(|(c, _)| c != by) {
                let mut h = Handed { awaits_ack: false, ..handed_to(*consumer, Some(*by)) };
                (h.site.workload, h.id) = (Some(*workload), Some(Fingerprint(u64::from(by.0))));
                assert!(run_event(&mut rule, &RuleEvent::Handed(&h)).is_empty(), "it waits");
            }
        }
        run_event(&mut rule, &RuleEvent::Tick(Nanos::secs(1))).len()
            + 10 * run_event(&mut rule, &RuleEvent::Tick(Nanos::secs(31))).len()
    }

    #[test]
    fn near_miss_what_all_workers_tell_all() {
        let workers = [(A, LABELLED), (A, UNLABELLED), (B, SERVER), (B, REMOTE)];
        assert_eq!(talk(&[A, B], &workers), 0);
        // One who only listens, one who only tells, or one alone that is told: that is no talk among workers.
        assert_eq!(talk(&[A], &workers), 20);
        assert_eq!(talk(&[A, B], &[(A, LABELLED), (B, SERVER)]), 20);
    }

    #[test]
    fn near_miss_what_no_work_follows_is_told_as_no_job() {
        // What A's consumer does, where, and when: 20 ns after the delivery, or before it.
        let told = |work: Option<(ServiceId, Nanos)>| {
            let mut rule = QueueTenantUnrevalidated::default();
            let mut h = Handed { awaits_ack: false, ..handed_to(A, Some(B)) };
            (h.site.workload, h.at) = (Some(LABELLED), Nanos::secs(5));
            run_event(&mut rule, &RuleEvent::Handed(&h));
            if let Some((service, at)) = work {
                let mut u = a_use(Verdict::SingleTenant);
                (u.site.workload, u.site.service, u.at) = (Some(LABELLED), Some(service), at);
                run(&mut rule, &u);
            }
            let hits = run_event(&mut rule, &RuleEvent::End(Nanos::secs(40)));
            hits.into_iter().map(|h| h.severity).collect::<Vec<_>>()
        };
        let broker = handed_to(A, Some(B)).site.service.unwrap();
        let soon = Nanos(Nanos::secs(5).0 + 20);
        assert_eq!(told(None), [Severity::Low]);
        assert_eq!(told(Some((ServiceId(77), soon))), [Severity::Critical]);
        assert_eq!(told(Some((broker, soon))), [Severity::Low], "what it does at the broker is no work");
        assert_eq!(told(Some((ServiceId(77), Nanos::secs(4)))), [Severity::Low], "before");
        assert_eq!(told(Some((ServiceId(77), Nanos::secs(8)))), [Severity::Low], "much later");
    }

    #[test]
    fn near_miss_at_the_broker_or_of_no_job_or_to_its_own_consumer() {
        let mut at_broker = work(Verdict::Unbound);
        at_broker.site.service = Some(ServiceId(9));
        assert!(after(&[at_broker]).is_empty());
        assert!(after(&[Use { job: None, ..work(Verdict::Unbound) }]).is_empty());
        let mut rule = QueueTenantUnrevalidated::default();
        assert!(run_event(&mut rule, &RuleEvent::Handed(&handed_to(B, Some(B)))).is_empty());
    }

    #[test]
    fn lossy_not_known_is_not_enough() {
        for verdict in [Verdict::Indeterminate, Verdict::SingleTenant] {
            assert!(after(&[work(verdict)]).is_empty());
        }
        let inferred = Use { job: Some(part_of(1, EvidenceClass::Inferred)), ..bound_to_another() };
        assert_eq!(
            outcome(&mut QueueTenantUnrevalidated::default(), &inferred),
            RuleOutcome::Insufficient("a binding contradicts the job that was inferred")
        );
        assert_eq!(
            outcome_of(&mut QueueTenantUnrevalidated::default(), &RuleEvent::Handed(&handed_to(A, None))),
            RuleOutcome::Insufficient("producer not known")
        );
    }
}
