//! A transaction pooler and `SET ROLE` for the session, against `SET LOCAL ROLE` in the transaction.

use anyhow::Result;

use crate::{SELECT, SESSION_SET, STALE, Stage, UNPARTITIONED, leaked, only_own, scenarios};

scenarios!(role_for_the_session, role_for_the_transaction);

fn role_for_the_session(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    acme.ask(stage.rounds(), &["SET ROLE tenant_acme", SELECT])?;
    leaked("globex", &globex.ask(stage.rounds(), &[SELECT])?)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    outcome.has(SESSION_SET, "high", Some("globex"), Some("acme"))?;
    outcome.only(&[STALE, SESSION_SET, UNPARTITIONED, crate::REUSE])
}

fn role_for_the_transaction(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    let (one, other) = stage.together(
        (&mut acme, &["BEGIN", "SET LOCAL ROLE tenant_acme", SELECT, "COMMIT"]),
        (&mut globex, &["BEGIN", "SET LOCAL ROLE tenant_globex", SELECT, "COMMIT"]),
    )?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}
