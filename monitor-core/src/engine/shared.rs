//! What all connections share: names, identity, relays, rules and findings.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};
use smallvec::SmallVec;

use super::conn::{Core, Pending};
use super::downstream::Downstream;
use super::elsewhere::Elsewhere;
use super::habits::Habits;
use super::held::Held;
use super::jars::Jars;
use super::lookups::Lookups;
use super::messages::Messages;
use super::output::{OperationView, Output, ToOutput};
use super::owners::{Owners, TenantValues};
use super::selectors::Selectors;
use super::services::{Servers, ServiceKey};
use super::stats::Stats;
use super::tools::Tools;
use crate::attribute::forwarded::{Forwarding, Inbound, Relay, Settled};
use crate::attribute::through::{Place, RequestKey};
use crate::decode::canary::CanarySet;
use crate::decode::infer;
use crate::decode::token::Verifier;
use crate::detect::recent::Recent;
use crate::detect::{self, Contradiction, Hit, Outcome, Rule, RuleEvent, Store, World};
use crate::model::mcp::Exchange;
use crate::model::shown::{Shown, with_ids};
use crate::model::token::Token;
use crate::model::{
    Answer, BindPolicy, ConnId, Directory, Fingerprint, Interner, MarkerPlace, Missed, Nanos, OpKind, OpaqueId, Owner,
    Protocol, Service, ServiceId, Settings, Severity, Sym, TenantId, TenantTable, Unseen, Verdict, Workload,
    WorkloadId,
};

/// Most names (tables, settings, workloads …) told apart.
const MAX_NAMES: usize = 65_536;
/// Most opaque tenant ids remembered over all services.
const MAX_ALIASES: usize = 65_536;
/// Most pairs of a place and a protocol that it opens connections of itself.
const MAX_RELAYS: usize = 65_536;
/// Most contradictions of identity that wait to be told: they do so for a quarter of a second.
const MAX_CONTRADICTIONS: usize = 1_024;
/// Most connections that are remembered as those of contradicted clients: requests are settled within seconds.
const MAX_DOUBTED: usize = 16_384;
/// Most processes that are followed because they work for others.
const MAX_PLACES: usize = 1_024;

/// The shared half of the engine.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) tenants: TenantTable,
    pub(super) names: Interner,
    pub(super) directory: Directory,
    pub(super) services: Vec<Service>,
    pub(super) service_keys: FxHashMap<ServiceKey, ServiceId>,
    /// Policy of services without a configuration.
    pub(super) default_policy: BindPolicy,
    pub(super) servers: Servers,
    /// The first tenant that an unlabelled workload was seen to work for.
    pub(super) works_for: FxHashMap<WorkloadId, TenantId>,
    pub(super) listeners: FxHashMap<SocketAddr, WorkloadId>,
    pub(super) addresses: FxHashMap<IpAddr, WorkloadId>,
    pub(super) forwarding: Forwarding,
    pub(super) settled: Vec<Settled>,
    /// Places that open connections of a protocol themselves: only what enters these can be forwarded.
    relays: FxHashSet<(Relay, Protocol)>,
    /// Places that were asked something over HTTP.
    pub(super) asked_over_http: FxHashSet<Relay>,
    /// Relays seen for the first time: requests already under way there are entered late.
    pub(super) new_relays: Vec<(Relay, Protocol)>,
    /// Processes that work for many tenants: what is in flight there.
    pub(super) places: FxHashMap<Relay, Place>,
    /// Connections with units of work to be looked at, soonest first.
    pub(super) due: VecDeque<(Nanos, ConnId)>,
    /// Answers of such processes to be looked at, soonest first.
    pub(super) answers: VecDeque<(Nanos, ConnId, u64)>,
    /// Requests whose sender has gone: until when they count as in flight.
    pub(super) deserted: VecDeque<(Nanos, Relay, RequestKey)>,
    /// Whose credentials and opaque ids are.
    pub(super) owners: Owners,
    /// Whose the values of selectors are.
    pub(super) selectors: Selectors,
    /// Which cookies are sessions, and whose.
    pub(super) jars: Jars,
    /// What tables are read for.
    pub(super) lookups: Lookups,
    /// Connections with reads that are held, and until when, soonest first.
    pub(super) held: VecDeque<(Nanos, ConnId)>,
    /// Tenants whose own units bound an opaque value, by service.
    pub(super) aliases: FxHashMap<(ServiceId, OpaqueId), SmallVec<[TenantId; 1]>>,
    /// What clients use only bound.
    pub(super) habits: Habits,
    /// Workloads that bind for whole sessions on a service.
    pub(super) binds_sessions: FxHashSet<(Option<WorkloadId>, ServiceId)>,
    /// Every rule, and whether the operator left it on. One that is off follows what happens all the same: switched on
    /// later, it must not take for unseen what it only was not asked about.
    pub(super) rules: Vec<(bool, Box<dyn Rule>)>,
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
    /// Jobs that may be confirmed on another connection.
    pub(super) elsewhere: Elsewhere,
    /// Tenants by the fingerprints of their names.
    pub(super) tenant_values: TenantValues,
    /// What was missed, and where.
    pub(super) missed: Missed,
    /// Hits that wait until it would have shown that something was missed.
    pub(super) held_hits: Held,
    /// Workloads without a place, and since when, oldest first.
    pub(super) gone: VecDeque<(Nanos, WorkloadId)>,
    /// Connections of clients whose tenant is contradicted that have sent something through a relay.
    pub(super) doubted: Recent<ConnId, ()>,
    /// Workloads of which two tenants are named, to be told to rules.
    contradictions: Vec<Contradiction>,
    /// The time of the event that is being handled.
    pub(super) now: Nanos,
}

/// Rules, what they see, and where what they find goes.
struct Bench<'a> {
    world: World<'a>,
    rules: &'a mut [(bool, Box<dyn Rule>)],
    hits: &'a mut Vec<Hit>,
    store: &'a mut Store,
    stats: &'a mut Stats,
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
        let mut rules: Vec<_> = detect::all().into_iter().map(|rule| (store.enabled(rule.info().id), rule)).collect();
        for (_, rule) in &mut rules {
            rule.tables().iter_mut().for_each(|table| table.bound(settings.limits.memory));
        }
        Self {
            tenants,
            names: Interner::showing(MAX_NAMES, Shown::new(&settings.show, settings.salt)),
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
            asked_over_http: FxHashSet::default(),
            new_relays: Vec::new(),
            places: FxHashMap::default(),
            due: VecDeque::new(),
            answers: VecDeque::new(),
            deserted: VecDeque::new(),
            owners: Owners::default(),
            selectors: Selectors::default(),
            jars: Jars::default(),
            lookups: Lookups::default(),
            held: VecDeque::new(),
            aliases: FxHashMap::default(),
            habits: Habits::default(),
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
            elsewhere: Elsewhere::default(),
            tenant_values,
            missed: Missed::default(),
            held_hits: Held::default(),
            gone: VecDeque::new(),
            doubted: Recent::new(MAX_DOUBTED),
            contradictions: Vec::new(),
            now: Nanos(0),
            settings,
        }
    }

    /// The workload of a fact from identity.
    pub(super) fn workload(&mut self, fact: &super::WorkloadFact) -> WorkloadId {
        // Two spellings of one tenant are no contradiction.
        let mut named: SmallVec<[TenantId; 2]> = SmallVec::new();
        for one in &fact.tenants {
            let id = self.tenants.intern(one);
            self.tenant_values.add(self.settings.salt, one, id);
            if !named.contains(&id) {
                named.push(id);
            }
        }
        let tenant = named.first().copied().filter(|_| named.len() == 1);
        // Workloads come and go, and their names with them.
        let names = &mut self.names;
        let (name, cgroup) = (names.intern_passing(&fact.name), names.intern_passing(&fact.cgroup));
        let conflicting = named.len() > 1;
        let owner = fact.owner.as_ref().map(|o| Owner {
            kind: names.intern_passing(&o.kind),
            namespace: names.intern_passing(&o.namespace),
            name: names.intern_passing(&o.name),
            pod: names.intern_passing(&o.pod),
        });
        let known = self.directory.len();
        let new = Workload { name, cgroup, tenant, conflicting, bare: false, role: fact.role, owner };
        let workload = self.directory.workload(new);
        if self.directory.len() > known {
            self.names.hold(name);
            self.names.hold(cgroup);
            for name in owner.into_iter().flat_map(Owner::names) {
                self.names.hold(name);
            }
        }
        if let [first, other, ..] = *named
            && self.contradictions.len() < MAX_CONTRADICTIONS
        {
            let pod = owner.is_some_and(|o| o.pod != Sym::EMPTY);
            self.contradictions.push(Contradiction { workload, at: self.now, first, other, pod });
        }
        workload
    }

    /// Forgets relays that are not `there` any more, and what they bind.
    pub(super) fn forget_relays(&mut self, there: &dyn Fn(&Relay) -> bool) {
        self.relays.retain(|(relay, _)| there(relay));
        self.binds_sessions.retain(|(client, _)| client.is_none_or(|w| there(&Relay::Workload(w))));
    }

    /// `relay` opens connections of `protocol` itself.
    pub(super) fn opens(&mut self, relay: Relay, protocol: Protocol) {
        if self.relays.len() < MAX_RELAYS && self.relays.insert((relay, protocol)) {
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

    /// Rules, and what they see.
    fn bench(&mut self) -> Bench<'_> {
        let world = World {
            services: &self.services,
            directory: &self.directory,
            tenants: &self.tenants,
            names: &self.names,
            servers: &self.servers,
            settings: &self.settings,
            missed: &self.missed,
        };
        Bench { world, rules: &mut self.rules, hits: &mut self.hits, store: &mut self.store, stats: &mut self.stats }
    }

    /// Shows an event to every rule and hands out what they find, at once or once it is known that nothing it rests on was
    /// missed.
    pub(super) fn detect(&mut self, event: &RuleEvent<'_>, out: &mut dyn Output) {
        let Bench { world, rules, hits, stats, .. } = self.bench();
        let mut found: SmallVec<[(Hit, SmallVec<[Unseen; 2]>); 1]> = SmallVec::new();
        for (on, rule) in rules {
            let outcome = rule.on_event(event, &world, hits);
            if !*on {
                hits.clear();
                continue;
            }
            if let Outcome::Insufficient(reason) = outcome {
                *stats.insufficient.entry((rule.info().id, reason)).or_default() += 1;
            }
            for hit in hits.drain(..) {
                let rests_on = rule.rests_on(&hit, &world);
                found.push((hit, rests_on));
            }
        }
        for (hit, rests_on) in found {
            self.hit(hit, rests_on, out);
        }
    }

    /// Whether it is contradicted whose the client of a connection is.
    pub(super) fn is_doubtful(&self, core: &Core) -> bool {
        core.client_workload.and_then(|w| self.directory.get(w)).is_some_and(|w| w.conflicting)
    }

    /// A request of this connection enters a relay: what comes of it there is as doubtful as its client is.
    pub(super) fn enters(&mut self, relay: Relay, print: Fingerprint, core: &Core, request: u64, begun: Nanos) {
        let tenant = core.endpoint.map(|a| a.tenant);
        if tenant.is_none() && self.is_doubtful(core) {
            self.doubted.insert(core.id, ());
        }
        let inbound = Inbound { conn: core.id, request, tenant, service: core.service, begun };
        self.forwarding.enter(relay, print, inbound);
    }

    /// Tells rules whose identity contradicts itself.
    pub(super) fn contradicted(&mut self, out: &mut dyn Output) {
        for c in std::mem::take(&mut self.contradictions) {
            self.detect(&RuleEvent::Contradicted(c), out);
        }
    }

    /// Hands out a hit as a finding.
    pub(super) fn found(&mut self, hit: &Hit, out: &mut dyn Output) {
        let Bench { world, rules, store, stats, .. } = self.bench();
        // A hit may have waited while its rule was switched off.
        let Some((true, rule)) = rules.iter().find(|(_, r)| r.info().id == hit.rule) else { return };
        if rule.withdraws(hit) {
            return;
        }
        let told = store.add(hit, rule.as_ref(), &world, &mut ToOutput(out));
        let Some(severity) = told else { return };
        let key = (hit.rule, severity, hit.class, hit.site.service, hit.used, hit.bound);
        *stats.findings.entry(key).or_default() += 1;
        if severity >= Severity::High
            && let Some(s) = hit.site.service.and_then(|id| self.service_mut(id))
        {
            s.n_findings += 1;
        }
    }

    /// Hands out findings that have happened again, with their names as they may be shown by now.
    pub(super) fn hand_out(&mut self, now: Nanos, ended: bool, out: &mut dyn Output) {
        let world = World {
            services: &self.services,
            directory: &self.directory,
            tenants: &self.tenants,
            names: &self.names,
            servers: &self.servers,
            settings: &self.settings,
            missed: &self.missed,
        };
        self.store.refresh(&self.rules, &world);
        self.store.flush(now, ended, &self.rules, &world, &mut ToOutput(out));
    }

    /// Counts an operation of a connection and hands it out, if wanted.
    pub(super) fn note_operation(
        &mut self,
        core: &Core,
        pending: &Pending,
        answer: Answer,
        verdict: Verdict,
        out: &mut dyn Output,
    ) {
        let service = core.service.unwrap_or(ServiceId(u32::MAX));
        let (op, protocol) = (&pending.op, pending.protocol);
        if op.outcome == crate::model::Outcome::Ok {
            // What a server refuses may be anything: only what it accepts says how it calls its things.
            let tenant = answer.attribution().map(|a| a.tenant);
            for name in [op.verb, op.target] {
                self.names.used(name, tenant, core.id, !self.tenants.is_empty());
            }
        }
        *self.stats.operations.entry((service, protocol, op.kind, verdict)).or_default() += 1;
        if self.settings.operations {
            let tenant = answer.attribution().map(|a| self.tenants.name(a.tenant));
            out.operation(&OperationView {
                flow: (core.client, core.server),
                protocol,
                op,
                verb: self.names.name(op.verb),
                target: &with_ids(self.names.name(op.target), op.ids),
                answer,
                tenant,
                verdict: if op.kind == OpKind::Data { verdict } else { Verdict::None },
            });
        }
    }
}
