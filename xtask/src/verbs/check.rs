//! `check`: formatting, lints, tidy, licences. Every part runs, whatever the others say.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};

use super::build::bpf_cargo;
use super::setup::{Need, ensure};
use crate::{licences, paths, sh};

#[derive(clap::Args)]
pub(crate) struct Args {}

type Part = (&'static str, fn() -> Result<()>);

const PARTS: &[Part] = &[
    ("formatting", formatting),
    ("lints", lints),
    ("lints of the probes", probe_lints),
    ("tidy", tidy),
    ("dependencies", dependencies),
];

pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    ensure(Need::Test)?;
    let mut summary = Vec::new();
    let mut failed = false;
    for (name, part) in PARTS {
        sh::step(name);
        let began = Instant::now();
        let result = part();
        failed |= result.is_err();
        if let Err(error) = &result {
            eprintln!("{error:#}");
        }
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        summary.push(format!("{name:<24} {word} ({:.0} s)", began.elapsed().as_secs_f32()));
    }
    println!("\ncheck:\n  {}", summary.join("\n  "));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn formatting() -> Result<()> {
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))
}

fn lints() -> Result<()> {
    sh::run(sh::cargo().args([
        "clippy",
        "--workspace",
        "--exclude",
        "monitor-ebpf",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]))
}

fn probe_lints() -> Result<()> {
    sh::run(bpf_cargo("clippy").args(["--", "-D", "warnings"]))
}

fn tidy() -> Result<()> {
    let report = crate::tidy::check()?;
    for warning in &report.warnings {
        eprintln!("warning: {warning}");
    }
    if !report.errors.is_empty() {
        bail!("{}", report.errors.join("\n"));
    }
    Ok(())
}

fn dependencies() -> Result<()> {
    if paths::find_program("cargo-deny").is_some() {
        return sh::run(sh::cargo().args(["deny", "--all-features", "check", "bans", "licenses", "sources"]));
    }
    sh::note("cargo-deny is not installed: licences, sources and doubled versions are checked here, by deny.toml;");
    sh::note("known vulnerabilities are NOT checked (`cargo install cargo-deny --locked`, then `cargo deny check`)");
    let problems = licences::problems()?;
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Ok(())
}
