//! Requests that await their response.

use smallvec::SmallVec;

use super::api;
use super::topics::Topic;
use crate::decode::Sink;
use crate::model::queue::Message;
use crate::model::{Claim, Fingerprint, Nanos, OpKind, Operation, Outcome, Sym};

/// Messages of one partition in a Produce request.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) topic: Topic,
    pub(super) partition: i32,
    /// Each with its place in the partition's batch.
    pub(super) messages: Vec<(i64, Message)>,
    /// Messages so far, those that are not held included.
    pub(super) count: i64,
}

/// A commit of one partition.
pub(super) type Commit = (Fingerprint, i32, i64);

/// What a request is about, as far as its response needs it.
#[derive(Debug, Default)]
pub(super) enum What {
    /// Nothing more.
    #[default]
    Plain,
    /// `Produce`; `silent`: its sender wants no response.
    Produce { parts: Vec<Part>, silent: bool },
    /// `Fetch`, of committed records only or of all.
    Fetch { committed: bool },
    /// `OffsetCommit` and its like.
    Commit(Vec<Commit>),
    /// `SaslHandshake`; what follows is authentication without Kafka's frames.
    Handshake { raw: bool },
    /// A step of an authentication; the last one.
    Login { last: bool, raw: bool },
}

/// A request that awaits its response.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) request: u64,
    pub(super) begun: Nanos,
    pub(super) key: i16,
    pub(super) version: i16,
    pub(super) correlation: i32,
    /// Not all of it was read.
    pub(super) unread: bool,
    pub(super) what: What,
    /// The topic it is about, if it is one.
    pub(super) target: Sym,
    pub(super) marker: Claim,
}

impl Default for Pending {
    fn default() -> Self {
        Self {
            request: 0,
            begun: Nanos(0),
            key: 0,
            version: 0,
            correlation: 0,
            unread: false,
            what: What::Plain,
            target: Sym::EMPTY,
            marker: Claim::Neutral,
        }
    }
}

impl Pending {
    /// What became of it.
    pub(super) fn operation(&self, ended: Nanos, outcome: Outcome, sink: &mut dyn Sink) -> Operation {
        let verb = sink.word(api::name(self.key));
        Operation {
            kind: api::kind(self.key),
            target: self.target,
            marker: self.marker,
            ..Operation::control(self.request, self.begun, ended, verb, outcome)
        }
    }

    /// Whether its sender wants no response.
    pub(super) fn is_silent(&self) -> bool {
        matches!(self.what, What::Produce { silent: true, .. })
    }

    /// Whether its response has no correlation id.
    pub(super) fn raw(&self) -> bool {
        matches!(self.what, What::Login { raw: true, .. })
    }

    /// Bytes held for it.
    pub(super) fn memory(&self) -> usize {
        size_of::<Self>()
            + match &self.what {
                What::Produce { parts, .. } => parts.iter().map(Part::memory).sum(),
                What::Commit(commits) => commits.capacity() * size_of::<Commit>(),
                _ => 0,
            }
    }

    /// Messages held for it.
    pub(super) fn held(&self) -> usize {
        match &self.what {
            What::Produce { parts, .. } => parts.iter().map(|p| p.messages.len()).sum(),
            _ => 0,
        }
    }

    /// Of one topic, or of several.
    pub(super) fn about(&mut self, topics: &SmallVec<[(Sym, Claim); 4]>) {
        if let Some((target, marker)) = topics.first()
            && topics.iter().all(|t| t == &(*target, *marker))
        {
            (self.target, self.marker) = (*target, *marker);
        }
    }
}

impl Part {
    fn memory(&self) -> usize {
        size_of::<Self>() + self.messages.capacity() * size_of::<(i64, Message)>()
    }
}

/// The kind of a fetch that brought nothing.
pub(super) fn idle(mut op: Operation) -> Operation {
    op.kind = OpKind::Control;
    op
}
