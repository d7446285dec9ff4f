//! The message that one direction is in the middle of: subject, headers, payload.
//!
//! Memory: subject and reply (a line at most), 16 KiB of headers, 16 KiB of what is read as text, one draft.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::frame::Head;
use crate::decode::Sink;
use crate::decode::message::Draft;
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Fingerprint, Nanos};

/// Most bytes of headers that are looked at.
const MAX_HEADERS: usize = 16 << 10;
/// Most bytes of a text that is read by us: a confirmation, an answer of the server's.
const MAX_TEXT: usize = 16 << 10;

/// What a message is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// One of a queue, or of whatever subjects are used for.
    Message,
    /// Read as text: a confirmation, or an answer.
    Text,
    /// Nothing that is looked at.
    Other,
}

/// How much of a message is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it.
    Whole,
    /// All was seen, but its text is longer than what is kept.
    Beginning,
    /// Some of its content was missed.
    Holed,
    /// Some of its headers were missed: one that is not whole is none.
    NoHeaders,
}

/// A message in the making.
#[derive(Debug)]
pub(super) struct Open {
    salt: Salt,
    pub(super) role: Role,
    pub(super) subject: Vec<u8>,
    pub(super) reply: Vec<u8>,
    /// Bytes of headers still to come.
    headers_left: u64,
    headers: Vec<u8>,
    /// What is read as text.
    pub(super) text: Vec<u8>,
    extent: Extent,
    draft: Option<Draft>,
    hasher: SipHasher13,
    /// The server's word about a request, where it is no message (`NATS/1.0 503`).
    pub(super) status: Option<u16>,
}

impl Open {
    pub(super) fn new(salt: Salt) -> Self {
        Self {
            salt,
            role: Role::Other,
            subject: Vec::new(),
            reply: Vec::new(),
            headers_left: 0,
            headers: Vec::new(),
            text: Vec::new(),
            extent: Extent::Whole,
            draft: None,
            hasher: salt.hasher(),
            status: None,
        }
    }

    /// A message begins.
    pub(super) fn begin(&mut self, head: &Head<'_>, role: Role) {
        self.role = role;
        self.subject.clear();
        self.subject.extend_from_slice(head.subject);
        self.reply.clear();
        self.reply.extend_from_slice(head.reply);
        self.headers_left = head.headers;
        self.headers.clear();
        self.text.clear();
        self.extent = Extent::Whole;
        self.status = None;
        self.draft = (role == Role::Message).then(|| Draft::new(self.salt, 0));
        self.hasher = self.salt.hasher();
        self.hasher.write(head.subject);
        self.hasher.write_u8(0xff);
    }

    /// More of it.
    pub(super) fn piece(&mut self, mut bytes: &[u8], sink: &mut dyn Sink) {
        self.hasher.write(bytes);
        if self.headers_left > 0 {
            let n = usize::try_from(self.headers_left).unwrap_or(usize::MAX).min(bytes.len());
            let (headers, rest) = bytes.split_at_checked(n).unwrap_or((bytes, &[]));
            let room = MAX_HEADERS.saturating_sub(self.headers.len());
            self.headers.extend_from_slice(headers.get(..room.min(headers.len())).unwrap_or_default());
            self.headers_left -= headers.len() as u64;
            if self.headers_left == 0 {
                self.read_headers(sink);
            }
            bytes = rest;
        }
        match (&mut self.draft, self.role) {
            (Some(draft), _) => draft.content(bytes),
            (None, Role::Text) => {
                let room = MAX_TEXT.saturating_sub(self.text.len());
                if bytes.len() > room && self.extent == Extent::Whole {
                    self.extent = Extent::Beginning;
                }
                self.text.extend_from_slice(bytes.get(..room.min(bytes.len())).unwrap_or_default());
            }
            _ => {}
        }
    }

    /// `n` bytes of it are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        let of_headers = n.min(self.headers_left);
        self.headers_left -= of_headers;
        if of_headers > 0 {
            self.extent = Extent::NoHeaders;
        } else if self.extent != Extent::NoHeaders {
            self.extent = Extent::Holed;
        }
        if let Some(draft) = &mut self.draft {
            draft.missing(n);
        }
    }

    fn read_headers(&mut self, sink: &mut dyn Sink) {
        if self.extent == Extent::NoHeaders {
            return;
        }
        let headers = std::mem::take(&mut self.headers);
        let mut lines = headers.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.next().and_then(|l| l.strip_prefix(b"NATS/1.0")).unwrap_or_default().trim_ascii();
        if !first.is_empty() {
            let code = first.get(..3).and_then(|c| std::str::from_utf8(c).ok()).and_then(|c| c.parse().ok());
            self.status = Some(code.unwrap_or(0));
        }
        for line in lines {
            let Some(at) = line.iter().position(|b| *b == b':') else { continue };
            let (name, value) = line.split_at_checked(at).unwrap_or((line, &[]));
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else { continue };
            let Some(draft) = &mut self.draft else { continue };
            if name.eq_ignore_ascii_case("Nats-Msg-Id") {
                draft.id("nats-msg-id", &[&self.subject, value.as_bytes()]);
                draft.idempotency(value.as_bytes());
            } else if !name.get(..5).is_some_and(|n| n.eq_ignore_ascii_case("Nats-")) {
                draft.header(name, value, sink);
            }
        }
        self.headers = headers;
    }

    /// Whether all that is read as text is there.
    pub(super) fn is_whole(&self) -> bool {
        self.extent == Extent::Whole
    }

    /// Covers subject, headers and payload; `None` if something was missing.
    pub(super) fn print(&self) -> Option<Fingerprint> {
        let seen = matches!(self.extent, Extent::Whole | Extent::Beginning);
        seen.then(|| Fingerprint(self.hasher.finish()))
    }

    /// The message is complete; `id`: its stream and number there.
    pub(super) fn finish(&mut self, id: Option<(&[u8], &[u8])>, at: Nanos, sink: &mut dyn Sink) -> Option<Message> {
        let mut draft = self.draft.take()?;
        let name = String::from_utf8_lossy(self.subject.get(..self.subject.len().min(512)).unwrap_or_default());
        draft.address(&[&self.subject], &name, sink);
        match id {
            Some((stream, seq)) => draft.id("nats-stream", &[stream, seq]),
            // The subject for the answer is made up for this one message.
            None if !self.reply.is_empty() => draft.id("nats-reply", &[&self.reply]),
            None => {}
        }
        Some(draft.finish(at, sink))
    }

    pub(super) fn memory(&self) -> usize {
        self.subject.capacity()
            + self.reply.capacity()
            + self.headers.capacity()
            + self.text.capacity()
            + usize::from(self.draft.is_some()) * (20 << 10)
    }
}

/// What identifies a stored message, as [`Open::finish`] has it.
pub(super) fn stored(salt: Salt, stream: &[u8], seq: &[u8], sink: &mut dyn Sink) -> Option<Fingerprint> {
    let mut draft = Draft::new(salt, 0);
    draft.id("nats-stream", &[stream, seq]);
    draft.finish(Nanos(0), sink).ids.first().copied()
}
