//! Is this process quiet when idle? Only then does "the only request in flight" say who caused an operation.
//!
//! Learned per kind of work (service, verb, target). If an operation came by itself (a timer, a queue, a background
//! task), it would begin in idle moments about as often as their share of time says. A kind of work is taken for
//! request-driven when at least five should have begun in idle time by that reckoning, and none has: were it not
//! driven by requests, that would happen less than once in a hundred times. One that begins in an idle moment takes
//! the property from the whole process for a while.

use rustc_hash::FxHashMap;

use crate::model::{Nanos, ServiceId, Sym};

/// A kind of work: service, verb, target.
pub type Shape = (ServiceId, Sym, Sym);

/// Operations that should have begun in idle time, had they come by themselves.
const ENOUGH: u64 = 5;
/// How long a process that worked while idle is taken to have work of its own.
const LOST: Nanos = Nanos::secs(30);
/// How long a kind of work that began in an idle moment is remembered for it.
const REMEMBERED: Nanos = Nanos::secs(300);
/// Most kinds of work told apart per process.
const MAX_SHAPES: usize = 1024;

#[derive(Debug)]
struct Rhythm {
    /// Busy and idle time of the process when this kind was first seen.
    from: (u64, u64),
    /// How often it began while requests were in flight.
    n: u64,
    /// When it last began in an idle moment.
    alone: Option<Nanos>,
}

/// What has been learned of one process.
#[derive(Debug, Default)]
pub struct Quiet {
    /// Requests were seen at all: what a process does before its first is start-up.
    serving: bool,
    busy: u64,
    idle: u64,
    /// Since when it has been as it is now.
    since: Nanos,
    in_flight: bool,
    shapes: FxHashMap<Shape, Rhythm>,
    alone: Option<Nanos>,
}

impl Quiet {
    /// Whether requests are in flight, from `at` on.
    pub fn turn(&mut self, at: Nanos, in_flight: bool) {
        if self.serving {
            let for_so_long = at.since(self.since).0;
            *if self.in_flight { &mut self.busy } else { &mut self.idle } += for_so_long;
        }
        self.since = at;
        self.serving |= in_flight;
        self.in_flight = in_flight;
    }

    fn times(&self, now: Nanos) -> (u64, u64) {
        let for_so_long = if self.serving { now.since(self.since).0 } else { 0 };
        if self.in_flight { (self.busy + for_so_long, self.idle) } else { (self.busy, self.idle + for_so_long) }
    }

    /// Work of this kind has begun.
    pub fn work(&mut self, shape: Shape, at: Nanos, in_flight: bool) {
        if !self.serving {
            return;
        }
        let from = self.times(at);
        if self.shapes.len() >= MAX_SHAPES && !self.shapes.contains_key(&shape) {
            return;
        }
        let rhythm = self.shapes.entry(shape).or_insert(Rhythm { from, n: 0, alone: None });
        if rhythm.alone.is_some_and(|alone| at.since(alone) >= REMEMBERED) {
            *rhythm = Rhythm { from, n: 0, alone: None };
        }
        if in_flight {
            rhythm.n += 1;
        } else {
            rhythm.alone = Some(at);
            self.alone = Some(at);
        }
    }

    /// Whether the process has been seen to work while no request was in flight, lately.
    pub fn works_alone(&self, now: Nanos) -> bool {
        self.alone.is_some_and(|alone| now.since(alone) < LOST)
    }

    /// Somebody who knows better has found out that what looked driven by the only request was not.
    pub fn contradicted(&mut self, at: Nanos) {
        self.alone = Some(at);
    }

    /// Whether work of this kind is driven by requests.
    pub fn is_driven(&self, shape: Shape, now: Nanos) -> bool {
        let Some(rhythm) = self.shapes.get(&shape).filter(|r| r.alone.is_none()) else { return false };
        let (busy, idle) = self.times(now);
        let (busy, idle) = (busy.saturating_sub(rhythm.from.0).max(1), idle.saturating_sub(rhythm.from.1));
        u128::from(rhythm.n) * u128::from(idle) >= u128::from(ENOUGH) * u128::from(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SELECT: Shape = (ServiceId(0), Sym(2), Sym(3));
    const SWEEP: Shape = (ServiceId(0), Sym(4), Sym(5));

    /// `n` requests of 2 ms, each doing some work, with `pause` ms between them.
    fn serve(q: &mut Quiet, at: &mut u64, n: u64, pause: u64) {
        for _ in 0..n {
            q.turn(Nanos::millis(*at), true);
            q.work(SELECT, Nanos::millis(*at + 1), true);
            q.turn(Nanos::millis(*at + 2), false);
            *at += 2 + pause;
        }
    }

    #[test]
    fn work_is_driven_when_idle_time_should_have_shown_it_otherwise() {
        let (mut q, mut at) = (Quiet::default(), 0);
        serve(&mut q, &mut at, 4, 2);
        assert!(!q.is_driven(SELECT, Nanos::millis(at)), "too little seen");
        serve(&mut q, &mut at, 4, 2);
        assert!(q.is_driven(SELECT, Nanos::millis(at)));
    }

    #[test]
    fn with_hardly_any_idle_time_it_takes_longer() {
        let (mut q, mut at) = (Quiet::default(), 0);
        for _ in 0..4 {
            serve(&mut q, &mut at, 25, 0);
            at += 1;
        }
        assert!(!q.is_driven(SELECT, Nanos::millis(at)), "a hundred requests, but hardly a pause");
    }

    #[test]
    fn work_in_an_idle_moment_takes_the_property_away_for_a_while() {
        let (mut q, mut at) = (Quiet::default(), 0);
        q.work(SWEEP, Nanos(0), false);
        serve(&mut q, &mut at, 40, 5);
        assert!(!q.works_alone(Nanos::millis(at)), "before the first request it was start-up");
        q.work(SWEEP, Nanos::millis(at), false);
        assert!(q.works_alone(Nanos::millis(at + 1)));
        assert!(q.works_alone(Nanos::millis(at + 29_000)));
        assert!(!q.works_alone(Nanos::millis(at + 31_000)));
        assert!(!q.is_driven(SWEEP, Nanos::millis(at + 31_000)));
        assert!(q.is_driven(SELECT, Nanos::millis(at + 31_000)));
    }
}
