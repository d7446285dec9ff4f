//! Does a request stay with one thread? Where it does (a thread per connection, a worker per request), the thread that
//! does the work tells whose it is. Event loops, hand-over between pools and work stealing look different, and there
//! the basis abstains.
//!
//! Learned from every unit of work whose requests in flight have all been answered: it *fits* when exactly one of them
//! was answered by the unit's thread. It is a *misfit* when several were (the thread serves many at once: an event
//! loop), or when the thread has answered requests before, but none of these (work wanders between threads, or the
//! thread also works on its own account).

use rustc_hash::FxHashMap;

use crate::model::steps::step;
use crate::model::{Nanos, ThreadId};

/// Units that must have fitted before the basis speaks.
const ENOUGH: u32 = 8;
/// Of so many fitting units, at most one may be a misfit.
const ONE_OF: u32 = 32;
/// Of so many answered requests, at most one may have been read by another thread than answered it.
const HANDED_ONE_OF: u32 = 8;
/// Units after which what was learned weighs half.
const WINDOW: u32 = 4096;
/// Most threads remembered as ones that answer requests.
const MAX_THREADS: usize = 4096;
/// How often threads that are gone are looked for.
const SWEEP: Nanos = Nanos::secs(1);
/// How long a thread is remembered.
const REMEMBERED: Nanos = Nanos::secs(60);

/// What has been learned of one process.
#[derive(Debug, Default)]
pub struct Affinity {
    fits: u32,
    misfits: u32,
    /// Requests answered by the thread that read them, and by another one.
    kept: u32,
    handed: u32,
    /// Threads that have answered requests, and when they last did.
    answering: FxHashMap<ThreadId, Nanos>,
    /// When those that are gone were last looked for.
    swept: Nanos,
}

impl Affinity {
    /// `thread` has answered a request, and nobody else has read it as far as is known.
    pub fn answers(&mut self, thread: ThreadId, at: Nanos) {
        self.kept += 1;
        if self.kept >= WINDOW {
            self.kept /= 2;
            self.handed /= 2;
        }
        if self.answering.len() >= MAX_THREADS && !self.answering.contains_key(&thread) {
            if at.since(self.swept) >= SWEEP {
                self.swept = at;
                self.answering.retain(|_, last| {
                    step();
                    at.since(*last) < REMEMBERED
                });
            }
            if self.answering.len() >= MAX_THREADS {
                return;
            }
        }
        self.answering.insert(thread, at);
    }

    /// A request was read by one thread and answered by another.
    pub fn handed_over(&mut self) {
        self.handed = self.handed.saturating_add(1);
    }

    /// A unit of work by `thread` could be looked at; `matching` of the requests in flight were answered by it.
    pub fn unit(&mut self, thread: ThreadId, matching: usize, at: Nanos) {
        match matching {
            1 => {
                self.fits += 1;
                if self.fits >= WINDOW {
                    self.fits /= 2;
                    self.misfits /= 2;
                }
            }
            0 if self.serves(thread, at) => self.misfit(),
            // A thread of the process's own: says nothing of those that serve.
            0 => {}
            _ => self.misfit(),
        }
    }

    /// Somebody who knows better has found out that the thread named the wrong request.
    pub fn misfit(&mut self) {
        self.misfits = self.misfits.saturating_add(1);
    }

    /// Whether `thread` has lately answered requests.
    pub fn serves(&self, thread: ThreadId, at: Nanos) -> bool {
        self.answering.get(&thread).is_some_and(|last| at.since(*last) < REMEMBERED)
    }

    /// Whether a request stays with one thread here.
    pub fn holds(&self) -> bool {
        self.fits >= ENOUGH
            && self.misfits.saturating_mul(ONE_OF) <= self.fits
            && self.handed.saturating_mul(HANDED_ONE_OF) <= self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: ThreadId = ThreadId(1);

    #[test]
    fn work_stealing_is_noticed_and_a_housekeeping_thread_is_not() {
        let mut a = Affinity::default();
        a.answers(T, Nanos(0));
        for _ in 0..200 {
            a.unit(T, 1, Nanos(1));
        }
        assert!(a.holds());
        for _ in 0..50 {
            a.unit(ThreadId(9), 0, Nanos(1));
        }
        assert!(a.holds(), "a thread that never answers says nothing");
        for _ in 0..8 {
            a.unit(T, 0, Nanos(1));
        }
        assert!(!a.holds(), "work that wandered");
    }

    #[test]
    fn an_event_loop_is_noticed() {
        let mut a = Affinity::default();
        a.answers(T, Nanos(0));
        for n in 0..200 {
            a.unit(T, if n % 20 == 0 { 2 } else { 1 }, Nanos(1));
        }
        assert!(!a.holds());
    }
}
