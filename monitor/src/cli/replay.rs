//! `leasewarden replay`: the same pipeline over a file.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use monitor_core::model::Severity;

use super::{FOUND, Failure, load};
use crate::export::Target;
use crate::pipeline::{self, Replay};

/// Run a packet capture or a recording through the same pipeline.
///
/// Reads .pcap, .pcapng and .lwr files (told apart by their content) and needs no root. The same input gives the same
/// output, byte for byte. A damaged file is read up to the damage, what was found in it is written, and the exit code
/// is 1: what could not be read, nobody can vouch for.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  leasewarden replay incident.lwr
  leasewarden replay capture.pcapng --config tenants.yaml --findings findings.jsonl
  leasewarden replay capture.pcap --operations - | jq .verb
  leasewarden replay capture.pcap --keylog keys.log
  leasewarden replay capture.pcap --fail-on high")]
pub(super) struct Args {
    /// The capture or recording.
    input: PathBuf,
    /// Configuration file (YAML); see docs/configuration.md.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write findings to this file as JSON lines; `-`, the default, is standard output: for people on a terminal, else
    /// JSON lines. (With `--operations -` the default is nowhere.)
    #[arg(long, value_name = "FILE|-")]
    findings: Option<String>,
    /// Write every decoded operation to this file as JSON lines; `-` is standard output.
    #[arg(long, value_name = "FILE|-")]
    operations: Option<String>,
    /// Read TLS with the secrets of this key log (NSS format, as `SSLKEYLOGFILE` has libraries write it).
    #[arg(long, value_name = "FILE")]
    keylog: Option<PathBuf>,
    /// Write findings that a suppression keeps silent, too; they say so in `suppressed`.
    #[arg(long)]
    show_suppressed: bool,
    /// Exit with 3 when a finding of at least this severity was made; with 1 when not all of the input could be read.
    #[arg(long, value_name = "SEVERITY", value_parser = PossibleValuesParser::new(Severity::ALL.map(Severity::name)))]
    fail_on: Option<String>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = load(args.config.as_deref())?;
    let operations = args.operations.as_deref().map(Target::parse);
    let findings = match args.findings.as_deref().map(Target::parse) {
        Some(target) if operations.as_ref() == Some(&target) => {
            return Err(Failure::Usage("--findings and --operations cannot go to the same place".to_owned()));
        }
        Some(target) => Some(target),
        None => (operations != Some(Target::Stdout)).then_some(Target::Stdout),
    };
    let fail_on = args.fail_on.and_then(|name| Severity::ALL.into_iter().find(|s| s.name() == name));
    let name = args.input.display().to_string();
    let (to_the_end, suppressed) = (fail_on.is_some(), args.show_suppressed);
    let replay =
        Replay { input: args.input, config, findings, operations, to_the_end, suppressed, keylog: args.keylog };
    let replayed = pipeline::replay(replay)?;
    let found = fail_on.is_some_and(|limit| replayed.worst.is_some_and(|worst| worst >= limit));
    if let Some(unread) = &replayed.unread {
        let verdict = fail_on.map_or_else(String::new, |limit| verdict(limit, found));
        return Err(Failure::CouldNot(format!("{name}: not all of it could be read: {unread}{verdict}")));
    }
    Ok(if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// What `--fail-on` can say of a file that was not read whole.
fn verdict(limit: Severity, found: bool) -> String {
    let limit = limit.name();
    if found {
        format!(". --fail-on {limit}: there are such findings in what was read")
    } else {
        format!(". --fail-on {limit}: none in what was read, which says nothing of the rest")
    }
}
