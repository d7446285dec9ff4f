//! SIGHUP and a changed configuration while the agent works: a broken one changes nothing and is told, a right one is taken
//! over, files are opened anew, and what connections had proved before is still known afterwards.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::{SELECT, STALE, Stage, leaked};

/// The agent looks at its files once a second, and takes over what has been the same for two looks.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn while_it_works() {
    crate::play("scenarios::reload", 1, while_it_works_on);
}

/// Waits until the sum of a metric's samples is at least so much.
fn until(stage: &Stage, metric: &str, labels: &[(&str, &str)], holds: impl Fn(f64) -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let agent = stage.scene.agent()?;
        let now = agent.metrics()?.sum(metric, labels);
        if holds(now) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "{metric} stays at {now}: {}", agent.log_tail());
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn hang_up(pid: u32) -> Result<()> {
    let status = Command::new("kill").args(["-HUP", &pid.to_string()]).status()?;
    ensure!(status.success(), "kill: {status}");
    Ok(())
}

fn while_it_works_on(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    // Left on the only server connection, before anything is read again.
    acme.ask(1, &["SET app.tenant_id = 'acme'", SELECT])?;
    let pid = stage.scene.agent()?.pid();
    let logs = stage.scene.logs().to_owned();
    let (file, findings) = (logs.join("leasewarden.yaml"), logs.join("findings.jsonl"));
    let right = fs::read_to_string(&file).context("the configuration")?;

    fs::write(&file, format!("{right}limits:\n  flowz: 7\n"))?;
    hang_up(pid)?;
    until(stage, "leasewarden_config_last_reload_successful", &[], |is| is < 0.5)?;
    let log = stage.scene.agent()?.log_tail();
    ensure!(log.contains("not taken over") && log.contains("flowz"), "a broken configuration was not told: {log}");

    let before = stage.scene.agent()?.metrics()?.sum("leasewarden_config_reloads_total", &[("result", "success")]);
    fs::write(&file, format!("{right}limits:\n  tenants: 150\n"))?;
    until(stage, "leasewarden_config_reloads_total", &[("result", "success")], |n| n > before)?;
    until(stage, "leasewarden_config_last_reload_successful", &[], |is| is > 0.5)?;
    until(stage, "leasewarden_table_limit", &[("table", "metric_tenants")], |n| (n - 150.0).abs() < 0.5)?;

    // As a rotation does it: what is found from now on is in a file of the old name.
    let rotated = logs.join("findings.jsonl.1");
    fs::rename(&findings, &rotated)?;
    let end = Instant::now() + PATIENCE;
    hang_up(pid)?;
    while !findings.exists() {
        ensure!(Instant::now() < end, "not opened anew: {}", stage.scene.agent()?.log_tail());
        std::thread::sleep(Duration::from_millis(100));
    }
    leaked("globex", &globex.ask(1, &[SELECT])?)?;
    acme.finish()?;
    globex.finish()?;
    let agent = stage.scene.agent()?;
    agent.wait_for(STALE, PATIENCE)?;
    ensure!(agent.pid() == pid, "another process");
    ensure!(!fs::read_to_string(&rotated)?.contains(STALE), "written on into the file that was moved away");
    let outcome = stage.scene.outcome()?;
    // Who had bound it is known from before.
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))
}
