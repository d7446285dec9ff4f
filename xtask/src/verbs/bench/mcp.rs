//! MCP calls a second through a server on the official Python SDK, with and without the agent, in pairs; and what is
//! copied of each call.

use std::path::Path;
use std::time::Instant;

use ::tests::lab::mcp::{Scene, Sdk, Spec};
use ::tests::lab::python::Packages;
use ::tests::lab::talk::Talk;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::scene::Watching;
use super::{Args, Line, line, median};
use crate::sh;

/// Sessions that call at once, each on its own connection.
const SESSIONS: u32 = 4;
/// Calls before the first that is measured.
const FIRST: u32 = 200;

/// Makes `n` calls; how many a second.
fn calls(load: &mut Talk, n: u32) -> Result<f64> {
    let n = n / SESSIONS * SESSIONS;
    let began = Instant::now();
    load.order(&json!({ "calls": n }))?;
    let answer = load.answer()?;
    let done = answer.get("done").and_then(Value::as_u64).context("no number")?;
    ensure!(done == u64::from(n), "only {done} of {n} calls came to a result");
    Ok(f64::from(n) / began.elapsed().as_secs_f64())
}

pub(super) fn mcp(binary: &Path, args: &Args) -> Result<Vec<Line>> {
    sh::step("preparing an MCP server");
    let mut scene = Scene::new("bench-mcp")?;
    let port = scene.start_server("orders-mcp", &Spec::new(Sdk::Python(Packages::Mcp130), "by-tenant"))?;
    let mut load = scene.load(port, SESSIONS)?;
    // Whatever is slow the first time is not measured; and it tells how many calls fit.
    let rate = calls(&mut load, FIRST)?;
    let n = ((rate * args.time.as_secs_f64()) as u32).max(FIRST);
    drop(load);
    let (mut alone, mut watched, mut ratios, mut cpu, mut seen, mut bytes, mut lost) =
        (vec![], vec![], vec![], vec![], vec![], vec![], 0.0);
    for pair in 0..args.pairs {
        sh::step(&format!("MCP, pair {} of {}", pair + 1, args.pairs));
        // Each order as often as the other: machines drift.
        let (mut without, mut with) = (0.0, 0.0);
        for with_agent in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            let agent = with_agent.then(|| Watching::start(binary, scene.root(), scene.logs())).transpose()?;
            // Sessions that the agent has seen from their first byte.
            let mut load = scene.load(port, SESSIONS)?;
            let Some(agent) = agent else {
                without = calls(&mut load, n)?;
                continue;
            };
            let (began, before) = (Instant::now(), agent.cpu()?);
            with = calls(&mut load, n)?;
            cpu.push((agent.cpu()? - before) / began.elapsed().as_secs_f64());
            // Metrics are refreshed once a second.
            std::thread::sleep(std::time::Duration::from_millis(1500));
            let metrics = agent.metrics()?;
            let made = f64::from(n / SESSIONS * SESSIONS);
            lost += metrics.sum("leasewarden_events_lost_total", &[]);
            seen.push(metrics.sum("leasewarden_operations_total", &[("protocol", "mcp"), ("kind", "data")]) / made);
            bytes.push(metrics.sum("leasewarden_capture_bytes_total", &[]) / made);
        }
        sh::note(&format!("{without:.0} /s alone, {with:.0} /s watched"));
        alone.push(without);
        watched.push(with);
        ratios.push(with / without);
    }
    let of = |what: &str| format!("{what}, MCP `tools/call` (Python SDK 1.30.0, {SESSIONS} sessions)");
    Ok(vec![
        line(
            of("calls watched ÷ unwatched"),
            format!("{:.2} ({:.0} /s ÷ {:.0} /s)", median(ratios), median(watched), median(alone)),
            "≥ 0.95",
        ),
        line(of("agent CPU"), format!("{:.0} % of a core", 100.0 * median(cpu)), "—"),
        line(of("bytes copied of each call"), format!("{:.0}", median(bytes)), "—"),
        // Cheap because blind would show here.
        line(of("calls decoded ÷ made"), format!("{:.2}", median(seen)), "1"),
        line(of("events lost"), format!("{lost:.0}"), "0"),
    ])
}
