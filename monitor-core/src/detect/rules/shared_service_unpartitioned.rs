//! Rule: `shared-service-unpartitioned`.
//!
//! Two tenants or more use one service, and no binding to a tenant was ever seen on it: not per operation, not per
//! transaction, not by the credentials of its connections. "Secure islands, insecure bridges."
//!
//! Milder, for the record: a service that does bind, but at which tenants were seen to cross.
//!
//! Source: `docs/domain.md#shared-services`.

use rustc_hash::FxHashSet;
use smallvec::SmallVec;

use crate::detect::{Detail, Hit, Rule, RuleEvent, RuleInfo, RuleOutcome, RuleTables, Site, Step, World, tables};
use crate::model::steps::walk;
use crate::model::{EvidenceClass, Nanos, Service, ServiceId, Severity, Sym, TenantId, TenantUse};

/// What is fixed about it.
pub static INFO: RuleInfo = RuleInfo {
    id: "shared-service-unpartitioned",
    severity: Severity::Medium,
    needs: "a decoded protocol, and clients of two labelled tenants",
    why: "Several tenants reach this service and nothing on the wire ever tells it for whom it works: no binding, no \
          credential of the tenant's own. Whatever keeps them apart is inside the applications.",
    remediation: "Partition the service by tenant, by something that it enforces itself, or declare what enforces it and \
                  suppress this finding with a reason.",
    source: "[Shared services](domain.md#shared-services)",
};

/// How long a service must have been shared before that.
const SETTLED: Nanos = Nanos::secs(2);

/// The rule.
#[derive(Debug, Default)]
pub struct SharedServiceUnpartitioned {
    /// Services reported, and whether as unpartitioned (else: as crossed).
    reported: FxHashSet<(ServiceId, bool)>,
}

impl Rule for SharedServiceUnpartitioned {
    fn info(&self) -> &'static RuleInfo {
        &INFO
    }

    fn tables(&mut self) -> RuleTables<'_> {
        tables::of([&mut self.reported])
    }

    fn on_event(&mut self, event: &RuleEvent<'_>, world: &World<'_>, hits: &mut Vec<Hit>) -> RuleOutcome {
        let (now, ended) = match *event {
            RuleEvent::Tick(now) => (now, false),
            RuleEvent::End(now) => (now, true),
            _ => return RuleOutcome::Clear,
        };
        let before = hits.len();
        for (index, service) in (0u32..).zip(walk(world.services)) {
            let id = ServiceId(index);
            let Some(severity) = severity(service, now, ended) else { continue };
            if self.reported.insert((id, severity == Severity::Medium)) {
                hits.push(hit(id, service, severity, now));
            }
        }
        if hits.len() > before { RuleOutcome::Found } else { RuleOutcome::Clear }
    }

    fn tell_again(&mut self) {
        self.reported.clear();
    }

    fn message(&self, hit: &Hit, world: &World<'_>) -> String {
        let service = hit.site.service.and_then(|s| world.service(s));
        let n = service.map_or(0, |s| s.tenants.len());
        if hit.severity == Severity::Info {
            format!("{n} tenants share this service; it is bound to tenants, but uses of it were seen to cross.")
        } else {
            format!("{n} tenants share this service and no binding to a tenant was ever seen on it.")
        }
    }
}

fn severity(service: &Service, now: Nanos, ended: bool) -> Option<Severity> {
    let settled = service.shared_since.is_some_and(|since| ended || now.since(since) >= SETTLED);
    if service.relay || !settled {
        return None;
    }
    if service.regulars.n < 2 {
        return None;
    }
    // Credentials of their own are a partition that the server enforces.
    if service.n_bindings == 0 && service.regulars.share_credentials {
        return Some(Severity::Medium);
    }
    (service.n_findings > 0).then_some(Severity::Info)
}

fn hit(id: ServiceId, service: &Service, severity: Severity, now: Nanos) -> Hit {
    let mut tenants: SmallVec<[(TenantId, &TenantUse); 4]> = service.tenants.iter().map(|(t, u)| (*t, u)).collect();
    tenants.sort_by_key(|(t, u)| (u.first_seen, *t));
    let steps = tenants
        .iter()
        .take(3)
        .map(|(tenant, u)| Step {
            at: u.last_seen,
            what: "data",
            detail: Detail::Count(u.n_data()),
            tenant: Some(*tenant),
            basis: None,
        })
        .collect();
    Hit {
        rule: INFO.id,
        severity,
        class: EvidenceClass::Endpoint,
        corroborated: None,
        subject: Sym::EMPTY,
        at: now,
        site: Site { service: Some(id), workload: service.workload, flow: None },
        used: None,
        bound: None,
        steps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::testing::*;
    use crate::model::{Fingerprint, Verdict};

    fn after(mut service: Service) -> Vec<Hit> {
        service.count_regulars();
        let mut rule = SharedServiceUnpartitioned::default();
        run_on(&mut rule, &RuleEvent::Tick(Nanos::secs(10)), &[service])
    }

    #[test]
    fn positive_two_tenants_and_never_a_binding() {
        let hits = after(shared_service());
        assert_eq!(hits[0].severity, Severity::Medium);
        // Said once, however long it goes on.
        let mut rule = SharedServiceUnpartitioned::default();
        let services = [shared_service()];
        run_on(&mut rule, &RuleEvent::Tick(Nanos::secs(10)), &services);
        assert!(run_on(&mut rule, &RuleEvent::Tick(Nanos::secs(11)), &services).is_empty());
    }

    #[test]
    fn near_miss_a_binding_a_relay_or_credentials_of_their_own() {
        let mut bound = shared_service();
        bound.n_bindings = 1;
        assert!(after(bound).is_empty());
        let mut relay = shared_service();
        relay.relay = true;
        assert!(after(relay).is_empty());
        let mut apart = shared_service();
        if let Some(t) = apart.tenants.get_mut(&B) {
            t.credentials = [(Fingerprint(8), Fingerprint(9))].into_iter().collect();
        }
        assert!(after(apart).is_empty());
    }

    #[test]
    fn lossy_unknown_credentials_are_not_shared_ones() {
        let mut unknown = shared_service();
        for t in unknown.tenants.values_mut() {
            t.credentials.clear();
        }
        assert!(after(unknown).is_empty());
    }

    #[test]
    fn lossy_uses_of_connections_of_which_something_was_missed_do_not_count() {
        let mut doubtful = shared_service();
        for t in doubtful.tenants.values_mut() {
            t.verdicts = Verdict::ALL.map(|v| if v == Verdict::Indeterminate { 50 } else { 0 });
        }
        assert!(after(doubtful).is_empty());
    }
}
