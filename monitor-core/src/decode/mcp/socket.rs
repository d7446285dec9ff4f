//! MCP over WebSocket: every message is a request of its own, numbered on from the upgrade.

use std::collections::VecDeque;

use super::exchange::{Asked, Call, Context};
use super::head::Head;
use super::rpc::{Body, Budget, Messages};
use super::websocket::{Deflate, Frames, Next};
use super::{answer, foreign, learn, method, notified};
use crate::decode::values::values;
use crate::decode::{Disturbance, Mark, Sink};
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

/// What is known of what a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nothing yet, after so many messages.
    Unsure(u32),
    /// It is MCP.
    Mcp,
    /// Nothing more is read.
    Over,
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
    phase: Phase,
    /// Nothing was missed.
    whole: bool,
}

impl Socket {
    pub(super) fn new(upgrade: u64, head: Head, deflate: Option<Deflate>, budget: &Budget) -> Self {
        Self {
            upgrade,
            head,
            client: Frames::new(Side::Client, deflate, budget),
            server: Frames::new(Side::Server, deflate, budget),
            plain: None,
            latest: upgrade,
            open: VecDeque::new(),
            phase: Phase::Unsure(0),
            whole: true,
        }
    }

    /// The upgrade itself has been answered.
    pub(super) fn begin(&mut self, op: Operation) {
        self.plain = Some(op);
    }

    pub(super) fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// More of what `from` says. `spoke`: it was told that this is MCP.
    pub(super) fn bytes(&mut self, from: Side, mut bytes: &[u8], at: Nanos, spoke: &mut bool, cx: &mut Context<'_>) {
        while !self.is_over() {
            let frames = if from == Side::Client { &mut self.client } else { &mut self.server };
            match frames.next(&mut bytes) {
                Ok(Next::NeedMore) => return,
                Ok(Next::Close) => {
                    if from == Side::Server {
                        self.closed(at, cx.sink);
                    }
                    return;
                }
                Ok(Next::Text) => self.text(from, at, spoke, cx),
                Err(kind) => {
                    cx.sink.decode_error(kind);
                    self.leave(at, kind.name(), cx.sink);
                }
            }
        }
    }

    /// `n` bytes of it are missing.
    pub(super) fn missing(&mut self, from: Side, n: u64, at: Nanos, spoke: &mut bool, cx: &mut Context<'_>) {
        if self.is_over() {
            return;
        }
        self.whole = false;
        let frames = if from == Side::Client { &mut self.client } else { &mut self.server };
        match frames.miss(n) {
            Ok(Next::Text) => self.text(from, at, spoke, cx),
            Ok(_) => {}
            Err(why) => {
                cx.sink.disturbed(at, Disturbance::Gap);
                self.leave(at, why.name(), cx.sink);
            }
        }
    }

    /// The connection has ended.
    pub(super) fn closed(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if !self.is_over() {
            self.phase = Phase::Over;
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
        let phase = match self.phase {
            Phase::Unsure(_) if from == Side::Client && shows() => {
                if !std::mem::replace(spoke, true) {
                    cx.sink.speaks(Protocol::Mcp);
                }
                Phase::Mcp
            }
            Phase::Unsure(n) => Phase::Unsure(n + 1),
            phase => phase,
        };
        self.phase = phase;
        match (phase, from) {
            (Phase::Unsure(n), _) if n >= MAX_OTHER => self.leave(at, "upgraded", cx.sink),
            (Phase::Mcp, Side::Client) => self.sent(&messages, at, print, &marks, cx),
            (Phase::Mcp, Side::Server) => self.received(&messages, at, print, &marks, cx),
            (Phase::Unsure(_) | Phase::Over, _) => {}
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
                    let call = Call { id: *id, verb: method, params, cut: m.cut, alone: false };
                    Asked::read(&call, &self.head, number, at, cx)
                }
                Body::Result { .. } | Body::Error { .. } => {
                    Asked::plain("response", Method::Control, &self.head, number, at, cx)
                }
            });
        }
        cx.sink.begun(number, at, print);
        // Notifications get no answer.
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
        self.phase = Phase::Over;
        sink.opaque(at, why);
    }

    pub(super) fn memory(&self) -> usize {
        let open: usize = self.open.iter().flat_map(|o| &o.asked).map(Asked::memory).sum();
        size_of::<Self>() + self.head.memory() + self.client.memory() + self.server.memory() + open
    }
}
