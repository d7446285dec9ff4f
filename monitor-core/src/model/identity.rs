//! Who is behind a cgroup or an address. Facts arrive as values; nothing here looks anything up outside.

use std::net::{IpAddr, SocketAddr};

use rustc_hash::FxHashMap;

use super::{CgroupId, Sym, TenantId, WorkloadId};

/// What a workload is to tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceRole {
    /// Runs for one tenant.
    Runtime,
    /// Serves many tenants and calls other services for them.
    Shared,
    /// Serves, and calls nothing for tenants.
    Service,
}

/// What a workload is one of, where replicas and successors of it have names of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What kind of thing: `Deployment`, `CronJob`, `Image` …
    pub kind: Sym,
    /// The Kubernetes namespace, or the project; [`Sym::EMPTY`] where there is none.
    pub namespace: Sym,
    /// Its name.
    pub name: Sym,
    /// The pod that this workload is; [`Sym::EMPTY`] where it is none.
    pub pod: Sym,
}

impl Owner {
    /// Every name in it.
    pub fn names(self) -> [Sym; 4] {
        [self.kind, self.namespace, self.name, self.pod]
    }
}

/// The container, pod or unit behind a cgroup or an address.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: Sym,
    /// Path of its outermost cgroup below the cgroup v2 root; [`Sym::EMPTY`] for a remote address.
    pub cgroup: Sym,
    /// The tenant by label, if exactly one is known.
    pub tenant: Option<TenantId>,
    /// More than one tenant label, or a label that changed: the tenant is not known.
    pub conflicting: bool,
    /// Made up from an address because nothing better is known.
    pub bare: bool,
    /// Declared role; `None`: by evidence.
    pub role: Option<ServiceRole>,
    /// What it is one of; `None`: its name and cgroup are its own for good.
    pub owner: Option<Owner>,
}

/// An address rule of the configuration: first match wins.
#[derive(Clone, Debug)]
pub struct AddressRule {
    /// Network address.
    pub net: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Only this port, if given.
    pub port: Option<u16>,
    /// Who is there; `None`: somebody for whom there was no room.
    pub workload: Option<WorkloadId>,
}

impl AddressRule {
    /// Whether `addr` is covered.
    pub fn covers(&self, addr: SocketAddr) -> bool {
        if self.port.is_some_and(|p| p != addr.port()) {
            return false;
        }
        match (self.net, addr.ip()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                same_prefix(u128::from(net.to_bits()) << 96, u128::from(ip.to_bits()) << 96, self.prefix.min(32))
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => same_prefix(net.to_bits(), ip.to_bits(), self.prefix.min(128)),
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (128 - u32::from(bits)) == 0
}

/// Most addresses, and most service names, kept beside the configuration's.
const MAX_LEARNED: usize = 65_536;

/// Most workloads known at a time. Beyond, whoever is new is nobody.
const MAX_WORKLOADS: usize = 1 << 20;

/// A workload and where it is.
#[derive(Debug)]
struct Resident {
    workload: Workload,
    /// Cgroups and addresses that it has now; `Some(0)`: it had some, and they are gone.
    places: Option<u32>,
}

/// All that is known of who is where.
///
/// Ids are given once and never again. Whoever comes back under its predecessor's name and cgroup for another tenant, and
/// a pod at its predecessor's address, is a workload of its own; connections keep the one that they were opened by.
#[derive(Debug, Default)]
pub struct Directory {
    workloads: FxHashMap<WorkloadId, Resident>,
    next: u32,
    by_cgroup: FxHashMap<CgroupId, WorkloadId>,
    by_identity: FxHashMap<(Sym, Sym), WorkloadId>,
    addresses: Vec<AddressRule>,
    by_address: FxHashMap<IpAddr, WorkloadId>,
    services: FxHashMap<SocketAddr, Sym>,
}

impl Directory {
    /// Adds or finds the workload with this name and outermost cgroup. A label that comes late is taken on; a different
    /// one for a labelled workload makes it conflicting: its label has changed. `None`: there is no room for another.
    pub fn workload(&mut self, new: Workload) -> Option<WorkloadId> {
        // Names that found no room are alike without being the same.
        let named = new.name != Sym::OTHER && new.cgroup != Sym::OTHER;
        let known =
            self.by_identity.get(&(new.name, new.cgroup)).copied().filter(|id| named && !self.replaced(*id, &new));
        if let Some(id) = known {
            if let Some(Resident { workload: old, .. }) = self.workloads.get_mut(&id) {
                if old.conflicting || new.conflicting || (old.tenant.is_some() && old.tenant != new.tenant) {
                    old.conflicting = true;
                    old.tenant = None;
                } else {
                    old.tenant = new.tenant;
                }
                old.role = new.role.or(old.role);
            }
            return Some(id);
        }
        if self.workloads.len() >= MAX_WORKLOADS {
            return None;
        }
        let id = WorkloadId(self.next);
        self.next = self.next.checked_add(1)?;
        if named {
            self.by_identity.insert((new.name, new.cgroup), id);
        }
        self.workloads.insert(id, Resident { workload: new, places: None });
        Some(id)
    }

    /// Forgets a workload that has no place any more; gives it, so that others forget it, too.
    pub fn forget(&mut self, id: WorkloadId) -> Option<Workload> {
        if self.workloads.get(&id)?.places != Some(0) {
            return None;
        }
        let Resident { workload, .. } = self.workloads.remove(&id)?;
        let identity = (workload.name, workload.cgroup);
        if self.by_identity.get(&identity) == Some(&id) {
            self.by_identity.remove(&identity);
        }
        Some(workload)
    }

    /// Whether `id` is gone, and `new` in its place is another's: a restart for the same tenant goes on as the same.
    fn replaced(&self, id: WorkloadId, new: &Workload) -> bool {
        self.workloads.get(&id).is_some_and(|r| r.places == Some(0))
            && self.get(id).is_some_and(|old| old.conflicting || old.tenant != new.tenant)
    }

    /// A cgroup belongs to `workload` from now on. Gives whoever had it before, if that was his last place.
    pub fn learn_cgroup(&mut self, cgroup: CgroupId, workload: WorkloadId) -> Option<WorkloadId> {
        let before = self.by_cgroup.insert(cgroup, workload);
        self.moved(before, workload)
    }

    /// The cgroup is gone: its id may come back as another's. Gives the workload if this was its last place.
    pub fn forget_cgroup(&mut self, cgroup: CgroupId) -> Option<WorkloadId> {
        let id = self.by_cgroup.remove(&cgroup)?;
        self.leaves(id)
    }

    /// Whoever has this address now, by orchestration rather than configuration. Gives whoever had it before, if that
    /// was his last place.
    pub fn learn_address(&mut self, ip: IpAddr, workload: WorkloadId) -> Option<WorkloadId> {
        if self.by_address.len() >= MAX_LEARNED && !self.by_address.contains_key(&ip) {
            return None;
        }
        let before = self.by_address.insert(ip, workload);
        self.moved(before, workload)
    }

    /// Nobody known has this address any more. Gives the workload if this was its last place.
    pub fn forget_address(&mut self, ip: IpAddr) -> Option<WorkloadId> {
        let id = self.by_address.remove(&ip)?;
        self.leaves(id)
    }

    fn moved(&mut self, before: Option<WorkloadId>, now: WorkloadId) -> Option<WorkloadId> {
        if before == Some(now) {
            return None;
        }
        if let Some(Resident { places, .. }) = self.workloads.get_mut(&now) {
            *places = Some(places.unwrap_or(0).saturating_add(1));
        }
        before.and_then(|before| self.leaves(before))
    }

    /// One place less.
    fn leaves(&mut self, id: WorkloadId) -> Option<WorkloadId> {
        let n = &mut self.workloads.get_mut(&id)?.places;
        let left = n.unwrap_or(0).saturating_sub(1);
        *n = Some(left);
        (left == 0).then_some(id)
    }

    /// Adds an address rule; earlier ones win.
    pub fn add_address(&mut self, rule: AddressRule) {
        self.addresses.push(rule);
    }

    /// The address rules so far.
    pub fn addresses(&self) -> &[AddressRule] {
        &self.addresses
    }

    /// Takes back every address rule, for others to be added.
    pub fn clear_addresses(&mut self) {
        self.addresses.clear();
    }

    /// `id` has been taken for somebody that it is not: its tenant is not known any more.
    pub fn doubt(&mut self, id: WorkloadId) {
        if let Some(w) = self.workloads.get_mut(&id).map(|resident| &mut resident.workload) {
            w.conflicting = true;
            w.tenant = None;
        }
    }

    /// A service answers at `addr` under this name.
    pub fn learn_service(&mut self, addr: SocketAddr, name: Sym) {
        if self.services.len() < MAX_LEARNED || self.services.contains_key(&addr) {
            self.services.insert(addr, name);
        }
    }

    /// No service is known at `addr` any more.
    pub fn forget_service(&mut self, addr: SocketAddr) {
        self.services.remove(&addr);
    }

    /// The name of the service at `addr`, by orchestration.
    pub fn service_at(&self, addr: SocketAddr) -> Option<Sym> {
        self.services.get(&addr).copied()
    }

    /// Who lives in `cgroup`.
    pub fn of_cgroup(&self, cgroup: CgroupId) -> Option<WorkloadId> {
        self.by_cgroup.get(&cgroup).copied()
    }

    /// Who is at `addr`, by configuration. A tenant's rule with a port also means its clients of that port: their own
    /// ports are of no fixed number.
    pub fn of_address(&self, addr: SocketAddr, peer: SocketAddr) -> Option<WorkloadId> {
        let as_client = |r: &AddressRule| {
            r.covers(SocketAddr::new(addr.ip(), peer.port()))
                && r.workload.and_then(|w| self.get(w)).is_some_and(|w| w.tenant.is_some())
        };
        self.addresses.iter().find(|r| r.covers(addr) || as_client(r)).and_then(|r| r.workload)
    }

    /// Who has the address `ip` now, by orchestration.
    pub fn at_ip(&self, ip: IpAddr) -> Option<WorkloadId> {
        self.by_address.get(&ip).copied()
    }

    /// The workload behind `id`.
    pub fn get(&self, id: WorkloadId) -> Option<&Workload> {
        self.workloads.get(&id).map(|r| &r.workload)
    }

    /// Workloads known now.
    pub fn len(&self) -> usize {
        self.workloads.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty()
    }

    /// Most workloads known at a time.
    pub fn limit() -> usize {
        MAX_WORKLOADS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(d: &mut Directory, new: Workload) -> WorkloadId {
        d.workload(new).unwrap()
    }

    #[test]
    fn prefixes_and_ports() {
        let rule = AddressRule {
            net: "10.1.0.0".parse().unwrap(),
            prefix: 24,
            port: Some(5432),
            workload: Some(WorkloadId(0)),
        };
        assert!(rule.covers("10.1.0.9:5432".parse().unwrap()));
        assert!(!rule.covers("10.1.1.9:5432".parse().unwrap()));
        assert!(!rule.covers("10.1.0.9:5433".parse().unwrap()));
        assert!(!rule.covers("[::1]:5432".parse().unwrap()));
        let all = AddressRule { net: "::".parse().unwrap(), prefix: 0, port: None, workload: Some(WorkloadId(0)) };
        assert!(all.covers("[fd00::1]:1".parse().unwrap()));
    }

    fn workload(name: u32, tenant: Option<u32>) -> Workload {
        Workload {
            name: Sym(name),
            cgroup: Sym(7),
            tenant: tenant.map(TenantId),
            conflicting: false,
            bare: false,
            role: None,
            owner: None,
        }
    }

    #[test]
    fn a_successor_in_the_same_cgroup_is_another_generation() {
        let mut d = Directory::default();
        let first = add(&mut d, workload(9, Some(0)));
        d.learn_cgroup(CgroupId(1), first);
        d.learn_cgroup(CgroupId(2), first);
        assert_eq!(d.forget_cgroup(CgroupId(1)), None, "its other cgroup is still there");
        assert_eq!(d.forget_cgroup(CgroupId(2)), Some(first));
        assert_eq!(add(&mut d, workload(9, Some(0))), first, "a restart for the same tenant");
        let second = add(&mut d, workload(9, Some(1)));
        d.learn_cgroup(CgroupId(2), second);
        assert_ne!(first, second);
        assert_eq!(
            d.get(first).and_then(|w| w.tenant),
            Some(TenantId(0)),
            "connections of the first keep their tenant"
        );
        assert_eq!(d.get(second).and_then(|w| w.tenant), Some(TenantId(1)));
    }

    #[test]
    fn who_is_gone_is_forgotten_and_no_id_comes_twice() {
        let mut d = Directory::default();
        let mut ids = Vec::new();
        for n in 0..1000 {
            let id = add(&mut d, workload(100 + n, Some(0)));
            d.learn_cgroup(CgroupId(1), id);
            assert!(d.forget(id).is_none(), "it is there");
            assert_eq!(d.forget_cgroup(CgroupId(1)), Some(id));
            assert_eq!(d.forget(id).map(|w| w.name), Some(Sym(100 + n)));
            assert!(d.get(id).is_none() && !ids.contains(&id));
            ids.push(id);
        }
        assert_eq!((d.len(), d.by_identity.len(), d.by_cgroup.len()), (0, 0, 0));
        let made_up = add(&mut d, workload(9, None));
        assert!(d.forget(made_up).is_none(), "it never had a place to lose");
    }

    #[test]
    fn a_reused_address_is_its_new_owners() {
        let mut d = Directory::default();
        let ip: IpAddr = "10.244.1.7".parse().unwrap();
        let (a, b) = (add(&mut d, workload(9, Some(0))), add(&mut d, workload(10, Some(1))));
        d.learn_address(ip, a);
        d.learn_address(ip, b);
        assert_eq!(d.at_ip(ip), Some(b));
        // The first has gone with its address: under its name comes another.
        assert_ne!(add(&mut d, workload(9, Some(1))), a);
        assert_eq!(d.forget_address(ip), Some(b));
        assert_eq!((d.at_ip(ip), d.forget_address(ip)), (None, None));
    }

    #[test]
    fn a_late_label_is_taken_on_and_a_changed_one_is_a_conflict() {
        let mut d = Directory::default();
        let id = add(&mut d, workload(9, None));
        assert_eq!(add(&mut d, workload(9, Some(3))), id);
        let seen = |d: &Directory| d.get(id).map(|w| (w.tenant, w.conflicting));
        assert_eq!(seen(&d), Some((Some(TenantId(3)), false)));
        add(&mut d, workload(9, Some(4)));
        assert_eq!(seen(&d), Some((None, true)));
        add(&mut d, workload(9, Some(3)));
        assert_eq!(seen(&d), Some((None, true)), "changing it back does not undo what was done meanwhile");
    }

    #[test]
    fn names_without_room_are_not_the_same() {
        let mut d = Directory::default();
        let nameless = |tenant| Workload { cgroup: Sym::OTHER, ..workload(Sym::OTHER.0, Some(tenant)) };
        let (a, b) = (add(&mut d, nameless(0)), add(&mut d, nameless(1)));
        assert_ne!(a, b);
        assert_eq!(d.get(a).and_then(|w| w.tenant), Some(TenantId(0)));
    }

    #[test]
    fn who_finds_no_room_is_nobody_and_not_all_the_same_one() {
        let mut d = Directory { next: u32::MAX, ..Directory::default() };
        assert_eq!(d.workload(workload(9, Some(0))), None);
        assert_eq!(d.workload(workload(10, Some(1))), None);
        assert!(d.is_empty() && d.by_identity.is_empty());
        // A rule for one that found no room still comes before wider ones: its address is not theirs.
        let (narrow, wide) = ("10.1.0.7".parse().unwrap(), "10.1.0.0".parse().unwrap());
        d.add_address(AddressRule { net: narrow, prefix: 32, port: None, workload: None });
        d.add_address(AddressRule { net: wide, prefix: 16, port: None, workload: Some(WorkloadId(1)) });
        let peer = "10.9.0.1:5432".parse().unwrap();
        assert_eq!(d.of_address("10.1.0.7:40000".parse().unwrap(), peer), None);
        assert_eq!(d.of_address("10.1.0.8:40000".parse().unwrap(), peer), Some(WorkloadId(1)));
    }
}
