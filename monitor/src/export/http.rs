//! The HTTP server on `export.listen`: `/metrics`, `/healthz`, `/readyz`, `/findings`, `/services`, `/tools`. Read-only.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use monitor_core::model::Severity;
use serde::Deserialize;

use super::json;
use super::store::{Filter, MAX_FINDINGS, Shared};

/// Findings listed unless `limit` says otherwise.
const DEFAULT_LIMIT: usize = 100;

/// An engine that has not come by for so long is stuck (loading the probes on a slow machine takes seconds).
const STUCK: Duration = Duration::from_secs(30);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}; {remedy}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
    remedy: &'static str,
}

/// Takes the address. Done before anything is attached, so that a clash costs nothing.
///
/// # Errors
/// The address is in use, not this host's, or not permitted.
pub fn listen(address: SocketAddr) -> Result<TcpListener, ListenError> {
    let taken = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
    taken.map_err(|source| {
        let remedy = match source.kind() {
            io::ErrorKind::AddrInUse => {
                "another process has it (another agent?): set `export.listen` to a free port or to `off`"
            }
            io::ErrorKind::PermissionDenied => "set `export.listen` to a port above 1023 or to `off`",
            io::ErrorKind::AddrNotAvailable => "it is no address of this host: set `export.listen` to one that is",
            _ => "set `export.listen` to another address or to `off`",
        };
        ListenError { address, source, remedy }
    })
}

/// Serves until `stop` resolves.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    axum::serve(listener, router(shared)).with_graceful_shutdown(stop).await
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/findings", get(findings))
        .route("/services", get(services))
        .route("/tools", get(tools))
        .with_state(shared)
}

async fn index() -> &'static str {
    "leasewarden: /metrics /healthz /readyz /findings /services /tools\n"
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics().render() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Alive means that the engine's thread moves: it comes by about once a second, with traffic or without.
async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    health(shared.silent_for())
}

fn health(silent: Duration) -> Response {
    if silent < STUCK {
        return "ok\n".into_response();
    }
    let message = format!("the engine has not moved for {} s\n", silent.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let readiness = shared.readiness();
    let status = if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    rule: Option<String>,
    tenant: Option<String>,
    severity: Option<String>,
    limit: Option<usize>,
}

async fn findings(State(shared): State<Arc<Shared>>, Query(wanted): Query<Wanted>) -> Response {
    let severity = match wanted.severity.as_deref().map(parse_severity).transpose() {
        Ok(severity) => severity,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let filter = Filter { rule: wanted.rule, tenant: wanted.tenant, severity };
    let found = shared.findings(&filter, wanted.limit.unwrap_or(DEFAULT_LIMIT).min(MAX_FINDINGS));
    let lines: Vec<String> = found.iter().map(|f| json::finding(f)).collect();
    json_response(format!("[{}]\n", lines.join(",\n ")))
}

fn parse_severity(text: &str) -> Result<Severity, String> {
    let names = Severity::ALL.map(Severity::name).join(", ");
    Severity::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| format!("severity: expected one of {names}\n"))
}

async fn services(State(shared): State<Arc<Shared>>) -> Response {
    json_response(format!("{}\n", shared.services()))
}

async fn tools(State(shared): State<Arc<Shared>>) -> Response {
    json_response(format!("{}\n", shared.tools()))
}

fn json_response(body: String) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::export::{Readiness, sample};
    use crate::metrics::Metrics;

    /// Serves `shared` while `client` asks; gives each answer as (status, head, body).
    fn ask(shared: Arc<Shared>, paths: &[&str]) -> Vec<(u16, String, String)> {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = runtime.spawn(serve(listener, shared, async { drop(stopped.await) }));
        let answers = paths
            .iter()
            .map(|path| {
                let mut stream = TcpStream::connect(address).unwrap();
                write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                (status, head.to_owned(), body.to_owned())
            })
            .collect();
        stop.send(()).unwrap();
        runtime.block_on(server).unwrap().unwrap();
        answers
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared::new(Arc::new(Metrics::new().unwrap())))
    }

    #[test]
    fn health_readiness_metrics_and_services() {
        let shared = shared();
        shared.set_services("[{\"name\":\"orders-db\"}]".into());
        shared.set_tools("[{\"tool\":\"search\"}]".into());
        shared.metrics().set(crate::metrics::Metric::Flows, &["decoded"], 3.0);
        let not_ready = ask(shared.clone(), &["/healthz", "/readyz", "/metrics", "/services", "/nothing", "/tools"]);
        assert_eq!(not_ready.iter().map(|a| a.0).collect::<Vec<_>>(), [200, 503, 200, 200, 404, 200]);
        assert_eq!(not_ready[5].2, "[{\"tool\":\"search\"}]\n");
        assert!(not_ready[2].1.contains("text/plain; version=0.0.4"), "{}", not_ready[2].1);
        assert!(not_ready[2].2.contains("leasewarden_flows{state=\"decoded\"} 3"));
        assert_eq!(not_ready[3].2, "[{\"name\":\"orders-db\"}]\n");
        shared.set_readiness(Readiness {
            hooks: true,
            identity: true,
            lost: vec!["hook x".into()],
            ..Readiness::default()
        });
        let ready = ask(shared.clone(), &["/readyz"]);
        assert_eq!((ready[0].0, ready[0].2.as_str()), (200, r#"{"hooks":true,"identity":true,"lost":["hook x"]}"#));
        // Stale knowledge is shown, and no reason to take the agent out of service.
        let stale = vec!["kubernetes pods: connection refused".into()];
        shared.set_readiness(Readiness { hooks: true, identity: true, stale, ..Readiness::default() });
        let stale = ask(shared, &["/readyz"]);
        assert_eq!(stale[0].0, 200);
        assert!(stale[0].2.contains(r#""stale":["kubernetes pods: connection refused"]"#), "{}", stale[0].2);
    }

    #[test]
    fn findings_with_filters() {
        let shared = shared();
        let mut f = sample::finding();
        shared.put_finding(&f);
        f.id = "7a".into();
        f.severity = Severity::Medium;
        f.tenants.used = Some("umbrella".into());
        f.last_seen = monitor_core::model::Nanos(f.last_seen.0 + 1);
        shared.put_finding(&f);
        let answers = ask(
            shared,
            &[
                "/findings",
                "/findings?limit=1",
                "/findings?severity=critical&rule=pool-stale-binding",
                "/findings?tenant=nobody",
                "/findings?severity=worst",
                "/findings?servce=x",
            ],
        );
        let ids = |body: &str| -> Vec<String> {
            let list: Vec<serde_json::Value> = serde_json::from_str(body).unwrap();
            list.iter().map(|f| f["id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(ids(&answers[0].2), ["7a", "6c1f"]);
        assert_eq!(ids(&answers[1].2), ["7a"]);
        assert_eq!(ids(&answers[2].2), ["6c1f"]);
        assert!(ids(&answers[3].2).is_empty());
        assert_eq!((answers[4].0, answers[5].0), (400, 400));
        assert!(answers[4].2.contains("info, low, medium, high, critical"));
    }

    #[test]
    fn a_stuck_engine_is_not_healthy() {
        assert_eq!(health(Duration::from_secs(2)).status(), StatusCode::OK);
        assert_eq!(health(Duration::from_secs(31)).status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn an_address_in_use_is_said_with_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = listen(taken.local_addr().unwrap()).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("`export.listen`"), "{error}");
    }
}
