//! Units of work that outlive their borrower: a transaction that one request leaves open and another goes on in.

use super::shared_service::{SERVICE, Scene, TENANTS, Work, per_transaction, select, worst};
use super::*;
use crate::model::{EvidenceClass, Severity};

const STALE: &str = "pool-stale-binding";

fn begin() -> Work {
    vec![("BEGIN".into(), "BEGIN", b'T')]
}

fn bind(tenant: &str) -> Work {
    vec![(format!("SELECT set_config('app.tenant_id', '{tenant}', true)"), "SELECT 1", b'T')]
}

/// A query inside of a transaction that names no value.
fn all_of() -> Work {
    vec![("SELECT item FROM orders".into(), "SELECT 1", b'T')]
}

fn one(order: u32) -> Work {
    vec![(select(order).0, "SELECT 1", b'T')]
}

fn commit() -> Work {
    vec![("COMMIT".into(), "COMMIT", b'I')]
}

fn traced(work: Work, order: u32) -> Work {
    let comment = |sql: String| format!("{sql} /*traceparent='00-{}-00f067aa0ba902b7-01'*/", trace(order));
    work.into_iter().map(|(sql, tag, status)| (comment(sql), tag, status)).collect()
}

fn trace(order: u32) -> String {
    format!("4bf92f3577b34da6a3ce929d{order:08x}")
}

impl Scene {
    /// Both tenants have been served for a while, as it should be.
    fn served(n: u16) -> Self {
        let mut scene = Self::new(n);
        scene.one_at_a_time(60, per_transaction);
        scene
    }

    fn several(&mut self, conn: usize, works: &[Work]) {
        for work in works {
            self.work(conn, work);
        }
    }

    fn arrive_traced(&mut self, tenant: usize) -> u32 {
        self.order += 1;
        let head = format!("GET /orders/{} HTTP/1.1\r\nhost: service\r\n", self.order);
        let id = trace(self.order);
        let request = format!("{head}traceparent: 00-{id}-00f067aa0ba902b7-01\r\n\r\n");
        self.script.send(self.clients[tenant], 0, request.into_bytes());
        self.order
    }

    fn further_clients(&mut self) -> [usize; 2] {
        [ACME, GLOBEX].map(|who| self.script.connect(who, SERVICE, 42_000 + who as u16, 8080))
    }

    fn wait(&mut self, millis: u64) {
        self.script.steps.push(Step::Wait { millis });
    }

    /// Tenant and verdict of the last `n` queries.
    fn told(&mut self, n: usize) -> (Vec<String>, Seen) {
        self.wait(500);
        let seen = all(&self.script.steps);
        let data = seen.operations.iter().filter(|op| op.starts_with("data SELECT"));
        let words: Vec<String> = data.map(|op| op.split(' ').skip(3).collect::<Vec<_>>().join(" ")).collect();
        (words[words.len() - n..].to_vec(), seen)
    }
}

/// Besides the stale binding, and what follows from its being found.
fn other_findings(seen: &Seen) -> Vec<&str> {
    let known = [STALE, "shared-service-unpartitioned"];
    seen.findings.iter().map(|f| f.rule).filter(|rule| !known.contains(rule)).collect()
}

#[test]
fn traces_name_both_borrowers_of_one_transaction() {
    let mut scene = Scene::served(1);
    let (a, b) = (scene.arrive_traced(0), scene.arrive_traced(1));
    scene.several(0, &[begin(), traced(bind("acme"), a), traced(one(a), a), traced(all_of(), b), commit()]);
    scene.answer(0, a);
    scene.answer(1, b);
    let (told, seen) = scene.told(2);
    assert_eq!(told, ["acme revalidated", "globex stale-bound"], "{:#?}", seen.operations);
    assert_eq!(worst(&seen, STALE), Some((EvidenceClass::Endpoint, Severity::Critical)));
    assert_eq!(other_findings(&seen), Vec::<&str>::new());
}

#[test]
fn what_lies_between_two_traces_is_nobodys() {
    let mut scene = Scene::served(1);
    let (a, b) = (scene.arrive_traced(0), scene.arrive_traced(1));
    let works = [begin(), bind("acme"), traced(one(a), a), all_of(), bind("globex"), traced(one(b), b), commit()];
    scene.several(0, &works);
    scene.answer(0, a);
    scene.answer(1, b);
    let (told, seen) = scene.told(3);
    // Whoever bound it in between: it is bound for whom it is used.
    assert_eq!(told, ["acme revalidated", "- indeterminate", "globex revalidated"], "{:#?}", seen.operations);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn a_transaction_left_open_is_the_next_requests_that_is_alone() {
    let mut scene = Scene::served(1);
    let a = scene.arrive(0);
    scene.several(0, &[begin(), bind("acme"), one(a)]);
    scene.answer(0, a);
    scene.wait(20);
    let b = scene.arrive(1);
    scene.several(0, &[all_of(), all_of()]);
    scene.answer(1, b);
    scene.wait(20);
    // And still it is not ended: the next may be the first one's again.
    let c = scene.arrive(0);
    scene.work(0, &all_of());
    scene.answer(0, c);
    let (told, seen) = scene.told(4);
    let stale = "globex stale-bound";
    assert_eq!(told, ["acme revalidated", stale, stale, "acme revalidated"], "{:#?}", seen.operations);
    assert_eq!(worst(&seen, STALE), Some((EvidenceClass::Endpoint, Severity::Critical)));
    assert_eq!(other_findings(&seen), Vec::<&str>::new());
}

#[test]
fn whoever_binds_itself_in_a_transaction_left_open_is_bound() {
    let mut scene = Scene::served(1);
    let a = scene.arrive(0);
    scene.several(0, &[begin(), bind("acme"), one(a)]);
    scene.answer(0, a);
    let b = scene.arrive(1);
    scene.several(0, &[begin(), bind("globex"), one(b), commit()]);
    scene.answer(1, b);
    let (told, seen) = scene.told(2);
    assert_eq!(told, ["acme revalidated", "globex revalidated"], "{:#?}", seen.operations);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn beside_others_values_tell_whose_the_rest_is() {
    let mut scene = Scene::served(2);
    let others = scene.further_clients();
    let waiting = [scene.arrive(0), scene.arrive(1)];
    let before = std::mem::replace(&mut scene.clients, others);
    let a = scene.arrive(0);
    scene.several(0, &[begin(), bind("acme"), one(a)]);
    let b = scene.arrive(1);
    scene.answer(0, a);
    scene.work(0, &one(b));
    scene.work(0, &commit());
    scene.answer(1, b);
    scene.clients = before;
    for (tenant, order) in waiting.into_iter().enumerate() {
        scene.answer(tenant, order);
    }
    let (told, seen) = scene.told(2);
    assert_eq!(told, ["acme revalidated", "globex stale-bound"], "{:#?}", seen.operations);
    assert_eq!(worst(&seen, STALE), Some((EvidenceClass::Inferred, Severity::Medium)));
}

#[test]
fn beside_others_and_without_a_value_the_rest_is_nobodys() {
    let mut scene = Scene::served(2);
    let others = scene.further_clients();
    let other = scene.arrive(1);
    let before = std::mem::replace(&mut scene.clients, others);
    let a = scene.arrive(0);
    scene.several(0, &[begin(), bind("acme"), one(a)]);
    scene.answer(0, a);
    let b = scene.arrive(1);
    scene.several(0, &[all_of(), commit()]);
    scene.answer(1, b);
    scene.clients = before;
    scene.answer(1, other);
    let (told, seen) = scene.told(2);
    assert_eq!(told, ["acme revalidated", "- indeterminate"], "{:#?}", seen.operations);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn a_value_of_somebody_elses_in_a_transaction_that_goes_on_accuses_nobody() {
    let mut scene = Scene::served(2);
    let (a, b) = (scene.arrive(0), scene.arrive(1));
    // What it reads leads it to an order that the other has just asked for.
    scene.several(0, &[begin(), bind("acme"), one(a), one(b), commit()]);
    scene.work(1, &per_transaction(1, b, 0));
    scene.answer(0, a);
    scene.answer(1, b);
    let (told, seen) = scene.told(3);
    assert_eq!(told, ["acme revalidated", "- indeterminate", "globex revalidated"], "{:#?}", seen.operations);
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn one_request_may_take_its_time_while_others_come_and_go() {
    let mut scene = Scene::served(2);
    let a = scene.arrive(0);
    scene.several(0, &[begin(), bind("acme")]);
    for _ in 0..40 {
        let b = scene.arrive(1);
        scene.work(0, &all_of());
        scene.work(1, &per_transaction(1, b, 0));
        scene.answer(1, b);
        scene.wait(30);
    }
    scene.work(0, &commit());
    scene.answer(0, a);
    let (told, seen) = scene.told(80);
    assert!(told.iter().all(|t| t.ends_with("revalidated")), "{told:#?}");
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn whoever_answers_first_and_works_on_is_no_leak() {
    for (traces, first_then, pause) in [(false, 0, 2), (false, 1, 2), (false, 2, 0), (true, 1, 2), (true, 2, 0)] {
        let mut scene = Scene::served(2);
        for _ in 0..20 {
            let a = if traces { scene.arrive_traced(0) } else { scene.arrive(0) };
            let mark = |work| if traces { traced(work, a) } else { work };
            scene.several(0, &[begin(), mark(bind("acme")), mark(one(a))]);
            // 202 Accepted.
            scene.answer(0, a);
            for _ in 0..first_then {
                scene.work(0, &mark(all_of()));
            }
            scene.wait(pause);
            let b = scene.arrive(1);
            scene.work(0, &mark(all_of()));
            scene.work(1, &per_transaction(1, b, 0));
            scene.work(0, &mark(one(a)));
            scene.answer(1, b);
            scene.several(0, &[mark(all_of()), commit()]);
            scene.wait(30);
        }
        let (told, seen) = scene.told(20 * (5 + first_then));
        assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
        let wrong = told.iter().filter(|t| !t.ends_with("revalidated") && !t.ends_with("indeterminate")).count();
        assert_eq!(wrong, 0, "{told:#?}");
        let clean = told.iter().filter(|t| t.ends_with("revalidated")).count();
        assert!(!traces || clean == told.len(), "{told:#?}");
    }
}

#[test]
fn a_commit_after_the_answer_changes_nothing() {
    let mut scene = Scene::served(2);
    for i in 0..40 {
        let (tenant, other) = (i % 2, 1 - i % 2);
        let a = scene.arrive(tenant);
        scene.several(0, &[begin(), bind(TENANTS[tenant]), one(a)]);
        scene.answer(tenant, a);
        let b = scene.arrive(other);
        scene.work(0, &commit());
        scene.work(0, &per_transaction(other, b, 0));
        scene.answer(other, b);
        scene.wait(5);
    }
    let (told, seen) = scene.told(80);
    assert!(told.iter().all(|t| t.ends_with("revalidated")), "{told:#?}");
    assert!(seen.findings.is_empty(), "{:#?}", seen.findings);
}

#[test]
fn a_transaction_begun_inside_of_one_is_nobody_elses_when_it_is_not() {
    let mut scene = Scene::served(2);
    let a = scene.arrive(0);
    scene.several(0, &[begin(), bind("acme"), begin(), all_of(), commit()]);
    scene.answer(0, a);
    let (told, seen) = scene.told(1);
    assert_eq!(told, ["acme revalidated"], "{:#?}", seen.operations);
    // With others about, it may be a sign that the connection has changed hands.
    let mut scene = Scene::served(2);
    let (a, b) = (scene.arrive(0), scene.arrive(1));
    scene.several(0, &[begin(), bind("acme"), begin(), all_of(), commit()]);
    scene.answer(0, a);
    scene.answer(1, b);
    let (told, seen_too) = scene.told(1);
    assert_eq!(told, ["- indeterminate"], "{:#?}", seen_too.operations);
    assert!(seen.findings.is_empty() && seen_too.findings.is_empty());
}

#[test]
fn losing_anything_of_a_left_transaction_finds_nothing_else() {
    let traced_pair = |scene: &mut Scene| {
        let (a, b) = (scene.arrive_traced(0), scene.arrive_traced(1));
        scene.several(
            0,
            &[begin(), traced(bind("acme"), a), traced(one(a), a), all_of(), traced(all_of(), b), commit()],
        );
        scene.answer(0, a);
        scene.answer(1, b);
    };
    let alone = |scene: &mut Scene| {
        for _ in 0..2 {
            let a = scene.arrive(0);
            scene.several(0, &[begin(), bind("acme"), one(a)]);
            scene.answer(0, a);
            let b = scene.arrive(1);
            scene.several(0, &[all_of(), one(b)]);
            scene.answer(1, b);
        }
    };
    let early = |scene: &mut Scene| {
        for _ in 0..3 {
            let a = scene.arrive(0);
            scene.several(0, &[begin(), bind("acme"), one(a)]);
            scene.answer(0, a);
            let b = scene.arrive(1);
            scene.work(0, &all_of());
            scene.work(1, &per_transaction(1, b, 0));
            scene.work(0, &all_of());
            scene.answer(1, b);
            scene.work(0, &commit());
        }
    };
    for (name, play_it) in [("traced", &traced_pair as &dyn Fn(&mut Scene)), ("alone", &alone), ("early", &early)] {
        let mut scene = Scene::new(2);
        scene.one_at_a_time(40, per_transaction);
        let from = scene.script.steps.len();
        play_it(&mut scene);
        scene.wait(500);
        let steps = scene.script.steps;
        let whole = found(&all(&steps));
        for n in [1, 2, 4] {
            for lost in from..steps.len() {
                let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
                let new: Vec<_> = found(&seen).difference(&whole).cloned().collect();
                // Without the binding that was lost, what is left is a reuse that nothing re-validated: still true.
                let new: Vec<_> = new.into_iter().filter(|(rule, ..)| *rule != "pool-reuse-unrevalidated").collect();
                assert!(new.is_empty(), "{name}: losing events {lost}..{}: {new:?}", lost + n);
            }
        }
    }
}
