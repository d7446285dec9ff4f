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
    /// As `cargo xtask test` has built it, not optimised: a tenth of the connections in the same time, and nothing to compile.
    #[arg(long)]
    dev: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    sh::step(&format!("soaking for {} s", args.time.as_secs()));
    let mut command = if args.dev {
        super::test::workspace("test", super::build::probes().ok())
    } else {
        let mut command = sh::cargo();
        command.args(["test", "--release", "--package", "monitor-core"]);
        command
    };
    command.args(["--test", "soak", "--", "--nocapture"]);
    sh::run(command.env("LEASEWARDEN_SOAK", args.time.as_secs().to_string()))?;
    Ok(ExitCode::SUCCESS)
}
