//! Findings as OpenTelemetry logs: OTLP over HTTP, in protobuf, to a collector.
//!
//! ```text
//! engine's thread ──put──▶ queue (bounded; the oldest goes first) ──▶ work: batch, POST, wait and try again
//! ```
//!
//! Whatever the collector does, the engine's thread only encodes a record and appends it. What does not reach the
//! collector is counted by reason.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::Uri;
use hyper::header::{HeaderName, HeaderValue};
use monitor_core::detect::FindingEvent;
use monitor_core::model::{Finding, Nanos};
use rustls::RootCertStore;
use tokio::task::JoinHandle;

mod client;
mod queue;
mod record;
#[cfg(test)]
mod tests;
mod totals;
mod work;

pub use super::roots::roots;
pub use client::OtlpError;
pub use totals::{Bounds, Totals};

use client::Client;
use queue::Queue;
use record::Head;

/// Path of logs below a collector's base URL.
pub const LOGS_PATH: &str = "/v1/logs";

/// How long a stopping agent goes on sending.
const FLUSH: Duration = Duration::from_secs(2);

/// Where findings go, and how.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// The whole URL, `http` or `https`, without credentials.
    pub endpoint: Uri,
    /// Certificates to trust instead of the system's.
    pub ca: Option<Arc<RootCertStore>>,
    /// Sent with each request. The values are marked as sensitive, so that nothing prints them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Longest time for one request and its answer.
    pub timeout: Duration,
    /// What may wait.
    pub bounds: Bounds,
}

impl PartialEq for OtlpConfig {
    fn eq(&self, other: &Self) -> bool {
        let ca = match (&self.ca, &other.ca) {
            (Some(a), Some(b)) => a.roots == b.roots,
            (a, b) => a.is_none() == b.is_none(),
        };
        ca && self.endpoint == other.endpoint
            && self.headers == other.headers
            && self.timeout == other.timeout
            && self.bounds == other.bounds
    }
}

/// Whose findings these are.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The host's name; empty if not known.
    pub host: String,
    /// The Kubernetes node's name; empty outside Kubernetes.
    pub node: String,
    /// The cluster's name, as configured; empty if it is not.
    pub cluster: String,
}

/// The way to the collector. Clones share one queue.
#[derive(Clone, Debug)]
pub struct Exporter {
    queue: Arc<Queue>,
    client: Arc<Client>,
    head: Arc<Head>,
}

impl Exporter {
    /// An exporter that sends nothing until somebody runs [`Exporter::work`].
    ///
    /// # Errors
    /// `https`, and no certificates to trust.
    pub fn new(config: &OtlpConfig, origin: &Origin) -> Result<Self, OtlpError> {
        Ok(Self {
            queue: Arc::new(Queue::new(config.bounds)),
            client: Arc::new(Client::new(config)?),
            head: Arc::new(Head::new(origin)),
        })
    }

    /// Hands over a finding. Never waits: where there is no room, the oldest record is dropped and counted.
    pub fn put(&self, finding: &Finding, event: FindingEvent) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let observed = Nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        self.queue.push(record::frame(finding, event, observed));
    }

    /// What has become of the records so far.
    pub fn totals(&self) -> Totals {
        self.queue.totals()
    }

    /// Sends what comes until [`Exporter::finish`].
    pub async fn work(self) {
        work::work(&self.queue, &self.client, &self.head).await;
    }

    /// Sends what is left, each batch once and for two seconds at most; what then remains is counted as dropped.
    pub async fn finish(self, worker: JoinHandle<()>) {
        self.queue.close();
        let stop = worker.abort_handle();
        if tokio::time::timeout(FLUSH, worker).await.is_err() {
            stop.abort();
        }
        let left = self.queue.abandon();
        let totals = self.queue.totals();
        if left > 0 {
            tracing::warn!("OTLP: {left} findings could not be sent before the end");
        }
        tracing::debug!(?totals, "OTLP export has ended");
    }
}
