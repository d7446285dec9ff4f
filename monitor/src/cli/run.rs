//! `leasewarden run`: watch this host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, load, on_terminal};
use crate::export::Target;
use crate::pipeline::{self, Run};

/// Watch this host, or only what lives below one cgroup.
///
/// Without --config the embedded default applies: every container and cgroup that it can name, every protocol that it
/// can decode. Needs root, or the capabilities that `leasewarden doctor` lists.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  leasewarden run
  leasewarden run --config /etc/leasewarden.yaml --findings /var/log/leasewarden/findings.jsonl
  leasewarden run --cgroup /shared/gateway --for 10m --record incident.lwr")]
pub(super) struct Args {
    /// Configuration file (YAML); see docs/configuration.md.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Watch only what lives below this cgroup: a path below the cgroup v2 root, or a directory.
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Append findings to this file as JSON lines; `-` is standard output: for people on a terminal, else JSON lines.
    /// Default: `export.findings`, and standard output if there is none or it is a terminal.
    #[arg(long, value_name = "FILE|-")]
    findings: Option<String>,
    /// Record every event to this file for `replay`. It will hold payload.
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// End by itself after this long, such as `90s` or `10m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let config = load(args.config.as_deref())?;
    crate::doctor::preflight().map_err(|e| Failure::CouldNot(e.to_string()))?;
    let findings = targets(args.findings.as_deref(), config.findings.clone(), on_terminal());
    let run = Run { config, cgroup: args.cgroup, findings, record: args.record, duration: args.duration };
    pipeline::run(run)?;
    Ok(ExitCode::SUCCESS)
}

/// Where findings go: the configured file always, beside it what the command line or the terminal asks for.
fn targets(argument: Option<&str>, configured: Option<PathBuf>, terminal: bool) -> Vec<Target> {
    let configured = configured.map(Target::File);
    let direct = match argument {
        Some(text) => Some(Target::parse(text)),
        None if terminal || configured.is_none() => Some(Target::Stdout),
        None => None,
    };
    let configured = configured.filter(|c| direct.as_ref() != Some(c));
    configured.into_iter().chain(direct).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_go_where_somebody_wants_them() {
        let file = || Some(PathBuf::from("f"));
        let f = || Target::File("f".into());
        assert_eq!(targets(None, None, false), [Target::Stdout]);
        assert_eq!(targets(None, file(), false), [f()]);
        assert_eq!(targets(None, file(), true), [f(), Target::Stdout]);
        assert_eq!(targets(Some("-"), file(), false), [f(), Target::Stdout]);
        assert_eq!(targets(Some("f"), file(), true), [f()]);
        assert_eq!(targets(Some("g"), None, true), [Target::File("g".into())]);
    }
}
