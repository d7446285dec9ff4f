//! In place of OTLP, in a build without the feature `otlp`: none of this can be made, and a configuration that asks for
//! it is refused.

use std::convert::Infallible;

use hyper::Uri;
use monitor_core::detect::FindingEvent;
use monitor_core::model::Finding;
use tokio::task::JoinHandle;

/// Where findings would go.
#[derive(Clone, Debug, PartialEq)]
pub struct OtlpConfig {
    /// The whole URL.
    pub endpoint: Uri,
    never: Infallible,
}

/// Whose findings these are.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// The host's name; empty if not known.
    pub host: String,
    /// The Kubernetes node's name; empty outside Kubernetes.
    pub node: String,
    /// The cluster's name, as configured.
    pub cluster: String,
}

/// Why there is no way to a collector.
#[derive(Debug, thiserror::Error)]
#[error("this build cannot send findings to a collector")]
pub struct OtlpError(Infallible);

#[path = "totals.rs"]
mod totals;
pub use totals::{Bounds, Totals};

/// The way to the collector.
#[derive(Clone, Debug)]
pub struct Exporter(Infallible);

impl Exporter {
    /// There is none.
    ///
    /// # Errors
    /// Never: there is no such configuration.
    pub fn new(config: &OtlpConfig, _: &Origin) -> Result<Self, OtlpError> {
        match config.never {}
    }

    /// Hands over a finding.
    pub fn put(&self, _: &Finding, _: FindingEvent) {
        match self.0 {}
    }

    /// What has become of the records so far.
    pub fn totals(&self) -> Totals {
        match self.0 {}
    }

    /// Sends what comes.
    pub async fn work(self) {
        match self.0 {}
    }

    /// Sends what is left.
    pub async fn finish(self, _: JoinHandle<()>) {
        match self.0 {}
    }
}
