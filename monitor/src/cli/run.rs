//! `leasewarden run`: watch this host.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{Failure, load_and_note, on_terminal};
use crate::config::Read;
use crate::export::Target;
use crate::pipeline::{self, Run, Wanted};

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
    /// With `--record`: also record the secrets of TLS handshakes, so that `replay` reads what was encrypted. Whoever has the
    /// file can.
    #[arg(long, requires = "record")]
    record_tls_secrets: bool,
    /// Log every few seconds why packets were not captured: of sockets that are not watched, no TCP, no payload, not wanted
    /// any more. Loads the probes with what counts that; without, it costs nothing.
    #[arg(long)]
    probe_log: bool,
    /// End by itself after this long, such as `90s` or `10m`.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut read = Read::default();
    let config = load_and_note(args.config.as_deref(), &mut read)?;
    crate::doctor::preflight().map_err(|e| Failure::CouldNot(e.to_string()))?;
    let findings = Wanted { argument: args.findings.as_deref().map(Target::parse), terminal: on_terminal() };
    let (file, record, duration) = (args.config, args.record, args.duration);
    pipeline::run(Run {
        config,
        file,
        read,
        cgroup: args.cgroup,
        findings,
        record,
        record_secrets: args.record_tls_secrets,
        duration,
        explain: args.probe_log,
    })?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_go_where_somebody_wants_them() {
        let file = PathBuf::from("f");
        let f = || Target::File("f".into());
        let targets = |argument: Option<&str>, configured: Option<&PathBuf>, terminal| {
            Wanted { argument: argument.map(Target::parse), terminal }.targets(configured.map(PathBuf::as_path))
        };
        assert_eq!(targets(None, None, false), [Target::Stdout]);
        assert_eq!(targets(None, Some(&file), false), [f()]);
        assert_eq!(targets(None, Some(&file), true), [f(), Target::Stdout]);
        assert_eq!(targets(Some("-"), Some(&file), false), [f(), Target::Stdout]);
        assert_eq!(targets(Some("f"), Some(&file), true), [f()]);
        assert_eq!(targets(Some("g"), None, true), [Target::File("g".into())]);
    }
}
