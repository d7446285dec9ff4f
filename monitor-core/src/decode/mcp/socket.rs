//! MCP over WebSocket: every message is a request of its own, numbered on from the upgrade.

use std::collections::VecDeque;

use super::exchange::{Asked, Context};
use super::head::Head;
use super::rpc::{Body, Budget, Messages};
use super::websocket::{Deflate, Frames, Next};
use super::{Shared, answer, foreign, learn, method, notified};
use crate::decode::values::values;
use crate::decode::{Disturbance, Mark, Sink};
use crate::model::claim::Salt;
use crate::model::mcp::{Answered, Method};
use crate::model::{Fingerprint, Nanos, Operation, Protocol, Side, TxStatus};

/// Most messages without an answer.
const MAX_OPEN: usize = 256;
/// Messages after which a connection that has shown no MCP is given up.
const MAX_OTHER: u32 = 16;
/// Bytes of a message that are looked through for values.
const VALUE_BUDGET: usize = 64 << 10;

/// A message that waits for its answers.
#[derive(Debug)]
struct Open {
    number: u64,
    asked: Vec<Asked>,
}

/// The connection after its upgrade.
#[derive(Debug)]
pub(super) struct Socket {
    /// The request that asked for it.
    pub(super) upgrade: u64,
    head: Head,
    client: Frames,
    server: Frames,
    /// What HTTP said of the upgrade.
    plain: Option<Operation>,
    /// Number of the latest message.
    latest: u64,
    open: VecDeque<Open>,
    is_mcp: bool,
    n_other: u32,
    /// Nothing was missed.
    whole: bool,
    over: bool,
}

impl Socket {
    pub(super) fn new(upgrade: u64, head: Head, deflate: Deflate, budget: &Budget) -> Self {
        Self {
            upgrade,
            head,
            client: Frames::new(Side::Client, deflate, budget),
            server: Frames::new(Side::Server, deflate, budget),
            plain: None,
            latest: upgrade,
            open: VecDeque::new(),
            is_mcp: false,
            n_other: 0,
            whole: true,
            over: false,
        }
    }

    /// The upgrade itself has been answered.
    pub(super) fn begin(&mut self, op: Operation) {
        self.plain = Some(op);
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    #[expect(clippy::too_many_arguments, reason = "a message, and where it is read")]
    pub(super) fn bytes(
        &mut self,
        from: Side,
        mut bytes: &[u8],
        at: Nanos,
        salt: Salt,
        shared: &Shared,
        spoke: &mut bool,
        sink: &mut dyn Sink,
    ) {
        let mut cx = Context { salt, shared, sink };
        while !self.over {
            let frames = if from == Side::Client { &mut self.client } else { &mut self.server };
            match frames.next(&mut bytes) {
                Ok(Next::NeedMore) => return,
                Ok(Next::Close) => {
                    self.over = from == Side::Server;
                    if self.over {
                        self.give_up(at, cx.sink);
                    }
                    return;
                }
                Ok(Next::Text) => self.text(from, at, spoke, &mut cx),
                Err(kind) => {
                    cx.sink.decode_error(kind);
                    self.leave(at, kind.name(), cx.sink);
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a hole, and where it is read")]
    pub(super) fn missing(
        &mut self,
        from: Side,
        n: u64,
        at: Nanos,
        salt: Salt,
        shared: &Shared,
        spoke: &mut bool,
        sink: &mut dyn Sink,
    ) {
        if self.over {
            return;
        }
        self.whole = false;
        let frames = if from == Side::Client { &mut self.client } else { &mut self.server };
        match frames.miss(n) {
            Ok(Next::Text) => self.text(from, at, spoke, &mut Context { salt, shared, sink }),
            Ok(_) => {}
            Err(why) => {
                sink.disturbed(at, Disturbance::Gap);
                self.leave(at, why.name(), sink);
            }
        }
    }

    /// The connection has ended.
    pub(super) fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if !std::mem::replace(&mut self.over, true) {
            self.give_up(at, sink);
        }
    }

    fn text(&mut self, from: Side, at: Nanos, spoke: &mut bool, cx: &mut Context<'_>) {
        let frames = if from == Side::Client { &mut self.client } else { &mut self.server };
        let whole = frames.text.is_whole();
        let print = whole.then(|| cx.salt.fingerprint(frames.text.held()));
        let mut marks: Vec<Fingerprint> = Vec::new();
        if cx.sink.wants_values(from) {
            let held = frames.text.held();
            let part = held.get(..VALUE_BUDGET.min(held.len())).unwrap_or_default();
            values(cx.salt, part, &mut |v| marks.push(v));
        }
        let messages = frames.text.finish(cx.salt);
        let evident = self.head.evident;
        let shows = || {
            messages.list.iter().any(|m| match &m.body {
                Body::Request { method, params, .. } => evident || method::shows(method, params),
                Body::Result { .. } | Body::Error { .. } => false,
            })
        };
        if !self.is_mcp && from == Side::Client && shows() {
            self.is_mcp = true;
            if !std::mem::replace(spoke, true) {
                cx.sink.speaks(Protocol::Mcp);
            }
        }
        if !self.is_mcp {
            self.n_other += 1;
            if self.n_other >= MAX_OTHER {
                self.leave(at, "upgraded", cx.sink);
            }
        } else if from == Side::Client {
            self.sent(&messages, at, print, &marks, cx);
        } else {
            self.received(&messages, at, print, &marks, cx);
        }
    }

    fn sent(
        &mut self,
        messages: &Messages,
        at: Nanos,
        print: Option<Fingerprint>,
        marks: &[Fingerprint],
        cx: &mut Context<'_>,
    ) {
        if messages.list.is_empty() {
            return;
        }
        if self.open.len() >= MAX_OPEN
            && let Some(oldest) = self.open.pop_front()
        {
            self.end(oldest, at, None, cx.sink);
        }
        self.latest += 1;
        let number = self.latest;
        cx.sink.arrived(number, at);
        for mark in marks {
            cx.sink.mark(number, Side::Client, Mark::Value(*mark));
        }
        let mut asked = Vec::new();
        for m in &messages.list {
            asked.push(match &m.body {
                Body::Request { id, method, params } => {
                    Asked::read(*id, method, params, m.cut, false, &self.head, number, at, cx)
                }
                Body::Result { .. } | Body::Error { .. } => {
                    Asked::plain("response", Method::Control, &self.head, number, at, cx)
                }
            });
        }
        cx.sink.begun(number, at, print);
        // Nobody answers these.
        for a in asked.iter_mut().filter(|a| a.id.is_none()) {
            a.exchange.answered = Answered::Accepted;
            a.is_answered = true;
        }
        let open = Open { number, asked };
        if open.asked.iter().all(|a| a.is_answered) {
            self.end(open, at, None, cx.sink);
            self.idle(at, cx.sink);
        } else {
            self.open.push_back(open);
        }
    }

    fn received(
        &mut self,
        messages: &Messages,
        at: Nanos,
        print: Option<Fingerprint>,
        marks: &[Fingerprint],
        cx: &mut Context<'_>,
    ) {
        for m in &messages.list {
            let (Body::Result { id, .. } | Body::Error { id, .. }) = &m.body else {
                notified(m, &self.head, self.latest, at, cx);
                continue;
            };
            let is = |a: &Asked| a.id.is_some() && a.id == *id && !a.is_answered;
            let alike = self.open.iter().flat_map(|o| &o.asked).filter(|a| is(a) && !foreign(a, m)).count();
            let Some(index) = self.open.iter().position(|o| o.asked.iter().any(is)) else {
                if self.whole && id.is_some() && !messages.cut {
                    cx.sink
                        .unmatched_reply(at, "a JSON-RPC response to a request that was not sent on this connection");
                }
                continue;
            };
            let Some(open) = self.open.get_mut(index) else { continue };
            for mark in marks {
                cx.sink.mark(open.number, Side::Server, Mark::Value(*mark));
            }
            if let Some(asked) = open.asked.iter_mut().find(|a| is(a)) {
                if foreign(asked, m) {
                    asked.is_answered = true;
                    if self.whole {
                        cx.sink.unmatched_reply(at, "a JSON-RPC result of another method");
                    }
                } else {
                    answer::take(asked, m, messages.bytes, at, cx);
                    if alike > 1 {
                        answer::forget(asked);
                    }
                    learn(asked, m, &self.head, cx);
                    if asked.exchange.method == Method::Initialize {
                        self.head.revision = asked.exchange.revision;
                    }
                }
            }
            if open.asked.iter().all(|a| a.is_answered)
                && let Some(open) = self.open.remove(index)
            {
                let print = print.filter(|_| messages.list.len() == 1);
                self.end(open, at, print, cx.sink);
                self.idle(at, cx.sink);
            }
        }
    }

    fn end(&self, open: Open, at: Nanos, print: Option<Fingerprint>, sink: &mut dyn Sink) {
        let Some(plain) = self.plain else { return };
        let tell: Vec<_> = open
            .asked
            .into_iter()
            .map(|mut a| {
                a.exchange.ended = at;
                a
            })
            .collect();
        for a in &tell {
            // Who upgraded the connection has proved nothing about this message.
            let plain = Operation {
                request: open.number,
                begun: a.exchange.begun,
                ended: at,
                marker: crate::model::Claim::Neutral,
                credential: None,
                ..plain
            };
            sink.done(&a.operation(plain));
        }
        for a in &tell {
            sink.mcp(&a.exchange);
        }
        sink.answered(open.number, at, print);
    }

    fn idle(&self, at: Nanos, sink: &mut dyn Sink) {
        if self.open.is_empty() {
            sink.status(at, TxStatus::Idle);
        }
    }

    fn give_up(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.open.is_empty() {
            return;
        }
        while let Some(open) = self.open.pop_front() {
            self.end(open, at, None, sink);
        }
        self.idle(at, sink);
    }

    /// Nothing more can be read.
    fn leave(&mut self, at: Nanos, why: &'static str, sink: &mut dyn Sink) {
        self.give_up(at, sink);
        self.over = true;
        sink.opaque(at, why);
    }

    pub(super) fn memory(&self) -> usize {
        let open: usize = self.open.iter().flat_map(|o| &o.asked).map(Asked::memory).sum();
        size_of::<Self>() + self.head.memory() + self.client.memory() + self.server.memory() + open
    }
}
