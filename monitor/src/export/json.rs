//! Findings as JSON (`leasewarden.finding/v1`): keys in a fixed order, absent values left out.

use monitor_core::model::Finding;
use serde::Serialize;

use super::time::rfc3339;

/// Name of the format.
pub const SCHEMA: &str = "leasewarden.finding/v1";

#[derive(Serialize)]
struct FindingJson<'a> {
    schema: &'static str,
    id: &'a str,
    rule: &'a str,
    severity: &'static str,
    evidence_class: &'static str,
    first_seen: String,
    last_seen: String,
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenants<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<Workload<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Service<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<Flow>,
    evidence: Vec<Step<'a>>,
    message: &'a str,
    remediation: &'a str,
}

#[derive(Serialize)]
struct Tenants<'a> {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    used: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<&'a str>,
}

#[derive(Serialize)]
struct Workload<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
}

#[derive(Serialize)]
struct Service<'a> {
    name: &'a str,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

#[derive(Serialize)]
struct Flow {
    cookie: u64,
    local: String,
    peer: String,
}

#[derive(Serialize)]
struct Step<'a> {
    at: String,
    what: &'static str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    basis: Option<&'static str>,
}

/// One finding as one line of JSON, without the line break.
pub fn finding(f: &Finding) -> String {
    let tenant = (f.tenants.used.is_some() || f.tenants.bound.is_some())
        .then_some(Tenants { used: f.tenants.used.as_deref(), bound: f.tenants.bound.as_deref() });
    let value = FindingJson {
        schema: SCHEMA,
        id: &f.id,
        rule: f.rule,
        severity: f.severity.name(),
        evidence_class: f.class.name(),
        first_seen: rfc3339(f.first_seen),
        last_seen: rfc3339(f.last_seen),
        count: f.count,
        tenant,
        // A finding about a service as a whole speaks of no workload.
        workload: (!f.workload.name.is_empty())
            .then_some(Workload { name: &f.workload.name, cgroup: f.workload.cgroup.as_deref() }),
        service: f.service.as_ref().map(|s| Service {
            name: &s.name,
            protocol: s.protocol,
            address: s.address.map(|a| a.to_string()),
        }),
        flow: f.flow.as_ref().map(|flow| Flow {
            cookie: flow.cookie.0,
            local: flow.local.to_string(),
            peer: flow.peer.to_string(),
        }),
        evidence: f
            .evidence
            .iter()
            .map(|e| Step {
                at: rfc3339(e.at),
                what: e.what,
                detail: &e.detail,
                tenant: e.tenant.as_deref(),
                basis: e.basis,
            })
            .collect(),
        message: &f.message,
        remediation: f.remediation,
    };
    // Text and numbers only: there is nothing in it that JSON cannot carry.
    serde_json::to_string(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::sample;

    #[test]
    fn key_order_is_fixed_and_absent_values_are_left_out() {
        let whole = super::finding(&sample::finding());
        assert_eq!(
            whole,
            concat!(
                r#"{"schema":"leasewarden.finding/v1","id":"6c1f","rule":"pool-stale-binding","severity":"critical","#,
                r#""evidence_class":"endpoint","first_seen":"2026-11-21T00:00:00.123456Z","#,
                r#""last_seen":"2026-11-21T00:00:01.123456Z","count":3,"tenant":{"use":"globex","bound":"acme"},"#,
                r#""workload":{"name":"mcp-gateway","cgroup":"/shared/gateway"},"#,
                r#""service":{"name":"orders-db","protocol":"postgres","address":"127.0.0.1:5432"},"#,
                r#""flow":{"cookie":4098,"local":"127.0.0.1:40112","peer":"127.0.0.1:5432"},"#,
                r#""evidence":[{"at":"2026-11-21T00:00:00.123456Z","what":"bind","#,
                r#""detail":"set_config(app.tenant_id) acknowledged, session scope","tenant":"acme","basis":"binding"},"#,
                r#"{"at":"2026-11-21T00:00:01.123456Z","what":"data","detail":"SELECT orders","tenant":"globex","#,
                r#""basis":"peer-container"}],"message":"globex used a connection that was still bound to acme","#,
                r#""remediation":"Bind per unit of work."}"#
            )
        );
        let mut bare = sample::finding();
        bare.tenants = Default::default();
        bare.workload = Default::default();
        bare.service = None;
        bare.flow = None;
        bare.evidence.clear();
        assert_eq!(
            super::finding(&bare),
            concat!(
                r#"{"schema":"leasewarden.finding/v1","id":"6c1f","rule":"pool-stale-binding","severity":"critical","#,
                r#""evidence_class":"endpoint","first_seen":"2026-11-21T00:00:00.123456Z","#,
                r#""last_seen":"2026-11-21T00:00:01.123456Z","count":3,"evidence":[],"#,
                r#""message":"globex used a connection that was still bound to acme","remediation":"Bind per unit of work."}"#
            )
        );
    }
}
