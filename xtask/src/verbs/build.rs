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
        .env("RUSTFLAGS", format!("-C debuginfo=2 -C link-arg=--btf {}", without_paths()))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    if let Some(dir) = paths::find_program("bpf-linker").and_then(|p| p.parent().map(PathBuf::from)) {
        // cargo's bin directory is not on everybody's PATH.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let joined = std::env::join_paths(std::env::split_paths(&path).chain([dir])).unwrap_or(path);
        command.env("PATH", joined);
    }
    command
}

/// Flags without which a build holds this machine's paths, in messages of panics and in the probes' type information: the
/// same source and compiler give the same bytes elsewhere. The last that fits counts, so the narrower ones come later.
pub(crate) fn without_paths() -> String {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    // With the component rust-src there, the standard library's own paths are the local ones.
    let sysroot = sh::capture(&mut sh::cmd("rustc", ["--print", "sysroot"])).map(|s| PathBuf::from(s.trim())).ok();
    let library = sysroot.map(|s| s.join("lib/rustlib/src/rust"));
    // Where that is a link, the compiler follows it.
    let followed = library.as_ref().and_then(|l| l.canonicalize().ok()).filter(|real| Some(real) != library.as_ref());
    [
        (Some(paths::root()), "/leasewarden"),
        (Some(paths::target()), "/leasewarden/target"),
        (home, "/cargo"),
        (library, "/rust"),
        (followed, "/rust"),
    ]
    .into_iter()
    .filter_map(|(from, to)| Some(format!("--remap-path-prefix={}={to}", from?.display())))
    .collect::<Vec<_>>()
    .join(" ")
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

/// The target of 64-bit ARM, and what links and assembles for it.
const ARM64: (&str, &str) = ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu-gcc");

/// Builds the agent and the first process of a test machine for 64-bit ARM, static; gives both. The probes inside are those
/// of every machine. `given`: this agent instead.
///
/// # Errors
/// When a build fails.
pub(crate) fn arm64(given: Option<&std::path::Path>) -> Result<(PathBuf, PathBuf)> {
    let object = probes()?;
    let (target, gcc) = ARM64;
    let build = |package: &str, program: &str, features: &[&str]| -> Result<PathBuf> {
        sh::step(&format!("building {program} for 64-bit ARM"));
        let mut command = sh::cargo();
        command
            .args(["build", "--package", package, "--bin", program, "--target", target])
            .args(features)
            .env("LEASEWARDEN_BPF_OBJECT", &object)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", gcc)
            .env("CC_aarch64_unknown_linux_gnu", gcc)
            .env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
            .env_remove("RUSTFLAGS");
        sh::run(&mut command)?;
        Ok(paths::target().join(target).join("debug").join(program))
    };
    let lean = ["--no-default-features", "--config", "profile.dev.package.sqlparser.opt-level=0"];
    let agent = match given {
        Some(binary) => binary.to_owned(),
        None => build("monitor", "leasewarden", &lean)?,
    };
    Ok((agent, build("tests", "vm-init", &["--features", "vm"])?))
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
