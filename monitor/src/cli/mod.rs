//! The command line: one file per command. Results go to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Read};
use crate::export::time::now;
use crate::logging::{self, LogFormat};

mod check;
mod docs;
mod doctor;
mod replay;
mod rules;
mod run;
mod tools;

/// Wrong usage or configuration.
const USAGE: u8 = 2;
/// `replay --fail-on` found something.
const FOUND: u8 = 3;

/// Watches to whom a pool leases its connections.
///
/// One agent per node watches the sockets between tenants' workloads and the services they share, follows what each
/// pooled connection has proved about the tenant it is used for, and reports where one is used for another tenant with
/// nothing on the wire that re-validates it.
#[derive(Debug, Parser)]
#[command(name = "leasewarden", version = crate::about::VERSION, propagate_version = true)]
#[command(after_help = "\
Exit codes: 0 done, 1 could not do it (of a file: not all of it could be read), 2 wrong usage or configuration,
3 `replay --fail-on` found something. `tools verify`, as diff: 0 the same, 1 it differs, 2 it could not be compared.
RUST_LOG chooses what is logged (default `info`); NO_COLOR switches colours off.")]
struct Cli {
    /// How log lines on standard error look.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Replay(replay::Args),
    Doctor(doctor::Args),
    Rules(rules::Args),
    Check(check::Args),
    Tools(tools::Args),
    #[command(hide = true)]
    Schema(docs::Schema),
    #[command(hide = true)]
    Metrics(docs::Metrics),
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// Exit code 1.
    CouldNot(String),
    /// Exit code 2.
    Usage(String),
    /// Exit code 2 of a comparison that could not be made: 1 means that something differs.
    Uncompared(String),
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<crate::pipeline::PipelineError> for Failure {
    fn from(error: crate::pipeline::PipelineError) -> Self {
        Self::CouldNot(error.to_string())
    }
}

/// Parses the command line, does what it says and gives the exit code.
pub fn main() -> ExitCode {
    // Wrong usage exits with 2 in here, help and version with 0.
    let cli = Cli::parse();
    logging::start(cli.log_format);
    // Every command that reads a capture, a recording or the kernel holds payload.
    if let Err(error) = crate::private::close_memory() {
        tracing::warn!("others may read this process's memory: {error}");
    }
    let done = match cli.command {
        Command::Run(args) => run::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Rules(args) => rules::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Tools(args) => tools::run(args),
        Command::Schema(args) => docs::schema(&args),
        Command::Metrics(args) => docs::metrics(&args),
    };
    match done {
        Ok(code) => code,
        Err(Failure::CouldNot(message)) => {
            complain(&message);
            ExitCode::FAILURE
        }
        Err(Failure::Usage(message) | Failure::Uncompared(message)) => {
            complain(&message);
            ExitCode::from(USAGE)
        }
    }
}

fn complain(message: &str) {
    // Where even standard error is closed, the exit code has to do.
    let _ = writeln!(io::stderr(), "leasewarden: {message}");
}

/// Writes a result to standard output. A reader that has gone ends the command quietly.
fn print(text: &str) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(e) => Err(Failure::CouldNot(format!("cannot write to standard output: {e}"))),
    }
}

/// The configuration file, or the embedded default. Warnings go to the log.
fn load(path: Option<&Path>) -> Result<Config, Failure> {
    load_and_note(path, &mut Read::default())
}

/// The same; notes what was read.
fn load_and_note(path: Option<&Path>, read: &mut Read) -> Result<Config, Failure> {
    let Some(path) = path else { return Ok(Config::default()) };
    let config = Config::load_and_note(path, now(), read)?;
    for warning in &config.warnings {
        tracing::warn!("{}", warning.render(&path.display().to_string()));
    }
    Ok(config)
}

/// Whether standard output is a terminal, that is, whether somebody reads along.
fn on_terminal() -> bool {
    io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
