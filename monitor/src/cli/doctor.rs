//! `leasewarden doctor`: what this host allows.

use std::process::ExitCode;

use super::Failure;

/// Say what this kernel, cgroup layout, privileges and TLS libraries allow.
///
/// Hook by hook, with what is lost without each. Exits with 0 when `run` would work, with 1 when not.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  leasewarden doctor
  leasewarden doctor --json | jq '.checks[] | select(.state != \"ok\")'")]
pub(super) struct Args {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    Ok(crate::doctor::run(args.json))
}
