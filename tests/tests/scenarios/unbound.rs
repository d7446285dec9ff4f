//! A transaction pooler and no binding at all, against one per transaction by `SET LOCAL`.

use anyhow::Result;

use crate::{REUSE, SELECT, Stage, UNPARTITIONED, only_own, scenarios};

scenarios!(nobody_binds, everybody_binds);

fn nobody_binds(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    acme.ask(stage.rounds(), &[SELECT])?;
    globex.ask(stage.rounds(), &[SELECT])?;
    stage.together((&mut acme, &[SELECT]), (&mut globex, &[SELECT]))?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(REUSE, "high", Some("globex"), Some("acme"))?;
    outcome.has(REUSE, "high", Some("acme"), Some("globex"))?;
    outcome.has(UNPARTITIONED, "medium", None, None)?;
    outcome.only(&[REUSE, UNPARTITIONED])
}

fn everybody_binds(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    let (one, other) = stage.together(
        (&mut acme, &["BEGIN", "SET LOCAL app.tenant_id = 'acme'", SELECT, "COMMIT"]),
        (&mut globex, &["BEGIN", "SET LOCAL app.tenant_id = 'globex'", SELECT, "COMMIT"]),
    )?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}
