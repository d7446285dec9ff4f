//! Model Context Protocol: JSON-RPC over HTTP (POST with JSON or event streams, and the older pair of streams) and over
//! WebSocket, read on top of the HTTP decoder.
//!
//! Requests and answers are matched within what they travel on: the answer to a POST comes on that POST's own stream;
//! on a GET stream only answers of the same session are looked for; on a WebSocket, of the same connection. An id alone
//! matches nothing. Where an answer comes on another connection than its request (HTTP+SSE, a stream taken up again),
//! two exchanges are told: the request where it was sent, as accepted or unknown, and the answer where it came, with
//! the request's session, token and name, but without its arguments, so that nobody counts it as called twice. A stream
//! that stays open (GET) is told when it begins.
//!
//! Memory: one message per direction (1 MiB; all connections of an engine together 64 MiB, beyond only scanned), 64
//! requests without an answer of at most 64 messages each, and what [`Shared`] states.

mod answer;
mod arguments;
mod exchange;
pub mod fuzz;
mod head;
mod method;
mod names;
mod orders;
mod patterns;
mod rpc;
mod scan;
mod shared;
mod socket;
mod sse;
mod views;
mod websocket;

use std::collections::VecDeque;

pub use shared::Shared;

use super::Sink;
use super::body::{BodyReader, RequestHead, ResponseHead};
use crate::model::claim::Salt;
use crate::model::mcp::{Answered, Method, Revision, Sender, Transport};
use crate::model::token::Token;
use crate::model::{Fingerprint, Nanos, OpKind, Operation, Protocol, Side};
use exchange::{Asked, Call, Context, MAX_HANDLES};
use head::{Head, Kind, event, session, session_of};
use rpc::{Body, Collector, MAX_MESSAGE, Message, Messages};
use shared::Known;
use socket::Socket;
use sse::Events;

/// Most requests without an answer on one connection.
const MAX_OPEN: usize = 64;
/// Most messages without an answer on one connection.
const MAX_ASKED: usize = 256;
/// Longest body that is held to see whether it is MCP, where nothing but the body can show it.
const UNSURE: usize = 64 << 10;
/// Events after which a stream that holds no message is not read any more.
const MAX_OTHER: u32 = 64;

/// The answer's body.
#[derive(Debug)]
enum Reply {
    /// Not there yet, or none.
    None,
    Json(Collector),
    Events(Box<Events>),
    /// Of another type.
    Unreadable,
}

/// An HTTP request that is, or may be, MCP's.
#[derive(Debug)]
struct Open {
    request: u64,
    head: Head,
    body: Collector,
    token: Option<Token>,
    credential: Option<Fingerprint>,
    asked: Vec<Asked>,
    /// Its body was seen whole, to the end.
    sent_whole: bool,
    /// It carries MCP, for sure.
    is_mcp: bool,
    status: u16,
    reply: Reply,
    /// Nothing of the answer was missed so far.
    reply_whole: bool,
    /// Not all of it could be read, though it was there.
    unread: bool,
    /// It was there to its end.
    reply_ended: bool,
    /// It was told that this stream goes on where another had ended.
    told_resumed: bool,
    opened: Option<Fingerprint>,
    /// By its looks, that id may be given again.
    opened_recurs: bool,
    n_other: u32,
}

/// Reads one connection's bodies.
#[derive(Debug)]
pub struct Reader {
    salt: Salt,
    shared: Shared,
    open: VecDeque<Open>,
    socket: Option<Socket>,
    /// It was said that this is MCP.
    spoke: bool,
}

impl Reader {
    /// A reader for one connection.
    pub fn new(salt: Salt, shared: &Shared) -> Self {
        Self { salt, shared: shared.clone(), open: VecDeque::new(), socket: None, spoke: false }
    }

    fn index(&self, request: u64) -> Option<usize> {
        self.open.iter().position(|o| o.request == request)
    }

    /// A POST's body, or a DELETE, is whole.
    fn sent(&mut self, request: u64, at: Nanos, sink: &mut dyn Sink) {
        let Some(index) = self.index(request) else { return };
        let n_asked: usize = self.open.iter().map(|o| o.asked.len()).sum();
        let Some(open) = self.open.get_mut(index) else { return };
        let shared = self.shared.clone();
        let mut cx = Context { salt: self.salt, shared: &shared, sink };
        match open.head.kind {
            Kind::Stream | Kind::Socket => return,
            Kind::End => {
                let asked = Asked::plain("DELETE", Method::End, &open.head, request, at, &mut cx);
                open.asked.push(asked);
                open.is_mcp = true;
            }
            Kind::Post => {
                let whole = open.body.is_whole();
                let messages = open.body.finish(self.salt);
                let shows = |m: &Message| match &m.body {
                    Body::Request { method, params, .. } => {
                        method::shows(method, params) || (m.cut && method == "initialize")
                    }
                    Body::Result { .. } | Body::Error { .. } => false,
                };
                open.is_mcp = !messages.list.is_empty() && (open.head.evident || messages.list.iter().any(shows));
                if !open.is_mcp {
                    self.open.remove(index);
                    return;
                }
                open.sent_whole = whole && !messages.cut;
                let alone = messages.list.len() == 1;
                for m in messages.list.iter().take(MAX_ASKED.saturating_sub(n_asked)) {
                    let asked = match &m.body {
                        Body::Request { id, method, params } => {
                            let call = Call { id: *id, verb: method, params, cut: m.cut || messages.cut, alone };
                            Asked::read(&call, &open.head, request, at, &mut cx)
                        }
                        // What the server had asked for: sampling, elicitation, roots.
                        Body::Result { .. } | Body::Error { .. } => {
                            Asked::plain("response", Method::Control, &open.head, request, at, &mut cx)
                        }
                    };
                    open.asked.push(asked);
                }
            }
        }
        open.token = token(&mut open.head, cx.sink);
        for asked in &mut open.asked {
            asked.exchange.token = open.token;
            asked.exchange.credential = open.credential.filter(|_| open.token.is_none());
        }
        if open.head.transport == Transport::HttpSse {
            // The answer may come before this request has been accepted.
            wait(&open.asked, cx.sink.sender(), &shared);
        }
        if !std::mem::replace(&mut self.spoke, true) {
            cx.sink.speaks(Protocol::Mcp);
        }
    }

    /// Messages of the answer to a POST.
    fn answered(&mut self, index: usize, messages: &Messages, at: Nanos, sink: &mut dyn Sink) {
        let Some(open) = self.open.get_mut(index) else { return };
        let shared = self.shared.clone();
        let mut cx = Context { salt: self.salt, shared: &shared, sink };
        let sure =
            open.sent_whole && open.reply_whole && !open.unread && !messages.cut && (200..300).contains(&open.status);
        for m in &messages.list {
            let (Body::Result { id, .. } | Body::Error { id, .. }) = &m.body else {
                notified(m, &open.head, open.request, at, &mut cx);
                continue;
            };
            let found = open.asked.iter_mut().find(|a| a.id.is_some() && a.id == *id && !a.is_answered);
            let Some(asked) = found else {
                // A refusal of the whole request needs no id, or has one that the server made up.
                if let (Body::Error { code, .. }, false) = (&m.body, (200..300).contains(&open.status)) {
                    for asked in open.asked.iter_mut().filter(|a| !a.is_answered) {
                        asked.exchange.answered = Answered::RpcError(*code);
                    }
                } else if sure && id.is_some() {
                    cx.sink.unmatched_reply(at, "a JSON-RPC response to a request that was not sent with this one");
                }
                continue;
            };
            if !foreign(asked, m) {
                answer::take(asked, m, messages.bytes, at, &mut cx);
                learn(asked, m, &open.head, &mut cx);
            } else {
                asked.is_answered = true;
                if sure {
                    cx.sink.unmatched_reply(at, "a JSON-RPC result of another method");
                }
            }
        }
    }

    /// An event of a GET stream.
    fn streamed(&mut self, index: usize, kind: &[u8], at: Nanos, sink: &mut dyn Sink) {
        let Some(open) = self.open.get_mut(index) else { return };
        let Reply::Events(events) = &mut open.reply else { return };
        let shared = self.shared.clone();
        let mut cx = Context { salt: self.salt, shared: &shared, sink };
        if kind == b"endpoint" {
            let Some(target) = events.data.text().filter(|t| t.contains('/')) else { return };
            let (session, _) = session_of(target.trim(), self.salt);
            open.head.transport = Transport::HttpSse;
            open.head.session = Some(session);
            open.opened = Some(session);
            open.opened_recurs = !target.trim().split(['/', '?', '&', '=']).any(names::is_unique);
            {
                let mut memory = shared.memory.borrow_mut();
                memory.endpoints.insert(session, ());
                memory.sessions.insert(session, Known { revision: Revision::V2024_11_05, server: None });
            }
            began(open, &mut self.spoke, at, &mut cx);
            return;
        }
        let has_data = events.has_data;
        let messages = events.data.finish(self.salt);
        if messages.list.is_empty() && !open.is_mcp {
            open.n_other += u32::from(has_data);
            return;
        }
        for m in &messages.list {
            let (Body::Result { id, .. } | Body::Error { id, .. }) = &m.body else {
                notified(m, &open.head, open.request, at, &mut cx);
                continue;
            };
            let key = open.head.session.zip(*id);
            let waiting = key.and_then(|key| shared.take_waiting(&key, |asked| !foreign(asked, m)));
            let Some((mut asked, alone)) = waiting else {
                if key.is_none_or(|key| !shared.waits(&key)) {
                    resumed(open, m, messages.bytes, at, &mut cx);
                }
                continue;
            };
            if alone && of_another(&asked, open, &cx) {
                resumed(open, m, messages.bytes, at, &mut cx);
            }
            asked.exchange.request = open.request;
            answer::take(&mut asked, m, messages.bytes, at, &mut cx);
            if !alone {
                answer::forget(&mut asked);
            }
            learn(&asked, m, &open.head, &mut cx);
            cx.sink.mcp(&asked.exchange);
        }
    }

    /// An event of an answer's stream has this id: whoever shows it may have what comes behind it.
    fn handed_out(&mut self, index: usize, id: Fingerprint, at: Nanos, sink: &mut dyn Sink) {
        let Some(open) = self.open.get_mut(index) else { return };
        if open.head.kind != Kind::Stream {
            if let Some(x) = open.asked.first_mut().map(|a| &mut a.exchange) {
                // A stream is taken up behind its last event.
                if x.handles_given.len() >= MAX_HANDLES {
                    x.handles_given.remove(0);
                }
                x.handles_given.push(id);
            }
        } else if open.is_mcp {
            let shared = self.shared.clone();
            let mut cx = Context { salt: self.salt, shared: &shared, sink };
            let mut told = Asked::plain("GET", Method::Control, &open.head, open.request, at, &mut cx);
            told.exchange.answered = Answered::Accepted;
            told.exchange.token = open.token;
            told.exchange.credential = open.credential.filter(|_| open.token.is_none());
            told.exchange.handles_given.push(id);
            cx.sink.mcp(&told.exchange);
        }
    }

    /// A piece of an answer's event stream.
    fn events(&mut self, index: usize, mut bytes: &[u8], at: Nanos, sink: &mut dyn Sink) {
        loop {
            let Some(open) = self.open.get_mut(index) else { return };
            let Reply::Events(events) = &mut open.reply else { return };
            if !events.next(&mut bytes) {
                return;
            }
            let session = open.head.session;
            let id = std::str::from_utf8(events.id()).ok().and_then(|id| event(id, session, self.salt));
            if let Some(id) = id {
                self.handed_out(index, id, at, sink);
            }
            let Some(Open { head, reply: Reply::Events(events), .. }) = self.open.get_mut(index) else { return };
            if head.kind == Kind::Stream {
                let kind = events.kind().to_vec();
                self.streamed(index, &kind, at, sink);
            } else {
                let messages = events.data.finish(self.salt);
                self.answered(index, &messages, at, sink);
            }
            if let Some(Open { reply: Reply::Events(events), .. }) = self.open.get_mut(index) {
                events.over();
            }
        }
    }
}

/// An answer came on a stream that was to go on behind an event, and nobody of its session waits for it, or another: it
/// is what somebody had been told before, or was to be told. Told also where the event is a number that may be of any
/// stream: what the answer shows may say whose it is.
fn resumed(open: &mut Open, m: &Message, bytes: u64, at: Nanos, cx: &mut Context<'_>) {
    if !open.head.resumes || std::mem::replace(&mut open.told_resumed, true) {
        return;
    }
    let mut told = Asked::plain("GET", Method::Data, &open.head, open.request, at, cx);
    answer::take(&mut told, m, bytes, at, cx);
    let x = &mut told.exchange;
    x.token = open.token;
    x.credential = open.credential.filter(|_| open.token.is_none());
    x.handles_used.extend(open.head.after);
    cx.sink.mcp(x);
}

/// Whether a request is another's than the stream's on which its answer comes: by their connections, or by what they
/// carry.
fn of_another(asked: &Asked, open: &Open, cx: &Context<'_>) -> bool {
    let x = &asked.exchange;
    let tenants = x.sender.and_then(|s| s.by).zip(cx.sink.sender().by);
    let bearer = |token: Option<Token>, credential| token.map(|t| t.print).or(credential);
    let bearers = bearer(x.token, x.credential).zip(bearer(open.token, open.credential));
    tenants.is_some_and(|(a, b)| a.tenant != b.tenant) || bearers.is_some_and(|(a, b)| a != b)
}

/// Whether this result is the answer to another method.
fn foreign(asked: &Asked, m: &Message) -> bool {
    matches!(&m.body, Body::Result { result, .. } if !m.cut && method::belongs_elsewhere(&asked.verb, result))
}

/// What may be known of the presented token; the text itself is dropped.
fn token(head: &mut Head, sink: &mut dyn Sink) -> Option<Token> {
    let value = head.authorization.take()?;
    let (scheme, rest) = value.split_once(' ')?;
    let bears = ["bearer", "dpop"].iter().any(|s| scheme.eq_ignore_ascii_case(s));
    if bears { sink.token(scheme, rest.trim()) } else { None }
}

/// Answers to these requests may come on a stream of their session, and be told there as `sender`'s.
fn wait(asked: &[Asked], sender: Sender, shared: &Shared) {
    let mut memory = shared.memory.borrow_mut();
    for a in asked.iter().filter(|a| !a.is_answered && a.exchange.answered == Answered::Unknown) {
        let (Some(session), Some(id)) = (a.exchange.session, a.id) else { continue };
        let mut copy = Box::new(a.clone());
        let x = &mut copy.exchange;
        // What counts as asking was told with the request itself.
        (x.arguments, x.idempotency) = (None, None);
        x.handles_used.clear();
        x.sender = Some(sender);
        memory.wait((session, id), copy);
    }
}

/// What an answer tells of its server.
fn learn(asked: &Asked, m: &Message, head: &Head, cx: &mut Context<'_>) {
    if let Some(known) = answer::known(asked) {
        let mut memory = cx.shared.memory.borrow_mut();
        if let Some(session) = asked.exchange.opened.or(head.session) {
            memory.sessions.insert(session, known);
        }
        // A GET stream stands beside the address that requests are sent to.
        if head.kind != Kind::Stream {
            memory.by_address.insert(head.address, known);
        }
    }
    if let (Method::ToolsList, Body::Result { result, .. }) = (asked.exchange.method, &m.body) {
        for (tool, mirror) in answer::mirrors(result) {
            let tool = cx.name(&tool);
            cx.shared.memory.borrow_mut().mirrors.insert((head.address, tool), mirror);
        }
    }
}

/// Something the server says unasked. Only that its tools have changed is told on.
fn notified(m: &Message, head: &Head, request: u64, at: Nanos, cx: &mut Context<'_>) {
    let Body::Request { method, .. } = &m.body else { return };
    if method == "notifications/tools/list_changed" {
        let mut told = Asked::plain(method, Method::Control, head, request, at, cx);
        told.exchange.answered = Answered::Accepted;
        cx.sink.mcp(&told.exchange);
    }
}

/// A stream has begun: told at once, for it may stay open for days.
fn began(open: &mut Open, spoke: &mut bool, at: Nanos, cx: &mut Context<'_>) {
    open.is_mcp = true;
    if !std::mem::replace(spoke, true) {
        cx.sink.speaks(Protocol::Mcp);
    }
    if open.token.is_none() {
        open.token = token(&mut open.head, cx.sink);
    }
    let mut told = Asked::plain("GET", Method::Control, &open.head, open.request, at, cx);
    told.exchange.answered = Answered::Accepted;
    told.exchange.token = open.token;
    (told.exchange.opened, told.exchange.opened_recurs) = (open.opened, open.opened_recurs);
    if open.opened.is_some() {
        told.exchange.session = None;
    }
    cx.sink.mcp(&told.exchange);
}

impl BodyReader for Reader {
    fn request(&mut self, request: u64, head: &RequestHead<'_>, _: Nanos, _: &mut dyn Sink) -> bool {
        if self.open.len() >= MAX_OPEN {
            return false;
        }
        let Some(mut head) = Head::of(head, self.salt) else { return false };
        let memory = self.shared.memory.borrow();
        let known = memory.endpoints.get(&head.target).is_some();
        if known || (head.target_names && head.session.is_none() && head.kind == Kind::Post) {
            // A session that the target names: HTTP+SSE, unless a header names another.
            head.transport = Transport::HttpSse;
            head.session = Some(head.target);
        }
        head.evident |= known || memory.by_address.get(&head.address).is_some();
        drop(memory);
        let limit = if head.evident { MAX_MESSAGE } else { UNSURE };
        self.open.push_back(Open {
            request,
            head,
            body: Collector::new(&self.shared.budget, limit),
            token: None,
            credential: None,
            asked: Vec::new(),
            sent_whole: false,
            is_mcp: false,
            status: 0,
            reply: Reply::None,
            reply_whole: true,
            unread: false,
            reply_ended: false,
            told_resumed: false,
            opened: None,
            opened_recurs: false,
            n_other: 0,
        });
        true
    }

    fn carries(&mut self, request: u64, credential: Option<Fingerprint>) {
        if let Some(open) = self.index(request).and_then(|i| self.open.get_mut(i)) {
            open.credential = credential;
        }
    }

    fn response(&mut self, request: u64, head: &ResponseHead<'_>, at: Nanos, sink: &mut dyn Sink) {
        let Some(open) = self.index(request).and_then(|i| self.open.get_mut(i)) else { return };
        open.status = head.status;
        let kind = head.header("content-type").unwrap_or_default().to_ascii_lowercase();
        open.reply = if kind.starts_with("text/event-stream") {
            Reply::Events(Box::new(Events::new(&self.shared.budget)))
        } else if kind.contains("json") {
            Reply::Json(Collector::new(&self.shared.budget, MAX_MESSAGE))
        } else {
            Reply::Unreadable
        };
        if let Some(text) = head.header("mcp-session-id") {
            let id = session(text, self.salt);
            if open.head.session != Some(id) {
                (open.opened, open.opened_recurs) = (Some(id), !names::is_unique(text));
                if let Some(a) = open.asked.iter_mut().find(|a| a.exchange.method == Method::Initialize) {
                    (a.exchange.opened, a.exchange.opened_recurs) = (open.opened, open.opened_recurs);
                }
            }
        }
        let is_stream = open.head.kind == Kind::Stream && (200..300).contains(&open.status);
        if is_stream && open.head.evident && matches!(open.reply, Reply::Events(_)) {
            open.opened = None;
            let shared = self.shared.clone();
            began(open, &mut self.spoke, at, &mut Context { salt: self.salt, shared: &shared, sink });
        }
    }

    fn bytes(&mut self, request: u64, from: Side, bytes: &[u8], at: Nanos, sink: &mut dyn Sink) {
        if let Some(socket) = self.socket.as_mut() {
            let mut cx = Context { salt: self.salt, shared: &self.shared, sink };
            socket.bytes(from, bytes, at, &mut self.spoke, &mut cx);
            return;
        }
        let Some(index) = self.index(request) else { return };
        let Some(open) = self.open.get_mut(index) else { return };
        match (from, &mut open.reply) {
            (Side::Client, _) => open.body.push(bytes),
            (Side::Server, Reply::Json(body)) => body.push(bytes),
            (Side::Server, Reply::Events(_)) => self.events(index, bytes, at, sink),
            (Side::Server, Reply::None | Reply::Unreadable) => {}
        }
    }

    fn missing(&mut self, request: u64, from: Side, n: u64, at: Nanos, sink: &mut dyn Sink) {
        if let Some(socket) = self.socket.as_mut() {
            let mut cx = Context { salt: self.salt, shared: &self.shared, sink };
            socket.missing(from, n, at, &mut self.spoke, &mut cx);
            return;
        }
        let Some(open) = self.index(request).and_then(|i| self.open.get_mut(i)) else { return };
        if from == Side::Client {
            open.body.miss();
            return;
        }
        open.reply_whole = false;
        match &mut open.reply {
            Reply::Json(body) => body.miss(),
            Reply::Events(events) => events.miss(),
            Reply::None | Reply::Unreadable => {}
        }
    }

    fn unread(&mut self, request: u64, from: Side) {
        let Some(open) = self.index(request).and_then(|i| self.open.get_mut(i)) else { return };
        if from == Side::Client {
            open.body.miss();
            return;
        }
        open.unread = true;
        match &mut open.reply {
            Reply::Json(body) => body.miss(),
            Reply::Events(events) => events.miss(),
            Reply::None | Reply::Unreadable => {}
        }
    }

    fn end(&mut self, request: u64, from: Side, at: Nanos, sink: &mut dyn Sink) {
        if let Some(socket) = self.socket.as_mut() {
            socket.closed(at, sink);
            return;
        }
        if from == Side::Client {
            self.sent(request, at, sink);
            return;
        }
        let Some(index) = self.index(request) else { return };
        let Some(open) = self.open.get_mut(index) else { return };
        open.reply_ended = true;
        if let Reply::Json(body) = &mut open.reply {
            let messages = body.finish(self.salt);
            open.unread |= messages.cut;
            self.answered(index, &messages, at, sink);
        }
    }

    fn done(&mut self, request: u64, op: Operation, sink: &mut dyn Sink) {
        if let Some(socket) = self.socket.as_mut().filter(|s| s.upgrade == request) {
            socket.begin(op);
            sink.done(&Operation { kind: OpKind::Control, ..op });
            return;
        }
        let open = self.index(request).and_then(|i| self.open.remove(i)).filter(|o| o.is_mcp);
        let Some(mut open) = open else {
            sink.done(&op);
            return;
        };
        if open.head.kind == Kind::Stream {
            sink.done(&Operation { kind: OpKind::Control, ..op });
            return;
        }
        let is_sse = open.head.transport == Transport::HttpSse;
        for asked in &mut open.asked {
            let x = &mut asked.exchange;
            let refused = matches!(open.status, 401 | 403 | 404);
            x.answered = match (x.answered, open.status) {
                (Answered::Unknown | Answered::RpcError(_), status) if refused => Answered::Status(status),
                (Answered::Unknown, 0) => Answered::Unknown,
                (Answered::Unknown, status @ 300..) => Answered::Status(status),
                // Told without an answer of its own; an HTTP+SSE request is answered elsewhere.
                (Answered::Unknown, 202 | 204) => Answered::Accepted,
                (Answered::Unknown, _) if asked.id.is_none() || is_sse => Answered::Accepted,
                // What with is not known, but that it was.
                (Answered::Unknown, status) if open.unread && open.reply_ended && open.reply_whole => {
                    Answered::Status(status)
                }
                (answered, _) => answered,
            };
            if open.head.irregular && x.answered.is_success() {
                x.answered = Answered::Unknown;
            }
            (x.begun, x.ended) = (op.begun, op.ended);
        }
        if !is_sse {
            // A stream that broke off may be taken up again by a GET.
            wait(&open.asked, sink.sender(), &self.shared);
        } else if open.status >= 300 {
            let mut memory = self.shared.memory.borrow_mut();
            for a in &open.asked {
                if let (Some(session), Some(id)) = (a.exchange.session, a.id) {
                    memory.wait_no_more(&(session, id), a.exchange.begun);
                }
            }
        }
        for asked in &open.asked {
            sink.done(&asked.operation(op));
        }
        for asked in &open.asked {
            sink.mcp(&asked.exchange);
        }
    }

    fn upgraded(&mut self, request: u64, head: &ResponseHead<'_>) -> bool {
        let Some(open) = self.index(request).and_then(|i| self.open.remove(i)) else { return false };
        if open.head.kind != Kind::Socket {
            return false;
        }
        let Ok(deflate) = websocket::Deflate::agreed(head.header("sec-websocket-extensions")) else { return false };
        self.socket = Some(Socket::new(request, open.head, deflate, &self.shared.budget));
        true
    }

    fn wants(&self, request: u64, from: Side) -> bool {
        if let Some(socket) = &self.socket {
            return !socket.is_over();
        }
        let Some(open) = self.index(request).and_then(|i| self.open.get(i)) else { return false };
        match (from, &open.reply) {
            // Longer than anything unsure is held, and nothing shows that it is MCP.
            (Side::Client, _) => open.head.evident || open.body.is_whole(),
            (Side::Server, Reply::Unreadable) => false,
            (Side::Server, _) if open.unread => false,
            (Side::Server, _) => open.is_mcp || open.n_other < MAX_OTHER,
        }
    }

    fn memory(&self) -> usize {
        let of = |o: &Open| {
            let reply = match &o.reply {
                Reply::Json(body) => body.memory(),
                Reply::Events(events) => events.memory(),
                Reply::None | Reply::Unreadable => 0,
            };
            let asked: usize = o.asked.iter().map(Asked::memory).sum();
            size_of::<Open>() + o.head.memory() + o.body.memory() + reply + asked
        };
        self.open.iter().map(of).sum::<usize>() + self.socket.as_ref().map_or(0, Socket::memory)
    }
}
