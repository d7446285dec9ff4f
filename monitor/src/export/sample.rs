//! A finding for tests.

use monitor_core::model::{
    Evidence, EvidenceClass, Finding, FlowRef, Nanos, OwnerRef, ServiceRef, Severity, SocketCookie, Suppressed,
    TenantPair, WorkloadRef,
};

/// 2026-11-21T00:00:00.123456Z.
const AT: Nanos = Nanos(1_795_219_200_123_456_000);

pub(crate) fn finding() -> Finding {
    Finding {
        id: "6c1f".into(),
        rule: "pool-stale-binding",
        severity: Severity::Critical,
        class: EvidenceClass::Endpoint,
        first_seen: AT,
        last_seen: AT + Nanos::secs(1),
        count: 3,
        tenants: TenantPair { used: Some("globex".into()), bound: Some("acme".into()) },
        workload: WorkloadRef {
            name: "mcp-gateway".into(),
            cgroup: Some("/shared/gateway".into()),
            ..WorkloadRef::default()
        },
        service: Some(ServiceRef {
            name: "orders-db".into(),
            protocol: "postgres",
            address: Some("127.0.0.1:5432".parse().unwrap()),
        }),
        flow: Some(FlowRef {
            cookie: SocketCookie(4098),
            local: "127.0.0.1:40112".parse().unwrap(),
            peer: "127.0.0.1:5432".parse().unwrap(),
        }),
        evidence: vec![
            Evidence {
                at: AT,
                what: "bind",
                detail: "set_config(app.tenant_id) acknowledged, session scope".into(),
                tenant: Some("acme".into()),
                basis: Some("binding"),
            },
            Evidence {
                at: AT + Nanos::secs(1),
                what: "data",
                detail: "SELECT orders".into(),
                tenant: Some("globex".into()),
                basis: Some("peer-container"),
            },
        ],
        message: "globex used a connection that was still bound to acme".into(),
        remediation: "Bind per unit of work.",
        suppressed: None,
    }
}

/// One of a pod, which an exception keeps silent.
pub(crate) fn of_a_pod() -> Finding {
    Finding {
        id: "7a01".into(),
        workload: WorkloadRef {
            name: "shop/web-5d9c7f-x2b4z".into(),
            cgroup: Some("/kubepods/x".into()),
            owner: Some(OwnerRef { kind: "Deployment".into(), namespace: Some("shop".into()), name: "web".into() }),
            pod: Some("web-5d9c7f-x2b4z".into()),
        },
        suppressed: Some(Suppressed {
            reason: "known".into(),
            owner: Some("team-a".into()),
            ticket: Some("OPS-1".into()),
            until: AT,
        }),
        ..finding()
    }
}
