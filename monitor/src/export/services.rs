//! The discovered service map as JSON: service × tenants × bindings seen × verdict counts.

use std::collections::BTreeMap;

use monitor_core::engine::{DownstreamView, RestartView, ServiceView, TenantView, TlsView};
use schemars::JsonSchema;
use serde::Serialize;

use super::time::rfc3339;

/// One service: whoever uses it, and what proved it.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "leasewarden service")]
pub(super) struct ServiceJson<'a> {
    /// Its name: by configuration, Kubernetes, its workload or its address.
    name: &'a str,
    /// Its protocol.
    protocol: &'static str,
    /// Where it listens.
    address: String,
    /// The workload that serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    /// It passes requests on unchanged: a pooler, a proxy.
    relay: bool,
    /// Acknowledged bindings to a tenant.
    bindings: u64,
    /// Data operations of which it is not known for whom they were.
    unattributed: u64,
    /// Tenants that use it, in the order of their first use.
    tenants: Vec<TenantJson<'a>>,
    /// What tools of this server do at services behind it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<DownstreamJson<'a>>,
    /// What is read of its TLS, where TLS is to be read and the service speaks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    tls: Option<TlsJson<'a>>,
}

/// What is read of a service's TLS, and what is not.
#[derive(Serialize, JsonSchema)]
struct TlsJson<'a> {
    /// The part of its bytes that were read, of those on the wire: 0 to 1. Missing while there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    share_read: Option<f64>,
    /// Connections that were read.
    connections_read: u64,
    /// Connections that were not, by why; see docs/decisions/0032.
    connections_unread: BTreeMap<&'static str, u64>,
    /// Bytes on the wire that were read.
    bytes_read: u64,
    /// Bytes that were not, by why.
    bytes_unread: BTreeMap<&'static str, u64>,
    /// Hosts that clients asked for (SNI), with their connections; the first few. Shown as other names are: see
    /// docs/decisions/0023.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    server_names: BTreeMap<&'a str, u64>,
    /// Application protocols that the server chose (ALPN), with their connections.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    alpn: BTreeMap<&'static str, u64>,
    /// Workloads whose open connections would be read if they were opened anew: who restarts them, or waits until their
    /// pools have replaced them, reads everything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    restart: Vec<RestartJson<'a>>,
}

/// A workload with connections that would be read if they were opened anew.
#[derive(Serialize, JsonSchema)]
struct RestartJson<'a> {
    /// The client; `_other` where it is not known.
    workload: &'a str,
    /// Why they are not read: `older_than_agent`, `no_secret` (their handshake was before the library was probed), `lost`.
    reason: &'static str,
    /// How many are open.
    connections: u64,
}

/// What one tool does at one service behind it.
#[derive(Serialize, JsonSchema)]
struct DownstreamJson<'a> {
    /// The tool.
    tool: &'a str,
    /// The service behind it.
    service: &'a str,
    /// Whether its operations there say for whom they are: `aware`, `blind`, `mixed` or `unknown`.
    tenant: &'static str,
    /// Operations that say it.
    scoped: u64,
    /// Operations that do not.
    bare: u64,
    /// Operations of which that is not known.
    unknown: u64,
}

/// One tenant's use of a service.
#[derive(Serialize, JsonSchema)]
struct TenantJson<'a> {
    /// The tenant.
    tenant: &'a str,
    /// When it was first seen there (RFC 3339, UTC).
    first_seen: String,
    /// When it was last seen there.
    last_seen: String,
    /// Data operations by verdict; see docs/vocabulary.md.
    verdicts: BTreeMap<&'static str, u64>,
    /// Acknowledged bindings by what carried them: a setting's name, `role`, `user`, `credential` …
    bindings: BTreeMap<&'a str, u64>,
}

/// The map as a JSON array.
pub fn services(list: &[ServiceView]) -> String {
    let value: Vec<ServiceJson<'_>> = list
        .iter()
        .map(|s| ServiceJson {
            name: &s.name,
            protocol: s.protocol,
            address: s.address.to_string(),
            workload: s.workload.as_deref(),
            relay: s.relay,
            bindings: s.bindings,
            unattributed: s.unattributed,
            tenants: s.tenants.iter().map(tenant).collect(),
            tools: s.tools.iter().map(downstream).collect(),
            tls: s.tls.as_ref().map(tls),
        })
        .collect();
    serde_json::to_string(&value).unwrap_or_default()
}

fn downstream(d: &DownstreamView) -> DownstreamJson<'_> {
    DownstreamJson {
        tool: &d.tool,
        service: &d.service,
        tenant: d.habit.name(),
        scoped: d.habit.scoped,
        bare: d.habit.bare,
        unknown: d.habit.unknown,
    }
}

fn tls(t: &TlsView) -> TlsJson<'_> {
    // Four digits: more would be noise.
    let share = |read: u64, all: u64| (read as f64 / all as f64 * 1e4).round() / 1e4;
    let all = t.bytes_read + t.n_bytes_unread();
    TlsJson {
        share_read: (all > 0).then(|| share(t.bytes_read, all)),
        connections_read: t.read,
        connections_unread: t.unread.iter().copied().collect(),
        bytes_read: t.bytes_read,
        bytes_unread: t.bytes_unread.iter().copied().collect(),
        server_names: t.server_names.iter().map(|(name, n)| (name.as_str(), *n)).collect(),
        alpn: t.protocols.iter().copied().collect(),
        restart: t.restart.iter().map(restart).collect(),
    }
}

fn restart(r: &RestartView) -> RestartJson<'_> {
    RestartJson { workload: &r.workload, reason: r.reason, connections: r.connections }
}

fn tenant(t: &TenantView) -> TenantJson<'_> {
    TenantJson {
        tenant: &t.tenant,
        first_seen: rfc3339(t.first_seen),
        last_seen: rfc3339(t.last_seen),
        verdicts: t.verdicts.iter().filter(|(_, n)| *n > 0).copied().collect(),
        bindings: t.bindings.iter().map(|(slot, n)| (slot.as_str(), *n)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_core::engine::Habit;
    use monitor_core::model::Nanos;

    #[test]
    fn a_service_with_its_tenants() {
        let view = ServiceView {
            name: "orders-db".into(),
            protocol: "postgres",
            address: "127.0.0.1:5432".parse().unwrap(),
            workload: None,
            relay: false,
            tenants: vec![TenantView {
                tenant: "acme".into(),
                first_seen: Nanos(0),
                last_seen: Nanos(1_000),
                verdicts: vec![("revalidated", 3), ("unbound", 0)],
                bindings: vec![("app.tenant_id".into(), 3)],
            }],
            unattributed: 1,
            bindings: 3,
            tools: vec![DownstreamView {
                tool: "add".into(),
                service: "db".into(),
                habit: Habit { scoped: 3, bare: 0, unknown: 1 },
            }],
            tls: Some(crate::testing::tls_view()),
        };
        assert_eq!(
            services(&[view]),
            concat!(
                r#"[{"name":"orders-db","protocol":"postgres","address":"127.0.0.1:5432","relay":false,"bindings":3,"#,
                r#""unattributed":1,"tenants":[{"tenant":"acme","first_seen":"1970-01-01T00:00:00.000000Z","#,
                r#""last_seen":"1970-01-01T00:00:00.000001Z","verdicts":{"revalidated":3},"bindings":{"app.tenant_id":3}}],"#,
                r#""tools":[{"tool":"add","service":"db","tenant":"aware","scoped":3,"bare":0,"unknown":1}],"#,
                r#""tls":{"share_read":0.9877,"connections_read":3,"connections_unread":{"older_than_agent":2},"#,
                r#""bytes_read":8000,"bytes_unread":{"older_than_agent":100},"server_names":{"db.example":3},"#,
                r#""alpn":{"postgresql":3},"#,
                r#""restart":[{"workload":"pooler","reason":"older_than_agent","connections":2}]}}]"#
            )
        );
    }
}
