//! The whole core on jobs of a log: two tenants publish to a topic of Kafka, one worker fetches records on one connection,
//! commits on another, and works on PostgreSQL.

use super::*;
use crate::decode::kafka::wire::{Record, batch, commit, committed, fetch, fetched, produce, produced};
use crate::model::{EvidenceClass, Severity};

const WORKER: u64 = POOLER;
const BROKER: u64 = 15;
const TENANTS: [&str; 2] = ["acme", "globex"];
const RULE: &str = "queue-tenant-unrevalidated";

/// Which tenant's a record is.
fn whose(offset: i64) -> usize {
    usize::from(offset % 2 == 1)
}

struct Scene {
    script: Script,
    producers: [usize; 2],
    fetches: usize,
    commits: usize,
    pool: usize,
    /// Offset of the next record.
    next: i64,
    correlation: i32,
}

impl Scene {
    fn new() -> Self {
        let mut script = Script::default();
        let pool = script.connect(WORKER, DATABASE, 40_000, 5432);
        let fetches = script.connect(WORKER, BROKER, 40_001, 9092);
        let commits = script.connect(WORKER, BROKER, 40_002, 9092);
        let producers = [ACME, GLOBEX].map(|who| script.connect(who, BROKER, 41_000 + who as u16, 9092));
        script.start(pool, "app");
        Self { script, producers, fetches, commits, pool, next: 0, correlation: 0 }
    }

    /// The tenants publish in turn, and the worker fetches it all at once; the first offset.
    fn hand_out(&mut self, n: i64) -> i64 {
        let first = self.next;
        let values: Vec<String> = (first..first + n).map(|i| format!("{{\"order\":{}}}", 4000 + i)).collect();
        let mut records: Vec<Record<'_>> = Vec::new();
        for (i, value) in values.iter().enumerate() {
            let header: &[(&str, &str)] =
                if whose(self.next) == 0 { &[("tenant_id", "acme")] } else { &[("tenant_id", "globex")] };
            records.push((None, value, header));
            self.correlation += 1;
            let (conn, c) = (self.producers[whose(self.next)], self.correlation);
            self.script.send(conn, 0, produce(c, 1, &batch(0, &records[i..])));
            self.script.send(conn, 1, produced(c, 0, self.next));
            self.next += 1;
        }
        self.correlation += 1;
        self.script.send(self.fetches, 0, fetch(self.correlation, first));
        self.script.send(self.fetches, 1, fetched(self.correlation, &batch(first, &records)));
        first
    }

    fn confirm(&mut self, below: i64) {
        self.correlation += 1;
        self.script.send(self.commits, 0, commit(self.correlation, below));
        self.script.send(self.commits, 1, committed(self.correlation, 0));
    }

    fn sql(&mut self, sql: &str, tag: &str, status: u8) {
        self.script.send(self.pool, 0, pg::query(sql));
        self.script.send(self.pool, 1, pg::reply(tag, status));
    }

    fn work(&mut self, bound: Option<usize>) {
        let Some(tenant) = bound else {
            return self.sql("INSERT INTO invoices (n) VALUES (1)", "INSERT 0 1", b'I');
        };
        self.sql("BEGIN", "BEGIN", b'T');
        let bind = format!("SELECT set_config('app.tenant_id', '{}', true)", TENANTS[tenant]);
        self.sql(&bind, "SELECT 1", b'T');
        self.sql("INSERT INTO invoices (n) VALUES (1)", "INSERT 0 1", b'T');
        self.sql("COMMIT", "COMMIT", b'I');
    }

    /// So many records at a time, done and committed one after the other.
    fn rounds(&mut self, rounds: usize, n: i64, bound: impl Fn(usize) -> Option<usize>) {
        for _ in 0..rounds {
            let first = self.hand_out(n);
            for i in 0..n {
                self.work(bound(whose(first + i)));
                self.confirm(first + i + 1);
            }
            self.script.steps.push(Step::Wait { millis: 5 });
        }
        self.script.steps.push(Step::Wait { millis: 3_000 });
    }
}

fn worst(seen: &Seen) -> Option<(EvidenceClass, Severity)> {
    seen.latest.iter().filter(|f| f.rule == RULE).map(|f| (f.class, f.severity)).max()
}

#[test]
fn a_commit_on_another_connection_ends_the_job() {
    let mut scene = Scene::new();
    scene.rounds(60, 1, |_| None);
    let seen = all(&scene.script.steps);
    assert_eq!(worst(&seen), Some((EvidenceClass::Endpoint, Severity::High)), "{:#?}", seen.operations);
}

#[test]
fn jobs_read_in_advance_are_told_apart_by_their_commits() {
    let mut scene = Scene::new();
    scene.rounds(20, 4, |_| None);
    let seen = all(&scene.script.steps);
    assert!(worst(&seen).is_some(), "{:#?}", seen.operations);
    let work: Vec<_> = seen.operations.iter().filter(|o| o.starts_with("data INSERT")).collect();
    assert!(work.iter().filter(|o| !o.contains(" - ")).count() > 60, "{work:#?}");
    for (i, op) in work.iter().enumerate() {
        assert!(op.contains(TENANTS[i % 2]) || op.contains(" - "), "{i}: {op}");
    }
}

#[test]
fn a_clean_reader_is_silent_whatever_is_lost() {
    let mut scene = Scene::new();
    scene.rounds(8, 1, Some);
    scene.rounds(2, 4, Some);
    let steps = scene.script.steps;
    let seen = all(&steps);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
    for lost in 0..steps.len() {
        let seen = play(&steps, |i| i != lost, false);
        assert!(seen.findings.is_empty(), "losing event {lost}: {:#?}", seen.findings);
    }
}
