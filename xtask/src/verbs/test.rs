//! `test`: every test there is, in stages. A stage that fails hides none of the others.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::build::{Profile, agent, probes};
use super::setup::{Need, ensure, venv};
use super::{charts, dashboards};
use crate::{paths, sh};

/// The stages, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Stage {
    /// Install what is missing.
    Setup,
    /// The probes and the agent.
    Build,
    /// Unit and golden tests: `cargo test`.
    Unit,
    /// The Helm chart and the manifests by the real engine; alerts and recording rules by promtool.
    Charts,
    /// Real services, the live agent (root).
    Scenarios,
    /// Five kernels in QEMU.
    Vm,
}

const ALL: [Stage; 6] = [Stage::Setup, Stage::Build, Stage::Unit, Stage::Charts, Stage::Scenarios, Stage::Vm];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this stage; may be repeated.
    #[arg(long, value_name = "STAGE")]
    only: Vec<Stage>,
    /// Leave this stage out; may be repeated.
    #[arg(long, value_name = "STAGE")]
    skip: Vec<Stage>,
    /// Only the tests whose name has this in it (stages `unit` and `scenarios`).
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    let chosen = |stage: &Stage| (args.only.is_empty() || args.only.contains(stage)) && !args.skip.contains(stage);
    let mut summary = Vec::new();
    let mut failed = false;
    let mut built = None;
    for stage in ALL {
        let name = format!("{stage:?}").to_lowercase();
        if !chosen(&stage) {
            summary.push(format!("{name:<10} NOT RUN"));
            continue;
        }
        if let Some(reason) = cannot(stage) {
            sh::loud(&format!("{name}: NOT RUN, {reason}"));
            summary.push(format!("{name:<10} NOT RUN: {reason}"));
            continue;
        }
        eprintln!("\n======== {name} ========");
        let began = Instant::now();
        let result = match stage {
            Stage::Setup => ensure(Need::Test),
            Stage::Build => build(chosen(&Stage::Unit) && chosen(&Stage::Scenarios)).map(|binary| built = Some(binary)),
            Stage::Unit => unit(args.filter.as_deref()),
            Stage::Charts => charts::test().and_then(|()| dashboards::test()),
            Stage::Scenarios => scenarios(built.take(), args.filter.as_deref()),
            Stage::Vm => kernels(),
        };
        failed |= result.is_err();
        let seconds = began.elapsed().as_secs_f32();
        match result {
            Ok(()) => summary.push(format!("{name:<10} ok ({seconds:.0} s)")),
            Err(error) => {
                eprintln!("\nerror: {error:#}");
                let first = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
                summary.push(format!("{name:<10} FAILED ({seconds:.0} s): {first}"));
            }
        }
    }
    println!("\ntest:\n  {}", summary.join("\n  "));
    let left_out: Vec<String> = ALL.iter().filter(|s| !chosen(s)).map(|s| format!("{s:?}").to_lowercase()).collect();
    if !left_out.is_empty() {
        sh::loud(&format!("NOT RUN, as asked: {}. This says nothing about them.", left_out.join(", ")));
    }
    sh::note("`cargo xtask cluster` tests on a real Kubernetes node; it is a verb of its own, as it first builds one");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Why this machine cannot run a stage whatever is installed; `None` when it can.
fn cannot(stage: Stage) -> Option<String> {
    match stage {
        Stage::Charts => charts::cannot(),
        _ => None,
    }
}

fn kernels() -> Result<()> {
    match super::vm::matrix(&super::vm::Args::default())? {
        0 => Ok(()),
        n => bail!("{n} kernels failed"),
    }
}

/// Builds the agent and puts a copy aside: `cargo test` may link another one in its place. `with_tests`: together with all
/// tests, as dependencies have other features when those are built, too, and would be compiled twice.
fn build(with_tests: bool) -> Result<PathBuf> {
    let binary = if with_tests {
        let object = probes()?;
        sh::step("building the agent and all tests");
        sh::run(workspace("build", Some(object)).args(["--bins", "--tests", "--examples"]))?;
        paths::target().join("debug/leasewarden")
    } else {
        agent(Profile::Dev)?
    };
    let aside = paths::lab().join("leasewarden");
    std::fs::create_dir_all(paths::lab())?;
    let _ = std::fs::remove_file(&aside);
    std::fs::copy(&binary, &aside).with_context(|| format!("cannot copy to {}", aside.display()))?;
    Ok(aside)
}

/// A command of cargo's for all packages that are built for this machine, with the real probes inside when they can be
/// built. Every stage chooses the same packages: the features of their dependencies, and so what has to be compiled, go by
/// that choice.
pub(super) fn workspace(verb: &str, probes: Option<PathBuf>) -> Command {
    let mut command = sh::cargo();
    command.args([verb, "--workspace", "--exclude", "monitor-ebpf"]);
    if let Some(object) = probes {
        command.env("LEASEWARDEN_BPF_OBJECT", object);
    }
    command
}

/// The targets in a package's folder `tests`, by name.
fn targets(package: &str) -> Result<Vec<String>> {
    let dir = paths::root().join(package).join("tests");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&dir).into_iter().flatten() {
        let path = entry.with_context(|| format!("cannot read {}", dir.display()))?.path();
        let is_target = path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists();
        if let Some(name) = path.file_stem().filter(|_| is_target) {
            names.push(name.to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn unit(filter: Option<&str>) -> Result<()> {
    let mut command = workspace("test", probes().ok());
    command.args(["--no-fail-fast", "--lib", "--bins"]);
    for package in ["monitor", "monitor-common", "monitor-core", "xtask"] {
        command.args(targets(package)?.iter().flat_map(|name| ["--test", name]));
    }
    sh::run(command.args(filter))
}

fn scenarios(built: Option<PathBuf>, filter: Option<&str>) -> Result<()> {
    if !sh::is_root() {
        bail!("the scenarios need root: run `sudo -E cargo xtask test`");
    }
    let binary = match built {
        Some(binary) => binary,
        None => build(false)?,
    };
    let object = probes().ok();
    // Services of the lab that are written in Rust.
    sh::run(workspace("build", object.clone()).arg("--examples"))?;
    let mut command = workspace("test", object);
    command.arg("--no-fail-fast").args(targets("tests")?.iter().flat_map(|name| ["--test", name]));
    command.args(["--", "--test-threads=4"]).args(filter);
    command.env(tests::lab::agent::BINARY, &binary).env("LEASEWARDEN_PYTHON", venv().join("bin/python"));
    sh::run(&mut command)
}
