//! A Redis of our own, without persistence.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::certificate::Certificate;
use super::net;
use super::process::{Launch, Process};

/// A running server.
#[derive(Debug)]
pub struct Redis {
    _process: Process,
    port: u16,
    /// Where it speaks TLS.
    tls_port: Option<u16>,
}

impl Redis {
    /// Starts it inside `cgroup`.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(cgroup: &Path, logs: &Path) -> Result<Self> {
        let port = net::free_port()?;
        let mut process = Launch::new("redis", "redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/"])
            .args(["--port", &port.to_string()])
            .cgroup(cgroup)
            .start(logs)?;
        net::wait_until(&mut process, "Redis", Duration::from_secs(10), || net::listens(port))?;
        Ok(Self { _process: process, port, tls_port: None })
    }

    /// Its TCP port on 127.0.0.1: the one with TLS, if there is one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.tls_port.unwrap_or(self.port)
    }

    /// Its port in clear, also where it offers TLS.
    #[must_use]
    pub fn plain_port(&self) -> u16 {
        self.port
    }

    /// Offers TLS on another port, to whoever comes.
    ///
    /// # Errors
    /// When it does not take the certificate.
    pub fn offer_tls(&mut self, certificate: &Certificate) -> Result<()> {
        let port = net::free_port()?;
        let (file, key) = (certificate.file().display().to_string(), certificate.key().display().to_string());
        let port_text = port.to_string();
        self.command(&[
            "CONFIG",
            "SET",
            "tls-auth-clients",
            "no",
            "tls-ca-cert-file",
            &file,
            "tls-cert-file",
            &file,
            "tls-key-file",
            &key,
            "tls-port",
            &port_text,
        ])?;
        self.tls_port = Some(port);
        Ok(())
    }

    /// Carries out one command as an administrator, from outside of the scene.
    ///
    /// # Errors
    /// When it is refused.
    pub fn command(&self, command: &[&str]) -> Result<String> {
        let output = Command::new("redis-cli")
            .args(["-e", "-p", &self.port.to_string()])
            .args(command)
            .output()
            .context("cannot start redis-cli")?;
        if !output.status.success() {
            bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
