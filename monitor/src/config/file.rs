//! The configuration file, key by key. Field names and comments here are the documentation: the JSON schema carries
//! them.

use schemars::JsonSchema;
use serde::Deserialize;

use super::located::{Located, Table};

/// Configuration of leasewarden, version 1. Everything but `version` may be left out.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "leasewarden configuration")]
pub(super) struct File {
    /// Version of this format: 1.
    #[schemars(range(min = 1, max = 1))]
    pub(super) version: Located<u32>,
    /// Who is behind a cgroup or an address.
    pub(super) identity: Option<Identity>,
    /// Tenants by name, with other spellings of theirs. Tenants that identity names need not be here.
    #[serde(default)]
    pub(super) tenants: Vec<Tenant>,
    /// Services to name, or to judge otherwise than by default. First match wins.
    #[serde(default)]
    pub(super) services: Vec<Service>,
    /// How it is found out for whom a shared process works.
    pub(super) attribution: Option<Attribution>,
    /// How tokens are read and verified.
    pub(super) tokens: Option<Tokens>,
    /// Tools that tenants may use.
    #[serde(default)]
    pub(super) entitlements: Vec<Entitlement>,
    /// Values planted in a tenant's data: nobody else may ever see them.
    #[serde(default)]
    pub(super) canaries: Vec<Located<Canary>>,
    /// Locks of tools as they were approved (`leasewarden tools lock`): files, read at start.
    #[serde(default)]
    pub(super) locks: Vec<Located<String>>,
    /// Ed25519 public keys (PEM files, read at start): a lock signed by one of them counts as signed.
    #[serde(default)]
    pub(super) lock_keys: Vec<Located<String>>,
    /// Rules to switch off, or to give another severity, by rule id.
    #[serde(default)]
    pub(super) rules: Table<Rule>,
    /// Accepted exceptions, each with a reason and an end.
    #[serde(default)]
    pub(super) suppress: Vec<Suppress>,
    /// Bounds on memory.
    pub(super) limits: Option<Limits>,
    /// Where findings and metrics go.
    pub(super) export: Option<Export>,
    /// Reading TLS. Off unless it is switched on here: what workloads encrypt is read by the secrets of their handshakes.
    pub(super) tls: Option<Tls>,
    /// The user to run as, by name or number, instead of the one who started it, who must be root. It keeps the
    /// capabilities that it needs.
    pub(super) user: Option<Located<PrincipalName>>,
    /// The group to run as, by name or number. Default: that of `user`.
    pub(super) group: Option<Located<PrincipalName>>,
    /// What is given up once the probes are attached. A kubeconfig that gets its credentials from a program (`exec`) needs
    /// `off`: no program can be started from within.
    pub(super) sandbox: Option<SandboxName>,
}

/// A user or a group, by name or number.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected a name or a number")]
pub(super) enum PrincipalName {
    /// By number.
    Id(u32),
    /// By name.
    Name(String),
}

/// What is given up once the probes are attached.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SandboxName {
    /// All capabilities and system calls that are no longer needed. The default.
    On,
    /// Capabilities; other system calls are written to the kernel's audit log, and allowed.
    Log,
    /// Nothing.
    Off,
}

/// Who is behind a cgroup or an address.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// First match wins. What matches nothing here is named after its cgroup path.
    #[serde(default, rename = "static")]
    pub(super) statics: Vec<Static>,
    /// Path patterns that name a tenant where nothing in `static` matches; replaces the default list
    /// `tenant-{tenant}.slice`, `tenants-{tenant}.slice`, `tenant-{tenant}`, `/tenants/{tenant}/`. A pattern without
    /// `/` is compared with each directory name on the path, one with `/` with consecutive ones.
    pub(super) patterns: Option<Vec<Located<String>>>,
    /// Labels of containers, as their runtimes tell them.
    pub(super) containers: Option<Containers>,
    /// Pods, namespaces and services, as a Kubernetes API server tells them.
    pub(super) kubernetes: Option<Kubernetes>,
    /// How long events of a new container wait until its labels are known.
    pub(super) wait: Option<Wait>,
}

/// Labels of containers, as their runtimes tell them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Containers {
    /// Sockets of Docker's or Podman's API: `auto` (those of the usual ones that are there; the default), `off`, a path,
    /// or a list of paths.
    pub(super) docker: Option<Located<SocketNames>>,
    /// Sockets of runtimes that speak CRI (containerd, CRI-O): `auto` (the default), `off`, a path, or a list of paths.
    pub(super) cri: Option<Located<SocketNames>>,
    /// Labels that name the tenant; the first that is there counts. Default: `leasewarden.io/tenant`,
    /// `capsule.clastix.io/tenant`, `tenant`.
    pub(super) tenant_labels: Option<Vec<Located<String>>>,
    /// Labels that name the role: `runtime`, `shared` or `service`. Default: `leasewarden.io/role`. Also read from
    /// namespaces, and from pods where `identity.kubernetes.pod_roles` is on.
    pub(super) role_labels: Option<Vec<Located<String>>>,
}

/// `auto`, `off`, a path, or a list of paths.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "expected `auto`, `off`, the path of a socket, or a list of paths")]
pub(super) enum SocketNames {
    /// `auto`, `off`, or a path.
    One(String),
    /// Paths.
    Many(Vec<String>),
}

/// Pods, namespaces and services, as a Kubernetes API server tells them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kubernetes {
    /// Whether to ask one; `auto` (the default): in a pod with a service account.
    pub(super) enabled: Option<Located<SwitchName>>,
    /// The node whose pods these are. Default: the environment variable `NODE_NAME`, else the host's name.
    pub(super) node: Option<Located<String>>,
    /// A kubeconfig, where the agent is no pod. Default: `$KUBECONFIG`, else `~/.kube/config`.
    pub(super) kubeconfig: Option<Located<String>>,
    /// Also know the pods of other nodes, by their addresses. Costs memory: docs/decisions/0007-identity.md.
    #[serde(default)]
    pub(super) remote_pods: bool,
    /// Name services after Kubernetes' own, by cluster address and endpoints. On unless set to `false`.
    #[serde(default = "yes")]
    pub(super) services: bool,
    /// What names a pod's tenant; the first that answers counts. Default: its namespace's labels `leasewarden.io/tenant`,
    /// `capsule.clastix.io/tenant` and `tenant`, then the pod's own labels `leasewarden.io/tenant` and `tenant`, its
    /// annotation `leasewarden.io/tenant`. A pod that names itself another tenant than its namespace does, where the
    /// namespace comes first, counts as nobody's, and is a finding (`identity-conflicting`).
    pub(super) tenant: Option<Vec<Located<TenantFrom>>>,
    /// Whether a pod's own labels and annotations may say its role (`identity.containers.role_labels`). Off: only the
    /// same labels of its namespace, and the configuration, may. Whoever may make pods would otherwise decide which of
    /// them count as shared.
    #[serde(default)]
    pub(super) pod_roles: bool,
}

/// Whether to use something.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SwitchName {
    /// Where it is there.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

/// One way to name a pod's tenant: exactly one of these keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantFrom {
    /// A label of the pod.
    pub(super) pod_label: Option<Located<String>>,
    /// An annotation of the pod.
    pub(super) pod_annotation: Option<Located<String>>,
    /// A label of its namespace. With a `*`, what stands for it is the tenant, of the label with the largest number:
    /// `*.tree.hnc.x-k8s.io/depth` gives the root of a tree of Hierarchical Namespaces.
    pub(super) namespace_label: Option<Located<String>>,
    /// A pattern of its namespace's name, such as `tenant-{tenant}`.
    pub(super) namespace_pattern: Option<Located<String>>,
}

/// How long events of a new container wait until its labels are known.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// Longest wait, such as `2s` (the default), at most `30s`; `0s`: none.
    pub(super) at_most: Option<Located<String>>,
    /// Most bytes of events that wait. Default 4194304.
    #[schemars(range(min = 0, max = 1_073_741_824))]
    pub(super) bytes: Option<Located<u32>>,
}

/// Who is behind one cgroup pattern or one network.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Static {
    /// What it applies to.
    #[serde(rename = "match")]
    pub(super) matches: Located<StaticMatch>,
    /// The tenant it runs for.
    pub(super) tenant: Option<Located<String>>,
    /// What it is to tenants; by evidence if left out.
    pub(super) role: Option<RoleName>,
    /// Its name; taken from the path if left out.
    pub(super) workload: Option<Located<String>>,
}

/// A cgroup pattern, or an address with an optional port.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StaticMatch {
    /// Glob on the path below the cgroup v2 root. Covers everything nested below the directories it matches; a
    /// closing `/**` also covers the directory itself.
    pub(super) cgroup: Option<Located<String>>,
    /// An address, or a network such as `10.1.0.0/24`.
    pub(super) ip: Option<Located<String>>,
    /// Only this TCP port; with `ip` only.
    pub(super) port: Option<Located<u16>>,
}

/// What a workload is to tenants.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RoleName {
    /// Runs for one tenant.
    Runtime,
    /// Serves many tenants and calls other services for them.
    Shared,
    /// Serves, and calls nothing for tenants.
    Service,
}

/// How it is found out for whom a shared process works.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Attribution {
    /// Bases that may be used; all are by default.
    pub(super) bases: Option<BaseSwitches>,
    /// Request headers that carry identity.
    pub(super) headers: Option<Headers>,
}

/// Bases that may be used where one process works for many tenants. Each is on unless set to `false`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct BaseSwitches {
    /// Trace and request ids carried from the request to the work done for it.
    #[serde(default = "yes")]
    pub(super) trace_id: bool,
    /// The only request in flight, in a process that is quiet when idle.
    #[serde(default = "yes")]
    pub(super) bracketed: bool,
    /// Rare values of a request that reappear in the work done for it.
    #[serde(default = "yes")]
    pub(super) value_flow: bool,
    /// The thread that did the work and answered the request.
    #[serde(default = "yes")]
    pub(super) same_thread: bool,
    /// The order in which an event loop takes up its work.
    #[serde(default = "yes")]
    pub(super) succession: bool,
    /// All requests in flight are one tenant's.
    #[serde(default = "yes")]
    pub(super) only_tenant: bool,
}

/// Request headers that carry identity. A list given here replaces the default one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Headers {
    /// Headers whose value names the tenant. Default: `x-tenant-id`, `x-tenant`, `x-scope-orgid`, `x-org-id`,
    /// `x-organization-id`, `x-account-id`, `x-customer-id`.
    pub(super) tenant: Option<Vec<Located<String>>>,
    /// Headers whose value is a credential. Default: `authorization`, `x-api-key`, `api-key`.
    pub(super) credential: Option<Vec<Located<String>>>,
    /// Headers with the id of a trace or a request. Default: `traceparent`, `b3`, `x-b3-traceid`, `x-request-id`,
    /// `x-correlation-id`, `x-amzn-trace-id`.
    pub(super) trace: Option<Vec<Located<String>>>,
    /// Keys of the W3C `baggage` header that name the tenant. Default: `tenant`, `tenant.id`, `tenant_id`,
    /// `tenantid`.
    pub(super) baggage: Option<Vec<Located<String>>>,
}

/// A tenant.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tenant {
    /// Its name, as findings show it.
    pub(super) name: Located<String>,
    /// Other spellings of this tenant on the wire. Case does not matter.
    #[serde(default)]
    pub(super) aliases: Vec<Located<String>>,
}

/// A service.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    /// Its name, as findings and metrics show it.
    pub(super) name: Located<String>,
    /// Where it listens.
    #[serde(rename = "match")]
    pub(super) matches: Located<ServiceMatch>,
    /// Its protocol: decides at once, unless the first bytes are plainly another's or encrypted. Found from the bytes if
    /// left out.
    pub(super) protocol: Option<ProtocolName>,
    /// What re-validates a tenant on it.
    pub(super) revalidation: Option<Revalidation>,
    /// Proxies that say for whom they connect to it, in a header of the PROXY protocol (version 1 or 2).
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

/// Proxies that are believed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyProtocol {
    /// Their addresses, or networks such as `10.1.0.0/24`: the client is whoever their header names. What others say in
    /// such a header is passed over.
    pub(super) from: Vec<Located<String>>,
}

/// Where a service listens.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceMatch {
    /// Its TCP port.
    pub(super) port: Option<Located<u16>>,
    /// Its address, or a network such as `10.1.0.0/24`.
    pub(super) ip: Option<Located<String>>,
}

/// A protocol that leasewarden decodes.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProtocolName {
    /// PostgreSQL, wire protocol 3.
    Postgres,
    /// Redis, RESP2 and RESP3.
    Redis,
    /// HTTP/1.1.
    Http,
    /// HTTP/2.
    Http2,
    /// gRPC, over HTTP/2.
    Grpc,
    /// Model Context Protocol, over HTTP or WebSocket.
    Mcp,
    /// AMQP 0-9-1.
    Amqp,
    /// NATS, JetStream included.
    Nats,
    /// Apache Kafka.
    Kafka,
    /// MQTT 3.1.1 and 5.
    Mqtt,
    /// MySQL and MariaDB.
    Mysql,
    /// memcached, text protocol.
    Memcached,
}

/// What re-validates a tenant on a service. What is left out has a working default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Revalidation {
    /// Weakest binding that counts.
    pub(super) minimum: Option<StrengthName>,
    /// Settings that bind; by default every custom setting whose name speaks of a tenant or whose value is one.
    pub(super) gucs: Option<Vec<Located<String>>>,
    /// Role patterns that bind, with `{tenant}`; by default every role that contains a tenant's name.
    pub(super) roles: Option<Vec<Located<String>>>,
    /// User patterns that bind, with `{tenant}`; by default every user that contains a tenant's name.
    pub(super) users: Option<Vec<Located<String>>>,
}

/// How strong a binding is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
pub(super) enum StrengthName {
    /// A bare label.
    V1,
    /// A selector that the server enforces.
    V2,
    /// A credential that the server verifies.
    V3,
}

/// How tokens are read and verified. Nothing is ever fetched: keys come from files.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tokens {
    /// Files with the keys that tokens are verified with, read at start: JWKS documents, or public keys in PEM.
    #[serde(default)]
    pub(super) keys: Vec<Located<String>>,
    /// Claims that name the tenant; the first that is there counts. `https://*/NAME` stands for any namespaced claim
    /// whose last segment is NAME. Default: `tid`, `org_id`, `tenant_id`, `tenant`, `https://*/tenant`,
    /// `https://*/tenant_id`.
    pub(super) tenant_claims: Option<Vec<Located<String>>>,
    /// Audiences that services accept, by the service's name. A service without an entry is not checked.
    #[serde(default)]
    pub(super) audiences: Table<Vec<Located<String>>>,
    /// Longest lifetime of a token that is not called weak. Default `15m`.
    pub(super) max_lifetime: Option<Located<String>>,
}

/// Tools that a tenant may use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Entitlement {
    /// The tenant, by name.
    pub(super) tenant: Located<String>,
    /// Only at this service, by name.
    pub(super) service: Option<Located<String>>,
    /// Names of tools; a `*` at the end stands for anything.
    pub(super) tools: Vec<Located<String>>,
}

/// A value planted in a tenant's data: given here, or in a file of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Canary {
    /// Whose data.
    pub(super) tenant: Located<String>,
    /// The value, of at least 8 bytes.
    pub(super) value: Option<Located<Secret>>,
    /// A file that holds the value and nothing else (a line's end after it does not count).
    pub(super) value_file: Option<Located<String>>,
}

/// A text that is never shown.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(secret)")
    }
}

/// What to change in a rule.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// `false` switches it off.
    #[serde(default = "yes")]
    pub(super) enabled: bool,
    /// Severity instead of the rule's own.
    pub(super) severity: Option<SeverityName>,
}

fn yes() -> bool {
    true
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SeverityName {
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

/// An accepted exception.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Suppress {
    /// The rule's id.
    pub(super) rule: Located<String>,
    /// Only at this service, by name.
    pub(super) service: Option<Located<String>>,
    /// Only for this tenant, by name.
    pub(super) tenant: Option<Located<String>>,
    /// Only this finding, by id.
    pub(super) finding: Option<Located<String>>,
    /// Why it is accepted.
    pub(super) reason: Located<String>,
    /// Who answers for it: a person or a team.
    pub(super) owner: Option<Located<String>>,
    /// Where it was decided: the name or address of a ticket.
    pub(super) ticket: Option<Located<String>>,
    /// Last day it is accepted (UTC), such as `2027-06-30`.
    pub(super) until: Located<String>,
}

/// Bounds on memory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    /// Most connections followed at once. Default 100000.
    #[schemars(range(min = 16, max = 10_000_000))]
    pub(super) flows: Option<Located<u32>>,
    /// Most memory for streams, decoders and tables, in MiB. Default 256.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub(super) memory_mb: Option<Located<u32>>,
    /// Most tenants told apart in metrics. Default 200.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) tenants: Option<Located<u32>>,
    /// Most services told apart. Default 200.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) services: Option<Located<u32>>,
    /// Niceness of the thread that takes what the kernel has captured, from -20 (before all others) to 19. Default -10:
    /// on a busy machine more is lost by waiting for a processor than by anything else. Below 0 it needs CAP_SYS_NICE.
    #[schemars(range(min = -20, max = 19))]
    pub(super) nice: Option<Located<i32>>,
    /// Size of each ring buffer between kernel and agent, in KiB: a power of two. Chosen by the agent if left out.
    #[schemars(range(min = 4, max = 1_048_576))]
    pub(super) ring_kb: Option<Located<u32>>,
}

/// Reading TLS: whose. See docs/security.md for what it means and who may switch it on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Tls {
    /// Whether TLS is read at all. Default `false`.
    #[serde(default)]
    pub(super) enabled: bool,
    /// Only of these workloads: globs on their names as findings show them or, with a `/` at the beginning, on the paths of
    /// their cgroups and all that is nested below. Default: of every watched workload.
    #[serde(default)]
    pub(super) workloads: Vec<Located<String>>,
    /// Only what is said with these services, by name (`services`, Kubernetes, or the workload's). Default: with any.
    #[serde(default)]
    pub(super) services: Vec<Located<String>>,
}

/// Where findings and metrics go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Export {
    /// Address and port of the HTTP server, or `off`. Default `127.0.0.1:9464`. `[::]` is every address, IPv4 ones too.
    /// `/metrics`, `/healthz` and `/readyz` are for whoever reaches it; `/findings`, `/services` and `/tools` only over
    /// loopback, or with `tls` and what `token_file` or `tls.client_ca` asks for.
    pub(super) listen: Option<Located<String>>,
    /// Path of a Unix socket with all of the same, for whoever may open it: the agent's user and group.
    pub(super) socket: Option<Located<String>>,
    /// HTTPS instead of HTTP on `listen`. Files are read again when they change.
    pub(super) tls: Option<HttpTls>,
    /// File with tokens, one a line, of at least 16 bytes each: with `tls`, who shows one of them
    /// (`Authorization: Bearer`) may read everything. Read again when it changes.
    pub(super) token_file: Option<Located<String>>,
    /// File that findings are appended to, as JSON lines. Opened anew on SIGHUP.
    pub(super) findings: Option<Located<String>>,
    /// When files of findings make way for new ones.
    pub(super) rotate: Option<Rotation>,
    /// The cluster's name, as findings show it.
    pub(super) cluster: Option<Located<String>>,
    /// Findings as OpenTelemetry logs, to a collector. Off unless it is here. Only `run` sends.
    pub(super) otlp: Option<Otlp>,
    /// Names on the wire that may be shown though they are not seen to be shared by many requests.
    pub(super) show: Option<Show>,
}

/// Names on the wire that may be shown. Any other part of a path, key, topic, table's or tool's name is shown as
/// `{id:1f3a9c}` until many requests, of more than one tenant, were seen to share it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Show {
    /// Routes of HTTP, such as `/hooks/*/events`: what is written out is shown; `*` stands for one part, `**` at the end
    /// for all that follow.
    #[serde(default)]
    pub(super) routes: Vec<Located<String>>,
    /// Keys, queues, topics, subjects and addresses of resources in the same way, such as `cart:*`.
    #[serde(default)]
    pub(super) keys: Vec<Located<String>>,
    /// Whole names, of tables, tools, settings or anything else. `*` stands for anything, which is shown as well.
    #[serde(default)]
    pub(super) names: Vec<Located<String>>,
}

/// HTTPS instead of HTTP. Every file is PEM.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct HttpTls {
    /// File with the server's certificate, and those that lead from it to its root.
    pub(super) certificate: Located<String>,
    /// File with its private key.
    pub(super) key: Located<String>,
    /// File with the authorities whose clients may read everything. Who has no certificate still gets `/metrics`,
    /// `/healthz` and `/readyz`.
    pub(super) client_ca: Option<Located<String>>,
}

/// When files of findings make way for new ones: `findings.jsonl` becomes `findings.jsonl.1`, that `.2`, and so on.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// Largest size of a file, in MiB; 0: it grows without end. Default 100.
    #[schemars(range(min = 0, max = 1_048_576))]
    pub(super) max_mb: Option<Located<u32>>,
    /// Files kept beside the one that is written. Default 5.
    #[schemars(range(min = 1, max = 100))]
    pub(super) keep: Option<Located<u32>>,
}

/// Findings as OpenTelemetry logs, to a collector.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "such a build reads none of it"))]
pub(super) struct Otlp {
    /// URL of a collector that takes OTLP over HTTP in protobuf, such as `http://collector:4318`. Without a path,
    /// `/v1/logs` is added.
    pub(super) endpoint: Located<String>,
    /// File with certificates (PEM) to trust instead of the system's, read at start.
    pub(super) ca: Option<Located<String>>,
    /// Headers to send, such as `authorization`, by name. Their values are read at start.
    #[serde(default)]
    pub(super) headers: Table<HeaderFrom>,
    /// Longest time for a request and its answer, from `100ms` to `60s`. Default `10s`.
    pub(super) timeout: Option<Located<String>>,
    /// What may wait for the collector, and for its next attempt.
    pub(super) queue: Option<OtlpQueue>,
}

/// Where a header's value comes from: exactly one of these keys. The value itself is never in the configuration.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "such a build reads none of it"))]
pub(super) struct HeaderFrom {
    /// A file that holds the value and nothing else (a line's end after it does not count).
    pub(super) file: Option<Located<String>>,
    /// An environment variable.
    pub(super) env: Option<Located<String>>,
}

/// What may wait for the collector. Where there is no room, the oldest findings are dropped and counted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "such a build reads none of it"))]
pub(super) struct OtlpQueue {
    /// Most findings. Default 8192.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(super) records: Option<Located<u32>>,
    /// Most bytes. Default 4194304.
    #[schemars(range(min = 65_536, max = 1_073_741_824))]
    pub(super) bytes: Option<Located<u32>>,
}
