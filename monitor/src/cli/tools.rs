//! `leasewarden tools`: lock tools as they are, and tell what has changed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use monitor_core::engine::ToolView;
use serde::Serialize;

use super::{Failure, complain, load, print};
use crate::export::sink::Existing;
use crate::pipeline::{self, Replay};
use crate::private::{self, How};
use crate::tools::compare::{self, Row};
use crate::tools::fetch;
use crate::tools::lock::{self, Lock};
use crate::tools::signing::{PublicKey, SigningKey, Worth};

/// Lock the tools of MCP servers as they are approved, and tell what has changed since.
///
/// A lock holds a hash of every tool of every server seen, over canonical JSON (RFC 8785) of its name, title,
/// description, input and output schema and annotations. Tools come from a capture or recording, or from a running
/// agent. Name locks in the configuration (`locks`, `lock_keys`) and the agent itself reports what differs.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  leasewarden tools keygen --out lock-key
  leasewarden tools lock --out tools.lock.json --sign lock-key.key http://127.0.0.1:9464
  leasewarden tools lock incident.lwr
  leasewarden tools verify tools.lock.json --key lock-key.pub http://127.0.0.1:9464")]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Lock(LockArgs),
    Verify(VerifyArgs),
    Keygen(KeygenArgs),
}

/// Write a lock of every tool seen.
#[derive(Debug, clap::Args)]
struct LockArgs {
    /// Where the tools come from: a .pcap, .pcapng or .lwr file, or a running agent such as `http://127.0.0.1:9464` or `unix:/run/leasewarden/agent.sock`.
    from: String,
    /// Write the lock to this file; standard output if left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Sign it with this Ed25519 private key (PEM).
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    /// Configuration file (YAML), for the names of services in a file; see docs/configuration.md.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Compare the tools seen with a lock. Exits as diff does: with 1 if anything differs, with 2 if it could not compare.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// The lock file.
    lock: PathBuf,
    /// Where the tools come from: a .pcap, .pcapng or .lwr file, or a running agent such as `http://127.0.0.1:9464` or `unix:/run/leasewarden/agent.sock`.
    from: String,
    /// The lock must be signed by this Ed25519 public key (PEM).
    #[arg(long, value_name = "KEYFILE")]
    key: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Configuration file (YAML), for the names of services in a file; see docs/configuration.md.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Write an Ed25519 key pair to sign locks with.
#[derive(Debug, clap::Args)]
struct KeygenArgs {
    /// Write to PREFIX.key (private, readable by its owner only) and PREFIX.pub. Existing files are not replaced.
    #[arg(long, value_name = "PREFIX", default_value = "lock-key")]
    out: PathBuf,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Lock(args) => lock(&args),
        Command::Verify(args) => verify(&args).map_err(uncompared),
        Command::Keygen(args) => keygen(&args.out),
    }
}

/// A comparison that fails must not look like one that finds a difference.
fn uncompared(failure: Failure) -> Failure {
    match failure {
        Failure::CouldNot(message) => Failure::Uncompared(message),
        other => other,
    }
}

fn lock(args: &LockArgs) -> Result<ExitCode, Failure> {
    // What may be wrong with the key is said before anything is done.
    let key = args.sign.as_deref().map(|path| key_file(path, SigningKey::from_pem)).transpose()?;
    let mut lock = Lock::of(&seen(&args.from, args.config.as_deref())?);
    if lock.tools.is_empty() {
        return Err(Failure::CouldNot(format!("no server was seen to list its tools in {}", args.from)));
    }
    for e in lock.ambiguous() {
        complain(&format!(
            "warning: servers that call themselves `{}` {} describe the tool `{}` differently; the lock holds both",
            e.server.escape_debug(),
            e.version.escape_debug(),
            e.tool.escape_debug()
        ));
    }
    if let Some(key) = &key {
        lock.sign(key);
    }
    let text = lock.render();
    let Some(out) = &args.out else { return print(&text) };
    private::open(out, How { existing: Existing::Replace, follow: true })
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|e| Failure::CouldNot(format!("cannot write {}: {e}", out.display())))?;
    let signed = if key.is_some() { ", signed" } else { "" };
    complain(&format!("{} tools locked in {}{signed}", lock.tools.len(), out.display()));
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Report<'r> {
    same: bool,
    signature: &'static str,
    tools: &'r [Row],
}

fn verify(args: &VerifyArgs) -> Result<ExitCode, Failure> {
    let text = read(&args.lock, lock::MAX_FILE)?;
    let locked = Lock::parse(&text)
        .map_err(|e| Failure::CouldNot(format!("{}:{}: {}", args.lock.display(), e.line, e.message)))?;
    let key = args.key.as_deref().map(|path| key_file(path, PublicKey::from_pem)).transpose()?;
    let worth = locked.check(key.as_slice());
    let signature = match (worth, &key) {
        (Worth::Unsigned, _) => "none",
        (Worth::Good, _) => "good",
        (Worth::NoKey, None) => "not checked",
        (Worth::NoKey, Some(_)) => "of another key",
        (Worth::Bad, _) => "bad",
    };
    if key.is_some() && worth != Worth::Good {
        let what = format!("{}: signature: {signature}; expected one of the given key", args.lock.display());
        return Err(Failure::CouldNot(what));
    }
    let seen = Lock::of(&seen(&args.from, args.config.as_deref())?);
    if seen.tools.is_empty() {
        // Nothing seen is nothing removed.
        return Err(Failure::CouldNot(format!("no server was seen to list its tools in {}", args.from)));
    }
    let rows = compare::compare(&locked, &seen);
    let same = compare::all_same(&rows);
    if args.json {
        let report = Report { same, signature, tools: &rows };
        let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
        text.push('\n');
        print(&text)?;
    } else {
        print(&format!("{}signature: {signature}\n", compare::table(&rows)))?;
    }
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn keygen(prefix: &Path) -> Result<ExitCode, Failure> {
    use std::io::Read as _;
    let mut seed = [0; 32];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut f| f.read_exact(&mut seed))
        .map_err(|e| Failure::CouldNot(format!("cannot read /dev/urandom: {e}")))?;
    let key = SigningKey::of(seed);
    let (Some(private), Some(public)) = (key.to_pem(), key.public().to_pem()) else {
        return Err(Failure::CouldNot("the key could not be written as PEM".to_owned()));
    };
    let file = |end: &str| {
        let mut name = prefix.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let (private_file, public_file) = (file(".key"), file(".pub"));
    create(&private_file, &private, 0o600)?;
    create(&public_file, &public, 0o644)?;
    print(&format!("private key  {}\npublic key   {}\n", private_file.display(), public_file.display()))
}

/// Writes a new file. One that exists is somebody's key.
fn create(path: &Path, content: &str, mode: u32) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut f| f.write_all(content.as_bytes()))
        .map_err(|e| Failure::CouldNot(format!("cannot write {}: {e}", path.display())))
}

/// The tools in a file, or of a running agent.
fn seen(from: &str, config: Option<&Path>) -> Result<Vec<ToolView>, Failure> {
    if fetch::is_address(from) {
        return fetch::fetch(from).map_err(Failure::CouldNot);
    }
    let config = load(config)?;
    let replay = Replay {
        input: from.into(),
        config,
        findings: None,
        operations: None,
        to_the_end: true,
        suppressed: false,
        keylog: None,
    };
    let replayed = pipeline::replay(replay)?;
    match replayed.unread {
        Some(unread) => Err(Failure::CouldNot(format!("{from}: not all of it could be read: {unread}"))),
        None => Ok(replayed.tools),
    }
}

fn key_file<K>(path: &Path, parse: impl Fn(&str) -> Result<K, &'static str>) -> Result<K, Failure> {
    let text = read(path, 64 << 10)?;
    parse(&text).map_err(|why| Failure::CouldNot(format!("{}: {why}", path.display())))
}

fn read(path: &Path, limit: u64) -> Result<String, Failure> {
    let bytes = crate::config::read_file(path, limit)
        .map_err(|e| Failure::CouldNot(format!("cannot read {}: {e}", path.display())))?;
    String::from_utf8(bytes).map_err(|_| Failure::CouldNot(format!("{} is no text", path.display())))
}
