//! Operations as JSON lines, from `replay --operations`.

use monitor_core::engine::OperationView;
use monitor_core::model::Verdict;
use schemars::JsonSchema;
use serde::Serialize;

use super::schemas;
use super::time::rfc3339;

/// One decoded operation.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "leasewarden operation")]
pub(super) struct OperationJson<'a> {
    /// When its request began (RFC 3339, UTC).
    at: String,
    /// The connection.
    flow: Flow,
    /// Which side began it: `client` or `server`.
    from: &'static str,
    /// The protocol.
    protocol: &'static str,
    /// What it is to a tenant's data: `bind`, `reset`, `data`, `control`, `discover`, `publish`, `deliver`, `ack`; see
    /// docs/vocabulary.md.
    kind: &'static str,
    /// As the protocol names it: `GET`, `SELECT`, `tools/call`, `basic.publish`.
    verb: &'a str,
    /// Table, key, path, tool or queue, as far as it may be shown; never a literal.
    #[serde(skip_serializing_if = "str::is_empty")]
    target: &'a str,
    /// How it ended: `ok`, `error`, or `unknown` where its reply was not seen whole.
    outcome: &'static str,
    /// For whom it was, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    use_tenant: Option<&'a str>,
    /// How that is known; see docs/vocabulary.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schemas::bases)]
    basis: Option<&'static str>,
    /// What the connection had proved about that tenant, for data; see docs/vocabulary.md.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(transform = schemas::verdicts)]
    verdict: Option<&'static str>,
}

/// The two ends of a connection.
#[derive(Serialize, JsonSchema)]
struct Flow {
    /// The client's address and port.
    client: String,
    /// The server's.
    server: String,
}

/// One operation as one line of JSON, without the line break.
pub fn operation(view: &OperationView<'_>) -> String {
    let value = OperationJson {
        at: rfc3339(view.op.begun),
        flow: Flow { client: view.flow.0.to_string(), server: view.flow.1.to_string() },
        from: view.op.from.name(),
        protocol: view.protocol.name(),
        kind: view.op.kind.name(),
        verb: view.verb,
        target: view.target,
        outcome: view.op.outcome.name(),
        use_tenant: view.tenant,
        basis: view.answer.attribution().map(|a| a.basis.name()),
        verdict: (view.verdict != Verdict::None).then(|| view.verdict.name()),
    };
    serde_json::to_string(&value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use monitor_core::model::attribution::{Attribution, Basis};
    use monitor_core::model::{
        Answer, Claim, Effect, Ids, Nanos, OpKind, Operation, Outcome, Protocol, Side, Sym, TenantId,
    };

    use super::*;

    #[test]
    fn key_order_is_fixed_and_absent_values_are_left_out() {
        let op = Operation {
            request: 1,
            begun: Nanos(1_000_000),
            ended: Nanos(2_000_000),
            from: Side::Client,
            kind: OpKind::Data,
            verb: Sym::EMPTY,
            target: Sym::EMPTY,
            effect: Effect::None,
            outcome: Outcome::Ok,
            warned_ineffective: false,
            marker: Claim::Neutral,
            credential: None,
            proved: None,
            tables: None,
            named: [None; 2],
            ids: Ids::default(),
        };
        let mut view = OperationView {
            flow: ("127.0.0.1:40112".parse().unwrap(), "127.0.0.1:5432".parse().unwrap()),
            protocol: Protocol::Postgres,
            op: &op,
            verb: "SELECT",
            target: "orders",
            answer: Answer::Tenant(Attribution::new(TenantId(0), Basis::PeerContainer)),
            tenant: Some("acme"),
            verdict: Verdict::Unbound,
        };
        assert_eq!(
            operation(&view),
            concat!(
                r#"{"at":"1970-01-01T00:00:00.001000Z","flow":{"client":"127.0.0.1:40112","server":"127.0.0.1:5432"},"#,
                r#""from":"client","protocol":"postgres","kind":"data","verb":"SELECT","target":"orders","outcome":"ok","#,
                r#""use_tenant":"acme","basis":"peer-container","verdict":"unbound"}"#
            )
        );
        view.answer = Answer::Unknown;
        view.tenant = None;
        view.target = "";
        view.verdict = Verdict::None;
        assert_eq!(
            operation(&view),
            concat!(
                r#"{"at":"1970-01-01T00:00:00.001000Z","flow":{"client":"127.0.0.1:40112","server":"127.0.0.1:5432"},"#,
                r#""from":"client","protocol":"postgres","kind":"data","verb":"SELECT","outcome":"ok"}"#
            )
        );
    }
}
