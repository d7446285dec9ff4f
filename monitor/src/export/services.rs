//! The discovered service map as JSON: service × tenants × bindings seen × verdict counts.

use std::collections::BTreeMap;

use monitor_core::engine::{DownstreamView, ServiceView, TenantView};
use serde::Serialize;

use super::time::rfc3339;

#[derive(Serialize)]
struct ServiceJson<'a> {
    name: &'a str,
    protocol: &'static str,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<&'a str>,
    relay: bool,
    bindings: u64,
    unattributed: u64,
    tenants: Vec<TenantJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<DownstreamJson<'a>>,
}

/// What one tool does at one service behind it.
#[derive(Serialize)]
struct DownstreamJson<'a> {
    tool: &'a str,
    service: &'a str,
    tenant: &'static str,
    scoped: u64,
    bare: u64,
    unknown: u64,
}

#[derive(Serialize)]
struct TenantJson<'a> {
    tenant: &'a str,
    first_seen: String,
    last_seen: String,
    verdicts: BTreeMap<&'static str, u64>,
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
        };
        assert_eq!(
            services(&[view]),
            concat!(
                r#"[{"name":"orders-db","protocol":"postgres","address":"127.0.0.1:5432","relay":false,"bindings":3,"#,
                r#""unattributed":1,"tenants":[{"tenant":"acme","first_seen":"1970-01-01T00:00:00.000000Z","#,
                r#""last_seen":"1970-01-01T00:00:00.000001Z","verdicts":{"revalidated":3},"bindings":{"app.tenant_id":3}}],"#,
                r#""tools":[{"tool":"add","service":"db","tenant":"aware","scoped":3,"bare":0,"unknown":1}]}]"#
            )
        );
    }
}
