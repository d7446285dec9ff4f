//! What rules report. Values only; `export` in the agent turns them into JSON.

use std::net::SocketAddr;

use super::{Nanos, SocketCookie};

/// How bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// For the record.
    Info,
    /// Worth a look some day.
    Low,
    /// Worth a look this week.
    Medium,
    /// Isolation is broken under conditions.
    High,
    /// Isolation is broken now.
    Critical,
}

impl Severity {
    /// All, mildest first.
    pub const ALL: [Self; 5] = [Self::Info, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The name in findings and configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// How the tenants of a finding are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EvidenceClass {
    /// Inference: never pages anyone alone.
    Inferred,
    /// Container labels at both ends, on this host.
    Endpoint,
    /// Bytes on the wire.
    Wire,
}

impl EvidenceClass {
    /// The name in findings and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Endpoint => "endpoint",
            Self::Inferred => "inferred",
        }
    }
}

/// The tenants of a finding, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TenantPair {
    /// For whom the operation was.
    pub used: Option<String>,
    /// Whom the connection was bound to, or who used it before.
    pub bound: Option<String>,
}

/// What a workload is one of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerRef {
    /// What kind of thing: `Deployment`, `CronJob`, `Image` …
    pub kind: String,
    /// The Kubernetes namespace, or the project, if there is one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// The workload that made the mistake possible.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadRef {
    /// Its name.
    pub name: String,
    /// Its outermost cgroup; `None` for a remote one.
    pub cgroup: Option<String>,
    /// What it is one of, where that is known: the finding's id is by this.
    pub owner: Option<OwnerRef>,
    /// The pod on which it was first seen, if it is one.
    pub pod: Option<String>,
}

/// The service it happened at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    /// Its name.
    pub name: String,
    /// Its protocol's name.
    pub protocol: &'static str,
    /// Where it listens.
    pub address: Option<SocketAddr>,
}

/// The connection it was first seen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRef {
    /// The socket's cookie.
    pub cookie: SocketCookie,
    /// The socket's own address.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
}

/// One step of what was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// When.
    pub at: Nanos,
    /// Kind of step: an operation kind, or a word of the rule's.
    pub what: &'static str,
    /// In words; identifiers and shapes only.
    pub detail: String,
    /// The tenant it speaks of.
    pub tenant: Option<String>,
    /// How that tenant is known.
    pub basis: Option<&'static str>,
}

/// The exception that keeps a finding silent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it was decided.
    pub ticket: Option<String>,
    /// When it ends.
    pub until: Nanos,
}

/// A rule's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Stable fingerprint of rule, workload (by its owner), service and tenants: 32 hexadecimal digits.
    pub id: String,
    /// The rule's id.
    pub rule: &'static str,
    /// How bad.
    pub severity: Severity,
    /// How the tenants are known.
    pub class: EvidenceClass,
    /// First time.
    pub first_seen: Nanos,
    /// Last time.
    pub last_seen: Nanos,
    /// How often.
    pub count: u64,
    /// The tenants.
    pub tenants: TenantPair,
    /// The workload.
    pub workload: WorkloadRef,
    /// The service, if the rule speaks of one.
    pub service: Option<ServiceRef>,
    /// The connection, if the rule speaks of one.
    pub flow: Option<FlowRef>,
    /// What was seen, oldest first.
    pub evidence: Vec<Evidence>,
    /// What it means, worded as what the host can know.
    pub message: String,
    /// What to do.
    pub remediation: &'static str,
    /// An exception keeps it silent.
    pub suppressed: Option<Suppressed>,
}
