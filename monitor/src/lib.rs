//! The node agent behind the `leasewarden` binary.
//!
//! - [`capture`]: where events come from (live kernel, packet captures, recordings)
//! - [`identity`]: who is behind a cgroup or an address
//! - [`pipeline`]: capture → core → export; the only place that spawns tasks or owns channels
//! - [`tools`]: tools of MCP servers as they were approved
//! - [`export`], [`metrics`]: where findings, operations and counters go
//! - [`private`], [`wipe`]: files and memory that nobody else reads
//! - [`privileges`]: what the agent may do, and how it gives up what it no longer needs
//! - [`tls`]: finding and probing the functions that are told the secrets of TLS handshakes
//! - [`about`]: which agent this is
//! - [`config`], [`cli`], [`logging`], [`doctor`]: the edge towards the operator
//!
//! Everything between an event and a finding is in `monitor-core`.

pub mod about;
pub mod capture;
pub mod cli;
pub mod config;
pub mod doctor;
pub mod export;
pub mod identity;
pub mod logging;
pub mod metrics;
pub mod pipeline;
pub mod private;
pub mod privileges;
pub mod tls;
pub mod tools;
pub mod wipe;

#[cfg(test)]
pub(crate) mod testing;
