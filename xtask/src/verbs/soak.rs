//! `soak`: floods, held connections, mixed conversations and faults for as long as is asked for; memory must stay flat.
//!
//! The whole core under an allocator that counts (`monitor-core/tests/soak.rs`): connections by the hundred thousand,
//! 50,000 of them held, losses, clocks that stand still, containers that come and go.

use std::process::ExitCode;

use anyhow::Result;

use crate::sh;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// For how long.
    #[arg(long = "for", default_value = "2m", value_name = "DURATION", value_parser = super::duration)]
    time: std::time::Duration,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    sh::step(&format!("soaking for {} s", args.time.as_secs()));
    sh::run(
        sh::cargo()
            .args(["test", "--release", "--package", "monitor-core", "--test", "soak", "--", "--nocapture"])
            .env("LEASEWARDEN_SOAK", args.time.as_secs().to_string()),
    )?;
    Ok(ExitCode::SUCCESS)
}
