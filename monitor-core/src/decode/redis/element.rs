//! One message as it stands in a list, a channel or a job's data: content in pieces, and the envelopes of job libraries.
//!
//! Celery's (kombu 5: JSON with `headers`, `properties` and a `body` in base64), Sidekiq's (JSON with `jid`) and Dramatiq's
//! (JSON with `redis_message_id` among its options) were looked up in what the libraries send.
//!
//! Memory: 16 KiB of an envelope; content that is longer is hashed as it comes.

use std::borrow::Cow;
use std::hash::Hasher;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use serde_json::Value;

use crate::decode::Sink;
use crate::decode::message::{Draft, MAX_LOOKED_INTO};
use crate::model::claim::Salt;
use crate::model::queue::Message;
use crate::model::{Fingerprint, Nanos};

/// Most headers of an envelope that are looked at.
const MAX_HEADERS: usize = 64;

/// Hash of what identifies something, its parts told apart.
pub(super) fn identify(salt: Salt, space: &str, parts: &[&[u8]]) -> u64 {
    let mut h = salt.hasher();
    h.write(space.as_bytes());
    for part in parts {
        h.write_u64(part.len() as u64);
        h.write(part);
    }
    h.finish()
}

/// Where a message stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address<'a> {
    /// What kind of thing `name` names: keys and channels are different places.
    pub(super) kind: &'static [u8],
    /// The database, for keys.
    pub(super) db: u32,
    /// Key or channel.
    pub(super) name: &'a [u8],
}

impl Address<'_> {
    /// Tells a message where it stands.
    pub(super) fn tell(&self, draft: &mut Draft, sink: &mut dyn Sink) {
        let name = String::from_utf8_lossy(self.name.get(..self.name.len().min(512)).unwrap_or_default());
        draft.address(&[self.kind, &self.db.to_be_bytes(), self.name], &name, sink);
    }
}

/// A message and what its envelope says.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) message: Message,
    /// Covers the whole element, envelope included; `None` if not all of it was seen.
    pub(super) element: Option<u64>,
    /// The number by which Celery's worker confirms it.
    pub(super) tag: Option<u64>,
    /// It was given back before.
    pub(super) again: bool,
}

/// What an element may be, as far as its bytes have come.
#[derive(Debug)]
enum Text {
    /// None has come.
    Unseen,
    /// An envelope: the beginning of a JSON text, which is held.
    Envelope(Vec<u8>),
    /// Content that is read as it comes: it is no envelope, or too long for one.
    Content,
}

/// A message in pieces.
#[derive(Debug)]
pub(super) struct Element {
    salt: Salt,
    draft: Draft,
    text: Text,
    whole: bool,
    hasher: siphasher::sip::SipHasher13,
}

impl Element {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, draft: Draft::new(salt, 0), text: Text::Unseen, whole: true, hasher: salt.hasher() }
    }

    /// More of it.
    pub(super) fn piece(&mut self, bytes: &[u8]) {
        let Some(first) = bytes.first() else { return };
        self.hasher.write(bytes);
        if matches!(self.text, Text::Unseen) {
            self.text = if *first == b'{' { Text::Envelope(Vec::new()) } else { Text::Content };
        }
        if let Text::Envelope(held) = &mut self.text {
            if held.len() + bytes.len() <= MAX_LOOKED_INTO {
                held.extend_from_slice(bytes);
                return;
            }
            let held = self.take_held();
            self.draft.content(&held);
        }
        self.draft.content(bytes);
    }

    /// `n` bytes of it are missing here.
    pub(super) fn missing(&mut self, n: u64) {
        self.whole = false;
        let held = self.take_held();
        self.draft.content(&held);
        self.draft.missing(n);
    }

    /// What is held of an envelope; whatever comes from now on is content.
    fn take_held(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.text, Text::Content) {
            Text::Envelope(held) => held,
            Text::Unseen | Text::Content => Vec::new(),
        }
    }

    /// Covers all of it; `None` if something was missing.
    pub(super) fn print(&self) -> Option<u64> {
        self.whole.then(|| self.hasher.finish())
    }

    /// It has ended. `id`: what identifies it besides what it says itself.
    pub(super) fn finish(
        mut self,
        address: Address<'_>,
        id: Option<(&'static str, &[u8])>,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Read {
        address.tell(&mut self.draft, sink);
        let (mut tag, mut again) = (None, false);
        if let Some((space, id)) = id {
            let id_of = identify(self.salt, space, &[&address.db.to_be_bytes(), address.name, id]);
            self.draft.idempotency(id);
            let json = self.take_held();
            self.draft.content(&json);
            let mut message = self.draft.finish(at, sink);
            message.ids.insert(0, Fingerprint(id_of));
            return Read { message, element: None, tag, again };
        }
        let json = self.take_held();
        if !self.draft_envelope(&json, &mut tag, &mut again, sink) {
            self.draft.content(&json);
        }
        let element = self.print();
        Read { message: self.draft.finish(at, sink), element, tag, again }
    }

    /// Reads a job library's envelope; `false` if it is none whose content stands apart.
    fn draft_envelope(&mut self, json: &[u8], tag: &mut Option<u64>, again: &mut bool, sink: &mut dyn Sink) -> bool {
        let has = |name: &str| memchr::memmem::find(json, name.as_bytes()).is_some();
        if !(has("\"jid\"") || has("\"redis_message_id\"") || (has("\"properties\"") && has("\"body\""))) {
            return false;
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(json) else { return false };
        if let Some(jid) = &envelope.jid {
            self.draft.id("sidekiq", &[jid.as_bytes()]);
            self.draft.idempotency(jid.as_bytes());
            // A retry says how often it was tried.
            *again = envelope.retry_count.is_some();
            return false;
        }
        if let Some(id) = envelope.options.as_ref().and_then(|o| o.redis_message_id.as_ref()) {
            self.draft.id("dramatiq", &[id.as_bytes()]);
            *tag = Some(dramatiq_tag(self.salt, id.as_bytes()));
            // A retry is a message of its own with the same id.
            if let Some(id) = &envelope.message_id {
                self.draft.idempotency(id.as_bytes());
            }
            return false;
        }
        let (Some(properties), Some(body)) = (&envelope.properties, &envelope.body) else { return false };
        for (name, value) in envelope.headers.iter().flatten().take(MAX_HEADERS) {
            match (name.as_ref(), value) {
                ("id", Value::String(id)) => {
                    self.draft.id("celery", &[id.as_bytes()]);
                    self.draft.idempotency(id.as_bytes());
                }
                ("redelivered", Value::Bool(redelivered)) => *again |= *redelivered,
                (_, Value::String(value)) => self.draft.header(name, value, sink),
                (_, Value::Number(number)) => self.draft.header(name, &number.to_string(), sink),
                _ => {}
            }
        }
        *tag = properties.delivery_tag.as_ref().map(|tag| celery_tag(self.salt, tag.as_bytes()));
        let plain = match properties.body_encoding.as_deref() {
            Some("base64") => STANDARD.decode(body.as_bytes()).ok(),
            _ => None,
        };
        self.draft.content(plain.as_deref().unwrap_or(body.as_bytes()));
        true
    }
}

/// What a delivery tag of Celery names: it is unique by itself.
pub(super) fn celery_tag(salt: Salt, tag: &[u8]) -> u64 {
    identify(salt, "celery-tag", &[tag])
}

/// What Dramatiq calls a message in one queue.
pub(super) fn dramatiq_tag(salt: Salt, id: &[u8]) -> u64 {
    identify(salt, "dramatiq-tag", &[id])
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    jid: Option<Cow<'a, str>>,
    #[serde(default)]
    retry_count: Option<Value>,
    #[serde(borrow, default)]
    body: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    headers: Option<FxHashMap<Cow<'a, str>, Value>>,
    #[serde(borrow, default)]
    properties: Option<Properties<'a>>,
    #[serde(borrow, default)]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    options: Option<Options<'a>>,
}

#[derive(Deserialize)]
struct Options<'a> {
    #[serde(borrow, default)]
    redis_message_id: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(borrow, default)]
    delivery_tag: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    body_encoding: Option<Cow<'a, str>>,
}
