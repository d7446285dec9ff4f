//! Between the readers of bytes and the decoder: which arguments and elements are wanted, and what became of the
//! messages in them.

use super::command::{self, Command};
use super::pending::{Pending, Special};
use super::reply::{self, Kind, Reply};
use super::taking::{Expects, Whose};
use super::{MAX_HELD, Phase, Redis};
use crate::decode::DecodeError;
use crate::decode::Sink;
use crate::model::queue::{QueueEvent, Settled};
use crate::model::{Nanos, OpKind, Operation, Outcome, Side};

/// The decoder while it hears.
pub(super) struct Heard<'a> {
    pub(super) redis: &'a mut Redis,
    pub(super) at: Nanos,
    pub(super) sink: &'a mut dyn Sink,
}

impl command::Hears for Heard<'_> {
    fn wants(&mut self, name: &[u8]) -> bool {
        !self.redis.life.is_over() && self.redis.sending.wants(name)
    }

    fn piece(&mut self, index: u64, bytes: &[u8]) {
        self.redis.sending.piece(index, bytes);
    }

    fn missing(&mut self, n: u64) {
        self.redis.sending.missing(n);
    }

    fn ends(&mut self, index: u64) {
        self.redis.sending.ends(index, self.redis.db, self.at, self.sink);
    }

    fn command(&mut self, command: &Command) {
        self.redis.sending.command_ends(self.redis.db, self.at, self.sink);
        let sent = self.redis.sending.take();
        if sent.too_many {
            self.sink.decode_error(DecodeError::TooManyMessages);
        }
        self.redis.command(command, sent, self.at, self.sink);
    }
}

impl reply::Hears for Heard<'_> {
    fn begins(&mut self, kind: Kind) -> bool {
        self.redis.begins(kind)
    }

    fn open(&mut self, depth: usize, map: bool) {
        self.redis.next_of_transaction(depth);
        self.redis.taking.open(depth, map);
    }

    fn starts(&mut self, depth: usize) {
        self.redis.next_of_transaction(depth);
        self.redis.given.starts();
        self.redis.taking.starts(depth);
    }

    fn piece(&mut self, bytes: &[u8]) {
        self.redis.given.piece(bytes);
        self.redis.taking.piece(bytes);
    }

    fn missing(&mut self, n: u64) {
        self.redis.given.missing(n);
        self.redis.taking.missing(n);
    }

    fn value(&mut self, depth: usize, kind: Kind) {
        self.redis.given.value(self.redis.taking.whose.number(), depth, kind);
        self.redis.taking.value(depth, kind, self.at, self.sink);
        if depth == 1 && self.redis.executing {
            self.redis.of_transaction(kind);
        }
    }

    fn close(&mut self, depth: usize) {
        self.redis.taking.close(depth, self.at, self.sink);
    }

    fn reply(&mut self, reply: Reply) {
        self.redis.reply(&reply, self.at, self.sink);
        self.redis.executing = false;
        self.redis.given.reset();
        self.redis.taking.reset();
    }
}

impl Redis {
    /// A reply begins: whether it hands over messages.
    fn begins(&mut self, kind: Kind) -> bool {
        self.executing = false;
        let front = self.pending.front_mut();
        let asked = front.as_ref().is_some_and(|p| p.work.as_ref().is_some_and(|w| w.expects.is_some()));
        if self.life.is_over() || matches!(kind, Kind::Simple | Kind::Error) {
            if kind == Kind::Simple {
                self.given.line();
            }
            return false;
        }
        if self.subscribed && (kind == Kind::Push || kind == Kind::Aggregate && !asked) && self.phase == Phase::Plain {
            self.taking.begin(Some(Expects::Message), 0, Whose::Alone);
            return true;
        }
        let Some(p) = front.filter(|_| self.unsure == 0 && kind != Kind::Push) else { return false };
        if p.special == Special::Exec && kind == Kind::Aggregate {
            self.executing = self.queued.iter().any(|p| p.work.is_some() || p.touch.is_some());
            self.taking.begin(None, 0, Whose::Exec);
            return self.executing;
        }
        let asks = p.touch.as_ref().is_some_and(|t| t.asks());
        let (expects, db) = p.work.as_mut().map_or((None, 0), |w| (w.expects.take(), w.db));
        let wanted = expects.is_some() || asks;
        self.taking.begin(expects, db, Whose::Alone);
        wanted
    }

    /// Inside the reply to EXEC: the next command's reply begins.
    fn next_of_transaction(&mut self, depth: usize) {
        if !self.executing || depth != 1 {
            return;
        }
        let next = self.taking.whose.next();
        let work = self.queued.get_mut(next.number()).and_then(|p| p.work.as_mut());
        let (expects, db) = work.map_or((None, 0), |w| (w.expects.take(), w.db));
        self.taking.begin(expects, db, next);
    }

    /// Inside the reply to EXEC: a command's reply was a single value, maybe the id of what it added.
    fn of_transaction(&mut self, kind: Kind) {
        let id = self.taking.given_id();
        let work = self.queued.get_mut(self.taking.whose.number()).and_then(|p| p.work.as_mut());
        if let (Some(id), Kind::Value) = (id, kind)
            && let Some(message) = work.and_then(|w| w.gives.first_mut())
        {
            message.ids.insert(0, id);
        }
    }

    /// Tells an operation that has ended, and what it did with its keys: `no` of a transaction.
    pub(super) fn tell(&self, p: &Pending, no: usize, outcome: Outcome, at: Nanos, sink: &mut dyn Sink) {
        if let Some(touch) = &p.touch {
            let uses = touch.told(self.salt, outcome, &self.given.of(no));
            if !uses.is_empty() {
                sink.keys(uses);
            }
        }
        sink.done(&p.operation(at, outcome));
    }

    /// Tells an operation that has ended, and what became of messages by it: `no` of a transaction, `number` what the
    /// server answered, where that is a number.
    pub(super) fn told(
        &mut self,
        mut p: Pending,
        no: usize,
        (outcome, number): (Outcome, Option<&[u8]>),
        at: Nanos,
        sink: &mut dyn Sink,
    ) {
        // In the order of their commands, as the reply has them.
        let events = &self.taking.events;
        let of_it = events.partition_point(|(n, _)| *n < no)..events.partition_point(|(n, _)| *n <= no);
        let taken = outcome == Outcome::Ok && !of_it.is_empty();
        // A fetch that brought no message is a control, because it touched no message.
        if p.kind == OpKind::Deliver && outcome == Outcome::Ok && !taken {
            p.kind = OpKind::Control;
        }
        self.tell(&p, no, outcome, at, sink);
        let Some(mut work) = p.work.take() else { return };
        self.held = self.held.saturating_sub(work.gives.len());
        if outcome != Outcome::Ok {
            return;
        }
        // A script's way to refuse, and that of a push to a list that is not there.
        let refused = number.is_some_and(|n| n.first() == Some(&b'-') || n == b"0" && work.nothing_is_zero);
        if !refused {
            for mut message in work.gives.drain(..) {
                message.request = p.request;
                sink.queue(QueueEvent::Published(message));
            }
            for (handle, how) in work.settles.drain(..) {
                sink.queue(QueueEvent::Settled(Settled { handle, at, how }));
            }
        }
        if !taken {
            return;
        }
        for (_, mut event) in self.taking.events.drain(of_it) {
            if let QueueEvent::Delivered(d) = &mut event {
                d.message.request = p.request;
            }
            sink.queue(event);
        }
    }

    /// Tells a message of pub/sub.
    pub(super) fn tell_message(&mut self, at: Nanos, sink: &mut dyn Sink) {
        if self.taking.too_many {
            sink.decode_error(DecodeError::TooManyMessages);
        }
        let verb = self.taking.word;
        for (_, event) in self.taking.events.drain(..) {
            let QueueEvent::Delivered(d) = &event else { continue };
            let op = Operation {
                from: Side::Server,
                kind: OpKind::Deliver,
                target: d.message.queue,
                ..Operation::control(0, at, at, sink.word(verb), Outcome::Ok)
            };
            sink.done(&op);
            sink.queue(event);
        }
    }

    /// Counts the messages that a command holds until its reply; too many are not followed.
    pub(super) fn hold(&mut self, p: &mut Pending, sink: &mut dyn Sink) {
        let Some(work) = &mut p.work else { return };
        if self.held + work.gives.len() > MAX_HELD {
            sink.decode_error(DecodeError::TooManyMessages);
            work.gives.clear();
        }
        self.held += work.gives.len();
    }
}
