//! The operator's decisions about containers and Kubernetes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use monitor_core::model::{Nanos, ServiceRole};

use super::TenantPattern;
use super::facts::{Ranked, role_name, tenant_name};

/// Which sockets to ask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sockets {
    /// Those of the usual ones that are there.
    #[default]
    Auto,
    /// None.
    Off,
    /// These.
    These(Vec<PathBuf>),
}

impl Sockets {
    /// The sockets to ask, and whether they were asked for by name.
    pub fn paths(&self, usual: &[&str]) -> (Vec<PathBuf>, bool) {
        match self {
            Self::Off => (Vec::new(), false),
            Self::These(paths) => (paths.clone(), true),
            Self::Auto => {
                let mut found: Vec<PathBuf> = Vec::new();
                // `/var/run` is mostly a link to `/run`: one daemon is asked once.
                for path in usual.iter().filter_map(|p| Path::new(p).canonicalize().ok()) {
                    if !found.contains(&path) {
                        found.push(path);
                    }
                }
                (found, false)
            }
        }
    }
}

/// Where Docker's and Podman's sockets are.
pub const DOCKER_SOCKETS: [&str; 3] = ["/run/docker.sock", "/var/run/docker.sock", "/run/podman/podman.sock"];

/// Where CRI sockets are: containerd, CRI-O, k3s, cri-dockerd.
pub const CRI_SOCKETS: [&str; 4] = [
    "/run/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/cri-dockerd.sock",
];

/// The `identity.containers` section.
#[derive(Clone, Debug)]
pub struct ContainersConfig {
    /// Docker and Podman.
    pub docker: Sockets,
    /// Runtimes that speak CRI.
    pub cri: Sockets,
    /// Which labels say what.
    pub labels: LabelRules,
}

/// Labels of containers that say for whom and what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelRules {
    /// The first of these that is there names the tenant.
    pub tenant: Vec<String>,
    /// The first of these that is there names the role.
    pub role: Vec<String>,
    /// A pod's own labels may say its role; else only its namespace's may.
    pub pod_roles: bool,
}

impl LabelRules {
    /// Tenant and role by these labels.
    pub(super) fn read(&self, get: impl Fn(&str) -> Option<String>) -> (Option<String>, Option<ServiceRole>) {
        let tenant = self.tenant.iter().find_map(|key| get(key)).and_then(|v| tenant_name(&v));
        let role = self.role.iter().find_map(|key| get(key)).and_then(|v| role_name(&v));
        (tenant, role)
    }
}

impl Default for ContainersConfig {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            docker: Sockets::Auto,
            cri: Sockets::Auto,
            labels: LabelRules {
                tenant: list(&["leasewarden.io/tenant", "capsule.clastix.io/tenant", "tenant"]),
                role: list(&["leasewarden.io/role"]),
                pod_roles: false,
            },
        }
    }
}

/// Whether to use something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    /// Where it is there.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// Something that names a pod's tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TenantSource {
    /// A label of the pod.
    PodLabel(String),
    /// An annotation of the pod.
    PodAnnotation(String),
    /// A label of its namespace. With a `*` in its key, what stands for the `*` is the tenant, of the label with the
    /// largest number: Hierarchical Namespaces label a namespace with each ancestor's distance.
    NamespaceLabel(String),
    /// A pattern of its namespace's name.
    NamespacePattern(TenantPattern),
}

/// The `identity.kubernetes` section.
#[derive(Clone, Debug)]
pub struct KubernetesConfig {
    /// Whether to ask an API server; `Auto`: in a pod with a service account.
    pub enabled: Switch,
    /// The node's name; by default from `NODE_NAME`, else the host's.
    pub node: Option<String>,
    /// How to reach the API server where the agent is no pod.
    pub kubeconfig: Option<PathBuf>,
    /// Also know the pods of other nodes by their addresses.
    pub remote_pods: bool,
    /// Name services after Kubernetes' own.
    pub services: bool,
    /// What names a pod's tenant, in order.
    pub tenant: Vec<TenantSource>,
}

impl Default for KubernetesConfig {
    fn default() -> Self {
        let own = || "leasewarden.io/tenant".to_owned();
        Self {
            enabled: Switch::Auto,
            node: None,
            kubeconfig: None,
            remote_pods: false,
            services: true,
            tenant: vec![
                // Whoever may make pods in a namespace writes their labels; whoever may make namespaces, theirs.
                TenantSource::NamespaceLabel(own()),
                TenantSource::NamespaceLabel("capsule.clastix.io/tenant".to_owned()),
                TenantSource::NamespaceLabel("tenant".to_owned()),
                TenantSource::PodLabel(own()),
                TenantSource::PodLabel("tenant".to_owned()),
                TenantSource::PodAnnotation(own()),
            ],
        }
    }
}

#[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "for Kubernetes alone"))]
impl KubernetesConfig {
    /// The tenants that a pod's own labels and annotations name, each once, in the configured order.
    pub(super) fn of_pod(
        &self,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Vec<Ranked> {
        let mut all: Vec<Ranked> = Vec::new();
        let named = self.all(|source| match source {
            TenantSource::PodLabel(key) => labels.get(key).cloned(),
            TenantSource::PodAnnotation(key) => annotations.get(key).cloned(),
            TenantSource::NamespaceLabel(_) | TenantSource::NamespacePattern(_) => None,
        });
        for one in named {
            if all.iter().all(|known| known.tenant != one.tenant) {
                all.push(one);
            }
        }
        all
    }

    /// The tenant that a namespace names.
    pub(super) fn of_namespace(&self, name: &str, labels: &BTreeMap<String, String>) -> Option<Ranked> {
        let mut named = self.all(|source| match source {
            TenantSource::NamespaceLabel(key) => match key.split_once('*') {
                None => labels.get(key).cloned(),
                Some((before, after)) => root(labels, before, after),
            },
            TenantSource::NamespacePattern(pattern) => pattern.tenant(name),
            TenantSource::PodLabel(_) | TenantSource::PodAnnotation(_) => None,
        });
        named.next()
    }

    #[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "for Kubernetes alone"))]
    fn all<'s>(&'s self, get: impl Fn(&'s TenantSource) -> Option<String> + 's) -> impl Iterator<Item = Ranked> + 's {
        let named = move |(rank, s)| Some(Ranked { rank, tenant: tenant_name(&get(s)?)? });
        self.tenant.iter().enumerate().filter_map(named)
    }
}

/// What stands between `before` and `after` in the key of the label with the largest number.
#[cfg_attr(not(feature = "kubernetes"), allow(dead_code, reason = "for Kubernetes alone"))]
fn root(labels: &BTreeMap<String, String>, before: &str, after: &str) -> Option<String> {
    let depth = |(key, value): (&String, &String)| {
        let name = key.strip_prefix(before)?.strip_suffix(after)?.to_owned();
        Some((value.trim().parse::<u32>().ok()?, name))
    };
    labels.iter().filter_map(depth).max_by_key(|(n, _)| *n).map(|(_, name)| name)
}

/// How long, and how much, events wait for the label of a new container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitConfig {
    /// Longest wait.
    pub at_most: Nanos,
    /// Most bytes of events that wait.
    pub bytes: usize,
}

impl Default for WaitConfig {
    fn default() -> Self {
        Self { at_most: Nanos::secs(2), bytes: 4 << 20 }
    }
}

/// The node whose pods are this agent's.
pub fn node_name(config: &KubernetesConfig) -> Option<String> {
    let given = config.node.clone().or_else(|| std::env::var("NODE_NAME").ok());
    let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|h| h.trim().to_lowercase());
    given.filter(|n| !n.is_empty()).or_else(host).filter(|n| !n.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn tenant(r: Option<Ranked>) -> Option<(usize, String)> {
        r.map(|r| (r.rank, r.tenant))
    }

    #[test]
    fn the_order_decides() {
        let config = KubernetesConfig::default();
        let none = map(&[]);
        let both = map(&[("tenant", "acme"), ("leasewarden.io/tenant", "globex")]);
        let pods = |labels, annotations| config.of_pod(labels, annotations).into_iter().map(|r| (r.rank, r.tenant));
        assert_eq!(pods(&both, &none).collect::<Vec<_>>(), [(3, "globex".into()), (4, "acme".into())]);
        assert_eq!(pods(&none, &map(&[("leasewarden.io/tenant", "acme")])).collect::<Vec<_>>(), [(5, "acme".into())]);
        assert_eq!(
            tenant(config.of_namespace("shop", &map(&[("capsule.clastix.io/tenant", "oil")]))),
            Some((1, "oil".into()))
        );
        assert_eq!(config.of_pod(&map(&[("tenant", " ")]), &none), []);
        assert_eq!(config.of_pod(&map(&[("tenant", "a\u{1b}[0m")]), &none), []);
    }

    #[test]
    fn hierarchical_namespaces_name_their_root() {
        let tree = TenantSource::NamespaceLabel("*.tree.hnc.x-k8s.io/depth".into());
        let config = KubernetesConfig { tenant: vec![tree], ..KubernetesConfig::default() };
        let labels = map(&[
            ("acme.tree.hnc.x-k8s.io/depth", "2"),
            ("team-a.tree.hnc.x-k8s.io/depth", "1"),
            ("service-1.tree.hnc.x-k8s.io/depth", "0"),
        ]);
        assert_eq!(tenant(config.of_namespace("service-1", &labels)), Some((0, "acme".into())));
    }

    #[test]
    fn a_namespaces_name_may_name_the_tenant() {
        let pattern = TenantSource::NamespacePattern(TenantPattern::new("tenant-{tenant}").unwrap());
        let config = KubernetesConfig { tenant: vec![pattern], ..KubernetesConfig::default() };
        assert_eq!(tenant(config.of_namespace("tenant-acme", &map(&[]))), Some((0, "acme".into())));
        assert_eq!(config.of_namespace("kube-system", &map(&[])), None);
    }

    #[test]
    fn usual_sockets_are_asked_if_they_are_there() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("x.sock");
        std::fs::write(&there, "").unwrap();
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&there, &link).unwrap();
        let usual = [there.to_str().unwrap(), link.to_str().unwrap(), "/nowhere/at/all.sock"];
        let (paths, named) = Sockets::Auto.paths(&usual);
        assert_eq!((paths.len(), named), (1, false));
        assert_eq!(Sockets::Off.paths(&usual).0.len(), 0);
        assert!(Sockets::These(vec!["/nowhere".into()]).paths(&usual).1);
    }
}
