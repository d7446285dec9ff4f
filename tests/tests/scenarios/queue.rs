//! Shared queues: brokers, producers of two tenants, and workers that do the jobs' side effects on a database. What runs,
//! and what must and may be found, is `tests::lab::queue_cases`; here it is demanded. One test plays all cases of a
//! broker, as brokers are slow to start; one that fails hides no other.

use anyhow::{Result, bail};
use tests::lab::agent::binary;
use tests::lab::brokers::Kind;
use tests::lab::cases::Twin;
use tests::lab::queue::Ground;
use tests::lab::queue_cases::{CASES, Program, QueueCase, STORMS};

#[test]
fn rabbitmq() {
    perform("rabbitmq", |p| p.broker() == Kind::RabbitMq);
}

#[test]
fn redis() {
    perform("redis", |p| p.broker() == Kind::Redis);
}

#[test]
fn nats() {
    perform("nats", |p| p.broker() == Kind::Nats);
}

#[test]
fn mosquitto() {
    perform("mosquitto", |p| p.broker() == Kind::Mosquitto);
}

#[test]
fn kafka() {
    perform("kafka", |p| p.broker() == Kind::Kafka);
}

/// The same in TLS: read by Python's library, as the broker's own TLS is written in Erlang.
#[test]
fn rabbitmq_encrypted() {
    perform_as("rabbitmq-encrypted", true, |c| {
        ["rabbitmq-unbound", "rabbitmq-carried", "rabbitmq-bound"].contains(&c.name)
    });
}

/// The server begins in clear, and is written in Go.
#[test]
fn nats_encrypted() {
    perform_as("nats-encrypted", true, |c| c.program.broker() == Kind::Nats);
}

/// Both storms at once: they are a minute of waiting each.
#[test]
fn storms() {
    let _seat = crate::room::alone();
    let results: Vec<Result<()>> = std::thread::scope(|scope| {
        let played: Vec<_> = STORMS
            .iter()
            .map(|case| {
                scope.spawn(move || {
                    let mut ground = Ground::new(case.program.broker(), &format!("queue-{}", case.name))?;
                    play(&mut ground, case, 1)
                })
            })
            .collect();
        played.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a case panicked"))).collect()
    });
    demand("storms", results);
}

/// Plays all cases of some programs; `LEASEWARDEN_QUEUE_CASE` picks those that have this in their name.
fn perform(what: &str, which: impl Fn(Program) -> bool) {
    perform_as(what, false, |case| which(case.program));
}

/// The same of some cases, in clear or in TLS.
fn perform_as(what: &str, encrypted: bool, which: impl Fn(&QueueCase) -> bool) {
    // Few jobs are in flight for long, and most of the time something starts.
    let _seat = crate::room::enter(1);
    let only = std::env::var("LEASEWARDEN_QUEUE_CASE").unwrap_or_default();
    let cases: Vec<&QueueCase> = CASES.iter().filter(|c| which(c) && c.name.contains(&only)).collect();
    let Some(first) = cases.first() else {
        assert!(!only.is_empty(), "no cases for {what}");
        return;
    };
    let mut ground = Ground::with(first.program.broker(), &format!("queue-{what}"), encrypted)
        .unwrap_or_else(|error| panic!("cannot set the scene: {error:#}"));
    let mut results = Vec::new();
    for case in cases {
        for &in_flight in case.in_flight {
            results.push(play(&mut ground, case, in_flight));
        }
    }
    demand(what, results);
}

fn play(ground: &mut Ground, case: &QueueCase, in_flight: u32) -> Result<()> {
    let began = std::time::Instant::now();
    let result = judge(ground, case, in_flight);
    let told = if result.is_ok() { "ok" } else { "FAILED" };
    eprintln!("{:<28} {in_flight:>2}  {told} ({:.1} s)", case.name, began.elapsed().as_secs_f32());
    result.map_err(|error| error.context(format!("{} with {in_flight}", case.name)))
}

fn judge(ground: &mut Ground, case: &QueueCase, in_flight: u32) -> Result<()> {
    let record = std::env::var_os("LEASEWARDEN_QUEUE_RECORD").is_some();
    let played = ground.play(case, in_flight, &binary()?, record)?;
    let judged = case.judge(in_flight, &played.outcome.findings);
    if !judged.false_positives.is_empty() {
        bail!("{} findings are not true; missed {:?}\n{}", judged.false_positives.len(), judged.missed, played.outcome);
    }
    if !judged.missed.is_empty() {
        bail!("not found: {}\n{}", judged.missed.join("; "), played.outcome);
    }
    if case.twin == Twin::Clean && case.may.is_empty() {
        played.outcome.quiet()?;
    }
    Ok(())
}

fn demand(what: &str, results: Vec<Result<()>>) {
    let n = results.len();
    let failed: Vec<String> = results.into_iter().filter_map(|r| r.err().map(|e| format!("{e:#}"))).collect();
    assert!(failed.is_empty(), "{what}: {} of {n} failed\n\n{}", failed.len(), failed.join("\n\n"));
}
