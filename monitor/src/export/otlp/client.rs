//! One request to the collector, and what its answer means (the OTLP specification, "OTLP/HTTP Response").

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use rustls::{ClientConfig, RootCertStore};

use super::OtlpConfig;

/// Largest answer that is read.
const MAX_ANSWER: usize = 64 << 10;
/// How long an unused connection is kept. Shorter than what servers and load balancers usually allow.
const IDLE: Duration = Duration::from_secs(30);
/// Longest piece of a collector's words in our log, in characters.
const SHOWN: usize = 200;

/// The collector cannot be reached safely.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// No certificates.
    #[error("export.otlp: `https` needs certificates to trust, and this system has none ({0}); set `export.otlp.ca`")]
    NoRoots(std::io::Error),
    /// The library refuses its own default.
    #[error("export.otlp: TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why a request may be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The collector put it off.
    Busy,
    /// No answer in time.
    Timeout,
    /// No collector.
    Unreachable,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The collector took it, except for so many records, with its words on them.
    Taken { rejected: u64, words: String },
    /// The collector will never take it.
    Refused(String),
    /// It may take it later; not before `after`, if it says so.
    Again { trouble: Trouble, why: String, after: Option<Duration> },
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    headers: HeaderMap,
    timeout: Duration,
}

impl Client {
    pub(super) fn new(config: &OtlpConfig) -> Result<Self, OtlpError> {
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls(config)?).https_or_http().enable_http1().build();
        let http = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("leasewarden/", env!("CARGO_PKG_VERSION"))));
        Ok(Self { http, endpoint: config.endpoint.clone(), headers, timeout: config.timeout })
    }

    pub(super) fn endpoint(&self) -> &Uri {
        &self.endpoint
    }

    pub(super) async fn send(&self, body: Vec<u8>) -> Outcome {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = async {
            match self.http.request(request).await {
                Ok(response) => judge(response).await,
                Err(error) => Outcome::Again { trouble: Trouble::Unreachable, why: innermost(&error), after: None },
            }
        };
        match tokio::time::timeout(self.timeout, answer).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let why = format!("no answer within {}", humantime::format_duration(self.timeout));
                Outcome::Again { trouble: Trouble::Timeout, why, after: None }
            }
        }
    }
}

fn tls(config: &OtlpConfig) -> Result<ClientConfig, OtlpError> {
    let provider = rustls::crypto::ring::default_provider();
    let builder = ClientConfig::builder_with_provider(provider.into()).with_safe_default_protocol_versions()?;
    let builder = match (&config.ca, config.endpoint.scheme_str()) {
        (Some(roots), _) => builder.with_root_certificates(roots.clone()),
        (None, Some("https")) => builder.with_native_roots().map_err(OtlpError::NoRoots)?,
        (None, _) => builder.with_root_certificates(RootCertStore::empty()),
    };
    Ok(builder.with_no_client_auth())
}

/// The specification names the four that may be tried again; every other failure is for good.
async fn judge(response: Response<Incoming>) -> Outcome {
    let status = response.status();
    if status.is_success() {
        return taken(response).await;
    }
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Again {
            trouble: Trouble::Busy,
            why: format!("it answered {status}"),
            after: response.headers().get(RETRY_AFTER).and_then(|v| retry_after(v, Timestamp::now())),
        },
        _ => Outcome::Refused(format!("it answered {status}")),
    }
}

/// The status has decided; an answer that cannot be read changes nothing.
async fn taken(response: Response<Incoming>) -> Outcome {
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    let partial = body
        .ok()
        .and_then(|b| ExportLogsServiceResponse::decode(b.to_bytes()).ok())
        .and_then(|answer| answer.partial_success)
        .unwrap_or_default();
    let words = partial.error_message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect();
    Outcome::Taken { rejected: u64::try_from(partial.rejected_log_records).unwrap_or(0), words }
}

/// Seconds, or a moment (RFC 9110, 10.2.3).
fn retry_after(value: &HeaderValue, now: Timestamp) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = DateTimeParser::new().parse_timestamp(text).ok()?;
    // A moment that has passed: at once.
    Some(Duration::try_from(then.duration_since(now)).unwrap_or_default())
}

/// hyper's own words (`client error (Connect)`) say less than their cause.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::roots::roots;

    #[test]
    fn retry_after_is_seconds_or_a_moment() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let read = |text: &str| retry_after(&HeaderValue::from_str(text).unwrap(), now);
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Sat, 21 Nov 2026 10:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Sat, 21 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(read("-1"), None);
    }

    #[test]
    fn certificates_are_read_from_pem() {
        assert_eq!(roots("nothing here").unwrap_err(), "there is no certificate (PEM) in it");
        let broken = "-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n";
        assert!(roots(broken).unwrap_err().starts_with("it is no PEM"), "{:?}", roots(broken));
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(roots(no_certificate).unwrap_err().starts_with("certificate 1: "), "{:?}", roots(no_certificate));
    }
}
