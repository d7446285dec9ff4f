//! Real load with and without the agent, in pairs.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::scene::{Bench, Connecting, Watching};
use super::{Args, Line, line, median};
use crate::sh;

/// A load generator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Load {
    /// Selects over 16 connections to PostgreSQL.
    Pgbench,
    /// GETs over 50 connections to Redis.
    Redis,
    /// GETs to Redis, each over a connection of its own: how fast a watched service accepts them.
    Accept,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Pgbench => "pgbench -S -c 16",
            Self::Redis => "redis-benchmark -c 50 -t get",
            Self::Accept => "redis-benchmark -c 50 -t get -k 0",
        }
    }

    fn goal(self) -> &'static str {
        match self {
            Self::Pgbench => "≥ 0.96",
            Self::Redis => "≥ 0.95",
            Self::Accept => "≥ 0.8",
        }
    }

    /// Runs it: operations a second, how many they were, and how long it took.
    fn run(self, bench: &Bench, time: Duration) -> Result<(f64, f64, f64)> {
        match self {
            Self::Pgbench => {
                let rate = bench.transactions_per_second(time)?;
                Ok((rate, rate * time.as_secs_f64(), time.as_secs_f64()))
            }
            Self::Redis | Self::Accept => {
                let connecting = Connecting { each_time: matches!(self, Self::Accept), encrypted: false };
                let (rate, n) = bench.commands_per_second(time, connecting)?;
                Ok((rate, n, n / rate))
            }
        }
    }
}

pub(super) fn throughput(load: Load, bench: &Bench, binary: &Path, args: &Args) -> Result<Vec<Line>> {
    let (mut alone, mut watched, mut ratios, mut cpu, mut seen, mut lost) =
        (vec![], vec![], vec![], vec![], vec![], 0.0);
    for pair in 0..args.pairs {
        sh::step(&format!("{}, pair {} of {}", load.name(), pair + 1, args.pairs));
        // Each order as often as the other: machines drift.
        let (mut without, mut with) = (0.0, 0.0);
        for with_agent in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            if with_agent {
                let agent = Watching::start(binary, bench.tree.root(), &bench.logs)?;
                let before = agent.cpu()?;
                let (rate, n, seconds) = load.run(bench, args.time)?;
                with = rate;
                cpu.push((agent.cpu()? - before) / seconds);
                // Metrics are refreshed once a second.
                std::thread::sleep(Duration::from_millis(1500));
                let metrics = agent.metrics()?;
                lost += metrics.sum("leasewarden_events_lost_total", &[]);
                seen.push(metrics.sum("leasewarden_operations_total", &[("kind", "data")]) / n);
            } else {
                without = load.run(bench, args.time)?.0;
            }
        }
        sh::note(&format!("{without:.0} /s alone, {with:.0} /s watched"));
        alone.push(without);
        watched.push(with);
        ratios.push(with / without);
    }
    let of = |what: &str| format!("{what}, `{}`", load.name());
    Ok(vec![
        line(
            format!("`{}` watched ÷ unwatched", load.name()),
            format!("{:.2} ({:.0} /s ÷ {:.0} /s)", median(ratios), median(watched), median(alone)),
            load.goal(),
        ),
        line(of("agent CPU"), format!("{:.0} % of a core", 100.0 * median(cpu)), "—"),
        // Cheap because blind would show here.
        line(of("data operations decoded ÷ made"), format!("{:.2}", median(seen)), "1"),
        line(of("events lost"), format!("{lost:.0}"), "0"),
    ])
}
