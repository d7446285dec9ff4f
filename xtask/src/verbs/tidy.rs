//! `tidy`: the invariants of `ARCHITECTURE.md` that a program can test.

use std::process::ExitCode;

use anyhow::Result;

#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args) -> Result<ExitCode> {
    let report = crate::tidy::check()?;
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    for error in &report.errors {
        println!("error: {error}");
    }
    println!("tidy: {} files, {} errors, {} warnings", report.n_files, report.errors.len(), report.warnings.len());
    Ok(if report.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
