//! The whole core on scripted jobs: two tenants publish to a stream, one worker takes them and works on PostgreSQL.

use super::*;
use crate::model::{EvidenceClass, Severity};

const WORKER: u64 = POOLER;
const BROKER: u64 = 15;
const TENANTS: [&str; 2] = ["acme", "globex"];

/// A command, or a nested array of replies, in the protocol of Redis.
fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for w in words {
        out.extend_from_slice(&bulk(w));
    }
    out
}

fn bulk(text: &str) -> Vec<u8> {
    format!("${}\r\n{text}\r\n", text.len()).into_bytes()
}

/// One entry of one stream, as XREADGROUP answers.
fn entry(id: &str, fields: &[&str]) -> Vec<u8> {
    let mut out = b"*1\r\n*2\r\n".to_vec();
    out.extend(bulk("jobs"));
    out.extend(b"*1\r\n*2\r\n");
    out.extend(bulk(id));
    out.extend(command(fields));
    out
}

struct Scene {
    script: Script,
    producers: [usize; 2],
    worker: usize,
    pool: usize,
    n: u32,
}

impl Scene {
    fn new() -> Self {
        let mut script = Script::default();
        let pool = script.connect(WORKER, DATABASE, 40_000, 5432);
        let worker = script.connect(WORKER, BROKER, 40_001, 6379);
        let producers = [ACME, GLOBEX].map(|who| script.connect(who, BROKER, 41_000 + who as u16, 6379));
        script.start(pool, "app");
        Self { script, producers, worker, pool, n: 0 }
    }

    fn publish(&mut self, tenant: usize, labelled: bool) -> (String, Vec<String>) {
        self.n += 1;
        let id = format!("1700000000000-{}", self.n);
        let mut fields = vec!["order".to_owned(), (4000 + self.n).to_string()];
        if labelled {
            fields.extend(["tenant_id".to_owned(), TENANTS[tenant].to_owned()]);
        }
        let mut words = vec!["XADD", "jobs", "*"];
        words.extend(fields.iter().map(String::as_str));
        self.script.send(self.producers[tenant], 0, command(&words));
        self.script.send(self.producers[tenant], 1, bulk(&id));
        (id, fields)
    }

    fn take(&mut self, job: &(String, Vec<String>)) {
        let read = ["XREADGROUP", "GROUP", "g", "w1", "COUNT", "1", "BLOCK", "5000", "STREAMS", "jobs", ">"];
        self.script.send(self.worker, 0, command(&read));
        let fields: Vec<&str> = job.1.iter().map(String::as_str).collect();
        self.script.send(self.worker, 1, entry(&job.0, &fields));
    }

    fn confirm(&mut self, job: &(String, Vec<String>)) {
        self.script.send(self.worker, 0, command(&["XACK", "jobs", "g", &job.0]));
        self.script.send(self.worker, 1, b":1\r\n".to_vec());
    }

    fn sql(&mut self, sql: &str, tag: &str, status: u8) {
        self.script.send(self.pool, 0, pg::query(sql));
        self.script.send(self.pool, 1, pg::reply(tag, status));
    }

    /// The side effect of a job, bound to a tenant for its transaction, or not at all.
    fn work(&mut self, bound: Option<usize>) {
        match bound {
            Some(tenant) => {
                self.sql("BEGIN", "BEGIN", b'T');
                let bind = format!("SELECT set_config('app.tenant_id', '{}', true)", TENANTS[tenant]);
                self.sql(&bind, "SELECT 1", b'T');
                self.sql("INSERT INTO invoices (n) VALUES (1)", "INSERT 0 1", b'T');
                self.sql("COMMIT", "COMMIT", b'I');
            }
            None => self.sql("INSERT INTO invoices (n) VALUES (1)", "INSERT 0 1", b'I'),
        }
    }

    /// Jobs one at a time, the tenants in turn; `bound`: whom the work on a tenant's job is bound to.
    fn one_at_a_time(&mut self, n: usize, labelled: bool, bound: impl Fn(usize) -> Option<usize>) {
        for i in 0..n {
            let job = self.publish(i % 2, labelled);
            self.take(&job);
            self.work(bound(i % 2));
            self.confirm(&job);
            self.script.steps.push(Step::Wait { millis: 5 });
        }
        self.script.steps.push(Step::Wait { millis: 3_000 });
    }

    /// Jobs handed out four at a time, and done one after the other.
    fn in_advance(&mut self, rounds: usize, bound: impl Fn(usize) -> Option<usize>) {
        for _ in 0..rounds {
            let jobs: Vec<_> = (0..4).map(|i| (i % 2, self.publish(i % 2, true))).collect();
            for (_, job) in &jobs {
                self.take(job);
            }
            for (tenant, job) in &jobs {
                self.work(bound(*tenant));
                self.confirm(job);
            }
            self.script.steps.push(Step::Wait { millis: 5 });
        }
        self.script.steps.push(Step::Wait { millis: 3_000 });
    }
}

mod libraries;

const RULE: &str = "queue-tenant-unrevalidated";

fn worst(seen: &Seen, rule: &str) -> Option<(EvidenceClass, Severity)> {
    seen.latest.iter().filter(|f| f.rule == rule).map(|f| (f.class, f.severity)).max()
}

#[test]
fn work_that_nothing_re_validates() {
    let mut scene = Scene::new();
    scene.one_at_a_time(60, true, |_| None);
    let seen = all(&scene.script.steps);
    assert_eq!(worst(&seen, RULE), Some((EvidenceClass::Endpoint, Severity::High)), "{:#?}", seen.operations);
}

#[test]
fn work_bound_to_the_other_tenant() {
    let mut scene = Scene::new();
    scene.one_at_a_time(60, true, |_| Some(0));
    let seen = all(&scene.script.steps);
    assert_eq!(worst(&seen, RULE), Some((EvidenceClass::Endpoint, Severity::Critical)), "{:#?}", seen.findings);
    let wrong: Vec<_> = seen.findings.iter().filter(|f| f.rule == RULE).collect();
    assert!(wrong.iter().all(|f| f.tenants.used.as_deref() == Some("globex")), "{wrong:#?}");
}

#[test]
fn what_a_worker_tells_itself_hides_nobody() {
    // An event loop is woken by a byte on a connection to itself; a stranger's unreadable connection may hold requests.
    for (from, known) in [(WORKER, true), (ACME, false)] {
        let mut scene = Scene::new();
        let wakes = scene.script.connect(from, WORKER, 43_000, 43_001);
        for i in 0..60 {
            let job = scene.publish(i % 2, true);
            scene.take(&job);
            scene.work(None);
            scene.script.send(wakes, 0, b"x".to_vec());
            scene.confirm(&job);
            scene.script.steps.push(Step::Wait { millis: 5 });
        }
        scene.script.steps.push(Step::Wait { millis: 3_000 });
        let seen = all(&scene.script.steps);
        assert_eq!(
            worst(&seen, RULE) == Some((EvidenceClass::Endpoint, Severity::High)),
            known,
            "{:#?}",
            seen.findings
        );
    }
}

#[test]
fn jobs_may_be_confirmed_on_another_connection() {
    let mut scene = Scene::new();
    let (takes, confirms) = (scene.worker, scene.script.connect(WORKER, BROKER, 40_002, 6379));
    for i in 0..60 {
        let job = scene.publish(i % 2, true);
        scene.take(&job);
        scene.work(None);
        scene.worker = confirms;
        scene.confirm(&job);
        scene.worker = takes;
        scene.script.steps.push(Step::Wait { millis: 5 });
    }
    scene.script.steps.push(Step::Wait { millis: 3_000 });
    let seen = all(&scene.script.steps);
    assert_eq!(worst(&seen, RULE), Some((EvidenceClass::Endpoint, Severity::High)), "{:#?}", seen.operations);
}

#[test]
fn whoever_takes_jobs_of_two_tenants_needs_no_label() {
    let mut scene = Scene::new();
    // The broker knows two tenants, and the worker looks after its queue on its own account.
    for i in 0..4 {
        let job = scene.publish(i % 2, true);
        scene.take(&job);
        scene.confirm(&job);
    }
    for _ in 0..5 {
        scene.script.send(scene.worker, 0, command(&["LLEN", "jobs"]));
        scene.script.send(scene.worker, 1, b":0\r\n".to_vec());
    }
    scene.script.steps.push(Step::Wait { millis: 20_000 });
    let seen = all(&scene.script.steps);
    assert!(!rules(&seen).contains("tenant-label-missing"), "{:#?}", seen.findings);
}

#[test]
fn clean_workers_are_silent() {
    let mut scene = Scene::new();
    scene.one_at_a_time(60, true, Some);
    let seen = all(&scene.script.steps);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
    let mut scene = Scene::new();
    scene.in_advance(20, Some);
    let seen = all(&scene.script.steps);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn jobs_handed_out_in_advance_are_told_apart_by_their_confirmations() {
    let mut scene = Scene::new();
    scene.in_advance(20, |_| None);
    let seen = all(&scene.script.steps);
    assert!(worst(&seen, RULE).is_some(), "{:#?}", seen.operations);
    let known: Vec<_> = seen.operations.iter().filter(|o| o.starts_with("data INSERT") && !o.contains(" - ")).collect();
    assert!(known.len() > 60, "{known:#?}");
    for (i, op) in seen.operations.iter().filter(|o| o.starts_with("data INSERT")).enumerate() {
        assert!(op.contains(TENANTS[i % 2]) || op.contains(" - "), "{i}: {op}");
    }
}

#[test]
fn messages_without_a_tenant() {
    let mut scene = Scene::new();
    scene.one_at_a_time(10, false, Some);
    let seen = all(&scene.script.steps);
    assert_eq!(rules(&seen), BTreeSet::from(["queue-tenant-missing"]), "{:#?}", seen.findings);
}

#[test]
fn a_message_to_another_tenants_consumer() {
    let mut scene = Scene::new();
    let job = scene.publish(0, true);
    // Globex takes it on a connection of its own.
    scene.worker = scene.script.connect(GLOBEX, BROKER, 42_000, 6379);
    scene.take(&job);
    scene.confirm(&job);
    let seen = all(&scene.script.steps);
    let crossing = seen.findings.iter().find(|f| f.rule == RULE).expect("found");
    assert_eq!((crossing.severity, crossing.class), (Severity::Critical, EvidenceClass::Endpoint));
    assert_eq!(crossing.tenants.used.as_deref(), Some("globex"));
    assert_eq!(crossing.tenants.bound.as_deref(), Some("acme"));
}

#[test]
fn losing_any_event_makes_no_clean_worker_guilty() {
    let mut scene = Scene::new();
    scene.one_at_a_time(10, true, Some);
    scene.in_advance(3, Some);
    let steps = scene.script.steps;
    for n in [1, 3] {
        for lost in (0..steps.len()).step_by(if n == 1 { 1 } else { 4 }) {
            let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
            assert!(seen.findings.is_empty(), "losing events {lost}..{}: {:#?}", lost + n, seen.findings);
        }
    }
}
