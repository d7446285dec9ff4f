//! `run`: builds the agent and becomes it.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::build::{Profile, agent};
use super::setup::{Need, ensure};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it would be installed.
    #[arg(long)]
    release: bool,
    /// What `leasewarden run` is given.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure(Need::Build)?;
    let binary = agent(if args.release { Profile::Release } else { Profile::Dev })?;
    let error = Command::new(&binary).arg("run").args(&args.args).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}
