//! For whom work is done where it goes through others: processes that many tenants share, and relays that pass on what
//! they were sent.

use rustc_hash::{FxHashMap, FxHashSet};

use super::facts::ConnFacts;
use crate::attribute::forwarded::{Forwarding, Inbound, OriginFound, Relay};
use crate::attribute::through::SharedProcess;
use crate::detect::Table;
use crate::detect::recent::Recent;
use crate::model::{ConnId, Directory, Fingerprint, Nanos, Protocol, Side, WorkloadId};

/// Most pairs of a relay and a protocol that it opens connections of itself.
const MAX_RELAYS: usize = 65_536;
/// Most connections that are remembered as those of contradicted clients: requests are settled within seconds.
const MAX_DOUBTED: usize = 16_384;
/// Most processes that are followed because they work for others.
const MAX_PROCESSES: usize = 1_024;
/// Most relays that are known to be asked something over HTTP.
const MAX_ASKED: usize = 65_536;

/// See the module.
#[derive(Debug)]
pub(super) struct Attributor {
    pub(super) forwarding: Forwarding,
    /// Requests of which it has just become known where they came from.
    pub(super) origins_found: Vec<OriginFound>,
    /// Relays that open connections of a protocol themselves: only what enters these can be forwarded.
    relays: FxHashSet<(Relay, Protocol)>,
    /// Relays that were asked something over HTTP.
    asked_over_http: FxHashSet<Relay>,
    /// Relays seen for the first time: requests already under way there are entered late.
    pub(super) new_relays: Vec<(Relay, Protocol)>,
    /// Processes that work for many tenants: what is in flight there.
    pub(super) processes: FxHashMap<Relay, SharedProcess>,
    /// Connections of clients whose tenant is contradicted that have sent something through a relay.
    doubted: Recent<ConnId, ()>,
}

impl Default for Attributor {
    fn default() -> Self {
        Self {
            forwarding: Forwarding::default(),
            origins_found: Vec::new(),
            relays: FxHashSet::default(),
            asked_over_http: FxHashSet::default(),
            new_relays: Vec::new(),
            processes: FxHashMap::default(),
            doubted: Recent::new(MAX_DOUBTED),
        }
    }
}

impl Attributor {
    /// The shared process where this connection's requests come in, if it is followed.
    pub(super) fn inbound(&self, facts: &ConnFacts) -> Option<Relay> {
        facts.enters.filter(|r| self.processes.contains_key(r))
    }

    /// The shared process that this connection works for, if it is followed and the tenant is not known anyway.
    pub(super) fn outbound(&self, facts: &ConnFacts) -> Option<Relay> {
        facts.leaves.filter(|r| facts.endpoint.is_none() && self.processes.contains_key(r))
    }

    /// Whether anybody looks at the values of this direction. `by_value`: that basis is switched on.
    pub(super) fn wants_values(&self, facts: &ConnFacts, from: Side, by_value: bool) -> bool {
        let wanted = match from {
            Side::Client => by_value,
            Side::Server => self.inbound(facts).is_some() || facts.replies_matter(),
        };
        wanted && (self.inbound(facts).is_some() || self.outbound(facts).is_some())
    }

    /// Whether HTTP requests go in here where others go out.
    pub(super) fn is_served(&self, facts: &ConnFacts) -> bool {
        facts.enters.is_some_and(|relay| self.is_relay(relay, Protocol::Http))
    }

    /// Whether HTTP requests come out here where others go in.
    pub(super) fn is_fetched(&self, facts: &ConnFacts) -> bool {
        facts.leaves.is_some_and(|relay| self.is_asked_over_http(relay))
    }

    /// Bounded tables that grow with what is seen, to be counted.
    pub(super) fn tables(&self) -> [&dyn Table; 2] {
        [&self.doubted, &self.asked_over_http]
    }

    /// Requests in flight in shared processes.
    pub(super) fn n_requests(&self) -> usize {
        self.processes.values().map(SharedProcess::len).sum()
    }

    /// Forgets relays and processes that are not `there` any more.
    pub(super) fn forget_relays(&mut self, there: impl Fn(&Relay) -> bool) {
        self.processes.retain(|relay, _| there(relay));
        self.relays.retain(|(relay, _)| there(relay));
    }

    /// `relay` opens connections of `protocol` itself.
    pub(super) fn opens(&mut self, relay: Relay, protocol: Protocol) {
        if self.relays.len() < MAX_RELAYS && self.relays.insert((relay, protocol)) {
            self.new_relays.push((relay, protocol));
        }
        // Processes that share a loopback address are not one process.
        let one_process = !matches!(relay, Relay::Address(ip) if ip.is_loopback());
        if one_process && (self.processes.len() < MAX_PROCESSES || self.processes.contains_key(&relay)) {
            self.processes.entry(relay).or_default();
        }
    }

    /// Whether requests that enter `relay` can leave it again.
    pub(super) fn is_relay(&self, relay: Relay, protocol: Protocol) -> bool {
        self.relays.contains(&(relay, protocol))
    }

    /// `relay` was asked something over HTTP.
    pub(super) fn note_asked_over_http(&mut self, relay: Relay) {
        if self.asked_over_http.len() < MAX_ASKED {
            self.asked_over_http.insert(relay);
        }
    }

    /// Whether `relay` was asked something over HTTP.
    pub(super) fn is_asked_over_http(&self, relay: Relay) -> bool {
        self.asked_over_http.contains(&relay)
    }

    /// A request of this connection enters a relay: what comes of it there is as doubtful as its client is.
    pub(super) fn enter(
        &mut self,
        relay: Relay,
        print: Fingerprint,
        facts: &ConnFacts,
        (request, begun): (u64, Nanos),
        directory: &Directory,
    ) {
        let tenant = facts.endpoint.map(|a| a.tenant);
        if tenant.is_none() && is_contradicted(facts.client_workload, directory) {
            self.doubted.insert(facts.id, ());
        }
        let inbound = Inbound { conn: facts.id, request, tenant, service: facts.service, begun };
        self.forwarding.enter(relay, print, inbound);
    }

    /// Whether it is contradicted whose the client of `origin` is, which has sent something through a relay.
    pub(super) fn is_doubted(&self, origin: ConnId) -> bool {
        self.doubted.get(&origin).is_some()
    }

    /// Whether there is any such connection.
    pub(super) fn doubts_any(&self) -> bool {
        self.doubted.len() > 0
    }

    /// Events were lost; `of`: those of this workload, else nobody can say whose.
    pub(super) fn lose(&mut self, of: Option<WorkloadId>, at: Nanos) {
        // A request may be among what was lost, so no request can be singled out by elimination for a while.
        let Some(workload) = of else {
            self.forwarding.disturbed_all(at);
            self.processes.values_mut().for_each(|process| process.miss(at));
            return;
        };
        let relay = Relay::Workload(workload);
        self.forwarding.distrusts(relay, at);
        if let Some(process) = self.processes.get_mut(&relay) {
            process.miss(at);
        }
    }
}

/// Whether it is contradicted whose a client is.
pub(super) fn is_contradicted(client: Option<WorkloadId>, directory: &Directory) -> bool {
    client.and_then(|w| directory.get(w)).is_some_and(|w| w.conflicting)
}
