//! What sources of identity tell, as values: containers, pods, namespaces, services.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use monitor_core::engine::OwnerFact;
use monitor_core::model::ServiceRole;

/// What kind of source: the value of the label `source` in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// The API of Docker or Podman.
    Docker,
    /// A container runtime's CRI socket.
    Cri,
    /// The Kubernetes API server.
    Kubernetes,
}

impl SourceKind {
    /// All.
    pub const ALL: [Self; 3] = [Self::Docker, Self::Cri, Self::Kubernetes];

    /// The name in metrics and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Cri => "cri",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// One source: a socket, or one kind of Kubernetes objects. An index into the list that it was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It has told everything it knows, and tells what changes.
    Synced,
    /// It cannot be asked now, and why. What it told before is kept.
    Stale(String),
}

/// A tenant with the place in the configured order of where it was found: the lowest counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ranked {
    /// Place in the order.
    pub rank: usize,
    /// The tenant.
    pub tenant: String,
}

/// A container, as a runtime tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerFact {
    /// Its id, in full.
    pub id: String,
    /// Its name; `namespace/pod` for one of a pod.
    pub name: String,
    /// The tenant by label.
    pub tenant: Option<String>,
    /// Its role by label.
    pub role: Option<ServiceRole>,
    /// What it is one of.
    pub owner: Option<OwnerFact>,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFact {
    /// The tenant that it names.
    pub tenant: Option<Ranked>,
    /// The role that it gives its pods.
    pub role: Option<ServiceRole>,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFact {
    /// Its uid.
    pub uid: String,
    /// The uid in its cgroups' names, where that is another: a static pod's cgroups are named by its hash.
    pub cgroup_uid: Option<String>,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Seconds since the epoch: of two with one address, the younger has it.
    pub created: i64,
    /// Tenants by its own labels and annotations, in the configured order.
    pub tenants: Vec<Ranked>,
    /// Its role by label, where pods may say that.
    pub role: Option<ServiceRole>,
    /// Kind and name of what it is one of.
    pub owner: (String, String),
    /// Its addresses; none while it has none of its own or when it has ended.
    pub addresses: Vec<IpAddr>,
    /// Ids of its containers.
    pub containers: Vec<String>,
}

/// Addresses of a service: its cluster addresses, or the endpoints in one slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFact {
    /// What tells: unique among the source's objects.
    pub key: String,
    /// `namespace/service`.
    pub name: String,
    /// Where it answers.
    pub addresses: Vec<SocketAddr>,
}

/// One thing that a source tells.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A container is there, or has changed.
    Container(ContainerFact),
    /// A container is gone.
    ContainerGone(String),
    /// A pod is there, or has changed.
    Pod(PodFact),
    /// A pod is gone, by uid.
    PodGone(String),
    /// A namespace is there, or has changed.
    Namespace(String, NamespaceFact),
    /// A namespace is gone.
    NamespaceGone(String),
    /// A service is there, or has changed.
    Service(ServiceFact),
    /// A service is gone, by its key.
    ServiceGone(String),
    /// These are all there are, by id, uid, name or key: the source's others are gone.
    All(HashSet<String>),
    /// How the source is doing.
    State(SourceState),
}

/// Longest tenant name taken from a label or an annotation, in characters; longer ones are no names.
const MAX_TENANT: usize = 128;

/// A label's value, if it may be a tenant's name.
pub(super) fn tenant_name(value: &str) -> Option<String> {
    let name = value.trim();
    let usable = !name.is_empty() && name.chars().count() <= MAX_TENANT && !name.chars().any(char::is_control);
    usable.then(|| name.to_owned())
}

/// A label's value as a role.
pub(super) fn role_name(value: &str) -> Option<ServiceRole> {
    match value {
        "runtime" => Some(ServiceRole::Runtime),
        "shared" => Some(ServiceRole::Shared),
        "service" => Some(ServiceRole::Service),
        _ => None,
    }
}

/// Names that come from outside are shown: what would break a terminal is replaced, and their length is bounded.
pub(super) fn printable(text: &str) -> String {
    text.chars().take(256).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
