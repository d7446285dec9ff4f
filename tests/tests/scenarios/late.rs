//! The agent started after the connections: what they carry is not known until it is said again.

use std::time::Duration;

use anyhow::{Result, ensure};
use tests::lab::client::Client;
use tests::lab::pgbouncer::Pool;

use crate::{SELECT, SESSION_SET, STALE, Stage, UNPARTITIONED, leaked, only_own, scenarios};

scenarios!(silent_until_something_is_proved, bound_afterwards);

const SET_ACME: &str = "SET app.tenant_id = 'acme'";

/// Every connection is there and used for both tenants; then the agent comes.
fn warm(stage: &mut Stage) -> Result<(Client, Client)> {
    stage.scene.start_pooler(&Pool::transaction(stage.pool_size()))?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    acme.ask(stage.rounds(), &[SET_ACME, SELECT])?;
    leaked("globex", &globex.ask(stage.rounds(), &[SELECT])?)?;
    stage.scene.start_agent("")?;
    Ok((acme, globex))
}

fn silent_until_something_is_proved(stage: &mut Stage) -> Result<()> {
    let (mut acme, mut globex) = warm(stage)?;
    // The leak goes on, and yet nobody can know it: the SET was before our time.
    acme.ask(stage.rounds(), &[SELECT])?;
    leaked("globex", &globex.ask(stage.rounds(), &[SELECT])?)?;
    let agent = stage.scene.agent()?;
    agent.settle()?;
    let findings = agent.findings()?;
    ensure!(findings.is_empty(), "nothing is proved yet: {findings:?}");
    let unknown = agent.metrics()?.sum("leasewarden_operations_total", &[("verdict", "indeterminate")]);
    ensure!(unknown > 0.0, "what is not known must be counted");

    acme.ask(stage.rounds(), &[SET_ACME, SELECT])?;
    leaked("globex", &globex.ask(stage.rounds(), &[SELECT])?)?;
    agent.wait_for(STALE, Duration::from_secs(10))?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    outcome.has(SESSION_SET, "high", Some("globex"), Some("acme"))?;
    outcome.only(&[STALE, SESSION_SET, UNPARTITIONED])
}

fn bound_afterwards(stage: &mut Stage) -> Result<()> {
    let (mut acme, mut globex) = warm(stage)?;
    let steps = |tenant: &str| {
        let bind = format!("SELECT set_config('app.tenant_id', %s, true) ?{tenant}");
        ["BEGIN", &bind, SELECT, "COMMIT"].map(str::to_owned)
    };
    let (one, other) = stage.together((&mut acme, &steps("acme")), (&mut globex, &steps("globex")))?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}
