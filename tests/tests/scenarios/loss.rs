//! A ring so small that events are lost: what is lost is counted, what it may have held is not guessed.

use anyhow::Result;
use tests::lab::client::Work;
use tests::lab::pgbouncer::Pool;
use tests::lab::scene::{Outcome, To};

use crate::{REUSE, SELECT, SESSION_SET, STALE, Stage, UNPARTITIONED, play};

/// Larger than the ring, together with what else is under way.
const MANY: &str = "SELECT tenant, item FROM orders ORDER BY id";

#[test]
fn lost_events_are_no_findings() {
    play("loss-clean", 16, clean);
}

#[test]
fn what_is_found_in_spite_of_loss_is_true() {
    play("loss-violating", 16, violating);
}

fn flood(stage: &mut Stage, acme: &[String], globex: &[String]) -> Result<Outcome> {
    stage.scene.start_pooler(&Pool::transaction(8))?;
    stage.scene.start_agent("limits:\n  ring_kb: 8\n")?;
    // No rest between rounds: as fast as sixteen connections each can.
    let work = Work { workers: stage.workers, options: vec!["--pause", "0"], ..Work::default() };
    let mut one = stage.scene.client("acme", To::Pooler, &work)?;
    let mut other = stage.scene.client("globex", To::Pooler, &work)?;
    // Until something is lost, which a fast machine may put off.
    for _ in 0..10 {
        one.order(40, acme)?;
        other.order(40, globex)?;
        one.done()?;
        other.done()?;
        std::thread::sleep(std::time::Duration::from_millis(1200));
        if stage.scene.agent()?.metrics()?.sum("leasewarden_events_lost_total", &[]) > 0.0 {
            break;
        }
    }
    one.finish()?;
    other.finish()?;
    let outcome = stage.scene.outcome()?;
    outcome.holds("loss is counted", outcome.metrics.sum("leasewarden_events_lost_total", &[]) > 0.0)?;
    outcome.holds("what loss touched is indeterminate", outcome.n_verdicts("indeterminate") > 0.0)?;
    Ok(outcome)
}

fn clean(stage: &mut Stage) -> Result<()> {
    let steps = |tenant: &str| {
        let bind = format!("SELECT set_config('app.tenant_id', %s, true) ?{tenant}");
        ["BEGIN", &bind, SELECT, "COMMIT", "BEGIN", &bind, MANY, "COMMIT"].map(str::to_owned)
    };
    flood(stage, &steps("acme"), &steps("globex"))?.quiet()
}

fn violating(stage: &mut Stage) -> Result<()> {
    let acme = ["SET app.tenant_id = 'acme'", SELECT, MANY].map(str::to_owned);
    let outcome = flood(stage, &acme, &[SELECT, MANY].map(str::to_owned))?;
    outcome.only(&[STALE, SESSION_SET, UNPARTITIONED, REUSE])?;
    outcome.holds(
        "only globex can have met a binding, and only acme's",
        outcome
            .findings
            .iter()
            .all(|f| f.rule != STALE || (f.used_for.as_deref(), f.bound.as_deref()) == (Some("globex"), Some("acme"))),
    )
}
