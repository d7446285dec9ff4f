//! Records that wait to be sent: bounded by number and by bytes, the oldest goes first.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::totals::{Bounds, Totals};

/// What a record costs beside its bytes: its place in the queue, and the allocator's share.
const OVERHEAD: usize = 48;

/// One encoded record.
pub(super) type Frame = Box<[u8]>;

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    /// Records of the request that is under way.
    flying: usize,
    /// Bytes of all, those under way included.
    bytes: usize,
    totals: Totals,
    abandoned: bool,
}

impl State {
    fn records(&self) -> usize {
        self.frames.len() + self.flying
    }
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    bounds: Bounds,
    arrived: Notify,
    closing: watch::Sender<bool>,
}

fn cost(frame: &Frame) -> usize {
    frame.len() + OVERHEAD
}

fn many(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { state: Mutex::default(), bounds, arrived: Notify::new(), closing: watch::Sender::new(false) }
    }

    /// Every change below is whole before anything in it could panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, frame: Frame) {
        let cost_of_new = cost(&frame);
        let state = &mut *self.state();
        if state.abandoned {
            state.totals.shutdown += 1;
            return;
        }
        if cost_of_new > self.bounds.bytes {
            state.totals.queue_full += 1;
            return;
        }
        while state.records() >= self.bounds.records || state.bytes + cost_of_new > self.bounds.bytes {
            state.totals.queue_full += 1;
            // What is under way cannot be taken back: then it is the new one that has no room.
            let Some(oldest) = state.frames.pop_front() else { return };
            state.bytes -= cost(&oldest);
        }
        state.bytes += cost_of_new;
        state.frames.push_back(frame);
        self.arrived.notify_one();
    }

    /// Waits for a record. `false`: there is none, and none will come.
    pub(super) async fn wait(&self) -> bool {
        loop {
            if !self.state().frames.is_empty() {
                return true;
            }
            if self.closing() {
                return false;
            }
            tokio::select! {
                () = self.arrived.notified() => {}
                () = self.closed() => {}
            }
        }
    }

    /// Takes the oldest records, at least one if there is any, for a request.
    pub(super) fn take(&self, most: Bounds) -> Vec<Frame> {
        let state = &mut *self.state();
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(frame) = state.frames.front() {
            bytes += frame.len();
            if !batch.is_empty() && (batch.len() >= most.records || bytes > most.bytes) {
                break;
            }
            batch.extend(state.frames.pop_front());
        }
        state.flying += batch.len();
        batch
    }

    /// The request is over, and so are its records: `settle` counts them.
    pub(super) fn done(&self, batch: &[Frame], settle: impl FnOnce(&mut Totals, u64)) {
        let state = &mut *self.state();
        if state.abandoned {
            return;
        }
        state.flying = state.flying.saturating_sub(batch.len());
        state.bytes = state.bytes.saturating_sub(batch.iter().map(cost).sum());
        settle(&mut state.totals, many(batch.len()));
    }

    /// The request has failed: its records are the oldest again, and the first to be dropped.
    pub(super) fn put_back(&self, batch: Vec<Frame>, settle: impl FnOnce(&mut Totals)) {
        let state = &mut *self.state();
        if state.abandoned {
            return;
        }
        state.flying = state.flying.saturating_sub(batch.len());
        for frame in batch.into_iter().rev() {
            state.frames.push_front(frame);
        }
        settle(&mut state.totals);
    }

    /// Nothing more will come: what is here should be sent at once.
    pub(super) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(super) fn closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Resolves when the queue is closed.
    pub(super) async fn closed(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    /// Drops what is left, the request under way included, and says how much it was. What becomes of that request is
    /// no longer counted.
    pub(super) fn abandon(&self) -> u64 {
        let state = &mut *self.state();
        let left = many(state.records());
        state.abandoned = true;
        state.totals.shutdown += left;
        state.frames.clear();
        (state.flying, state.bytes) = (0, 0);
        left
    }

    pub(super) fn totals(&self) -> Totals {
        let state = self.state();
        Totals { waiting: state.records(), waiting_bytes: state.bytes, bounds: self.bounds, ..state.totals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(byte: u8, len: usize) -> Frame {
        vec![byte; len].into()
    }

    fn firsts(batch: &[Frame]) -> Vec<u8> {
        batch.iter().filter_map(|f| f.first().copied()).collect()
    }

    const WHOLE: Bounds = Bounds { records: 100, bytes: 10_000 };

    #[test]
    fn the_oldest_goes_first_by_number() {
        let q = Queue::new(Bounds { records: 3, bytes: 10_000 });
        for i in 0..5 {
            q.push(frame(i, 10));
        }
        assert_eq!((q.totals().queue_full, q.totals().waiting), (2, 3));
        assert_eq!(firsts(&q.take(WHOLE)), [2, 3, 4]);
    }

    #[test]
    fn the_oldest_goes_first_by_bytes_and_none_is_larger_than_all() {
        let q = Queue::new(Bounds { records: 100, bytes: 3 * (100 + OVERHEAD) });
        for i in 0..4 {
            q.push(frame(i, 100));
        }
        assert_eq!((q.totals().queue_full, q.totals().waiting_bytes), (1, 3 * (100 + OVERHEAD)));
        q.push(frame(9, 1_000));
        assert_eq!((q.totals().queue_full, q.totals().waiting), (2, 3));
        q.push(frame(8, 200));
        assert_eq!(firsts(&q.take(WHOLE)), [3, 8], "as many as it takes");
    }

    #[test]
    fn what_is_under_way_counts_and_what_comes_back_is_the_oldest() {
        let q = Queue::new(Bounds { records: 4, bytes: 10_000 });
        for i in 0..4 {
            q.push(frame(i, 10));
        }
        let batch = q.take(Bounds { records: 2, bytes: 10_000 });
        assert_eq!((batch.len(), q.totals().waiting), (2, 4));
        q.push(frame(4, 10));
        assert_eq!((q.totals().queue_full, q.totals().waiting), (1, 4), "2 was the oldest that could go");
        q.put_back(batch, |_| {});
        q.push(frame(5, 10));
        let all = q.take(WHOLE);
        assert_eq!(firsts(&all), [1, 3, 4, 5]);
        q.push(frame(6, 10));
        assert_eq!((q.totals().queue_full, q.totals().waiting), (3, 4), "everything is under way");
        q.done(&all, |t, n| t.sent += n);
        let t = q.totals();
        assert_eq!((t.sent, t.waiting, t.waiting_bytes), (4, 0, 0));
    }

    #[test]
    fn a_batch_is_bounded_and_never_empty() {
        let q = Queue::new(WHOLE);
        q.push(frame(0, 500));
        q.push(frame(1, 20));
        q.push(frame(2, 20));
        assert_eq!(firsts(&q.take(Bounds { records: 10, bytes: 100 })), [0]);
        assert_eq!(firsts(&q.take(Bounds { records: 10, bytes: 30 })), [1]);
        assert_eq!(q.abandon(), 3);
        q.push(frame(3, 20));
        assert_eq!((q.totals().shutdown, q.totals().waiting), (4, 0));
        q.put_back(vec![frame(0, 500)], |t| t.requests_busy += 1);
        assert_eq!((q.totals().requests_busy, q.totals().waiting), (0, 0), "too late");
    }
}
