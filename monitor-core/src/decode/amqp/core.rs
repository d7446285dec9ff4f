//! What all channels of a connection share: numbers of requests, names, and how much is held.

use crate::decode::Sink;
use crate::decode::message::MAX_LOOKED_INTO;
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Claim, Effect, Fingerprint, Ids, Nanos, OpKind, Operation, Outcome, Side, Sym, TenantId, TxStatus};

/// Most messages in the making at once, over all channels and both directions.
const MAX_DRAFTS: usize = 24;
/// Bytes that one of them holds at most.
const DRAFT: usize = MAX_LOOKED_INTO + (1 << 10);

/// Shared by the channels of one connection.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) salt: Salt,
    /// The virtual host. Of a connection that was not seen from its start: the one that brokers begin with.
    pub(super) vhost: Vec<u8>,
    /// Nothing was missed since the connection's start.
    pub(super) whole: bool,
    latest: u64,
    /// Requests begun and not answered.
    n_open: usize,
    pub(super) n_drafts: usize,
    pub(super) n_pending: usize,
    pub(super) n_waiting: usize,
    pub(super) n_unacked: usize,
    pub(super) n_consumers: usize,
}

/// What an operation is, its times and outcome apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct What {
    /// The request; 0: the broker began it.
    pub(super) request: u64,
    pub(super) begun: Nanos,
    pub(super) kind: OpKind,
    pub(super) verb: Sym,
    pub(super) target: Sym,
    pub(super) effect: Effect,
    pub(super) marker: Claim,
    pub(super) proved: Option<TenantId>,
}

impl Core {
    /// For a connection that is new, or not.
    pub(super) fn new(salt: Salt, mid_stream: bool) -> Self {
        Self {
            salt,
            vhost: b"/".to_vec(),
            whole: !mid_stream,
            latest: 0,
            n_open: 0,
            n_drafts: 0,
            n_pending: 0,
            n_waiting: 0,
            n_unacked: 0,
            n_consumers: 0,
        }
    }

    /// The name of a method.
    pub(super) fn verb(&self, name: &'static str, sink: &mut dyn Sink) -> Sym {
        sink.word(name)
    }

    /// A request is complete; its number.
    pub(super) fn begin(&mut self, at: Nanos, print: Option<Fingerprint>, sink: &mut dyn Sink) -> u64 {
        self.latest += 1;
        self.n_open += 1;
        sink.begun(self.latest, at, print);
        self.latest
    }

    /// A request has been answered, or never will be; its operation was told.
    pub(super) fn end(&mut self, request: u64, at: Nanos, sink: &mut dyn Sink) {
        self.n_open = self.n_open.saturating_sub(1);
        sink.answered(request, at, None);
    }

    /// Whether any request is outstanding.
    pub(super) fn is_asked(&self) -> bool {
        self.n_open > 0
    }

    /// Nothing may be outstanding now.
    pub(super) fn rest(&self, at: Nanos, sink: &mut dyn Sink) {
        if self.n_open == 0 {
            sink.status(at, TxStatus::Idle);
        }
    }

    /// Bytes held, as far as they are counted for the whole connection.
    pub(super) fn memory(&self) -> usize {
        self.vhost.capacity() + self.n_drafts * DRAFT + self.n_waiting * size_of::<Message>()
    }

    /// Whether one more message may be put together; it counts then.
    pub(super) fn may_draft(&mut self) -> bool {
        let may = self.n_drafts < MAX_DRAFTS;
        self.n_drafts += usize::from(may);
        may
    }
}

impl What {
    /// Neither data nor binding.
    pub(super) fn control(request: u64, begun: Nanos, verb: Sym) -> Self {
        Self {
            request,
            begun,
            kind: OpKind::Control,
            verb,
            target: Sym::EMPTY,
            effect: Effect::None,
            marker: Claim::Neutral,
            proved: None,
        }
    }

    /// How it ended.
    pub(super) fn tell(&self, ended: Nanos, outcome: Outcome, sink: &mut dyn Sink) {
        sink.done(&Operation {
            request: self.request,
            begun: self.begun,
            ended,
            from: if self.request == 0 { Side::Server } else { Side::Client },
            kind: self.kind,
            verb: self.verb,
            target: self.target,
            effect: self.effect,
            outcome,
            warned_ineffective: false,
            marker: self.marker,
            credential: None,
            proved: self.proved,
            tables: None,
            named: [None; 2],
            ids: Ids::default(),
        });
    }
}
