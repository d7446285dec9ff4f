//! `fuzz`: runs the fuzz targets with cargo-fuzz, each for a while.

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::{paths, sh};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One target of `fuzz/`; every one when left out.
    target: Option<String>,
    /// For how long each.
    #[arg(long = "for", default_value = "30s", value_name = "DURATION", value_parser = super::duration)]
    time: std::time::Duration,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let mut targets = targets()?;
    if let Some(wanted) = &args.target {
        if !targets.contains(wanted) {
            bail!("no fuzz target {wanted}; there are {}", targets.join(", "));
        }
        targets.retain(|target| target == wanted);
    }
    if paths::find_program("cargo-fuzz").is_none() {
        bail!("cargo-fuzz is not installed; next: cargo install cargo-fuzz --locked");
    }
    let mut failed = Vec::new();
    for target in &targets {
        sh::step(&format!("fuzzing {target} for {} s", args.time.as_secs()));
        // The sanitizers are unstable options of the compiler.
        let result = sh::run(
            sh::cargo()
                .args(["fuzz", "run", "--fuzz-dir"])
                .arg(paths::root().join("fuzz"))
                .arg(target)
                .arg("--")
                .arg(format!("-max_total_time={}", args.time.as_secs()))
                .env("RUSTC_BOOTSTRAP", "1"),
        );
        if let Err(error) = result {
            eprintln!("{error:#}");
            failed.push(target.as_str());
        }
    }
    if failed.is_empty() {
        println!("fuzz: {} targets, nothing found", targets.len());
        return Ok(ExitCode::SUCCESS);
    }
    println!("fuzz: FAILED: {}; the inputs are in fuzz/artifacts", failed.join(", "));
    Ok(ExitCode::FAILURE)
}

/// The targets: one file each in `fuzz/fuzz_targets`.
fn targets() -> Result<Vec<String>> {
    let dir = paths::root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rs").map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("no targets in fuzz/fuzz_targets");
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fuzzer that begins with nothing finds little: every target is built, and has something to begin with.
    #[test]
    fn every_target_is_declared_and_has_a_corpus() {
        let manifest = std::fs::read_to_string(paths::root().join("fuzz/Cargo.toml")).unwrap();
        for target in targets().unwrap() {
            assert!(manifest.contains(&format!("path = \"fuzz_targets/{target}.rs\"")), "{target} is not declared");
            let corpus = paths::root().join("fuzz/corpus").join(&target);
            let n = std::fs::read_dir(&corpus).map_or(0, Iterator::count);
            assert!(n >= 1, "{target} has no input");
        }
    }
}
