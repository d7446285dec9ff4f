//! The whole core on a scripted HTTP service that two tenants share, with a pool of PostgreSQL connections behind it.

use super::*;
use crate::model::EvidenceClass;

pub(super) const SERVICE: u64 = POOLER;

/// What the service does on a pooled connection for one request: statement, command tag, status.
pub(super) type Work = Vec<(String, &'static str, u8)>;

pub(super) fn get(order: u32) -> Vec<u8> {
    format!("GET /orders/{order} HTTP/1.1\r\nhost: service\r\n\r\n").into_bytes()
}

pub(super) fn ok(order: u32) -> Vec<u8> {
    let body = format!("{{\"order\":{order}}}");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    format!("{head}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A service with two tenants' clients and `n` pooled connections.
pub(super) struct Scene {
    pub(super) script: Script,
    pub(super) clients: [usize; 2],
    pub(super) pool: Vec<usize>,
    pub(super) order: u32,
}

impl Scene {
    pub(super) fn new(n: u16) -> Self {
        let mut script = Script::default();
        let pool: Vec<usize> = (0..n).map(|i| script.connect(SERVICE, DATABASE, 40_000 + i, 5432)).collect();
        let clients = [ACME, GLOBEX].map(|who| script.connect(who, SERVICE, 41_000 + who as u16, 8080));
        for conn in &pool {
            script.start(*conn, "app");
        }
        Self { script, clients, pool, order: 1000 }
    }

    pub(super) fn arrive(&mut self, tenant: usize) -> u32 {
        self.order += 1;
        self.script.send(self.clients[tenant], 0, get(self.order));
        self.order
    }

    pub(super) fn work(&mut self, conn: usize, work: &Work) {
        for (sql, tag, status) in work {
            self.script.send(self.pool[conn], 0, pg::query(sql));
            self.script.send(self.pool[conn], 1, pg::reply(tag, *status));
        }
    }

    pub(super) fn answer(&mut self, tenant: usize, order: u32) {
        self.script.send(self.clients[tenant], 1, ok(order));
    }

    /// Requests one at a time, the tenants in turn.
    pub(super) fn one_at_a_time(&mut self, n: usize, work: impl Fn(usize, u32, usize) -> Work) {
        for i in 0..n {
            let order = self.arrive(i % 2);
            let work = work(i % 2, order, i);
            self.work(0, &work);
            self.answer(i % 2, order);
            self.script.steps.push(Step::Wait { millis: 5 });
        }
        self.script.steps.push(Step::Wait { millis: 500 });
    }

    /// Both tenants' requests at once, each on its own connection, which they swap every time.
    pub(super) fn interleaved(&mut self, n: usize, work: impl Fn(usize, u32, usize) -> Work) {
        for i in 0..n {
            let orders = [self.arrive(0), self.arrive(1)];
            let works = [work(0, orders[0], i), work(1, orders[1], i)];
            for step in 0..works[0].len().max(works[1].len()) {
                for (tenant, work) in works.iter().enumerate() {
                    if let Some(one) = work.get(step) {
                        self.work((tenant + i) % 2, &vec![one.clone()]);
                    }
                }
            }
            self.answer(1, orders[1]);
            self.answer(0, orders[0]);
            self.script.steps.push(Step::Wait { millis: 3 });
        }
        self.script.steps.push(Step::Wait { millis: 500 });
    }
}

pub(super) const TENANTS: [&str; 2] = ["acme", "globex"];

pub(super) fn select(order: u32) -> (String, &'static str, u8) {
    (format!("SELECT item FROM orders WHERE id = {order}"), "SELECT 1", b'I')
}

pub(super) fn unbound(_: usize, order: u32, _: usize) -> Work {
    vec![select(order)]
}

fn left_behind(tenant: usize, order: u32, i: usize) -> Work {
    // Only the first request of acme's ever binds.
    let mut work = vec![select(order)];
    if i == 0 && tenant == 0 {
        work.insert(0, ("SET app.tenant_id = 'acme'".into(), "SET", b'I'));
    }
    work
}

pub(super) fn per_transaction(tenant: usize, order: u32, _: usize) -> Work {
    let bind = format!("SELECT set_config('app.tenant_id', '{}', true)", TENANTS[tenant]);
    vec![
        ("BEGIN".into(), "BEGIN", b'T'),
        (bind, "SELECT 1", b'T'),
        (select(order).0, "SELECT 1", b'T'),
        ("COMMIT".into(), "COMMIT", b'I'),
    ]
}

pub(super) fn per_checkout(tenant: usize, order: u32, _: usize) -> Work {
    vec![(format!("SET app.tenant_id = '{}'", TENANTS[tenant]), "SET", b'I'), select(order)]
}

pub(super) fn worst(seen: &Seen, rule: &str) -> Option<(EvidenceClass, crate::model::Severity)> {
    seen.latest.iter().filter(|f| f.rule == rule).map(|f| (f.class, f.severity)).max()
}

#[test]
fn one_at_a_time_it_is_known_as_well_as_by_labels() {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(60, unbound);
    let seen = all(&scene.script.steps);
    let found = worst(&seen, "pool-reuse-unrevalidated");
    assert_eq!(found, Some((EvidenceClass::Endpoint, crate::model::Severity::High)), "{:#?}", seen.operations);

    let mut scene = Scene::new(1);
    scene.one_at_a_time(60, left_behind);
    let seen = all(&scene.script.steps);
    let found = worst(&seen, "pool-stale-binding");
    assert_eq!(found, Some((EvidenceClass::Endpoint, crate::model::Severity::Critical)), "{:#?}", seen.operations);
}

#[test]
fn clean_services_are_silent() {
    for work in [per_transaction, per_checkout] {
        for together in [false, true] {
            let mut scene = Scene::new(2);
            if together {
                scene.interleaved(60, work);
            } else {
                scene.one_at_a_time(60, work);
            }
            let seen = all(&scene.script.steps);
            assert!(seen.findings.is_empty(), "together {together}: {:#?}", seen.findings);
            let right = seen.operations.iter().filter(|o| o.contains("revalidated")).count();
            assert!(right > 50, "together {together}: {right} {:#?}", seen.operations);
        }
    }
}

#[test]
fn interleaved_work_is_inferred_from_values_and_capped() {
    let mut scene = Scene::new(2);
    scene.interleaved(60, unbound);
    let seen = all(&scene.script.steps);
    let found = worst(&seen, "pool-reuse-unrevalidated");
    assert_eq!(found, Some((EvidenceClass::Inferred, crate::model::Severity::Medium)), "{:#?}", seen.operations);
}

#[test]
fn losing_any_event_makes_no_clean_service_guilty() {
    let mut scene = Scene::new(2);
    scene.one_at_a_time(24, per_checkout);
    scene.interleaved(20, per_checkout);
    scene.one_at_a_time(6, per_transaction);
    let steps = scene.script.steps;
    let whole = all(&steps);
    assert!(whole.findings.is_empty(), "{:#?}", whole.findings);
    for n in [1, 2, 5] {
        for lost in (0..steps.len()).step_by(if n == 1 { 1 } else { 3 }) {
            let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
            assert!(seen.findings.is_empty(), "losing events {lost}..{}: {:#?}", lost + n, seen.findings);
        }
    }
}

#[test]
fn losing_any_event_of_a_violation_accuses_nobody_else() {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(40, left_behind);
    let steps = scene.script.steps;
    let whole = found(&all(&steps));
    for n in [1, 3] {
        for lost in (0..steps.len()).step_by(2) {
            let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
            let new: Vec<_> = found(&seen).difference(&whole).cloned().collect();
            // Without the binding that was lost, what is left is a reuse that nothing re-validated: still true.
            let new: Vec<_> = new.into_iter().filter(|(rule, ..)| *rule != "pool-reuse-unrevalidated").collect();
            assert!(new.is_empty(), "losing events {lost}..{}: {new:?}", lost + n);
        }
    }
}

#[test]
fn work_for_a_client_that_has_gone_is_not_the_next_ones() {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(60, unbound);
    let any: Work = vec![("SELECT item FROM orders".into(), "SELECT 1", b'I')];
    let late = scene.arrive(0);
    scene.script.close(scene.clients[0]);
    scene.script.steps.push(Step::Wait { millis: 50 });
    // Nobody waits for it any more, and the service goes on: alone, and beside the next request.
    scene.work(0, &any);
    let next = scene.arrive(1);
    scene.work(0, &vec![select(late)]);
    scene.work(0, &any);
    scene.work(0, &vec![select(next)]);
    scene.answer(1, next);
    scene.script.steps.push(Step::Wait { millis: 11_000 });
    let last = scene.arrive(1);
    scene.work(0, &any);
    scene.answer(1, last);
    scene.script.steps.push(Step::Wait { millis: 500 });

    let seen = all(&scene.script.steps);
    let data: Vec<&str> =
        seen.operations.iter().filter(|op| op.starts_with("data SELECT")).map(String::as_str).collect();
    let whose: Vec<&str> = data[60..].iter().filter_map(|op| op.split(' ').nth(3)).collect();
    assert_eq!(whose, ["acme", "acme", "-", "globex", "globex"], "{data:#?}");
}

#[test]
fn an_answer_that_ends_with_its_connection_blinds_nobody() {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(60, unbound);
    let order = scene.arrive(0);
    scene.work(0, &vec![select(order)]);
    scene.script.send(scene.clients[0], 1, b"HTTP/1.0 200 OK\r\n\r\nall of it".to_vec());
    scene.script.close(scene.clients[0]);
    let next = scene.arrive(1);
    scene.work(0, &vec![("SELECT item FROM orders".into(), "SELECT 1", b'I')]);
    scene.answer(1, next);
    scene.script.steps.push(Step::Wait { millis: 500 });
    let seen = all(&scene.script.steps);
    let last = seen.operations.iter().rfind(|op| op.starts_with("data SELECT")).unwrap();
    assert!(last.contains(" globex "), "{last}");
}
