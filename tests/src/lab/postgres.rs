//! A PostgreSQL of our own: private data directory, private port, as user `postgres`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::certificate::Certificate;
use super::process::{Launch, Process, user_ids};
use super::{Scratch, net, target_dir};

/// The database that the scenarios share.
pub const DATABASE: &str = "shop";
/// The role that the application logs in with; it owns nothing and is subject to row security.
pub const APP_USER: &str = "app";

/// The tenants' names as opaque identifiers, for applications that put those on the wire instead.
pub const ACME_UUID: &str = "7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11";
/// See [`ACME_UUID`].
pub const GLOBEX_UUID: &str = "c3b1f6de-21d4-4c0b-a6a5-5f3f1f0c2d77";

/// Tables of two tenants behind row security, as an application that trusts `app.tenant_id` has them. `app` does not
/// inherit the tenants' roles: without a setting or a `SET ROLE` it sees no row, so a row seen tells what was in force.
/// `stock` has no row security, for services that trust in themselves alone.
const SCHEMA: &str = "
CREATE ROLE app LOGIN NOINHERIT;
CREATE ROLE tenant_acme;
CREATE ROLE tenant_globex;
GRANT tenant_acme, tenant_globex TO app;
CREATE DATABASE shop;
\\connect shop
CREATE TABLE orders (id serial PRIMARY KEY, tenant text NOT NULL, item text NOT NULL);
INSERT INTO orders (tenant, item)
  SELECT tenant, 'item ' || n || ' ' || repeat('x', 40)
  FROM unnest(ARRAY['acme', 'globex', '7f0c0a52-9a5e-4a0e-8f0e-3d0d5f2f9b11', 'c3b1f6de-21d4-4c0b-a6a5-5f3f1f0c2d77'])
    AS tenant, generate_series(1, 200) AS n;
CREATE INDEX ON orders (tenant);
ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_tenant ON orders
  USING (tenant = current_setting('app.tenant_id', true) OR current_user = 'tenant_' || tenant);
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app, tenant_acme, tenant_globex;
CREATE TABLE stock AS SELECT id, tenant, item FROM orders WHERE length(tenant) < 10;
CREATE TABLE visits (ref text NOT NULL);
GRANT SELECT ON stock TO app;
GRANT INSERT ON visits TO app;
GRANT USAGE ON SEQUENCE orders_id_seq TO app, tenant_acme, tenant_globex;
";

/// The directory of the newest PostgreSQL server programs on this machine.
///
/// # Errors
/// When there is none.
pub fn bin_dir() -> Result<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let bin = entry.path().join("bin");
            (bin.join("postgres").exists() && bin.join("initdb").exists()).then_some((version, bin))
        })
        .collect();
    found.sort();
    found.pop().map(|(_, bin)| bin).context("no PostgreSQL server below /usr/lib/postgresql")
}

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    process: Process,
    bin: PathBuf,
    port: u16,
}

impl Postgres {
    /// Makes a data directory in `scratch`, starts the server inside `cgroup`, creates roles and tables.
    ///
    /// # Errors
    /// When PostgreSQL is not installed or does not come up.
    pub fn start(scratch: &Scratch, cgroup: &Path, logs: &Path) -> Result<Self> {
        let bin = bin_dir()?;
        let home = scratch.dir_of("postgres", "postgres")?;
        let data = home.join("data");
        initdb(&bin, &data)?;
        let port = net::free_port()?;
        let mut process = Launch::new("postgres", bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1,::1", "-c", "fsync=off", "-c", "autovacuum=off"])
            .args(["-c", "max_connections=120", "-c", "shared_buffers=32MB"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", home.display()))
            .user("postgres")
            .cgroup(cgroup)
            // Fast shutdown: SIGTERM would wait for the clients.
            .stop_with(Signal::INT)
            .start(logs)?;
        let isready = bin.join("pg_isready");
        net::wait_until(&mut process, "PostgreSQL", Duration::from_secs(60), || {
            Command::new(&isready)
                .args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])
                .status()
                .is_ok_and(|status| status.success())
        })?;
        let server = Self { process, bin, port };
        server.psql("postgres", SCHEMA)?;
        Ok(server)
    }

    /// Offers TLS from now on, to whoever asks for it.
    ///
    /// # Errors
    /// When it refuses.
    pub fn offer_tls(&self, certificate: &Certificate) -> Result<()> {
        let (file, key) = (certificate.file(), certificate.key());
        for statement in [
            format!("ALTER SYSTEM SET ssl_cert_file = '{}'", file.display()),
            format!("ALTER SYSTEM SET ssl_key_file = '{}'", key.display()),
            "ALTER SYSTEM SET ssl = on".to_owned(),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            self.psql("postgres", &statement)?;
        }
        // Each new connection asks the server's own settings, which it reads again at its leisure.
        let asked = Instant::now();
        while self.psql("postgres", "SHOW ssl")?.trim() != "on" {
            if asked.elapsed() > Duration::from_secs(20) {
                bail!("PostgreSQL does not switch TLS on\n{}", self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Its TCP port on 127.0.0.1 and ::1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where its programs are (`psql`, `pgbench`).
    #[must_use]
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }

    /// Runs a script as the superuser.
    ///
    /// # Errors
    /// At the first statement that fails.
    pub fn psql(&self, database: &str, script: &str) -> Result<String> {
        use std::io::Write;
        let mut child = Command::new(self.bin.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-d", database])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .context("cannot start psql")?;
        child.stdin.take().context("psql has no input")?.write_all(script.as_bytes())?;
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("psql failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Makes a data directory: by `initdb` the first time, later by a copy of what it made.
fn initdb(bin: &Path, data: &Path) -> Result<()> {
    let version = bin.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
    let made = target_dir().join("lab").join(format!("initdb-{version}"));
    // Scenes of one process that start at the same time would write to the same place.
    static MAKING: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = MAKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if made.exists() {
        return copy(&made, data);
    }
    run_initdb(bin, data)?;
    // By another name first: what has its own name is whole.
    let half = made.with_extension(format!("half-{}", std::process::id()));
    fs::create_dir_all(target_dir().join("lab"))?;
    copy(data, &half)?;
    if fs::rename(&half, &made).is_err() {
        // Somebody else was quicker.
        fs::remove_dir_all(&half)?;
    }
    Ok(())
}

/// A copy of the directory itself, even where its place holds a link to it: a server would else work in the original.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").arg("-aH").arg(from).arg(to).output().context("cannot start cp")?;
    if !output.status.success() {
        bail!("cannot copy {}: {}", from.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn run_initdb(bin: &Path, data: &Path) -> Result<()> {
    use std::os::unix::process::CommandExt;
    let (uid, gid) = user_ids("postgres")?;
    let output = Command::new(bin.join("initdb"))
        .args(["--auth=trust", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C", "-D"])
        .arg(data)
        .current_dir("/")
        .uid(uid)
        .gid(gid)
        .output()
        .context("cannot start initdb")?;
    if !output.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
