//! What was learned about values, tables and clients: whose an opaque value is, what binds, what tables are read for.

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::habits::Habits;
use super::jars::Jars;
use super::lookups::Lookups;
use super::owners::{Owners, TenantValues};
use super::selectors::Selectors;
use crate::detect::Table;
use crate::model::{OpaqueId, ServiceId, Settings, TenantId, TenantTable, WorkloadId};

/// Most opaque tenant ids remembered over all services.
const MAX_ALIASES: usize = 65_536;
/// Most tenants that one opaque value may stand for.
const MAX_OWNERS: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Learned {
    /// Whose credentials and opaque ids are.
    pub(super) owners: Owners,
    /// Tenants whose own units bound an opaque value, by service.
    aliases: FxHashMap<(ServiceId, OpaqueId), SmallVec<[TenantId; 1]>>,
    /// Whose the values of selectors are.
    pub(super) selectors: Selectors,
    /// Which cookies are sessions, and whose.
    pub(super) jars: Jars,
    /// What tables are read for.
    pub(super) lookups: Lookups,
    /// What clients use only bound.
    pub(super) habits: Habits,
    /// Workloads that bind for whole sessions on a service.
    binds_sessions: FxHashSet<(Option<WorkloadId>, ServiceId)>,
    /// Tenants by the fingerprints of their names.
    pub(super) tenant_values: TenantValues,
}

impl Learned {
    /// Takes the spellings of tenants from the settings, and those that are `known` besides.
    pub(super) fn spell(&mut self, settings: &Settings, tenants: &mut TenantTable, known: bool) {
        let mut values = TenantValues::default();
        for spec in &settings.tenants {
            let id = tenants.intern(&spec.name);
            for spelling in std::iter::once(&spec.name).chain(&spec.aliases) {
                values.add(settings.salt, spelling, id);
            }
        }
        if known {
            for (id, name) in tenants.iter() {
                values.add(settings.salt, name, id);
            }
        }
        self.tenant_values = values;
    }

    /// Bounded tables that grow with what is seen, to be counted.
    pub(super) fn tables(&self) -> [&dyn Table; 2] {
        [&self.aliases, &self.binds_sessions]
    }

    /// Whom an opaque value names on a service, seen from a unit for `tenant`: `tenant` itself if its own units have
    /// bound it, else the first whose did.
    pub(super) fn alias(&self, service: ServiceId, id: OpaqueId, tenant: Option<TenantId>) -> Option<TenantId> {
        let Some(owners) = self.aliases.get(&(service, id)) else { return self.owners.one(id) };
        tenant.filter(|t| owners.contains(t)).or_else(|| owners.first().copied())
    }

    /// Whom an opaque value names by the units that bound it, if those are known by more than inference.
    pub(super) fn known_alias(&self, service: ServiceId, id: OpaqueId) -> Option<TenantId> {
        self.aliases.get(&(service, id)).and_then(|owners| owners.first().copied())
    }

    /// A unit for `tenant` has bound an opaque value.
    pub(super) fn learn_alias(&mut self, service: ServiceId, id: OpaqueId, tenant: TenantId) {
        if self.aliases.len() >= MAX_ALIASES && !self.aliases.contains_key(&(service, id)) {
            return;
        }
        let owners = self.aliases.entry((service, id)).or_default();
        if !owners.contains(&tenant) && owners.len() < MAX_OWNERS {
            owners.push(tenant);
        }
    }

    /// `workload` has bound a connection to `service` for its whole session.
    pub(super) fn learn_session_binding(&mut self, workload: Option<WorkloadId>, service: ServiceId) {
        self.binds_sessions.insert((workload, service));
    }

    /// Whether `workload` binds connections to `service` for their whole sessions.
    pub(super) fn binds_sessions(&self, workload: Option<WorkloadId>, service: ServiceId) -> bool {
        self.binds_sessions.contains(&(workload, service))
    }

    /// Forgets clients that are not `there` any more.
    pub(super) fn forget_clients(&mut self, there: impl Fn(WorkloadId) -> bool) {
        self.binds_sessions.retain(|(client, _)| client.is_none_or(&there));
    }
}
