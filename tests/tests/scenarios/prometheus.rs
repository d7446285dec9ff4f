//! A real Prometheus scrapes the agent while two tenants share a pool that mixes them up: every expression of every
//! panel, rule and alert runs against it, and returns data in the state that it is meant for.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::lab::prometheus::{Prometheus, dashboards};

use crate::{SELECT, STALE, Stage};

/// Panels that are empty when all is well, or when the scene has none of it. Everything else must have data.
const EMPTY_WHEN_WELL: [&str; 21] = [
    // Where TLS is to be read.
    "TLS that is not read",
    "TLS connections",
    "Secrets of handshakes",
    "Probed for TLS",
    "Share of TLS read",
    "TLS by what became of it",
    "Connections to be opened anew",
    "Losses",
    "Events lost",
    "Kernel programs",
    "Sources of identity",
    "Waits for a label",
    "Connections that lost their state",
    "Decoding errors",
    "Hits not reported",
    "Bases of attribution",
    "Rules without enough to tell",
    "Findings to the collector",
    "Requests to the collector",
    "Reloads",
    "Suppressions that end next",
];

#[test]
fn every_expression_has_data_under_load() {
    crate::play("scenarios::prometheus", 1, under_load);
}

fn under_load(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let port = stage.scene.agent()?.url().rsplit(':').next().and_then(|p| p.trim_end_matches('/').parse().ok());
    let data = stage.scene.logs().join("prometheus");
    let _ = fs::remove_dir_all(&data);
    let prometheus = Prometheus::start(port.context("the agent's port")?, &data, stage.scene.logs())?;
    // What is counted before the first scrape is no rise.
    let scraped = Instant::now() + Duration::from_secs(15);
    while prometheus.query("leasewarden_detection_delay_seconds_count")?.is_empty() {
        ensure!(Instant::now() < scraped, "no scrape: {}", prometheus.log_tail());
        std::thread::sleep(Duration::from_millis(200));
    }
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    let until = Instant::now() + Duration::from_secs(25);
    while Instant::now() < until {
        acme.ask(1, &["SET app.tenant_id = 'acme'", SELECT])?;
        globex.ask(1, &[SELECT])?;
        std::thread::sleep(Duration::from_millis(100));
    }
    stage.scene.agent()?.wait_for(STALE, Duration::from_secs(10))?;

    let busiest = prometheus.query("topk(1, sum by (service) (leasewarden_tenant_switches_total))")?;
    let service = busiest.first().and_then(|(l, _)| l.pointer("/service")).and_then(Value::as_str);
    let service = service.context("no switch between tenants was counted")?.to_owned();
    let (mut asked, mut problems) = (0, Vec::new());
    for name in ["overview", "shared-service", "tenant", "agent-health"] {
        let text = fs::read_to_string(dashboards().join(format!("{name}.json")))?;
        let dashboard: Value = serde_json::from_str(&text)?;
        for panel in dashboard.pointer("/panels").and_then(Value::as_array).context("no panels")? {
            let title = panel.pointer("/title").and_then(Value::as_str).unwrap_or_default();
            for target in panel.pointer("/targets").and_then(Value::as_array).into_iter().flatten() {
                let expr = target.pointer("/expr").and_then(Value::as_str).context("no expression")?;
                asked += 1;
                // globex never binds, and acme is never mixed up: one of the two has what the panel shows.
                let mut samples = Vec::new();
                for tenant in ["globex", "acme"] {
                    samples.extend(prometheus.query(&filled_in(expr, name, &service, tenant))?);
                }
                let why = if samples.is_empty() && !EMPTY_WHEN_WELL.contains(&title) {
                    "no data".to_owned()
                } else if samples.iter().any(|(_, v)| !v.is_finite()) {
                    format!("not finite: {samples:?}")
                } else {
                    continue;
                };
                problems.push(format!("{name}: {title}: {why}: {expr}"));
            }
        }
    }
    ensure!(asked > 50, "only {asked} expressions");
    ensure!(problems.is_empty(), "{}", problems.join("\n"));

    // What the rules made of it.
    for (record, least) in [
        ("leasewarden:findings:increase10m", 1.0),
        ("leasewarden:service_tenants:count1h", 2.0),
        ("leasewarden:service_tenant_uses:rate5m", 0.01),
        ("leasewarden:service_unproved:ratio1h", 0.01),
        ("leasewarden:service_switches:rate5m", 0.01),
        ("leasewarden:coverage:ratio5m", 0.5),
        ("leasewarden:payload_lost:ratio5m", 0.0),
        ("leasewarden:table_fill:ratio", 0.0001),
        ("leasewarden:detection_delay_seconds:p99_5m", 0.0),
    ] {
        let most = prometheus.query(&format!("max({record})"))?.first().map(|(_, v)| *v);
        ensure!(most.is_some_and(|v| v >= least), "{record} is {most:?}, expected {least} or more");
    }
    let alerts = prometheus.alerts()?;
    let label =
        |labels: &Value, name: &str| labels.pointer(&format!("/{name}")).and_then(Value::as_str).map(str::to_owned);
    let paged: Vec<_> = alerts
        .iter()
        .filter(|(labels, state)| state == "firing" && label(labels, "severity").as_deref() == Some("critical"))
        .filter_map(|(labels, _)| Some((label(labels, "alertname")?, label(labels, "rule")?, label(labels, "tenant")?)))
        .collect();
    let wanted = ("LeasewardenCrossTenantUse".to_owned(), STALE.to_owned(), "globex".to_owned());
    ensure!(paged.contains(&wanted), "no page for globex on acme's binding: {alerts:?}");
    for wrong in ["LeasewardenAgentDown", "LeasewardenHookLost", "LeasewardenNoAgents", "LeasewardenTableFull"] {
        ensure!(!alerts.iter().any(|(l, _)| label(l, "alertname").as_deref() == Some(wrong)), "{wrong}: {alerts:?}");
    }
    acme.finish()?;
    globex.finish()?;
    drop(prometheus);
    fs::remove_dir_all(&data)?;
    Ok(())
}

/// An expression as Grafana would ask it, about the scene's service and one of its tenants.
fn filled_in(expr: &str, dashboard: &str, service: &str, tenant: &str) -> String {
    let service = if dashboard == "shared-service" { service } else { ".*" };
    let tenant = if dashboard == "tenant" { tenant } else { ".*" };
    expr.replace("$__rate_interval", "1m")
        .replace("$__range_s", "300")
        .replace("$__range", "5m")
        .replace("$cluster", ".*")
        .replace("$node", ".*")
        .replace("$service", service)
        .replace("$tenant", tenant)
}
