//! How publications and deliveries end: settled, confirmed, undone, given up.

use super::{Channel, Confirms, MAX_STEPS, Settles, Step, Waiting};
use crate::decode::Sink;
use crate::decode::amqp::content::Purpose;
use crate::decode::amqp::core::Core;
use crate::decode::amqp::method::{self, Id, id};
use crate::decode::begun::Begun;
use crate::model::queue::{QueueEvent, Settled, Settlement};
use crate::model::{Nanos, Outcome};

impl Channel {
    /// The client settles deliveries.
    pub(in super::super) fn settle(
        &mut self,
        what: &Begun,
        settles: Settles,
        at: Nanos,
        core: &mut Core,
        sink: &mut dyn Sink,
    ) {
        let Settles { tag, multiple, how } = settles;
        what.tell(at, Outcome::Unknown, sink);
        let (first, n) = self.meant(tag, multiple);
        for _ in 0..n {
            let Some(tag) = self.unacked.remove(first) else { break };
            match self.steps.as_mut().filter(|steps| steps.len() < MAX_STEPS) {
                Some(steps) => steps.push(Step::Settle(tag, how)),
                None => {
                    core.n_unacked = core.n_unacked.saturating_sub(1);
                    sink.queue(QueueEvent::Settled(Settled { handle: self.handle(tag), at, how }));
                }
            }
        }
        core.end(what.request, at, sink);
        core.rest(at, sink);
    }

    fn meant(&self, tag: u64, multiple: bool) -> (usize, usize) {
        match (multiple, tag) {
            (true, 0) => (0, self.unacked.len()),
            (true, tag) => (0, self.unacked.partition_point(|t| *t <= tag)),
            (false, tag) => self.unacked.binary_search(&tag).map_or((0, 0), |at| (at, 1)),
        }
    }

    /// The broker confirms publications, or refuses them.
    pub(in super::super) fn confirmed(
        &mut self,
        (tag, multiple): (u64, bool),
        outcome: Outcome,
        at: Nanos,
        core: &mut Core,
        sink: &mut dyn Sink,
    ) {
        let (first, n) = match (multiple, tag) {
            (true, 0) => (0, self.waiting.len()),
            (true, tag) => (0, self.waiting.partition_point(|(number, _)| *number <= tag)),
            (false, tag) => self.waiting.binary_search_by_key(&tag, |(number, _)| *number).map_or((0, 0), |at| (at, 1)),
        };
        for _ in 0..n {
            let Some((_, waiting)) = self.waiting.remove(first) else { break };
            core.n_waiting = core.n_waiting.saturating_sub(1);
            core.life.sound();
            end_publication(waiting, outcome, at, core, sink);
        }
        core.rest(at, sink);
    }

    /// A transaction has ended.
    pub(in super::super) fn end_transaction(&mut self, commits: bool, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
        let Some(steps) = self.steps.as_mut().map(std::mem::take) else { return };
        for step in steps {
            match step {
                Step::Publish(w) => {
                    core.n_waiting = core.n_waiting.saturating_sub(1);
                    end_publication(w, if commits { Outcome::Ok } else { Outcome::Error }, at, core, sink);
                }
                Step::Settle(tag, how) if commits => {
                    core.n_unacked = core.n_unacked.saturating_sub(1);
                    sink.queue(QueueEvent::Settled(Settled { handle: self.handle(tag), at, how }));
                }
                Step::Settle(tag, _) => {
                    let at = self.unacked.partition_point(|t| *t < tag);
                    self.unacked.insert(at, tag);
                }
            }
        }
    }

    /// What is not settled goes back to its queue.
    pub(in super::super) fn return_all(&mut self, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
        core.n_unacked = core.n_unacked.saturating_sub(self.unacked.len());
        for tag in std::mem::take(&mut self.unacked) {
            sink.queue(QueueEvent::Settled(Settled { handle: self.handle(tag), at, how: Settlement::Returned }));
        }
    }

    /// The channel has ended. `failed`: the method that the broker ended it for.
    pub(in super::super) fn end(&mut self, failed: Option<Id>, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
        self.end_transaction(false, at, core, sink);
        self.return_all(at, core, sink);
        self.give_up(failed, at, core, sink);
    }

    /// Nobody who waits on this channel will be told, and what is on its way will not be complete. What it was used for
    /// is forgotten, except that the broker confirms.
    pub(in super::super) fn give_up(&mut self, failed: Option<Id>, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
        for content in self.coming.iter_mut().filter_map(Option::take) {
            if let Purpose::Got { what, .. } = content.purpose {
                what.tell(at, Outcome::Unknown, sink);
                core.end(what.request, at, sink);
            }
            content.forget(core);
        }
        core.n_pending = core.n_pending.saturating_sub(self.pending.len());
        for (_, p) in self.pending.take_all() {
            let refused = failed.and_then(method::known).is_some_and(|k| k.answer == Some(p.answer));
            p.what.tell(at, if refused { Outcome::Error } else { Outcome::Unknown }, sink);
            core.end(p.what.request, at, sink);
        }
        let steps = self.steps.as_mut().map(std::mem::take).unwrap_or_default();
        let mut waiting: Vec<Waiting> = std::mem::take(&mut self.waiting).into_iter().map(|(_, w)| w).collect();
        for step in steps {
            match step {
                Step::Publish(w) => waiting.push(w),
                Step::Settle(..) => core.n_unacked = core.n_unacked.saturating_sub(1),
            }
        }
        core.n_waiting = core.n_waiting.saturating_sub(waiting.len());
        // If it was closed for a publication, it was the last one that it had read, and later ones were not.
        let publication = failed == Some(id::BASIC_PUBLISH);
        let one = waiting.len() == 1;
        for mut w in waiting {
            let outcome = if publication && one { Outcome::Error } else { Outcome::Unknown };
            if publication {
                w.message = None;
            }
            end_publication(w, outcome, at, core, sink);
        }
        core.n_unacked = core.n_unacked.saturating_sub(self.unacked.len());
        self.unacked.clear();
        if let Confirms::From(_) = self.confirms {
            self.confirms = Confirms::Unnumbered;
        }
    }
}

/// A publication has ended.
pub(super) fn end_publication(w: Waiting, outcome: Outcome, at: Nanos, core: &mut Core, sink: &mut dyn Sink) {
    let outcome = if w.returned { Outcome::Error } else { outcome };
    w.what.tell(at, outcome, sink);
    if let Some(message) = w.message.filter(|_| outcome != Outcome::Error) {
        sink.queue(QueueEvent::Published(*message));
    }
    core.end(w.what.request, at, sink);
}
