//! A MariaDB of our own: private data directory, private port, as user `mysql`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::process::{Launch, Process};
use super::{Scratch, net};

/// What the server, and whoever makes its data directory, is told of its own files: small ones.
const SMALL: [&str; 3] =
    ["--innodb-log-file-size=4M", "--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0"];

/// Tables of two tenants behind a view, as applications divide them in MySQL: through a function it reads the variable
/// `@tenant_id`, else the user whose name says whose it is. Without either it shows no row, so a row seen tells what was
/// in force. `stock` is there for everybody, for services that trust in themselves alone.
const SCHEMA: &str = "
CREATE DATABASE shop;
USE shop;
CREATE TABLE every_order (id int AUTO_INCREMENT PRIMARY KEY, tenant varchar(40) NOT NULL, item varchar(80) NOT NULL);
INSERT INTO every_order (tenant, item)
  SELECT IF(seq <= 200, 'acme', 'globex'), CONCAT('item ', seq, ' ', REPEAT('x', 40)) FROM seq_1_to_400;
CREATE TABLE stock AS SELECT id, tenant, item FROM every_order;
CREATE TABLE visits (tenant varchar(40), ref varchar(80) NOT NULL);
CREATE FUNCTION current_tenant() RETURNS varchar(40) NO SQL RETURN @tenant_id;
CREATE VIEW orders AS SELECT id, tenant, item FROM every_order
  WHERE tenant = current_tenant() OR CONCAT('tenant_', tenant) = SUBSTRING_INDEX(USER(), '@', 1);
";

/// The users: the application's own, and each tenant's. Each one's password is `secret-of-` and its name.
const USERS: [&str; 3] = ["app", "tenant_acme", "tenant_globex"];

/// A running server.
#[derive(Debug)]
pub struct MariaDb {
    _process: Process,
    port: u16,
}

impl MariaDb {
    /// Makes a data directory in `scratch`, starts the server inside `cgroup`, creates users and tables.
    ///
    /// # Errors
    /// When MariaDB is not installed or does not come up.
    pub fn start(scratch: &Scratch, cgroup: &Path, logs: &Path) -> Result<Self> {
        let home = scratch.dir_of("mariadb", "mysql")?;
        let data = home.join("data");
        // When one starts, it clears away what others have in a directory for temporary files that they share.
        let temporary = scratch.dir_of("mariadb-temporary", "mysql")?;
        install(&data, &temporary)?;
        let port = net::free_port()?;
        let mut process = Launch::new("mariadb", "mariadbd")
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", home.join("socket").display()))
            .arg(format!("--pid-file={}", home.join("pid").display()))
            .arg(format!("--port={port}"))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-ssl", "--max-connections=120"])
            // Told a version it does not put `5.5.5-` before it, by which clients would take it for an old MySQL.
            .arg(format!("--version={}", version()?))
            .args(SMALL)
            .env("TMPDIR", &temporary)
            .user("mysql")
            .cgroup(cgroup)
            // It keeps nothing that is worth an orderly end.
            .stop_with(Signal::KILL)
            .start(logs)?;
        net::wait_until(&mut process, "MariaDB", Duration::from_secs(60), || net::listens(port))?;
        let server = Self { _process: process, port };
        let users = USERS.map(|user| {
            format!(
                "CREATE USER {user}@'%' IDENTIFIED BY 'secret-of-{user}';\n\
                 GRANT SELECT, INSERT, EXECUTE ON shop.* TO {user}@'%';\n"
            )
        });
        server.script(&(SCHEMA.to_owned() + &users.concat()))?;
        Ok(server)
    }

    /// Its TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Runs a script as an administrator, from outside of the scene.
    ///
    /// # Errors
    /// At the first statement that fails.
    fn script(&self, script: &str) -> Result<()> {
        let output = Command::new("mariadb")
            .args(["--no-defaults", "--host=127.0.0.1", "--user=root"])
            .arg(format!("--port={}", self.port))
            .args(["--execute", script])
            .output()
            .context("cannot start mariadb")?;
        if !output.status.success() {
            bail!("mariadb failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

fn install(data: &Path, temporary: &Path) -> Result<()> {
    let output = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--user=mysql", "--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg("--skip-name-resolve")
        .arg(format!("--datadir={}", data.display()))
        .args(SMALL)
        .env("TMPDIR", temporary)
        .output()
        .context("cannot start mariadb-install-db")?;
    if !output.status.success() {
        bail!("mariadb-install-db failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The server's version, as it tells it itself: `10.11.19-MariaDB`.
///
/// # Errors
/// When it is not installed.
pub fn version() -> Result<String> {
    let output = Command::new("mariadbd").args(["--no-defaults", "--version"]).output().context("no mariadbd")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = said.split_whitespace().skip_while(|word| *word != "Ver").nth(1).context("it tells no version")?;
    let end = version.find("-MariaDB").map_or(version.len(), |at| at + "-MariaDB".len());
    Ok(version.get(..end).unwrap_or(version).to_owned())
}
