//! Tenants that the wire knows by identifiers which nobody has explained, and the same with aliases configured.

use anyhow::Result;
use tests::lab::pgbouncer::Pool;
use tests::lab::postgres::{ACME_UUID, GLOBEX_UUID};

use crate::{SELECT, SESSION_SET, STALE, Stage, UNPARTITIONED, leaked, only_own, scenarios};

scenarios!(session_set, bound_per_transaction, aliased_session_set, aliased_bound_per_transaction);

fn aliases() -> String {
    format!(
        "tenants:\n  - name: acme\n    aliases: [\"{ACME_UUID}\"]\n  - name: globex\n    aliases: [\"{GLOBEX_UUID}\"]\n"
    )
}

fn violating(stage: &mut Stage, config: &str) -> Result<()> {
    stage.scene.start_pooler(&Pool::transaction(stage.pool_size()))?;
    stage.scene.start_agent(config)?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    let set = format!("SET app.tenant_id = '{ACME_UUID}'");
    acme.ask(stage.rounds(), &[set.as_str(), SELECT])?;
    leaked(GLOBEX_UUID, &globex.ask(stage.rounds(), &[SELECT])?)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    outcome.has(SESSION_SET, "high", Some("globex"), Some("acme"))?;
    outcome.only(&[STALE, SESSION_SET, UNPARTITIONED, crate::REUSE])
}

fn clean(stage: &mut Stage, config: &str) -> Result<()> {
    stage.scene.start_pooler(&Pool::transaction(stage.pool_size()))?;
    stage.scene.start_agent(config)?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    let steps = |id: &str| {
        let bind = format!("SELECT set_config('app.tenant_id', %s, true) ?{id}");
        ["BEGIN", &bind, SELECT, "COMMIT"].map(str::to_owned)
    };
    let (one, other) = stage.together((&mut acme, &steps(ACME_UUID)), (&mut globex, &steps(GLOBEX_UUID)))?;
    only_own(ACME_UUID, &one)?;
    only_own(GLOBEX_UUID, &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}

fn session_set(stage: &mut Stage) -> Result<()> {
    violating(stage, "")
}

fn bound_per_transaction(stage: &mut Stage) -> Result<()> {
    clean(stage, "")
}

fn aliased_session_set(stage: &mut Stage) -> Result<()> {
    violating(stage, &aliases())
}

fn aliased_bound_per_transaction(stage: &mut Stage) -> Result<()> {
    clean(stage, &aliases())
}
