//! What all connections share: names, identity, the service map, relays, rules and findings.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::conn::Core;
use super::downstream::Downstream;
use super::messages::Messages;
use super::output::{OperationView, Output};
use super::owners::{Owners, TenantValues};
use super::stats::Stats;
use super::tools::Tools;
use crate::attribute::forwarded::{Forwarding, Relay, Settled};
use crate::attribute::through::Place;
use crate::decode::canary::CanarySet;
use crate::decode::infer;
use crate::decode::token::Verifier;
use crate::detect::{self, Hit, Outcome, Rule, RuleEvent, ServerSet, Store, World};
use crate::model::mcp::Exchange;
use crate::model::token::Token;
use crate::model::{
    Answer, BindPolicy, ConnId, Directory, Interner, MarkerPlace, Nanos, OpKind, OpaqueId, Operation, Protocol,
    Service, ServiceId, Settings, Severity, Slot, Strength, Sym, TenantId, TenantTable, TenantUse, Verdict, Workload,
    WorkloadId,
};

/// Most names (tables, settings, workloads …) told apart.
const MAX_NAMES: usize = 65_536;
/// Most opaque tenant ids remembered over all services.
const MAX_ALIASES: usize = 65_536;
/// Most workloads made up from bare addresses.
const MAX_ADDRESSES: usize = 4_096;
/// Most tenants kept per service; the rest count as unattributed.
const MAX_SERVICE_TENANTS: usize = 10_000;
/// Most processes that are followed because they work for others.
const MAX_PLACES: usize = 1_024;
/// Most client workloads kept per service.
const MAX_SERVICE_CLIENTS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ServiceKey {
    Spec(usize),
    /// By orchestration: all addresses of one service are it.
    Named(Sym),
    Workload(WorkloadId, u16),
    Address(SocketAddr),
}

#[derive(Debug, Default)]
struct Servers(FxHashSet<WorkloadId>);

impl ServerSet for Servers {
    fn serves(&self, workload: WorkloadId) -> bool {
        self.0.contains(&workload)
    }
}

/// The shared half of the engine.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tenants: TenantTable,
    pub(super) names: Interner,
    pub(super) directory: Directory,
    pub(super) services: Vec<Service>,
    service_keys: FxHashMap<ServiceKey, ServiceId>,
    /// Policy of services without a configuration.
    default_policy: BindPolicy,
    servers: Servers,
    /// The first tenant that an unlabelled workload was seen to work for.
    works_for: FxHashMap<WorkloadId, TenantId>,
    listeners: FxHashMap<SocketAddr, WorkloadId>,
    addresses: FxHashMap<IpAddr, WorkloadId>,
    pub(super) forwarding: Forwarding,
    pub(super) settled: Vec<Settled>,
    /// Places that open connections of a protocol themselves: only what enters these can be forwarded.
    relays: FxHashSet<(Relay, Protocol)>,
    /// Relays seen for the first time: requests already under way there are entered late.
    pub(super) new_relays: Vec<(Relay, Protocol)>,
    /// Processes that work for many tenants: what is in flight there.
    pub(super) places: FxHashMap<Relay, Place>,
    /// Connections with units of work to be looked at, soonest first.
    pub(super) due: VecDeque<(Nanos, ConnId)>,
    /// Answers of such processes to be looked at, soonest first.
    pub(super) answers: VecDeque<(Nanos, ConnId, u64)>,
    /// Whose credentials and opaque ids are.
    pub(super) owners: Owners,
    /// Tenants whose own units bound an opaque value, by service.
    aliases: FxHashMap<(ServiceId, OpaqueId), SmallVec<[TenantId; 1]>>,
    /// Workloads that bind for whole sessions on a service.
    binds_sessions: FxHashSet<(Option<WorkloadId>, ServiceId)>,
    rules: Vec<Box<dyn Rule>>,
    hits: Vec<Hit>,
    pub(super) store: Store,
    pub(super) stats: Stats,
    /// Connections with operations that wait for their tenant, oldest first.
    pub(super) waiting: VecDeque<(Nanos, ConnId)>,
    pub(super) decoders: infer::Shared,
    /// Reads tokens.
    pub(super) tokens: Verifier,
    /// Values planted in tenants' data.
    pub(super) canaries: CanarySet,
    /// Tools that servers listed.
    pub(super) tools: Tools,
    /// What tools use.
    pub(super) downstream: Downstream,
    /// Messages on their way.
    pub(super) messages: Messages,
    /// Tenants by the fingerprints of their names.
    pub(super) tenant_values: TenantValues,
    /// The time of the event that is being handled.
    pub(super) now: Nanos,
}

impl Shared {
    pub(super) fn new(settings: Settings) -> Self {
        let mut tenants = TenantTable::default();
        for spec in &settings.tenants {
            let id = tenants.intern(&spec.name);
            for alias in &spec.aliases {
                tenants.alias(id, alias);
            }
        }
        let mut tenant_values = TenantValues::default();
        for spec in &settings.tenants {
            let id = tenants.intern(&spec.name);
            for spelling in std::iter::once(&spec.name).chain(&spec.aliases) {
                tenant_values.add(settings.salt, spelling, id);
            }
        }
        let canaries = CanarySet::new(&settings.canaries, &mut |name| tenants.intern(name));
        // The configuration has refused what is wrong with keys; what is left is used.
        let (tokens, _) = Verifier::new(&settings.tokens, settings.salt);
        let store = Store::new(settings.rules.clone(), settings.suppress.clone());
        let rules = detect::all().into_iter().filter(|r| store.enabled(r.info().id)).collect();
        Self {
            tenants,
            names: Interner::new(MAX_NAMES),
            directory: Directory::default(),
            services: Vec::new(),
            service_keys: FxHashMap::default(),
            default_policy: BindPolicy::default(),
            servers: Servers::default(),
            works_for: FxHashMap::default(),
            listeners: FxHashMap::default(),
            addresses: FxHashMap::default(),
            forwarding: Forwarding::default(),
            settled: Vec::new(),
            relays: FxHashSet::default(),
            new_relays: Vec::new(),
            places: FxHashMap::default(),
            due: VecDeque::new(),
            answers: VecDeque::new(),
            owners: Owners::default(),
            aliases: FxHashMap::default(),
            binds_sessions: FxHashSet::default(),
            rules,
            hits: Vec::new(),
            store,
            stats: Stats::default(),
            waiting: VecDeque::new(),
            decoders: infer::Shared::new(settings.salt, &settings.headers),
            tokens,
            canaries,
            tools: Tools::default(),
            downstream: Downstream::default(),
            messages: Messages::default(),
            tenant_values,
            now: Nanos(0),
            settings,
        }
    }

    /// The workload of a fact from identity.
    pub(super) fn workload(&mut self, fact: &super::WorkloadFact) -> WorkloadId {
        let tenant = match fact.tenants.as_slice() {
            [one] => {
                let id = self.tenants.intern(one);
                self.tenant_values.add(self.settings.salt, one, id);
                Some(id)
            }
            _ => None,
        };
        let (name, cgroup) = (self.names.intern(&fact.name), self.names.intern(&fact.cgroup));
        let conflicting = fact.tenants.len() > 1;
        self.directory.workload(Workload { name, cgroup, tenant, conflicting, bare: false, role: fact.role })
    }

    /// Who is at an address: by configuration, by a listener on this host, or the address itself.
    pub(super) fn at_address(&mut self, addr: SocketAddr, peer: SocketAddr, allow_bare: bool) -> Option<WorkloadId> {
        let known = self.directory.of_address(addr, peer).or_else(|| self.listeners.get(&addr).copied());
        if let Some(id) = known.or_else(|| self.directory.at_ip(addr.ip())) {
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
        let name = self.names.intern(&addr.ip().to_string());
        let id = self.directory.workload(Workload {
            name,
            cgroup: Sym::EMPTY,
            tenant: None,
            conflicting: false,
            bare: true,
            role: None,
        });
        self.addresses.insert(addr.ip(), id);
        Some(id)
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
    pub(super) fn learn_listener(&mut self, addr: SocketAddr, workload: WorkloadId) {
        self.servers.0.insert(workload);
        if self.listeners.get(&addr) == Some(&workload) {
            return;
        }
        if self.listeners.len() < MAX_ADDRESSES || self.listeners.contains_key(&addr) {
            self.listeners.insert(addr, workload);
        }
        // Until now the service was known by its address alone: it is the same one.
        let key = ServiceKey::Workload(workload, addr.port());
        if let Some(&id) = self.service_keys.get(&ServiceKey::Address(addr))
            && !self.service_keys.contains_key(&key)
            && let Some(w) = self.directory.get(workload)
            && let Some(s) = self.services.get_mut(id.0 as usize)
        {
            s.workload = Some(workload);
            s.name = w.name;
            self.service_keys.insert(key, id);
        }
    }

    /// The service that listens at `addr`.
    pub(super) fn service(&mut self, addr: SocketAddr, workload: Option<WorkloadId>, protocol: Protocol) -> ServiceId {
        let spec = self.settings.services.iter().position(|s| {
            s.port.is_none_or(|p| p == addr.port())
                && s.net.is_none_or(|(net, prefix)| {
                    crate::model::identity::AddressRule { net, prefix, port: None, workload: WorkloadId(0) }
                        .covers(addr)
                })
        });
        let named = self.directory.service_at(addr);
        let key = match (spec, named, workload) {
            (Some(i), ..) => ServiceKey::Spec(i),
            (None, Some(name), _) => ServiceKey::Named(name),
            (None, None, Some(w)) => ServiceKey::Workload(w, addr.port()),
            (None, None, None) => ServiceKey::Address(addr),
        };
        if let Some(&id) = self.service_keys.get(&key) {
            if let Some(s) = self.services.get_mut(id.0 as usize) {
                if s.protocol == Protocol::Unknown || s.protocol == Protocol::Opaque {
                    s.protocol = protocol;
                }
                s.workload = s.workload.or(workload);
            }
            return id;
        }
        // Beyond the bound, what is new is one service, named `_other`.
        let full = self.services.len() >= self.settings.limits.services.max(1);
        if full && let Some((last, _)) = (0u32..).zip(&self.services).last() {
            return ServiceId(last);
        }
        let last_place = self.services.len() + 1 >= self.settings.limits.services.max(1);
        let configured = spec.and_then(|i| self.settings.services.get(i));
        let name = match (configured, workload.and_then(|w| self.directory.get(w))) {
            _ if last_place => Sym::OTHER,
            (Some(s), _) => {
                let name = s.name.clone();
                self.names.intern(&name)
            }
            (None, _) if named.is_some() => named.unwrap_or(Sym::OTHER),
            // A bare address is named with its port: several services may live there.
            (None, Some(w)) if !w.bare => w.name,
            _ => self.names.intern(&addr.to_string()),
        };
        let id = ServiceId(u32::try_from(self.services.len()).unwrap_or(u32::MAX));
        self.services.push(Service {
            name,
            protocol,
            address: addr,
            workload,
            minimum: spec
                .and_then(|i| self.settings.services.get(i))
                .and_then(|s| s.minimum)
                .unwrap_or(minimum(protocol)),
            spec,
            relay: false,
            tenants: FxHashMap::default(),
            clients: FxHashMap::default(),
            n_unattributed: 0,
            unlabelled: FxHashMap::default(),
            shared_since: None,
            n_findings: 0,
            n_bindings: 0,
        });
        if !last_place {
            self.service_keys.insert(key, id);
        }
        id
    }

    /// What binds on `service`.
    pub(super) fn policy(&self, service: Option<ServiceId>) -> &BindPolicy {
        service
            .and_then(|s| self.services.get(s.0 as usize))
            .and_then(|s| s.spec)
            .and_then(|i| self.settings.services.get(i))
            .map_or(&self.default_policy, |s| &s.policy)
    }

    /// `relay` opens connections of `protocol` itself.
    pub(super) fn opens(&mut self, relay: Relay, protocol: Protocol) {
        if self.relays.insert((relay, protocol)) {
            self.new_relays.push((relay, protocol));
        }
        // Whoever shares a loopback address is not one process.
        let one_process = !matches!(relay, Relay::Address(ip) if ip.is_loopback());
        if one_process && (self.places.len() < MAX_PLACES || self.places.contains_key(&relay)) {
            self.places.entry(relay).or_default();
        }
    }

    /// Whether requests that enter `relay` can leave it again.
    pub(super) fn is_relay(&self, relay: Relay, protocol: Protocol) -> bool {
        self.relays.contains(&(relay, protocol))
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
        if !owners.contains(&tenant) && owners.len() < 8 {
            owners.push(tenant);
        }
    }

    pub(super) fn learn_session_binding(&mut self, workload: Option<WorkloadId>, service: ServiceId) {
        self.binds_sessions.insert((workload, service));
    }

    pub(super) fn binds_sessions(&self, workload: Option<WorkloadId>, service: ServiceId) -> bool {
        self.binds_sessions.contains(&(workload, service))
    }

    /// The service behind `id`, to change.
    pub(super) fn service_mut(&mut self, id: ServiceId) -> Option<&mut Service> {
        self.services.get_mut(id.0 as usize)
    }

    /// Notes a data operation in the service map.
    pub(super) fn note_use(
        &mut self,
        service: ServiceId,
        client: Option<WorkloadId>,
        tenant: Option<TenantId>,
        verdict: Verdict,
        credential: Option<(crate::model::Fingerprint, crate::model::Fingerprint)>,
        at: Nanos,
    ) {
        let labelled = client.and_then(|w| self.directory.get(w)).is_some_and(|w| w.tenant.is_some());
        // Who works for two tenants is shared, label or not.
        if let (Some(client), Some(tenant), false) = (client, tenant, labelled)
            && *self.works_for.entry(client).or_insert(tenant) != tenant
        {
            self.servers.0.insert(client);
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
        match credential {
            Some(c) if u.credentials.contains(&c) => {}
            Some(c) if u.credentials.len() < 8 => u.credentials.push(c),
            _ => u.credentials_incomplete = true,
        }
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

    /// Notes what an exchange tells of a server's tools.
    pub(super) fn note_tools(&mut self, service: Option<ServiceId>, exchange: &Exchange) {
        if let Some(service) = service {
            self.tools.note(service, exchange);
        }
    }

    /// What may be known of a token that was presented to `service`.
    pub(super) fn token(&mut self, service: Option<ServiceId>, scheme: &str, token: &str) -> Option<Token> {
        let (tenants, salt) = (&self.tenants, self.settings.salt);
        let policy = service
            .and_then(|s| self.services.get(s.0 as usize))
            .and_then(|s| s.spec)
            .and_then(|i| self.settings.services.get(i))
            .map_or(&self.default_policy, |s| &s.policy);
        let name = service.and_then(|s| self.services.get(s.0 as usize)).map(|s| self.names.name(s.name));
        let mut whom = |value: &str| policy.marker(tenants, salt, MarkerPlace::Header, "tenant", value);
        self.tokens.inspect(scheme, token, self.now, name, &mut whom)
    }

    /// Shows an event to every rule and hands out what they find.
    pub(super) fn detect(&mut self, event: &RuleEvent<'_>, out: &mut dyn Output) {
        let world = World {
            services: &self.services,
            directory: &self.directory,
            tenants: &self.tenants,
            names: &self.names,
            servers: &self.servers,
            settings: &self.settings,
        };
        let mut bad: SmallVec<[ServiceId; 2]> = SmallVec::new();
        for rule in &mut self.rules {
            if let Outcome::Insufficient(reason) = rule.on_event(event, &world, &mut self.hits) {
                *self.stats.insufficient.entry((rule.info().id, reason)).or_default() += 1;
            }
            for hit in self.hits.drain(..) {
                let told = self.store.add(&hit, rule.as_ref(), &world, &mut |f, e| out.finding(f, e));
                if let Some(severity) = told {
                    let key = (hit.rule, severity, hit.class, hit.site.service, hit.used);
                    *self.stats.findings.entry(key).or_default() += 1;
                    if severity >= Severity::High {
                        bad.extend(hit.site.service);
                    }
                }
            }
        }
        for id in bad {
            if let Some(s) = self.service_mut(id) {
                s.n_findings += 1;
            }
        }
    }

    /// Counts an operation of a connection and hands it out, if wanted.
    pub(super) fn note_operation(
        &mut self,
        core: &Core,
        op: &Operation,
        answer: Answer,
        verdict: Verdict,
        out: &mut dyn Output,
    ) {
        let service = core.service.unwrap_or(ServiceId(u32::MAX));
        *self.stats.operations.entry((service, core.protocol, op.kind, verdict)).or_default() += 1;
        if self.settings.operations {
            let tenant = answer.attribution().map(|a| self.tenants.name(a.tenant));
            out.operation(&OperationView {
                flow: (core.client, core.server),
                protocol: core.protocol,
                op,
                verb: self.names.name(op.verb),
                target: self.names.name(op.target),
                answer,
                tenant,
                verdict: if op.kind == OpKind::Data { verdict } else { Verdict::None },
            });
        }
    }
}

/// The weakest binding that counts unless the operator says otherwise (domain document §0): a selector that the server
/// enforces for databases, a credential for requests. A cache mostly knows one user, and its keys carry the tenant.
fn minimum(protocol: Protocol) -> Strength {
    match protocol {
        Protocol::Http | Protocol::Mcp => Strength::V3,
        Protocol::Redis => Strength::V1,
        _ => Strength::V2,
    }
}

/// One tenant's use of a service, with names.
pub(super) fn tenant_view(s: &Shared, tenant: TenantId, u: &TenantUse) -> super::TenantView {
    super::TenantView {
        tenant: s.tenants.name(tenant).to_owned(),
        first_seen: u.first_seen,
        last_seen: u.last_seen,
        verdicts: Verdict::ALL.iter().zip(u.verdicts).filter(|(_, n)| *n > 0).map(|(v, n)| (v.name(), n)).collect(),
        bindings: u
            .bindings
            .iter()
            .map(|(slot, n)| {
                let name = match slot {
                    Slot::Setting(name) => s.names.name(*name).to_owned(),
                    Slot::Role => "role".to_owned(),
                    Slot::SessionUser => "session_authorization".to_owned(),
                    Slot::User => "user".to_owned(),
                    Slot::Database => "database".to_owned(),
                    Slot::SearchPath => "search_path".to_owned(),
                    Slot::ConnectionAuth => "connection_auth".to_owned(),
                    Slot::Credential => "credential".to_owned(),
                    Slot::Marker => "marker".to_owned(),
                };
                (name, *n)
            })
            .collect(),
    }
}
