//! One request and its answer; and the text of a message, of which only hashes are kept.

use std::hash::Hasher;

use httparse::Header;
use siphasher::sip::SipHasher13;

use super::Shared;
use super::identity::{Carried, carried};
use crate::decode::body::RequestHead;
use crate::decode::shape;
use crate::decode::values::{Values, values};
use crate::decode::{Mark, Sink};
use crate::model::claim::Salt;
use crate::model::{
    Claim, Effect, Fingerprint, Nanos, OpKind, OpaqueId, Operation, Outcome, Scope, Side, Slot, Strength, Sym,
};

/// Bytes of a body that are looked through for values.
const VALUE_BUDGET: usize = 64 << 10;
/// Longest target that is looked through.
const MAX_TARGET: usize = 4096;
/// Parts of a path that are told apart.
const MAX_PARTS: usize = 8;

/// A request, until it is answered.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) number: u64,
    begun: Nanos,
    /// When all of it was there.
    pub(super) sent: Option<Nanos>,
    verb: Sym,
    target: Sym,
    kind: OpKind,
    carried: Carried,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
    pub(super) read_on_top: bool,
    /// Of the answer, once its head is there.
    pub(super) status: u16,
}

impl Exchange {
    pub(super) fn begin(
        number: u64,
        head: &RequestHead<'_>,
        shared: &Shared,
        salt: Salt,
        at: Nanos,
        sink: &mut dyn Sink,
    ) -> Self {
        let carried = carried(head, number, &shared.headers, salt, sink);
        let (path, query) = head.target.split_once('?').unwrap_or((head.target, ""));
        // Absolute form, as sent to proxies.
        let path = path
            .split_once("://")
            .map_or(path, |(_, rest)| rest.find('/').map_or("/", |i| rest.get(i..).unwrap_or("/")));
        if sink.wants_values(Side::Client) {
            for text in [path, query] {
                let plain = percent_decoded(text.get(..MAX_TARGET.min(text.len())).unwrap_or(text));
                values(salt, &plain, &mut |v| sink.mark(number, Side::Client, Mark::Value(v)));
            }
        }
        let mut text = String::with_capacity(64);
        shape::shape(path, &['/'], MAX_PARTS, &mut text);
        Self {
            number,
            begun: at,
            sent: None,
            verb: shared.shapes.intern(head.method, sink),
            target: shared.shapes.intern(&text, sink),
            kind: kind(head.method, path),
            carried,
            is_head: head.method == "HEAD",
            is_connect: head.method == "CONNECT",
            read_on_top: false,
            status: 0,
        }
    }

    /// How it ended, by its status.
    pub(super) fn outcome(&self) -> Outcome {
        match self.status {
            0 => Outcome::Unknown,
            400.. => Outcome::Error,
            _ => Outcome::Ok,
        }
    }

    pub(super) fn operation(&self, ended: Nanos, outcome: Outcome) -> Operation {
        // Any final answer but "authenticate first" shows that the handshake is over (RFC 4559 §4).
        let authenticated = !matches!(self.status, 0 | 401 | 407) && outcome != Outcome::Unknown;
        let effect = match self.carried.connection.filter(|_| authenticated) {
            Some(print) => Effect::Bind {
                slot: Slot::ConnectionAuth,
                claim: Claim::Opaque(OpaqueId(print.0)),
                scope: Scope::Session,
                strength: Strength::V3,
            },
            None => Effect::None,
        };
        Operation {
            request: self.number,
            begun: self.sent.unwrap_or(self.begun),
            ended,
            from: Side::Client,
            kind: self.kind,
            verb: self.verb,
            target: self.target,
            effect,
            outcome,
            warned_ineffective: false,
            marker: self.carried.marker,
            credential: self.carried.credential,
            key: None,
        }
    }
}

/// Health checks and metrics touch nobody's data.
fn kind(method: &str, path: &str) -> OpKind {
    const EXACT: [&str; 10] = [
        "/healthz",
        "/livez",
        "/readyz",
        "/ping",
        "/metrics",
        "/favicon.ico",
        "/status",
        "/health",
        "/-/healthy",
        "/-/ready",
    ];
    let bare = path.trim_end_matches('/');
    let exempt = matches!(method, "OPTIONS" | "CONNECT" | "TRACE")
        || EXACT.contains(&bare)
        || bare.starts_with("/health/")
        || bare.starts_with("/.well-known/");
    if exempt { OpKind::Control } else { OpKind::Data }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        if b != b'%' {
            out.push(if b == b'+' { b' ' } else { b });
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(a), Some(b)) => out.push(u8::try_from(a * 16 + b).unwrap_or(b' ')),
            _ => out.push(b' '),
        }
    }
    out
}

/// The text of the message that is being read in one direction.
#[derive(Debug)]
pub(super) struct Text {
    salt: Salt,
    hasher: SipHasher13,
    /// All of it was seen so far.
    whole: bool,
    values: Option<Values>,
    budget: usize,
}

impl Text {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, hasher: salt.hasher(), whole: true, values: None, budget: 0 }
    }

    /// A message begins.
    pub(super) fn begin(&mut self, headers: &[Header<'_>], wanted: bool) {
        self.hasher = self.salt.hasher();
        self.whole = true;
        self.budget = VALUE_BUDGET;
        self.values = (wanted && is_text(headers)).then(|| Values::new(self.salt));
    }

    /// Something of its head that counts for its fingerprint.
    pub(super) fn print(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.hasher.write_u8(0);
    }

    /// A piece of its body.
    pub(super) fn feed(&mut self, request: u64, from: Side, bytes: &[u8], sink: &mut dyn Sink) {
        self.hasher.write(bytes);
        let Some(values) = self.values.as_mut().filter(|_| self.budget > 0) else { return };
        let part = bytes.get(..self.budget.min(bytes.len())).unwrap_or(bytes);
        self.budget -= part.len();
        values.feed(part, &mut |v| sink.mark(request, from, Mark::Value(v)));
        if self.budget == 0 {
            values.forget();
        }
    }

    /// Something of it is missing.
    pub(super) fn miss(&mut self) {
        self.whole = false;
        if let Some(values) = &mut self.values {
            values.forget();
        }
    }

    /// More of it would be of use.
    pub(super) fn wants_more(&self) -> bool {
        self.values.is_some() && self.budget > 0
    }

    /// The message has ended: its fingerprint, if all of it was seen.
    pub(super) fn end(&mut self, request: u64, from: Side, sink: &mut dyn Sink) -> Option<Fingerprint> {
        if let Some(mut values) = self.values.take() {
            values.end(&mut |v| sink.mark(request, from, Mark::Value(v)));
        }
        self.whole.then(|| Fingerprint(self.hasher.finish()))
    }
}

/// Whether a body's bytes are text as they stand.
fn is_text(headers: &[Header<'_>]) -> bool {
    let has = |name: &str| headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
    if has("content-encoding").is_some_and(|h| !h.value.trim_ascii().eq_ignore_ascii_case(b"identity")) {
        return false;
    }
    has("content-type").is_none_or(|h| {
        let kind = String::from_utf8_lossy(h.value).to_ascii_lowercase();
        ["json", "text/", "urlencoded", "xml", "graphql", "yaml"].iter().any(|t| kind.contains(t))
    })
}
