//! Hidden commands that `cargo xtask docs` and the dashboards' test use: `schema`, `metrics`.

use std::process::ExitCode;

use super::{Failure, print};

/// Print the JSON schema of the configuration, or of what the agent hands out.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {
    /// Of what: `finding`, `operation`, `services` or `tools`; the configuration if left out.
    of: Option<String>,
    /// Instead this schema of a chart's values, with the configuration's as a part of it.
    #[arg(long, value_name = "FILE", conflicts_with = "of")]
    inside: Option<std::path::PathBuf>,
}

/// Print every metric as JSON.
#[derive(Debug, clap::Args)]
pub(super) struct Metrics {
    /// As the documentation's page instead.
    #[arg(long)]
    markdown: bool,
}

pub(super) fn schema(args: &Schema) -> Result<ExitCode, Failure> {
    if let Some(of) = &args.of {
        return match crate::export::schemas::schema(of) {
            Some(text) => print(&text),
            None => Err(Failure::Usage(format!("there is no schema of `{of}`"))),
        };
    }
    let Some(file) = &args.inside else { return print(&crate::config::schema()) };
    let values =
        std::fs::read_to_string(file).map_err(|e| Failure::CouldNot(format!("cannot read {}: {e}", file.display())))?;
    match crate::config::chart_schema(&values) {
        Some(text) => print(&text),
        None => Err(Failure::CouldNot(format!("{} has no place for it", file.display()))),
    }
}

pub(super) fn metrics(args: &Metrics) -> Result<ExitCode, Failure> {
    print(&if args.markdown { crate::metrics::markdown() } else { crate::metrics::json() })
}
