//! A certificate of our own, for scenes that are encrypted: made anew each time, by the `openssl` program.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Scratch;
use super::process::user_ids;

/// What is to be certified. No authority: rustls takes none for an end's own certificate.
const REQUEST: &str = "\
[req]
distinguished_name = name
x509_extensions = what
prompt = no
[name]
CN = localhost
[what]
basicConstraints = critical, CA:FALSE
keyUsage = digitalSignature, keyEncipherment
subjectAltName = DNS:localhost, IP:127.0.0.1, IP:::1
";

/// A certificate for 127.0.0.1, ::1 and localhost, and its key; user `postgres` may read both.
#[derive(Clone, Debug)]
pub struct Certificate {
    dir: PathBuf,
}

impl Certificate {
    /// Makes one.
    ///
    /// # Errors
    /// When there is no `openssl` program.
    pub fn make(scratch: &Scratch) -> Result<Self> {
        let this = Self { dir: scratch.dir_of("certificate", "postgres")? };
        let request = this.dir.join("request.conf");
        fs::write(&request, REQUEST)?;
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-config"])
            .arg(&request)
            .arg("-keyout")
            .arg(this.key())
            .arg("-out")
            .arg(this.file())
            .output()
            .context("cannot start openssl")?;
        if !made.status.success() {
            bail!("openssl: {}", String::from_utf8_lossy(&made.stderr));
        }
        let (user, group) = user_ids("postgres")?;
        for file in [this.key(), this.file()] {
            // PostgreSQL takes no key that others may read.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
            chown(&file, Some(user), Some(group))?;
        }
        Ok(this)
    }

    /// The certificate's file.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.join("certificate.pem")
    }

    /// The key's file.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.dir.join("key.pem")
    }

    /// A copy that this user may read.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn of(&self, user: &str, scratch: &Scratch) -> Result<Self> {
        let copy = Self { dir: scratch.dir_of(&format!("certificate-{user}"), user)? };
        let (id, group) = user_ids(user)?;
        for (from, to) in [(self.key(), copy.key()), (self.file(), copy.file())] {
            fs::copy(from, &to)?;
            chown(&to, Some(id), Some(group))?;
        }
        Ok(copy)
    }

    /// What programs of the lab, and the libraries they use, are told of it by: to demand TLS of a database, and whom to
    /// believe.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, OsString); 4] {
        [
            // libpq, asyncpg, node-postgres.
            ("PGSSLMODE", "require".into()),
            ("NODE_EXTRA_CA_CERTS", self.file().into()),
            // The lab's own programs.
            ("LAB_CERTIFICATE", self.file().into()),
            ("LAB_KEY", self.key().into()),
        ]
    }

    /// The directory of both.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}
