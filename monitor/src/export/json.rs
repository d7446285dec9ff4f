//! Findings as JSON (`leasewarden.finding/v1`): keys in a fixed order, absent values left out.

use monitor_core::detect::references;
use monitor_core::model::{Finding, WorkloadRef};
use schemars::JsonSchema;
use serde::Serialize;

use super::schemas;
use super::time::rfc3339;

/// Name of the format.
pub const SCHEMA: &str = "leasewarden.finding/v1";

/// Whose findings these are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The node; empty in a replay.
    pub node: String,
    /// The cluster, as configured.
    pub cluster: String,
}

/// A finding.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "leasewarden finding")]
pub(super) struct FindingJson<'a> {
    /// Name and version of this format: `leasewarden.finding/v1`.
    schema: &'static str,
    /// What the finding is about, as 32 hexadecimal digits: rule, workload (by its owner), service and tenants. The same
    /// on every replica, after every restart and rollout.
    id: &'a str,
    /// The rule; see docs/rules.md.
    rule: &'a str,
    /// How bad.
    #[schemars(transform = schemas::severities)]
    severity: &'static str,
    /// How the tenants are known: `wire`, `endpoint` or `inferred`; see docs/vocabulary.md.
    #[schemars(transform = schemas::classes)]
    evidence_class: &'static str,
    /// When it first happened (RFC 3339, UTC).
    first_seen: String,
    /// When it last happened.
    last_seen: String,
    /// How often it happened.
    count: u64,
    /// `first`: it has happened once; `repeated`: it has been told before.
    occurrence: &'static str,
    /// The exception that keeps it silent, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<Exception<'a>>,
    /// For whom the connection was used, and whose it was: the victim.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenants<'a>>,
    /// The workload that made the mistake possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    workload: Option<Workload<'a>>,
    /// The service it happened at.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Service<'a>>,
    /// The connection it was first seen on.
    #[serde(skip_serializing_if = "Option::is_none")]
    flow: Option<Flow>,
    /// What was seen, oldest first.
    evidence: Vec<Step<'a>>,
    /// What it means, worded as what the host can know.
    message: &'a str,
    /// What to do.
    remediation: &'a str,
    /// What others call mistakes of this kind.
    references: Vec<Named>,
    /// Who tells it.
    agent: Agent<'a>,
}

/// An accepted exception.
#[derive(Serialize, JsonSchema)]
struct Exception<'a> {
    /// Why it is accepted.
    reason: &'a str,
    /// Who answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<&'a str>,
    /// Where it was decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    ticket: Option<&'a str>,
    /// When it ends (RFC 3339, UTC).
    until: String,
}

/// The two tenants of a finding.
#[derive(Serialize, JsonSchema)]
struct Tenants<'a> {
    /// For whom the operation was.
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    used: Option<&'a str>,
    /// Whom the connection was bound to, or who used it before: whose data may have been reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    bound: Option<&'a str>,
}

/// A container, pod or unit.
#[derive(Serialize, JsonSchema)]
struct Workload<'a> {
    /// Its name; `namespace/pod` in Kubernetes.
    name: &'a str,
    /// Its outermost cgroup below the cgroup v2 root; not there for a remote one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cgroup: Option<&'a str>,
    /// What it is one of.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<Owner<'a>>,
    /// The Kubernetes namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    /// The pod on which it was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<&'a str>,
}

/// What a workload is one of.
#[derive(Serialize, JsonSchema)]
struct Owner<'a> {
    /// `Deployment`, `StatefulSet`, `DaemonSet`, `Job`, `CronJob` or another controller's kind; `Pod` for a pod without
    /// one; outside Kubernetes `ComposeService`, `SwarmService`, `Unit` or `Image`.
    kind: &'a str,
    /// Its name.
    name: &'a str,
    /// The project of a `ComposeService`.
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
}

/// A service.
#[derive(Serialize, JsonSchema)]
struct Service<'a> {
    /// Its name: by configuration, Kubernetes, its workload or its address.
    name: &'a str,
    /// Its protocol.
    protocol: &'static str,
    /// Where it listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
}

/// A connection.
#[derive(Serialize, JsonSchema)]
struct Flow {
    /// The kernel's cookie of the socket.
    cookie: u64,
    /// The socket's own address.
    local: String,
    /// The other end.
    peer: String,
}

/// One step of what was seen.
#[derive(Serialize, JsonSchema)]
struct Step<'a> {
    /// When (RFC 3339, UTC).
    at: String,
    /// Kind of step: an operation's kind, or a word of the rule's.
    what: &'static str,
    /// In words: identifiers and shapes only, never literals.
    detail: &'a str,
    /// The tenant it speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    /// How that tenant is known; see docs/vocabulary.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schemas::bases)]
    basis: Option<&'static str>,
}

/// What somebody else calls mistakes of this kind.
#[derive(Serialize, JsonSchema)]
struct Named {
    /// Such as `CWE-639` or `OWASP API1:2023`.
    id: &'static str,
    /// Its title.
    title: &'static str,
    /// Where it is described.
    url: &'static str,
}

/// The agent that tells a finding.
#[derive(Serialize, JsonSchema)]
struct Agent<'a> {
    /// Its version.
    version: &'static str,
    /// The node that it watches; not there in a replay.
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    /// The cluster, as configured (`export.cluster`).
    #[serde(skip_serializing_if = "str::is_empty")]
    cluster: &'a str,
}

/// One finding as one line of JSON, without the line break.
pub fn finding(f: &Finding, about: &About) -> String {
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
        occurrence: if f.count > 1 { "repeated" } else { "first" },
        suppressed: f.suppressed.as_ref().map(|s| Exception {
            reason: &s.reason,
            owner: s.owner.as_deref(),
            ticket: s.ticket.as_deref(),
            until: rfc3339(s.until),
        }),
        tenant,
        // A finding about a service as a whole speaks of no workload.
        workload: (!f.workload.name.is_empty()).then(|| workload(&f.workload)),
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
        references: references(f.rule).map(|r| Named { id: r.id, title: r.title, url: r.url }).collect(),
        agent: Agent { version: env!("CARGO_PKG_VERSION"), node: &about.node, cluster: &about.cluster },
    };
    // Text and numbers only: there is nothing in it that JSON cannot carry.
    serde_json::to_string(&value).unwrap_or_default()
}

fn workload(w: &WorkloadRef) -> Workload<'_> {
    // A namespace is Kubernetes' where there is a pod, a project's elsewhere.
    let above = w.owner.as_ref().and_then(|o| o.namespace.as_deref());
    Workload {
        name: &w.name,
        cgroup: w.cgroup.as_deref(),
        owner: w.owner.as_ref().map(|o| Owner {
            kind: &o.kind,
            name: &o.name,
            project: above.filter(|_| w.pod.is_none()),
        }),
        namespace: above.filter(|_| w.pod.is_some()),
        pod: w.pod.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::About;

    /// The references and the version change with others' work: here only where they stand.
    fn head(text: &str) -> (&str, &str) {
        text.split_once(r#","references":["#).unwrap()
    }

    #[test]
    fn key_order_is_fixed_and_absent_values_are_left_out() {
        let about = About { node: "node-1".into(), cluster: "prod".into() };
        let whole = super::finding(&sample::finding(), &about);
        let (head_part, tail) = head(&whole);
        assert_eq!(
            head_part,
            concat!(
                r#"{"schema":"leasewarden.finding/v1","id":"6c1f","rule":"pool-stale-binding","severity":"critical","#,
                r#""evidence_class":"endpoint","first_seen":"2026-11-21T00:00:00.123456Z","#,
                r#""last_seen":"2026-11-21T00:00:01.123456Z","count":3,"occurrence":"repeated","#,
                r#""tenant":{"use":"globex","bound":"acme"},"#,
                r#""workload":{"name":"mcp-gateway","cgroup":"/shared/gateway"},"#,
                r#""service":{"name":"orders-db","protocol":"postgres","address":"127.0.0.1:5432"},"#,
                r#""flow":{"cookie":4098,"local":"127.0.0.1:40112","peer":"127.0.0.1:5432"},"#,
                r#""evidence":[{"at":"2026-11-21T00:00:00.123456Z","what":"bind","#,
                r#""detail":"set_config(app.tenant_id) acknowledged, session scope","tenant":"acme","basis":"binding"},"#,
                r#"{"at":"2026-11-21T00:00:01.123456Z","what":"data","detail":"SELECT orders","tenant":"globex","#,
                r#""basis":"peer-container"}],"message":"globex used a connection that was still bound to acme","#,
                r#""remediation":"Bind per unit of work.""#
            )
        );
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            tail.ends_with(&format!(r#"],"agent":{{"version":"{version}","node":"node-1","cluster":"prod"}}}}"#)),
            "{tail}"
        );
        let mut bare = sample::finding();
        bare.tenants = Default::default();
        bare.workload = Default::default();
        bare.service = None;
        bare.flow = None;
        bare.evidence.clear();
        bare.count = 1;
        let bare = super::finding(&bare, &About::default());
        assert_eq!(
            head(&bare).0,
            concat!(
                r#"{"schema":"leasewarden.finding/v1","id":"6c1f","rule":"pool-stale-binding","severity":"critical","#,
                r#""evidence_class":"endpoint","first_seen":"2026-11-21T00:00:00.123456Z","#,
                r#""last_seen":"2026-11-21T00:00:01.123456Z","count":1,"occurrence":"first","evidence":[],"#,
                r#""message":"globex used a connection that was still bound to acme","remediation":"Bind per unit of work.""#
            )
        );
        assert!(bare.ends_with(&format!(r#"],"agent":{{"version":"{version}"}}}}"#)), "{bare}");
    }

    #[test]
    fn owners_pods_and_exceptions_are_told() {
        let text = super::finding(&sample::of_a_pod(), &About::default());
        for part in [
            r#""workload":{"name":"shop/web-5d9c7f-x2b4z","cgroup":"/kubepods/x","owner":{"kind":"Deployment","name":"web"},"namespace":"shop","pod":"web-5d9c7f-x2b4z"}"#,
            r#""suppressed":{"reason":"known","owner":"team-a","ticket":"OPS-1","until":"2026-11-21T00:00:00.123456Z"}"#,
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
