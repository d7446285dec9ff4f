//! Messages of queues, put together from the pieces a decoder sees: address, ids, headers, content. What a message says
//! of its tenant is read here, the same way for every broker. Only names, hashes and claims leave.
//!
//! Memory: the first 16 KiB of a message's content.

mod fields;
mod msgpack;
mod packed;
mod pickle;

use std::hash::Hasher;

use packed::Said;
use siphasher::sip::SipHasher13;
use smallvec::SmallVec;

use super::trace;
use super::values::{Values, values};
use super::{Sink, chores, shape};
use crate::model::claim::{Salt, speaks_of_tenant};
use crate::model::queue::{MAX_IDS, MAX_VALUES, Message};
use crate::model::token::Verified;
use crate::model::{Claim, Fingerprint, MarkerPlace, Nanos, Sym, TenantId};

/// Bytes of the content that are looked into; all of them count for its print.
pub const MAX_LOOKED_INTO: usize = 16 << 10;
/// Content of most messages is no longer.
const USUAL: usize = 512;
/// Longest header value that is looked at.
const MAX_HEADER: usize = 8192;
/// Most trace ids kept of one message.
const MAX_TRACES: usize = 4;
/// Most parts of an address that are shown.
const MAX_PARTS: usize = 6;
/// Most words of an address that are looked at for a tenant's name.
const MAX_LABELS: usize = 16;
/// Longest part of a message that is a word or a number.
const MAX_SHORT: usize = 128;
/// Longest address that is looked at for a tenant's name.
const MAX_ADDRESS: usize = 512;

/// Headers that identify a chain of work, by the names in use.
const TRACES: &[&str] =
    &["traceparent", "b3", "x-b3-traceid", "x-amzn-trace-id", "x-request-id", "x-correlation-id", "uber-trace-id"];

/// A message in the making.
#[derive(Debug)]
pub struct Draft {
    salt: Salt,
    print: SipHasher13,
    whole: bool,
    content: Vec<u8>,
    values: Values,
    message: Message,
}

impl Draft {
    /// A message that comes with request number `request` of its connection, or with its answer; 0: the broker pushed
    /// it.
    pub fn new(salt: Salt, request: u64) -> Self {
        Self {
            salt,
            print: salt.hasher(),
            whole: true,
            content: Vec::new(),
            values: Values::new(salt),
            message: Message {
                request,
                at: Nanos(0),
                queue: Sym::EMPTY,
                address: Fingerprint(0),
                ids: SmallVec::new(),
                print: None,
                bytes: 0,
                marker: Claim::Neutral,
                labelled: false,
                readable: false,
                proved: None,
                signed: false,
                chore: false,
                body: false,
                lane: None,
                idempotency: None,
                traces: SmallVec::new(),
                values: SmallVec::new(),
            },
        }
    }

    /// Where it was published to: `parts` exactly, `name` as people read it. Ids inside the name are not shown; a
    /// tenant inside it is a label.
    pub fn address(&mut self, parts: &[&[u8]], name: &str, sink: &mut dyn Sink) {
        self.message.address = hash(self.salt, "place", parts);
        self.message.queue = shown(name, sink);
        let start = name.get(..MAX_ADDRESS).unwrap_or(if name.len() <= MAX_ADDRESS { name } else { "" });
        let claim = sink.marker(MarkerPlace::KeyPrefix, "", start);
        self.claims(claim);
        self.message.chore = chores::is_chore(name);
        self.labels(start, sink);
    }

    /// The key that a log files it under: a tenant at its beginning is a label.
    pub fn key(&mut self, key: &str, sink: &mut dyn Sink) {
        self.header("key", key, sink);
        let start = key.get(..MAX_ADDRESS).unwrap_or(if key.len() <= MAX_ADDRESS { key } else { "" });
        self.labels(start, sink);
    }

    /// A word of an address or key that names a tenant is a label, wherever it stands. Whom it names is not taken from
    /// it: it may be whom the message is about.
    fn labels(&mut self, name: &str, sink: &mut dyn Sink) {
        let names = |word: &str, sink: &mut dyn Sink| sink.marker(MarkerPlace::KeyPrefix, "", word) != Claim::Neutral;
        self.message.labelled |=
            name.split(['.', ':', '/', '|']).take(MAX_LABELS).any(|word| !word.is_empty() && names(word, sink));
    }

    /// What identifies this one message: `space` says what kind of id it is, `parts` are all that makes it unique.
    pub fn id(&mut self, space: &'static str, parts: &[&[u8]]) {
        let id = hash(self.salt, space, parts);
        if self.message.ids.len() < MAX_IDS && !self.message.ids.contains(&id) {
            self.message.ids.push(id);
        }
    }

    /// The key by which a consumer can see that it got the same job twice.
    pub fn idempotency(&mut self, key: &[u8]) {
        self.message.idempotency = Some(hash(self.salt, "idempotency", &[key]));
    }

    /// A header, property or attribute.
    pub fn header(&mut self, name: &str, value: &str, sink: &mut dyn Sink) {
        if value.len() > MAX_HEADER || name.len() > MAX_HEADER {
            return;
        }
        self.field(name, value, sink);
        let kept = &mut self.message.values;
        values(self.salt, value.trim().as_bytes(), &mut |v| keep(kept, v));
    }

    /// A field that says what a header would, and is part of the content.
    pub fn field(&mut self, name: &str, value: &str, sink: &mut dyn Sink) {
        if value.len() > MAX_HEADER || name.len() > MAX_HEADER {
            return;
        }
        let value = value.trim();
        let lower: SmallVec<[u8; 32]> = name.bytes().map(|b| b.to_ascii_lowercase()).collect();
        let Ok(name) = std::str::from_utf8(&lower) else { return };
        if TRACES.contains(&name) {
            self.trace(name, value);
        } else if let Some((scheme, token)) = token(value) {
            self.signed_claim(scheme, token, sink);
        } else if speaks_of_tenant(name) {
            let claim = sink.marker(MarkerPlace::Header, name, value);
            self.message.labelled |= claim != Claim::Neutral;
            self.claims(claim);
        } else if name == "baggage" {
            for entry in value.split(',') {
                let Some((key, value)) = entry.split(';').next().and_then(|e| e.split_once('=')) else { continue };
                if speaks_of_tenant(&key.trim().to_ascii_lowercase()) {
                    let claim = sink.marker(MarkerPlace::Header, "tenant", value.trim());
                    self.message.labelled |= claim != Claim::Neutral;
                    self.claims(claim);
                }
            }
        } else if matches!(name, "idempotency-key" | "x-idempotency-key" | "idempotency_key") {
            self.idempotency(value.as_bytes());
        }
    }

    /// A name of what it goes through that may be a tenant's own (a virtual host): a tenant inside it is a label.
    pub fn through(&mut self, name: &str, sink: &mut dyn Sink) {
        let claim =
            sink.marker(MarkerPlace::KeyPrefix, "", name.get(..MAX_ADDRESS.min(name.len())).unwrap_or_default());
        self.message.labelled |= claim != Claim::Neutral;
        self.claims(claim);
    }

    /// Which part of the place it goes to (a partition, or what chooses one).
    pub fn lane(&mut self, lane: &[u8]) {
        self.message.lane = Some(hash(self.salt, "lane", &[lane]));
    }

    /// The id of a trace or request, as the header or property `name` (lower case) has it.
    pub fn trace(&mut self, name: &str, value: &str) {
        if let Some(id) = trace::trace_id(name, value)
            && self.message.traces.len() < MAX_TRACES
        {
            self.message.traces.push(trace::fingerprint(self.salt, id));
        }
    }

    /// More of the content.
    pub fn content(&mut self, bytes: &[u8]) {
        self.print.write(bytes);
        self.message.bytes = self.message.bytes.saturating_add(bytes.len() as u64);
        let room = MAX_LOOKED_INTO.saturating_sub(self.content.len());
        let looked_into = bytes.get(..room.min(bytes.len())).unwrap_or_default();
        let kept = &mut self.message.values;
        self.values.feed(looked_into, &mut |v| keep(kept, v));
        if self.content.capacity() == 0 {
            self.content.reserve(looked_into.len().max(USUAL));
        }
        self.content.extend_from_slice(looked_into);
    }

    /// `n` bytes of the content are missing here.
    pub fn missing(&mut self, n: u64) {
        self.whole = false;
        self.values.forget();
        self.message.bytes = self.message.bytes.saturating_add(n);
    }

    /// The message is complete.
    pub fn finish(mut self, at: Nanos, sink: &mut dyn Sink) -> Message {
        let kept = &mut self.message.values;
        self.values.end(&mut |v| keep(kept, v));
        self.message.at = at;
        self.message.print = self.whole.then(|| {
            self.print.write_u64(self.message.bytes);
            Fingerprint(self.print.finish())
        });
        let content = std::mem::take(&mut self.content);
        if self.whole && content.len() as u64 == self.message.bytes {
            self.message.readable = self.reads(&content, sink);
        }
        self.message
    }

    /// What content says of its tenant; gives whether all of it was read.
    fn reads(&mut self, content: &[u8], sink: &mut dyn Sink) -> bool {
        packed::each(content, &mut |said| match said {
            Said::Field(name, value) => match token(value) {
                Some((scheme, token)) => self.signed_claim(scheme, token, sink),
                None => {
                    let claim = sink.marker(MarkerPlace::Header, name, value);
                    self.message.labelled |= claim != Claim::Neutral;
                    self.claims(claim);
                }
            },
            Said::Word(word) => self.labels(word, sink),
            Said::Text(text) => {
                let kept = &mut self.message.values;
                values(self.salt, text.as_bytes(), &mut |v| keep(kept, v));
            }
            Said::Somebody => self.message.labelled = true,
        })
    }

    /// A part of a message that is kept in parts (the fields of a hash); `None`: not all of it was seen.
    pub fn part(&mut self, name: &str, value: Option<&[u8]>, sink: &mut dyn Sink) {
        let Some(value) = value else {
            self.whole = false;
            return;
        };
        let text = std::str::from_utf8(value).ok();
        if let Some(text) = text {
            self.field(name, text, sink);
        }
        let short = text.is_some_and(|t| t.len() <= MAX_SHORT);
        self.whole &= self.reads(value, sink) || short;
        let kept = &mut self.message.values;
        if short {
            values(self.salt, value, &mut |v| keep(kept, v));
        }
    }

    /// All parts were told.
    pub fn finish_parts(mut self, at: Nanos) -> Message {
        self.message.at = at;
        self.message.readable = self.whole;
        self.message
    }

    fn signed_claim(&mut self, scheme: &str, token: &str, sink: &mut dyn Sink) {
        let Some(token) = sink.token(scheme, token).filter(|t| t.readable) else { return };
        match (token.verified, token.tenant) {
            (Verified::Yes, Claim::Tenant(tenant)) => self.prove(tenant),
            // A token that could not be verified here is only a claim.
            (Verified::NoKey, claim) => {
                self.message.signed = true;
                self.message.labelled |= claim != Claim::Neutral;
                self.claims(claim);
            }
            _ => {}
        }
    }

    fn prove(&mut self, tenant: TenantId) {
        self.message.labelled = true;
        self.message.signed = true;
        self.message.proved = Some(tenant);
    }

    fn claims(&mut self, claim: Claim) {
        let before = self.message.marker;
        self.message.marker = match (before, claim) {
            (Claim::Neutral, other) | (other, Claim::Neutral) => other,
            (a, b) if a == b => a,
            // An unknown id beside a tenant's name may be an alias of that tenant, so it does not contradict the name.
            (Claim::Tenant(t), Claim::Opaque(_)) | (Claim::Opaque(_), Claim::Tenant(t)) => Claim::Tenant(t),
            _ => Claim::Unreadable,
        };
    }
}

/// The name of a queue, topic or subject as it may be shown: its words, without ids.
pub fn shown(name: &str, sink: &mut dyn Sink) -> Sym {
    let mut text = String::with_capacity(name.len().min(64));
    shape::shape(name, &['.', ':', '/', '{', '}'], MAX_PARTS, &mut text, &mut |_| {});
    sink.intern(&text)
}

fn keep(kept: &mut SmallVec<[Fingerprint; 8]>, value: Fingerprint) {
    if kept.len() < MAX_VALUES && !kept.contains(&value) {
        kept.push(value);
    }
}

fn hash(salt: Salt, space: &str, parts: &[&[u8]]) -> Fingerprint {
    let mut h = salt.hasher();
    h.write(space.as_bytes());
    for part in parts {
        h.write_u64(part.len() as u64);
        h.write(part);
    }
    Fingerprint(h.finish())
}

/// Scheme and token, where the value is one: three dot-separated parts, the first the beginning of a JSON object in
/// base64url (RFC 7515 §3.1).
fn token(value: &str) -> Option<(&str, &str)> {
    let (scheme, token) = match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => (scheme, token.trim()),
        Some(_) => return None,
        None => ("Bearer", value),
    };
    (token.starts_with("eyJ") && token.split('.').count() == 3).then_some((scheme, token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::Told;

    /// Knows `acme` and nobody else.
    fn listener() -> Told {
        let marker =
            |_, _: &str, value: &str| if value.contains("acme") { Claim::Tenant(TenantId(0)) } else { Claim::Neutral };
        Told::default().marking(marker)
    }

    const SALT: Salt = Salt(1, 2);

    fn message(content: &[&[u8]], headers: &[(&str, &str)]) -> Message {
        let mut draft = Draft::new(SALT, 1);
        draft.address(&[b"", b"jobs"], "jobs", &mut listener().sink());
        for (name, value) in headers {
            draft.header(name, value, &mut listener().sink());
        }
        for piece in content {
            draft.content(piece);
        }
        draft.finish(Nanos(5), &mut listener().sink())
    }

    #[test]
    fn pieces_do_not_matter() {
        let (whole, cut) = (message(&[b"{\"id\":12345}"], &[]), message(&[b"{\"id\":1", b"2345}"], &[]));
        assert_eq!(whole.print, cut.print);
        assert_eq!(whole.values, cut.values);
        assert_ne!(whole.print, message(&[b"{\"id\":12346}"], &[]).print);
    }

    #[test]
    fn labels_are_found_in_headers_and_fields() {
        let named = |m: &Message| (m.labelled, m.marker);
        let acme = (true, Claim::Tenant(TenantId(0)));
        assert_eq!(named(&message(&[], &[("X-Tenant-Id", "acme")])), acme);
        assert_eq!(named(&message(&[br#"{"job":{"tenant_id":"acme"}}"#], &[])), acme);
        assert_eq!(named(&message(&[br#"[[],{"tenant":"acme"},{"chain":null}]"#], &[])), acme);
        assert_eq!(named(&message(&[br#"{"note":"acme"}"#], &[])), (false, Claim::Neutral));
        assert_eq!(named(&message(&[b"not json"], &[("content-type", "text/plain")])), (false, Claim::Neutral));
    }

    #[test]
    fn what_is_missing_takes_the_print_away() {
        let mut draft = Draft::new(SALT, 0);
        draft.content(b"abc");
        draft.missing(4);
        let m = draft.finish(Nanos(1), &mut listener().sink());
        assert_eq!((m.print, m.bytes), (None, 7));
    }

    #[test]
    fn large_content_is_held_in_part_and_counted_in_full() {
        let mut draft = Draft::new(SALT, 0);
        for _ in 0..64 {
            draft.content(&[b'x'; 1024]);
            assert!(draft.content.len() <= MAX_LOOKED_INTO);
        }
        let m = draft.finish(Nanos(1), &mut listener().sink());
        assert_eq!(m.bytes, 64 << 10);
        assert!(m.print.is_some());
    }
}
