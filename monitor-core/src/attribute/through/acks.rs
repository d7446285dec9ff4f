//! When does a process confirm its jobs: after the work, as the delivery's end, or before it? And does it do one job
//! after the other? Both are learned from where its own work lies among its confirmations.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::model::{Nanos, RequestKey, ThreadId};

/// Jobs that were alone and confirmed after some work, before confirmations are taken for the work's end.
const ENOUGH: u32 = 3;
/// One in so many jobs may be confirmed without any work: some jobs need none.
const SHARE: u32 = 20;
/// Confirmations in a row, each with work since the one before, before a process is taken to do one job after the
/// other.
const TURNS: u32 = 6;
/// Confirmations remembered per thread.
const REMEMBERED: usize = 128;
/// Most threads told apart.
const MAX_THREADS: usize = 256;

/// Confirmations of one thread, or of a process whose threads are not known.
#[derive(Debug, Default)]
struct Turns {
    /// Work was answered since the latest confirmation.
    worked: bool,
    in_a_row: u32,
    confirmed: VecDeque<(Nanos, RequestKey)>,
}

impl Turns {
    fn confirmed(&mut self, key: RequestKey, at: Nanos) {
        self.in_a_row = if self.worked { self.in_a_row.saturating_add(1) } else { 0 };
        self.worked = false;
        if self.confirmed.len() >= REMEMBERED {
            self.confirmed.pop_front();
        }
        self.confirmed.push_back((at, key));
    }
}

/// What was learned of one process.
#[derive(Debug, Default)]
pub struct Acks {
    /// Jobs that were alone: confirmed after some work, and without any.
    late: u32,
    early: u32,
    latest_work: Nanos,
    turns: FxHashMap<Option<ThreadId>, Turns>,
    /// The thread that does all the work, where others confirm for it, and what is confirmed by whomever.
    worker: Option<ThreadId>,
    whole: Turns,
}

impl Acks {
    /// Work was answered that `thread` had asked for.
    pub fn worked(&mut self, thread: Option<ThreadId>, at: Nanos) {
        self.latest_work = self.latest_work.max(at);
        if self.worker != thread {
            self.worker = thread;
            self.whole.in_a_row = 0;
        }
        self.whole.worked = true;
        if let Some(turns) = self.of(thread) {
            turns.worked = true;
        }
    }

    /// A job that came at `since` was confirmed by `thread`; `alone`: it was the only one in flight. Whether there was
    /// any work in between, so that the confirmation may be its end.
    pub(super) fn confirmed(
        &mut self,
        key: RequestKey,
        since: Nanos,
        at: Nanos,
        thread: Option<ThreadId>,
        alone: bool,
    ) -> bool {
        let after_work = self.latest_work > since;
        if alone {
            let n = if after_work { &mut self.late } else { &mut self.early };
            *n = n.saturating_add(1);
        }
        self.whole.confirmed(key, at);
        if let Some(turns) = self.of(thread) {
            turns.confirmed(key, at);
        }
        after_work
    }

    /// Whether confirmations are known to end the work.
    pub(super) fn end_the_work(&self) -> bool {
        self.late >= ENOUGH && self.early.saturating_mul(SHARE) <= self.late
    }

    /// The job confirmed next after what `thread` did from `begun` to `done`, if nothing was confirmed meanwhile and
    /// it does one job after the other.
    pub(super) fn next(&self, thread: Option<ThreadId>, begun: Nanos, done: Nanos) -> Result<RequestKey, &'static str> {
        let own = self.turns.get(&thread).filter(|t| !t.confirmed.is_empty());
        let whole = (self.worker == thread).then_some(&self.whole);
        let Some(turns) = own.or(whole) else { return Err("thread confirmed none") };
        if turns.in_a_row < TURNS {
            return Err("not known to do one job after the other");
        }
        let Some(&(_, key)) = turns.confirmed.iter().find(|(at, _)| *at >= done) else {
            return Err("no job confirmed since");
        };
        if turns.confirmed.iter().any(|(at, _)| *at >= begun && *at < done) {
            return Err("a job was confirmed meanwhile");
        }
        Ok(key)
    }

    fn of(&mut self, thread: Option<ThreadId>) -> Option<&mut Turns> {
        if self.turns.len() >= MAX_THREADS && !self.turns.contains_key(&thread) {
            return None;
        }
        Some(self.turns.entry(thread).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnId, RequestNo};

    fn key(n: u64) -> RequestKey {
        (ConnId(1), RequestNo::Sent(n))
    }

    #[test]
    fn confirmations_after_work_end_it() {
        let mut acks = Acks::default();
        for n in 0..u64::from(ENOUGH) {
            assert!(!acks.end_the_work());
            acks.worked(None, Nanos(10 * n + 5));
            assert!(acks.confirmed(key(n), Nanos(10 * n + 1), Nanos(10 * n + 6), None, true));
        }
        assert!(acks.end_the_work());
        assert!(!acks.confirmed(key(9), Nanos(1000), Nanos(1001), None, true), "no work since it came");
        assert!(!acks.end_the_work(), "one in four was confirmed without any");
    }

    #[test]
    fn a_process_that_works_in_turns_tells_the_job_by_its_confirmation() {
        let mut acks = Acks::default();
        for n in 0..8 {
            acks.worked(None, Nanos(10 * n + 5));
            acks.confirmed(key(n), Nanos(0), Nanos(10 * n + 6), None, false);
        }
        assert_eq!(acks.next(None, Nanos(52), Nanos(55)), Ok(key(5)));
        assert_eq!(acks.next(None, Nanos(52), Nanos(65)), Err("a job was confirmed meanwhile"));
        assert_eq!(acks.next(None, Nanos(90), Nanos(95)), Err("no job confirmed since"));
        // Two in a row without work between them: jobs overlap.
        acks.confirmed(key(8), Nanos(0), Nanos(97), None, false);
        assert!(acks.next(None, Nanos(52), Nanos(55)).is_err());
        assert_eq!(acks.next(Some(ThreadId(3)), Nanos(52), Nanos(55)), Err("thread confirmed none"));
    }

    #[test]
    fn another_thread_may_confirm_for_the_only_one_that_works() {
        let (worker, other, io) = (Some(ThreadId(1)), Some(ThreadId(2)), Some(ThreadId(9)));
        let mut acks = Acks::default();
        for n in 0..8 {
            acks.worked(worker, Nanos(10 * n + 5));
            acks.confirmed(key(n), Nanos(0), Nanos(10 * n + 6), io, false);
        }
        assert_eq!(acks.next(worker, Nanos(52), Nanos(55)), Ok(key(5)));
        assert_eq!(acks.next(other, Nanos(52), Nanos(55)), Err("thread confirmed none"));
        acks.worked(other, Nanos(95));
        acks.confirmed(key(8), Nanos(0), Nanos(96), io, false);
        assert!(acks.next(other, Nanos(92), Nanos(95)).is_err() && acks.next(worker, Nanos(52), Nanos(55)).is_err());
    }
}
