//! Requests of the client's, and what waits for an answer.

use super::Nats;
use crate::decode::Sink;
use crate::decode::begun::Begun;
use crate::model::queue::{Message, QueueEvent, Settlement};
use crate::model::{Fingerprint, Nanos, Outcome, Sym, TxStatus};

/// Most requests that wait for an answer.
const MAX_WAITS: usize = 256;
/// How long an answer is waited for: what is not answered by then was a message that wants none.
const PATIENCE: Nanos = Nanos::secs(5);

/// What a request asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// That a message be taken.
    Publish,
    /// Something about a consumer.
    Consumer,
    /// Anything else.
    Other,
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Wait {
    pub(super) op: Begun,
    /// Hash of the subject that the answer comes to.
    pub(super) inbox: u64,
    pub(super) asked: Asked,
    pub(super) message: Option<Box<Message>>,
    pub(super) settles: Option<(u64, Settlement)>,
}

impl Nats {
    /// A request begins; if it is more than a control, the caller says so.
    pub(super) fn request(
        &mut self,
        verb: &'static str,
        target: Sym,
        at: Nanos,
        print: Option<Fingerprint>,
        sink: &mut dyn Sink,
    ) -> Wait {
        self.impatient(at, sink);
        self.latest += 1;
        sink.begun(self.latest, at, print);
        Wait {
            op: Begun { target, ..Begun::control(self.latest, at, sink.word(verb)) },
            inbox: 0,
            asked: Asked::Other,
            message: None,
            settles: None,
        }
    }

    /// A request is complete: it waits for an answer, or is over.
    pub(super) fn ask(&mut self, wait: Wait, at: Nanos, sink: &mut dyn Sink) {
        let answered = wait.inbox != 0;
        if self.verbose {
            if self.unanswered.len() >= MAX_WAITS * 2 {
                let lost = self.unanswered.pop_front().flatten();
                lost.into_iter().for_each(|w| self.complete(w, Outcome::Unknown, at, sink));
            }
            if !answered {
                self.unanswered.push_back(Some(wait));
                return;
            }
            self.unanswered.push_back(None);
        }
        if !answered {
            self.complete(wait, Outcome::Ok, at, sink);
            return;
        }
        if self.waits.len() >= MAX_WAITS
            && let Some((_, oldest)) = self.waits.pop_front()
        {
            self.complete(oldest, Outcome::Ok, at, sink);
        }
        self.waits.push(wait.inbox, wait);
    }

    /// Whoever has waited too long will not be answered.
    fn impatient(&mut self, at: Nanos, sink: &mut dyn Sink) {
        while self.waits.front().is_some_and(|w| w.op.begun + PATIENCE < at) {
            let Some((_, wait)) = self.waits.pop_front() else { return };
            self.complete(wait, Outcome::Ok, at, sink);
        }
    }

    /// A request is over.
    pub(super) fn complete(&mut self, wait: Wait, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        wait.op.tell(at, outcome, sink);
        if outcome == Outcome::Ok {
            self.life.sound();
            if let Some(message) = wait.message {
                sink.queue(QueueEvent::Published(*message));
            }
            if let Some((handle, how)) = wait.settles {
                self.settle(handle, how, at, sink);
            }
        }
        sink.answered(wait.op.request, at, None);
        self.rest(outcome, at, sink);
    }

    /// Nothing may be outstanding now. Where an answer was not seen, nobody knows.
    pub(super) fn rest(&mut self, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        if outcome == Outcome::Unknown {
            return;
        }
        if self.login.is_none() && self.waits.is_empty() && self.unanswered.is_empty() {
            sink.status(at, TxStatus::Idle);
        }
    }
}
