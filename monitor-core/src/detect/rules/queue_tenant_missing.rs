//! Rule: `queue-tenant-missing`.
//!
//! Several tenants publish to one queue, and their messages do not say whose they are: no consumer can check it. A place
//! that nothing is ever taken from (a list that is kept, not worked off) is no queue. Where each tenant keeps to a part of
//! it that is its own (a partition, a key), that part says whose a message is.
//!
//! Source: `docs/domain.md#queues-and-jobs`.

use smallvec::{SmallVec, smallvec};

use crate::detect::recent::Recent;
use crate::detect::{
    Detail, Handed, Hit, Posted, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Step, World, tables,
};
use crate::model::{Claim, EvidenceClass, Fingerprint, ServiceId, Severity, Sym, TenantId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "queue-tenant-missing",
    severity: Severity::Medium,
    needs: "messages in clear text, headers and content, and the tenants of their producers",
    why: "Messages of several tenants go through one queue and carry no tenant: whoever works on them cannot check whose \
          they are, and takes it from somewhere else.",
    remediation: "Put the tenant into every message, as a signed claim rather than a field that anybody can write; or give \
                  each tenant a queue of its own.",
    source: "[Queues and jobs](domain.md#queues-and-jobs)",
};

/// Most queues remembered.
const MAX_QUEUES: usize = 16_384;
/// Most tenants told apart per queue.
const MAX_TENANTS: usize = 8;

/// One tenant that publishes to a queue.
#[derive(Clone, Copy, Debug)]
struct Publisher {
    tenant: TenantId,
    class: EvidenceClass,
    /// The only part of it that it publishes to; `None`: to several, or there are none.
    lane: Option<Fingerprint>,
}

/// Who publishes to a queue.
#[derive(Debug, Default)]
struct Queue {
    tenants: SmallVec<[Publisher; 2]>,
    /// Something was taken from it.
    worked_off: bool,
    /// What is to be told once something is.
    owed: Vec<Hit>,
}

/// The rule: queues and who publishes there.
#[derive(Debug)]
pub struct QueueTenantMissing {
    queues: Recent<(ServiceId, Fingerprint), Queue>,
}

impl Default for QueueTenantMissing {
    fn default() -> Self {
        Self { queues: Recent::new(MAX_QUEUES) }
    }
}

impl QueueTenantMissing {
    fn posted(&mut self, p: &Posted<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let Some(service) = p.site.service else { return RuleOutcome::Clear };
        let m = p.message;
        // A name in the address is a label, too.
        let labelled = m.labelled || m.signed || m.proved.is_some() || m.marker != Claim::Neutral;
        let Some(by) = p.answer.attribution() else {
            return if labelled { RuleOutcome::Clear } else { RuleOutcome::Insufficient("no tenant") };
        };
        let Some(queue) = self.queues.entry((service, m.address), Queue::default) else { return RuleOutcome::Clear };
        let room = queue.tenants.len() < MAX_TENANTS;
        match queue.tenants.iter_mut().find(|p| p.tenant == by.tenant) {
            Some(p) => {
                p.class = p.class.max(by.class);
                p.lane = p.lane.filter(|lane| Some(*lane) == m.lane);
            }
            None if room => {
                queue.tenants.push(Publisher { tenant: by.tenant, class: by.class, lane: m.lane });
            }
            None => {}
        }
        if labelled {
            return RuleOutcome::Clear;
        }
        if !m.readable {
            return RuleOutcome::Insufficient("content not readable");
        }
        let Some(&Publisher { tenant: other, class, .. }) = queue.tenants.iter().find(|p| p.tenant != by.tenant) else {
            return RuleOutcome::Clear;
        };
        let is_own = |p: &Publisher| {
            p.lane.is_some() && queue.tenants.iter().all(|other| other.tenant == p.tenant || other.lane != p.lane)
        };
        if queue.tenants.iter().all(is_own) {
            return RuleOutcome::Insufficient("each tenant keeps to a part of its own so far");
        }
        let worked_off = queue.worked_off;
        let step = |what, detail, tenant| Step { at: m.at, what, detail, tenant, basis: None };
        let hit = Hit {
            rule: INFO.id,
            severity: INFO.severity,
            class: by.class.min(class),
            corroborated: None,
            at: m.at,
            site: p.site,
            subject: m.queue,
            used: Some(by.tenant),
            bound: None,
            steps: smallvec![
                Step {
                    basis: Some(by.basis),
                    ..step("publish", Detail::Operation(m.queue, Sym::EMPTY), Some(by.tenant))
                },
                step("seen", Detail::Words("no field, header or claim names a tenant"), None),
                step("shared", Detail::Words("publishes to the same queue"), Some(other)),
            ],
        };
        if worked_off {
            hits.push(hit);
            return RuleOutcome::Found;
        }
        if queue.owed.iter().all(|owed| owed.used != hit.used) && queue.owed.len() < MAX_TENANTS {
            queue.owed.push(hit);
        }
        RuleOutcome::Insufficient("nothing was taken from it yet")
    }
}

impl QueueTenantMissing {
    fn handed(&mut self, h: &Handed, hits: &mut Vec<Hit>) -> RuleOutcome {
        let Some(service) = h.site.service else { return RuleOutcome::Clear };
        let Some(queue) = self.queues.entry((service, h.address), Queue::default) else { return RuleOutcome::Clear };
        queue.worked_off = true;
        if queue.owed.is_empty() {
            return RuleOutcome::Clear;
        }
        hits.append(&mut queue.owed);
        RuleOutcome::Found
    }
}

impl Rule for QueueTenantMissing {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.queues])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, _world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        match event {
            RuleEvent::Posted(p) => self.posted(p, hits),
            RuleEvent::Handed(h) => self.handed(h, hits),
            _ => RuleOutcome::Clear,
        }
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (used, queue) = (world.tenant(hit.used), world.names.name(hit.subject));
        format!("{used} publishes to {queue}, which other tenants publish to as well, without a tenant in the message.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::Answer;
    use crate::model::queue::Message;

    fn post(rule: &mut QueueTenantMissing, message: &Message, answer: Answer) -> (Vec<Hit>, RuleOutcome) {
        let event = Posted { site: SITE, message, answer };
        let hits = run_event(rule, &RuleEvent::Posted(&event));
        let outcome = outcome_of(rule, &RuleEvent::Posted(&event));
        (hits, outcome)
    }

    /// A queue that is worked off.
    fn queue() -> QueueTenantMissing {
        let mut rule = QueueTenantMissing::default();
        assert!(run_event(&mut rule, &RuleEvent::Handed(&handed_to(A, None))).is_empty());
        rule
    }

    #[test]
    fn positive_two_tenants_and_no_label() {
        let mut rule = queue();
        assert!(post(&mut rule, &a_message(), by_label(A)).0.is_empty(), "one tenant's queue so far");
        let (hits, _) = post(&mut rule, &a_message(), by_label(B));
        assert_eq!((hits[0].severity, hits[0].used, hits[0].subject), (Severity::Medium, Some(B), ORDERS));
    }

    #[test]
    fn positive_once_it_is_worked_off() {
        let mut rule = QueueTenantMissing::default();
        post(&mut rule, &a_message(), by_label(A));
        assert!(post(&mut rule, &a_message(), by_label(B)).0.is_empty(), "perhaps it is kept");
        let hits = run_event(&mut rule, &RuleEvent::Handed(&handed_to(A, None)));
        assert_eq!((hits.len(), hits[0].used), (1, Some(B)));
    }

    #[test]
    fn near_miss_a_label_a_name_in_the_address_or_a_queue_of_its_own() {
        for m in [
            Message { labelled: true, ..a_message() },
            Message { signed: true, ..a_message() },
            Message { marker: Claim::Tenant(B), ..a_message() },
        ] {
            let mut rule = queue();
            post(&mut rule, &m, by_label(A));
            assert!(post(&mut rule, &m, by_label(B)).0.is_empty());
        }
        let mut rule = queue();
        post(&mut rule, &a_message(), by_label(A));
        let elsewhere = Message { address: Fingerprint(9), ..a_message() };
        assert!(post(&mut rule, &elsewhere, by_label(B)).0.is_empty());
    }

    #[test]
    fn near_miss_each_keeps_to_a_part_of_its_own() {
        let on = |lane: u64| Message { lane: Some(Fingerprint(lane)), ..a_message() };
        let mut rule = queue();
        for _ in 0..3 {
            for (lane, tenant) in [(1, A), (2, B)] {
                assert!(post(&mut rule, &on(lane), by_label(tenant)).0.is_empty());
            }
        }
        assert!(!post(&mut rule, &on(1), by_label(B)).0.is_empty(), "it does not");
        let mut rule = queue();
        post(&mut rule, &on(1), by_label(A));
        assert!(!post(&mut rule, &on(1), by_label(B)).0.is_empty(), "all on one");
    }

    #[test]
    fn lossy_cut_content_or_nobody_known() {
        let mut rule = queue();
        post(&mut rule, &a_message(), by_label(A));
        let cut = Message { readable: false, print: None, ..a_message() };
        assert_eq!(post(&mut rule, &cut, by_label(B)).1, RuleOutcome::Insufficient("content not readable"));
        assert_eq!(post(&mut rule, &a_message(), Answer::Several).1, RuleOutcome::Insufficient("no tenant"));
    }
}
