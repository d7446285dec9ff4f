//! The service map: who is at an address, which services there are, and what is noted of their use.

use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use super::context::Context;
use super::downstream::Downstream;
use super::tools::Tools;
use crate::detect::{ServerSet, Table};
use crate::model::{
    BindPolicy, Directory, Fingerprint, Nanos, Protocol, Regulars, Service, ServiceId, Slot, Strength, Sym, TenantId,
    TenantUse, Verdict, Workload, WorkloadId,
};

/// Most workloads made up from bare addresses.
const MAX_ADDRESSES: usize = 4_096;
/// Most tenants kept per service; the rest count as unattributed.
const MAX_SERVICE_TENANTS: usize = 10_000;
/// Most client workloads kept per service.
const MAX_SERVICE_CLIENTS: usize = 10_000;

/// What makes addresses one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ServiceKey {
    Spec(usize),
    /// Behind a proxy, as its clients call it.
    Behind(Sym),
    /// By orchestration: all addresses of one service are it.
    Named(Sym),
    Workload(WorkloadId, u16),
    Address(SocketAddr),
}

#[derive(Debug, Default)]
pub(super) struct Servers(FxHashSet<WorkloadId>);

impl Servers {
    fn forget(&mut self, gone: &FxHashSet<WorkloadId>) {
        self.0.retain(|w| !gone.contains(w));
    }
}

impl ServerSet for Servers {
    fn serves(&self, workload: WorkloadId) -> bool {
        self.0.contains(&workload)
    }
}

/// One data operation on a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServiceUse {
    pub(super) client: Option<WorkloadId>,
    /// For whom it was, if that is known.
    pub(super) tenant: Option<TenantId>,
    pub(super) verdict: Verdict,
    /// User and database that the connection was opened with.
    pub(super) credential: Option<(Fingerprint, Fingerprint)>,
    pub(super) at: Nanos,
}

/// Who is at an address, which services there are, and how they are used.
#[derive(Debug, Default)]
pub(super) struct ServiceMap {
    pub(super) services: Vec<Service>,
    keys: FxHashMap<ServiceKey, ServiceId>,
    /// Workloads that accept connections from others.
    pub(super) servers: Servers,
    /// The first tenant that an unlabelled workload was seen to work for.
    works_for: FxHashMap<WorkloadId, TenantId>,
    listeners: FxHashMap<SocketAddr, WorkloadId>,
    /// Workloads made up from bare addresses.
    addresses: FxHashMap<IpAddr, WorkloadId>,
    /// Tools that servers listed.
    pub(super) tools: Tools,
    /// What tools use.
    pub(super) downstream: Downstream,
}

impl ServiceMap {
    /// Who is at an address: by configuration, by a listener on this host, or the address itself.
    pub(super) fn at_address(
        &mut self,
        ctx: &mut Context,
        addr: SocketAddr,
        peer: SocketAddr,
        allow_bare: bool,
    ) -> Option<WorkloadId> {
        let known = ctx.directory.of_address(addr, peer).or_else(|| self.listeners.get(&addr).copied());
        if let Some(id) = known.or_else(|| ctx.directory.at_ip(addr.ip())) {
            return Some(id);
        }
        if !allow_bare {
            return None;
        }
        if let Some(&id) = self.addresses.get(&addr.ip()) {
            return Some(id);
        }
        if self.addresses.len() >= MAX_ADDRESSES {
            return None;
        }
        let name = ctx.names.intern(&addr.ip().to_string());
        let id = ctx.directory.workload(Workload {
            name,
            cgroup: Sym::EMPTY,
            tenant: None,
            conflicting: false,
            bare: true,
            role: None,
            owner: None,
        })?;
        self.addresses.insert(addr.ip(), id);
        Some(id)
    }

    /// Bounded tables that grow with what is seen, to be counted.
    pub(super) fn tables(&self) -> [&dyn Table; 4] {
        [&self.works_for, &self.listeners, &self.addresses, &self.keys]
    }

    /// Forgets what was learned of workloads.
    pub(super) fn forget_workloads(&mut self, gone: &FxHashSet<WorkloadId>) {
        self.servers.forget(gone);
        self.works_for.retain(|w, _| !gone.contains(w));
        self.listeners.retain(|_, w| !gone.contains(w));
        for service in &mut self.services {
            service.unlabelled.retain(|w, _| !gone.contains(w));
        }
    }

    /// Services behind which a workload is.
    pub(super) fn of_workload(&self, workload: WorkloadId) -> impl Iterator<Item = ServiceId> {
        let all = (0u32..).zip(&self.services);
        all.filter(move |(_, s)| s.workload == Some(workload)).map(|(id, _)| ServiceId(id))
    }

    /// The workload is gone: whoever listens where it did is another.
    pub(super) fn forget_listeners(&mut self, workload: WorkloadId) {
        self.listeners.retain(|_, w| *w != workload);
    }

    /// An address that was known by nothing else has a name now. Gives the workload that was made up for it.
    pub(super) fn forget_bare(&mut self, ip: IpAddr) -> Option<WorkloadId> {
        self.addresses.remove(&ip)
    }

    /// A workload on this host was seen accepting a connection at `addr`.
    pub(super) fn learn_listener(&mut self, ctx: &mut Context, addr: SocketAddr, workload: WorkloadId) {
        self.servers.0.insert(workload);
        if self.listeners.get(&addr) == Some(&workload) {
            return;
        }
        if self.listeners.len() < MAX_ADDRESSES || self.listeners.contains_key(&addr) {
            self.listeners.insert(addr, workload);
        }
        // Until now the service was known by its address alone: it is the same one.
        let key = ServiceKey::Workload(workload, addr.port());
        if let Some(&id) = self.keys.get(&ServiceKey::Address(addr))
            && !self.keys.contains_key(&key)
            && let Some(w) = ctx.directory.get(workload)
            && let Some(s) = self.services.get_mut(id.0 as usize)
        {
            s.workload = Some(workload);
            s.name = w.name;
            ctx.names.keep(w.name);
            self.keys.insert(key, id);
        }
    }

    /// Services are configured otherwise now: each is what the configuration says of its address.
    pub(super) fn place_services(&mut self, ctx: &mut Context) {
        self.keys.retain(|key, _| !matches!(key, ServiceKey::Spec(_)));
        // Their address is a proxy's.
        let behind = self.keys.iter().filter(|(key, _)| matches!(key, ServiceKey::Behind(_)));
        let behind: FxHashSet<u32> = behind.map(|(_, id)| id.0).collect();
        for index in (0..self.services.len()).filter(|i| u32::try_from(*i).is_ok_and(|i| !behind.contains(&i))) {
            let Some((addr, was)) =
                self.services.get(index).filter(|s| s.name != Sym::OTHER).map(|s| (s.address, s.spec))
            else {
                continue;
            };
            let spec = ctx.spec_at(addr);
            let configured = spec.and_then(|i| ctx.settings.services.get(i)).map(|s| (s.name.clone(), s.minimum));
            let (named, workload) = (ctx.directory.service_at(addr), self.services.get(index).and_then(|s| s.workload));
            let (key, name) = match (spec.zip(configured.as_ref()), named, workload) {
                (Some((i, (name, _))), ..) => (ServiceKey::Spec(i), ctx.names.intern(name)),
                (None, Some(name), _) => (ServiceKey::Named(name), name),
                (None, None, Some(w)) if ctx.directory.get(w).is_some_and(|w| !w.bare) => {
                    let name = ctx.directory.get(w).map_or(Sym::OTHER, |w| w.name);
                    (ServiceKey::Workload(w, addr.port()), name)
                }
                (None, None, Some(w)) => (ServiceKey::Workload(w, addr.port()), ctx.names.intern(&addr.to_string())),
                (None, None, None) => (ServiceKey::Address(addr), ctx.names.intern(&addr.to_string())),
            };
            let id = ServiceId(u32::try_from(index).unwrap_or(u32::MAX));
            let Some(s) = self.services.get_mut(index) else { continue };
            s.minimum = configured.and_then(|(_, minimum)| minimum).unwrap_or(minimum(s.protocol));
            s.spec = spec;
            // Names that nobody has configured, before or now, stay as they were found.
            if spec.is_some() || was.is_some() {
                s.name = name;
                self.keys.entry(key).or_insert(id);
            }
        }
    }

    /// Whether somebody is known to serve `protocol` at `addr`: on another connection, or by configuration.
    pub(super) fn serves(
        &self,
        ctx: &Context,
        addr: SocketAddr,
        workload: Option<WorkloadId>,
        protocol: Protocol,
    ) -> bool {
        let by = workload.map(|w| ServiceKey::Workload(w, addr.port()));
        let keys = [Some(ServiceKey::Address(addr)), by];
        let seen = keys.into_iter().flatten().filter_map(|k| self.keys.get(&k));
        let seen = seen
            .filter_map(|id| self.services.get(id.0 as usize))
            .any(|s| s.protocol.passed_on_as() == protocol.passed_on_as());
        seen || ctx.declared(addr) == Some(protocol)
    }

    /// What makes the service at `addr` one.
    pub(super) fn key_at(&self, ctx: &Context, addr: SocketAddr, workload: Option<WorkloadId>) -> ServiceKey {
        match (ctx.spec_at(addr), ctx.directory.service_at(addr), workload) {
            (Some(i), ..) => ServiceKey::Spec(i),
            (None, Some(name), _) => ServiceKey::Named(name),
            (None, None, Some(w)) => ServiceKey::Workload(w, addr.port()),
            (None, None, None) => ServiceKey::Address(addr),
        }
    }

    /// The service with this key, if there is one.
    pub(super) fn id_of(&self, key: ServiceKey) -> Option<ServiceId> {
        self.keys.get(&key).copied()
    }

    /// The workload that was seen to listen at an address.
    pub(super) fn at_listener(&self, addr: SocketAddr) -> Option<WorkloadId> {
        self.listeners.get(&addr).copied()
    }

    /// The service that listens at `addr`.
    pub(super) fn service_at(
        &mut self,
        ctx: &mut Context,
        addr: SocketAddr,
        workload: Option<WorkloadId>,
        protocol: Protocol,
    ) -> ServiceId {
        let (key, spec) = (self.key_at(ctx, addr, workload), ctx.spec_at(addr));
        self.service_with(ctx, (key, spec), (addr, workload), protocol, |ctx| {
            let configured = spec.and_then(|i| ctx.settings.services.get(i)).map(|s| s.name.clone());
            match (configured, ctx.directory.service_at(addr), workload.and_then(|w| ctx.directory.get(w))) {
                (Some(name), ..) => ctx.names.intern(&name),
                (None, Some(named), _) => named,
                // A bare address is named with its port: several services may live there.
                (None, None, Some(w)) if !w.bare => {
                    ctx.names.keep(w.name);
                    w.name
                }
                _ => ctx.names.intern(&addr.to_string()),
            }
        })
    }

    /// The service that the proxy at `addr` lets its clients through to, who call it `to`.
    pub(super) fn service_behind(
        &mut self,
        ctx: &mut Context,
        addr: SocketAddr,
        to: Sym,
        protocol: Protocol,
    ) -> ServiceId {
        self.service_with(ctx, (ServiceKey::Behind(to), None), (addr, None), protocol, |_| to)
    }

    /// The service with this key, which may be configured; a new one is called as `named` says.
    fn service_with(
        &mut self,
        ctx: &mut Context,
        (key, spec): (ServiceKey, Option<usize>),
        (address, workload): (SocketAddr, Option<WorkloadId>),
        protocol: Protocol,
        named: impl FnOnce(&mut Context) -> Sym,
    ) -> ServiceId {
        if let Some(&id) = self.keys.get(&key) {
            if let Some(s) = self.services.get_mut(id.0 as usize) {
                if s.protocol == Protocol::Unknown || s.protocol == Protocol::Opaque {
                    s.protocol = protocol;
                }
                s.workload = s.workload.or(workload);
            }
            return id;
        }
        // Beyond the bound, what is new is one service, named `_other`.
        let limit = ctx.settings.limits.services.max(1);
        if self.services.len() >= limit
            && let Some((last, _)) = (0u32..).zip(&self.services).last()
        {
            return ServiceId(last);
        }
        let last_place = self.services.len() + 1 >= limit;
        let name = if last_place { Sym::OTHER } else { named(ctx) };
        let id = ServiceId(u32::try_from(self.services.len()).unwrap_or(u32::MAX));
        let configured = spec.and_then(|i| ctx.settings.services.get(i));
        self.services.push(Service {
            name,
            protocol,
            address,
            workload,
            minimum: configured.and_then(|s| s.minimum).unwrap_or(minimum(protocol)),
            spec,
            relay: false,
            tenants: FxHashMap::default(),
            clients: FxHashMap::default(),
            n_unattributed: 0,
            unlabelled: FxHashMap::default(),
            shared_since: None,
            n_findings: 0,
            n_bindings: 0,
            regulars: Regulars::default(),
        });
        if !last_place {
            self.keys.insert(key, id);
        }
        id
    }

    /// What binds on `service`.
    pub(super) fn policy<'c>(&self, ctx: &'c Context, service: Option<ServiceId>) -> &'c BindPolicy {
        ctx.policy_of(service.and_then(|s| self.service(s)).and_then(|s| s.spec))
    }

    /// The service behind `id`.
    pub(super) fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.0 as usize)
    }

    /// The service behind `id`, to change.
    pub(super) fn service_mut(&mut self, id: ServiceId) -> Option<&mut Service> {
        self.services.get_mut(id.0 as usize)
    }

    /// A workload without a label works for `tenant`. Who works for two tenants is shared, label or not.
    pub(super) fn works_for(&mut self, client: WorkloadId, tenant: TenantId) {
        if *self.works_for.entry(client).or_insert(tenant) != tenant {
            self.servers.0.insert(client);
        }
    }

    /// Notes a data operation in the service map.
    pub(super) fn note_use(&mut self, directory: &Directory, service: ServiceId, used: ServiceUse) {
        let ServiceUse { client, tenant, verdict, credential, at } = used;
        let labelled = client.and_then(|w| directory.get(w)).is_some_and(|w| w.tenant.is_some());
        if let (Some(client), Some(tenant), false) = (client, tenant, labelled) {
            self.works_for(client, tenant);
        }
        let Some(s) = self.services.get_mut(service.0 as usize) else { return };
        if let Some(client) = client
            && (s.clients.len() < MAX_SERVICE_CLIENTS || s.clients.contains_key(&client))
        {
            *s.clients.entry(client).or_default() += u64::from(tenant.is_none());
            if !labelled && tenant.is_none() && s.shared_since.is_some() {
                *s.unlabelled.entry(client).or_default() += 1;
            }
        }
        let Some(tenant) = tenant.filter(|t| s.tenants.len() < MAX_SERVICE_TENANTS || s.tenants.contains_key(t)) else {
            s.n_unattributed += 1;
            return;
        };
        let u = s.tenants.entry(tenant).or_insert_with(|| TenantUse { first_seen: at, ..TenantUse::default() });
        u.last_seen = u.last_seen.max(at);
        if let Some(n) = Verdict::ALL.iter().position(|v| *v == verdict).and_then(|i| u.verdicts.get_mut(i)) {
            *n += 1;
        }
        let new = credential.filter(|c| !u.credentials.contains(c) && u.credentials.len() < 8);
        u.credentials.extend(new);
        u.credentials_incomplete |= credential.is_none_or(|c| !u.credentials.contains(&c));
        s.regulars.used(tenant, u, verdict, new);
        if s.shared_since.is_none() && s.tenants.len() >= 2 {
            s.shared_since = Some(at);
        }
    }

    /// Notes an acknowledged binding in the service map.
    pub(super) fn note_binding(&mut self, service: ServiceId, slot: Slot, tenant: Option<TenantId>, at: Nanos) {
        let Some(s) = self.services.get_mut(service.0 as usize) else { return };
        s.n_bindings += 1;
        let Some(u) = tenant.and_then(|t| s.tenants.get_mut(&t)) else { return };
        u.last_seen = u.last_seen.max(at);
        let room = u.bindings.len() < 8;
        match u.bindings.iter_mut().find(|(b, _)| *b == slot) {
            Some((_, n)) => *n += 1,
            None if room => u.bindings.push((slot, 1)),
            None => {}
        }
    }
}

/// The weakest binding that counts unless the operator says otherwise (`docs/domain.md#strength-of-a-binding`): a selector that the server
/// enforces for databases, a credential for requests. A cache mostly knows one user, and its keys carry the tenant.
fn minimum(protocol: Protocol) -> Strength {
    match protocol {
        Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Mcp => Strength::V3,
        Protocol::Redis | Protocol::Memcached => Strength::V1,
        _ => Strength::V2,
    }
}
