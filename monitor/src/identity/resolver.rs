//! Who lives in a cgroup or at an address, by everything known now: configuration first, then what sources told, then
//! the cgroup's path. Says what the engine must be told anew when more becomes known.

use std::net::{IpAddr, SocketAddr};

use monitor_core::engine::WorkloadFact;
use monitor_core::model::CgroupId;
use rustc_hash::{FxHashMap, FxHashSet};

use super::cgroup_path::{self, Runtime};
use super::facts::{Fact, SourceId, SourceKind};
use super::registry::{Registry, SourceInfo, Who};
use super::{IdentityConfig, path};

/// Most cgroups followed, and most containers remembered as known to nobody.
const MAX_CGROUPS: usize = 65_536;
/// Most addresses remembered that flows spoke of.
const MAX_ADDRESSES: usize = 65_536;

/// What the engine is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Who lives in a cgroup.
    Cgroup(CgroupId, WorkloadFact),
    /// Who has an address; `None`: nobody known any more.
    Address(IpAddr, Option<WorkloadFact>),
    /// The service at an address; `None`: none any more.
    Service(SocketAddr, Option<String>),
}

/// How waiting for a label has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitEnd {
    /// Somebody knew the container.
    Labelled,
    /// Nobody did in time.
    Timeout,
    /// The events that waited were too many.
    Overflow,
}

impl WaitEnd {
    /// All.
    pub const ALL: [Self; 3] = [Self::Labelled, Self::Timeout, Self::Overflow];

    /// The name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Labelled => "labelled",
            Self::Timeout => "timeout",
            Self::Overflow => "overflow",
        }
    }
}

#[derive(Debug)]
struct Cgroup {
    path: String,
    container: Option<Container>,
    told: Option<WorkloadFact>,
    /// Somebody may yet say who it is: events of its sockets wait.
    awaited: bool,
    /// Events have waited for it.
    blocking: bool,
}

#[derive(Clone, Debug)]
struct Container {
    id: String,
    pod_uid: Option<String>,
    runtime: Runtime,
    /// A static rule decides alone.
    declared: bool,
}

impl Container {
    /// What sources call it and its pod.
    fn ids(&self) -> impl Iterator<Item = &String> {
        std::iter::once(&self.id).chain(&self.pod_uid)
    }
}

/// All that is known of who is where.
#[derive(Debug)]
pub struct Resolver {
    config: IdentityConfig,
    registry: Registry,
    cgroups: FxHashMap<CgroupId, Cgroup>,
    /// Cgroups by the ids that sources tell of: their containers' and their pods'.
    by_id: FxHashMap<String, Vec<CgroupId>>,
    /// Cgroups that somebody may yet say more of.
    waiting: FxHashSet<CgroupId>,
    /// Containers that nobody knew in time.
    given_up: FxHashSet<String>,
    told_addresses: FxHashMap<IpAddr, WorkloadFact>,
    told_services: FxHashMap<SocketAddr, String>,
    /// Addresses that flows spoke of and nobody knew.
    asked: FxHashSet<IpAddr>,
    asked_services: FxHashSet<SocketAddr>,
    waits: [u64; 3],
}

impl Resolver {
    /// Knows what the configuration says; `sources` will tell more.
    pub fn new(config: IdentityConfig, sources: Vec<SourceInfo>) -> Self {
        Self {
            config,
            registry: Registry::new(sources),
            cgroups: FxHashMap::default(),
            by_id: FxHashMap::default(),
            waiting: FxHashSet::default(),
            given_up: FxHashSet::default(),
            told_addresses: FxHashMap::default(),
            told_services: FxHashMap::default(),
            asked: FxHashSet::default(),
            asked_services: FxHashSet::default(),
            waits: [0; 3],
        }
    }

    /// The configuration.
    pub fn config(&self) -> &IdentityConfig {
        &self.config
    }

    /// The sources and how they are doing.
    pub fn sources(&self) -> &[SourceInfo] {
        self.registry.sources()
    }

    /// Objects held: kind of source, kind of object, how many.
    pub fn objects(&self) -> Vec<(SourceKind, &'static str, usize)> {
        self.registry.objects()
    }

    /// Containers that events waited for, by how that ended.
    pub fn waits(&self) -> [(WaitEnd, u64); 3] {
        let [a, b, c] = self.waits;
        [(WaitEnd::Labelled, a), (WaitEnd::Timeout, b), (WaitEnd::Overflow, c)]
    }

    /// Facts that found no room.
    pub fn overflowed(&self) -> u64 {
        self.registry.overflowed
    }

    /// Whether a source may know of the container at `path` and has not told yet: it should be asked now.
    pub fn unknown(&self, path: &str) -> bool {
        !self.registry.sources().is_empty()
            && cgroup_path::container(path)
                .is_some_and(|c| self.registry.of_container(c.id, c.pod_uid.as_deref()).is_none())
    }

    /// A cgroup has been seen at `path`. `None`: somebody may yet say who it is.
    pub fn seen(&mut self, id: CgroupId, path: &str) -> Option<WorkloadFact> {
        let container = cgroup_path::container(path).map(|c| Container {
            id: c.id.to_owned(),
            pod_uid: c.pod_uid,
            runtime: c.runtime,
            declared: self.config.declared(path),
        });
        let awaited = container.as_ref().is_some_and(|c| self.awaits(c));
        let told = (!awaited).then(|| self.resolve(path, container.as_ref()));
        if self.cgroups.len() < MAX_CGROUPS {
            self.gone(id);
            for name in container.iter().flat_map(Container::ids) {
                self.by_id.entry(name.clone()).or_default().push(id);
            }
            if awaited {
                self.waiting.insert(id);
            }
            let entry = Cgroup { path: path.to_owned(), container, told: told.clone(), awaited, blocking: false };
            self.cgroups.insert(id, entry);
            return told;
        }
        Some(told.unwrap_or_else(|| self.resolve(path, container.as_ref())))
    }

    /// The cgroup is gone.
    pub fn gone(&mut self, id: CgroupId) {
        self.waiting.remove(&id);
        let Some(Cgroup { container: Some(container), .. }) = self.cgroups.remove(&id) else { return };
        for name in container.ids() {
            if let Some(all) = self.by_id.get_mut(name) {
                all.retain(|other| *other != id);
                if all.is_empty() {
                    self.by_id.remove(name);
                    self.given_up.remove(name);
                }
            }
        }
    }

    /// Whether events of sockets in this cgroup have to wait for its label.
    pub fn awaited(&self, id: CgroupId) -> bool {
        self.cgroups.get(&id).is_some_and(|c| c.awaited)
    }

    /// Events wait for this cgroup now.
    pub fn blocks(&mut self, id: CgroupId) {
        if let Some(c) = self.cgroups.get_mut(&id) {
            c.blocking = true;
        }
    }

    /// Nobody said in time who lives in a cgroup: it is known by its path, until somebody does.
    pub fn give_up(&mut self, id: CgroupId, end: WaitEnd) -> Option<WorkloadFact> {
        let (path, container) = {
            let entry = self.cgroups.get_mut(&id)?;
            entry.awaited = false;
            entry.blocking = false;
            (entry.path.clone(), entry.container.clone())
        };
        self.waiting.remove(&id);
        self.count(end);
        if let Some(c) = &container
            && self.given_up.len() < MAX_CGROUPS
        {
            self.given_up.insert(c.id.clone());
        }
        let fact = self.resolve(&path, container.as_ref());
        if let Some(entry) = self.cgroups.get_mut(&id) {
            entry.told = Some(fact.clone());
        }
        Some(fact)
    }

    fn count(&mut self, end: WaitEnd) {
        if let Some(n) = self.waits.get_mut(end as usize) {
            *n += 1;
        }
    }

    /// A source has told something; [`Self::updates`] says what follows.
    pub fn apply(&mut self, source: SourceId, fact: Fact) {
        self.registry.apply(source, fact);
    }

    /// What the engine must be told since the last call.
    pub fn updates(&mut self) -> Vec<Update> {
        let changed = std::mem::take(&mut self.registry.changed);
        let mut updates = Vec::new();
        // What was told of others changes nothing for a cgroup; whether a source can be asked does for whoever waits.
        let affected: FxHashSet<CgroupId> = if changed.everything {
            self.cgroups.keys().copied().collect()
        } else {
            let told = changed.ids.iter().filter_map(|name| self.by_id.get(name)).flatten().copied();
            told.chain(self.waiting.iter().copied().filter(|_| changed.states)).collect()
        };
        for id in affected {
            updates.extend(self.again(id));
        }
        let ips: Vec<IpAddr> = if changed.everything {
            self.told_addresses.keys().copied().collect()
        } else {
            changed
                .ips
                .into_iter()
                .filter(|ip| self.told_addresses.contains_key(ip) || self.asked.contains(ip))
                .collect()
        };
        for ip in ips {
            updates.extend(self.address(ip));
        }
        for addr in changed.services {
            if self.told_services.contains_key(&addr) || self.asked_services.contains(&addr) {
                updates.extend(self.service(addr));
            }
        }
        updates
    }

    /// Decides by `config` from now on; what sources have told stays. Says what the engine must be told anew. A workload
    /// that would be another tenant's than before counts as nobody's until it is replaced: what it has done so far was
    /// taken for the other's. Gives how many those are.
    pub fn decide(&mut self, config: IdentityConfig) -> (Vec<Update>, usize) {
        self.config = config;
        let mut updates = Vec::new();
        let mut moved = 0;
        let mut all: Vec<CgroupId> = self.cgroups.keys().copied().collect();
        all.sort_unstable();
        for id in all {
            let Some((path, container)) = self.cgroups.get(&id).map(|c| (c.path.clone(), c.container.clone())) else {
                continue;
            };
            let declared = self.config.declared(&path);
            let container = container.map(|c| Container { declared, ..c });
            let mut fact = self.resolve(&path, container.as_ref());
            let Some(entry) = self.cgroups.get_mut(&id) else { continue };
            entry.container = container;
            // Somebody may yet say who it is, unless the configuration does now.
            if entry.awaited && !declared {
                continue;
            }
            entry.awaited = false;
            self.waiting.remove(&id);
            if let Some(before) = entry.told.as_ref().map(|told| &told.tenants)
                && !before.is_empty()
                && *before != fact.tenants
            {
                moved += 1;
                fact.tenants.clear();
            }
            if entry.told.as_ref() != Some(&fact) {
                entry.told = Some(fact.clone());
                updates.push(Update::Cgroup(id, fact));
            }
        }
        (updates, moved)
    }

    /// What a flow between these addresses needs to be known first.
    pub fn flow(&mut self, local: SocketAddr, peer: SocketAddr) -> Vec<Update> {
        let mut updates = Vec::new();
        if self.registry.sources().is_empty() {
            return updates;
        }
        for addr in [local, peer] {
            let ip = addr.ip();
            if !self.told_addresses.contains_key(&ip) {
                match self.address(ip) {
                    Some(update) => updates.push(update),
                    None if self.asked.len() < MAX_ADDRESSES => drop(self.asked.insert(ip)),
                    None => {}
                }
            }
            if !self.told_services.contains_key(&addr) {
                updates.extend(self.service(addr));
            }
        }
        // Clients' own ports are of no fixed number: only what is connected to can be a service.
        if self.asked_services.len() < MAX_ADDRESSES {
            self.asked_services.insert(peer);
        }
        updates
    }

    fn address(&mut self, ip: IpAddr) -> Option<Update> {
        let fact = self.registry.at(ip).map(|who| fact_of(who, String::new()));
        if self.told_addresses.get(&ip) == fact.as_ref() {
            return None;
        }
        match &fact {
            Some(f) if self.told_addresses.len() < MAX_ADDRESSES => drop(self.told_addresses.insert(ip, f.clone())),
            Some(_) => return None,
            None => {
                self.told_addresses.remove(&ip);
                if self.asked.len() < MAX_ADDRESSES {
                    self.asked.insert(ip);
                }
            }
        }
        Some(Update::Address(ip, fact))
    }

    fn service(&mut self, addr: SocketAddr) -> Option<Update> {
        let name = self.registry.service_name(addr).map(str::to_owned);
        if self.told_services.get(&addr) == name.as_ref() {
            return None;
        }
        match &name {
            Some(n) if self.told_services.len() < MAX_ADDRESSES => drop(self.told_services.insert(addr, n.clone())),
            Some(_) => return None,
            None => drop(self.told_services.remove(&addr)),
        }
        Some(Update::Service(addr, name))
    }

    /// Looks at a cgroup again. What was known stays known when its container leaves the sources' lists: it may live a
    /// moment longer than that.
    fn again(&mut self, id: CgroupId) -> Option<Update> {
        let (path, container) = {
            let entry = self.cgroups.get(&id)?;
            (entry.path.clone(), entry.container.clone()?)
        };
        let awaited = self.awaits(&container);
        let known = self.registry.of_container(&container.id, container.pod_uid.as_deref()).is_some();
        let fact = (known && !container.declared).then(|| self.resolve(&path, Some(&container)));
        let (was_awaited, blocking) = self.cgroups.get(&id).map(|c| (c.awaited, c.blocking))?;
        if was_awaited && awaited {
            return None;
        }
        // A source that can no longer be asked releases who waited for it.
        let fact = match fact {
            Some(fact) => fact,
            None if was_awaited => self.resolve(&path, Some(&container)),
            None => return None,
        };
        if was_awaited && blocking {
            self.count(if known { WaitEnd::Labelled } else { WaitEnd::Timeout });
        }
        let entry = self.cgroups.get_mut(&id)?;
        entry.awaited = false;
        entry.blocking = false;
        self.waiting.remove(&id);
        if entry.told.as_ref() == Some(&fact) {
            return None;
        }
        entry.told = Some(fact.clone());
        Some(Update::Cgroup(id, fact))
    }

    /// Whether a source that works now may yet say who a container is.
    fn awaits(&self, c: &Container) -> bool {
        if c.declared || self.given_up.contains(&c.id) {
            return false;
        }
        let fresh = |kind| self.registry.fresh(kind);
        if c.pod_uid.is_some() && fresh(SourceKind::Kubernetes) {
            return !self.registry.knows_pod(c.pod_uid.as_deref(), &c.id);
        }
        let asked = match (c.pod_uid.is_some(), c.runtime) {
            (false, Runtime::Docker | Runtime::Podman) => fresh(SourceKind::Docker),
            (_, Runtime::Containerd | Runtime::CriO) => fresh(SourceKind::Cri),
            _ => fresh(SourceKind::Docker) || fresh(SourceKind::Cri),
        };
        asked && self.registry.of_container(&c.id, c.pod_uid.as_deref()).is_none()
    }

    fn resolve(&self, path: &str, container: Option<&Container>) -> WorkloadFact {
        let by_path = self.config.resolve(path);
        let Some(container) = container.filter(|c| !c.declared) else { return by_path };
        match self.registry.of_container(&container.id, container.pod_uid.as_deref()) {
            Some(who) => {
                let mut fact = fact_of(who, path::workload_of(path).to_owned());
                if fact.tenants.is_empty() {
                    fact.tenants = by_path.tenants;
                }
                fact
            }
            None => by_path,
        }
    }
}

fn fact_of(who: Who, cgroup: String) -> WorkloadFact {
    WorkloadFact { name: who.name, cgroup, tenants: who.tenants, role: who.role, owner: who.owner }
}

#[cfg(test)]
#[path = "resolver_tests.rs"]
mod tests;
