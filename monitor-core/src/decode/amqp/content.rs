//! A message on its way over the wire: the method that announces it, then its header, then its body in frames.

use smallvec::SmallVec;

use super::core::Core;
use super::header::{self, PublishedTo};
use super::method::Address;
use crate::decode::DecodeError;
use crate::decode::Sink;
use crate::decode::begun::Begun;
use crate::decode::message::Draft;
use crate::model::queue::Message;
use crate::model::{Claim, Nanos, Sym};

/// Replies to the caller of a remote procedure, not messages of a queue (rabbitmq.com/docs/direct-reply-to).
const DIRECT_REPLY: &[u8] = b"amq.rabbitmq.reply-to";

/// What is to become of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// A client publishes it.
    Publish,
    /// The broker cannot route it.
    Return,
    /// The broker hands it to a consumer of this queue.
    Deliver { tagged: Tagged, queue: Sym },
    /// The broker answers a request for one.
    Got { what: Begun, tagged: Tagged },
}

/// How the broker hands a message out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagged {
    pub(super) tag: u64,
    /// It says that it did so before.
    pub(super) again: bool,
    /// The consumer confirms what it gets.
    pub(super) awaits_ack: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Header,
    Body(u64),
    Done,
}

/// A message in the making.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) purpose: Purpose,
    /// When its method was seen.
    pub(super) begun: Nanos,
    /// It is a reply to one caller.
    pub(super) direct: bool,
    stage: Stage,
    draft: Option<Draft>,
    user: Claim,
    /// What makes its id unique: held until its header has come.
    exchange: SmallVec<[u8; 32]>,
    key: SmallVec<[u8; 32]>,
}

impl Content {
    /// Its method has come.
    pub(super) fn new(
        purpose: Purpose,
        request: u64,
        to: Address<'_>,
        at: Nanos,
        core: &mut Core,
        sink: &mut dyn Sink,
    ) -> Box<Self> {
        let draft = if core.reserve_draft() {
            let mut draft = Draft::new(core.salt, request);
            let (exchange, key) = (String::from_utf8_lossy(to.exchange), String::from_utf8_lossy(to.key));
            let parts = [core.vhost.as_slice(), to.exchange, to.key];
            if exchange.is_empty() {
                draft.address(&parts, &key, sink);
            } else {
                draft.address(&parts, &[&*exchange, &*key].join("/"), sink);
            }
            draft.through(&String::from_utf8_lossy(&core.vhost), sink);
            Some(draft)
        } else {
            sink.decode_error(DecodeError::TooManyMessagesAtOnce);
            None
        };
        Box::new(Self {
            purpose,
            begun: at,
            direct: to.exchange.is_empty() && to.key.starts_with(DIRECT_REPLY),
            stage: Stage::Header,
            draft,
            user: Claim::Neutral,
            exchange: SmallVec::from_slice(to.exchange),
            key: SmallVec::from_slice(to.key),
        })
    }

    /// Its header. `Ok(true)`: it has no body, so it is complete.
    pub(super) fn header(&mut self, payload: &[u8], core: &Core, sink: &mut dyn Sink) -> Result<bool, DecodeError> {
        if self.stage != Stage::Header {
            return Err(DecodeError::SecondHeader);
        }
        let size = header::size(payload).ok_or(DecodeError::BadContentHeader)?;
        if let Some(draft) = &mut self.draft {
            let to = PublishedTo { vhost: &core.vhost, exchange: &self.exchange, key: &self.key };
            match header::read(payload, to, draft, sink) {
                Some(header) => self.user = header.user,
                // The length is sure, and the rest may be more than is read.
                None => sink.decode_error(DecodeError::BadProperties),
            }
        }
        self.stage = if size == 0 { Stage::Done } else { Stage::Body(size) };
        Ok(size == 0)
    }

    /// Bytes of its body.
    pub(super) fn body(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.passes(bytes.len() as u64)?;
        if let Some(draft) = &mut self.draft {
            draft.content(bytes);
        }
        Ok(())
    }

    /// So many bytes of its body are missing.
    pub(super) fn hole(&mut self, n: u64) -> Result<(), DecodeError> {
        self.passes(n)?;
        if let Some(draft) = &mut self.draft {
            draft.missing(n);
        }
        Ok(())
    }

    fn passes(&mut self, n: u64) -> Result<(), DecodeError> {
        let Stage::Body(left) = self.stage else { return Err(DecodeError::BodyWithoutHeader) };
        self.stage = Stage::Body(left.checked_sub(n).ok_or(DecodeError::BodyTooLong)?);
        Ok(())
    }

    /// A frame of its body has ended: whether it is complete.
    pub(super) fn frame_ended(&mut self) -> bool {
        if self.stage == Stage::Body(0) {
            self.stage = Stage::Done;
        }
        self.stage == Stage::Done
    }

    /// The message, now that it is complete.
    pub(super) fn finish(self: Box<Self>, at: Nanos, core: &mut Core, sink: &mut dyn Sink) -> Option<Message> {
        let draft = self.draft?;
        core.n_drafts = core.n_drafts.saturating_sub(1);
        let mut message = draft.finish(at, sink);
        if let (Claim::Neutral, Claim::Tenant(_)) = (message.marker, self.user) {
            message.marker = self.user;
            message.labelled = true;
        }
        Some(message)
    }

    /// It will not be complete.
    pub(super) fn forget(self: Box<Self>, core: &mut Core) {
        core.n_drafts = core.n_drafts.saturating_sub(usize::from(self.draft.is_some()));
    }
}
