//! Event loops as a script plays them: what is said of their work must be true, and where their order is another than the
//! ones supposed, nothing may be said.

use super::*;
use crate::model::RequestNo;

const T: ThreadId = ThreadId(1);

/// How a process goes about its work.
#[derive(Clone, Copy)]
struct Manner {
    /// What is read is taken up at once (Node); else when all that was ready has been read (asyncio).
    at_once: bool,
    /// A request keeps its connection until it is answered.
    keeps: bool,
    /// Most units of work of one request.
    units: u64,
    connections: u32,
    /// The pool serves whoever came last.
    last_first: bool,
    /// One in so many continuations first waits for something that cannot be seen; 0: none.
    wanders: u64,
}

const USUAL: Manner = Manner { at_once: true, keeps: false, units: 1, connections: 4, last_first: false, wanders: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    Request(RequestKey),
    Reply(UnitKey),
    /// Something unseen is over.
    Unseen(RequestKey),
}

/// One process, its clients and its database.
struct Play {
    manner: Manner,
    agenda: Agenda,
    chance: u64,
    ready: Vec<Input>,
    /// Units left to do.
    left: FxHashMap<RequestKey, u64>,
    holds: FxHashMap<RequestKey, ConnId>,
    owner: FxHashMap<UnitKey, RequestKey>,
    free: Vec<ConnId>,
    wants: VecDeque<RequestKey>,
    no: FxHashMap<ConnId, u32>,
    n_requests: u64,
    right: usize,
    wrong: usize,
    open: usize,
}

impl Play {
    fn new(manner: Manner) -> Self {
        Self {
            manner,
            agenda: Agenda::default(),
            chance: 1,
            ready: Vec::new(),
            left: FxHashMap::default(),
            holds: FxHashMap::default(),
            owner: FxHashMap::default(),
            free: (100..100 + manner.connections).map(ConnId).collect(),
            wants: VecDeque::new(),
            no: FxHashMap::default(),
            n_requests: 0,
            right: 0,
            wrong: 0,
            open: 0,
        }
    }

    fn below(&mut self, n: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % n.max(1)
    }

    /// `n` requests, up to `in_flight` of them at once.
    fn run(mut self, n: u64, in_flight: usize) -> Self {
        while self.n_requests < n || !self.left.is_empty() {
            while self.left.len() < in_flight && self.n_requests < n {
                self.n_requests += 1;
                let key = (ConnId(u32::try_from(self.n_requests % 64).unwrap()), RequestNo::Sent(self.n_requests));
                let units = 1 + self.below(self.manner.units);
                self.left.insert(key, units);
                self.ready.push(Input::Request(key));
            }
            // What is ready in this turn of the loop, in whichever order the kernel tells.
            let batch = 1 + self.below(4);
            let mut turn = Vec::new();
            for _ in 0..batch {
                if !self.ready.is_empty() {
                    let at = self.below(self.ready.len() as u64);
                    turn.push(self.ready.swap_remove(usize::try_from(at).unwrap()));
                }
            }
            if self.manner.at_once {
                for input in turn {
                    self.reads(input);
                    self.goes_on(input);
                }
            } else {
                turn.iter().for_each(|input| self.reads(*input));
                turn.iter().for_each(|input| self.goes_on(*input));
            }
        }
        self
    }

    fn reads(&mut self, input: Input) {
        match input {
            Input::Request(key) => self.agenda.read_request(T, key),
            Input::Reply(unit) => self.agenda.read_reply(T, unit),
            Input::Unseen(_) => {}
        }
    }

    fn goes_on(&mut self, input: Input) {
        let wandering = self.manner.wanders;
        let key = match input {
            Input::Request(key) if wandering > 0 && self.below(wandering) == 0 => {
                self.ready.push(Input::Unseen(key));
                return;
            }
            Input::Request(key) | Input::Unseen(key) => key,
            Input::Reply(unit) => {
                let key = self.owner[&unit];
                *self.left.get_mut(&key).unwrap() -= 1;
                if !self.manner.keeps {
                    self.gives_back(unit.0);
                } else if self.left[&key] == 0 {
                    self.holds.remove(&key);
                    self.gives_back(unit.0);
                }
                key
            }
        };
        if self.left[&key] == 0 {
            self.left.remove(&key);
            self.agenda.answered(key);
            let units: Vec<_> = self.owner.iter().filter(|(_, k)| **k == key).map(|(u, _)| *u).collect();
            for unit in units {
                match self.agenda.request_of(unit) {
                    Ok(said) if said == key => self.right += 1,
                    Ok(_) => self.wrong += 1,
                    Err(_) => self.open += 1,
                }
                self.owner.remove(&unit);
            }
            return;
        }
        match self.holds.get(&key).copied().or_else(|| self.free.pop()) {
            Some(conn) => self.begins(conn, key),
            None => self.wants.push_back(key),
        }
    }

    fn gives_back(&mut self, conn: ConnId) {
        let next = if self.manner.last_first { self.wants.pop_back() } else { self.wants.pop_front() };
        match next {
            Some(key) => self.begins(conn, key),
            None => self.free.insert(0, conn),
        }
    }

    fn begins(&mut self, conn: ConnId, key: RequestKey) {
        let no = self.no.entry(conn).or_default();
        *no += 1;
        let unit = (conn, UnitNo(*no));
        self.owner.insert(unit, key);
        if self.manner.keeps {
            self.holds.insert(key, conn);
        }
        self.agenda.begins(Some(T), unit);
        self.ready.push(Input::Reply(unit));
    }
}

#[track_caller]
fn told(manner: Manner, in_flight: usize) {
    let play = Play::new(manner).run(2000, in_flight);
    let all = play.right + play.wrong + play.open;
    assert_eq!(play.wrong, 0, "of {all}");
    assert!(play.right * 100 >= all * 95, "{} of {all}, {in_flight} in flight", play.right);
}

#[track_caller]
fn silent(manner: Manner, in_flight: usize) {
    let play = Play::new(manner).run(4000, in_flight);
    let all = play.right + play.wrong + play.open;
    assert!(play.wrong * 200 <= play.right + play.wrong, "{} wrong, {} right", play.wrong, play.right);
    assert!(play.open > all / 2, "{} right of {all}", play.right);
}

#[test]
fn a_loop_that_goes_on_at_once_is_told() {
    for in_flight in [2, 4, 16, 32] {
        told(USUAL, in_flight);
        told(Manner { units: 3, ..USUAL }, in_flight);
    }
}

#[test]
fn a_loop_that_reads_all_that_is_ready_first_is_told() {
    for in_flight in [4, 16, 32] {
        told(Manner { at_once: false, ..USUAL }, in_flight);
        told(Manner { at_once: false, units: 3, ..USUAL }, in_flight);
    }
}

#[test]
fn a_request_that_keeps_its_connection_is_told() {
    for at_once in [true, false] {
        told(Manner { at_once, keeps: true, units: 3, ..USUAL }, 16);
    }
}

#[test]
fn other_orders_are_found_out() {
    silent(Manner { last_first: true, connections: 2, ..USUAL }, 16);
    silent(Manner { wanders: 2, ..USUAL }, 16);
    silent(Manner { wanders: 3, units: 2, at_once: false, ..USUAL }, 8);
}

#[test]
fn two_in_flight_prove_little_each_time() {
    let play = Play::new(USUAL).run(12, 2);
    assert_eq!((play.right, play.wrong), (0, 0));
}

#[test]
fn what_certain_evidence_contradicts_asks_for_more_proof() {
    let mut play = Play::new(USUAL).run(100, 16);
    assert!(play.right > 0);
    play.agenda.contradicted();
    play.right = 0;
    play.n_requests = 0;
    let play = play.run(10, 16);
    assert_eq!(play.right, 0, "begun anew, with twice the proof to give");
}

#[test]
fn what_is_kept_is_bounded() {
    let mut agenda = Agenda::default();
    for n in 0..100_000u32 {
        agenda.read_request(ThreadId(n % 1000), (ConnId(n), RequestNo::Sent(u64::from(n))));
        agenda.begins(Some(ThreadId(n % 1000)), (ConnId(n), UnitNo(1)));
        agenda.read_reply(ThreadId(n % 1000), (ConnId(n), UnitNo(1)));
    }
    let orders = || agenda.lines.values().flat_map(|l| l.0.iter());
    assert!(agenda.lines.len() <= MAX_THREADS && agenda.readers.len() <= 2 * MAX_TURNS);
    assert!(orders().all(|o| o.turns.len() <= MAX_TURNS && o.waiting.len() <= 5 * MAX_TURNS));
    assert!(orders().all(|o| o.at_work.len() <= MAX_TURNS && o.kept.len() <= MAX_TURNS));
}
