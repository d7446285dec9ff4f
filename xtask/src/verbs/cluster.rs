//! `cluster`: a real Kubernetes node on this machine, with the agent's image and chart on it and two tenants at work; then
//! the API server alone, with pods that come and go by the thousand. Everything ends with it.

mod guest;
mod kubernetes;
mod lab;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::build::Profile;
use super::{charts, image};
use crate::{paths, sh};
use lab::{Kind, Lab};

/// The tag under which the image under test is known to the node alone.
const IMAGE: &str = "leasewarden.io/lab/leasewarden:test";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part: `node` (DaemonSet, tenants, a finding), `api` (churn, labels, absence) or `guest` (the DaemonSet's
    /// pod on cgroup v2 alone); may be repeated.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Use this static agent instead of building one.
    #[arg(long, value_name = "BINARY")]
    agent: Option<PathBuf>,
    /// Leave the node running after the tests until Enter is pressed.
    #[arg(long)]
    hold: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Node,
    Api,
    Guest,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !sh::is_root() {
        bail!("a node needs root: run `sudo -E cargo xtask cluster`");
    }
    let began = Instant::now();
    let programs = kubernetes::ensure()?;
    let binary = match &args.agent {
        Some(binary) => std::path::absolute(binary)?,
        None => image::static_agent(Profile::Dev)?,
    };
    let chosen = |part| args.only.is_empty() || args.only.contains(&part);
    let mut failed = Vec::new();
    for part in [Part::Node, Part::Api, Part::Guest] {
        if !chosen(part) {
            continue;
        }
        let result = match part {
            Part::Node => play(Kind::Node, &programs, &binary, args.hold),
            Part::Api => play(Kind::Api, &programs, &binary, args.hold),
            Part::Guest => guest::play(&programs, &binary, IMAGE),
        };
        if let Err(error) = result {
            eprintln!("\nerror: {error:#}");
            failed.push(format!("{part:?}").to_lowercase());
        }
    }
    println!("\ncluster: {} ({:.0} s)", verdict(&failed), began.elapsed().as_secs_f32());
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(failed: &[String]) -> String {
    if failed.is_empty() { "ok".to_owned() } else { format!("FAILED: {}", failed.join(", ")) }
}

fn play(kind: Kind, programs: &kubernetes::Programs, binary: &std::path::Path, hold: bool) -> Result<()> {
    // Before the node: it may take a while to install.
    let script = charts::script("cluster.py")?;
    sh::step(match kind {
        Kind::Node => "a Kubernetes node",
        Kind::Api => "an API server with its controllers",
    });
    let lab = Lab::prepare(kind, programs)?;
    if kind == Kind::Node {
        image::write(binary, IMAGE, &lab.images().join("leasewarden.tar")).context("cannot pack the agent")?;
    }
    let lab = lab.start()?;
    sh::step(match kind {
        Kind::Node => "the chart, two tenants, a shared pooler, a database",
        Kind::Api => "pods that come and go",
    });
    let result = lab.drive(script, binary);
    if hold && kind == Kind::Node {
        eprintln!("    inside: {}\n    Enter ends it", lab.enter());
        let _ = std::io::stdin().read_line(&mut String::new());
    }
    let ended = lab.end();
    sh::note(&format!("logs in {}", paths::lab().join("cluster").display()));
    result.and(ended)
}
