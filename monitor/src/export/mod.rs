//! Where results go: findings as JSON lines, for people or as OpenTelemetry logs, operations as JSON lines, HTTP.

pub mod http;
pub mod human;
pub mod json;
pub mod operations;
#[cfg_attr(not(feature = "otlp"), path = "otlp/absent.rs")]
pub mod otlp;
#[cfg(any(feature = "otlp", feature = "tls"))]
pub mod roots;
pub mod rotate;
#[cfg(test)]
pub(crate) mod sample;
pub mod schemas;
pub mod services;
pub mod sink;
pub mod store;
pub mod time;
pub mod tools;

pub use sink::{LineSink, SinkError, Target};
pub use store::{Readiness, Shared};
