//! A shared service behind a load balancer that names its clients by the PROXY protocol. The service is HAProxy, whose
//! connections to what is behind it are everybody's; the load balancer is another, which nobody watches: only its headers tell
//! who asks.

use anyhow::{Context, Result, ensure};
use tests::lab::recipe_cases::HAPROXY;
use tests::lab::scene::{Outcome, Scene};
use tests::lab::service::{Behind, Program, Spec};

use crate::{REUSE, STALE, UNPARTITIONED};

const ASK: &[&str] = &["GET /orders/{new}"];

/// Both concurrencies: `NAME::with_1` and `NAME::with_16`.
macro_rules! proxied {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn with_1() {
                super::play(concat!("proxied-", stringify!($name), "-1"), 1, super::$name);
            }
            #[test]
            fn with_16() {
                super::play(concat!("proxied-", stringify!($name), "-16"), 16, super::$name);
            }
        }
    )+};
}

proxied!(one_session, own_sessions, one_session_untrusted);

/// One session of the service's own for everybody: globex' requests are found where acme's were, and the other way round.
fn one_session(stage: &mut Stage) -> Result<()> {
    let outcome = stage.ask("behind-one-cookie", true)?;
    // The session is the first token's: one tenant gets what is another's.
    let found: Vec<_> = outcome.findings.iter().filter(|f| [REUSE, STALE].contains(&f.rule.as_str())).collect();
    ensure!(!found.is_empty(), "nobody is found\n{outcome}");
    for f in &found {
        let (used, bound) = (f.used_for.as_deref(), f.bound.as_deref());
        let named = [used, bound].iter().all(|who| matches!(who, Some("acme" | "globex")));
        ensure!(named && used != bound, "not the tenants behind the load balancer: {}\n{outcome}", f.line);
    }
    outcome.only(&[REUSE, STALE, UNPARTITIONED])
}

/// Everybody's own session goes through.
fn own_sessions(stage: &mut Stage) -> Result<()> {
    let outcome = stage.ask("behind-cookies", true)?;
    outcome.quiet()
}

/// Who sends the headers is not trusted: whoever they name is nobody, and nobody is accused.
fn one_session_untrusted(stage: &mut Stage) -> Result<()> {
    let outcome = stage.ask("behind-one-cookie", false)?;
    outcome.quiet()
}

struct Stage {
    scene: Scene,
    /// Requests in flight.
    in_flight: u32,
}

impl Stage {
    /// Both tenants ask through the load balancer; gives what was found.
    fn ask(&mut self, mode: &'static str, trusted: bool) -> Result<Outcome> {
        let scene = &mut self.scene;
        scene.start_service(&Spec {
            program: Program::Recipe(HAPROXY),
            mode,
            pool: if self.in_flight == 1 { 1 } else { 4 },
            passes_trace: false,
            job: None,
            cache: None,
        })?;
        scene.start_front()?;
        let port = scene.service()?.port();
        let from = if trusted { "127.0.0.1" } else { "192.0.2.1" };
        scene.start_agent(&format!(
            "services:\n  - name: gateway\n    match: {{ port: {port} }}\n    proxy_protocol: {{ from: [\"{from}\"] }}\n"
        ))?;
        let workers = (self.in_flight / 2).max(1);
        let mut acme = scene.load_as("acme", workers, false, true)?;
        let mut globex = scene.load_as("globex", workers, false, true)?;
        if self.in_flight == 1 {
            for _ in 0..20 {
                acme.ask(1, ASK, None)?;
                globex.ask(1, ASK, None)?;
            }
        } else {
            acme.order(10, ASK, None)?;
            globex.order(10, ASK, None)?;
            acme.done()?;
            globex.done()?;
        }
        let foreign = acme.finish()?.foreign("acme") + globex.finish()?.foreign("globex");
        ensure!((foreign > 0) == mode.contains("one"), "{foreign} rows went to somebody else");
        let outcome = scene.outcome()?;
        outcome.holds("requests are read", outcome.metrics.sum("leasewarden_operations_total", &[]) >= 40.0)?;
        Ok(outcome)
    }
}

/// Sets the scene for one test, plays it, and says all there is to know when it fails.
fn play(name: &str, in_flight: u32, body: fn(&mut Stage) -> Result<()>) {
    let _seat = crate::room::enter(in_flight);
    let scene = Scene::with(name, Behind::Http).context("cannot set the scene");
    let mut stage = Stage { scene: scene.unwrap_or_else(|error| panic!("{error:#}")), in_flight };
    if let Err(error) = body(&mut stage) {
        panic!("{name}: {error:#}\n{}", stage.scene.report());
    }
}
