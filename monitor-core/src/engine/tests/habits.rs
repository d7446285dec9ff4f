//! New connections of a pool: their first unit, where the same client binds every other.

use super::shared_service::{SERVICE, Scene, Work, per_transaction, select, worst};
use super::*;
use crate::model::{EvidenceClass, Severity};

const FIRST: &str = "pool-first-use-unbound";

impl Scene {
    /// The pool grows by a connection; its place there.
    fn grows(&mut self) -> usize {
        let port = 40_000 + self.pool.len() as u16;
        let conn = self.script.connect(SERVICE, DATABASE, port, 5432);
        self.script.start(conn, "app");
        self.pool.push(conn);
        self.pool.len() - 1
    }

    fn request(&mut self, tenant: usize, conn: usize, works: &[&dyn Fn(u32) -> Work]) {
        let order = self.arrive(tenant);
        for work in works {
            self.work(conn, &work(order));
        }
        self.answer(tenant, order);
        self.script.steps.push(Step::Wait { millis: 20 });
    }
}

fn unbound(order: u32) -> Work {
    vec![select(order)]
}

fn globex(order: u32) -> Work {
    per_transaction(1, order, 0)
}

/// What is found after `before` and then `then`, on a pool of one.
fn played(before: impl Fn(usize, u32, usize) -> Work, then: impl Fn(&mut Scene)) -> Vec<Step> {
    let mut scene = Scene::new(1);
    scene.one_at_a_time(40, before);
    then(&mut scene);
    scene.script.steps.push(Step::Wait { millis: 500 });
    scene.script.steps
}

fn first_is_unbound(scene: &mut Scene) {
    let new = scene.grows();
    scene.request(1, new, &[&unbound]);
    scene.request(1, new, &[&globex]);
}

#[test]
fn the_first_use_of_a_new_connection_is_told_where_all_others_are_bound() {
    let seen = all(&played(per_transaction, first_is_unbound));
    assert_eq!(worst(&seen, FIRST), Some((EvidenceClass::Endpoint, Severity::Medium)), "{:#?}", seen.operations);
    assert_eq!(seen.findings.len(), 1, "{:#?}", seen.findings);
}

#[test]
fn nothing_is_told_of_a_new_connection_that_is_bound_or_read_first_of_all() {
    let settings = |_: u32| -> Work { vec![("SELECT value FROM settings".into(), "SELECT 1", b'I')] };
    let version = |_: u32| -> Work { vec![("SELECT version FROM schema_migrations".into(), "SELECT 1", b'I')] };
    type Case<'a> = (&'a str, &'a dyn Fn(&mut Scene));
    let cases: [Case<'_>; 5] = [
        ("bound at once", &|scene| {
            let new = scene.grows();
            scene.request(1, new, &[&globex]);
        }),
        ("read first, then bound for the same request", &|scene| {
            let new = scene.grows();
            scene.request(1, new, &[&unbound, &globex]);
        }),
        ("what nobody reads bound", &|scene| {
            let new = scene.grows();
            scene.request(1, new, &[&settings]);
            let other = scene.grows();
            scene.request(0, other, &[&version]);
        }),
        ("a job of its own", &|scene| {
            let new = scene.grows();
            scene.work(new, &unbound(7));
        }),
        ("a connection that comes late to its first data", &|scene| {
            let new = scene.grows();
            scene.work(new, &vec![("SELECT 1".into(), "SELECT 1", b'I')]);
            scene.request(1, new, &[&globex, &globex]);
        }),
    ];
    for (name, then) in cases {
        let seen = all(&played(per_transaction, then));
        assert!(seen.findings.is_empty(), "{name}: {:#?}", seen.findings);
    }
}

/// Half of the requests need no binding for what they read.
fn now_and_then(tenant: usize, order: u32, i: usize) -> Work {
    if i % 10 == 9 { unbound(order) } else { per_transaction(tenant, order, i) }
}

#[test]
fn no_habit_no_exception_to_it() {
    for before in [now_and_then, |_, order, _| unbound(order), |_, order, i| per_transaction(0, order, i)] {
        let seen = all(&played(before, first_is_unbound));
        assert_eq!(worst(&seen, FIRST), None, "{:#?}", seen.findings);
    }
}

#[test]
fn losing_any_event_finds_no_first_use_that_was_none() {
    let read_first = |scene: &mut Scene| {
        let new = scene.grows();
        scene.request(1, new, &[&unbound, &globex]);
        let other = scene.grows();
        scene.request(0, other, &[&globex]);
    };
    for (name, before) in [("read first", per_transaction as fn(_, _, _) -> _), ("no habit", now_and_then)] {
        let steps = if name == "no habit" { played(before, first_is_unbound) } else { played(before, read_first) };
        for n in [1, 2, 4] {
            for lost in (0..steps.len()).step_by(n) {
                let seen = play(&steps, |i| !(lost..lost + n).contains(&i), false);
                assert_eq!(worst(&seen, FIRST), None, "{name}: losing events {lost}..{}", lost + n);
            }
        }
    }
}
