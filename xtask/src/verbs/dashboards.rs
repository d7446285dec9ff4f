//! `dashboards`: writes the Grafana dashboards, alerts and rules with somebody's own runbooks, and draws the dashboards as
//! pictures. What they are is in `dashboards/`, as Grafana exports it.

mod draw;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::{paths, sh};

/// The dashboards.
const DASHBOARDS: [&str; 4] = ["overview.json", "shared-service.json", "tenant.json", "agent-health.json"];
/// Where the runbooks are, unless somebody names others.
const RUNBOOKS: &str = "https://github.com/leasewarden/leasewarden/blob/main/docs/runbooks.md";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where your runbooks are: the address of the page, to which `#` and the alert's name is added. Dashboards and alerts
    /// then lead there.
    #[arg(long, value_name = "URL", value_parser = absolute)]
    runbooks: Option<String>,
    /// Write dashboards, alerts and recording rules into this folder.
    #[arg(long, value_name = "FOLDER", required_unless_present = "draw")]
    out: Option<PathBuf>,
    /// Draw the dashboards as pictures into this folder instead, with Grafana's own widgets.
    #[arg(long, value_name = "FOLDER")]
    draw: Option<PathBuf>,
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
    let here = paths::root().join("dashboards");
    if let Some(into) = &args.draw {
        let files: Vec<_> = DASHBOARDS.iter().map(|name| here.join(name)).collect();
        let wanted =
            draw::Wanted { into, prometheus: &args.prometheus, seconds: args.last.as_secs(), values: &args.set };
        draw::draw(&files, &wanted)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(into) = &args.out else { bail!("say where to: `--out FOLDER`, or `--draw FOLDER`") };
    fs::create_dir_all(into)?;
    for (name, text) in written(args.runbooks.as_deref())? {
        let file = into.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Names and texts of dashboards, alerts and rules, with these runbooks.
fn written(runbooks: Option<&str>) -> Result<Vec<(&'static str, String)>> {
    let with = runbooks.unwrap_or(RUNBOOKS).trim_end_matches('#');
    let names = DASHBOARDS.into_iter().chain(["alerts.yaml", "rules.yaml"]);
    names
        .map(|name| {
            let file = paths::root().join("dashboards").join(name);
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok((name, text.replace(RUNBOOKS, with)))
        })
        .collect()
}

/// An address that a browser can open wherever the alert is read.
fn absolute(url: &str) -> Result<String, String> {
    if url.starts_with("https://") || url.starts_with("http://") {
        Ok(url.to_owned())
    } else {
        Err(format!("`{url}` is no absolute address: it begins with https:// or http://"))
    }
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

#[cfg(test)]
mod tests {
    #[test]
    fn runbooks_are_where_somebody_says() {
        let files = super::written(Some("https://wiki.example.com/lw")).unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
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
