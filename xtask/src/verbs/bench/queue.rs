//! Messages a second through brokers, with and without the agent, in pairs: small ones with a tenant's header, published
//! by a tenant's container and confirmed one by one by a shared worker.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ::tests::lab::Scratch;
use ::tests::lab::brokers::{Broker, Kind};
use ::tests::lab::cgroup::Tree;
use ::tests::lab::python::{Packages, program};
use ::tests::lab::talk::Talk;
use anyhow::{Context, Result};
use serde_json::json;

use super::scene::Watching;
use super::{Args, Line, line, median};
use crate::{paths, sh};

/// What is measured: broker, variant of the load program, messages a second that about fit, for people.
const LOADS: [(Kind, &str, u32, &str); 2] = [
    (Kind::RabbitMq, "amqp", 9_000, "RabbitMQ, basic.publish to basic.ack (pika)"),
    (Kind::Redis, "streams", 20_000, "Redis stream, XADD to XACK (redis-py)"),
];

/// A broker, a producer and a consumer. Fields are dropped in this order: first who uses, then who is used.
struct Scene {
    producer: Talk,
    consumer: Talk,
    _broker: Broker,
    tree: Tree,
    _scratch: Scratch,
    logs: PathBuf,
}

impl Scene {
    fn start(kind: Kind, variant: &str) -> Result<Self> {
        let logs = paths::lab().join("bench").join(format!("queue-{variant}"));
        let tree = Tree::new(&format!("leasewarden-bench-queue-{variant}"))?;
        let scratch = Scratch::new(&format!("bench-queue-{variant}"))?;
        let broker = Broker::start(kind, None, &scratch, &tree.dir("shared/broker")?, &logs)?;
        let port = broker.port().to_string();
        let talk = |role: &str, cgroup: &str| -> Result<Talk> {
            let launch = program(role, Packages::Queue, "queue_load.py")?
                .args(["--role", role, "--variant", variant, "--broker", &port, "--tenant", "acme"])
                .cgroup(&tree.dir(cgroup)?);
            Talk::start(launch, role, &logs)
        };
        let consumer = talk("consumer", "shared/worker")?;
        let producer = talk("producer", "tenants/acme/agent")?;
        Ok(Self { producer, consumer, _broker: broker, tree, _scratch: scratch, logs })
    }

    /// Passes `n` messages; how long that took, in seconds.
    fn pass(&mut self, n: u32) -> Result<f64> {
        let order = json!({ "messages": n });
        let began = Instant::now();
        self.consumer.order(&order)?;
        self.producer.order(&order)?;
        self.producer.answer()?;
        self.consumer.answer()?;
        Ok(began.elapsed().as_secs_f64())
    }
}

pub(super) fn queue(binary: &Path, args: &Args) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (kind, variant, rate, name) in LOADS {
        sh::step(&format!("preparing {}", kind.name()));
        let mut scene = Scene::start(kind, variant)?;
        let n = rate * u32::try_from(args.time.as_secs().max(1)).context("too long")?;
        // Whatever is slow the first time is not measured.
        scene.pass(n / 10 + 1)?;
        lines.extend(pairs(&mut scene, n, name, binary, args)?);
    }
    Ok(lines)
}

fn pairs(scene: &mut Scene, n: u32, name: &str, binary: &Path, args: &Args) -> Result<Vec<Line>> {
    let (mut alone, mut watched, mut ratios, mut cpu, mut seen, mut lost) =
        (vec![], vec![], vec![], vec![], vec![], 0.0);
    let messages = f64::from(n);
    for pair in 0..args.pairs {
        sh::step(&format!("{name}, pair {} of {}", pair + 1, args.pairs));
        // Each order as often as the other: machines drift.
        let (mut without, mut with) = (0.0, 0.0);
        for with_agent in if pair % 2 == 0 { [false, true] } else { [true, false] } {
            if with_agent {
                let agent = Watching::start(binary, scene.tree.root(), &scene.logs)?;
                let before = agent.cpu()?;
                let seconds = scene.pass(n)?;
                with = messages / seconds;
                cpu.push((agent.cpu()? - before) / seconds);
                // Metrics are refreshed once a second.
                std::thread::sleep(Duration::from_millis(1500));
                let metrics = agent.metrics()?;
                lost += metrics.sum("leasewarden_events_lost_total", &[]);
                // Connections older than the agent are read from the next sure start on.
                let acks = metrics.sum("leasewarden_operations_total", &[("kind", "ack")]);
                let published = metrics.sum("leasewarden_operations_total", &[("kind", "publish")]);
                seen.push(acks.min(published) / messages);
            } else {
                without = messages / scene.pass(n)?;
            }
        }
        sh::note(&format!("{without:.0} /s alone, {with:.0} /s watched"));
        alone.push(without);
        watched.push(with);
        ratios.push(with / without);
    }
    let of = |what: &str| format!("{what}, {name}");
    Ok(vec![
        line(
            of("messages watched ÷ unwatched"),
            format!("{:.2} ({:.0} /s ÷ {:.0} /s)", median(ratios), median(watched), median(alone)),
            "≥ 0.95",
        ),
        line(of("agent CPU"), format!("{:.0} % of a core", 100.0 * median(cpu)), "—"),
        // Cheap because blind would show here.
        line(of("messages followed ÷ passed"), format!("{:.2}", median(seen)), "1"),
        line(of("events lost"), format!("{lost:.0}"), "0"),
    ])
}
