//! A memcached of our own.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::net;
use super::process::{Launch, Process};

/// A running server.
#[derive(Debug)]
pub struct Memcached {
    _process: Process,
    port: u16,
}

impl Memcached {
    /// Starts it inside `cgroup`.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(cgroup: &Path, logs: &Path) -> Result<Self> {
        let port = net::free_port()?;
        let mut process = Launch::new("memcached", "memcached")
            .args(["--listen=127.0.0.1", "--udp-port=0", "--memory-limit=16", "--threads=1"])
            .arg(format!("--port={port}"))
            .user("nobody")
            .cgroup(cgroup)
            .start(logs)?;
        net::wait_until(&mut process, "memcached", Duration::from_secs(10), || net::listens(port))?;
        Ok(Self { _process: process, port })
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
