//! `bench`: what the agent costs, as ratios within one run: machines differ and are noisy, ratios carry over.

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use ::tests::lab::cgroup::Tree;
use ::tests::lab::net;
use ::tests::lab::process::Launch;
use anyhow::{Context, Result, bail};
use serde_json::Value;

mod mcp;
mod queue;
mod scene;
mod throughput;
mod tls;

use scene::{Bench, Watching};
use throughput::{Load, throughput};

use super::build::{Profile, agent, probes};
use super::setup::{Need, ensure};
use crate::{paths, sh};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Kernel time per packet, against an empty program.
    Kernel,
    /// pgbench and redis-benchmark with and without the agent.
    Throughput,
    /// redis-benchmark through TLS, with and without the agent, beside the same in clear.
    Tls,
    /// Messages a second through RabbitMQ and a Redis stream, with and without the agent.
    Queue,
    /// MCP calls a second through a server, with and without the agent, and what is copied of each.
    Mcp,
    /// Packets a second from a capture file.
    Replay,
    /// Resident memory with 10,000 connections.
    Memory,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only this part; may be repeated.
    #[arg(long, value_name = "PART")]
    only: Vec<Part>,
    /// Pairs of runs with and without the agent.
    #[arg(long, default_value_t = 5)]
    pairs: u32,
    /// How long each run takes.
    #[arg(long, default_value = "8s", value_name = "DURATION", value_parser = super::duration)]
    time: Duration,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if !sh::is_root() {
        bail!("the measurements need root: run `sudo -E cargo xtask bench`");
    }
    // Brokers and MCP's SDKs, which the demo does without.
    let more = args.only.is_empty() || args.only.iter().any(|part| matches!(part, Part::Queue | Part::Mcp));
    let need = if more { Need::Queues } else { Need::Demo };
    ensure(need)?;
    let binary = agent(Profile::Release)?;
    let mut bench = None;
    let mut lines = Vec::new();
    let mut failed = false;
    for part in [Part::Kernel, Part::Throughput, Part::Tls, Part::Queue, Part::Mcp, Part::Replay, Part::Memory] {
        if !args.only.is_empty() && !args.only.contains(&part) {
            continue;
        }
        let result = match part {
            Part::Kernel => kernel(),
            Part::Throughput => Bench::once(&mut bench).and_then(|bench| {
                let mut lines = throughput(Load::Pgbench, bench, &binary, args)?;
                lines.extend(throughput(Load::Redis, bench, &binary, args)?);
                lines.extend(throughput(Load::Accept, bench, &binary, args)?);
                Ok(lines)
            }),
            Part::Tls => Bench::once(&mut bench).and_then(|bench| tls::tls(bench, &binary, args)),
            Part::Queue => queue::queue(&binary, args),
            Part::Mcp => mcp::mcp(&binary, args),
            Part::Replay => Bench::once(&mut bench).and_then(|bench| replay(bench, &binary, args.time)),
            Part::Memory => memory(&binary),
        };
        match result {
            Ok(measured) => lines.extend(measured),
            // One part that fails hides no other.
            Err(error) => {
                failed = true;
                eprintln!("\nerror: {part:?}: {error:#}\n");
                lines.push(line(format!("{part:?}").to_lowercase(), "FAILED, see above", "—"));
            }
        }
    }
    println!("\n| What | Measured | Designed for |\n|---|---|---|");
    for Line { what, measured, goal } in &lines {
        println!("| {what} | {measured} | {goal} |");
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Line {
    what: String,
    measured: String,
    goal: &'static str,
}

fn line(what: impl Into<String>, measured: impl Into<String>, goal: &'static str) -> Line {
    Line { what: what.into(), measured: measured.into(), goal }
}

/// Runs `tests/examples/kernel_cost.rs`, which needs the BPF library that xtask does without.
fn kernel() -> Result<Vec<Line>> {
    sh::step("kernel time per packet");
    let object = probes()?;
    let mut command = sh::cargo();
    command.args(["run", "--release", "--quiet", "--package", "tests", "--example", "kernel_cost"]);
    let text = sh::capture(command.env("LEASEWARDEN_BPF_OBJECT", object))?;
    let values: Value = serde_json::from_str(text.trim()).context("kernel_cost printed no JSON")?;
    let value = |name: &str| values.get(name).and_then(Value::as_f64).with_context(|| format!("no {name}"));
    let what = |what: &str| format!("kernel time of {what} ÷ an empty program");
    let (empty, captured, passed) = (value("empty_ns")?, value("captured_ns")?, value("unwatched_ns")?);
    Ok(vec![
        line(
            what(&format!("a captured segment of {} B", value("payload")?)),
            format!("{:.2} ({captured:.0} ns ÷ {empty:.0} ns)", value("captured_ratio")?),
            "≤ 2.0",
        ),
        line(
            what("an unwatched packet"),
            format!("{:.2} ({passed:.0} ns ÷ {empty:.0} ns)", value("unwatched_ratio")?),
            "≤ 1.1",
        ),
    ])
}

fn replay(bench: &Bench, binary: &Path, time: Duration) -> Result<Vec<Line>> {
    if paths::find_program("tcpdump").is_none() {
        sh::loud("replay is NOT measured: no tcpdump to record a capture with (apt-get install tcpdump)");
        return Ok(vec![line("replay", "not measured: no tcpdump", "—")]);
    }
    sh::step("recording pgbench, then replaying it");
    let file = bench.logs.join("pgbench.pcap");
    let mut tcpdump = Launch::new("tcpdump", "tcpdump")
        .args(["-i", "lo", "-B", "65536", "-U", "-Z", "root", "-w"])
        .arg(&file)
        .arg(format!("tcp port {}", bench.postgres.port()))
        .start(&bench.logs)?;
    net::wait_until(&mut tcpdump, "tcpdump", Duration::from_secs(10), || file.exists())?;
    bench.transactions_per_second(time)?;
    std::thread::sleep(Duration::from_millis(500));
    tcpdump.stop()?;
    let said = tcpdump.output()?;
    let count = |what: &str| -> Option<f64> {
        said.lines().find(|line| line.contains(what))?.split_whitespace().next()?.parse().ok()
    };
    let packets = count("packets captured").with_context(|| format!("tcpdump counted nothing:\n{said}"))?;
    let dropped = count("dropped by kernel").unwrap_or(0.0);
    let mut seconds = Vec::new();
    for _ in 0..3 {
        let began = Instant::now();
        sh::quiet(Command::new(binary).arg("replay").arg(&file).arg("--findings").arg("/dev/null"))?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    let seconds = median(seconds);
    fs::remove_file(&file)?;
    Ok(vec![line(
        format!("replay of {:.0} k packets of `pgbench -S` ({dropped:.0} not recorded)", packets / 1e3),
        format!("{:.2} M packets/s ({seconds:.2} s)", packets / seconds / 1e6),
        "≥ 1.2 × Suricata (0.8 M/s there)",
    )])
}

fn memory(binary: &Path) -> Result<Vec<Line>> {
    sh::step("memory with 10,000 connections");
    let logs = paths::lab().join("bench");
    let tree = Tree::new("leasewarden-bench-memory")?;
    let tenant = tree.dir("tenants/acme/agent")?;
    sh::run(sh::cargo().args(["build", "--quiet", "--release", "--package", "tests", "--example", "flows"]))?;
    let flows = paths::target().join("release/examples/flows");
    let agent = Watching::start(binary, tree.root(), &logs)?;
    let before = agent.resident()?;
    let server_log = logs.join("flows-server.log");
    let said = |log: &Path, word: &str| fs::read_to_string(log).is_ok_and(|text| text.contains(word));
    let mut server =
        Launch::new("flows-server", &flows).arg("serve").cgroup(&tree.dir("shared/postgres")?).start(&logs)?;
    net::wait_until(&mut server, "the server", Duration::from_secs(10), || said(&server_log, "\n"))?;
    let port = server.output()?.trim().trim_start_matches("PORT ").to_owned();
    let holder_log = logs.join("flows.log");
    let mut holder =
        Launch::new("flows", &flows).args(["hold", &port, "10000"]).cgroup(&tenant).with_stdin().start(&logs)?;
    net::wait_until(&mut holder, "10,000 connections", Duration::from_secs(120), || said(&holder_log, "OPEN"))?;
    std::thread::sleep(Duration::from_secs(2));
    let metrics = agent.metrics()?;
    let flows = metrics.sum("leasewarden_flows", &[]);
    if flows < 10_000.0 {
        bail!("the agent follows only {flows} connections:\n{}", metrics.0);
    }
    let after = agent.resident()?;
    Ok(vec![line(
        format!("resident memory with {flows:.0} connections"),
        format!("{after:.0} MiB ({before:.0} MiB with none)"),
        "≤ 64 MiB",
    )])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_middle_one() {
        assert!((super::median(vec![9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!(super::median(vec![]).is_nan());
    }
}
