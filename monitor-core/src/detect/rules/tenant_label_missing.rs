//! Rule: `tenant-label-missing`.
//!
//! A workload that serves nobody, and so runs for somebody, uses a service that several tenants share, and carries no
//! tenant label, several, or one that changed. Nothing it does can be attributed.
//!
//! Source: `docs/domain.md#shared-services`.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::smallvec;

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Site, Step, World, tables};
use crate::model::{EvidenceClass, Nanos, ServiceId, ServiceRole, Severity, Sym, WorkloadId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "tenant-label-missing",
    severity: Severity::Medium,
    needs: "the workload's cgroup on this host, and a decoded service that two labelled tenants use",
    why: "A runtime without exactly one tenant label works on a service that several tenants share. Neither the \
          platform nor this monitor can tell for whom.",
    remediation: "Label every runtime with its tenant and refuse unlabelled ones; give infrastructure a role \
                  (role: shared, role: service) in the configuration.",
    source: "[Shared services](domain.md#shared-services)",
};

/// Fewest operations on a shared service before the lack of a label means anything.
const ENOUGH: u64 = 3;

/// How long a workload has for showing whom it runs for: a shared worker that has just started looks after its queue, and
/// does one tenant's jobs first.
const GRACE: Nanos = Nanos::secs(10);

/// From so many on, those that are gone are forgotten.
const MAX_REPORTED: usize = 4_096;

/// The rule.
#[derive(Debug, Default)]
pub struct TenantLabelMissing {
    reported: FxHashSet<(ServiceId, WorkloadId)>,
    /// Since when each has been without one.
    since: FxHashMap<(ServiceId, WorkloadId), Nanos>,
}

impl Rule for TenantLabelMissing {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.reported, &mut self.since])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let (RuleEvent::Tick(now) | RuleEvent::End(now)) = *event else { return RuleOutcome::Clear };
        let before = hits.len();
        let at_end = matches!(event, RuleEvent::End(_));
        if self.reported.len() > MAX_REPORTED {
            self.reported.retain(|(_, w)| world.directory.get(*w).is_some());
        }
        if self.since.len() > MAX_REPORTED {
            self.since.clear();
        }
        for (index, service) in (0u32..).zip(world.services) {
            let mut unlabelled: Vec<_> = service.unlabelled.iter().filter(|(_, n)| **n >= ENOUGH).collect();
            unlabelled.sort();
            for (&id, &n) in unlabelled {
                let Some(workload) = world.directory.get(id) else { continue };
                let runs_for_somebody = match workload.role {
                    Some(role) => role == ServiceRole::Runtime,
                    None => !world.servers.serves(id),
                };
                // An address without a container behind it cannot carry a label.
                if !runs_for_somebody || workload.tenant.is_some() || workload.cgroup == Sym::EMPTY {
                    continue;
                }
                let service_id = ServiceId(index);
                let since = *self.since.entry((service_id, id)).or_insert(now);
                if !at_end && now.since(since) < GRACE {
                    continue;
                }
                if !self.reported.insert((service_id, id)) {
                    continue;
                }
                let words =
                    if workload.conflicting { "several tenant labels, or one that changed" } else { "no tenant label" };
                hits.push(Hit {
                    rule: INFO.id,
                    severity: Severity::Medium,
                    class: EvidenceClass::Endpoint,
                    corroborated: None,
                    subject: Sym::EMPTY,
                    at: now,
                    site: Site { service: Some(service_id), workload: Some(id), flow: None },
                    used: None,
                    bound: None,
                    steps: smallvec![
                        Step { at: now, what: "identity", detail: Detail::Words(words), tenant: None, basis: None },
                        Step { at: now, what: "data", detail: Detail::Count(n), tenant: None, basis: None }
                    ],
                });
            }
        }
        if hits.len() > before { RuleOutcome::Found } else { RuleOutcome::Clear }
    }

    fn tell_again(&mut self) {
        self.reported.clear();
    }

    fn message(&self, _hit: &Hit, _world: &World<'_>) -> String {
        "A workload without exactly one tenant label uses a service that several tenants share.".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::Service;

    fn after(service: Service) -> Vec<Hit> {
        run_on(&mut TenantLabelMissing::default(), &RuleEvent::End(Nanos::secs(10)), &[service])
    }

    #[test]
    fn near_miss_who_has_just_come_may_still_show_whom_it_runs_for() {
        let mut rule = TenantLabelMissing::default();
        let mut service = shared_service();
        service.unlabelled.insert(UNLABELLED, 3);
        let mut at =
            |seconds| run_on(&mut rule, &RuleEvent::Tick(Nanos::secs(seconds)), std::slice::from_ref(&service)).len();
        assert_eq!([at(5), at(14), at(15), at(16)], [0, 0, 1, 0]);
    }

    #[test]
    fn positive_an_unlabelled_runtime_on_a_shared_service() {
        let mut service = shared_service();
        service.unlabelled.insert(UNLABELLED, 3);
        assert_eq!(after(service)[0].site.workload, Some(UNLABELLED));
    }

    #[test]
    fn near_miss_a_server_a_labelled_one_or_too_little() {
        for (workload, n) in [(SERVER, 9), (LABELLED, 9), (UNLABELLED, 2)] {
            let mut service = shared_service();
            service.unlabelled.insert(workload, n);
            assert!(after(service).is_empty());
        }
    }

    #[test]
    fn lossy_an_address_cannot_carry_a_label() {
        let mut service = shared_service();
        service.unlabelled.insert(REMOTE, 9);
        assert!(after(service).is_empty());
    }
}
