//! What the engine hands out.

use std::net::{IpAddr, SocketAddr};

use super::downstream::DownstreamView;
use crate::decode::Appetite;
use crate::detect::{FindingEvent, FindingSink};
use crate::model::mcp::ManifestHash;
use crate::model::{Answer, Finding, Nanos, Operation, Protocol, ServiceRole, SocketCookie, Verdict};

/// Receives the engine's results.
pub trait Output {
    /// A finding is new, has repeated, or is told for the last time.
    fn finding(&mut self, finding: &Finding, event: FindingEvent);

    /// A finding that an exception keeps silent was made, or has happened again (at most once a minute).
    fn suppressed(&mut self, finding: &Finding) {
        let _ = finding;
    }

    /// One decoded operation, judged. Only called when `Settings::operations` is on.
    fn operation(&mut self, op: &OperationView<'_>) {
        let _ = op;
    }

    /// What is wanted of a socket from now on.
    fn capture(&mut self, cookie: SocketCookie, wanted: Wanted) {
        let _ = (cookie, wanted);
    }

    /// A socket is not followed any more, to make room. Announced again, it is followed from there on.
    fn forgotten(&mut self, cookie: SocketCookie) {
        let _ = cookie;
    }
}

/// Findings on their way to an [`Output`].
pub(super) struct ToOutput<'o>(pub(super) &'o mut dyn Output);

impl FindingSink for ToOutput<'_> {
    fn finding(&mut self, finding: &Finding, event: FindingEvent) {
        self.0.finding(finding, event);
    }

    fn suppressed(&mut self, finding: &Finding) {
        self.0.suppressed(finding);
    }
}

/// What is wanted of one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How much of the segments that it sends.
    pub sent: Appetite,
    /// How much of the segments that it receives.
    pub received: Appetite,
    /// Each read of it ([`crate::model::Event::Reader`]), not only another reader.
    pub reads: bool,
}

impl Default for Wanted {
    /// What a source tells before it is asked for anything.
    fn default() -> Self {
        Self { sent: Appetite::Everything, received: Appetite::Everything, reads: false }
    }
}

/// One operation, for `replay --operations`.
#[derive(Clone, Copy, Debug)]
pub struct OperationView<'a> {
    /// Client and server address.
    pub flow: (SocketAddr, SocketAddr),
    /// The protocol.
    pub protocol: Protocol,
    /// The operation.
    pub op: &'a Operation,
    /// Its verb.
    pub verb: &'a str,
    /// Its target; empty when there is none.
    pub target: &'a str,
    /// For whom it was.
    pub answer: Answer,
    /// That tenant's name.
    pub tenant: Option<&'a str>,
    /// The verdict; `None` for anything but data.
    pub verdict: Verdict,
}

/// Who is behind a cgroup or an address, as identity found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadFact {
    /// Its name.
    pub name: String,
    /// Path of its outermost cgroup below the cgroup v2 root; empty for an address.
    pub cgroup: String,
    /// Tenant labels: none, one, or several that contradict.
    pub tenants: Vec<String>,
    /// Its role, if declared.
    pub role: Option<ServiceRole>,
    /// What it is one of, where replicas and successors of it have names of their own.
    pub owner: Option<OwnerFact>,
}

/// What a workload is one of, as identity found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerFact {
    /// What kind of thing: `Deployment`, `CronJob`, `Image` …
    pub kind: String,
    /// The Kubernetes namespace, or the project; empty where there is none.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The pod that the workload is; empty where it is none.
    pub pod: String,
}

/// Who is behind an address, by configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressFact {
    /// Network address.
    pub net: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Only this port, if given.
    pub port: Option<u16>,
    /// Who is there.
    pub fact: WorkloadFact,
}

/// One service of the discovered service map.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    /// The workload behind it.
    pub workload: Option<String>,
    /// It passes requests on unchanged (a pooler or proxy).
    pub relay: bool,
    /// Tenants that used it, by name.
    pub tenants: Vec<TenantView>,
    /// Data operations for no known tenant.
    pub unattributed: u64,
    /// Acknowledged bindings, whoever made them.
    pub bindings: u64,
    /// What its tools use, where it has tools.
    pub tools: Vec<DownstreamView>,
    /// What is read of its TLS, where that is to be read and there is any.
    pub tls: Option<TlsView>,
}

/// What is read of a service's TLS, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsView {
    /// Connections that were read.
    pub read: u64,
    /// Those that were not, by why.
    pub unread: Vec<(&'static str, u64)>,
    /// Bytes on the wire that were read.
    pub bytes_read: u64,
    /// Those that were not, by why.
    pub bytes_unread: Vec<(&'static str, u64)>,
    /// Hosts that clients asked for.
    pub server_names: Vec<(String, u64)>,
    /// Application protocols that the server chose.
    pub protocols: Vec<(&'static str, u64)>,
    /// Whose connections would be read if they were opened anew.
    pub restart: Vec<RestartView>,
}

/// A workload with connections that would be read if they were opened anew.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RestartView {
    /// The client's name; `_other` where it is not known.
    pub workload: String,
    /// Why they are not read.
    pub reason: &'static str,
    /// How many of them are open.
    pub connections: u64,
}

impl TlsView {
    /// Bytes that were not read.
    pub fn n_bytes_unread(&self) -> u64 {
        self.bytes_unread.iter().map(|(_, n)| n).sum()
    }
}

/// A tool as a server was last seen to list it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ToolView {
    /// What the server calls itself; its service's name if it has not told.
    pub server: String,
    /// The server's version; empty if it has not told.
    pub version: String,
    /// The service it was seen at.
    pub service: String,
    /// The tool's name.
    pub tool: String,
    /// Hash of its canonical JSON.
    pub hash: ManifestHash,
}

/// One tenant's use of a service.
#[derive(Clone, Debug)]
pub struct TenantView {
    /// The tenant.
    pub tenant: String,
    /// First data operation.
    pub first_seen: Nanos,
    /// Last data operation.
    pub last_seen: Nanos,
    /// Data operations by verdict.
    pub verdicts: Vec<(&'static str, u64)>,
    /// Acknowledged bindings that named it, by slot.
    pub bindings: Vec<(String, u64)>,
}
