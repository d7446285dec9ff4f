//! Who is behind a cgroup or an address: by configuration, else by what container runtimes and Kubernetes tell, else by
//! the cgroup's path.
//!
//! ```text
//! docker, cri, kubernetes ──facts──▶ registry ──▶ resolver ──updates──▶ the core's directory
//!  (tasks, they alone do I/O)                        ▲ cgroups seen, flows opened
//! ```

use std::net::IpAddr;

use monitor_core::engine::{AddressFact, WorkloadFact};
use monitor_core::model::ServiceRole;

pub mod cgroup_path;
#[cfg(feature = "kubernetes")]
pub mod cri;
pub mod docker;
pub mod facts;
mod glob;
#[cfg_attr(not(feature = "kubernetes"), path = "kubernetes/absent.rs")]
pub mod kubernetes;
#[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "pods are for Kubernetes alone"))]
mod owner;
mod path;
mod pattern;
mod pending;
mod registry;
mod resolver;
#[cfg(test)]
mod scripted;
mod settings;
mod sources;

pub use glob::CgroupGlob;
pub use pattern::TenantPattern;
pub use pending::Pending;
pub use registry::SourceInfo;
pub use resolver::{Resolver, Update, WaitEnd};
pub use settings::{
    CRI_SOCKETS, ContainersConfig, DOCKER_SOCKETS, KubernetesConfig, LabelRules, Sockets, Switch, TenantSource,
    WaitConfig,
};
pub use sources::{Job, Told, plan};

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
    /// What container runtimes are asked.
    pub containers: ContainersConfig,
    /// What Kubernetes is asked.
    pub kubernetes: KubernetesConfig,
    /// How long events wait for the label of a new container.
    pub wait: WaitConfig,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        Self {
            statics: Vec::new(),
            patterns: TenantPattern::defaults(),
            containers: ContainersConfig::default(),
            kubernetes: KubernetesConfig::default(),
            wait: WaitConfig::default(),
        }
    }
}

/// Whether sockets below this cgroup path are worth watching. All but the root's: what runs there is nobody's
/// workload. The agent's own cgroup is the capture's business.
pub fn watch(path: &str) -> bool {
    path.split('/').any(|segment| !segment.is_empty())
}

impl IdentityConfig {
    /// Whether a static rule says who lives in the cgroup at `path`: nobody else is asked then.
    pub(crate) fn declared(&self, path: &str) -> bool {
        self.statics
            .iter()
            .any(|rule| matches!(&rule.matcher, StaticMatcher::Cgroup(glob) if glob.covers(path).is_some()))
    }

    /// Who is behind the cgroup at `path` below the cgroup v2 root, by configuration and path alone.
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
                    owner: None,
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
        WorkloadFact { name: path::workload_name(cgroup), cgroup: cgroup.to_owned(), tenants, role: None, owner: None }
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
                        owner: None,
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
