//! `leasewarden check`: validate a configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use super::{Failure, now, print};
use crate::config::Config;

/// Validate a configuration.
///
/// Tells everything that is wrong with it: file, line, column, what was expected, the nearest valid key. Exits with 2
/// if anything is.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  leasewarden check /etc/leasewarden.yaml")]
pub(super) struct Args {
    /// The configuration file (YAML); see docs/configuration.md.
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let config = Config::load(&args.file, now()).map_err(|error| {
        let hint = "\nThe keys are described in docs/configuration.md.";
        Failure::Usage(match &error {
            crate::config::ConfigError::Wrong { problems, .. } => {
                let n = problems.len();
                format!("{n} problem{}\n{error}{hint}", if n == 1 { "" } else { "s" })
            }
            _ => error.to_string(),
        })
    })?;
    let file = args.file.display().to_string();
    for warning in &config.warnings {
        super::complain(&format!("warning: {}", warning.render(&file)));
    }
    print(&format!("{file}: OK\n{}", summary(&config)))
}

/// What the configuration comes to.
fn summary(config: &Config) -> String {
    let s = &config.settings;
    let off = s.rules.iter().filter(|r| !r.enabled).count();
    let listen = config.http.listen.map_or_else(|| "off".to_owned(), |a| a.to_string());
    let tls = if config.http.tls.is_some() { " with TLS" } else { "" };
    let socket = config.http.socket.as_ref().map_or_else(String::new, |s| format!(" and {}", s.display()));
    let findings = config.findings.as_ref().map_or_else(String::new, |f| format!(", findings to {}", f.display()));
    let otlp = config.otlp.as_ref().map_or_else(String::new, |o| format!(", OTLP to {}", o.endpoint));
    format!(
        "  identity  {} static, {} path patterns\n  tenants   {}\n  services  {}\n  rules     {} changed, {off} of them off\n  \
         suppress  {}\n  \
         tokens    {} keys, {} entitlements, {} canaries, {} locked tools\n  limits    {} flows, {} MiB\n  export    http {listen}{tls}{socket}{findings}{otlp}\n",
        config.identity.statics.len(),
        config.identity.patterns.len(),
        s.tenants.len(),
        s.services.len(),
        s.rules.len(),
        s.suppress.len(),
        s.tokens.keys.len(),
        s.entitlements.len(),
        s.canaries.len(),
        s.locks.len(),
        s.limits.flows,
        s.limits.memory >> 20,
    )
}
