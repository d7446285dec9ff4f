//! Named protocol-level prepared statements. PgBouncer carries them from 1.21 on and gives them other names, so that
//! what it sends is not what it received. Straight to the database they need no pooler of a certain age.

use anyhow::Result;
use tests::lab::ALLOW_MISSING;
use tests::lab::pgbouncer::{Pool, newer};
use tests::lab::scene::To;

use crate::{SESSION_SET, STALE, Stage, UNPARTITIONED, leaked, only_own, scenarios};

scenarios!(session_set_then_prepared, prepared_in_bound_transactions, prepared_without_a_pooler);

/// A prepared statement with a parameter: libpq prepares what has one.
const PREPARED: &str = "SELECT tenant, item FROM orders WHERE id > %s ORDER BY id LIMIT 5 ?0";

/// False when there is no such pooler and the caller of the tests has said that he knows.
fn pooled(stage: &mut Stage) -> Result<bool> {
    let root = match newer() {
        Ok(root) => root,
        Err(error) if std::env::var_os(ALLOW_MISSING).is_some() => {
            eprintln!("NOT RUN, as {ALLOW_MISSING} allows: {error:#}");
            return Ok(false);
        }
        Err(error) => return Err(error),
    };
    let pool = Pool::transaction(stage.pool_size()).with_prepared(root);
    stage.scene.start_pooler(&pool)?;
    stage.scene.start_agent("")?;
    Ok(true)
}

fn session_set_then_prepared(stage: &mut Stage) -> Result<()> {
    if !pooled(stage)? {
        return Ok(());
    }
    let mut acme = stage.client_to("acme", To::Pooler, &["--prepared"])?;
    let mut globex = stage.client_to("globex", To::Pooler, &["--prepared"])?;
    acme.ask(stage.rounds(), &["SET app.tenant_id = 'acme'", PREPARED])?;
    leaked("globex", &globex.ask(stage.rounds(), &[PREPARED])?)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    outcome.has(SESSION_SET, "high", Some("globex"), Some("acme"))?;
    outcome.only(&[STALE, SESSION_SET, UNPARTITIONED, crate::REUSE])
}

fn bound(tenant: &str) -> Vec<String> {
    let bind = format!("SELECT set_config('app.tenant_id', %s, true) ?{tenant}");
    vec!["BEGIN".into(), bind, PREPARED.into(), "COMMIT".into()]
}

fn prepared_in_bound_transactions(stage: &mut Stage) -> Result<()> {
    if !pooled(stage)? {
        return Ok(());
    }
    let mut acme = stage.client_to("acme", To::Pooler, &["--prepared"])?;
    let mut globex = stage.client_to("globex", To::Pooler, &["--prepared"])?;
    let (one, other) = stage.together((&mut acme, &bound("acme")), (&mut globex, &bound("globex")))?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.silent()?;
    let switches = outcome.metrics.sum("leasewarden_tenant_switches_total", &[("verdict", "revalidated")]);
    outcome.holds("renamed statements are followed through the pooler", switches > 0.0)
}

fn prepared_without_a_pooler(stage: &mut Stage) -> Result<()> {
    stage.scene.start_agent("")?;
    let mut acme = stage.client_to("acme", To::Database, &["--prepared"])?;
    let mut globex = stage.client_to("globex", To::Database, &["--prepared"])?;
    let (one, other) = stage.together((&mut acme, &bound("acme")), (&mut globex, &bound("globex")))?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    stage.scene.outcome()?.silent()
}
