//! Reading TLS: which functions of which files are told the secrets of handshakes, and probing them.
//!
//! ```text
//! engine's thread ── orders: this cgroup, look now ──▶ attach (a thread of its own) ── uprobes ──▶ kernel
//!        ▲                                              processes ─▶ files ─▶ find                   │
//!        └──────────────────────────── secrets, through a ring of their own ◀────────────────────────┘
//! ```
//!
//! The thread alone reads `/proc` of other processes and keeps what that and attaching takes. What is done with secrets is
//! the core's business; here nothing of them is seen. See `docs/decisions/0033-whose-secrets-are-read.md`.

use std::path::PathBuf;

use monitor_core::model::CgroupId;

mod attach;
pub mod find;
mod policy;
mod processes;
mod status;

pub use attach::{Attacher, Looking, Prober};
pub use policy::{TlsConfig, WorkloadPattern};
pub use status::{FileStatus, Reason, Shared, Status};

/// What the engine's thread tells the one that attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// The processes of this cgroup, whose directory this is, are asked.
    Watch(CgroupId, PathBuf),
    /// They are not, or no longer.
    Forget(CgroupId),
    /// One of them has opened a connection: what it has mapped should be known at once.
    Look(CgroupId),
}
