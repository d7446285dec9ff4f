//! The matrix of shared queues: what runs, how a worker does its jobs, and what the agent must and may say of it. The
//! scenario tests and `cargo xtask accuracy` read the same list.

use super::agent::Finding;
use super::brokers::Kind;
use super::cases::{Judged, Twin};
use super::python::Packages;

const QUEUE: &str = "queue-tenant-unrevalidated";
const MISSING: &str = "queue-tenant-missing";
const RETRY: &str = "retry-no-idempotency";
const BUDGET: &str = "retry-budget-exceeded";
const REUSE: &str = "pool-reuse-unrevalidated";
const STALE: &str = "pool-stale-binding";
const SESSION_SET: &str = "session-set-under-pooler";
const UNPARTITIONED: &str = "shared-service-unpartitioned";
const DOWNSTREAM: &str = "downstream-scope-missing";

/// What producers and workers are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// pika on both sides.
    Pika,
    /// pika, and a worker on aio-pika.
    AioPika,
    /// redis-py on streams with a consumer group.
    Streams,
    /// Celery over Redis, a process per job at a time.
    CeleryPrefork,
    /// Celery over Redis, threads.
    CeleryThreads,
    /// Celery over Redis, threads, with all of its housekeeping.
    CeleryWhole,
    /// RQ.
    Rq,
    /// Dramatiq over Redis.
    Dramatiq,
    /// arq.
    Arq,
    /// BullMQ on Node.js.
    BullMq,
    /// nats-py with a pull consumer.
    Nats,
    /// paho.
    Paho,
    /// confluent-kafka.
    Confluent,
    /// aiokafka.
    AioKafka,
    /// kafkajs on Node.js.
    KafkaJs,
}

impl Program {
    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pika => "RabbitMQ, pika",
            Self::AioPika => "RabbitMQ, aio-pika",
            Self::Streams => "Redis streams, redis-py",
            Self::CeleryPrefork => "Celery over Redis, prefork",
            Self::CeleryThreads => "Celery over Redis, threads",
            Self::CeleryWhole => "Celery over Redis, housekeeping",
            Self::Rq => "RQ",
            Self::Dramatiq => "Dramatiq over Redis",
            Self::Arq => "arq",
            Self::BullMq => "BullMQ",
            Self::Nats => "NATS JetStream, nats-py",
            Self::Paho => "Mosquitto, paho",
            Self::Confluent => "Kafka, confluent-kafka",
            Self::AioKafka => "Kafka, aiokafka",
            Self::KafkaJs => "Kafka, kafkajs",
        }
    }

    /// The broker that it needs.
    #[must_use]
    pub fn broker(self) -> Kind {
        match self {
            Self::Pika | Self::AioPika => Kind::RabbitMq,
            Self::Streams
            | Self::CeleryPrefork
            | Self::CeleryThreads
            | Self::CeleryWhole
            | Self::Rq
            | Self::Dramatiq
            | Self::Arq
            | Self::BullMq => Kind::Redis,
            Self::Nats => Kind::Nats,
            Self::Paho => Kind::Mosquitto,
            Self::Confluent | Self::AioKafka | Self::KafkaJs => Kind::Kafka,
        }
    }

    /// What it is installed with, where it is written in Python.
    #[must_use]
    pub fn packages(self) -> Packages {
        match self {
            Self::Rq | Self::Dramatiq | Self::Arq => Packages::Recipes,
            _ => Packages::Queue,
        }
    }

    /// Its script and variant.
    #[must_use]
    pub fn script(self) -> (&'static str, &'static str) {
        match self {
            Self::Pika => ("queue_amqp.py", "pika"),
            Self::AioPika => ("queue_amqp.py", "aio"),
            Self::Streams => ("queue_streams.py", ""),
            Self::CeleryPrefork => ("queue_celery.py", "prefork"),
            Self::CeleryThreads => ("queue_celery.py", "threads"),
            Self::CeleryWhole => ("queue_celery.py", "whole"),
            Self::Rq => ("queue_rq.py", ""),
            Self::Dramatiq => ("queue_dramatiq.py", ""),
            Self::Arq => ("queue_arq.py", ""),
            Self::BullMq => ("queue_bullmq.js", ""),
            Self::Nats => ("queue_nats.py", ""),
            Self::Paho => ("queue_mqtt.py", ""),
            Self::Confluent => ("queue_kafka.py", "confluent"),
            Self::AioKafka => ("queue_kafka.py", "aiokafka"),
            Self::KafkaJs => ("queue_kafkajs.js", ""),
        }
    }
}

/// Who consumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consumer {
    /// A worker that belongs to nobody, in `/shared/worker`.
    Shared,
    /// globex' own worker, on the queue of both.
    Globex,
    /// Each tenant's own worker, each on a queue of its own.
    Each,
}

/// What happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing.
    None,
    /// The worker dies after a side effect and before its confirmation, and another one takes over.
    Crash,
    /// After a quiet minute, acme's first job fails so many times while globex' jobs wait.
    Storm(u32),
}

/// A finding that must or may be made; what is `None` may be anything.
#[derive(Clone, Copy, Debug)]
pub struct Expect {
    /// The rule.
    pub rule: &'static str,
    /// Its least severity with one job at a time; with more, at least medium is demanded.
    pub alone: &'static str,
    /// `tenant.use`.
    pub used: Option<&'static str>,
    /// `tenant.bound`.
    pub bound: Option<&'static str>,
}

/// One scenario and one of its twins.
#[derive(Clone, Copy, Debug)]
pub struct QueueCase {
    /// Its name, used for files too.
    pub name: &'static str,
    /// Whether the work is done right.
    pub twin: Twin,
    /// What producers and workers are made of.
    pub program: Program,
    /// How the worker does its jobs.
    pub mode: &'static str,
    /// Where messages say whose they are: `none`, `header`, `token`.
    pub tag: &'static str,
    /// Messages carry an idempotency key.
    pub key: bool,
    /// Who consumes.
    pub consumer: Consumer,
    /// What happens meanwhile.
    pub event: Event,
    /// The kinds of acme's and globex' jobs.
    pub kinds: [&'static str; 2],
    /// Jobs in flight.
    pub in_flight: &'static [u32],
    /// Whose job really gets rows of somebody else's.
    pub leaks_to: Option<&'static str>,
    /// What must be found.
    pub must: &'static [Expect],
    /// What is true as well.
    pub may: &'static [Expect],
}

const fn expect(
    rule: &'static str,
    alone: &'static str,
    used: Option<&'static str>,
    bound: Option<&'static str>,
) -> Expect {
    Expect { rule, alone, used, bound }
}

const fn may(rule: &'static str) -> Expect {
    Expect { rule, alone: "info", used: None, bound: None }
}

const CLEAN: QueueCase = QueueCase {
    name: "",
    twin: Twin::Clean,
    program: Program::Pika,
    mode: "per-transaction",
    tag: "header",
    key: false,
    consumer: Consumer::Shared,
    event: Event::None,
    kinds: ["orders", "orders"],
    in_flight: &[1, 16],
    leaks_to: None,
    must: &[],
    may: &[],
};

/// Nobody binds: each tenant's jobs on connections that the other's had.
const UNBOUND: QueueCase = QueueCase {
    twin: Twin::Violating,
    mode: "unbound",
    leaks_to: Some("globex"),
    must: &[expect(QUEUE, "high", Some("globex"), Some("acme")), expect(QUEUE, "high", Some("acme"), Some("globex"))],
    may: &[may(REUSE), may(UNPARTITIONED), may(DOWNSTREAM)],
    ..CLEAN
};

/// acme's jobs bind for the session, globex' are on the path that forgot to: django-multitenant #213.
const CARRIED: QueueCase = QueueCase {
    twin: Twin::Violating,
    mode: "session-set",
    kinds: ["orders", "peek"],
    leaks_to: Some("globex"),
    must: &[expect(QUEUE, "critical", Some("globex"), Some("acme"))],
    may: &[
        expect(STALE, "info", Some("globex"), Some("acme")),
        expect(SESSION_SET, "info", Some("globex"), Some("acme")),
        // A connection that nobody has bound yet, or that globex had before.
        expect(REUSE, "info", Some("globex"), Some("acme")),
        may(UNPARTITIONED),
    ],
    ..CLEAN
};

/// As [`UNBOUND`], where jobs are confirmed before the work on them: it can only be inferred what is for which.
const UNBOUND_EARLY: QueueCase = QueueCase {
    must: &[
        expect(QUEUE, "medium", Some("globex"), Some("acme")),
        expect(QUEUE, "medium", Some("acme"), Some("globex")),
    ],
    ..UNBOUND
};

/// As [`CARRIED`], where jobs are confirmed before the work on them.
const CARRIED_EARLY: QueueCase =
    QueueCase { must: &[expect(QUEUE, "medium", Some("globex"), Some("acme"))], ..CARRIED };

/// Every scenario of a shared queue, violating before clean.
pub const CASES: &[QueueCase] = &[
    // RabbitMQ.
    QueueCase { name: "rabbitmq-unbound", ..UNBOUND },
    QueueCase { name: "rabbitmq-carried", ..CARRIED },
    QueueCase { name: "rabbitmq-bound", ..CLEAN },
    QueueCase { name: "rabbitmq-aio-unbound", program: Program::AioPika, in_flight: &[16], ..UNBOUND },
    QueueCase { name: "rabbitmq-aio-bound", program: Program::AioPika, in_flight: &[16], ..CLEAN },
    QueueCase {
        name: "rabbitmq-others-worker",
        twin: Twin::Violating,
        consumer: Consumer::Globex,
        in_flight: &[1],
        must: &[expect(QUEUE, "critical", Some("globex"), Some("acme"))],
        may: &[may(QUEUE), may(STALE), may(REUSE), may(UNPARTITIONED)],
        ..CLEAN
    },
    QueueCase { name: "rabbitmq-own-workers", consumer: Consumer::Each, in_flight: &[1], ..CLEAN },
    QueueCase {
        name: "rabbitmq-untagged",
        tag: "none",
        in_flight: &[1],
        must: &[
            expect(MISSING, "medium", Some("globex"), None),
            expect(QUEUE, "high", Some("globex"), Some("acme")),
            expect(QUEUE, "high", Some("acme"), Some("globex")),
        ],
        may: &[may(REUSE), may(UNPARTITIONED), may(DOWNSTREAM), may(MISSING)],
        ..UNBOUND
    },
    QueueCase {
        name: "rabbitmq-service-token",
        twin: Twin::Violating,
        mode: "service",
        tag: "token",
        in_flight: &[1],
        leaks_to: None,
        ..UNBOUND
    },
    QueueCase { name: "rabbitmq-own-token", mode: "records", tag: "token", in_flight: &[1], ..CLEAN },
    QueueCase {
        name: "rabbitmq-policy",
        mode: "policy",
        in_flight: &[1],
        // A policy that was asked clears the job; the connection that nobody binds is still what it is.
        may: &[may(REUSE), may(UNPARTITIONED)],
        ..CLEAN
    },
    QueueCase {
        name: "rabbitmq-crash",
        twin: Twin::Violating,
        event: Event::Crash,
        in_flight: &[1],
        must: &[expect(RETRY, "medium", Some("acme"), None)],
        ..CLEAN
    },
    QueueCase { name: "rabbitmq-crash-keyed", mode: "keyed", key: true, event: Event::Crash, in_flight: &[1], ..CLEAN },
    // Redis.
    QueueCase { name: "streams-unbound", program: Program::Streams, ..UNBOUND },
    QueueCase { name: "streams-carried", program: Program::Streams, ..CARRIED },
    QueueCase { name: "streams-bound", program: Program::Streams, ..CLEAN },
    QueueCase { name: "celery-prefork-unbound", program: Program::CeleryPrefork, ..UNBOUND_EARLY },
    QueueCase { name: "celery-prefork-carried", program: Program::CeleryPrefork, in_flight: &[1], ..CARRIED_EARLY },
    QueueCase { name: "celery-prefork-bound", program: Program::CeleryPrefork, ..CLEAN },
    QueueCase { name: "celery-threads-unbound", program: Program::CeleryThreads, ..UNBOUND },
    QueueCase { name: "celery-threads-bound", program: Program::CeleryThreads, ..CLEAN },
    QueueCase { name: "celery-whole-unbound", program: Program::CeleryWhole, in_flight: &[1], ..UNBOUND },
    QueueCase { name: "celery-whole-bound", program: Program::CeleryWhole, ..CLEAN },
    QueueCase {
        name: "celery-whole-own-workers",
        program: Program::CeleryWhole,
        consumer: Consumer::Each,
        in_flight: &[1],
        ..CLEAN
    },
    QueueCase { name: "rq-unbound", program: Program::Rq, ..UNBOUND },
    QueueCase { name: "rq-carried", program: Program::Rq, in_flight: &[1], ..CARRIED },
    QueueCase { name: "rq-bound", program: Program::Rq, ..CLEAN },
    QueueCase { name: "rq-own-workers", program: Program::Rq, consumer: Consumer::Each, in_flight: &[1], ..CLEAN },
    QueueCase { name: "dramatiq-unbound", program: Program::Dramatiq, ..UNBOUND },
    QueueCase { name: "dramatiq-bound", program: Program::Dramatiq, ..CLEAN },
    QueueCase { name: "arq-unbound", program: Program::Arq, ..UNBOUND },
    QueueCase { name: "arq-bound", program: Program::Arq, ..CLEAN },
    QueueCase { name: "bullmq-unbound", program: Program::BullMq, ..UNBOUND },
    QueueCase { name: "bullmq-carried", program: Program::BullMq, in_flight: &[1], ..CARRIED },
    QueueCase { name: "bullmq-bound", program: Program::BullMq, ..CLEAN },
    // NATS.
    QueueCase { name: "nats-unbound", program: Program::Nats, ..UNBOUND },
    QueueCase { name: "nats-carried", program: Program::Nats, in_flight: &[1], ..CARRIED },
    QueueCase { name: "nats-bound", program: Program::Nats, ..CLEAN },
    // MQTT.
    QueueCase { name: "mqtt-unbound", program: Program::Paho, ..UNBOUND },
    QueueCase { name: "mqtt-carried", program: Program::Paho, in_flight: &[1], ..CARRIED },
    QueueCase { name: "mqtt-bound", program: Program::Paho, ..CLEAN },
    // Kafka.
    QueueCase { name: "kafka-unbound", program: Program::Confluent, ..UNBOUND },
    QueueCase { name: "kafka-carried", program: Program::Confluent, in_flight: &[1], ..CARRIED },
    QueueCase { name: "kafka-bound", program: Program::Confluent, ..CLEAN },
    QueueCase { name: "kafka-aio-unbound", program: Program::AioKafka, in_flight: &[1], ..UNBOUND },
    QueueCase { name: "kafka-aio-bound", program: Program::AioKafka, in_flight: &[1], ..CLEAN },
    QueueCase { name: "kafkajs-unbound", program: Program::KafkaJs, in_flight: &[1], ..UNBOUND },
    QueueCase { name: "kafkajs-bound", program: Program::KafkaJs, in_flight: &[1], ..CLEAN },
];

/// A storm takes a minute of quiet before: these are played beside each other, not one after the other.
pub const STORMS: &[QueueCase] = &[
    QueueCase {
        name: "rabbitmq-storm",
        twin: Twin::Violating,
        event: Event::Storm(80),
        in_flight: &[1],
        must: &[expect(BUDGET, "medium", Some("acme"), Some("globex"))],
        ..CLEAN
    },
    QueueCase { name: "rabbitmq-few-retries", event: Event::Storm(6), in_flight: &[1], ..CLEAN },
];

/// Severities, least first.
const SEVERITIES: [&str; 5] = ["info", "low", "medium", "high", "critical"];

fn rank(severity: &str) -> usize {
    SEVERITIES.iter().position(|s| *s == severity).unwrap_or(0)
}

impl Expect {
    fn fits(&self, f: &Finding) -> bool {
        f.rule == self.rule
            && (self.used.is_none() || f.used_for.as_deref() == self.used)
            && (self.bound.is_none() || f.bound.as_deref() == self.bound)
    }
}

impl QueueCase {
    /// Compares what was found with what is true.
    #[must_use]
    pub fn judge(&self, in_flight: u32, findings: &[Finding]) -> Judged {
        let mut judged = Judged::default();
        for m in self.must {
            let least = if in_flight == 1 { m.alone } else { "medium" };
            if findings.iter().any(|f| m.fits(f) && rank(&f.severity) >= rank(least)) {
                judged.n_found += 1;
            } else {
                judged.missed.push(format!("{} use={:?} bound={:?} ≥ {least}", m.rule, m.used, m.bound));
            }
        }
        for f in findings {
            if !self.must.iter().chain(self.may).any(|m| m.fits(f)) {
                judged.false_positives.push((f.severity.clone(), f.line.clone()));
            }
        }
        judged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static QueueCase> {
        CASES.iter().chain(STORMS)
    }

    #[test]
    fn names_are_unique_and_every_program_has_both_twins() {
        for (i, case) in all().enumerate() {
            assert!(all().skip(i + 1).all(|other| other.name != case.name), "{} is there twice", case.name);
            assert_eq!(case.twin == Twin::Clean, case.must.is_empty(), "{}", case.name);
            for twin in [Twin::Violating, Twin::Clean] {
                assert!(all().any(|c| c.program == case.program && c.twin == twin), "{:?} {twin:?}", case.program);
            }
        }
    }

    #[test]
    fn judging_demands_tenants_and_severity() {
        let case = CASES.iter().find(|c| c.name == "rabbitmq-carried").unwrap();
        let finding = |severity: &str, used: &str| Finding {
            rule: QUEUE.into(),
            severity: severity.into(),
            class: "endpoint".into(),
            used_for: Some(used.into()),
            bound: Some("acme".into()),
            workload: None,
            line: String::new(),
        };
        assert_eq!(case.judge(1, &[finding("critical", "globex")]).n_found, 1);
        assert_eq!(case.judge(1, &[finding("high", "globex")]).missed.len(), 1);
        assert_eq!(case.judge(16, &[finding("high", "globex")]).n_found, 1);
        let wrong = case.judge(1, &[finding("critical", "acme")]);
        assert_eq!((wrong.n_found, wrong.false_positives.len()), (0, 1));
    }
}
