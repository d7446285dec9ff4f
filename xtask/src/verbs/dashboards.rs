//! `dashboards`: writes the Grafana dashboards of `dashboards/` from their description here, and draws them as pictures.

mod draw;
mod expr;
mod health;
mod overview;
mod panel;
mod service;
mod tenant;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use self::panel::{Dashboard, Draw, Panel, Variable};
use crate::{paths, sh};

/// Colours of severities. Each is another colour, not another shade: two reds are one to whoever is woken by them.
const SEVERITIES: &[(&str, &str)] =
    &[("critical", "purple"), ("high", "red"), ("medium", "orange"), ("low", "yellow"), ("info", "blue")];
/// The same in a table.
const SEVERITY_WORDS: &[(&str, &str, &str)] = &[
    ("critical", "critical", "purple"),
    ("high", "high", "red"),
    ("medium", "medium", "orange"),
    ("low", "low", "yellow"),
    ("info", "info", "blue"),
];
/// Where the runbooks are, unless somebody names others.
const RUNBOOKS: &str = "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md";
/// What somebody who looks at findings opens next: what to do about those that page and about the others, and what the
/// agents wrote in the chosen time (each finding with its evidence, a line of JSON).
const NEXT: &[(&str, &str)] = &[
    (
        "Runbook: findings to act on",
        "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md#leasewardencrosstenantuse",
    ),
    (
        "Runbook: findings to review",
        "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md#leasewardenfindingtoreview",
    ),
    ("Log of the agents", LOG),
];
const LOG: &str = "/explore?left=%7B%22datasource%22:%22${log}%22,%22queries%22:%5B%7B%22refId%22:%22A%22,%22expr%22:%22%7Bapp_kubernetes_io_name%3D%5C%22leasewarden%5C%22%7D%20%7C%3D%20%5C%22evidence_class%5C%22%22%7D%5D,%22range%22:%7B%22from%22:%22${__from}%22,%22to%22:%22${__to}%22%7D%7D";

/// What each rule means and how to mend what it finds; its id is behind it.
const RULES: &str = "https://github.com/leasewarden/leasewarden/blob/main/docs/rules.md#";

/// A table of findings as somebody on call wants them: what, where, whose, since when, and what to do.
fn findings_table(
    title: &'static str,
    description: &'static str,
    empty: &'static str,
    limits: &[&str],
    left_out: &[&str],
) -> Panel {
    let [first, last] = expr::seen(limits);
    let hits = expr::total(expr::KINDS, "leasewarden_findings_total", limits);
    let columns: Vec<(&str, &str)> = [
        ("severity", "Severity"),
        ("rule", "Rule"),
        ("service", "Service"),
        ("tenant", "Used for"),
        ("bound", "Victim"),
        ("evidence_class", "Evidence"),
        ("cluster", "Cluster"),
        ("node", "Node"),
        ("Value #A", "Findings"),
        ("Value #B", "Hits"),
        ("Value #C", "First seen"),
        ("Value #D", "Last seen"),
    ]
    .into_iter()
    .filter(|(label, _)| !left_out.contains(label))
    .collect();
    let mut panel = Panel::new(Draw::Table, title, "short", (24, 12), description, empty)
        .query(expr::findings(expr::KINDS, limits), "")
        .query(format!("round({hits}) > 0"), "")
        .query(first, "")
        .query(last, "")
        .columns(&columns)
        .unit_of("First seen", "dateTimeAsLocal")
        .unit_of("Last seen", "dateTimeAsLocal")
        .words(SEVERITY_WORDS)
        .opens("Rule", "What it means and how to mend it", RULES)
        .beside(NEXT);
    for (label, heading, uid, variable) in [
        ("service", "Service", "leasewarden-shared-service", "service"),
        ("tenant", "Used for", "leasewarden-tenant", "tenant"),
        ("bound", "Victim", "leasewarden-tenant", "tenant"),
    ] {
        if !left_out.contains(&label) {
            panel = panel.leads_to(heading, uid, variable);
        }
    }
    panel
}

/// Colours of verdicts: green is proved, blue was never shared, grey is not known.
const VERDICTS: &[(&str, &str)] = &[
    ("revalidated", "green"),
    ("single-tenant", "blue"),
    ("reset-only", "yellow"),
    ("unbound", "orange"),
    ("stale-bound", "red"),
    ("indeterminate", "gray"),
    ("none", "gray"),
];
/// The same in a table.
const VERDICT_WORDS: &[(&str, &str, &str)] = &[
    ("revalidated", "revalidated", "green"),
    ("single-tenant", "single-tenant", "blue"),
    ("reset-only", "reset-only", "yellow"),
    ("unbound", "unbound", "orange"),
    ("stale-bound", "stale-bound", "red"),
    ("indeterminate", "indeterminate", "gray"),
];
/// Colours of what became of payload.
const CLASSES: &[(&str, &str)] = &[("decoded", "green"), ("opaque", "blue"), ("truncated", "yellow"), ("lost", "red")];
/// Figures of a table, uncoloured.
const FIGURES: &[(f64, &str)] = &[(0.0, "text")];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say whether the committed files are what this would write; exit 1 when not.
    #[arg(long)]
    check: bool,
    /// Where your runbooks are: the address of the page, to which `#` and the alert's name is added. Dashboards and alerts
    /// then lead there.
    #[arg(long, value_name = "URL", value_parser = absolute)]
    runbooks: Option<String>,
    /// Write into this folder, alerts and recording rules too, instead of the repository's.
    #[arg(long, value_name = "FOLDER")]
    out: Option<std::path::PathBuf>,
    /// Draw them as pictures into this folder instead, with Grafana's own widgets.
    #[arg(long, value_name = "FOLDER")]
    draw: Option<std::path::PathBuf>,
    /// The Prometheus whose data is drawn.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    prometheus: String,
    /// How far back the pictures go.
    #[arg(long, value_name = "DURATION", value_parser = super::duration, default_value = "10m")]
    last: std::time::Duration,
    /// The value of a variable, as in `service=orders-db`.
    #[arg(long, value_name = "VARIABLE=VALUE")]
    set: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if args.check {
        check()?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(into) = &args.draw {
        let files: Vec<_> = all().iter().map(file).collect();
        let wanted =
            draw::Wanted { into, prometheus: &args.prometheus, seconds: args.last.as_secs(), values: &args.set };
        draw::draw(&files, &wanted)?;
        return Ok(ExitCode::SUCCESS);
    }
    let here = paths::root().join("dashboards");
    let into = args.out.as_deref().unwrap_or(&here);
    fs::create_dir_all(into)?;
    for (name, text) in written(args.runbooks.as_deref(), args.out.is_some())? {
        let file = into.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Names and texts of what is written: the dashboards, with other runbooks the alerts too, elsewhere everything.
fn written(runbooks: Option<&str>, elsewhere: bool) -> Result<Vec<(String, String)>> {
    let mut files: Vec<(String, String)> = all().iter().map(|d| (format!("{}.json", d.name), d.text())).collect();
    for name in ["alerts.yaml", "rules.yaml"] {
        if elsewhere || (runbooks.is_some() && name == "alerts.yaml") {
            files.push((name.to_owned(), fs::read_to_string(paths::root().join("dashboards").join(name))?));
        }
    }
    if let Some(url) = runbooks {
        files.iter_mut().for_each(|(_, text)| *text = text.replace(RUNBOOKS, url.trim_end_matches('#')));
    }
    Ok(files)
}

/// An address that a browser can open wherever the alert is read.
fn absolute(url: &str) -> Result<String, String> {
    if url.starts_with("https://") || url.starts_with("http://") {
        Ok(url.to_owned())
    } else {
        Err(format!("`{url}` is no absolute address: it begins with https:// or http://"))
    }
}

/// Whether the committed dashboards are what their description says.
///
/// # Errors
/// Names those that are not.
pub(crate) fn check() -> Result<()> {
    let stale: Vec<String> = all()
        .iter()
        .filter(|d| {
            // As values: the order of keys says nothing.
            let committed = fs::read_to_string(file(d)).ok().and_then(|text| serde_json::from_str(&text).ok());
            committed != serde_json::from_str::<serde_json::Value>(&d.text()).ok()
        })
        .map(|d| format!("dashboards/{}.json", d.name))
        .collect();
    if !stale.is_empty() {
        bail!("not what the code describes: {}; run `cargo xtask dashboards`", stale.join(", "));
    }
    Ok(())
}

/// Alerts and recording rules, as `promtool` sees them: valid, and right about the series of `dashboards/tests`.
///
/// # Errors
/// When promtool is missing, or does not agree.
pub(crate) fn test() -> Result<()> {
    sh::step("testing alerts and recording rules");
    let dir = paths::root().join("dashboards");
    for args in
        [["check", "rules", "rules.yaml", "alerts.yaml"], ["test", "rules", "tests/rules.yaml", "tests/alerts.yaml"]]
    {
        print!("{}", sh::capture(sh::cmd("promtool", args).current_dir(&dir))?);
    }
    Ok(())
}

fn all() -> Vec<Dashboard> {
    vec![overview::dashboard(), service::dashboard(), tenant::dashboard(), health::dashboard()]
}

fn file(dashboard: &Dashboard) -> std::path::PathBuf {
    paths::root().join("dashboards").join(format!("{}.json", dashboard.name))
}

/// Cluster and node, by the labels that the scrape adds.
fn places_of_agents() -> Vec<Variable> {
    vec![
        Variable { name: "cluster", of: "leasewarden_build_info".to_owned(), single: false },
        Variable { name: "node", of: "leasewarden_build_info{cluster=~\"$cluster\"}".to_owned(), single: false },
    ]
}

/// Cluster, node, service, tenant; the one that the dashboard is about takes one value.
fn places(one_service: bool, one_tenant: bool) -> Vec<Variable> {
    let mut list = places_of_agents();
    let here = "leasewarden_tenant_operations_total{cluster=~\"$cluster\", node=~\"$node\"}";
    let service = Variable { name: "service", of: here.to_owned(), single: one_service };
    let tenant = Variable { name: "tenant", of: here.to_owned(), single: one_tenant };
    if one_tenant {
        list.extend([tenant, service]);
    } else if one_service {
        list.push(service);
    } else {
        list.extend([service, tenant]);
    }
    list
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_committed_dashboards_are_current() {
        super::check().unwrap();
    }

    #[test]
    fn runbooks_are_where_somebody_says() {
        let files = super::written(Some("https://wiki.example.com/lw"), true).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
        let all =
            ["overview.json", "shared-service.json", "tenant.json", "agent-health.json", "alerts.yaml", "rules.yaml"];
        assert_eq!(names, all);
        let led =
            files.iter().filter(|(_, text)| text.contains("https://wiki.example.com/lw#leasewardencrosstenantuse"));
        assert_eq!(led.count(), 4, "three dashboards with findings, and the alerts");
        assert!(files.iter().all(|(_, text)| !text.contains(super::RUNBOOKS)));
        assert!(super::absolute("docs/runbooks.md").is_err());
    }
}
