//! What looks like a binding or a reset and is not: a failed transaction, `DISCARD ALL`, `SET LOCAL` outside a
//! transaction, a session pooler's reset.

use anyhow::Result;
use tests::lab::client::Work;
use tests::lab::pgbouncer::Pool;
use tests::lab::scene::To;

use crate::{LOCAL_SET, NOTHING, REUSE, SELECT, SESSION_SET, STALE, Stage, UNPARTITIONED, leaked, only_own, scenarios};

scenarios!(
    failed_transaction_leaves_the_earlier_set,
    failed_transaction_then_a_bound_one,
    reset_alone_is_no_binding,
    session_mode_bound_per_session,
    local_set_outside_a_transaction,
    local_config_outside_a_transaction,
    local_set_that_holds,
);

fn failed_transaction_leaves_the_earlier_set(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    acme.ask(stage.rounds(), &["SET app.tenant_id = 'acme'", SELECT])?;
    let failing = ["BEGIN", "SET app.tenant_id = 'globex'", "fails: SELECT 1/0", "ROLLBACK", SELECT];
    leaked("globex", &globex.ask(stage.rounds(), &failing)?)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    outcome.has(SESSION_SET, "high", Some("globex"), Some("acme"))?;
    outcome.holds(
        "what was rolled back binds nobody",
        outcome.findings.iter().all(|f| f.bound.as_deref() != Some("globex") || f.rule == REUSE),
    )?;
    outcome.only(&[STALE, SESSION_SET, UNPARTITIONED, REUSE])
}

fn failed_transaction_then_a_bound_one(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    let steps = |tenant: &str| {
        let bind = format!("SET LOCAL app.tenant_id = '{tenant}'");
        ["BEGIN", &bind, "fails: SELECT 1/0", "ROLLBACK", "BEGIN", &bind, SELECT, "COMMIT"].map(str::to_owned)
    };
    let (one, other) = stage.together((&mut acme, &steps("acme")), (&mut globex, &steps("globex")))?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}

/// A session pooler: each round is a session of its own, and the pooler sends `DISCARD ALL` after it.
fn sessions(stage: &mut Stage) -> Result<()> {
    stage.scene.start_pooler(&Pool::session(stage.pool_size()))?;
    stage.scene.start_agent("")
}

fn reset_alone_is_no_binding(stage: &mut Stage) -> Result<()> {
    sessions(stage)?;
    let mut acme = stage.client_to("acme", To::Pooler, &["--lazy"])?;
    let mut globex = stage.client_to("globex", To::Pooler, &["--lazy"])?;
    acme.ask(stage.rounds(), &["SET app.tenant_id = 'acme'", SELECT])?;
    // The reset works: globex sees nothing. It has proved nothing either: a start-up value would be back in force.
    let seen = globex.ask(stage.rounds(), &[SELECT])?;
    anyhow::ensure!(seen.rows.is_empty(), "DISCARD ALL should have cleared the setting: {seen:?}");
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(REUSE, "medium", Some("globex"), Some("acme"))?;
    outcome.only(&[REUSE, UNPARTITIONED])
}

fn session_mode_bound_per_session(stage: &mut Stage) -> Result<()> {
    sessions(stage)?;
    let mut acme = stage.client_to("acme", To::Pooler, &["--lazy"])?;
    let mut globex = stage.client_to("globex", To::Pooler, &["--lazy"])?;
    let (one, other) = stage.together(
        (&mut acme, &["SET app.tenant_id = 'acme'", SELECT, NOTHING, SELECT]),
        (&mut globex, &["SET app.tenant_id = 'globex'", SELECT, NOTHING, SELECT]),
    )?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}

/// Straight to the database: the mistake needs no pooler.
fn locals(stage: &mut Stage, steps: &[&str]) -> Result<bool> {
    stage.scene.start_agent("")?;
    let work = Work { workers: stage.workers, ..Work::default() };
    let mut acme = stage.scene.client("acme", To::Database, &work)?;
    let seen = acme.ask(stage.rounds(), steps)?;
    acme.finish()?;
    Ok(!seen.rows.is_empty())
}

fn local_is_found(stage: &mut Stage, bind: &str) -> Result<()> {
    let bound = locals(stage, &[bind, SELECT])?;
    anyhow::ensure!(!bound, "a LOCAL setting outside a transaction should not hold");
    let outcome = stage.scene.outcome()?;
    outcome.has(LOCAL_SET, "high", Some("acme"), None)?;
    outcome.only(&[LOCAL_SET])
}

fn local_set_outside_a_transaction(stage: &mut Stage) -> Result<()> {
    local_is_found(stage, "SET LOCAL app.tenant_id = 'acme'")
}

fn local_config_outside_a_transaction(stage: &mut Stage) -> Result<()> {
    local_is_found(stage, "SELECT set_config('app.tenant_id', 'acme', true)")
}

fn local_set_that_holds(stage: &mut Stage) -> Result<()> {
    let one_query = format!("SET LOCAL app.tenant_id = 'acme'; {SELECT}");
    let batch = format!("batch: SET LOCAL app.tenant_id = 'acme' ;; {SELECT}");
    let transaction = ["BEGIN", "SET LOCAL app.tenant_id = 'acme'", SELECT, "COMMIT"];
    let steps: Vec<&str> = [one_query.as_str(), batch.as_str()].into_iter().chain(transaction).collect();
    let bound = locals(stage, &steps)?;
    anyhow::ensure!(bound, "in one query, in one batch and in a transaction it should hold");
    stage.scene.outcome()?.silent()
}
