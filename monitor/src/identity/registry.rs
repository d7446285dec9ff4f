//! What all sources have told so far. Pure state: facts in, answers out; who asks the sources is elsewhere.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use rustc_hash::{FxHashMap, FxHashSet};

use monitor_core::engine::OwnerFact;
use monitor_core::model::ServiceRole;

use super::facts::{ContainerFact, Fact, NamespaceFact, PodFact, ServiceFact, SourceId, SourceKind, SourceState};

/// Most containers, and most namespaces, kept.
const MAX_SMALL: usize = 65_536;
/// Most pods kept: what one cluster holds at most (Kubernetes' documented limit).
const MAX_PODS: usize = 150_000;
/// Most addresses of services kept.
const MAX_SERVICE_ADDRESSES: usize = 262_144;

/// What changed since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Changed {
    /// Container ids and pod uids.
    pub(super) ids: FxHashSet<String>,
    /// Addresses of pods.
    pub(super) ips: FxHashSet<IpAddr>,
    /// Addresses of services.
    pub(super) services: FxHashSet<SocketAddr>,
    /// Every pod's tenant may be another.
    pub(super) everything: bool,
    /// A source has told everything once, or can no longer be asked.
    pub(super) states: bool,
}

/// Who a container, a pod or an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) name: String,
    /// Whom it is said to run for. Several contradict: first whoever decides, then those who say otherwise.
    pub(super) tenants: Vec<String>,
    pub(super) role: Option<ServiceRole>,
    pub(super) owner: Option<OwnerFact>,
}

/// A source, by what it is and how it is doing.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// What kind.
    pub kind: SourceKind,
    /// A socket's path, or what is watched.
    pub place: String,
    /// The agent is not ready before this one has told everything once.
    pub required: bool,
    /// It has told everything once.
    pub synced: bool,
    /// Why it cannot be asked now.
    pub stale: Option<String>,
}

#[derive(Debug)]
struct Pod {
    fact: PodFact,
    source: SourceId,
}

/// Everything that was told.
#[derive(Debug, Default)]
pub(super) struct Registry {
    sources: Vec<SourceInfo>,
    containers: FxHashMap<String, (SourceId, ContainerFact)>,
    pods: FxHashMap<String, Pod>,
    /// Pods by the ids of their containers, and by the uid in their cgroups where that is another.
    pod_of: FxHashMap<String, String>,
    pod_at: FxHashMap<IpAddr, String>,
    namespaces: FxHashMap<String, (SourceId, NamespaceFact)>,
    services: FxHashMap<(SourceId, String), ServiceFact>,
    /// Names at an address: cluster addresses belong to one, endpoints may belong to several.
    service_at: FxHashMap<SocketAddr, BTreeSet<String>>,
    pub(super) changed: Changed,
    /// Facts that found no room.
    pub(super) overflowed: u64,
}

impl Registry {
    /// Nothing told yet by these sources.
    pub(super) fn new(sources: Vec<SourceInfo>) -> Self {
        Self { sources, ..Self::default() }
    }

    /// The sources.
    pub(super) fn sources(&self) -> &[SourceInfo] {
        &self.sources
    }

    /// Whether a source of this kind is there, and all of them are up to date.
    pub(super) fn fresh(&self, kind: SourceKind) -> bool {
        let mut any = false;
        for source in self.sources.iter().filter(|s| s.kind == kind) {
            any = true;
            if !source.synced || source.stale.is_some() {
                return false;
            }
        }
        any
    }

    /// Objects held: kind of source, kind of object, how many.
    pub(super) fn objects(&self) -> Vec<(SourceKind, &'static str, usize)> {
        let containers = |kind| {
            let ours = |id: &SourceId| self.sources.get(id.0).is_some_and(|s| s.kind == kind);
            self.containers.values().filter(|(id, _)| ours(id)).count()
        };
        vec![
            (SourceKind::Docker, "containers", containers(SourceKind::Docker)),
            (SourceKind::Cri, "containers", containers(SourceKind::Cri)),
            (SourceKind::Kubernetes, "pods", self.pods.len()),
            (SourceKind::Kubernetes, "namespaces", self.namespaces.len()),
            (SourceKind::Kubernetes, "service_addresses", self.service_at.len()),
        ]
    }

    /// Takes in what `source` tells.
    pub(super) fn apply(&mut self, source: SourceId, fact: Fact) {
        match fact {
            Fact::Container(c) => self.container(source, c),
            Fact::ContainerGone(id) => {
                // Another source of the same runtime may still have it.
                if self.containers.get(&id).is_some_and(|(s, _)| *s == source) {
                    self.containers.remove(&id);
                    self.changed.ids.insert(id);
                }
            }
            Fact::Pod(pod) => self.pod(source, pod),
            Fact::PodGone(uid) => self.pod_gone(&uid),
            Fact::Namespace(name, fact) => {
                let full = self.namespaces.len() >= MAX_SMALL && !self.namespaces.contains_key(&name);
                if full {
                    self.overflowed += 1;
                } else if self.namespaces.get(&name).map(|(_, f)| f) != Some(&fact) {
                    self.namespaces.insert(name, (source, fact));
                    self.changed.everything = true;
                }
            }
            Fact::NamespaceGone(name) => {
                self.changed.everything |= self.namespaces.remove(&name).is_some();
            }
            Fact::Service(s) => self.service(source, s),
            Fact::ServiceGone(key) => self.service_gone(source, key),
            Fact::All(keep) => self.only(source, &keep),
            Fact::State(state) => {
                let Some(info) = self.sources.get_mut(source.0) else { return };
                self.changed.states = true;
                match state {
                    SourceState::Synced => {
                        info.synced = true;
                        info.stale = None;
                    }
                    SourceState::Stale(why) => info.stale = Some(why),
                }
            }
        }
    }

    fn container(&mut self, source: SourceId, fact: ContainerFact) {
        if self.containers.get(&fact.id).is_some_and(|(_, old)| *old == fact) {
            return;
        }
        if self.containers.len() >= MAX_SMALL && !self.containers.contains_key(&fact.id) {
            self.overflowed += 1;
            return;
        }
        self.changed.ids.insert(fact.id.clone());
        self.containers.insert(fact.id.clone(), (source, fact));
    }

    fn pod(&mut self, source: SourceId, fact: PodFact) {
        if self.pods.get(&fact.uid).is_some_and(|old| old.fact == fact) {
            return;
        }
        if self.pods.len() >= MAX_PODS && !self.pods.contains_key(&fact.uid) {
            self.overflowed += 1;
            return;
        }
        self.unlink(&fact.uid);
        let uid = fact.uid.clone();
        for id in fact.containers.iter().chain(&fact.cgroup_uid) {
            self.pod_of.insert(id.clone(), uid.clone());
            self.changed.ids.insert(id.clone());
        }
        for ip in &fact.addresses {
            let younger = self
                .pod_at
                .get(ip)
                .and_then(|other| self.pods.get(other))
                .is_none_or(|other| (other.fact.created, &other.fact.uid) <= (fact.created, &fact.uid));
            if younger {
                self.pod_at.insert(*ip, uid.clone());
                self.changed.ips.insert(*ip);
            }
        }
        self.changed.ids.insert(uid.clone());
        self.pods.insert(uid, Pod { fact, source });
    }

    /// Takes back what a pod's previous fact had told beside the pod itself.
    fn unlink(&mut self, uid: &str) {
        let Some(old) = self.pods.get(uid) else { return };
        for id in old.fact.containers.iter().chain(&old.fact.cgroup_uid) {
            if self.pod_of.get(id).is_some_and(|u| u == uid) {
                self.pod_of.remove(id);
            }
        }
        for ip in &old.fact.addresses {
            if self.pod_at.get(ip).is_some_and(|u| u == uid) {
                self.pod_at.remove(ip);
                self.changed.ips.insert(*ip);
            }
        }
    }

    fn pod_gone(&mut self, uid: &str) {
        self.unlink(uid);
        if self.pods.remove(uid).is_some() {
            self.changed.ids.insert(uid.to_owned());
        }
    }

    fn service(&mut self, source: SourceId, fact: ServiceFact) {
        let key = (source, fact.key.clone());
        if self.services.get(&key) == Some(&fact) {
            return;
        }
        self.service_gone(source, fact.key.clone());
        if self.service_at.len() >= MAX_SERVICE_ADDRESSES {
            self.overflowed += 1;
            return;
        }
        for addr in &fact.addresses {
            self.service_at.entry(*addr).or_default().insert(fact.name.clone());
            self.changed.services.insert(*addr);
        }
        self.services.insert(key, fact);
    }

    fn service_gone(&mut self, source: SourceId, key: String) {
        let Some(old) = self.services.remove(&(source, key)) else { return };
        for addr in old.addresses {
            if let Some(names) = self.service_at.get_mut(&addr) {
                names.remove(&old.name);
                if names.is_empty() {
                    self.service_at.remove(&addr);
                }
                self.changed.services.insert(addr);
            }
        }
    }

    /// What `source` told and is not in `keep` is gone.
    fn only(&mut self, source: SourceId, keep: &HashSet<String>) {
        let stray = |id: &String| !keep.contains(id);
        let gone: Vec<String> =
            self.containers.iter().filter(|(id, (s, _))| *s == source && stray(id)).map(|(id, _)| id.clone()).collect();
        for id in gone {
            self.containers.remove(&id);
            self.changed.ids.insert(id);
        }
        let gone: Vec<String> =
            self.pods.iter().filter(|(id, p)| p.source == source && stray(id)).map(|(id, _)| id.clone()).collect();
        for uid in gone {
            self.pod_gone(&uid);
        }
        let before = self.namespaces.len();
        self.namespaces.retain(|name, (s, _)| *s != source || keep.contains(name));
        self.changed.everything |= self.namespaces.len() != before;
        let gone: Vec<String> =
            self.services.keys().filter(|(s, key)| *s == source && stray(key)).map(|(_, key)| key.clone()).collect();
        for key in gone {
            self.service_gone(source, key);
        }
    }

    /// The pod with this uid, which may be the one in its cgroups' names, or with this container.
    fn find_pod(&self, uid: Option<&str>, container: Option<&str>) -> Option<&PodFact> {
        let by_uid = uid.and_then(|u| self.pods.get(u).or_else(|| self.pods.get(self.pod_of.get(u)?)));
        by_uid.or_else(|| self.pods.get(self.pod_of.get(container?)?)).map(|p| &p.fact)
    }

    /// Whom a pod runs for: whoever comes first in the configured order decides. What the pod says of itself and its
    /// namespace denies, where the namespace is asked first, contradicts.
    fn who(&self, pod: &PodFact) -> Who {
        let namespace = self.namespaces.get(&pod.namespace).map(|(_, fact)| fact);
        let above = namespace.and_then(|fact| fact.tenant.as_ref());
        let mut tenants: Vec<String> = Vec::new();
        match above {
            Some(above) if pod.tenants.iter().all(|own| own.rank > above.rank) => {
                tenants.push(above.tenant.clone());
                for own in pod.tenants.iter().filter(|own| !own.tenant.eq_ignore_ascii_case(&above.tenant)) {
                    tenants.push(own.tenant.clone());
                }
            }
            _ => tenants.extend(pod.tenants.iter().chain(above).min().map(|r| r.tenant.clone())),
        }
        let (kind, name) = pod.owner.clone();
        Who {
            name: format!("{}/{}", pod.namespace, pod.name),
            tenants,
            role: namespace.and_then(|fact| fact.role).or(pod.role),
            owner: Some(OwnerFact { kind, namespace: pod.namespace.clone(), name, pod: pod.name.clone() }),
        }
    }

    /// Whether Kubernetes has told of this pod.
    pub(super) fn knows_pod(&self, uid: Option<&str>, container: &str) -> bool {
        self.find_pod(uid, Some(container)).is_some()
    }

    /// Who a container is: by its pod, else by its runtime; the pod's tenant first.
    pub(super) fn of_container(&self, id: &str, pod_uid: Option<&str>) -> Option<Who> {
        let by_pod = self.find_pod(pod_uid, Some(id)).map(|pod| self.who(pod));
        let by_runtime = self.containers.get(id).map(|(_, c)| Who {
            name: c.name.clone(),
            tenants: c.tenant.iter().cloned().collect(),
            role: c.role,
            owner: c.owner.clone(),
        });
        match (by_pod, by_runtime) {
            (Some(pod), Some(runtime)) => Some(Who {
                name: pod.name,
                tenants: if pod.tenants.is_empty() { runtime.tenants } else { pod.tenants },
                // A container of a pod may say of its role what the pod may.
                role: pod.role,
                owner: pod.owner,
            }),
            (pod, runtime) => pod.or(runtime),
        }
    }

    /// Who has this address.
    pub(super) fn at(&self, ip: IpAddr) -> Option<Who> {
        self.pods.get(self.pod_at.get(&ip)?).map(|p| self.who(&p.fact))
    }

    /// The service at this address; of several over the same endpoints (a headless one beside another) the first by
    /// name.
    pub(super) fn service_name(&self, addr: SocketAddr) -> Option<&str> {
        self.service_at.get(&addr)?.first().map(String::as_str)
    }
}
