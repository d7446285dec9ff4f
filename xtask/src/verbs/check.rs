//! `check`: formatting, lints, tidy, licences. Every part runs, whatever the others say.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::build::bpf_cargo;
use super::setup::{Need, cargo_deny, ensure};
use crate::sh;

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
        // The first process of test machines.
        "--features",
        "tests/vm",
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

/// By cargo-deny and `deny.toml`: licences, sources, doubled versions; known vulnerabilities where the database can be had.
fn dependencies() -> Result<()> {
    let program = cargo_deny().context("no cargo-deny")?;
    let deny = |parts: &[&str]| sh::cmd(&program.to_string_lossy(), ["--all-features", "check"].iter().chain(parts));
    sh::run(&mut deny(&["bans", "licenses", "sources"]))?;
    match sh::quiet(&mut deny(&["advisories"])) {
        Ok(()) => Ok(()),
        // The database is a repository of GitHub's: where that cannot be reached, nothing is said of the dependencies.
        Err(error) if format!("{error:#}").contains("failed to fetch advisory database") => {
            sh::loud("known vulnerabilities are NOT checked: the advisory database cannot be fetched from here");
            Ok(())
        }
        Err(error) => Err(error),
    }
}
