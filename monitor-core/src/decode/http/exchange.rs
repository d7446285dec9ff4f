//! One request and its answer; and the text of a message, of which only hashes are kept.

use std::hash::Hasher;

use httparse::Header;
use siphasher::sip::SipHasher13;

use super::identity::{Carried, carried};
use super::{Shared, cookies, index};
use crate::decode::body::{RequestHead, ResponseHead};
use crate::decode::shape;
use crate::decode::values::{Values, values};
use crate::decode::{Mark, Sink, word_of};
use crate::model::claim::Salt;
use crate::model::cookies::Cookies;
use crate::model::http::{self, Caching};
use crate::model::shown::fingerprint;
use crate::model::{
    Claim, Effect, Fingerprint, Ids, Nanos, OpKind, OpaqueId, Operation, Outcome, Scope, Side, Slot, Strength, Sym,
    Tables,
};

/// Methods that are shown as they are: those of HTTP and WebDAV (the IANA registry's common ones).
const METHODS: &[&str] = &[
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LOCK",
    "MERGE",
    "MKCOL",
    "MOVE",
    "OPTIONS",
    "PATCH",
    "POST",
    "PROPFIND",
    "PROPPATCH",
    "PURGE",
    "PUT",
    "QUERY",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNLOCK",
];

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
    ids: Ids,
    kind: OpKind,
    effect: Effect,
    carried: Carried,
    /// The index of a search engine that it names.
    tables: Option<Tables>,
    /// Its path is one where somebody logs in.
    logs_in: bool,
    pub(super) is_head: bool,
    /// Where it wants to be let through to.
    pub(super) connects_to: Option<Sym>,
    pub(super) read_on_top: bool,
    /// What else it carries is not known.
    partial: bool,
    /// It is not as it should be: what was done about it is not known, unless it was refused.
    irregular: bool,
    /// Of the answer, once its head is there.
    status: Option<u16>,
    /// The same, where caches matter.
    pub(super) caching: Option<Caching>,
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
        // What is not known may have been its credential, or whom it names; and whether a call has failed does not show in
        // its status, if that is what it is.
        let may_be_call = head.method == "POST" && head.header("content-type").is_none();
        let unread = head.method.is_empty() || head.target.is_empty();
        let unknown = unread || may_be_call || carried.credential.is_none();
        let irregular = head.irregular || (head.partial && unknown);
        let mut text = String::with_capacity(64);
        let mut ids = Ids::default();
        shape::shape(path, &['/'], MAX_PARTS, &mut text, &mut |id| ids.push(fingerprint(salt, id)));
        Self {
            number,
            begun: at,
            sent: None,
            verb: if head.method.is_empty() { sink.word("unreadable") } else { word_of(head.method, METHODS, sink) },
            target: shared.shapes.intern(&text, sink),
            ids,
            kind: if irregular { OpKind::Data } else { kind(head.method, path) },
            effect: if asks_policy(path) { Effect::Check } else { Effect::None },
            carried,
            tables: index::index(path, sink),
            logs_in: cookies::logs_in(path),
            is_head: head.method == "HEAD",
            connects_to: (head.method == "CONNECT").then(|| sink.intern(&head.target.to_ascii_lowercase())),
            read_on_top: false,
            partial: head.partial,
            irregular,
            status: None,
            caching: None,
        }
    }

    /// Something that a client has said where a request should be, of which nothing could be read.
    pub(super) fn unread(number: u64, at: Nanos, sink: &mut dyn Sink) -> Self {
        Self {
            number,
            begun: at,
            sent: None,
            verb: sink.word("unreadable"),
            target: Sym::EMPTY,
            ids: Ids::default(),
            kind: OpKind::Data,
            effect: Effect::None,
            carried: Carried::unreadable(),
            tables: None,
            logs_in: false,
            is_head: false,
            connects_to: None,
            read_on_top: false,
            partial: true,
            irregular: true,
            status: None,
            caching: None,
        }
    }

    /// The head of its answer is there.
    pub(super) fn answered(&mut self, head: &ResponseHead<'_>, salt: Salt) {
        // A head without a readable status has 0.
        self.status = Some(head.status).filter(|status| *status != 0);
        let any = head.headers.iter().any(|h| h.name.eq_ignore_ascii_case("set-cookie"));
        if any && head.status < 400 {
            let credential = self.carried.credential;
            let new = || Box::new(Cookies { credential, ..Cookies::default() });
            let all = self.carried.cookies.get_or_insert_with(new);
            cookies::set(salt, head.headers, all);
            all.logs_in = self.logs_in;
        }
    }

    /// The cookies of both.
    pub(super) fn take_cookies(&mut self) -> Option<Box<Cookies>> {
        self.carried.cookies.take().filter(|c| c.says())
    }

    /// The credential in its head.
    pub(super) fn credential(&self) -> Option<Fingerprint> {
        self.carried.credential
    }

    /// How it ended, by its status.
    pub(super) fn outcome(&self) -> Outcome {
        match self.status {
            None => Outcome::Unknown,
            Some(400..) => Outcome::Error,
            Some(_) if self.irregular => Outcome::Unknown,
            Some(_) => Outcome::Ok,
        }
    }

    /// The authentication of the whole connection that this request has completed, if it has.
    pub(super) fn authentication(&self, ended: Nanos, outcome: Outcome, sink: &mut dyn Sink) -> Option<Operation> {
        // Any final answer but "authenticate first" shows that the handshake is over (RFC 4559 §4).
        let over = !matches!(self.status, None | Some(401 | 407)) && outcome != Outcome::Unknown;
        let (scheme, print) = self.carried.connection.filter(|_| over)?;
        let effect = Effect::Bind {
            slot: Slot::ConnectionAuth,
            claim: Claim::Opaque(OpaqueId(print.0)),
            scope: Scope::Session,
            strength: Strength::V3,
        };
        let verb = sink.word(scheme);
        let plain = self.operation(ended, Outcome::Ok);
        Some(Operation {
            kind: OpKind::Bind,
            verb,
            target: Sym::EMPTY,
            effect,
            marker: Claim::Neutral,
            credential: None,
            proved: None,
            ..plain
        })
    }

    /// What caches are judged by, where they matter. `body`: what the answer's body holds, if all of it was read, and
    /// its bytes.
    pub(super) fn cached(&mut self, ended: Nanos, body: Option<(Fingerprint, u64)>) -> Option<http::Exchange> {
        let caching = self.caching.take().filter(|_| !self.partial)?;
        Some(http::Exchange {
            begun: self.begun,
            ended,
            verb: self.verb,
            path: self.target,
            control: self.kind != OpKind::Data,
            identities: self.carried.identities.clone(),
            status: self.status.filter(|_| !self.irregular),
            body: body.map(|(print, _)| print),
            bytes: body.map_or(0, |(_, n)| n),
            caching,
        })
    }

    pub(super) fn operation(&self, ended: Nanos, outcome: Outcome) -> Operation {
        Operation {
            kind: self.kind,
            target: self.target,
            effect: self.effect,
            marker: self.carried.marker,
            credential: self.carried.credential,
            proved: self.carried.proved,
            tables: self.tables,
            ids: self.ids,
            ..Operation::control(self.number, self.sent.unwrap_or(self.begun), ended, self.verb, outcome)
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
        || bare.starts_with("/.well-known/")
        || asks_policy(path);
    if exempt { OpKind::Control } else { OpKind::Data }
}

/// Whether a request asks for a decision: Open Policy Agent's data API, OpenFGA and SpiceDB checks, token introspection
/// (RFC 7662). It touches nobody's data.
fn asks_policy(path: &str) -> bool {
    let bare = path.trim_end_matches('/');
    bare.starts_with("/v1/data/")
        || (bare.starts_with("/stores/") && (bare.ends_with("/check") || bare.ends_with("/batch-check")))
        || bare.starts_with("/v1/permissions/check")
        || bare.ends_with("/introspect")
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    Percent::default().feed(text.as_bytes(), &mut out);
    out
}

/// Takes percent-encoding back, in pieces (`application/x-www-form-urlencoded`).
#[derive(Clone, Copy, Debug, Default)]
enum Percent {
    /// Outside of an escape.
    #[default]
    Plain,
    /// An escape has begun.
    Begun,
    /// It has its first digit.
    First(u32),
}

impl Percent {
    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &b in bytes {
            match (*self, char::from(b).to_digit(16)) {
                (Self::Begun, Some(digit)) => {
                    *self = Self::First(digit);
                    continue;
                }
                (Self::First(first), Some(digit)) => {
                    out.push(u8::try_from(first * 16 + digit).unwrap_or(b' '));
                    *self = Self::Plain;
                    continue;
                }
                (Self::Begun | Self::First(_), None) => {
                    out.push(b' ');
                    *self = Self::Plain;
                }
                (Self::Plain, _) => {}
            }
            match b {
                b'%' => *self = Self::Begun,
                b'+' => out.push(b' '),
                _ => out.push(b),
            }
        }
    }
}

/// The text of the message that is being read in one direction.
#[derive(Debug)]
pub(super) struct Text {
    salt: Salt,
    hasher: SipHasher13,
    /// Of the body alone, as it can be read, where that matters; and its bytes so far.
    body: Option<(SipHasher13, u64)>,
    /// All of it was seen so far.
    whole: bool,
    values: Option<Values>,
    /// The body is a form, whose values are escaped.
    form: Option<Percent>,
    budget: usize,
}

impl Text {
    pub(super) fn new(salt: Salt) -> Self {
        Self { salt, hasher: salt.hasher(), body: None, whole: true, values: None, form: None, budget: 0 }
    }

    /// A message begins.
    pub(super) fn begin(&mut self, headers: &[Header<'_>], wanted: bool) {
        self.hasher = self.salt.hasher();
        self.body = None;
        self.whole = true;
        self.budget = VALUE_BUDGET;
        let kind = text_kind(headers).filter(|_| wanted);
        self.values = kind.map(|_| Values::new(self.salt));
        self.form = (kind == Some(TextKind::Form)).then(Percent::default);
    }

    /// What its body holds will be asked for.
    pub(super) fn note_body(&mut self) {
        self.body = Some((self.salt.hasher(), 0));
    }

    /// What its body holds, and its bytes, if that was noted and all of it read.
    pub(super) fn body(&mut self) -> Option<(Fingerprint, u64)> {
        let (hasher, n) = self.body.take()?;
        self.whole.then(|| (Fingerprint(hasher.finish()), n))
    }

    /// Something of its head that counts for its fingerprint.
    pub(super) fn print(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
        self.hasher.write_u8(0);
    }

    /// A piece of its body, as sent.
    pub(super) fn sent(&mut self, bytes: &[u8]) {
        self.hasher.write(bytes);
    }

    /// A piece of what its body holds, encodings undone.
    pub(super) fn feed(&mut self, request: u64, from: Side, bytes: &[u8], sink: &mut dyn Sink) {
        if let Some((hasher, n)) = &mut self.body {
            hasher.write(bytes);
            *n += bytes.len() as u64;
        }
        let Some(values) = self.values.as_mut().filter(|_| self.budget > 0) else { return };
        let part = bytes.get(..self.budget.min(bytes.len())).unwrap_or(bytes);
        self.budget -= part.len();
        let mut each = |v| sink.mark(request, from, Mark::Value(v));
        match &mut self.form {
            Some(form) => {
                let mut plain = Vec::with_capacity(part.len());
                form.feed(part, &mut plain);
                values.feed(&plain, &mut each);
            }
            None => values.feed(part, &mut each),
        }
        if self.budget == 0 {
            values.forget();
        }
    }

    /// Something of it is missing.
    pub(super) fn miss(&mut self) {
        self.whole = false;
        self.unread();
    }

    /// What its body holds cannot be read here, or any further.
    pub(super) fn unread(&mut self) {
        self.body = None;
        if let Some(values) = &mut self.values {
            values.forget();
        }
        if let Some(form) = &mut self.form {
            *form = Percent::default();
        }
    }

    /// More of it would be of use.
    pub(super) fn wants_more(&self) -> bool {
        self.body.is_some() || (self.values.is_some() && self.budget > 0)
    }

    /// The message has ended: its fingerprint, if all of it was seen.
    pub(super) fn end(&mut self, request: u64, from: Side, sink: &mut dyn Sink) -> Option<Fingerprint> {
        if let Some(mut values) = self.values.take() {
            values.end(&mut |v| sink.mark(request, from, Mark::Value(v)));
        }
        self.whole.then(|| Fingerprint(self.hasher.finish()))
    }
}

/// How a body's text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextKind {
    /// As it stands.
    Plain,
    /// Escaped, as forms are.
    Form,
}

/// Whether a body is text that can be read.
fn text_kind(headers: &[Header<'_>]) -> Option<TextKind> {
    let Some(h) = headers.iter().find(|h| h.name.eq_ignore_ascii_case("content-type")) else {
        return Some(TextKind::Plain);
    };
    let kind = String::from_utf8_lossy(h.value).to_ascii_lowercase();
    if kind.contains("urlencoded") {
        return Some(TextKind::Form);
    }
    ["json", "text/", "xml", "graphql", "yaml"].iter().any(|t| kind.contains(t)).then_some(TextKind::Plain)
}
