//! Rule: `identity-conflicting`.
//!
//! What says whose a workload is contradicts itself: a pod names itself another tenant than its namespace does, or two
//! path patterns name two. Whoever may write the one may not be allowed to write the other: a tenant that can make pods in
//! its own namespace would make itself another by a label. Neither is believed; the workload counts as nobody's.
//!
//! A label that was changed while the workload runs is no contradiction: both were said one after the other.
//!
//! Source: `docs/domain.md#shared-services`.

use smallvec::{SmallVec, smallvec};

use crate::detect::recent::Recent;
use crate::detect::{
    Contradiction, Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Site, Step, World, tables,
};
use crate::model::{EvidenceClass, Nanos, ServiceId, Severity, Sym, WorkloadId};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "identity-conflicting",
    severity: Severity::High,
    needs: "a workload on this node of which two labels name different tenants at one time; high where it also uses a \
            service that several tenants share, else medium",
    why: "A workload is said to run for two tenants. Where a pod contradicts its namespace, whoever may make pods there \
          names himself another tenant: by mistake, or to be taken for it.",
    remediation: "Take the label off the pod, or correct the namespace's. Refuse such pods at admission \
                  (deploy/examples/tenant-label-policy.yaml).",
    source: "[Shared services](domain.md#shared-services); Kubernetes documentation, multi-tenancy",
};

/// Most workloads remembered.
const MAX: usize = 256;

/// The rule.
#[derive(Debug)]
pub struct IdentityConflicting {
    /// Workloads that contradict themselves, and how severely that was told.
    known: Recent<WorkloadId, (Contradiction, Option<Severity>)>,
}

impl Default for IdentityConflicting {
    fn default() -> Self {
        Self { known: Recent::new(MAX) }
    }
}

impl Rule for IdentityConflicting {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.known])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let now = match event {
            RuleEvent::Contradicted(c) => {
                // Another node's agent tells of another node's pods, which are known here by their address alone.
                if world.directory.get(c.workload).is_none_or(|w| w.cgroup == Sym::EMPTY) {
                    return RuleOutcome::Insufficient("not on this node");
                }
                if self.known.get(&c.workload).is_none() {
                    self.known.insert(c.workload, (*c, None));
                }
                c.at
            }
            RuleEvent::Tick(now) | RuleEvent::End(now) => *now,
            _ => return RuleOutcome::Clear,
        };
        let before = hits.len();
        self.known.retain(|workload, (contradiction, told)| {
            let shared = where_others_are(*workload, world);
            let severity = if shared.is_some() { Severity::High } else { Severity::Medium };
            if told.is_none_or(|told| told < severity) {
                *told = Some(severity);
                hits.push(hit(contradiction, shared, severity, now));
            }
            true
        });
        if hits.len() > before { RuleOutcome::Found } else { RuleOutcome::Clear }
    }

    fn tell_again(&mut self) {
        self.known.retain(|_, (_, told)| {
            *told = None;
            true
        });
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let (a, b) = (world.tenant(hit.used), world.tenant(hit.bound));
        format!("What says whose this workload is contradicts itself: {a} and {b}. It counts as nobody's.")
    }
}

/// A service that `workload` uses and several tenants share, and how often it did.
fn where_others_are(workload: WorkloadId, world: &World<'_>) -> Option<(ServiceId, u64)> {
    let shared = (0u32..).zip(world.services).filter(|(_, s)| s.shared_since.is_some());
    let uses = |(id, s): (u32, &crate::model::Service)| Some((ServiceId(id), *s.clients.get(&workload)?));
    shared.filter_map(uses).find(|(_, n)| *n > 0)
}

fn hit(c: &Contradiction, shared: Option<(ServiceId, u64)>, severity: Severity, now: Nanos) -> Hit {
    let says = |tenant, words| Step {
        at: c.at,
        what: "identity",
        detail: Detail::Words(words),
        tenant: Some(tenant),
        basis: None,
    };
    let [above, own] = if c.pod {
        ["its namespace names this tenant", "the pod itself names this one"]
    } else {
        ["one label or path names this tenant", "another names this one"]
    };
    let mut steps: SmallVec<[Step; 3]> = smallvec![says(c.first, above), says(c.other, own)];
    steps.extend(shared.map(|(_, n)| Step {
        at: now,
        what: "data",
        detail: Detail::Amount(n, "operations on a service that several tenants share"),
        tenant: None,
        basis: None,
    }));
    Hit {
        rule: INFO.id,
        severity,
        class: EvidenceClass::Endpoint,
        corroborated: None,
        at: now,
        // One finding, whichever service makes it worse.
        site: Site { service: None, workload: Some(c.workload), flow: None },
        subject: Sym::EMPTY,
        used: Some(c.first),
        bound: Some(c.other),
        steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::Service;

    fn contradicted(workload: WorkloadId) -> Contradiction {
        Contradiction { workload, at: Nanos::secs(1), first: A, other: B, pod: true }
    }

    fn run(rule: &mut IdentityConflicting, event: &RuleEvent<'_>, services: &[Service]) -> Vec<Hit> {
        run_on(rule, event, services)
    }

    #[test]
    fn positive_a_pod_contradicts_its_namespace_and_reaches_what_others_share() {
        let mut rule = IdentityConflicting::default();
        let hits = run(&mut rule, &RuleEvent::Contradicted(contradicted(UNLABELLED)), &[shared_service()]);
        assert_eq!(
            (hits.len(), hits[0].severity, hits[0].used, hits[0].bound),
            (1, Severity::Medium, Some(A), Some(B))
        );
        // Told once, until it is worse.
        assert!(run(&mut rule, &RuleEvent::Contradicted(contradicted(UNLABELLED)), &[shared_service()]).is_empty());
        let mut used = shared_service();
        used.clients.insert(UNLABELLED, 3);
        let hits = run(&mut rule, &RuleEvent::Tick(Nanos::secs(2)), std::slice::from_ref(&used));
        assert_eq!((hits.len(), hits[0].severity, hits[0].steps.len()), (1, Severity::High, 3));
        assert!(run(&mut rule, &RuleEvent::Tick(Nanos::secs(3)), std::slice::from_ref(&used)).is_empty());
        rule.tell_again();
        assert_eq!(run(&mut rule, &RuleEvent::Tick(Nanos::secs(4)), &[used]).len(), 1);
    }

    #[test]
    fn near_miss_a_service_of_one_tenant_and_workloads_without_contradiction() {
        let mut rule = IdentityConflicting::default();
        run(&mut rule, &RuleEvent::Contradicted(contradicted(UNLABELLED)), &[]);
        let mut own = shared_service();
        own.shared_since = None;
        own.clients.insert(UNLABELLED, 3);
        assert!(run(&mut rule, &RuleEvent::Tick(Nanos::secs(2)), &[own]).is_empty(), "no worse than it was");
        let mut other = shared_service();
        other.clients.insert(LABELLED, 3);
        assert!(run(&mut IdentityConflicting::default(), &RuleEvent::Tick(Nanos::secs(2)), &[other]).is_empty());
    }

    #[test]
    fn lossy_who_is_known_by_an_address_alone_is_another_nodes() {
        let mut rule = IdentityConflicting::default();
        let event = RuleEvent::Contradicted(contradicted(REMOTE));
        assert_eq!(outcome_of(&mut rule, &event), RuleOutcome::Insufficient("not on this node"));
        assert!(run(&mut rule, &event, &[shared_service()]).is_empty());
    }
}
