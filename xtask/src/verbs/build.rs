//! `build`: the probes for the BPF target, then the agent with the probes inside.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::{paths, sh};

/// The BPF target of every machine that has the byte order of x86-64 and arm64.
const BPF_TARGET: &str = "bpfel-unknown-none";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it would be installed.
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    super::setup::ensure(super::setup::Need::Build)?;
    let binary = agent(if args.release { Profile::Release } else { Profile::Dev })?;
    println!("{}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// How the agent is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// `target/debug`, shared with `cargo test`.
    Dev,
    /// The same without what a first look on one host does not need: less than half is to be compiled.
    Lean,
    /// `target/release`.
    Release,
}

/// A command for cargo that builds for the BPF target. `RUSTC_BOOTSTRAP` because `-Z build-std` is unstable; it is set
/// for these builds only.
pub(crate) fn bpf_cargo(verb: &str) -> Command {
    let mut command = sh::cargo();
    command
        .arg(verb)
        .args([
            "--release",
            "-Z",
            "build-std=core",
            "--target",
            BPF_TARGET,
            "--package",
            "monitor-ebpf",
            "--target-dir",
        ])
        .arg(paths::target().join("bpf"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", "-C debuginfo=2 -C link-arg=--btf")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(dir) = paths::find_program("bpf-linker").and_then(|p| p.parent().map(PathBuf::from)) {
        // cargo's bin directory is not on everybody's PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let joined = std::env::join_paths(std::env::split_paths(&path).chain([dir])).unwrap_or(path);
        command.env("PATH", joined);
    }
    command
}

/// Builds the probes; gives the object file.
///
/// # Errors
/// When the build fails.
pub(crate) fn probes() -> Result<PathBuf> {
    sh::step("building the probes");
    sh::run(&mut bpf_cargo("build"))?;
    let object = paths::target().join("bpf").join(BPF_TARGET).join("release/leasewarden-probes");
    if !object.exists() {
        bail!("the build made no {}", object.display());
    }
    Ok(object)
}

/// Builds the agent with the real probes inside; gives the binary.
///
/// # Errors
/// When a build fails.
pub(crate) fn agent(profile: Profile) -> Result<PathBuf> {
    let object = probes()?;
    sh::step(match profile {
        Profile::Dev => "building the agent",
        Profile::Lean => "building the agent, without Kubernetes and OTLP",
        Profile::Release => "building the agent (release)",
    });
    let mut command = sh::cargo();
    command.args(["build", "--package", "monitor", "--bin", "leasewarden"]).env("LEASEWARDEN_BPF_OBJECT", &object);
    let dir = match profile {
        Profile::Dev => paths::target().join("debug"),
        Profile::Lean => {
            // For tests that parse much, SQL's parser is optimised, which takes longer than all the rest together.
            command.args(["--no-default-features", "--config", "profile.dev.package.sqlparser.opt-level=0"]);
            paths::target().join("debug")
        }
        Profile::Release => {
            // Only here: every commit would otherwise build the agent again.
            if let Ok(revision) = sh::capture(&mut sh::cmd("git", ["rev-parse", "--short=12", "HEAD"])) {
                command.env("LEASEWARDEN_REVISION", revision.trim());
            }
            command.arg("--release");
            paths::target().join("release")
        }
    };
    sh::run(&mut command)?;
    Ok(dir.join("leasewarden"))
}
