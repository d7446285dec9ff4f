//! `accuracy`: plays every shared service there is, at every concurrency, and compares what the agent says with what
//! the services know. What it says of each operation comes from a replay of its own recording. Then every shared queue, and
//! every MCP server.

mod mcp;
mod queues;
mod recipes;
mod tables;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use ::tests::lab::cases::{CASES, Case, Judged};
use ::tests::lab::service::{Program, versions};
use ::tests::lab::shared::{Played, Stage};
use ::tests::lab::truth::{Counts, TABLES, Tally};
use anyhow::{Context, Result, bail};

use super::build::{Profile, agent};
use super::setup::{Need, ensure};
use crate::{paths, sh};

/// Requests in flight.
const CONCURRENCIES: [u32; 3] = [1, 16, 32];
/// The bases that can be switched off, by their names in configuration and in operations.
const SWITCHABLE: [&str; 6] = ["trace-id", "bracketed", "value-flow", "same-thread", "succession", "only-tenant"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One violating and one clean case of each scenario, with 1 and 16 requests in flight; writes no document.
    #[arg(long)]
    quick: bool,
    /// Only the cases whose name has this in it; writes no document.
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// Only with so many requests in flight; may be repeated; writes no document.
    #[arg(long, value_name = "N")]
    in_flight: Vec<u32>,
    /// Print JSON instead of tables.
    #[arg(long)]
    json: bool,
    /// Measure this agent instead of building one; writes no document.
    #[arg(long, value_name = "FILE")]
    agent: Option<PathBuf>,
    /// Leave the recordings where they are, below `target/lab/scenes`.
    #[arg(long)]
    keep: bool,
}

/// What one case at one concurrency came to.
struct Row {
    case: &'static Case,
    concurrency: u32,
    measured: Result<Measured, String>,
}

struct Measured {
    judged: Judged,
    /// Demanded or allowed findings that were made, by evidence class.
    classes: BTreeMap<String, usize>,
    tally: Tally,
    /// What each basis says when it is the only one of its kind.
    alone: BTreeMap<&'static str, Counts>,
    /// Events that the agent lost.
    lost: f64,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !sh::is_root() {
        bail!("the matrix needs root for cgroups and probes: run `sudo -E cargo xtask accuracy`");
    }
    ensure(Need::Queues)?;
    let binary = match &args.agent {
        Some(file) => file.clone(),
        None => agent(Profile::Dev)?,
    };
    let chosen = chosen(args);
    if chosen.iter().any(|case| case.program == Program::Tokio) {
        sh::step("building the lab's tokio service");
        sh::run(sh::cargo().args(["build", "--quiet", "--package", "tests", "--example", "service_tokio"]))?;
    }
    let concurrencies = match &args.in_flight {
        some if !some.is_empty() => some.clone(),
        _ if args.quick => vec![1, 16],
        _ => CONCURRENCIES.to_vec(),
    };
    let configs = Configs::write()?;
    let n = chosen.len() * concurrencies.len();
    let mut rows: Vec<Row> = Vec::new();
    for case in chosen {
        for &concurrency in &concurrencies {
            let measured =
                measure(case, concurrency, &binary, &configs, args.keep).map_err(|error| format!("{error:#}"));
            sh::note(&format!("{:>3} of {n}  {}", rows.len() + 1, progress(case, concurrency, &measured)));
            rows.push(Row { case, concurrency, measured });
        }
    }
    // With how many jobs in flight each is played, is each case's own.
    let queued =
        if args.in_flight.is_empty() { queues::measure(&binary, args.case.as_deref(), args.quick) } else { Vec::new() };
    let called =
        if args.in_flight.is_empty() { mcp::measure(&binary, args.case.as_deref(), args.quick) } else { Vec::new() };
    let built = recipes::measure(&binary, args.case.as_deref(), &args.in_flight, args.quick, args.keep);
    let whole = !args.quick && args.case.is_none() && args.in_flight.is_empty() && args.agent.is_none();
    if args.json {
        let all = tables::json(&rows).into_iter().chain(recipes::json(&built)).chain(queues::json(&queued));
        let all: Vec<_> = all.chain(mcp::json(&called)).collect();
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        let tables = if rows.is_empty() { String::new() } else { tables::markdown(&rows) };
        println!("{tables}{}{}{}", recipes::markdown(&built), queues::markdown(&queued), mcp::markdown(&called));
    }
    if whole {
        let file = paths::root().join("docs/accuracy.md");
        let others = recipes::markdown(&built) + &queues::markdown(&queued) + &mcp::markdown(&called);
        let date = sh::capture(&mut sh::cmd("date", ["-u", "+%F"]))?;
        fs::write(&file, tables::document(&rows, &others, date.trim(), &all_versions(&binary)?))
            .with_context(|| format!("cannot write {}", file.display()))?;
        sh::step("docs/accuracy.md is written");
    }
    let failed =
        rows.iter().filter(|row| row.measured.is_err()).count() + queues::n_failed(&queued) + mcp::n_failed(&called);
    let failed = failed + recipes::n_failed(&built);
    let n = n + built.len() + queued.len() + called.len();
    if failed > 0 {
        sh::loud(&format!("{failed} of {n} could not be played: they are in the table as such"));
    }
    Ok(if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// With `--quick`, the first violating and the first clean case of each scenario.
fn chosen(args: &Args) -> Vec<&'static Case> {
    let mut seen = Vec::new();
    CASES
        .iter()
        .filter(|case| args.case.as_ref().is_none_or(|part| case.name.contains(part)))
        .filter(|case| {
            let kind = (case.scenario, case.twin.name());
            let first = !seen.contains(&kind);
            seen.push(kind);
            first || !args.quick
        })
        .collect()
}

fn progress(case: &Case, concurrency: u32, measured: &Result<Measured, String>) -> String {
    let what = match measured {
        Err(error) => format!("FAILED: {error}"),
        Ok(m) => {
            let sum = m.tally.sum(|_| true);
            format!(
                "found {} of {}, {} false; operations {} right, {} wrong, {} open{}",
                m.judged.n_found,
                m.judged.n_found + m.judged.missed.len(),
                m.judged.false_positives.len(),
                sum.right,
                sum.wrong,
                m.tally.abstained,
                if m.tally.unseen + m.tally.unknown > 0 {
                    format!(" ({} unseen, {} unknown)", m.tally.unseen, m.tally.unknown)
                } else {
                    String::new()
                }
            )
        }
    };
    format!("{:<34} {concurrency:>2}  {what}", case.name)
}

fn measure(case: &'static Case, concurrency: u32, binary: &Path, configs: &Configs, keep: bool) -> Result<Measured> {
    let mut stage = Stage::new(case, concurrency, &format!("accuracy-{}-{concurrency}", case.name))?;
    let played = stage.play(binary, true)?;
    let recording = played.recording.as_deref().context("it was to be recorded")?;
    let tally = tally(case, &played, &replay(binary, recording, &configs.all)?)?;
    let mut alone = BTreeMap::new();
    for (basis, config) in &configs.alone {
        let one = self::tally(case, &played, &replay(binary, recording, config)?)?;
        alone.insert(*basis, one.sum(|b| b == *basis));
    }
    let judged = case.judge(concurrency, &played.outcome.findings);
    let mut classes = BTreeMap::new();
    for finding in &played.outcome.findings {
        if !judged.false_positives.iter().any(|(_, line)| *line == finding.line) {
            *classes.entry(finding.class.clone()).or_default() += 1;
        }
    }
    let lost = played.outcome.metrics.sum("leasewarden_events_lost_total", &[]);
    for (severity, line) in &judged.false_positives {
        sh::note(&format!("false, {severity}: {line}"));
    }
    for missed in &judged.missed {
        sh::note(&format!("missed: {missed}"));
    }
    if !keep {
        // A recording holds payload, and there are a hundred of them.
        fs::remove_file(recording)?;
    }
    Ok(Measured { judged, classes, tally, alone, lost })
}

fn tally(case: &Case, played: &Played, operations: &str) -> Result<Tally> {
    Tally::of(&played.truth, operations, played.upstream, case.program.behind())
}

/// Every operation of a recording, as JSON lines.
fn replay(binary: &Path, recording: &Path, config: &Path) -> Result<String> {
    let mut command = Command::new(binary);
    command.arg("replay").arg(recording).args(["--findings", "/dev/null", "--operations", "-", "--config"]).arg(config);
    sh::capture(&mut command)
}

/// Configurations for replays: the lab's tables are shown by their names from the first operation on, as operations are
/// joined with what the services know by counting those on these tables.
struct Configs {
    /// With every basis on.
    all: PathBuf,
    /// Each with one switchable basis on.
    alone: Vec<(&'static str, PathBuf)>,
}

impl Configs {
    fn write() -> Result<Self> {
        let dir = paths::lab().join("accuracy");
        fs::create_dir_all(&dir)?;
        let shown = format!("version: 1\nexport:\n  show:\n    names: [{}]\n", TABLES.join(", "));
        let all = dir.join("all.yaml");
        fs::write(&all, &shown)?;
        let mut alone = Vec::new();
        for basis in SWITCHABLE {
            let mut text = format!("{shown}attribution:\n  bases:\n");
            for other in SWITCHABLE {
                text.push_str(&format!("    {other}: {}\n", other == basis));
            }
            let file = dir.join(format!("{basis}.yaml"));
            fs::write(&file, text)?;
            alone.push((basis, file));
        }
        Ok(Self { all, alone })
    }
}

fn all_versions(binary: &Path) -> Result<Vec<(String, String)>> {
    let mut all = vec![
        ("leasewarden".to_owned(), sh::capture(Command::new(binary).arg("--version"))?.trim().to_owned()),
        ("kernel".to_owned(), sh::capture(&mut sh::cmd("uname", ["-r"]))?.trim().to_owned()),
        ("cores".to_owned(), std::thread::available_parallelism()?.to_string()),
    ];
    all.extend(versions()?);
    let lock = fs::read_to_string(paths::root().join("Cargo.lock"))?;
    for name in ["axum", "deadpool", "tokio", "tokio-postgres"] {
        let head = format!("name = \"{name}\"\nversion = \"");
        let version = lock.split(&head).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("?");
        all.push((name.to_owned(), version.to_owned()));
    }
    Ok(all)
}
