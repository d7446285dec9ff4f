//! Hits that rest on something not having been seen. A loss may show later than what it makes look wrong: bytes by the
//! next ones of their connection, events by what the kernel counted. Such hits wait until it would have shown.

use std::collections::VecDeque;

use smallvec::SmallVec;

use super::judge::{Judge, Seen};
use super::output::Output;
use crate::detect::{Hit, Table};
use crate::model::{Nanos, Unseen};

/// How long they wait: longer than a hole in a stream, and than the kernel's counters take to be read.
const WAIT: Nanos = Nanos::secs(3);
/// Most that wait; what finds no room is not told.
const MAX_HELD: usize = 4_096;

/// A hit that waits.
#[derive(Debug)]
struct Waiting {
    since: Nanos,
    hit: Hit,
    rests_on: SmallVec<[Unseen; 2]>,
}

/// Hits that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<Waiting>);

impl Held {
    /// Those that wait, to be counted.
    pub(super) fn waiting(&self) -> &dyn Table {
        &self.0
    }
}

impl Judge {
    /// A hit is told at once, or waits for what it rests on.
    pub(super) fn hit(&mut self, hit: Hit, rests_on: SmallVec<[Unseen; 2]>, seen: &mut Seen<'_>, out: &mut dyn Output) {
        if rests_on.is_empty() {
            self.found(&hit, seen, out);
        } else if self.held.0.len() >= MAX_HELD {
            insufficient(seen, hit.rule, "too many wait for what may be missed");
        } else {
            self.held.0.push_back(Waiting { since: seen.ctx.now, hit, rests_on });
        }
    }

    /// Tells what has waited long enough; `all`: everything.
    pub(super) fn release(&mut self, now: Nanos, all: bool, seen: &mut Seen<'_>, out: &mut dyn Output) {
        while let Some(w) = self.held.0.pop_front_if(|w| all || now.since(w.since) >= WAIT) {
            if w.rests_on.iter().any(|unseen| self.missed.may_hide(unseen)) {
                insufficient(seen, w.hit.rule, "something was missed");
            } else {
                self.found(&w.hit, seen, out);
            }
        }
    }
}

fn insufficient(seen: &mut Seen<'_>, rule: &'static str, why: &'static str) {
    *seen.stats.insufficient.entry((rule, why)).or_default() += 1;
}
