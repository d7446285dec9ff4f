//! Tenants by the labels of real containers: the shared service and both tenants' clients run in Docker or Podman, each
//! in a container of its own (acme's nests a cgroup), and nothing but labels tells whose they are.

use anyhow::{Context, Result, bail, ensure};
use tests::lab::ALLOW_MISSING;
use tests::lab::agent::binary;
use tests::lab::cases::{Case, Twin};
use tests::lab::containers::{Engine, programs};
use tests::lab::shared::Stage;

macro_rules! contained {
    ($($module:ident: $engine:ident $case:literal [$($with:ident = $n:literal),+];)+) => {$(
        mod $module {
            $(#[test]
            fn $with() {
                super::perform(super::Engine::$engine, $case, $n);
            })+
        }
    )+};
}

contained! {
    unbound: Docker "threads-unbound" [with_1 = 1, with_16 = 16];
    session_set: Docker "threads-session-set" [with_1 = 1];
    per_transaction: Docker "threads-per-transaction" [with_1 = 1, with_16 = 16];
    podman_unbound: Podman "threads-unbound" [with_16 = 16];
    podman_per_transaction: Podman "threads-per-transaction" [with_16 = 16];
}

fn perform(engine: Engine, name: &str, concurrency: u32) {
    match programs() {
        Err(error) if std::env::var_os(ALLOW_MISSING).is_some() => {
            eprintln!("NOT RUN, as {ALLOW_MISSING} allows: {error:#}");
            return;
        }
        Err(error) => panic!("{error:#}"),
        Ok(_) => {}
    }
    // A daemon and its containers are more than the processes of other scenes.
    let _seat = crate::room::enter(2);
    let mut report = String::new();
    if let Err(error) = play(engine, name, concurrency, &mut report) {
        panic!("{name} in containers of {}, with {concurrency}: {error:#}\n{report}", engine.name());
    }
}

fn play(engine: Engine, name: &str, concurrency: u32, report: &mut String) -> Result<()> {
    let case = Case::named(name).with_context(|| format!("no case {name}"))?;
    let mut stage =
        Stage::new(case, concurrency, &format!("containers-{}-{name}-{concurrency}", engine.name().to_lowercase()))?;
    stage.counts = true;
    stage.scene.start_containers(engine)?;
    let service = stage.scene.containers()?.name("tools");
    let played = stage.play(&binary()?, false).inspect_err(|_| *report = stage.scene.report())?;
    let outcome = &played.outcome;
    let judged = case.judge(concurrency, &outcome.findings);
    if !judged.false_positives.is_empty() {
        bail!("{} findings are not true\n{outcome}", judged.false_positives.len());
    }
    if !judged.missed.is_empty() {
        bail!("not found: {}\n{outcome}", judged.missed.join("; "));
    }
    if case.twin == Twin::Clean {
        outcome.quiet()?;
    }
    for finding in outcome.findings.iter().filter(|f| f.rule.starts_with("pool-")) {
        ensure!(finding.workload.as_deref() == Some(&service), "not the container's name: {}", finding.line);
    }
    let metric = |name: &str, labels: &[(&str, &str)]| outcome.metrics.sum(&format!("leasewarden_{name}"), labels);
    ensure!(metric("identity_synced", &[("source", "docker")]) > 0.0, "the runtime was not asked\n{outcome}");
    for end in ["timeout", "overflow"] {
        ensure!(
            metric("identity_waits_total", &[("result", end)]) == 0.0,
            "a container's first bytes were not waited for: {end}\n{outcome}"
        );
    }
    for tenant in ["acme", "globex"] {
        let done = metric("tenant_operations_total", &[("tenant", tenant), ("protocol", "postgres")]);
        ensure!(done > 0.0, "nothing was known to be done for {tenant}\n{outcome}");
    }
    Ok(())
}
