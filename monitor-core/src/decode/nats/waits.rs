//! Requests of the client's, and what waits for an answer.

use super::Nats;
use crate::decode::Sink;
use crate::model::queue::{Message, QueueEvent, Settlement};
use crate::model::{Claim, Effect, Fingerprint, Ids, Nanos, OpKind, Operation, Outcome, Side, Sym, TenantId, TxStatus};

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
    pub(super) request: u64,
    begun: Nanos,
    verb: &'static str,
    target: Sym,
    kind: OpKind,
    pub(super) marker: Claim,
    pub(super) proved: Option<TenantId>,
    /// Hash of the subject that the answer comes to.
    pub(super) inbox: u64,
    pub(super) asked: Asked,
    pub(super) message: Option<Box<Message>>,
    pub(super) settles: Option<(u64, Settlement)>,
}

impl Nats {
    /// An operation of the client's that changes nothing.
    pub(super) fn operation(
        &self,
        request: u64,
        begun: Nanos,
        ended: Nanos,
        verb: &'static str,
        outcome: Outcome,
        sink: &mut dyn Sink,
    ) -> Operation {
        Operation {
            request,
            begun,
            ended,
            from: Side::Client,
            kind: OpKind::Control,
            verb: sink.word(verb),
            target: Sym::EMPTY,
            effect: Effect::None,
            outcome,
            warned_ineffective: false,
            marker: Claim::Neutral,
            credential: None,
            proved: None,
            tables: None,
            named: [None; 2],
            ids: Ids::default(),
        }
    }

    /// A request begins.
    pub(super) fn request(
        &mut self,
        verb: &'static str,
        target: Sym,
        kind: OpKind,
        at: Nanos,
        print: Option<Fingerprint>,
        sink: &mut dyn Sink,
    ) -> Wait {
        self.impatient(at, sink);
        self.latest += 1;
        sink.begun(self.latest, at, print);
        Wait {
            request: self.latest,
            begun: at,
            verb,
            target,
            kind,
            marker: Claim::Neutral,
            proved: None,
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
        while self.waits.front().is_some_and(|w| w.begun + PATIENCE < at) {
            let Some((_, wait)) = self.waits.pop_front() else { return };
            self.complete(wait, Outcome::Ok, at, sink);
        }
    }

    /// A request is over.
    pub(super) fn complete(&mut self, wait: Wait, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        let op = Operation {
            kind: wait.kind,
            target: wait.target,
            marker: wait.marker,
            proved: wait.proved,
            ..self.operation(wait.request, wait.begun, at, wait.verb, outcome, sink)
        };
        sink.done(&op);
        if outcome == Outcome::Ok {
            if let Some(message) = wait.message {
                sink.queue(QueueEvent::Published(*message));
            }
            if let Some((handle, how)) = wait.settles {
                self.settle(handle, how, at, sink);
            }
        }
        sink.answered(wait.request, at, None);
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
