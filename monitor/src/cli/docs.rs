//! Hidden commands that `cargo xtask docs` and the dashboards' test use: `schema`, `metrics`.

use std::process::ExitCode;

use super::{Failure, print};

/// Print the JSON schema of the configuration.
#[derive(Debug, clap::Args)]
pub(super) struct Schema {}

/// Print every metric as JSON.
#[derive(Debug, clap::Args)]
pub(super) struct Metrics {
    /// As the documentation's page instead.
    #[arg(long)]
    markdown: bool,
}

pub(super) fn schema(_: &Schema) -> Result<ExitCode, Failure> {
    print(&crate::config::schema())
}

pub(super) fn metrics(args: &Metrics) -> Result<ExitCode, Failure> {
    print(&if args.markdown { crate::metrics::markdown() } else { crate::metrics::json() })
}
