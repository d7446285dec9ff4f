//! What reading TLS costs: the same load through TLS and in clear, each with and without the agent, all four in one round.
//!
//! The sealing itself costs, watched or not. So what is told is how much watching costs of the encrypted load, divided by
//! what it costs of the same load in clear.

use std::path::Path;

use anyhow::Result;

use super::scene::{Bench, Connecting, Watching};
use super::{Args, Line, line, median};
use crate::sh;

/// Rates of one round, in operations a second.
#[derive(Default)]
struct Round {
    alone: f64,
    watched: f64,
}

/// Processor time of the whole machine so far, in seconds of one core: wall-clock rates scatter more.
fn machine_cpu() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/stat")?;
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, irq, softirq; idle and iowait are the fourth and fifth. A tick is 10 ms.
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|n| ticks.get(*n)).sum::<f64>();
    Ok(busy / 100.0)
}

pub(super) fn tls(bench: &Bench, binary: &Path, args: &Args) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (each_time, what, goal) in [
        (false, "GETs over 50 connections (`redis-benchmark -c 50 -t get`)", "≥ 0.99"),
        (true, "handshakes (`redis-benchmark -c 50 -t get -k 0`)", "≥ 0.97"),
    ] {
        let (mut sealed_ratios, mut clear_ratios, mut relative, mut cpu, mut decoded) =
            (vec![], vec![], vec![], vec![], vec![]);
        let (mut watched, mut alone, mut lost) = (vec![], vec![], 0.0);
        for n in 0..args.pairs {
            sh::step(&format!("TLS, {what}, round {} of {}", n + 1, args.pairs));
            let (mut sealed, mut clear) = (Round::default(), Round::default());
            let (mut sealed_cpu, mut clear_cpu) = (Round::default(), Round::default());
            // Each order as often as the other: machines drift.
            for with_agent in if n % 2 == 0 { [false, true] } else { [true, false] } {
                for encrypted in [false, true] {
                    let agent = with_agent
                        .then(|| Watching::reading_tls(binary, bench.tree.root(), &bench.logs))
                        .transpose()?;
                    let before = machine_cpu()?;
                    let (rate, made) = bench.commands_per_second(args.time, Connecting { each_time, encrypted })?;
                    let each = (machine_cpu()? - before) / made;
                    let (round, of_cpu) =
                        if encrypted { (&mut sealed, &mut sealed_cpu) } else { (&mut clear, &mut clear_cpu) };
                    let Some(agent) = agent else {
                        (round.alone, of_cpu.alone) = (rate, each);
                        continue;
                    };
                    (round.watched, of_cpu.watched) = (rate, each);
                    // Metrics are refreshed once a second.
                    std::thread::sleep(std::time::Duration::from_millis(1500));
                    let metrics = agent.metrics()?;
                    lost += metrics.sum("leasewarden_events_lost_total", &[]);
                    if encrypted {
                        decoded.push(metrics.sum("leasewarden_operations_total", &[("kind", "data")]) / made);
                    }
                }
            }
            sh::note(&format!(
                "in clear {:.0} /s alone, {:.0} /s watched; through TLS {:.0} /s alone, {:.0} /s watched",
                clear.alone, clear.watched, sealed.alone, sealed.watched
            ));
            let (of_sealed, of_clear) = (sealed.watched / sealed.alone, clear.watched / clear.alone);
            relative.push(of_sealed / of_clear);
            sealed_ratios.push(of_sealed);
            clear_ratios.push(of_clear);
            cpu.push((sealed_cpu.alone / sealed_cpu.watched) / (clear_cpu.alone / clear_cpu.watched));
            watched.push(sealed.watched);
            alone.push(sealed.alone);
        }
        let of = |text: &str| format!("{text}, {what}");
        lines.extend([
            line(
                of("through TLS, watched ÷ unwatched"),
                format!("{:.2} ({:.0} /s ÷ {:.0} /s)", median(sealed_ratios), median(watched), median(alone)),
                "—",
            ),
            line(of("the same in clear"), format!("{:.2}", median(clear_ratios)), "—"),
            line(of("the one ÷ the other"), format!("{:.2}", median(relative)), goal),
            line(of("the same by processor time of the machine for each"), format!("{:.2}", median(cpu)), goal),
            // Cheap because blind would show here.
            line(of("operations read through TLS ÷ made"), format!("{:.2}", median(decoded)), "1"),
            line(of("events lost"), format!("{lost:.0}"), "0"),
        ]);
    }
    Ok(lines)
}
