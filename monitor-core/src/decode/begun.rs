//! An operation that has begun, until it is known how it ended.

use super::Sink;
use crate::model::{Claim, Effect, Nanos, OpKind, Operation, Outcome, Side, Sym, TenantId};

/// All of an operation but its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begun {
    /// The request; 0: the server began it.
    pub(super) request: u64,
    pub(super) begun: Nanos,
    pub(super) kind: OpKind,
    pub(super) verb: Sym,
    pub(super) target: Sym,
    pub(super) effect: Effect,
    pub(super) marker: Claim,
    pub(super) proved: Option<TenantId>,
}

impl Begun {
    /// Neither data nor binding.
    pub(super) fn control(request: u64, begun: Nanos, verb: Sym) -> Self {
        let (kind, target, effect) = (OpKind::Control, Sym::EMPTY, Effect::None);
        Self { request, begun, kind, verb, target, effect, marker: Claim::Neutral, proved: None }
    }

    /// All of it.
    pub(super) fn ended(&self, at: Nanos, outcome: Outcome) -> Operation {
        Operation {
            from: if self.request == 0 { Side::Server } else { Side::Client },
            kind: self.kind,
            target: self.target,
            effect: self.effect,
            marker: self.marker,
            proved: self.proved,
            ..Operation::control(self.request, self.begun, at, self.verb, outcome)
        }
    }

    /// Tells how it ended.
    pub(super) fn tell(&self, at: Nanos, outcome: Outcome, sink: &mut dyn Sink) {
        sink.done(&self.ended(at, outcome));
    }
}
