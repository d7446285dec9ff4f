//! Cgroups, processes, services, clients and the agent, each cleaned up when its value is dropped.

pub mod agent;
pub mod brokers;
pub mod cases;
pub mod certificate;
pub mod cgroup;
pub mod client;
pub mod containers;
pub mod front;
pub mod golang;
pub mod load;
pub mod mariadb;
pub mod mcp;
pub mod mcp_cases;
mod mcp_plays;
pub mod memcached;
pub mod net;
pub mod node;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod python;
pub mod queue;
pub mod queue_cases;
pub mod queue_truth;
pub mod recipe_cases;
pub mod recipes;
pub mod redis;
pub mod scene;
pub mod service;
pub mod shared;
pub mod signals;
pub mod talk;
pub mod truth;

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Name of the environment variable that lets tests of things that cannot be had on this machine pass, loudly.
pub const ALLOW_MISSING: &str = "LEASEWARDEN_ALLOW_MISSING";

/// Cargo's build directory, where the laboratory keeps what is dear to make.
#[must_use]
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// Where the clients and services are that are not written in Rust, with what they need.
#[must_use]
pub fn clients_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// A scratch directory that every user may enter (services run as users of their own, and a check-out may lie where
/// they cannot go). Removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Creates `NAME-PID` below the system's directory for temporary files.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(name: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("leasewarden-{name}-{}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// A directory in it that belongs to a user of the system, and to nobody else.
    ///
    /// # Errors
    /// When there is no such user, or the directory cannot be made.
    pub fn dir_of(&self, name: &str, user: &str) -> Result<PathBuf> {
        let dir = self.path.join(name);
        std::fs::create_dir_all(&dir)?;
        let (uid, gid) = process::user_ids(user)?;
        std::os::unix::fs::chown(&dir, Some(uid), Some(gid))?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
