//! An HAProxy before a shared service, as a load balancer that nobody watches: it forwards bytes, and says at the beginning of
//! each connection for whom.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::net;
use super::process::{Launch, Process};

/// A running load balancer.
#[derive(Debug)]
pub struct Front {
    _process: Process,
    port: u16,
}

impl Front {
    /// Starts it before what listens at a port on 127.0.0.1, with headers of the PROXY protocol's version 2. It is in no cgroup
    /// of the scene.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(service: u16, logs: &Path) -> Result<Self> {
        let port = net::free_port()?;
        let config = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 300s\n  timeout server 300s\n\
             listen front\n  bind 127.0.0.1:{port}\n  server one 127.0.0.1:{service} send-proxy-v2\n"
        );
        let file = logs.join("front.cfg");
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut process = Launch::new("front", "haproxy").args(["-db", "-f"]).arg(&file).start(logs)?;
        net::wait_until(&mut process, "HAProxy", Duration::from_secs(10), || net::listens(port))?;
        Ok(Self { _process: process, port })
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}
