//! Requests and their answers, and what becomes of them when the connection ends.

use super::MAX_PENDING;
use crate::decode::begun::Begun;
use crate::decode::lifecycle::Conversation;
use crate::decode::mqtt::Mqtt;
use crate::decode::mqtt::packet::Kind;
use crate::decode::{DecodeError, Sink};
use crate::model::queue::{QueueEvent, Settled, Settlement};
use crate::model::{Claim, Effect, Fingerprint, Nanos, Outcome, Sym, TxStatus};

/// What the client asks for.
pub(super) struct Asks {
    pub(super) verb: &'static str,
    /// What answers it, and by which packet id.
    pub(super) answer: Kind,
    pub(super) id: u16,
    pub(super) target: Sym,
    pub(super) marker: Claim,
}

impl Asks {
    /// Something that names nothing and needs no packet id.
    pub(super) fn plain(verb: &'static str, answer: Kind) -> Self {
        Self { verb, answer, id: 0, target: Sym::EMPTY, marker: Claim::Neutral }
    }
}

impl Mqtt {
    /// The client asks for something.
    pub(super) fn ask(&mut self, asks: Asks, at: Nanos, sink: &mut dyn Sink) {
        let Asks { verb, answer, id, target, marker } = asks;
        if self.pending.len() >= MAX_PENDING {
            self.lose(DecodeError::TooManyRequests.into(), at, sink);
        }
        let request = self.begin(at, None, sink);
        let mut what = Begun::control(request, at, sink.word(verb));
        (what.target, what.marker) = (target, marker);
        self.pending.push((answer, id), what);
    }

    /// The server answers.
    pub(super) fn answer(&mut self, kind: Kind, id: u16, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        let Some(asked) = self.pending.take((kind, id)) else {
            if self.life.is_whole() {
                sink.decode_error(DecodeError::UnaskedAnswer);
            }
            return;
        };
        self.life.sound();
        // A binding is sure if it can be no other request's answer.
        let unsure = !self.life.is_whole() && asked.effect != Effect::None;
        asked.tell(at, if unsure { Outcome::Unknown } else { outcome }, sink);
        self.end(asked.request, at, sink);
        self.rest(at, sink);
    }

    /// The next request.
    pub(super) fn begin(&mut self, at: Nanos, print: Option<Fingerprint>, sink: &mut dyn Sink) -> u64 {
        self.latest += 1;
        self.n_open += 1;
        sink.begun(self.latest, at, print);
        self.latest
    }

    /// It is answered, or never will be.
    pub(super) fn end(&mut self, request: u64, at: Nanos, sink: &mut dyn Sink) {
        self.n_open = self.n_open.saturating_sub(1);
        sink.answered(request, at, None);
    }

    /// Nothing may be outstanding now.
    pub(in super::super) fn rest(&self, at: Nanos, sink: &mut dyn Sink) {
        if self.n_open == 0 {
            sink.status(at, TxStatus::Idle);
        }
    }

    /// The connection is over: what is not settled is delivered again, or forgotten with the session.
    pub(in super::super) fn finish(&mut self, at: Nanos, sink: &mut dyn Sink) {
        let how = if self.keeps { Settlement::Returned } else { Settlement::Dropped };
        for (id, ()) in self.unacked.take_all() {
            sink.queue(QueueEvent::Settled(Settled { handle: u64::from(id), at, how }));
        }
        let waits = self.n_open > 0;
        self.give_up(at, sink);
        if waits {
            self.rest(at, sink);
        }
    }

    /// Nobody who waits will be told.
    pub(in super::super) fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        for (_, what) in self.pending.take_all() {
            what.tell(at, Outcome::Unknown, sink);
            self.end(what.request, at, sink);
        }
        for (_, w) in self.waiting.take_all() {
            self.confirmed(w, Outcome::Unknown, at, sink);
        }
        drop(self.unacked.take_all());
    }
}
