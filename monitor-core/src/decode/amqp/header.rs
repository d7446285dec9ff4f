//! Content headers: length of the body and properties of the message (AMQP 0-9-1 §4.2.6.1).

use super::table::{Field, decimal, fields};
use crate::decode::Sink;
use crate::decode::message::Draft;
use crate::decode::wire::Reader;
use crate::model::{Claim, Slot};

/// Shortest message id that nobody else uses, whatever the queue: anything like a UUID.
const UNIQUE: usize = 16;

/// What a content header says beyond what goes into the message's draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Length of the body, in bytes.
    pub(super) size: u64,
    /// Whom the property `user-id` names, which the broker has compared with the publisher's login
    /// (rabbitmq.com/docs/validated-user-id). Still a label to us: the broker may be told to skip that.
    pub(super) user: Claim,
}

/// What makes an id of a message unique that is not so by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublishedTo<'a> {
    pub(super) vhost: &'a [u8],
    pub(super) exchange: &'a [u8],
    pub(super) key: &'a [u8],
}

/// Length of the body; `None`: no content header.
pub(super) fn size(payload: &[u8]) -> Option<u64> {
    let mut b = Reader::new(payload);
    (b.u16()? == 60).then_some(())?;
    b.u16()?;
    b.u64()
}

/// Reads a content header into `draft`; `None`: malformed.
pub(super) fn read(payload: &[u8], to: PublishedTo<'_>, draft: &mut Draft, sink: &mut dyn Sink) -> Option<Header> {
    let size = size(payload)?;
    let mut b = Reader::new(payload);
    b.take(12)?;
    let flags = b.u16()?;
    // Only bodies with more properties than there are have a second word of flags.
    if flags & 1 != 0 {
        return None;
    }
    let has = |bit: u8| flags >> bit & 1 != 0;
    for bit in [15, 14] {
        if has(bit) {
            b.u8_bytes()?;
        }
    }
    if has(13) {
        headers(b.u32_bytes()?, draft, sink)?;
    }
    for bit in [12, 11] {
        if has(bit) {
            b.u8()?;
        }
    }
    if has(10)
        && let Some(id) = text(b.u8_bytes()?)
    {
        draft.trace("correlation-id", id);
    }
    for bit in [9, 8] {
        if has(bit) {
            b.u8_bytes()?;
        }
    }
    if has(7) {
        let id = b.u8_bytes()?;
        if id.len() >= UNIQUE {
            draft.id("amqp message", &[id]);
        } else if !id.is_empty() {
            draft.id("amqp message here", &[to.vhost, to.exchange, to.key, id]);
        }
        if !id.is_empty() {
            draft.idempotency(id);
        }
    }
    if has(6) {
        b.u64()?;
    }
    if has(5) {
        b.u8_bytes()?;
    }
    let mut user = Claim::Neutral;
    if has(4)
        && let Some(name) = text(b.u8_bytes()?)
    {
        user = sink.claim(Slot::User, "", name);
    }
    Some(Header { size, user })
}

fn headers(table: &[u8], draft: &mut Draft, sink: &mut dyn Sink) -> Option<()> {
    // A task of Celery: `id` and `task` among its headers (docs.celeryq.dev, "Message Protocol", version 2).
    let (mut id, mut task) = (None, false);
    let whole = fields(table, &mut |name, field| {
        let mut room = [0; 20];
        let value = match field {
            Field::Text(bytes) => text(bytes),
            Field::Number(n) => Some(decimal(n, &mut room)),
        };
        let (Some(name), Some(value)) = (text(name), value) else { return };
        task |= name == "task";
        if name == "id"
            && let Field::Text(bytes) = field
        {
            id = Some(bytes);
        }
        draft.header(name, value, sink);
    });
    if let (Some(id), true) = (id, task) {
        draft.id("celery", &[id]);
        draft.idempotency(id);
    }
    whole.then_some(())
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
