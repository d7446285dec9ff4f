//! A transaction pooler and `SET` for the session, against `set_config(…, true)` in the transaction. Over IPv4 and IPv6,
//! and with TLS on both sides of the pooler.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use tests::lab::agent::{Agent, Finding, binary};
use tests::lab::pgbouncer::Pool;
use tests::lab::scene::To;

use crate::{NOTHING, REUSE, SELECT, SESSION_SET, STALE, Stage, UNPARTITIONED, leaked, only_own, scenarios};

scenarios!(
    one_sets_the_other_never,
    both_set,
    bound_per_transaction,
    ipv6_one_sets,
    ipv6_bound_per_transaction,
    encrypted_one_sets,
    encrypted_bound_per_transaction,
    encrypted_and_recorded,
);

const SET_ACME: &str = "SET app.tenant_id = 'acme'";
const SET_GLOBEX: &str = "SET app.tenant_id = 'globex'";

fn in_transaction(tenant: &str) -> Vec<String> {
    let bind = format!("SELECT set_config('app.tenant_id', %s, true) ?{tenant}");
    vec!["BEGIN".into(), bind, SELECT.into(), NOTHING.into(), "COMMIT".into()]
}

fn one_sets(stage: &mut Stage, to: To) -> Result<()> {
    one_sets_and_is_found(stage, to).map(|_| ())
}

/// Gives what was found.
fn one_sets_and_is_found(stage: &mut Stage, to: To) -> Result<Vec<Finding>> {
    let mut acme = stage.client_to("acme", to, &[])?;
    let mut globex = stage.client_to("globex", to, &[])?;
    // Every server connection of the pool carries acme's binding before globex comes.
    acme.ask(stage.rounds(), &[SET_ACME, SELECT])?;
    let (_, seen) = stage.together((&mut acme, &[SET_ACME, SELECT]), (&mut globex, &[SELECT]))?;
    leaked("globex", &seen)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    outcome.has(SESSION_SET, "high", Some("globex"), Some("acme"))?;
    outcome.holds(
        "globex never set anything, so nobody ran under its name",
        outcome.findings.iter().all(|f| f.rule != STALE || f.bound.as_deref() == Some("acme")),
    )?;
    outcome.only(mistakes(stage))?;
    Ok(outcome.findings)
}

/// With two connections a SELECT may come to one that nobody has bound yet while its SET went to the other: true too.
fn mistakes(stage: &Stage) -> &'static [&'static str] {
    if stage.workers == 1 { &[STALE, SESSION_SET, UNPARTITIONED] } else { &[STALE, SESSION_SET, UNPARTITIONED, REUSE] }
}

fn one_sets_the_other_never(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    one_sets(stage, To::Pooler)
}

fn both_set(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    let (mut acme, mut globex) = (stage.client("acme")?, stage.client("globex")?);
    if stage.workers == 1 {
        acme.ask(1, &[SET_ACME, SELECT])?;
        globex.ask(1, &[SET_GLOBEX, SELECT])?;
        leaked("acme", &acme.ask(3, &[SELECT])?)?;
    } else {
        // A pause between the two gives the connection away.
        let (one, other) = stage.together(
            (&mut acme, &[SET_ACME, "pause: 3", SELECT, SELECT]),
            (&mut globex, &[SET_GLOBEX, "pause: 3", SELECT, SELECT]),
        )?;
        leaked("acme", &one)?;
        leaked("globex", &other)?;
    }
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.has(STALE, "critical", Some("acme"), Some("globex"))?;
    outcome.has(SESSION_SET, "high", Some("acme"), Some("globex"))?;
    if stage.workers > 1 {
        outcome.has(STALE, "critical", Some("globex"), Some("acme"))?;
    }
    outcome.only(mistakes(stage))
}

fn per_transaction(stage: &mut Stage, to: To) -> Result<()> {
    let mut acme = stage.client_to("acme", to, &[])?;
    let mut globex = stage.client_to("globex", to, &[])?;
    let (one, other) =
        stage.together((&mut acme, &in_transaction("acme")), (&mut globex, &in_transaction("globex")))?;
    only_own("acme", &one)?;
    only_own("globex", &other)?;
    acme.finish()?;
    globex.finish()?;

    let outcome = stage.scene.outcome()?;
    outcome.silent()?;
    outcome.holds(
        "the pooler's connections change tenant",
        outcome.metrics.sum("leasewarden_tenant_switches_total", &[("verdict", "revalidated")]) > 0.0,
    )
}

fn bound_per_transaction(stage: &mut Stage) -> Result<()> {
    stage.pooled()?;
    per_transaction(stage, To::Pooler)
}

fn ipv6(stage: &mut Stage) -> Result<()> {
    stage.scene.start_pooler(&Pool::transaction(stage.pool_size()).ipv6())?;
    stage.scene.start_agent("")
}

fn ipv6_one_sets(stage: &mut Stage) -> Result<()> {
    ipv6(stage)?;
    one_sets(stage, To::PoolerIpv6)
}

fn ipv6_bound_per_transaction(stage: &mut Stage) -> Result<()> {
    ipv6(stage)?;
    per_transaction(stage, To::PoolerIpv6)
}

/// The same findings as in clear: neither the clients nor the pooler know that they are read.
fn encrypted_one_sets(stage: &mut Stage) -> Result<()> {
    stage.scene.encrypt()?;
    stage.pooled()?;
    one_sets(stage, To::Pooler)
}

fn encrypted_bound_per_transaction(stage: &mut Stage) -> Result<()> {
    stage.scene.encrypt()?;
    stage.pooled()?;
    per_transaction(stage, To::Pooler)
}

/// A recording that holds the secrets comes to the same findings when it is replayed.
fn encrypted_and_recorded(stage: &mut Stage) -> Result<()> {
    stage.scene.encrypt()?;
    stage.scene.start_pooler(&Pool::transaction(stage.pool_size()))?;
    let recording = stage.scene.logs().join("recording.lwr");
    stage.scene.start_agent_as(&binary()?, "", Some(&recording))?;
    let found = one_sets_and_is_found(stage, To::Pooler)?;
    let what = |findings: Vec<Finding>| -> BTreeSet<_> {
        findings.into_iter().map(|f| (f.rule, f.severity, f.used_for, f.bound)).collect()
    };
    let (live, replayed) = (what(found), what(Agent::replay(&recording, stage.scene.logs())?));
    ensure!(live == replayed, "found live: {live:?}\nfound when replayed: {replayed:?}");
    Ok(())
}
