//! Where results go: findings as JSON lines or for people, operations as JSON lines, HTTP.

pub mod http;
pub mod human;
pub mod json;
pub mod operations;
#[cfg(test)]
pub(crate) mod sample;
pub mod services;
pub mod sink;
pub mod store;
pub mod time;
pub mod tools;

pub use sink::{LineSink, SinkError, Target};
pub use store::{Readiness, Shared};
