//! `docs`: regenerates the documents that come from the binary, or checks that they are current.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use super::build::{Profile, agent};
use super::setup::{Need, ensure};
use crate::{paths, sh};

/// The schema of the chart's values, of which the configuration's is a part.
const VALUES: &str = "deploy/helm/leasewarden/values.schema.json";
/// Each document and the hidden command of the binary that prints it.
const DOCUMENTS: &[(&str, &[&str])] = &[
    ("docs/config.schema.json", &["schema"]),
    (VALUES, &["schema", "--inside", VALUES]),
    ("docs/metrics.md", &["metrics", "--markdown"]),
    ("docs/rules.md", &["rules", "--markdown"]),
    ("docs/schemas/finding.schema.json", &["schema", "finding"]),
    ("docs/schemas/operation.schema.json", &["schema", "operation"]),
    ("docs/schemas/services.schema.json", &["schema", "services"]),
    ("docs/schemas/tools.schema.json", &["schema", "tools"]),
];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing; exit 1 when a committed document is not current.
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    ensure(Need::Build)?;
    let binary = agent(Profile::Dev)?;
    let mut stale = 0;
    for (path, command) in DOCUMENTS {
        let generated = sh::capture(Command::new(&binary).args(*command).current_dir(paths::root()))?;
        let file = paths::root().join(path);
        if fs::read_to_string(&file).is_ok_and(|committed| committed == generated) {
            println!("{path}: current");
        } else if args.check {
            stale += 1;
            println!("{path}: NOT CURRENT; next: cargo xtask docs");
        } else {
            write(&file, &generated)?;
            println!("{path}: written");
        }
    }
    Ok(if stale == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
