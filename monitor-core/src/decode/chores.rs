//! What job libraries and brokers keep for themselves: control channels, heartbeats, registries of workers, results. Known
//! by their form, which the libraries fix; none of it is a job, and none of it is anybody's data.
//!
//! Sources, as released: kombu 5.7 (`pidbox.py`, `transport/redis.py`) and Celery 5.7 (`events/event.py`,
//! `backends/base.py`, `backends/rpc.py`, `worker/consumer/{gossip,mingle}.py`), RQ 3.0 (every use of `RQ_KEY_PREFIX`),
//! BullMQ 6.7 (`classes/queue-keys.ts`, `classes/redis-relay-backend.ts`), Dramatiq 2.2 (`brokers/redis/dispatch.lua`,
//! `results/backend.py`), arq 0.28 (`constants.py`), Sidekiq 7 (`lib/sidekiq/launcher.rb`, `processor.rb`), Apache Kafka
//! and its Connect and MirrorMaker (internal topics), NATS 2 (`$SYS`, `$JS`, `$SRV`, `_INBOX`), RabbitMQ (`amq.gen-`,
//! direct reply-to).

/// Beginnings of names of brokers' own topics, subjects, channels and exchanges. Two underscores begin what is internal to
/// Kafka, to Redis, and to what is built on them.
const BROKERS: &[&str] = &[
    "__",
    "_schemas",
    "_confluent",
    "_redpanda",
    "connect-offsets",
    "connect-configs",
    "connect-status",
    "mm2-offset-syncs.",
    "mm2-configs.",
    "mm2-offsets.",
    "mm2-status.",
    "_INBOX.",
    "_R_.",
    "_GR_.",
    "$SYS.",
    "$SYS/",
    "$JS.",
    "$JSC.",
    "$NRG.",
    "$SRV.",
    "amq.rabbitmq.",
    "amq.gen-",
];
/// Last words of BullMQ's keys that hold no job.
const BULL: &[&str] = &[
    ":events",
    ":marker",
    ":meta",
    ":limiter",
    ":stalled-check",
    ":stalled",
    ":id",
    ":pc",
    ":repeat",
    ":completed",
    ":failed",
];
/// arq's keys that are neither its queue nor its jobs.
const ARQ: &[&str] = &["arq:in-progress:", "arq:result:", "arq:retry:", "arq:abort"];
/// Keys, or their beginnings, of libraries' books that are not read by programs.
const BOOKS: &[&str] =
    &["rq:", "bull:", "{bull", "arq:", "dramatiq:", "dramatiq-results:", "stat:processed", "stat:failed"];
/// Parts of keys of the same, behind a prefix that the operator may have chosen.
const BOOK_PARTS: &[&str] = &["celery-task", "_kombu.binding", "unacked", "chord-unlock-"];

fn begins(name: &str, with: &[&str]) -> bool {
    with.iter().any(|w| name.starts_with(w))
}

/// Whether a name is that of one process or one call alone: 32 hexadecimal digits in groups, as UUIDs are written.
fn is_uuid(name: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let mut parts = name.split('-');
    groups.iter().all(|n| parts.next().is_some_and(|p| p.len() == *n && p.bytes().all(|b| b.is_ascii_hexdigit())))
        && parts.next().is_none()
}

/// Sidekiq's name of a process: host, number, and twelve hexadecimal digits.
fn is_sidekiq_process(name: &str) -> bool {
    let mut parts = name.rsplit(':');
    let nonce = parts.next().is_some_and(|n| n.len() == 12 && n.bytes().all(|b| b.is_ascii_hexdigit()));
    nonce
        && parts.next().is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        && parts.next().is_some()
}

/// Whether what goes to this address (exchange and routing key, channel, list, stream, topic, subject) is a library's or
/// broker's own affair.
pub fn is_chore(name: &str) -> bool {
    if begins(name, BROKERS) || begins(name, ARQ) {
        return true;
    }
    // RQ: everything but its queues and its jobs.
    if let Some(rest) = name.strip_prefix("rq:") {
        return !begins(rest, &["queue:", "job:"]) || rest.contains(":first_seen:") || rest.ends_with(":dependents");
    }
    // Celery: behind a number of the database or a prefix, before a worker's name or an id. Replies to whoever asked, and
    // results where they are sent as messages, go to a queue of one process's own, which is called by an id alone.
    let part = |p: &str| matches!(p, "celeryev" | "pidbox" | "__heartbeats__");
    let bull = name.starts_with("bull:") || name.starts_with("{bull}:");
    name.split(['/', '.', ':']).any(part)
        || is_uuid(name.rsplit('/').next().unwrap_or(name))
        || ["celery-task-meta-", "celery-taskset-meta-", "chord-unlock-", "celeryd."].iter().any(|p| name.contains(p))
        // Dramatiq: what a worker has not confirmed, and what failed for good.
        || name.contains(":__acks__.")
        || bull && (BULL.iter().any(|last| name.ends_with(last)) || name.contains(":metrics:") || name.starts_with("bull::relay:"))
        // Sidekiq: orders to one process, and what it is at.
        || ["-signals", ":work"].iter().any(|last| name.strip_suffix(last).is_some_and(is_sidekiq_process))
        || name.ends_with(":health-check")
        // Kafka's MirrorMaker.
        || name.ends_with(".checkpoints.internal")
}

/// Whether a key is one of those in which a job library keeps its books.
pub fn is_book(key: &str) -> bool {
    begins(key, BOOKS)
        || BOOK_PARTS.iter().any(|part| key.contains(part))
        || matches!(key, "processes" | "queues" | "dramatiq")
        || is_sidekiq_process(key)
        || is_chore(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_channels_are_known_and_queues_are_not() {
        for chore in [
            "/0.celeryev/worker.heartbeat",
            "celeryev/worker.heartbeat",
            "celery.pidbox/",
            "/0.celery.pidbox",
            "reply.celery.pidbox/5e2f7c3a-0000-3000-8000-000000000000",
            "5e2f7c3a-0000-3000-8000-000000000000.reply.celery.pidbox",
            "celery-task-meta-5e2f7c3a-0000-4000-8000-000000000000",
            "rq:pubsub:4f6a",
            "rq:workers",
            "bull:orders:events",
            "dramatiq:__acks__.5e2f.default",
            "web-1:17:0123456789ab-signals",
            "__consumer_offsets",
            "$SYS.ACCOUNT.A.CONNECT",
            "_INBOX.abc.1",
            "5e2f7c3a-0000-3000-8000-000000000000",
            "/1.celeryev/worker.online",
            "worker1@host.celery.pidbox",
            "myapp.pidbox/",
            "app:celery-task-meta-5e2f",
            "celeryev.5e2f7c3a-0000-3000-8000-000000000000",
            "amq.gen-JzTY20BRgKO-HjmUJj0wLg",
            "rq:rl:api:allowed",
            "rq:cron_scheduler:a",
            "rq:results:17",
            "rq:queue:default:intermediate:first_seen:17",
            "bull:orders:metrics:completed",
            "bull::relay:namespaces",
            "orders:queue:health-check",
            "mm2-offset-syncs.b.internal",
            "b.checkpoints.internal",
            "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.C",
            "__strimzi_store_topic",
        ] {
            assert!(is_chore(chore), "{chore}");
        }
        for queue in [
            "celery",
            "celery/celery",
            "rq:queue:default",
            "bull:orders:wait",
            "orders:events",
            "dramatiq:default",
            "signals",
            "heartbeats",
            "rq:job:17",
            "rq:queue:default:intermediate",
            "orders/5e2f7c3a",
            "arq:queue",
            "orders.pidboxes",
            "$KV.settings.acme",
            "host:17:work",
        ] {
            assert!(!is_chore(queue), "{queue}");
        }
        assert!(is_book("rq:job:17") && is_book("bull:orders:id") && !is_book("orders:17") && !is_book("statistics"));
        for book in [
            "app:_kombu.binding.celery",
            "_kombu.binding_deadlines",
            "dramatiq",
            "dramatiq:default.msgs",
            "web-1:17:0123456789ab",
        ] {
            assert!(is_book(book), "{book}");
        }
        assert!(!is_book("cache:17:0123456789"));
    }
}
