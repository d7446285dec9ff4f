//! Who is behind a cgroup or an address: by configuration, else by the cgroup's path.
//!
//! Facts only: the agent asks here once per cgroup, and the core keeps the answers.

use std::net::IpAddr;

use monitor_core::engine::{AddressFact, WorkloadFact};
use monitor_core::model::ServiceRole;

mod glob;
mod path;
mod pattern;

pub use glob::CgroupGlob;
pub use pattern::TenantPattern;

/// An address, or a network, with an optional port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressMatch {
    /// Network address.
    pub net: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Only this port, if given.
    pub port: Option<u16>,
}

/// What a static rule applies to.
#[derive(Clone, Debug)]
pub enum StaticMatcher {
    /// Cgroups by path.
    Cgroup(CgroupGlob),
    /// Addresses.
    Address(AddressMatch),
}

/// An entry of `identity.static`.
#[derive(Clone, Debug)]
pub struct StaticRule {
    /// What it applies to.
    pub matcher: StaticMatcher,
    /// The tenant it runs for.
    pub tenant: Option<String>,
    /// Its name.
    pub workload: Option<String>,
    /// Its role.
    pub role: Option<ServiceRole>,
}

/// The `identity` section.
#[derive(Clone, Debug)]
pub struct IdentityConfig {
    /// First match wins.
    pub statics: Vec<StaticRule>,
    /// Tells the tenant where nothing static matches.
    pub patterns: Vec<TenantPattern>,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self { statics: Vec::new(), patterns: TenantPattern::defaults() }
    }
}

/// Whether sockets below this cgroup path are worth watching. All but the root's: what runs there is nobody's
/// workload. The agent's own cgroup is the capture's business.
pub fn watch(path: &str) -> bool {
    path.split('/').any(|segment| !segment.is_empty())
}

impl IdentityConfig {
    /// Who is behind the cgroup at `path` below the cgroup v2 root.
    pub fn resolve(&self, path: &str) -> WorkloadFact {
        for rule in &self.statics {
            if let StaticMatcher::Cgroup(glob) = &rule.matcher
                && let Some(cgroup) = glob.covers(path)
            {
                return WorkloadFact {
                    name: rule.workload.clone().unwrap_or_else(|| path::workload_name(cgroup)),
                    cgroup: cgroup.to_owned(),
                    tenants: rule.tenant.iter().cloned().collect(),
                    role: rule.role,
                };
            }
        }
        let cgroup = path::workload_of(path);
        let mut tenants: Vec<String> = Vec::new();
        for tenant in self.patterns.iter().filter_map(|p| p.tenant(path)) {
            if !tenants.iter().any(|t| t.eq_ignore_ascii_case(&tenant)) {
                tenants.push(tenant);
            }
        }
        WorkloadFact { name: path::workload_name(cgroup), cgroup: cgroup.to_owned(), tenants, role: None }
    }

    /// Who is at addresses, in order of precedence.
    pub fn addresses(&self) -> Vec<AddressFact> {
        self.statics
            .iter()
            .filter_map(|rule| match &rule.matcher {
                StaticMatcher::Cgroup(_) => None,
                StaticMatcher::Address(m) => Some(AddressFact {
                    net: m.net,
                    prefix: m.prefix,
                    port: m.port,
                    fact: WorkloadFact {
                        name: rule.workload.clone().unwrap_or_else(|| address_name(rule, m)),
                        cgroup: String::new(),
                        tenants: rule.tenant.iter().cloned().collect(),
                        role: rule.role,
                    },
                }),
            })
            .collect()
    }
}

/// The tenant's name if there is one, else the network.
fn address_name(rule: &StaticRule, m: &AddressMatch) -> String {
    if let Some(tenant) = &rule.tenant {
        return tenant.clone();
    }
    let whole = if m.net.is_ipv4() { 32 } else { 128 };
    let net = if m.prefix == whole { m.net.to_string() } else { format!("{}/{}", m.net, m.prefix) };
    match m.port {
        Some(port) if m.net.is_ipv6() => format!("[{net}]:{port}"),
        Some(port) => format!("{net}:{port}"),
        None => net,
    }
}

#[cfg(test)]
mod tests;
