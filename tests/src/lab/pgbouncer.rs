//! A PgBouncer of our own between the tenants and the database.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::certificate::Certificate;
use super::postgres::{APP_USER, DATABASE, Postgres};
use super::process::{Launch, Process};
use super::{ALLOW_MISSING, Scratch, net};

/// How the pool is run.
#[derive(Clone, Debug)]
pub struct Pool {
    /// `transaction` or `session`.
    pub mode: &'static str,
    /// Most connections to the server.
    pub size: u32,
    /// Further settings of the `[pgbouncer]` section.
    pub settings: Vec<(&'static str, String)>,
    /// Root of an unpacked newer PgBouncer with its own libraries; the machine's when `None`.
    pub unpacked: Option<PathBuf>,
    /// The address on which it reaches the database.
    pub upstream: &'static str,
}

impl Pool {
    /// Transaction mode with so many server connections.
    #[must_use]
    pub fn transaction(size: u32) -> Self {
        Self { mode: "transaction", size, settings: Vec::new(), unpacked: None, upstream: "127.0.0.1" }
    }

    /// Session mode with so many server connections, each reset by `DISCARD ALL` between clients (its default).
    #[must_use]
    pub fn session(size: u32) -> Self {
        Self { mode: "session", ..Self::transaction(size) }
    }

    /// Reaches the database at `::1`.
    #[must_use]
    pub fn ipv6(self) -> Self {
        Self { upstream: "::1", ..self }
    }

    /// Is a PgBouncer of 1.21 or later and carries named protocol-level statements.
    #[must_use]
    pub fn with_prepared(mut self, unpacked: PathBuf) -> Self {
        self.settings.push(("max_prepared_statements", "100".to_owned()));
        Self { unpacked: Some(unpacked), ..self }
    }

    /// Speaks TLS on both sides, and nothing else.
    #[must_use]
    pub fn encrypted(mut self, certificate: &Certificate) -> Self {
        let path = |file: PathBuf| file.display().to_string();
        self.settings.extend([
            ("client_tls_sslmode", "require".to_owned()),
            ("client_tls_cert_file", path(certificate.file())),
            ("client_tls_key_file", path(certificate.key())),
            ("server_tls_sslmode", "require".to_owned()),
        ]);
        self
    }
}

/// Where `cargo xtask setup` unpacks a PgBouncer of 1.21 or later, with the libraries that it needs.
///
/// # Errors
/// When there is none: with what to do.
pub fn newer() -> Result<PathBuf> {
    let root = super::target_dir().join("lab/pgbouncer-new");
    if !root.join("usr/sbin/pgbouncer").exists() {
        bail!(
            "no PgBouncer of 1.21 or later in target/lab/pgbouncer-new: `cargo xtask setup` unpacks Debian trixie's \
             there (set {ALLOW_MISSING}=1 to go on without what needs it)"
        );
    }
    Ok(root)
}

/// A running pooler.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    port: u16,
}

impl PgBouncer {
    /// Starts it inside `cgroup`, as user `postgres` (it refuses to be root).
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub fn start(pool: &Pool, database: &Postgres, scratch: &Scratch, cgroup: &Path, logs: &Path) -> Result<Self> {
        let home = scratch.dir_of("pgbouncer", "postgres")?;
        let port = net::free_port()?;
        let mut ini = format!(
            "[databases]\n{DATABASE} = host={} port={} dbname={DATABASE} user={APP_USER}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1,::1\nlisten_port = {port}\nunix_socket_dir = {}\nauth_type = any\n\
             pool_mode = {}\ndefault_pool_size = {}\nmax_client_conn = 200\nserver_login_retry = 1\n\
             ignore_startup_parameters = extra_float_digits\n",
            pool.upstream,
            database.port(),
            home.display(),
            pool.mode,
            pool.size,
        );
        for (key, value) in &pool.settings {
            writeln!(ini, "{key} = {value}")?;
        }
        let file = home.join("pgbouncer.ini");
        fs::write(&file, ini).with_context(|| format!("cannot write {}", file.display()))?;
        let launch = match &pool.unpacked {
            // Its own loader and libraries: the machine's may be older than it needs.
            Some(root) => {
                let root = copy_of(root, scratch)?;
                Launch::new("pgbouncer", root.join("usr/lib64/ld-linux-x86-64.so.2"))
                    .arg("--library-path")
                    .arg(root.join("usr/lib/x86_64-linux-gnu"))
                    .arg(root.join("usr/sbin/pgbouncer"))
            }
            None => Launch::new("pgbouncer", "/usr/sbin/pgbouncer"),
        };
        let mut process = launch.arg(&file).user("postgres").cgroup(cgroup).stop_with(Signal::INT).start(logs)?;
        net::wait_until(&mut process, "PgBouncer", Duration::from_secs(10), || net::listens(port))?;
        Ok(Self { process, port })
    }

    /// Its TCP port on 127.0.0.1 and ::1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

/// A copy where user `postgres` may go: a check-out may lie in a directory that is closed to others.
fn copy_of(root: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let copy = scratch.path().join("pgbouncer-new");
    if !copy.exists() {
        let status = Command::new("cp").arg("-a").arg(root).arg(&copy).status().context("cannot start cp")?;
        if !status.success() {
            bail!("cannot copy {}", root.display());
        }
    }
    Ok(copy)
}
