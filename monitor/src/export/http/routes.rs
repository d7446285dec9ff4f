//! What is answered.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::BodyExt as _;
use tokio::sync::Semaphore;

use super::access::{Gate, guard};
use super::query::{Wanted, link};
use crate::export::json;
use crate::export::store::Shared;

/// An engine that has not come by for so long is stuck (loading the probes on a slow machine takes seconds).
const STUCK: Duration = Duration::from_secs(30);
/// How long a text of metrics is given to all who ask: they change about once a second, and clients that take it slowly
/// share one.
const SHARED_FOR: Duration = Duration::from_millis(250);
/// Answers of findings that are made or sent at a time.
const AT_A_TIME: usize = 2;
/// Most bytes of one answer of findings: the rest is on the next page.
const MAX_ANSWER: usize = 16 << 20;

#[derive(Clone)]
struct Served {
    shared: Arc<Shared>,
    metrics: Arc<Mutex<Option<(Instant, Bytes)>>>,
    answers: Arc<Semaphore>,
}

pub(super) fn router(shared: Arc<Shared>, gate: Arc<Gate>) -> Router {
    let served = Served { shared, metrics: Arc::default(), answers: Arc::new(Semaphore::new(AT_A_TIME)) };
    let of_tenants = Router::new()
        .route("/findings", get(findings))
        .route("/findings/{id}", get(finding))
        .route("/services", get(services))
        .route("/tools", get(tools))
        .route_layer(middleware::from_fn_with_state(gate, guard));
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .merge(of_tenants)
        .with_state(served)
        .layer(middleware::from_fn(without_body))
}

/// Nothing here takes a body, and none is read: not of a megabyte, and not for a minute.
async fn without_body(request: Request, next: Next) -> Response {
    if !matches!(request.method().as_str(), "GET" | "HEAD") {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET, HEAD"), (CONNECTION, "close")], "read-only\n")
            .into_response();
    }
    if has_body(request.headers()) {
        return (StatusCode::PAYLOAD_TOO_LARGE, [(CONNECTION, "close")], "nothing here takes a body\n").into_response();
    }
    next.run(request).await
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || headers.get(CONTENT_LENGTH).is_some_and(|n| n.as_bytes() != b"0")
}

async fn index() -> &'static str {
    "leasewarden: /metrics /healthz /readyz /findings /findings/ID /services /tools\n"
}

async fn metrics(State(served): State<Served>) -> Response {
    let mut kept = served.metrics.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, text)) = kept.as_ref()
        && at.elapsed() < SHARED_FOR
    {
        return ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text.clone()).into_response();
    }
    match served.shared.metrics().render() {
        Ok(text) => {
            let text = Bytes::from(text);
            *kept = Some((Instant::now(), text.clone()));
            ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Alive means that the engine's thread moves: it comes by about once a second, with traffic or without.
async fn healthz(State(served): State<Served>) -> Response {
    health(served.shared.silent_for())
}

pub(super) fn health(silent: Duration) -> Response {
    if silent < STUCK {
        return "ok\n".into_response();
    }
    let message = format!("the engine has not moved for {} s\n", silent.as_secs());
    (StatusCode::SERVICE_UNAVAILABLE, message).into_response()
}

async fn readyz(State(served): State<Served>) -> Response {
    let readiness = served.shared.readiness();
    let status = if readiness.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
}

async fn findings(State(served): State<Served>, Query(wanted): Query<Wanted>) -> Response {
    let asked = match wanted.read(crate::export::time::now()) {
        Ok(asked) => asked,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    // Never closed: there is no error.
    let Ok(turn) = served.answers.clone().acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let found = served.shared.findings(&asked.filter, asked.after.as_ref(), asked.limit.saturating_add(1));
    let about = served.shared.about();
    let mut text = String::from("[");
    let mut last = None;
    let mut more = false;
    for (i, f) in found.iter().enumerate() {
        if i == asked.limit || text.len() > MAX_ANSWER {
            more = true;
            break;
        }
        if i > 0 {
            text.push_str(",\n ");
        }
        text.push_str(&json::finding(f, &about));
        last = Some(f);
    }
    text.push_str("]\n");
    let next = last.filter(|_| more).map(|f| link(&wanted, f));
    let length = text.len();
    let mut response = json_response(text);
    if let Some(next) = next.and_then(|n| n.parse().ok()) {
        response.headers_mut().insert(axum::http::header::LINK, next);
    }
    response.headers_mut().insert(CONTENT_LENGTH, length.into());
    response.map(|body| {
        axum::body::Body::new(body.map_frame(move |frame| {
            let _ = &turn;
            frame
        }))
    })
}

async fn finding(State(served): State<Served>, Path(id): Path<String>) -> Response {
    match served.shared.finding(&id) {
        Some(f) => json_response(json::finding(&f, &served.shared.about()) + "\n"),
        None => (StatusCode::NOT_FOUND, "there is no finding with this id now\n").into_response(),
    }
}

async fn services(State(served): State<Served>) -> Response {
    json_response(served.shared.services())
}

async fn tools(State(served): State<Served>) -> Response {
    json_response(served.shared.tools())
}

fn json_response(body: impl Into<Bytes>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body.into()).into_response()
}
