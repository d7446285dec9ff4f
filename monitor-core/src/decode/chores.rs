//! What job libraries and brokers keep for themselves: control channels, heartbeats, registries of workers, results. Known
//! by their form, which the libraries fix; none of it is a job, and none of it is anybody's data.
//!
//! Sources: kombu and Celery 5 (`celery/app/control.py`, `celery/events`, `kombu/pidbox.py`), RQ 2 (`rq/worker.py`,
//! `rq/registry.py`), Sidekiq 7 (`lib/sidekiq/launcher.rb`), BullMQ 5 (`src/classes/queue-keys.ts`), Dramatiq 1
//! (`brokers/redis/dispatch.lua`), arq (`arq/constants.py`), Apache Kafka (internal topics), NATS (system subjects).

/// Beginnings of names of brokers' own topics, subjects, channels and exchanges.
const BROKERS: &[&str] = &[
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__cluster_metadata",
    "__sentinel__:",
    "__keyspace@",
    "__keyevent@",
    "__redis__:",
    "_schemas",
    "_confluent",
    "connect-offsets",
    "connect-configs",
    "connect-status",
    "_INBOX.",
    "$SYS.",
    "$SYS/",
    "$JS.",
    "$SRV.",
    "amq.rabbitmq.",
];
/// Beginnings of RQ's names that are neither its queues nor its jobs.
const RQ: &[&str] = &[
    "rq:workers",
    "rq:worker:",
    "rq:queues",
    "rq:pubsub:",
    "rq:results:",
    "rq:clean_registries",
    "rq:wip",
    "rq:finished",
    "rq:failed",
    "rq:deferred",
    "rq:canceled",
    "rq:scheduled",
    "rq:scheduler",
    "rq:suspended",
    "rq:executions",
    "rq:execution",
];
/// Last words of BullMQ's keys that hold no job.
const BULL: &[&str] = &[":events", ":marker", ":meta", ":limiter", ":stalled-check"];
/// Keys, or their beginnings, of libraries' books that are not read by programs.
const BOOKS: &[&str] = &[
    "rq:",
    "bull:",
    "{bull",
    "arq:",
    "dramatiq:",
    "celery-task",
    "_kombu.binding.",
    "unacked",
    "stat:processed",
    "stat:failed",
];

fn begins(name: &str, with: &[&str]) -> bool {
    with.iter().any(|w| name.starts_with(w))
}

/// Whether what goes to this address (exchange and routing key, channel, list, stream, topic, subject) is a library's or
/// broker's own affair.
pub fn is_chore(name: &str) -> bool {
    if begins(name, BROKERS) || begins(name, RQ) {
        return true;
    }
    // Celery: behind a number of the database or a prefix, before a worker's name or an id.
    let part = |p: &str| matches!(p, "celeryev" | "__heartbeats__");
    name.contains("celery.pidbox")
        || name.contains("celery-task-meta-")
        || name.contains("celery-taskset-meta-")
        || name.contains("celeryd.")
        || name.split(['/', '.', ':']).any(part)
        // Dramatiq: what a worker has not confirmed.
        || name.contains(":__acks__.")
        || (name.starts_with("bull:") || name.starts_with("{bull}:")) && BULL.iter().any(|last| name.ends_with(last))
        // Sidekiq: orders to one process, `host:pid:nonce-signals`.
        || name.strip_suffix("-signals").is_some_and(|process| process.split(':').count() == 3)
        || begins(name, &["arq:queue:health-check", "arq:in-progress:", "arq:result:", "arq:retry:", "arq:abort"])
}

/// Whether a key is one of those in which a job library keeps its books.
pub fn is_book(key: &str) -> bool {
    begins(key, BOOKS) || matches!(key, "processes" | "queues") || is_chore(key)
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
        ] {
            assert!(!is_chore(queue), "{queue}");
        }
        assert!(is_book("rq:job:17") && is_book("bull:orders:id") && !is_book("orders:17") && !is_book("statistics"));
    }
}
