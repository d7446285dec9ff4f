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
    /// Who is there.
    pub workload: WorkloadId,
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

/// All that is known of who is where.
#[derive(Debug, Default)]
pub struct Directory {
    workloads: Vec<Workload>,
    by_cgroup: FxHashMap<CgroupId, WorkloadId>,
    by_identity: FxHashMap<(Sym, Sym), WorkloadId>,
    addresses: Vec<AddressRule>,
}

impl Directory {
    /// Adds or finds the workload with this name and outermost cgroup. A different tenant label for a known workload
    /// makes it conflicting: its label has changed.
    pub fn workload(&mut self, new: Workload) -> WorkloadId {
        if let Some(&id) = self.by_identity.get(&(new.name, new.cgroup)) {
            if let Some(old) = self.workloads.get_mut(id.0 as usize)
                && (old.tenant != new.tenant || new.conflicting)
            {
                old.conflicting = true;
                old.tenant = None;
            }
            return id;
        }
        let id = WorkloadId(u32::try_from(self.workloads.len()).unwrap_or(u32::MAX));
        self.by_identity.insert((new.name, new.cgroup), id);
        self.workloads.push(new);
        id
    }

    /// A cgroup belongs to `workload` from now on.
    pub fn learn_cgroup(&mut self, cgroup: CgroupId, workload: WorkloadId) {
        self.by_cgroup.insert(cgroup, workload);
    }

    /// The cgroup is gone: its id may come back as another's.
    pub fn forget_cgroup(&mut self, cgroup: CgroupId) {
        self.by_cgroup.remove(&cgroup);
    }

    /// Adds an address rule; earlier ones win.
    pub fn add_address(&mut self, rule: AddressRule) {
        self.addresses.push(rule);
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
                && self.get(r.workload).is_some_and(|w| w.tenant.is_some())
        };
        self.addresses.iter().find(|r| r.covers(addr) || as_client(r)).map(|r| r.workload)
    }

    /// The workload behind `id`.
    pub fn get(&self, id: WorkloadId) -> Option<&Workload> {
        self.workloads.get(id.0 as usize)
    }

    /// All workloads.
    pub fn iter(&self) -> impl Iterator<Item = (WorkloadId, &Workload)> {
        (0u32..).zip(&self.workloads).map(|(i, w)| (WorkloadId(i), w))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_ports() {
        let rule =
            AddressRule { net: "10.1.0.0".parse().unwrap(), prefix: 24, port: Some(5432), workload: WorkloadId(0) };
        assert!(rule.covers("10.1.0.9:5432".parse().unwrap()));
        assert!(!rule.covers("10.1.1.9:5432".parse().unwrap()));
        assert!(!rule.covers("10.1.0.9:5433".parse().unwrap()));
        assert!(!rule.covers("[::1]:5432".parse().unwrap()));
        let all = AddressRule { net: "::".parse().unwrap(), prefix: 0, port: None, workload: WorkloadId(0) };
        assert!(all.covers("[fd00::1]:1".parse().unwrap()));
    }
}
