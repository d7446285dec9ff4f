//! What the operator decided, as values. The agent's `config` makes this from YAML.

use std::net::IpAddr;

use super::claim::Salt;
use super::mcp::ManifestHash;
use super::token::TokenPolicy;
use super::{BindPolicy, Nanos, Protocol, Severity, Strength};

/// A tenant by configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSpec {
    /// Its name.
    pub name: String,
    /// Other spellings on the wire.
    pub aliases: Vec<String>,
}

/// A service by configuration: first match wins.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Listening port, if given.
    pub port: Option<u16>,
    /// Network (address, prefix bits), if given.
    pub net: Option<(IpAddr, u8)>,
    /// Protocol, if declared: decides at once, unless the first bytes are plainly another's or encrypted.
    pub protocol: Option<Protocol>,
    /// Weakest binding that counts; `None`: the protocol's default.
    pub minimum: Option<Strength>,
    /// What binds.
    pub policy: BindPolicy,
    /// Networks (address, prefix bits) of proxies that are believed for whom they connect to it.
    pub proxies: Vec<(IpAddr, u8)>,
}

/// A rule by configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleSpec {
    /// Its id.
    pub rule: String,
    /// Off when false.
    pub enabled: bool,
    /// Severity instead of the rule's own.
    pub severity: Option<Severity>,
}

/// An accepted exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    /// The rule's id.
    pub rule: String,
    /// Only this service, by name.
    pub service: Option<String>,
    /// Only this tenant (as user or as bound), by name.
    pub tenant: Option<String>,
    /// Only this finding, by id.
    pub finding: Option<String>,
    /// Why.
    pub reason: String,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Where it was decided: the name or address of a ticket.
    pub ticket: Option<String>,
    /// Ends here; afterwards findings come again and say so.
    pub until: Nanos,
}

/// Which request headers carry identity. Names in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderPolicy {
    /// The value names the tenant: a declared marker.
    pub tenant: Vec<String>,
    /// The value is a credential: only its scheme and its fingerprint are kept.
    pub credential: Vec<String>,
    /// The value is, or contains, the id of a trace or of a request.
    pub trace: Vec<String>,
    /// A W3C `baggage` header may hold these keys, which name the tenant.
    pub baggage: Vec<String>,
}

impl Default for HeaderPolicy {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect();
        Self {
            tenant: list(&[
                "x-tenant-id",
                "x-tenant",
                "x-scope-orgid",
                "x-org-id",
                "x-organization-id",
                "x-account-id",
                "x-customer-id",
            ]),
            credential: list(&["authorization", "x-api-key", "api-key"]),
            trace: list(&["traceparent", "b3", "x-b3-traceid", "x-request-id", "x-correlation-id", "x-amzn-trace-id"]),
            baggage: list(&["tenant", "tenant.id", "tenant_id", "tenantid"]),
        }
    }
}

/// Which bases may be used where one process works for several tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasisPolicy {
    /// Trace and request ids.
    pub trace: bool,
    /// The only request in flight.
    pub bracketed: bool,
    /// Rare values.
    pub value: bool,
    /// The same thread.
    pub thread: bool,
    /// The order of reads and writes.
    pub succession: bool,
    /// The only tenant in flight.
    pub only_tenant: bool,
}

impl Default for BasisPolicy {
    fn default() -> Self {
        Self { trace: true, bracketed: true, value: true, thread: true, succession: true, only_tenant: true }
    }
}

/// Tools that a tenant may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entitlement {
    /// The tenant, by name.
    pub tenant: String,
    /// Only on this service, by name.
    pub service: Option<String>,
    /// Names of tools; `*` at the end stands for anything.
    pub tools: Vec<String>,
}

/// A value planted in a tenant's data.
#[derive(Clone, PartialEq, Eq)]
pub struct Canary {
    /// Whose data.
    pub tenant: String,
    /// The value. Never shown, not even in debug output.
    pub value: String,
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canary").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

/// A tool as it was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedTool {
    /// The server's name, as it calls itself or as configured for the service.
    pub server: String,
    /// The server's version then.
    pub version: String,
    /// The tool's name.
    pub tool: String,
    /// Hash of its canonical JSON.
    pub hash: ManifestHash,
    /// The lock it stands in carried a valid signature.
    pub signed: bool,
}

/// Names on the wire that may be shown though nobody has seen them shared ([`super::shown`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Show {
    /// Routes, such as `/hooks/*/events`: what is written out is shown, `*` stands for one part, `**` at the end for all
    /// that follow.
    pub routes: Vec<String>,
    /// Keys, topics, subjects and the like, in the same way: `cart:*`.
    pub keys: Vec<String>,
    /// Whole names, whatever they are of; `*` stands for anything, and is shown.
    pub names: Vec<String>,
}

/// Bounds on memory.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most flows followed at once.
    pub flows: usize,
    /// Most memory for streams, decoders and tables, in bytes.
    pub memory: usize,
    /// Most tenants told apart in metrics.
    pub tenants: usize,
    /// Most services told apart.
    pub services: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { flows: 100_000, memory: 256 << 20, tenants: 200, services: 200 }
    }
}

/// Which TLS is read where its secrets are told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsScope {
    /// Connections to these services, by name. None: to all.
    pub services: Vec<String>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tenants.
    pub tenants: Vec<TenantSpec>,
    /// Services.
    pub services: Vec<ServiceSpec>,
    /// Rules.
    pub rules: Vec<RuleSpec>,
    /// Exceptions.
    pub suppress: Vec<Suppression>,
    /// Bounds.
    pub limits: Limits,
    /// Identity in headers.
    pub headers: HeaderPolicy,
    /// Bases in use.
    pub bases: BasisPolicy,
    /// How tokens are read.
    pub tokens: TokenPolicy,
    /// Tools that tenants may use.
    pub entitlements: Vec<Entitlement>,
    /// Values planted in a tenant's data that nobody else may ever see.
    pub canaries: Vec<Canary>,
    /// Whether TLS is read whose secrets are told, and of which connections. `None`: of none.
    pub tls: Option<TlsScope>,
    /// Tools as they were approved.
    pub locks: Vec<LockedTool>,
    /// What may be shown of names on the wire.
    pub show: Show,
    /// Salt of every fingerprint: random in a live agent, fixed in a replay. Never shows in output.
    pub salt: Salt,
    /// Whether operations are handed out one by one (`replay --operations`).
    pub operations: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            tenants: Vec::new(),
            services: Vec::new(),
            rules: Vec::new(),
            suppress: Vec::new(),
            limits: Limits::default(),
            headers: HeaderPolicy::default(),
            bases: BasisPolicy::default(),
            tokens: TokenPolicy::default(),
            entitlements: Vec::new(),
            canaries: Vec::new(),
            tls: None,
            locks: Vec::new(),
            show: Show::default(),
            salt: Salt(0, 0),
            operations: false,
        }
    }
}
