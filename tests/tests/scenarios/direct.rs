//! Two tenants' containers straight on one database, no pooler between: nobody meets anybody else's connection.

use anyhow::Result;
use tests::lab::client::Work;
use tests::lab::scene::To;

use crate::{SELECT, Stage, UNPARTITIONED, only_own, scenarios};

scenarios!(each_binds_for_its_session, nobody_binds);

fn each_binds_for_its_session(stage: &mut Stage) -> Result<()> {
    stage.scene.start_agent("")?;
    let client = |tenant: &str| {
        let setup = vec![format!("SET app.tenant_id = '{tenant}'")];
        stage.scene.client(tenant, To::Database, &Work { workers: stage.workers, setup, ..Work::default() })
    };
    let (mut acme, mut globex) = (client("acme")?, client("globex")?);
    let (one, other) = stage.together((&mut acme, &[SELECT]), (&mut globex, &[SELECT]))?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;
    stage.scene.outcome()?.silent()
}

fn nobody_binds(stage: &mut Stage) -> Result<()> {
    stage.scene.start_agent("")?;
    let mut acme = stage.client_to("acme", To::Database, &[])?;
    let mut globex = stage.client_to("globex", To::Database, &[])?;
    stage.together((&mut acme, &[SELECT]), (&mut globex, &[SELECT]))?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(UNPARTITIONED, "medium", None, None)?;
    outcome.only(&[UNPARTITIONED])
}
