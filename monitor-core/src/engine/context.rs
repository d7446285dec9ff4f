//! What every part of the engine may read: the operator's decisions, names, who is where, and the time of the event that is
//! being handled.

use std::net::SocketAddr;

use crate::decode::canary::CanarySet;
use crate::model::identity::AddressRule;
use crate::model::shown::Shown;
use crate::model::{BindPolicy, Directory, Interner, Nanos, Protocol, Settings, TenantTable, WorkloadId};

/// Most names (tables, settings, workloads …) told apart.
const MAX_NAMES: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: Settings,
    pub(super) tenants: TenantTable,
    pub(super) names: Interner,
    pub(super) directory: Directory,
    /// Policy of services without a configuration.
    pub(super) default_policy: BindPolicy,
    /// Values planted in tenants' data.
    pub(super) canaries: CanarySet,
    /// The time of the event that is being handled.
    pub(super) now: Nanos,
}

impl Context {
    /// As the operator decides.
    pub(super) fn new(settings: Settings) -> Self {
        let mut tenants = TenantTable::default();
        for spec in &settings.tenants {
            let id = tenants.intern(&spec.name);
            for alias in &spec.aliases {
                tenants.alias(id, alias);
            }
        }
        let canaries = CanarySet::new(&settings.canaries, &mut |name| tenants.intern(name));
        Self {
            names: Interner::showing(MAX_NAMES, Shown::new(&settings.show, settings.salt)),
            directory: Directory::default(),
            default_policy: BindPolicy::default(),
            tenants,
            canaries,
            now: Nanos(0),
            settings,
        }
    }

    /// What the service at an address is called, as far as that is known before anything is said there.
    pub(super) fn service_name_at(&self, addr: SocketAddr, workload: Option<WorkloadId>) -> Option<&str> {
        let configured = self.spec_at(addr).and_then(|i| self.settings.services.get(i)).map(|s| s.name.as_str());
        let named = || self.directory.service_at(addr).map(|name| self.names.name(name));
        let of_workload = || workload.and_then(|w| self.directory.get(w)).map(|w| self.names.name(w.name));
        configured.or_else(named).or_else(of_workload)
    }

    /// The service that is configured for `addr`, by its place in the configuration.
    pub(super) fn spec_at(&self, addr: SocketAddr) -> Option<usize> {
        self.settings.services.iter().position(|s| {
            s.port.is_none_or(|p| p == addr.port())
                && s.net
                    .is_none_or(|(net, prefix)| AddressRule { net, prefix, port: None, workload: None }.covers(addr))
        })
    }

    /// What binds on a service that is configured as `spec`.
    pub(super) fn policy_of(&self, spec: Option<usize>) -> &BindPolicy {
        spec.and_then(|i| self.settings.services.get(i)).map_or(&self.default_policy, |s| &s.policy)
    }

    /// The protocol that the configuration declares for `addr`, as what is read first: MCP comes over HTTP, gRPC over HTTP/2.
    pub(super) fn declared(&self, addr: SocketAddr) -> Option<Protocol> {
        match self.settings.services.get(self.spec_at(addr)?)?.protocol? {
            Protocol::Mcp => Some(Protocol::Http),
            Protocol::Grpc => Some(Protocol::Http2),
            Protocol::Unknown | Protocol::Opaque => None,
            protocol => Some(protocol),
        }
    }
}
