//! Configuration: YAML, `version: 1`. Read into a located tree, typed, checked, and turned into [`Settings`].
//!
//! ```text
//! text ─▶ tree (every node knows its place) ─▶ file (typed keys) ─▶ check (meaning) ─▶ Config
//! ```

use std::cell::RefCell;
use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use monitor_core::model::{Nanos, Settings};
use sha2::{Digest as _, Sha256};

mod catalogue;
mod check;
mod file;
mod located;
mod problem;
mod read;
mod schema;
mod tree;

pub use problem::{ConfigError, Pos, Problem};
pub use schema::{chart_schema, schema};

use crate::export::http::HttpConfig;
use crate::export::otlp::OtlpConfig;
use crate::export::rotate::Rotate;
use crate::identity::IdentityConfig;
use crate::privileges::PrivilegesConfig;
use crate::tls::TlsConfig;

/// Reads a file that a configuration names, up to so many bytes.
type ReadFile<'r> = &'r dyn Fn(&Path, u64) -> std::io::Result<Vec<u8>>;

/// Largest configuration file accepted, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Where the HTTP server listens unless the configuration says otherwise.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9464);

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the core needs. Salt and `operations` are the caller's to set.
    pub settings: Settings,
    /// Who is behind a cgroup or an address.
    pub identity: IdentityConfig,
    /// Where the HTTP server listens, and to whom it answers.
    pub http: HttpConfig,
    /// File that findings are appended to.
    pub findings: Option<PathBuf>,
    /// When a file of findings makes way for a new one.
    pub rotate: Rotate,
    /// The cluster's name, as findings show it.
    pub cluster: Option<String>,
    /// The collector that findings are sent to; `None`: nowhere.
    pub otlp: Option<OtlpConfig>,
    /// Size of each ring buffer in KiB, if configured.
    pub ring_kb: Option<u32>,
    /// Who the agent is, and what it may do.
    pub privileges: PrivilegesConfig,
    /// Whose TLS is read.
    pub tls: TlsConfig,
    /// Niceness of the thread that takes what the kernel has captured.
    pub nice: i32,
    /// What is not wrong, but should be known: expired suppressions, rules of other versions.
    pub warnings: Vec<Problem>,
}

/// Before what watched services do, behind what keeps the machine alive.
const DEFAULT_NICE: i32 = -10;

impl Default for Config {
    /// The embedded default policy: every key at its default.
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            identity: IdentityConfig::default(),
            http: HttpConfig { listen: Some(DEFAULT_LISTEN), ..HttpConfig::default() },
            findings: None,
            rotate: Rotate::default(),
            cluster: None,
            otlp: None,
            ring_kb: None,
            privileges: PrivilegesConfig::default(),
            tls: TlsConfig::default(),
            nice: DEFAULT_NICE,
            warnings: Vec::new(),
        }
    }
}

/// What was read on the way to a configuration, whether or not it was right.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The configuration's file, and every file that it names.
    pub files: Vec<PathBuf>,
    /// Digest of the configuration's text alone: what it names may be secret.
    pub text: [u8; 32],
}

impl Config {
    /// Reads and checks a file; notes in `read` what was read.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn load_and_note(path: &Path, now: Nanos, read: &mut Read) -> Result<Self, ConfigError> {
        read.files = vec![path.to_owned()];
        let text = Self::text(path)?;
        read.text = Sha256::digest(text.as_bytes()).into();
        let named = RefCell::new(Vec::new());
        let files = |file: &Path, limit: u64| {
            named.borrow_mut().push(file.to_owned());
            read_file(file, limit)
        };
        let parsed = Self::parse_with(&text, now, &files);
        read.files.extend(named.take());
        parsed.map_err(|problems| ConfigError::Wrong { file: path.display().to_string(), problems })
    }

    /// Reads and checks a file. `now` decides which suppressions have expired.
    ///
    /// # Errors
    /// The file cannot be read, or is wrong; then all that is wrong is in the error.
    pub fn load(path: &Path, now: Nanos) -> Result<Self, ConfigError> {
        Self::load_and_note(path, now, &mut Read::default())
    }

    fn text(path: &Path) -> Result<String, ConfigError> {
        let unreadable = |error| ConfigError::unreadable(path, error);
        let file = std::fs::File::open(path).map_err(unreadable)?;
        let mut text = String::new();
        // One byte more than allowed, so that a longer file, or one that grows, is noticed.
        file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
        if text.len() as u64 > MAX_FILE {
            let size = std::fs::metadata(path).map_or(text.len() as u64, |m| m.len());
            return Err(ConfigError::TooLarge { file: path.display().to_string(), size, limit: MAX_FILE });
        }
        Ok(text)
    }

    /// Checks a configuration text, and reads the files that it names. `now` decides which suppressions have expired.
    ///
    /// # Errors
    /// All that is wrong, in file order.
    pub fn parse(text: &str, now: Nanos) -> Result<Self, Vec<Problem>> {
        Self::parse_with(text, now, &read_file)
    }

    fn parse_with(text: &str, now: Nanos, files: ReadFile<'_>) -> Result<Self, Vec<Problem>> {
        let mut root = tree::parse(text).map_err(|p| vec![p])?;
        if matches!(root.value, tree::Value::Null) {
            // An empty file, or comments only: say what is missing rather than that nothing is no mapping.
            root.value = tree::Value::Map(tree::Map::default());
            root.at = Pos { line: 1, column: 1 };
        }
        let (file, mut problems) = located::read::<file::File>(root);
        let Some(file) = file else {
            problems.sort_by_key(|p| p.at);
            return Err(problems);
        };
        let whole = problems.is_empty();
        let mut checked = check::check(file, now, whole, files);
        problems.append(&mut checked.problems);
        if problems.is_empty() {
            Ok(checked.config)
        } else {
            problems.sort_by_key(|p| p.at);
            Err(problems)
        }
    }
}

/// Reads a whole file of at most `limit` bytes.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_file(path: &Path, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a longer file, or one that grows, is noticed.
    std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(std::io::Error::other(format!("it has more than {limit} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
