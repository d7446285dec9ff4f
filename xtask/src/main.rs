//! `cargo xtask VERB`: everything that is done to this repository, one file per verb under `verbs/`.

mod apt;
mod cpio;
mod kernels;
mod paths;
mod sbom;
mod sh;
mod tidy;
mod verbs;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, builds, tests, shows and measures leasewarden.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what `demo` and `test` need (safe to repeat); needs root for packages.
    Setup(verbs::setup::Args),
    /// Build the probes and the agent with the probes inside.
    Build(verbs::build::Args),
    /// Build, then `leasewarden run ARGS`.
    Run(verbs::run::Args),
    /// Show the agent catching a real PgBouncer, and a shared service, that mix two tenants.
    Demo(verbs::demo::Args),
    /// Run every test: unit, golden, scenarios with real services, five kernels.
    Test(verbs::test::Args),
    /// The agent as a container image, made without a daemon.
    Image(verbs::image::Args),
    /// Test the Helm chart and the manifests with the real engine; no cluster needed.
    Charts(verbs::charts::Args),
    /// Write dashboards, alerts and rules with your own runbooks, or draw the dashboards as pictures.
    Dashboards(verbs::dashboards::Args),
    /// Test the whole of it on a real Kubernetes node, built once and started here.
    Cluster(verbs::cluster::Args),
    /// Everything a release consists of: program, image, chart, manifests, checksums.
    Dist(verbs::dist::Args),
    /// Formatting, lints, tidy, licences.
    Check(verbs::check::Args),
    /// The invariants of ARCHITECTURE.md that a program can test.
    Tidy(verbs::tidy::Args),
    /// Boot real kernels in QEMU with the agent inside.
    Vm(verbs::vm::Args),
    /// Play every shared service and compare what the agent says with what the services know.
    Accuracy(verbs::accuracy::Args),
    /// Measure what the agent costs, as ratios within one run.
    Bench(verbs::bench::Args),
    /// Regenerate the documents that come from the binary.
    Docs(verbs::docs::Args),
    /// Mixed load with faults for a long time: memory must stay flat.
    Soak(verbs::soak::Args),
    /// Run the fuzz targets.
    Fuzz(verbs::fuzz::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => verbs::setup::run(&args),
        Verb::Build(args) => verbs::build::run(&args),
        Verb::Run(args) => verbs::run::run(&args),
        Verb::Demo(args) => verbs::demo::run(&args),
        Verb::Test(args) => verbs::test::run(&args),
        Verb::Image(args) => verbs::image::run(&args),
        Verb::Charts(args) => verbs::charts::run(&args),
        Verb::Dashboards(args) => verbs::dashboards::run(&args),
        Verb::Cluster(args) => verbs::cluster::run(&args),
        Verb::Dist(args) => verbs::dist::run(&args),
        Verb::Check(args) => verbs::check::run(&args),
        Verb::Tidy(args) => verbs::tidy::run(&args),
        Verb::Vm(args) => verbs::vm::run(&args),
        Verb::Accuracy(args) => verbs::accuracy::run(&args),
        Verb::Bench(args) => verbs::bench::run(&args),
        Verb::Docs(args) => verbs::docs::run(&args),
        Verb::Soak(args) => verbs::soak::run(&args),
        Verb::Fuzz(args) => verbs::fuzz::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}
