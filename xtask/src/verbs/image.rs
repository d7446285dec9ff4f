//! `image`: the agent as a container image: one static binary, no shell, no registry and no daemon needed to make it.

mod archive;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use super::build::{Profile, probes};
use crate::{paths, sh};
pub(crate) use archive::{Entry, Image, Tar};

/// Where the chart looks by default.
const REPOSITORY: &str = "ghcr.io/leasewarden/leasewarden";
/// What goes with the binary wherever it goes.
pub(crate) const LICENCES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-GPL-2.0", "LICENSE-MIT"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The archive to write; default: `target/leasewarden-image.tar`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Name and tag of the image; default: the chart's.
    #[arg(long, value_name = "NAME:TAG")]
    name: Option<String>,
    /// Use this static binary instead of building one.
    #[arg(long, value_name = "BINARY")]
    agent: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let binary = match &args.agent {
        Some(binary) => binary.clone(),
        None => {
            super::setup::ensure(super::setup::Need::Build)?;
            static_agent(Profile::Release)?
        }
    };
    let out = args.out.clone().unwrap_or_else(|| paths::target().join("leasewarden-image.tar"));
    let name = args.name.clone().unwrap_or_else(default_name);
    let digest = write(&binary, &name, &out)?;
    let size = fs::metadata(&out)?.len();
    println!("{}\n  {name}\n  {digest}, {:.1} MB", out.display(), size as f64 / 1e6);
    println!("next: `ctr -n k8s.io images import`, `docker load -i` or `podman load -i` this file");
    Ok(ExitCode::SUCCESS)
}

/// The name by which the chart of this version asks for the image.
pub(crate) fn default_name() -> String {
    format!("{REPOSITORY}:{}", env!("CARGO_PKG_VERSION"))
}

/// Builds the agent without shared libraries.
///
/// # Errors
/// When a build fails, or what it made is not static.
pub(crate) fn static_agent(profile: Profile) -> Result<PathBuf> {
    let object = probes()?;
    sh::step("building the agent, static");
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let dir = paths::target().join("static");
    let mut command = sh::cargo();
    command
        .args(["build", "--package", "monitor", "--bin", "leasewarden", "--target", &target, "--target-dir"])
        .arg(&dir)
        .env("LEASEWARDEN_BPF_OBJECT", &object)
        .env("RUSTFLAGS", rust_flags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let folder = match profile {
        Profile::Dev | Profile::Lean => "debug",
        Profile::Release => {
            if let Ok(revision) = git(&["rev-parse", "--short=12", "HEAD"]) {
                command.env("LEASEWARDEN_REVISION", revision);
            }
            command.arg("--release");
            "release"
        }
    };
    sh::run(&mut command)?;
    Ok(dir.join(target).join(folder).join("leasewarden"))
}

/// Static, and without this machine's paths.
fn rust_flags() -> String {
    format!("-C target-feature=+crt-static {}", super::build::without_paths())
}

/// Packs a static agent; gives the image's digest.
///
/// # Errors
/// When the binary is not static, or a file cannot be read or written.
pub(crate) fn write(binary: &Path, name: &str, out: &Path) -> Result<String> {
    if let Some(parent) = out.parent() {
        fs::create_dir_all(parent)?;
    }
    let stripped = out.with_extension("stripped");
    strip(binary, &stripped)?;
    let mut entries = vec![Entry::program("leasewarden", &stripped)?];
    for licence in LICENCES {
        entries.push(Entry::file(&format!("licenses/{licence}"), &paths::root().join(licence))?);
    }
    fs::remove_file(&stripped)?;
    let version = env!("CARGO_PKG_VERSION");
    let mut labels = vec![
        ("org.opencontainers.image.title", "leasewarden".to_owned()),
        ("org.opencontainers.image.description", "Finds cross-tenant reuse of pooled connections, by eBPF".to_owned()),
        ("org.opencontainers.image.source", env!("CARGO_PKG_REPOSITORY").to_owned()),
        ("org.opencontainers.image.licenses", "(MIT OR Apache-2.0) AND GPL-2.0-only".to_owned()),
        ("org.opencontainers.image.version", version.to_owned()),
    ];
    if let Ok(revision) = git(&["rev-parse", "HEAD"]) {
        labels.push(("org.opencontainers.image.revision", revision));
    }
    let image = Image {
        name: name.to_owned(),
        entrypoint: vec!["/leasewarden".to_owned()],
        command: vec!["run".to_owned()],
        labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
        created: created(),
        entries,
    };
    let file = fs::File::create(out).with_context(|| format!("cannot write {}", out.display()))?;
    image.write(std::io::BufWriter::new(file)).with_context(|| format!("cannot write {}", out.display()))
}

/// A copy without symbols, of a binary that is static.
///
/// # Errors
/// When it is not static, or the copy cannot be made.
pub(crate) fn strip(binary: &Path, to: &Path) -> Result<()> {
    require_static(binary)?;
    sh::quiet(Command::new("strip").arg("-o").arg(to).arg(binary))
}

/// The time that everything bears (RFC 3339): `SOURCE_DATE_EPOCH` (reproducible-builds.org), else the commit's. Never this
/// moment's: building again gives the same bytes.
pub(crate) fn created() -> String {
    let given =
        std::env::var("SOURCE_DATE_EPOCH").ok().filter(|s| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit()));
    let time = match given {
        Some(seconds) => sh::capture(
            sh::cmd("date", ["--utc", "--date", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).env("TZ", "UTC"),
        ),
        None => git(&["show", "-s", "--format=%cd", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "HEAD"]),
    };
    time.map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |t| t.trim().to_owned())
}

fn git(args: &[&str]) -> Result<String> {
    Ok(sh::capture(sh::cmd("git", args).env("TZ", "UTC"))?.trim().to_owned())
}

/// A program that asks for a loader would not start in an image without one.
fn require_static(binary: &Path) -> Result<()> {
    let headers = sh::capture(Command::new("readelf").args(["-lW"]).arg(binary).env("LC_ALL", "C"))?;
    if headers.lines().any(|line| line.trim_start().starts_with("INTERP")) {
        bail!("{} needs shared libraries: the image wants a static binary", binary.display());
    }
    Ok(())
}
