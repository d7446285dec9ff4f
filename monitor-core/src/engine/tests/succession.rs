//! An event loop whose requests nothing tells apart: no trace, no value, one thread. What is left is the order in which it
//! reads and writes.

use std::collections::VecDeque;

use super::shared_service::{SERVICE, TENANTS, ok};
use super::*;

const LOOP: u32 = 7;
const POOLED: usize = 3;
const CLIENTS: usize = 8;

/// The service, its clients (the tenants' by turns) and what it does at the moment.
struct Loop {
    script: Script,
    pool: Vec<usize>,
    clients: Vec<usize>,
    free: Vec<usize>,
    /// Clients whose request waits for a connection.
    waiting: VecDeque<usize>,
    /// By pooled connection: whose request it works for.
    at_work: Vec<Option<usize>>,
    n_units: usize,
    /// By unit: for whom it was.
    truth: Vec<usize>,
    reads_are_told: bool,
}

impl Loop {
    fn new(reads_are_told: bool) -> Self {
        let mut script = Script::default();
        let pool: Vec<usize> =
            (0..POOLED as u16).map(|i| script.connect(SERVICE, DATABASE, 40_000 + i, 5432)).collect();
        let clients =
            (0..CLIENTS).map(|i| script.connect([ACME, GLOBEX][i % 2], SERVICE, 41_000 + i as u16, 8080)).collect();
        pool.iter().for_each(|conn| script.start(*conn, "app"));
        Self {
            script,
            pool,
            clients,
            free: (0..POOLED).collect(),
            waiting: VecDeque::new(),
            at_work: vec![None; POOLED],
            n_units: 0,
            truth: Vec::new(),
            reads_are_told,
        }
    }

    fn read(&mut self, conn: usize, end: usize) {
        if self.reads_are_told {
            let cookie = self.script.conns[conn].cookies[end];
            self.script.steps.push(Step::Read { cookie, thread: LOOP });
        }
    }

    fn begins(&mut self, conn: usize, client: usize) {
        self.at_work[conn] = Some(client);
        self.truth.push(client % 2);
        self.script.send(self.pool[conn], 0, pg::query(&format!("SELECT n FROM t{}", self.n_units)));
        self.n_units += 1;
    }

    fn request(&mut self, client: usize) {
        self.script.send(self.clients[client], 0, b"GET /summary HTTP/1.1\r\nhost: service\r\n\r\n".to_vec());
        self.read(self.clients[client], 1);
        match self.free.pop() {
            Some(conn) => self.begins(conn, client),
            None => self.waiting.push_back(client),
        }
    }

    fn reply(&mut self, conn: usize) -> Option<usize> {
        let client = self.at_work[conn].take()?;
        self.script.send(self.pool[conn], 1, pg::reply("SELECT 1", b'I'));
        self.read(self.pool[conn], 0);
        match self.waiting.pop_front() {
            Some(next) => self.begins(conn, next),
            None => self.free.push(conn),
        }
        self.script.send(self.clients[client], 1, ok(1));
        Some(client)
    }

    /// `n` replies in no particular order; a client asks again as soon as it has its answer.
    fn run(mut self, n: usize) -> (Script, Vec<usize>) {
        (0..CLIENTS).for_each(|client| self.request(client));
        let mut chance = 1usize;
        for _ in 0..n {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if let Some(client) = self.reply((chance >> 33) % POOLED) {
                self.request(client);
            }
        }
        while let Some(conn) = self.at_work.iter().position(Option::is_some) {
            self.reply(conn);
        }
        self.script.steps.push(Step::Wait { millis: 3_000 });
        (self.script, self.truth)
    }
}

/// Units told rightly, wrongly, not at all.
fn told(seen: &Seen, truth: &[usize]) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for (no, tenant) in truth.iter().enumerate() {
        let of = |who: &str| seen.operations.iter().any(|o| o.starts_with(&format!("data SELECT t{no} {who} ")));
        match (of(TENANTS[*tenant]), of(TENANTS[1 - tenant])) {
            (true, _) => counts.0 += 1,
            (_, true) => counts.1 += 1,
            _ => counts.2 += 1,
        }
    }
    counts
}

#[test]
fn the_order_of_reads_and_writes_tells_whose_turn_it_was() {
    let (script, truth) = Loop::new(true).run(300);
    let seen = all(&script.steps);
    let (right, wrong, open) = told(&seen, &truth);
    assert_eq!(wrong, 0);
    assert!(right * 10 >= truth.len() * 9, "{right} right, {open} open of {}", truth.len());
    let worst = seen.latest.iter().filter(|f| f.rule == "pool-reuse-unrevalidated").map(|f| f.severity).max();
    assert!(worst.is_some_and(|s| s <= crate::model::Severity::Medium), "inferred alone: {worst:?}");
}

#[test]
fn where_reads_are_not_told_it_stays_open() {
    let (script, truth) = Loop::new(false).run(300);
    let (right, wrong, _) = told(&all(&script.steps), &truth);
    assert_eq!(wrong, 0);
    assert!(right <= truth.len() / 10, "{right} of {}", truth.len());
}

#[test]
fn lost_events_tell_nobody_wrongly() {
    let (script, truth) = Loop::new(true).run(120);
    for lost in (0..script.steps.len() - 1).step_by(37) {
        let lost_two = |i: usize| i != lost && i != lost + 1;
        let (_, wrong, _) = told(&play(&script.steps, lost_two, false), &truth);
        assert_eq!(wrong, 0, "without steps {lost} and the next");
    }
}
