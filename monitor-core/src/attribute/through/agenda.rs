//! In which order does a process take up its work? An event loop tells no threads apart, but its reads and writes have an
//! order. What is read is taken up in the order of the reads, and a pool that has no free connection serves whoever has
//! waited longest.
//!
//! Kept here: a supposition of which request each unit of work is for, from the order alone, and its proof. The proof is
//! the other end of the work: the answer to a request is written when the reply to *its own* last unit is taken up, which
//! has an order, too. The answer names its request for certain, so that each one confirms or refutes what was supposed.
//! What was supposed by chance does not last: among sixteen in flight it is right once in sixteen times, and is asked to be
//! right again and again, without a failure, before it counts.
//!
//! Two orders are supposed side by side: a request asks its pool anew for each unit of work, or it keeps the connection
//! that it was given until it is answered. Each of them for every thread, and for the process as a whole, whose threads may
//! hand work to each other.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::model::{ConnId, RequestKey, ThreadId, UnitNo};

/// A unit of work, by the connection it went out on and its number there.
pub type UnitKey = (ConnId, UnitNo);

/// How unlikely it must be that all confirmations since the last failure are chance, in bits: one that was right among
/// sixteen in flight counts four.
const ENOUGH_BITS: u32 = 24;
/// How often the proof asked for is doubled, at most, because certain evidence has said otherwise.
const MAX_DOUBLED: u32 = 6;
/// Most requests followed in one order; more, and it is given up and begun anew.
const MAX_TURNS: usize = 1024;
/// Most units of one request.
const MAX_UNITS: usize = 16;
/// Most threads told apart.
const MAX_THREADS: usize = 64;
/// Most units of work whose request is remembered, until somebody asks.
const MAX_PROVED: usize = 8192;

/// Whether a request keeps its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lending {
    /// It asks the pool anew for each unit.
    EachUnit,
    /// Until it is answered.
    EachRequest,
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Read; nothing was asked for it yet.
    Read,
    /// A unit of work for it is under way.
    AtWork,
    /// The reply to its latest unit has been read.
    Replied,
}

/// One request in the order.
#[derive(Debug)]
struct Turn {
    step: Step,
    /// Position of the latest thing that was read for it.
    order: u64,
    /// What was read later has been taken up, and nothing was seen of this one: it must be waiting for a connection. When it
    /// is answered without having been given one, the order is not the one supposed.
    passed: bool,
    units: SmallVec<[UnitKey; 2]>,
}

/// One supposed order of one thread, or of a whole process.
#[derive(Debug)]
struct Order {
    lending: Lending,
    turns: FxHashMap<RequestKey, Turn>,
    /// Who may begin the next unit, longest waiting first. An entry whose position is not its turn's any more is stale.
    waiting: VecDeque<(u64, RequestKey)>,
    /// Whose replies were read and not yet taken up, oldest first; stale entries as above.
    replied: VecDeque<(u64, RequestKey)>,
    at_work: FxHashMap<ConnId, (UnitNo, RequestKey)>,
    kept: FxHashMap<ConnId, RequestKey>,
    /// The latest unit begun by a request on the connection that it keeps, and the position then. Until something else is
    /// read it may also be another's: the request may have given the connection back and be about to answer.
    on_kept: Option<(RequestKey, UnitKey, u64)>,
    next: u64,
    /// How unlikely it is that all confirmations since the last failure are chance.
    bits: u32,
}

impl Order {
    fn new(lending: Lending) -> Self {
        Self {
            lending,
            turns: FxHashMap::default(),
            waiting: VecDeque::new(),
            replied: VecDeque::new(),
            at_work: FxHashMap::default(),
            kept: FxHashMap::default(),
            on_kept: None,
            next: 0,
            bits: 0,
        }
    }

    /// Nothing is supposed any more.
    fn forget(&mut self) {
        *self = Self::new(self.lending);
    }

    fn read_request(&mut self, key: RequestKey) {
        // Stale entries go with the turns; a queue much longer than those is of requests that never come to an end.
        if self.turns.len() >= MAX_TURNS || self.waiting.len() >= 4 * MAX_TURNS || self.replied.len() >= 4 * MAX_TURNS {
            self.forget();
        }
        let order = self.position();
        let turn = self.turns.entry(key).or_insert_with(|| Turn {
            step: Step::Read,
            order,
            passed: false,
            units: SmallVec::new(),
        });
        // More of its body, mostly: it is taken up when all of it is there.
        if turn.step == Step::Read {
            turn.order = order;
            self.waiting.push_back((order, key));
        }
    }

    /// A unit of work begins.
    fn begins(&mut self, unit: UnitKey) {
        let kept = self.kept.get(&unit.0).copied().filter(|_| self.lending == Lending::EachRequest);
        let kept = kept.filter(|key| self.turns.get(key).is_some_and(|t| t.step == Step::Replied));
        self.on_kept = kept.map(|key| (key, unit, self.next));
        match kept.or_else(|| self.longest_waiting()) {
            Some(key) => self.goes_to(unit, key),
            // No request waits for a unit, so the supposed order is wrong: the process does more than answer, or one
            // request asks twice at once.
            None => self.bits = 0,
        }
    }

    fn goes_to(&mut self, unit: UnitKey, key: RequestKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let continued = (turn.step == Step::Replied).then_some(turn.order);
        turn.step = Step::AtWork;
        turn.passed = false;
        if turn.units.len() < MAX_UNITS {
            turn.units.push(unit);
        }
        if self.at_work.len() < MAX_TURNS || self.at_work.contains_key(&unit.0) {
            self.at_work.insert(unit.0, (unit.1, key));
        }
        if let Some(order) = continued {
            self.takes_up(order);
        }
    }

    /// The reply that ends a unit of work has been read.
    fn read_reply(&mut self, unit: UnitKey) {
        let Some((no, key)) = self.at_work.remove(&unit.0) else { return };
        let order = self.position();
        let Some(turn) = self.turns.get_mut(&key).filter(|t| no == unit.1 && t.step == Step::AtWork) else { return };
        turn.step = Step::Replied;
        turn.order = order;
        self.replied.push_back((order, key));
        match self.lending {
            Lending::EachUnit => self.waiting.push_back((order, key)),
            Lending::EachRequest => {
                if self.kept.len() < MAX_TURNS || self.kept.contains_key(&unit.0) {
                    self.kept.insert(unit.0, key);
                }
            }
        }
    }

    /// A request has been answered. Its units, where that proves for whom they were.
    fn answered(&mut self, key: RequestKey) -> Option<SmallVec<[UnitKey; 2]>> {
        let mut turn = self.turns.remove(&key)?;
        for (conn, _) in &turn.units {
            if self.kept.get(conn) == Some(&key) {
                self.kept.remove(conn);
            }
        }
        if let Some((_, unit, _)) = self.on_kept.take_if(|(k, _, at)| *k == key && *at == self.next)
            && turn.units.last() == Some(&unit)
        {
            turn.units.pop();
            // The request had given its connection back, so the unit belongs to the request that waited longest.
            turn.step = Step::Replied;
            match self.longest_waiting() {
                Some(next) => self.goes_to(unit, next),
                None => self.bits = 0,
            }
        }
        if turn.step == Step::AtWork || turn.passed || turn.units.len() >= MAX_UNITS {
            self.bits = 0;
            return None;
        }
        self.takes_up(turn.order);
        if turn.step == Step::Read {
            return None;
        }
        let others = u32::try_from(self.turns.len()).unwrap_or(u32::MAX);
        self.bits = self.bits.saturating_add(others.saturating_add(1).ilog2());
        Some(turn.units)
    }

    /// What was read at `order` is taken up now: what was read before has had its turn.
    fn takes_up(&mut self, order: u64) {
        while let Some((before, key)) = self.replied.pop_front_if(|(at, _)| *at <= order) {
            if let Some(turn) = self.turns.get_mut(&key)
                && turn.order == before
                && turn.step == Step::Replied
            {
                turn.passed = true;
            }
        }
    }

    fn longest_waiting(&mut self) -> Option<RequestKey> {
        while let Some((order, key)) = self.waiting.pop_front() {
            if self.turns.get(&key).is_some_and(|t| t.order == order && t.step != Step::AtWork) {
                return Some(key);
            }
        }
        None
    }

    fn position(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// Both suppositions, of one thread or of a whole process.
#[derive(Debug)]
struct Line([Order; 2]);

impl Default for Line {
    fn default() -> Self {
        Self([Order::new(Lending::EachUnit), Order::new(Lending::EachRequest)])
    }
}

/// For which request a unit was, by one of the orders.
#[derive(Debug)]
struct Proved {
    request: RequestKey,
    thread: Option<ThreadId>,
    lending: Lending,
    /// Another order says otherwise.
    disputed: bool,
}

/// The orders in which one process takes up its work.
#[derive(Debug, Default)]
pub struct Agenda {
    /// By thread; `None`: all threads together.
    lines: FxHashMap<Option<ThreadId>, Line>,
    /// Who has read a request.
    readers: FxHashMap<RequestKey, ThreadId>,
    proved: FxHashMap<UnitKey, Proved>,
    /// The same, oldest first.
    remembered: VecDeque<UnitKey>,
    /// How often certain evidence has said otherwise.
    contradicted: u32,
}

impl Agenda {
    /// `thread` has read (more of) a request that has come in.
    pub fn read_request(&mut self, thread: ThreadId, key: RequestKey) {
        if self.readers.len() >= 2 * MAX_TURNS && !self.readers.contains_key(&key) {
            self.readers.clear();
            self.lines.clear();
        }
        self.readers.insert(key, thread);
        self.both(Some(thread), |order| order.read_request(key));
    }

    /// `thread` begins a unit of work.
    pub fn begins(&mut self, thread: Option<ThreadId>, unit: UnitKey) {
        self.both(thread, |order| order.begins(unit));
    }

    /// `thread` has read the reply that ends a unit of work.
    pub fn read_reply(&mut self, thread: ThreadId, unit: UnitKey) {
        self.both(Some(thread), |order| order.read_reply(unit));
    }

    /// A request has been answered.
    pub fn answered(&mut self, key: RequestKey) {
        let Some(thread) = self.readers.remove(&key) else {
            // The request was read before its reads were told. Units were given to other requests instead of it.
            self.forget();
            return;
        };
        let enough = self.enough();
        for thread in [Some(thread), None] {
            let Some(Line(orders)) = self.lines.get_mut(&thread) else { continue };
            for order in orders {
                let (lending, Some(units)) = (order.lending, order.answered(key)) else { continue };
                if order.bits < enough {
                    continue;
                }
                for unit in units {
                    match self.proved.get_mut(&unit) {
                        Some(other) => other.disputed |= other.request != key,
                        None => {
                            if self.remembered.len() >= MAX_PROVED
                                && let Some(oldest) = self.remembered.pop_front()
                            {
                                self.proved.remove(&oldest);
                            }
                            self.remembered.push_back(unit);
                            self.proved.insert(unit, Proved { request: key, thread, lending, disputed: false });
                        }
                    }
                }
            }
        }
    }

    /// Nobody waits for a request any more: its end will prove nothing.
    pub fn gone(&mut self, key: RequestKey) {
        let Some(thread) = self.readers.remove(&key) else { return };
        self.both(Some(thread), |order| {
            order.turns.remove(&key);
        });
    }

    /// Something was missed, or certain evidence may be about to show that: everything begins anew.
    pub fn forget(&mut self) {
        self.lines.clear();
        self.readers.clear();
        self.proved.clear();
        self.remembered.clear();
    }

    /// Certain evidence says otherwise of a unit for which this has spoken.
    pub fn contradicted(&mut self) {
        self.contradicted = self.contradicted.saturating_add(1).min(MAX_DOUBLED);
        self.forget();
    }

    /// The request that a unit of work was for, if the order that says so still holds.
    pub(super) fn request_of(&self, unit: UnitKey) -> Result<RequestKey, &'static str> {
        let Some(proved) = self.proved.get(&unit) else { return Err("the order of work is not known") };
        if proved.disputed {
            return Err("two orders disagree");
        }
        let line = self.lines.get(&proved.thread);
        let holds =
            line.is_some_and(|Line(o)| o.iter().any(|o| o.lending == proved.lending && o.bits >= self.enough()));
        if holds { Ok(proved.request) } else { Err("the order of work has failed since") }
    }

    fn enough(&self) -> u32 {
        ENOUGH_BITS << self.contradicted
    }

    fn both(&mut self, thread: Option<ThreadId>, each: impl Fn(&mut Order)) {
        for line in [thread, None].into_iter().take(if thread.is_some() { 2 } else { 1 }) {
            if self.lines.len() >= MAX_THREADS && !self.lines.contains_key(&line) {
                continue;
            }
            self.lines.entry(line).or_default().0.iter_mut().for_each(&each);
        }
    }
}

#[cfg(test)]
mod tests;
